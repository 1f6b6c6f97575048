//! The user's editor: `$VISUAL`, `$EDITOR` or vi, by its absolute path, so that nothing that came with
//! a repository is run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::guarded::Guarded;
use crate::programs;
use crate::report::ShowPath as _;
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
    #[error("the editor {} cannot be started", program.shown())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It says that something went wrong.
    #[error("the editor ended with {0}; nothing was changed")]
    Failed(std::process::ExitStatus),
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

    /// Opens the file and waits. What the editor puts into the folder goes with it, and no settings lie
    /// there.
    pub(super) fn open(&self, guarded: &Guarded) -> Result<(), EditorError> {
        let hidden = guarded.hidden();
        let mut command = Command::new(&self.program);
        command.args(&self.words);
        command.arg(hidden.file()).current_dir(hidden.folder());
        let status = guarded.while_editing(|| command.status());
        let status = status.map_err(|source| EditorError::Start {
            program: self.program.clone(),
            source,
        })?;
        if status.success() {
            return Ok(());
        }
        Err(EditorError::Failed(status))
    }
}

/// A modeline in a value that somebody else sealed would set options of the editor.
const KEEP_NOTHING: &str = "set noswapfile nobackup nowritebackup noundofile nomodeline";

/// Vim keeps text in files of its own unless it is told not to.
fn quiet_words(program: &Path) -> Vec<String> {
    if !names(program).any(|name| is_vim(&name)) {
        return Vec::new();
    }
    // Before the user's settings, and after them.
    [
        "-n",
        "-i",
        "NONE",
        "--cmd",
        KEEP_NOTHING,
        "-c",
        KEEP_NOTHING,
    ]
    .map(str::to_owned)
    .into()
}

/// The path that was typed, and what it leads to link by link. Each tells what the program is: the last
/// may be one that is many, such as `snap` or `mise`.
fn names(program: &Path) -> impl Iterator<Item = PathBuf> {
    let next = |path: &PathBuf| Some(path.parent()?.join(path.read_link().ok()?));
    // Links may go in circles; the system follows no more of them.
    std::iter::successors(Some(program.to_owned()), next).take(40)
}

/// Vim, its faces and Neovim have `vim` in their names, as have `nvim.appimage` and `vim.basic`, or are
/// one of its own views. Of `vi` and what goes with it there are others, which would not know the words.
fn is_vim(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    match name.to_ascii_lowercase().as_str() {
        "gview" | "rview" | "rgview" | "eview" => true,
        "vi" | "view" | "ex" => says_vim(program),
        // These are windows around Neovim, and have words of their own.
        "nvim-qt" | "nvim-gtk" => false,
        name => name.contains("vim"),
    }
}

/// Some systems call Vim itself `vi`. It has its name inside.
fn says_vim(program: &Path) -> bool {
    let bytes = std::fs::read(program).unwrap_or_default();
    memchr::memmem::find(&bytes, b"Vi IMproved").is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn vim_keeps_nothing_whatever_it_is_called_and_others_get_no_words() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("snap", ""),
            ("busybox", ""),
            ("vim.basic", "VIM - Vi IMproved"),
            ("nano", ""),
            ("nvim.appimage", ""),
            ("ex", "VIM - Vi IMproved"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        for (name, leads_to, is_quiet) in [
            ("nvim", "snap", true),
            ("vimx", "snap", true),
            ("gvim", "snap", true),
            ("gview", "snap", true),
            ("edit", "nvim.appimage", true),
            ("alternative", "nvim", true),
            ("vi", "vim.basic", true),
            ("view", "ex", true),
            ("nvim-qt", "nano", false),
            ("other/vi", "busybox", false),
            ("other/view", "busybox", false),
            ("editor", "nano", false),
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            symlink(at(leads_to), at(name)).unwrap();
            let words = quiet_words(&at(name));
            assert_eq!(words.first().is_some_and(|w| w == "-n"), is_quiet, "{name}");
        }
    }
}
