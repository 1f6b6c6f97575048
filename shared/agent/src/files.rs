//! Reads small files, which another program may replace at any time.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A file cannot be read, or is longer than the limit.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct FileError {
    /// The file that cannot be read.
    pub path: PathBuf,
    /// The I/O error.
    pub source: io::Error,
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
///
/// Fails if the file cannot be read or is longer than `limit`.
pub fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    try_read(path, limit).map_err(|source| FileError {
        path: path.to_owned(),
        source,
    })
}

fn try_read(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
