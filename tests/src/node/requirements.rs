//! The requirements of a node on the machine.

use std::fs;
use std::process::Command;

/// Checks the requirements that can be checked before a node starts.
///
/// # Panics
/// Panics with instructions if the machine lacks something.
pub(super) fn check() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test starts a node with real Pods and needs root, for namespaces, mounts and control groups: run it as root, \
         or leave the tests of the program `node` out"
    );
    for program in ["awk", "nsenter", "tar", "unshare"] {
        assert!(
            Command::new(program).arg("--version").output().is_ok(),
            "the program `{program}`, which a node with real Pods needs, is missing: install Debian's packages mawk, \
             tar and util-linux"
        );
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    assert!(
        filesystems.contains("\toverlay\n"),
        "the kernel cannot mount overlays, on which containerd stores containers: run `modprobe overlay`"
    );
}
