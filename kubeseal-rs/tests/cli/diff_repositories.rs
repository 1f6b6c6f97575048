//! Tests `seal diff` with submodules, and with files in repositories other than the current one.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{assert_contains, combined_output, command, git};

/// Returns a SealedSecret with these items. Their values look like ciphertexts, but cannot be
/// decrypted.
fn sealed_manifest(items: &[&str]) -> String {
    let item = |item: &&str| format!("    {item}: AgB{item}\n");
    let items: String = items.iter().map(item).collect();
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: shop}}\nspec:\n  \
         encryptedData:\n{items}"
    )
}

fn seal(directory: &Path, args: &[&str]) -> Output {
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    seal.args(args)
        .current_dir(directory)
        .output()
        .expect("the command starts")
}

fn assert_diff(directory: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let output = seal(directory, &[&["diff"], args].concat());
    let printed = combined_output(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {printed}");
    for part in parts {
        assert!(printed.contains(part), "{args:?}: {part:?} in {printed}");
    }
    let is_unchanged = printed.contains("no sealed item changed");
    assert_eq!(is_unchanged, parts.is_empty(), "{args:?}: {printed}");
}

fn commit(repository: &Path) {
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-qm", "x"]);
}

fn create_repository(directory: &Path) {
    fs::create_dir_all(directory).expect("the test directory is writable");
    git(directory, &["init", "-q", "-b", "main"]);
    fs::write(directory.join("db.yaml"), sealed_manifest(&["a"]))
        .expect("the test directory is writable");
    commit(directory);
}

/// Creates `outer` with the submodule `sub`, which has the submodule `deep`.
fn repository_with_submodules() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path_to = |name: &str| directory.path().join(name);
    for name in ["deepest", "inner", "outer"] {
        create_repository(&path_to(name));
    }
    let add = ["submodule", "--quiet", "add"];
    git(
        &path_to("inner"),
        &[&add[..], &["../deepest", "deep"]].concat(),
    );
    commit(&path_to("inner"));
    git(
        &path_to("outer"),
        &[&add[..], &["../inner", "sub"]].concat(),
    );
    git(
        &path_to("outer"),
        &["submodule", "--quiet", "update", "--init", "--recursive"],
    );
    commit(&path_to("outer"));
    directory
}

#[test]
fn compares_files_of_submodules_from_the_root_and_from_their_directory() {
    let directory = repository_with_submodules();
    let outer = directory.path().join("outer");
    assert_diff(&outer, &[], 0, &[]);
    for (file, item) in [
        ("sub/db.yaml", "b"),
        ("sub/deep/db.yaml", "c"),
        ("db.yaml", "d"),
    ] {
        fs::write(outer.join(file), sealed_manifest(&["a", item]))
            .expect("the test directory is writable");
        let (parent, file_name) = file.rsplit_once('/').unwrap_or((".", file));
        let added = format!("{item} added");
        for (from, args, printed_path) in [
            (".", &[][..], file),
            (".", &["--", "."], file),
            (".", &[parent], file),
            (".", &[file], file),
            (".", &["HEAD", file], file),
            (parent, &[], file_name),
            (parent, &[file_name], file_name),
        ] {
            assert_diff(
                &outer.join(from),
                args,
                0,
                &[&format!("{printed_path}: shop/db\n"), &added],
            );
        }
        assert_diff(&outer, &["--exit-code", file], 1, &[&added]);
        fs::write(outer.join(file), sealed_manifest(&["a"]))
            .expect("the test directory is writable");
    }
    fs::write(outer.join("sub/db.yaml"), sealed_manifest(&["a", "b"]))
        .expect("the test directory is writable");
    assert_diff(&outer, &["db.yaml"], 0, &[]);
    assert_diff(&outer, &["sub/deep"], 0, &[]);
    fs::write(outer.join("sub/new.yaml"), sealed_manifest(&["a"]))
        .expect("the test directory is writable");
    fs::remove_file(outer.join("sub/deep/db.yaml")).expect("the file exists");
    let moved = "sub/new.yaml: shop/db\n  ~ (the object) moved from sub/deep/db.yaml";
    assert_diff(&outer, &[], 0, &[moved]);
    let removed = ["sub/deep/db.yaml", "(the object) removed (v1)"];
    assert_diff(&outer, &["sub/deep/db.yaml"], 0, &removed);
}

