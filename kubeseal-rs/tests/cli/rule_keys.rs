//! Tests that a controller cannot make `seal` ignore the keys that a rule lists, pins or retires.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value as Json;

use crate::api_server::{self, certificate_path, endpoint_path, service_path};
use crate::support::{assert_code, assert_contains, command, write_files};
use crate::v2::{RULES, create, directory, fingerprint, read};

/// The identifier of the key in `cluster.txt`.
const CLUSTER: &str = "1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04";

/// Attack: the controller re-encrypts values for its own key only. This removes the other recipients of the rule, or
/// seals for a key that the rule retires or does not accept.
#[test]
fn rotate_through_the_controller_refuses_keys_that_the_rule_excludes() {
    let with_escrow = RULES.replace("[cluster.txt]", "[cluster.txt, escrow.txt]");
    let escrow = RULES.replace("cluster.txt", "escrow.txt");
    let with_cluster = RULES.replace("[cluster.txt]", "[cluster, escrow.txt]");
    let pinned = RULES.replace("[cluster.txt]", "[cluster]");
    let certificate = fingerprint(directory().path());
    let other = RULES.replace("  recipients: [cluster.txt]\n", "");
    for (before, rules, why) in [
        (with_escrow.as_str(), with_escrow.clone(), "also lists xw "),
        (&with_escrow, with_cluster, "also lists xw "),
        (&escrow, escrow.clone(), "also lists xw "),
        (
            &escrow,
            format!("{other}  retired: [{CLUSTER}]\n"),
            "lists as retired",
        ),
        (
            &escrow,
            format!("{pinned}  retired: [{CLUSTER}]\n"),
            "lists as retired",
        ),
        (
            &escrow,
            format!("{pinned}  fingerprint: ['{certificate}']\n"),
            "requires SHA256:",
        ),
        (
            &escrow,
            format!("{pinned}  fingerprint: ['{certificate}', {CLUSTER}]\n"),
            "",
        ),
        (&escrow, RULES.to_owned(), ""),
        (&escrow, pinned.clone(), ""),
        (&escrow, other.clone(), ""),
        (&escrow, "rules: []\n".to_owned(), ""),
    ] {
        let directory = directory();
        let directory = directory.path();
        let response = response(directory);
        write_files(directory, &[(".seal.yaml", before)]);
        create(directory, &["-w", "db.yaml"]);
        write_files(directory, &[(".seal.yaml", &rules)]);
        let sealed = read(directory, "db.yaml");
        let kubeconfig = serve(directory, response.to_string());
        let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, &kubeconfig);
        command.args(["rotate", "db.yaml"]).current_dir(directory);
        let output = command.output().expect("the command starts");
        let is_refused = !why.is_empty();
        assert_code(&output, if is_refused { 2 } else { 0 }, &rules);
        assert_contains(&output, why, &rules);
        if is_refused {
            assert_contains(&output, "re-encrypt with --key FILE", &rules);
        }
        assert_eq!(read(directory, "db.yaml") == sealed, is_refused, "{rules}");
    }
}

/// Returns `shop/db` as a controller with the key of `cluster.txt` would re-encrypt it.
fn response(directory: &Path) -> Json {
    write_files(directory, &[(".seal.yaml", RULES)]);
    create(directory, &["-w", "response.yaml"]);
    let documents =
        shared::manifest::read(read(directory, "response.yaml").as_bytes()).expect("valid");
    let objects = shared::sealed_file::find(&documents).expect("valid");
    objects[0].sealed.to_document()
}

fn serve(directory: &Path, response: String) -> std::path::PathBuf {
    let (namespace, name) = ("kube-system", "sealed-secrets-controller");
    let body = |text: String| api_server::text_body(text);
    let responses = vec![
        (service_path(namespace, name), api_server::service_body()),
        (
            certificate_path(namespace, name),
            body(read(directory, "cert.pem")),
        ),
        (endpoint_path(namespace, name, "rotate"), body(response)),
    ];
    api_server::serve(directory, responses)
}
