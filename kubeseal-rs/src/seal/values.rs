//! Reads values from files, stdin and hidden prompts.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap_lex::OsStrExt as _;
use kubeseal_library::bounded::Kind;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use shared::plain::Plain;

use crate::failure::Failure;
use crate::prompt::{Prompt, PromptError};
use crate::report::{self, ShowPath as _, path_text};

/// Prompts for a value twice, without echo.
///
/// # Errors
///
/// Fails if there is no terminal, if the two entries differ, or if an entry has several lines or control characters.
pub fn prompt(key: &str) -> Result<Plain> {
    let ask_twice = || -> Result<_, PromptError> {
        let prompt = Prompt::open()?;
        let first = prompt.ask(&format!("Value of {key}: "))?;
        let second = prompt.ask("Confirm: ")?;
        prompt.close()?;
        Ok((first, second))
    };
    let (first, second) = ask_twice().map_err(|error| {
        let no_terminal = format!("no terminal to prompt for the value of {key:?}");
        let hint = "pass the value on stdin or from a file";
        error.into_failure(Failure::new(no_terminal).hint(hint), hint)
    })?;
    let [first, second] =
        [first, second].map(|mut answer| Plain::from(std::mem::take(&mut *answer)));
    if first != second {
        let message = format!("the two entries for {key:?} differ; nothing was written");
        bail!(Failure::new(message).hint("run the command again"));
    }
    Ok(first)
}

/// stdin, which can be read for one value only.
pub struct Stdin<'a> {
    environment: &'a Environment,
    is_read: bool,
}

impl<'a> Stdin<'a> {
    /// Creates a reader that has not read stdin yet.
    pub fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            is_read: false,
        }
    }

    /// Reads stdin to its end, unchanged. If stdin is a terminal, prompts for the value instead, because a terminal
    /// would show the input.
    ///
    /// # Errors
    ///
    /// Fails if stdin was read before or cannot be read, or if the prompt fails.
    pub fn read(&mut self, key: &str) -> Result<Plain> {
        if self.is_read {
            bail!(
                Failure::new("stdin can be read only once, but two values use it")
                    .hint("read one of the values from a file")
            );
        }
        self.is_read = true;
        if self.environment.stdin_is_terminal {
            return prompt(key);
        }
        Ok(Plain::from(std::mem::take(&mut *files::read_stdin_as(
            Kind::Value,
        )?)))
    }

    /// Like [`Self::read`], for a value. An empty value is most likely a mistake: the command
    /// before the pipe failed, or stdin is closed.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::read`], and for an empty value unless it is allowed.
    pub fn read_value(&mut self, key: &str, allow_empty: bool) -> Result<Plain> {
        let value = self.read(key)?;
        if value.expose().is_empty() && !allow_empty {
            let message = format!("the value of {key:?} is empty");
            bail!(Failure::new(message).hint("pass --allow-empty to set an empty value"));
        }
        Ok(value)
    }

    /// Reads a file, or stdin for `-`.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read; for `-`, as [`Self::read`] does.
    pub fn read_file(&mut self, path: &Path) -> Result<Plain> {
        if path == Path::new("-") {
            return self.read("stdin");
        }
        Ok(Plain::from(std::mem::take(&mut *files::read_as(
            path,
            Kind::Value,
        )?)))
    }

    /// Returns the items of one `--from-file`: `KEY=PATH`, `PATH` (the file name is the key), or a
    /// directory, whose files become one item each, as with `kubectl`.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, or has no name to use as a key.
    pub fn from_file(&mut self, arg: &OsStr) -> Result<Vec<(String, Plain)>> {
        if let Some((key, path)) = arg.split_once("=") {
            let key = key.to_str().with_context(|| {
                let key = path_text(key);
                format!("--from-file: the key {key} is not valid UTF-8")
            })?;
            return Ok(vec![(key.to_owned(), self.read_file(Path::new(path))?)]);
        }
        let path = Path::new(arg);
        if path.is_dir() {
            return from_directory(path);
        }
        let key = path.file_name().filter(|_| arg != "-");
        let key =
            key.context("invalid value for --from-file: expected [KEY=]FILE, or KEY=- for stdin")?;
        Ok(vec![(
            key.to_string_lossy().into_owned(),
            self.read_file(path)?,
        )])
    }
}

/// Reads the files in a directory. Files whose names cannot be item keys are skipped, and so are symbolic links, as by
/// `kubectl`: the author of a link would choose which of the user's files is sealed.
fn from_directory(directory: &Path) -> Result<Vec<(String, Plain)>> {
    let cannot_read = || format!("cannot read {}", directory.shown());
    let mut items = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(cannot_read)? {
        let entry = entry.with_context(cannot_read)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(cannot_read)?);
        let key = entry.file_name().to_string_lossy().into_owned();
        if kind.is_symlink() && !path.is_dir() {
            report::warn(&format!(
                "skipped the symbolic link {}; to seal its target, pass --from-file {key}={0}",
                path.shown()
            ));
        }
        if kind.is_file() && super::names::check_item(&key).is_ok() {
            items.push((
                key,
                Plain::from(std::mem::take(&mut *files::read_as(&path, Kind::Value)?)),
            ));
        }
    }
    items.sort_by(|a, b| a.0.cmp(&b.0));
    if items.is_empty() {
        let message = format!(
            "the directory {} contains no file whose name can be an item key",
            directory.shown()
        );
        let hint = "subdirectories are not read; pass a file with --from-file KEY=FILE";
        bail!(Failure::new(message).hint(hint));
    }
    Ok(items)
}

/// Warns about a value that the user most likely did not intend.
pub fn warn_about(key: &str, value: &Plain) {
    if value.expose().is_empty() {
        report::warn(&format!("the value of {key} is empty"));
    }
    warn_about_byte_order_mark("", key, value);
}

/// Warns about a value that begins with a byte order mark. `prefix` begins the message.
pub fn warn_about_byte_order_mark(prefix: &str, key: &str, value: &Plain) {
    let mark = match value.expose() {
        [0xef, 0xbb, 0xbf, ..] => "UTF-8",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        _ => return,
    };
    report::warn(&format!(
        "{prefix}the value of {key} begins with a {mark} byte order mark, which is sealed as part of it; remove it \
         if the program that reads the value does not expect it"
    ));
}

/// Parses the `KEY=VALUE` argument of a flag. Errors do not repeat the argument, which may contain a value.
///
/// # Errors
///
/// Fails if there is no equals sign.
pub fn parse_pair(arg: &str, flag: &str) -> Result<(String, String)> {
    let pair = arg.split_once('=');
    let (key, value) =
        pair.with_context(|| format!("invalid value for --{flag}: expected KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}
