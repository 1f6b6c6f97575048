//! Starts a Kubernetes control plane for manual experiments: prints how to reach it, and runs until Ctrl-C.
//!
//! The custom resource is installed, and the controller works in all namespaces, behind the Service where `kubeseal`
//! expects it. A node for Pods, delivery of values to their volumes, and Flux are optional.

use std::path::PathBuf;
use std::process::ExitCode;

use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::csi::{Driver, Provider};
use tests::flux::{Flux, Sync};
use tests::node::{BUSYBOX, Node};
use tests::patience::until;

const USAGE: &str = "Usage: playground [--flux] [--node [ARCHIVE...] [--deliver]]

Starts etcd, kube-apiserver, kube-controller-manager and the controller of this repository, which it builds first,
and prints `export KUBECONFIG=...`. Press Ctrl-C to stop; nothing is kept.

    --flux    also start Flux, which applies a Git repository to the cluster every 10 seconds, and print how to clone it
    --node    also start a node, on which Pods run. Needs root. Its images are docker.io/library/busybox:tests and
              those in the archives, in the OCI layout: deploy/scripts/image.sh writes one. Pods have no DNS, and reach
              no Service except that of the API server.
    --deliver also deliver values to Pods without Secrets: start the Secrets Store CSI driver and `seal-deliver node` on
              the node, and open the TLS port of the controller. Volumes of a SecretProviderClass with the provider
              `sealed` work as in deploy/docs/csi.md. Pods themselves do not reach the controller, so `seal-deliver
              agent` and `seal-deliver exec` do not work in them.";

/// The first file of the repository, because Flux refuses to apply nothing.
const FIRST_FILE: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: from-git
  namespace: default
data:
  hint: add SealedSecrets to this repository
";

/// What to start besides the control plane.
#[derive(Default)]
struct Options {
    has_flux: bool,
    /// The image archives for a node; `None` to start no node.
    node: Option<Vec<PathBuf>>,
    /// Whether values are delivered to volumes of the node's Pods.
    delivers: bool,
}

impl Options {
    /// Returns `None` for other arguments than those in [`USAGE`].
    fn parse(args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self::default();
        for arg in args {
            match (arg.as_str(), &mut options.node) {
                ("--flux", _) => options.has_flux = true,
                ("--deliver", _) => options.delivers = true,
                ("--node", node @ None) => *node = Some(Vec::new()),
                (path, Some(archives)) if !path.starts_with('-') => archives.push(path.into()),
                _ => return None,
            }
        }
        (options.node.is_some() || !options.delivers).then_some(options)
    }

    fn controller_args(&self) -> &[&str] {
        const DELIVERY: &[&str] = &["--listen-authorized-addr=127.0.0.1:0"];
        if self.delivers { DELIVERY } else { &[] }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        println!("{USAGE}");
        let is_help = std::env::args().any(|arg| arg == "--help" || arg == "-h");
        return Ok(ExitCode::from(if is_help { 0 } else { 2 }));
    };
    let plane = ControlPlane::shared().await;
    let system = plane.kube_system();
    let args = [&["--all-namespaces=true"][..], options.controller_args()].concat();
    let controller =
        ClusterController::start_quietly(plane.kubeconfig(), system.name(), &args).await;
    if let (true, Some(port)) = (plane.is_own(), controller.port()) {
        system.route("sealed-secrets-controller", port).await;
    }
    let node = match &options.node {
        Some(archives) => Some(start_node(plane, archives).await),
        None => None,
    };
    let _provider = match &node {
        Some(node) if options.delivers => Some(start_delivery(plane, node, &controller).await),
        _ => None,
    };
    let _flux = if options.has_flux {
        Some(start_flux(plane).await)
    } else {
        None
    };
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("press Ctrl-C to stop the cluster; nothing is kept");
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}

async fn start_node(plane: &ControlPlane, archives: &[PathBuf]) -> Node {
    let node = Node::start(plane).await;
    for archive in archives {
        node.import(archive);
    }
    eprintln!("the node is ready for Pods; try `kubectl run try --image={BUSYBOX} -- sleep 600`");
    node
}

/// Starts the CSI driver on the node, and a provider, through which the controller delivers values.
async fn start_delivery(
    plane: &ControlPlane,
    node: &Node,
    controller: &ClusterController,
) -> (Driver, Provider) {
    let port = until("the controller opens its TLS port", async || {
        controller.authorized_port()
    });
    let (port, authority) = (port.await, controller.authority().await);
    let driver = Driver::start(plane, node).await;
    let provider = Provider::start(&driver, class::PROVIDER, port, &authority).await;
    eprintln!("values are delivered to volumes; the example is in deploy/docs/csi.md");
    (driver, provider)
}

/// Starts Flux with a repository, and prints how to clone it.
async fn start_flux(plane: &ControlPlane) -> Flux {
    let flux = Flux::start(plane).await;
    let repository = flux.repository("playground");
    repository.write("from-git.yaml", FIRST_FILE);
    repository.push("Begin");
    let namespace = plane.existing("default");
    Sync::create(&namespace, "playground", &repository, "10s").await;
    println!("git clone {}", repository.bare().display());
    flux
}
