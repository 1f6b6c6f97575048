//! Attacks by the author of a repository. Its configuration, attributes and files name programs that `git` runs. A
//! command that only reads must not run them, whichever configuration file and configuration key name them.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::copy_program;

/// Keys of Git's configuration that name or could lead to a program, from git-config(1), gitattributes(5),
/// gitsubmodules(7) and git-remote-ext(1). `trap` is the driver that `.gitattributes` assigns to every file.
const KEYS: [&str; 62] = [
    "alias.blame",
    "alias.diff",
    "alias.rev-parse",
    "blame.ignoreRevsFile",
    "browser.trap.cmd",
    "browser.trap.path",
    "core.alternateRefsCommand",
    "core.askPass",
    "core.editor",
    "core.fsmonitor",
    "core.gitProxy",
    "core.hooksPath",
    "core.pager",
    "core.sshCommand",
    "credential.helper",
    "credential.https://example.com.helper",
    "diff.external",
    "diff.guitool",
    "diff.tool",
    "diff.trap.command",
    "diff.trap.textconv",
    "difftool.trap.cmd",
    "difftool.trap.path",
    "filter.trap.clean",
    "filter.trap.process",
    "filter.trap.smudge",
    "gc.recentObjectsHook",
    "gpg.openpgp.program",
    "gpg.program",
    "gpg.ssh.defaultKeyCommand",
    "gpg.ssh.program",
    "gpg.x509.program",
    "guitool.trap.cmd",
    "help.browser",
    "hook.trap.command",
    "imap.tunnel",
    "init.templateDir",
    "instaweb.browser",
    "instaweb.httpd",
    "interactive.diffFilter",
    "man.trap.cmd",
    "man.trap.path",
    "man.viewer",
    "merge.tool",
    "merge.trap.driver",
    "mergetool.trap.cmd",
    "mergetool.trap.path",
    "pager.blame",
    "pager.diff",
    "remote.origin.receivepack",
    "remote.origin.uploadpack",
    "remote.origin.url",
    "remote.origin.vcs",
    "sendemail.ccCmd",
    "sendemail.headerCmd",
    "sendemail.smtpServer",
    "sendemail.tocmd",
    "sequence.editor",
    "submodule.sub.update",
    "trailer.trap.cmd",
    "trailer.trap.command",
    "uploadpack.packObjectsHook",
];

/// Settings that make Git use the programs.
const TRIGGERS: &str = "[core]\n\tfsmonitorHookVersion = 2\n[diff]\n\tsubmodule = log\n[log]\n\tshowSignature = true\n\
                        [commit]\n\tgpgSign = true\n[status]\n\tsubmoduleSummary = true\n[submodule]\n\trecurse = true\n\
                        [merge]\n\tverifySignatures = true\n[protocol]\n\tallow = always\n[feature]\n\tmanyFiles = true\n\
                        [filter \"trap\"]\n\trequired = true\n[hook \"trap\"]\n\tevent = post-index-change\n\
                        [remote \"origin\"]\n\tpromisor = true\n\tpartialclonefilter = blob:none\n";

/// Names of traps that replace programs in `PATH`. They include `git`, because running `git` would apply the
/// configuration.
const PROGRAMS: [&str; 12] = [
    "git",
    "git-remote-ext",
    "git-upload-pack",
    "gpg",
    "gpgsm",
    "less",
    "more",
    "pager",
    "sops",
    "ssh",
    "ssh-keygen",
    "trap",
];

const SEALED_SECRET: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\n\
                      spec:\n  encryptedData:\n    a: AgBB\n";
const PLAIN_SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
const CERTIFICATE: &[u8] = include_bytes!("../seal/fixtures/cert.pem");
const KEY: &[u8] = include_bytes!("../seal/keys-compromise.fixtures/state/keys/key-2025.yaml");

/// A user's directory with programs that record that they were run, and an attacker's repository.
struct Trap {
    directory: tempfile::TempDir,
}

