//! Tests v2 keys in a cluster: generated, renewed, backed up, marked, removed, malformed, and with Bitnami's controller
//! in the namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::key_marks::backed_up_text;
use shared::resource::{
    BACKED_UP_ANNOTATION, COMPROMISED_ANNOTATION, KEY_LABEL, RENEW_ANNOTATION, V2_KEY_LABEL,
};
use shared::scope::Scope;
use shared::v2::key_secret::{self, StoredKey};
use shared::v2::{PublicRecipient, Recipient as _, RecipientList, SecretKey, Suite};
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::http;
use tests::patience::until;
use tests::pod::Pod;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scrape::Scrape;
use tests::sealing::{KEYS, put_key, sealed_for};
use tests::upstream;

use super::case::Case;

const ARGS: &[&str] = &["--sealing-suite=xw", "--key-renew-period=0"];

fn key_object(name: &str, byte: u8) -> Value {
    let stored = StoredKey {
        key: SecretKey::from_bytes(Suite::XWing, &[byte; 32]).unwrap(),
        not_before: jiff::Timestamp::from_second(1_700_000_000 + i64::from(byte)).unwrap(),
        not_after: jiff::Timestamp::from_second(4_000_000_000).unwrap(),
    };
    let none = BTreeMap::new;
    key_secret::build(name, "", &stored, none(), none()).to_document()
}

fn key_id(byte: u8) -> String {
    let key = SecretKey::from_bytes(Suite::XWing, &[byte; 32]).unwrap();
    key.recipient().key_id().to_string()
}

async fn put_v2_key(namespace: &Namespace<'_>, name: &str, byte: u8) {
    let mut object = key_object(name, byte);
    object["metadata"]["namespace"] = json!(namespace.name());
    let _: ApiSecret = namespace.create_object(object).await;
}

/// Returns the names of the active v2 key Secrets in alphabetical order.
async fn v2_key_names(namespace: &Namespace<'_>) -> Vec<String> {
    let labeled = ListParams::default().labels(&format!("{V2_KEY_LABEL}=active"));
    let api: Api<ApiSecret> = namespace.api();
    let keys = api.list(&labeled).await.unwrap();
    keys.into_iter().map(|key| key.name_any()).collect()
}

/// Returns the list of recipients that the controller serves, or the complete response if the controller refuses.
async fn served_recipients(controller: &ClusterController) -> Result<RecipientList, String> {
    let response = controller.get("/v2/recipients").await;
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    if response.starts_with("HTTP/1.1 200 ") {
        Ok(serde_json::from_str(body).unwrap())
    } else {
        Err(response)
    }
}

/// Waits until the first listed key is this one.
async fn wait_until_first(case: &Case, key_id: &str) {
    let goal = format!("{key_id} is served first\n{}", case.controller.log());
    until(&goal, async || {
        let list = served_recipients(&case.controller).await.ok()?;
        (list.recipients[0].key_id == key_id).then_some(())
    })
    .await;
}

#[tokio::test]
async fn generates_one_key_that_bitnamis_controller_does_not_select_and_none_at_a_restart() {
    let args = [
        "--sealing-suite=xw",
        "--key-renew-period=0",
        "--privatekey-labels=team=a,sealedsecrets.bitnami.com/sealed-secrets-key=active",
        "--privatekey-annotations=note=b",
    ];
    let case = Case::with_args("v2-first", &args).await;
    let [name] = v2_key_names(&case.namespace).await.try_into().unwrap();
    assert!(name.starts_with("sealed-secrets-key-v2-xw-"), "{name}");
    let secret = case.secret(&name).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.labels()["team"], "a");
    assert_eq!(secret.annotations()["note"], "b");
    assert!(!secret.labels().contains_key(KEY_LABEL));
    assert_eq!(secret.metadata.owner_references, None);

    let list = served_recipients(&case.controller).await.unwrap();
    let suites: Vec<&str> = list.recipients.iter().map(|r| r.suite.as_str()).collect();
    assert_eq!(suites, ["xw", "rsa"]);
    let line = list.recipients[0].recipient.as_deref().unwrap();
    let served_id = PublicRecipient::parse(line).unwrap().key_id().to_string();
    assert_eq!(served_id, list.recipients[0].key_id);
    let stored = secret.data.unwrap()["v2.pub"].0.clone();
    assert_eq!(String::from_utf8(stored).unwrap(), line);
    assert_eq!(
        list.recipients[1].certificate.as_deref(),
        Some(&*KEYS[0].pair.certificate().to_pem())
    );
    let scrape = Scrape::read(&case.controller.scrape().await);
    let labels = [("suite", "xw"), ("state", "valid")];
    let valid = scrape.value("sealed_secrets_controller_suite_keys", &labels);
    assert_eq!(valid, Some(1.0));

    let case = case.restart(ARGS).await;
    case.wait_until_idle("v2-first").await;
    assert_eq!(v2_key_names(&case.namespace).await, [name]);
}

