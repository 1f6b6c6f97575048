//! Reads and changes single settings of a repository's own configuration, without running `git`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use gix::bstr::ByteSlice as _;
use gix::config::Source;
use gix::config::file::Metadata;

use super::directory::SMALL_LIMIT;
use super::{GitError, Repository};
use crate::files;

/// A section of Git's configuration, such as `[merge "seal"]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The name: `merge`.
    pub name: &'static str,
    /// The subsection: `seal`.
    pub subsection: &'static str,
}

impl Repository {
    /// Returns the value that Git uses: of the repository's own, the user's or the system's configuration. `None` if
    /// nothing sets it.
    pub fn setting(&self, section: Section, key: &str) -> Option<String> {
        let config = self.git.config_snapshot();
        let sections = config.plumbing().sections_by_name(section.name)?;
        let values = sections.filter_map(|found| {
            let is_wanted = found.header().subsection_name() == Some(section.subsection.into());
            let value = found.value(key).filter(|_| is_wanted)?;
            Some(value.as_bstr().to_str_lossy().into_owned())
        });
        values.last()
    }

    /// Sets the keys of a section in the repository's own configuration. Returns whether anything changed; everything
    /// else in the file stays as it is.
    ///
    /// # Errors
    ///
    /// Fails if the configuration belongs to another repository, which an author may have chosen; if it is malformed or
    /// locked; or if it cannot be written.
    pub fn set_section(&self, section: Section, values: &[(&str, &str)]) -> Result<bool, GitError> {
        self.change_config(|config| {
            for (key, value) in values {
                config
                    .set_raw_value_by(section.name, section.subsection, *key, *value)
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    }

    /// Removes a section from the repository's own configuration. Returns whether it existed.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::set_section`].
    pub fn remove_section(&self, section: Section) -> Result<bool, GitError> {
        self.change_config(|config| {
            while config
                .remove_section(section.name, section.subsection)
                .is_some()
            {}
            Ok(())
        })
    }

    fn change_config(
        &self,
        change: impl FnOnce(&mut gix::config::File) -> Result<(), String>,
    ) -> Result<bool, GitError> {
        let path = self.git.common_dir().join("config");
        if !self.is_own() {
            return Err(GitError::ConfigOutside(path));
        }
        let to_error = |why: String| GitError::Config {
            file: path.clone(),
            why,
        };
        let lock = ConfigLock::acquire(&path).map_err(to_error)?;
        let before = read(&path).map_err(|error| to_error(error.to_string()))?;
        let after = changed(&before, change).map_err(to_error)?;
        if after == before {
            return Ok(false);
        }
        let written = lock.write(&path, &after);
        written.map_err(|error| to_error(error.to_string()))?;
        Ok(true)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // The author of an archive may have made a link to another file of the user.
    if path.is_symlink() {
        return Err(io::Error::other(
            "it is a symbolic link, which is not followed",
        ));
    }
    let bytes = files::read_regular(path, SMALL_LIMIT);
    bytes.map(|bytes| bytes.to_vec()).map_err(io::Error::other)
}

fn changed(
    bytes: &[u8],
    change: impl FnOnce(&mut gix::config::File) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let parsed = gix::config::File::from_bytes_no_includes(
        bytes,
        Metadata::from(Source::Local),
        gix::config::file::init::Options::default(),
    );
    let mut config = parsed.map_err(|error| error.to_string())?;
    change(&mut config)?;
    Ok(config.to_bstring().into())
}

/// The file `config.lock`. While it exists, Git does not change the configuration. It is removed if the change fails.
struct ConfigLock {
    /// `None` after the change: the lock has become the configuration, and a new one may belong to another program.
    path: Option<PathBuf>,
    file: File,
}

impl ConfigLock {
    fn acquire(config: &Path) -> Result<Self, String> {
        let path = config.with_extension("lock");
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => Ok(Self {
                path: Some(path),
                file,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(
                "another program is changing it, or left config.lock behind; remove that file if none is running"
                    .to_owned(),
            ),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes the new content, with the permissions of the old file, and replaces the file.
    fn write(mut self, config: &Path, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file
            .set_permissions(fs::metadata(config)?.permissions())?;
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            fs::rename(path, config)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for ConfigLock {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
