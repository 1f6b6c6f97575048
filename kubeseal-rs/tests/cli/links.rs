//! Tests which symbolic links in an untrusted commit are followed when `seal` and `kubeseal` read or write files.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use crate::support::{assert_contains, stderr};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const CERTIFICATE: &str = include_str!("../seal/fixtures/cert.pem");
const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
const USER_TEXT: &str = "what the user keeps elsewhere\n";
const STATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/key-fixtures/state");
const KEY_2024: &str = include_str!("../seal/key-fixtures/state/keys/key-2024.yaml");
const RECIPIENTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/seal/key-fixtures/recipients.txt"
);

const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures/key.pem");
const OTHER_CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures/other.pem");

/// [`SECRET`] as a SealedSecret in YAML, sealed for the key of the fixtures.
static SEALED_SECRET: LazyLock<String> = LazyLock::new(|| {
    let fixture = Fixture::with_files(false, &[]);
    let output = fixture.run(
        KUBESEAL,
        &["-f", "secret.yaml", "--cert", "cert.pem", "-o", "yaml"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).expect("the output is UTF-8")
});

/// The files that the commands read.
const INPUTS: [(&str, &str); 5] = [
    ("cert.pem", CERTIFICATE),
    ("secret.yaml", SECRET),
    (
        "more.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {more: b}\n",
    ),
    ("values.env", "a=b\n"),
    (
        "secret.enc",
        "{\"data\": \"ENC[AES256_GCM,data:dmFsdWU=,iv:eA==,tag:eA==,type:str]\", \"sops\": {\"mac\": \"x\"}}",
    ),
];

/// A user's directory `outside`, and a directory `tree`, which can be a work tree.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new(is_work_tree: bool) -> Self {
        Self::with_files(is_work_tree, &[("tree/sealed.yaml", &SEALED_SECRET)])
    }

    fn with_files(is_work_tree: bool, extra_files: &[(&str, &str)]) -> Self {
        let fixture = Self(tempfile::tempdir().expect("a directory"));
        for (path, text) in [
            ("outside/file", USER_TEXT),
            ("outside/new/x", ""),
            ("tree/directory/x", ""),
            ("tree/own-state/keys/key-2024.yaml", KEY_2024),
            ("tree/directory/own-state/keys/key-2024.yaml", KEY_2024),
        ]
        .iter()
        .chain(extra_files)
        {
            let path = fixture.path(path);
            fs::create_dir_all(path.parent().expect("the path has a parent"))
                .expect("the test directory is writable");
            fs::write(path, text).expect("the test directory is writable");
        }
        for (name, text) in INPUTS {
            fs::write(fixture.path("tree").join(name), text)
                .expect("the test directory is writable");
        }
        if is_work_tree {
            fs::create_dir(fixture.path("tree/.git")).expect("the test directory is writable");
        }
        symlink("../outside/file", fixture.path("tree/file"))
            .expect("the test directory is writable");
        symlink("../outside", fixture.path("tree/way")).expect("the test directory is writable");
        symlink("way", fixture.path("tree/detour")).expect("the test directory is writable");
        symlink("file", fixture.path("tree/chain")).expect("the test directory is writable");
        fixture.write_program("sops", "#!/bin/sh\nprintf value\n");
        fixture.write_program(
            "editor",
            "#!/bin/sh\nexec sed -i '/^  /s/:.*/: changed/' \"$1\"\n",
        );
        fixture
    }

    /// Copies the [`INPUTS`] and `sealed.yaml` to `tree/directory`.
    fn copy_inputs(&self) {
        for name in INPUTS
            .map(|(name, _)| name)
            .into_iter()
            .chain(["sealed.yaml"])
        {
            fs::copy(
                self.path("tree").join(name),
                self.path("tree/directory").join(name),
            )
            .expect("the test directory is writable");
        }
    }

    fn write_program(&self, name: &str, text: &str) {
        let path = self.path("programs").join(name);
        fs::create_dir_all(path.parent().expect("the path has a parent"))
            .expect("the test directory is writable");
        fs::write(&path, text).expect("the test directory is writable");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .expect("the test owns the file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        self.run_in("tree", program, args)
    }

    fn run_in(&self, directory: &str, program: &str, args: &[&str]) -> Output {
        Command::new(program)
            .args(args)
            .current_dir(self.path(directory))
            .env("HOME", self.0.path())
            .env("KUBECONFIG", "/nowhere")
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.path("programs").display()),
            )
            .env("EDITOR", "editor")
            .stdin(Stdio::null())
            .output()
            .expect("the command starts")
    }

    fn outside_file(&self) -> String {
        fs::read_to_string(self.path("outside/file")).expect("the file exists")
    }

    fn outside_file_count(&self) -> usize {
        let entries = |name: &str| {
            fs::read_dir(self.path(name))
                .expect("the directory is readable")
                .count()
        };
        entries("outside") + entries("outside/new")
    }
}

