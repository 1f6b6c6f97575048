//! A namespace in which a benchmark runs one of the two controllers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Secret as ApiSecret};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use shared::key::NewKey;
use shared::resource::{Condition, SealedSecret, SealedSecretStatus, time, version_key_name};
use shared::scope::Scope;
use shared::v2::key_secret::{self, StoredKey};
use shared::v2::{Recipient, SecretKey};
use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::http::{self, free_port};
use tests::pod::Pod;
use tests::roles::{self, ACCOUNT, Reach};
use tests::sealing::{put_key, sealed_for};
use tests::{upstream, v2_objects};

/// The maximum number of items that [`for_each_concurrent`] processes at a time.
pub const PARALLEL: usize = 32;
/// Time between two counts of the Secrets.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Limit for every wait for Secrets and statuses.
const LIMIT: Duration = Duration::from_mins(30);

/// A controller and its limit for requests to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// This project's controller with the default limit.
    Ours,
    /// Bitnami's controller without a limit.
    Upstream,
    /// Bitnami's controller with the default limit.
    UpstreamDefaults,
}

impl Implementation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "this project",
            Self::Upstream => "upstream, no limits",
            Self::UpstreamDefaults => "upstream, defaults",
        }
    }

    fn program(self) -> PathBuf {
        match self {
            Self::Ours => binaries::controller(),
            Self::Upstream | Self::UpstreamDefaults => upstream::upstream_controller(),
        }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Upstream => &["--kubeclient-qps=-1"],
            Self::Ours | Self::UpstreamDefaults => &[],
        }
    }
}

/// A namespace with the account and the keys of a controller.
pub struct BenchNamespace<'a> {
    plane: &'a ControlPlane,
    pub namespace: Namespace<'a>,
    /// One client for all requests. A new client would open a connection each time, which takes longer than most
    /// measured operations.
    client: Client,
    keys: usize,
}

/// Objects for a controller. They are sealed cluster-wide, so that every namespace gets the same objects.
pub struct Load {
    pub objects: Vec<SealedSecret>,
}

impl Load {
    /// Creates objects that are sealed for the keys in turn. Call this before a measurement, because sealing takes
    /// time.
    pub fn new(keys: &[NewKey], objects: usize, items: usize) -> Self {
        let names: Vec<String> = (0..items).map(|i| format!("item-{i}")).collect();
        let values: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
        let object = |i: usize| {
            let key = &keys[i % keys.len()];
            sealed_for(
                key,
                "any",
                &format!("s-{i:05}"),
                &values,
                Scope::ClusterWide,
            )
        };
        Self {
            objects: (0..objects).map(object).collect(),
        }
    }

    /// Creates objects in the v2 format.
    pub fn new_v2(recipient: &dyn Recipient, objects: usize, items: usize) -> Self {
        let names: Vec<String> = (0..items).map(|i| format!("item-{i}")).collect();
        let values: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
        let object = |i: usize| {
            let mut sealed = v2_objects::empty("any", &format!("s-{i:05}"));
            Scope::ClusterWide.annotate(sealed.annotations_mut());
            v2_objects::add_shared(&mut sealed, recipient, &values, |_| ());
            sealed
        };
        Self {
            objects: (0..objects).map(object).collect(),
        }
    }
}

impl<'a> BenchNamespace<'a> {
    pub async fn new(plane: &'a ControlPlane, keys: &[NewKey]) -> Self {
        Self::with(plane, keys, Reach::Namespace).await
    }

    /// Creates a namespace whose account has permissions in all namespaces.
    pub async fn with_cluster_permissions(plane: &'a ControlPlane, keys: &[NewKey]) -> Self {
        Self::with(plane, keys, Reach::Cluster).await
    }

    async fn with(plane: &'a ControlPlane, keys: &[NewKey], reach: Reach) -> Self {
        let namespace = plane.namespace("bench").await;
        roles::grant(&namespace, reach).await;
        for (i, key) in keys.iter().enumerate() {
            put_key(&namespace, &format!("sealed-secrets-key{i}"), key).await;
        }
        Self {
            plane,
            namespace,
            client: plane.admin(),
            keys: keys.len(),
        }
    }

    /// Stores a key for the v2 format.
    pub async fn put_v2_key(&mut self, key: SecretKey) {
        let stored = StoredKey {
            key,
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::MAX,
        };
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        let name = self.namespace.name();
        let secret = key_secret::build("v2-key", name, &stored, labels, annotations);
        self.create_object::<ApiSecret>(secret.to_document()).await;
        self.keys += 1;
    }