#[test]
fn compares_a_changed_submodule_with_its_recorded_commit() {
    let directory = repository_with_submodules();
    let outer = directory.path().join("outer");
    fs::write(outer.join("sub/db.yaml"), sealed_manifest(&["a", "b"]))
        .expect("the test directory is writable");
    git(&outer.join("sub"), &["commit", "-qam", "x"]);
    let parts = ["sub/db.yaml: shop/db", "+ b added"];
    for args in [&[][..], &["sub"], &["sub/db.yaml"], &["HEAD"]] {
        assert_diff(&outer, args, 0, &parts);
    }
    git(&outer, &["add", "sub"]);
    assert_diff(&outer, &[], 0, &parts);
    git(&outer, &["commit", "-qm", "x"]);
    assert_diff(&outer, &[], 0, &[]);
    for args in [
        &["HEAD~1"][..],
        &["HEAD~1..HEAD"],
        &["HEAD~1..HEAD", "sub/db.yaml"],
    ] {
        assert_diff(&outer, args, 0, &parts);
    }
    assert_diff(&outer, &["HEAD..HEAD~1"], 0, &["- b removed"]);
    assert_diff(
        &outer,
        &["HEAD~2"],
        0,
        &[
            "sub/db.yaml: shop/db\n  + (the object) added",
            "sub/deep/db.yaml",
        ],
    );
}