impl Trap {
    fn new() -> Self {
        let trap = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        for name in ["traps", "programs", "home", "tree"] {
            fs::create_dir(trap.path(name)).expect("the test directory is writable");
        }
        fs::write(trap.path("cert.pem"), CERTIFICATE).expect("the test directory is writable");
        fs::create_dir_all(trap.path("state/keys")).expect("the test directory is writable");
        fs::write(trap.path("state/keys/key-2025.yaml"), KEY)
            .expect("the test directory is writable");
        for name in PROGRAMS {
            trap.write_program(&trap.path("programs").join(name), name);
        }
        trap
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    fn write_program(&self, path: &Path, name: &str) {
        let record = self.path("ran");
        let text = format!(
            "#!/bin/sh\necho '{name}' >> '{}'\nexit 1\n",
            record.display()
        );
        fs::write(path, text).expect("the test directory is writable");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .expect("the test owns the file");
    }

    /// Returns a section of a configuration in which `key` runs its own trap.
    fn setting(&self, key: &str) -> String {
        let name: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let program = self.path("traps").join(name);
        self.write_program(&program, key);
        let program = program.display();
        let value = match key {
            "remote.origin.url" => format!("ext::{program}"),
            "submodule.sub.update" => format!("!{program}"),
            "remote.origin.vcs" | "diff.tool" | "diff.guitool" | "merge.tool" | "man.viewer" => {
                "trap".to_owned()
            }
            _ if key.starts_with("alias.") => format!("!{program}"),
            "core.hooksPath" => {
                let directory = self.path("hooks");
                fs::create_dir_all(&directory).expect("the test directory is writable");
                for hook in [
                    "pre-commit",
                    "post-index-change",
                    "fsmonitor-watchman",
                    "reference-transaction",
                ] {
                    self.write_program(&directory.join(hook), key);
                }
                directory.display().to_string()
            }
            _ => program.to_string(),
        };
        setting(key, &value)
    }

    /// Returns a configuration with every key of [`KEYS`].
    fn configuration(&self) -> String {
        let keys: String = KEYS.iter().map(|key| self.setting(key)).collect();
        format!("{TRIGGERS}{keys}")
    }

    fn git(&self, directory: &Path, arguments: &[&str]) {
        let output = self
            .command("git", directory)
            .args(arguments)
            .output()
            .expect("git");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn command(&self, program: &str, directory: &Path) -> Command {
        let path = std::env::var("PATH").expect("PATH is set");
        let mut command = Command::new(program);
        command
            .current_dir(directory)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null());
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "a")
                .env(format!("GIT_{role}_EMAIL"), "a@x");
        }
        command
    }

    /// Like [`Self::command`], without the variable that keeps Git libraries from running `git` in search of the
    /// configuration of the system and of the installation.
    fn unconfigured_command(&self, program: &str, directory: &Path) -> Command {
        let mut command = self.command(program, directory);
        command.env_remove("GIT_CONFIG_NOSYSTEM");
        command
    }

    /// Creates a repository with two commits, a staged change and an unstaged change.
    fn repository(&self, root: &Path) {
        fs::create_dir_all(root).expect("the test directory is writable");
        self.git(root, &["init", "-q", "-b", "main"]);
        fs::write(root.join("first"), "").expect("the test directory is writable");
        self.git(root, &["add", "."]);
        self.git(root, &["commit", "-qm", "one"]);
        write_files(root);
        self.git(root, &["add", "."]);
        self.git(root, &["commit", "-qm", "two"]);
        fs::write(root.join("deploy/staged.yaml"), SEALED_SECRET)
            .expect("the test directory is writable");
        self.git(root, &["add", "."]);
        fs::write(
            root.join("deploy/a.yaml"),
            SEALED_SECRET.replace("AgBB", "AgCC"),
        )
        .expect("the test directory is writable");
    }

    fn configure(&self, file: &Path) {
        let before = fs::read_to_string(file).unwrap_or_default();
        fs::write(file, before + &self.configuration()).expect("the test directory is writable");
    }

    /// Runs commands that must run no program, each with the `PATH` of the test and with a `PATH` of traps only.
    fn run_read_only_commands(&self, directory: &Path) {
        let (cert, state) = (self.path("cert.pem"), self.path("state"));
        let (cert, state) = (cert.display(), state.display());
        let seal = env!("CARGO_BIN_EXE_seal");
        let commands = [
            format!("{seal} view deploy/a.yaml"),
            format!("{seal} view"),
            format!("{seal} lint"),
            format!("{seal} lint --staged"),
            format!("{seal} lint --staged deploy/a.yaml"),
            format!("{seal} diff"),
            format!("{seal} diff HEAD~1..HEAD"),
            format!("{seal} diff HEAD deploy"),
            format!("{seal} --cert {cert} deploy/plain.yaml"),
            format!("{seal} --cert {cert} --stdout deploy/plain.yaml"),
            format!("{seal} --cert {cert} --stdout --keep-plain deploy/plain.yaml"),
            format!("{seal} config explain deploy/a.yaml"),
            format!("{seal} doctor deploy/a.yaml --directory {state}"),
            format!("{seal} keys status . --all-branches --directory {state}"),
            format!("{seal} keys compromise key-2025 . --dry-run --directory {state}"),
            format!("{seal} hook install --print"),
            format!(
                "{} --cert {cert} -f deploy/plain.yaml",
                env!("CARGO_BIN_EXE_kubeseal")
            ),
        ];
        for command in &commands {
            let mut args = command.split(' ');
            let program = args.next().expect("a program");
            let args: Vec<&str> = args.collect();
            for path in [
                std::env::var("PATH").expect("PATH is set"),
                self.path("programs").display().to_string(),
            ] {
                let mut run = self.unconfigured_command(program, directory);
                run.env("PATH", path)
                    .args(&args)
                    .output()
                    .expect("the command starts");
            }
        }
    }

    fn programs_run(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.path("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn assert_that_reading_runs_nothing(&self, directory: &Path) {
        self.run_read_only_commands(directory);
        assert_eq!(
            self.programs_run(),
            BTreeSet::new(),
            "programs that were run"
        );
    }
}

