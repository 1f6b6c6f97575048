use std::fs;
use std::process::Command;

use jiff::Timestamp;

use super::*;

/// A repository created by the real `git`.
pub(crate) struct TestRepository(tempfile::TempDir);

impl TestRepository {
    pub(crate) fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.git(&["init", "-q", "-b", "main"]);
        made
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Commits everything, one day after the previous commit.
    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_at(1_700_000_000, arguments)
    }

    fn commit_at(&self, day: i64) {
        self.git(&["add", "-A"]);
        self.git_at(day * DAY, &["commit", "-q", "--allow-empty", "-m", "x"]);
    }

    fn git_at(&self, seconds: i64, arguments: &[&str]) -> String {
        let date = format!("@{seconds} +0000");
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@x",
                "-c",
                "protocol.file.allow=always",
            ])
            .args(arguments)
            .current_dir(self.root())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn open(&self) -> Repository {
        Repository::around(self.root()).unwrap()
    }

    fn days(&self, values: &[(&str, &str)]) -> Vec<Option<i64>> {
        let files: Vec<_> = values
            .iter()
            .map(|(file, _)| self.root().join(file))
            .collect();
        let dated = files.iter().zip(values);
        let dated: Vec<_> = dated
            .map(|(file, (_, text))| Dated { file, text })
            .collect();
        let day = |time: Timestamp| time.as_second() / DAY;
        ages(&dated).into_iter().map(|time| time.map(day)).collect()
    }
}

const DAY: i64 = 24 * 60 * 60;

#[test]
fn reads_the_staged_content_and_not_the_work_tree() {
    let made = TestRepository::new();
    for name in ["a.yaml", "with a space.yaml", "1:a.yaml"] {
        let path = format!("below/{name}");
        made.write(&path, name);
        made.git(&["add", "below"]);
        made.write(&path, "changed");
        let staged = || made.open().staged(&made.root().join(&path)).unwrap();
        assert_eq!(*staged(), name.as_bytes());
        fs::remove_file(made.root().join(&path)).unwrap();
        assert_eq!(*staged(), name.as_bytes());
    }
    made.write("below/new.yaml", "not added");
    made.write("below/planned.yaml", "only planned");
    made.git(&["add", "-N", "below/planned.yaml"]);
    for name in ["below/new.yaml", "below/planned.yaml", "below", "../x"] {
        assert!(
            made.open().staged(&made.root().join(name)).is_err(),
            "{name}"
        );
    }
}

#[test]
fn lists_the_files_that_a_commit_would_change() {
    let made = TestRepository::new();
    let staged = || -> Vec<String> {
        let root = made.root().canonicalize().unwrap();
        let files = made.open().staged_files().unwrap().into_iter();
        files
            .map(|file| file.strip_prefix(&root).unwrap().display().to_string())
            .collect()
    };
    assert_eq!(staged(), Vec::<String>::new());
    made.write("a.yaml", "1");
    made.write("b/c.yaml", "1");
    made.git(&["add", "."]);
    assert_eq!(staged(), ["a.yaml", "b/c.yaml"]);
    made.commit("one");
    assert_eq!(staged(), Vec::<String>::new());
    made.write("b/c.yaml", "2");
    made.write("d.yaml", "not added");
    std::os::unix::fs::symlink("a.yaml", made.root().join("link.yaml")).unwrap();
    made.git(&["add", "b", "link.yaml"]);
    made.git(&["rm", "-q", "--cached", "a.yaml"]);
    made.git(&["add", "-N", "d.yaml"]);
    made.git(&["update-index", "--chmod=+x", "b/c.yaml"]);
    assert_eq!(staged(), ["b/c.yaml", "link.yaml"]);
}

#[test]
fn lists_the_files_that_a_commit_would_change_in_a_sparse_index() {
    let made = TestRepository::new();
    for path in ["in/a.yaml", "out/b.yaml", "out/deep/c.yaml"] {
        made.write(path, "1");
    }
    made.commit("one");
    made.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "in"]);
    assert_eq!(made.open().staged_files().unwrap(), Vec::<PathBuf>::new());
    assert!(made.open().index().unwrap().is_sparse());
    let nothing = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let empty = made.git(&["commit-tree", "-m", "empty", nothing]);
    made.git(&["reset", "-q", "--soft", empty.trim()]);
    let files = made.open().staged_files().unwrap();
    let names: Vec<_> = files
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    assert_eq!(names, ["a.yaml", "b.yaml", "c.yaml"]);
}