#[test]
fn explains_how_to_fix_a_submodule_that_cannot_be_compared() {
    let directory = repository_with_submodules();
    let outer = directory.path().join("outer");
    fs::write(outer.join("sub/db.yaml"), sealed_manifest(&["a", "b"]))
        .expect("the test directory is writable");
    git(&outer.join("sub"), &["commit", "-qam", "x"]);
    fs::write(outer.join("db.yaml"), sealed_manifest(&["a", "d"]))
        .expect("the test directory is writable");
    commit(&outer);
    git(directory.path(), &["clone", "-q", "outer", "clone"]);
    let clone = directory.path().join("clone");
    assert_diff(&clone, &[], 0, &[]);
    let other_change = "+ d added";
    for args in [&["HEAD~1..HEAD"][..], &["HEAD~1"]] {
        assert_diff(
            &clone,
            args,
            2,
            &[
                other_change,
                "sub\n",
                "unreadable",
                "git submodule update --init -- sub",
            ],
        );
    }
    assert_diff(&clone, &["HEAD~1..HEAD", "db.yaml"], 0, &[other_change]);
    let unknown_commit = format!("160000,{},sub", "1".repeat(40));
    git(&outer, &["update-index", "--cacheinfo", &unknown_commit]);
    git(&outer, &["commit", "-qm", "x"]);
    assert_diff(
        &outer,
        &["HEAD~2..HEAD"],
        2,
        &[other_change, "sub\n", "lacks its commit 1111", "git fetch"],
    );
    assert_diff(&outer, &[], 2, &["lacks its commit 1111"]);
    git(&outer, &["reset", "-q", "--hard", "HEAD~1"]);
    git(&outer, &["rm", "-qf", "sub"]);
    assert_diff(
        &outer,
        &["HEAD~1"],
        2,
        &[other_change, "sub\n", "the submodule was removed"],
    );
    fs::remove_dir_all(outer.join(".git/modules")).expect("the directory exists");
    git(&outer, &["reset", "-q", "--hard"]);
    fs::create_dir_all(outer.join("sub")).expect("the test directory is writable");
    fs::write(outer.join("sub/.git"), "gitdir: ../nowhere\n")
        .expect("the test directory is writable");
    assert_diff(
        &outer,
        &["HEAD~1"],
        2,
        &[other_change, "sub\n", "cannot read"],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of ways to name the file")]
fn compares_a_file_of_another_repository() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("the path exists");
    let path_to = |name: &str| root.join(name);
    for name in ["one", "two"] {
        create_repository(&path_to(name));
        fs::create_dir(path_to(name).join("sub")).expect("the test directory is writable");
        fs::write(path_to(name).join("sub/gone.yaml"), sealed_manifest(&["a"]))
            .expect("the test directory is writable");
        commit(&path_to(name));
        fs::write(path_to(name).join("db.yaml"), sealed_manifest(&["a", name]))
            .expect("the test directory is writable");
        fs::remove_file(path_to(name).join("sub/gone.yaml")).expect("the file exists");
    }
    fs::create_dir(path_to("none")).expect("the test directory is writable");
    std::os::unix::fs::symlink(path_to("two"), path_to("link"))
        .expect("the test directory is writable");
    let absolute_path = |name: &str| path_to(name).display().to_string();
    let (file, removed_file) = (
        absolute_path("two/db.yaml"),
        absolute_path("two/sub/gone.yaml"),
    );
    let other_repository = absolute_path("two");
    let unnormalized = format!("{other_repository}/sub/../../two/db.yaml");
    let through_link = absolute_path("link/db.yaml");
    let added = ["two/db.yaml: shop/db\n  + two added"];
    for from in [
        Path::new("/"),
        &path_to("none"),
        &path_to("one"),
        &path_to("one/sub"),
        &root,
    ] {
        for args in [
            &[&*file][..],
            &["--", &file],
            &["HEAD", &file],
            &[&*through_link],
            &[&*unnormalized],
        ] {
            assert_diff(from, args, 0, &added);
        }
        assert_diff(
            from,
            &[&other_repository],
            0,
            &[added[0], "gone.yaml: shop/db\n  - (the object) removed"],
        );
        assert_diff(
            from,
            &[&removed_file],
            0,
            &["gone.yaml: shop/db\n  - (the object) removed"],
        );
        assert_diff(
            from,
            &["HEAD~1..HEAD", &removed_file],
            0,
            &["gone.yaml: shop/db\n  + (the object) added"],
        );
    }
    for (from, path) in [
        ("none", "../two/db.yaml"),
        ("one/sub", "../../two/db.yaml"),
        ("one", "../two"),
        ("", "two/db.yaml"),
        ("", "./one/../two/db.yaml"),
    ] {
        assert_diff(&path_to(from), &[path], 0, &added);
    }
    for path in ["..", "../", "../db.yaml", "../../one"] {
        assert_diff(
            &path_to("one/sub"),
            &[path],
            0,
            &["db.yaml: shop/db\n  + one added"],
        );
    }
    let first_file = absolute_path("one/db.yaml");
    assert_diff(
        &path_to("none"),
        &[&first_file, &file],
        0,
        &["+ one added", "+ two added"],
    );
    assert_diff(
        &path_to("one"),
        &["db.yaml", &file],
        0,
        &["+ one added", "+ two added"],
    );
    assert_diff(&path_to("none"), &["."], 2, &["not in a Git work tree"]);
    assert_diff(
        &path_to("none"),
        &[],
        2,
        &["the current directory is not in a Git work tree"],
    );
    assert_diff(
        &path_to("none"),
        &["nowhere.yaml"],
        2,
        &["neither a revision nor a file"],
    );
    assert_diff(
        &path_to("one"),
        &["--", "/etc/hostname"],
        2,
        &["/etc/hostname is not in a Git work tree"],
    );
}

/// Returns the file names that `seal diff` prints. Panics if its text and its JSON name different
/// files.
fn printed_names(directory: &Path, args: &[&str]) -> Vec<String> {
    let output = seal(directory, &[&["diff"], args].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| Some(line.split_once(": ")?.0.to_owned()))
        .collect();
    let output = seal(directory, &[&["diff", "-o", "json"], args].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let changes = json["changed"].as_array().expect("a list");
    let in_json: Vec<_> = changes
        .iter()
        .map(|change| change["file"].as_str())
        .collect();
    let in_text: Vec<_> = names.iter().map(|name| Some(name.as_str())).collect();
    assert_eq!(in_text, in_json, "{args:?}");
    names
}

#[test]
fn prints_paths_relative_to_the_current_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("the path exists");
    let path_to = |name: &str| root.join(name);
    for name in ["one", "two"] {
        create_repository(&path_to(name));
        for (path, items) in [("d/db.yaml", ["a"]), ("d/e/db.yaml", ["a"])] {
            fs::create_dir_all(path_to(name).join("d/e")).expect("the test directory is writable");
            fs::write(path_to(name).join(path), sealed_manifest(&items))
                .expect("the test directory is writable");
        }
        commit(&path_to(name));
        for path in ["db.yaml", "d/db.yaml", "d/e/db.yaml"] {
            fs::write(path_to(name).join(path), sealed_manifest(&["a", "b"]))
                .expect("the test directory is writable");
        }
    }
    let other_file = path_to("two/db.yaml").display().to_string();
    for (from, args, want) in [
        ("one", &[][..], &["d/db.yaml", "d/e/db.yaml", "db.yaml"][..]),
        ("one/d", &[], &["db.yaml", "e/db.yaml", "../db.yaml"]),
        ("one/d/e", &[], &["../db.yaml", "db.yaml", "../../db.yaml"]),
        ("one/d/e", &["HEAD", ".."], &["../db.yaml", "db.yaml"]),
        ("one/d", &["../db.yaml"], &["../db.yaml"]),
        ("one/d", &[&other_file], &["../../two/db.yaml"]),
        (
            "one/d",
            &["db.yaml", &other_file],
            &["db.yaml", "../../two/db.yaml"],
        ),
        ("", &[&other_file], &["two/db.yaml"]),
    ] {
        assert_eq!(printed_names(&path_to(from), args), want, "{from} {args:?}");
    }
    let modules = repository_with_submodules();
    let outer = modules.path().join("outer");
    for file in ["db.yaml", "sub/db.yaml", "sub/deep/db.yaml"] {
        fs::write(outer.join(file), sealed_manifest(&["a", "b"]))
            .expect("the test directory is writable");
    }
    for (from, args, want) in [
        (
            "",
            &[][..],
            &["db.yaml", "sub/db.yaml", "sub/deep/db.yaml"][..],
        ),
        ("sub", &[], &["db.yaml", "deep/db.yaml"]),
        (
            "sub/deep",
            &["../.."],
            &["../../db.yaml", "../db.yaml", "db.yaml"],
        ),
        ("sub", &["../db.yaml"], &["../db.yaml"]),
        ("sub/deep", &["../db.yaml"], &["../db.yaml"]),
    ] {
        assert_eq!(
            printed_names(&outer.join(from), args),
            want,
            "{from} {args:?}"
        );
    }
}

/// Creates a repository with three commits. The first adds `db.yaml`, the second `in/db.yaml` and
/// `out/deep/db.yaml`, the third `out/new.yaml` and another item in `out/deep/db.yaml`.
fn create_history(root: &Path) {
    create_repository(root);
    for name in ["in", "out/deep"] {
        fs::create_dir_all(root.join(name)).expect("the test directory is writable");
        fs::write(root.join(name).join("db.yaml"), sealed_manifest(&["a"]))
            .expect("the test directory is writable");
    }
    commit(root);
    fs::write(root.join("out/new.yaml"), sealed_manifest(&["a"]))
        .expect("the test directory is writable");
    fs::write(root.join("out/deep/db.yaml"), sealed_manifest(&["a", "b"]))
        .expect("the test directory is writable");
    commit(root);
}

#[test]
fn reads_files_outside_a_sparse_checkout_from_the_index() {
    for setup in [
        &["sparse-checkout set --cone in"][..],
        &["sparse-checkout set --cone --sparse-index in"],
        &["sparse-checkout set --no-cone /in/ /db.yaml"],
        &["update-index --skip-worktree out/deep/db.yaml out/new.yaml"],
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        create_history(root);
        for line in setup {
            git(root, &line.split(' ').collect::<Vec<_>>());
        }
        let _ = fs::remove_dir_all(root.join("out"));
        assert_diff(root, &["--exit-code"], 0, &[]);
        assert_diff(root, &["--exit-code", "HEAD", "out"], 0, &[]);
        assert_diff(&root.join("in"), &["--exit-code"], 0, &[]);
        let changes = [
            "out/deep/db.yaml: shop/db\n  + b added",
            "out/new.yaml: shop/db\n  + (the object) added",
        ];
        assert_diff(root, &["--exit-code", "HEAD~1"], 1, &changes);
        assert_diff(root, &["HEAD~1", "out/new.yaml"], 0, &changes[1..]);
        assert_diff(root, &["HEAD~2"], 0, &["out/deep/db.yaml", "in/db.yaml"]);
        fs::write(root.join("in/db.yaml"), sealed_manifest(&["a", "c"]))
            .expect("the test directory is writable");
        assert_diff(
            root,
            &["--exit-code"],
            1,
            &["in/db.yaml: shop/db\n  + c added"],
        );
        fs::remove_file(root.join("in/db.yaml")).expect("the file exists");
        assert_diff(
            root,
            &["--exit-code"],
            1,
            &["in/db.yaml: shop/db\n  - (the object) removed"],
        );
        git(root, &["checkout", "-q", "in"]);
        fs::create_dir_all(root.join("out/deep")).expect("the test directory is writable");
        fs::write(root.join("out/deep/db.yaml"), sealed_manifest(&["a", "d"]))
            .expect("the test directory is writable");
        assert_diff(
            root,
            &[],
            0,
            &["out/deep/db.yaml: shop/db\n  - b removed (v1)\n  + d added"],
        );
    }
}

#[test]
fn reports_the_submodule_of_a_path_that_is_not_checked_out() {
    let directory = repository_with_submodules();
    let outer = directory.path().join("outer");
    let remedy = "git submodule update --init -- sub";
    git(directory.path(), &["clone", "-q", "outer", "clone"]);
    let clone = directory.path().join("clone");
    assert_diff(&clone, &[], 0, &[]);
    assert_diff(&clone, &["."], 0, &[]);
    fs::create_dir(clone.join("in")).expect("the test directory is writable");
    let absolute_path = clone.join("sub/db.yaml").display().to_string();
    for (from, args) in [
        ("", &["sub/db.yaml"][..]),
        ("", &["HEAD", "sub/db.yaml"]),
        ("", &["HEAD~1..HEAD", "sub/deep/db.yaml"]),
        ("in", &["../sub/db.yaml"]),
        ("../outer", &[&absolute_path]),
    ] {
        let parts = ["is in the submodule sub, which is not checked out", remedy];
        assert_diff(&clone.join(from), args, 2, &parts);
    }
    assert_diff(
        &clone,
        &["sub"],
        2,
        &["sub\n", "the submodule is not checked out", remedy],
    );
    fs::write(clone.join("sub/db.yaml"), sealed_manifest(&["x"]))
        .expect("the test directory is writable");
    let expected = ["sub\n", "contains files", "move them away", remedy];
    for args in [
        &["sub/db.yaml"][..],
        &["sub"],
        &[],
        &["HEAD"],
        &["--", "sub/db.yaml"],
    ] {
        assert_diff(&clone, args, 2, &expected);
    }
    assert_diff(&clone, &["db.yaml"], 0, &[]);
    assert_diff(&clone.join("sub"), &["db.yaml"], 2, &expected[1..]);
    fs::remove_dir_all(clone.join("sub")).expect("the directory exists");
    assert_diff(
        &clone,
        &["sub/db.yaml"],
        2,
        &["is in the submodule sub", remedy],
    );
    assert_diff(
        &clone,
        &["sub"],
        2,
        &["the submodule is not checked out", remedy],
    );
    fs::remove_file(outer.join("sub/.git")).expect("the file exists");
    assert_diff(&outer, &["sub/db.yaml"], 2, &expected);
    assert_diff(&outer, &["sub/deep/db.yaml"], 0, &[]);
    fs::write(outer.join("sub/.git"), "gitdir: ../nowhere\n")
        .expect("the test directory is writable");
    assert_diff(
        &outer,
        &["sub/db.yaml"],
        2,
        &["sub\n", "cannot read", "move its directory away", remedy],
    );
}

#[test]
fn reports_another_repository_in_the_work_tree() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    create_repository(root);
    for name in ["clone", "in/clone", "ignored"] {
        create_repository(&root.join(name));
        fs::write(
            root.join(name).join("db.yaml"),
            sealed_manifest(&["a", "b"]),
        )
        .expect("the test directory is writable");
    }
    fs::write(root.join(".gitignore"), "ignored\n").expect("the test directory is writable");
    let named_repositories = |from: &Path, args: &[&str]| {
        let printed = combined_output(&seal(from, &[&["diff"], args].concat()));
        printed
            .lines()
            .filter_map(|line| line.split_once(" is another Git repository"))
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(named_repositories(root, &[]), ["clone", "in/clone"]);
    assert_eq!(named_repositories(root, &["in"]), ["in/clone"]);
    assert_eq!(
        named_repositories(&root.join("in"), &[]),
        ["../clone", "clone"]
    );
    assert!(named_repositories(root, &["db.yaml"]).is_empty());
    assert!(named_repositories(root, &["clone"]).is_empty());
    let added = "db.yaml: shop/db\n  + b added";
    for args in [
        &["clone"][..],
        &["clone/db.yaml"],
        &["HEAD", "in/clone"],
        &["ignored"],
    ] {
        assert_diff(root, args, 0, &[added]);
    }
}

#[test]
fn explains_how_to_fix_an_argument_that_is_not_a_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("full");
    create_history(&root);
    for (args, want) in [
        (&["HEAD", "HEAD~1"][..], "write two revisions as A..B"),
        (&["HEAD~1", "main"], "write two revisions as A..B"),
        (&["HEAD", "HEAD~1..HEAD"], "write two revisions as A..B"),
        (&[""], "an empty argument"),
        (&["HEAD", ""], "an empty argument"),
        (&["--", ""], "a value is required"),
        (&["", "db.yaml"], "an empty argument"),
    ] {
        assert_diff(&root, args, 2, &[want]);
    }
    let url = format!("file://{}", root.display());
    git(
        directory.path(),
        &["clone", "-q", "--depth", "1", &url, "shallow"],
    );
    let shallow_clone = directory.path().join("shallow");
    for args in [
        &["HEAD~1"][..],
        &["HEAD^"],
        &["HEAD~2..HEAD"],
        &["HEAD~1", "db.yaml"],
    ] {
        assert_diff(
            &shallow_clone,
            args,
            2,
            &["shallow clone", "git fetch --unshallow"],
        );
    }
    let printed = combined_output(&seal(&shallow_clone, &["diff", "nowhere.yaml"]));
    assert!(!printed.contains("shallow"), "{printed}");
}

