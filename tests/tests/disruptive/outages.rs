//! Tests how soon Secrets are created after an outage, and the reports of the controller during the outage. Each test
//! has its own control plane. `.ci/extra outages` measures more outages, also with Bitnami's controller.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, CustomResourceExt as _};
use serde_json::json;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::http;
use tests::patience::{LIMIT, until};
use tests::roles::{self, Reach};
use tests::scrape::Scrape;
use tests::sealing::{KEYS, put_key, sealed_for};

const OUTAGE: Duration = Duration::from_mins(1);
/// The limit for the first Secret after an outage. With few namespaces a watch pauses for at most a second (see the
/// unit tests of `watch_retry`); the remaining time is a reserve for a busy machine.
const MAX_RECOVERY: Duration = Duration::from_secs(10);

struct Case {
    controller: ClusterController,
    client: Client,
    namespace: String,
}

impl Case {
    async fn new(plane: &ControlPlane) -> Self {
        let namespace = plane.namespace("outage").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_leases(&namespace).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let case = Self {
            controller: ClusterController::start(plane, &namespace, &["--key-renew-period=0"])
                .await,
            client: plane.admin(),
            namespace: namespace.name().to_owned(),
        };
        case.time_to_secret("before").await;
        case.wait_until_all_watched().await;
        case
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns the time from the first attempt to create an object until its Secret exists. Retries failed requests,
    /// since an API server that has just restarted refuses some.
    async fn time_to_secret(&self, name: &str) -> Duration {
        let items = [("a", "1")];
        let sealed = sealed_for(&KEYS[0], &self.namespace, name, &items, Scope::Strict);
        let start = Instant::now();
        until("the object is created", async || {
            let sealed_secrets = self.api::<SealedSecret>();
            let response = sealed_secrets.create(&PostParams::default(), &sealed).await;
            response.ok()
        })
        .await;
        until(&format!("{name} exists\n{}", self.log()), async || {
            self.api::<ApiSecret>().get_opt(name).await.ok().flatten()
        })
        .await;
        start.elapsed()
    }

    fn log(&self) -> String {
        self.controller.log()
    }

    async fn health(&self) -> String {
        let port = self.controller.metrics_port().unwrap();
        http::get(port, "/readyz/watches").await.unwrap()
    }

    async fn watch_failures(&self) -> (f64, f64) {
        let scrape = Scrape::read(&self.controller.scrape().await);
        let value = |name: &str, labels: &[(&str, &str)]| {
            let name = format!("sealed_secrets_controller_{name}");
            scrape.value(&name, labels).unwrap()
        };
        let since = value("watches_failing_since_timestamp_seconds", &[]);
        (since, value("watches_failing", &[("reason", "forbidden")]))
    }

    async fn wait_for_watch_failure(&self, text: &str) {
        until(&format!("{text} is reported"), async || {
            let health = self.health().await;
            (health.starts_with("HTTP/1.1 503 ") && health.contains(text)).then_some(())
        })
        .await;
        assert!(self.watch_failures().await.0 > 1_000_000_000.0);
    }

    async fn wait_until_all_watched(&self) {
        until("all resources are watched", async || {
            let health = self.health().await;
            health.starts_with("HTTP/1.1 200 ").then_some(())
        })
        .await;
        assert_eq!(self.watch_failures().await, (0.0, 0.0));
    }
}

fn assert_fast_recovery(time: Duration, case: &Case) {
    assert!(
        time < MAX_RECOVERY,
        "the recovery took {time:?}\n{}",
        case.log()
    );
}

#[tokio::test]
async fn recovers_soon_after_an_outage_of_the_api_server() {
    let mut plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    plane.stop_api_server();
    tokio::time::sleep(OUTAGE).await;
    case.wait_for_watch_failure("unreachable since").await;
    plane.start_api_server().await;
    assert_fast_recovery(case.time_to_secret("after").await, &case);
    case.wait_until_all_watched().await;
}

#[tokio::test]
async fn recovers_soon_after_an_outage_of_etcd() {
    let mut plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    plane.stop_etcd();
    tokio::time::sleep(OUTAGE).await;
    case.wait_for_watch_failure("since").await;
    plane.start_etcd().await;
    assert_fast_recovery(case.time_to_secret("after").await, &case);
    case.wait_until_all_watched().await;
}

#[tokio::test]
async fn recovers_soon_after_the_crd_was_deleted_and_recreated() {
    let plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(case.client.clone());
    let name = SealedSecret::crd().metadata.name.unwrap();
    let delete = DeleteParams::default();
    definitions.delete(&name, &delete).await.unwrap();
    case.wait_for_watch_failure("missing since").await;
    until("the CRD is deleted", async || {
        let definition = definitions.get_opt(&name).await.unwrap();
        definition.is_none().then_some(())
    })
    .await;
    plane.install(&SealedSecret::crd()).await;
    assert_fast_recovery(case.time_to_secret("after").await, &case);
    case.wait_until_all_watched().await;
}

#[tokio::test]
async fn reports_revoked_permissions_and_recovers_soon_after_they_are_restored() {
    let plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    let bindings = case.api::<RoleBinding>();
    let binding = bindings.get("secrets-unsealer").await.unwrap();
    let revocation = Instant::now();
    let delete = DeleteParams::default();
    bindings.delete("secrets-unsealer", &delete).await.unwrap();
    let limit = LIMIT + Duration::from_secs(5);
    while !case.health().await.contains("forbidden since") {
        assert!(revocation.elapsed() < limit, "{}", case.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The failures for SealedSecrets and Secrets begin at different instants.
    case.wait_for_watch_failure("SealedSecrets in namespace")
        .await;
    assert!(case.watch_failures().await.1 >= 1.0);
    let mut restored = binding;
    restored.metadata.resource_version = None;
    restored.metadata.uid = None;
    bindings
        .create(&PostParams::default(), &restored)
        .await
        .unwrap();
    assert_fast_recovery(case.time_to_secret("after").await, &case);
    case.wait_until_all_watched().await;
}

/// Fault: the permission to watch is revoked, and objects change afterwards.
///
/// The API server checks permissions when a watch begins. An existing watch continues while new watches are forbidden,
/// so the controller still notices changes.
#[tokio::test]
async fn existing_watches_continue_while_new_ones_are_forbidden() {
    let plane = ControlPlane::start().await;
    let mut case = Case::new(&plane).await;
    let roles = case.api::<Role>();
    let mut role = roles.get("secrets-unsealer").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        rule.verbs.retain(|verb| verb != "watch");
    }
    let replace = PostParams::default();
    roles
        .replace("secrets-unsealer", &replace, &role)
        .await
        .unwrap();
    for text in ["SealedSecrets in", "key Secrets in", "\nSecrets in"] {
        case.wait_for_watch_failure(text).await;
    }
    case.time_to_secret("meanwhile").await;
    let secrets = case.api::<ApiSecret>();
    let edit = json!({ "data": { "a": "ZWRpdGVk" } });
    secrets
        .patch("before", &PatchParams::default(), &Patch::Merge(edit))
        .await
        .unwrap();
    until("the edit is reverted", async || {
        let secret = secrets.get("before").await.unwrap();
        (secret.data?.get("a")?.0 == b"1").then_some(())
    })
    .await;
    put_key(&plane.existing(&case.namespace), "key-1", &KEYS[1]).await;
    case.controller
        .wait_for_log("registered private key\" secretname=key-1")
        .await;
}