    /// Returns the API for objects of one kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
    {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    /// Starts a controller in the namespace, and waits until it serves a certificate.
    pub async fn run(&self, implementation: Implementation, more: &[&str]) -> Pod {
        // Bitnami's controller does not log the port on which it listens.
        let address = format!("--listen-addr=127.0.0.1:{}", free_port());
        let common = [
            "--all-namespaces=false",
            &address,
            "--listen-metrics-addr=127.0.0.1:0",
            "--key-renew-period=0",
        ];
        let args = [&common[..], implementation.args(), more].concat();
        let pod = Pod::start(
            self.plane,
            &self.namespace,
            ACCOUNT,
            &implementation.program(),
            &args,
        )
        .await;
        let has_certificate = async || {
            let response = http::get(pod.port(), "/v1/cert.pem").await;
            response.is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
        };
        while !has_certificate().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pod
    }

    /// Creates all objects.
    pub async fn create_all(&self, load: &Load) {
        for_each_concurrent(load.objects.iter(), async |object| {
            self.create(object).await;
        })
        .await;
    }

    /// Creates an object from JSON.
    pub async fn create_object<K>(&self, object: serde_json::Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        let result = self.api().create(&PostParams::default(), &object).await;
        result.unwrap();
    }

    pub async fn create(&self, object: &SealedSecret) {
        let mut object = object.clone();
        object.metadata.namespace = Some(self.namespace.name().into());
        let api: Api<SealedSecret> = self.api();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// Waits until at least this many Secrets exist, not counting keys and the content-version key; returns the time
    /// since `since`.
    pub async fn wait_for_secrets(&self, count: usize, since: Instant) -> Duration {
        let api: Api<ApiSecret> = self.api();
        let first_page = ListParams::default().limit(1);
        let version_key = version_key_name("sealed-secrets-key");
        let version_key = api.get_metadata_opt(&version_key).await.unwrap();
        let keys = self.keys + usize::from(version_key.is_some());
        loop {
            let page = api.list_metadata(&first_page).await.unwrap();
            let remaining = page.metadata.remaining_item_count.unwrap_or(0);
            let found_count = page.items.len() + usize::try_from(remaining).unwrap();
            if found_count >= count + keys {
                return since.elapsed();
            }
            assert!(
                since.elapsed() < LIMIT,
                "{found_count} of {count} after {LIMIT:?}"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the Secret with this name exists; returns the time since `since`.
    pub async fn wait_for_secret(&self, name: &str, since: Instant) -> Duration {
        let api: Api<ApiSecret> = self.api();
        while api.get_metadata_opt(name).await.unwrap().is_none() {
            assert!(since.elapsed() < LIMIT, "no {name} after {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }

    /// Waits until the status of every object is synced; returns the time since `since`.
    pub async fn wait_until_synced(&self, since: Instant) -> Duration {
        let api: Api<SealedSecret> = self.api();
        loop {
            let objects = api.list(&ListParams::default()).await.unwrap();
            let is_synced = |object: &SealedSecret| {
                let status = object.status.as_ref();
                let synced = status.and_then(|status| status.conditions.first());
                synced.is_some_and(|synced| synced.status == "True")
            };
            if objects.iter().all(is_synced) {
                return since.elapsed();
            }
            assert!(since.elapsed() < LIMIT, "not synced after {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// Measures how long a client takes to write a Secret, a status and an event for each object, as a controller does.
pub async fn time_bare_writes(plane: &ControlPlane, load: &Load) -> Duration {
    let bench = BenchNamespace::new(plane, &[]).await;
    bench.create_all(load).await;
    let start = Instant::now();
    for_each_concurrent(load.objects.iter(), async |object| {
        write_bare(&bench, object).await;
    })
    .await;
    start.elapsed()
}

async fn write_bare(bench: &BenchNamespace<'_>, object: &SealedSecret) {
    let name = object.metadata.name.as_deref().unwrap();
    let data = object
        .spec
        .encrypted_data
        .keys()
        .map(|key| (key.clone(), json!("dmFsdWU=")));
    let data: serde_json::Map<_, _> = data.collect();
    let secret = json!({ "metadata": { "name": name }, "data": data });
    bench.create_object::<ApiSecret>(secret).await;
    let api: Api<SealedSecret> = bench.api();
    let mut stored = api.get(name).await.unwrap();
    let now = time(Timestamp::now());
    stored.status = Some(SealedSecretStatus {
        observed_generation: Some(1),
        conditions: vec![Condition {
            type_: "Synced".into(),
            status: "True".into(),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(now),
            reason: None,
            message: None,
        }],
        ..SealedSecretStatus::default()
    });
    api.replace_status(name, &PostParams::default(), &stored)
        .await
        .unwrap();
    let event = json!({
        "metadata": { "generateName": format!("{name}.") },
        "involvedObject": {
            "kind": "SealedSecret", "name": name, "namespace": bench.namespace.name(),
            "apiVersion": "bitnami.com/v1alpha1",
        },
        "reason": "Unsealed", "type": "Normal", "message": "SealedSecret unsealed successfully",
    });
    bench.create_object::<Event>(event).await;
}

/// Calls `work` for each item, for up to [`PARALLEL`] items at a time.
pub async fn for_each_concurrent<T>(items: impl Iterator<Item = T>, work: impl AsyncFn(T)) {
    stream::iter(items.map(|item| work(item)))
        .buffer_unordered(PARALLEL)
        .collect::<Vec<()>>()
        .await;
}

/// Returns the value of a metric of this project's controller. The metric has no labels; `name` is without the prefix
/// `sealed_secrets_controller_`.
pub async fn metric(pod: &Pod, name: &str) -> f64 {
    let response = http::get(pod.metrics_port(), "/metrics").await.unwrap();
    let start = format!("sealed_secrets_controller_{name} ");
    let value = response.lines().find_map(|line| line.strip_prefix(&start));
    value
        .expect("our controller exports the metric")
        .parse()
        .unwrap()
}
