//! Text for people: untrusted names and strings with their invisible characters escaped, and errors with their causes.
//!
//! | module | content |
//! |---|---|
//! | `visible` | escapes invisible characters |
//! | `shown` | also escapes workflow commands of GitHub Actions; formats paths |

mod shown;
mod visible;

pub use shown::{ShowPath, lines_shown, path_text, shown, without_commands};
pub use visible::{is_hidden, visible, visible_line};

/// Formats an error with its causes, joined by colons, for the user. Omits a cause if the message before it already
/// ends with the same text. The `hint:` lines of the error and of its causes follow at the end.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut hints) = (String::new(), String::new());
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        let end = message.find("\nhint: ").unwrap_or(message.len());
        let (message, hint) = message.split_at(end);
        if text.is_empty() {
            text.push_str(message);
        } else if !text.ends_with(message) {
            text = format!("{text}: {message}");
        }
        if !hints.ends_with(hint) {
            hints.push_str(hint);
        }
        next = error.source();
    }
    text + &hints
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct TestError(&'static str, Option<Box<TestError>>);

    impl fmt::Display for TestError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for TestError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|cause| cause as _)
        }
    }

    #[test]
    fn prints_hints_after_all_causes() {
        let cause = TestError("no cluster is configured\nhint: pass --kubeconfig", None);
        let error = TestError(
            "cannot read the keys\nhint: pass a backup",
            Some(Box::new(cause)),
        );
        assert_eq!(
            error_chain(&error),
            "cannot read the keys: no cluster is configured\nhint: pass a backup\nhint: pass --kubeconfig"
        );
    }
}
