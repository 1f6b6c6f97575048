use std::fs;
use std::process::Command;

use jiff::Timestamp;

use super::*;

/// A repository created by the real `git`.
pub(crate) struct TestRepository(tempfile::TempDir);

impl TestRepository {
    pub(crate) fn new() -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        fixture.git(&["init", "-q", "-b", "main"]);
        fixture
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Commits all files. The date is the same for every commit.
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
        Repository::discover(self.root()).unwrap()
    }

    fn days(&self, values: &[(&str, &str)]) -> Vec<Option<i64>> {
        let files: Vec<_> = values
            .iter()
            .map(|(file, _)| self.root().join(file))
            .collect();
        let pairs = files.iter().zip(values);
        let sealed: Vec<_> = pairs
            .map(|(file, (_, text))| SealedValue { file, text })
            .collect();
        let day = |time: Timestamp| time.as_second() / DAY;
        commit_times(&sealed)
            .into_iter()
            .map(|time| time.map(day))
            .collect()
    }
}

const DAY: i64 = 24 * 60 * 60;

#[test]
fn reads_the_staged_content_and_not_the_work_tree() {
    let fixture = TestRepository::new();
    for name in ["a.yaml", "with a space.yaml", "1:a.yaml"] {
        let path = format!("below/{name}");
        fixture.write(&path, name);
        fixture.git(&["add", "below"]);
        fixture.write(&path, "changed");
        let staged = || {
            fixture
                .open()
                .staged_content(&fixture.root().join(&path))
                .unwrap()
        };
        assert_eq!(*staged(), name.as_bytes());
        fs::remove_file(fixture.root().join(&path)).unwrap();
        assert_eq!(*staged(), name.as_bytes());
    }
    fixture.write("below/new.yaml", "not added");
    fixture.write("below/planned.yaml", "only planned");
    fixture.git(&["add", "-N", "below/planned.yaml"]);
    for name in ["below/new.yaml", "below/planned.yaml", "below", "../x"] {
        assert!(
            fixture
                .open()
                .staged_content(&fixture.root().join(name))
                .is_err(),
            "{name}"
        );
    }
}

#[test]
fn lists_the_files_that_a_commit_would_change() {
    let fixture = TestRepository::new();
    let staged = || -> Vec<String> {
        let root = fixture.root().canonicalize().unwrap();
        let files = fixture.open().staged_files().unwrap().into_iter();
        files
            .map(|file| file.strip_prefix(&root).unwrap().display().to_string())
            .collect()
    };
    assert_eq!(staged(), Vec::<String>::new());
    fixture.write("a.yaml", "1");
    fixture.write("b/c.yaml", "1");
    fixture.git(&["add", "."]);
    assert_eq!(staged(), ["a.yaml", "b/c.yaml"]);
    fixture.commit("one");
    assert_eq!(staged(), Vec::<String>::new());
    fixture.write("b/c.yaml", "2");
    fixture.write("d.yaml", "not added");
    std::os::unix::fs::symlink("a.yaml", fixture.root().join("link.yaml")).unwrap();
    fixture.git(&["add", "b", "link.yaml"]);
    fixture.git(&["rm", "-q", "--cached", "a.yaml"]);
    fixture.git(&["add", "-N", "d.yaml"]);
    fixture.git(&["update-index", "--chmod=+x", "b/c.yaml"]);
    assert_eq!(staged(), ["b/c.yaml", "link.yaml"]);
}

#[test]
fn lists_the_files_that_a_commit_would_change_in_a_sparse_index() {
    let fixture = TestRepository::new();
    for path in ["in/a.yaml", "out/b.yaml", "out/deep/c.yaml"] {
        fixture.write(path, "1");
    }
    fixture.commit("one");
    fixture.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "in"]);
    assert_eq!(
        fixture.open().staged_files().unwrap(),
        Vec::<PathBuf>::new()
    );
    assert!(fixture.open().index().unwrap().is_sparse());
    let empty_tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let empty = fixture.git(&["commit-tree", "-m", "empty", empty_tree]);
    fixture.git(&["reset", "-q", "--soft", empty.trim()]);
    let files = fixture.open().staged_files().unwrap();
    let names: Vec<_> = files
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    assert_eq!(names, ["a.yaml", "b.yaml", "c.yaml"]);
}

