//! If no local key decrypts a value, `seal` queries a controller on its TLS port.

use std::fs;

use serde_json::json;
use tests::patience::until;
use tests::roles;
use tests::sealing::KEYS;

use crate::site::{Site, stderr};

const PORT: [&str; 2] = [
    "--key-renew-period=0",
    "--listen-authorized-addr=127.0.0.1:0",
];

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Starts a site whose controller has the port, with one account that may verify and one that may not.
async fn site(purpose: &str, keys: &[shared::key::NewKey]) -> Site<'static> {
    let plane = tests::control_plane::ControlPlane::shared().await;
    let namespace = plane.namespace(purpose).await;
    roles::grant_reviews(&namespace).await;
    let site = Site::start(plane, namespace, keys, &PORT).await;
    roles::create_caller(&site.namespace, "verifier", &["verify"]).await;
    roles::create_caller(&site.namespace, "powerless", &["get", "list"]).await;
    site
}

#[tokio::test]
async fn a_key_retires_once_another_controller_confirms_that_it_unseals_the_remaining_items() {
    let site_here = site("asking-here", &KEYS[..2]).await;
    let there = site("asking-there", &KEYS[2..3]).await;
    let file = site_here.path("there.json");
    fs::write(
        file,
        there.sealed(&KEYS[2], "there").to_document().to_string(),
    )
    .unwrap();
    let authority = there.controller.get("/v1/ca.pem").await;
    let (_, authority) = authority.split_once("\r\n\r\n").unwrap();
    fs::write(site_here.path("ca.pem"), authority).unwrap();
    let args = async |account: &str| {
        let asking = there.token_args(account).await;
        fs::copy(there.path(account), site_here.path(account)).unwrap();
        let mut args: Vec<String> = ["keys", "retire", "key-0", "there.json"]
            .map(str::to_owned)
            .into();
        args.extend(["--only-namespace", site_here.namespace.name()].map(str::to_owned));
        args.extend(asking);
        args.extend(["--authority", "ca.pem"].map(str::to_owned));
        args
    };
    let alone = args("verifier").await;
    let refused = site_here.run_exit(1, &strs(&alone[..6]));
    let undecided = "there.json (there), item a: no key can unseal it, so it may need it";
    assert!(refused.contains(undecided), "{refused}");

    let refused = site_here.run_exit(1, &strs(&args("powerless").await));
    assert!(
        refused.contains(undecided)
            && refused.contains("does not allow the token's user to `verify`"),
        "{refused}"
    );

    until("the permission takes effect", async || {
        let output = site_here.seal(&strs(&alone));
        output
            .status
            .success()
            .then_some(())
            .ok_or(stderr(&output))
            .ok()
    })
    .await;
    let key = site_here.secrets().get("key-0").await.unwrap();
    assert_eq!(
        key.metadata.labels.unwrap()[shared::resource::KEY_LABEL],
        "retired"
    );
}

#[tokio::test]
async fn doctor_reports_unsealable_items_only_to_users_who_may_verify() {
    let site = site("asking-doctor", &KEYS[..1]).await;
    let rules = json!([
        { "apiGroups": [""], "resources": ["services"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get", "create"] },
    ]);
    roles::create_caller_with(&site.namespace, "developer", &rules).await;
    let kubeconfig = site
        .plane
        .kubeconfig_of(site.namespace.name(), "developer")
        .await;
    let opens = site.sealed(&KEYS[0], "db");
    let mut mixed = opens.clone();
    let mut moved = site.sealed(&KEYS[0], "other").spec.encrypted_data;
    mixed
        .spec
        .encrypted_data
        .insert("b".into(), moved.remove("a").unwrap());
    site.write("opens.json", &opens);
    site.write("mixed.json", &mixed);
    let doctor = async |file: &str, account: &str| {
        let asking = site.token_args(account).await;
        let args = ["doctor", file, "--kubeconfig", kubeconfig.to_str().unwrap()];
        stderr(&site.seal(&[&args[..], &strs(&asking)].concat()))
    };
    let reported = until("the permissions take effect", async || {
        let reported = doctor("mixed.json", "verifier").await;
        reported.contains("item a").then_some(reported)
    })
    .await;
    let title = format!("{}/db, item", site.namespace.name());
    let key = KEYS[0].pair.certificate().fingerprint();
    for line in [
        format!("ok       {title} a: the controller can unseal it with {key}"),
        format!("BROKEN   {title} b: no key of the controller can unseal it for this object"),
    ] {
        assert!(reported.contains(&line), "{reported}");
    }
    let whole = doctor("opens.json", "verifier").await;
    assert!(
        whole.contains("/db: the controller can unseal it"),
        "{whole}"
    );

    let refused = doctor("mixed.json", "powerless").await;
    assert!(
        refused.contains("does not allow the token's user to `verify`")
            && !refused.contains("item"),
        "{refused}"
    );
    assert_eq!(refused, doctor("opens.json", "powerless").await);
}