/// Attack: a committer adds links to files of the user to a directory of values. Their contents would be sealed for
/// a user who can read the Secret.
#[test]
fn seals_no_target_of_a_link_in_a_directory() {
    let fixture = Fixture::new(true);
    let values = fixture.path("tree/values");
    fs::create_dir(&values).expect("the test directory is writable");
    fs::write(values.join("own"), "own").expect("the test directory is writable");
    for (name, to) in [
        ("stolen", "../../outside/file"),
        ("absolute", "/etc/hostname"),
        ("chain", "stolen"),
        ("inner", "own"),
        ("directory", "../../outside"),
        ("process", "/proc/self/environ"),
    ] {
        symlink(to, values.join(name)).expect("the test directory is writable");
    }
    for directory in ["values", "values/", "./values", "detour/../tree/values"] {
        let flag = format!("--from-file={directory}");
        let output = fixture.run(
            SEAL,
            &[
                "create",
                "db",
                &flag,
                "--cert=cert.pem",
                "-n=shop",
                "-o=json",
            ],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        let sealed: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("the text is JSON");
        let items = sealed["spec"]["encryptedData"].as_object().expect("items");
        assert_eq!(items.keys().collect::<Vec<_>>(), ["own"], "{directory}");
        for name in ["stolen", "absolute", "chain", "inner", "process"] {
            assert_contains(&output, &format!("values/{name}"), "");
        }
    }
    // A file that the user names is read, even through a link.
    let output = fixture.run(
        SEAL,
        &[
            "create",
            "db",
            "--from-file=values/own",
            "--from-file=a=values/stolen",
            "--cert=cert.pem",
            "-n=shop",
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
}

/// The content of a file before a command writes it.
#[derive(Clone, Copy, PartialEq)]
enum InitialContent {
    /// The command creates the file.
    Missing,
    Secret,
    Sealed,
}

/// A command that writes the file `out`.
struct Writer {
    program: &'static str,
    args: fn(&str) -> String,
    before: InitialContent,
}

/// Commands that write a file named by an argument. Arguments are separated by spaces.
const WRITERS: &[Writer] = &[
    kubeseal(
        |out| format!("-f secret.yaml --cert cert.pem -w {out}"),
        InitialContent::Missing,
    ),
    kubeseal(
        |out| format!("--raw --from-file=cert.pem --name=a --namespace=b --cert=cert.pem -w {out}"),
        InitialContent::Missing,
    ),
    kubeseal(
        |out| format!("--fetch-cert --cert cert.pem -w {out}"),
        InitialContent::Missing,
    ),
    kubeseal(
        |out| format!("--recovery-unseal --recovery-private-key {KEY} -f sealed.yaml -w {out}"),
        InitialContent::Missing,
    ),
    kubeseal(
        |out| format!("-f more.yaml --cert cert.pem --merge-into {out}"),
        InitialContent::Sealed,
    ),
    seal(
        |out| format!("--cert cert.pem -i {out}"),
        InitialContent::Secret,
    ),
    seal(
        |out| format!("create db --from-literal=a=b --cert=cert.pem -n=shop -w {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| format!("generate db a=password --cert=cert.pem -n=shop -w {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| format!("import dotenv db values.env --cert=cert.pem -n=shop -w {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| format!("import secret secret.yaml --cert=cert.pem -w {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| format!("import list secret.yaml --cert=cert.pem -w {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| format!("import sops db secret.enc --cert=cert.pem -n=shop -w {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| format!("cert fetch cert.pem -o {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| format!("page --cert cert.pem --replace -o {out}"),
        InitialContent::Missing,
    ),
    seal(
        |out| {
            format!(
                "keys backup {out} --recipients-file {RECIPIENTS} --force --directory own-state"
            )
        },
        InitialContent::Missing,
    ),
    seal(
        |out| format!("set {out} a --from-file=cert.pem --cert=cert.pem"),
        InitialContent::Sealed,
    ),
    seal(|out| format!("unset {out} a"), InitialContent::Sealed),
    seal(
        |out| format!("edit {out} --key {KEY} --cert cert.pem"),
        InitialContent::Sealed,
    ),
    seal(
        |out| format!("edit {out} --blind --cert cert.pem"),
        InitialContent::Sealed,
    ),
    seal(
        |out| format!("rotate {out} --key {KEY} --cert {OTHER_CERT}"),
        InitialContent::Sealed,
    ),
];

const fn kubeseal(args: fn(&str) -> String, before: InitialContent) -> Writer {
    Writer {
        program: KUBESEAL,
        args,
        before,
    }
}

const fn seal(args: fn(&str) -> String, before: InitialContent) -> Writer {
    Writer {
        program: SEAL,
        args,
        before,
    }
}

impl Writer {
    /// Creates a fixture where the links point to a file that the command could change.
    fn fixture(&self) -> Fixture {
        let fixture = Fixture::new(true);
        fs::write(fixture.path("outside/file"), self.target())
            .expect("the test directory is writable");
        fixture
    }

    fn target(&self) -> &'static str {
        match self.before {
            InitialContent::Missing => USER_TEXT,
            InitialContent::Secret => SECRET,
            InitialContent::Sealed => &SEALED_SECRET,
        }
    }

    fn run_in(&self, fixture: &Fixture, directory: &str, out: &str) -> Output {
        let args = (self.args)(out);
        let args: Vec<&str> = args.split(' ').collect();
        fixture.run_in(directory, self.program, &args)
    }
}

/// Attack: a committer replaces a file that a command writes, or its directory, with a link that leads out of the
/// work tree. The test runs each command of [`WRITERS`] on an ordinary file first, to show that the command
/// writes.
#[test]
fn writes_no_file_through_a_link_out_of_the_work_tree() {
    let links = [
        "file",
        "chain",
        "way/file",
        "detour/file",
        "directory/../file",
    ];
    for writer in WRITERS {
        let fixture = writer.fixture();
        if writer.before != InitialContent::Missing {
            fs::write(fixture.path("tree/own"), writer.target())
                .expect("the test directory is writable");
        }
        let output = writer.run_in(&fixture, "tree", "own");
        let why = format!("{}: {}", (writer.args)("own"), stderr(&output));
        assert!(output.status.success(), "{why}");
        let own_text = fs::read(fixture.path("tree/own")).expect(&why);
        assert_ne!(own_text, writer.target().as_bytes(), "{why}");

        let missing_paths = ["way/none", "detour/new/none"];
        let missing_paths = missing_paths
            .iter()
            .filter(|_| writer.before == InitialContent::Missing);
        for out in links.iter().chain(missing_paths) {
            let fixture = writer.fixture();
            let before = fixture.outside_file_count();
            // The result must not depend on the current directory.
            for (directory, out) in [
                ("tree", (*out).to_owned()),
                ("tree/directory", format!("../{out}")),
            ] {
                if directory == "tree/directory" {
                    // In this directory, the test uses only two of the paths.
                    if !["file", "way/none"].contains(&out.trim_start_matches("../")) {
                        continue;
                    }
                    fixture.copy_inputs();
                }
                let output = writer.run_in(&fixture, directory, &out);
                let why = format!("{}: {}", (writer.args)(&out), stderr(&output));
                assert_eq!(fixture.outside_file(), writer.target(), "{why}");
                assert_eq!(fixture.outside_file_count(), before, "{why}");
                assert!(!output.status.success(), "{why}");
                // A command that creates a file may refuse the existing name.
                if writer.before != InitialContent::Missing {
                    assert!(stderr(&output).contains("points outside it"), "{why}");
                }
            }
        }
    }
}

/// Attack: a committer replaces a file that a command writes, or its directory, with a link into the Git directory of
/// the repository or of a nested one. Content that the committer chooses would become a hook, which Git runs.
#[test]
fn writes_no_file_through_a_link_into_a_git_directory() {
    for writer in WRITERS {
        for (git, link, target, out) in [
            (".git", "file", ".git/hooks/pre-commit", "file"),
            (".git", "way", ".git/hooks", "way/pre-commit"),
            (".GIT", "file", ".GIT/hooks/pre-commit", "file"),
            ("sub/.git", "file", "sub/.git/hooks/pre-commit", "file"),
            (".repo", "file", ".repo/hooks/pre-commit", "file"),
            (".repo", "way", ".repo/hooks", "way/pre-commit"),
        ] {
            let fixture = writer.fixture();
            let hooks = fixture.path("tree").join(git).join("hooks");
            fs::create_dir_all(&hooks).expect("the test directory is writable");
            if git == ".repo" {
                // A directory with the entries of a Git directory, as `git init --separate-git-dir` creates it.
                for entry in ["HEAD", "objects", "refs"] {
                    fs::create_dir_all(fixture.path("tree/.repo").join(entry))
                        .expect("the test directory is writable");
                }
            }
            let hook = hooks.join("pre-commit");
            fs::write(&hook, writer.target()).expect("the test directory is writable");
            let link = fixture.path("tree").join(link);
            let _ = fs::remove_file(&link);
            symlink(target, &link).expect("the test directory is writable");
            let output = writer.run_in(&fixture, "tree", out);
            let why = format!("{} {target}: {}", (writer.args)(out), stderr(&output));
            let after = fs::read_to_string(&hook).expect(&why);
            assert_eq!(after, writer.target(), "{why}");
            assert!(!output.status.success(), "{why}");
        }
    }
}

/// Attack: a committer replaces a file that a command creates with a link to a device. Commands write to a device that
/// exists, if the user names it.
#[test]
fn writes_to_no_device_through_a_link_in_the_work_tree() {
    let creating = |writer: &&Writer| writer.before == InitialContent::Missing;
    for writer in WRITERS.iter().filter(creating) {
        let fixture = writer.fixture();
        symlink("/dev/null", fixture.path("tree/device")).expect("the test directory is writable");
        let output = writer.run_in(&fixture, "tree", "device");
        let why = format!("{}: {}", (writer.args)("device"), stderr(&output));
        assert!(!output.status.success(), "{why}");
    }
}

/// Attack: a committer replaces the directory that a command writes to, or a file in the directory, with a link to a
/// path outside the work tree.
#[test]
fn writes_no_file_into_a_directory_behind_a_link_out_of_the_work_tree() {
    for (args, directory) in [
        ("import list secret.yaml --cert=cert.pem --into way", ""),
        ("import list secret.yaml --cert=cert.pem --into way/new", ""),
        (
            "import list secret.yaml --cert=cert.pem --into way/more",
            "",
        ),
        ("keys compromise key-2024 --directory state", "state/keys"),
        ("keys compromise key-2024 --directory linked", "linked/keys"),
        (
            "keys compromise key-2024 --directory state",
            "state/keys/key-2024.yaml",
        ),
    ] {
        let fixture = Fixture::new(true);
        let keys = fixture.path("outside/keys");
        fs::create_dir(&keys).expect("the test directory is writable");
        fs::copy(
            Path::new(STATE).join("keys/key-2024.yaml"),
            keys.join("key-2024.yaml"),
        )
        .expect("the test directory is writable");
        let key = fs::read(keys.join("key-2024.yaml")).expect("the file is readable");
        match directory {
            "" => {}
            "state/keys" => {
                fs::create_dir(fixture.path("tree/state")).expect("the test directory is writable");
                symlink("../../outside/keys", fixture.path("tree/state/keys"))
                    .expect("the test directory is writable");
            }
            "linked/keys" => symlink("../outside", fixture.path("tree/linked"))
                .expect("the test directory is writable"),
            file => {
                fs::create_dir_all(fixture.path("tree/state/keys"))
                    .expect("the test directory is writable");
                symlink(
                    "../../../outside/keys/key-2024.yaml",
                    fixture.path("tree").join(file),
                )
                .expect("the test directory is writable");
            }
        }
        let before = fixture.outside_file_count();
        let args: Vec<&str> = args.split(' ').collect();
        let output = fixture.run(SEAL, &args);
        let why = format!("{args:?} {directory}: {}", stderr(&output));
        assert_eq!(fixture.outside_file_count(), before, "{why}");
        assert_eq!(
            fs::read(keys.join("key-2024.yaml")).expect("the file is readable"),
            key,
            "{why}"
        );
        assert!(!output.status.success(), "{why}");
    }
}

/// Attack: a committer adds rules that name the attacker's certificate, and a link to a file of the user. Rules apply
/// to the file that is written, not to the link.
#[test]
fn the_rules_of_the_target_apply_not_those_of_the_link() {
    let fixture = Fixture::new(true);
    fs::create_dir(fixture.path("tree/hostile")).expect("the test directory is writable");
    fs::copy(OTHER_CERT, fixture.path("tree/hostile/evil.pem"))
        .expect("the test directory is writable");
    let rules = "rules: [{path: '**', certificate: evil.pem}]\n";
    fs::write(fixture.path("tree/hostile/.seal.yaml"), rules)
        .expect("the test directory is writable");
    fs::write(fixture.path("tree/directory/db.yaml"), &*SEALED_SECRET)
        .expect("the test directory is writable");
    symlink(
        "../directory/db.yaml",
        fixture.path("tree/hostile/link.yaml"),
    )
    .expect("the test directory is writable");
    for path in ["hostile/link.yaml", "directory/db.yaml"] {
        let output = fixture.run(SEAL, &["config", "explain", path]);
        let explanation = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && !explanation.contains("evil.pem"),
            "{path}: {explanation}{}",
            stderr(&output)
        );
    }
    let output = fixture.run(
        SEAL,
        &["set", "hostile/link.yaml", "a", "--from-file=cert.pem"],
    );
    assert!(!output.status.success(), "{}", stderr(&output));
    let text =
        fs::read_to_string(fixture.path("tree/directory/db.yaml")).expect("the file is readable");
    assert_eq!(text, *SEALED_SECRET);
}

/// Commands follow links that stay in the work tree, and links outside any work tree, to write a new file or to edit a
/// sealed file.
#[test]
fn writes_through_links_that_stay_in_the_work_tree_or_are_outside_of_one() {
    let seal = |out| ["-f", "secret.yaml", "--cert", "cert.pem", "-w", out];
    let fixture = Fixture::new(true);
    symlink("directory/x", fixture.path("tree/inner")).expect("the test directory is writable");
    let output = fixture.run(KUBESEAL, &seal("inner"));
    assert!(output.status.success(), "{}", stderr(&output));
    let inner_text =
        fs::read_to_string(fixture.path("tree/directory/x")).expect("the file is readable");
    assert!(inner_text.contains("SealedSecret"), "{inner_text}");

    for out in ["../outside/none", "directory/../../outside/none"] {
        let output = fixture.run(KUBESEAL, &seal(out));
        assert!(output.status.success(), "{out}: {}", stderr(&output));
        fs::remove_file(fixture.path("outside/none")).expect("the file exists");
    }

    let set = |out| ["set", out, "a", "--from-file=cert.pem", "--cert=cert.pem"];
    let output = fixture.run(SEAL, &set("inner"));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fixture.path("tree/inner").is_symlink());
    assert_ne!(
        fs::read_to_string(fixture.path("tree/directory/x")).expect("the file is readable"),
        inner_text
    );

    let fixture = Fixture::new(false);
    let output = fixture.run(KUBESEAL, &seal("file"));
    assert!(output.status.success(), "{}", stderr(&output));
    let sealed = fixture.outside_file();
    assert!(sealed.contains("SealedSecret"));
    let output = fixture.run(SEAL, &set("file"));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_ne!(fixture.outside_file(), sealed);
    assert!(fixture.path("tree/file").is_symlink());
}
