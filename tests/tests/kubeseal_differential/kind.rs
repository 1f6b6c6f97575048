//! Kinds of failure, so that two programs can be compared where their words differ.

use crate::run::Ending;

/// What went wrong, in the terms of the user's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Usage,
    Crash,
    Hang,
    Other,
}

/// The kind of a run's failure.
pub(crate) fn classify(ending: Ending, stdout: &str, stderr: &str) -> Kind {
    match ending {
        Ending::Exit(0) => Kind::None,
        Ending::Hang => Kind::Hang,
        Ending::Signal => Kind::Crash,
        Ending::Exit(_) if stderr.contains("goroutine ") => Kind::Crash,
        Ending::Exit(2) if stderr.contains("Usage of") => Kind::Usage,
        Ending::Exit(_) => {
            let _ = stdout;
            Kind::Other
        }
    }
}
