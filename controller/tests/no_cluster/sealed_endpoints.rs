//! Tests `/v1/verify` and `/v1/rotate` over real sockets.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use controller_core::author_limits::{AuthorLimits, TypeRules};
use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::key::KeyPair;
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret;
use shared::manifest::{self, to_yaml};
use shared::plain::Plain;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::seal::seal;
use shared::secret::Secret;
use shared::unseal::check;
use shared::{base64, envelope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::server::{Server, start_server, start_server_with_limits};
use crate::support::{KEYS, allow_many_files};

const CANARY: &str = "canary-7d1e";
const OK: &str = "HTTP/1.1 200 OK";
const CONFLICT: &str = "HTTP/1.1 409 Conflict";

/// Returns a key ring with the first `count` keys.
fn ring(count: usize) -> KeyRing {
    KeyRing::new(KEYS.iter().take(count).map(|key| {
        let empty = std::collections::BTreeMap::new;
        let secret = key_secret::build("k", "ns", key, empty(), empty());
        let key: RingKey =
            key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
        Arc::new(key)
    }))
}

async fn server_with_ring(keys: usize) -> Server {
    let server = start_server(Duration::from_mins(1)).await;
    server.ring.send_replace(Arc::new(ring(keys)));
    server
}

fn sealed_object(scope: Scope) -> SealedSecret {
    let mut secret = Secret::default();
    secret.metadata.name = Some("db".into());
    secret.metadata.namespace = Some("shop".into());
    scope.annotate(secret.metadata.annotations.get_or_insert_default());
    let value = Plain::from(CANARY.to_owned());
    secret.data.insert("a".into(), value);
    let pair: &KeyPair = &KEYS[0].pair;
    seal(
        &secret,
        pair.certificate().public_key(),
        &mut shared::random::system(),
    )
    .unwrap()
}

/// Returns an object in the deprecated form with the scope `scope`. The sealed Secret declares the scope `inner`, and
/// has this many items.
fn deprecated_object(scope: Scope, inner: Scope, items: usize) -> SealedSecret {
    let mut annotations = std::collections::BTreeMap::new();
    inner.annotate(&mut annotations);
    let item = |i| (format!("k{i}"), json!(""));
    let data: serde_json::Map<String, Value> = (0..items).map(item).collect();
    let document = json!({
        "kind": "Secret", "apiVersion": "v1", "metadata": { "annotations": annotations }, "data": data
    });
    let key = KEYS[0].pair.certificate().public_key();
    let (label, text) = (scope.label("shop", "db"), document.to_string());
    let value =
        envelope::seal(key, &label, text.as_bytes(), &mut shared::random::system()).unwrap();
    let mut object = sealed_object(scope);
    object.spec.encrypted_data.clear();
    object.spec.data = Some(base64::encode(&value));
    object
}

/// Sends a request under a caller name that no earlier request used, so that the rate limit has no effect.
async fn post(server: &Server, path: &str, body: &[u8]) -> (String, String, String) {
    static CALLERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let caller = CALLERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let header = format!("X-Forwarded-For: test-{caller}\r\n");
    server.send("POST", path, &header, body).await
}

fn parse_object(body: &str) -> SealedSecret {
    let documents = manifest::read(body.as_bytes()).unwrap();
    let mut objects = SealedSecret::all_from_document(&documents[0]).unwrap().0;
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

/// Attack: a caller verifies values that fail for different reasons, to learn the reason from the responses.
#[tokio::test]
async fn verify_reveals_only_whether_the_object_can_be_unsealed() {
    let server = server_with_ring(1).await;
    let valid = sealed_object(Scope::Strict);
    let mut renamed = valid.clone();
    renamed.metadata.name = Some("other".into());
    let mut not_base64 = valid.clone();
    not_base64
        .spec
        .encrypted_data
        .insert("a".into(), "*".into());
    let mut too_short = valid.clone();
    too_short
        .spec
        .encrypted_data
        .insert("a".into(), "AAAA".into());
    for (description, object, want) in [
        ("valid", &valid, OK),
        ("another name", &renamed, CONFLICT),
        ("invalid base64", &not_base64, CONFLICT),
        ("too short", &too_short, CONFLICT),
    ] {
        for text in [
            object.to_document().to_string(),
            to_yaml(&object.to_document()),
        ] {
            let (status, headers, body) = post(&server, "/v1/verify", text.as_bytes()).await;
            assert_eq!(
                (status.as_str(), body.as_str()),
                (want, ""),
                "{description}"
            );
            assert!(headers.contains("x-ratelimit-limit: 3"), "{headers}");
        }
    }
    let list =
        to_yaml(&json!({ "kind": "List", "apiVersion": "v1", "items": [valid.to_document()] }));
    for text in ["", "kind: Secret", "a: [", "--- x\n--- y", list.as_str()] {
        let (status, _, _) = post(&server, "/v1/verify", text.as_bytes()).await;
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{text}");
    }
}

/// Fault: `kubeseal --validate` reports a value as valid that the controller refuses to write to a Secret, by its scope or
/// by the age of its key. Rotating such a value is how its author replaces an old key.
#[tokio::test]
async fn verify_applies_the_limits_on_scopes_and_key_ages_and_rotate_does_not() {
    let hour = SignedDuration::from_hours(1);
    let text = sealed_object(Scope::Strict).to_document().to_string();
    for (scopes, max_key_age, want) in [
        ("", None, OK),
        ("shop=strict", Some(1_000_000 * hour), OK),
        ("shop=namespace-wide", None, CONFLICT),
        // The certificates of the keys have been valid since 2023.
        ("", Some(hour), CONFLICT),
    ] {
        let scopes_rule = scopes.parse().unwrap();
        let limits = AuthorLimits::new(TypeRules::default(), scopes_rule, max_key_age);
        let server = start_server_with_limits(Duration::from_mins(1), Arc::new(limits)).await;
        server.ring.send_replace(Arc::new(ring(2)));
        let (status, _, body) = post(&server, "/v1/verify", text.as_bytes()).await;
        let description = format!("{scopes:?} {max_key_age:?}");
        assert_eq!(
            (status.as_str(), body.as_str()),
            (want, ""),
            "{description}"
        );
        let (status, _, body) = post(&server, "/v1/rotate", text.as_bytes()).await;
        assert_eq!(status, OK, "{description}");
        let rotated = parse_object(&body).spec.encrypted_data;
        assert_ne!(rotated, parse_object(&text).spec.encrypted_data);
    }
}

#[tokio::test]
async fn r1_r3_r4_r5_rotate_returns_the_same_object_for_the_newest_key() {
    let server = server_with_ring(2).await;
    let mut old = sealed_object(Scope::NamespaceWide);
    old.spec.template.metadata.labels = Some([("team".to_owned(), "red".to_owned())].into());
    let text = old.to_document().to_string();
    let (status, headers, body) = post(&server, "/v1/rotate", text.as_bytes()).await;
    assert_eq!(status, OK);
    assert!(
        headers.contains("content-type: application/json"),
        "{headers}"
    );
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["kind"], "SealedSecret");
    assert_eq!(json["apiVersion"], "bitnami.com/v1alpha1");
    let new = parse_object(&body);
    assert_eq!(
        (&new.metadata, &new.spec.template),
        (&old.metadata, &old.spec.template)
    );
    assert_ne!(new.spec.encrypted_data, old.spec.encrypted_data);
    let only_new = KeyRing::new([ring(2)
        .sealing_key(jiff::Timestamp::UNIX_EPOCH)
        .unwrap()
        .clone()]);
    check(&new, &only_new, true).unwrap();

    let (_, _, repeated) = post(&server, "/v1/rotate", body.as_bytes()).await;
    assert_eq!(
        repeated, body,
        "an item for the newest key is not re-encrypted"
    );

    let list = json!({ "kind": "List", "apiVersion": "v1", "items": [old.to_document(), new.to_document()] });
    let (_, _, body) = post(&server, "/v1/rotate", list.to_string().as_bytes()).await;
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["kind"], "List");
    assert_eq!(json["items"].as_array().unwrap().len(), 2);
    assert_eq!(json["items"][1], new.to_document());

    let mut not_unsealable = old;
    not_unsealable.metadata.namespace = Some("elsewhere".into());
    let text = not_unsealable.to_document().to_string();
    let (status, _, body) = post(&server, "/v1/rotate", text.as_bytes()).await;
    assert_eq!((status.as_str(), body.as_str()), (CONFLICT, ""));
}

