//! Tests sealing with `WebCrypto` in a page that is opened from a file.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};
use shared::key::{NewKey, PrivateKey};
use shared::key_ring::{KeyRing, RingKey};
use shared::scope::Scope;
use shared::unseal;
use tests::browser::Browser;
use tests::sealing::{KEYS, sealed_for};

const REQUEST: &str = "url => fetch(url, { mode: 'no-cors' }).then(() => true, () => false)";

#[test]
fn the_controller_unseals_a_value_sealed_by_a_page_only_for_the_same_scope() {
    let browser = Browser::start();
    browser.open(&url(Path::new("seal.html")));
    for value in ["s3cr\u{e9}t", "", &"long".repeat(5000)] {
        let sealed = seal(&browser, "ns/name", value);
        let unsealed = unseal_value("ns", "name", &sealed);
        assert_eq!(unsealed, Ok(value.as_bytes().to_vec()));
        for (namespace, name) in [("ns", "other"), ("other", "name")] {
            let refused = unseal_values_of(namespace, name, &sealed);
            assert!(refused.is_err(), "{namespace}/{name}");
        }
    }
    browser.screenshot("seal-page");
}

/// Attack: a page that seals values also sends them to another machine.
#[test]
fn the_seal_page_sends_no_request_and_its_policy_forbids_requests() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}/value", server.local_addr().unwrap());
    let browser = Browser::start();
    let page = url(Path::new("seal.html"));
    browser.open(&page);
    seal(&browser, "ns/name", "value");
    assert_eq!(browser.requests(), [page]);

    let sent = browser.call(REQUEST, &[json!(target)]);
    assert_eq!(sent, json!(false), "the page's policy forbids requests");
    assert_eq!(browser.requests(), [""; 0]);
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "no connection arrived");
}

#[test]
fn the_log_of_requests_shows_a_request() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}/value", server.local_addr().unwrap());
    let browser = Browser::start();
    let directory = tests::scratch::Scratch::new();
    let page = directory.path().join("page.html");
    fs::write(&page, "<!doctype html><title>no policy</title>").unwrap();
    browser.open(&url(&page));
    drop(server);
    browser.call(REQUEST, &[json!(target)]);
    assert_eq!(browser.requests(), [url(&page), target]);
}

/// Returns the URL of a file. A relative path is relative to `tests/browser`.
fn url(path: &Path) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    format!("file://{}", directory.join(path).display())
}

/// Seals a value in the browser for the first of [`KEYS`]; returns the ciphertext in Base64.
fn seal(browser: &Browser, label: &str, value: &str) -> String {
    let public_key = STANDARD.encode(public_key(&KEYS[0]));
    let args = [public_key.as_str(), label, value].map(Value::from);
    let sealed = browser.call("seal", &args);
    sealed.as_str().expect("Base64").to_owned()
}

fn public_key(key: &NewKey) -> Vec<u8> {
    let pem = std::str::from_utf8(key.private_pem.expose()).unwrap();
    let private = RsaPrivateKey::from_pkcs1_pem(pem).unwrap();
    let public = RsaPublicKey::from(&private);
    public.to_public_key_der().unwrap().as_bytes().to_vec()
}

/// Unseals a value as the only item of a SealedSecret.
fn unseal_value(namespace: &str, name: &str, value: &str) -> Result<Vec<u8>, String> {
    let values = unseal_values_of(namespace, name, value)?;
    Ok(values["item"].clone())
}

fn unseal_values_of(
    namespace: &str,
    name: &str,
    value: &str,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut sealed = sealed_for(&KEYS[0], namespace, name, &[], Scope::Strict);
    sealed
        .spec
        .encrypted_data
        .insert("item".to_owned(), value.to_owned());
    let private = PrivateKey::from_pem(KEYS[0].private_pem.expose()).unwrap();
    let ring = KeyRing::new([RingKey::opening_only("key".to_owned(), private).into()]);
    let values = unseal::unseal_values(&sealed, &ring).map_err(|error| error.to_string())?;
    let values = values.into_iter();
    Ok(values
        .map(|(item, value)| (item, value.expose().to_vec()))
        .collect())
}