/// A tag with the name of a short hash hides the commit. Like Git, `seal diff` uses the tag and warns.
#[test]
fn warns_about_a_tag_that_is_named_like_a_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    create_repository(path);
    let hash = fs::read_to_string(path.join(".git/refs/heads/main")).expect("a commit");
    let short = &hash[..7];
    assert_diff(path, &[short], 0, &[]);
    fs::write(path.join("db.yaml"), sealed_manifest(&["b"]))
        .expect("the test directory is writable");
    commit(path);
    git(path, &["tag", short]);
    let output = seal(path, &["diff", short]);
    assert_contains(&output, "beginning of the hash of another commit", "");
    assert_contains(&output, "no sealed item changed", "");
    let output = seal(path, &["diff", &hash[..40]]);
    assert!(!combined_output(&output).contains("hash"), "{output:?}");
}

/// If a name is both a revision and a file, comparing the wrong one would hide a change.
#[test]
fn refuses_a_name_that_is_both_a_revision_and_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    create_repository(root);
    git(root, &["branch", "prod"]);
    fs::create_dir(root.join("prod")).expect("the test directory is writable");
    fs::write(root.join("prod/db.yaml"), sealed_manifest(&["x"]))
        .expect("the test directory is writable");
    fs::write(root.join("db.yaml"), sealed_manifest(&["a", "b"]))
        .expect("the test directory is writable");
    commit(root);
    let ambiguous = ["both a revision and a file", "hint: write ./prod"];
    for (args, code, parts) in [
        (&["prod"][..], 2, &ambiguous[..]),
        (&["prod", "--"], 2, &ambiguous),
        (&["prod", "db.yaml"], 2, &ambiguous),
        (&["prod", "--", "db.yaml"], 1, &["db.yaml", "+ b added"]),
        (&["prod", "--", "."], 1, &["db.yaml", "prod/db.yaml"]),
        (&["refs/heads/prod", "db.yaml"], 1, &["+ b added"]),
        (&["./prod"], 0, &[]),
        (&["prod/"], 0, &[]),
        (&["--", "prod"], 0, &[]),
        (&["HEAD", "--", "prod"], 0, &[]),
        (
            &["--", "no/such/path"],
            2,
            &["neither a revision nor a file"],
        ),
        (&["HEAD", "--", "missing.yaml"], 2, &["missing.yaml"]),
    ] {
        assert_diff(root, &[&["--exit-code"], args].concat(), code, parts);
    }
    fs::write(root.join("HEAD"), sealed_manifest(&["a"])).expect("the test directory is writable");
    assert_diff(root, &["HEAD"], 2, &["both a revision and a file"]);
}

