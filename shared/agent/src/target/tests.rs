use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use deliver::Mode;
use tempfile::TempDir;

use super::directory::STEPS_LEFT;
use super::*;

fn file(path: &str, value: &str) -> DeliveredFile {
    with_mode(path, value, "0444")
}

/// Returns a file whose version is its value.
fn with_mode(path: &str, value: &str, mode: &str) -> DeliveredFile {
    DeliveredFile {
        path: path.parse().unwrap(),
        mode: mode.parse::<Mode>().unwrap(),
        version: value.into(),
        value: value.as_bytes().to_vec().into(),
    }
}

fn old_files() -> Vec<DeliveredFile> {
    vec![
        file("password", "old"),
        file("db/a/user", "old"),
        file("gone", "old"),
    ]
}

fn new_files() -> Vec<DeliveredFile> {
    vec![
        file("password", "new"),
        file("db/a/user", "new"),
        file("more/x", "new"),
    ]
}

fn target(directory: &TempDir) -> Target {
    Target::open(directory.path(), None).unwrap()
}

fn read(directory: &TempDir, path: &str) -> Option<String> {
    fs::read_to_string(directory.path().join(path)).ok()
}

/// Returns the names in the directory, without the numbers of versions.
fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .map(|name| {
            if is_version(&name) {
                VERSION_PREFIX.to_owned()
            } else {
                name
            }
        })
        .collect();
    names.sort();
    names
}

fn paths(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn replaces_all_files_and_removes_those_that_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = target(&directory);
    assert!(!Target::is_complete(directory.path()).unwrap());
    assert_eq!(target.write(&old_files()).unwrap(), WriteOutcome::First);
    assert!(Target::is_complete(directory.path()).unwrap());
    assert_eq!(read(&directory, "db/a/user").as_deref(), Some("old"));
    let changed = paths(&["db/a/user", "gone", "more/x", "password"]);
    assert_eq!(
        target.write(&new_files()).unwrap(),
        WriteOutcome::Changed(changed)
    );
    assert_eq!(read(&directory, "password").as_deref(), Some("new"));
    assert_eq!(read(&directory, "gone"), None);
    assert_eq!(
        names(&directory),
        ["..data", "..seal_", "..seal_", "db", "more", "password"]
    );
    target.clean_up().unwrap();
    assert_eq!(
        names(&directory),
        ["..data", "..seal_", "db", "more", "password"]
    );
}

#[test]
fn writes_nothing_if_no_version_changed() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = target(&directory);
    target.write(&old_files()).unwrap();
    let version = || fs::read_link(directory.path().join(DATA)).unwrap();
    let before = version();
    assert_eq!(target.write(&old_files()).unwrap(), WriteOutcome::Unchanged);
    assert_eq!(version(), before);
    let mut other = old_files();
    other[0] = with_mode("password", "old", "0400");
    assert_eq!(
        target.write(&other).unwrap(),
        WriteOutcome::Changed(paths(&["password"]))
    );
    let none = target.write(&[]).unwrap();
    assert_eq!(
        none,
        WriteOutcome::Changed(paths(&["db/a/user", "gone", "password"]))
    );
    assert_eq!(read(&directory, "password"), None);
}

/// Attack: an author changes the templates of 256 items, so that the number of files whose contents change is a byte of
/// a value, and reads the log of the agent.
#[test]
fn the_outcome_does_not_reveal_how_many_contents_changed() {
    let render = |version: &str, changed: usize| {
        let files = (0..256).map(|index| {
            let value = if index < changed { "1" } else { "0" };
            let mut file = file(&format!("t{index:03}"), value);
            file.version = version.into();
            file
        });
        files.collect::<Vec<_>>()
    };
    let outcomes = [0, 1, 90, 256].map(|changed| {
        let directory = tempfile::tempdir().unwrap();
        let mut target = target(&directory);
        target.write(&render("before", 0)).unwrap();
        let outcome = target.write(&render("after", changed)).unwrap();
        let last = read(&directory, "t255").unwrap();
        assert_eq!(last, if changed == 256 { "1" } else { "0" });
        outcome
    });
    for outcome in &outcomes {
        assert_eq!(*outcome, outcomes[0]);
    }
}

