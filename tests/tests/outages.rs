//! Outages: how soon a Secret follows when they are over, and what can be seen meanwhile. Each test disturbs a plane of its
//! own. `.ci/extra outages` measures more of them, beside Bitnami's controller.

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
/// With few namespaces a watch pauses a second at most, by the unit tests of `watch_retry`; the rest is for a busy machine. It took
/// 40 to 93 seconds when pauses grew to a minute.
const SOON: Duration = Duration::from_secs(10);

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
        case.becomes_a_secret("before").await;
        case.all_is_watched().await;
        case
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object and gives the time until its Secret is there. What the API server refuses at first, since it
    /// is just back, is asked again.
    async fn becomes_a_secret(&self, name: &str) -> Duration {
        let items = [("a", "1")];
        let sealed = sealed_for(&KEYS[0], &self.namespace, name, &items, Scope::Strict);
        let start = Instant::now();
        until("the object is created", async || {
            let sealed_secrets = self.api::<SealedSecret>();
            let created = sealed_secrets.create(&PostParams::default(), &sealed).await;
            created.ok()
        })
        .await;
        until(&format!("{name} is there\n{}", self.log()), async || {
            self.api::<ApiSecret>().get_opt(name).await.ok().flatten()
        })
        .await;
        start.elapsed()
    }

    /// The log without the lines of single objects.
    fn log(&self) -> String {
        self.controller.log()
    }

    async fn health(&self) -> String {
        let port = self.controller.metrics_port().unwrap();
        http::get(port, "/readyz/watches").await.unwrap()
    }

    async fn failing(&self) -> (f64, f64) {
        let scrape = Scrape::read(&self.controller.scrape().await);
        let value = |name: &str, labels: &[(&str, &str)]| {
            let name = format!("sealed_secrets_controller_{name}");
            scrape.value(&name, labels).unwrap()
        };
        let since = value("watches_failing_since_timestamp_seconds", &[]);
        (since, value("watches_failing", &[("reason", "forbidden")]))
    }

    async fn fails_to_watch(&self, what: &str) {
        until(&format!("{what} is reported"), async || {
            let health = self.health().await;
            (health.starts_with("HTTP/1.1 503 ") && health.contains(what)).then_some(())
        })
        .await;
        assert!(self.failing().await.0 > 1_000_000_000.0);
    }

    async fn all_is_watched(&self) {
        until("all is watched", async || {
            let health = self.health().await;
            health.starts_with("HTTP/1.1 200 ").then_some(())
        })
        .await;
        assert_eq!(self.failing().await, (0.0, 0.0));
    }
}

fn is_soon(took: Duration, case: &Case) {
    assert!(took < SOON, "it took {took:?}\n{}", case.log());
}

#[tokio::test]
async fn a_secret_follows_soon_after_the_api_server_was_away_for_a_minute() {
    let mut plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    plane.stop_api_server();
    tokio::time::sleep(OUTAGE).await;
    case.fails_to_watch("unreachable since").await;
    plane.start_api_server().await;
    is_soon(case.becomes_a_secret("after").await, &case);
    case.all_is_watched().await;
}

#[tokio::test]
async fn a_secret_follows_soon_after_etcd_was_away_for_a_minute() {
    let mut plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    plane.stop_etcd();
    tokio::time::sleep(OUTAGE).await;
    case.fails_to_watch("since").await;
    plane.start_etcd().await;
    is_soon(case.becomes_a_secret("after").await, &case);
    case.all_is_watched().await;
}

#[tokio::test]
async fn a_secret_follows_soon_after_the_definition_was_deleted_and_made_again() {
    let plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(case.client.clone());
    let name = SealedSecret::crd().metadata.name.unwrap();
    let delete = DeleteParams::default();
    definitions.delete(&name, &delete).await.unwrap();
    case.fails_to_watch("missing since").await;
    until("it is gone", async || {
        let found = definitions.get_opt(&name).await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    plane.install(&SealedSecret::crd()).await;
    is_soon(case.becomes_a_secret("after").await, &case);
    case.all_is_watched().await;
}

#[tokio::test]
async fn revoked_rights_show_within_a_minute_and_a_secret_follows_soon_after_they_are_back() {
    let plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    let bindings = case.api::<RoleBinding>();
    let binding = bindings.get("secrets-unsealer").await.unwrap();
    let revoked = Instant::now();
    let delete = DeleteParams::default();
    bindings.delete("secrets-unsealer", &delete).await.unwrap();
    let last = LIMIT + Duration::from_secs(5);
    while !case.health().await.contains("forbidden since") {
        assert!(revoked.elapsed() < last, "{}", case.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Those of SealedSecrets and Secrets begin at different instants.
    case.fails_to_watch("SealedSecrets in namespace").await;
    assert!(case.failing().await.1 >= 1.0);
    let mut again = binding;
    again.metadata.resource_version = None;
    again.metadata.uid = None;
    bindings
        .create(&PostParams::default(), &again)
        .await
        .unwrap();
    is_soon(case.becomes_a_secret("after").await, &case);
    case.all_is_watched().await;
}

/// Attack: takes the right to watch away for a minute, so that changes of that minute are missed.
///
/// The API server checks rights when a watch begins, so a watch from before goes on while the next one is forbidden. Without
/// that, none of the three would be noticed before the rights are back.
#[tokio::test]
async fn while_watches_are_forbidden_those_from_before_go_on() {
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
    for what in ["SealedSecrets in", "key Secrets in", "\nSecrets in"] {
        case.fails_to_watch(what).await;
    }
    case.becomes_a_secret("meanwhile").await;
    let secrets = case.api::<ApiSecret>();
    let edit = json!({ "data": { "a": "ZWRpdGVk" } });
    secrets
        .patch("before", &PatchParams::default(), &Patch::Merge(edit))
        .await
        .unwrap();
    until("the edit is undone", async || {
        let secret = secrets.get("before").await.unwrap();
        (secret.data?.get("a")?.0 == b"1").then_some(())
    })
    .await;
    put_key(&plane.existing(&case.namespace), "key-1", &KEYS[1]).await;
    case.controller
        .logs("registered private key\" secretname=key-1")
        .await;
}
