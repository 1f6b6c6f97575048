//! Starts a Kubernetes control plane for manual experiments: prints how to reach it, and runs until Ctrl-C.
//!
//! The custom resource is installed, and our controller works in all namespaces, behind the Service where `kubeseal`
//! expects it.

use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let plane = ControlPlane::shared().await;
    let system = plane.kube_system();
    let everywhere = ["--all-namespaces=true"];
    let controller =
        ClusterController::start_quietly(plane.kubeconfig(), system.name(), &everywhere).await;
    if let (true, Some(port)) = (plane.is_own(), controller.port()) {
        system.route("sealed-secrets-controller", port).await;
    }
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("Ctrl-C deletes the cluster");
    tokio::signal::ctrl_c().await
}
