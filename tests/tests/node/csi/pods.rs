//! Tests what `seal pods` reports about volumes of the driver.

use serde_json::json;
use tests::csi::volume;
use tests::node::NodePod;
use tests::patience::until;

use super::mounts::Site;
use super::{read, reader};
use crate::pods;

#[tokio::test]
async fn seal_pods_agrees_with_the_output_of_the_containers() {
    let site = Site::with_provider("csi-pods", class::PROVIDER).await;
    site.seal("db", 0, &[("password", "first")]).await;
    site.create_class("web", "- sealedSecret: db").await;
    pods::wait_until_recorded(&site.namespace, "db", 1).await;
    let pod = start(&site).await;
    let (code, rows) = survey(&site, &[]);
    assert_eq!(code, Some(0), "{rows}");
    assert_eq!(
        pods::states(&rows),
        [("subPath", "current"), ("csi", "current")]
    );
    assert_eq!(rows["pods"][1]["generation"], 1);
    assert_eq!(rows["pods"][1]["secretProviderClass"], "web");
    let first = site.versions(&pod).await;

    site.seal("db", 0, &[("password", "second")]).await;
    pods::wait_until_recorded(&site.namespace, "db", 2).await;
    let (code, rows) = survey(&site, &[]);
    // In the meantime, the kubelet may have refreshed the volume by itself.
    if read(&pod, "password").await == "first" {
        assert_eq!(code, Some(1), "{rows}");
        assert_eq!(
            pods::states(&rows),
            [("subPath", "stale"), ("csi", "stale")]
        );
        assert_eq!(rows["pods"][1]["generation"], 1);
        assert_eq!(rows["pods"][1]["refreshedBy"], "CSI driver");
    }
    site.touch(&pod, "1").await;
    until("the driver has recorded the new version", async || {
        (site.versions(&pod).await != first).then_some(())
    })
    .await;
    let (code, rows) = survey(&site, &[]);
    let printed = [
        ("subPath", value_in_sub_path(&pod).await == "second"),
        ("csi", read(&pod, "password").await == "second"),
    ];
    let expected = printed.map(|(way, is_new)| (way, if is_new { "current" } else { "stale" }));
    assert_eq!(pods::states(&rows), expected, "{rows}");
    assert_eq!(expected, [("subPath", "stale"), ("csi", "current")]);
    assert_eq!(code, Some(1), "{rows}");

    pod.delete().await;
    let pod = start(&site).await;
    let (code, rows) = survey(&site, &["--wait", "--timeout", "20s"]);
    assert_eq!(
        pods::states(&rows),
        [("subPath", "current"), ("csi", "current")]
    );
    assert_eq!(
        (code, value_in_sub_path(&pod).await.as_str()),
        (Some(0), "second")
    );
}

/// Starts a Pod that mounts the volume, and a file of it by `subPath`; waits until the driver has recorded the mount.
async fn start(site: &Site) -> NodePod {
    let mut spec = reader(&volume("web", &json!({})), "web");
    let mounts = spec["containers"][0]["volumeMounts"].as_array_mut();
    let file = json!({ "name": "values", "mountPath": "/password", "subPath": "password", "readOnly": true });
    mounts.expect("a list").push(file);
    let pod = NodePod::create(&site.namespace, spec).await;
    site.wait_until_ready(&pod).await;
    site.versions(&pod).await;
    pod
}

fn survey(site: &Site, args: &[&str]) -> (Option<i32>, serde_json::Value) {
    pods::survey(site.plane, &site.namespace, "db", args)
}

async fn value_in_sub_path(pod: &NodePod) -> String {
    pod.run("main", &["cat", "/password"]).await
}
