//! Gives the real programs input that demands excessive time or memory, while the kernel limits their CPU
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
use tests::logged::Logged;
use tests::patience;
use tests::scratch::Scratch;
use tests::sealing::{KEYS, sealed_for};

/// Limit of the address space; an idle controller uses a quarter of it.
const KIBIBYTES: &str = "1500000";
/// Limit of CPU time. The slowest run of a command-line tool, unoptimised, took seven.
const SECONDS: &str = "100";

/// Runs its arguments within the limits. No core dump is written after a kill.
const WITHIN: &str = r#"ulimit -v "$1" && ulimit -t "$2" && shift 2 && exec "$@""#;

/// The limit for reading all greedy files in a development build on a busy machine. A release takes seconds.
const PARSING: Duration = Duration::from_mins(5);

/// Returns greedy texts, by the resource that they demand.
fn greedy() -> BTreeMap<&'static str, String> {
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
        ("anchors around anchors", object("anchors", &anchors())),
        (
            "one long text under many aliases",
            object("repeated", &repeated_text()),
        ),
        (
            "a million objects of JSON one after the other",
            "{}".repeat(1_000_000),
        ),
        ("one field of JSON that grows forever", growing_field()),
        ("a million keys", object("keys", &keys)),
        ("a million documents", "---\n".repeat(1_000_000)),
        ("a million open brackets", "[".repeat(1_000_000)),
        ("a million open braces in JSON", "{\"a\":".repeat(1_000_000)),
        ("four thousand levels of indentation", indented()),
        (
            "a million objects in a list",
            format!("kind: List\nitems:\n{}", "- {}\n".repeat(1_000_000)),
        ),
        (
            "one very long line",
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
            "a hundred thousand conditions in one another",
            with_template("deep", "{{if 1}}".repeat(100_000)),
        ),
        (
            "a template that never ends",
            with_template("ends", "{{range until 1000000000}}{{end}}".into()),
        ),
    ])
}

/// Returns an object whose item can be opened; otherwise its template would never be parsed.
fn with_template(name: &str, text: String) -> String {
    let mut sealed = sealed_for(&KEYS[0], "shop", name, &[("a", "1")], Scope::Strict);
    sealed.spec.template.data = Some([("b".to_owned(), Some(text))].into());
    to_yaml(&sealed.to_document())
}

fn aliases() -> String {
    let mut text = String::from("  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let of_before = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(text, "  a{i}: &a{i} [{of_before}]").unwrap();
    }
    text
}

/// Returns anchors, each of which keeps a copy of everything inside it.
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

/// Returns fields of one name, which are merged to one that contains the content of each.
fn growing_field() -> String {
    let field = |i| format!("\"a\":{{\"k{i}\":0}}");
    let fields: Vec<String> = (0..300_000).map(field).collect();
    format!("{{{}}}", fields.join(","))
}

/// Returns indented lines; their total length is quadratic in their number, so there are not more.
fn indented() -> String {
    (0..4000).fold(String::new(), |mut text, i| {
        writeln!(text, "{:i$}a:", "").unwrap();
        text
    })
}

fn within(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", WITHIN, "sh", KIBIBYTES, SECONDS])
        .arg(program);
    command
}

/// Texts in which `seal lint`, which renders no template, finds no problem.
const HARMLESS: [&str; 5] = [
    "a million documents",
    "a million objects of JSON one after the other",
    "one field of JSON that grows forever",
    "a million objects in a list",
    "a template that never ends",
];

/// Checks that the program exited by itself and printed little.
fn assert_ended(output: &Output, which: &str) {
    let reported = output.stderr.len();
    assert!(output.status.code().is_some(), "{which}: {}", output.status);
    assert_ne!(output.status.code(), Some(101), "{which}: a panic");
    assert!(reported < 100_000, "{which}: {reported} bytes of messages");
}

#[test]
fn the_limits_apply_to_the_program() {
    let mut shell = within(Path::new("/bin/sh"));
    let output = shell.args(["-c", "ulimit -v; ulimit -t"]).output();
    let limits = format!("{KIBIBYTES}\n{SECONDS}\n");
    assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), limits);
}

