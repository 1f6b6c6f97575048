//! The process of the `WebDriver` server, which starts Chromium.

use std::io::{self, BufRead as _, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;

use crate::guarded::{self, GuardedProcess};
use crate::scratch::Scratch;

/// The text that the server writes before its port.
const STARTED: &str = "ChromeDriver was started successfully on port ";

/// The text that the server writes if the port that it chose is in use for IPv4. It chooses a free port for IPv6.
const PORT_IN_USE: &str = "port not available";
/// Maximum number of attempts to start the server: other tests use many ports for IPv4.
const MAX_STARTS: usize = 10;

/// A running server. Dropping this value kills the first process of the namespace; the kernel then kills the other
/// processes, including Chromium.
pub(super) struct Driver {
    _process: GuardedProcess,
    port: u16,
}

impl Driver {
    /// Starts the server, whose processes use this directory as home and for temporary files. The directory exists
    /// until all these processes have ended.
    pub(super) fn start(files: &Scratch) -> Self {
        let mut starts = (0..MAX_STARTS).map(|_| Self::try_start(files));
        starts
            .find_map(std::convert::identity)
            .expect("chromedriver finds a port that is free for IPv4 and IPv6")
    }

    /// Starts the server; `None` if its port is in use.
    fn try_start(files: &Scratch) -> Option<Self> {
        let mut command = in_process_namespace();
        command
            .args(["chromedriver", "--port=0"])
            .env("HOME", files.path())
            .env("TMPDIR", files.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdout(Stdio::piped())
            .stderr(files.lease());
        let mut process = GuardedProcess::spawn(&mut command).expect("/bin/sh can be started");
        let port = port(process.stdout().expect("stdout is piped"))?;
        Some(Self {
            _process: process,
            port,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// Returns a command that runs a program as the first process of a new process namespace. Needs permission to create
/// one: root, or user namespaces.
fn in_process_namespace() -> Command {
    let mut command = guarded::command("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// Checks that Chromium and the server are installed.
///
/// # Panics
/// Panics with instructions if they are not.
pub(super) fn assert_installed() {
    assert_program("chromium", "chromium");
    assert_program("chromedriver", "chromium-driver");
}

fn assert_program(program: &str, package: &str) {
    let version = Command::new(program).arg("--version").output();
    assert!(
        version.is_ok_and(|output| output.status.success()),
        "the program `{program}` is not installed: install Debian's package `{package}` \
         (apt-get install --no-install-recommends chromium chromium-driver), or put `chromium` and `chromedriver` on \
         the PATH"
    );
}

/// Reads the port from the output of the server; `None` if the port is in use. A thread reads the rest of the output, so
/// that the server never blocks.
fn port(stdout: ChildStdout) -> Option<u16> {
    let mut stdout = BufReader::new(stdout);
    let mut output = String::new();
    loop {
        let length = stdout.read_line(&mut output).expect("text");
        if output.contains(PORT_IN_USE) {
            return None;
        }
        assert!(length > 0, "chromedriver exited early:\n{output}");
        if let Some((_, port)) = output.split_once(STARTED) {
            let port = port.trim_end().trim_end_matches('.').parse();
            thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
            return Some(port.expect("a port"));
        }
    }
}
