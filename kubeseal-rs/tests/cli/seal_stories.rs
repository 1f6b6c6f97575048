//! Runs the stories of `seal`: command lines with their complete output, each story in its own
//! directory. To update them, run `TRYCMD=overwrite cargo test -p kubeseal-rs --test cli seal_stories`,
//! review the changes, and replace random output with `[..]`.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Returns a `PATH` with the directory of the programs under test first.
fn path_with_programs() -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_seal"))
        .parent()
        .expect("a directory");
    let path = std::env::var("PATH").expect("PATH is set");
    format!("{}:{path}", programs.display())
}

fn program(name: &str) -> PathBuf {
    kubeseal_library::programs::find(name)
        .unwrap_or_else(|| unreachable!("these stories need {name}; install it"))
}

const STORIES: &str = "tests/seal";

/// Copies every story and its fixtures to a directory outside this Git work tree. Returns the original
/// paths of the stories.
fn copy_stories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(STORIES).expect("the directory of stories exists");
    let stories = entries.map(|entry| entry.expect("the file is readable").path());
    let stories: Vec<_> = stories
        .filter(|path| path.extension().is_some_and(|e| e == "trycmd"))
        .collect();
    for story in &stories {
        let copy = directory.join(story.file_name().expect("the path has a file name"));
        fs::copy(story, &copy).expect("the test directory is writable");
        let own_fixtures = story.with_extension("fixtures");
        let fixtures = Some(own_fixtures).filter(|path| path.is_dir());
        copy_directory(
            &fixtures.unwrap_or_else(|| Path::new(STORIES).join("fixtures")),
            &copy.with_extension("in"),
        );
    }
    stories
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the test directory is writable");
    for entry in fs::read_dir(from).expect("the directory is readable") {
        let path = entry.expect("the file is readable").path();
        let copy = to.join(path.file_name().expect("the path has a file name"));
        if path.is_dir() {
            copy_directory(&path, &copy);
        } else {
            fs::copy(&path, &copy).expect("the test directory is writable");
        }
    }
}

#[test]
fn every_story_has_the_expected_output() {
    let directory = tempfile::tempdir().expect("a directory");
    let stories = copy_stories(directory.path());
    let cases = trycmd::TestCases::new();
    cases
        .env("PATH", path_with_programs())
        .env("KUBECONFIG", "nowhere")
        // The path is relative, so that each story has its own home.
        .env("HOME", "home")
        .env("XDG_CACHE_HOME", "")
        .env("XDG_STATE_HOME", "")
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
        .register_bin("bash", program("bash"))
        .case(directory.path().join("*.trycmd"));
    cases.run();
    if std::env::var_os("TRYCMD").is_some_and(|mode| mode == "overwrite") {
        for story in stories {
            fs::copy(
                directory.path().join(story.file_name().expect("a name")),
                story,
            )
            .expect("the test directory is writable");
        }
    }
}
