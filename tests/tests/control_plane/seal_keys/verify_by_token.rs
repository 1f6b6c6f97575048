//! Tests that `seal` queries a controller on its TLS port if no local key decrypts a value.

use std::fs;

use serde_json::json;
use tests::patience::until;
use tests::roles;
use tests::sealing::KEYS;

use super::site::{Site, output_text};

const ARGS: [&str; 3] = [
    "--key-renew-period=0",
    "--listen-authorized-addr=127.0.0.1:0",
    "--certificate-configmap=sealed-secrets-controller-certificate",
];

fn as_strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Starts a site whose controller opens the TLS port, with an account that may verify and an account that may not.
async fn start_site(purpose: &str, keys: &[shared::key::NewKey]) -> Site<'static> {
    let plane = tests::control_plane::ControlPlane::shared().await;
    let namespace = plane.namespace(purpose).await;
    roles::grant_reviews(&namespace).await;
    roles::grant_publishing(&namespace, "sealed-secrets-controller-certificate").await;
    let site = Site::start(plane, namespace, keys, &ARGS).await;
    roles::create_caller(&site.namespace, "verifier", &["verify"]).await;
    roles::create_caller(&site.namespace, "powerless", &["get", "list"]).await;
    site
}

#[tokio::test]
async fn a_key_retires_once_another_controller_confirms_that_it_unseals_the_remaining_items() {
    let local = start_site("asking-here", &KEYS[..2]).await;
    let remote = start_site("asking-there", &KEYS[2..3]).await;
    let file = local.path("there.json");
    fs::write(
        file,
        remote
            .sealed_secret(&KEYS[2], "there")
            .to_document()
            .to_string(),
    )
    .unwrap();
    let authority = remote.controller.get("/v1/ca.pem").await;
    let (_, authority) = authority.split_once("\r\n\r\n").unwrap();
    fs::write(local.path("ca.pem"), authority).unwrap();
    let args = async |account: &str| {
        let token_args = remote.token_args(account).await;
        fs::copy(remote.path(account), local.path(account)).unwrap();
        let mut args: Vec<String> = ["keys", "retire", "key-0", "there.json"]
            .map(str::to_owned)
            .into();
        args.extend(["--only-namespace", local.namespace.name()].map(str::to_owned));
        args.extend(token_args);
        args.extend(["--authority", "ca.pem"].map(str::to_owned));
        args
    };
    let verifier_args = args("verifier").await;
    let message = local.run_with_exit_code(1, &as_strs(&verifier_args[..6]));
    let undecided = "there.json (there), item a: no key can unseal it, so it may need the key";
    assert!(message.contains(undecided), "{message}");

    let message = local.run_with_exit_code(1, &as_strs(&args("powerless").await));
    assert!(
        message.contains(undecided)
            && message.contains("does not allow the token's user to `verify`"),
        "{message}"
    );

    until("the permission takes effect", async || {
        let output = local.seal(&as_strs(&verifier_args));
        output
            .status
            .success()
            .then_some(())
            .ok_or(output_text(&output))
            .ok()
    })
    .await;
    let key = local.secrets().get("key-0").await.unwrap();
    assert_eq!(
        key.metadata.labels.unwrap()[shared::resource::KEY_LABEL],
        "retired"
    );
}

#[tokio::test]
async fn doctor_reports_which_items_can_be_unsealed_only_to_users_who_may_verify() {
    let site = start_site("asking-doctor", &KEYS[..1]).await;
    let rules = json!([
        { "apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get", "create"] },
    ]);
    roles::create_caller_with(&site.namespace, "developer", &rules).await;
    let kubeconfig = site
        .plane
        .kubeconfig_of(site.namespace.name(), "developer")
        .await;
    let valid = site.sealed_secret(&KEYS[0], "db");
    let mut mixed = valid.clone();
    let mut moved = site.sealed_secret(&KEYS[0], "other").spec.encrypted_data;
    mixed
        .spec
        .encrypted_data
        .insert("b".into(), moved.remove("a").unwrap());
    site.write("opens.json", &valid);
    site.write("mixed.json", &mixed);
    let doctor = async |file: &str, account: &str| {
        let token_args = site.token_args(account).await;
        let args = ["doctor", file, "--kubeconfig", kubeconfig.to_str().unwrap()];
        output_text(&site.seal(&[&args[..], &as_strs(&token_args)].concat()))
    };
    let message = until("the permissions take effect", async || {
        let text = doctor("mixed.json", "verifier").await;
        text.contains("item a").then_some(text)
    })
    .await;
    let title = format!("{}/db, item", site.namespace.name());
    let key = KEYS[0].pair.certificate().fingerprint();
    for line in [
        format!("ok       {title} a: the controller can unseal it with {key}"),
        format!("BROKEN   {title} b: no key of the controller can unseal it for this object"),
    ] {
        assert!(message.contains(&line), "{message}");
    }
    let output = doctor("opens.json", "verifier").await;
    assert!(
        output.contains("/db: the controller can unseal it"),
        "{output}"
    );

    let message = doctor("mixed.json", "powerless").await;
    assert!(
        message.contains("does not allow the token's user to `verify`")
            && !message.contains("item"),
        "{message}"
    );
    assert_eq!(message, doctor("opens.json", "powerless").await);
}
