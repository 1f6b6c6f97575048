//! Tests that a control plane leaves nothing behind, which programs it runs, and that the control planes of several
//! test processes coexist. The program `plane_user` acts as a test process.
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
use rustix::process::Signal;
use serde_json::json;
use tests::control_plane;
use tests::observed::ObservedProgram;
use tests::patience;
use tests::scratch::Scratch;

#[tokio::test]
async fn leaves_nothing_after_a_passing_run() {
    let mut user = start("pass", &[]);
    let plane = wait_for_plane(&mut user).await;
    assert!(user.wait().success());
    assert_nothing_left(&mut user, &plane).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_failing_run() {
    let mut user = start("fail", &[]);
    let plane = wait_for_plane(&mut user).await;
    assert_eq!(user.wait().code(), Some(101), "the exit code of a panic");
    assert_nothing_left(&mut user, &plane).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill() {
    let mut user = start("wait", &[]);
    let plane = wait_for_plane(&mut user).await;
    user.signal(Signal::KILL);
    assert_nothing_left(&mut user, &plane).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill_during_the_start() {
    let mut user = start("wait", &[]);
    patience::until("etcd is started", async || {
        user.command_lines().contains(" etcd ").then_some(())
    })
    .await;
    user.signal(Signal::KILL);
    user.assert_nothing_left().await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill_while_the_api_server_is_paused() {
    let mut user = start("pause", &[]);
    let plane = wait_for_plane(&mut user).await;
    user.signal(Signal::KILL);
    assert_nothing_left(&mut user, &plane).await;
}

#[tokio::test]
async fn two_test_processes_do_not_disturb_each_other() {
    let (mut left, mut right) = (start("wait", &[]), start("wait", &[]));
    let (left_plane, right_plane) = (
        wait_for_plane(&mut left).await,
        wait_for_plane(&mut right).await,
    );
    left_plane.create("same-name").await;
    right_plane.create("same-name").await;

    left_plane
        .namespaces()
        .delete("same-name", &DeleteParams::default())
        .await
        .unwrap();
    left.signal(Signal::KILL);
    assert_nothing_left(&mut left, &left_plane).await;

    let remaining = right_plane.namespaces().get("same-name").await.unwrap();
    assert_eq!(remaining.metadata.deletion_timestamp, None);
    right_plane.create("another-name").await;
}

#[tokio::test]
async fn uses_the_cluster_of_test_kubeconfig_and_leaves_it_unchanged() {
    let mut host = start("wait", &[]);
    let cluster = wait_for_plane(&mut host).await;
    let before = cluster.namespace_names().await;

    let mut guest = start("pass", &[("TEST_KUBECONFIG", &cluster.kubeconfig)]);
    assert_eq!(
        wait_for_plane(&mut guest).await.kubeconfig,
        cluster.kubeconfig
    );
    assert!(guest.wait().success(), "{}", guest.errors());
    guest.assert_nothing_left().await;
    let if_unchanged = async || (cluster.namespace_names().await == before).then_some(());
    patience::until(
        "the namespace of the other process is deleted",
        if_unchanged,
    )
    .await;
}

#[tokio::test]
async fn refuses_to_disturb_the_cluster_of_test_kubeconfig() {
    let mut user = start("pause", &[("TEST_KUBECONFIG", Path::new("/none"))]);
    assert!(!user.wait().success());
    assert!(
        user.errors().contains("needs one of its own"),
        "{}",
        user.errors()
    );
}

#[tokio::test]
async fn uses_the_programs_of_kubebuilder_assets() {
    let assets = create_assets(&["etcd", "kube-apiserver", "kube-controller-manager"]);
    let mut user = start("wait", &[("KUBEBUILDER_ASSETS", assets.path())]);
    let plane = wait_for_plane(&mut user).await;
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
    let mut user = start("pass", &[("KUBEBUILDER_ASSETS", assets.path())]);
    assert!(!user.wait().success());
    assert!(
        user.errors()
            .contains("which does not contain kube-apiserver"),
        "{}",
        user.errors()
    );
}

#[tokio::test]
async fn reports_what_to_install_if_go_is_missing() {
    let mut user = start("pass", &[("PATH", Path::new("/none"))]);
    assert!(!user.wait().success());
    assert!(
        user.errors().contains("install Go 1.26"),
        "{}",
        user.errors()
    );
}

/// Creates a directory with programs of these names. Each program records that it was run, and then runs the program of
/// `tests/control-plane` in the same role.
fn create_assets(roles: &[&str]) -> Scratch {
    let directory = Scratch::new();
    let program = control_plane::build();
    for role in roles {
        let path = directory.path().join(role);
        let script = format!(
            "#!/bin/sh\n: >\"$0.used\"\nexec '{}' {role} \"$@\"\n",
            program.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    directory
}

fn start(outcome: &str, environment: &[(&str, &Path)]) -> ObservedProgram {
    ObservedProgram::start(env!("CARGO_BIN_EXE_plane_user"), &[outcome], environment)
}

/// Waits until the process has started its control plane.
async fn wait_for_plane(user: &mut ObservedProgram) -> Plane {
    Plane::from_kubeconfig(user.first_line().into()).await
}

/// Waits until the process has exited, and asserts that no process, temporary file or open port is left.
async fn assert_nothing_left(user: &mut ObservedProgram, plane: &Plane) {
    user.assert_nothing_left().await;
    let connection = TcpStream::connect(plane.address.as_str()).map_err(|error| error.kind());
    assert_eq!(
        connection.err(),
        Some(ErrorKind::ConnectionRefused),
        "{}",
        plane.address
    );
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
