//! The user's editor: `$VISUAL`, `$EDITOR` or vi, by its absolute path, so that nothing that came with
//! a repository is run. While it runs, signals that would end this process remove the file first.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::hidden::Hidden;
use crate::programs;
use crate::surroundings::Surroundings;

/// The editor cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum EditorError {
    /// Quotes that do not close.
    #[error("{variable} is no command line: a quote in it is not closed")]
    Words {
        /// `VISUAL` or `EDITOR`.
        variable: &'static str,
    },
    /// Nowhere.
    #[error(
        "the editor {name:?} ({from}) is not a program in an absolute folder of PATH; set EDITOR to another one"
    )]
    Missing {
        /// Its name.
        name: String,
        /// Who named it.
        from: &'static str,
    },
    /// It cannot be started.
    #[error("the editor {} cannot be started", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It says that something went wrong.
    #[error("the editor ended with {0}; nothing was changed")]
    Failed(std::process::ExitStatus),
    /// No signals.
    #[error("signals cannot be watched for")]
    Signals(#[source] std::io::Error),
}

/// A program and its words.
pub(super) struct Editor {
    program: PathBuf,
    words: Vec<String>,
}

impl Editor {
    /// Finds it.
    pub(super) fn find(surroundings: &Surroundings) -> Result<Self, EditorError> {
        let named = |variable: &'static str| {
            let line = surroundings.filled_variable(variable)?;
            Some((variable, line))
        };
        let usual = || ("the usual one", "vi".to_owned());
        let (from, line) = named("VISUAL")
            .or_else(|| named("EDITOR"))
            .unwrap_or_else(usual);
        let words = shlex::split(&line).ok_or(EditorError::Words { variable: from })?;
        let name = words.first().cloned().unwrap_or_default();
        let program = programs::find(&name).ok_or(EditorError::Missing { name, from })?;
        let mut words: Vec<String> = words.into_iter().skip(1).collect();
        words.extend(quiet_words(&program));
        Ok(Self { program, words })
    }

    /// Opens the file and waits. Ctrl-C is the editor's own matter; other signals end both, and the
    /// file first.
    pub(super) fn open(&self, hidden: Hidden) -> Result<Hidden, EditorError> {
        let guarded = Arc::new(Mutex::new(Some(hidden)));
        let signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM]);
        let signals = signals.map_err(EditorError::Signals)?;
        let watch = signals.handle();
        let watcher = {
            let guarded = Arc::clone(&guarded);
            std::thread::spawn(move || wait_for_end(signals, &guarded))
        };
        let status = self.run(&guarded);
        watch.close();
        // A watcher that has seen its signal ends the process instead of coming back.
        let _ = watcher.join();
        let hidden = guarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (status?, hidden) {
            (status, Some(hidden)) if status.success() => Ok(hidden),
            (status, _) => Err(EditorError::Failed(status)),
        }
    }

    fn run(
        &self,
        guarded: &Mutex<Option<Hidden>>,
    ) -> Result<std::process::ExitStatus, EditorError> {
        let mut command = Command::new(&self.program);
        command.args(&self.words);
        if let Some(hidden) = &*guarded.lock().unwrap_or_else(PoisonError::into_inner) {
            // What the editor puts into its folder goes with it, and no settings lie there.
            command.arg(hidden.file()).current_dir(hidden.folder());
        }
        command.status().map_err(|source| EditorError::Start {
            program: self.program.clone(),
            source,
        })
    }
}

fn wait_for_end(mut signals: Signals, guarded: &Mutex<Option<Hidden>>) {
    for signal in &mut signals {
        if signal != SIGINT {
            drop(
                guarded
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
            std::process::exit(128 + signal);
        }
    }
}

/// Vim keeps text in files of its own unless it is told not to.
fn quiet_words(program: &std::path::Path) -> Vec<String> {
    let name = program
        .canonicalize()
        .unwrap_or_else(|_| program.to_owned());
    let name = name.file_name().map_or_else(OsString::new, OsString::from);
    let name = name.to_string_lossy();
    let is_vim = name == "nvim" || name.starts_with("vim");
    if !is_vim {
        return Vec::new();
    }
    [
        "-n",
        "-i",
        "NONE",
        "--cmd",
        "set nobackup nowritebackup noundofile",
    ]
    .map(str::to_owned)
    .into()
}
