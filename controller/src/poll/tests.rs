use std::os::unix::fs::symlink;

use super::*;

fn later() -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(1)
}

fn paths(listing: &Listing) -> Vec<&str> {
    listing
        .files
        .keys()
        .map(|path| path.to_str().unwrap())
        .collect()
}

#[test]
fn lists_manifests_and_leaves_hidden_names_out() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    std::fs::create_dir_all(top.join("a/b")).unwrap();
    std::fs::create_dir_all(top.join(".git")).unwrap();
    for name in [
        "x.yaml",
        "a/y.yml",
        "a/b/z.json",
        "a/n.txt",
        ".h.yaml",
        ".git/g.yaml",
    ] {
        std::fs::write(top.join(name), "").unwrap();
    }
    let root = Folder::open(dir.path()).unwrap();
    let deep = list(&root, "top", Depth::Deep).unwrap();
    assert_eq!(
        paths(&deep),
        ["top/a/b/z.json", "top/a/y.yml", "top/x.yaml"]
    );
    assert_eq!(
        paths(&list(&root, "top", Depth::Flat).unwrap()),
        ["top/x.yaml"]
    );
    assert!(
        list(&root, "missing", Depth::Deep)
            .unwrap_err()
            .is_missing()
    );
}

#[test]
fn a_link_counts_once_and_only_inside() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("dir");
    std::fs::create_dir_all(dir.join("top/sub")).unwrap();
    std::fs::create_dir_all(dir.join("elsewhere")).unwrap();
    std::fs::write(dir.join("top/sub/x.yaml"), "").unwrap();
    std::fs::write(dir.join("elsewhere/y.yaml"), "").unwrap();
    std::fs::write(outer.path().join("out.yaml"), "").unwrap();
    for (target, name) in [
        ("sub/x.yaml", "top/again.yaml"),
        ("../elsewhere", "top/linked"),
        (".", "top/loop"),
        ("../../out.yaml", "top/out.yaml"),
        ("../..", "top/everything"),
        ("nothing", "top/dangling"),
    ] {
        symlink(target, dir.join(name)).unwrap();
    }
    let root = Folder::open(&dir).unwrap();
    let listing = list(&root, "top", Depth::Deep).unwrap();
    assert_eq!(paths(&listing), ["top/linked/y.yaml", "top/sub/x.yaml"]);
    let problems: Vec<_> = listing
        .problems
        .keys()
        .map(|p| p.to_str().unwrap())
        .collect();
    assert_eq!(problems, ["top/dangling", "top/everything", "top/out.yaml"]);
}

/// Parses any text except `bad`.
fn text(_: &Path, bytes: &[u8]) -> Result<String, String> {
    match String::from_utf8_lossy(bytes).into_owned() {
        text if text == "bad" => Err("it is bad".into()),
        text => Ok(text),
    }
}

struct Case {
    dir: tempfile::TempDir,
    root: Folder,
    polled: Polled<String>,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("top")).unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let polled = Polled::default();
        Self { dir, root, polled }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("top/x.yaml"), text).unwrap();
    }

    fn look(&mut self, now: Timestamp) -> Look {
        let listing = list(&self.root, "top", Depth::Deep).unwrap();
        self.polled.look(&self.root, &listing, now, text)
    }

    fn known(&self) -> (Option<&str>, Option<&str>) {
        let known = &self.polled.files()[Path::new("top/x.yaml")];
        (known.value.as_deref(), known.problem.as_deref())
    }
}

const SAME: Look = Look {
    changed: false,
    settled: true,
};
const CHANGED: Look = Look {
    changed: true,
    settled: true,
};

#[test]
fn notices_what_changed_and_parses_nothing_else() {
    let mut case = Case::new();
    assert_eq!(case.look(later()), SAME);
    case.write("one");
    assert_eq!(case.look(later()), CHANGED);
    let count = std::cell::Cell::new(0);
    let listing = list(&case.root, "top", Depth::Deep).unwrap();
    case.polled
        .look(&case.root, &listing, later(), |path, bytes| {
            count.set(count.get() + 1);
            text(path, bytes)
        });
    assert_eq!(count.get(), 0);
    case.write("two");
    assert_eq!(case.look(later()), CHANGED);
    assert_eq!(case.known(), (Some("two"), None));
    std::fs::remove_file(case.dir.path().join("top/x.yaml")).unwrap();
    assert_eq!(case.look(later()), CHANGED);
    assert!(case.polled.files().is_empty());
}

#[test]
fn the_same_content_written_again_is_no_change() {
    let mut case = Case::new();
    case.write("one");
    case.look(later());
    case.write("one");
    assert_eq!(case.look(later()), SAME);
}

#[test]
fn a_file_that_stops_parsing_keeps_its_last_value_beside_the_problem() {
    let mut case = Case::new();
    case.write("good");
    case.look(later());
    case.write("bad");
    assert_eq!(case.look(later()), CHANGED);
    assert_eq!(case.known(), (Some("good"), Some("it is bad")));
    assert_eq!(case.look(later()), SAME);
    case.write("good");
    assert_eq!(case.look(later()), CHANGED);
    assert_eq!(case.known(), (Some("good"), None));
}

#[test]
fn a_file_just_touched_waits_and_is_compared_again_until_its_time_lies_back() {
    let mut case = Case::new();
    case.write("one");
    let now = Timestamp::now();
    let waiting = Look {
        changed: false,
        settled: false,
    };
    assert_eq!(case.look(now), waiting);
    assert_eq!(case.look(now + SignedDuration::from_secs(1)), CHANGED);
    assert!(case.polled.files()[Path::new("top/x.yaml")].stamp.is_none());
    assert_eq!(case.look(now + SignedDuration::from_secs(9)), SAME);
    assert!(case.polled.files()[Path::new("top/x.yaml")].stamp.is_some());
}

#[test]
fn files_below_a_folder_that_cannot_be_listed_stay_known() {
    let mut case = Case::new();
    case.write("one");
    case.look(later());
    let mut listing = Listing::default();
    listing.problems.insert("top".into(), "no".into());
    assert_eq!(case.polled.look(&case.root, &listing, later(), text), SAME);
    assert_eq!(case.known().0, Some("one"));
}
