use super::super::manifest_file;
use super::*;
use crate::testing::id;

fn manifest(name: &str, value: &str) -> String {
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{encryptedData: {{a: {value}}}}}\n---\n"
    )
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

/// A catalog, with files in memory.
#[derive(Default)]
struct Case {
    files: BTreeMap<PathBuf, PolledFile<ManifestFile>>,
    catalog: Catalog,
}

impl Case {
    /// Adds or replaces a file like the poller: a file that cannot be parsed keeps its previous value.
    fn write_file(&mut self, path: &str, text: &str) {
        let file = self.files.entry(path.into()).or_default();
        match manifest_file::read(text.as_bytes()) {
            Ok(content) => (file.value, file.problem) = (Some(content), None),
            Err(problem) => file.problem = Some(problem),
        }
    }

    /// Processes a scan and returns the names of the objects to reconcile.
    fn scan(&mut self, is_clean: bool, milliseconds: i64) -> Vec<String> {
        let ids = self
            .catalog
            .process_scan(&self.files, is_clean, timestamp(milliseconds));
        ids.into_iter().map(|id| id.name).collect()
    }

    /// Returns the reason why an object is malformed; empty if it is valid.
    fn problem(&self, name: &str) -> &str {
        match &self.catalog.entry(&id(name)).unwrap().source {
            Source::Malformed(problem) => problem,
            _ => "",
        }
    }
}

#[test]
fn returns_each_changed_object_once() {
    let mut case = Case::default();
    case.write_file(
        "a.yaml",
        &(manifest("web", "QQ==") + &manifest("db", "QQ==")),
    );
    assert_eq!(case.scan(true, 0), ["db", "web"]);
    assert_eq!(case.scan(true, 1), [""; 0]);
    case.write_file(
        "a.yaml",
        &(manifest("web", "QQ==") + &manifest("db", "Qg==")),
    );
    assert_eq!(case.scan(true, 2), ["db"]);
}

#[test]
fn an_object_is_deleted_after_two_clean_scans_two_seconds_apart() {
    let mut case = Case::default();
    case.write_file("a.yaml", &manifest("web", "QQ=="));
    case.scan(true, 0);
    case.files.clear();
    for (case_name, is_clean, time, is_deleted) in [
        ("first scan without the object", true, 1_000, false),
        ("second scan, too early", true, 2_999, false),
        ("a scan with errors resets the time", false, 3_000, false),
        ("first scan again", true, 3_100, false),
        ("too early again", true, 5_099, false),
        ("two seconds later", true, 5_100, true),
        ("reported only once", true, 9_000, false),
    ] {
        let want: &[&str] = if is_deleted { &["web"] } else { &[] };
        assert_eq!(case.scan(is_clean, time), want, "{case_name}");
        assert_eq!(
            case.catalog.entry(&id("web")).is_none(),
            time >= 5_100,
            "{case_name}"
        );
    }
}

#[test]
fn an_object_that_reappears_or_moves_is_not_deleted() {
    let mut case = Case::default();
    case.write_file("a.yaml", &manifest("web", "QQ=="));
    case.scan(true, 0);
    case.files.clear();
    case.scan(true, 1_000);
    case.write_file("b.yaml", &manifest("web", "QQ=="));
    assert_eq!(case.scan(true, 2_000), ["web"]);
    case.files.clear();
    assert_eq!(case.scan(true, 3_500), [""; 0]);
    assert_eq!(case.scan(true, 5_500), ["web"]);
}

#[test]
fn a_failed_scan_resets_the_time_of_missing_objects() {
    let mut case = Case::default();
    case.catalog.remember(id("web"), None);
    case.scan(true, 0);
    case.catalog.record_failed_scan();
    assert_eq!(case.scan(true, 9_000), [""; 0]);
    assert_eq!(case.scan(true, 11_000), ["web"]);
}

#[test]
fn two_definitions_of_an_object_are_an_error_that_names_both_files() {
    let mut case = Case::default();
    case.write_file("a.yaml", &manifest("web", "QQ=="));
    case.scan(true, 0);
    case.write_file("b.yaml", &manifest("web", "Qg=="));
    assert_eq!(case.scan(true, 1), ["web"]);
    assert_eq!(
        case.problem("web"),
        "both a.yaml and b.yaml contain ns/web; remove one of the two"
    );
    case.files.remove(Path::new("a.yaml"));
    assert_eq!(case.scan(true, 2), ["web"]);
    assert_eq!(case.problem("web"), "");
    case.write_file(
        "b.yaml",
        &(manifest("web", "Qg==") + &manifest("web", "Qg==")),
    );
    case.scan(true, 3);
    assert_eq!(
        case.problem("web"),
        "b.yaml contains ns/web twice; remove one of the two"
    );
}

#[test]
fn an_unparsable_file_keeps_its_previous_objects() {
    for (case_name, text) in [
        ("invalid YAML", "a: [".to_owned()),
        (
            "namespace removed",
            manifest("web", "QQ==").replace(", namespace: ns", ""),
        ),
        ("document without kind", "a: b".to_owned()),
    ] {
        let mut case = Case::default();
        case.write_file("a.yaml", &manifest("web", "QQ=="));
        case.scan(true, 0);
        case.write_file("a.yaml", &text);
        let changed = case.scan(false, 1);
        assert!(
            changed.contains(&"web".to_owned()),
            "{case_name}: {changed:?}"
        );
        assert!(
            case.problem("web").starts_with("a.yaml: document"),
            "{case_name}: {}",
            case.problem("web")
        );
        assert_eq!(case.scan(false, 9_000), [""; 0], "{case_name}");
        case.write_file("a.yaml", &manifest("web", "QQ=="));
        assert_eq!(case.scan(true, 9_001), ["web"], "{case_name}");
        assert_eq!(case.problem("web"), "", "{case_name}");
    }
}

#[test]
fn an_unparsable_file_keeps_the_objects_of_an_earlier_process() {
    let mut case = Case::default();
    case.catalog.remember(id("web"), Some("a.yaml".into()));
    case.scan(false, 0);
    case.write_file("a.yaml", "a: [");
    assert_eq!(case.scan(false, 1), ["web"]);
    assert!(case.problem("web").contains("malformed YAML"));
}

#[test]
fn an_object_that_moved_out_of_an_unparsable_file_is_read_from_its_new_file() {
    let mut case = Case::default();
    case.write_file("a.yaml", &manifest("web", "QQ=="));
    case.scan(true, 0);
    case.write_file("a.yaml", "a: [");
    case.write_file("b.yaml", &manifest("web", "QQ=="));
    assert_eq!(case.scan(false, 1), ["web"]);
    assert_eq!(case.problem("web"), "");
}
