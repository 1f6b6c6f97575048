//! `seal diff` of submodules, and of files in other repositories than the current one.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use support::{command, git, shown};

/// Returns a sealed file whose values only have the form of ciphertexts.
fn sealed(items: &[&str]) -> String {
    let item = |item: &&str| format!("    {item}: AgB{item}\n");
    let items: String = items.iter().map(item).collect();
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: shop}}\nspec:\n  \
         encryptedData:\n{items}"
    )
}

fn seal(folder: &Path, args: &[&str]) -> Output {
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), folder, "/nowhere");
    seal.args(args)
        .current_dir(folder)
        .output()
        .expect("it runs")
}

fn diff(folder: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let output = seal(folder, &[&["diff"], args].concat());
    let shown = shown(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {shown}");
    for part in parts {
        assert!(shown.contains(part), "{args:?}: {part:?} in {shown}");
    }
    let is_same = shown.contains("no sealed item changed");
    assert_eq!(is_same, parts.is_empty(), "{args:?}: {shown}");
}

fn commit(repository: &Path) {
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-qm", "x"]);
}

fn new_repository(folder: &Path) {
    fs::create_dir_all(folder).expect("ours");
    git(folder, &["init", "-q", "-b", "main"]);
    fs::write(folder.join("db.yaml"), sealed(&["a"])).expect("ours");
    commit(folder);
}

/// Creates `outer` with the submodule `sub`, which has the submodule `deep`.
fn with_submodules() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["deepest", "inner", "outer"] {
        new_repository(&at(name));
    }
    let add = ["submodule", "--quiet", "add"];
    git(&at("inner"), &[&add[..], &["../deepest", "deep"]].concat());
    commit(&at("inner"));
    git(&at("outer"), &[&add[..], &["../inner", "sub"]].concat());
    git(
        &at("outer"),
        &["submodule", "--quiet", "update", "--init", "--recursive"],
    );
    commit(&at("outer"));
    folder
}

#[test]
fn compares_files_of_submodules_from_any_folder() {
    let folder = with_submodules();
    let outer = folder.path().join("outer");
    diff(&outer, &[], 0, &[]);
    for (file, item) in [
        ("sub/db.yaml", "b"),
        ("sub/deep/db.yaml", "c"),
        ("db.yaml", "d"),
    ] {
        fs::write(outer.join(file), sealed(&["a", item])).expect("ours");
        let (inside, changed) = file.rsplit_once('/').unwrap_or((".", file));
        let added = format!("{item} added");
        for (from, args, shown_as) in [
            (".", &[][..], file),
            (".", &["--", "."], file),
            (".", &[inside], file),
            (".", &[file], file),
            (".", &["HEAD", file], file),
            (inside, &[], changed),
            (inside, &[changed], changed),
        ] {
            diff(
                &outer.join(from),
                args,
                0,
                &[&format!("{shown_as}: shop/db\n"), &added],
            );
        }
        diff(&outer, &["--exit-code", file], 1, &[&added]);
        fs::write(outer.join(file), sealed(&["a"])).expect("ours");
    }
    fs::write(outer.join("sub/db.yaml"), sealed(&["a", "b"])).expect("ours");
    diff(&outer, &["db.yaml"], 0, &[]);
    diff(&outer, &["sub/deep"], 0, &[]);
    fs::write(outer.join("sub/new.yaml"), sealed(&["a"])).expect("ours");
    fs::remove_file(outer.join("sub/deep/db.yaml")).expect("ours");
    let parts = [
        "sub/new.yaml",
        "(the object) added",
        "sub/deep/db.yaml",
        "(the object) removed",
    ];
    diff(&outer, &[], 0, &parts);
    diff(&outer, &["sub/deep/db.yaml"], 0, &parts[2..]);
}

