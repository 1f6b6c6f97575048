//! Messages about conditions that do not stop a run.

/// A message for the user, which the caller prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The run succeeds, with a restriction.
    Warning(String),
    /// A part of the run failed, so the run fails at its end.
    Error(String),
}

/// Shows a line on the terminal that the next call replaces. An empty text removes it.
pub type StatusLine = fn(&str);
