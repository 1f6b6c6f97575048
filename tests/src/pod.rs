//! Runs a program as in a Pod.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use crate::control_plane::{ControlPlane, Namespace};
use crate::guarded;
use crate::logged::LoggedProcess;
use crate::scratch::Scratch;

const SERVICE_ACCOUNT: &str = "serviceaccount";

/// Runs a program with the files of a service account at the fixed path where Kubernetes clients read them, in a
/// separate mount namespace, so that no other process sees them.
const POD_SCRIPT: &str = "mount -t tmpfs tmpfs /var/run && mkdir -p /var/run/secrets/kubernetes.io && \
    cp -r \"$1\" /var/run/secrets/kubernetes.io/serviceaccount && shift && exec \"$@\"";

/// Runs `/usr/local/bin/controller` of another root like [`POD_SCRIPT`], as an unprivileged user. The root is
/// read-only, except for `/var/run`, `/tmp` and `/proc`.
const POD_IN_ROOT_SCRIPT: &str = "root=$2 && mount --bind \"$root\" \"$root\" && \
    mkdir -p \"$root/var/run\" \"$root/proc\" && \
    mount -t tmpfs tmpfs \"$root/var/run\" && mount -t tmpfs tmpfs \"$root/tmp\" && mount -t proc proc \"$root/proc\" && \
    mkdir -p \"$root/var/run/secrets/kubernetes.io\" && \
    cp -r \"$1\" \"$root/var/run/secrets/kubernetes.io/serviceaccount\" && \
    chmod -R a+rX \"$root/var/run\" && mount -o remount,bind,ro \"$root\" && shift 2 && \
    exec chroot --userspec=1001:0 \"$root\" /usr/local/bin/controller \"$@\"";

/// The files that a Pod sees, and the program in them.
pub enum Root {
    /// The files of this machine, and the program at this path.
    Host(PathBuf),
    /// The files of an unpacked image, with its `/usr/local/bin/controller`.
    Image(PathBuf),
}

/// Runs a program until it exits, with the files and variables of a service account, with additional variables, and
/// with `input` as stdin.
///
/// # Panics
/// Panics if `unshare` cannot be started.
pub async fn run(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    account: &str,
    program: &Path,
    args: &[&str],
    variables: &[(&str, &str)],
    input: &str,
) -> Output {
    let files = service_account(plane, namespace, account).await;
    let stdin = files.path().join("stdin");
    fs::write(&stdin, input).expect("a writable directory");
    let mut command = Command::new("unshare");
    add_unshare_args(&mut command, plane, POD_SCRIPT, &files, program, args);
    command
        .env("HOME", files.path())
        .env_remove("KUBECONFIG")
        .envs(variables.iter().copied())
        .stdin(fs::File::open(stdin).expect("the file was written"));
    command.output().expect("unshare is installed")
}

/// Creates a directory with the files of a service account, which the scripts copy into a Pod.
async fn service_account(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    account: &str,
) -> Scratch {
    let files = Scratch::new();
    let directory = files.path().join(SERVICE_ACCOUNT);
    fs::create_dir(&directory).expect("a writable directory");
    let token = plane.token_of(namespace.name(), account).await;
    fs::write(directory.join("token"), token).expect("a writable directory");
    fs::write(directory.join("ca.crt"), plane.authority()).expect("a writable directory");
    fs::write(directory.join("namespace"), namespace.name()).expect("a writable directory");
    files
}

/// Adds arguments and environment variables to a command that begins with `unshare`. The caller must keep the files
/// until the program ends.
fn add_unshare_args(
    command: &mut Command,
    plane: &ControlPlane,
    script: &str,
    files: &Scratch,
    path: &Path,
    args: &[&str],
) {
    let (host, port) = plane.address();
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(files.path().join(SERVICE_ACCOUNT))
        .arg(path)
        .args(args)
        .env("KUBERNETES_SERVICE_HOST", host)
        .env("KUBERNETES_SERVICE_PORT", port)
        .env_remove("POD_NAMESPACE");
}

