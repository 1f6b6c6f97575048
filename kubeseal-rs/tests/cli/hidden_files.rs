//! Tests that commands that search a directory either find hidden files and objects or fail. Files can be hidden in
//! other repositories or behind symbolic links; objects can be hidden by unusual line breaks or YAML merge keys.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::LazyLock;

use crate::support::{assert_code, assert_contains, combined_output, git, write_files};
use crate::v2::{directory, seal};

const PLAIN: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {pw: hunter2}\n";
/// Returns a SealedSecret whose value has the form of a ciphertext for `key-2024`.
fn sealed_manifest() -> &'static str {
    static SEALED: LazyLock<String> = LazyLock::new(|| {
        let ciphertext = [&[1, 0][..], &[7; 256], &[9; 20]].concat();
        let value = shared::base64::encode(&ciphertext);
        format!(
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: shop}}\n\
             spec: {{encryptedData: {{a: {value}}}}}\n"
        )
    });
    &SEALED
}

/// Runs lint and three commands that search `path` for sealed values. Returns the name and the output of each command.
fn run_searches(directory: &Path, path: &str) -> Vec<(&'static str, std::process::Output)> {
    let rollback = ["doctor", "--rollback", path];
    let view = ["view", path];
    let lint = ["lint", path];
    let retire = [
        "keys",
        "retire",
        "key-2024",
        path,
        "--dry-run",
        "--directory",
        "state",
    ];
    vec![
        ("lint", seal(directory, &lint)),
        ("view", seal(directory, &view)),
        ("rollback", seal(directory, &rollback)),
        ("retire", seal(directory, &retire)),
    ]
}

/// Returns a directory with a controller's directory `state` and a repository `tree`.
fn fixture() -> tempfile::TempDir {
    let fixture = directory();
    let old = include_str!("../seal/key-fixtures/state/keys/key-2024.yaml");
    let new = include_str!("../seal/key-fixtures/state/keys/key-2025.yaml");
    write_files(
        fixture.path(),
        &[
            ("state/keys/old.yaml", old),
            ("state/keys/new.yaml", new),
            ("tree/x", "x"),
        ],
    );
    git(&fixture.path().join("tree"), &["init", "-q"]);
    fixture
}

/// Creates a repository and commits a plain and a sealed Secret.
fn write_repository(directory: &Path) {
    fs::create_dir_all(directory).expect("the test directory is writable");
    git(directory, &["init", "-q"]);
    write_files(
        directory,
        &[("plain.yaml", PLAIN), ("sealed.yaml", sealed_manifest())],
    );
    commit(directory);
}

fn commit(directory: &Path) {
    git(directory, &["add", "-A", "-f"]);
    let user = ["-c", "user.name=a", "-c", "user.email=a@b"];
    git(
        directory,
        &[&user[..], &["commit", "-q", "-m", "x"]].concat(),
    );
}

/// Checks that lint finds the plain Secret of [`write_repository`], that the other commands find the sealed Secret, and
/// that a rollback check counts objects. The paths of the files begin with `files`.
fn assert_found(fixture: &Path, files: &str, why: &str) {
    for (command, output) in run_searches(fixture, "tree") {
        // A rollback check does not name objects without problems.
        if command == "rollback" {
            assert!(!combined_output(&output).contains("all 0 objects"), "{why}");
            continue;
        }
        let name = if command == "lint" {
            "plain.yaml"
        } else {
            "sealed.yaml"
        };
        assert_contains(
            &output,
            &format!("{files}{name}"),
            format!("{why}: {command}"),
        );
    }
}