/// Attack: a committer gives a tag the name of a branch, or a local branch the name of a remote one, so that a reviewer
/// compares with the committer's version.
#[test]
fn refuses_a_name_that_several_references_have() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    create_repository(root);
    git(root, &["branch", "prod"]);
    git(root, &["update-ref", "refs/remotes/origin/prod", "HEAD"]);
    git(root, &["tag", "same"]);
    git(root, &["branch", "same"]);
    fs::write(root.join("db.yaml"), sealed_manifest(&["a", "b"]))
        .expect("the test directory is writable");
    commit(root);
    git(root, &["tag", "-a", "-m", "x", "prod"]);
    git(root, &["branch", "origin/prod"]);
    let tag = [
        "\"prod\" is ambiguous",
        "refs/tags/prod or refs/heads/prod",
        "hint: write the full name",
    ];
    let remote = ["refs/heads/origin/prod or refs/remotes/origin/prod"];
    for (revision, code, parts) in [
        ("prod", 2, &tag[..]),
        ("prod~0", 2, &["refs/tags/prod or refs/heads/prod"]),
        ("HEAD..prod", 2, &tag),
        ("origin/prod", 2, &remote),
        ("refs/heads/prod", 1, &["+ b added"]),
        ("refs/remotes/origin/prod..", 1, &["+ b added"]),
        ("refs/tags/prod", 0, &[]),
        ("same", 1, &["+ b added"]),
        ("HEAD", 0, &[]),
    ] {
        assert_diff(root, &["--exit-code", revision], code, parts);
    }
}

