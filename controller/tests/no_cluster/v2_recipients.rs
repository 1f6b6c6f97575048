//! Tests `/v2/recipients`, and `/v1/rotate` and `/v1/verify` with v2 objects, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shared::key::{Certificate, private_key_operations};
use shared::key_marks::Marks;
use shared::key_ring::{AnyKey, KeyRing, RingKey, RingV2Key};
use shared::key_secret::OrderPriority;
use shared::manifest::to_yaml;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::scope::Scope;
use shared::v2::key_secret::StoredKey;
use shared::v2::{
    self, LockSpec, Place, PublicRecipient, Recipient, RecipientList, SecretKey, Suite, Value,
};
use shared::{key_secret, manifest, random};

use crate::support::KEYS;
use crate::support::server::{Server, start_server};

const OK: &str = "HTTP/1.1 200 OK";
const CONFLICT: &str = "HTTP/1.1 409 Conflict";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable";
const PATH: &str = "/v2/recipients";

fn rsa() -> AnyKey {
    let empty = BTreeMap::new;
    let secret = key_secret::build("rsa", "ns", &KEYS[0], empty(), empty());
    let key: RingKey = key_secret::parse(&secret, OrderPriority::CertNotBefore).unwrap();
    AnyKey::Rsa(Arc::new(key))
}

/// Returns a v2 key that became valid an hour ago, and is valid for this many hours.
fn v2_key(suite: Suite, byte: u8, hours: i64, marks: Marks) -> AnyKey {
    let not_before = Timestamp::now() - SignedDuration::from_hours(1);
    let stored = StoredKey {
        key: SecretKey::from_bytes(suite, &[byte; 32]).unwrap(),
        not_before,
        not_after: not_before + SignedDuration::from_hours(hours),
    };
    let order_time = Timestamp::from_second(byte.into()).unwrap();
    let key = RingV2Key::new(format!("{suite}-{byte}"), order_time, stored);
    AnyKey::V2(Arc::new(key.with_marks(marks)))
}

fn valid_key(suite: Suite, byte: u8) -> AnyKey {
    v2_key(suite, byte, 100, Marks::default())
}

async fn server(suite: Suite, keys: &[AnyKey]) -> Server {
    let server = start_server(Duration::from_mins(1)).await;
    let ring = KeyRing::from_keys(keys.iter().cloned()).with_preferred_suite(suite);
    server.ring.send_replace(Arc::new(ring));
    server
}

async fn list(server: &Server) -> RecipientList {
    let (status, headers, body) = server.request("GET", PATH).await;
    assert_eq!(status, OK, "{body}");
    assert!(
        headers.contains("content-type: application/json"),
        "{headers}"
    );
    serde_json::from_str(&body).unwrap()
}

fn ids(list: &RecipientList) -> Vec<&str> {
    let recipients = list.recipients.iter();
    recipients.map(|r| r.key_id.as_str()).collect()
}

#[tokio::test]
async fn lists_the_keys_that_may_seal_with_the_preferred_one_first() {
    let compromised = Marks {
        is_compromised: true,
        ..Marks::default()
    };
    let opening_only = Marks {
        is_opening_only: true,
        ..Marks::default()
    };
    let (rsa, p256) = (rsa(), valid_key(Suite::P256, 3));
    let (old, new) = (valid_key(Suite::XWing, 1), valid_key(Suite::XWing, 2));
    let keys = [
        rsa.clone(),
        old.clone(),
        new.clone(),
        p256.clone(),
        v2_key(Suite::XWing, 7, 100, compromised),
        v2_key(Suite::XWing, 8, 100, opening_only),
        v2_key(Suite::XWing, 9, 0, Marks::default()),
    ];
    for (suite, want) in [
        (Suite::XWing, [&new, &old, &p256, &rsa]),
        (Suite::P256, [&p256, &new, &old, &rsa]),
        (Suite::Rsa, [&rsa, &new, &old, &p256]),
    ] {
        let server = server(suite, &keys).await;
        let list = list(&server).await;
        assert_eq!(
            ids(&list),
            want.map(|key| key.key_id().to_string()),
            "{suite}"
        );
        for (listed, key) in list.recipients.iter().zip(want) {
            assert_eq!(listed.suite, key.suite().to_string());
            let half = key.sealing_half().unwrap();
            assert_eq!(
                (listed.not_before, listed.not_after),
                (half.not_before, half.not_after)
            );
            let id = match (&listed.recipient, &listed.certificate) {
                (Some(line), None) => PublicRecipient::parse(line).unwrap().key_id(),
                (None, Some(pem)) => {
                    let certificate = Certificate::from_pem(pem.as_bytes()).unwrap();
                    certificate.public_key().key_id()
                }
                both => panic!("{both:?}"),
            };
            assert_eq!(id, key.key_id());
        }
    }
}

#[tokio::test]
async fn responds_like_the_other_endpoints_and_uses_no_private_key() {
    let server = server(Suite::XWing, &[rsa(), valid_key(Suite::XWing, 1)]).await;
    let before = private_key_operations();
    // More often than `--rate-limit` allows for verify and rotate.
    for _ in 0..20 {
        list(&server).await;
    }
    assert_eq!(private_key_operations(), before);
    let head = server.request("HEAD", PATH).await;
    assert_eq!((head.0.as_str(), head.2.as_str()), (OK, ""));
    for (method, path, want) in [
        ("POST", PATH, "HTTP/1.1 405 Method Not Allowed"),
        ("GET", "/v2/recipients/", "HTTP/1.1 404 Not Found"),
        ("GET", "/v2/", "HTTP/1.1 404 Not Found"),
    ] {
        assert_eq!(
            server.request(method, path).await.0,
            want,
            "{method} {path}"
        );
    }
}

