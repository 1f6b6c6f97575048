//! Symbolic links in an untrusted commit: their targets are neither read nor written.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const CERTIFICATE: &str = include_str!("seal/fixtures/cert.pem");
const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
const PRECIOUS: &str = "what the user keeps elsewhere\n";
const STATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/key-fixtures/state");
const RECIPIENTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/seal/key-fixtures/recipients.txt"
);

/// A user's folder `outside`, and a folder `tree`, which can be a work tree.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new(is_work_tree: bool) -> Self {
        let scene = Self(tempfile::tempdir().expect("a folder"));
        for (path, text) in [
            ("outside/file", PRECIOUS),
            ("outside/new/x", ""),
            ("tree/cert.pem", CERTIFICATE),
            ("tree/secret.yaml", SECRET),
            ("tree/folder/x", ""),
        ] {
            let path = scene.path(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("ours");
            fs::write(path, text).expect("ours");
        }
        if is_work_tree {
            fs::create_dir(scene.path("tree/.git")).expect("ours");
        }
        symlink("../outside/file", scene.path("tree/file")).expect("ours");
        symlink("../outside", scene.path("tree/way")).expect("ours");
        symlink("way", scene.path("tree/detour")).expect("ours");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, program: &str, words: &[&str]) -> Output {
        self.run_in("tree", program, words)
    }

    fn run_in(&self, folder: &str, program: &str, words: &[&str]) -> Output {
        Command::new(program)
            .args(words)
            .current_dir(self.path(folder))
            .env("HOME", self.0.path())
            .env("KUBECONFIG", "/nowhere")
            .stdin(Stdio::null())
            .output()
            .expect("it starts")
    }

    fn file(&self) -> String {
        fs::read_to_string(self.path("outside/file")).expect("it is there")
    }

    fn outside(&self) -> usize {
        let entries = |name: &str| fs::read_dir(self.path(name)).expect("ours").count();
        entries("outside") + entries("outside/new")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Attack: commits links to files of the user into a folder of values. Their contents would be
/// sealed for someone who can read the Secret.
#[test]
fn seals_nothing_that_a_link_in_a_folder_leads_to() {
    let scene = Scene::new(true);
    let values = scene.path("tree/values");
    fs::create_dir(&values).expect("ours");
    fs::write(values.join("own"), "own").expect("ours");
    for (name, to) in [
        ("stolen", "../../outside/file"),
        ("absolute", "/etc/hostname"),
        ("chain", "stolen"),
        ("inner", "own"),
        ("folder", "../../outside"),
        ("process", "/proc/self/environ"),
    ] {
        symlink(to, values.join(name)).expect("ours");
    }
    for folder in ["values", "values/", "./values", "detour/../tree/values"] {
        let flag = format!("--from-file={folder}");
        let output = scene.run(
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
        assert!(output.status.success(), "{}", said(&output));
        let sealed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let items = sealed["spec"]["encryptedData"].as_object().expect("items");
        assert_eq!(items.keys().collect::<Vec<_>>(), ["own"], "{folder}");
        for name in ["stolen", "absolute", "chain", "inner", "process"] {
            assert!(
                said(&output).contains(&format!("values/{name}")),
                "{}",
                said(&output)
            );
        }
    }
    // A file that the user names is read, even through a link.
    let output = scene.run(
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
    assert!(output.status.success(), "{}", said(&output));
}

/// Attack: commits a link from the name of an output file, or of its folder, to a file of the user
/// outside the work tree.
#[test]
fn writes_no_file_through_a_link_out_of_the_work_tree() {
    let seal = |out| vec!["-f", "secret.yaml", "--cert", "cert.pem", "-w", out];
    let raw = |out| {
        let words = [
            "--raw",
            "--from-file=cert.pem",
            "--name=a",
            "--namespace=b",
            "--cert=cert.pem",
        ];
        [&words[..], &["-w", out]].concat()
    };
    let backup = |out| {
        let words = [
            "keys",
            "backup",
            out,
            "--recipients-file",
            RECIPIENTS,
            "--force",
        ];
        [&words[..], &["--directory", STATE]].concat()
    };
    let create = |out| {
        let words = [
            "create",
            "db",
            "--from-literal=a=b",
            "--cert=cert.pem",
            "-n=shop",
        ];
        [&words[..], &["-w", out]].concat()
    };
    for out in [
        "file",
        "way/file",
        "detour/file",
        "folder/../file",
        "way/none",
        "detour/new/none",
    ] {
        for (program, words) in [
            (KUBESEAL, seal(out)),
            (KUBESEAL, raw(out)),
            (SEAL, backup(out)),
            (SEAL, create(out)),
        ] {
            let scene = Scene::new(true);
            let before = scene.outside();
            let output = scene.run(program, &words);
            let why = format!("{out} {words:?}: {}", said(&output));
            assert_eq!(scene.file(), PRECIOUS, "{why}");
            assert_eq!(scene.outside(), before, "{why}");
            assert!(!output.status.success(), "{why}");
            // The same holds when the command runs in another folder.
            let there = format!("tree/{out}");
            let words: Vec<_> = words
                .iter()
                .map(|word| if *word == out { &there } else { *word })
                .map(|word| word.replace("cert.pem", "tree/cert.pem"))
                .map(|word| word.replace("secret.yaml", "tree/secret.yaml"))
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let output = scene.run_in(".", program, &words);
            assert_eq!(scene.file(), PRECIOUS, "{words:?}");
            assert_eq!(scene.outside(), before, "{words:?}");
            assert!(!output.status.success(), "{words:?}");
        }
    }
}

/// A link within the work tree, a link outside any work tree, and a sealed file behind a link that
/// a command edits.
#[test]
fn writes_through_links_that_no_author_of_a_repository_chose() {
    let seal = |out| ["-f", "secret.yaml", "--cert", "cert.pem", "-w", out];
    let scene = Scene::new(true);
    symlink("folder/x", scene.path("tree/inner")).expect("ours");
    let output = scene.run(KUBESEAL, &seal("inner"));
    assert!(output.status.success(), "{}", said(&output));
    let within = fs::read_to_string(scene.path("tree/folder/x")).expect("ours");
    assert!(within.contains("SealedSecret"), "{within}");

    for out in ["../outside/none", "folder/../../outside/none"] {
        let output = scene.run(KUBESEAL, &seal(out));
        assert!(output.status.success(), "{out}: {}", said(&output));
        fs::remove_file(scene.path("outside/none")).expect("it is there");
    }

    fs::write(scene.path("outside/file"), &within).expect("ours");
    let set = [
        "set",
        "file",
        "a",
        "--from-file=cert.pem",
        "--cert=cert.pem",
    ];
    let output = scene.run(SEAL, &set);
    assert!(output.status.success(), "{}", said(&output));
    assert_ne!(scene.file(), within);

    let scene = Scene::new(false);
    let output = scene.run(KUBESEAL, &seal("file"));
    assert!(output.status.success(), "{}", said(&output));
    assert!(scene.file().contains("SealedSecret"));
    assert!(Path::new(&scene.path("tree/file")).is_symlink());
}
