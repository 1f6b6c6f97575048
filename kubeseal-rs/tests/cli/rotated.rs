//! Tests forged responses to a re-encryption. The unauthenticated port has no TLS, so a process on the
//! cluster's network could respond instead of the controller.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use crate::api_server::{
    self, certificate_path, endpoint_path, service_body, service_path, text_body,
};
use crate::support::{NEW_CERT, OLD_CERT, OTHER_CERT, command, stderr, write_files};
use serde_json::{Value as Json, json};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const NAMESPACE: &str = "kube-system";
const NAME: &str = "sealed-secrets-controller";
const HINTS: &str = "sealedsecrets.bitnami.com/key-hints";
/// A plain value that must appear neither in the file nor on the terminal.
const PLAIN_VALUE: &str = "hunter2-in-clear";
const PLAIN_IN_BASE64: &str = "aHVudGVyMi1pbi1jbGVhcg==";

/// A user's directory with a sealed file, `db.yaml`, and the genuine response to its re-encryption.
struct Fixture {
    directory: tempfile::TempDir,
    response: Json,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Self {
            directory: tempfile::tempdir().expect("a directory"),
            response: Json::Null,
        };
        let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: shop\n  labels: {app: shop}\n  \
                      annotations: {owner: team}\nstringData: {p: value, q: other}\n";
        let files = [
            ("secret.yaml", secret),
            ("old.pem", OLD_CERT),
            ("new.pem", NEW_CERT),
            ("larger.pem", OTHER_CERT),
        ];
        write_files(fixture.directory.path(), &files);
        fixture.response = fixture.seal_for("new.pem");
        let mut old = fixture.seal_for("old.pem");
        old["spec"]["template"]["data"] = json!({ "t": "{{ .p }}" });
        fixture.response["spec"]["template"]["data"] = json!({ "t": "{{ .p }}" });
        fs::write(fixture.path("db.yaml"), old.to_string())
            .expect("the test directory is writable");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn seal_for(&self, cert: &str) -> Json {
        let args = ["-f", "secret.yaml", "--cert", cert, "-o", "json"];
        let output = self.run(KUBESEAL, &args, None);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("the text is JSON")
    }

    fn run(&self, program: &str, args: &[&str], response: Option<&str>) -> Output {
        let kubeconfig = response.map_or_else(
            || "/nowhere".into(),
            |response| self.start_cluster(response),
        );
        let mut command = command(program, self.directory.path(), kubeconfig);
        if let Ok(input) = fs::File::open(self.path("db.yaml")) {
            command.stdin(input);
        }
        let command = command.args(args).current_dir(self.directory.path());
        command.output().expect("the command starts")
    }

    /// Starts a cluster whose controller gives this response to every re-encryption. Returns the
    /// path of its kubeconfig.
    fn start_cluster(&self, response: &str) -> PathBuf {
        let responses = vec![
            (service_path(NAMESPACE, NAME), service_body()),
            (certificate_path(NAMESPACE, NAME), text_body(NEW_CERT)),
            (
                endpoint_path(NAMESPACE, NAME, "rotate"),
                text_body(response),
            ),
        ];
        api_server::serve(self.directory.path(), responses)
    }

    fn sealed_file(&self) -> String {
        fs::read_to_string(self.path("db.yaml")).expect("the file exists")
    }

    /// Runs the commands that re-encrypt through the controller. Checks that each command refuses the response, changes
    /// no file, and prints neither the plain value nor an escape character.
    fn assert_refused(&self, why: &str, response: &str) {
        let before = self.sealed_file();
        for (program, args) in [
            (SEAL, &["rotate", "db.yaml"][..]),
            (SEAL, &["rotate", "db.yaml", "-o", "json"]),
            (KUBESEAL, &["--re-encrypt"]),
            (KUBESEAL, &["--re-encrypt", "-f", "db.yaml"]),
            (KUBESEAL, &["--re-encrypt", "-w", "out.yaml"]),
        ] {
            let output = self.run(program, args, Some(response));
            let stderr = stderr(&output);
            let why = format!("{why} {args:?}: {stderr}");
            assert!(!output.status.success(), "{why}");
            assert_eq!(self.sealed_file(), before, "{why}");
            assert!(!self.path("out.yaml").exists(), "{why}");
            let printed = stderr + &String::from_utf8_lossy(&output.stdout);
            for plain in [PLAIN_VALUE, PLAIN_IN_BASE64, "\u{1b}"] {
                assert!(!printed.contains(plain), "{why} {printed}");
            }
            assert!(program == SEAL || output.stdout.is_empty(), "{why}");
        }
    }
}

/// Returns a function that sets the value at a path of the response. `|` separates the names of the path.
fn set_value(path: &'static str, value: Json) -> Box<dyn Fn(&mut Json)> {
    Box::new(move |response| {
        let mut node = response;
        for name in path.split('|') {
            node = &mut node[name];
        }
        *node = value.clone();
    })
}