/// Attack: a client that may mark or delete keys makes the preferred suite unavailable, so that other clients seal for
/// a weaker suite.
#[tokio::test]
async fn never_falls_back_to_another_suite() {
    let key = valid_key(Suite::XWing, 1);
    let no_key = server(Suite::XWing, &[rsa(), valid_key(Suite::P256, 2)]).await;
    let (status, _, body) = no_key.request("GET", PATH).await;
    assert_eq!(status, UNAVAILABLE);
    assert!(body.starts_with("no key of the suite xw exists"), "{body}");

    let ring = KeyRing::from_keys([rsa()]).with_preferred_suite(Suite::XWing);
    no_key
        .ring
        .send_replace(Arc::new(ring.with_removed([key.clone()])));
    let (status, _, body) = no_key.request("GET", PATH).await;
    assert_eq!(status, UNAVAILABLE);
    assert!(body.starts_with("every key was removed"), "{body}");

    let waiting = KeyRing::from_keys([rsa(), key]).with_preferred_suite(Suite::XWing);
    no_key
        .ring
        .send_replace(Arc::new(waiting.with_required_backup(true)));
    let (status, _, body) = no_key.request("GET", PATH).await;
    assert_eq!(status, UNAVAILABLE);
    assert!(body.contains("is backed up"), "{body}");
}

/// Like an expired certificate, an expired key is served, so that clients report the expiry instead of a server error.
#[tokio::test]
async fn lists_an_expired_key_only_if_there_is_no_newer_one() {
    let expired = v2_key(Suite::XWing, 1, 0, Marks::default());
    let server = server(Suite::XWing, &[rsa(), expired.clone()]).await;
    let list = list(&server).await;
    assert_eq!(ids(&list)[0], expired.key_id().to_string());
    assert!(list.recipients[0].not_after < Timestamp::now());
}

fn sealed_object(key: &AnyKey, name: &str) -> SealedSecret {
    let recipient: &dyn Recipient = key.sealing_half().unwrap().recipient;
    let place = Place::for_sealing(Scope::Strict, "shop", "db").unwrap();
    let rng = &mut random::system();
    let spec = LockSpec {
        place: &place,
        recipients: &[recipient],
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: v2::next_revision(Timestamp::now(), []),
    };
    let value = |text: &str| Value::new(Plain::from(text.to_owned()), &mut random::system());
    let values = BTreeMap::from([("a".into(), value("1")), ("b".into(), value("2"))]);
    let mut sealed = SealedSecret::new(name, SealedSecretSpec::default());
    sealed.metadata.namespace = Some("shop".into());
    sealed.spec.encrypted_data = v2::seal(&spec, &values, rng).unwrap();
    let inline = v2::seal_inline(&spec, "b", &value("3"), rng).unwrap();
    sealed.spec.encrypted_data.insert("b".into(), inline);
    sealed
}

async fn post(server: &Server, path: &str, sealed: &SealedSecret) -> (String, String) {
    let body = to_yaml(&sealed.to_document());
    let (status, _, body) = server.send("POST", path, "", body.as_bytes()).await;
    (status, body)
}

fn parse(body: &str) -> SealedSecret {
    let documents = manifest::read(body.as_bytes()).unwrap();
    let (mut objects, _) = SealedSecret::all_from_document(&documents[0]).unwrap();
    objects.remove(0)
}

#[tokio::test]
async fn rotate_re_encrypts_v2_items_and_a_second_run_changes_nothing() {
    let (old, new) = (valid_key(Suite::XWing, 1), valid_key(Suite::XWing, 2));
    let server = server(Suite::XWing, &[rsa(), old.clone(), new.clone()]).await;
    let (status, body) = post(&server, "/v1/rotate", &sealed_object(&old, "db")).await;
    assert_eq!(status, OK, "{body}");
    let rotated = parse(&body);
    let object = v2::Object::parse(&rotated.spec.encrypted_data).unwrap();
    for view in object.view().values() {
        assert!(!view.is_inline);
        let want = [(new.key_id().short(), Some(Suite::XWing))];
        assert_eq!(view.recipients[..], want);
    }
    let (status, again) = post(&server, "/v1/rotate", &rotated).await;
    assert_eq!((status.as_str(), parse(&again).spec), (OK, rotated.spec));
}

/// Attack: a caller sends a value under another name, or with changed bytes, to infer the value from the response.
#[tokio::test]
async fn rotate_reveals_only_whether_it_succeeded() {
    let (own_key, other_key) = (valid_key(Suite::XWing, 1), valid_key(Suite::XWing, 2));
    let server = server(Suite::XWing, &[rsa(), own_key.clone()]).await;
    let mut broken = sealed_object(&own_key, "db");
    broken
        .spec
        .encrypted_data
        .insert("a".into(), "seal2.s.AA".into());
    let mut tampered = sealed_object(&own_key, "db");
    let text = tampered.spec.encrypted_data.get_mut("a").unwrap();
    let last = text.pop().unwrap();
    text.push(if last == 'A' { 'Q' } else { 'A' });
    let mut ahead = sealed_object(&own_key, "db");
    ahead.spec.template.type_ = Some("x".into());
    for (description, sealed, want) in [
        ("as it is", sealed_object(&own_key, "db"), OK),
        ("an unbound template", ahead, OK),
        ("another name", sealed_object(&own_key, "other"), CONFLICT),
        ("malformed", broken, CONFLICT),
        ("tampered", tampered, CONFLICT),
        ("for another key", sealed_object(&other_key, "db"), CONFLICT),
    ] {
        let (status, body) = loop {
            let response = post(&server, "/v1/rotate", &sealed).await;
            if !response.0.contains("429") {
                break response;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(status, want, "{description}");
        assert_eq!(body.is_empty(), want == CONFLICT, "{description}: {body}");
    }
}
