//! Runs the programs on input that requires excessive time or memory, while the kernel limits their CPU
//! time and address space. A program that exceeds the limits is killed, and the test fails.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use shared::manifest::to_yaml;
use shared::scope::Scope;
use shared::{base64, key_secret};
use tests::binaries;
use tests::guarded;
use tests::http;
use tests::logged::LoggedProcess;
use tests::patience;
use tests::scratch::Scratch;
use tests::sealing::{KEYS, sealed_for};

/// The limit for the address space. An idle controller uses a quarter of it.
const ADDRESS_SPACE_KIB: &str = "1500000";
/// The limit for CPU time. The slowest run of an unoptimized command-line tool took seven seconds.
const CPU_SECONDS: &str = "100";

/// A shell script whose first two arguments are the limits. Runs the other arguments within them.
const LIMIT_SCRIPT: &str = r#"ulimit -v "$1" && ulimit -t "$2" && shift 2 && exec "$@""#;

/// The limit for reading all excessive files in a development build on a busy machine. A release build takes seconds.
const PARSING_LIMIT: Duration = Duration::from_mins(5);

/// Returns files that require excessive resources, by their kind.
fn excessive_files() -> BTreeMap<&'static str, String> {
    let object = |name: &str, spec: &str| {
        format!(
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n\
             metadata: {{name: {name}, namespace: shop}}\nspec:\n{spec}"
        )
    };
    let mut keys = String::from("  encryptedData:\n");
    for i in 0..1_000_000 {
        writeln!(keys, "    k{i}: AgA=").unwrap();
    }
    BTreeMap::from([
        ("aliases of aliases", object("bomb", &aliases())),
        ("nested anchors", object("anchors", &anchors())),
        (
            "one long string under many aliases",
            object("repeated", &repeated_text()),
        ),
        (
            "a million objects of JSON one after another",
            "{}".repeat(1_000_000),
        ),
        ("one field of JSON that grows forever", growing_field()),
        ("a million keys", object("keys", &keys)),
        ("a million documents", "---\n".repeat(1_000_000)),
        ("a million open brackets", "[".repeat(1_000_000)),
        ("a million open braces in JSON", "{\"a\":".repeat(1_000_000)),
        (
            "four thousand levels of indentation",
            increasing_indentation(),
        ),
        (
            "a million objects in a list",
            format!("kind: List\nitems:\n{}", "- {}\n".repeat(1_000_000)),
        ),
        (
            "a line of ten megabytes",
            object("line", &format!("  x: {}\n", "y".repeat(10_000_000))),
        ),
        (
            "a value of ten megabytes",
            object(
                "long",
                &format!("  encryptedData: {{a: {}}}\n", "A".repeat(10_000_000)),
            ),
        ),
        (
            "a hundred thousand nested conditions",
            with_template("deep", "{{if 1}}".repeat(100_000)),
        ),
        (
            "a template that never ends",
            with_template("ends", "{{range until 1000000000}}{{end}}".into()),
        ),
    ])
}

/// Returns an object whose item can be unsealed; otherwise the controller would not parse its template.
fn with_template(name: &str, text: String) -> String {
    let mut sealed = sealed_for(&KEYS[0], "shop", name, &[("a", "1")], Scope::Strict);
    sealed.spec.template.data = Some([("b".to_owned(), Some(text))].into());
    to_yaml(&sealed.to_document())
}

fn aliases() -> String {
    let mut text = String::from("  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let references = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(text, "  a{i}: &a{i} [{references}]").unwrap();
    }
    text
}

/// Returns nested YAML anchors. A parser keeps a copy of the content of each anchor.
fn anchors() -> String {
    let open: Vec<String> = (0..90).map(|i| format!("&n{i} [")).collect();
    format!(
        "  x: {}{}{}\n",
        open.concat(),
        "~,".repeat(500_000),
        "]".repeat(90)
    )
}

fn repeated_text() -> String {
    let long = "y".repeat(700_000);
    format!("  x: &x {long}\n  y: [{}]\n", "*x,".repeat(50_000))
}

/// Returns repeated fields, which a parser merges into one.
fn growing_field() -> String {
    let field = |i| format!("\"a\":{{\"k{i}\":0}}");
    let fields: Vec<String> = (0..300_000).map(field).collect();
    format!("{{{}}}", fields.join(","))
}

/// Returns lines with increasing indentation. Their number is limited, because their total length is quadratic in the
/// number.
fn increasing_indentation() -> String {
    (0..4000).fold(String::new(), |mut text, i| {
        writeln!(text, "{:i$}a:", "").unwrap();
        text
    })
}

fn limited_command(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", LIMIT_SCRIPT, "sh", ADDRESS_SPACE_KIB, CPU_SECONDS])
        .arg(program);
    command
}

/// Files in which `seal lint` finds no problem. The command renders no templates.
const HARMLESS: [&str; 5] = [
    "a million documents",
    "a million objects of JSON one after another",
    "one field of JSON that grows forever",
    "a million objects in a list",
    "a template that never ends",
];