#[test]
fn agrees_with_git_on_ignored_and_tracked_files() {
    let fixture = TestRepository::new();
    fixture.write(".gitignore", "*.key\n!kept.key\ndirectory/\n");
    fixture.write("sub/.gitignore", "/here.yaml\n");
    fixture.write("tracked.key", "");
    fixture.git(&["add", "-f", "tracked.key"]);
    fixture.write(".git/info/exclude", "excluded.yaml\n");
    for (path, ignored) in [
        ("a.key", true),
        ("deep/a.key", true),
        ("kept.key", false),
        ("directory/a.yaml", true),
        ("sub/here.yaml", true),
        ("sub/deep/here.yaml", false),
        ("excluded.yaml", true),
        ("a.yaml", false),
        ("tracked.key", false),
    ] {
        fixture.write(path, "x");
        let file = fixture.root().join(path);
        let status = Command::new("git")
            .args(["check-ignore", "-q"])
            .arg(&file)
            .current_dir(fixture.root())
            .status();
        assert_eq!(status.unwrap().success(), ignored, "git: {path}");
        assert_eq!(is_ignored(&file), ignored, "{path}");
        assert_eq!(is_tracked(&file), path == "tracked.key", "{path}");
    }
    let outside = tempfile::tempdir().unwrap();
    assert!(!is_ignored(&outside.path().join("a.key")));
    assert!(!is_tracked(&outside.path().join("a.key")));
}

#[test]
fn a_value_has_the_date_of_the_commit_that_introduced_it() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.commit_at(10);
    fixture.write("a.yaml", "# moved down\none: AAAA\ntwo: BBBB\n");
    fixture.write("other.yaml", "x: CCCC\n");
    fixture.commit_at(11);
    fixture.write("a.yaml", "two: BBBB\nsame:\n  one: AAAA\nnew: DDDD\n");
    let values = [
        ("a.yaml", "AAAA"),
        ("a.yaml", "BBBB"),
        ("a.yaml", "DDDD"),
        ("other.yaml", "CCCC"),
        ("other.yaml", ""),
        ("none.yaml", "AAAA"),
    ];
    assert_eq!(
        fixture.days(&values),
        [Some(10), Some(11), None, Some(11), None, None]
    );
    // The value is removed and added again: it has the date of the commit that added it last.
    fixture.write("a.yaml", "");
    fixture.commit_at(12);
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.commit_at(13);
    assert_eq!(fixture.days(&values[..1]), [Some(13)]);
}

#[test]
fn a_value_keeps_its_date_when_its_file_is_renamed() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.write("old/b.yaml", "two: BBBB\n");
    fixture.commit_at(10);
    fixture.git(&["mv", "a.yaml", "renamed.yaml"]);
    fs::create_dir(fixture.root().join("new")).unwrap();
    fixture.git(&["mv", "old/b.yaml", "new/b.yaml"]);
    fixture.write("new/b.yaml", "# changed, too\ntwo: BBBB\n");
    fixture.commit_at(11);
    fixture.write("copy.yaml", "one: AAAA\n");
    fixture.commit_at(12);
    let values = [
        ("renamed.yaml", "AAAA"),
        ("new/b.yaml", "BBBB"),
        ("copy.yaml", "AAAA"),
    ];
    assert_eq!(fixture.days(&values), [Some(10), Some(10), Some(12)]);
}