#[test]
fn compares_a_changed_submodule_with_its_recorded_commit() {
    let folder = with_submodules();
    let outer = folder.path().join("outer");
    fs::write(outer.join("sub/db.yaml"), sealed(&["a", "b"])).expect("ours");
    git(&outer.join("sub"), &["commit", "-qam", "x"]);
    let parts = ["sub/db.yaml: shop/db", "+ b added"];
    for args in [&[][..], &["sub"], &["sub/db.yaml"], &["HEAD"]] {
        diff(&outer, args, 0, &parts);
    }
    git(&outer, &["add", "sub"]);
    diff(&outer, &[], 0, &parts);
    git(&outer, &["commit", "-qm", "x"]);
    diff(&outer, &[], 0, &[]);
    for args in [
        &["HEAD~1"][..],
        &["HEAD~1..HEAD"],
        &["HEAD~1..HEAD", "sub/db.yaml"],
    ] {
        diff(&outer, args, 0, &parts);
    }
    diff(&outer, &["HEAD..HEAD~1"], 0, &["- b removed"]);
    diff(
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
fn reports_a_submodule_that_cannot_be_compared_with_a_remedy() {
    let folder = with_submodules();
    let outer = folder.path().join("outer");
    fs::write(outer.join("sub/db.yaml"), sealed(&["a", "b"])).expect("ours");
    git(&outer.join("sub"), &["commit", "-qam", "x"]);
    fs::write(outer.join("db.yaml"), sealed(&["a", "d"])).expect("ours");
    commit(&outer);
    git(folder.path(), &["clone", "-q", "outer", "clone"]);
    let clone = folder.path().join("clone");
    diff(&clone, &[], 0, &[]);
    let others = "+ d added";
    for args in [&["HEAD~1..HEAD"][..], &["HEAD~1"]] {
        diff(
            &clone,
            args,
            2,
            &[
                others,
                "sub\n",
                "unreadable",
                "git submodule update --init -- sub",
            ],
        );
    }
    diff(&clone, &["HEAD~1..HEAD", "db.yaml"], 0, &[others]);
    let nowhere = format!("160000,{},sub", "1".repeat(40));
    git(&outer, &["update-index", "--cacheinfo", &nowhere]);
    git(&outer, &["commit", "-qm", "x"]);
    diff(
        &outer,
        &["HEAD~2..HEAD"],
        2,
        &[others, "sub\n", "lacks its commit 1111", "git fetch"],
    );
    diff(&outer, &[], 2, &["lacks its commit 1111"]);
    git(&outer, &["reset", "-q", "--hard", "HEAD~1"]);
    git(&outer, &["rm", "-qf", "sub"]);
    diff(
        &outer,
        &["HEAD~1"],
        2,
        &[others, "sub\n", "the submodule was removed"],
    );
    fs::remove_dir_all(outer.join(".git/modules")).expect("ours");
    git(&outer, &["reset", "-q", "--hard"]);
    fs::create_dir_all(outer.join("sub")).expect("ours");
    fs::write(outer.join("sub/.git"), "gitdir: ../nowhere\n").expect("ours");
    diff(&outer, &["HEAD~1"], 2, &[others, "sub\n", "cannot read"]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of ways to name the file")]
fn compares_a_file_of_another_repository() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("ours");
    let at = |name: &str| root.join(name);
    for name in ["one", "two"] {
        new_repository(&at(name));
        fs::create_dir(at(name).join("sub")).expect("ours");
        fs::write(at(name).join("sub/gone.yaml"), sealed(&["a"])).expect("ours");
        commit(&at(name));
        fs::write(at(name).join("db.yaml"), sealed(&["a", name])).expect("ours");
        fs::remove_file(at(name).join("sub/gone.yaml")).expect("ours");
    }
    fs::create_dir(at("none")).expect("ours");
    std::os::unix::fs::symlink(at("two"), at("link")).expect("ours");
    let absolute = |name: &str| at(name).display().to_string();
    let (file, gone) = (absolute("two/db.yaml"), absolute("two/sub/gone.yaml"));
    let two = absolute("two");
    let long = format!("{two}/sub/../../two/db.yaml");
    let linked = absolute("link/db.yaml");
    let added = ["two/db.yaml: shop/db\n  + two added"];
    for from in [
        Path::new("/"),
        &at("none"),
        &at("one"),
        &at("one/sub"),
        &root,
    ] {
        for args in [
            &[&*file][..],
            &["--", &file],
            &["HEAD", &file],
            &[&*linked],
            &[&*long],
        ] {
            diff(from, args, 0, &added);
        }
        diff(
            from,
            &[&two],
            0,
            &[added[0], "gone.yaml: shop/db\n  - (the object) removed"],
        );
        diff(
            from,
            &[&gone],
            0,
            &["gone.yaml: shop/db\n  - (the object) removed"],
        );
        diff(
            from,
            &["HEAD~1..HEAD", &gone],
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
        diff(&at(from), &[path], 0, &added);
    }
    for path in ["..", "../", "../db.yaml", "../../one"] {
        diff(
            &at("one/sub"),
            &[path],
            0,
            &["db.yaml: shop/db\n  + one added"],
        );
    }
    let one = absolute("one/db.yaml");
    diff(
        &at("none"),
        &[&one, &file],
        0,
        &["+ one added", "+ two added"],
    );
    diff(
        &at("one"),
        &["db.yaml", &file],
        0,
        &["+ one added", "+ two added"],
    );
    diff(&at("none"), &["."], 2, &["not in a Git work tree"]);
    diff(
        &at("none"),
        &[],
        2,
        &["the current folder is not in a Git work tree"],
    );
    diff(
        &at("none"),
        &["nowhere.yaml"],
        2,
        &["neither a revision nor a file"],
    );
    diff(
        &at("one"),
        &["--", "/etc/hostname"],
        2,
        &["/etc/hostname is not in a Git work tree"],
    );
}

/// Returns the names of files that `seal diff` prints, as text and as JSON.
fn names(folder: &Path, args: &[&str]) -> Vec<String> {
    let output = seal(folder, &[&["diff"], args].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| Some(line.split_once(": ")?.0.to_owned()))
        .collect();
    let output = seal(folder, &[&["diff", "-o", "json"], args].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let changed = json["changed"].as_array().expect("a list");
    let in_json: Vec<_> = changed.iter().map(|one| one["file"].as_str()).collect();
    let in_text: Vec<_> = names.iter().map(|name| Some(name.as_str())).collect();
    assert_eq!(in_text, in_json, "{args:?}");
    names
}

#[test]
fn names_files_relative_to_the_current_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("ours");
    let at = |name: &str| root.join(name);
    for name in ["one", "two"] {
        new_repository(&at(name));
        for (path, items) in [("d/db.yaml", ["a"]), ("d/e/db.yaml", ["a"])] {
            fs::create_dir_all(at(name).join("d/e")).expect("ours");
            fs::write(at(name).join(path), sealed(&items)).expect("ours");
        }
        commit(&at(name));
        for path in ["db.yaml", "d/db.yaml", "d/e/db.yaml"] {
            fs::write(at(name).join(path), sealed(&["a", "b"])).expect("ours");
        }
    }
    let other = at("two/db.yaml").display().to_string();
    for (from, args, want) in [
        ("one", &[][..], &["d/db.yaml", "d/e/db.yaml", "db.yaml"][..]),
        ("one/d", &[], &["db.yaml", "e/db.yaml", "../db.yaml"]),
        ("one/d/e", &[], &["../db.yaml", "db.yaml", "../../db.yaml"]),
        ("one/d/e", &["HEAD", ".."], &["../db.yaml", "db.yaml"]),
        ("one/d", &["../db.yaml"], &["../db.yaml"]),
        ("one/d", &[&other], &["../../two/db.yaml"]),
        (
            "one/d",
            &["db.yaml", &other],
            &["db.yaml", "../../two/db.yaml"],
        ),
        ("", &[&other], &["two/db.yaml"]),
    ] {
        assert_eq!(names(&at(from), args), want, "{from} {args:?}");
    }
    let modules = with_submodules();
    let outer = modules.path().join("outer");
    for file in ["db.yaml", "sub/db.yaml", "sub/deep/db.yaml"] {
        fs::write(outer.join(file), sealed(&["a", "b"])).expect("ours");
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
        assert_eq!(names(&outer.join(from), args), want, "{from} {args:?}");
    }
}

/// Commits `in/db.yaml` and `out/deep/db.yaml`, and then `out/new.yaml` and another item of `out/deep/db.yaml`.
fn with_history(root: &Path) {
    new_repository(root);
    for name in ["in", "out/deep"] {
        fs::create_dir_all(root.join(name)).expect("ours");
        fs::write(root.join(name).join("db.yaml"), sealed(&["a"])).expect("ours");
    }
    commit(root);
    fs::write(root.join("out/new.yaml"), sealed(&["a"])).expect("ours");
    fs::write(root.join("out/deep/db.yaml"), sealed(&["a", "b"])).expect("ours");
    commit(root);
}

#[test]
fn a_file_outside_a_sparse_checkout_is_as_in_the_index() {
    for setup in [
        &["sparse-checkout set --cone in"][..],
        &["sparse-checkout set --cone --sparse-index in"],
        &["sparse-checkout set --no-cone /in/ /db.yaml"],
        &["update-index --skip-worktree out/deep/db.yaml out/new.yaml"],
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        with_history(root);
        for line in setup {
            git(root, &line.split(' ').collect::<Vec<_>>());
        }
        let _ = fs::remove_dir_all(root.join("out"));
        diff(root, &["--exit-code"], 0, &[]);
        diff(root, &["--exit-code", "HEAD", "out"], 0, &[]);
        diff(&root.join("in"), &["--exit-code"], 0, &[]);
        let changed = [
            "out/deep/db.yaml: shop/db\n  + b added",
            "out/new.yaml: shop/db\n  + (the object) added",
        ];
        diff(root, &["--exit-code", "HEAD~1"], 1, &changed);
        diff(root, &["HEAD~1", "out/new.yaml"], 0, &changed[1..]);
        diff(root, &["HEAD~2"], 0, &["out/deep/db.yaml", "in/db.yaml"]);
        fs::write(root.join("in/db.yaml"), sealed(&["a", "c"])).expect("ours");
        diff(
            root,
            &["--exit-code"],
            1,
            &["in/db.yaml: shop/db\n  + c added"],
        );
        fs::remove_file(root.join("in/db.yaml")).expect("ours");
        diff(
            root,
            &["--exit-code"],
            1,
            &["in/db.yaml: shop/db\n  - (the object) removed"],
        );
        git(root, &["checkout", "-q", "in"]);
        fs::create_dir_all(root.join("out/deep")).expect("ours");
        fs::write(root.join("out/deep/db.yaml"), sealed(&["a", "d"])).expect("ours");
        diff(
            root,
            &[],
            0,
            &["out/deep/db.yaml: shop/db\n  - b removed\n  + d added"],
        );
    }
}

#[test]
fn names_the_submodule_of_a_path_that_is_not_checked_out() {
    let folder = with_submodules();
    let outer = folder.path().join("outer");
    let update = "git submodule update --init -- sub";
    git(folder.path(), &["clone", "-q", "outer", "clone"]);
    let clone = folder.path().join("clone");
    diff(&clone, &[], 0, &[]);
    diff(&clone, &["."], 0, &[]);
    fs::create_dir(clone.join("in")).expect("ours");
    let absolute = clone.join("sub/db.yaml").display().to_string();
    for (from, args) in [
        ("", &["sub/db.yaml"][..]),
        ("", &["HEAD", "sub/db.yaml"]),
        ("", &["HEAD~1..HEAD", "sub/deep/db.yaml"]),
        ("in", &["../sub/db.yaml"]),
        ("../outer", &[&absolute]),
    ] {
        let parts = ["is in the submodule sub, which is not checked out", update];
        diff(&clone.join(from), args, 2, &parts);
    }
    diff(
        &clone,
        &["sub"],
        2,
        &["sub\n", "the submodule is not checked out", update],
    );
    fs::write(clone.join("sub/db.yaml"), sealed(&["x"])).expect("ours");
    let files = ["sub\n", "contains files", "move them away", update];
    for args in [
        &["sub/db.yaml"][..],
        &["sub"],
        &[],
        &["HEAD"],
        &["--", "sub/db.yaml"],
    ] {
        diff(&clone, args, 2, &files);
    }
    diff(&clone, &["db.yaml"], 0, &[]);
    diff(&clone.join("sub"), &["db.yaml"], 2, &files[1..]);
    fs::remove_dir_all(clone.join("sub")).expect("ours");
    diff(
        &clone,
        &["sub/db.yaml"],
        2,
        &["is in the submodule sub", update],
    );
    diff(
        &clone,
        &["sub"],
        2,
        &["the submodule is not checked out", update],
    );
    fs::remove_file(outer.join("sub/.git")).expect("ours");
    diff(&outer, &["sub/db.yaml"], 2, &files);
    diff(&outer, &["sub/deep/db.yaml"], 0, &[]);
    fs::write(outer.join("sub/.git"), "gitdir: ../nowhere\n").expect("ours");
    diff(
        &outer,
        &["sub/db.yaml"],
        2,
        &["sub\n", "cannot read", "move its folder away", update],
    );
}

#[test]
fn names_another_repository_in_the_work_tree() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    new_repository(root);
    for name in ["clone", "in/clone", "ignored"] {
        new_repository(&root.join(name));
        fs::write(root.join(name).join("db.yaml"), sealed(&["a", "b"])).expect("ours");
    }
    fs::write(root.join(".gitignore"), "ignored\n").expect("ours");
    let is_named = |from: &Path, args: &[&str]| {
        let shown = shown(&seal(from, &[&["diff"], args].concat()));
        shown
            .lines()
            .filter_map(|line| line.split_once(" is another Git repository"))
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(is_named(root, &[]), ["clone", "in/clone"]);
    assert_eq!(is_named(root, &["in"]), ["in/clone"]);
    assert_eq!(is_named(&root.join("in"), &[]), ["../clone", "clone"]);
    assert!(is_named(root, &["db.yaml"]).is_empty());
    assert!(is_named(root, &["clone"]).is_empty());
    let added = "db.yaml: shop/db\n  + b added";
    for args in [
        &["clone"][..],
        &["clone/db.yaml"],
        &["HEAD", "in/clone"],
        &["ignored"],
    ] {
        diff(root, args, 0, &[added]);
    }
}

#[test]
fn an_argument_that_is_no_path_has_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("full");
    with_history(&root);
    for (args, want) in [
        (&["HEAD", "HEAD~1"][..], "two revisions are written A..B"),
        (&["HEAD~1", "main"], "two revisions are written A..B"),
        (&["HEAD", "HEAD~1..HEAD"], "two revisions are written A..B"),
        (&[""], "an empty argument"),
        (&["HEAD", ""], "an empty argument"),
        (&["--", ""], "a value is required"),
        (&["", "db.yaml"], "an empty argument"),
    ] {
        diff(&root, args, 2, &[want]);
    }
    let url = format!("file://{}", root.display());
    git(
        folder.path(),
        &["clone", "-q", "--depth", "1", &url, "shallow"],
    );
    let shallow = folder.path().join("shallow");
    for args in [
        &["HEAD~1"][..],
        &["HEAD^"],
        &["HEAD~2..HEAD"],
        &["HEAD~1", "db.yaml"],
    ] {
        diff(
            &shallow,
            args,
            2,
            &["shallow clone", "git fetch --unshallow"],
        );
    }
    let shown = shown(&seal(&shallow, &["diff", "nowhere.yaml"]));
    assert!(!shown.contains("shallow"), "{shown}");
}

#[test]
fn a_page_that_mentions_a_sealed_secret_is_not_a_manifest() {
    let folder = tempfile::tempdir().expect("a folder");
    new_repository(folder.path());
    for name in ["page.md", "program", "values.tpl"] {
        fs::write(folder.path().join(name), "# SealedSecret: {{ a\n\0").expect("ours");
    }
    diff(folder.path(), &[], 0, &[]);
    let hidden = sealed(&["a"]) + "---\na: {{ b\n";
    fs::write(folder.path().join("hidden.txt"), hidden).expect("ours");
    fs::write(
        folder.path().join("broken.yml"),
        "kind: SealedSecret\na: {{ b\n",
    )
    .expect("ours");
    diff(folder.path(), &[], 2, &["hidden.txt\n", "broken.yml\n"]);
}
