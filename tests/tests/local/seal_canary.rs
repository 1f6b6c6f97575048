//! Passes a canary value to the `seal` commands that take values, and then searches for the canary. During and after a
//! run, the canary must not be in an argument list, an environment, a file on disk, a shell history or output. Commands
//! end normally, with an error or by SIGKILL.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;
use shared::key::{KeySize, KeySpec};
use tests::patience::until;
use tests::scratch::Scratch;
use tests::{binaries, sops};

/// The value to search for: long enough to be unique, and 15 bytes so that its base64 has no padding.
const CANARY: &str = "canaryQ7wZ9xK2v";

/// A value that the user types by mistake instead of a recipe.
const MISTYPED_VALUE: &str = "typedQ7wZ9xK2v";

/// An object that the commands change.
const SEALED: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\n\
                      spec: {encryptedData: {}}\n";

/// A working directory, and all directories around it to which a program might write.
struct Sandbox {
    scratch: Scratch,
}

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self {
            scratch: Scratch::new(),
        };
        for name in ["work", "tmp", "home", "run", "programs"] {
            fs::create_dir(sandbox.path(name)).unwrap();
        }
        let spec = KeySpec {
            size: KeySize::Rsa2048,
            ttl: jiff::SignedDuration::from_hours(24),
            common_name: String::new(),
        };
        let key = spec
            .generate(jiff::Timestamp::now(), &mut shared::random::system())
            .unwrap();
        fs::write(
            sandbox.path("work/cert.pem"),
            key.pair.certificate().to_pem(),
        )
        .unwrap();
        fs::write(sandbox.path("work/key.pem"), key.private_pem.expose()).unwrap();
        fs::write(
            sandbox.path("work/.seal.yaml"),
            "rules: [{path: '**', certificate: cert.pem, namespace: shop}]",
        )
        .unwrap();
        sandbox.add_recorder("git", Path::new("/usr/bin/git"));
        sandbox.add_recorder("sops", &sops::program());
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Adds a program to `PATH` that records its arguments and environment, and then runs the real program.
    fn add_recorder(&self, name: &str, real: &Path) {
        let script = format!(
            "#!/bin/sh\n{{ echo {name} \"$@\"; env; }} >> '{}'\nexec '{}' \"$@\"\n",
            self.path("children").display(),
            real.display()
        );
        let path = self.path("programs").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let path = format!(
            "{}:{}",
            self.path("programs").display(),
            std::env::var("PATH").unwrap()
        );
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", path)
            .env("TMPDIR", self.path("tmp"))
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("SOPS_AGE_KEY", sops::IDENTITY)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spawn(&self, args: &[&str]) -> Child {
        self.command(&binaries::seal(), args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a command with this stdin. Returns its exit code and all output.
    fn run(&self, args: &[&str], input: &str) -> (Option<i32>, String) {
        let mut child = self.spawn(args);
        // The command may exit before it has read all input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Returns whether a file has been written since the creation of this sandbox, which is the time of its directory
    /// `run`.
    fn is_newer(&self, path: &Path) -> bool {
        modified(path) >= modified(&self.path("run"))
    }

    /// Returns the files that contain the canary: in the sandbox, and among the new files directly in the directories
    /// for temporary files. Omits the `expected` files in `work`, which the test itself wrote.
    fn files_with_canary(&self, expected: &[&str]) -> Vec<PathBuf> {
        let expected: Vec<PathBuf> = expected
            .iter()
            .map(|name| self.path("work").join(name))
            .collect();
        let mut paths = Vec::new();
        collect_files_with_canary(self.scratch.path(), &mut paths);
        for directory in ["/tmp", "/dev/shm", "/var/tmp"] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let files = entries
                .map(|entry| entry.path())
                .filter(|path| path.is_file());
            let new_files = files.filter(|path| self.is_newer(path));
            paths.extend(new_files.filter(|path| file_has_canary(path)));
        }
        paths.retain(|path| !expected.contains(path));
        paths
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

fn collect_files_with_canary(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files_with_canary(&path, paths);
        } else if file_has_canary(&path) {
            paths.push(path);
        }
    }
}

fn file_has_canary(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| has_canary(&bytes))
}

/// Returns whether the bytes contain the canary: literally, in base64 or in hexadecimal.
fn has_canary(bytes: &[u8]) -> bool {
    let hex: Vec<String> = CANARY.bytes().map(|b| format!("{b:02x}")).collect();
    let hex = hex.concat();
    let forms = [CANARY.to_owned(), STANDARD.encode(CANARY), hex];
    forms
        .iter()
        .any(|form| memchr::memmem::find(bytes, form.as_bytes()).is_some())
}

/// Returns the files under `/proc` with arguments or environments that contain the canary.
fn processes_with_canary() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter(|p| {
        p.file_name()
            .to_string_lossy()
            .bytes()
            .all(|b| b.is_ascii_digit())
    });
    let files = processes.flat_map(|p| ["cmdline", "environ"].map(|name| p.path().join(name)));
    files
        .filter(|file| file_has_canary(file))
        .map(|file| file.display().to_string())
        .collect()
}

