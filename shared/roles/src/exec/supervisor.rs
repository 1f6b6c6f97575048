//! Runs a command as a child process: forwards signals, reaps processes, and acts on new values.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::process::exit;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use agent::poll::Poll;
use anyhow::{Context as _, Result, bail};
use deliver::{DeliveredObject, Response};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::delivered::{Passed, report_passed, values};
use super::{CommandArgs, Values, command, pass_values, signal_named, start_error};
use crate::failure::Failure;
use crate::{Variables, report};

/// Signals that are forwarded to the command.
const FORWARDED_SIGNALS: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
/// Signals that request termination.
const TERMINATION_SIGNALS: [i32; 3] = [SIGINT, SIGQUIT, SIGTERM];
/// How long a command may take to end before it is killed: the default grace period of a Pod.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// What to do after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnChange {
    /// End the command, and start it with the new values.
    Restart,
    /// Replace the content of the files, and send this signal.
    Signal(Signal),
    /// End the command, and exit.
    Exit,
}

impl OnChange {
    /// Parses the value of `--on-change`.
    pub(super) fn parse(text: &str, in_files: bool) -> Result<Self> {
        match text.split_once(':') {
            None if text == "restart" => Ok(Self::Restart),
            None if text == "exit" => Ok(Self::Exit),
            Some(("signal", name)) if in_files => Ok(Self::Signal(signal_named(name)?)),
            Some(("signal", _)) => bail!(
                Failure::new("variables of a running command cannot change, so --on-change=signal needs --files")
                    .hint("pass values as files with --files, or use --on-change=restart")
            ),
            _ => bail!(
                Failure::new(format!("invalid value {text:?} for --on-change"))
                    .hint("use restart, signal:HUP or exit")
            ),
        }
    }
}

enum Event {
    Signal(i32),
    Values(Box<Response>),
}

/// Waits for the first values, runs the command, and exits with the exit code of the command.
pub(super) fn run(
    command_args: &CommandArgs,
    on_change: OnChange,
    poll: Poll,
    variables: Variables,
) -> Result<()> {
    // Without a queue, so that a signal is handled before further changes.
    let (sender, events) = sync_channel(0);
    watch_signals(sender.clone())?;
    watch_values(poll, sender);
    let first = wait_for_first_values(&events);
    let first = Received::new(command_args, first)?;
    let child = RunningCommand::start(command_args, &first, variables)?;
    let mut supervisor = Supervisor {
        command_args,
        variables,
        on_change,
        child,
        ending: None,
        is_stopping: false,
    };
    exit(supervisor.run(&events)?)
}

fn watch_signals(events: SyncSender<Event>) -> Result<()> {
    let signals = FORWARDED_SIGNALS.iter().chain([&SIGCHLD]);
    let mut signals = Signals::new(signals).context("cannot handle signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = events.send(Event::Signal(signal));
        }
    });
    Ok(())
}

fn watch_values(mut poll: Poll, events: SyncSender<Event>) {
    thread::spawn(move || {
        while events
            .send(Event::Values(Box::new(poll.next_change())))
            .is_ok()
        {}
    });
}

/// Waits for the first values. A signal that requests termination ends this process.
fn wait_for_first_values(events: &Receiver<Event>) -> Response {
    loop {
        match events.recv() {
            Ok(Event::Values(response)) => return *response,
            Ok(Event::Signal(signal)) if TERMINATION_SIGNALS.contains(&signal) => {
                exit(128 + signal)
            }
            Ok(Event::Signal(_)) => {}
            // The threads that own the senders never end.
            Err(_) => exit(2),
        }
    }
}

/// Values to choose from, and the SealedSecrets that contain them.
#[derive(Debug, PartialEq)]
struct Received {
    values: Values,
    objects: Vec<DeliveredObject>,
}

impl Received {
    fn new(command_args: &CommandArgs, response: Response) -> Result<Self> {
        Ok(Self {
            values: values(command_args, &response)?,
            objects: response.objects,
        })
    }
}

/// A running command, and the files through which it receives values.
struct RunningCommand {
    id: Pid,
    /// The files that the command inherited, by item.
    files: BTreeMap<String, File>,
}

impl RunningCommand {
    /// Starts the command, and reports the versions of its values.
    fn start(
        command_args: &CommandArgs,
        received: &Received,
        variables: Variables,
    ) -> Result<Self> {
        let (mut command, program) = command(command_args)?;
        let files = pass_values(&mut command, &received.values, command_args, variables)?;
        report_passed(&received.objects, Passed::AtStart);
        let child = command.spawn();
        let child = child.map_err(|error| start_error(error, program))?;
        // `wait` for any process reports the end of this child, so `child` itself is not needed.
        let id = Pid::from_child(&child);
        Ok(Self { id, files })
    }

    fn signal(&self, signal: Signal) {
        // The command may have ended already.
        let _ = kill_process(self.id, signal);
    }

    /// Replaces the content of the files.
    fn update(&self, values: &Values) -> Result<()> {
        // All items are found before any file is replaced, so that the command gets values of one version.
        let replacements = self.files.iter().map(|(item, file)| {
            let value = values.get(item);
            let missing = || format!("the SealedSecrets no longer contain the item {item}");
            Ok((file, value.with_context(missing)?))
        });
        for (file, value) in replacements.collect::<Result<Vec<_>>>()? {
            // The sizes of values determine the file that cannot be replaced, so the error does not name it.
            replace(file, value.expose())
                .context("cannot replace all files of the command; some may have new values")?;
        }
        Ok(())
    }
}

