//! Tests the binary: arguments, exit codes, signals, streams.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use shared::key::{KeySize, KeySpec};

use crate::support::{KEYS, key_manifest, manifest_of, sealed};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
    command.env_clear();
    command
}

fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

/// A running controller, killed when the test ends, even if it fails.
struct RunningController {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: String,
}

impl Drop for RunningController {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RunningController {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = program()
            .args([
                "--listen-addr=127.0.0.1:0",
                "--listen-metrics-addr=127.0.0.1:0",
                "--key-size=2048",
                "--directory",
            ])
            .arg(dir)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdout,
            log: String::new(),
        }
    }

    /// Reads the log up to a line that contains the string.
    fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.stdout.read_line(&mut line).unwrap(),
                0,
                "no {text:?} in {}",
                self.log
            );
            self.log.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the exit. Returns the exit code, the log on stdout, and stderr.
    fn wait_for_exit(mut self) -> (Option<i32>, String, String) {
        self.stdout.read_to_string(&mut self.log).unwrap();
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), std::mem::take(&mut self.log), stderr)
    }
}

fn temporary_directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("sealed")).unwrap();
    dir
}

fn write_file(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let temporary = dir.join(".temporary");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

fn wait_for_value(path: &Path, want: &str) {
    let end = Instant::now() + Duration::from_mins(1);
    while std::fs::read_to_string(path).ok().as_deref() != Some(want) {
        assert!(
            Instant::now() < end,
            "{} did not become {want:?}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn unparsable_arguments_exit_with_2_and_other_errors_with_1() {
    let missing = ["--directory", "/nowhere/at/all"];
    for (args, code, stream, want) in [
        (
            &["--version"][..],
            0,
            1,
            concat!("controller version: ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
        (&["--help"], 0, 1, "--key-renew-period"),
        (&["--nope"], 2, 2, "--nope"),
        (&["--key-size=many"], 2, 2, "expected an integer"),
        (&[], 1, 2, "no cluster found"),
        (
            &["--directory=d", "--key-size=1024"],
            1,
            2,
            "2048, 3072, 4096 or 8192",
        ),
        (&missing, 1, 2, "/nowhere/at/all"),
    ] {
        let output = run(args);
        let streams = [&output.stdout, &output.stderr];
        let text = String::from_utf8_lossy(streams[stream - 1]);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(want), "{args:?}: {text}");
    }
}

#[test]
fn an_output_that_cannot_be_written_exits_with_1_unless_the_pipe_is_closed() {
    for argument in ["--version", "--help"] {
        let full_device = std::fs::File::options().write(true).open("/dev/full");
        let output = program()
            .arg(argument)
            .stdout(Stdio::from(full_device.unwrap()))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{argument}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.starts_with("error: cannot write to stdout: "),
            "{stderr}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = program().arg(argument).stdout(Stdio::from(writer)).status();
        assert_eq!(status.unwrap().code(), Some(0), "{argument}, closed pipe");
    }
}

#[test]
fn warns_while_the_served_certificate_is_expired() {
    let dir = temporary_directory();
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(1),
        common_name: String::new(),
    };
    let old = Timestamp::from_second(1_700_000_000).unwrap();
    let key = spec.generate(old, &mut shared::random::system()).unwrap();
    write_file(dir.path(), "keys/one.yaml", &key_manifest("one", &key));
    let mut controller = RunningController::start(dir.path(), &["--key-renew-period=0"]);
    let mut warnings = BufReader::new(controller.child.stderr.take().unwrap()).lines();
    let mut warnings = warnings.by_ref().map(Result::unwrap);
    let line = warnings.find(|line| line.contains("has expired"));
    let line = line.expect("a warning before the exit");
    assert!(line.contains("2023-11-14T23:13:20Z"), "{line}");
    controller.signal(Signal::TERM);
    assert_eq!(controller.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_in_use_exits_with_1_and_leaves_no_key() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = temporary_directory();
    let output = program()
        .arg("--directory")
        .arg(dir.path())
        .arg(format!("--listen-addr={}", listener.local_addr().unwrap()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--listen-addr: cannot listen on"));
    assert!(!dir.path().join("keys").exists());
}

#[test]
fn serves_the_certificate_until_sigterm_and_refuses_a_second_controller() {
    let dir = temporary_directory();
    write_file(dir.path(), "keys/one.yaml", &key_manifest("one", &KEYS[0]));
    let mut controller = RunningController::start(dir.path(), &["--key-renew-period=0"]);
    assert!(
        controller
            .wait_for_line("registered private key")
            .contains("secretname=one")
    );
    let line = controller.wait_for_line("HTTP server serving");
    let address = line.trim().rsplit_once("addr=").unwrap().1.to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .write_all(b"GET /v1/cert.pem HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(
        response.ends_with(&KEYS[0].pair.certificate().to_pem()),
        "{response}"
    );

    let second = program()
        .arg("--directory")
        .arg(dir.path())
        .args([
            "--listen-addr=127.0.0.1:0",
            "--listen-metrics-addr=127.0.0.1:0",
        ])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another controller"));

    controller.signal(Signal::USR1);
    controller.wait_for_line("New key written");
    controller.wait_for_line("registered private key");
    assert_eq!(
        std::fs::read_dir(dir.path().join("keys")).unwrap().count(),
        2
    );
    controller.signal(Signal::TERM);
    assert_eq!(controller.wait_for_exit().0, Some(0));
}

#[test]
fn an_added_key_takes_effect_without_a_restart() {
    let dir = temporary_directory();
    write_file(dir.path(), "keys/one.yaml", &key_manifest("one", &KEYS[0]));
    write_file(
        dir.path(),
        "sealed/x.yaml",
        &manifest_of(&sealed(&KEYS[1], "ns/web", &[("a", "1")])),
    );
    let mut controller = RunningController::start(dir.path(), &["--log-info-stdout=false"]);
    let mut stderr = BufReader::new(controller.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("no key could decrypt secret (a)") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
    }
    write_file(dir.path(), "keys/two.yaml", &key_manifest("two", &KEYS[1]));
    wait_for_value(&dir.path().join("secrets/ns/web/a"), "1");
}

/// Puts one value into an object that is unsealed, objects that are refused, and files that are not manifests, at the
/// most verbose log level. No log line and no status contains the value.
#[test]
fn plain_values_reach_no_log_and_no_status() {
    const CANARY: &str = "canary-7f3a9";
    let dir = temporary_directory();
    write_file(dir.path(), "keys/one.yaml", &key_manifest("one", &KEYS[0]));
    write_file(
        dir.path(),
        "sealed/good.yaml",
        &manifest_of(&sealed(&KEYS[0], "ns/good", &[("a", CANARY)])),
    );
    write_file(
        dir.path(),
        "sealed/name.yaml",
        &manifest_of(&sealed(&KEYS[0], "ns/name", &[("a b", CANARY)])),
    );
    write_file(dir.path(), "secrets/ns/taken/a", "unrelated");
    write_file(
        dir.path(),
        "sealed/taken.yaml",
        &manifest_of(&sealed(&KEYS[0], "ns/taken", &[("a", CANARY)])),
    );
    write_file(
        dir.path(),
        "sealed/plain.yaml",
        &format!("kind: Secret\nstringData: {{a: {CANARY}}}\n"),
    );
    write_file(
        dir.path(),
        "sealed/broken.yaml",
        &format!("kind: Secret\nstringData: {{a: {CANARY}\n"),
    );
    write_file(
        dir.path(),
        "keys/plain.yaml",
        &format!("kind: Secret\ndata: {{a: {CANARY}}}\n"),
    );
    let mut controller =
        RunningController::start(dir.path(), &["--log-level=DEBUG", "--log-format=json"]);
    wait_for_value(&dir.path().join("secrets/ns/good/a"), CANARY);
    controller.wait_for_line("SealedSecret unsealed successfully");
    // The other objects are processed in the same round, which ends before the program exits.
    controller.signal(Signal::TERM);
    let (code, stdout, stderr) = controller.wait_for_exit();
    assert_eq!(code, Some(0));
    assert!(
        stderr.contains("is not managed by SealedSecret"),
        "{stderr}"
    );
    assert!(stderr.contains("is not a valid item key"), "{stderr}");
    let mut texts = vec![stdout, stderr];
    for entry in std::fs::read_dir(dir.path().join("status/ns")).unwrap() {
        texts.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    assert_eq!(texts.len(), 5);
    for text in texts {
        assert!(!text.contains(CANARY), "{text}");
        assert!(
            !text.contains(&shared::base64::encode(CANARY.as_bytes())),
            "{text}"
        );
    }
}

#[test]
fn info_goes_to_stdout_and_errors_to_stderr() {
    let dir = temporary_directory();
    write_file(dir.path(), "keys/one.yaml", &key_manifest("one", &KEYS[0]));
    write_file(dir.path(), "keys/bad.yaml", "a: [");
    let mut controller = RunningController::start(dir.path(), &["--rotate-period=0"]);
    controller.wait_for_line("HTTP server serving");
    controller.signal(Signal::TERM);
    let (_, stdout, stderr) = controller.wait_for_exit();
    assert!(
        stdout.lines().all(|line| line.contains("level=INFO")),
        "{stdout}"
    );
    let levels = |level| stderr.lines().filter(|line| line.contains(level)).count();
    assert_eq!(
        (levels("level=ERROR"), levels("level=WARN")),
        (1, 1),
        "{stderr}"
    );
    assert!(stderr.contains("keys/bad.yaml: document 1"), "{stderr}");
}

/// Returns the number of private-key operations so far, from the metrics.
fn count_private_key_operations(address: &str) -> u32 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let name = "sealed_secrets_controller_private_key_operations_total ";
    let count = response.lines().find_map(|line| line.strip_prefix(name));
    count.unwrap().parse().unwrap()
}

/// Returns the processor time that a process has used, in clock ticks: hundredths of a second.
fn processor_time(process: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    // The second field is the name of the program in parentheses, and `utime` and `stime` are the fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}

/// Attack: an author delays the stop of the Pod with templates that generate RSA keys.
#[test]
fn a_signal_stops_the_controller_while_it_generates_keys() {
    let dir = temporary_directory();
    write_file(dir.path(), "keys/one.yaml", &key_manifest("one", &KEYS[0]));
    let mut controller = RunningController::start(dir.path(), &["--key-renew-period=0"]);
    let line = controller.wait_for_line("HTTP metrics server serving");
    let address = line.trim().rsplit_once("addr=").unwrap().1.to_owned();
    let keys = "{{ genPrivateKey \"rsa\" }}".repeat(5);
    for i in 0..6 {
        let mut object = sealed(&KEYS[0], &format!("hostile/h{i}"), &[("a", "1")]);
        object.spec.template.data = Some([("t".to_owned(), Some(keys.clone()))].into());
        write_file(
            dir.path(),
            &format!("sealed/{i}.yaml"),
            &manifest_of(&object),
        );
    }
    // After the item of one object is unsealed, its template is rendered.
    while count_private_key_operations(&address) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Only generating keys uses half a second of processor time.
    let before = processor_time(&controller.child);
    let end = Instant::now() + Duration::from_mins(1);
    while processor_time(&controller.child) < before + 50 {
        assert!(Instant::now() < end, "no key is generated");
        std::thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    controller.signal(Signal::TERM);
    let (code, log, _) = controller.wait_for_exit();
    let took = start.elapsed();
    assert_eq!(code, Some(0), "{log}");
    assert!(took < Duration::from_secs(20), "the shutdown took {took:?}");
    let completed = (0..6).filter(|i| dir.path().join(format!("secrets/hostile/h{i}")).exists());
    assert!(
        completed.count() <= 1,
        "the work continued after the signal"
    );
}
