//! The failure of a `seal` or `seal-deliver` command, with hints for the user.

use std::error::Error;
use std::fmt;

use text::{error_chain, shown};

/// The failure of a `seal` or `seal-deliver` command, with hints for the user. Each failure has the same exit code;
/// findings of a check are not a failure, but an outcome.
///
/// When formatted, each hint is a `hint: …` line after the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    hints: Vec<String>,
}

/// The end of the error about a path that does not exist, worded as in Go.
const NOT_FOUND: &str = ": no such file or directory";

/// Separates a hint from the message, or from another hint, in the text of an error.
const HINT: &str = "\nhint: ";

impl Failure {
    /// Returns a failure without hints. By convention, `message` begins in lower case and has no final full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Adds a hint for the user.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the message and its hints on one line, with line breaks escaped, so that a name in them cannot begin a
    /// line.
    pub fn one_line(&self) -> String {
        let hints = self.hints.iter().map(|hint| format!("; hint: {hint}"));
        let text = self.message.clone() + &hints.collect::<String>();
        shown(&text).into_owned()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hints
            .iter()
            .try_for_each(|hint| write!(f, "{HINT}{hint}"))
    }
}

impl Error for Failure {}

/// The message consists of the error and its causes; their hints become the hints. An error about a missing path that
/// has no hint gets one.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let text = error_chain(error.as_ref());
        let mut parts = text.split(HINT).map(str::to_owned);
        let message = parts.next().unwrap_or_default();
        let mut hints: Vec<String> = parts.collect();
        if hints.is_empty() && message.ends_with(NOT_FOUND) {
            let is_output = ["cannot write ", "cannot create "]
                .iter()
                .any(|verb| message.contains(verb));
            hints.push(
                if is_output {
                    "create the directory first"
                } else {
                    "check the path and the current directory"
                }
                .to_owned(),
            );
        }
        Self { message, hints }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_becomes_its_message_and_hints() {
        let error: anyhow::Result<()> =
            Err(Failure::new("no cluster").hint("pass --context").into());
        let error = error.context(Failure::new("cannot read the keys").hint("pass a backup"));
        let failure = Failure::from(error.unwrap_err());
        let want = Failure::new("cannot read the keys: no cluster")
            .hint("pass a backup")
            .hint("pass --context");
        assert_eq!(failure, want);
        assert_eq!(
            failure.to_string(),
            "cannot read the keys: no cluster\nhint: pass a backup\nhint: pass --context"
        );
    }

    /// Attack: an author uses a name with a line break, so that the rest of the name looks like a message.
    #[test]
    fn one_line_escapes_line_breaks() {
        let failure = Failure::new("no key \"a\nerror: b\"").hint("list\nthem");
        assert_eq!(
            failure.one_line(),
            "no key \"a\\nerror: b\"; hint: list\\nthem"
        );
    }
}
