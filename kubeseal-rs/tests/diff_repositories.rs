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
