//! Prints all output of the programs, results to stdout and messages to stderr, and chooses the exit
//! code.
//!
//! Names and texts in files are untrusted, and must not control the terminal. Messages are escaped
//! here. Results for people are escaped with [`shown`] where they are formatted.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use flags::Stop;
use serde_json::Value as Json;
use shared::manifest;
use shared::{error_chain, visible, visible_line};
use zeroize::Zeroizing;

use crate::command::CommandError;
use crate::seal::Outcome;
use crate::surroundings::Surroundings;

/// The exit code for a command line that cannot be parsed.
const USAGE: u8 = 2;
/// Exit codes of `seal`: 1 if a check has findings, 2 if it failed. Like grep and diff, so that
/// scripts can distinguish the two.
const FINDINGS: u8 = 1;
const FAILED: u8 = 2;

/// Prints a message that is not the result. Names in it cannot start a new line.
pub fn say(sentence: &str) {
    talk(&format!("{}\n", shown(sentence)));
}

/// Prints a message of several lines.
pub fn say_lines(sentences: &str) {
    talk(&format!("{sentences}\n"));
}

/// Prints a warning. The run continues.
pub fn warn(sentence: &str) {
    talk(&format!("warning: {sentence}\n"));
}

/// Whether an error occurred while the run continued.
static IS_INCOMPLETE: AtomicBool = AtomicBool::new(false);

/// Prints an error and continues. The exit code at the end is a failure.
pub fn fail_at_end(sentence: &str) {
    IS_INCOMPLETE.store(true, Ordering::Relaxed);
    talk(&format!("error: {sentence}\n"));
}

/// Writes to stderr. A write error, such as a closed pipe, does not stop the run.
fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(lines_shown(text).as_bytes());
}

/// Escapes a text of one line for display: control characters, line breaks, bidirectional marks,
/// and commands to the GitHub Actions runner.
pub fn shown(text: &str) -> Cow<'_, str> {
    without_commands(visible_line(text))
}

/// Like [`shown`], for a text of several lines.
pub fn lines_shown(text: &str) -> Cow<'_, str> {
    without_commands(visible(text))
}

/// Escapes workflow commands: GitHub Actions executes a line that begins with two colons, and `##[`
/// anywhere.
fn without_commands(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains("::") && !text.contains("##[") {
        return text;
    }
    let lines = text.split_inclusive('\n').map(|line| {
        let line = line.replace("##[", "#\\u{23}[");
        let rest = line.trim_start();
        if !rest.starts_with("::") {
            return line;
        }
        let indent = &line[..line.len() - rest.len()];
        format!("{indent}\\u{{3a}}{}", &rest[1..])
    });
    Cow::Owned(lines.collect())
}

/// Formats paths for messages. [`Path::display`] would print line breaks in a name.
pub trait ShowPath {
    /// Escapes a path like [`shown`]; bytes that are not UTF-8 become U+FFFD. A relative path that
    /// begins like a workflow command gets the prefix `./`, which names the same file.
    fn shown(&self) -> String;
}

impl<P: AsRef<Path> + ?Sized> ShowPath for P {
    fn shown(&self) -> String {
        let path = self.as_ref().to_string_lossy();
        let begins_a_command = path.trim_start().starts_with("::") || path.starts_with('#');
        if begins_a_command {
            return shown(&format!("./{path}")).into_owned();
        }
        shown(&path).into_owned()
    }
}

