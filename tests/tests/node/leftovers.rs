//! Tests that a node leaves nothing behind when the test process that started it ends. The program `plane_user` acts as
//! the test process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tests::observed::ObservedProgram;
use tests::patience;

#[tokio::test]
async fn a_node_leaves_nothing_after_a_passing_run() {
    let mut user = start("pass");
    user.first_line();
    let traces = Traces::of(&user);
    user.signal(Signal::USR1);
    assert!(user.wait().success(), "{}", user.errors());
    traces.assert_gone(&mut user).await;
}

#[tokio::test]
async fn a_node_leaves_nothing_after_a_failing_run() {
    let mut user = start("fail");
    user.first_line();
    let traces = Traces::of(&user);
    user.signal(Signal::USR1);
    assert_eq!(user.wait().code(), Some(101), "the exit code of a panic");
    traces.assert_gone(&mut user).await;
}

#[tokio::test]
async fn a_node_leaves_nothing_after_a_kill() {
    let mut user = start("wait");
    user.first_line();
    let traces = Traces::of(&user);
    user.signal(Signal::KILL);
    traces.assert_gone(&mut user).await;
}

#[tokio::test]
async fn a_node_leaves_nothing_after_a_kill_during_its_start() {
    let mut user = start("wait");
    patience::until("containerd starts", async || {
        let names = directory_names(&user);
        let processes = names.iter().flat_map(|name| processes_in(name));
        processes
            .map(|process| fs::read(process.join("cmdline")).unwrap_or_default())
            .any(|command_line| command_line.starts_with(b"containerd"))
            .then_some(())
    })
    .await;
    let traces = Traces::of(&user);
    user.signal(Signal::KILL);
    traces.assert_gone(&mut user).await;
}

fn start(end: &str) -> ObservedProgram {
    ObservedProgram::start(env!("CARGO_BIN_EXE_plane_user"), &[end, "node"], &[])
}

/// The resources of a running node outside its directory.
struct Traces {
    groups: Vec<PathBuf>,
    namespaces: BTreeSet<PathBuf>,
}

impl Traces {
    fn of(user: &ObservedProgram) -> Self {
        let names = directory_names(user);
        let groups: Vec<_> = names.iter().flat_map(|name| groups(name)).collect();
        assert!(!groups.is_empty(), "a node has control groups: {names:?}");
        let processes = names.iter().flat_map(|name| processes_in(name));
        let mut namespaces: BTreeSet<_> =
            processes.flat_map(|process| namespaces(&process)).collect();
        for own in self::namespaces(Path::new("/proc/self")) {
            namespaces.remove(&own);
        }
        assert!(
            namespaces.len() >= 3,
            "a node has namespaces: {namespaces:?}"
        );
        assert_no_mounts(user);
        Self { groups, namespaces }
    }

    async fn assert_gone(&self, user: &mut ObservedProgram) {
        user.assert_nothing_left().await;
        patience::until("the control groups are gone", async || {
            let is_left = self.groups.iter().any(|group| group.exists());
            (!is_left).then_some(())
        })
        .await;
        patience::until("no process is left in the namespaces", async || {
            let remaining: BTreeSet<_> = all_processes()
                .flat_map(|process| namespaces(&process))
                .collect();
            self.namespaces.is_disjoint(&remaining).then_some(())
        })
        .await;
        assert_no_mounts(user);
    }
}

/// Asserts that this process sees no mount below the user's temporary directory.
fn assert_no_mounts(user: &ObservedProgram) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let directory = user.temporary_directory();
    assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
}

/// Returns the names of the user's temporary directories. The control groups of a node have the name of one of them.
fn directory_names(user: &ObservedProgram) -> Vec<String> {
    let directories = fs::read_dir(user.temporary_directory()).unwrap();
    directories
        .map(|directory| directory.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Returns the control groups with this name.
fn groups(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (directory, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup")
            .then(|| Path::new(directory).join(name))
    });
    hierarchies.filter(|group| group.exists()).collect()
}

/// Returns the directories in `/proc` of the processes in the control groups with this name and their descendants.
fn processes_in(name: &str) -> Vec<PathBuf> {
    let is_in_group = |process: &PathBuf| {
        let groups = fs::read_to_string(process.join("cgroup"));
        groups.is_ok_and(|groups| groups.contains(&format!("/{name}")))
    };
    all_processes().filter(is_in_group).collect()
}

fn all_processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("ns").exists())
}

/// Returns the mount, network and process namespaces of a process; none if it has ended.
fn namespaces(process: &Path) -> Vec<PathBuf> {
    let kinds = ["mnt", "net", "pid"].map(|kind| process.join("ns").join(kind));
    kinds
        .iter()
        .filter_map(|link| fs::read_link(link).ok())
        .collect()
}