fn secret() -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: shop}}\nstringData: {{password: {CANARY}}}\n"
    )
}

fn list() -> String {
    let items =
        "{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: shop}, data: {password: ";
    format!(
        "apiVersion: v1\nkind: List\nitems: [{items}{}}}}}]\n",
        STANDARD.encode(CANARY)
    )
}

/// Writes the files with the canary that the commands read.
fn write_inputs(sandbox: &Sandbox) {
    fs::write(sandbox.path("work/value"), CANARY).unwrap();
    fs::write(
        sandbox.path("work/web.env"),
        format!("A={CANARY}\nB='{CANARY}'\n"),
    )
    .unwrap();
    fs::write(sandbox.path("work/secret.yaml"), secret()).unwrap();
    fs::write(
        sandbox.path("work/flat.yaml"),
        format!("password: {CANARY}\n"),
    )
    .unwrap();
    sops::encrypt(
        &sandbox.path("work/flat.yaml"),
        &sandbox.path("work/flat.enc.yaml"),
    );
}

fn expected_code(args: &[&str]) -> i32 {
    match args.first() {
        Some(&"lint") => 1,
        Some(&"diff") => 2, // there is no commit yet
        _ => 0,
    }
}

/// Attack: another user searches arguments, environments, temporary files and output of commands for a value. `edit`
/// has its own test, and `exec` passes values in the environment on purpose.
#[test]
fn no_command_leaks_the_value() {
    let sandbox = Sandbox::new();
    write_inputs(&sandbox);
    fs::remove_file(sandbox.path("work/flat.yaml")).unwrap();
    sandbox
        .command(Path::new("/usr/bin/git"), &["init", "-q", "."])
        .status()
        .unwrap();
    let inputs = ["value", "web.env", "secret.yaml"];
    let (secret, list, line) = (secret(), list(), format!("A={CANARY}\n"));
    let runs: [(&[&str], &str); 25] = [
        (
            &["create", "a", "--stdin", "password", "-w", "a.yaml"],
            CANARY,
        ),
        (&["set", "a.yaml", "password"], CANARY),
        (&["set", "a.yaml", "other", "--from-file", "value"], ""),
        (&["rotate", "--key", "key.pem", "--cert", "cert.pem"], ""),
        (
            &[
                "rotate",
                "--key",
                "key.pem",
                "--cert",
                "cert.pem",
                "--dry-run",
            ],
            "",
        ),
        (&["unset", "a.yaml", "other"], ""),
        (&["create", "a", "--from-file", "password=value"], ""),
        (&["create", "a", "--from-env-file", "-"], &line),
        (
            &[
                "generate",
                "a",
                "users=htpasswd:admin",
                "--password-stdin",
                "-w",
                "b.yaml",
            ],
            CANARY,
        ),
        (
            &[
                "generate",
                "a",
                ".dockerconfigjson=docker:r.example,ci",
                "--password-stdin",
            ],
            CANARY,
        ),
        (&["import", "dotenv", "web", "web.env", "-w", "c.yaml"], ""),
        (&["import", "dotenv", "web"], &line),
        (&["import", "secret", "--cert", "cert.pem"], &secret),
        (
            &["import", "list", "--into", "sealed", "--cert", "cert.pem"],
            &list,
        ),
        (
            &[
                "import",
                "sops",
                "web",
                "flat.enc.yaml",
                "--cert",
                "cert.pem",
                "-w",
                "d.yaml",
            ],
            "",
        ),
        (&[], &secret),
        (&["-o", "json"], &secret),
        (&["--keep-plain", "secret.yaml"], ""),
        (&["--stdout", "--keep-plain", "secret.yaml"], ""),
        (&["lint"], ""),
        (&["view"], ""),
        (&["inventory", "-o", "json"], ""),
        (&["inventory", "-o", "html", "-w", "inventory.html"], ""),
        (&["diff", "--", "a.yaml"], ""),
        (&["config", "explain", "a.yaml"], ""),
    ];
    for (args, input) in runs {
        let (code, output) = sandbox.run(args, input);
        assert_eq!(code, Some(expected_code(args)), "{args:?}: {output}");
        assert!(
            !has_canary(output.as_bytes()),
            "{args:?} prints the canary: {output}"
        );
        assert_eq!(
            sandbox.files_with_canary(&inputs),
            Vec::<PathBuf>::new(),
            "{args:?}"
        );
    }
    let children = fs::read_to_string(sandbox.path("children")).unwrap();
    assert!(
        children.contains("sops -d") && !children.contains("git "),
        "{children}"
    );
}