#[tokio::test]
async fn renews_on_request_and_seals_with_the_new_key_at_once() {
    let mut case = Case::with_args("v2-renewed", ARGS).await;
    let [first] = v2_key_names(&case.namespace).await.try_into().unwrap();
    let first_id = served_recipients(&case.controller)
        .await
        .unwrap()
        .recipients[0]
        .key_id
        .clone();
    // Keys are ordered by the second in which they were created.
    let created = case.secret(&first).await.unwrap().creation_timestamp();
    let created = created.unwrap().0.as_second();
    until("the next second has begun", async || {
        (jiff::Timestamp::now().as_second() > created).then_some(())
    })
    .await;
    let request = json!({ "metadata": { "annotations": { RENEW_ANNOTATION: "true" } } });
    case.patch_secret(&first, request).await;
    until("a new key is served, and the old one too", async || {
        let list = served_recipients(&case.controller).await.ok()?;
        let ids: Vec<&str> = list.recipients.iter().map(|r| r.key_id.as_str()).collect();
        (ids.len() == 3 && ids[1] == first_id).then_some(())
    })
    .await;
    case.wait_until_idle("requested").await;
    assert_eq!(v2_key_names(&case.namespace).await.len(), 2);
    // A signal requests a key of each suite.
    case.controller.signal(Signal::USR1);
    until("keys of both suites are generated", async || {
        let list = served_recipients(&case.controller).await.ok()?;
        let count = |suite| list.recipients.iter().filter(|r| r.suite == suite).count();
        (count("xw") == 3 && count("rsa") == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn serves_a_key_only_after_its_backup_if_required() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("v2-backup").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_v2_key(&namespace, "v2-key", 1).await;
    let args = [ARGS, &["--require-backup"]].concat();
    let case = Case::start(plane, namespace, &args).await;
    case.wait_for_event("v2-key", "WaitsForBackup").await;
    let refusal = served_recipients(&case.controller).await.unwrap_err();
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    assert!(refusal.contains("is backed up"), "{refusal}");
    let mark = |byte: u8| {
        let text = backed_up_text(&key_id(byte), jiff::Timestamp::UNIX_EPOCH);
        json!({ "metadata": { "annotations": { BACKED_UP_ANNOTATION: text } } })
    };
    // The mark of another key has no effect.
    case.patch_secret("v2-key", mark(2)).await;
    case.wait_until_idle("marked").await;
    assert!(served_recipients(&case.controller).await.is_err());
    case.patch_secret("v2-key", mark(1)).await;
    wait_until_first(&case, &key_id(1)).await;
    assert_eq!(v2_key_names(&case.namespace).await, ["v2-key"]);
}

#[tokio::test]
async fn a_compromised_key_is_not_served_and_a_retired_one_not_loaded() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("v2-marks").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_v2_key(&namespace, "old", 1).await;
    put_v2_key(&namespace, "new", 2).await;
    let case = Case::start(plane, namespace, ARGS).await;
    wait_until_first(&case, &key_id(2)).await;
    let compromised = json!({ "metadata": { "annotations": { COMPROMISED_ANNOTATION: "2026-01-01T00:00:00Z" } } });
    case.patch_secret("new", compromised).await;
    wait_until_first(&case, &key_id(1)).await;
    let label = |value: &str| json!({ "metadata": { "labels": { V2_KEY_LABEL: value } } });
    case.patch_secret("new", label("retired")).await;
    case.wait_for_log("msg=\"private key removed\" secretname=new")
        .await;
    case.wait_for_event("new", "KeyRemoved").await;
    case.patch_secret("new", label("active")).await;
    until("the key is loaded again", async || {
        let log = case.controller.log();
        let count = log
            .matches("\"registered private key\" secretname=new")
            .count();
        (count == 2).then_some(())
    })
    .await;
    assert_eq!(
        served_recipients(&case.controller)
            .await
            .unwrap()
            .recipients
            .len(),
        2
    );
}

#[tokio::test]
async fn after_the_last_key_is_removed_none_is_generated_until_it_is_restored() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("v2-removed").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_v2_key(&namespace, "v2-key", 1).await;
    let case = Case::start(plane, namespace, ARGS).await;
    wait_until_first(&case, &key_id(1)).await;
    case.delete_secret("v2-key").await;
    case.wait_for_event("v2-key", "LastKeyRemoved").await;
    case.wait_for_log("the last private key of the suite xw was removed")
        .await;
    let refusal = served_recipients(&case.controller).await.unwrap_err();
    assert!(refusal.contains("every key was removed"), "{refusal}");
    let scrape = Scrape::read(&case.controller.scrape().await);
    let held_back = "sealed_secrets_controller_keys_held_back";
    assert_eq!(scrape.value(held_back, &[("reason", "removed")]), Some(1.0));
    // The keys of v1 are not affected.
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    assert_eq!(v2_key_names(&case.namespace).await, [""; 0]);
    put_v2_key(&case.namespace, "v2-key", 1).await;
    wait_until_first(&case, &key_id(1)).await;
}

/// Attack: a client plants Secrets that look like v2 keys but are malformed, to stop the controller, or to make it seal
/// for a key that it does not have.
#[tokio::test]
async fn unusable_v2_keys_are_reported_and_skipped() {
    let case = Case::with_args("v2-bad-keys", ARGS).await;
    let other = key_object("x", 2)["data"]["v2.pub"].clone();
    let text = |text: String| json!(shared::base64::encode(text.as_bytes()));
    let key = "A".repeat(43);
    let bad = [
        ("mismatch", "v2.pub", other),
        ("suite", "v2.key", text(format!("seal2-key p256 {key}"))),
        ("zero", "v2.key", text(format!("seal2-key p256 {key}"))),
        ("huge", "v2.key", text("A".repeat(700_000))),
        (
            "bytes",
            "v2.key",
            json!(shared::base64::encode(&[0xff; 64])),
        ),
        ("empty", "v2.key", json!("")),
        ("time", "not-after", text("soon".to_owned())),
    ];
    for (name, item, value) in &bad {
        let mut object = key_object(name, 1);
        object["data"][*item] = value.clone();
        object["metadata"]["namespace"] = json!(case.namespace.name());
        case.create_secret(object).await;
    }
    for (name, ..) in &bad {
        case.wait_for_event(name, "UnusableKey").await;
    }
    let case = case.restart(ARGS).await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    assert_eq!(
        served_recipients(&case.controller)
            .await
            .unwrap()
            .recipients
            .len(),
        2
    );
    let scrape = Scrape::read(&case.controller.scrape().await);
    let keys = |state| scrape.value("sealed_secrets_controller_keys", &[("state", state)]);
    assert_eq!(keys("unusable"), Some(7.0));
}

#[tokio::test]
async fn only_the_leader_of_two_new_controllers_generates_keys() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("v2-twins").await;
    roles::grant(&namespace, Reach::Namespace).await;
    roles::grant_leases(&namespace).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let start = || ClusterController::spawn(&kubeconfig, namespace.name(), ARGS);
    let mut controllers = [start(), start()];
    for controller in &mut controllers {
        controller.become_ready().await;
    }
    let [first, second] = controllers;
    until("both serve the same list", async || {
        let lists = (
            served_recipients(&first).await.ok()?,
            served_recipients(&second).await.ok()?,
        );
        (lists.0 == lists.1).then_some(())
    })
    .await;
    assert_eq!(v2_key_names(&namespace).await.len(), 1);
}