/// Writes manifests, and attributes that assign the trap's drivers to every file.
fn write_files(directory: &Path) {
    fs::create_dir_all(directory.join("deploy")).expect("the test directory is writable");
    fs::write(directory.join("deploy/a.yaml"), SEALED_SECRET)
        .expect("the test directory is writable");
    fs::write(directory.join("deploy/plain.yaml"), PLAIN_SECRET)
        .expect("the test directory is writable");
    fs::write(
        directory.join(".gitattributes"),
        "* filter=trap diff=trap merge=trap\n",
    )
    .expect("the test directory is writable");
}

/// Formats a key, such as `a.b.c`, and its value as a section of a Git configuration.
fn setting(key: &str, value: &str) -> String {
    let (section, name) = key.rsplit_once('.').expect("a key has a dot");
    let section = match section.split_once('.') {
        Some((section, subsection)) => format!("{section} \"{subsection}\""),
        None => section.to_owned(),
    };
    format!("[{section}]\n\t{name} = {value}\n")
}

/// Makes a directory look like a bare repository, with ordinary files that can be committed.
fn write_bare_repository(directory: &Path, configuration: &str) {
    for name in ["objects", "refs"] {
        fs::create_dir_all(directory.join(name)).expect("the test directory is writable");
        fs::write(directory.join(name).join("keep"), "").expect("the test directory is writable");
    }
    fs::write(directory.join("HEAD"), "ref: refs/heads/main\n")
        .expect("the test directory is writable");
    let core = "[core]\n\trepositoryFormatVersion = 0\n\tbare = false\n\tworktree = .\n";
    fs::write(directory.join("config"), format!("{core}{configuration}"))
        .expect("the test directory is writable");
}

