use std::os::unix::fs::symlink;

use super::*;

#[test]
fn follows_links_only_inside_the_directory() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("dir");
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    std::fs::write(dir.join("a/b/file"), "inside").unwrap();
    std::fs::write(parent.path().join("file"), "outside").unwrap();
    for (target, name) in [
        ("a/b/file", "direct"),
        ("a/b", "directory"),
        ("../dir/a/b/file", "out-and-in"),
        ("../file", "out"),
        ("a/../../file", "out-late"),
        ("/etc/hostname", "absolute"),
        ("loop", "loop"),
        ("nothing", "dangling"),
        ("..", "parent"),
    ] {
        symlink(target, dir.join(name)).unwrap();
    }
    let directory = Directory::open(&dir).unwrap();
    let read_text = |path: &str| {
        let text = directory.open_beneath(Path::new(path))?.read()?;
        Ok::<_, FileError>(String::from_utf8(text.to_vec()).unwrap())
    };
    for path in [
        "a/b/file",
        "./a/b/file",
        "direct",
        "directory/file",
        "a/../direct",
    ] {
        assert_eq!(read_text(path).unwrap(), "inside", "{path}");
    }
    for path in [
        "out",
        "out-late",
        "out-and-in",
        "absolute",
        "loop",
        "dangling",
        "parent/file",
    ] {
        assert!(
            matches!(read_text(path), Err(FileError::Link { .. })),
            "{path}: {:?}",
            read_text(path)
        );
    }
    assert!(read_text("nothing").unwrap_err().is_missing());
    assert!(matches!(
        read_text("a/b"),
        Err(FileError::NotRegular { .. })
    ));
    assert!(matches!(
        directory.child("directory"),
        Err(FileError::Link { .. })
    ));
    assert!(matches!(
        directory.open_file("direct"),
        Err(FileError::Link { .. })
    ));
}

#[test]
fn refuses_a_fifo_without_blocking() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        FileType::Fifo,
        FILE_MODE,
        0,
    )
    .unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let result = directory.open_file("fifo").unwrap().read();
    assert!(matches!(result, Err(FileError::NotRegular { .. })));
}

#[test]
fn refuses_a_file_that_is_too_large_without_reading_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("big")).unwrap();
    file.set_len(MAX_FILE + 1).unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let result = directory.open_file("big").unwrap().read();
    assert!(matches!(result, Err(FileError::TooLarge { .. })));
}

#[test]
fn writes_with_owner_permissions_and_replaces_atomically() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path())
        .unwrap()
        .child_or_new("new")
        .unwrap();
    directory.replace("file", b"one").unwrap();
    let leftover = dir.path().join("new/.unfinished-0123456789abcdef");
    std::fs::write(leftover, "left by a crash").unwrap();
    directory.remove_leftovers().unwrap();
    directory.replace("file", b"two").unwrap();
    let path = dir.path().join("new/file");
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&dir.path().join("new"))), (0o600, 0o700));
    assert_eq!(directory.entries().unwrap().len(), 1);
}

#[test]
fn only_one_process_holds_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let first = directory.lock("lock").unwrap();
    assert!(first.is_some());
    assert!(directory.lock("lock").unwrap().is_none());
    drop(first);
    assert!(directory.lock("lock").unwrap().is_some());
}
