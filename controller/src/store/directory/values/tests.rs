use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Plain> {
    let to_owned_pair = |(k, v): &(&str, &str)| ((*k).to_owned(), Plain::from((*v).to_owned()));
    pairs.iter().map(to_owned_pair).collect()
}

fn list(dir: &Path) -> Values {
    Values::list(Directory::open(dir).unwrap()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn writes_replaces_and_removes_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    assert_eq!(list(path).owner(), Owner::None);
    list(path)
        .write(&values(&[("a", "1"), ("b", "2")]), None, 1)
        .unwrap();
    assert_eq!(std::fs::read(path.join("a")).unwrap(), b"1");
    assert_eq!(list(path).owner(), Owner::Controller);
    assert_eq!(
        list(path).read().unwrap(),
        values(&[("a", "1"), ("b", "2")])
    );

    list(path)
        .write(&values(&[("b", "3"), ("c", "")]), None, 2)
        .unwrap();
    let names_of_both_versions = [
        "..data",
        "..v0000000000000001",
        "..v0000000000000002",
        "b",
        "c",
    ];
    assert_eq!(names(path), names_of_both_versions);
    assert!(list(path).has_leftovers().unwrap());
    list(path).clean_up().unwrap();
    assert_eq!(names(path), ["..data", "..v0000000000000002", "b", "c"]);
    assert!(!list(path).has_leftovers().unwrap());
    assert_eq!(list(path).read().unwrap(), values(&[("b", "3"), ("c", "")]));
    let mode = |name: &str| {
        std::fs::metadata(path.join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!((mode("b") & 0o777, mode("..data") & 0o777), (0o600, 0o700));

    list(path).remove().unwrap();
    assert_eq!(names(path), [""; 0]);
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    list(path).write(&values(&[("a", "1")]), None, 1).unwrap();
    let version = path.join("..v00000000000000ff");
    std::fs::create_dir(&version).unwrap();
    std::fs::write(version.join("a"), "half").unwrap();
    symlink("..v00000000000000ff", path.join("..data_next")).unwrap();
    symlink("..data/new", path.join("new")).unwrap();
    assert_eq!(list(path).read().unwrap(), values(&[("a", "1")]));
    list(path).clean_up().unwrap();
    assert_eq!(names(path), ["..data", "..v0000000000000001", "a"]);
    assert_eq!(std::fs::read(path.join("a")).unwrap(), b"1");
}

#[test]
fn a_value_without_a_working_link_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    list(path)
        .write(&values(&[("a", "1"), ("b", "2")]), None, 1)
        .unwrap();
    std::fs::remove_file(path.join("a")).unwrap();
    assert_eq!(list(path).read().unwrap(), values(&[("b", "2")]));
    list(path)
        .write(&values(&[("a", "1"), ("b", "2")]), None, 2)
        .unwrap();
    assert_eq!(list(path).read().unwrap().len(), 2);
    std::fs::remove_dir_all(path.join("..v0000000000000002")).unwrap();
    assert_eq!(list(path).read().unwrap(), values(&[]));
}

#[test]
fn a_directory_with_files_of_other_programs_is_not_owned() {
    for (case_name, name, target) in [
        ("a regular file", "a", None),
        ("a file with a hidden name", "..note", None),
        ("a link to another file", "a", Some("/etc/passwd")),
        ("a kubelet's volume", "..data", Some("..2026_01_01")),
        (
            "a symbolic link that leads out of the directory",
            "..data",
            Some("../..v0000000000000001"),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        match target {
            None => std::fs::write(dir.path().join(name), "unrelated").unwrap(),
            Some(target) => symlink(target, dir.path().join(name)).unwrap(),
        }
        assert_eq!(list(dir.path()).owner(), Owner::Other, "{case_name}");
    }
}

#[test]
fn files_of_other_programs_are_neither_overwritten_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    list(path).write(&values(&[("a", "1")]), None, 1).unwrap();
    std::fs::write(path.join("unrelated"), "unrelated").unwrap();
    assert_eq!(list(path).owner(), Owner::Controller);
    let error = list(path)
        .write(&values(&[("a", "2"), ("unrelated", "x")]), None, 2)
        .unwrap_err();
    assert!(
        error.to_string().contains("unrelated already exists"),
        "{error}"
    );
    assert_eq!(list(path).read().unwrap(), values(&[("a", "1")]));
    list(path).write(&values(&[("a", "2")]), None, 3).unwrap();
    list(path).remove().unwrap();
    assert_eq!(names(path), ["unrelated"]);
}
