//! A real node for tests: the kubelet, containerd and runc, in separate namespaces and control groups, so that the Pods
//! of a control plane run.
//!
//! [`Node::start`] requires root; use it only in tests that need containers. Pods have logs, commands, volumes and
//! environment variables as in any cluster, and one network for each node. They reach the API server at its Service,
//! and no other address outside the node. [`BUSYBOX`] is the only image until [`Node::import`] adds another.

mod control_groups;
pub mod image;
mod node_pod;
mod packages;
mod pod_logs;
mod postgresql;
mod requirements;
mod settings;

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use k8s_openapi::api::core::v1 as core;
use kube::Api;

pub use image::BUSYBOX;
pub use node_pod::{NodePod, container_status};
pub use pod_logs::PodLogs;
pub use postgresql::PostgreSql;

use crate::control_plane::{self, ControlPlane, KUBERNETES_SERVICE, PodNetwork};
use crate::guarded::{self, GuardedProcess};
use crate::network_namespace::NetworkNamespace;
use crate::operators::run_successfully;
use crate::progress::print_progress;
use crate::scratch::Scratch;
use crate::{patience, tunnel};
use control_groups::ControlGroups;

/// A running node. When this value is dropped or this process ends, the node ends as after a loss of power: its
/// processes are killed, including its Pods, and its mounts, control groups, network and files are removed. The cluster
/// keeps its objects.
pub struct Node {
    number: u8,
    network: PodNetwork,
    process: GuardedProcess,
    _forwarder: ApiServerForwarder,
    groups: ControlGroups,
    directory: Scratch,
}

impl Node {
    /// Starts a node of this control plane, and waits until it is ready for Pods.
    ///
    /// The first call on a machine downloads Debian's packages for it. The first node of a plane also starts a
    /// scheduler and more controllers, so that Deployments and Services work too. These are processes of the plane and
    /// end with it.
    ///
    /// # Panics
    /// Panics with instructions if the machine lacks something, and with the node's logs if the node exits early.
    pub async fn start(plane: &ControlPlane) -> Self {
        requirements::check();
        let start = Instant::now();
        let network = plane.enable_nodes();
        let number = network.next_number();
        let mut starting = StartingNode::new(plane, number);
        let forwarder = starting.start_forwarder(api_server(plane)).await;
        network.add_node(number, starting.namespace());
        starting.become_ready(plane, number).await;
        let seconds = start.elapsed().as_secs_f32();
        print_progress(&format!("node {number} was ready after {seconds:.1} s"));
        Self {
            number,
            network: network.clone(),
            process: starting.process,
            _forwarder: forwarder,
            groups: starting.groups,
            directory: starting.directory,
        }
    }

    /// Returns the name of the node's object.
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// Adds the images of an OCI archive.
    ///
    /// # Panics
    /// Panics if containerd cannot read the archive.
    pub fn import(&self, archive: &Path) {
        let archive =
            File::open(archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        run_successfully(
            self.command("ctr")
                .args(["--namespace=k8s.io", "images", "import", "-"])
                .stdin(archive),
        );
    }

    /// Kills the first process of a container, as the kernel does when memory runs out. `id` is the container ID in the
    /// Pod's status.
    ///
    /// # Panics
    /// Panics if the container is not running.
    pub fn kill(&self, id: &str) {
        let id = id.trim_start_matches("containerd://");
        run_successfully(self.command("ctr").args([
            "--namespace=k8s.io",
            "tasks",
            "kill",
            "--signal=KILL",
            id,
        ]));
    }

    /// Returns the directory whose files the node's processes see in `/node/settings`.
    pub(crate) fn shared_directory(&self) -> PathBuf {
        self.directory.path().join("settings")
    }

    /// Returns the path of a log that the node's processes write.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory
            .path()
            .join("log")
            .join(format!("{name}.log"))
    }

    /// Starts a process among those of the node, which logs to [`Self::log`]. It ends when the returned value is
    /// dropped, or with the node.
    pub(crate) fn spawn(&self, name: &str, command_line: &[String]) -> GuardedProcess {
        let output = File::create(self.log(name)).expect("a writable directory");
        let process = self.process.id();
        let mut command = guarded::command("nsenter");
        for namespace in ["mount=mnt", "net=net", "pid=pid_for_children"] {
            let (option, file) = namespace.split_once('=').expect("a pair");
            command.arg(format!("--{option}=/proc/{process}/ns/{file}"));
        }
        command
            .args(command_line)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdout(self.groups.lease())
            .stderr(output);
        GuardedProcess::spawn(&mut command).expect("/bin/sh can be started")
    }