/// Attack: a committer adds a directory that looks like a bare repository around a file that is read, so that the
/// configuration of that repository runs a program.
#[test]
fn an_embedded_bare_repository_around_the_file_runs_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    write_bare_repository(&trap.tree().join("deploy"), &trap.configuration());
    trap.assert_that_reading_runs_nothing(&trap.tree());
    trap.assert_that_reading_runs_nothing(&trap.tree().join("deploy"));
}

/// Attack: an attacker puts the file below a directory that looks like a bare repository, outside any work tree, so
/// that its configuration runs a program.
#[test]
fn an_embedded_bare_repository_above_the_file_runs_nothing() {
    let trap = Trap::new();
    write_files(&trap.tree().join("below"));
    write_bare_repository(&trap.tree(), &trap.configuration());
    trap.assert_that_reading_runs_nothing(&trap.tree().join("below"));
    trap.assert_that_reading_runs_nothing(&trap.tree().join("below/deploy"));
}

/// Attack: a committer adds a directory that looks like a bare repository below the root of the work tree, so that its
/// configuration runs a program.
#[test]
fn an_embedded_bare_repository_below_the_file_runs_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    write_files(&trap.tree().join("deploy/below"));
    write_bare_repository(&trap.tree().join("deploy/below"), &trap.configuration());
    trap.assert_that_reading_runs_nothing(&trap.tree().join("deploy/below"));
    trap.assert_that_reading_runs_nothing(&trap.tree());
}

/// Attack: an attacker names programs in `.git/config` of an archive that the user unpacks.
#[test]
fn the_configuration_of_the_repository_runs_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    trap.configure(&trap.tree().join(".git/config"));
    trap.assert_that_reading_runs_nothing(&trap.tree());
    // Verify that the trap works: `git` itself runs a program.
    let mut git = trap.command("git", &trap.tree());
    git.args(["diff", "HEAD", "--ext-diff"])
        .output()
        .expect("git");
    assert!(
        trap.programs_run().contains("core.fsmonitor"),
        "{:?}",
        trap.programs_run()
    );
}

/// Attack: an attacker names a program in a key of the configuration. The test sets one key at a time, so that a key
/// that makes the repository unreadable does not hide another.
#[test]
fn no_key_of_the_configuration_runs_a_program() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    let file = trap.tree().join(".git/config");
    let before = fs::read_to_string(&file).expect("the file exists");
    for key in configuration_keys(&trap) {
        let text = format!("{before}{TRIGGERS}{}", trap.setting(&key));
        fs::write(&file, text).expect("the test directory is writable");
        let cert_path = trap.path("cert.pem").display().to_string();
        for args in [
            &["view", "deploy/a.yaml"][..],
            &["lint", "--staged"],
            &["diff"],
            &["--cert", &cert_path, "deploy/plain.yaml"],
        ] {
            let mut seal = trap.unconfigured_command(env!("CARGO_BIN_EXE_seal"), &trap.tree());
            seal.args(args).output().expect("the command starts");
            assert_eq!(trap.programs_run(), BTreeSet::new(), "{key}: {args:?}");
        }
    }
}

/// Returns [`KEYS`] and the keys that the installed Git documents, except those whose values are
/// harmless.
fn configuration_keys(trap: &Trap) -> BTreeSet<String> {
    let mut git = trap.command("git", &trap.tree());
    let output = git
        .args(["help", "--config-for-completion"])
        .output()
        .expect("git");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let harmless_prefixes = [
        "advice.",
        "color.",
        "fsck.",
        "receive.fsck.",
        "fetch.fsck.",
        "gui.",
        "gitweb.",
        "gitcvs.",
    ];
    let documented_keys = text.lines().filter(|key| {
        key.contains('.')
            && !key.ends_with('.')
            && !harmless_prefixes
                .iter()
                .any(|prefix| key.starts_with(prefix))
    });
    let mut keys: BTreeSet<String> = documented_keys.map(str::to_owned).collect();
    assert!(keys.len() > 200, "git lists its keys: {keys:?}");
    keys.extend(KEYS.map(str::to_owned));
    keys
}

