//! Signals that end a long run, which says how far it got first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::flag;
use signal_hook::low_level::{emulate_default_handler, signal_name};

#[cfg(unix)]
const SIGNALS: &[i32] = &[
    signal_hook::consts::SIGHUP,
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGTERM,
];
#[cfg(not(unix))]
const SIGNALS: &[i32] = &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// Watches for signals until the process ends. The first one is for the run to see between two steps; the
/// second ends the process as ever.
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// The system does not let signals be caught.
    pub(crate) fn watch() -> io::Result<Self> {
        let (is_second, came) = (Arc::default(), Arc::default());
        for signal in SIGNALS {
            let number = usize::try_from(*signal).unwrap_or_default();
            flag::register_conditional_default(*signal, Arc::clone(&is_second))?;
            flag::register_usize(*signal, Arc::clone(&came), number)?;
            flag::register(*signal, Arc::<AtomicBool>::clone(&is_second))?;
        }
        Ok(Self(came))
    }

    /// Has one come?
    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// The name of the one that came.
    pub(crate) fn name(&self) -> Option<&'static str> {
        let number = self.0.load(Ordering::SeqCst);
        i32::try_from(number).ok().and_then(signal_name)
    }

    /// Ends the process by the signal that came, as a shell expects it.
    pub(crate) fn end(&self) {
        if let Ok(number) = i32::try_from(self.0.load(Ordering::SeqCst)) {
            let _ = emulate_default_handler(number);
        }
    }
}

/// Lets a write beyond the largest size of a file fail, so that what is half written goes, instead of ending the
/// process.
pub fn survive_the_file_size_limit() {
    #[cfg(unix)]
    {
        let (signal, ignored) = (signal_hook::consts::SIGXFSZ, AtomicBool::new(false));
        let _ = flag::register(signal, Arc::new(ignored));
    }
}
