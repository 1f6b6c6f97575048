//! The project's own programs, built for the tests, because `cargo test` does not build the programs of other
//! packages. `SEALED_SECRETS_PROGRAMS` names a directory with programs to test instead, for example those of a
//! release.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the path of the controller.
pub fn controller() -> PathBuf {
    program_path("controller")
}

/// Returns the path of `kubeseal`.
pub fn kubeseal() -> PathBuf {
    program_path("kubeseal")
}

/// Returns the path of `seal`.
pub fn seal() -> PathBuf {
    program_path("seal")
}

/// Returns the path of `seal-deliver`.
pub fn seal_deliver() -> PathBuf {
    program_path("seal-deliver")
}

/// Builds all programs on the first call in a process, unless `SEALED_SECRETS_PROGRAMS` is set. Cargo itself serializes
/// parallel processes.
fn program_path(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let program = DIRECTORY
        .get_or_init(|| env::var_os("SEALED_SECRETS_PROGRAMS").map_or_else(build, PathBuf::from))
        .join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} does not exist: cargo did not build it, or SEALED_SECRETS_PROGRAMS names a directory without it",
        program.display()
    );
    program
}

/// Builds the programs under test and returns the profile directory. Also builds one small test target: with it, Cargo
/// resolves the same features as `cargo test --workspace`, including those of dev-dependencies, and does not compile
/// tokio and its dependents a second time.
fn build() -> PathBuf {
    let profile = profile_directory();
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--workspace"])
        .args(["--bin=controller", "--bin=kubeseal", "--bin=seal"])
        .arg("--bin=seal-deliver")
        .arg("--test=engine")
        .args(["--profile", profile_name(&profile), "--target-dir"])
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap_or_else(|error| {
            panic!("cannot start cargo, with which the tests build the programs: {error}")
        });
    assert!(
        status.success(),
        "cannot build the programs under test: see cargo's output above"
    );
    profile
}

/// Returns the directory of the running program's profile, in any target directory: `target/debug` for
/// `target/debug/playground` and for tests in `target/debug/deps`.
pub(crate) fn profile_directory() -> PathBuf {
    let program = env::current_exe().unwrap();
    let directory = program.parent().unwrap();
    let is_nested = directory.ends_with("deps") || directory.ends_with("examples");
    if is_nested {
        directory.parent().unwrap()
    } else {
        directory
    }
    .to_owned()
}

/// Returns the profile that a build directory belongs to. Cargo uses the directory `debug` for the profile `dev`; every
/// other directory has the name of its profile.
fn profile_name(directory: &Path) -> &str {
    match directory
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap()
    {
        "debug" => "dev",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_every_program_next_to_the_running_one() {
        for program in [controller(), kubeseal(), seal(), seal_deliver()] {
            assert_eq!(program.parent(), Some(profile_directory().as_path()));
            assert!(program.is_file(), "{}", program.display());
        }
    }
}
