//! axe-core, which checks pages for accessibility problems.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cache;
use crate::progress::print_progress;

/// A released version of the npm package. It has no dependencies.
const PACKAGE: &str = "axe-core@4.14.1";

/// Returns the source of axe-core, which is kept between runs.
///
/// # Panics
/// Panics with instructions if npm is not available.
pub fn source() -> String {
    let cache = cache::directory();
    let _lock = cache::lock(&cache.join("axe-core.lock"), || {
        print_progress("another process is fetching axe-core: waiting");
    });
    let directory = cache.join(PACKAGE.replace('@', "-"));
    let script = directory.join("node_modules/axe-core/axe.min.js");
    if !script.is_file() {
        fetch(&directory);
    }
    fs::read_to_string(&script).unwrap_or_else(|error| panic!("{}: {error}", script.display()))
}

fn fetch(directory: &Path) {
    let status = Command::new("npm")
        .args([
            "install",
            "--silent",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
        ])
        .args([directory.as_os_str(), PACKAGE.as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "cannot install {PACKAGE} with npm ({status:?}); install Debian's package `npm`"
    );
}