    /// Returns whether a line of the node's mount table contains this part of a path.
    ///
    /// # Panics
    /// Panics if the node is not running.
    pub fn has_mount(&self, part_of_path: &str) -> bool {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.process.id()));
        let mounts = mounts.expect("the node is running");
        mounts.lines().any(|line| line.contains(part_of_path))
    }

    /// Returns a command that runs a program from `/usr/bin` of the node, in the node's mount namespace.
    fn command(&self, program: &str) -> Command {
        let process = self.process.id();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{process}/ns/mnt"))
            .arg(format!("/usr/bin/{program}"));
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.network.remove_node(self.number);
    }
}

/// A node whose first process is running, but which may not be ready for Pods yet.
struct StartingNode {
    process: GuardedProcess,
    groups: ControlGroups,
    directory: Scratch,
}

impl StartingNode {
    fn new(plane: &ControlPlane, number: u8) -> Self {
        let (packages, program) = (packages::unpacked(), control_plane::build());
        let directory = Scratch::new();
        let name = directory.path().file_name().and_then(|name| name.to_str());
        let groups = ControlGroups::create(name.expect("mktemp names the directory"));
        settings::write(&directory.path().join("settings"), &packages, plane, number);
        fs::create_dir(directory.path().join("log")).expect("a writable directory");
        let output =
            File::create(directory.path().join("log/start.log")).expect("a writable directory");
        let mut command = guarded::command("/bin/sh");
        command
            .arg(script("boot.sh"))
            .args([directory.path(), &packages, &program])
            .arg(number.to_string())
            .args(groups.hierarchies())
            .stdout(groups.lease())
            .stderr(output);
        let process = GuardedProcess::spawn(&mut command).expect("/bin/sh can be started");
        Self {
            process,
            groups,
            directory,
        }
    }

    fn namespace(&self) -> NetworkNamespace {
        NetworkNamespace::of(self.process.id()).expect("the process is running")
    }

    /// Waits until the node has its network, and forwards connections from there to the API server.
    async fn start_forwarder(&mut self, api_server: SocketAddr) -> ApiServerForwarder {
        let listener = patience::until("the node has a network", async || {
            self.assert_running();
            self.namespace().listen(KUBERNETES_SERVICE.into()).ok()
        })
        .await;
        ApiServerForwarder::start(listener, api_server)
    }

    async fn become_ready(&mut self, plane: &ControlPlane, number: u8) {
        let nodes: Api<core::Node> = Api::all(plane.admin());
        patience::until("the node is ready", async || {
            self.assert_running();
            let node = nodes.get_opt(&name(number)).await.ok()??;
            is_ready(&node).then_some(())
        })
        .await;
    }

    fn assert_running(&mut self) {
        if let Some(status) = self.process.try_wait() {
            let logs =
                ["start.log", "containerd.log", "kubelet.log"].map(|name| self.end_of_log(name));
            panic!("the node exited early ({status}):\n{}", logs.concat());
        }
    }

    fn end_of_log(&self, name: &str) -> String {
        const MAX_LINES: usize = 20;
        let path = self.directory.path().join("log").join(name);
        let log = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(MAX_LINES)..].join("\n");
        format!("{name}:\n{end}\n")
    }
}

/// Serves the Service `kubernetes` in a node: forwards connections to the API server on 127.0.0.1 of this machine.
struct ApiServerForwarder(TcpListener);

impl ApiServerForwarder {
    fn start(listener: TcpListener, api_server: SocketAddr) -> Self {
        let server = listener.try_clone().expect("file descriptors are left");
        thread::spawn(move || {
            while let Ok((caller, _)) = server.accept() {
                thread::spawn(move || forward(caller, api_server));
            }
        });
        Self(listener)
    }
}

impl Drop for ApiServerForwarder {
    /// Ends the thread, because its socket would keep the node's network alive.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

fn forward(caller: TcpStream, api_server: SocketAddr) -> io::Result<()> {
    tunnel::forward(caller, TcpStream::connect(api_server)?)
}

fn api_server(plane: &ControlPlane) -> SocketAddr {
    let (host, port) = plane.address();
    format!("{host}:{port}")
        .parse()
        .expect("a plane of this process listens at an IP address")
}

fn name(number: u8) -> String {
    format!("node-{number}")
}

fn is_ready(node: &core::Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns the path of a script in `tests/node`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("node")
        .join(name)
}
