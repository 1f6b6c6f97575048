//! Asks questions on the terminal: for values without showing the answers, and for confirmations.
//!
//! If a user pastes several lines, the rest of the paste must not reach the shell, which would show, execute and save
//! it. The prompt takes these precautions, except on Windows, where `rpassword` reads each line:
//!
//! - It turns on bracketed paste, with which a terminal encloses pasted text in escape sequences, unless the terminal
//!   is dumb.
//! - It reads a paste of several lines to its end, and refuses it.
//! - When it closes, it discards input until none arrives for a moment.

#[cfg(unix)]
mod line;

use std::io::{self, ErrorKind};

use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;
use zeroize::Zeroizing;

use kubeseal_library::environment::Environment;
use kubeseal_library::platform::QuietTerminal;

use crate::failure::Failure;
use crate::report;

/// Asks a yes/no question. Only `y` and `yes`, ignoring case, mean yes. Returns `None` if stdin or stderr is not a
/// terminal.
///
/// # Errors
///
/// Fails if the terminal cannot be read.
pub(crate) fn confirm(question: &str, environment: &Environment) -> io::Result<Option<bool>> {
    if !environment.stdin_is_terminal || !environment.stderr_is_terminal {
        return Ok(None);
    }
    report::ask(question);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(Some(["y", "yes"].contains(&answer.as_str())))
}

/// A terminal whose echo is turned off until this value is closed or dropped; on Windows, only during each question.
pub(crate) struct Prompt(QuietTerminal);

/// Why a question was not answered.
#[derive(Debug)]
pub(crate) enum PromptError {
    /// There is no terminal, it failed, or the input ended.
    NoTerminal,
    /// The answer cannot be used. The message never quotes it.
    Unusable(String),
}

impl PromptError {
    /// Returns the error for the user: `no_terminal`, or the problem with the answer and `hint`. `hint` names another
    /// way to pass the value.
    pub(crate) fn into_failure(self, no_terminal: Failure, hint: &str) -> Failure {
        match self {
            Self::NoTerminal => no_terminal,
            Self::Unusable(why) => {
                Failure::new(format!("{why}; nothing was written")).hint(hint.to_owned())
            }
        }
    }
}

impl From<io::Error> for PromptError {
    fn from(_: io::Error) -> Self {
        Self::NoTerminal
    }
}

impl Prompt {
    /// Opens the terminal and turns its echo off; on Windows, checks that there is a terminal.
    ///
    /// # Errors
    ///
    /// Fails if there is no terminal.
    pub(crate) fn open() -> Result<Self, PromptError> {
        // A dumb terminal would show escape sequences instead of interpreting them.
        let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
        Ok(Self(QuietTerminal::open(!is_dumb)?))
    }

    /// Asks for one line. Ctrl-C ends the process as usual.
    ///
    /// # Errors
    ///
    /// Fails if the terminal is closed, if the input ends without a line, or if the line cannot be used, such as a
    /// paste of several lines.
    pub(crate) fn ask(&self, question: &str) -> Result<Zeroizing<String>, PromptError> {
        let answer = self.read(question);
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::Interrupted) {
            self.0.restore();
            emulate_default_handler(SIGINT)?;
        }
        let answer = answer?;
        #[cfg(unix)]
        let answer = answer
            .finish()
            .map_err(|why| PromptError::Unusable(why.to_string()))?;
        Ok(answer)
    }

    #[cfg(unix)]
    fn read(&self, question: &str) -> io::Result<line::Line> {
        self.0.write(question)?;
        let mut line = line::Line::default();
        loop {
            let end = line.push(self.0.read_byte()?);
            let kind = match end {
                None => continue,
                Some(line::End::Line) => break,
                Some(line::End::Interrupt) => ErrorKind::Interrupted,
                Some(line::End::Eof) => ErrorKind::UnexpectedEof,
            };
            self.0.write("\n")?;
            return Err(kind.into());
        }
        self.0.write("\n")?;
        Ok(line)
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "required on other systems")]
    fn read(&self, question: &str) -> io::Result<Zeroizing<String>> {
        rpassword::prompt_password(question).map(Zeroizing::new)
    }

    /// Discards remaining input and restores the terminal; does nothing on Windows.
    ///
    /// # Errors
    ///
    /// Fails if more input arrived than was requested, such as a paste of several lines.
    pub(crate) fn close(self) -> Result<(), PromptError> {
        if self.0.restore() {
            return Err(PromptError::Unusable(
                "the input has several lines".to_owned(),
            ));
        }
        Ok(())
    }
}
