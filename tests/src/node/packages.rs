//! The programs of a node, and of a database in a Pod, from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::cache;
use crate::progress::print_progress;

const PACKAGES: [&str; 6] = [
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "libc6",
    "libseccomp2",
    "runc",
];

/// Returns a directory with the unpacked packages; downloads them if the cache does not have them for this version of
/// Debian. Nothing is installed. Parallel test processes download the packages only once.
///
/// # Panics
/// Panics with instructions if the packages cannot be downloaded.
pub(super) fn unpacked() -> PathBuf {
    let description = PACKAGES.join(", ");
    cached("node-root", "packages.sh", &description, |directory| {
        script(directory, &PACKAGES)
    })
}

/// Returns a directory with PostgreSQL and its dependencies, like [`unpacked`].
///
/// # Panics
/// Panics with instructions if the packages cannot be downloaded.
pub(super) fn postgresql() -> PathBuf {
    let busybox = unpacked().join("bin/busybox");
    let description = "postgresql and its libraries";
    cached("postgresql", "postgresql.sh", description, |directory| {
        let mut command = Command::new("/bin/sh");
        command
            .arg(super::script("postgresql.sh"))
            .arg(directory)
            .arg(&busybox);
        command
    })
}

/// Returns the directory of the cache into which `command` unpacks packages; runs the command if the directory is
/// missing.
fn cached(
    name: &str,
    script: &str,
    description: &str,
    command: impl Fn(&Path) -> Command,
) -> PathBuf {
    let cache = cache::directory();
    let directory = cache.join(format!("{name}-{}", key(script, description)));
    let _lock = cache::lock(&cache.join(format!("{name}.lock")), || {
        print_progress(&format!(
            "another process is unpacking {description}: waiting"
        ));
    });
    if !directory.exists() {
        unpack(&directory, description, &command);
    }
    directory
}

fn key(script: &str, description: &str) -> String {
    let mut key = cache::Key::default();
    for file in [Path::new("/etc/debian_version"), &super::script(script)] {
        key.add(&fs::read(file).unwrap_or_default());
    }
    key.add(description.as_bytes());
    key.text()
}

/// Unpacks into a separate directory and renames it, so that an interruption leaves no partial directory.
fn unpack(directory: &Path, description: &str, command: &impl Fn(&Path) -> Command) {
    let unfinished = directory.with_extension("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    print_progress(&format!(
        "downloading {description}; later runs reuse {}",
        directory.display()
    ));
    let start = Instant::now();
    let output = command(&unfinished).output();
    let output = output.expect("/bin/sh can be started");
    assert!(
        output.status.success(),
        "cannot unpack {description}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&unfinished, directory).expect("a writable directory");
    print_progress(&format!(
        "downloaded and unpacked them in {} s",
        start.elapsed().as_secs()
    ));
}

/// Returns the command that downloads packages and unpacks them into a new directory.
fn script(directory: &Path, packages: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg(super::script("packages.sh"))
        .arg(directory)
        .args(packages);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::run_expecting_failure;
    use crate::scratch::Scratch;

    #[test]
    fn reports_what_to_do_if_a_package_cannot_be_downloaded() {
        let scratch = Scratch::new();
        let directory = scratch.path().join("root");
        let error = run_expecting_failure(&mut script(&directory, &["no-such-package"]));
        assert!(error.contains("run `apt-get update`"), "{error}");
    }

    #[test]
    fn reports_which_program_is_missing() {
        let scratch = Scratch::new();
        let directory = scratch.path().join("root");
        let error = run_expecting_failure(script(&directory, &PACKAGES).env("PATH", "/none"));
        assert!(error.contains("`apt-get` is missing"), "{error}");
    }
}
