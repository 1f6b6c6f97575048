//! Messages about conditions that do not stop a run.

/// A message for the user, which the caller prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A problem that does not make the run fail.
    Warning(String),
    /// A failure of one part. The other parts continue, and the run fails at its end.
    Error(String),
}

/// Shows a line on the terminal that the next call replaces. An empty string removes it.
pub type StatusLine = fn(&str);

/// How a run waits for a busy server.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The status line for waits; `None` if waits are not shown.
    pub status_line: Option<StatusLine>,
    /// Returns whether the user has interrupted the run, which ends a wait.
    pub is_interrupted: fn() -> bool,
}