#[test]
fn a_value_keeps_its_date_through_merges() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.commit_at(10);
    fixture.git(&["checkout", "-qb", "side"]);
    fixture.write("b.yaml", "two: BBBB\n");
    fixture.commit_at(11);
    fixture.git(&["checkout", "-q", "main"]);
    fixture.write("c.yaml", "three: CCCC\n");
    fixture.commit_at(12);
    fixture.git_at(13 * DAY, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    fixture.write("d.yaml", "four: DDDD\n");
    fixture.commit_at(9); // a wrong clock
    let values = [
        ("a.yaml", "AAAA"),
        ("b.yaml", "BBBB"),
        ("c.yaml", "CCCC"),
        ("d.yaml", "DDDD"),
    ];
    assert_eq!(
        fixture.days(&values),
        [Some(10), Some(11), Some(12), Some(9)]
    );
}

#[test]
fn finds_the_files_that_differ_from_a_commit() {
    let fixture = TestRepository::new();
    for name in ["same.yaml", "changed.yaml", "removed.yaml", "racy.yaml"] {
        fixture.write(name, "1");
    }
    fixture.write(".gitignore", "ignored.yaml\n");
    fixture.commit("one");
    fixture.write("changed.yaml", "2");
    fixture.write("racy.yaml", "3");
    fixture.write("ignored.yaml", "1");
    fixture.write("sub/new.yaml", "1");
    fixture.write(".hidden.yaml", "1");
    fs::remove_file(fixture.root().join("removed.yaml")).unwrap();
    fs::create_dir_all(fixture.root().join("inner/.git")).unwrap();
    fixture.write("inner/other.yaml", "another repository's");
    let repository = fixture.open();
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
                .differences_from_work_tree(Some(head))
                .unwrap()
                .files
        ),
        want
    );
    fixture.git(&["rm", "-rq", "--cached", "--ignore-unmatch", "inner"]);
    fs::remove_dir_all(fixture.root().join("inner")).unwrap();
    fixture.commit("two");
    let repository = fixture.open();
    let (from, to) = (
        repository.commit("HEAD~1").unwrap(),
        repository.commit("HEAD").unwrap(),
    );
    assert_eq!(
        names(repository.differences(Some(from), to).unwrap().files),
        want
    );
    assert_eq!(
        repository.differences_from_work_tree(Some(to)).unwrap(),
        Differences::default()
    );
    assert!(
        repository
            .has_history(&fixture.root().join("removed.yaml"))
            .unwrap()
    );
    assert!(
        !repository
            .has_history(&fixture.root().join("never.yaml"))
            .unwrap()
    );
    assert_eq!(repository.commit("--help"), None);
    assert_eq!(repository.commit("nothing"), None);
}

/// Attack: a committer adds a link whose target has millions of components, to exhaust the memory of the hook.
#[test]
fn follows_no_staged_link_longer_than_a_path() {
    for (length, is_followed) in [(1, true), (4096, true), (4097, false), (1 << 20, false)] {
        let fixture = TestRepository::new();
        fixture.write("target", &"a".repeat(length));
        let id = fixture.git(&["hash-object", "-w", "target"]);
        let entry = format!("120000,{},link", id.trim());
        fixture.git(&["update-index", "--add", "--cacheinfo", &entry]);
        let repository = fixture.open();
        let links = repository.staged_links().unwrap();
        let route = links.route(&repository.root().join("link"));
        assert_eq!(route.links.len() == 1, is_followed, "{length}");
    }
}

