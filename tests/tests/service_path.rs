//! The path by which `kubeseal` reaches a controller in a cluster: API server, service proxy, Service.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::process::{Command, Output};

use shared::resource::SealedSecret;
use tests::binaries;
use tests::control_plane::ControlPlane;
use tests::directory_controller::DirectoryController;
use tests::peer;

const SECRET: &str = "{\"kind\": \"Secret\", \"metadata\": {\"name\": \"db\", \"namespace\": \"shop\"}, \
                      \"stringData\": {\"password\": \"hunter2\"}}";

#[tokio::test]
async fn the_peers_kubeseal_seals_through_the_api_server_for_our_controller() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("service-path").await;
    let controller = DirectoryController::start();
    namespace.route("sealed-secrets", controller.port()).await;
    let folder = controller.folder();
    std::fs::write(folder.join("secret.json"), SECRET).unwrap();

    let mut peer = Command::new(peer::peer_kubeseal());
    peer.env("KUBECONFIG", plane.kubeconfig())
        .args([
            "--controller-name",
            "sealed-secrets",
            "--controller-namespace",
        ])
        .arg(namespace.name())
        .arg("--secret-file")
        .arg(folder.join("secret.json"));
    let sealed = successful(peer.output().unwrap());
    let fetched = successful(peer.arg("--fetch-cert").output().unwrap());

    let url = format!("http://127.0.0.1:{}/v1/cert.pem", controller.port());
    let direct = Command::new(binaries::kubeseal())
        .args(["--fetch-cert", "--cert", &url])
        .output();
    assert_eq!(
        fetched,
        successful(direct.unwrap()),
        "both paths give one certificate"
    );

    std::fs::write(folder.join("db.json"), &sealed).unwrap();
    let by_peer = |verb: &str, file: &str| {
        let mut peer = Command::new(peer::peer_kubeseal());
        peer.env("KUBECONFIG", plane.kubeconfig())
            .args(["--controller-name", "sealed-secrets"])
            .args(["--controller-namespace", namespace.name()])
            .args([verb, "-o", "json"])
            .stdin(File::open(folder.join(file)).unwrap());
        peer.output().unwrap()
    };
    successful(by_peer("--validate", "db.json"));
    let again = successful(by_peer("--re-encrypt", "db.json"));
    let again: SealedSecret = serde_json::from_slice(&again).unwrap();
    let sent: SealedSecret = serde_json::from_slice(&sealed).unwrap();
    assert_eq!(again.spec, sent.spec, "it is for the newest key already");
    let mut moved = sent;
    moved.metadata.name = Some("other".into());
    std::fs::write(folder.join("moved.json"), moved.to_document().to_string()).unwrap();
    let refused = by_peer("--validate", "moved.json");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("unable to decrypt sealed secret"), "{said}");

    std::fs::write(folder.join("sealed/db.json"), sealed).unwrap();
    let value = folder.join("secrets/shop/db/password");
    let opened = || async { std::fs::read(&value).ok() };
    assert_eq!(
        tests::patience::until("the value is there", opened).await,
        b"hunter2"
    );
}

fn successful(output: Output) -> Vec<u8> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