/// Attack: gives each program files that expand to gigabytes or take quadratic time.
#[test]
fn every_command_line_ends_with_an_answer_on_greedy_input() {
    let scratch = Scratch::new();
    let certificate = scratch.path().join("cert.pem");
    fs::write(&certificate, KEYS[0].pair.certificate().to_pem()).unwrap();
    for (which, text) in greedy() {
        let file = scratch.path().join("greedy.yaml");
        fs::write(&file, text).unwrap();
        let lint = within(&binaries::seal())
            .arg("lint")
            .arg(&file)
            .output()
            .unwrap();
        assert_ended(&lint, &format!("lint, {which}"));
        assert_eq!(
            lint.status.success(),
            HARMLESS.contains(&which),
            "lint, {which}"
        );
        let sealed = within(&binaries::kubeseal())
            .arg("--cert")
            .arg(&certificate)
            .stdin(fs::File::open(&file).unwrap())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert_ended(&sealed, &format!("kubeseal, {which}"));
    }
}

/// A controller on a folder, within the limits, which generates no key.
struct Held {
    process: Logged,
    folder: PathBuf,
}

impl Held {
    async fn start(folder: &Path) -> Self {
        let mut command = guarded::command("/bin/sh");
        command
            .args(["-c", WITHIN, "sh", KIBIBYTES, SECONDS])
            .arg(binaries::controller())
            .arg("--directory")
            .arg(folder)
            .args([
                "--listen-addr=127.0.0.1:0",
                "--listen-metrics-addr=127.0.0.1:0",
            ])
            .args(["--key-renew-period=0", "--max-unseal-retries=1"]);
        let mut process = Logged::spawn(&mut command).unwrap();
        process
            .wait_for_log("it serves", |log| {
                log.contains("HTTP server serving").then_some(())
            })
            .await;
        Self {
            process,
            folder: folder.to_owned(),
        }
    }

    /// Waits until an item has this value.
    async fn holds(&mut self, name: &str, want: &str) {
        let file = self.folder.join("secrets/shop").join(name).join("a");
        patience::until_within(PARSING, &format!("{name} is unsealed"), async || {
            let ended = self.process.ended();
            assert!(ended.is_none(), "it ended:\n{}", self.process.log());
            fs::read_to_string(&file).ok().filter(|value| value == want)
        })
        .await;
    }

    /// Waits until an object has a status.
    async fn has_looked_at(&mut self, name: &str) {
        let file = self.folder.join(format!("status/shop/{name}.yaml"));
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

    async fn private_key_operations(&self) -> f64 {
        let port = self.port("HTTP metrics server");
        let scrape = http::get(port, "/metrics").await.unwrap();
        let name = "sealed_secrets_controller_private_key_operations_total ";
        let line = scrape.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{scrape}")).parse().unwrap()
    }
}

/// A Secret marked as a key, without a usable key.
const JUNK: &str = "apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: junk, labels: {sealedsecrets.bitnami.com/sealed-secrets-key: active}}
data: {tls.key: eA==, tls.crt: eA==}
";

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // A name that no reader accepts, until the file is complete.
    let half = path.with_extension("half");
    fs::write(&half, text).unwrap();
    fs::rename(half, path).unwrap();
}

fn put_key(folder: &Path, name: &str, key: usize) {
    let secret = key_secret::build(name, "ns", &KEYS[key], BTreeMap::new(), BTreeMap::new());
    put(
        folder,
        &format!("keys/{name}.yaml"),
        &to_yaml(&secret.to_document()),
    );
}

fn put_neighbour(folder: &Path, name: &str, value: &str) {
    let sealed = sealed_for(&KEYS[0], "shop", name, &[("a", value)], Scope::Strict);
    put(
        folder,
        &format!("sealed/{name}.yaml"),
        &to_yaml(&sealed.to_document()),
    );
}

