//! Tests the methods of `ControlPlane` that cause faults: a restart of the API server, an outage of etcd, a pause. Each
//! test has its own control plane.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use tests::control_plane::ControlPlane;
use tests::patience;
use tokio::time::timeout;

/// A limit that no response of a running API server exceeds.
const RESPONSE_LIMIT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn continues_a_watch_after_the_api_server_restarted() {
    let mut plane = ControlPlane::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(plane.admin());
    let watch = watcher(maps.clone(), watcher::Config::default());
    let mut watch = pin!(watch.default_backoff().touched_objects());

    create(&maps, "before").await;
    wait_until_seen(&mut watch, "before").await;
    plane.restart_api_server().await;
    create(&maps, "after").await;
    wait_until_seen(&mut watch, "after").await;
}

#[tokio::test]
async fn stores_nothing_without_etcd_and_loses_nothing_when_it_returns() {
    let mut plane = ControlPlane::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(plane.admin());
    create(&maps, "before").await;

    plane.stop_etcd();
    let write = timeout(
        RESPONSE_LIMIT,
        maps.create(&PostParams::default(), &config_map("meanwhile")),
    )
    .await;
    assert!(!matches!(write, Ok(Ok(_))), "{write:?}");

    plane.start_etcd().await;
    patience::until("the stored object is readable", async || {
        maps.get("before").await.ok()
    })
    .await;
    create(&maps, "after").await;
}

#[tokio::test]
async fn responds_after_a_pause_to_requests_sent_during_the_pause() {
    let mut plane = ControlPlane::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(plane.admin());
    create(&maps, "any").await;
    let parameters = ListParams::default();
    let mut request = pin!(maps.list(&parameters));

    plane.pause();
    assert!(
        timeout(RESPONSE_LIMIT, &mut request).await.is_err(),
        "a paused API server does not respond"
    );

    plane.resume();
    patience::within_limit("the response arrives", request)
        .await
        .unwrap();
}

async fn create(maps: &Api<ConfigMap>, name: &str) {
    maps.create(&PostParams::default(), &config_map(name))
        .await
        .unwrap();
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
}

/// Waits until the watch reports an object. Ignores errors: the watcher reports a lost connection and then
/// continues.
async fn wait_until_seen(
    watch: &mut (impl Stream<Item = watcher::Result<ConfigMap>> + Unpin),
    name: &str,
) {
    let observed = async {
        loop {
            let event = watch.next().await.expect("a watch never ends");
            if event.is_ok_and(|map| map.name_any() == name) {
                return;
            }
        }
    };
    patience::within_limit(&format!("the watch shows {name}"), observed).await;
}
