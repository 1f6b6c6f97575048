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
    Failure::new(format!("{} already exists", path.shown()))
        .hint("change its items with `seal set`, or move the file away")
}

impl Destination {
    /// Returns the path that selects the rule: the file to write, or the path of `--for`. Defaults
    /// to NAME.yaml in the current directory.
    pub fn path(&self, name: &str) -> PathBuf {
        let path = self.write.clone().or_else(|| self.for_path.clone());
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

    /// Checks that the file does not exist, before the user is asked for a value.
    ///
    /// # Errors
    ///
    /// Fails if the file exists.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.write {
            Some(path) if path.exists() => Err(already_exists_failure(path)),
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
        match files::create(path, &text) {
            Err(error) if error.already_exists() && !is_device(path) => {
                bail!(already_exists_failure(path));
            }
            // A device such as `/dev/stdout` always exists.
            Err(error) if error.already_exists() => files::replace(path, &text)?,
            result => result?,
        }
        for secret in sealed {
            report::info(&format!("{}: {}", path.shown(), secret.describe()));
        }
        Ok(Outcome::Done)
    }
}

fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}