/// Attack: a caller rotates a sealed value under a forged scope, to unseal the response under another name or namespace
/// (CVE-2026-22728).
///
/// Covers every combination of scope, annotations and names.
#[tokio::test]
async fn s8_unseals_a_value_only_within_its_scope_despite_forged_metadata() {
    let server = server_with_ring(2).await;
    let both_keys = ring(2);
    for scope in Scope::ALL {
        for claimed in Scope::ALL {
            for template in Scope::ALL {
                for (namespace, name) in [("shop", "db"), ("shop", "x"), ("x", "db"), ("x", "x")] {
                    let mut forged = sealed_object(scope);
                    let annotations = &mut forged.metadata.annotations;
                    *annotations = None;
                    claimed.annotate(annotations.get_or_insert_default());
                    let annotations = &mut forged.spec.template.metadata.annotations;
                    template.annotate(annotations.get_or_insert_default());
                    forged.metadata.namespace = Some(namespace.into());
                    forged.metadata.name = Some(name.into());
                    let can_be_unsealed = scope == claimed
                        && match scope {
                            Scope::Strict => (namespace, name) == ("shop", "db"),
                            Scope::NamespaceWide => namespace == "shop",
                            Scope::ClusterWide => true,
                        };
                    let want = if can_be_unsealed { OK } else { CONFLICT };
                    let text = forged.to_document().to_string();
                    let case = format!("{scope:?} {claimed:?} {template:?} {namespace}/{name}");
                    let (status, _, _) = post(&server, "/v1/verify", text.as_bytes()).await;
                    assert_eq!(status, want, "verify {case}");
                    let (status, _, body) = post(&server, "/v1/rotate", text.as_bytes()).await;
                    assert_eq!(status, want, "rotate {case}");
                    if can_be_unsealed && scope == Scope::Strict {
                        let mut moved = parse_object(&body);
                        moved.metadata.name = Some("y".into());
                        assert!(check(&moved, &both_keys, true).is_err(), "{case}");
                    }
                }
            }
        }
    }
}