/// Fault: a clone lacks branches, submodules or commits of its origin, and `git status` does not report it.
#[test]
fn recognizes_clones_that_lack_branches_submodules_or_commits() {
    let inner = TestRepository::new();
    inner.commit("one");
    let origin = TestRepository::new();
    origin.write("a.yaml", "one: AAAA\n");
    origin.commit_at(10);
    origin.git(&["branch", "other"]);
    let inner_url = inner.root().display().to_string();
    origin.git(&["submodule", "--quiet", "add", &inner_url, "sub/inner"]);
    origin.commit_at(20);
    let url = format!("file://{}", origin.root().display());
    for (options, remotes, missing, day) in [
        (&[][..], 0, 1, Some(10)),
        (&["--recurse-submodules"], 0, 0, Some(10)),
        (&["--single-branch"], 1, 1, Some(10)),
        (&["--depth", "1"], 1, 1, None),
        (&["--depth", "1", "--no-single-branch"], 0, 1, None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("clone").display().to_string();
        origin.git(&[&["clone", "-q"], options, &[url.as_str(), &target]].concat());
        let clone = Repository::discover(Path::new(&target)).unwrap();
        let names = clone.remotes_with_other_branches();
        assert_eq!(names.len(), remotes, "{options:?}: {names:?}");
        let submodules = |directory: &Path| clone.missing_submodules(directory).unwrap().len();
        for (directory, want) in [
            ("", missing),
            ("sub", missing),
            ("sub/inner", missing),
            ("other", 0),
        ] {
            assert_eq!(
                submodules(&clone.root().join(directory)),
                want,
                "{options:?}: {directory}"
            );
        }
        let file = clone.root().join("a.yaml");
        let values = [SealedValue {
            file: &file,
            text: "AAAA",
        }];
        let days = commit_times(&values)[0].map(|time| time.as_second() / DAY);
        assert_eq!(days, day, "{options:?}");
    }
}

/// Attack: the author of an archive leaves an object out of a partial clone, so that Git fetches it with a program that
/// the repository names.
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
    let repository = Repository::discover(clone.path()).unwrap();
    let head = repository.commit("HEAD").unwrap();
    let error = repository.file_at(head, Path::new("a.yaml")).unwrap_err();
    assert!(matches!(error, GitError::NotFetched { .. }), "{error}");
    let file = clone.path().join("a.yaml");
    let values = [SealedValue {
        file: &file,
        text: "AAAA",
    }];
    assert_eq!(commit_times(&values), [None]);
}

/// Attack: a committer adds a small compressed object that unpacks to hundreds of mebibytes, to exhaust the memory.
#[test]
fn refuses_an_object_that_unpacks_to_hundreds_of_mebibytes() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "x");
    fixture.commit("one");
    let huge = fixture.root().join("huge");
    let file = fs::File::create(&huge).unwrap();
    file.set_len(300 << 20).unwrap();
    let id = fixture.git(&["hash-object", "-w", "huge"]);
    let id = ObjectId::from_hex(id.trim().as_bytes()).unwrap();
    let error = fixture.open().blob(id).unwrap_err();
    assert!(matches!(error, GitError::Read { .. }), "{error}");
}

/// Attack: a repository's own configuration sets the hooks directory, so that an executable file is written to a path
/// of the attacker's choice.
#[test]
fn refuses_the_hooks_directory_of_the_repositorys_own_configuration() {
    let fixture = TestRepository::new();
    let root = fixture.root().canonicalize().unwrap();
    assert_eq!(
        fixture.open().hooks_directory().unwrap(),
        root.join(".git/hooks")
    );
    for path in [
        "/tmp/elsewhere",
        "../elsewhere",
        ".husky",
        "~/.config/autostart",
    ] {
        fixture.git(&["config", "core.hooksPath", path]);
        let error = fixture.open().hooks_directory().unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

/// Attack: a repository's own configuration names another work tree, so that commands read and change files there.
#[test]
fn ignores_the_work_tree_of_the_repositorys_own_configuration() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "x");
    fixture.commit("one");
    let other_directory = tempfile::tempdir().unwrap();
    fixture.git(&[
        "config",
        "core.worktree",
        other_directory.path().to_str().unwrap(),
    ]);
    fixture.git(&["config", "core.bare", "false"]);
    assert_eq!(
        fixture.open().root(),
        fixture.root().canonicalize().unwrap()
    );
    assert!(is_tracked(&fixture.root().join("a.yaml")));
}

