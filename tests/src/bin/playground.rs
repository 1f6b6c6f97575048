//! Starts a Kubernetes control plane for manual experiments: prints how to reach it, and runs until Ctrl-C.
//!
//! The custom resource is installed, and our controller works in all namespaces, behind the Service where `kubeseal`
//! expects it.

use std::process::ExitCode;

use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;

const USAGE: &str = "Usage: playground

Starts etcd, kube-apiserver, kube-controller-manager and the controller of this repository, which it builds first,
and prints `export KUBECONFIG=...`. Press Ctrl-C to stop; nothing is kept.";

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let first = std::env::args().nth(1);
    if let Some(first) = first {
        let is_help = first == "--help" || first == "-h";
        println!("{USAGE}");
        return Ok(ExitCode::from(if is_help { 0 } else { 2 }));
    }
    let plane = ControlPlane::shared().await;
    let system = plane.kube_system();
    let args = ["--all-namespaces=true"];
    let controller =
        ClusterController::start_quietly(plane.kubeconfig(), system.name(), &args).await;
    if let (true, Some(port)) = (plane.is_own(), controller.port()) {
        system.route("sealed-secrets-controller", port).await;
    }
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("press Ctrl-C to stop the cluster; nothing is kept");
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}
