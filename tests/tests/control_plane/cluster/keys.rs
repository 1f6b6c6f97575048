//! Tests keys that are added, removed, replaced, invalid or requested.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::key_secret;
use shared::resource::{KEY_LABEL, RENEW_ANNOTATION};
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scrape::Scrape;
use tests::sealing::{KEYS, put_key, sealed_for};
use tests::upstream::{KeyRequest, Upstream};

use super::case::Case;

#[tokio::test]
async fn c1_c11_a_key_added_later_unseals_failed_objects() {
    let case = Case::new("late-key").await;
    let items = [("a", "1")];
    let sealed = sealed_for(&KEYS[1], case.namespace.name(), "db", &items, Scope::Strict);
    case.create(&sealed).await;
    assert_eq!(
        case.wait_for_failure("db").await,
        "no key could decrypt secret (a)"
    );
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.wait_for_values("db", &items).await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn c11_a_relabeled_key_unseals_nothing_until_the_label_is_restored() {
    let case = Case::new("relabeled").await;
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.wait_for_log("secretname=key-1").await;
    let label = |value: &str| json!({ "metadata": { "labels": { KEY_LABEL: value } } });
    case.patch_secret("key-0", label("compromised")).await;
    case.wait_for_log("msg=\"private key removed\"").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_failure("db").await;
    case.patch_secret("key-0", label("active")).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn c11_deleted_keys_still_decrypt_and_no_key_is_generated_meanwhile() {
    let case = Case::with_args("restored", &["--key-renew-period=0"]).await;
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.wait_for_log("secretname=key-1").await;
    let backup = case.secret("key-0").await.unwrap();
    case.delete_secret("key-0").await;
    case.delete_secret("key-1").await;
    case.wait_for_log("level=ERROR msg=\"the last private key was removed")
        .await;
    case.wait_for_event("key-0", "KeyRemoved").await;
    case.wait_for_event("key-1", "LastKeyRemoved").await;
    let scrape = Scrape::read(&case.controller.scrape().await);
    let held_back = |reason| {
        scrape.value(
            "sealed_secrets_controller_keys_held_back",
            &[("reason", reason)],
        )
    };
    assert_eq!(held_back("removed"), Some(2.0));
    let response = case.controller.get("/v1/cert.pem").await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("every key was removed"), "{response}");

    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    put_key(&case.namespace, "key-0", &KEYS[0]).await;
    until("a certificate is served", async || {
        let response = case.controller.get("/v1/cert.pem").await;
        response.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
    let items = [("a", "1")];
    let sealed = sealed_for(
        &KEYS[1],
        case.namespace.name(),
        "gone",
        &items,
        Scope::Strict,
    );
    case.create(&sealed).await;
    case.wait_for_failure("gone").await;
    let restored = case.secret("key-0").await.unwrap();
    assert_eq!(restored.data, backup.data);
    assert_eq!(key_names(&case.namespace).await, ["key-0"]);
}

#[tokio::test]
async fn a_key_replaced_in_place_is_reported_by_log_and_event() {
    let case = Case::with_args("replaced", &["--key-renew-period=0"]).await;
    let none = BTreeMap::new;
    let replacement = key_secret::build("key-0", "x", &KEYS[1], none(), none());
    let text = |item| String::from_utf8(replacement.data[item].expose().to_vec()).unwrap();
    let data = json!({ "tls.key": text("tls.key"), "tls.crt": text("tls.crt") });
    case.patch_secret("key-0", json!({ "stringData": data }))
        .await;
    case.wait_for_event("key-0", "KeyReplaced").await;
    let warning = "level=WARN msg=\"private key replaced with another key under the same name\" secretname=key-0";
    case.wait_for_log(warning).await;
}

/// Bitnami documents `kubectl apply -f backup.yaml` as the way to restore. The backup must not overwrite a key that
/// the controller has generated in the new cluster.
#[tokio::test]
async fn a_backup_of_another_cluster_overwrites_no_key() {
    let plane = ControlPlane::shared().await;
    let [backed_up, restored] = [
        plane.namespace("before").await,
        plane.namespace("after").await,
    ];
    let mut keys = Vec::new();
    for namespace in [&backed_up, &restored] {
        roles::grant(namespace, Reach::Namespace).await;
        let controller = ClusterController::start(plane, namespace, &[]).await;
        let [name] = key_names(namespace).await.try_into().unwrap();
        let key: ApiSecret = namespace.api().get(&name).await.unwrap();
        keys.push((key, controller));
    }
    let backup = json!({
        "metadata": { "name": keys[0].0.name_any(), "labels": keys[0].0.labels() },
        "type": "kubernetes.io/tls",
        "data": keys[0].0.data,
    });
    let _: ApiSecret = restored.create_object(backup).await;
    assert_eq!(key_names(&restored).await.len(), 2, "both keys exist");
}

#[tokio::test]
async fn c10_keys_change_while_objects_are_unsealed() {
    let case = Case::with_args("busy", &["--key-renew-period=0"]).await;
    let keys = async {
        for _ in 0..10 {
            put_key(&case.namespace, "key-1", &KEYS[1]).await;
            put_key(&case.namespace, "key-2", &KEYS[2]).await;
            case.delete_secret("key-1").await;
            case.delete_secret("key-2").await;
        }
    };
    let objects = async {
        for i in 0..40 {
            case.seal(&format!("s-{i}"), &[("a", "1")]).await;
        }
    };
    tokio::join!(keys, objects);
    for i in 0..40 {
        case.wait_for_values(&format!("s-{i}"), &[("a", "1")]).await;
        case.wait_until_synced(&format!("s-{i}")).await;
    }
    assert!(!case.controller.log().contains("panicked"));
}

/// Returns the names of the active key Secrets in alphabetical order.
async fn key_names(namespace: &Namespace<'_>) -> Vec<String> {
    let labeled = ListParams::default().labels(&format!("{KEY_LABEL}=active"));
    let api: Api<ApiSecret> = namespace.api();
    let keys = api.list(&labeled).await.unwrap();
    keys.into_iter().map(|key| key.name_any()).collect()
}

fn key_object(name: &str, key: &str, certificate: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { KEY_LABEL: "active" } },
        "stringData": { "tls.key": key, "tls.crt": certificate },
    })
}

