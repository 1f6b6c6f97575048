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
/// The log of the console, which contains violations of a page's policy.
const CONSOLE_LOG: &str = "browser";

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

    /// Opens an empty page, and empties the log of requests, which contains the requests of the start page.
    fn forget_start_page(&self) {
        self.open("about:blank");
        self.requests();
    }

    /// Opens a page, and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.session.post("url", &json!({ "url": url }));
    }

    /// Returns to the page before this one, and waits until it is loaded.
    pub fn back(&self) {
        self.session.post("back", &json!({}));
    }

    /// Loads the page again, and waits until it is loaded.
    pub fn reload(&self) {
        self.session.post("refresh", &json!({}));
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

    /// Returns the messages in the console since the last call, such as violations of a page's policy.
    pub fn console(&self) -> Vec<String> {
        let entries = self.session.post("se/log", &json!({ "type": CONSOLE_LOG }));
        let entries = entries.as_array().expect("the session records the console");
        let messages = entries.iter().filter_map(|entry| entry["message"].as_str());
        messages.map(str::to_owned).collect()
    }

    /// Presses and releases keys one after another. A character of the range U+E000 to U+E05D is a special key of
    /// `WebDriver`, such as U+E004 for Tab.
    pub fn press(&self, keys: &str) {
        let key = |kind: &str, key: char| json!({ "type": kind, "value": key.to_string() });
        let presses = keys
            .chars()
            .flat_map(|c| [key("keyDown", c), key("keyUp", c)]);
        let presses: Vec<Value> = presses.collect();
        let actions =
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": presses }] });
        self.session.post("actions", &actions);
    }

    /// Changes the size of the page in CSS pixels, and whether the system prefers a dark design.
    pub fn set_display(&self, width: u32, height: u32, is_dark: bool) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.run_devtools("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.run_devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [feature] }),
        );
    }

    /// Runs a command of Chromium's protocol for developer tools.
    fn run_devtools(&self, command: &str, parameters: &Value) {
        let command = json!({ "cmd": command, "params": parameters });
        self.session.post("goog/cdp/execute", &command);
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
        "goog:loggingPrefs": { REQUEST_LOG: "ALL", CONSOLE_LOG: "ALL" },
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
