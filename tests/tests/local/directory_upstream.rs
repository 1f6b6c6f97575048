//! Tests that the directory controller unseals five hundred SealedSecrets that Bitnami's program created, with key
//! Secrets of its controller: every file is correct, byte for byte, and there are no other files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Value, json};
use tests::binaries;
use tests::guarded::{self, GuardedProcess};
use tests::patience::LIMIT;
use tests::scratch::Scratch;
use tests::upstream::{Format, KeyPair, KeyRequest, Kind, Upstream};

const COUNT: usize = 500;
const SEED: u64 = 500;
const SCOPES: [Option<&str>; 3] = [
    None,
    Some("sealedsecrets.bitnami.com/namespace-wide"),
    Some("sealedsecrets.bitnami.com/cluster-wide"),
];

/// The expected content of the directory `secrets`: bytes by path.
type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn unseals_five_hundred_sealed_secrets_of_upstream_byte_for_byte() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("dir");
    let upstream = Upstream::start().unwrap();
    let keys: Vec<KeyPair> = [2048, 3072, 4096]
        .map(|bits| upstream.generate(&KeyRequest::rsa(bits)).unwrap())
        .into();
    for (i, key) in keys.iter().enumerate() {
        let manifest = upstream.encode(Kind::Secret, &key_secret(i, key), Format::Yaml);
        put(&dir, &format!("keys/key-{i}.yaml"), &manifest.unwrap());
    }
    let want = seal_all(&upstream, &keys, &dir);

    let mut command = guarded::command(binaries::controller());
    command
        .arg("--directory")
        .arg(&dir)
        .args([
            "--listen-addr=127.0.0.1:0",
            "--listen-metrics-addr=127.0.0.1:0",
        ])
        .arg("--key-renew-period=0")
        .stdout(Stdio::null());
    let _controller = GuardedProcess::spawn(&mut command).unwrap();
    let deadline = Instant::now() + LIMIT;
    while count_statuses(&dir.join("status")) < COUNT {
        assert!(
            Instant::now() < deadline,
            "only {} of {COUNT} have a status",
            count_statuses(&dir.join("status"))
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let got = read(&dir);
    assert_eq!(got.len(), want.len());
    for (path, bytes) in &want {
        assert_eq!(got.get(path), Some(bytes), "{path}");
    }
}

/// Returns a key Secret as Bitnami's controller stores it.
fn key_secret(i: usize, key: &KeyPair) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": format!("sealed-secrets-key-{i}"),
            "namespace": "kube-system",
            "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"},
        },
        "data": {"tls.key": STANDARD.encode(&key.pkcs1), "tls.crt": STANDARD.encode(&key.certificate)},
    })
}

/// Seals objects for all keys, with each scope, and writes the manifests in every format. Returns the expected
/// files.
fn seal_all(upstream: &Upstream, keys: &[KeyPair], dir: &Path) -> Files {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut want = Files::new();
    let mut yaml_documents = Vec::new();
    for i in 0..COUNT {
        let (namespace, name) = (format!("ns-{}", i % 7), format!("object.{i}"));
        let mut data = BTreeMap::new();
        for item in 0..rng.random_range(1..4) {
            let key = format!("item_{item}.bin");
            let bytes = random_bytes(&mut rng);
            data.insert(key.clone(), STANDARD.encode(&bytes));
            want.insert(format!("{namespace}/{name}/{key}"), bytes);
        }
        let annotations: BTreeMap<&str, &str> = SCOPES[i % 3]
            .map(|scope| (scope, "true"))
            .into_iter()
            .collect();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
            "data": data,
        });
        let format = if i % 4 == 0 {
            Format::Json
        } else {
            Format::Yaml
        };
        // Decryption with large keys is slow, so fewer objects use them.
        let key = &keys[[0, 0, 0, 0, 0, 0, 0, 1, 1, 2][i % 10]];
        let secret = secret.to_string();
        let sealed = upstream
            .seal_secret(&key.certificate, secret.as_bytes(), format)
            .unwrap();
        match format {
            Format::Json => put(dir, &format!("sealed/json/{}/{i}.json", i % 5), &sealed),
            Format::Yaml if i % 4 == 1 => yaml_documents.push(sealed),
            Format::Yaml => put(dir, &format!("sealed/{i}.yaml"), &sealed),
        }
    }
    put(
        dir,
        "sealed/several.yml",
        &yaml_documents.join(&b"\n---\n"[..]),
    );
    want
}

/// Returns up to a few thousand random bytes, mostly not UTF-8.
fn random_bytes(rng: &mut StdRng) -> Vec<u8> {
    let max_length = [0, 1, 40, 5000][rng.random_range(0..4)];
    let mut bytes = vec![0; rng.random_range(0..=max_length)];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn put(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Counts the statuses. The controller writes a status after the values.
fn count_statuses(statuses: &Path) -> usize {
    let entries = std::fs::read_dir(statuses).into_iter().flatten();
    let namespaces = entries.map(|entry| entry.unwrap().path());
    namespaces
        .filter(|path| path.is_dir())
        .map(|namespace| {
            let files = std::fs::read_dir(namespace).unwrap();
            let is_visible = |name: String| !name.starts_with('.');
            files
                .filter(|file| {
                    is_visible(file.as_ref().unwrap().file_name().into_string().unwrap())
                })
                .count()
        })
        .sum()
}

/// Reads every file below `secrets`, by its path, except entries whose names begin with `..`.
fn read(dir: &Path) -> Files {
    let secrets = dir.join("secrets");
    let mut files = Files::new();
    for namespace in std::fs::read_dir(&secrets).unwrap() {
        for object in std::fs::read_dir(namespace.unwrap().path()).unwrap() {
            for item in std::fs::read_dir(object.unwrap().path()).unwrap() {
                let path = item.unwrap().path();
                if !path
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with("..")
                {
                    let name = path
                        .strip_prefix(&secrets)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned();
                    files.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
    }
    files
}