#[test]
fn errors_of_malformed_input_do_not_contain_the_value() {
    let sandbox = Sandbox::new();
    let broken = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\nstringData:\n  a: \"{CANARY}\n b: {CANARY}: ["
    );
    let no_base64 =
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\ndata: {{a: '*{CANARY}'}}\n");
    let wrong_type = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\nstringData: {{a: [{CANARY}]}}\n"
    );
    let nested_name = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: [{CANARY}]}}\nstringData: {{a: b}}\n"
    );
    let unclosed_quote = format!("A='{CANARY}\n");
    // This value is in the argument list, so it must differ from the canary.
    let recipe = format!("a={MISTYPED_VALUE}");
    let runs: [(&[&str], &str); 9] = [
        (&[], &broken),
        (&[], &no_base64),
        (&[], &wrong_type),
        (&[], &nested_name),
        (&["import", "secret"], &broken),
        (&["import", "dotenv", "web"], &unclosed_quote),
        (&["import", "dotenv", "web"], CANARY),
        (&["create", "a", "--from-env-file", "-"], CANARY),
        (&["generate", "a", &recipe], ""),
    ];
    for (args, input) in runs {
        let (code, output) = sandbox.run(args, input);
        assert_eq!(code, Some(2), "{args:?}: {output}");
        assert!(
            !has_canary(output.as_bytes()) && !output.contains(MISTYPED_VALUE),
            "{args:?}: {output}"
        );
        assert_eq!(
            sandbox.files_with_canary(&[]),
            Vec::<PathBuf>::new(),
            "{args:?}"
        );
    }
}

/// Fault: a command is killed while it has a value in memory; no remaining file may contain the value.
///
/// The command has read the value and waits for more input when it is killed.
#[tokio::test]
async fn a_killed_command_leaves_no_value() {
    let sandbox = Sandbox::new();
    let secret = secret();
    fs::write(sandbox.path("work/s.yaml"), SEALED).unwrap();
    let runs: [(&[&str], &str); 5] = [
        (
            &["create", "a", "--stdin", "password", "-w", "a.yaml"],
            CANARY,
        ),
        (&["set", "s.yaml", "password"], CANARY),
        (&["import", "dotenv", "web", "-w", "b.yaml"], CANARY),
        (&["import", "list", "--into", "sealed"], &secret),
        (&[], &secret),
    ];
    for (args, input) in runs {
        let mut child = sandbox.spawn(args);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        until("the value has been read", async || {
            is_empty(&stdin).then_some(())
        })
        .await;
        assert_eq!(processes_with_canary(), Vec::<String>::new(), "{args:?}");
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            !has_canary(&[output.stdout, output.stderr].concat()),
            "{args:?}"
        );
        assert_eq!(
            sandbox.files_with_canary(&[]),
            Vec::<PathBuf>::new(),
            "{args:?}"
        );
    }
    let files: Vec<_> = fs::read_dir(sandbox.path("work"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(
        files.len(),
        4,
        "no output file, no temporary file: {files:?}"
    );
}

/// Returns whether the other end has read all bytes from the pipe.
fn is_empty(pipe: &std::process::ChildStdin) -> bool {
    rustix::io::ioctl_fionread(pipe).unwrap() == 0
}

/// Attack: a bystander watches the terminal while a value is typed.
#[tokio::test]
async fn a_prompt_does_not_show_the_typed_value() {
    let sandbox = Sandbox::new();
    let (terminal, open) = open_terminal();
    let seal = binaries::seal();
    let args = [
        "-c",
        "-w",
        seal.to_str().unwrap(),
        "create",
        "a",
        "--prompt",
        "password",
        "-w",
        "a.yaml",
    ];
    let mut child = start_in_terminal(sandbox.command(Path::new("setsid"), &args), open);
    let dialog = PROMPTS.map(|prompt| (prompt, CANARY.to_owned()));
    let screen = tokio::task::spawn_blocking(move || type_answers(terminal, &dialog))
        .await
        .unwrap();
    assert!(child.wait().unwrap().success(), "{screen}");
    assert!(
        !screen.contains(CANARY) && screen.contains("Value of password"),
        "{screen}"
    );
    assert_eq!(sandbox.files_with_canary(&[]), Vec::<PathBuf>::new());
    let (_, revealed) = sandbox.run(&["view", "--reveal", "--key", "key.pem", "a.yaml"], "");
    assert!(revealed.contains(CANARY), "{revealed}");
}

/// The prompts for a new value.
const PROMPTS: [&str; 2] = ["Value of password: ", "Confirm: "];

/// Returns a new terminal, and a function that opens its other end.
fn open_terminal() -> (OwnedFd, impl Fn() -> File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let name = name.into_string().unwrap();
    let open = move || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(&name).unwrap()
    };
    (terminal, open)
}

