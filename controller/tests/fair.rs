//! Tests that a tenant with much work delays only itself. The tests count the private-key operations of the whole
//! process, so no other tests run in this process.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use controller::directory::INTERVAL;
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use shared::key::{KeySize, KeySpec, NewKey, private_key_operations};
use shared::key_ring::{KeyRing, RingKey};
use shared::resource::SealedSecret;
use shared::{base64, key_secret};
use support::server::{Server, start_server};
use support::{Case, KEYS, key_manifest, manifest_of, sealed};
use tokio::sync::{Mutex, MutexGuard};

/// Serializes the tests, since they count the private-key operations of the process.
async fn lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::const_new(());
    LOCK.lock().await
}

/// Keys in addition to the two that all tests share.
static MORE_KEYS: LazyLock<Vec<NewKey>> = LazyLock::new(|| (2..6).map(key).collect());

fn key(second: i64) -> NewKey {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(87_600),
        common_name: String::new(),
    };
    let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
    spec.generate(now, &mut shared::random::system()).unwrap()
}

fn all_keys() -> impl Iterator<Item = &'static NewKey> {
    KEYS.iter().chain(MORE_KEYS.iter())
}

/// Returns a well-formed sealed value that no key can unseal.
fn undecryptable_value() -> String {
    let mut bytes = [0; 2 + 256 + 32];
    shared::random::system().fill_bytes(&mut bytes[2..]);
    bytes[0] = 1;
    base64::encode(&bytes)
}

fn add_undecryptable_items(mut object: SealedSecret, items: usize) -> SealedSecret {
    for i in 0..items {
        let key = format!("k{i:04}");
        object
            .spec
            .encrypted_data
            .insert(key, undecryptable_value());
    }
    object
}

/// Attack: a tenant creates objects whose templates hash many passwords, to delay the simple object of another tenant.
#[tokio::test]
async fn an_object_does_not_wait_for_the_costly_objects_of_another_namespace() {
    const HOSTILE_OBJECTS: usize = 16;
    let _lock = lock().await;
    let mut case = Case::new().await;
    for i in 0..HOSTILE_OBJECTS {
        let mut object = sealed(&KEYS[0], &format!("hostile/h{i:02}"), &[("a", "1")]);
        let mut text = String::new();
        for _ in 0..6 {
            write!(text, "{{{{ bcrypt \"x\" }}}}").unwrap();
        }
        object.spec.template.data = Some([("t".to_owned(), Some(text))].into());
        case.write(&format!("sealed/h{i:02}.yaml"), &manifest_of(&object));
    }
    case.now += INTERVAL;
    let now = case.now;
    case.controller().run_once(now).await;
    case.seal("sealed/quiet.yaml", "quiet/q", &[("a", "2")]);
    while case.value("quiet/q/a").is_none() {
        case.now += INTERVAL;
        let now = case.now;
        case.controller().run_once(now).await;
    }
    let is_written = |i: &usize| case.value(&format!("hostile/h{i:02}/a")).is_some();
    let count = (0..HOSTILE_OBJECTS).filter(is_written).count();
    assert!(
        count <= HOSTILE_OBJECTS / 4,
        "{count} other objects were processed first"
    );
    case.settle().await;
    for i in 0..HOSTILE_OBJECTS {
        assert!(case.value(&format!("hostile/h{i:02}/a")).is_some(), "{i}");
    }
}

/// Attack: an author keeps the controller busy with three hundred well-formed values that no key can unseal.
#[tokio::test]
async fn an_object_that_cannot_be_unsealed_costs_a_bounded_number_of_operations() {
    let _lock = lock().await;
    let mut case = Case::new().await;
    for (i, key) in MORE_KEYS.iter().enumerate() {
        case.write(&format!("keys/more-{i}.yaml"), &key_manifest("k", key));
    }
    case.advance(SignedDuration::from_secs(2)).await;
    let object = add_undecryptable_items(sealed(&KEYS[0], "ns/n", &[("a", "1")]), 300);
    let before = private_key_operations();
    case.write("sealed/x.yaml", &manifest_of(&object));
    case.advance(SignedDuration::from_secs(2)).await;
    let operations = private_key_operations() - before;
    assert!(operations <= 6 + 6 + 500, "{operations} operations");
    let failure = case.failure("ns/n");
    assert!(
        failure.starts_with("no key could decrypt secret (k0000, k0001, k0002, "),
        "{failure}"
    );
    assert!(failure.ends_with(" more items were not tried"), "{failure}");
}

async fn server_with_all_keys() -> Server {
    let server = start_server(Duration::from_mins(1)).await;
    let empty = BTreeMap::new;
    let keys = all_keys().map(|key| {
        let secret = key_secret::build("k", "ns", key, empty(), empty());
        let order = key_secret::OrderPriority::CertNotBefore;
        let key: RingKey = key_secret::parse(&secret, order).unwrap();
        Arc::new(key)
    });
    server.ring.send_replace(Arc::new(KeyRing::new(keys)));
    server
}

fn body(object: &SealedSecret) -> String {
    object.to_document().to_string()
}

async fn post(server: &Server, path: &str, body: &str) -> String {
    server.send("POST", path, "", body.as_bytes()).await.0
}

/// Attack: a caller keeps the controller busy with a thousand well-formed values that no key can unseal.
#[tokio::test]
async fn a_request_that_cannot_succeed_ends_at_its_first_invalid_item() {
    let _lock = lock().await;
    let server = server_with_all_keys().await;
    let mut object = add_undecryptable_items(sealed(&KEYS[0], "ns/n", &[("a", "1")]), 998);
    let valid = object.spec.encrypted_data["a"].clone();
    object.spec.encrypted_data.insert("0".into(), valid);
    for path in ["/v1/verify", "/v1/rotate"] {
        let before = private_key_operations();
        let status = post(&server, path, &body(&object)).await;
        let operations = private_key_operations() - before;
        assert_eq!(status, "HTTP/1.1 409 Conflict", "{path}");
        assert!(operations <= 6 + 1 + 6, "{path}: {operations} operations");
    }
}

/// Attack: a caller keeps the private keys busy with a thousand values, each of which only the last key tried can
/// unseal, to delay the request of another caller behind the same proxy.
#[tokio::test]
async fn a_small_request_completes_while_a_large_request_is_in_progress() {
    let _lock = lock().await;
    let server = Arc::new(server_with_all_keys().await);
    // The items alternate between six keys, so the keys of the last four items never unseal the next item.
    let objects: Vec<SealedSecret> = all_keys()
        .map(|key| sealed(key, "ns/n", &[("a", "1")]))
        .collect();
    let mut large = objects[0].clone();
    large.spec.encrypted_data = (0..1000)
        .map(|i| {
            let value = &objects[i % objects.len()].spec.encrypted_data["a"];
            (format!("k{i:04}"), value.clone())
        })
        .collect();
    let (large, small) = (body(&large), body(&objects[0]));
    let before = private_key_operations();
    let server_in_task = Arc::clone(&server);
    let in_progress =
        tokio::spawn(async move { post(&server_in_task, "/v1/verify", &large).await });
    while private_key_operations() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(post(&server, "/v1/verify", &small).await, "HTTP/1.1 200 OK");
    assert!(
        !in_progress.is_finished(),
        "the large request finished first"
    );
    assert_eq!(in_progress.await.unwrap(), "HTTP/1.1 200 OK");
}
