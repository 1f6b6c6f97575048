//! The controller as a process that works on a separate directory.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::binaries;
use crate::guarded::{self, GuardedProcess};
use crate::patience;
use crate::scratch::Scratch;

/// The string before the listening address in the controller's log.
const SERVING: &str = "HTTP server serving\" addr=";

/// A running controller. Dropping this value stops it and removes its directory.
pub struct DirectoryController {
    _process: GuardedProcess,
    port: u16,
    scratch: Scratch,
}

impl DirectoryController {
    /// Starts the controller on a free port of 127.0.0.1 and waits until it is ready.
    ///
    /// # Panics
    /// Panics with its log if it exits first, and if it is not ready within [`patience::LIMIT`].
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`Self::start`], with more arguments.
    pub fn start_with(args: &[&str]) -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("sealed")).expect("a writable directory");
        let mut command = guarded::command(binaries::controller());
        command
            .args([
                "--listen-addr=127.0.0.1:0",
                "--listen-metrics-addr=127.0.0.1:0",
            ])
            .arg("--directory")
            .arg(scratch.path())
            .args(args)
            .stdout(Stdio::piped());
        let mut process = GuardedProcess::spawn(&mut command).expect("/bin/sh exists");
        let log = process.stdout().expect("stdout is piped");
        let port = port_from(log);
        wait_until_ready(port);
        Self {
            _process: process,
            port,
            scratch,
        }
    }

    /// Returns the port on 127.0.0.1 where the controller listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the directory that the controller works on.
    pub fn directory(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }
}

/// Waits until the controller is ready: it listens before it has generated its first key.
fn wait_until_ready(port: u16) {
    let deadline = Instant::now() + patience::LIMIT;
    while !is_ready(port).unwrap_or(false) {
        assert!(
            Instant::now() < deadline,
            "the controller did not become ready"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_ready(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response.starts_with("HTTP/1.1 200 "))
}

/// Returns the port from the log line with the address. Continues to read the log on a thread, so that the controller
/// never blocks on a full pipe.
fn port_from(log: ChildStdout) -> u16 {
    let mut lines = BufReader::new(log).lines().map_while(Result::ok);
    let mut log_lines = Vec::new();
    let port = lines.by_ref().find_map(|line| {
        let address = line
            .split_once(SERVING)
            .map(|(_, address)| address.to_owned());
        log_lines.push(line);
        address?.rsplit_once(':')?.1.trim_matches('"').parse().ok()
    });
    thread::spawn(move || lines.for_each(drop));
    port.unwrap_or_else(|| panic!("the controller exited early:\n{}", log_lines.join("\n")))
}
