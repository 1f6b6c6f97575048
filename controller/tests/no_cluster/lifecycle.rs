//! Tests the lifecycle of a SealedSecret in a directory, from the file to its values and their removal.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;

use controller::directory::DirectoryController;
use controller::metrics::Metrics;
use jiff::SignedDuration;

use crate::support::{Case, KEYS, key_manifest, manifest_of, sealed};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

#[tokio::test]
async fn a_new_sealed_secret_is_written_to_files() {
    let mut case = Case::new().await;
    case.seal(
        "sealed/deep/down/x.yml",
        "ns/n",
        &[("user", "me"), ("pass", "")],
    );
    case.tick().await;
    assert_eq!(case.value("ns/n/user").as_deref(), Some("me"));
    assert_eq!(case.value("ns/n/pass").as_deref(), Some(""));
    assert!(case.is_synced("ns/n"));
    let mode = |path: &str| {
        let metadata = std::fs::metadata(case.dir.join(path)).unwrap();
        format!("{:o}", metadata.permissions().mode() & 0o7777)
    };
    for (path, want) in [
        ("secrets", "700"),
        ("secrets/ns", "700"),
        ("secrets/ns/n", "700"),
        ("secrets/ns/n/..data", "700"),
        ("secrets/ns/n/user", "600"),
        ("status", "700"),
        ("status/ns", "700"),
        ("status/ns/n.yaml", "600"),
    ] {
        assert_eq!(mode(path), want, "{path}");
    }
}

#[tokio::test]
async fn the_status_file_equals_the_resource_and_names_the_key_of_each_item() {
    let mut case = Case::new().await;
    case.seal(
        "sealed/x.yaml",
        "ns/n",
        &[("a", "hunter2"), ("b", "hunter3")],
    );
    case.tick().await;
    let text = case.status_text("ns/n").unwrap();
    let fingerprint = KEYS[0].pair.fingerprint().to_string();
    for want in [
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n",
        "  name: \"n\"\n  namespace: ns\n",
        "  - key: a\n    sealedBy: ",
        "reason: Unsealed",
        &fingerprint,
    ] {
        assert!(text.contains(want), "{want:?} in {text}");
    }
    let types: Vec<_> = case
        .conditions("ns/n")
        .unwrap()
        .into_iter()
        .map(|c| c.type_)
        .collect();
    assert_eq!(types, ["Synced", "Ready"]);
    assert!(!text.contains("hunter"), "{text}");
}

#[tokio::test]
async fn an_update_adds_new_items_and_removes_old_ones() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1"), ("b", "2")]);
    case.tick().await;
    case.seal("sealed/x.yaml", "ns/n", &[("b", "3"), ("c", "4")]);
    case.tick().await;
    let values = ["a", "b", "c"].map(|item| case.value(&format!("ns/n/{item}")));
    assert_eq!(values, [None, Some("3".into()), Some("4".into())]);
    case.advance(SECOND * 2).await;
    assert_eq!(
        std::fs::read_dir(case.dir.join("secrets/ns/n"))
            .unwrap()
            .count(),
        4
    );
}

#[tokio::test]
async fn lists_documents_and_json_may_contain_several_objects() {
    let mut case = Case::new().await;
    let [x, y, z] = ["ns/x", "ns/y", "other/z"].map(|id| sealed(&KEYS[0], id, &[("a", id)]));
    case.write(
        "sealed/two.yaml",
        &format!("{}---\n{}", manifest_of(&x), manifest_of(&y)),
    );
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [z.to_document()]});
    case.write("sealed/list.json", &list.to_string());
    case.tick().await;
    for id in ["ns/x", "ns/y", "other/z"] {
        assert_eq!(case.value(&format!("{id}/a")).as_deref(), Some(id));
    }
}