#[test]
fn reads_a_linked_work_tree_and_a_sha256_repository() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.commit_at(10);
    let directory = tempfile::tempdir().unwrap();
    let linked = directory.path().join("linked");
    fixture.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    assert!(is_tracked(&linked.join("a.yaml")));
    let hooks = Repository::discover(&linked)
        .unwrap()
        .hooks_directory()
        .unwrap();
    assert_eq!(
        hooks.canonicalize().unwrap(),
        fixture.root().join(".git/hooks").canonicalize().unwrap()
    );
    let sha256_fixture = TestRepository(tempfile::tempdir().unwrap());
    sha256_fixture.git(&["init", "-q", "--object-format=sha256"]);
    sha256_fixture.write("a.yaml", "one: AAAA\n");
    sha256_fixture.commit_at(10);
    assert_eq!(sha256_fixture.days(&[("a.yaml", "AAAA")]), [Some(10)]);
    assert!(is_tracked(&sha256_fixture.root().join("a.yaml")));
}

/// Writes a tree of nine levels with ten equal entries each: ten objects for a billion paths.
fn write_bomb(fixture: &TestRepository) -> String {
    fs::write(fixture.root().join(".git/leaf"), SEALED_TEXT).unwrap();
    let leaf = fixture.git(&["hash-object", "-w", ".git/leaf"]);
    let mut id = leaf.trim().to_owned();
    for level in 0..9 {
        let kind = if level == 0 {
            "100644 blob"
        } else {
            "040000 tree"
        };
        let lines = (0..10).map(|i| format!("{kind} {id}\t{i}.yaml\n"));
        id = write_tree(fixture, &lines.collect::<String>());
    }
    id
}

const SEALED_TEXT: &str = "kind: SealedSecret\n";

/// Creates a repository with three commits. The second adds a tree bomb, the third removes it.
fn repository_with_bomb() -> TestRepository {
    let fixture = TestRepository::new();
    fixture.write("a/db.yaml", "one: AAAA\n");
    fixture.commit_at(10);
    let bomb = write_bomb(&fixture);
    let list = fixture.git(&["ls-tree", "HEAD"]);
    let tree = write_tree(&fixture, &format!("{list}040000 tree {bomb}\tbomb\n"));
    let second = ["commit-tree", "-p", "HEAD", "-m", "x", &tree];
    let second = fixture.git_at(11 * DAY, &second);
    let third = ["commit-tree", "-p", second.trim(), "-m", "x", "HEAD^{tree}"];
    let third = fixture.git_at(12 * DAY, &third);
    fixture.git(&["update-ref", "HEAD", third.trim()]);
    fixture
}

/// Attack: a committer pushes a reference that substitutes an innocent commit for a commit with a value, so that the
/// value is not found in the history.
#[test]
fn ignores_references_that_replace_commits() {
    let fixture = TestRepository::new();
    fixture.commit("innocent");
    let innocent = fixture.git(&["rev-parse", "HEAD"]);
    fixture.write("a.yaml", "value");
    fixture.commit("value");
    let commit = fixture.git(&["rev-parse", "HEAD"]);
    fixture.git(&["rm", "-q", "a.yaml"]);
    fixture.commit("removed");
    fixture.git(&["replace", commit.trim(), innocent.trim()]);
    let versions = fixture.open().versions(|path| path == "a.yaml").unwrap();
    let commits: Vec<_> = versions.iter().map(|version| &*version.commit).collect();
    assert_eq!(commits, [commit.trim()]);
}

