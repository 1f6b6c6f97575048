//! Measures sealing, opening and the size of objects with five items in every format and suite, without an API server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shared::envelope;
use shared::key::{KeySize, NewKey};
use shared::meter::Unmetered;
use shared::plain::Plain;
use shared::random;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::scope::{Label, Scope};
use shared::v2::{
    self, Checked, LockSpec, OpenedLocks, Opener, Place, Policy, Recipient, SecretKey, Suite,
    Target, Value,
};

use crate::operation::new_key;
use crate::report::{percentile, print_head, print_row, ratio, time};
use crate::sizes::Sizes;

const ITEMS: usize = 5;

pub fn run(sizes: &Sizes) {
    let times = sizes.size("objects", 50, 400);
    let rsa = new_key(KeySize::Rsa4096);
    let [p256, xw] = [Suite::P256, Suite::XWing]
        .map(|suite| SecretKey::generate(suite, &mut random::system()).unwrap());
    let v1 = measure_v1(&rsa, times);
    let public = rsa.pair.certificate().public_key();
    let (p256_public, xw_public) = (p256.recipient(), xw.recipient());
    let others = [
        (
            "v2 rsa, 4096 bits",
            measure_v2(public, rsa.pair.private(), times),
        ),
        ("v2 p256", measure_v2(&p256_public, p256.opener(), times)),
        ("v2 xw", measure_v2(&xw_public, xw.opener(), times)),
    ];
    print_head(&[
        "five items of 16 bytes",
        "seal",
        "open",
        "v1 / this",
        "bytes of encryptedData",
    ]);
    let v1_row = ("v1, 4096 bits", v1);
    for (name, figures) in [v1_row].iter().chain(&others) {
        print_row(&[
            (*name).into(),
            time(figures.seal),
            time(figures.open),
            ratio(v1.open, figures.open),
            figures.bytes.to_string(),
        ]);
    }
}

/// The median times to seal and open one object, and the size of its `encryptedData`.
#[derive(Clone, Copy)]
struct Figures {
    seal: Duration,
    open: Duration,
    bytes: usize,
}

fn measure_v1(key: &NewKey, times: usize) -> Figures {
    let label = Scope::Strict.label_for_sealing("shop", "db").unwrap();
    let (seal, sealed) = median(times, || seal_v1(key, &label));
    let (open, ()) = median(times, || {
        for text in &sealed {
            envelope::open(key.pair.private(), &label, text)
                .expect("the item is sealed for this key");
        }
    });
    let names: usize = items().keys().map(String::len).sum();
    let texts: usize = sealed.iter().map(|text| text.len().div_ceil(3) * 4).sum();
    Figures {
        seal,
        open,
        bytes: names + texts,
    }
}

fn seal_v1(key: &NewKey, label: &Label) -> Vec<Vec<u8>> {
    let public = key.pair.certificate().public_key();
    let seal = |value: Value| {
        envelope::seal(public, label, value.plain.expose(), &mut random::system()).unwrap()
    };
    items().into_values().map(seal).collect()
}

fn measure_v2(recipient: &dyn Recipient, opener: &dyn Opener, times: usize) -> Figures {
    let (seal, sealed) = median(times, || seal_v2(recipient));
    let keys = [opener].into_iter().collect();
    let (open, ()) = median(times, || {
        let checked = Checked::new(&sealed, &Policy::default(), Target::Secret).unwrap();
        let mut locks = OpenedLocks::default();
        let rng = &mut random::system();
        v2::open(&checked, &keys, &mut locks, &mut Unmetered, rng).unwrap();
    });
    let entries = sealed.spec.encrypted_data.iter();
    Figures {
        seal,
        open,
        bytes: entries.map(|(name, text)| name.len() + text.len()).sum(),
    }
}

fn seal_v2(recipient: &dyn Recipient) -> SealedSecret {
    let place = Place::for_sealing(Scope::Strict, "shop", "db").unwrap();
    let spec = LockSpec {
        place: &place,
        recipients: &[recipient],
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: v2::next_revision(Timestamp::now(), []),
    };
    let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
    sealed.metadata.namespace = Some("shop".into());
    sealed.spec.encrypted_data = v2::seal(&spec, &items(), &mut random::system()).unwrap();
    sealed
}

fn items() -> BTreeMap<String, Value> {
    let value = || Value::new(Plain::from(vec![b'x'; 16]), &mut random::system());
    (0..ITEMS).map(|i| (format!("item-{i}"), value())).collect()
}

/// Returns the median time, and the last result.
fn median<T>(times: usize, mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut durations = Vec::with_capacity(times);
    loop {
        let start = Instant::now();
        let result = work();
        durations.push(start.elapsed());
        if durations.len() >= times {
            return (percentile(&durations, 50), result);
        }
    }
}