/// Attack: an attacker adds a `.git` file that names a repository in another directory of the tree, so that its
/// configuration runs a program.
#[test]
fn a_git_file_that_names_another_repository_runs_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    fs::rename(trap.tree().join(".git"), trap.tree().join("elsewhere"))
        .expect("the test directory is writable");
    trap.configure(&trap.tree().join("elsewhere/config"));
    fs::write(trap.tree().join(".git"), "gitdir: elsewhere\n")
        .expect("the test directory is writable");
    trap.assert_that_reading_runs_nothing(&trap.tree());
    trap.assert_that_reading_runs_nothing(&trap.tree().join("deploy").join(".."));
}

/// Attack: an attacker includes a file of the tree in the configuration, always or under a condition, so that the
/// included configuration runs a program.
#[test]
fn an_included_configuration_runs_nothing() {
    for section in [
        "include",
        "includeIf \"gitdir:**\"",
        "includeIf \"onbranch:main\"",
    ] {
        let trap = Trap::new();
        trap.repository(&trap.tree());
        trap.configure(&trap.tree().join("deploy/included"));
        let file = trap.tree().join(".git/config");
        let before = fs::read_to_string(&file).expect("the file exists");
        fs::write(
            &file,
            format!("{before}[{section}]\n\tpath = ../deploy/included\n"),
        )
        .expect("the test directory is writable");
        trap.assert_that_reading_runs_nothing(&trap.tree());
    }
}

/// Attack: an attacker names programs in the configuration of one work tree.
#[test]
fn the_configuration_of_a_work_tree_runs_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    trap.git(
        &trap.tree(),
        &["config", "extensions.worktreeConfig", "true"],
    );
    trap.configure(&trap.tree().join(".git/config.worktree"));
    trap.assert_that_reading_runs_nothing(&trap.tree());
}

/// Attack: an attacker replaces the common directory of a linked work tree, so that its configuration runs a program.
#[test]
fn a_common_directory_elsewhere_runs_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.path("main"));
    let work_tree = trap.tree().join("linked");
    trap.git(
        &trap.path("main"),
        &["worktree", "add", "-q", &work_tree.display().to_string()],
    );
    fs::rename(trap.path("main/.git"), trap.tree().join("common"))
        .expect("the test directory is writable");
    let private_directory = trap.tree().join("common/worktrees/linked");
    fs::write(
        work_tree.join(".git"),
        format!("gitdir: {}\n", private_directory.display()),
    )
    .expect("the test directory is writable");
    trap.configure(&trap.tree().join("common/config"));
    fs::write(
        work_tree.join("deploy/a.yaml"),
        SEALED_SECRET.replace("AgBB", "AgCC"),
    )
    .expect("the test directory is writable");
    trap.assert_that_reading_runs_nothing(&work_tree);
}

/// Attack: an attacker names the objects in another repository as alternates, so that the configuration of that
/// repository runs a program.
#[test]
fn objects_of_another_repository_run_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    let (objects, lender) = (trap.tree().join(".git/objects"), trap.tree().join("lender"));
    write_bare_repository(&lender, &trap.configuration());
    for entry in fs::read_dir(&objects).expect("the directory exists") {
        let from = entry.expect("the file is readable").path();
        if from.file_name().is_some_and(|name| name.len() == 2) {
            let to = lender
                .join("objects")
                .join(from.file_name().expect("the path has a file name"));
            fs::rename(&from, to).expect("the test directory is writable");
        }
    }
    let alternates = format!("{}\n", lender.join("objects").display());
    fs::write(objects.join("info/alternates"), alternates).expect("the test directory is writable");
    trap.configure(&trap.tree().join(".git/config"));
    trap.assert_that_reading_runs_nothing(&trap.tree());
}