/// Attack: a committer puts files into a submodule, another repository or a linked work tree, and adds an ignore file
/// inside or above it. Lint and the commands that search for sealed values then overlook the files.
#[test]
fn finds_tracked_files_in_other_repositories_despite_ignore_files() {
    for (kind, ignore_file, rule) in [
        ("embedded", "tree/sub/.gitignore", "*.yaml\n"),
        ("embedded", "tree/.gitignore", "*.yaml\n"),
        ("embedded", "tree/.gitignore", "sub/\n"),
        ("submodule", "tree/sub/.gitignore", "*.yaml\n"),
        ("submodule", "tree/.gitignore", "sub\n"),
        ("deep submodule", "tree/.gitignore", "deep\n"),
        ("work tree", "tree/sub/.gitignore", "*\n"),
        ("work tree", "tree/.gitignore", "sub/\n"),
    ] {
        let why = format!("{kind}, {ignore_file}");
        let fixture = fixture();
        let tree = fixture.path().join("tree");
        let files = match kind {
            "embedded" => {
                write_repository(&tree.join("sub"));
                "tree/sub/"
            }
            "work tree" => {
                write_files(
                    &tree,
                    &[("plain.yaml", PLAIN), ("sealed.yaml", sealed_manifest())],
                );
                commit(&tree);
                git(&tree, &["worktree", "add", "-q", "sub", "-b", "other"]);
                "tree/sub/"
            }
            _ => {
                let directory = if kind == "submodule" {
                    "sub"
                } else {
                    "deep/sub"
                };
                write_repository(&fixture.path().join("origin"));
                let add = [
                    "-c",
                    "protocol.file.allow=always",
                    "submodule",
                    "--quiet",
                    "add",
                    "-f",
                    "../origin",
                ];
                git(&tree, &[&add[..], &[directory]].concat());
                commit(&tree);
                if kind == "submodule" {
                    "tree/sub/"
                } else {
                    "tree/deep/sub/"
                }
            }
        };
        write_files(fixture.path(), &[(ignore_file, rule)]);
        assert_found(fixture.path(), files, &why);
    }
}

/// Attack: an attacker makes Git's index too large to be read, or truncates it, and excludes a tracked file with an
/// ignore rule, so that a check succeeds without reading the file.
#[test]
fn an_index_that_cannot_be_read_fails_the_search() {
    for damage in ["truncated", "too large"] {
        let fixture = fixture();
        let tree = fixture.path().join("tree");
        write_files(
            &tree,
            &[
                ("plain.yaml", PLAIN),
                ("sealed.yaml", sealed_manifest()),
                ("seen.yaml", sealed_manifest()),
            ],
        );
        commit(&tree);
        write_files(&tree, &[(".gitignore", "plain.yaml\nsealed.yaml\n")]);
        let index = fs::File::options()
            .write(true)
            .open(tree.join(".git/index"));
        let len = if damage == "truncated" {
            40
        } else {
            (64 << 20) + 1
        };
        index
            .and_then(|index| index.set_len(len))
            .expect("the test owns the file");
        for (command, output) in run_searches(fixture.path(), "tree") {
            let why = format!("{damage}: {command}: {}", combined_output(&output));
            assert_contains(&output, "even if Git tracks them", &why);
            let code = if command == "retire" { 1 } else { 2 };
            assert!(
                output.status.code() == Some(code)
                    || command == "rollback" && !output.status.success(),
                "{why}"
            );
        }
        let output = seal(
            fixture.path(),
            &[
                "rotate",
                "tree",
                "--dry-run",
                "--key",
                "key.pem",
                "--cert",
                "cert.pem",
            ],
        );
        assert_contains(&output, "even if Git tracks them", damage);
        assert_code(&output, 2, damage);
    }
}

/// Fault: a file with values is only in the index, or outside a sparse checkout, so a search of the work tree does not
/// find it, and the key that the file needs is retired.
#[test]
fn retires_no_key_that_a_file_outside_the_work_tree_needs() {
    for case in ["staged", "sparse", "sparse index"] {
        let fixture = fixture();
        let tree = fixture.path().join("tree");
        write_files(
            &tree,
            &[
                ("far/sealed.yaml", sealed_manifest()),
                ("near/x.yaml", "a: b\n"),
            ],
        );
        if case == "staged" {
            git(&tree, &["add", "far/sealed.yaml"]);
            fs::remove_dir_all(tree.join("far")).expect("the test owns the directory");
        } else {
            commit(&tree);
            let index = if case == "sparse" {
                "--no-sparse-index"
            } else {
                "--sparse-index"
            };
            git(&tree, &["sparse-checkout", "set", "--cone", index, "near"]);
        }
        assert!(!tree.join("far/sealed.yaml").exists(), "{case}");
        let retire = [
            "keys",
            "retire",
            "key-2024",
            "tree",
            "--dry-run",
            "--directory",
            "state",
        ];
        let output = seal(fixture.path(), &retire);
        assert_code(&output, 1, case);
        assert_contains(&output, "tree/far/sealed.yaml", case);
    }
}

