//! Keeps built programs between test runs, and shares them between parallel test processes.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Returns the directory for the files that are kept between runs: `$SEALED_SECRETS_TEST_CACHE`, or else
/// `sealed-secrets-tests` in the user's cache directory, or in the temporary directory if there is no home. Creates the
/// directory. It may be deleted at any time between runs.
pub(crate) fn directory() -> PathBuf {
    let directory = env::var_os("SEALED_SECRETS_TEST_CACHE")
        .map_or_else(|| user_cache().join("sealed-secrets-tests"), PathBuf::from);
    fs::create_dir_all(&directory).unwrap_or_else(|error| {
        panic!(
            "cannot create the directory {} for built test programs: {error}; \
             set SEALED_SECRETS_TEST_CACHE to a writable directory",
            directory.display()
        )
    });
    directory
}

fn user_cache() -> PathBuf {
    let nonempty_variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    nonempty_variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| nonempty_variable("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(env::temp_dir)
}

/// Creates and locks the file `path` until the returned value is dropped; first calls `on_wait` if the file is locked.
/// The operating system releases the lock when the process ends for any reason.
pub(crate) fn lock(path: &Path, on_wait: impl FnOnce()) -> File {
    let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if file.try_lock().is_err() {
        on_wait();
        file.lock()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    file
}

/// A hash that identifies the result of a build by its inputs.
#[derive(Default)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Adds the bytes of an input after their length, so that different lists of inputs never give the same bytes.
    pub(crate) fn add(&mut self, input: &[u8]) {
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
    }

    /// Returns 64 bits of the hash as hexadecimal digits, for a file name.
    pub(crate) fn text(self) -> String {
        let hash = self.0.finalize();
        format!("{:016x}", u64::from_be_bytes(hash[..8].try_into().unwrap()))
    }
}
