//! The ordinary `age`, built by Go.

use std::path::{Path, PathBuf};

use crate::go_build;

/// `age` itself.
pub fn age() -> PathBuf {
    go_build::build(&source(), "filippo.io/age/cmd/age", "age")
}

/// Makes identities.
pub fn age_keygen() -> PathBuf {
    go_build::build(&source(), "filippo.io/age/cmd/age-keygen", "age-keygen")
}

/// Opens the archive that it is given with the passphrase that it reads: `age` asks a terminal only.
pub fn open_with_passphrase() -> PathBuf {
    go_build::build(&source(), ".", "age-open-with-passphrase")
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("age")
}