/// Attack: a caller rotates a `spec.data` value to widen its scope.
#[tokio::test]
async fn s8_rotating_the_deprecated_form_keeps_the_scope_of_the_object() {
    let server = server_with_ring(2).await;
    let both_keys = ring(2);
    for scope in Scope::ALL {
        for inner in Scope::ALL {
            let object = deprecated_object(scope, inner, 1);
            let text = object.to_document().to_string();
            let (status, _, body) = post(&server, "/v1/rotate", text.as_bytes()).await;
            assert_eq!(status, OK, "{inner} in {scope}");
            let new = parse_object(&body);
            assert_eq!(new.metadata, object.metadata);
            for claimed in Scope::ALL {
                let mut forged = new.clone();
                claimed.annotate(forged.metadata.annotations.get_or_insert_default());
                let can_be_unsealed = check(&forged, &both_keys, true).is_ok();
                assert_eq!(
                    can_be_unsealed,
                    claimed == scope,
                    "{inner} in {scope}, claims {claimed}"
                );
            }
        }
    }
}

/// Attack: a caller hides thousands of items inside one `spec.data` value, to exceed the limit on items.
#[tokio::test]
async fn s4_the_limit_on_items_includes_those_of_the_deprecated_form() {
    let server = server_with_ring(2).await;
    let above_limit = deprecated_object(Scope::Strict, Scope::Strict, 1001);
    let half_of_limit = deprecated_object(Scope::Strict, Scope::Strict, 501);
    let mut not_unsealable = half_of_limit.clone();
    not_unsealable.spec.data = Some("AAAA".into());
    let list = |objects: Vec<&SealedSecret>| {
        let items: Vec<Value> = objects.iter().map(|object| object.to_document()).collect();
        json!({ "kind": "List", "apiVersion": "v1", "items": items })
    };
    for (description, body) in [
        ("one object with many items", above_limit.to_document()),
        (
            "two objects that exceed the limit together",
            list(vec![&half_of_limit, &half_of_limit]),
        ),
        (
            "many that cannot be unsealed",
            list(vec![&not_unsealable; 1001]),
        ),
    ] {
        let (status, _, _) = post(&server, "/v1/rotate", body.to_string().as_bytes()).await;
        assert_eq!(status, "HTTP/1.1 413 Payload Too Large", "{description}");
    }
}

