//! The project's own programs, built for the tests: `cargo test` builds no other package's
//! programs. `SEALED_SECRETS_PROGRAMS` names a folder with programs to test instead, such as those of a
//! release.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The controller.
pub fn controller() -> PathBuf {
    built("controller")
}

/// The drop-in command line.
pub fn kubeseal() -> PathBuf {
    built("kubeseal")
}

/// Our own command line.
pub fn seal() -> PathBuf {
    built("seal")
}

/// Builds all of them on the first call in a process; Cargo itself keeps parallel processes apart.
fn built(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let program = FOLDER
        .get_or_init(|| env::var_os("SEALED_SECRETS_PROGRAMS").map_or_else(build, PathBuf::from))
        .join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(program.exists(), "cargo built no {}", program.display());
    program
}

/// Of the workspace, and with the smallest of its tests, because then Cargo chooses the features of
/// the dependencies as `cargo test --workspace` does, those of dev-dependencies too, and need not
/// compile tokio and all that is built on it a second time.
fn build() -> PathBuf {
    let profile = profile_folder();
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--workspace"])
        .args(["--bin=controller", "--bin=kubeseal", "--bin=seal"])
        .arg("--test=definition")
        .args(["--profile", profile_name(&profile), "--target-dir"])
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap_or_else(|error| {
            panic!("cargo cannot be started: {error}; the tests build the programs with it")
        });
    assert!(
        status.success(),
        "the programs under test cannot be built: see cargo's output above"
    );
    profile
}

/// The folder of the running program's own profile, in whatever target folder was asked for:
/// `target/debug` for `target/debug/playground` and for tests in `target/debug/deps`.
fn profile_folder() -> PathBuf {
    let program = env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let nested = folder.ends_with("deps") || folder.ends_with("examples");
    if nested {
        folder.parent().unwrap()
    } else {
        folder
    }
    .to_owned()
}

/// Cargo names the folder of the profile `dev` `debug`, and every other as the profile.
fn profile_name(folder: &Path) -> &str {
    match folder.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_every_program_beside_the_running_one() {
        for program in [controller(), kubeseal(), seal()] {
            assert_eq!(program.parent(), Some(profile_folder().as_path()));
            assert!(program.is_file(), "{}", program.display());
        }
    }
}