#[tokio::test]
async fn a_broken_object_keeps_its_last_good_values_and_reports_the_failure() {
    let mut case = Case::new().await;
    let valid = manifest_of(&sealed(&KEYS[0], "ns/n", &[("a", "good")]));
    let other_key = manifest_of(&sealed(&KEYS[1], "ns/n", &[("a", "bad")]));
    case.write("sealed/x.yaml", &valid);
    case.tick().await;
    for (description, text, want) in [
        (
            "another key",
            other_key.as_str(),
            "no key could decrypt secret (a)",
        ),
        (
            "invalid YAML",
            "a: [",
            "sealed/x.yaml: document 1, line 2: malformed YAML",
        ),
        (
            "invalid base64",
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: 'n', namespace: ns}\nspec: {encryptedData: {a: '*'}}\n",
            "illegal base64 data at input byte 0 (a)\nhint: item a is not a sealed value: ",
        ),
        (
            "kind removed",
            "metadata: {name: n}\n",
            "sealed/x.yaml: document 1, line 1: it has no `kind`",
        ),
        (
            "another version",
            &valid.replace("v1alpha1", "v9"),
            "sealed/x.yaml: it is bitnami.com/v9",
        ),
        (
            "a template that fails",
            &valid.replace("template:\n", "template:\n    data: {t: '{{ fail .a }}'}\n"),
            "the values do not form a valid Secret: a template fails, ",
        ),
    ] {
        case.write("sealed/x.yaml", text);
        case.tick().await;
        let message = case.failure("ns/n");
        assert!(message.starts_with(want), "{description}: {message}");
        let ready = case.conditions("ns/n").unwrap().remove(1).message.unwrap();
        assert!(
            ready.ends_with("the values of the last good version stay in place"),
            "{ready}"
        );
        case.advance(SECOND * 10).await;
        assert_eq!(
            case.value("ns/n/a").as_deref(),
            Some("good"),
            "{description}"
        );
        case.write("sealed/x.yaml", &valid);
        case.tick().await;
        assert!(case.is_synced("ns/n"), "{description}");
    }
}

#[tokio::test]
async fn templates_are_rendered_and_random_values_stay() {
    let mut case = Case::new().await;
    let template = |extra: &str| {
        let valid = manifest_of(&sealed(&KEYS[0], "ns/n", &[("a", "1")]));
        let data =
            format!("template:\n    data: {{t: 'a={{{{ .a }}}}', r: '{{{{ uuidv4 }}}}'{extra}}}\n");
        valid.replace("template:\n", &data)
    };
    let first = template("");
    case.write("sealed/x.yaml", &first);
    case.tick().await;
    assert_eq!(case.value("ns/n/t").as_deref(), Some("a=1"));
    let random_value = case.value("ns/n/r").unwrap();
    assert_eq!(random_value.len(), 36);

    case.restart().await;
    case.tick().await;
    assert_eq!(
        case.value("ns/n/r").as_ref(),
        Some(&random_value),
        "after a restart"
    );
    case.write("sealed/x.yaml", "a: [");
    case.tick().await;
    case.failure("ns/n");
    case.restart().await;
    case.write("sealed/x.yaml", &first);
    case.tick().await;
    assert!(case.is_synced("ns/n"));
    assert_eq!(
        case.value("ns/n/r").as_ref(),
        Some(&random_value),
        "after a refused version"
    );
    case.write("sealed/x.yaml", &template(", u: x"));
    case.tick().await;
    assert_eq!(case.value("ns/n/u").as_deref(), Some("x"));
    assert_ne!(
        case.value("ns/n/r").as_ref(),
        Some(&random_value),
        "another version"
    );
}

#[tokio::test]
async fn transition_time_changes_only_with_the_status() {
    let mut case = Case::new().await;
    let times = |case: &Case| {
        let condition = case.conditions("ns/n").unwrap().remove(0);
        condition.last_transition_time.unwrap().0
    };
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    let first = times(&case);
    case.advance(SECOND * 5).await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "2")]);
    case.tick().await;
    assert_eq!(times(&case), first);
    case.advance(SECOND * 5).await;
    case.write("sealed/x.yaml", "a: [");
    case.tick().await;
    assert!(times(&case) > first);
}

#[tokio::test]
async fn an_object_is_recognized_by_its_status_if_its_file_is_unparsable_at_a_restart() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    case.write("sealed/x.yaml", "a: [");
    case.restart().await;
    assert!(case.failure("ns/n").contains("malformed YAML"));
    case.advance(SECOND * 10).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
}

#[tokio::test]
async fn values_are_removed_once_two_scans_two_seconds_apart_agree() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.seal("sealed/y.yaml", "ns/m", &[("a", "1")]);
    case.tick().await;
    case.remove("sealed/x.yaml");
    case.tick().await; // first scan without the file
    case.advance(SECOND * 2 - SignedDuration::from_millis(1))
        .await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    case.tick().await;
    assert_eq!(case.value("ns/n/a"), None);
    assert!(!case.dir.join("secrets/ns/n").exists());
    assert_eq!(case.status_text("ns/n"), None);
    assert_eq!(case.value("ns/m/a").as_deref(), Some("1"));
    case.remove("sealed/y.yaml");
    case.advance(SECOND * 3).await;
    assert!(!case.dir.join("secrets/ns").exists());
    assert!(!case.dir.join("status/ns").exists());
}