/// Attack: a caller sends a victim's ciphertext with templates that succeed or fail depending on the value, to learn
/// the value.
#[tokio::test]
async fn s1_s2_r2_templates_do_not_affect_verify_and_rotate() {
    let server = server_with_ring(2).await;
    let without_templates = sealed_object(Scope::Strict);
    let endless = "{{ range until 1000000 }}{{ range until 1000000 }}{{ end }}{{ end }}";
    for text in [
        "{{ if eq .a \"canary-7d1e\" }}{{ fail \"\" }}{{ end }}",
        "{{ fail .a }}",
        "{{ .a",
        endless,
    ] {
        let mut object = without_templates.clone();
        object.spec.template.data = Some([("t".to_owned(), Some(text.to_owned()))].into());
        let body = object.to_document().to_string();
        let start = Instant::now();
        let (status, _, response) = post(&server, "/v1/verify", body.as_bytes()).await;
        assert_eq!((status.as_str(), response.as_str()), (OK, ""), "{text}");
        let (status, _, response) = post(&server, "/v1/rotate", body.as_bytes()).await;
        assert_eq!(status, OK, "{text}");
        assert_eq!(parse_object(&response).spec.template, object.spec.template);
        let items = json!(parse_object(&response).spec.encrypted_data).to_string();
        assert!(!items.contains(CANARY), "{text}");
        assert!(start.elapsed() < Duration::from_secs(5), "{text}");
    }
}

/// Attack: a caller exhausts the controller with bodies, item counts and request rates beyond their limits.
#[tokio::test]
async fn s4_bodies_items_and_rates_are_limited() {
    let server = server_with_ring(1).await;
    let long_body = vec![b' '; (10 << 20) + 1];
    for path in ["/v1/verify", "/v1/rotate"] {
        let (status, _, _) = post(&server, path, &long_body).await;
        assert_eq!(status, "HTTP/1.1 413 Payload Too Large", "{path}");
        let mut object = sealed_object(Scope::Strict);
        let value = object.spec.encrypted_data["a"].clone();
        for i in 0..1000 {
            object
                .spec
                .encrypted_data
                .insert(format!("k{i}"), value.clone());
        }
        let text = object.to_document().to_string();
        let (status, _, _) = post(&server, path, text.as_bytes()).await;
        assert_eq!(status, "HTTP/1.1 413 Payload Too Large", "{path}");
    }
    let text = sealed_object(Scope::Strict).to_document().to_string();
    let send_request = async |i: usize| {
        let caller = if i.is_multiple_of(2) { "ME" } else { "me" };
        let header = format!("x-forwarded-for: {caller}\r\n");
        server
            .send("POST", "/v1/rotate", &header, text.as_bytes())
            .await
    };
    let begin = Instant::now();
    let responses = futures::future::join_all((0..40).map(send_request)).await;
    // A burst of three, and one more for each half second.
    let max = 3 + begin.elapsed().as_millis() / 500;
    let too_many_requests = "HTTP/1.1 429 Too Many Requests";
    let (limited, accepted): (Vec<_>, Vec<_>) = responses
        .into_iter()
        .partition(|(status, _, _)| status == too_many_requests);
    assert!(accepted.len() as u128 <= max, "{} of {max}", accepted.len());
    for (_, headers, body) in limited {
        assert_eq!(body, "limit exceeded\n");
        assert!(headers.contains("retry-after: 1"), "{headers}");
    }
}