/// Starts a command at the other end of a terminal, and keeps no handle to that end.
fn start_in_terminal(mut command: Command, open: impl Fn() -> File) -> Child {
    command.stdin(open()).stdout(open()).stderr(open());
    command.spawn().unwrap()
}

/// Types each answer once its prompt is shown. Returns all screen output.
fn type_answers(terminal: OwnedFd, dialog: &[(&str, String)]) -> String {
    let mut terminal = File::from(terminal);
    let mut screen = String::new();
    let (mut dialog, mut searched_length) = (dialog.iter().peekable(), 0);
    let mut buffer = [0; 1024];
    // When the other end is closed, reading from a pseudoterminal fails with `EIO`.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        screen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        while let Some((prompt, answer)) = dialog.peek()
            && let Some(index) = screen[searched_length..].find(prompt)
        {
            searched_length += index + prompt.len();
            terminal
                .write_all(format!("{answer}\n").as_bytes())
                .unwrap();
            dialog.next();
        }
    }
    assert!(
        dialog.next().is_none(),
        "not every prompt was shown: {screen}"
    );
    screen
}

#[tokio::test]
async fn an_interrupted_prompt_restores_the_terminal_settings() {
    let sandbox = Sandbox::new();
    let (terminal, open) = open_terminal();
    let monitor = terminal.try_clone().unwrap();
    let before = tcgetattr(&monitor).unwrap().local_modes;
    let seal = binaries::seal();
    let args = [
        "-c",
        "-w",
        seal.to_str().unwrap(),
        "create",
        "a",
        "--prompt",
        "password",
    ];
    let mut child = start_in_terminal(sandbox.command(Path::new("setsid"), &args), open);
    let dialog = [(PROMPTS[0], "\u{3}".to_owned())];
    let screen = tokio::task::spawn_blocking(move || type_answers(terminal, &dialog));
    let screen = screen.await.unwrap();
    assert!(!child.wait().unwrap().success(), "{screen}");
    assert_eq!(tcgetattr(&monitor).unwrap().local_modes, before);
}

/// Returns a server that never responds, and the URL of its certificate.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/cert.pem", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn an_interrupt_after_a_prompt_ends_the_command() {
    let sandbox = Sandbox::new();
    let (server, url) = silent_server();
    let (terminal, open) = open_terminal();
    let mut keyboard = File::from(terminal.try_clone().unwrap());
    let seal = binaries::seal();
    let args = ["-c", "-w", seal.to_str().unwrap()].into_iter();
    let args = args.chain(["create", "a", "--prompt", "password", "--cert", &url]);
    let args: Vec<&str> = args.collect();
    let mut child = start_in_terminal(sandbox.command(Path::new("setsid"), &args), open);
    let dialog = PROMPTS.map(|prompt| (prompt, CANARY.to_owned()));
    std::thread::spawn(move || type_answers(terminal, &dialog));
    let _request = until("the certificate is requested", async || {
        server.accept().ok()
    })
    .await;
    keyboard.write_all(b"\x03").unwrap();
    let status = until("Ctrl-C ends the command", async || {
        child.try_wait().unwrap()
    });
    assert!(!status.await.success());
}

