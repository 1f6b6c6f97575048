//! The running peer and the pipe to it.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// Why a call to the peer gave no result.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The process could not be started, or its pipe broke.
    #[error("the Go peer's process is not usable")]
    Pipe(#[from] std::io::Error),
    /// The answer is not of the form that `tests/peer` promises.
    #[error("the Go peer answered with something else than {0}")]
    Answer(&'static str),
    /// The peer ran and said no, in these words.
    #[error("the Go peer refused: {0}")]
    Refused(String),
}

/// A child process that answers one JSON line to each JSON line. It ends when its input is closed,
/// which dropping does.
#[derive(Debug)]
pub(super) struct Process(Mutex<Pipe>);

#[derive(Debug)]
struct Pipe {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    pub(super) fn start(binary: &Path) -> Result<Self, PeerError> {
        let mut child = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = child.stdin.take();
        let answers = child
            .stdout
            .take()
            .ok_or(PeerError::Answer("an open pipe"))?;
        Ok(Self(Mutex::new(Pipe {
            child,
            requests,
            answers: BufReader::new(answers),
        })))
    }

    /// One request, one answer; calls from several threads take turns.
    pub(super) fn call(&self, request: &Value) -> Result<Value, PeerError> {
        let mut line = request.to_string();
        line.push('\n');
        let answer = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .exchange(&line)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(PeerError::Refused(error.to_owned())),
            None => Ok(answer),
        }
    }
}

impl Pipe {
    fn exchange(&mut self, line: &str) -> Result<Value, PeerError> {
        let requests = self
            .requests
            .as_mut()
            .ok_or(PeerError::Answer("an open pipe"))?;
        requests.write_all(line.as_bytes())?;
        requests.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(|_| PeerError::Answer("a JSON line"))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Its exit code says nothing that an answer has not said; waiting leaves no zombie behind.
        let _ = self.child.wait();
    }
}