/// Bitnami's controller exits when it loads a key that is not RSA, so v2 keys must not have its label.
#[tokio::test]
async fn bitnamis_controller_starts_and_unseals_with_v2_keys_present() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("v2-bitnami").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let controller = ClusterController::start(plane, &namespace, ARGS).await;
    assert_eq!(v2_key_names(&namespace).await.len(), 1);
    assert_eq!(controller.stop(), Some(0));
    let (port, metrics) = (http::free_port(), http::free_port());
    let listen = format!("--listen-addr=127.0.0.1:{port}");
    let listen_metrics = format!("--listen-metrics-addr=127.0.0.1:{metrics}");
    let args = [
        "--all-namespaces=false",
        "--key-renew-period=0",
        &listen,
        &listen_metrics,
    ];
    let program = upstream::upstream_controller();
    let pod = Pod::start(plane, &namespace, ACCOUNT, &program, &args).await;
    put_v2_key(&namespace, "while-it-runs", 1).await;
    let items = [("a", "1")];
    let sealed = sealed_for(&KEYS[0], namespace.name(), "db", &items, Scope::Strict);
    let _: shared::resource::SealedSecret = namespace.create_object(json!(sealed)).await;
    until(&format!("it unseals\n{}", pod.log()), async || {
        let secret = namespace.api::<ApiSecret>().get_opt("db").await.unwrap()?;
        (secret.data? == tests::sealing::values(&items)).then_some(())
    })
    .await;
    let served = http::get(port, "/v1/cert.pem").await.unwrap();
    assert!(
        served.ends_with(&KEYS[0].pair.certificate().to_pem()),
        "{served}"
    );
    assert_eq!(v2_key_names(&namespace).await.len(), 2);
}

#[tokio::test]
async fn the_list_of_recipients_is_served_through_the_api_server() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("v2-proxy").await;
    roles::grant(&namespace, Reach::Namespace).await;
    let case = Case::start(plane, namespace, ARGS).await;
    let port = case.controller.port().unwrap();
    case.namespace.route("sealed-secrets", port).await;
    let uri = format!(
        "/api/v1/namespaces/{}/services/http:sealed-secrets:http/proxy/v2/recipients",
        case.namespace.name()
    );
    let client = case.secrets().into_client();
    let text = until("the service proxy responds", async || {
        let request = ::http::Request::get(&uri).body(Vec::new()).unwrap();
        client.request_text(request).await.ok()
    })
    .await;
    let list: RecipientList = serde_json::from_str(&text).unwrap();
    assert_eq!(list, served_recipients(&case.controller).await.unwrap());
}