/// Attack: a caller sends an endless request head, to exhaust the memory.
#[tokio::test]
async fn s4_the_head_of_a_request_is_limited_and_may_be_as_long_as_proxies_need() {
    let server = server_with_ring(1).await;
    for (length, want) in [(12 << 10, b"HTTP/1.1 200"), (20 << 10, b"HTTP/1.1 431")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let name = "x".repeat(length);
        let head = format!(
            "GET /v1/cert.pem HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {name}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, want, "{length}");
    }
}

/// Returns a connection on which a body was announced and not sent.
async fn open_slow_connection(server: &Server, caller: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/verify HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: slow-{caller}\r\nContent-Length: 9\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Attack: callers send the heads of many requests without their bodies, to lock out other callers.
#[tokio::test]
async fn s4_slow_bodies_do_not_block_other_requests() {
    allow_many_files();
    let server = server_with_ring(1).await;
    let mut connections = Vec::new();
    for caller in 0..ABOVE_LIMIT {
        connections.push(open_slow_connection(&server, caller).await);
    }
    let end = Instant::now() + Duration::from_mins(1);
    while fetch_certificate(server.address).await.is_none() {
        assert!(Instant::now() < end, "the connections are never closed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let text = sealed_object(Scope::Strict).to_document().to_string();
    let (status, _, _) = post(&server, "/v1/verify", text.as_bytes()).await;
    assert_eq!(status, OK);
}

/// Requests the certificate. Returns `None` unless the server responds with status 200.
async fn fetch_certificate(address: std::net::SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = b"GET /v1/cert.pem HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.ok()?;
    (&start == b"HTTP/1.1 200").then_some(())
}

/// More connections than one address may open.
const ABOVE_LIMIT: usize = 510;

/// Attack: a client opens many connections and sends nothing, so that probes fail.
#[tokio::test]
async fn s4_silent_connections_do_not_block_probes() {
    allow_many_files();
    let server = start_server(Duration::from_millis(200)).await;
    let mut flood = Vec::new();
    for _ in 0..ABOVE_LIMIT {
        flood.push(TcpStream::connect(server.address).await.unwrap());
    }
    let probe = server.request("GET", "/healthz");
    let response = tokio::time::timeout(Duration::from_mins(1), probe).await;
    assert_eq!(response.unwrap().2, "ok\n");
}

/// Sends a request and leaves the connection open. Returns whether the server leaves it open too.
async fn request_keeps_connection_open(stream: &mut TcpStream) -> bool {
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\nok\n") {
        assert_ne!(stream.read_buf(&mut response).await.unwrap(), 0);
    }
    let response = String::from_utf8(response).unwrap().to_lowercase();
    !response.contains("connection: close")
}

/// Attack: clients keep all connections busy with requests, so that probes fail.
#[tokio::test]
async fn s4_repeated_requests_do_not_block_probes() {
    allow_many_files();
    let server = start_server(Duration::from_mins(10)).await;
    let mut connections = Vec::new();
    let mut kept_open = 0;
    for _ in 0..ABOVE_LIMIT {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        kept_open += usize::from(request_keeps_connection_open(&mut stream).await);
        connections.push(stream);
    }
    assert!(
        (240..=250).contains(&kept_open),
        "{kept_open} connections are kept open"
    );
    // Further connections send their requests slowly.
    for caller in 0..10 {
        connections.push(open_slow_connection(&server, caller).await);
    }
    let (status, _, _) = server.request("GET", "/healthz").await;
    assert_eq!(status, OK);
    let first = &mut connections[0];
    assert!(
        !request_keeps_connection_open(first).await,
        "the slot is needed for other connections"
    );
}

#[tokio::test]
async fn certs_pem_contains_every_valid_certificate_with_its_fingerprint() {
    let server = server_with_ring(2).await;
    let (status, _, body) = server.request("GET", "/v1/certs.pem").await;
    assert_eq!(status, OK);
    assert_eq!(body.matches("BEGIN CERTIFICATE").count(), 2);
    for key in KEYS.iter() {
        let certificate = key.pair.certificate();
        assert!(body.contains(&format!("# {}, until ", certificate.fingerprint())));
        assert!(body.contains(&certificate.to_pem()));
    }
    let newest = KEYS[1].pair.certificate().to_pem();
    assert!(body.find(&newest) < body.find(&KEYS[0].pair.certificate().to_pem()));
}