#[tokio::test]
async fn an_object_deleted_while_the_controller_was_stopped_is_removed_after_a_restart() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    case.remove("sealed/x.yaml");
    case.restart().await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    case.advance(SECOND * 3).await;
    assert_eq!(case.value("ns/n/a"), None);
}

#[tokio::test]
async fn a_missing_or_unreadable_directory_removes_no_values() {
    let mut case = Case::new().await;
    case.seal("sealed/sub/x.yaml", "ns/n", &[("a", "1")]);
    case.seal("sealed/y.yaml", "ns/m", &[("a", "1")]);
    case.tick().await;
    let moved_directory = case.outer.path().join("away");
    std::fs::rename(case.dir.join("sealed"), &moved_directory).unwrap();
    case.advance(SECOND * 10).await;
    std::fs::write(case.dir.join("sealed"), "a file").unwrap();
    case.advance(SECOND * 10).await;
    case.restart().await;
    case.advance(SECOND * 10).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    std::fs::remove_file(case.dir.join("sealed")).unwrap();
    std::fs::rename(&moved_directory, case.dir.join("sealed")).unwrap();
    case.advance(SECOND * 10).await;
    assert_eq!(case.value("ns/m/a").as_deref(), Some("1"));
    assert!(case.is_synced("ns/n"));
}

#[tokio::test]
async fn an_empty_mount_point_removes_no_values_even_at_startup() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    let moved_directory = case.unmount();
    case.advance(SECOND * 10).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    case.restart().await;
    case.advance(SECOND * 10).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    std::fs::remove_dir(case.dir.join("sealed")).unwrap();
    std::fs::rename(&moved_directory, case.dir.join("sealed")).unwrap();
    case.advance(SECOND * 10).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    case.remove("sealed/x.yaml");
    case.advance(SECOND * 3).await;
    assert_eq!(case.value("ns/n/a"), None, "the last manifest was removed");
}

#[tokio::test]
async fn a_replaced_directory_is_trusted_once_it_contains_a_manifest() {
    for (file, text) in [
        ("sealed/none.yaml", String::new()),
        (
            "sealed/y.yaml",
            manifest_of(&sealed(&KEYS[0], "ns/m", &[("a", "1")])),
        ),
    ] {
        let mut case = Case::new().await;
        case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
        case.tick().await;
        case.unmount();
        case.advance(SECOND * 3).await;
        case.write(file, &text);
        case.advance(SECOND * 3).await;
        assert_eq!(case.value("ns/n/a"), None, "{file}");
    }
}

#[tokio::test]
async fn a_manifest_without_a_namespace_has_a_status_until_the_namespace_is_added() {
    for (annotation, hint) in [
        (
            "cluster-wide: \"true\"",
            "the values can be unsealed in any",
        ),
        ("namespace-wide: \"true\"", "add the namespace"),
        // Strict, which has no annotation.
        ("managed: \"true\"", "add the namespace"),
    ] {
        let mut case = Case::new().await;
        let scope = format!("sealedsecrets.bitnami.com/{annotation}");
        case.write(
            "sealed/x.yaml",
            &format!("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: web, annotations: {{{scope}}}}}\nspec: {{encryptedData: {{}}}}\n"),
        );
        case.advance(SECOND * 3).await;
        let path = case.dir.join("status/_no-namespace/web.yaml");
        let status = std::fs::read_to_string(&path).unwrap();
        // YAML breaks long lines.
        let parts: Vec<_> = status.split_whitespace().collect();
        assert!(parts.join(" ").contains(hint), "{annotation}: {status}");
        assert!(!status.contains("namespace: "), "{annotation}: {status}");
        case.seal("sealed/x.yaml", "ns/web", &[("a", "1")]);
        case.advance(SECOND * 10).await;
        assert_eq!(case.value("ns/web/a").as_deref(), Some("1"), "{annotation}");
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }
}

