//! The settings of containerd and the kubelet.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::image;
use crate::control_plane::ControlPlane;

/// Writes the files that the node's processes read. Their paths in the node begin with `/node/settings`.
pub(super) fn write(directory: &Path, packages: &Path, plane: &ControlPlane, number: u8) {
    let store = |name: &str, content: &[u8]| {
        fs::write(directory.join(name), content).expect("a writable directory");
    };
    fs::create_dir_all(directory.join("network")).expect("a writable directory");
    store("containerd.toml", CONTAINERD.as_bytes());
    store(
        "network/pods.conflist",
        network(number).to_string().as_bytes(),
    );
    store("kubelet.json", kubelet().to_string().as_bytes());
    store("kubeconfig", plane.kubeconfig_in_node().as_bytes());
    store("authority.crt", &plane.authority());
    image::pack_busybox(packages, &directory.join("busybox.tar"));
}

/// The configuration of containerd, without systemd and `AppArmor`. Containers get no lower out-of-memory score than
/// containerd. The disabled plugins need other kinds of storage.
const CONTAINERD: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/busybox:tests"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/node/settings/network"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#;

/// Returns the network configuration that connects Pods to the node's bridge. Pods reach the node, each other and, at
/// its Service, the API server.
fn network(number: u8) -> Value {
    let addresses = json!({
        "type": "host-local",
        "dataDir": "/run/addresses",
        "ranges": [[{ "subnet": format!("10.88.{number}.0/24") }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let bridge =
        json!({ "type": "bridge", "bridge": "pods", "isGateway": true, "ipam": addresses });
    json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [bridge] })
}

/// Returns the configuration of a kubelet that creates no control groups except for containers, evicts nothing,
/// and accepts requests only with a certificate that the plane's CA issued.
fn kubelet() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": "/node/settings/authority.crt" },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": false,
        "volumePluginDir": "/var/lib/kubelet/plugins",
    })
}
