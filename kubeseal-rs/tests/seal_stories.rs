//! Whole command lines of `seal` with everything that they print, each story in a folder of its own.
//! `TRYCMD=overwrite cargo test -p kubeseal-rs --test seal_stories` writes them anew; read what changed,
//! and put `[..]` for what is random.
#![expect(clippy::expect_used, reason = "a test")]

use std::path::{Path, PathBuf};

/// The folder of the programs under test, before those of the user.
fn path_with_ours() -> String {
    let ours = Path::new(env!("CARGO_BIN_EXE_seal"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").expect("PATH is set");
    format!("{}:{path}", ours.display())
}

fn program(name: &str) -> PathBuf {
    kubeseal_rs::programs::find(name)
        .unwrap_or_else(|| unreachable!("these stories need {name}; install it"))
}

#[test]
fn every_story_goes_as_it_is_told() {
    let cases = trycmd::TestCases::new();
    cases
        .env("PATH", path_with_ours())
        .env("KUBECONFIG", "nowhere")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        cases
            .env(format!("GIT_{role}_NAME"), "a")
            .env(format!("GIT_{role}_EMAIL"), "a@example.com");
    }
    cases
        .register_bin("sh", program("sh"))
        .register_bin("git", program("git"))
        .case("tests/seal/*.trycmd");
    cases.run();
}
