//! Tests the page of `seal page` in a real browser.

mod certificates;
mod existing;
mod input;
mod privacy;
mod sealing;
mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use page::Page;
use serde_json::{Value, json};
use shared::key::NewKey;
use shared::manifest::{self, Reading};
use shared::resource::SealedSecret;
use shared::unseal;
use tests::browser::Browser;
use tests::scratch::Scratch;
use tests::sealing::{KEYS, key_ring};

/// Changes a field as a user does.
const SET: &str = "async (id, value) => {
    const field = document.getElementById(id);
    field.value = value;
    for (const type of ['input', 'change']) {
        field.dispatchEvent(new Event(type, { bubbles: true }));
    }
    await updateCertificate();
}";

/// Chooses one of several radio buttons.
const CHOOSE: &str =
    "async (group, value) => document.querySelector(`#${group} input[value='${value}']`).click()";

/// Changes a part of the item at an index. Adds items until there is one at the index.
const SET_ITEM: &str = "async (index, part, value) => {
    while (allItems().length <= index) {
        $('add').click();
    }
    const field = control(allItems()[index], part);
    field.value = value;
    for (const type of ['input', 'change']) {
        field.dispatchEvent(new Event(type, { bubbles: true }));
    }
}";

/// Chooses a file for an item; `content` is in Base64.
const SET_FILE: &str = "async (index, name, content) => {
    const files = new DataTransfer();
    files.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
    const field = control(allItems()[index], 'file');
    field.files = files.files;
    field.dispatchEvent(new Event('change', { bubbles: true }));
}";

/// Presses the button that seals, and waits for the result or for messages.
const SEAL: &str = "async () => {
    $('seal').click();
    while ($('status').textContent === 'Sealing…') {
        await new Promise(resolve => setTimeout(resolve, 5));
    }
    const errors = [...document.querySelectorAll('form .error')].filter(error => error.textContent !== '');
    return {
        output: $('result').hidden ? null : $('output').value,
        status: $('status').textContent,
        errors: errors.map(error => [error.id, error.textContent]),
    };
}";

/// The page in a browser.
struct Form {
    browser: Browser,
    files: Scratch,
}

/// The outcome of pressing the button that seals: the result, if there is one, and the identifiers and texts of the
/// messages.
#[derive(Debug)]
struct Outcome {
    output: Option<String>,
    errors: Vec<(String, String)>,
}

impl Form {
    /// Opens the page that is pinned to a certificate, or the page without one.
    fn open(certificate: Option<&str>) -> Self {
        let form = Self {
            browser: Browser::start(),
            files: Scratch::new(),
        };
        form.reopen(certificate);
        form
    }

    fn reopen(&self, certificate: Option<&str>) {
        let page = Page {
            version: "0.1.0",
            certificate,
        };
        fs::write(self.path(), page.to_html()).unwrap();
        self.browser.open(&self.url());
    }

    fn path(&self) -> PathBuf {
        self.files.path().join("page.html")
    }

    fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    fn set(&self, id: &str, value: &str) {
        self.browser.call(SET, &[json!(id), json!(value)]);
    }

    fn choose(&self, group: &str, value: &str) {
        self.browser.call(CHOOSE, &[json!(group), json!(value)]);
    }

    fn set_item(&self, index: usize, part: &str, value: &str) {
        self.browser
            .call(SET_ITEM, &[json!(index), json!(part), json!(value)]);
    }

    fn set_file(&self, index: usize, name: &str, content: &str) {
        self.set_item(index, "source", "file");
        self.browser
            .call(SET_FILE, &[json!(index), json!(name), json!(content)]);
    }

    /// Enters namespace, name and one item.
    fn fill(&self, item: &str, value: &str) {
        self.set("namespace", "shop");
        self.set("name", "db");
        self.set_item(0, "key", item);
        self.set_item(0, "text", value);
    }

    fn seal(&self) -> Outcome {
        let outcome = self.browser.call(SEAL, &[]);
        let errors = outcome["errors"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Outcome {
            output: outcome["output"].as_str().map(str::to_owned),
            errors: errors
                .map(|error| (text(&error[0]), text(&error[1])))
                .collect(),
        }
    }

    /// Seals, and returns the result. Fails if the page shows a message.
    fn sealed(&self) -> String {
        let outcome = self.seal();
        assert!(outcome.errors.is_empty(), "{outcome:?}");
        outcome.output.unwrap()
    }

    /// Returns the value of an expression.
    fn value(&self, expression: &str) -> Value {
        let function = format!("async () => {expression}");
        self.browser.call(&function, &[])
    }
}

fn certificate_of(key: &NewKey) -> String {
    key.pair.certificate().to_pem()
}

/// Returns the private key of the first of [`KEYS`] as PEM.
fn private_pem() -> &'static str {
    std::str::from_utf8(KEYS[0].private_pem.expose()).unwrap()
}

/// Parses the only SealedSecret of a manifest.
fn object(text: &str) -> SealedSecret {
    let documents = manifest::read(text.as_bytes()).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    SealedSecret::from_node(&documents[0].root, &mut Reading::default()).unwrap()
}

/// Unseals every item of an object with the first of [`KEYS`].
fn unsealed(object: &SealedSecret) -> BTreeMap<String, Vec<u8>> {
    let values = unseal::unseal_values(object, &key_ring(&[&KEYS[0]])).unwrap();
    let values = values.into_iter();
    values
        .map(|(item, value)| (item, value.expose().to_vec()))
        .collect()
}
