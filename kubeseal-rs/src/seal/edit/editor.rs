//! Runs the user's editor: `$VISUAL`, `$EDITOR` or vi, by its absolute path, so that no program in a repository is run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kubeseal_library::environment::Environment;
use kubeseal_library::programs;

use super::guarded::GuardedDirectory;
use crate::failure::Failure;
use crate::report::ShowPath as _;

/// An editor and its arguments.
pub(super) struct Editor {
    program: PathBuf,
    args: Vec<String>,
}

impl Editor {
    /// Finds the program of `VISUAL` or `EDITOR`, or `vi`.
    pub(super) fn find(environment: &Environment) -> Result<Self> {
        let from_variable = |variable: &'static str| {
            let line = environment.nonempty_variable(variable)?;
            Some((variable, line))
        };
        let default = || ("the default", "vi".to_owned());
        let (from, line) = from_variable("VISUAL")
            .or_else(|| from_variable("EDITOR"))
            .unwrap_or_else(default);
        let args = shlex::split(&line).with_context(|| {
            format!("{from} is not a valid command line: a quote is not closed")
        })?;
        let name = args.first().cloned().unwrap_or_default();
        let program = programs::find(&name).ok_or_else(|| {
            let message = format!(
                "the editor {name:?} ({from}) was not found in an absolute directory of PATH"
            );
            let variable = if from == "VISUAL" { from } else { "EDITOR" };
            Failure::new(message).hint(format!("set {variable} to an editor in PATH"))
        })?;
        let mut args: Vec<String> = args.into_iter().skip(1).collect();
        args.extend(no_copy_args(&program));
        Ok(Self { program, args })
    }

    /// Opens the file in the editor, waits until the editor exits, and returns how long that took. The current
    /// directory of the editor is the hidden directory: files that it creates there are removed with the directory, and
    /// there are no local settings to load.
    ///
    /// # Errors
    ///
    /// Fails if the editor cannot be started, or exits with a failure.
    pub(super) fn open(&self, guarded: &GuardedDirectory) -> Result<Duration> {
        let hidden = guarded.hidden();
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command.arg(hidden.file()).current_dir(hidden.directory());
        let start = Instant::now();
        let status = guarded.while_editing(|| command.status());
        let status =
            status.with_context(|| format!("cannot start the editor {}", self.program.shown()))?;
        if !status.success() {
            bail!("the editor failed with {status}; nothing was changed");
        }
        Ok(start.elapsed())
    }

    /// Returns a warning if the editor probably exited before the user edited the file: many editors that open a window
    /// pass the file to another process. For an editor whose flags are unknown, this is assumed if the editor exited
    /// after a very short time. A script may be as fast, so the time counts only in an interactive session.
    pub(super) fn no_wait_warning(&self, after: Duration, is_interactive: bool) -> Option<String> {
        let flag = wait_flag(&self.program);
        let is_waiting =
            flag.is_none_or(|flag| self.args.iter().any(|arg| is_same_flag(arg, flag)));
        let exited_too_soon = flag.is_none() && is_interactive && after < MIN_EDIT_TIME;
        if is_waiting && !exited_too_soon {
            return None;
        }
        let name = self.program.file_name().unwrap_or_default().display();
        let flag = flag.unwrap_or("--wait");
        Some(format!(
            "the editor {name} exited without a change, and its file was removed\n\
             hint: if it opened a window, it must wait until the window is closed: set EDITOR={:?}",
            format!("{name} {flag}")
        ))
    }
}

/// The shortest time in which a user can open, read and close a file.
const MIN_EDIT_TIME: Duration = Duration::from_millis(500);

/// Returns the flag that makes a window editor wait until its window is closed; `None` for other editors.
fn wait_flag(program: &Path) -> Option<&'static str> {
    const EDITORS: [(&str, &str); 5] = [
        (
            "--wait",
            "code code-insiders codium code-oss cursor windsurf zed zeditor subl sublime_text atom gedit",
        ),
        ("--block", "kate kwrite"),
        ("-w", "mate nova bbedit"),
        ("-f", "gvim mvim"),
        ("--nofork", "nvim-qt"),
    ];
    let name = program.file_name()?.to_str()?;
    let has_name = |(_, names): &&(&str, &str)| names.split(' ').any(|editor| editor == name);
    EDITORS.iter().find(has_name).map(|(flag, _)| *flag)
}