/// Attack: stores objects that expand to all memory beside a victim's.
#[tokio::test]
async fn greedy_objects_keep_no_neighbour_from_its_value_before_and_after_them() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    put_key(folder, "key", 0);
    for (i, (_, text)) in greedy().into_iter().enumerate() {
        put(folder, &format!("sealed/greedy-{i}.yaml"), &text);
    }
    put_neighbour(folder, "a-first", "1");
    put_neighbour(folder, "z-last", "2");
    let mut controller = Held::start(folder).await;
    controller.holds("a-first", "1").await;
    controller.holds("z-last", "2").await;
    put_neighbour(folder, "later", "3");
    controller.holds("later", "3").await;
    for greedy in ["deep", "ends"] {
        controller.has_looked_at(greedy).await;
        assert!(
            !folder.join("secrets/shop").join(greedy).exists(),
            "{greedy}"
        );
    }
    // One each for the neighbours' three items and the two of the greedy templates, which may have been
    // retried.
    let operations = controller.private_key_operations().await;
    assert!((5.0..=7.0).contains(&operations), "{operations}");
}

/// Texts that can be opened: no template is rendered for a caller without a token, and unknown fields are
/// ignored.
const OPEN: [&str; 3] = [
    "a hundred thousand conditions in one another",
    "a template that never ends",
    "one very long line",
];

/// Maximum length of a request in bytes; the controller reads nothing of a longer one.
const LONGEST_BODY: usize = 10 << 20;

/// Attack: sends requests that expand to all memory.
///
/// Uses every greedy text that fits into a request.
#[tokio::test]
async fn greedy_requests_are_refused_and_keep_no_neighbour_from_its_value() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    put_key(folder, "key", 0);
    let mut controller = Held::start(folder).await;
    let port = controller.port("HTTP server");
    let flat = format!("{{\"a\":[{}0]}}", "0,".repeat(5_000_000));
    let texts = format!("{{}}{}", "\"\"".repeat(5_000_000));
    let digits = format!(
        "a: &a {}1\nb: [{}]",
        "0".repeat(100_000),
        "*a,".repeat(49_000)
    );
    let more = [
        ("five million numbers", flat),
        ("five million texts one after the other", texts),
        ("numbers of many digits under many aliases", digits),
    ];
    let bodies = greedy().into_iter().chain(more);
    let bodies = bodies.filter(|(_, body)| body.len() <= LONGEST_BODY);
    for (i, (which, body)) in bodies.enumerate() {
        for path in ["/v1/verify", "/v1/rotate"] {
            // Each comes from a different client; otherwise the rate limit would answer.
            let caller = format!("X-Forwarded-For: {i}\r\n");
            let answer = http::send(port, "POST", path, &caller, &body).await;
            let answer = answer.unwrap();
            let code = answer.split(' ').nth(1);
            let code =
                code.unwrap_or_else(|| panic!("{which}: no answer\n{}", controller.process.log()));
            let is_refused = ["400", "409", "413"].contains(&code);
            let is_answered = is_refused || code == "200" && OPEN.contains(&which);
            assert!(is_answered, "{which}: {answer}");
        }
    }
    put_neighbour(folder, "db", "1");
    controller.holds("db", "1").await;
}

/// Attack: plants thousands of copies of key Secrets.
#[tokio::test]
async fn keys_by_the_thousand_cost_no_more_operations_than_there_are_different_ones() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    for i in 0..1000 {
        put_key(folder, &format!("copy-{i}"), i % 2);
        put(folder, &format!("keys/junk-{i}.yaml"), JUNK);
    }
    put_neighbour(folder, "db", "1");
    let block = [&[1, 0][..], &[7; 300]].concat();
    let closed = format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: closed, namespace: shop}}\n\
         spec: {{encryptedData: {{a: {}}}}}\n",
        base64::encode(&block)
    );
    put(folder, "sealed/closed.yaml", &closed);
    let mut controller = Held::start(folder).await;
    controller.holds("db", "1").await;
    controller.has_looked_at("closed").await;
    // The item that no key opens costs one operation with each of the two keys, and may have been retried.
    let operations = controller.private_key_operations().await;
    assert!((3.0..=6.0).contains(&operations), "{operations}");
}