/// Attack: a committer adds a few small trees that expand to a billion paths, to exhaust the memory.
#[test]
fn limits_the_memory_for_repeated_trees() {
    let fixture = repository_with_bomb();
    let repository = fixture.open();
    let is_too_many = |error: GitError| matches!(error, GitError::TooManyEntries { .. });
    let bomb = repository.commit("HEAD~1").unwrap();
    let head = repository.commit("HEAD").unwrap();
    assert!(is_too_many(repository.versions(|_| true).unwrap_err()));
    assert!(is_too_many(repository.files(bomb).unwrap_err()));
    assert!(is_too_many(
        repository.differences(Some(bomb), head).unwrap_err()
    ));
    let error = fixture
        .open()
        .differences_from_work_tree(Some(bomb))
        .unwrap_err();
    assert!(is_too_many(error));
    fixture.git(&["update-ref", "HEAD", "HEAD~1"]);
    assert!(is_too_many(fixture.open().staged_files().unwrap_err()));
    fs::remove_file(fixture.root().join(".git/index")).unwrap();
    let error = fixture.open().is_tracked(&fixture.root().join("a/db.yaml"));
    assert!(is_too_many(error.unwrap_err()));
}

/// Attack: a committer adds trees that contain the same subtree many times, to hide the age of a value in another file.
#[test]
fn dates_a_value_in_a_history_with_repeated_trees() {
    let fixture = repository_with_bomb();
    assert_eq!(fixture.days(&[("a/db.yaml", "AAAA")]), [Some(10)]);
}

/// Attack: the author of an archive, or another user, puts a pipe or a link to a device in the place of a file that is
/// read when the repository is opened, so that a command hangs or exhausts the memory.
#[test]
fn refuses_a_pipe_or_device_in_a_repository() {
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
            let fixture = TestRepository::new();
            fixture.write("a.yaml", "one: AAAA\n");
            fixture.commit("one");
            let path = fixture
                .root()
                .canonicalize()
                .unwrap()
                .join(".git")
                .join(file);
            create_special_file(&path, is_pipe);
            let error = Repository::discover(fixture.root()).err().unwrap();
            assert!(matches!(&error, GitError::Irregular { file, .. } if *file == path));
            assert!(!is_tracked(&fixture.root().join("a.yaml")));
        }
    }
}

fn create_special_file(path: &Path, is_pipe: bool) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    if is_pipe {
        let status = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(status.success());
    } else {
        std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    }
}

/// Attack: the author of an archive, or another user, replaces an object, an object in an alternate object directory,
/// or `.git` itself with a pipe, or makes `.git/shallow` huge, so that a command hangs or exhausts the memory.
#[test]
fn refuses_a_pipe_among_objects_or_instead_of_a_path() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.commit("one");
    let is_refused = || {
        let error = Repository::discover(fixture.root()).err();
        matches!(error, Some(GitError::Irregular { .. }))
    };
    assert!(!is_refused());
    let borrowed = tempfile::tempdir().unwrap();
    let alternates = fixture.root().join(".git/objects/info/alternates");
    fs::write(&alternates, format!("{}\n", borrowed.path().display())).unwrap();
    assert!(!is_refused());
    create_special_file(&borrowed.path().join("ab/cd"), true);
    assert!(is_refused());
    fs::remove_file(alternates).unwrap();
    let object = fixture.root().join(".git/objects/ab/cd");
    create_special_file(&object, true);
    assert!(is_refused());
    fs::remove_file(object).unwrap();
    let huge = fs::File::create(fixture.root().join(".git/shallow")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(is_refused());
    fs::remove_file(fixture.root().join(".git/shallow")).unwrap();
    assert!(!is_refused());
    fs::rename(fixture.root().join(".git"), fixture.root().join("moved")).unwrap();
    create_special_file(&fixture.root().join(".git"), true);
    assert!(is_refused());
}