/// Attack: a committer moves files to another directory, inside or outside the work tree, and leaves links to them or
/// to their directory.
#[test]
fn follows_links_inside_the_work_tree_and_reports_others() {
    let fixture = fixture();
    let tree = fixture.path().join("tree");
    write_files(
        &tree,
        &[
            ("elsewhere/plain.yaml", PLAIN),
            ("elsewhere/sealed.yaml", sealed_manifest()),
            ("other/plain.txt", PLAIN),
            ("other/sealed.txt", sealed_manifest()),
            ("k8s/own.yaml", "a: b\n"),
        ],
    );
    let link = |to: &str, name: &str| {
        symlink(to, tree.join(name)).expect("the test directory is writable");
    };
    link("../elsewhere", "k8s/directory");
    link("../other/plain.txt", "k8s/plain.yaml");
    link("../other/sealed.txt", "k8s/sealed.yaml");
    link("directory", "k8s/again");
    link("..", "elsewhere/loop");
    link("missing", "k8s/broken.yaml");
    for (command, output) in run_searches(fixture.path(), "tree/k8s") {
        let text = combined_output(&output);
        if command == "rollback" {
            assert!(text.contains("all 2 objects"), "{text}");
            continue;
        }
        let name = if command == "lint" {
            "plain.yaml"
        } else {
            "sealed.yaml"
        };
        assert!(
            text.contains(&format!("tree/k8s/{name}")),
            "{command}: {text}"
        );
        let in_directory = [format!("k8s/directory/{name}"), format!("k8s/again/{name}")];
        let found = in_directory
            .iter()
            .filter(|path| text.contains(*path))
            .count();
        assert_eq!(found, 1, "{command}: {text}");
        assert!(!text.contains("broken"), "{command}: {text}");
    }
    write_files(
        fixture.path(),
        &[("outside/sealed.yaml", sealed_manifest())],
    );
    link("../../outside", "k8s/out");
    link("../../outside/sealed.yaml", "k8s/out.yaml");
    for (command, output) in run_searches(fixture.path(), "tree/k8s") {
        for name in ["k8s/out:", "k8s/out.yaml:"] {
            assert_contains(&output, name, command);
        }
        assert_contains(
            &output,
            "not read: symbolic link that leads out of the tree, to ",
            command,
        );
    }
}

/// Attack: a committer writes an object behind a character that only the parsers of other programs read as a line
/// break.
#[test]
fn reports_a_file_with_line_breaks_that_only_other_programs_know() {
    for (name, break_) in [("NEL", '\u{85}'), ("LS", '\u{2028}'), ("PS", '\u{2029}')] {
        for hidden in ["kind: SealedSecret", "kind: \"Sealed\\x53ecret\""] {
            let fixture = fixture();
            let object = sealed_manifest()
                .replace("kind: SealedSecret", hidden)
                .replace('\n', &break_.to_string());
            let text = format!("# x{break_}{object}\na: b\n");
            write_files(fixture.path(), &[("tree/sealed.yaml", &text)]);
            for path in ["tree", "tree/sealed.yaml"] {
                for (command, output) in run_searches(fixture.path(), path) {
                    let why = format!("{name} {command} {path} {hidden}");
                    assert!(!output.status.success(), "{why}");
                    assert_contains(&output, "sealed.yaml", &why);
                    assert_contains(&output, "is a line break for some YAML parsers", &why);
                }
            }
        }
    }
}

/// Attack: a committer writes a value, and overrides it with a YAML merge key (`<<`). kustomize applies one of the two
/// values, and reviewers see the other.
#[test]
fn refuses_a_merge_key_that_overrides_a_value() {
    for text in [
        "spec:\n  encryptedData: {a: AgAA}\n  <<: {encryptedData: {a: AgBB}}\n",
        "spec: {encryptedData: {a: AgAA}}\n<<: {spec: {encryptedData: {a: AgBB}}}\n",
        "spec:\n  encryptedData: {a: AgBB}\n  template:\n    type: Opaque\n    <<: {<<: {type: kubernetes.io/tls}}\n",
        "spec:\n  encryptedData:\n    a: AgAA\n    <<: [{a: AgBB}]\n",
    ] {
        let fixture = fixture();
        let head = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\n";
        write_files(
            fixture.path(),
            &[("tree/sealed.yaml", &format!("{head}{text}"))],
        );
        for (command, output) in run_searches(fixture.path(), "tree") {
            let printed = combined_output(&output);
            let is_refused = ["overrides the key", "duplicate item"]
                .iter()
                .any(|why| printed.contains(why));
            assert!(
                !output.status.success() && is_refused,
                "{command}: {text}: {printed}"
            );
        }
        let output = seal(&fixture.path().join("tree"), &["diff"]);
        let why = combined_output(&output);
        assert!(
            !output.status.success() || why.contains("overrides the key"),
            "{text}: {why}"
        );
    }
}
