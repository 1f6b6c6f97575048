//! Keys that are added, removed, invalid, and requested.

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
use tests::peer::{KeyRequest, Peer};
use tests::roles::{self, ACCOUNT, Reach};
use tests::scrape::Scrape;
use tests::sealing::{KEYS, put_key, sealed_for};

use crate::case::Case;

#[tokio::test]
async fn c1_c11_a_key_added_later_unseals_failed_objects() {
    let case = Case::new("late-key").await;
    let items = [("a", "1")];
    let sealed = sealed_for(&KEYS[1], case.namespace.name(), "db", &items, Scope::Strict);
    case.create(&sealed).await;
    assert_eq!(case.failure("db").await, "no key could decrypt secret (a)");
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.holds("db", &items).await;
    case.is_synced("db").await;
}

#[tokio::test]
async fn c11_a_relabelled_key_unseals_nothing_until_the_label_is_restored() {
    let case = Case::new("relabelled").await;
    let label = |value: &str| json!({ "metadata": { "labels": { KEY_LABEL: value } } });
    case.patch_secret("key-0", label("compromised")).await;
    case.logs("msg=\"private key taken out\"").await;
    case.seal("db", &[("a", "1")]).await;
    case.failure("db").await;
    case.patch_secret("key-0", label("active")).await;
    case.holds("db", &[("a", "1")]).await;
    case.is_synced("db").await;
}

#[tokio::test]
async fn c11_a_restored_key_unseals_again_and_no_key_is_generated_meanwhile() {
    let case = Case::with("restored", &["--key-renew-period=0"]).await;
    let backup = case.secret("key-0").await.unwrap();
    case.delete_secret("key-0").await;
    case.logs("msg=\"private key taken out\"").await;
    case.seal("db", &[("a", "1")]).await;
    case.failure("db").await;
    put_key(&case.namespace, "key-0", &KEYS[0]).await;
    case.holds("db", &[("a", "1")]).await;
    let restored = case.secret("key-0").await.unwrap();
    assert_eq!(restored.data, backup.data);
    assert_eq!(keys_in(&case.namespace).await, ["key-0"]);
}

#[tokio::test]
async fn c10_keys_come_and_go_while_objects_are_unsealed() {
    let case = Case::with("busy", &["--key-renew-period=0"]).await;
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
        case.holds(&format!("s-{i}"), &[("a", "1")]).await;
        case.is_synced(&format!("s-{i}")).await;
    }
    assert!(!case.controller.log().contains("panicked"));
}

/// Returns the names in alphabetical order.
async fn keys_in(namespace: &Namespace<'_>) -> Vec<String> {
    let labelled = ListParams::default().labels(&format!("{KEY_LABEL}=active"));
    let api: Api<ApiSecret> = namespace.api();
    let keys = api.list(&labelled).await.unwrap();
    keys.into_iter().map(|key| key.name_any()).collect()
}

fn key_object(name: &str, key: &str, certificate: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { KEY_LABEL: "active" } },
        "stringData": { "tls.key": key, "tls.crt": certificate },
    })
}