/// Returns whether an argument is the flag, in its short or long form.
fn is_same_flag(arg: &str, flag: &str) -> bool {
    arg == flag
        || matches!(
            (arg, flag),
            ("-w", "--wait") | ("--wait", "-w") | ("-b", "--block") | ("--nofork", "-f")
        )
}

/// Vim options that prevent copies of the text on disk. `nomodeline` is set because a value by another author could
/// contain a modeline, which sets options.
const NO_COPIES: &str = "set noswapfile nobackup nowritebackup noundofile nomodeline";

/// Returns the arguments that keep Vim from writing the text to other files; none for other editors.
fn no_copy_args(program: &Path) -> Vec<String> {
    if !link_chain(program).any(|name| is_vim(&name)) {
        return Vec::new();
    }
    // Set the options before the user's settings are read, and again afterwards.
    ["-n", "-i", "NONE", "--cmd", NO_COPIES, "-c", NO_COPIES]
        .map(str::to_owned)
        .into()
}

/// Returns the path of the editor and every link target on the way. Any of them may identify the
/// program: the last one may be a launcher for many programs, such as `snap` or `mise`.
fn link_chain(program: &Path) -> impl Iterator<Item = PathBuf> {
    let next = |path: &PathBuf| Some(path.parent()?.join(path.read_link().ok()?));
    // Symbolic links may form a cycle. Linux follows at most 40.
    std::iter::successors(Some(program.to_owned()), next).take(40)
}

/// Returns whether the program is Vim or Neovim. Their names contain `vim`, as in `nvim.appimage` and `vim.basic`,
/// except for Vim's read-only variants such as `gview`. Other programs are also named `vi`, `view` or `ex`, and do not
/// accept the arguments.
fn is_vim(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    match name.to_ascii_lowercase().as_str() {
        "gview" | "rview" | "rgview" | "eview" => true,
        "vi" | "view" | "ex" => contains_vim_name(program),
        // Graphical front ends of Neovim, with different arguments.
        "nvim-qt" | "nvim-gtk" => false,
        name => name.contains("vim"),
    }
}

/// Returns whether the program's file contains Vim's full name. Some systems install Vim as `vi`, `view` and `ex`.
fn contains_vim_name(program: &Path) -> bool {
    let bytes = std::fs::read(program).unwrap_or_default();
    memchr::memmem::find(&bytes, b"Vi IMproved").is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn warns_about_an_editor_that_does_not_wait() {
        let (at_once, later) = (Duration::from_millis(20), Duration::from_secs(5));
        for (program, arg, after, want) in [
            ("code", None, at_once, Some("code --wait")),
            ("code", None, later, Some("code --wait")),
            ("code", Some("--wait"), at_once, None),
            ("subl", Some("-w"), at_once, None),
            ("kate", None, at_once, Some("kate --block")),
            ("mate", Some("-w"), at_once, None),
            ("gvim", None, at_once, Some("gvim -f")),
            ("unknown", None, at_once, Some("unknown --wait")),
            ("unknown", None, later, None),
            ("nano", None, later, None),
        ] {
            let editor = Editor {
                program: Path::new("/usr/bin").join(program),
                args: arg.into_iter().map(str::to_owned).collect(),
            };
            let warning = editor.no_wait_warning(after, true);
            let is_right = match (&warning, want) {
                (Some(warning), Some(want)) => warning.contains(want),
                (warning, want) => warning.is_none() && want.is_none(),
            };
            assert!(is_right, "{program}: {warning:?}");
            assert_eq!(
                editor.no_wait_warning(after, false).is_some(),
                warning.is_some() && program != "unknown"
            );
        }
    }

    #[test]
    fn vim_gets_arguments_against_copies_under_any_name_and_other_editors_get_none() {
        let directory = tempfile::tempdir().unwrap();
        let path_of = |name: &str| directory.path().join(name);
        for (name, text) in [
            ("snap", ""),
            ("busybox", ""),
            ("vim.basic", "VIM - Vi IMproved"),
            ("nano", ""),
            ("nvim.appimage", ""),
            ("ex", "VIM - Vi IMproved"),
        ] {
            fs::write(path_of(name), text).unwrap();
        }
        for (name, target, has_arguments) in [
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
            fs::create_dir_all(path_of(name).parent().unwrap()).unwrap();
            symlink(path_of(target), path_of(name)).unwrap();
            let args = no_copy_args(&path_of(name));
            assert_eq!(
                args.first().is_some_and(|w| w == "-n"),
                has_arguments,
                "{name}"
            );
        }
    }
}