/// Asserts that the program exited by itself, without a panic, and printed less than 100 kB of messages.
fn assert_exited(output: &Output, kind: &str) {
    let length = output.stderr.len();
    assert!(output.status.code().is_some(), "{kind}: {}", output.status);
    assert_ne!(output.status.code(), Some(101), "{kind}: a panic");
    assert!(length < 100_000, "{kind}: {length} bytes of messages");
}

#[test]
fn the_resource_limits_apply_to_the_tested_program() {
    let mut shell = limited_command(Path::new("/bin/sh"));
    let output = shell.args(["-c", "ulimit -v; ulimit -t"]).output();
    let limits = format!("{ADDRESS_SPACE_KIB}\n{CPU_SECONDS}\n");
    assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), limits);
}

/// Attack: an author exhausts `seal lint` or `kubeseal` with files that expand to gigabytes or take quadratic time.
#[test]
fn lint_and_kubeseal_exit_on_excessive_input() {
    let scratch = Scratch::new();
    let certificate_path = scratch.path().join("cert.pem");
    fs::write(&certificate_path, KEYS[0].pair.certificate().to_pem()).unwrap();
    for (kind, text) in excessive_files() {
        let file = scratch.path().join("excessive.yaml");
        fs::write(&file, text).unwrap();
        let lint = limited_command(&binaries::seal())
            .arg("lint")
            .arg(&file)
            .output()
            .unwrap();
        assert_exited(&lint, &format!("lint, {kind}"));
        assert_eq!(
            lint.status.success(),
            HARMLESS.contains(&kind),
            "lint, {kind}"
        );
        let sealed = limited_command(&binaries::kubeseal())
            .arg("--cert")
            .arg(&certificate_path)
            .stdin(fs::File::open(&file).unwrap())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert_exited(&sealed, &format!("kubeseal, {kind}"));
    }
}

/// A controller on a directory that runs within the limits and generates no key.
struct LimitedController {
    process: LoggedProcess,
    directory: PathBuf,
}

impl LimitedController {
    async fn start(directory: &Path) -> Self {
        let mut command = guarded::command("/bin/sh");
        command
            .args(["-c", LIMIT_SCRIPT, "sh", ADDRESS_SPACE_KIB, CPU_SECONDS])
            .arg(binaries::controller())
            .arg("--directory")
            .arg(directory)
            .args([
                "--listen-addr=127.0.0.1:0",
                "--listen-metrics-addr=127.0.0.1:0",
            ])
            .args(["--key-renew-period=0", "--max-unseal-retries=1"]);
        let mut process = LoggedProcess::spawn(&mut command).unwrap();
        process
            .wait_for_log("the controller serves HTTP", |log| {
                log.contains("HTTP server serving").then_some(())
            })
            .await;
        Self {
            process,
            directory: directory.to_owned(),
        }
    }

    /// Waits until the item `a` of an object has this value.
    async fn wait_for_value(&mut self, name: &str, want: &str) {
        let file = self.directory.join("secrets/shop").join(name).join("a");
        patience::until_within(PARSING_LIMIT, &format!("{name} is unsealed"), async || {
            let status = self.process.try_wait();
            assert!(
                status.is_none(),
                "the controller exited:\n{}",
                self.process.log()
            );
            fs::read_to_string(&file).ok().filter(|value| value == want)
        })
        .await;
    }

    async fn wait_for_status(&mut self, name: &str) {
        let file = self.directory.join(format!("status/shop/{name}.yaml"));
        patience::until(&format!("{name} has a status"), async || {
            file.exists().then_some(())
        })
        .await;
    }

    /// Returns the port that the log reports for this server.
    fn port(&self, server: &str) -> u16 {
        let log = self.process.log();
        let (_, address) = log
            .split_once(&format!("{server} serving\" addr="))
            .unwrap();
        let address = address.lines().next().unwrap().trim_matches('"');
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    async fn count_private_key_operations(&self) -> f64 {
        let port = self.port("HTTP metrics server");
        let scrape = http::get(port, "/metrics").await.unwrap();
        let name = "sealed_secrets_controller_private_key_operations_total ";
        let line = scrape.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{scrape}")).parse().unwrap()
    }
}

/// A Secret with the label of a key, but without a usable key.
const INVALID_KEY: &str = "apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: junk, labels: {sealedsecrets.bitnami.com/sealed-secrets-key: active}}
data: {tls.key: eA==, tls.crt: eA==}
";

fn put(directory: &Path, path: &str, text: &str) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // The controller ignores this extension, so it reads only the complete file.
    let incomplete = path.with_extension("half");
    fs::write(&incomplete, text).unwrap();
    fs::rename(incomplete, path).unwrap();
}

fn put_key(directory: &Path, name: &str, key: usize) {
    let secret = key_secret::build(name, "ns", &KEYS[key], BTreeMap::new(), BTreeMap::new());
    put(
        directory,
        &format!("keys/{name}.yaml"),
        &to_yaml(&secret.to_document()),
    );
}

