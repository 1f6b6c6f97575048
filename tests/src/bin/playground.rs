//! Starts a Kubernetes control plane for manual experiments: prints how to reach it, and runs until Ctrl-C.
//!
//! The custom resource is installed, and our controller works in all namespaces, behind the Service where `kubeseal`
//! expects it.

use std::process::ExitCode;

use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;

const USAGE: &str = "Usage: playground

Starts etcd, kube-apiserver, kube-controller-manager and the controller of this repository, which it builds first,
and prints `export KUBECONFIG=...`. Ends with Ctrl-C; nothing is kept.";

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let first = std::env::args().nth(1);
    if let Some(first) = first {
        let is_asked = first == "--help" || first == "-h";
        println!("{USAGE}");
        return Ok(ExitCode::from(if is_asked { 0 } else { 2 }));
    }
    let plane = ControlPlane::shared().await;
    let system = plane.kube_system();
    let everywhere = ["--all-namespaces=true"];
    let controller =
        ClusterController::start_quietly(plane.kubeconfig(), system.name(), &everywhere).await;
    if let (true, Some(port)) = (plane.is_own(), controller.port()) {
        system.route("sealed-secrets-controller", port).await;
    }
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("the cluster is gone after Ctrl-C");
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}
