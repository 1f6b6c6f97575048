//! Measures the memory and the requests of `seal restart` with many workloads.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::restarter::{Restarter, VersionedSecret};
use tests::{http, roles};
use tokio::time::sleep;

use crate::bench_namespace::for_each_concurrent;
use crate::report::{print_head, print_row};
use crate::sizes::Sizes;

const ACCOUNT: &str = "restart";

pub async fn run(sizes: Sizes) {
    let workloads = sizes.size("workloads", 200, 2_000);
    let secrets = sizes.size("secrets", 20, 200);
    let idle = sizes.size("idle-seconds", 30, 120);
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("workloads").await;
    until("the namespace has its account", async || {
        namespace.api::<ServiceAccount>().get("default").await.ok()
    })
    .await;
    let everything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    roles::create_caller_with(&namespace, ACCOUNT, &everything).await;
    let mut objects = Vec::new();
    for number in 0..secrets {
        objects.push(
            VersionedSecret::create(&namespace, &format!("s-{number}"), json!({}), "first").await,
        );
    }
    for_each_concurrent(0..workloads, async |number| {
        create_workload(&namespace, number, number % secrets).await;
    })
    .await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", namespace.name());
    let mut restarter = Restarter::start(&kubeconfig, namespace.name(), &[]).await;
    restarter.wait_until_synced().await;
    print_head(&["phase", "requests", "of the Lease", "resident MB"]);
    let mut before = BTreeMap::new();
    let mut row = |phase: &str| {
        let now = plane.count_requests_of(&user);
        let memory = format!("{:.1}", restarter.memory() as f64 / 1e6);
        let new = now
            .iter()
            .map(|(request, count)| (request, count - before.get(request).unwrap_or(&0)));
        let new: Vec<(&String, usize)> = new.filter(|(_, count)| *count > 0).collect();
        let leases = |(request, count): &(&String, usize)| {
            if request.ends_with("leases") {
                *count
            } else {
                0
            }
        };
        let of_lease: usize = new.iter().map(leases).sum();
        let total: usize = new.iter().map(|(_, count)| count).sum();
        print_row(&[
            phase.to_owned(),
            (total - of_lease).to_string(),
            of_lease.to_string(),
            memory,
        ]);
        eprintln!("{new:?}");
        before = now;
    };
    row("start");
    sleep(Duration::from_secs(u64::try_from(idle).unwrap())).await;
    row(&format!("{idle} s without changes"));
    objects[0].set("second").await;
    let users = workloads.div_ceil(secrets);
    until("the workloads were restarted", async || {
        let metrics = http::get(restarter.port(), "/metrics").await.ok()?;
        let want = format!("sealed_secrets_restart_restarts_total {}", users.min(5));
        metrics.contains(&want).then_some(())
    })
    .await;
    row(&format!(
        "a change that {users} workloads consume, 5 concurrently"
    ));
    restarter.stop();
}

/// Creates a Deployment of typical size and its Pod. Their statuses report a complete rollout, and a container that has
/// been running for a minute.
async fn create_workload(namespace: &Namespace<'_>, number: usize, secret: usize) {
    let name = format!("w-{number}");
    let variables: Vec<Value> = (0..40)
        .map(|i| json!({ "name": format!("VARIABLE_{i}"), "value": "x".repeat(40) }))
        .collect();
    let container = json!({
        "name": "main",
        "image": "registry.example.com/team/application:v1.2.3",
        "env": variables,
        "envFrom": [{ "secretRef": { "name": format!("s-{secret}") } }],
    });
    let spec = json!({ "automountServiceAccountToken": false, "containers": [container] });
    let labels = json!({ "app": name });
    let deployment = json!({
        "metadata": { "name": name, "annotations": {
            "reloader.stakater.com/auto": "true", "sealedsecrets.bitnami.com/restart-window": "1s",
        } },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    });
    let _: Deployment = namespace.create_object(deployment).await;
    let status = json!({ "status": {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    } });
    patch_status::<Deployment>(namespace, &name, status).await;
    let _: Pod = namespace
        .create_object(json!({ "metadata": { "name": name, "labels": labels }, "spec": spec }))
        .await;
    let minute = SignedDuration::from_mins(1);
    let start = Timestamp::now()
        .checked_sub(minute)
        .unwrap()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let status = json!({ "status": { "phase": "Running", "containerStatuses": [{
        "name": "main", "image": "app", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": { "startedAt": start } },
    }] } });
    patch_status::<Pod>(namespace, &name, status).await;
}

async fn patch_status<K>(namespace: &Namespace<'_>, name: &str, status: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType: Default>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api = namespace.api::<K>();
    let result = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    result.expect("the object exists");
}
