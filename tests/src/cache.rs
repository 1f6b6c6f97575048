//! Where built programs are kept between test runs, and how parallel test processes share them.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The folder for everything that is worth keeping between runs: `$SEALED_SECRETS_TEST_CACHE`, or
/// else `sealed-secrets-tests` in the user's cache folder. It may be deleted at any time between
/// runs.
pub(crate) fn folder() -> PathBuf {
    let folder = env::var_os("SEALED_SECRETS_TEST_CACHE")
        .map_or_else(|| user_cache().join("sealed-secrets-tests"), PathBuf::from);
    fs::create_dir_all(&folder).unwrap_or_else(|error| {
        panic!(
            "the folder {} for built test programs cannot be made: {error}; \
             set SEALED_SECRETS_TEST_CACHE to a folder that can be written",
            folder.display()
        )
    });
    folder
}

fn user_cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(env::temp_dir)
}

/// Holds the lock file `path` for as long as the value lives; `waits` is called if another process
/// has it. The operating system frees it when the process dies, however it dies.
pub(crate) fn lock(path: &Path, waits: impl FnOnce()) -> File {
    let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if file.try_lock().is_err() {
        waits();
        file.lock()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    file
}
