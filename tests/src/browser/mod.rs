//! Headless Chromium, driven over `WebDriver`.
//!
//! Chromium and its `WebDriver` server run in a separate process namespace, so that the kernel ends all their processes
//! together. Their profile and temporary files are in one directory, which is removed afterwards.

mod driver;
mod session;

use std::fs;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::binaries;
use crate::scratch::Scratch;
use driver::Driver;
use session::Session;

/// The log in which Chromium records its requests.
const REQUEST_LOG: &str = "performance";

/// As root, Chromium starts only without its own sandbox. The rule for host names prevents connections to other
/// machines, for example for the start page.
const ARGS: [&str; 5] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// A running browser with one window. Dropping this value stops it.
pub struct Browser {
    session: Session,
    _driver: Driver,
    _files: Scratch,
}

impl Browser {
    /// Starts a browser with a new profile.
    ///
    /// # Panics
    /// Panics with instructions if Chromium or its `WebDriver` server is not installed.
    pub fn start() -> Self {
        driver::assert_installed();
        let files = Scratch::new();
        let driver = Driver::start(&files);
        let session = Session::start(driver.port(), &capabilities(files.path()));
        let browser = Self {
            session,
            _driver: driver,
            _files: files,
        };
        browser.forget_start_page();
        browser
    }

    /// Opens an empty page, and empties the log of requests, which contains those of the start page.
    fn forget_start_page(&self) {
        self.open("about:blank");
        self.requests();
    }

    /// Opens a page, and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.session.post("url", &json!({ "url": url }));
    }

    /// Calls a function, which may use functions of the page, with these arguments; returns the value of its promise.
    ///
    /// # Panics
    /// Panics if the promise is rejected.
    pub fn call(&self, function: &str, args: &[Value]) -> Value {
        let script = format!(
            "const args = Array.from(arguments), done = args.pop(); \
             ({function})(...args).then(value => done({{ value }}), error => done({{ error: String(error) }}))"
        );
        let parameters = json!({ "script": script, "args": args });
        let outcome = self.session.post("execute/async", &parameters);
        assert_eq!(outcome["error"], Value::Null, "{function} failed");
        outcome["value"].clone()
    }

    /// Returns the URLs that pages have requested since the last call, including the URLs of the pages themselves.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.session.post("se/log", &json!({ "type": REQUEST_LOG }));
        let entries = entries.as_array().expect("the session records requests");
        entries.iter().filter_map(requested_url).collect()
    }

    /// Saves a screenshot in the directory `screenshots` next to the built programs; returns its path.
    pub fn screenshot(&self, name: &str) -> PathBuf {
        let image = self.session.get("screenshot");
        let image = image.as_str().expect("the image is in Base64");
        let directory = binaries::profile_directory().join("screenshots");
        fs::create_dir_all(&directory).expect("the target directory is writable");
        let path = directory.join(format!("{name}.png"));
        let bytes = STANDARD.decode(image).expect("Base64");
        fs::write(&path, bytes).expect("the target directory is writable");
        path
    }
}

fn capabilities(files: &Path) -> Value {
    let profile = format!("--user-data-dir={}", files.join("profile").display());
    let args: Vec<&str> = ARGS.into_iter().chain([profile.as_str()]).collect();
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": { "args": args },
        "goog:loggingPrefs": { REQUEST_LOG: "ALL" },
    })
}

/// Returns the URL if this entry of the log records a request.
fn requested_url(entry: &Value) -> Option<String> {
    let message = entry["message"].as_str()?;
    let message: Value = serde_json::from_str(message).expect("the entries of this log are JSON");
    let message = &message["message"];
    let is_request = message["method"] == "Network.requestWillBeSent";
    let url = message["params"]["request"]["url"].as_str();
    url.filter(|_| is_request).map(str::to_owned)
}
