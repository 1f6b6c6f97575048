//! A Kubernetes control plane to play with: prints how to reach it, and stays until Ctrl-C.
//!
//! The custom resource is installed, and our controller answers behind the Service where `kubeseal`
//! looks for it. It serves a directory of its own until it can serve a cluster.

use tests::control_plane::ControlPlane;
use tests::directory_controller::DirectoryController;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let plane = ControlPlane::shared().await;
    let controller = plane.is_own().then(DirectoryController::start);
    if let Some(controller) = &controller {
        let system = plane.kube_system();
        system
            .route("sealed-secrets-controller", controller.port())
            .await;
        let folder = controller.folder();
        eprintln!("the controller serves {}", folder.join("sealed").display());
    }
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("the cluster is gone after Ctrl-C");
    tokio::signal::ctrl_c().await
}
