//! `seal exec`: a command with values in its environment or in files in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::key_ring::KeyRing;
use shared::plain::Plain;
use shared::resource::SealedSecret;
use shared::unseal::{Chance, Rules, unseal};

use super::keys::store;
use super::walk::sealed_in;
use super::{Outcome, opening};
use crate::keys::record;
use crate::platform::{self, memory};
use crate::programs;
use crate::seal_args::Exec;
use crate::surroundings::Surroundings;

/// What to do about a value that no variable can hold.
const OTHERWISE: &str = if memory::IS_THERE {
    "; --files gives values as files"
} else {
    ""
};

/// Runs the command in the place of this process.
///
/// # Errors
///
/// A file does not open, two items have one name, or the command cannot be started. Otherwise it does
/// not come back.
pub fn run(words: &Exec, surroundings: &Surroundings) -> Result<Outcome> {
    if words.files && !memory::IS_THERE {
        bail!(
            "this system has no files in memory, and plain values do not go to a disk; without --files they are \
             in the environment of the command"
        );
    }
    let ring = ring(words, surroundings)?;
    let values = values(words, &ring, surroundings)?;
    let [program, arguments @ ..] = words.command.as_slice() else {
        bail!("there is no command to run");
    };
    let mut command = Command::new(find(program)?);
    command.args(arguments);
    // Kept open until the command has taken our place, and by it from then on.
    let _files = give(&mut command, &values, words.files)?;
    let error = platform::become_command(command, program);
    Err(error).with_context(|| format!("{} cannot be started", program.display()))
}

/// Puts values into the environment of a command, or into files that it has to inherit.
fn give(
    command: &mut Command,
    values: &BTreeMap<String, Plain>,
    in_files: bool,
) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for (name, (key, value)) in names(values, in_files)?.iter().zip(values) {
        if in_files {
            let file = memory::file(value.expose())
                .with_context(|| format!("a file in memory for {key}"))?;
            command.env(name, memory::path(&file));
            files.push(file);
        } else {
            command.env(name, variable(key, value)?);
        }
    }
    Ok(files)
}

/// The variable of each item.
fn names(values: &BTreeMap<String, Plain>, in_files: bool) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for key in values.keys() {
        let name = if in_files {
            file_variable(key)
        } else {
            key.clone()
        };
        let is_taken = |(there, _): &(&String, _)| platform::is_same_variable(there, &name);
        if let Some((_, other)) = names.iter().zip(values.keys()).find(is_taken) {
            bail!("the items {other} and {key} would both be the variable {name}");
        }
        names.push(name);
    }
    Ok(names)
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
                unseal(&sealed, ring, rules, &mut chance).map_err(|error| anyhow!(error.exact()));
            let opened = opened.with_context(|| closed(path, &sealed))?;
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
        bail!("the item {key} cannot be the name of a variable{OTHERWISE}");
    }
    if decides_what_runs(key) {
        bail!(
            "the item {key} would decide which code the command runs, and anybody who has the certificate may have \
             sealed it: it does not become a variable{OTHERWISE}"
        );
    }
    if value.expose().contains(&0) {
        bail!("the value of {key} has a zero byte, which no variable can hold{OTHERWISE}");
    }
    platform::variable(value.expose()).with_context(|| {
        format!(
            "the value of {key} is not text, and no variable of this system holds anything else"
        )
    })
}

/// Variables by which linkers, shells and interpreters find code. A list of such is never whole; these
/// are the ones that any command obeys, and those of the usual languages.
const CODE: [&str; 26] = [
    "BASH_ENV",
    "CDPATH",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
    "GCONV_PATH",
    "GIT_EXEC_PATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "PATH",
    "PATHEXT",
    "PERL5LIB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "_JAVA_OPTIONS",
];

fn decides_what_runs(key: &str) -> bool {
    let of_linker = ["LD_", "DYLD_", "GIT_CONFIG"]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    of_linker
        || CODE
            .iter()
            .any(|name| platform::is_same_variable(name, key))
}

/// `tls.key` → `tls_key_FILE`.
fn file_variable(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    key.chars().map(letter).chain("_FILE".chars()).collect()
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
            ("LD_PRELOAD", false),
            ("PATH", false),
            ("DB_PATH", true),
        ] {
            assert_eq!(variable(key, &value).is_ok(), is_one, "{key}");
        }
        assert!(variable("a", &Plain::from(vec![1, 0])).is_err());
        assert_eq!(file_variable("tls.key"), "tls_key_FILE");
    }
}
