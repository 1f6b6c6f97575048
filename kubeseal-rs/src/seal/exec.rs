//! `seal exec`: a command with values in its environment or in files in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use shared::key_ring::KeyRing;
use shared::plain::Plain;
use shared::resource::SealedSecret;
use shared::unseal::{Chance, Rules, unseal};

use super::keys::store;
use super::walk::sealed_in;
use super::{Outcome, opening};
use crate::keys::record;
use crate::programs;
use crate::seal_args::Exec;
use crate::surroundings::Surroundings;

/// Runs the command in the place of this process.
///
/// # Errors
///
/// A file does not open, two items have one name, or the command cannot be started. Otherwise it does
/// not come back.
pub fn run(words: &Exec, surroundings: &Surroundings) -> Result<Outcome> {
    let ring = ring(words, surroundings)?;
    let values = values(words, &ring, surroundings)?;
    let [program, arguments @ ..] = words.command.as_slice() else {
        bail!("there is no command to run");
    };
    let path = find(program)?;
    let mut command = Command::new(path);
    command.args(arguments);
    // Kept open until the command has taken our place, and by it from then on.
    let mut files = Vec::new();
    for (key, value) in &values {
        if words.files {
            let file = memory::file(value.expose())
                .with_context(|| format!("a file in memory for {key}"))?;
            command.env(file_variable(key), memory::path(&file));
            files.push(file);
        } else {
            command.env(key, variable(key, value)?);
        }
    }
    let error = system::replace(&mut command, program);
    Err(error).with_context(|| format!("{} cannot be started", program.display()))
}

fn ring(words: &Exec, surroundings: &Surroundings) -> Result<KeyRing> {
    if words.backups.is_empty() {
        let records = store(&words.place, surroundings).and_then(|store| store.read());
        let records = records.context(
            "there are no keys to open with: name a backup with --backup, or a folder with --directory",
        )?;
        return Ok(record::ring(&records));
    }
    opening::ring(&[], &words.backups, &words.opening, surroundings)
}

/// Every value of every SealedSecret, templates rendered.
fn values(
    words: &Exec,
    ring: &KeyRing,
    surroundings: &Surroundings,
) -> Result<BTreeMap<String, Plain>> {
    let rules = Rules {
        accept_legacy: true,
        refuse_chance: false,
    };
    let mut chance = Chance {
        now: surroundings.now,
        rng: &mut rand::rng(),
    };
    let mut values = BTreeMap::new();
    for path in &words.paths {
        for sealed in sealed_in(path)? {
            let opened =
                unseal(&sealed, ring, rules, &mut chance).with_context(|| closed(path, &sealed))?;
            for (key, value) in opened.secret.data {
                if values.insert(key.clone(), value).is_some() {
                    bail!("several files have an item {key}; run the command with one of them");
                }
            }
        }
    }
    Ok(values)
}

fn closed(path: &Path, sealed: &SealedSecret) -> String {
    let (file, name) = (path.display(), sealed.name_or_empty());
    format!("{file} ({name}) does not open, so nothing was run; `seal doctor {file}` says why")
}

/// Bare names in absolute folders of `PATH` alone; what has a slash as it stands, since it was typed.
fn find(program: &OsString) -> Result<PathBuf> {
    let path = PathBuf::from(program);
    if path.components().count() > 1 {
        return Ok(path);
    }
    let name = program.to_string_lossy();
    programs::find(&name).with_context(|| format!("there is no program {name} in PATH"))
}

/// An item as the value of a variable.
fn variable(key: &str, value: &Plain) -> Result<OsString> {
    let is_name = key.bytes().enumerate().all(|(i, byte)| {
        byte == b'_' || byte.is_ascii_alphabetic() || i > 0 && byte.is_ascii_digit()
    });
    if !is_name {
        bail!("the item {key} cannot be the name of a variable; --files gives values as files");
    }
    if value.expose().contains(&0) {
        bail!(
            "the value of {key} has a zero byte, which no variable can hold; --files gives values as files"
        );
    }
    system::text(value.expose()).with_context(|| {
        format!("the value of {key} is no text, which a variable has to be here; --files gives values as files")
    })
}

/// `tls.key` → `tls_key_FILE`.
fn file_variable(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    key.chars().map(letter).chain("_FILE".chars()).collect()
}

#[cfg(unix)]
mod system {
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    /// Puts the command into the place of this process, or says why not.
    pub(super) fn replace(command: &mut Command, name: &OsStr) -> io::Error {
        command.arg0(name).exec()
    }

    /// Any bytes are the text of a variable.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere only Unicode is")]
    pub(super) fn text(bytes: &[u8]) -> Option<OsString> {
        Some(OsString::from_vec(bytes.to_vec()))
    }
}

#[cfg(not(unix))]
mod system {
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::process::Command;

    /// Runs the command and ends as it does, or says why it cannot be started.
    pub(super) fn replace(command: &mut Command, _: &OsStr) -> io::Error {
        match command.status() {
            Ok(status) => std::process::exit(status.code().unwrap_or(1)),
            Err(error) => error,
        }
    }

    pub(super) fn text(bytes: &[u8]) -> Option<OsString> {
        String::from_utf8(bytes.to_vec()).ok().map(OsString::from)
    }
}

#[cfg(target_os = "linux")]
mod memory {
    use std::fs::File;
    use std::io::{self, Write as _};
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{MemfdFlags, memfd_create};

    /// A file without a name in any folder, which stays open across `exec`.
    pub(super) fn file(bytes: &[u8]) -> io::Result<File> {
        let mut file = File::from(memfd_create("seal", MemfdFlags::empty())?);
        file.write_all(bytes)?;
        Ok(file)
    }

    pub(super) fn path(file: &File) -> String {
        format!("/proc/self/fd/{}", file.as_raw_fd())
    }
}

#[cfg(not(target_os = "linux"))]
mod memory {
    use std::fs::File;
    use std::io;

    pub(super) fn file(_: &[u8]) -> io::Result<File> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(super) fn path(_: &File) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_variables_become_variables() {
        let value = Plain::from("v".to_owned());
        for (key, is_one) in [
            ("password", true),
            ("DB_2", true),
            ("2", false),
            ("tls.key", false),
            ("a-b", false),
        ] {
            assert_eq!(variable(key, &value).is_ok(), is_one, "{key}");
        }
        assert!(variable("a", &Plain::from(vec![1, 0])).is_err());
        assert_eq!(file_variable("tls.key"), "tls_key_FILE");
    }
}