/// Attack: an author seals a guess in place of a value. The log of the agent, or the run of a command after a change,
/// would show that the guess is right: the content does not change.
#[test]
fn the_outcome_does_not_confirm_a_sealed_guess() {
    let sealed = |value: &str, version: &str| {
        let mut file = file("password", value);
        file.version = version.into();
        [file]
    };
    for guess in ["Zk3q", "wrong"] {
        let directory = tempfile::tempdir().unwrap();
        let mut running = target(&directory);
        running.write(&sealed("Zk3q", "v1")).unwrap();
        let outcome = running.write(&sealed(guess, "v2")).unwrap();
        let changed = WriteOutcome::Changed(paths(&["password"]));
        assert_eq!(outcome, changed, "{guess}");
        drop(running);
        // The agent starts again, and does not know the versions in the directory.
        for version in ["v2", "v3"] {
            let outcome = target(&directory).write(&sealed(guess, version)).unwrap();
            assert_eq!(outcome, changed, "{guess} {version}");
        }
    }
}

/// Attack: an author lets a template render a large file that depends on a value, so that the error names the file for
/// which no space is left.
#[test]
fn an_error_does_not_name_the_file_that_cannot_be_written() {
    let mut messages = BTreeSet::new();
    // From the second step on, files and links are created.
    for steps in 1..12 {
        let directory = tempfile::tempdir().unwrap();
        let mut target = target(&directory);
        STEPS_LEFT.set(Some(steps));
        let result = target.write(&old_files());
        STEPS_LEFT.set(None);
        if let Err(error) = result {
            let text = crate::poll::error_chain(&error);
            messages.insert(text.replace(&directory.path().display().to_string(), ""));
        }
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(
        messages
            .iter()
            .all(|text| text.starts_with("cannot write files to : ")),
        "{messages:?}"
    );
}

/// Fault: another program edits a file in the directory. The restored files do not count as changed.
#[test]
fn restores_files_that_another_program_changed() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = target(&directory);
    target.write(&old_files()).unwrap();
    let version = directory
        .path()
        .join(fs::read_link(directory.path().join(DATA)).unwrap());
    fs::remove_file(version.join("gone")).unwrap();
    fs::write(version.join("added"), "x").unwrap();
    assert_eq!(target.write(&old_files()).unwrap(), WriteOutcome::Unchanged);
    assert_eq!(read(&directory, "gone").as_deref(), Some("old"));
    assert_eq!(read(&directory, "..data/added"), None);
    fs::remove_file(directory.path().join("password")).unwrap();
    assert_eq!(target.write(&old_files()).unwrap(), WriteOutcome::Unchanged);
    assert_eq!(read(&directory, "password").as_deref(), Some("old"));
}

#[test]
fn files_have_their_mode_and_owner() {
    let directory = tempfile::tempdir().unwrap();
    let own = fs::metadata(directory.path()).unwrap();
    let owner = Owner {
        user: own.uid(),
        group: own.gid(),
    };
    let mut target = Target::open(directory.path(), Some(owner)).unwrap();
    let files = [with_mode("a/b", "x", "0440"), with_mode("run", "x", "0711")];
    target.write(&files).unwrap();
    let mode = |path: &str| {
        fs::metadata(directory.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode("a/b"), mode("run"), mode("a"), mode(DATA)),
        (0o440, 0o711, 0o755, 0o755)
    );
    assert_eq!(target.write(&files).unwrap(), WriteOutcome::Unchanged);
}

/// The kubelet sets the group `fsGroup` and the set-group-ID bit on the root of a volume. The application may have only
/// that group.
#[test]
fn files_get_the_group_of_a_volume_with_the_set_group_id_bit() {
    const GROUP: u32 = 23456;
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can set another group on a directory");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), None, Some(GROUP)).unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o2775)).unwrap();
    let mut target = Target::open(directory.path(), None).unwrap();
    let files = |value| {
        [
            with_mode("a/b", value, "0440"),
            with_mode("c", value, "0440"),
        ]
    };
    for value in ["first", "second"] {
        target.write(&files(value)).unwrap();
        for path in ["a", "a/b", "c", DATA] {
            let metadata = fs::metadata(directory.path().join(path)).unwrap();
            assert_eq!(metadata.gid(), GROUP, "{path}, {value}");
        }
    }
}