/// Returns an envelope in base64. It claims that its RSA block has `modulus` bytes, and contains `len` bytes for the
/// block and `payload` bytes for the value.
fn envelope(modulus: u16, len: usize, payload: usize) -> Json {
    let mut bytes = modulus.to_be_bytes().to_vec();
    bytes.resize(2 + len + payload, b'x');
    json!(shared::base64::encode(&bytes))
}

/// The length of the plain value of the item `p` and of its authentication tag.
const PAYLOAD_LEN: usize = "value".len() + 16;

/// Attack: a server responds to a re-encryption in the controller's place with a plain value, so that the user writes
/// it to the file and commits it.
#[test]
fn refuses_a_response_with_a_plain_value_in_place_of_a_ciphertext() {
    let fixture = Fixture::new();
    let mut response = fixture.response.clone();
    response["spec"]["encryptedData"]["p"] = json!(PLAIN_VALUE);
    fixture.assert_refused("a plain value", &response.to_string());
}

/// Attack: a server responds to a re-encryption with other types, strings and envelopes in place of a ciphertext, to
/// replace a value in the user's file.
#[test]
fn refuses_responses_with_anything_but_matching_ciphertexts() {
    const ITEM: &str = "spec|encryptedData|p";
    let fixture = Fixture::new();
    let genuine_value = fixture.response["spec"]["encryptedData"]["p"].as_str();
    let genuine_value = genuine_value.expect("the value is a string").to_owned();
    let (first, second) = genuine_value.split_at(64);
    for value in [
        json!(""),
        json!(null),
        json!(7),
        json!({ "a": PLAIN_VALUE }),
        json!("\0\u{1b}[2J"),
        json!(PLAIN_IN_BASE64),
        json!(format!("{genuine_value}\n# {PLAIN_VALUE}")),
        json!(format!("{genuine_value}{PLAIN_IN_BASE64}")),
        json!(format!("{first}\n{second}")),
        json!(format!(" {genuine_value}")),
        json!(format!("{genuine_value}=")),
        // Truncated envelopes, and envelopes for a key of another length.
        envelope(256, 256, 0),
        envelope(256, 200, 0),
        envelope(128, 128, PAYLOAD_LEN),
        envelope(0, 0, PAYLOAD_LEN),
        envelope(u16::MAX, 65535, PAYLOAD_LEN),
        // Envelopes with a value of another length.
        envelope(256, 256, PAYLOAD_LEN + 1),
        envelope(256, 256, PAYLOAD_LEN - 1),
        envelope(256, 256, PAYLOAD_LEN + 1_000_000),
    ] {
        let mut response = fixture.response.clone();
        set_value(ITEM, value.clone())(&mut response);
        let why: String = value.to_string().chars().take(80).collect();
        fixture.assert_refused(&why, &response.to_string());
    }
}

/// Attack: a server responds to a re-encryption with other items, another object, or a plain value in another field of
/// the object, to change more in the user's file.
#[test]
fn refuses_responses_that_change_more_than_ciphertexts() {
    let fixture = Fixture::new();
    let genuine_value = fixture.response["spec"]["encryptedData"]["p"].clone();
    let hints = json!({ "p": PLAIN_VALUE }).to_string();
    for (path, value) in [
        ("spec|encryptedData", json!({})),
        ("spec|encryptedData", json!({ "p": genuine_value })),
        ("spec|encryptedData|more", genuine_value.clone()),
        ("spec|encryptedData|hunter2-in-clear", genuine_value.clone()),
        ("spec|data", json!(PLAIN_VALUE)),
        ("spec|data", genuine_value.clone()),
        ("metadata|name", json!("other")),
        ("metadata|name", json!(PLAIN_VALUE)),
        ("metadata|namespace", json!("other")),
        ("metadata|namespace", json!(null)),
        (
            "metadata|annotations",
            json!({ "sealedsecrets.bitnami.com/cluster-wide": "true" }),
        ),
        (
            "metadata|annotations",
            json!({ "sealedsecrets.bitnami.com/namespace-wide": "true" }),
        ),
        ("metadata|annotations", json!({ "a": PLAIN_VALUE })),
        ("metadata|annotations", json!({ HINTS: PLAIN_VALUE })),
        ("metadata|annotations", json!({ HINTS: hints })),
        ("metadata|labels", json!({ PLAIN_VALUE: "true" })),
        ("metadata|finalizers", json!([PLAIN_VALUE])),
        ("metadata|generateName", json!(PLAIN_VALUE)),
        ("spec|template|metadata|name", json!(PLAIN_VALUE)),
        ("spec|template|metadata|labels|app", json!(PLAIN_VALUE)),
        (
            "spec|template|metadata|annotations|more",
            json!(PLAIN_VALUE),
        ),
        ("spec|template|type", json!(PLAIN_VALUE)),
        ("spec|template|immutable", json!(true)),
        ("spec|template|data|t", json!(PLAIN_VALUE)),
        ("spec|template|data|more", json!(PLAIN_VALUE)),
    ] {
        let mut response = fixture.response.clone();
        set_value(path, value.clone())(&mut response);
        fixture.assert_refused(&format!("{path}: {value}"), &response.to_string());
    }
    for response in [
        "",
        PLAIN_VALUE,
        "[]",
        "{}",
        "null",
        "\"\u{1b}\"",
        &json!({ "items": [PLAIN_VALUE] }).to_string(),
    ] {
        fixture.assert_refused(response, response);
    }
}