/// Attack: an attacker omits objects from a partial clone, so that Git runs a program to fetch them.
#[test]
fn missing_objects_start_no_program() {
    let trap = Trap::new();
    trap.repository(&trap.path("server"));
    trap.git(
        &trap.path("server"),
        &["config", "uploadpack.allowFilter", "true"],
    );
    let from = format!("file://{}", trap.path("server").display());
    let to = trap.tree().display().to_string();
    trap.git(
        &trap.path("server"),
        &[
            "clone",
            "-q",
            "--no-checkout",
            "--filter=blob:none",
            &from,
            &to,
        ],
    );
    write_files(&trap.tree());
    let mut text = fs::read_to_string(trap.tree().join(".git/config")).expect("the file exists");
    for key in ["remote.origin.uploadpack", "core.sshCommand"] {
        text += &trap.setting(key);
    }
    text += "[remote \"origin\"]\n\turl = ssh://example.com/x\n";
    fs::write(trap.tree().join(".git/config"), text).expect("the test directory is writable");
    trap.assert_that_reading_runs_nothing(&trap.tree());
}

/// Attack: an attacker adds a submodule, and names programs in its configuration and in `.gitmodules`.
#[test]
fn a_submodule_runs_nothing() {
    let trap = Trap::new();
    trap.repository(&trap.path("other"));
    trap.repository(&trap.tree());
    let source = trap.path("other").display().to_string();
    let allow = "protocol.file.allow=always";
    trap.git(
        &trap.tree(),
        &["-c", allow, "submodule", "--quiet", "add", &source, "sub"],
    );
    trap.git(&trap.tree(), &["commit", "-qam", "three"]);
    let submodule = trap.tree().join("sub");
    fs::write(
        submodule.join("deploy/a.yaml"),
        SEALED_SECRET.replace("AgBB", "AgCC"),
    )
    .expect("the test directory is writable");
    trap.configure(&trap.tree().join(".git/modules/sub/config"));
    trap.configure(&trap.tree().join(".gitmodules"));
    trap.assert_that_reading_runs_nothing(&submodule);
    trap.assert_that_reading_runs_nothing(&trap.tree());
}

/// Attack: an attacker puts programs into `.git/hooks`, and names one of them in `core.fsmonitor`.
#[test]
fn hooks_in_the_repository_are_not_run() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    let hooks = trap.tree().join(".git/hooks");
    fs::create_dir_all(&hooks).expect("the test directory is writable");
    for hook in [
        "pre-commit",
        "post-index-change",
        "post-checkout",
        "fsmonitor-watchman",
        "reference-transaction",
    ] {
        trap.write_program(&hooks.join(hook), hook);
    }
    let file = trap.tree().join(".git/config");
    let text = fs::read_to_string(&file).expect("the file exists");
    fs::write(
        &file,
        format!("{text}[core]\n\tfsmonitor = .git/hooks/fsmonitor-watchman\n"),
    )
    .expect("the test directory is writable");
    trap.assert_that_reading_runs_nothing(&trap.tree());
}

/// Attack: a committer adds programs named `seal` and `xargs` to the tree, where the hook would find them if `PATH` has
/// a relative directory.
#[test]
fn the_hook_runs_no_program_of_the_tree() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    for name in ["seal", "xargs"] {
        trap.write_program(&trap.tree().join(name), name);
    }
    let seal = env!("CARGO_BIN_EXE_seal");
    let path = format!(".:{}", std::env::var("PATH").expect("PATH is set"));
    let run = |program: &str, args: &[&str]| {
        let mut command = trap.command(program, &trap.tree());
        let output = command
            .env("PATH", &path)
            .args(args)
            .output()
            .expect("the command starts");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(
        run(seal, &["hook", "install"]),
        (true, ".git/hooks/pre-commit written\n".to_owned())
    );
    let (is_committed, printed) = run("git", &["commit", "-qm", "three"]);
    assert!(printed.contains("1 finding in 1 file"), "{printed}");
    assert!(!is_committed);
    assert_eq!(trap.programs_run(), BTreeSet::new());
}

