//! Temporarily keeps signals from ending this process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::flag::register_conditional_default;

/// While a value of this type exists, its signals do not end the process. Several may exist at
/// once.
///
/// `signal_hook` never restores the system's handler of a signal. So a handler is registered once
/// for each signal, and performs the default action while no value holds the signal.
pub struct HeldSignals(&'static [i32]);

/// A signal with a registered handler.
struct Taken {
    holders: usize,
    is_default: Arc<AtomicBool>,
}

static TAKEN: Mutex<BTreeMap<i32, Taken>> = Mutex::new(BTreeMap::new());

impl HeldSignals {
    /// Holds the signals until the value is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses a handler. Then no signal is held.
    pub fn new(signals: &'static [i32]) -> io::Result<Self> {
        let mut taken = taken();
        for signal in signals {
            take(&mut taken, *signal)?;
        }
        change(&mut taken, signals, |holders| holders + 1);
        Ok(Self(signals))
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        change(&mut taken(), self.0, |holders| holders.saturating_sub(1));
    }
}

fn taken() -> MutexGuard<'static, BTreeMap<i32, Taken>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(taken: &mut BTreeMap<i32, Taken>, signal: i32) -> io::Result<()> {
    if let Entry::Vacant(new) = taken.entry(signal) {
        let is_default = Arc::new(AtomicBool::new(true));
        register_conditional_default(signal, Arc::clone(&is_default))?;
        new.insert(Taken {
            holders: 0,
            is_default,
        });
    }
    Ok(())
}

fn change(taken: &mut BTreeMap<i32, Taken>, signals: &[i32], count: impl Fn(usize) -> usize) {
    for signal in signals {
        if let Some(taken) = taken.get_mut(signal) {
            taken.holders = count(taken.holders);
            taken.is_default.store(taken.holders == 0, Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::low_level::raise;

    use super::*;

    const CHILD: &str = "SEAL_TEST_OF_SIGNALS";

    /// Runs one test of this file in a child process, which may be killed.
    fn in_a_child(test: &str) -> io::Result<ExitStatus> {
        let mut command = Command::new(std::env::current_exe()?);
        let name = format!("platform::signals::tests::{test}");
        command.args(["--exact", &name]).env(CHILD, "1");
        Ok(command.output()?.status)
    }

    #[expect(clippy::disallowed_methods, reason = "the test runs itself as a child")]
    #[test]
    fn a_released_signal_ends_the_process_again() {
        if std::env::var_os(CHILD).is_none() {
            let test = "a_released_signal_ends_the_process_again";
            assert_eq!(in_a_child(test).unwrap().signal(), Some(SIGINT));
            return;
        }
        let outer = HeldSignals::new(&[SIGINT, SIGTERM]).unwrap();
        for _ in 0..2 {
            drop(HeldSignals::new(&[SIGINT]).unwrap());
            raise(SIGINT).unwrap();
        }
        drop(outer);
        raise(SIGINT).unwrap();
        unreachable!("the signal has ended this process");
    }

    #[test]
    fn held_signals_do_not_end_the_process() {
        let held = HeldSignals::new(&[SIGTERM]).unwrap();
        raise(SIGTERM).unwrap();
        drop(held);
    }
}
