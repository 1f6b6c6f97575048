//! Tests that a crash of a program that delivers values leaves no core dump.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tests::csi::{FakeController, TOKENS};
use tests::logged::LoggedProcess;
use tests::patience::until;
use tests::scratch::Scratch;
use tests::{binaries, core_dumps, guarded, memory};

const VALUE: &str = "value-canary-93c1e07d";
const TOKEN: &str = "token-canary-5b0e81f2";

/// A fake controller, and the files of its clients.
struct Site {
    controller: FakeController,
    /// The working directory of the programs, where the kernel writes core dumps by default.
    work: Scratch,
    files: Scratch,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            controller: FakeController::start(|_| FakeController::file("password", VALUE)),
            work: Scratch::new(),
            files: Scratch::new(),
        };
        fs::write(site.file("ca.pem"), site.controller.authority()).unwrap();
        fs::write(site.file("token"), TOKEN).unwrap();
        fs::create_dir(site.file("secrets")).unwrap();
        site
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }

    /// Starts a role of `seal-deliver`.
    fn start(&self, role: &str, add_args: impl Fn(&mut Command, &Path)) -> LoggedProcess {
        let mut command = guarded::command(binaries::seal_deliver());
        command
            .arg(role)
            .arg(format!(
                "--server=https://127.0.0.1:{}",
                self.controller.port()
            ))
            .arg("--ca-file")
            .arg(self.file("ca.pem"));
        add_args(&mut command, self.files.path());
        LoggedProcess::spawn(command.current_dir(self.work.path())).unwrap()
    }

    /// Crashes a process that waits for a response and has the token in its memory. Checks that the crash leaves no
    /// core dump.
    async fn assert_leaves_no_dump(&self, role: &str, process: LoggedProcess) {
        if rustix::process::geteuid().is_root() {
            let needles = [("the token", TOKEN.as_bytes().to_vec())];
            let found = memory::needles_in_memory(process.id(), &needles);
            assert_eq!(
                found,
                ["the token"],
                "{role}: the memory does not contain the token"
            );
        }
        let is_dumped = core_dumps::crash(process).await;
        assert!(!is_dumped, "{role} left a core dump");
        let files = core_dumps::files_with(self.work.path(), &[VALUE, TOKEN]);
        assert!(files.is_empty(), "{role}: {files:?}");
    }

    async fn wait_for_requests(&self, count: usize) {
        until("the request waits", async || {
            (self.controller.requests().len() >= count).then_some(())
        })
        .await;
    }
}

/// Attack: a reader of core dumps, on the node or where they are collected, makes the provider of the CSI driver crash
/// to find values and tokens of Pods in its dump.
#[tokio::test]
async fn a_crash_of_the_provider_leaves_no_core_dump() {
    let site = Site::new();
    let socket = site.file("sealed.sock");
    let mut provider = site.start("node", |command, files| {
        command.arg("--socket").arg(files.join("sealed.sock"));
    });
    let is_serving = |log: &str| log.contains("serving").then_some(());
    provider
        .wait_for_log("the provider serves", is_serving)
        .await;
    let tokens = json!({ deliver::AUDIENCE: { "token": TOKEN } }).to_string();
    let attributes = json!({ "objects": "- sealedSecret: db", TOKENS: tokens }).to_string();
    let response = node::client::mount(&socket, &attributes).await.unwrap();
    assert!(memchr::memmem::find(&response, VALUE.as_bytes()).is_some());

    site.controller.set_responses(|_| None);
    let waiting = tokio::spawn(async move { node::client::mount(&socket, &attributes).await });
    site.wait_for_requests(2).await;
    site.assert_leaves_no_dump("node", provider).await;
    assert!(waiting.await.unwrap().is_err(), "the provider has crashed");
}

/// Attack: a reader of core dumps, on the node or where they are collected, makes the agent in a Pod crash to find
/// values and the token of the Pod in its dump.
#[tokio::test]
async fn a_crash_of_the_agent_leaves_no_core_dump() {
    let site = Site::new();
    site.controller.set_responses(|body| {
        if body.contains("\"have\"") {
            return None;
        }
        FakeController::file("password", VALUE)
    });
    let agent = site.start("agent", |command, files| {
        command
            .args(["--objects=db", "--to"])
            .arg(files.join("secrets"))
            .arg("--token-file")
            .arg(files.join("token"));
    });
    site.wait_for_requests(2).await;
    let value = fs::read_to_string(site.file("secrets/password")).unwrap();
    assert_eq!(value, VALUE);
    site.assert_leaves_no_dump("agent", agent).await;
}

/// The other tests prove something only where the kernel writes core dumps.
#[tokio::test]
async fn an_unprotected_process_leaves_a_core_dump_where_the_kernel_writes_them() {
    let work = Scratch::new();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // Another pattern may name a program or a directory that does not exist.
    let is_plain_file = !pattern.starts_with(['|', '/']) && !pattern.trim().is_empty();
    assert!(
        core_dumps::are_possible(work.path()).await || !is_plain_file,
        "{pattern}"
    );
}
