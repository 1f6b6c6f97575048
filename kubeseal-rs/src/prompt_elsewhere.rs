//! Questions on the console, where nothing has to be done about what was typed before them.

use std::io;

use zeroize::Zeroizing;

/// The console.
pub(crate) struct Prompt;

impl Prompt {
    /// There is always one to try.
    ///
    /// # Errors
    ///
    /// None.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it fails")]
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self)
    }

    /// Asks for one line.
    ///
    /// # Errors
    ///
    /// There is no console, or what is typed ends without a line.
    #[expect(clippy::unused_self, reason = "elsewhere it holds the terminal")]
    pub(crate) fn ask(&self, question: &str) -> io::Result<Zeroizing<String>> {
        rpassword::prompt_password(question).map(Zeroizing::new)
    }
}
