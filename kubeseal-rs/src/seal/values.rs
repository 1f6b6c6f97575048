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
    trims: bool,
}

impl<'a> Stdin<'a> {
    /// Creates a reader that has not read stdin yet.
    pub fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            is_read: false,
            trims: false,
        }
    }

    /// Returns the reader, with the setting whether [`Self::read_value`], [`Self::read_value_file`] and
    /// [`Self::from_file`] trim values with [`trim`].
    #[must_use]
    pub fn trimming(self, trims: bool) -> Self {
        Self { trims, ..self }
    }

    fn trim(&self, value: Plain) -> Plain {
        if self.trims { trim(value) } else { value }
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

    /// Like [`Self::read`], for a value, which is trimmed if requested. An empty value is most likely a mistake: the
    /// command before the pipe failed, or stdin is closed.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::read`], and for an empty value unless it is allowed.
    pub fn read_value(&mut self, key: &str, allow_empty: bool) -> Result<Plain> {
        let value = self.read(key)?;
        let value = self.trim(value);
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

    /// Like [`Self::read_file`], for a value, which is trimmed if requested.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::read_file`].
    pub fn read_value_file(&mut self, path: &Path) -> Result<Plain> {
        let value = self.read_file(path)?;
        Ok(self.trim(value))
    }

    /// Returns the items of one `--from-file`: `KEY=PATH`, `PATH` (the file name is the key), or a
    /// directory, whose files become one item each, as with `kubectl`. Values are trimmed if requested.
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
            return Ok(vec![(
                key.to_owned(),
                self.read_value_file(Path::new(path))?,
            )]);
        }
        let path = Path::new(arg);
        if path.is_dir() {
            let items = from_directory(path)?.into_iter();
            return Ok(items.map(|(key, value)| (key, self.trim(value))).collect());
        }
        let key = path.file_name().filter(|_| arg != "-");
        let key =
            key.context("invalid value for --from-file: expected [KEY=]FILE, or KEY=- for stdin")?;
        Ok(vec![(
            key.to_string_lossy().into_owned(),
            self.read_value_file(path)?,
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

/// Returns the name of the input at a path, for messages.
pub fn source(path: &Path) -> String {
    if path == Path::new("-") {
        return "stdin".to_owned();
    }
    path.shown()
}

/// Removes a UTF-8 byte order mark at the start of a value, and one line break at its end.
pub fn trim(value: Plain) -> Plain {
    let Some(text) = value.expose().strip_prefix(UTF8_MARK) else {
        return without_line_break(value);
    };
    without_line_break(Plain::from(text.to_vec()))
}

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Removes one line break at the end (LF, CRLF or CR), as `docker login --password-stdin` does: `echo` and editors add
/// it, and it cannot be entered in a login form.
pub fn without_line_break(value: Plain) -> Plain {
    let text = value.expose();
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() == text.len() {
        return value;
    }
    Plain::from(line.to_vec())
}

/// Warns about a value that the user most likely did not intend. For commands with `--trim`.
pub fn warn_about(key: &str, value: &Plain) {
    if value.expose().is_empty() {
        report::warn(&format!("the value of {key} is empty"));
    }
    let remedy = match byte_order_mark(value) {
        Some("UTF-8") => "pass --trim to remove it",
        _ => REMOVE_MARK,
    };
    warn_about_mark("", key, value, remedy);
}

/// Warns about a value from stdin that ends with a line break. For commands with `--trim`.
pub fn warn_about_line_break(value: &Plain) {
    if value.expose().ends_with(b"\n") {
        report::warn(
            "the value ends with a line break, which is sealed as part of it; to remove it, pass --trim, or write the \
             value with `printf %s`",
        );
    }
}

/// Warns about a value that begins with a byte order mark. `prefix` begins the message.
pub fn warn_about_byte_order_mark(prefix: &str, key: &str, value: &Plain) {
    warn_about_mark(prefix, key, value, REMOVE_MARK);
}

const REMOVE_MARK: &str = "remove it";

fn warn_about_mark(prefix: &str, key: &str, value: &Plain, remedy: &str) {
    if let Some(mark) = byte_order_mark(value) {
        report::warn(&format!(
            "{prefix}the value of {key} begins with a {mark} byte order mark, which is sealed as part of it; {remedy} if \
             the program that reads the value does not expect it"
        ));
    }
}

fn byte_order_mark(value: &Plain) -> Option<&'static str> {
    match value.expose() {
        [0xef, 0xbb, 0xbf, ..] => Some("UTF-8"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimming_removes_one_line_break_and_one_mark() {
        for (value, want) in [
            (&b"x\n"[..], &b"x"[..]),
            (b"x\r\n", b"x"),
            (b"x\n\n", b"x\n"),
            (b"\nx", b"\nx"),
            (b" x \t", b" x \t"),
            (b"\xef\xbb\xbfx\r\n", b"x"),
            (b"\xef\xbb\xbf\xef\xbb\xbfx", b"\xef\xbb\xbfx"),
            (b"\xff\xfex\0", b"\xff\xfex\0"),
            (b"\n", b""),
            (b"", b""),
        ] {
            assert_eq!(
                trim(Plain::from(value.to_vec())).expose(),
                want,
                "{value:?}"
            );
        }
    }
}
