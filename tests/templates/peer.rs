//! The Go half: built once into a cache outside the source tree, then asked through a pipe.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Values by key, as templates see them.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

/// What came of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Out(Vec<u8>),
    ParseError,
    /// Line and column (from 1) where Go names them.
    RenderError(Option<(usize, usize)>),
    /// Ours ran out of its budget. Go has none and is not asked: it would take the machine down.
    OverBudget,
}

/// A running helper. Dropping it ends the process, because its input closes.
pub(crate) struct Peer {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) out: String,
    pub(crate) error: String,
    pub(crate) stage: String,
    pub(crate) nanos: u64,
    pub(crate) functions: Vec<String>,
}

impl Peer {
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

    pub(crate) fn ask(&mut self, request: &serde_json::Value) -> Answer {
        serde_json::to_writer(&mut self.input, request).expect("the Go helper reads");
        self.input.write_all(b"\n").expect("the Go helper reads");
        self.input.flush().expect("the Go helper reads");
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("the Go helper answers");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the Go helper ended at {request}"))
    }

    pub(crate) fn render(&mut self, template: &str, values: &Values) -> Verdict {
        let answer = self.ask(
            &serde_json::json!({ "name": "t", "template": template, "data": encoded(values) }),
        );
        match &*answer.stage {
            "" => Verdict::Out(STANDARD.decode(answer.out).expect("base 64")),
            "parse" => Verdict::ParseError,
            "render" => Verdict::RenderError(place(&answer.error)),
            stage => panic!("{stage}: {} at {template}", answer.error),
        }
    }
}

impl Drop for Peer {
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

/// `template: t:3:14: executing …`; Go counts columns from 0.
fn place(error: &str) -> Option<(usize, usize)> {
    let mut parts = error.strip_prefix("template: t:")?.split(':');
    Some((
        parts.next()?.parse().ok()?,
        parts.next()?.parse::<usize>().ok()? + 1,
    ))
}

/// The helper, built if this version of its source was not built before.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/go");
        let target = cache().join(format!("templates-{}", version(&source)));
        if !target.exists() {
            build(&source, &target);
        }
        target
    })
}

fn cache() -> PathBuf {
    let folder = match std::env::var_os("SEALED_SECRETS_TEST_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir()
            .expect("a home folder, or SEALED_SECRETS_TEST_CACHE")
            .join(".cache/sealed-secrets-tests"),
    };
    std::fs::create_dir_all(&folder)
        .expect("the cache folder can be made; set SEALED_SECRETS_TEST_CACHE to another");
    folder
}

fn version(source: &Path) -> String {
    let mut hash = Sha256::new();
    for name in ["go.mod", "go.sum", "main.go"] {
        hash.update(std::fs::read(source.join(name)).expect("the helper's source is there"));
    }
    let hash = hash.finalize();
    format!(
        "{:016x}",
        u64::from_be_bytes(hash[..8].try_into().expect("eight bytes"))
    )
}

/// Builds beside the target and moves it there, so that parallel runs never see half a file.
fn build(source: &Path, target: &Path) {
    let partial = target.with_extension(format!("{}.partial", std::process::id()));
    let status = Command::new("go")
        .arg("build")
        .arg("-o")
        .arg(&partial)
        .arg(".")
        .current_dir(source)
        .status();
    let status = status
        .expect("these tests compare with Go; install Go 1.26 or newer and put it on the PATH");
    assert!(
        status.success(),
        "the Go helper does not build; its modules must be downloadable or in Go's module cache"
    );
    std::fs::rename(&partial, target).expect("the helper can be moved into the cache folder");
}