/// Attack: a client plants Secrets that look like sealing keys but are malformed, to stop the controller.
#[tokio::test]
async fn c9_c12_unusable_keys_are_reported_and_skipped() {
    let none = BTreeMap::new;
    let [first, second] = [0, 1].map(|i| {
        let secret = key_secret::build("x", "x", &KEYS[i], none(), none());
        let text = |item| String::from_utf8(secret.data[item].expose().to_vec()).unwrap();
        (text("tls.key"), text("tls.crt"))
    });
    let upstream = Upstream::start().unwrap();
    let [small, elliptic] =
        [1024, 0].map(|bits| upstream.generate(&KeyRequest::rsa(bits)).unwrap());
    let bad = [
        ("mismatched", key_object("mismatched", &first.0, &second.1)),
        ("garbled", key_object("garbled", "no PEM", &first.1)),
        (
            "small",
            key_object("small", &small.pkcs1, &small.certificate),
        ),
        (
            "elliptic",
            key_object("elliptic", &elliptic.pkcs1, &elliptic.certificate),
        ),
        (
            "bare",
            json!({ "metadata": { "name": "bare", "labels": { KEY_LABEL: "active" } } }),
        ),
    ];
    let case = Case::with_args("bad-keys", &["--key-renew-period=0"]).await;
    for (_, object) in &bad {
        case.create_secret(object.clone()).await;
    }
    for (name, _) in &bad {
        case.wait_for_log(&format!("msg=\"Error reading key\" secretname={name} "))
            .await;
        case.wait_for_event(name, "UnusableKey").await;
    }
    // The restarted controller loads all keys together.
    let case = case.restart(&["--key-renew-period=0"]).await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    let scrape = Scrape::read(&case.controller.scrape().await);
    let keys = |state| scrape.value("sealed_secrets_controller_keys", &[("state", state)]);
    assert_eq!((keys("unusable"), keys("valid")), (Some(5.0), Some(1.0)));
}

#[tokio::test]
async fn the_renew_annotation_creates_exactly_one_key() {
    let case = Case::with_args("requested", &["--key-renew-period=0"]).await;
    let request = json!({ "metadata": { "annotations": { RENEW_ANNOTATION: "true" } } });
    case.patch_secret("key-0", request).await;
    until("a new key exists", async || {
        (key_names(&case.namespace).await.len() == 2).then_some(())
    })
    .await;
    case.wait_until_idle("requested").await;
    assert_eq!(key_names(&case.namespace).await.len(), 2);
    let case = case.restart(&["--key-renew-period=0"]).await;
    case.wait_until_idle("requested-again").await;
    assert_eq!(key_names(&case.namespace).await.len(), 2);
}

