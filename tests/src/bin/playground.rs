//! A Kubernetes control plane to play with: prints how to reach it, and stays until Ctrl-C.

use tests::control_plane::ControlPlane;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let plane = ControlPlane::shared().await;
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("the cluster is gone after Ctrl-C");
    tokio::signal::ctrl_c().await
}