/// Attack: a committer replaces a manifest or a `.gitignore` in the work tree with a pipe, so that a command hangs.
#[test]
fn does_not_wait_for_a_pipe_in_the_work_tree() {
    let fixture = TestRepository::new();
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.commit("one");
    create_special_file(&fixture.root().join("a.yaml"), true);
    let repository = fixture.open();
    let head = repository.commit("HEAD").unwrap();
    let differences = repository.differences_from_work_tree(Some(head)).unwrap();
    assert_eq!(differences.files, [PathBuf::from("a.yaml")].into());
    let why = repository
        .read_in_work_tree(Path::new("a.yaml"))
        .unwrap_err();
    assert!(why.contains("not a regular file"), "{why}");
    for list in [".gitignore", "sub/.gitignore"] {
        create_special_file(&fixture.root().join(list), true);
        let error = repository
            .differences_from_work_tree(Some(head))
            .unwrap_err();
        assert!(matches!(error, GitError::Irregular { .. }), "{error}");
        let error = repository
            .is_ignored(&fixture.root().join("sub/x"))
            .unwrap_err();
        assert!(matches!(error, GitError::Irregular { .. }), "{error}");
        fs::remove_file(fixture.root().join(list)).unwrap();
    }
}

/// Attack: a committer adds a tree entry named `..`, so that a file outside the work tree is read.
#[test]
fn does_not_read_a_path_outside_the_work_tree() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret.yaml"), SEALED_TEXT).unwrap();
    let fixture = TestRepository(tempfile::tempdir_in(outer.path()).unwrap());
    fixture.git(&["init", "-q", "-b", "main"]);
    fixture.write("a.yaml", "one: AAAA\n");
    fixture.commit("one");
    let repository = fixture.open();
    for path in [
        "../secret.yaml",
        "a/../../secret.yaml",
        "/etc/hostname",
        ".git/config",
    ] {
        assert_eq!(
            repository.read_in_work_tree(Path::new(path)),
            Ok(None),
            "{path}"
        );
    }
    let directory = outer.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(directory, fixture.root().join("link")).unwrap();
    assert_eq!(
        repository.read_in_work_tree(Path::new("link/secret.yaml")),
        Ok(None)
    );
    fs::remove_file(fixture.root().join("link")).unwrap();
    let tree = fixture.git(&["rev-parse", "HEAD^{tree}"]);
    let list = format!("040000 tree {}\t..\n", tree.trim());
    let tree = write_tree(&fixture, &list);
    let commit = fixture.git(&["commit-tree", "-m", "x", &tree]);
    let commit = ObjectId::from_hex(commit.trim().as_bytes()).unwrap();
    let differences = repository.differences_from_work_tree(Some(commit)).unwrap();
    assert_eq!(differences.files, [PathBuf::from("a.yaml")].into());
}

