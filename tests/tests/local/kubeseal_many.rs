//! Tests that `kubeseal` seals a thousand Secrets in a single run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use shared::key::PrivateKey;
use shared::key_ring::{KeyRing, RingKey};
use shared::resource::SealedSecret;
use shared::unseal::check;
use tests::scratch::Scratch;
use tests::sealing::KEYS;
use tests::{binaries, many_secrets, upstream};

const COUNT: usize = 1000;

#[test]
fn a_thousand_documents_equal_upstreams_except_for_ciphertexts() {
    let directory = Scratch::new();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("cert.pem"), KEYS[0].pair.certificate().to_pem()).unwrap();
    fs::write(file("in.yaml"), many_secrets::secrets(COUNT)).unwrap();
    let seal = |program: &Path| {
        let output = Command::new(program)
            .arg("--cert")
            .arg(file("cert.pem"))
            .stdin(File::open(file("in.yaml")).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let (upstream_output, own_output) = (
        seal(&upstream::upstream_kubeseal()),
        seal(&binaries::kubeseal()),
    );
    let structure = many_secrets::structure(&own_output);
    assert_eq!(structure.len(), COUNT);
    assert_eq!(structure, many_secrets::structure(&upstream_output));
    assert_ne!(
        own_output, upstream_output,
        "each run has its own session keys"
    );
    for i in [0, 1, 2, COUNT - 1] {
        assert_unsealable(&own_output, i);
    }
}

fn assert_unsealable(stream: &[u8], index: usize) {
    let mut objects = serde_json::Deserializer::from_slice(stream).into_iter();
    let sealed: SealedSecret = objects.nth(index).unwrap().unwrap();
    let private = PrivateKey::from_pem(KEYS[0].private_pem.expose()).unwrap();
    let ring = KeyRing::new([Arc::new(RingKey::opening_only("key".into(), private))]);
    check(&sealed, &ring, false).unwrap();
}
