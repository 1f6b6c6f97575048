//! Tests what a control plane leaves behind, which programs it runs, and that the control planes of several test
//! processes coexist. The program `plane_user` acts as a test process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use tests::control_plane;
use tests::patience;
use tests::scratch::Scratch;
use tests::test_process::TestProcess;

#[tokio::test]
async fn leaves_nothing_after_a_passing_run() {
    let mut user = User::start("pass", &[]);
    let plane = user.plane().await;
    assert!(user.0.wait().success());
    user.assert_nothing_left(Some(&plane)).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_failing_run() {
    let mut user = User::start("fail", &[]);
    let plane = user.plane().await;
    assert_eq!(user.0.wait().code(), Some(101), "the exit code of a panic");
    user.assert_nothing_left(Some(&plane)).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill() {
    let mut user = User::start("wait", &[]);
    let plane = user.plane().await;
    user.0.kill();
    user.assert_nothing_left(Some(&plane)).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill_during_the_start() {
    let mut user = User::start("wait", &[]);
    patience::until("etcd is started", async || {
        user.0.processes().contains(" etcd ").then_some(())
    })
    .await;
    user.0.kill();
    user.assert_nothing_left(None).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill_while_the_api_server_is_paused() {
    let mut user = User::start("pause", &[]);
    let plane = user.plane().await;
    user.0.kill();
    user.assert_nothing_left(Some(&plane)).await;
}

#[tokio::test]
async fn two_test_processes_do_not_disturb_each_other() {
    let (mut left, mut right) = (User::start("wait", &[]), User::start("wait", &[]));
    let (left_plane, right_plane) = (left.plane().await, right.plane().await);
    left_plane.create("same-name").await;
    right_plane.create("same-name").await;

    left_plane
        .namespaces()
        .delete("same-name", &DeleteParams::default())
        .await
        .unwrap();
    left.0.kill();
    left.assert_nothing_left(Some(&left_plane)).await;

    let kept = right_plane.namespaces().get("same-name").await.unwrap();
    assert_eq!(kept.metadata.deletion_timestamp, None);
    right_plane.create("another-name").await;
}

#[tokio::test]
async fn uses_the_cluster_of_test_kubeconfig_and_leaves_it_unchanged() {
    let mut host = User::start("wait", &[]);
    let cluster = host.plane().await;
    let before = cluster.namespace_names().await;

    let mut guest = User::start("pass", &[("TEST_KUBECONFIG", &cluster.kubeconfig)]);
    assert_eq!(guest.plane().await.kubeconfig, cluster.kubeconfig);
    assert!(guest.0.wait().success(), "{}", guest.0.errors());
    guest.assert_nothing_left(None).await;
    let if_unchanged = async || (cluster.namespace_names().await == before).then_some(());
    patience::until(
        "the namespace of the other process is deleted",
        if_unchanged,
    )
    .await;
}

#[tokio::test]
async fn refuses_to_disturb_the_cluster_of_test_kubeconfig() {
    let mut user = User::start("pause", &[("TEST_KUBECONFIG", Path::new("/none"))]);
    assert!(!user.0.wait().success());
    assert!(
        user.0.errors().contains("needs one of its own"),
        "{}",
        user.0.errors()
    );
}

#[tokio::test]
async fn uses_the_programs_of_kubebuilder_assets() {
    let assets = create_assets(&["etcd", "kube-apiserver", "kube-controller-manager"]);
    let mut user = User::start("wait", &[("KUBEBUILDER_ASSETS", assets.path())]);
    let plane = user.plane().await;
    plane.create("any").await;
    for role in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        assert!(
            assets.path().join(format!("{role}.used")).exists(),
            "{role}"
        );
    }
}

#[tokio::test]
async fn reports_which_program_kubebuilder_assets_lacks() {
    let assets = create_assets(&["etcd"]);
    let mut user = User::start("pass", &[("KUBEBUILDER_ASSETS", assets.path())]);
    assert!(!user.0.wait().success());
    assert!(
        user.0
            .errors()
            .contains("which does not contain kube-apiserver"),
        "{}",
        user.0.errors()
    );
}

#[tokio::test]
async fn reports_what_to_install_if_go_is_missing() {
    let mut user = User::start("pass", &[("PATH", Path::new("/none"))]);
    assert!(!user.0.wait().success());
    assert!(
        user.0.errors().contains("install Go 1.26"),
        "{}",
        user.0.errors()
    );
}

/// Creates a folder with programs of these names. Each records that it was run, and then runs this project's program in
/// the same role.
fn create_assets(roles: &[&str]) -> Scratch {
    let folder = Scratch::new();
    let program = control_plane::build();
    for role in roles {
        let path = folder.path().join(role);
        let script = format!(
            "#!/bin/sh\n: >\"$0.used\"\nexec '{}' {role} \"$@\"\n",
            program.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    folder
}

/// The program `plane_user`.
struct User(TestProcess);

impl User {
    fn start(outcome: &str, environment: &[(&str, &Path)]) -> Self {
        let program = env!("CARGO_BIN_EXE_plane_user");
        Self(TestProcess::start(program, &[outcome], environment))
    }

    /// Waits until the process has started its control plane.
    async fn plane(&mut self) -> Plane {
        Plane::from_kubeconfig(self.0.first_line().into()).await
    }

    /// Waits until the process has exited, and asserts that no process, temporary file or open port is left.
    async fn assert_nothing_left(&mut self, plane: Option<&Plane>) {
        self.0.wait_until_nothing_is_left().await;
        if let Some(plane) = plane {
            let connection =
                TcpStream::connect(plane.address.as_str()).map_err(|error| error.kind());
            assert_eq!(
                connection.err(),
                Some(ErrorKind::ConnectionRefused),
                "{}",
                plane.address
            );
        }
    }
}

/// The control plane of another process, accessed through its kubeconfig.
struct Plane {
    kubeconfig: PathBuf,
    address: String,
    client: Client,
}

impl Plane {
    async fn from_kubeconfig(kubeconfig: PathBuf) -> Self {
        let content = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(content, &KubeConfigOptions::default())
            .await
            .unwrap();
        let address = config.cluster_url.authority().unwrap().to_string();
        Self {
            kubeconfig,
            address,
            client: Client::try_from(config).unwrap(),
        }
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    async fn create(&self, name: &str) {
        let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        self.namespaces()
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    async fn namespace_names(&self) -> Vec<String> {
        let list = self
            .namespaces()
            .list(&ListParams::default())
            .await
            .unwrap();
        list.iter().map(ResourceExt::name_any).collect()
    }
}