#[test]
fn sets_a_different_owner_or_names_the_missing_capability() {
    let directory = tempfile::tempdir().unwrap();
    let owner: Owner = "12345:23456".parse().unwrap();
    let result = Target::open(directory.path(), Some(owner))
        .unwrap()
        .write(&old_files());
    if rustix::process::geteuid().is_root() {
        let metadata = fs::metadata(directory.path().join("password")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 23456));
    } else {
        assert!(result.unwrap_err().to_string().contains("CHOWN"));
        assert!(!Target::is_complete(directory.path()).unwrap());
    }
    for text in ["", "1", "1:", ":1", "a:b", "-1:0", "1:2:3"] {
        assert_eq!(text.parse::<Owner>(), Err(MalformedOwner), "{text}");
    }
}

/// Runs `write` once for each of its steps, killed before that step, and `check` after each run.
fn kill_at_each_step(
    write: impl Fn(&TempDir) -> Result<(), TargetError>,
    check: impl Fn(&TempDir),
) {
    for steps in 0..1000 {
        let directory = tempfile::tempdir().unwrap();
        target(&directory).write(&old_files()).unwrap();
        STEPS_LEFT.set(Some(steps));
        let result = write(&directory);
        STEPS_LEFT.set(None);
        check(&directory);
        if result.is_ok() {
            assert!(steps > 10, "only {steps} steps");
            return;
        }
    }
    panic!("the write never ended");
}

/// Fault: the agent is killed at any time.
#[test]
fn a_kill_at_any_step_leaves_all_old_or_all_new_files_and_no_leftovers() {
    let write = |directory: &TempDir| {
        let mut target = Target::open(directory.path(), None)?;
        target.write(&new_files())?;
        target.clean_up()
    };
    kill_at_each_step(write, |directory| {
        let contents = ["password", "db/a/user"].map(|path| read(directory, path).unwrap());
        assert!(
            contents == ["old", "old"] || contents == ["new", "new"],
            "{contents:?}"
        );
        let is_new = contents[0] == "new";
        if is_new {
            assert_eq!(read(directory, "more/x").as_deref(), Some("new"));
        } else {
            assert_eq!(read(directory, "gone").as_deref(), Some("old"));
            assert_eq!(read(directory, "more/x"), None);
        }
        assert_eq!(
            read(directory, if is_new { "gone" } else { "more/x" }),
            None
        );
        assert!(Target::is_complete(directory.path()).unwrap());
        // The agent starts again.
        let mut target = target(directory);
        let rest = ["..data", "..seal_", "db"];
        assert_eq!(names(directory)[..3], rest);
        assert_eq!(names(directory).len(), 5, "{:?}", names(directory));
        target.write(&new_files()).unwrap();
        target.clean_up().unwrap();
        assert_eq!(read(directory, "more/x").as_deref(), Some("new"));
        assert_eq!(
            names(directory),
            ["..data", "..seal_", "db", "more", "password"]
        );
    });
}

/// Fault: the agent is killed while it writes the first files.
#[test]
fn a_kill_before_the_first_files_are_complete_leaves_the_directory_not_ready() {
    for steps in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let mut target = target(&directory);
        STEPS_LEFT.set(Some(steps));
        let result = target.write(&new_files());
        STEPS_LEFT.set(None);
        let is_complete = Target::is_complete(directory.path()).unwrap();
        assert_eq!(
            is_complete,
            read(&directory, "password").is_some(),
            "{steps}"
        );
        drop(target);
        let mut next = Target::open(directory.path(), None).unwrap();
        assert!(next.write(&new_files()).is_ok(), "{steps}");
        if result.is_ok() {
            return;
        }
    }
}

/// Attack: a container that shares the volume puts links in place of the files, so that the agent writes to another
/// directory.
#[test]
fn never_writes_through_a_link_in_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "kept").unwrap();
    for (name, is_refused) in [("password", true), ("db", true), ("other", false)] {
        let directory = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join(name)).unwrap();
        let result = target(&directory).write(&old_files());
        assert_eq!(result.is_err(), is_refused, "{name}: {result:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{name}");
    }
    for name in [DATA, NEXT_DATA] {
        let directory = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join(name)).unwrap();
        let error = Target::open(directory.path(), None).unwrap_err();
        assert!(matches!(error, TargetError::Managed(_)), "{name}: {error}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{name}");
    }
}