fn put_victim(directory: &Path, name: &str, value: &str) {
    let sealed = sealed_for(&KEYS[0], "shop", name, &[("a", value)], Scope::Strict);
    put(
        directory,
        &format!("sealed/{name}.yaml"),
        &to_yaml(&sealed.to_document()),
    );
}

/// Attack: an author stores objects that exhaust the memory, so that a victim's objects are not unsealed.
#[tokio::test]
async fn excessive_objects_do_not_block_other_objects() {
    let scratch = Scratch::new();
    let directory = scratch.path();
    put_key(directory, "key", 0);
    for (i, (_, text)) in excessive_files().into_iter().enumerate() {
        put(directory, &format!("sealed/excessive-{i}.yaml"), &text);
    }
    put_victim(directory, "a-first", "1");
    put_victim(directory, "z-last", "2");
    let mut controller = LimitedController::start(directory).await;
    controller.wait_for_value("a-first", "1").await;
    controller.wait_for_value("z-last", "2").await;
    put_victim(directory, "later", "3");
    controller.wait_for_value("later", "3").await;
    for name in ["deep", "ends"] {
        controller.wait_for_status(name).await;
        assert!(
            !directory.join("secrets/shop").join(name).exists(),
            "{name}"
        );
    }
    // One operation for each of the victim's three items and of the two items with an excessive template, which may
    // have been retried.
    let operations = controller.count_private_key_operations().await;
    assert!((5.0..=7.0).contains(&operations), "{operations}");
}

/// Files that verify and rotate accept: no template is rendered for a caller without a token, and unknown fields are
/// ignored.
const ACCEPTED: [&str; 3] = [
    "a hundred thousand nested conditions",
    "a template that never ends",
    "a line of ten megabytes",
];

/// The maximum length of a request body in bytes. The controller rejects longer bodies.
const MAX_BODY: usize = 10 << 20;

/// Attack: a client sends requests that exhaust the memory, so that no object is unsealed.
///
/// Uses every excessive text that fits into a request.
#[tokio::test]
async fn refuses_excessive_requests_and_still_unseals_objects() {
    let scratch = Scratch::new();
    let directory = scratch.path();
    put_key(directory, "key", 0);
    let mut controller = LimitedController::start(directory).await;
    let port = controller.port("HTTP server");
    let numbers = format!("{{\"a\":[{}0]}}", "0,".repeat(5_000_000));
    let texts = format!("{{}}{}", "\"\"".repeat(5_000_000));
    let digits = format!(
        "a: &a {}1\nb: [{}]",
        "0".repeat(100_000),
        "*a,".repeat(49_000)
    );
    let more_bodies = [
        ("five million numbers", numbers),
        ("five million texts one after another", texts),
        ("numbers of many digits under many aliases", digits),
    ];
    let bodies = excessive_files().into_iter().chain(more_bodies);
    let bodies = bodies.filter(|(_, body)| body.len() <= MAX_BODY);
    for (i, (kind, body)) in bodies.enumerate() {
        for path in ["/v1/verify", "/v1/rotate"] {
            // Each text comes from a different client; otherwise the rate limit would apply.
            let caller = format!("X-Forwarded-For: {i}\r\n");
            let response = http::send(port, "POST", path, &caller, &body).await;
            let response = response.unwrap();
            let code = response.split(' ').nth(1);
            let code =
                code.unwrap_or_else(|| panic!("{kind}: no response\n{}", controller.process.log()));
            let is_refused = ["400", "409", "413"].contains(&code);
            let is_answered = is_refused || code == "200" && ACCEPTED.contains(&kind);
            assert!(is_answered, "{kind}: {response}");
        }
    }
    put_victim(directory, "db", "1");
    controller.wait_for_value("db", "1").await;
}

/// Attack: a client stores a thousand copies of two keys, and a thousand invalid key Secrets, to slow down unsealing.
#[tokio::test]
async fn duplicate_keys_cost_no_extra_operations() {
    let scratch = Scratch::new();
    let directory = scratch.path();
    for i in 0..1000 {
        put_key(directory, &format!("copy-{i}"), i % 2);
        put(directory, &format!("keys/junk-{i}.yaml"), INVALID_KEY);
    }
    put_victim(directory, "db", "1");
    let block = [&[1, 0][..], &[7; 300]].concat();
    let undecryptable = format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: closed, namespace: shop}}\n\
         spec: {{encryptedData: {{a: {}}}}}\n",
        base64::encode(&block)
    );
    put(directory, "sealed/closed.yaml", &undecryptable);
    let mut controller = LimitedController::start(directory).await;
    controller.wait_for_value("db", "1").await;
    controller.wait_for_status("closed").await;
    // The item that no key unseals costs one operation with each of the two keys, and may have been retried.
    let operations = controller.count_private_key_operations().await;
    assert!((3.0..=6.0).contains(&operations), "{operations}");
}
