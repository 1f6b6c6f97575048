//! Questions on the terminal whose answers it does not show.

use std::io::{self, ErrorKind};

use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;
use zeroize::Zeroizing;

use crate::platform::QuietTerminal;

/// A terminal that shows nothing until this value goes.
pub(crate) struct Prompt(QuietTerminal);

impl Prompt {
    /// Turns the echo off.
    ///
    /// # Errors
    ///
    /// There is no terminal.
    pub(crate) fn open() -> io::Result<Self> {
        QuietTerminal::open().map(Self)
    }

    /// Asks for one line. Ctrl-C ends the process as ever.
    ///
    /// # Errors
    ///
    /// The terminal goes away, or what is typed ends without a line.
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
