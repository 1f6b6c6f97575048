//! The reference implementation of `age`, built with Go.

use std::path::{Path, PathBuf};

use crate::go_build;

/// Returns the path of `age`.
pub fn age_program() -> PathBuf {
    go_build::build(&source(), "filippo.io/age/cmd/age", "age")
}

/// Returns the path of `age-keygen`, which generates identities.
pub fn age_keygen() -> PathBuf {
    go_build::build(&source(), "filippo.io/age/cmd/age-keygen", "age-keygen")
}

/// Returns the path of a program that decrypts an archive with a passphrase from stdin; `age` itself reads a passphrase
/// only from a terminal.
pub fn open_with_passphrase() -> PathBuf {
    go_build::build(&source(), ".", "age-open-with-passphrase")
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("age")
}
