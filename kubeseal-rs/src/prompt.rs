//! Asks questions on the terminal without showing the answers.

use std::io::{self, ErrorKind};

use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;
use zeroize::Zeroizing;

use kubeseal_library::platform::QuietTerminal;

/// A terminal with echo turned off until the value is dropped.
pub(crate) struct Prompt(QuietTerminal);

impl Prompt {
    /// Turns the echo off.
    ///
    /// # Errors
    ///
    /// Fails if there is no terminal.
    pub(crate) fn open() -> io::Result<Self> {
        QuietTerminal::open().map(Self)
    }

    /// Asks for one line. Ctrl-C ends the process as usual.
    ///
    /// # Errors
    ///
    /// Fails if the terminal is closed, or the input ends without a line.
    pub(crate) fn ask(&self, question: &str) -> io::Result<Zeroizing<String>> {
        let answer = rpassword::prompt_password(question).map(Zeroizing::new);
        if answer
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::Interrupted)
        {
            self.0.restore();
            emulate_default_handler(SIGINT)?;
        }
        answer
    }
}