/// Attack: plants Secrets that look like sealing keys but are malformed.
#[tokio::test]
async fn c9_c12_keys_that_cannot_be_used_are_named_and_skipped() {
    let none = BTreeMap::new;
    let [own, other] = [0, 1].map(|i| {
        let secret = key_secret::build("x", "x", &KEYS[i], none(), none());
        let text = |item| String::from_utf8(secret.data[item].expose().to_vec()).unwrap();
        (text("tls.key"), text("tls.crt"))
    });
    let peer = Peer::start().unwrap();
    let [small, elliptic] = [1024, 0].map(|bits| peer.generate(&KeyRequest::rsa(bits)).unwrap());
    let bad = [
        ("mismatched", key_object("mismatched", &own.0, &other.1)),
        ("garbled", key_object("garbled", "no PEM", &own.1)),
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
    let case = Case::with("bad-keys", &["--key-renew-period=0"]).await;
    for (_, object) in &bad {
        case.create_secret(object.clone()).await;
    }
    for (name, _) in &bad {
        case.logs(&format!("msg=\"Error reading key\" secretname={name} "))
            .await;
        case.event(name, "UnusableKey").await;
    }
    // A start loads them all at once.
    let case = case.restart(&["--key-renew-period=0"]).await;
    case.seal("db", &[("a", "1")]).await;
    case.holds("db", &[("a", "1")]).await;
    let scrape = Scrape::read(&case.controller.scrape().await);
    let keys = |state| scrape.value("sealed_secrets_controller_keys", &[("state", state)]);
    assert_eq!((keys("unusable"), keys("valid")), (Some(5.0), Some(1.0)));
}

#[tokio::test]
async fn the_renew_annotation_creates_exactly_one_key() {
    let case = Case::with("asked", &["--key-renew-period=0"]).await;
    let ask = json!({ "metadata": { "annotations": { RENEW_ANNOTATION: "true" } } });
    case.patch_secret("key-0", ask).await;
    until("there is another key", async || {
        (keys_in(&case.namespace).await.len() == 2).then_some(())
    })
    .await;
    case.rest("asked").await;
    assert_eq!(keys_in(&case.namespace).await.len(), 2);
    let case = case.restart(&["--key-renew-period=0"]).await;
    case.rest("asked-again").await;
    assert_eq!(keys_in(&case.namespace).await.len(), 2);
}

#[tokio::test]
async fn stores_a_key_as_upstream_does_and_renews_on_a_signal() {
    let words = [
        "--key-renew-period=0",
        "--privatekey-labels=team=a,sealedsecrets.bitnami.com/sealed-secrets-key=mine",
        "--privatekey-annotations=note=b=c",
        "--my-cn=here",
    ];
    let mut case = Case::with("stored", &words).await;
    case.controller.signal(Signal::USR1);
    let name = until("there is another key", async || {
        let names = keys_in(&case.namespace).await;
        names.into_iter().find(|name| name != "key-0")
    })
    .await;
    assert!(name.starts_with("sealed-secrets-key"), "{name}");
    let secret = case.secret(&name).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(secret.labels()["team"], "a");
    assert_eq!(secret.labels()[KEY_LABEL], "active", "not to be overridden");
    assert_eq!(secret.annotations()["note"], "b=c");
    assert_eq!(secret.metadata.owner_references, None);
    let data = secret.data.unwrap();
    assert!(
        data["tls.key"]
            .0
            .starts_with(b"-----BEGIN RSA PRIVATE KEY-----\n")
    );
    // This key seals from now on.
    let certificate = String::from_utf8(data["tls.crt"].0.clone()).unwrap();
    until("the new certificate is served", async || {
        let answer = case.controller.get("/v1/cert.pem").await;
        answer.ends_with(&certificate).then_some(())
    })
    .await;
}

#[tokio::test]
async fn c26_only_one_of_two_starting_controllers_generates_the_first_key() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("twins").await;
    roles::grant(&namespace, Reach::Namespace).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let start = || ClusterController::spawn(&kubeconfig, namespace.name(), &[]);
    let mut twins = [start(), start()];
    for twin in &mut twins {
        twin.become_ready().await;
    }
    assert_eq!(keys_in(&namespace).await, ["sealed-secrets-key-first"]);
}

#[tokio::test]
async fn c24_a_new_certificate_is_logged_as_text_even_in_json() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("json").await;
    roles::grant(&namespace, Reach::Namespace).await;
    let mut controller = {
        let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
        ClusterController::spawn(&kubeconfig, namespace.name(), &["--log-format=json"])
    };
    controller
        .logs("\"certificate\":\"-----BEGIN CERTIFICATE-----\\n")
        .await;
}

#[tokio::test]
async fn a_renewal_killed_at_any_point_creates_no_key_twice() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("killed").await;
    roles::grant(&namespace, Reach::Namespace).await;
    // From 2023, so that a renewal is due at each start.
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    for milliseconds in (40..400).step_by(40) {
        let mut controller = ClusterController::spawn(&kubeconfig, namespace.name(), &[]);
        // Kills the controller at different points of the renewal; there is no event to wait for.
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        controller.signal(Signal::KILL);
    }
    let controller = ClusterController::start(plane, &namespace, &[]).await;
    assert_eq!(keys_in(&namespace).await.len(), 2);
    let items = [("a", "1")];
    let sealed = sealed_for(&KEYS[0], namespace.name(), "db", &items, Scope::Strict);
    let _: shared::resource::SealedSecret = namespace.create_object(json!(sealed)).await;
    until(&format!("it opens\n{}", controller.log()), async || {
        let secret = namespace.api::<ApiSecret>().get_opt("db").await.unwrap()?;
        (secret.data? == tests::sealing::values(&items)).then_some(())
    })
    .await;
}