/// Attack: another user reads the shell's history after values were sealed.
#[tokio::test]
async fn the_shell_history_contains_the_commands_but_not_the_value() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("work/value"), CANARY).unwrap();
    let (terminal, open) = open_terminal();
    let args = ["-c", "-w", "bash", "--norc", "--noprofile", "-i"];
    let mut command = sandbox.command(Path::new("setsid"), &args);
    let history = sandbox.path("home/history");
    command.env("PS1", "next> ").env("HISTFILE", &history);
    let mut child = start_in_terminal(command, open);
    let seal = binaries::seal();
    let command_line = |args: &str| ("next> ", format!("{} {args}", seal.display()));
    let dialog = [
        command_line("create a --prompt password -w a.yaml"),
        (PROMPTS[0], CANARY.to_owned()),
        (PROMPTS[1], CANARY.to_owned()),
        command_line("set a.yaml other < value"),
        command_line("set a.yaml third --from-file value"),
        command_line("view a.yaml"),
        ("next> ", "exit".to_owned()),
    ];
    let screen = tokio::task::spawn_blocking(move || type_answers(terminal, &dialog));
    let screen = screen.await.unwrap();
    assert!(child.wait().unwrap().success(), "{screen}");
    assert!(
        screen.contains("third") && !has_canary(screen.as_bytes()),
        "{screen}"
    );
    let history_text = fs::read_to_string(history).unwrap();
    assert_eq!(history_text.matches(" a.yaml").count(), 4, "{history_text}");
    // The search includes the directory of the history.
    assert_eq!(sandbox.files_with_canary(&["value"]), Vec::<PathBuf>::new());
}

/// Attack: a bystander reads a private key that was pasted at a prompt: without protection, the shell shows the lines
/// after the first, executes them and saves them in its history.
#[tokio::test]
async fn no_line_of_a_paste_reaches_the_shell() {
    let key = format!(
        "-----BEGIN\n{}-----END\n",
        format!("{CANARY}\n").repeat(500)
    );
    for paste in [key.clone(), format!("\u{1b}[200~{key}\u{1b}[201~")] {
        let sandbox = Sandbox::new();
        let (terminal, open) = open_terminal();
        let args = ["-c", "-w", "bash", "--norc", "--noprofile", "-i"];
        let mut command = sandbox.command(Path::new("setsid"), &args);
        let history = sandbox.path("home/history");
        command.env("PS1", "next> ").env("HISTFILE", &history);
        let mut child = start_in_terminal(command, open);
        let seal = binaries::seal().display().to_string();
        let dialog = [
            (
                "next> ",
                format!("{seal} create a --prompt password -w a.yaml"),
            ),
            (PROMPTS[0], paste),
            ("next> ", "exit 0".to_owned()),
        ];
        let screen = tokio::task::spawn_blocking(move || type_answers(terminal, &dialog));
        let screen = screen.await.unwrap();
        assert!(child.wait().unwrap().success(), "{screen}");
        assert!(
            screen.contains("the input has several lines") && !has_canary(screen.as_bytes()),
            "{screen}"
        );
        let history_text = fs::read_to_string(history).unwrap();
        assert_eq!(history_text.lines().count(), 2, "{history_text}");
        assert_eq!(sandbox.files_with_canary(&[]), Vec::<PathBuf>::new());
    }
}

