use std::os::unix::fs::symlink;

use super::*;

fn in_one_hour() -> Timestamp {
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
fn lists_all_manifests_except_hidden_files() {
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
    let root = Directory::open(dir.path()).unwrap();
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
fn a_link_is_followed_once_and_only_inside_the_root() {
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
    let root = Directory::open(&dir).unwrap();
    let listing = list(&root, "top", Depth::Deep).unwrap();
    assert_eq!(paths(&listing), ["top/linked/y.yaml", "top/sub/x.yaml"]);
    let problems: Vec<_> = listing
        .problems
        .keys()
        .map(|p| p.to_str().unwrap())
        .collect();
    assert_eq!(problems, ["top/dangling", "top/everything", "top/out.yaml"]);
}

/// Parses any string except `bad`.
fn parse_text(_: &Path, bytes: &[u8]) -> Result<String, String> {
    match String::from_utf8_lossy(bytes).into_owned() {
        text if text == "bad" => Err("it is bad".into()),
        text => Ok(text),
    }
}

struct Case {
    dir: tempfile::TempDir,
    root: Directory,
    polled: PolledFiles<String>,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("top")).unwrap();
        let root = Directory::open(dir.path()).unwrap();
        let polled = PolledFiles::default();
        Self { dir, root, polled }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("top/x.yaml"), text).unwrap();
    }

    fn scan(&mut self, now: Timestamp) -> PollResult {
        let listing = list(&self.root, "top", Depth::Deep).unwrap();
        self.polled.scan(&self.root, &listing, now, parse_text)
    }

    fn file(&self) -> (Option<&str>, Option<&str>) {
        let file = &self.polled.files()[Path::new("top/x.yaml")];
        (file.value.as_deref(), file.problem.as_deref())
    }
}

const UNCHANGED: PollResult = PollResult {
    changed: false,
    settled: true,
};
const CHANGED: PollResult = PollResult {
    changed: true,
    settled: true,
};

#[test]
fn parses_only_changed_files() {
    let mut case = Case::new();
    assert_eq!(case.scan(in_one_hour()), UNCHANGED);
    case.write("one");
    assert_eq!(case.scan(in_one_hour()), CHANGED);
    let count = std::cell::Cell::new(0);
    let listing = list(&case.root, "top", Depth::Deep).unwrap();
    case.polled
        .scan(&case.root, &listing, in_one_hour(), |path, bytes| {
            count.set(count.get() + 1);
            parse_text(path, bytes)
        });
    assert_eq!(count.get(), 0);
    case.write("two");
    assert_eq!(case.scan(in_one_hour()), CHANGED);
    assert_eq!(case.file(), (Some("two"), None));
    std::fs::remove_file(case.dir.path().join("top/x.yaml")).unwrap();
    assert_eq!(case.scan(in_one_hour()), CHANGED);
    assert!(case.polled.files().is_empty());
}

#[test]
fn rewriting_the_same_content_is_not_a_change() {
    let mut case = Case::new();
    case.write("one");
    case.scan(in_one_hour());
    case.write("one");
    assert_eq!(case.scan(in_one_hour()), UNCHANGED);
}

#[test]
fn an_unparsable_file_keeps_its_last_value_and_reports_the_problem() {
    let mut case = Case::new();
    case.write("good");
    case.scan(in_one_hour());
    case.write("bad");
    assert_eq!(case.scan(in_one_hour()), CHANGED);
    assert_eq!(case.file(), (Some("good"), Some("it is bad")));
    assert_eq!(case.scan(in_one_hour()), UNCHANGED);
    case.write("good");
    assert_eq!(case.scan(in_one_hour()), CHANGED);
    assert_eq!(case.file(), (Some("good"), None));
}

#[test]
fn a_recently_changed_file_waits_and_is_compared_again() {
    let mut case = Case::new();
    case.write("one");
    let now = Timestamp::now();
    let unsettled = PollResult {
        changed: false,
        settled: false,
    };
    assert_eq!(case.scan(now), unsettled);
    assert_eq!(case.scan(now + SignedDuration::from_secs(1)), CHANGED);
    assert!(case.polled.files()[Path::new("top/x.yaml")].stamp.is_none());
    assert_eq!(case.scan(now + SignedDuration::from_secs(9)), UNCHANGED);
    assert!(case.polled.files()[Path::new("top/x.yaml")].stamp.is_some());
}

#[test]
fn files_below_an_unreadable_directory_are_kept() {
    let mut case = Case::new();
    case.write("one");
    case.scan(in_one_hour());
    let mut listing = Listing::default();
    listing.problems.insert("top".into(), "no".into());
    assert_eq!(
        case.polled
            .scan(&case.root, &listing, in_one_hour(), parse_text),
        UNCHANGED
    );
    assert_eq!(case.file().0, Some("one"));
}
