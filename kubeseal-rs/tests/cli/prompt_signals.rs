//! Tests that a signal at a hidden prompt does not leave the terminal without echo.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::command;

/// Runs `seal` at a prompt, and shows its process, its exit code, and then the settings of the terminal.
const SCRIPT: &str = "sh -c 'echo pid=$$; exec \"$0\" create a --prompt password' \"$0\"\n\
                      echo code=$?\n\
                      stty -a\n\
                      echo done.";

/// The shell of a user, with its own terminal.
struct Shell {
    child: Child,
    terminal: File,
    screen: String,
}

impl Shell {
    fn start(home: &Path) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).expect("the terminal was opened");
        unlockpt(&terminal).expect("the terminal was opened");
        let name = ptsname(&terminal, Vec::new()).expect("a name");
        let name = name.into_string().expect("ASCII");
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(&name);
            file.expect("the terminal")
        };
        let mut shell = command("setsid", home, "/nowhere");
        shell.args(["-c", "sh", "-c", SCRIPT, env!("CARGO_BIN_EXE_seal")]);
        shell.stdin(open()).stdout(open()).stderr(open());
        let child = shell.env("TERM", "xterm").spawn();
        Self {
            child: child.expect("setsid"),
            terminal: terminal.into(),
            screen: String::new(),
        }
    }

    /// Reads the output of the terminal until it contains this string.
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.screen.contains(text) {
            let count = self.terminal.read(&mut buffer);
            let count = count.unwrap_or_else(|error| unreachable!("{error}: {}", self.screen));
            let read = String::from_utf8_lossy(&buffer[..count]);
            self.screen.push_str(&read);
        }
    }

    fn seal_process(&self) -> Pid {
        let (_, rest) = self
            .screen
            .split_once("pid=")
            .expect("the screen shows the process ID");
        let number = rest.lines().next().and_then(|number| number.parse().ok());
        number.and_then(Pid::from_raw).expect("a process")
    }
}

/// Fault: `timeout`, a closed window or another program ends `seal` at a hidden prompt, so further input is invisible
/// and goes to the shell.
#[test]
fn a_signal_at_a_hidden_prompt_restores_the_terminal() {
    let home = tempfile::tempdir().expect("a directory");
    for signal in [
        Signal::ALARM,
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
    ] {
        let mut shell = Shell::start(home.path());
        shell.wait_for("Value of password: ");
        kill_process(shell.seal_process(), Signal::TSTP).expect("seal is running");
        kill_process(shell.seal_process(), signal).expect("seal is running");
        shell.wait_for("done.");
        let screen = &shell.screen;
        let code = format!("code={}", 128 + signal.as_raw());
        assert!(screen.contains(&code), "{signal:?}: {screen}");
        let settings: Vec<&str> = screen.split([' ', '\r', '\n', ';']).collect();
        for setting in ["echo", "icanon", "isig"] {
            assert!(settings.contains(&setting), "{signal:?}: {screen}");
        }
        assert!(screen.contains("\u{1b}[?2004l"), "{signal:?}: {screen}");
        shell.child.wait().expect("the child ends");
    }
}