/// An editor that writes the canary to the file, reports the file's path, and waits to continue or to be killed. It
/// records its process id, arguments and environment.
const EDITOR: &str = "#!/bin/sh
{ echo editor \"$@\"; env; } >> \"$HOME/children\"
sed -i 's/^stringData:.*/stringData: {password: '\"$(cat \"$HOME/canary\")\"'}/' \"$1\"
echo $1 > \"$HOME/file\"
echo $$ > \"$HOME/editor.tmp\" && mv \"$HOME/editor.tmp\" \"$HOME/editor\"
while [ ! -e \"$HOME/go\" ]; do sleep 0.05; done
";

/// Starts `seal edit`, and waits until its editor has written the canary. Returns the process and the temporary file.
async fn start_edit(sandbox: &Sandbox) -> (Child, PathBuf) {
    start_edit_with(sandbox, &[]).await
}

/// Like [`start_edit`], with more arguments.
async fn start_edit_with(sandbox: &Sandbox, extra_args: &[&str]) -> (Child, PathBuf) {
    let home = sandbox.path("home");
    fs::write(home.join("canary"), CANARY).unwrap();
    fs::write(sandbox.path("programs/editor"), EDITOR).unwrap();
    fs::set_permissions(
        sandbox.path("programs/editor"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    for name in ["editor", "go", "file"] {
        let _ = fs::remove_file(home.join(name));
    }
    fs::write(sandbox.path("work/s.yaml"), SEALED).unwrap();
    let args = [&["edit", "s.yaml", "--key", "key.pem"], extra_args].concat();
    let mut command = sandbox.command(&binaries::seal(), &args);
    let child = command
        .env("EDITOR", "editor")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("the editor has written", async || {
        home.join("editor").exists().then_some(())
    })
    .await;
    fs::remove_file(home.join("canary")).unwrap();
    let file = fs::read_to_string(home.join("file")).unwrap();
    (child, PathBuf::from(file.trim()))
}

fn kill_editor(sandbox: &Sandbox) {
    let editor = fs::read_to_string(sandbox.path("home/editor")).unwrap();
    let editor = rustix::process::Pid::from_raw(editor.trim().parse().unwrap()).unwrap();
    let _ = rustix::process::kill_process(editor, rustix::process::Signal::KILL);
}

/// Attack: an attacker searches for the plaintext file of `seal edit` on disk, as another user, or after the command.
#[tokio::test]
async fn the_temporary_plaintext_file_is_in_memory_private_and_removed() {
    let sandbox = Sandbox::new();
    let (child, file) = start_edit(&sandbox).await;
    assert!(
        file.starts_with("/dev/shm"),
        "the sandbox is on a disk: {}",
        file.display()
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(processes_with_canary(), Vec::<String>::new());
    assert_eq!(sandbox.files_with_canary(&[]), Vec::<PathBuf>::new());
    fs::write(sandbox.path("home/go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && message.contains("password added"),
        "{message}"
    );
    assert!(!has_canary(
        &[output.stdout, output.stderr.clone()].concat()
    ));
    assert!(!file.parent().unwrap().exists());
    assert_eq!(sandbox.files_with_canary(&[]), Vec::<PathBuf>::new());
    let (_, revealed) = sandbox.run(&["view", "--reveal", "--key", "key.pem", "s.yaml"], "");
    assert!(revealed.contains(CANARY), "{revealed}");
}

#[tokio::test]
async fn the_temporary_plaintext_file_is_removed_after_a_signal_and_after_sigkill() {
    use rustix::process::{Pid, Signal, kill_process};
    let sandbox = Sandbox::new();
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT] {
        let (mut child, file) = start_edit(&sandbox).await;
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal.as_raw()), "{signal:?}");
        assert!(!file.parent().unwrap().exists(), "{signal:?}");
        kill_editor(&sandbox);
        assert_eq!(
            sandbox.files_with_canary(&[]),
            Vec::<PathBuf>::new(),
            "{signal:?}"
        );
        assert_eq!(
            fs::read_to_string(sandbox.path("work/s.yaml")).unwrap(),
            SEALED
        );
    }
    let (mut child, file) = start_edit(&sandbox).await;
    child.kill().unwrap();
    child.wait().unwrap();
    kill_editor(&sandbox);
    // A shell waits for the end of the command and then removes the file.
    let directory = file.parent().unwrap();
    let removed = async || (!directory.exists()).then_some(());
    until("the file of the killed command is removed", removed).await;
}

#[tokio::test]
async fn a_signal_after_the_editor_ends_the_command() {
    use rustix::process::{Pid, Signal, kill_process};
    let sandbox = Sandbox::new();
    let (server, url) = silent_server();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut child, file) = start_edit_with(&sandbox, &["--cert", &url]).await;
        fs::write(sandbox.path("home/go"), "").unwrap();
        let _request = until("the certificate is requested", async || {
            server.accept().ok()
        })
        .await;
        assert!(!file.parent().unwrap().exists(), "{signal:?}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = until("the signal ends the command", async || {
            child.try_wait().unwrap()
        });
        assert_eq!(status.await.signal(), Some(signal.as_raw()));
    }
}
