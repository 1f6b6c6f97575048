//! The actions of an agent after a change: it signals a program, or runs commands. A failure is only logged, because
//! the files are already in place.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use text::ShowPath as _;

use super::Agent;
use crate::exec::{find_program, signal_named};
use crate::failure::Failure;
use crate::report;

/// The time limit for a command, as in Vault Agent.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The actions to take after a change.
#[derive(Debug)]
pub(super) struct Actions {
    after_any: Option<Action>,
    /// Commands in the configuration, each with the path of the file that it belongs to.
    file_commands: Vec<(String, Vec<OsString>)>,
}

#[derive(Debug)]
enum Action {
    Signal { signal: Signal, process: String },
    Command(Vec<OsString>),
}

impl Actions {
    /// Creates the actions from the arguments and the commands of the configuration.
    pub(super) fn new(args: &Agent, file_commands: Vec<(String, Vec<String>)>) -> Result<Self> {
        let after_any = args.on_change.as_deref().map(|text| action(text, args));
        let file_commands = file_commands.into_iter().map(|(path, command)| {
            let command = command.into_iter().map(OsString::from).collect();
            (path, command)
        });
        Ok(Self {
            after_any: after_any.transpose()?,
            file_commands: file_commands.collect(),
        })
    }

    /// Takes the actions for a change to these files.
    pub(super) fn run(&self, changed: &BTreeSet<String>) {
        let file_commands = self
            .file_commands
            .iter()
            .filter(|(path, _)| changed.contains(path));
        // Several files can have the same command, which then runs once.
        let commands: BTreeSet<&[OsString]> = file_commands
            .map(|(_, command)| command.as_slice())
            .collect();
        for command in commands {
            report_failure(run_command(command));
        }
        match &self.after_any {
            Some(Action::Signal { signal, process }) => report_failure(send(*signal, process)),
            Some(Action::Command(command)) => report_failure(run_command(command)),
            None => {}
        }
    }
}

fn action(text: &str, args: &Agent) -> Result<Action> {
    match (text.split_once(':'), &args.process, args.command.is_empty()) {
        (Some(("signal", name)), Some(process), true) => Ok(Action::Signal {
            signal: signal_named(name)?,
            process: process.clone(),
        }),
        (Some(("signal", _)), _, _) => bail!(
            Failure::new("--on-change=signal:NAME needs --process and no command")
                .hint("to signal a program, pass --on-change=signal:HUP --process=nginx")
        ),
        (None, None, false) if text == "exec" => Ok(Action::Command(args.command.clone())),
        _ => bail!(
            Failure::new(format!("invalid value {text:?} for --on-change"))
                .hint("to signal a program, pass --on-change=signal:HUP --process=nginx")
                .hint("to run a command, pass --on-change=exec -- nginx -s reload")
        ),
    }
}

fn report_failure(result: Result<()>) {
    if let Err(error) = result {
        report::warn(&text::error_chain(error.as_ref()));
    }
}

fn run_command(command: &[OsString]) -> Result<()> {
    let [program, arguments @ ..] = command else {
        bail!("no command to run");
    };
    let mut command = Command::new(find_program(program)?);
    command.args(arguments).stdin(Stdio::null());
    let child = command.spawn();
    let child = child.with_context(|| format!("cannot start {}", program.shown()))?;
    let status = wait(child).with_context(|| format!("the command {} failed", program.shown()))?;
    if !status.success() {
        bail!("the command {} failed: {status}", program.shown());
    }
    Ok(())
}

/// Waits for a command, and kills it at the time limit.
fn wait(mut child: Child) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > COMMAND_TIMEOUT {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {COMMAND_TIMEOUT:?}");
        }
        sleep(POLL_INTERVAL);
    }
}

