//! Temporarily prevents signals from ending this process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::SigId;
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::flag::{register_conditional_default, register_usize};
use signal_hook::low_level::{emulate_default_handler, unregister};

/// While a value of this type exists, its signals do not end the process. Several values may exist
/// at the same time.
///
/// `signal_hook` never restores the system's handler of a signal. So a handler is registered once
/// for each signal, and performs the default action while no value holds the signal.
pub struct HeldSignals(&'static [i32]);

/// A signal with a registered handler.
struct Handler {
    holders: usize,
    is_default: Arc<AtomicBool>,
}

static HANDLERS: Mutex<BTreeMap<i32, Handler>> = Mutex::new(BTreeMap::new());

impl HeldSignals {
    /// Holds the signals until the value is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses a handler. In that case, no signal is held.
    pub fn new(signals: &'static [i32]) -> io::Result<Self> {
        let mut handlers = handlers();
        for signal in signals {
            register(&mut handlers, *signal)?;
        }
        update_holders(&mut handlers, signals, |holders| holders + 1);
        Ok(Self(signals))
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        update_holders(&mut handlers(), self.0, |holders| holders.saturating_sub(1));
    }
}

/// Signals that by default end the process.
const ENDING: &[i32] = &[SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
/// [`ENDING`], and `SIGTSTP`, which stops the process.
const ENDING_OR_STOPPING: &[i32] = &[
    SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2,
];

/// Delays the signals that end the process, until [`Self::end_if_received`] is called or the value is dropped.
/// `SIGTSTP` has no effect meanwhile.
pub struct DelayedSignals {
    /// The number of the last received signal, or 0.
    received: Arc<AtomicUsize>,
    registrations: Vec<SigId>,
    held: Option<HeldSignals>,
}

impl DelayedSignals {
    /// Delays the signals.
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses a handler. In that case, no signal is delayed.
    pub fn new() -> io::Result<Self> {
        let mut signals = Self {
            received: Arc::default(),
            registrations: Vec::new(),
            held: Some(HeldSignals::new(ENDING_OR_STOPPING)?),
        };
        for signal in ENDING {
            let number = usize::try_from(*signal).unwrap_or_default();
            let id = register_usize(*signal, Arc::clone(&signals.received), number)?;
            signals.registrations.push(id);
        }
        Ok(signals)
    }

    /// Calls `prepare` and ends the process as the received signal would have done. Does nothing if no signal was
    /// received.
    pub fn end_if_received(&self, prepare: impl FnOnce()) {
        let number = i32::try_from(self.received.load(Ordering::SeqCst)).unwrap_or_default();
        if number != 0 {
            prepare();
            let _ = emulate_default_handler(number);
        }
    }
}

impl Drop for DelayedSignals {
    fn drop(&mut self) {
        // From here on, a signal ends the process immediately.
        self.held = None;
        for id in self.registrations.drain(..) {
            unregister(id);
        }
        self.end_if_received(|| ());
    }
}

fn handlers() -> MutexGuard<'static, BTreeMap<i32, Handler>> {
    HANDLERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(handlers: &mut BTreeMap<i32, Handler>, signal: i32) -> io::Result<()> {
    if let Entry::Vacant(new) = handlers.entry(signal) {
        let is_default = Arc::new(AtomicBool::new(true));
        register_conditional_default(signal, Arc::clone(&is_default))?;
        new.insert(Handler {
            holders: 0,
            is_default,
        });
    }
    Ok(())
}

fn update_holders(
    handlers: &mut BTreeMap<i32, Handler>,
    signals: &[i32],
    count: impl Fn(usize) -> usize,
) {
    for signal in signals {
        if let Some(handler) = handlers.get_mut(signal) {
            handler.holders = count(handler.holders);
            handler
                .is_default
                .store(handler.holders == 0, Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use signal_hook::low_level::raise;

    use super::*;

    const CHILD: &str = "SEAL_TEST_OF_SIGNALS";

    /// Runs one test of this file in a child process, which may be killed.
    fn run_in_child(test: &str) -> io::Result<ExitStatus> {
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
            assert_eq!(run_in_child(test).unwrap().signal(), Some(SIGINT));
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
        let signals = HeldSignals::new(&[SIGTERM]).unwrap();
        raise(SIGTERM).unwrap();
        drop(signals);
    }
}
