//! Handles signals during a long run, so that the run can report its progress before it ends.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::flag;
use signal_hook::low_level::{emulate_default_handler, signal_name};

#[cfg(unix)]
use crate::report;

#[cfg(unix)]
const SIGNALS: &[i32] = &[
    signal_hook::consts::SIGHUP,
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGTERM,
];
#[cfg(not(unix))]
const SIGNALS: &[i32] = &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// The number of the last received signal; 0 if there was none. Static, because signals apply to the whole process.
static RECEIVED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Returns whether a signal was received since an `Interrupt` started to watch for signals.
pub fn was_received() -> bool {
    RECEIVED.load(Ordering::SeqCst) != 0
}

/// Watches for signals until the process ends. The run checks for the first signal between two
/// steps and while it waits; a second signal ends the process.
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Starts watching for signals.
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses a signal handler.
    pub(crate) fn watch() -> io::Result<Self> {
        let (is_second, received) = (Arc::default(), Arc::clone(&RECEIVED));
        for signal in SIGNALS {
            let number = usize::try_from(*signal).unwrap_or_default();
            flag::register_conditional_default(*signal, Arc::clone(&is_second))?;
            flag::register_usize(*signal, Arc::clone(&received), number)?;
            flag::register(*signal, Arc::<AtomicBool>::clone(&is_second))?;
        }
        report_first_signal()?;
        Ok(Self(received))
    }

    /// Returns whether a signal was received.
    pub(crate) fn was_received(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// Returns the name of the last received signal, such as `SIGINT`; `None` if there was none.
    pub(crate) fn name(&self) -> Option<&'static str> {
        let number = self.0.load(Ordering::SeqCst);
        i32::try_from(number).ok().and_then(signal_name)
    }

    /// Ends the process with the received signal, so that the shell sees which signal ended it.
    pub(crate) fn exit_by_signal(&self) {
        if let Ok(number) = i32::try_from(self.0.load(Ordering::SeqCst)) {
            let _ = emulate_default_handler(number);
        }
    }
}

/// Reports at the first signal that the run is about to stop, because a request or a large file may take a while.
#[cfg(unix)]
fn report_first_signal() -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(SIGNALS)?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            report::info("stopping after the current file or request; interrupt again to stop now");
        }
    });
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the Unix version can fail")]
fn report_first_signal() -> io::Result<()> {
    Ok(())
}

/// Makes a write above the file size limit fail instead of ending the process, so that temporary
/// files are removed.
pub fn survive_the_file_size_limit() {
    #[cfg(unix)]
    {
        let (signal, ignored) = (signal_hook::consts::SIGXFSZ, AtomicBool::new(false));
        let _ = flag::register(signal, Arc::new(ignored));
    }
}