#[tokio::test]
async fn stores_a_key_as_upstream_does_and_renews_on_a_signal() {
    let args = [
        "--key-renew-period=0",
        "--privatekey-labels=team=a,sealedsecrets.bitnami.com/sealed-secrets-key=mine",
        "--privatekey-annotations=note=b=c",
        "--my-cn=here",
    ];
    let mut case = Case::with_args("stored", &args).await;
    case.controller.signal(Signal::USR1);
    let name = until("a new key exists", async || {
        let names = key_names(&case.namespace).await;
        names.into_iter().find(|name| name != "key-0")
    })
    .await;
    assert!(name.starts_with("sealed-secrets-key"), "{name}");
    let secret = case.secret(&name).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(secret.labels()["team"], "a");
    assert_eq!(
        secret.labels()[KEY_LABEL],
        "active",
        "a flag cannot override this label"
    );
    assert_eq!(secret.annotations()["note"], "b=c");
    assert_eq!(secret.metadata.owner_references, None);
    let data = secret.data.unwrap();
    assert!(
        data["tls.key"]
            .0
            .starts_with(b"-----BEGIN RSA PRIVATE KEY-----\n")
    );
    // The controller serves the certificate of the new key.
    let certificate = String::from_utf8(data["tls.crt"].0.clone()).unwrap();
    until("the new certificate is served", async || {
        let response = case.controller.get("/v1/cert.pem").await;
        response.ends_with(&certificate).then_some(())
    })
    .await;
}

#[tokio::test]
async fn c26_only_the_leader_of_two_new_controllers_generates_the_first_key() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("twins").await;
    roles::grant(&namespace, Reach::Namespace).await;
    roles::grant_leases(&namespace).await;
    let _controllers = start_two_controllers(plane, &namespace).await;
    let [name] = key_names(&namespace).await.try_into().unwrap();
    assert!(name.starts_with("sealed-secrets-key"), "{name}");
    assert_ne!(name, "sealed-secrets-key-first");
}

#[tokio::test]
async fn c26_without_leases_two_controllers_seal_for_the_same_key() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("alone").await;
    roles::grant(&namespace, Reach::Namespace).await;
    let [first, second] = start_two_controllers(plane, &namespace).await;
    until("both controllers serve the same certificate", async || {
        let body = |response: String| response.split_once("\r\n\r\n").unwrap().1.to_owned();
        let certificate = body(first.get("/v1/cert.pem").await);
        let is_same = certificate == body(second.get("/v1/cert.pem").await);
        is_same.then_some(())
    })
    .await;
    let count = key_names(&namespace).await.len();
    for controller in [first, second] {
        until("each controller loads every key", async || {
            let registered = controller.log().matches("registered private key").count();
            (registered == count).then_some(())
        })
        .await;
    }
}

async fn start_two_controllers(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
) -> [ClusterController; 2] {
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let start = || ClusterController::spawn(&kubeconfig, namespace.name(), &[]);
    let mut controllers = [start(), start()];
    for controller in &mut controllers {
        controller.become_ready().await;
    }
    controllers
}

#[tokio::test]
async fn c24_the_log_shows_the_fingerprint_of_a_new_certificate_and_its_pem_only_at_debug_level() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("json").await;
    roles::grant(&namespace, Reach::Namespace).await;
    let mut controller = {
        let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
        ClusterController::spawn(&kubeconfig, namespace.name(), &["--log-format=json"])
    };
    controller
        .wait_for_log("\"msg\":\"Certificate generated\",\"fingerprint\":\"SHA256:")
        .await;
    controller
        .wait_for_log("\"certificate\":\"-----BEGIN CERTIFICATE-----\\n")
        .await;
}

#[tokio::test]
async fn a_renewal_killed_repeatedly_creates_no_key_twice() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("killed").await;
    roles::grant(&namespace, Reach::Namespace).await;
    // This key is from 2023, so a new key is due.
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    for milliseconds in (40..400).step_by(40) {
        let mut controller = ClusterController::spawn(&kubeconfig, namespace.name(), &[]);
        // Kill the controller at different points of the renewal; there is no event to wait for.
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        controller.signal(Signal::KILL);
    }
    let controller = ClusterController::start(plane, &namespace, &[]).await;
    assert_eq!(key_names(&namespace).await.len(), 2);
    let items = [("a", "1")];
    let sealed = sealed_for(&KEYS[0], namespace.name(), "db", &items, Scope::Strict);
    let _: shared::resource::SealedSecret = namespace.create_object(json!(sealed)).await;
    until(
        &format!("the controller unseals\n{}", controller.log()),
        async || {
            let secret = namespace.api::<ApiSecret>().get_opt("db").await.unwrap()?;
            (secret.data? == tests::sealing::values(&items)).then_some(())
        },
    )
    .await;
}
