//! Questions on the terminal whose answers it does not show.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::{emulate_default_handler, unregister};
use zeroize::Zeroizing;

/// The terminal, which shows nothing of what is typed until this value goes.
///
/// Whoever pastes is faster than a prompt that turns the echo off behind its question, or on again
/// between two of them. What was typed before the first is thrown away.
pub(crate) struct Prompt {
    terminal: File,
    before: Termios,
    /// Ctrl-C must not end the process before the terminal is as it was.
    interrupt: SigId,
}

impl Prompt {
    /// Turns the echo off.
    ///
    /// # Errors
    ///
    /// There is no terminal.
    pub(crate) fn open() -> io::Result<Self> {
        let terminal = File::open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        let prompt = Self {
            interrupt: signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)))?,
            terminal,
            before,
        };
        tcsetattr(&prompt.terminal, OptionalActions::Flush, &quiet)?;
        Ok(prompt)
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
            self.restore();
            emulate_default_handler(SIGINT)?;
        }
        answer
    }

    fn restore(&self) {
        // A terminal that has gone away shows nothing.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.restore();
        unregister(self.interrupt);
    }
}
