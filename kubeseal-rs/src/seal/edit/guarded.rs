//! The hidden folder, which goes before a signal ends this process, and when SIGKILL does.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::hidden::Hidden;
use crate::platform::signals::HeldSignals;
use crate::programs;
use crate::surroundings::Surroundings;

const SIGNALS: &[i32] = &[SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// A hidden folder that is watched over. While this lives, a signal ends the process only once the folder
/// is gone; afterwards it does as ever.
pub(super) struct Guarded {
    // In this order they go.
    hidden: Hidden,
    _sweeper: Option<Sweeper>,
    watcher: Watcher,
    _held: HeldSignals,
}

impl Guarded {
    /// Makes the folder and watches.
    pub(super) fn new(surroundings: &Surroundings, name: &str, text: &[u8]) -> Result<Self> {
        let watching = "signals cannot be watched for";
        let held = HeldSignals::new(SIGNALS).context(watching)?;
        // A signal that comes while the folder is made waits for the watcher.
        let signals = Signals::new(SIGNALS).context(watching)?;
        let hidden = Hidden::new(surroundings, name, text)?;
        Ok(Self {
            watcher: Watcher::new(signals, hidden.folder().to_owned()),
            _sweeper: Sweeper::new(hidden.folder()),
            hidden,
            _held: held,
        })
    }

    /// The folder with the file.
    pub(super) fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Runs an editor. Ctrl-C is its own matter then.
    pub(super) fn while_editing<T>(&self, run: impl FnOnce() -> T) -> T {
        self.watcher.is_editing.store(true, Ordering::SeqCst);
        let result = run();
        self.watcher.is_editing.store(false, Ordering::SeqCst);
        result
    }
}

/// A shell that removes the folder once this process is gone, however it went: its input, which nobody else
/// holds open, ends then.
struct Sweeper(Child);

/// Whoever ends the terminal or presses a key in it ends this process first.
const SWEEP: &str = "trap '' HUP INT QUIT TERM; read -r line; rm -rf -- \"$1\"";

impl Sweeper {
    /// Nothing where there is no shell; what a killed run left, the next one removes then.
    fn new(folder: &Path) -> Option<Self> {
        let mut command = Command::new(programs::find("sh")?);
        command.args(["-c", SWEEP, "sh"]).arg(folder);
        command.env("PATH", programs::search_path());
        command.current_dir("/").process_group(0);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.stdin(Stdio::piped()).spawn().ok().map(Self)
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // Closes its input first.
        let _ = self.0.wait();
    }
}

struct Watcher {
    watch: Handle,
    thread: Option<JoinHandle<()>>,
    is_editing: Arc<AtomicBool>,
}

impl Watcher {
    fn new(signals: Signals, folder: PathBuf) -> Self {
        let watch = signals.handle();
        let is_editing = Arc::new(AtomicBool::new(false));
        let editing = Arc::clone(&is_editing);
        let thread = std::thread::spawn(move || wait_for_end(signals, &folder, &editing));
        Self {
            watch,
            thread: Some(thread),
            is_editing,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watch.close();
        // A watcher that has seen its signal ends the process instead of coming back.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn wait_for_end(mut signals: Signals, folder: &Path, is_editing: &AtomicBool) {
    for signal in &mut signals {
        if signal == SIGINT && is_editing.load(Ordering::SeqCst) {
            continue;
        }
        let _ = fs::remove_dir_all(folder);
        std::process::exit(128 + signal);
    }
}
