//! Runs the real CSI driver, built from its Go module.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::DRIVER;
use crate::control_plane::ControlPlane;
use crate::guarded::GuardedProcess;
use crate::node::Node;
use crate::patience::until;
use crate::{go_build, operators};

const MODULE: &str = "sigs.k8s.io/secrets-store-csi-driver";

/// The directory with the sockets of providers, relative to the directory that a node shares with the machine.
const PROVIDERS: &str = "providers";

/// The driver's minimum time between two refreshes of a volume: the value that `deploy/docs/csi.md` recommends.
const POLL_INTERVAL: &str = "1s";

/// A driver that is registered with the kubelet of a node. It ends when this value is dropped, or with the node.
pub struct Driver {
    providers: PathBuf,
    log: PathBuf,
    _process: GuardedProcess,
}

impl Driver {
    /// Starts the driver on a node, and waits until it is registered with the kubelet. The first start on a machine
    /// builds it, which takes minutes.
    ///
    /// # Panics
    /// Panics with instructions if Go is missing, and with the driver's log if it contains a fatal error.
    pub async fn start(plane: &ControlPlane, node: &Node) -> Self {
        install(plane).await;
        let providers = node.shared_directory().join(PROVIDERS);
        fs::create_dir(&providers).expect("a writable directory");
        let permissions = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&providers, permissions).expect("a directory of this user");
        let program = go_build::build(&source(), ".", "csi-driver");
        fs::copy(program, node.shared_directory().join("csi-driver"))
            .expect("a writable directory");
        let driver = Self {
            providers,
            log: node.log("csi-driver"),
            _process: node.spawn("csi-driver", &command_line(&node.name())),
        };
        driver.wait_until_registered(plane, node).await;
        driver
    }

    async fn wait_until_registered(&self, plane: &ControlPlane, node: &Node) {
        let nodes: Api<CSINode> = Api::all(plane.admin());
        until("the kubelet has registered the CSI driver", async || {
            let log = self.log();
            assert!(!log.contains("\nF"), "the driver has failed:\n{log}");
            let csi = nodes.get_opt(&node.name()).await.ok()??;
            csi.spec
                .drivers
                .iter()
                .any(|driver| driver.name == DRIVER)
                .then_some(())
        })
        .await;
    }

    /// Returns the directory for the sockets of providers, as seen by processes outside the node.
    pub fn providers(&self) -> &Path {
        &self.providers
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn command_line(node: &str) -> Vec<String> {
    vec![
        "/node/settings/csi-driver".to_owned(),
        format!("--nodeid={node}"),
        "--endpoint=unix:///run/csi-driver.sock".to_owned(),
        format!("--provider-volume=/node/settings/{PROVIDERS}"),
        format!("--rotation-poll-interval={POLL_INTERVAL}"),
        "--kubeconfig=/node/settings/kubeconfig".to_owned(),
        "-v=5".to_owned(),
    ]
}

/// Installs the custom resource definitions of the driver, and its CSIDriver object, which requests tokens for the
/// controller.
async fn install(plane: &ControlPlane) {
    let directory = go_build::module_directory(&source(), MODULE).join("deploy");
    for kind in ["secretproviderclasses", "secretproviderclasspodstatuses"] {
        let path = directory.join(format!("secrets-store.csi.x-k8s.io_{kind}.yaml"));
        let text = fs::read_to_string(path).expect("the module contains its definitions");
        for object in operators::objects(&text) {
            let definition: CustomResourceDefinition =
                serde_json::from_value(object).expect("a definition");
            plane.install(&definition).await;
        }
    }
    apply(plane.admin(), &driver_object()).await;
}

fn driver_object() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": { "name": DRIVER },
        "spec": {
            "podInfoOnMount": true,
            "attachRequired": false,
            "volumeLifecycleModes": ["Ephemeral"],
            "requiresRepublish": true,
            "tokenRequests": [{ "audience": deliver::AUDIENCE }],
            "serviceAccountTokenInSecrets": true,
        },
    })
}

/// Applies the object. The Rust type `CSIDriver` is older than the API server and would drop fields.
async fn apply(client: Client, object: &Value) {
    let kind = GroupVersionKind::gvk("storage.k8s.io", "v1", "CSIDriver");
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&kind));
    let params = PatchParams::apply("tests").force();
    let applied = api.patch(DRIVER, &params, &Patch::Apply(object)).await;
    applied.expect("the API server accepts the CSIDriver");
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("csi")
}