/// Writes a tree object, whose entries may have any names.
fn write_tree(fixture: &TestRepository, list: &str) -> String {
    let file = fixture.root().join(".git/list");
    fs::write(&file, list).unwrap();
    let mut git = Command::new("git");
    git.arg("mktree").current_dir(fixture.root());
    let output = git.stdin(fs::File::open(file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_hook_of_a_submodule_is_in_its_own_repository() {
    let (fixture, submodule) = (TestRepository::new(), TestRepository::new());
    submodule.write("a.yaml", "one: AAAA\n");
    submodule.commit("one");
    let url = submodule.root().display().to_string();
    fixture.git(&["submodule", "--quiet", "add", &url, "sub"]);
    let root = fixture.root().canonicalize().unwrap();
    let hooks = Repository::discover(&root.join("sub"))
        .unwrap()
        .hooks_directory();
    let hooks = hooks.unwrap().canonicalize().unwrap();
    assert_eq!(hooks, root.join(".git/modules/sub/hooks"));
}

/// Attack: the author of an archive makes `.git` point to another repository of the user, so that a hook is installed
/// there.
#[test]
fn installs_no_hook_in_another_repository() {
    let victim = TestRepository::new();
    victim.write("a.yaml", "one: AAAA\n");
    victim.commit("one");
    let directory = tempfile::tempdir().unwrap();
    let linked = directory.path().join("linked");
    victim.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    let git_dir = victim.root().join(".git").display().to_string();
    let assert_refused = |root: &Path| {
        let error = Repository::discover(root)
            .unwrap()
            .hooks_directory()
            .unwrap_err();
        assert!(matches!(error, GitError::HooksOutside(_)), "{error}");
    };
    for path in [git_dir.clone(), format!("{git_dir}/worktrees/linked")] {
        let trap = tempfile::tempdir().unwrap();
        fs::write(trap.path().join(".git"), format!("gitdir: {path}\n")).unwrap();
        assert_refused(trap.path());
    }
    let trap = TestRepository::new();
    fs::write(trap.root().join(".git/commondir"), &git_dir).unwrap();
    assert_refused(trap.root());
    let own_git_file = format!("{}/.git\n", trap.root().display());
    fs::write(trap.root().join(".git/gitdir"), own_git_file).unwrap();
    assert_refused(trap.root());
    let trap = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&git_dir, trap.path().join(".git")).unwrap();
    assert_refused(trap.path());
}

const SECTION: Section = Section {
    name: "merge",
    subsection: "seal",
};

/// Values of a shell command: Git must read exactly these characters.
const COMMAND: &str = "'/opt/a \"b\" ; # c\\d/seal' merge-file --path=%P";

#[test]
fn changes_single_settings_and_keeps_the_others() {
    let fixture = TestRepository::new();
    let config = fixture.root().join(".git/config");
    let before = fs::read_to_string(&config).unwrap()
        + "# a comment\n[merge \"other\"]\n\tdriver = x ; why\n";
    fs::write(&config, &before).unwrap();
    let set = |value: &str| {
        fixture
            .open()
            .set_section(SECTION, &[("name", "n"), ("driver", value)])
    };
    assert!(set("first").unwrap());
    assert!(set(COMMAND).unwrap());
    assert!(!set(COMMAND).unwrap());
    assert_eq!(
        fixture.git(&["config", "merge.seal.driver"]),
        format!("{COMMAND}\n")
    );
    assert_eq!(
        fixture.open().setting(SECTION, "driver").as_deref(),
        Some(COMMAND)
    );
    assert_eq!(fixture.git(&["config", "merge.other.driver"]), "x\n");
    assert!(fixture.open().remove_section(SECTION).unwrap());
    assert!(!fixture.open().remove_section(SECTION).unwrap());
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
    assert!(!fixture.root().join(".git/config.lock").exists());
}

/// Attack: the author of an archive makes `.git` point to another repository of the user, so that a driver is installed
/// there.
#[test]
fn changes_no_configuration_of_another_repository() {
    let victim = TestRepository::new();
    victim.write("a.yaml", "one: AAAA\n");
    victim.commit("one");
    let trap = tempfile::tempdir().unwrap();
    let git_dir = victim.root().join(".git").display().to_string();
    fs::write(trap.path().join(".git"), format!("gitdir: {git_dir}\n")).unwrap();
    let repository = Repository::discover(trap.path()).unwrap();
    let error = repository
        .set_section(SECTION, &[("driver", "x")])
        .unwrap_err();
    assert!(matches!(error, GitError::ConfigOutside(_)), "{error}");
    assert_eq!(victim.open().setting(SECTION, "driver"), None);
}

#[test]
fn finds_attributes_of_the_index_and_of_the_work_tree() {
    let fixture = TestRepository::new();
    let sets = || fixture.open().sets_attribute("merge=seal").unwrap();
    assert!(!sets());
    fixture.write(
        "sub/.gitattributes",
        "# a.yaml merge=seal\na.yaml merge=seal2\n",
    );
    fixture.commit("one");
    assert!(!sets());
    fixture.write("sub/.gitattributes", "a.yaml text merge=seal\n");
    fixture.commit("two");
    assert!(sets());
    fixture.write("sub/.gitattributes", "");
    fixture.write(".gitattributes", "*.yaml merge=seal\n");
    fixture.git(&["add", "sub"]);
    assert!(sets());
}
