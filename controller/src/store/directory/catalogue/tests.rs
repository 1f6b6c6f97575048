use super::super::claims;
use super::*;
use crate::testing::id;

fn sealed(name: &str, value: &str) -> String {
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{encryptedData: {{a: {value}}}}}\n---\n"
    )
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

/// A catalogue and its files, without a disk.
#[derive(Default)]
struct Case {
    files: BTreeMap<PathBuf, Known<Claims>>,
    catalogue: Catalogue,
}

impl Case {
    /// Simulates the poller: a file that cannot be parsed keeps its last value.
    fn file(&mut self, path: &str, text: &str) {
        let known = self.files.entry(path.into()).or_default();
        match claims::read(text.as_bytes()) {
            Ok(claims) => (known.value, known.problem) = (Some(claims), None),
            Err(problem) => known.problem = Some(problem),
        }
    }

    fn take(&mut self, clean: bool, milliseconds: i64) -> Vec<String> {
        let ids = self.catalogue.take(&self.files, clean, at(milliseconds));
        ids.into_iter().map(|id| id.name).collect()
    }

    fn why(&self, name: &str) -> &str {
        match &self.catalogue.entry(&id(name)).unwrap().source {
            Source::Malformed(why) => why,
            _ => "",
        }
    }
}

#[test]
fn gives_each_object_once_when_it_changes() {
    let mut case = Case::default();
    case.file("a.yaml", &(sealed("web", "QQ==") + &sealed("db", "QQ==")));
    assert_eq!(case.take(true, 0), ["db", "web"]);
    assert_eq!(case.take(true, 1), [""; 0]);
    case.file("a.yaml", &(sealed("web", "QQ==") + &sealed("db", "Qg==")));
    assert_eq!(case.take(true, 2), ["db"]);
}

#[test]
fn an_object_is_gone_after_two_clean_scans_two_seconds_apart() {
    let mut case = Case::default();
    case.file("a.yaml", &sealed("web", "QQ=="));
    case.take(true, 0);
    case.files.clear();
    for (why, clean, time, gone) in [
        ("the first scan without it", true, 1_000, false),
        ("a second one, too early", true, 2_999, false),
        ("one with errors voids the agreement", false, 3_000, false),
        ("so this is the first again", true, 3_100, false),
        ("too early again", true, 5_099, false),
        ("two seconds later", true, 5_100, true),
        ("and it is said once", true, 9_000, false),
    ] {
        let want: &[&str] = if gone { &["web"] } else { &[] };
        assert_eq!(case.take(clean, time), want, "{why}");
        assert_eq!(
            case.catalogue.entry(&id("web")).is_none(),
            time >= 5_100,
            "{why}"
        );
    }
}

#[test]
fn an_object_that_comes_back_or_moves_to_another_file_is_not_gone() {
    let mut case = Case::default();
    case.file("a.yaml", &sealed("web", "QQ=="));
    case.take(true, 0);
    case.files.clear();
    case.take(true, 1_000);
    case.file("b.yaml", &sealed("web", "QQ=="));
    assert_eq!(case.take(true, 2_000), ["web"]);
    case.files.clear();
    assert_eq!(case.take(true, 3_500), [""; 0]);
    assert_eq!(case.take(true, 5_500), ["web"]);
}

#[test]
fn a_scan_that_was_not_possible_voids_the_agreement() {
    let mut case = Case::default();
    case.catalogue.remember(id("web"), None);
    case.take(true, 0);
    case.catalogue.take_nothing();
    assert_eq!(case.take(true, 9_000), [""; 0]);
    assert_eq!(case.take(true, 11_000), ["web"]);
}

#[test]
fn two_files_with_one_identity_are_both_refused_by_name() {
    let mut case = Case::default();
    case.file("a.yaml", &sealed("web", "QQ=="));
    case.take(true, 0);
    case.file("b.yaml", &sealed("web", "Qg=="));
    assert_eq!(case.take(true, 1), ["web"]);
    assert_eq!(
        case.why("web"),
        "both a.yaml and b.yaml hold ns/web; keep one of the two"
    );
    case.files.remove(Path::new("a.yaml"));
    assert_eq!(case.take(true, 2), ["web"]);
    assert_eq!(case.why("web"), "");
    case.file("b.yaml", &(sealed("web", "Qg==") + &sealed("web", "Qg==")));
    case.take(true, 3);
    assert_eq!(
        case.why("web"),
        "b.yaml holds ns/web twice; keep one of the two"
    );
}

#[test]
fn a_file_that_stops_parsing_speaks_for_whom_it_named_before() {
    for (why, text) in [
        ("no YAML", "a: [".to_owned()),
        (
            "no namespace any more",
            sealed("web", "QQ==").replace(", namespace: ns", ""),
        ),
        ("a document without kind", "a: b".to_owned()),
    ] {
        let mut case = Case::default();
        case.file("a.yaml", &sealed("web", "QQ=="));
        case.take(true, 0);
        case.file("a.yaml", &text);
        let changed = case.take(false, 1);
        assert!(changed.contains(&"web".to_owned()), "{why}: {changed:?}");
        assert!(
            case.why("web").starts_with("a.yaml: document"),
            "{why}: {}",
            case.why("web")
        );
        assert_eq!(case.take(false, 9_000), [""; 0], "{why}");
        case.file("a.yaml", &sealed("web", "QQ=="));
        assert_eq!(case.take(true, 9_001), ["web"], "{why}");
        assert_eq!(case.why("web"), "", "{why}");
    }
}

#[test]
fn a_file_that_an_earlier_process_understood_speaks_for_whom_it_named_then() {
    let mut case = Case::default();
    case.catalogue.remember(id("web"), Some("a.yaml".into()));
    case.take(false, 0);
    case.file("a.yaml", "a: [");
    assert_eq!(case.take(false, 1), ["web"]);
    assert!(case.why("web").contains("malformed YAML"));
}

#[test]
fn an_object_that_moved_out_of_a_broken_file_is_taken_from_its_new_place() {
    let mut case = Case::default();
    case.file("a.yaml", &sealed("web", "QQ=="));
    case.take(true, 0);
    case.file("a.yaml", "a: [");
    case.file("b.yaml", &sealed("web", "QQ=="));
    assert_eq!(case.take(false, 1), ["web"]);
    assert_eq!(case.why("web"), "");
}