/// Attack: an attacker makes the hook, or the hooks directory, a link to a path of their choice, where the hook would
/// be written.
#[test]
fn a_hook_is_not_written_through_a_link() {
    for (link, target) in [
        (".git/hooks", "home/missing"),
        (".git/hooks", "home/directory"),
        (".git/hooks/pre-commit", "home/missing"),
    ] {
        let trap = Trap::new();
        trap.repository(&trap.tree());
        let directory = trap.path("home/directory");
        fs::create_dir(&directory).expect("the test directory is writable");
        let _ = fs::remove_dir_all(trap.tree().join(link));
        std::os::unix::fs::symlink(trap.path(target), trap.tree().join(link))
            .expect("the test directory is writable");
        let mut seal = trap.command(env!("CARGO_BIN_EXE_seal"), &trap.tree());
        let output = seal
            .args(["hook", "install"])
            .output()
            .expect("the command starts");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let message = format!("{link} is a symbolic link, which is not followed");
        assert!(error.contains(&message), "{target}: {error}");
        assert!(!trap.path("home/missing").exists(), "{link}");
        let mut files = fs::read_dir(&directory).expect("the directory exists");
        assert!(files.next().is_none(), "{link}");
    }
}

/// Attack: a user installs the hook with a `seal` in the work tree, and a committer replaces that program in a later
/// commit.
#[test]
fn a_seal_in_the_work_tree_installs_no_hook() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    let copy = trap.tree().join("seal");
    copy_program(env!("CARGO_BIN_EXE_seal"), &copy);
    let mut seal = trap.command(&copy.display().to_string(), &trap.tree());
    let output = seal
        .args(["hook", "install"])
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!trap.tree().join(".git/hooks/pre-commit").exists());
}

/// Attack: an attacker makes `.git/commondir` name another repository of the user, where the hook would be written.
#[test]
fn a_hook_is_not_written_into_another_repository() {
    let trap = Trap::new();
    trap.repository(&trap.tree());
    trap.repository(&trap.path("victim"));
    let victim = trap.path("victim/.git");
    fs::remove_dir_all(victim.join("hooks")).expect("the directory exists");
    let common_file = trap.tree().join(".git/commondir");
    fs::write(common_file, victim.display().to_string()).expect("the test directory is writable");
    let mut seal = trap.command(env!("CARGO_BIN_EXE_seal"), &trap.tree());
    let output = seal
        .args(["hook", "install"])
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("names this work tree"), "{error}");
    assert!(!victim.join("hooks").exists());
}

/// Attack: an attacker replaces a file in the repository or work tree with a pipe, so that a command hangs.
#[test]
fn does_not_wait_for_a_pipe_in_a_repository() {
    for pipe in [
        ".git/HEAD",
        ".git/packed-refs",
        ".gitignore",
        "deploy/a.yaml",
    ] {
        let trap = Trap::new();
        trap.repository(&trap.tree());
        let path = trap.tree().join(pipe);
        let _ = fs::remove_file(&path);
        let status = Command::new("mkfifo").arg(&path).status();
        assert!(status.expect("mkfifo").success());
        let mut diff = trap.command("timeout", &trap.tree());
        let output = diff.args(["20", env!("CARGO_BIN_EXE_seal"), "diff"]);
        let output = output.output().expect("the command starts");
        assert_eq!(output.status.code(), Some(2), "{pipe}: {output:?}");
    }
}

/// Attack: a repository starts a program through an optional feature of the Git library.
#[test]
fn no_feature_is_compiled_in_that_could_start_a_program() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["tree", "--locked", "--edges", "normal", "--target", "all"]);
    let output = cargo
        .args(["--prefix", "none", "--format", "{p} {f}"])
        .output()
        .expect("cargo");
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    let features: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.strip_prefix("gix v")?.split(' ').nth(1))
        .collect();
    assert_eq!(
        features,
        BTreeSet::from(["excludes,index,revision,sha1,sha256"]),
        "{output:?}"
    );
    for component in [
        "filter",
        "credentials",
        "prompt",
        "submodule",
        "status",
        "merge",
        "blame",
        "archive",
    ] {
        let name = format!("gix-{component} v");
        assert!(!tree.lines().any(|line| line.starts_with(&name)), "{name}");
    }
}