/// Replaces the content of a file. Keeps the file position, which the command shares.
fn replace(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

/// What to do when the command has ended.
#[derive(Debug, PartialEq)]
enum Next {
    Start(Received),
    Exit,
}

struct Supervisor<'a> {
    command_args: &'a CommandArgs,
    variables: Variables,
    on_change: OnChange,
    child: RunningCommand,
    /// Set while the command is ending: the time at which it is killed, and what to do afterwards.
    ending: Option<(Instant, Next)>,
    /// Whether a signal requested termination, so that the command is not started again.
    is_stopping: bool,
}

impl Supervisor<'_> {
    /// Runs until the command ends; returns the exit code.
    fn run(&mut self, events: &Receiver<Event>) -> Result<i32> {
        loop {
            match self.next_event(events) {
                Some(Event::Signal(SIGCHLD)) => {
                    if let Some(code) = self.reap()? {
                        return Ok(code);
                    }
                }
                Some(Event::Signal(signal)) => self.forward(signal),
                Some(Event::Values(response)) => self.handle_change(*response),
                None => self.kill(),
            }
        }
    }

    /// Returns the next event; `None` when it is time to kill the command.
    fn next_event(&self, events: &Receiver<Event>) -> Option<Event> {
        let timeout = match &self.ending {
            Some((deadline, _)) => deadline.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        match events.recv_timeout(timeout.min(Duration::from_hours(24))) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) if self.ending.is_none() => self.next_event(events),
            Err(_) => None,
        }
    }

    /// Kills the command, and again a second later if it has not ended.
    fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        if let Some((deadline, _)) = &mut self.ending {
            *deadline = Instant::now() + Duration::from_secs(1);
        }
    }

    /// Reaps every process that has ended: the command, and orphaned processes that it started. Returns the exit
    /// code if this process should exit too.
    fn reap(&mut self) -> Result<Option<i32>> {
        while let Ok(Some((id, status))) = wait(WaitOptions::NOHANG) {
            if id != self.child.id {
                continue;
            }
            let planned = self.ending.take().map(|(_, next)| next);
            match next(planned, self.is_stopping) {
                Next::Start(received) => {
                    self.child =
                        RunningCommand::start(self.command_args, &received, self.variables)?;
                }
                Next::Exit => return Ok(Some(exit_code(status))),
            }
        }
        Ok(None)
    }

    fn forward(&mut self, signal: i32) {
        self.is_stopping |= TERMINATION_SIGNALS.contains(&signal);
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.child.signal(signal);
        }
    }

    /// Acts on new values. If they cannot be used, the command keeps the former values.
    fn handle_change(&mut self, response: Response) {
        if let Err(error) = self.apply_change(response) {
            let why = text::error_chain(error.as_ref());
            report::warn(&format!("the command keeps its former values: {why}"));
        }
    }

    fn apply_change(&mut self, response: Response) -> Result<()> {
        let received = Received::new(self.command_args, response)?;
        match self.on_change {
            OnChange::Signal(signal) => {
                self.child.update(&received.values)?;
                report_passed(&received.objects, Passed::InFiles);
                self.child.signal(signal);
            }
            OnChange::Exit => self.end(Next::Exit),
            OnChange::Restart => {
                // Check the new values while the command is still running.
                let (mut unused, _) = command(self.command_args)?;
                let values = &received.values;
                pass_values(&mut unused, values, self.command_args, self.variables)?;
                self.end(Next::Start(received));
            }
        }
        Ok(())
    }

    /// Sends the command a signal to end it. If the command is already ending, only replaces the planned next step,
    /// unless that step is to exit.
    fn end(&mut self, next: Next) {
        match &mut self.ending {
            None => {
                self.child.signal(Signal::TERM);
                self.ending = Some((Instant::now() + GRACE_PERIOD, next));
            }
            Some((_, Next::Exit)) => {}
            Some((_, planned)) => *planned = next,
        }
    }
}

/// Returns what to do after the end of the command. The command is not started again after a signal that requested
/// termination, even if a change came later.
fn next(planned: Option<Next>, is_stopping: bool) -> Next {
    planned.filter(|_| !is_stopping).unwrap_or(Next::Exit)
}

fn exit_code(status: WaitStatus) -> i32 {
    let by_signal = || status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or_else(by_signal).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn parses_the_action_after_a_change() {
        let parse = |text, in_files| OnChange::parse(text, in_files).ok();
        assert_eq!(parse("restart", false), Some(OnChange::Restart));
        assert_eq!(parse("exit", true), Some(OnChange::Exit));
        assert_eq!(
            parse("signal:HUP", true),
            Some(OnChange::Signal(Signal::HUP))
        );
        for (text, in_files) in [
            ("signal:HUP", false),
            ("signal:KILL", true),
            ("signal", true),
            ("", false),
            ("x:y", true),
        ] {
            assert_eq!(parse(text, in_files), None, "{text}");
        }
    }

    /// Attack: a controller changes the values again and again, so that a command that is asked to end starts again.
    #[test]
    fn a_command_starts_again_only_after_a_change_and_before_a_termination_signal() {
        let next_start = || {
            Next::Start(Received {
                values: Values::new(),
                objects: Vec::new(),
            })
        };
        let start = || Some(next_start());
        for (planned, is_stopping, want) in [
            (start(), false, next_start()),
            (start(), true, Next::Exit),
            (Some(Next::Exit), false, Next::Exit),
            (Some(Next::Exit), true, Next::Exit),
            (None, false, Next::Exit),
            (None, true, Next::Exit),
        ] {
            let why = format!("{planned:?} {is_stopping}");
            assert_eq!(next(planned, is_stopping), want, "{why}");
        }
    }

    #[test]
    fn a_shorter_value_replaces_a_longer_one() {
        let mut file = tempfile::tempfile().unwrap();
        replace(&file, b"a long value").unwrap();
        replace(&file, b"short").unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "short");
    }
}