#[tokio::test]
async fn no_values_are_removed_while_a_file_is_unparsable() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    for (description, path, text) in [
        ("malformed", "sealed/broken.yaml", "a: [".to_owned()),
        (
            "without namespace",
            "sealed/broken.yaml",
            "kind: SealedSecret\nmetadata: {name: n}\n".to_owned(),
        ),
        (
            "too large",
            "sealed/broken.json",
            " ".repeat(16 * 1024 * 1024 + 1),
        ),
    ] {
        let original = std::fs::read_to_string(case.dir.join("sealed/x.yaml")).unwrap();
        case.write(path, &text);
        case.remove("sealed/x.yaml");
        case.advance(SECOND * 10).await;
        assert_eq!(case.value("ns/n/a").as_deref(), Some("1"), "{description}");
        case.write("sealed/x.yaml", &original);
        case.remove(path);
        case.tick().await;
    }
    case.remove("sealed/x.yaml");
    case.advance(SECOND * 3).await;
    assert_eq!(case.value("ns/n/a"), None);
}

#[tokio::test]
async fn renaming_a_file_changes_nothing() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    let before = case.version("ns/n");
    std::fs::rename(
        case.dir.join("sealed/x.yaml"),
        case.dir.join("sealed/y.json"),
    )
    .unwrap();
    case.advance(SECOND * 10).await;
    assert_eq!(case.version("ns/n"), before);
    assert!(case.is_synced("ns/n"));
}

#[tokio::test]
async fn two_definitions_of_an_object_are_refused_and_both_files_are_named() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    case.seal("sealed/a.yaml", "ns/n", &[("a", "2")]);
    case.advance(SECOND * 5).await;
    let message = case.failure("ns/n");
    assert!(
        message.contains("sealed/a.yaml") && message.contains("sealed/x.yaml"),
        "{message}"
    );
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    case.remove("sealed/x.yaml");
    case.tick().await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("2"));
    assert!(case.is_synced("ns/n"));
}

#[tokio::test]
async fn a_restart_does_not_touch_files_that_are_up_to_date() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1"), ("b", "2")]);
    case.tick().await;
    let file_stamps = |case: &Case| {
        [
            "secrets/ns/n",
            "secrets/ns/n/..data/",
            "secrets/ns/n/a",
            "status/ns/n.yaml",
        ]
        .map(|path| {
            let m = std::fs::metadata(case.dir.join(path)).unwrap();
            (m.ino(), m.mtime(), m.mtime_nsec(), m.ctime_nsec())
        })
    };
    let before = file_stamps(&case);
    case.restart().await;
    case.advance(SECOND * 5).await;
    assert_eq!(file_stamps(&case), before);
}

#[tokio::test]
async fn a_restart_restores_values_and_removes_leftovers_of_a_killed_process() {
    let mut case = Case::new().await;
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1"), ("b", "2")]);
    case.tick().await;
    let directory = case.dir.join("secrets/ns/n");
    std::fs::remove_file(directory.join("b")).unwrap();
    std::fs::create_dir(directory.join("..v00000000000000ff")).unwrap();
    std::fs::write(case.dir.join("status/ns/.unfinished-00000000000000ff"), "").unwrap();
    case.restart().await;
    assert_eq!(case.value("ns/n/b").as_deref(), Some("2"));
    case.advance(SECOND * 2).await;
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 4);
    assert_eq!(
        std::fs::read_dir(case.dir.join("status/ns"))
            .unwrap()
            .count(),
        1
    );
}

#[tokio::test]
async fn the_values_of_a_killed_first_write_are_removed_with_their_sealed_secret() {
    let mut case = Case::idle();
    case.write("keys/one.yaml", &key_manifest("one", &KEYS[0]));
    case.write("secrets/ns/n/..v00000000000000ff/a", "half");
    case.seal("sealed/other.yaml", "other/n", &[("a", "1")]);
    case.start(&[]).await.unwrap();
    case.advance(SECOND * 3).await;
    assert!(!case.dir.join("secrets/ns").exists());
}

#[tokio::test]
async fn statuses_can_be_disabled() {
    let mut case = Case::new().await;
    case.start(&["--update-status=false"]).await.unwrap();
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    assert_eq!(case.status_text("ns/n"), None);
}

#[tokio::test]
async fn refuses_a_second_controller_on_the_same_directory() {
    let case = Case::new().await;
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let second = DirectoryController::start(&case.config(), &case.dir, metrics, case.now).await;
    let error = second.unwrap_err().to_string();
    assert!(
        error.ends_with("is in use by another controller; stop that controller first"),
        "{error}"
    );
}