/// Escapes JSON for display without changing its meaning. Characters that control a terminal can
/// only be in strings, where they are replaced by `\u` escapes.
pub fn json_shown(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if lines_shown(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8() {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

/// Formats a document as YAML that contains neither terminal control characters nor workflow
/// commands.
pub fn yaml_shown(document: &Json) -> String {
    let text = Zeroizing::new(manifest::to_visible_yaml(document));
    if without_commands(Cow::Borrowed(&text)) == *text {
        return text.to_string();
    }
    manifest::to_inert_yaml(document)
}

/// Ends a run of `kubeseal`: exit code 0, or 1 with the error and its causes.
pub fn finish(result: Result<(), CommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            talk(&format!("error: {}\n", error_chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Ends a run of `seal`: exit code 0, 1 if a check has findings, or 2 with the error and its
/// causes.
pub fn finish_seal(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(_) if IS_INCOMPLETE.load(Ordering::Relaxed) => ExitCode::from(FAILED),
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(FINDINGS),
        Err(error) => {
            talk(&format!("error: {}\n", error_chain(error.as_ref())));
            ExitCode::from(FAILED)
        }
    }
}

/// Ends a run that stopped while parsing the command line.
pub fn stop(stop: Stop) -> ExitCode {
    match stop {
        Stop::Help(text) => match print(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Stop::Usage(text) => {
            talk(&text);
            ExitCode::from(USAGE)
        }
        Stop::Refused(text) => {
            talk(&format!("error: {text}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Colours for output on a terminal that supports them, unless `NO_COLOR` is set.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Returns the colours for stdout.
    pub fn for_stdout(surroundings: &Surroundings) -> Self {
        let dumb = surroundings
            .variable("TERM")
            .is_none_or(|term| term == "dumb");
        let unwanted = surroundings.filled_variable("NO_COLOR").is_some();
        Self {
            on: surroundings.stdout_is_terminal && !dumb && !unwanted,
        }
    }

    /// Colours text that is wrong or removed.
    pub fn red(self, text: &str) -> String {
        self.colour("31", text)
    }

    /// Colours text that is added.
    pub fn green(self, text: &str) -> String {
        self.colour("32", text)
    }

    /// Colours text that needs attention.
    pub fn yellow(self, text: &str) -> String {
        self.colour("33", text)
    }

    fn colour(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes a result to stdout. A closed pipe is not an error.
///
/// # Errors
///
/// Returns any other write error.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use serde_json::json;

    use super::*;

    /// Attack: puts terminal escapes and bidirectional marks into names that a reviewer prints.
    #[test]
    fn what_steers_a_terminal_is_shown_and_does_not_do_it() {
        for (text, want) in [
            ("password", "password"),
            ("größe \u{65e5}", "größe \u{65e5}"),
            ("\u{1b}[1A\u{1b}[2K", "\\u{1b}[1A\\u{1b}[2K"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{7f}\u{9b}2J", "\\u{7f}\\u{9b}2J"),
            ("\u{202e}x\u{2069}", "\\u{202e}x\\u{2069}"),
            ("\u{200e}\u{200f}\u{61c}", "\\u{200e}\\u{200f}\\u{61c}"),
            ("\u{200b}\u{feff}\u{e0041}", "\\u{200b}\\u{feff}\\u{e0041}"),
        ] {
            assert_eq!(shown(text), want);
        }
        assert_eq!(lines_shown("a\n\u{1b}b"), "a\n\\u{1b}b");
        assert_eq!(Path::new("a\nb\u{9b}").shown(), "a\\nb\\u{9b}");
    }

    /// Attack: uses a command to the GitHub Actions runner as a name.
    #[test]
    fn no_text_is_a_command_of_a_workflow() {
        for (text, want) in [
            ("a::b", "a::b"),
            ("::error::b", "\\u{3a}:error::b"),
            (" ::error::b", " \\u{3a}:error::b"),
            ("a ##[error]b", "a #\\u{23}[error]b"),
        ] {
            assert_eq!(shown(text), want);
            assert_eq!(lines_shown(&format!("x\n{text}\n")), format!("x\n{want}\n"));
        }
        for (path, want) in [
            ("::error::/a", "./::error::/a"),
            ("#a", "./#a"),
            ("/::error::", "/::error::"),
            ("a/::error::", "a/::error::"),
        ] {
            assert_eq!(Path::new(path).shown(), want);
        }
    }

    /// Attack: puts a line with a command to the GitHub Actions runner into a YAML text.
    #[test]
    fn no_text_in_yaml_is_a_command_of_a_workflow() {
        let long = format!("{} ::error::x {0} ::error::x", "a".repeat(90));
        for text in [
            "::error::x",
            "a\n::error::x\n",
            &long,
            "x ##[error]y",
            "a\n ##[error]y",
        ] {
            for document in [json!({text: 1}), json!([text]), json!({"a": {"b": text}})] {
                let yaml = yaml_shown(&document);
                assert_eq!(lines_shown(&yaml), yaml);
                let read = manifest::read(yaml.as_bytes()).unwrap();
                let read = manifest::Reading::default()
                    .json(&read[0].root, manifest::Shape::Any)
                    .unwrap();
                assert_eq!(read, document);
            }
        }
        assert_eq!(yaml_shown(&json!({"a": "b::c"})), "a: b::c\n");
    }

    proptest! {
        /// Attack: puts any text into a JSON string that a person prints.
        #[test]
        fn nothing_in_json_steers_a_terminal(text in any::<String>()) {
            let json = json_shown(&serde_json::to_string_pretty(&[&text]).unwrap());
            prop_assert_eq!(lines_shown(&json), json.as_str());
            prop_assert_eq!(json.lines().count(), 3);
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
        }
    }
}