#[test]
fn ignores_a_document_that_only_mentions_a_sealed_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    create_repository(directory.path());
    for name in ["page.md", "program", "values.tpl"] {
        fs::write(directory.path().join(name), "# SealedSecret: {{ a\n\0")
            .expect("the test directory is writable");
    }
    assert_diff(directory.path(), &[], 0, &[]);
    let unparsable = sealed_manifest(&["a"]) + "---\na: {{ b\n";
    fs::write(directory.path().join("hidden.txt"), unparsable)
        .expect("the test directory is writable");
    fs::write(
        directory.path().join("broken.yml"),
        "kind: SealedSecret\na: {{ b\n",
    )
    .expect("the test directory is writable");
    assert_diff(directory.path(), &[], 2, &["hidden.txt\n", "broken.yml\n"]);
}

/// Fault: the repository stores its branches in the reftable format of Git 2.45, not in `.git/refs`.
#[test]
fn reports_a_repository_with_a_reftable() {
    let directory = tempfile::tempdir().expect("a directory");
    create_repository(directory.path());
    let git_directory = directory.path().join(".git");
    for (key, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.refStorage", "reftable"),
    ] {
        let config = git_directory.join("config").display().to_string();
        git(directory.path(), &["config", "-f", &config, key, value]);
    }
    fs::remove_dir_all(git_directory.join("refs")).expect("the directory exists");
    fs::create_dir(git_directory.join("refs")).expect("the test directory is writable");
    fs::write(
        git_directory.join("refs/heads"),
        "this repository uses the reftable format\n",
    )
    .expect("the test directory is writable");
    fs::write(git_directory.join("HEAD"), "ref: refs/heads/.invalid\n")
        .expect("the test directory is writable");
    let output = seal(directory.path(), &["diff"]);
    let text = combined_output(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("git refs migrate"), "{text}");
}
