//! Starts a Kubernetes control plane for manual experiments: prints how to reach it, and runs until Ctrl-C.
//!
//! The custom resource is installed, and our controller works in all namespaces, behind the Service where `kubeseal`
//! expects it. A node for Pods is optional.

use std::path::Path;
use std::process::ExitCode;

use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::node::{BUSYBOX, Node};

const USAGE: &str = "Usage: playground [--node [ARCHIVE...]]

Starts etcd, kube-apiserver, kube-controller-manager and the controller of this repository, which it builds first,
and prints `export KUBECONFIG=...`. Press Ctrl-C to stop; nothing is kept.

    --node    also start a node, on which Pods run. Needs root. Its images are docker.io/library/busybox:tests and
              those in the archives, in the OCI layout: deploy/scripts/image.sh writes one.";

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let archives = match args.split_first() {
        None => None,
        Some((first, archives)) if first == "--node" => Some(archives),
        Some((first, _)) => {
            println!("{USAGE}");
            let is_help = first == "--help" || first == "-h";
            return Ok(ExitCode::from(if is_help { 0 } else { 2 }));
        }
    };
    let plane = ControlPlane::shared().await;
    let system = plane.kube_system();
    let args = ["--all-namespaces=true"];
    let controller =
        ClusterController::start_quietly(plane.kubeconfig(), system.name(), &args).await;
    if let (true, Some(port)) = (plane.is_own(), controller.port()) {
        system.route("sealed-secrets-controller", port).await;
    }
    let _node = match archives {
        Some(archives) => Some(start_node(plane, archives).await),
        None => None,
    };
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("press Ctrl-C to stop the cluster; nothing is kept");
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}

async fn start_node(plane: &ControlPlane, archives: &[String]) -> Node {
    let node = Node::start(plane).await;
    for archive in archives {
        node.import(Path::new(archive));
    }
    eprintln!("Pods run; try `kubectl run try --image={BUSYBOX} -- sleep 600`");
    node
}
