//! Writes new SealedSecrets: to a file that does not exist yet, or to stdout.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
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

/// Returns the error for a file that exists already.
pub fn already_exists_failure(path: &Path) -> Failure {
    let failure = Failure::new(format!("{} already exists", path.shown()));
    if path.starts_with("/dev") {
        // For example `/dev/stdout`, if the shell redirects stdout to a file.
        return failure.hint("omit -w to write to stdout");
    }
    failure.hint("change its items with `seal set`, or move the file away")
}

impl Destination {
    /// Returns the path that selects the rule: the file to write, or the path of `--for`. Defaults
    /// to NAME.yaml in the current directory, also if the output is a device such as `/dev/stdout`.
    pub fn path(&self, name: &str) -> PathBuf {
        let file = self.write.clone().filter(|path| !is_device(path));
        let path = file.or_else(|| self.for_path.clone());
        path.unwrap_or_else(|| PathBuf::from(format!("{name}.yaml")))
    }

    /// Returns the format of `-o`, or else of the file's extension.
    pub fn format(&self) -> Format {
        let is_json = |path: &Path| path.extension().is_some_and(|ending| ending == "json");
        match (self.output, &self.write) {
            (Some(format), _) => format,
            (None, Some(path)) if is_json(path) => Format::Json,
            _ => Format::Yaml,
        }
    }

    /// Checks that the file does not exist or is a device, before the user is asked for a value.
    ///
    /// # Errors
    ///
    /// Fails if the file exists and is not a device.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.write {
            Some(path) if path.exists() && !is_device(path) => Err(already_exists_failure(path)),
            _ => Ok(()),
        }
    }

    /// Writes the objects to the new file of `-w`, or prints them.
    ///
    /// # Errors
    ///
    /// Fails if the file exists and is not a device, or if it cannot be written.
    pub fn write_new(&self, sealed: &[Sealed]) -> Result<Outcome> {
        let documents: Vec<_> = sealed
            .iter()
            .map(|sealed| sealed.object.to_document())
            .collect();
        let text: Zeroizing<Vec<u8>> = write(&documents, self.format());
        let Some(path) = &self.write else {
            return print(&text);
        };
        if is_device(path) {
            files::replace(path, &text)?;
        } else {
            create(path, &text)?;
        }
        for secret in sealed {
            report::info(&format!("{}: {}", path.shown(), secret.describe()));
        }
        Ok(Outcome::Done)
    }
}

fn create(path: &Path, text: &[u8]) -> Result<()> {
    match files::create(path, text) {
        Err(error) if error.already_exists() => bail!(already_exists_failure(path)),
        result => Ok(result?),
    }
}

/// Returns whether a path is a device or pipe, such as `/dev/stdout`, which is written to. Its directory allows no new
/// files.
fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}
