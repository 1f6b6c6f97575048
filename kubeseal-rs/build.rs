//! Links the unwinder statically; see `NOTES.md` for the reason.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    if target("OS") != "linux" || target("ENV") != "gnu" {
        return;
    }
    if let Some(directory) = directory_of_unwinder() {
        println!("cargo::rustc-link-search=native={}", directory.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Returns the directory with the C compiler's static unwinder library; `None` if there is none.
fn directory_of_unwinder() -> Option<PathBuf> {
    let mut compiler = Command::new("cc");
    let output = compiler.arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_absolute()
        .then(|| path.parent().map(PathBuf::from))?
}
