//! Starts a Kubernetes control plane for manual experiments: prints how to reach it, and runs until Ctrl-C.
//!
//! The custom resource is installed, and our controller works in all namespaces, behind the Service where `kubeseal`
//! expects it.

use std::process::ExitCode;

use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::flux::{Flux, Sync};

const USAGE: &str = "Usage: playground [--flux]

Starts etcd, kube-apiserver, kube-controller-manager and the controller of this repository, which it builds first,
and prints `export KUBECONFIG=...`. Press Ctrl-C to stop; nothing is kept.

  --flux  Also start Flux, which applies a Git repository to the cluster every 10 seconds, and print how to clone it";

/// The first file of the repository, because Flux refuses to apply nothing.
const FIRST_FILE: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: from-git
  namespace: default
data:
  hint: add SealedSecrets to this repository
";

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let with_flux = args == ["--flux"];
    if !with_flux && !args.is_empty() {
        let is_help = args[0] == "--help" || args[0] == "-h";
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
    let _flux = if with_flux {
        Some(start_flux(plane).await)
    } else {
        None
    };
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("press Ctrl-C to stop the cluster; nothing is kept");
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
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