/// Attack: a container that shares the volume replaces a version, or a directory in it, with a link, so that the agent
/// removes or overwrites files elsewhere.
#[test]
fn a_version_that_became_a_link_is_neither_followed_nor_emptied() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("a")).unwrap();
    fs::write(outside.path().join("a/user"), "kept").unwrap();
    let kept = || fs::read_to_string(outside.path().join("a/user")).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let mut target = target(&directory);
    target.write(&old_files()).unwrap();
    let version = directory
        .path()
        .join(fs::read_link(directory.path().join(DATA)).unwrap());
    fs::remove_dir_all(version.join("db")).unwrap();
    symlink(outside.path(), version.join("db")).unwrap();
    target.write(&new_files()).unwrap();
    target.clean_up().unwrap();
    assert_eq!(kept(), "kept");
    assert_eq!(read(&directory, "db/a/user").as_deref(), Some("new"));

    let version = directory
        .path()
        .join(fs::read_link(directory.path().join(DATA)).unwrap());
    fs::remove_dir_all(&version).unwrap();
    symlink(outside.path(), &version).unwrap();
    assert!(!Target::is_complete(directory.path()).unwrap());
    let _ = target.write(&old_files());
    assert_eq!(kept(), "kept");
}

/// Attack: a container that shares the volume puts a pipe in place of a file, so that the agent waits forever.
#[test]
fn a_pipe_in_the_directory_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = target(&directory);
    target.write(&old_files()).unwrap();
    let version = directory
        .path()
        .join(fs::read_link(directory.path().join(DATA)).unwrap());
    fs::remove_file(version.join("password")).unwrap();
    let path = version.join("password");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(target.write(&old_files()).unwrap(), WriteOutcome::Unchanged);
    assert_eq!(read(&directory, "password").as_deref(), Some("old"));
    target.clean_up().unwrap();
}

#[test]
fn files_of_other_programs_stay() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("other"), "x").unwrap();
    fs::create_dir(directory.path().join("..2026_01_01")).unwrap();
    let mut target = target(&directory);
    target.write(&old_files()).unwrap();
    let error = target.write(&[file("other", "x")]).unwrap_err();
    assert!(matches!(error, TargetError::Exists(_)), "{error}");
    assert_eq!(read(&directory, "password").as_deref(), Some("old"));
    assert_eq!(read(&directory, "other").as_deref(), Some("x"));
    assert!(directory.path().join("..2026_01_01").exists());
}

#[test]
fn two_agents_do_not_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = target(&directory);
    let error = Target::open(directory.path(), None).unwrap_err();
    assert!(matches!(error, TargetError::Locked(_)), "{error}");
    drop(first);
    target(&directory);
}

#[test]
fn a_single_file_is_replaced_with_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    for content in ["a='1'\n", "b='2'\n"] {
        fs::write(directory.path().join("..env_next"), "left by a kill").unwrap();
        replace_file(&path, content.as_bytes(), 0o400, None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o400
        );
        assert_eq!(names(&directory), ["env"]);
    }
    for path in ["/", "..", "/no/directory/env"] {
        assert!(
            replace_file(Path::new(path), b"", 0o400, None).is_err(),
            "{path}"
        );
    }
}

/// Fault: the path of the file is a directory, or its owner cannot be changed, after the values were written to a
/// temporary file.
#[test]
fn a_file_that_cannot_be_replaced_leaves_no_temporary_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    fs::create_dir(&path).unwrap();
    let error = replace_file(&path, b"a='1'\n", 0o400, None).unwrap_err();
    assert!(error.to_string().starts_with("cannot replace"), "{error}");
    assert_eq!(names(&directory), ["env"]);

    if !rustix::process::geteuid().is_root() {
        let owner = Some(Owner { user: 0, group: 0 });
        let error = replace_file(&path, b"a='1'\n", 0o400, owner).unwrap_err();
        assert!(matches!(error, TargetError::Owner { .. }), "{error}");
        assert_eq!(names(&directory), ["env"]);
    }
}