#[test]
fn agrees_with_git_on_ignored_and_tracked_files() {
    let made = TestRepository::new();
    made.write(".gitignore", "*.key\n!kept.key\nfolder/\n");
    made.write("sub/.gitignore", "/here.yaml\n");
    made.write("tracked.key", "");
    made.git(&["add", "-f", "tracked.key"]);
    made.write(".git/info/exclude", "excluded.yaml\n");
    for (path, ignored) in [
        ("a.key", true),
        ("deep/a.key", true),
        ("kept.key", false),
        ("folder/a.yaml", true),
        ("sub/here.yaml", true),
        ("sub/deep/here.yaml", false),
        ("excluded.yaml", true),
        ("a.yaml", false),
        ("tracked.key", false),
    ] {
        made.write(path, "x");
        let file = made.root().join(path);
        let says = Command::new("git")
            .args(["check-ignore", "-q"])
            .arg(&file)
            .current_dir(made.root())
            .status();
        assert_eq!(says.unwrap().success(), ignored, "git: {path}");
        assert_eq!(ignores(&file), ignored, "{path}");
        assert_eq!(tracks(&file), path == "tracked.key", "{path}");
    }
    let nowhere = tempfile::tempdir().unwrap();
    assert!(!ignores(&nowhere.path().join("a.key")));
    assert!(!tracks(&nowhere.path().join("a.key")));
}

#[test]
fn a_value_has_the_date_of_the_commit_that_introduced_it() {
    let made = TestRepository::new();
    made.write("a.yaml", "one: AAAA\n");
    made.commit_at(10);
    made.write("a.yaml", "# moved down\none: AAAA\ntwo: BBBB\n");
    made.write("other.yaml", "x: CCCC\n");
    made.commit_at(11);
    made.write("a.yaml", "two: BBBB\nsame:\n  one: AAAA\nnew: DDDD\n");
    let values = [
        ("a.yaml", "AAAA"),
        ("a.yaml", "BBBB"),
        ("a.yaml", "DDDD"),
        ("other.yaml", "CCCC"),
        ("other.yaml", ""),
        ("none.yaml", "AAAA"),
    ];
    assert_eq!(
        made.days(&values),
        [Some(10), Some(11), None, Some(11), None, None]
    );
    // The old value returns. Its age counts from that commit.
    made.write("a.yaml", "");
    made.commit_at(12);
    made.write("a.yaml", "one: AAAA\n");
    made.commit_at(13);
    assert_eq!(made.days(&values[..1]), [Some(13)]);
}

#[test]
fn a_value_keeps_its_date_when_its_file_is_renamed() {
    let made = TestRepository::new();
    made.write("a.yaml", "one: AAAA\n");
    made.write("old/b.yaml", "two: BBBB\n");
    made.commit_at(10);
    made.git(&["mv", "a.yaml", "renamed.yaml"]);
    fs::create_dir(made.root().join("new")).unwrap();
    made.git(&["mv", "old/b.yaml", "new/b.yaml"]);
    made.write("new/b.yaml", "# changed, too\ntwo: BBBB\n");
    made.commit_at(11);
    made.write("copy.yaml", "one: AAAA\n");
    made.commit_at(12);
    let values = [
        ("renamed.yaml", "AAAA"),
        ("new/b.yaml", "BBBB"),
        ("copy.yaml", "AAAA"),
    ];
    assert_eq!(made.days(&values), [Some(10), Some(10), Some(12)]);
}

