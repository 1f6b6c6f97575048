//! Runs the lifecycle test with the controller of an image: `image_smoke ARCHIVE`
//!
//! Unpacks the OCI archive into an empty directory, which becomes the read-only root directory of the user 1001. Needs
//! root permissions for chroot.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "only developers run this"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::control_plane::ControlPlane;
use tests::deployed::{DeployedController, Program};
use tests::lifecycle::User;
use tests::operators::{self, run_successfully};
use tests::scratch::Scratch;

const HOME: &str = "kube-system";

const NAME: &str = "sealed-secrets-controller";

#[tokio::main]
async fn main() {
    let archive = std::env::args().nth(1).expect("image_smoke ARCHIVE");
    let scratch = Scratch::new();
    let root = unpack(Path::new(&archive), scratch.path());
    for program in ["controller", "kubeseal", "seal", "seal-deliver"] {
        let mut command = Command::new("chroot");
        command.args(["--userspec=1001:0"]).arg(&root);
        let printed = run_successfully(
            command
                .arg(format!("/usr/local/bin/{program}"))
                .arg("--version"),
        );
        println!("{}", printed.trim());
    }

    let plane = ControlPlane::start().await;
    let manifests =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/controller.yaml");
    let mut kubectl = Command::new(operators::kubectl());
    kubectl
        .env("KUBECONFIG", plane.kubeconfig())
        .args(["apply", "--server-side", "--force-conflicts", "-f"])
        .arg(manifests);
    run_successfully(&mut kubectl);
    let controller = DeployedController::start(&plane, HOME, NAME, Program::InRoot(root)).await;
    let user = User::new(&plane, HOME, NAME).await;
    user.run_lifecycle(&controller).await;
    println!("the image passes the lifecycle test");
}

/// Unpacks the files of the image for amd64, or else of the first image in the archive; returns their directory.
fn unpack(archive: &Path, directory: &Path) -> PathBuf {
    let (layout, root) = (directory.join("layout"), directory.join("root"));
    for new_directory in [&layout, &root] {
        fs::create_dir(new_directory).unwrap();
    }
    run_successfully(
        Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(&layout),
    );
    let mut manifest = read(&layout.join("index.json"));
    while manifest["layers"].is_null() {
        let entries = manifest["manifests"].as_array().unwrap();
        let is_amd64 = |entry: &&Value| entry["platform"]["architecture"] == "amd64";
        let entry = entries.iter().find(is_amd64).or(entries.first()).unwrap();
        manifest = read(&blob(&layout, entry));
    }
    for layer in manifest["layers"].as_array().unwrap() {
        let layer = blob(&layout, layer);
        run_successfully(
            Command::new("tar")
                .arg("-xzf")
                .arg(layer)
                .arg("-C")
                .arg(&root),
        );
    }
    let config = read(&blob(&layout, &manifest["config"]));
    assert_eq!(config["config"]["User"], "1001");
    assert_eq!(config["config"]["Entrypoint"][0], "controller");
    root
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
