//! Writes new SealedSecrets: to a file that does not exist yet, or to stdout.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use kubeseal_library::bounded::Kind;
use kubeseal_library::files;
use kubeseal_library::format::Format;
use kubeseal_library::format::write;
use zeroize::Zeroizing;

use super::sealing::Sealed;
use super::{Outcome, print};
use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;
use crate::seal_args::Destination;

/// The path of stdout, which may be redirected to an existing file.
pub const STDOUT: &str = "/dev/stdout";

/// Returns the error for a file that already exists.
pub fn already_exists_failure(path: &Path) -> Failure {
    Failure::new(format!("{} already exists", path.shown()))
        .hint("change its items with `seal set`, or move the file away")
}

impl Destination {
    /// Returns the file to write; `None` for stdout, even if its path is given.
    fn file(&self) -> Option<&Path> {
        let file = self.write.as_deref();
        file.filter(|path| *path != Path::new(STDOUT))
    }

    /// Returns the path that selects the rule: the file to write, unless it is a special file, or the path of `--for`.
    /// Defaults to NAME.yaml in the current directory.
    pub fn path(&self, name: &str) -> PathBuf {
        let file = self.file().filter(|path| !is_special_file(path));
        let path = file.or(self.for_path.as_deref());
        path.map_or_else(|| PathBuf::from(format!("{name}.yaml")), Path::to_owned)
    }

    /// Returns the format of `-o`; otherwise JSON if the file's extension is `json`, else YAML.
    pub fn format(&self) -> Format {
        let is_json = |path: &Path| path.extension().is_some_and(|ending| ending == "json");
        match (self.output, &self.write) {
            (Some(format), _) => format,
            (None, Some(path)) if is_json(path) => Format::Json,
            _ => Format::Yaml,
        }
    }

    /// Checks that the file may be written, before the user is asked for a value.
    ///
    /// # Errors
    ///
    /// Fails if the path exists and is not a special file, or if a symbolic link on it leads out of the work tree or
    /// into a Git directory.
    pub fn check(&self) -> Result<()> {
        let Some(path) = self.file() else {
            return Ok(());
        };
        files::check_inside_tree(path)?;
        if path.exists() && !is_special_file(path) {
            bail!(already_exists_failure(path));
        }
        Ok(())
    }

    /// Writes the objects to the new file of `-w`, or prints them.
    ///
    /// # Errors
    ///
    /// Fails if the file already exists and is not a special file, or if it cannot be written.
    pub fn write_new(&self, sealed: &[Sealed]) -> Result<Outcome> {
        let documents: Vec<_> = sealed
            .iter()
            .map(|sealed| sealed.object.to_document())
            .collect();
        let text: Zeroizing<Vec<u8>> = write(&documents, self.format());
        let Some(path) = self.file() else {
            return print(&text);
        };
        let result = if is_special_file(path) {
            files::replace(path, &text)
        } else {
            files::create(path, &text)
        };
        match result {
            Err(error) if error.already_exists() => bail!(already_exists_failure(path)),
            result => result?,
        }
        for secret in sealed {
            report::info(&format!("{}: {}", path.shown(), secret.describe()));
        }
        Ok(Outcome::Done)
    }
}

/// Refuses to replace a file that is not the output of the same command, which `is_own` recognizes and `own` names. An
/// empty file, a pipe and a device have no content to lose.
///
/// # Errors
///
/// Fails if the file has other content, or cannot be read.
pub fn refuse_other_file(path: &Path, own: &str, is_own: impl Fn(&[u8]) -> bool) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let bytes = files::read_as(path, Kind::Page)?;
    if is_own(&bytes) || bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    let message = format!("{} already exists and is not {own}", path.shown());
    bail!(Failure::new(message).hint("choose another name, or pass --replace"));
}

/// Returns whether the path leads to a special file, such as a device, a pipe or a socket: neither a regular file nor a
/// directory.
pub fn is_special_file(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}
