//! Tests that no value leaves the page.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use tests::browser::Browser;
use tests::sealing::KEYS;

use super::{Form, certificate_of};

const VALUE: &str = "hunter2-in-no-other-place";

/// Attack: a page that seals values also sends them to another machine, or a script that was added to it does.
#[test]
fn sends_no_request_and_its_policy_forbids_requests() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}/value", server.local_addr().unwrap());
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    for purpose in ["new", "raw"] {
        form.choose("purpose", purpose);
        form.fill("password", VALUE);
        form.sealed();
    }
    form.browser
        .call("async () => { copy(); download(); }", &[]);
    let requests = form.browser.requests();
    let others: Vec<_> = requests
        .iter()
        .filter(|url| **url != form.url() && !url.starts_with("blob:"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(
        form.browser.console(),
        [""; 0],
        "the page violates its own policy"
    );

    for attempt in ATTEMPTS {
        form.browser.call(attempt, &[json!(target)]);
    }
    let violations = form.browser.console();
    assert!(violations.len() >= ATTEMPTS.len(), "{violations:#?}");
    let url = form.url();
    assert_eq!(form.value("location.href"), url.as_str());
    assert_eq!(received(&server), b"");
}

/// Returns the bytes that arrived. For a form or frame that the policy then refuses, Chromium opens a connection, and
/// sends nothing on it.
fn received(server: &TcpListener) -> Vec<u8> {
    server.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    while let Ok((mut connection, _)) = server.accept() {
        connection.set_nonblocking(false).unwrap();
        let limit = Some(Duration::from_millis(200));
        connection.set_read_timeout(limit).unwrap();
        // The only expected error is the timeout.
        let _ = connection.read_to_end(&mut bytes);
    }
    bytes
}

/// Functions with which an added script could try to send data to a URL. Each call violates the policy.
const ATTEMPTS: [&str; 7] = [
    "async url => fetch(url, { mode: 'no-cors' }).catch(() => null)",
    "async url => { new Image().src = url; }",
    "async url => navigator.sendBeacon(url, 'x')",
    "async url => new Promise(resolve => { const s = new EventSource(url); s.onerror = () => resolve(); })",
    "async url => { const s = document.createElement('style'); s.textContent = `@import '${url}'`; document.head.append(s); }",
    "async url => { const f = document.createElement('form'); f.action = url; document.body.append(f); f.submit(); \
     await new Promise(resolve => setTimeout(resolve, 200)); }",
    "async url => { const f = document.createElement('iframe'); f.src = url; document.body.append(f); }",
];

/// Attack: another user of the machine, or a synchronized browser profile, finds a value in the address, the history, a
/// storage of the browser, or a field after the value was sealed.
#[test]
fn a_sealed_value_is_in_no_address_storage_or_field() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    let before = form.value("history.length");
    form.fill("password", VALUE);
    form.sealed();
    let url = form.url();
    assert_eq!(form.value("location.href"), url.as_str());
    assert_eq!(form.value("history.length"), before);
    let stored = form.value(
        "[localStorage.length, sessionStorage.length, document.cookie.length, (await indexedDB.databases()).length]",
    );
    assert_eq!(stored, json!([0, 0, 0, 0]));
    let everything = form.value(
        "[document.documentElement.outerHTML, JSON.stringify(state), \
         ...[...document.querySelectorAll('input, textarea')].map(field => field.value)].join()",
    );
    assert!(!everything.as_str().unwrap().contains(VALUE));

    for leave in [leave_and_return, Browser::reload] {
        form.set_item(0, "text", VALUE);
        leave(&form.browser);
        assert_eq!(form.value("location.href"), url.as_str());
        let fields = form.value(FIELDS);
        assert!(
            !fields.as_str().unwrap().contains(VALUE),
            "a field contains the value after the return"
        );
    }
}

/// An expression for the joined content of all fields.
const FIELDS: &str =
    "[...document.querySelectorAll('input, textarea')].map(field => field.value).join()";

fn leave_and_return(browser: &Browser) {
    browser.open("about:blank");
    browser.back();
}

/// Attack: an attacker prevents the script of the page from running, so that the browser submits the form and the
/// values are in the address.
#[test]
fn no_field_would_be_submitted_without_the_script() {
    let form = Form::open(None);
    let submitted = form.value("[...new FormData($('form')).keys()].sort()");
    assert_eq!(submitted, json!(["purpose", "scope"]));
    let features = form.value(
        "[...document.querySelectorAll('textarea')].every(field => field.spellcheck === false)",
    );
    assert_eq!(
        features, true,
        "a spelling checker could send the value to a server"
    );
}