/// Attack: a server returns a list in which objects are exchanged, replaced or missing, so that values move to another
/// object or are lost.
#[test]
fn refuses_exchanged_objects_in_a_list() {
    let fixture = Fixture::new();
    let sealed = fixture.sealed_file();
    fs::write(fixture.path("e.yaml"), sealed.replace("\"db\"", "\"eb\""))
        .expect("the test directory is writable");
    let (db, eb) = (
        fixture.response.clone(),
        fixture.response.to_string().replace("\"db\"", "\"eb\""),
    );
    let eb: Json = serde_json::from_str(&eb).expect("the text is JSON");
    let mut plain = eb.clone();
    plain["spec"]["encryptedData"]["p"] = json!(PLAIN_VALUE);
    for (items, is_changed) in [
        (json!([db, eb]), [true, true]),
        (json!([eb, db]), [false, false]),
        (json!([db, db]), [true, false]),
        (json!([db, plain]), [true, false]),
        (json!([db]), [false, false]),
    ] {
        let paths = ["db.yaml", "e.yaml"].map(|name| fixture.path(name));
        let before = paths
            .clone()
            .map(|path| fs::read_to_string(path).expect("the file is readable"));
        let response = json!({ "kind": "List", "apiVersion": "v1", "items": items }).to_string();
        let output = fixture.run(SEAL, &["rotate", "db.yaml", "e.yaml"], Some(&response));
        let why = format!("{is_changed:?}: {}", stderr(&output));
        assert_eq!(output.status.success(), is_changed == [true, true], "{why}");
        let after = paths
            .clone()
            .map(|path| fs::read_to_string(path).expect("the file is readable"));
        for i in 0..2 {
            assert_eq!(after[i] != before[i], is_changed[i], "{why}");
            fs::write(&paths[i], &before[i]).expect("the test directory is writable");
        }
        assert!(!stderr(&output).contains(PLAIN_VALUE), "{why}");
    }
}

/// Accepts genuine responses of this project's controller, and of Bitnami's, which drops labels, the template's data,
/// the kind and the `apiVersion`, and copies the template's metadata from the object.
#[test]
fn accepts_a_genuine_response() {
    let fixture = Fixture::new();
    let before = fixture.sealed_file();
    let mut bitnami_response = fixture.response.clone();
    for path in ["kind", "apiVersion", "spec|template|data"] {
        set_value(path, Json::Null)(&mut bitnami_response);
    }
    set_value("metadata|creationTimestamp", Json::Null)(&mut bitnami_response);
    set_value(
        "spec|template|metadata",
        json!({ "name": "db", "namespace": "shop", "creationTimestamp": null }),
    )(&mut bitnami_response);
    let object = bitnami_response.as_object_mut().expect("an object");
    object.remove("kind");
    object.remove("apiVersion");
    for response in [&fixture.response, &bitnami_response] {
        let response = response.to_string();
        for (program, args) in [
            (SEAL, &["rotate", "db.yaml"][..]),
            (KUBESEAL, &["--re-encrypt", "-f", "db.yaml"]),
        ] {
            let output = fixture.run(program, args, Some(&response));
            assert!(output.status.success(), "{args:?}: {}", stderr(&output));
            let after: Json = parse_document(&fixture.sealed_file());
            assert_eq!(
                after["spec"]["encryptedData"],
                fixture.response["spec"]["encryptedData"]
            );
            fs::write(fixture.path("db.yaml"), &before).expect("the test directory is writable");
        }
    }
}

/// Reads one YAML document, which may be JSON.
fn parse_document(text: &str) -> Json {
    use shared::manifest::{Reading, Shape};
    let documents = shared::manifest::read(text.as_bytes()).expect("the text is YAML");
    Reading::default()
        .json(&documents[0].root, Shape::Any)
        .expect("the text is JSON")
}

/// Attack: a process that responds in the controller's place returns the request itself, so that the user believes that
/// the old key is no longer needed.
#[test]
fn warns_of_an_unchanged_value_whose_hint_names_another_key() {
    let fingerprint = |text: &str| {
        let certificate = shared::key::Certificate::from_pem(text.as_bytes());
        certificate
            .expect("the text is a certificate")
            .fingerprint()
            .to_string()
    };
    for (hinted, is_reported) in [(OLD_CERT, true), (NEW_CERT, false)] {
        let fixture = Fixture::new();
        let mut sealed: Json =
            serde_json::from_str(&fixture.sealed_file()).expect("the text is JSON");
        let hints = json!({ "p": fingerprint(hinted) }).to_string();
        sealed["metadata"]["annotations"] = json!({ HINTS: hints });
        fs::write(fixture.path("db.yaml"), sealed.to_string())
            .expect("the test directory is writable");
        let output = fixture.run(SEAL, &["rotate", "db.yaml"], Some(&sealed.to_string()));
        let stderr = stderr(&output);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(
            stderr.contains("item p: the controller returned"),
            is_reported,
            "{stderr}"
        );
    }
}
