//! A `WebDriver` session: each command is one HTTP request and response with JSON.
//!
//! A `WebDriver` crate would add some 36 dependencies and, because Cargo unifies features, would change how the
//! programs under test are built.

use serde_json::{Value, json};
use ureq::Agent;

use crate::patience;

/// A session of a server on this machine.
pub(super) struct Session {
    port: u16,
    id: String,
}

impl Session {
    /// Starts a browser with these capabilities.
    pub(super) fn start(port: u16, capabilities: &Value) -> Self {
        let parameters = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let session = request(port, "/session", Some(&parameters));
        let id = session["sessionId"].as_str().expect("a session has an id");
        Self {
            port,
            id: id.to_owned(),
        }
    }

    /// Runs a command with parameters; returns its value.
    pub(super) fn post(&self, command: &str, parameters: &Value) -> Value {
        request(self.port, &self.path(command), Some(parameters))
    }

    /// Runs a command without parameters; returns its value.
    pub(super) fn get(&self, command: &str) -> Value {
        request(self.port, &self.path(command), None)
    }

    fn path(&self, command: &str) -> String {
        format!("/session/{}/{command}", self.id)
    }
}

/// Sends parameters with POST, or none with GET; returns the value in the response.
///
/// # Panics
/// Panics with the response if it reports an error.
fn request(port: u16, path: &str, parameters: Option<&Value>) -> Value {
    let url = format!("http://127.0.0.1:{port}{path}");
    let agent = agent();
    let response = match parameters {
        Some(parameters) => agent.post(url).send(parameters.to_string()),
        None => agent.get(url).call(),
    };
    let mut response = response.unwrap_or_else(|error| panic!("chromedriver: {error}"));
    let body = response.body_mut().read_to_string();
    let body = body.unwrap_or_else(|error| panic!("chromedriver: {error}"));
    assert!(response.status().is_success(), "{path}: {body}");
    let mut body: Value = serde_json::from_str(&body).expect("JSON");
    body["value"].take()
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(patience::LIMIT));
    config.build().into()
}
