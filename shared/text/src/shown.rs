//! Escapes untrusted names and strings for display: they must not control the terminal or the CI system.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use crate::{visible, visible_line};

/// Escapes a string for display on one line: invisible characters, line breaks, and workflow commands of GitHub
/// Actions.
pub fn shown(text: &str) -> Cow<'_, str> {
    without_commands(visible_line(text))
}

/// Like [`shown`], for a string of several lines.
pub fn lines_shown(text: &str) -> Cow<'_, str> {
    without_commands(visible(text))
}

/// Escapes workflow commands: GitHub Actions executes lines that begin with two colons, and `##[` anywhere in a line.
pub fn without_commands(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains("::") && !text.contains("##[") {
        return text;
    }
    let lines = text.split_inclusive('\n').map(|line| {
        let line = line.replace("##[", "#\\u{23}[");
        let trimmed = line.trim_start();
        if !trimmed.starts_with("::") {
            return line;
        }
        let indent = &line[..line.len() - trimmed.len()];
        format!("{indent}\\u{{3a}}{}", &trimmed[1..])
    });
    Cow::Owned(lines.collect())
}

/// Returns a path as a string. Each byte that is not part of UTF-8 is written as `\x` and two hexadecimal digits.
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

/// Formats paths for messages. [`Path::display`] would print line breaks in a name.
pub trait ShowPath {
    /// Returns the [`path_text`] of the path, escaped as [`shown`] does. A relative path that begins like a workflow
    /// command of GitHub Actions gets the prefix `./`, which does not change the file that it names.
    fn shown(&self) -> String;
}

impl<P: AsRef<Path> + ?Sized> ShowPath for P {
    fn shown(&self) -> String {
        let path = path_text(self.as_ref().as_os_str());
        let is_like_command = path.trim_start().starts_with("::") || path.starts_with('#');
        if is_like_command {
            return shown(&format!("./{path}")).into_owned();
        }
        shown(&path).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a committer places terminal escapes and bidirectional marks in names, to deceive a reviewer who prints
    /// them.
    #[test]
    fn escapes_terminal_control_characters() {
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

    /// Attack: a committer uses a workflow command of GitHub Actions as a name, so that the runner executes it.
    #[test]
    fn escapes_workflow_commands() {
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
}
