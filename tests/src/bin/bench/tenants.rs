//! Measures the time until a quiet tenant's new object has its Secret, alone and with hostile tenants.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Secret as ApiSecret};
use kube::Api;
use kube::api::{ListParams, PostParams};
use rand::Rng as _;
use serde_json::json;
use shared::base64;
use shared::key::KeySize;
use shared::resource::SealedSecret;
use tests::control_plane::ControlPlane;

use crate::bench_namespace::{BenchNamespace, Implementation, Load, for_each_concurrent};
use crate::operation::new_key;
use crate::report::{percentile, print_head, print_row, ratio, time};
use crate::sizes::Sizes;

/// Time between two new objects of the quiet tenant.
const OBJECT_INTERVAL: Duration = Duration::from_millis(500);
/// A template of nearly the maximum cost that one object may have, 9 s: key generation costs 7.5 s, hashing 1.2 s.
const COSTLY_TEMPLATE: &str =
    "{{ range 5 }}{{ genPrivateKey \"rsa\" }}{{ end }}{{ range 20 }}{{ bcrypt \"x\" }}{{ end }}";
/// Number of well-formed values that no key can unseal.
const WRONG_ITEMS: usize = 300;

pub async fn run(sizes: Sizes) {
    let seconds = sizes.size("seconds", 20, 60);
    let tenants = sizes.size("hostile-tenants", 10, 10);
    let objects = sizes.size("objects-of-each", 8, 40);
    let keys: Vec<_> = (0..sizes.size("keys", 4, 24))
        .map(|_| new_key(KeySize::Rsa2048))
        .collect();
    let load = Load::new(&keys[..1], 1, 3);
    let plane = ControlPlane::start().await;
    let bench = BenchNamespace::with_cluster_permissions(&plane, &keys).await;
    let hostile: Vec<String> = (0..tenants).map(|i| format!("hostile-{i}")).collect();
    let names = [&["quiet".to_owned()][..], &hostile].concat();
    for_each_concurrent(names.iter(), async |name| {
        create_namespace(&plane, name).await;
    })
    .await;
    let namespaces_arg = format!("--additional-namespaces={}", names.join(","));
    let pod = bench.run(Implementation::Ours, &[&namespaces_arg]).await;
    let quiet = QuietTenant {
        secrets: Api::namespaced(plane.admin(), "quiet"),
        sealed: Api::namespaced(plane.admin(), "quiet"),
        object: load.objects[0].clone(),
    };
    quiet.create("first").await;
    print_head(&["from create to Secret", "p50", "p99", "objects"]);
    let alone = quiet.time_objects("alone", seconds).await;
    print_row(&cells("alone", &alone));
    let greedy = [
        with_costly_template(&quiet.object),
        with_wrong_items(&quiet.object),
    ];
    let hostile_objects: Vec<(&String, usize)> = (0..objects)
        .flat_map(|i| hostile.iter().map(move |name| (name, i)))
        .collect();
    for_each_concurrent(hostile_objects.iter(), async |(namespace, i)| {
        let api: Api<SealedSecret> = Api::namespaced(plane.admin(), namespace);
        // One object in eight has values that no key can unseal.
        let mut object = greedy[usize::from(i % 8 == 7)].clone();
        object.metadata.name = Some(format!("h-{i}"));
        create(&api, &object).await;
    })
    .await;
    let contended = quiet.time_objects("contended", seconds).await;
    print_row(&cells(
        &format!("with {tenants} hostile tenants"),
        &contended,
    ));
    let (p99, before) = (percentile(&contended, 99), percentile(&alone, 99));
    let unfinished_count = count_unfinished(&plane, &hostile).await;
    println!(
        "| p99 grows {} | {unfinished_count} of {} hostile objects unfinished at the end | | |",
        ratio(p99, before),
        hostile_objects.len()
    );
    pod.stop();
}

fn cells(name: &str, times: &[Duration]) -> Vec<String> {
    let at_percentile = |percent| time(percentile(times, percent));
    vec![
        name.to_owned(),
        at_percentile(50),
        at_percentile(99),
        times.len().to_string(),
    ]
}

struct QuietTenant {
    secrets: Api<ApiSecret>,
    sealed: Api<SealedSecret>,
    object: SealedSecret,
}

impl QuietTenant {
    /// Creates objects one after another; returns the time until each has its Secret.
    async fn time_objects(&self, stem: &str, seconds: usize) -> Vec<Duration> {
        let end = Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap());
        let mut times = Vec::new();
        while Instant::now() < end {
            times.push(self.create(&format!("{stem}-{}", times.len())).await);
            tokio::time::sleep(OBJECT_INTERVAL).await;
        }
        times
    }

    async fn create(&self, name: &str) -> Duration {
        let mut object = self.object.clone();
        object.metadata.name = Some(name.to_owned());
        let start = Instant::now();
        create(&self.sealed, &object).await;
        while self.secrets.get_metadata_opt(name).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }
}

async fn create(api: &Api<SealedSecret>, object: &SealedSecret) {
    let mut object = object.clone();
    object.metadata.namespace = None;
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn create_namespace(plane: &ControlPlane, name: &str) {
    let api: Api<Namespace> = Api::all(plane.admin());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    api.create(&PostParams::default(), &namespace)
        .await
        .unwrap();
}

/// Returns a copy with [`COSTLY_TEMPLATE`].
fn with_costly_template(object: &SealedSecret) -> SealedSecret {
    let mut object = object.clone();
    object.spec.template.data = Some([("t".to_owned(), Some(COSTLY_TEMPLATE.to_owned()))].into());
    object
}

/// Returns a copy with additional values that no key can unseal.
fn with_wrong_items(object: &SealedSecret) -> SealedSecret {
    let mut object = object.clone();
    for i in 0..WRONG_ITEMS {
        let mut bytes = [0; 2 + 256 + 32];
        shared::random::system().fill_bytes(&mut bytes[2..]);
        bytes[0] = 1;
        let item = base64::encode(&bytes);
        object.spec.encrypted_data.insert(format!("w-{i}"), item);
    }
    object
}

/// Counts the objects without conditions. An object without conditions has a status too, by the default of the CRD.
async fn count_unfinished(plane: &ControlPlane, namespaces: &[String]) -> usize {
    let mut unfinished = 0;
    for namespace in namespaces {
        let api: Api<SealedSecret> = Api::namespaced(plane.admin(), namespace);
        let objects = api.list(&ListParams::default()).await.unwrap();
        let is_unfinished = |object: &&SealedSecret| {
            let status = object.status.as_ref();
            status.is_none_or(|status| status.conditions.is_empty())
        };
        unfinished += objects.iter().filter(is_unfinished).count();
    }
    unfinished
}