/// A running program with the files and variables of a service account.
pub struct Pod {
    process: LoggedProcess,
    _files: Scratch,
}

impl Pod {
    /// Starts the program in this namespace, and waits until it logs that it serves HTTP.
    ///
    /// # Panics
    /// Panics with its output if it exits first, and if it does not serve within [`crate::patience::LIMIT`].
    pub async fn start(
        plane: &ControlPlane,
        namespace: &Namespace<'_>,
        account: &str,
        program: &Path,
        args: &[&str],
    ) -> Self {
        let root = Root::Host(program.to_owned());
        let mut pod = Self::spawn(plane, namespace, account, root, args, &[]).await;
        pod.wait_until_serving().await;
        pod
    }

    /// Like [`Self::start`], but without the file that contains the name of the namespace, and with these variables.
    pub async fn start_without_namespace_file(
        plane: &ControlPlane,
        namespace: &Namespace<'_>,
        account: &str,
        program: &Path,
        args: &[&str],
        variables: &[(String, String)],
    ) -> Self {
        let files = service_account(plane, namespace, account).await;
        let file = files.path().join(SERVICE_ACCOUNT).join("namespace");
        fs::remove_file(file).expect("a writable directory");
        let root = Root::Host(program.to_owned());
        let mut pod = Self::spawn_with(plane, files, root, args, variables);
        pod.wait_until_serving().await;
        pod
    }

    /// Starts the program in this namespace with these variables. Needs permission to create mount
    /// namespaces: root, or user namespaces.
    pub async fn spawn(
        plane: &ControlPlane,
        namespace: &Namespace<'_>,
        account: &str,
        root: Root,
        args: &[&str],
        variables: &[(String, String)],
    ) -> Self {
        let files = service_account(plane, namespace, account).await;
        Self::spawn_with(plane, files, root, args, variables)
    }

    fn spawn_with(
        plane: &ControlPlane,
        files: Scratch,
        root: Root,
        args: &[&str],
        variables: &[(String, String)],
    ) -> Self {
        let (script, path) = match root {
            Root::Host(program) => (POD_SCRIPT, program),
            Root::Image(root) => (POD_IN_ROOT_SCRIPT, root),
        };
        let mut command = guarded::command("unshare");
        add_unshare_args(&mut command, plane, script, &files, &path, args);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let process = LoggedProcess::spawn(&mut command).expect("/bin/sh exists");
        Self {
            process,
            _files: files,
        }
    }

    async fn wait_until_serving(&mut self) {
        let is_serving = |log: &str| log.contains("HTTP server serving").then_some(());
        self.process
            .wait_for_log("the program serves HTTP", is_serving)
            .await;
    }

    /// Returns the output so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Returns the program's exit status; `None` while it runs.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.process.try_wait()
    }

    /// Returns the resident memory of the process in bytes.
    pub fn memory(&self) -> usize {
        self.process.memory()
    }

    /// Returns the peak memory of the process in bytes.
    pub fn peak_memory(&self) -> usize {
        self.process.peak_memory()
    }

    /// Returns the unauthenticated port on 127.0.0.1 where the program listens.
    ///
    /// # Panics
    /// Panics if the log does not contain the port.
    pub fn port(&self) -> u16 {
        self.port_after("HTTP server serving")
    }

    /// Returns the port on 127.0.0.1 that serves metrics.
    ///
    /// # Panics
    /// Panics if the log does not contain the port.
    pub fn metrics_port(&self) -> u16 {
        self.port_after("HTTP metrics server serving")
    }

    fn port_after(&self, message: &str) -> u16 {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(message));
        let address = line.and_then(|line| line.split("127.0.0.1:").nth(1));
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect();
        let digits: String = address.map(digits).unwrap_or_default();
        digits.parse().expect("the log contains the port")
    }

    /// Stops the program with SIGTERM; returns its exit code.
    pub fn stop(self) -> Option<i32> {
        self.process.stop()
    }
}