/// Signals the processes of a program, except its workers, whose parent is another process of the program.
fn send(signal: Signal, program: &str) -> Result<()> {
    let processes = processes(program)?;
    let is_first = |(_, parent): &&(i32, i32)| processes.iter().all(|(id, _)| id != parent);
    let mut count = 0;
    for (id, _) in processes.iter().filter(is_first) {
        let id = Pid::from_raw(*id).context("invalid process ID")?;
        let result = kill_process(id, signal);
        result.with_context(|| {
            Failure::new(format!("cannot signal {program}"))
                .hint("run both containers as the same user")
        })?;
        count += 1;
    }
    if count == 0 {
        bail!(
            Failure::new(format!(
                "no process of {program} is running, so no signal was sent"
            ))
            .hint("set `shareProcessNamespace: true` in the Pod")
        );
    }
    Ok(())
}

/// Returns the process IDs of a program, each with the ID of its parent.
fn processes(program: &str) -> Result<Vec<(i32, i32)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")? {
        let Ok(entry) = entry else { continue };
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // A process may have ended since the directory was listed.
        let parent = id.and_then(|_| parent_of(&entry.path(), program));
        processes.extend(id.zip(parent));
    }
    Ok(processes)
}

/// Returns the parent of a process if the process runs this program.
fn parent_of(process: &Path, program: &str) -> Option<i32> {
    let line = fs::read_to_string(process.join("stat")).ok()?;
    let (start, rest) = line.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    // The kernel truncates the name to 15 bytes; the path of the executable contains the whole name.
    let is_named = name == program || is_file(process, program);
    rest.split_whitespace()
        .nth(1)?
        .parse()
        .ok()
        .filter(|_| is_named)
}

fn is_file(process: &Path, program: &str) -> bool {
    let file = fs::read_link(process.join("exe"));
    file.ok()
        .as_ref()
        .and_then(|path: &PathBuf| path.file_name())
        == Some(OsStr::new(program))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use tempfile::TempDir;

    use super::*;

    /// Returns the path of a program that sleeps, under a name that no other process has.
    fn sleeper(directory: &TempDir) -> (PathBuf, String) {
        // The name of a temporary directory is random.
        let random = directory.path().file_name().unwrap().to_string_lossy();
        let name = format!("sleeper{random}");
        let path = directory.path().join(&name);
        let sleep = hardening::programs::find("sleep").unwrap();
        fs::copy(sleep, &path).unwrap();
        (path, name)
    }

    #[test]
    fn signals_the_processes_of_a_program_and_fails_if_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let (path, name) = sleeper(&directory);
        let error = send(Signal::HUP, &name).unwrap_err().to_string();
        assert!(error.contains("shareProcessNamespace"), "{error}");
        let mut children = [0; 2].map(|_| Command::new(&path).arg("60").spawn().unwrap());
        send(Signal::HUP, &name).unwrap();
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(1));
        }
    }

    #[test]
    fn runs_the_command_of_each_changed_file_once() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let command = |text: &str| {
            let script = format!("echo {text} >> {}", log.display());
            ["/bin/sh", "-c", &script].map(OsString::from).to_vec()
        };
        let actions = Actions {
            after_any: Some(Action::Command(command("any"))),
            file_commands: vec![
                ("a".to_owned(), command("one")),
                ("b".to_owned(), command("one")),
                ("c".to_owned(), command("other")),
            ],
        };
        actions.run(&["a", "b", "x"].map(str::to_owned).into());
        assert_eq!(fs::read_to_string(&log).unwrap(), "one\nany\n");
    }

    #[test]
    fn a_command_that_fails_or_does_not_exist_is_an_error() {
        let run = |command: &[&str]| {
            let command: Vec<OsString> = command.iter().map(OsString::from).collect();
            run_command(&command).unwrap_err().to_string()
        };
        assert!(run(&["/bin/sh", "-c", "exit 3"]).contains("exit status: 3"));
        assert!(run(&["no-such-program"]).contains("not found"));
        assert!(run(&[]).contains("no command"));
    }
}
