//! Compares Bitnami's `kubeseal` with this project's: one small Secret, many Secrets in one input, and the size of the
//! program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use shared::key::{KeySize, KeySpec};
use tests::scratch::Scratch;
use tests::{binaries, many_secrets, upstream};

use crate::report;
use crate::sizes::Sizes;

const SMALL_SECRET: &str =
    "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {password: hunter2}\n";

/// Measures the time from start to exit of the process, as a user sees it. The two programs run alternately.
pub fn run(sizes: &Sizes) {
    let (runs, secrets) = (sizes.size("runs", 5, 40), sizes.size("secrets", 100, 1000));
    let (upstream, ours) = (upstream::upstream_kubeseal(), binaries::kubeseal());
    let directory = Scratch::new();
    let certificate_path = directory.path().join("cert.pem");
    fs::write(&certificate_path, make_certificate()).unwrap();
    report::print_head(&["kubeseal --cert", "upstream", "this project", "ratio"]);
    let compare = |title: &str, input: String, runs: usize| {
        let file = directory.path().join("input");
        fs::write(&file, input).unwrap();
        let (mut upstreams, mut own) = (Vec::new(), Vec::new());
        let mut outputs = [Vec::new(), Vec::new()];
        for _ in 0..runs {
            upstreams.push(time(&upstream, &certificate_path, &file, &mut outputs[0]));
            own.push(time(&ours, &certificate_path, &file, &mut outputs[1]));
        }
        let [a, b] = outputs.map(|output| many_secrets::structure(&output));
        assert_eq!(a, b, "the outputs differ in more than ciphertexts");
        let (upstreams, own) = (
            report::percentile(&upstreams, 50),
            report::percentile(&own, 50),
        );
        report::print_row(&[
            format!("{title}, median of {runs}"),
            report::time(upstreams),
            report::time(own),
            report::ratio(upstreams, own),
        ]);
    };
    compare("one small Secret", SMALL_SECRET.to_owned(), runs);
    compare(
        &format!("{secrets} Secrets in one input"),
        many_secrets::secrets(secrets),
        runs.div_ceil(8),
    );
    let (upstreams, own) = (size(&upstream), size(&ours));
    report::print_row(&[
        "the program's file, MB".to_owned(),
        format!("{upstreams:.1}"),
        format!("{own:.1}"),
        format!("{:.2} ×", upstreams / own),
    ]);
}

fn make_certificate() -> String {
    let spec = KeySpec {
        size: KeySize::Rsa4096,
        ttl: SignedDuration::from_hours(24),
        common_name: String::new(),
    };
    let key = spec
        .generate(Timestamp::now(), &mut shared::random::system())
        .unwrap();
    key.pair.certificate().to_pem()
}

fn time(program: &Path, certificate: &Path, input: &Path, output: &mut Vec<u8>) -> Duration {
    let mut command = Command::new(program);
    command
        .arg("--cert")
        .arg(certificate)
        .stdin(File::open(input).unwrap())
        .stderr(Stdio::inherit());
    let start = Instant::now();
    let run_output = command.output().unwrap();
    let time = start.elapsed();
    assert!(run_output.status.success(), "{}", program.display());
    *output = run_output.stdout;
    time
}

fn size(program: &PathBuf) -> f64 {
    let bytes = u32::try_from(fs::metadata(program).unwrap().len()).unwrap();
    f64::from(bytes) / 1e6
}