#[test]
fn a_value_keeps_its_date_through_merges() {
    let made = TestRepository::new();
    made.write("a.yaml", "one: AAAA\n");
    made.commit_at(10);
    made.git(&["checkout", "-qb", "side"]);
    made.write("b.yaml", "two: BBBB\n");
    made.commit_at(11);
    made.git(&["checkout", "-q", "main"]);
    made.write("c.yaml", "three: CCCC\n");
    made.commit_at(12);
    made.git_at(13 * DAY, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    made.write("d.yaml", "four: DDDD\n");
    made.commit_at(9); // a wrong clock
    let values = [
        ("a.yaml", "AAAA"),
        ("b.yaml", "BBBB"),
        ("c.yaml", "CCCC"),
        ("d.yaml", "DDDD"),
    ];
    assert_eq!(made.days(&values), [Some(10), Some(11), Some(12), Some(9)]);
}

#[test]
fn finds_the_files_that_differ_from_a_commit() {
    let made = TestRepository::new();
    for name in ["same.yaml", "changed.yaml", "removed.yaml", "racy.yaml"] {
        made.write(name, "1");
    }
    made.write(".gitignore", "ignored.yaml\n");
    made.commit("one");
    made.write("changed.yaml", "2");
    made.write("racy.yaml", "3");
    made.write("ignored.yaml", "1");
    made.write("sub/new.yaml", "1");
    made.write(".hidden.yaml", "1");
    fs::remove_file(made.root().join("removed.yaml")).unwrap();
    fs::create_dir_all(made.root().join("inner/.git")).unwrap();
    made.write("inner/other.yaml", "another repository's");
    let repository = made.open();
    let head = repository.commit("HEAD").unwrap();
    let names = |found: std::collections::BTreeSet<PathBuf>| -> Vec<String> {
        found
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    };
    let want = [
        ".hidden.yaml",
        "changed.yaml",
        "racy.yaml",
        "removed.yaml",
        "sub/new.yaml",
    ];
    assert_eq!(
        names(
            repository
                .differing_from_work_tree(Some(head))
                .unwrap()
                .files
        ),
        want
    );
    made.git(&["rm", "-rq", "--cached", "--ignore-unmatch", "inner"]);
    fs::remove_dir_all(made.root().join("inner")).unwrap();
    made.commit("two");
    let repository = made.open();
    let (from, to) = (
        repository.commit("HEAD~1").unwrap(),
        repository.commit("HEAD").unwrap(),
    );
    assert_eq!(
        names(repository.differing(Some(from), to).unwrap().files),
        want
    );
    assert_eq!(
        repository.differing_from_work_tree(Some(to)).unwrap(),
        Differing::default()
    );
    assert!(
        repository
            .has_history(&made.root().join("removed.yaml"))
            .unwrap()
    );
    assert!(
        !repository
            .has_history(&made.root().join("never.yaml"))
            .unwrap()
    );
    assert_eq!(repository.commit("--help"), None);
    assert_eq!(repository.commit("nothing"), None);
}

/// Attack: leaves an object out of a partial clone, so that Git fetches it with a program that the
/// repository names.
#[test]
fn names_a_missing_object_and_does_not_fetch_it() {
    let server = TestRepository::new();
    server.write("a.yaml", "one: AAAA\n");
    server.commit_at(10);
    server.git(&["config", "uploadpack.allowFilter", "true"]);
    let clone = tempfile::tempdir().unwrap();
    let (from, to) = (
        server.root().display().to_string(),
        clone.path().display().to_string(),
    );
    let from = format!("file://{from}");
    server.git(&[
        "clone",
        "-q",
        "--no-checkout",
        "--filter=blob:none",
        &from,
        &to,
    ]);
    let repository = Repository::around(clone.path()).unwrap();
    let head = repository.commit("HEAD").unwrap();
    let error = repository.file_at(head, Path::new("a.yaml")).unwrap_err();
    assert!(matches!(error, GitError::NotFetched { .. }), "{error}");
    let file = clone.path().join("a.yaml");
    let dated = [Dated {
        file: &file,
        text: "AAAA",
    }];
    assert_eq!(ages(&dated), [None]);
}

/// Attack: commits a small compressed object that unpacks to more than the memory.
#[test]
fn refuses_an_object_that_unpacks_to_gigabytes() {
    let made = TestRepository::new();
    made.write("a.yaml", "x");
    made.commit("one");
    let huge = made.root().join("huge");
    let file = fs::File::create(&huge).unwrap();
    file.set_len(300 << 20).unwrap();
    let id = made.git(&["hash-object", "-w", "huge"]);
    let id = ObjectId::from_hex(id.trim().as_bytes()).unwrap();
    let error = made.open().blob(id).unwrap_err();
    assert!(matches!(error, GitError::Read { .. }), "{error}");
}

/// Attack: sets the hooks folder in the repository's own configuration, so that an executable file
/// is written to a path of the author's choice.
#[test]
fn ignores_the_hooks_folder_of_the_repositorys_own_configuration() {
    let made = TestRepository::new();
    let root = made.root().canonicalize().unwrap();
    assert_eq!(made.open().hooks().unwrap(), root.join(".git/hooks"));
    for path in [
        "/tmp/elsewhere",
        "../elsewhere",
        ".husky",
        "~/.config/autostart",
    ] {
        made.git(&["config", "core.hooksPath", path]);
        let error = made.open().hooks().unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

/// Attack: sets another work tree in the repository's own configuration.
#[test]
fn ignores_the_work_tree_of_the_repositorys_own_configuration() {
    let made = TestRepository::new();
    made.write("a.yaml", "x");
    made.commit("one");
    let elsewhere = tempfile::tempdir().unwrap();
    made.git(&[
        "config",
        "core.worktree",
        elsewhere.path().to_str().unwrap(),
    ]);
    made.git(&["config", "core.bare", "false"]);
    assert_eq!(made.open().root(), made.root().canonicalize().unwrap());
    assert!(tracks(&made.root().join("a.yaml")));
}

#[test]
fn reads_a_linked_work_tree_and_a_sha256_repository() {
    let made = TestRepository::new();
    made.write("a.yaml", "one: AAAA\n");
    made.commit_at(10);
    let folder = tempfile::tempdir().unwrap();
    let linked = folder.path().join("linked");
    made.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    assert!(tracks(&linked.join("a.yaml")));
    let hooks = Repository::around(&linked).unwrap().hooks().unwrap();
    assert_eq!(
        hooks.canonicalize().unwrap(),
        made.root().join(".git/hooks").canonicalize().unwrap()
    );
    let other = TestRepository(tempfile::tempdir().unwrap());
    other.git(&["init", "-q", "--object-format=sha256"]);
    other.write("a.yaml", "one: AAAA\n");
    other.commit_at(10);
    assert_eq!(other.days(&[("a.yaml", "AAAA")]), [Some(10)]);
    assert!(tracks(&other.root().join("a.yaml")));
}

/// Writes a tree of nine levels with ten equal entries each: ten objects for a billion paths.
fn write_bomb(made: &TestRepository) -> String {
    fs::write(made.root().join(".git/leaf"), SEALED_TEXT).unwrap();
    let leaf = made.git(&["hash-object", "-w", ".git/leaf"]);
    let mut id = leaf.trim().to_owned();
    for level in 0..9 {
        let kind = if level == 0 {
            "100644 blob"
        } else {
            "040000 tree"
        };
        let lines = (0..10).map(|i| format!("{kind} {id}\t{i}.yaml\n"));
        id = write_tree(made, &lines.collect::<String>());
    }
    id
}

const SEALED_TEXT: &str = "kind: SealedSecret\n";

/// Creates a repository with three commits. The second adds a tree bomb, the third removes it.
fn with_bomb() -> TestRepository {
    let made = TestRepository::new();
    made.write("a/db.yaml", "one: AAAA\n");
    made.commit_at(10);
    let bomb = write_bomb(&made);
    let list = made.git(&["ls-tree", "HEAD"]);
    let tree = write_tree(&made, &format!("{list}040000 tree {bomb}\tbomb\n"));
    let second = ["commit-tree", "-p", "HEAD", "-m", "x", &tree];
    let second = made.git_at(11 * DAY, &second);
    let third = ["commit-tree", "-p", second.trim(), "-m", "x", "HEAD^{tree}"];
    let third = made.git_at(12 * DAY, &third);
    made.git(&["update-ref", "HEAD", third.trim()]);
    made
}

/// Attack: commits a few small trees that expand to a billion paths, to exhaust the memory.
#[test]
fn limits_the_memory_for_repeated_trees() {
    let made = with_bomb();
    let repository = made.open();
    let too_many = |error: GitError| matches!(error, GitError::TooManyEntries { .. });
    let bomb = repository.commit("HEAD~1").unwrap();
    let head = repository.commit("HEAD").unwrap();
    assert!(too_many(repository.versions(|_| true).unwrap_err()));
    assert!(too_many(repository.files(bomb).unwrap_err()));
    assert!(too_many(
        repository.differing(Some(bomb), head).unwrap_err()
    ));
    let error = made
        .open()
        .differing_from_work_tree(Some(bomb))
        .unwrap_err();
    assert!(too_many(error));
    made.git(&["update-ref", "HEAD", "HEAD~1"]);
    assert!(too_many(made.open().staged_files().unwrap_err()));
    fs::remove_file(made.root().join(".git/index")).unwrap();
    let error = made.open().tracks(&made.root().join("a/db.yaml"));
    assert!(too_many(error.unwrap_err()));
}

/// Attack: commits such trees to hide the age of a value in another file.
#[test]
fn dates_a_value_in_a_history_with_repeated_trees() {
    let made = with_bomb();
    assert_eq!(made.days(&[("a/db.yaml", "AAAA")]), [Some(10)]);
}

/// Attack: replaces a file that is read when the repository is opened by a pipe or a link to a
/// device, so that a command hangs or exhausts the memory.
#[test]
fn refuses_a_pipe_or_device_in_the_folder_of_a_repository() {
    for file in [
        "HEAD",
        "config",
        "packed-refs",
        "commondir",
        "index",
        "shallow",
        "info/exclude",
        "objects/info/alternates",
        "refs/heads/main",
        "refs/heads/other",
        "worktrees/x/HEAD",
    ] {
        for is_pipe in [true, false] {
            let made = TestRepository::new();
            made.write("a.yaml", "one: AAAA\n");
            made.commit("one");
            let path = made.root().canonicalize().unwrap().join(".git").join(file);
            put_special(&path, is_pipe);
            let error = Repository::around(made.root()).err().unwrap();
            assert!(matches!(&error, GitError::Irregular { file, .. } if *file == path));
            assert!(!tracks(&made.root().join("a.yaml")));
        }
    }
}

fn put_special(path: &Path, is_pipe: bool) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    if is_pipe {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    } else {
        std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    }
}

/// Attack: replaces an object, a borrowed object, or a file that names folders by a pipe.
#[test]
fn refuses_a_pipe_among_objects_or_instead_of_a_path() {
    let made = TestRepository::new();
    made.write("a.yaml", "one: AAAA\n");
    made.commit("one");
    let is_refused = || {
        let error = Repository::around(made.root()).err();
        matches!(error, Some(GitError::Irregular { .. }))
    };
    assert!(!is_refused());
    let lent = tempfile::tempdir().unwrap();
    let alternates = made.root().join(".git/objects/info/alternates");
    fs::write(&alternates, format!("{}\n", lent.path().display())).unwrap();
    assert!(!is_refused());
    put_special(&lent.path().join("ab/cd"), true);
    assert!(is_refused());
    fs::remove_file(alternates).unwrap();
    let object = made.root().join(".git/objects/ab/cd");
    put_special(&object, true);
    assert!(is_refused());
    fs::remove_file(object).unwrap();
    let huge = fs::File::create(made.root().join(".git/shallow")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(is_refused());
    fs::remove_file(made.root().join(".git/shallow")).unwrap();
    assert!(!is_refused());
    fs::rename(made.root().join(".git"), made.root().join("moved")).unwrap();
    put_special(&made.root().join(".git"), true);
    assert!(is_refused());
}

/// Attack: replaces a manifest or a `.gitignore` in the work tree by a pipe.
#[test]
fn does_not_wait_for_a_pipe_in_the_work_tree() {
    let made = TestRepository::new();
    made.write("a.yaml", "one: AAAA\n");
    made.commit("one");
    put_special(&made.root().join("a.yaml"), true);
    let repository = made.open();
    let head = repository.commit("HEAD").unwrap();
    let differing = repository.differing_from_work_tree(Some(head)).unwrap();
    assert_eq!(differing.files, [PathBuf::from("a.yaml")].into());
    let why = repository.in_work_tree(Path::new("a.yaml")).unwrap_err();
    assert!(why.contains("not a regular file"), "{why}");
    for list in [".gitignore", "sub/.gitignore"] {
        put_special(&made.root().join(list), true);
        let error = repository.differing_from_work_tree(Some(head)).unwrap_err();
        assert!(matches!(error, GitError::Irregular { .. }), "{error}");
        let error = repository.ignores(&made.root().join("sub/x")).unwrap_err();
        assert!(matches!(error, GitError::Irregular { .. }), "{error}");
        fs::remove_file(made.root().join(list)).unwrap();
    }
}

/// Attack: adds a tree entry named `..`, so that a file outside the work tree is read.
#[test]
fn does_not_read_a_path_outside_the_work_tree() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret.yaml"), SEALED_TEXT).unwrap();
    let made = TestRepository(tempfile::tempdir_in(outer.path()).unwrap());
    made.git(&["init", "-q", "-b", "main"]);
    made.write("a.yaml", "one: AAAA\n");
    made.commit("one");
    let repository = made.open();
    for path in [
        "../secret.yaml",
        "a/../../secret.yaml",
        "/etc/hostname",
        ".git/config",
    ] {
        assert_eq!(repository.in_work_tree(Path::new(path)), Ok(None), "{path}");
    }
    let folder = outer.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(folder, made.root().join("link")).unwrap();
    assert_eq!(
        repository.in_work_tree(Path::new("link/secret.yaml")),
        Ok(None)
    );
    fs::remove_file(made.root().join("link")).unwrap();
    let tree = made.git(&["rev-parse", "HEAD^{tree}"]);
    let list = format!("040000 tree {}\t..\n", tree.trim());
    let tree = write_tree(&made, &list);
    let commit = made.git(&["commit-tree", "-m", "x", &tree]);
    let commit = ObjectId::from_hex(commit.trim().as_bytes()).unwrap();
    let differing = repository.differing_from_work_tree(Some(commit)).unwrap();
    assert_eq!(differing.files, [PathBuf::from("a.yaml")].into());
}

/// Writes a tree object, whose entries may have any names.
fn write_tree(made: &TestRepository, list: &str) -> String {
    let file = made.root().join(".git/list");
    fs::write(&file, list).unwrap();
    let mut git = Command::new("git");
    git.arg("mktree").current_dir(made.root());
    let output = git.stdin(fs::File::open(file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_hook_of_a_submodule_is_in_its_own_repository() {
    let (made, other) = (TestRepository::new(), TestRepository::new());
    other.write("a.yaml", "one: AAAA\n");
    other.commit("one");
    let url = other.root().display().to_string();
    made.git(&["submodule", "--quiet", "add", &url, "sub"]);
    let root = made.root().canonicalize().unwrap();
    let hooks = Repository::around(&root.join("sub")).unwrap().hooks();
    let hooks = hooks.unwrap().canonicalize().unwrap();
    assert_eq!(hooks, root.join(".git/modules/sub/hooks"));
}

/// Attack: makes `.git` point to another repository of the user, so that a hook is installed there.
#[test]
fn installs_no_hook_in_another_repository() {
    let victim = TestRepository::new();
    victim.write("a.yaml", "one: AAAA\n");
    victim.commit("one");
    let folder = tempfile::tempdir().unwrap();
    let linked = folder.path().join("linked");
    victim.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    let git_dir = victim.root().join(".git").display().to_string();
    let is_refused = |root: &Path| {
        let error = Repository::around(root).unwrap().hooks().unwrap_err();
        assert!(matches!(error, GitError::HooksOutside(_)), "{error}");
    };
    for path in [git_dir.clone(), format!("{git_dir}/worktrees/linked")] {
        let trap = tempfile::tempdir().unwrap();
        fs::write(trap.path().join(".git"), format!("gitdir: {path}\n")).unwrap();
        is_refused(trap.path());
    }
    let trap = TestRepository::new();
    fs::write(trap.root().join(".git/commondir"), &git_dir).unwrap();
    is_refused(trap.root());
    let own = format!("{}/.git\n", trap.root().display());
    fs::write(trap.root().join(".git/gitdir"), own).unwrap();
    is_refused(trap.root());
    let trap = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&git_dir, trap.path().join(".git")).unwrap();
    is_refused(trap.path());
}
