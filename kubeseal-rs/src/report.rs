//! The only place that prints: results to stdout, talk to stderr, and the exit code.
//!
//! Names and texts of files are other people's. Where people read them, nothing in them may steer the
//! terminal: talk is escaped here, and results for people with [`shown`] where they are put together.

use std::borrow::Cow;
use std::ffi::OsStr;
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

/// Exit code for words that cannot be understood.
const USAGE: u8 = 2;
/// Exit codes of `seal`: a check has findings; it failed. As with grep and diff, so that a script can
/// tell the two apart.
const FINDINGS: u8 = 1;
const FAILED: u8 = 2;

/// Says a sentence that is not the result. Names in it begin no line of their own.
pub fn say(sentence: &str) {
    talk(&format!("{}\n", shown(sentence)));
}

/// The same of several lines.
pub fn say_lines(sentences: &str) {
    talk(&format!("{sentences}\n"));
}

/// Warns about something that does not stop the run.
pub fn warn(sentence: &str) {
    talk(&format!("warning: {sentence}\n"));
}

/// Did something fail while the rest went on?
static IS_INCOMPLETE: AtomicBool = AtomicBool::new(false);

/// Says what failed while the rest goes on. The run fails at its end for it.
pub fn fail_at_end(sentence: &str) {
    IS_INCOMPLETE.store(true, Ordering::Relaxed);
    talk(&format!("error: {sentence}\n"));
}

/// Asks on the terminal; the answer is typed on the same line.
pub fn ask(question: &str) {
    talk(question);
}

/// Writes to stderr. A run goes on when nobody listens any more.
fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(lines_shown(text).as_bytes());
}

/// A text of one line as a terminal may show it: without what would begin a new line, move the cursor, hide
/// what stands before, turn the direction around, or be a command to the runner of GitHub Actions.
pub fn shown(text: &str) -> Cow<'_, str> {
    without_commands(visible_line(text))
}

/// The same of several lines.
pub fn lines_shown(text: &str) -> Cow<'_, str> {
    without_commands(visible(text))
}

/// The runner obeys every line that begins with two colons, and `##[` anywhere.
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

/// The text of a path, in which each byte that is not part of UTF-8 is written as `\xff`.
pub fn path_text(path: &OsStr) -> Cow<'_, str> {
    if let Some(text) = path.to_str() {
        return Cow::Borrowed(text);
    }
    let mut text = String::new();
    for chunk in path.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    Cow::Owned(text)
}

/// How a path is shown in messages. [`Path::display`] would let a name begin a new line.
pub trait ShowPath {
    /// As [`shown`], of [`path_text`]. A relative path that begins like a command of a
    /// workflow gets `./` in front, and so names the same file.
    fn shown(&self) -> String;
}

impl<P: AsRef<Path> + ?Sized> ShowPath for P {
    fn shown(&self) -> String {
        let path = path_text(self.as_ref().as_os_str());
        let begins_a_command = path.trim_start().starts_with("::") || path.starts_with('#');
        if begins_a_command {
            return shown(&format!("./{path}")).into_owned();
        }
        shown(&path).into_owned()
    }
}

/// Finished JSON, which programs read as before and which does nothing to a terminal: what would steer one
/// can stand in strings only, and is escaped there.
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

/// YAML of a document that neither steers a terminal nor holds a command of a workflow.
pub fn yaml_shown(document: &Json) -> String {
    let text = Zeroizing::new(manifest::to_visible_yaml(document));
    if without_commands(Cow::Borrowed(&text)) == *text {
        return text.to_string();
    }
    manifest::to_inert_yaml(document)
}

/// Ends a run: 0, or 1 with the error and its causes.
pub fn finish(result: Result<(), CommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            talk(&format!("error: {}\n", error_chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Ends a run of `seal`: 0, 1 if a check has findings, or 2 with the error and its causes.
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

/// Ends a run that never began.
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

/// Colour, where a person reads and wants it: on a terminal that has colours, unless `NO_COLOR` is set.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For what goes to stdout.
    pub fn for_stdout(surroundings: &Surroundings) -> Self {
        let dumb = surroundings
            .variable("TERM")
            .is_none_or(|term| term == "dumb");
        let unwanted = surroundings.filled_variable("NO_COLOR").is_some();
        Self {
            on: surroundings.stdout_is_terminal && !dumb && !unwanted,
        }
    }

    /// What is wrong or gone.
    pub fn red(self, text: &str) -> String {
        self.colour("31", text)
    }

    /// What is new.
    pub fn green(self, text: &str) -> String {
        self.colour("32", text)
    }

    /// What to look at.
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

/// Writes a result to stdout. A reader that has gone away is not an error.
///
/// # Errors
///
/// Any other failure to write.
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

    /// Attack: a name is a command to the runner of GitHub Actions.
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

    /// Attack: a text in YAML begins a line with a command to the runner of GitHub Actions.
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
        /// Attack: any text stands in a string of JSON that a person looks at.
        #[test]
        fn nothing_in_json_steers_a_terminal(text in any::<String>()) {
            let json = json_shown(&serde_json::to_string_pretty(&[&text]).unwrap());
            prop_assert_eq!(lines_shown(&json), json.as_str());
            prop_assert_eq!(json.lines().count(), 3);
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
        }
    }
}
