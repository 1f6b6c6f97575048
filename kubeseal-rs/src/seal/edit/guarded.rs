//! Removes the hidden directory before a signal ends this process, and after SIGKILL.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use kubeseal_library::environment::Environment;
use kubeseal_library::platform::signals::HeldSignals;
use kubeseal_library::programs;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::hidden::HiddenDirectory;

const SIGNALS: &[i32] = &[SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// A hidden directory that is removed however the process ends. While this value exists, [`SIGNALS`] end the process
/// only after the directory is removed; afterwards, they have their usual effect. If another signal such as SIGKILL
/// ends the process, a shell removes the directory, if the system has a shell.
pub(super) struct GuardedDirectory {
    // Fields are dropped in this order.
    hidden: HiddenDirectory,
    _removal_shell: Option<RemovalShell>,
    watcher: Watcher,
    _held_signals: HeldSignals,
}

impl GuardedDirectory {
    /// Creates the directory, and starts the thread and the shell that remove it.
    pub(super) fn new(environment: &Environment, name: &str, text: &[u8]) -> Result<Self> {
        let problem = "cannot watch for signals";
        let held_signals = HeldSignals::new(SIGNALS).context(problem)?;
        // The watcher also handles signals that arrive before its thread starts.
        let signals = Signals::new(SIGNALS).context(problem)?;
        let hidden = HiddenDirectory::new(environment, name, text)?;
        Ok(Self {
            watcher: Watcher::new(signals, hidden.directory().to_owned()),
            _removal_shell: RemovalShell::new(hidden.directory()),
            hidden,
            _held_signals: held_signals,
        })
    }

    /// Returns the directory with the file.
    pub(super) fn hidden(&self) -> &HiddenDirectory {
        &self.hidden
    }

    /// Runs an editor. Until it exits, only the editor handles Ctrl-C.
    pub(super) fn while_editing<T>(&self, run: impl FnOnce() -> T) -> T {
        self.watcher.is_editing.store(true, Ordering::SeqCst);
        let result = run();
        self.watcher.is_editing.store(false, Ordering::SeqCst);
        result
    }
}

/// A shell that removes the directory when its stdin is closed. Only this process can write to that stdin, so it is
/// closed when this value is dropped, or when this process ends for any reason.
struct RemovalShell(Child);

/// The script of the shell. The shell ignores signals that may end this process, so that it outlives this process.
const REMOVAL_SCRIPT: &str = "trap '' HUP INT QUIT TERM; read -r line; rm -rf -- \"$1\"";

impl RemovalShell {
    /// Starts the shell. Returns `None` if it cannot be started. In that case, only the next run removes the directory
    /// of a killed run.
    fn new(directory: &Path) -> Option<Self> {
        let mut command = Command::new(programs::find("sh")?);
        command.args(["-c", REMOVAL_SCRIPT, "sh"]).arg(directory);
        command.env("PATH", programs::search_path());
        command.current_dir("/").process_group(0);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.stdin(Stdio::piped()).spawn().ok().map(Self)
    }
}

impl Drop for RemovalShell {
    fn drop(&mut self) {
        // `wait` closes the shell's stdin first.
        let _ = self.0.wait();
    }
}

struct Watcher {
    watch: Handle,
    thread: Option<JoinHandle<()>>,
    is_editing: Arc<AtomicBool>,
}

impl Watcher {
    fn new(signals: Signals, directory: PathBuf) -> Self {
        let watch = signals.handle();
        let is_editing = Arc::new(AtomicBool::new(false));
        let editing = Arc::clone(&is_editing);
        let thread =
            std::thread::spawn(move || remove_directory_on_signal(signals, &directory, &editing));
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
        // If the watcher has received a signal, it ends the process and this call does not return.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn remove_directory_on_signal(mut signals: Signals, directory: &Path, is_editing: &AtomicBool) {
    for signal in &mut signals {
        if signal == SIGINT && is_editing.load(Ordering::SeqCst) {
            continue;
        }
        let _ = fs::remove_dir_all(directory);
        std::process::exit(128 + signal);
    }
}
