//! The Go side of the differential tests: built once into a cache outside the source tree, then called
//! through a pipe.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tests::go_build;

/// Values by key, as templates see them.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

/// The result of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Out(Vec<u8>),
    ParseError,
    /// Line and column, counted from 1; `None` if Go does not report them.
    RenderError(Option<(usize, usize)>),
    /// This project's engine exceeded its budget. Go has no budget and is not run, because it could exhaust the
    /// machine.
    OverBudget,
}

/// A running Go helper. Dropping this value kills the process.
pub(crate) struct Upstream {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
pub(crate) struct Response {
    pub(crate) out: String,
    pub(crate) error: String,
    pub(crate) stage: String,
    pub(crate) nanos: u64,
    pub(crate) functions: Vec<String>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(binary())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Go helper starts");
        let input = BufWriter::new(child.stdin.take().expect("a pipe"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            input,
            output,
        }
    }

    pub(crate) fn ask(&mut self, request: &serde_json::Value) -> Response {
        serde_json::to_writer(&mut self.input, request).expect("the Go helper reads");
        self.input.write_all(b"\n").expect("the Go helper reads");
        self.input.flush().expect("the Go helper reads");
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("the Go helper responds");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the Go helper ended at {request}"))
    }

    pub(crate) fn render(&mut self, template: &str, values: &Values) -> Verdict {
        let response = self.ask(
            &serde_json::json!({ "name": "t", "template": template, "data": encoded(values) }),
        );
        match &*response.stage {
            "" => Verdict::Out(STANDARD.decode(response.out).expect("base 64")),
            "parse" => Verdict::ParseError,
            "render" => Verdict::RenderError(error_location(&response.error)),
            stage => panic!("{stage}: {} at {template}", response.error),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn encoded(values: &Values) -> BTreeMap<&str, String> {
    values
        .iter()
        .map(|(key, value)| (key.as_str(), STANDARD.encode(value)))
        .collect()
}

/// Parses line and column of an error such as `template: t:3:14: executing …`; Go counts columns from 0.
fn error_location(error: &str) -> Option<(usize, usize)> {
    let mut parts = error.strip_prefix("template: t:")?.split(':');
    Some((
        parts.next()?.parse().ok()?,
        parts.next()?.parse::<usize>().ok()? + 1,
    ))
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/go");
        go_build::build(&source, ".", "templates")
    })
}
