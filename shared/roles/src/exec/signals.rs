//! The signals that `--on-change` accepts.

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::failure::Failure;

/// Signals that programs use as notifications. Signals that always end or stop a program are not accepted.
const NAMES: [(&str, Signal); 5] = [
    ("HUP", Signal::HUP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("WINCH", Signal::WINCH),
    ("INT", Signal::INT),
];

/// Returns the signal of this name, with or without `SIG`.
pub(crate) fn signal_named(name: &str) -> Result<Signal> {
    let short = name.strip_prefix("SIG").unwrap_or(name);
    match NAMES.iter().find(|(name, _)| *name == short) {
        Some((_, signal)) => Ok(*signal),
        None => bail!(
            Failure::new(format!("{name:?} is not a signal for --on-change"))
                .hint("use HUP, INT, USR1, USR2 or WINCH")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_signal_names_with_and_without_sig() {
        assert_eq!(signal_named("HUP").unwrap(), Signal::HUP);
        assert_eq!(signal_named("SIGUSR1").unwrap(), Signal::USR1);
        for name in ["", "hup", "KILL", "SIGSIGHUP", "1"] {
            assert!(signal_named(name).is_err(), "{name}");
        }
    }
}
