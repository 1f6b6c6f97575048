//! Tests what a control plane leaves behind, which programs it runs, and that the control planes of several test
//! processes coexist. The program `plane_user` acts as a test process.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use rustix::process::Signal;
use serde_json::json;
use tests::control_plane;
use tests::guarded::{self, Guarded};
use tests::patience;
use tests::scratch::Scratch;

#[tokio::test]
async fn leaves_nothing_after_a_passing_run() {
    let mut user = User::start("pass", &[]);
    let plane = user.plane().await;
    assert!(user.wait().success());
    user.assert_nothing_left(Some(&plane)).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_failing_run() {
    let mut user = User::start("fail", &[]);
    let plane = user.plane().await;
    assert_eq!(user.wait().code(), Some(101), "the exit code of a panic");
    user.assert_nothing_left(Some(&plane)).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill() {
    let mut user = User::start("wait", &[]);
    let plane = user.plane().await;
    user.process.signal(Signal::KILL);
    user.assert_nothing_left(Some(&plane)).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill_during_the_start() {
    let mut user = User::start("wait", &[]);
    patience::until("etcd is started", async || {
        user.command_lines().contains(" etcd ").then_some(())
    })
    .await;
    user.process.signal(Signal::KILL);
    user.assert_nothing_left(None).await;
}

#[tokio::test]
async fn leaves_nothing_after_a_kill_while_the_api_server_is_paused() {
    let mut user = User::start("pause", &[]);
    let plane = user.plane().await;
    user.process.signal(Signal::KILL);
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
    left.process.signal(Signal::KILL);
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
    assert!(guest.wait().success(), "{}", guest.errors());
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
    let mut user = User::start("pass", &[("PATH", Path::new("/none"))]);
    assert!(!user.wait().success());
    assert!(
        user.errors().contains("install Go 1.26"),
        "{}",
        user.errors()
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

/// The program `plane_user`, with its own folder for temporary files, so that all its processes have that
/// folder's path in their arguments.
struct User {
    process: Guarded,
    folder: Scratch,
}

impl User {
    fn start(outcome: &str, environment: &[(&str, &Path)]) -> Self {
        let folder = Scratch::new();
        let temporary = folder.path().join("temporary");
        fs::create_dir(&temporary).unwrap();
        let mut command = guarded::command(env!("CARGO_BIN_EXE_plane_user"));
        command
            .arg(outcome)
            .env_remove("TEST_KUBECONFIG")
            .env_remove("KUBEBUILDER_ASSETS")
            .env("TMPDIR", temporary)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("stderr")).unwrap());
        Self {
            process: Guarded::spawn(&mut command).unwrap(),
            folder,
        }
    }

    /// Waits until the process has started its control plane.
    async fn plane(&mut self) -> Plane {
        let mut line = String::new();
        BufReader::new(self.process.stdout().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(
            !line.is_empty(),
            "no control plane was started:\n{}",
            self.errors()
        );
        Plane::from_kubeconfig(line.trim_end().into()).await
    }

    fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    fn temporary_folder(&self) -> PathBuf {
        self.folder.path().join("temporary")
    }

    /// Returns the process IDs and command lines of the user's processes, one per line.
    fn command_lines(&self) -> String {
        let ps = Command::new("ps")
            .args(["-A", "-ww", "-o", "pid=,args="])
            .output();
        let ps = ps
            .expect("the program `ps` is needed: Debian has it in the package procps")
            .stdout;
        let processes = String::from_utf8_lossy(&ps);
        let temporary = self.temporary_folder();
        let own_lines: Vec<_> = processes
            .lines()
            .filter(|line| line.contains(temporary.to_str().unwrap()))
            .collect();
        own_lines.join("\n")
    }

    /// Waits until the process has exited, and asserts that no process, temporary file or open port is left.
    async fn assert_nothing_left(&mut self, plane: Option<&Plane>) {
        self.wait();
        patience::until("the processes have exited", async || {
            self.command_lines().is_empty().then_some(())
        })
        .await;
        let files = async || {
            fs::read_dir(self.temporary_folder())
                .unwrap()
                .next()
                .is_none()
                .then_some(())
        };
        patience::until("the temporary files are deleted", files).await;
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
