//! The running upstream process, and the pipe to it.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// Why a call to upstream has no result.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The process could not be started, or its pipe broke.
    #[error("cannot use the upstream process")]
    Pipe(#[from] std::io::Error),
    /// The response does not have the form that `tests/peer` documents.
    #[error("unexpected response from upstream: expected {0}")]
    Response(&'static str),
    /// Upstream refused, with this message.
    #[error("upstream refused: {0}")]
    Refused(String),
}

/// A child process that responds to each JSON line with a JSON line. It exits when its input is closed, which
/// dropping this value does.
#[derive(Debug)]
pub(super) struct Process(Mutex<Pipe>);

#[derive(Debug)]
struct Pipe {
    child: Child,
    requests: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Process {
    pub(super) fn start(binary: &Path) -> Result<Self, UpstreamError> {
        let mut child = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = child.stdin.take();
        let responses = child
            .stdout
            .take()
            .ok_or(UpstreamError::Response("an open pipe"))?;
        Ok(Self(Mutex::new(Pipe {
            child,
            requests,
            responses: BufReader::new(responses),
        })))
    }

    /// Sends one request and reads one response; concurrent calls wait for each other.
    pub(super) fn call(&self, request: &Value) -> Result<Value, UpstreamError> {
        let mut line = request.to_string();
        line.push('\n');
        let response = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .exchange(&line)?;
        match response.get("error").and_then(Value::as_str) {
            Some(error) => Err(UpstreamError::Refused(error.to_owned())),
            None => Ok(response),
        }
    }
}

impl Pipe {
    fn exchange(&mut self, line: &str) -> Result<Value, UpstreamError> {
        let requests = self
            .requests
            .as_mut()
            .ok_or(UpstreamError::Response("an open pipe"))?;
        requests.write_all(line.as_bytes())?;
        requests.flush()?;
        let mut response = String::new();
        self.responses.read_line(&mut response)?;
        serde_json::from_str(&response).map_err(|_| UpstreamError::Response("a JSON line"))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.requests.take());
        // The responses already report errors, so the exit code is ignored; waiting avoids a zombie process.
        let _ = self.child.wait();
    }
}
