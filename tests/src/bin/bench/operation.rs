//! Measures one private-key operation, in this project's code and in Bitnami's.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use shared::envelope;
use shared::key::{KeyPair, KeySize, KeySpec, NewKey};
use shared::scope::{Label, Scope};
use tests::upstream::Upstream;

use crate::report::{percentile, print_head, print_row, ratio, time};
use crate::sizes::Sizes;

pub fn run(sizes: &Sizes) {
    let times = sizes.size("operations", 50, 400);
    let upstream = Upstream::start().expect("Go is installed");
    let label = Scope::Strict.label("ns", "n");
    print_head(&["key", "this project", "upstream, with its pipe", "ratio"]);
    for size in [KeySize::Rsa2048, KeySize::Rsa4096] {
        let key = new_key(size);
        let our_time = time_unsealing(&key.pair, &label, times);
        let upstream_time = time_upstream(&upstream, &key, &label, times);
        let cells = [
            format!("{size:?}"),
            time(our_time),
            time(upstream_time),
            ratio(upstream_time, our_time),
        ];
        print_row(&cells);
    }
}

/// Generates a key of this size.
pub fn new_key(size: KeySize) -> NewKey {
    let spec = KeySpec {
        size,
        ttl: SignedDuration::from_hours(87_600),
        common_name: String::new(),
    };
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    spec.generate(now, &mut shared::random::system()).unwrap()
}

/// Returns the median time of one operation on one core.
pub fn time_unsealing(pair: &KeyPair, label: &Label, times: usize) -> Duration {
    let sealed = sealed_value(pair, label);
    let measure_once = || {
        let start = Instant::now();
        envelope::open(pair.private(), label, &sealed).expect("the value is sealed for this key");
        start.elapsed()
    };
    let times: Vec<Duration> = (0..times).map(|_| measure_once()).collect();
    percentile(&times, 50)
}

fn time_upstream(upstream: &Upstream, key: &NewKey, label: &Label, times: usize) -> Duration {
    let sealed = sealed_value(&key.pair, label);
    let pem = std::str::from_utf8(key.private_pem.expose()).unwrap();
    let measure_once = || {
        let start = Instant::now();
        upstream
            .open_value(&[pem], label.as_bytes(), &sealed)
            .expect("the value is sealed for this key");
        start.elapsed()
    };
    let times: Vec<Duration> = (0..times).map(|_| measure_once()).collect();
    percentile(&times, 50)
}

fn sealed_value(pair: &KeyPair, label: &Label) -> Vec<u8> {
    let public = pair.certificate().public_key();
    envelope::seal(public, label, b"value", &mut shared::random::system()).unwrap()
}
