//! Tests that the controller restores values under `secrets` that another program edits or deletes.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use controller::directory::DirectoryController;
use controller::metrics::Metrics;
use jiff::SignedDuration;

use crate::support::{Case, KEYS, Warnings, key_manifest, manifest_of, record_log, sealed};

/// Maximum time until values are restored, as documented.
const MAX_RESTORE_TIME: SignedDuration = SignedDuration::from_secs(2);
const OPT_OUT: &str = "sealedsecrets.bitnami.com/correct-drift";
const ROTATE_BY: &str = "sealedsecrets.bitnami.com/rotate-by";

/// A change by another program to the directory of an object with the items `a` and `b`.
type Edit = fn(&Path);

const EDITS: &[(&str, Edit)] = &[
    ("edits a value in place", |directory| {
        write(&directory.join("a"), "another value");
    }),
    (
        "edits a value in place to one of the same length",
        |directory| {
            write(&directory.join("a"), "2");
        },
    ),
    ("empties a value", |directory| {
        write(&directory.join("a"), "");
    }),
    ("deletes the file behind a value", |directory| {
        remove_file(&directory.join("..data/a"));
    }),
    ("deletes the name of a value", |directory| {
        remove_file(&directory.join("a"));
    }),
    ("replaces the file behind a value", |directory| {
        remove_file(&directory.join("..data/a"));
        write(&directory.join("..data/a"), "1");
        write(&directory.join("..data/a"), "2");
    }),
    ("adds a value to the version", |directory| {
        write(&directory.join("..data/c"), "3");
        symlink("..data/c", directory.join("c")).unwrap();
    }),
    ("deletes the current version", |directory| {
        let version = std::fs::read_link(directory.join("..data")).unwrap();
        std::fs::remove_dir_all(directory.join(version)).unwrap();
    }),
    ("deletes the link to the current version", |directory| {
        remove_file(&directory.join("..data"));
    }),
    ("points the link to another version", |directory| {
        std::fs::create_dir(directory.join("..v00000000000000ff")).unwrap();
        write(&directory.join("..v00000000000000ff/a"), "2");
        remove_file(&directory.join("..data"));
        symlink("..v00000000000000ff", directory.join("..data")).unwrap();
    }),
];

/// Edits after which a version contains something that is not a value file, or a huge value file.
const REPLACEMENTS: &[(&str, Edit)] = &[
    ("replaces a value with a directory", |directory| {
        remove_file(&directory.join("..data/a"));
        std::fs::create_dir_all(directory.join("..data/a/b/c")).unwrap();
        write(&directory.join("..data/a/b/c/d"), "x");
    }),
    ("replaces a value with a link", |directory| {
        remove_file(&directory.join("..data/a"));
        symlink("/etc/passwd", directory.join("..data/a")).unwrap();
    }),
    ("replaces a value with a pipe", |directory| {
        remove_file(&directory.join("..data/a"));
        let mode = rustix::fs::Mode::RUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, directory.join("..data/a"), kind, mode, 0).unwrap();
    }),
    ("replaces a value with a socket", |directory| {
        remove_file(&directory.join("..data/a"));
        std::os::unix::net::UnixListener::bind(directory.join("..data/a")).unwrap();
    }),
    ("makes a value as large as a disk", |directory| {
        let file = std::fs::File::options()
            .write(true)
            .open(directory.join("..data/a"));
        file.unwrap().set_len(20 << 30).unwrap();
    }),
    ("adds a directory to the version", |directory| {
        std::fs::create_dir(directory.join("..data/c")).unwrap();
    }),
];

const DELETIONS: &[(&str, Edit)] = &[
    ("deletes the directory of the object", remove_directory),
    ("empties the directory of the object", |directory| {
        remove_directory(directory);
        std::fs::create_dir(directory).unwrap();
    }),
    ("deletes the directory of the namespace", |directory| {
        remove_directory(directory.parent().unwrap());
    }),
    ("deletes secrets", |directory| {
        remove_directory(directory.parent().unwrap().parent().unwrap());
    }),
];

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn remove_file(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn remove_directory(path: &Path) {
    std::fs::remove_dir_all(path).unwrap();
}

/// A controller that has unsealed `ns/n`, with readable counters.
struct HealingCase {
    case: Case,
    metrics: Arc<Metrics>,
    controller: DirectoryController,
}

impl HealingCase {
    async fn new(args: &[&str]) -> Self {
        let mut case = Case::idle();
        case.write("keys/one.yaml", &key_manifest("one", &KEYS[0]));
        case.seal("sealed/x.yaml", "ns/n", &[("a", "1"), ("b", "2")]);
        case.set_args(args);
        let metrics = Arc::new(Metrics::new(false).unwrap());
        let config = case.config();
        let controller =
            DirectoryController::start(&config, &case.dir, Arc::clone(&metrics), case.now).await;
        let controller = controller.unwrap();
        let mut healing = Self {
            case,
            metrics,
            controller,
        };
        healing.advance(MAX_RESTORE_TIME).await;
        assert_eq!(healing.values(), Self::original_values());
        healing
    }

    /// Returns a controller that has written three random values.
    async fn with_random_values(args: &[&str]) -> Self {
        let mut healing = Self::new(args).await;
        healing.case.write("sealed/x.yaml", &random_manifest());
        healing.advance(MAX_RESTORE_TIME).await;
        healing
    }

    async fn restart(self) -> Self {
        let mut healing = self.restart_after(|| ()).await;
        healing.advance(MAX_RESTORE_TIME).await;
        healing
    }

    /// Stops the controller, runs `action`, and starts a new controller.
    async fn restart_after(self, action: impl FnOnce()) -> Self {
        let Self {
            case,
            metrics,
            controller,
        } = self;
        drop(controller);
        action();
        let config = case.config();
        let controller =
            DirectoryController::start(&config, &case.dir, Arc::clone(&metrics), case.now).await;
        Self {
            controller: controller.unwrap(),
            case,
            metrics,
        }
    }

    async fn advance(&mut self, time: SignedDuration) {
        let end = self.case.now + time;
        while self.case.now < end {
            self.case.now = end.min(self.case.now + controller::directory::INTERVAL);
            while self.controller.run_once(self.case.now).await <= self.case.now {}
        }
    }

    fn values(&self) -> [Option<String>; 3] {
        ["a", "b", "c"].map(|item| self.case.value(&format!("ns/n/{item}")))
    }

    fn original_values() -> [Option<String>; 3] {
        [Some("1".into()), Some("2".into()), None]
    }

    /// Returns the number of attempts so far, each of which uses the private key at most once per item.
    fn count_attempts(&self) -> u32 {
        let text = self.metrics.text(self.case.now);
        let name = "sealed_secrets_controller_unseal_requests_total ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().parse().unwrap()
    }

    /// Returns the last line of the message of the condition `Ready`.
    fn last_line(&self) -> String {
        let ready = self.case.conditions("ns/n").unwrap().remove(1);
        let message = ready.message.unwrap();
        message.lines().last().unwrap().to_owned()
    }

    fn directory(&self) -> PathBuf {
        self.case.dir.join("secrets/ns/n")
    }
}

/// Attack: a program edits and deletes values under `secrets`, so that applications read wrong values or none.
#[tokio::test]
async fn edited_and_deleted_values_are_restored_within_two_seconds() {
    for (description, edit) in EDITS.iter().chain(DELETIONS) {
        let mut healing = HealingCase::new(&[]).await;
        let before = healing.count_attempts();
        edit(&healing.directory());
        healing.advance(MAX_RESTORE_TIME).await;
        assert_eq!(
            healing.values(),
            HealingCase::original_values(),
            "a program {description}"
        );
        assert!(healing.case.is_synced("ns/n"), "a program {description}");
        healing.advance(MAX_RESTORE_TIME * 5).await;
        assert_eq!(
            healing.count_attempts(),
            before + 1,
            "attempts: a program {description}"
        );
    }
}

/// Attack: a program replaces a value file with a directory, a link or a special file, so that neither the value nor a
/// later version is written, while the status reports success.
#[tokio::test]
async fn values_replaced_by_links_or_directories_are_restored() {
    for (description, edit) in REPLACEMENTS {
        for restarts in [false, true] {
            let mut healing = HealingCase::new(&[]).await;
            if restarts {
                let directory = healing.directory();
                healing = healing.restart_after(|| edit(&directory)).await;
            } else {
                edit(&healing.directory());
            }
            healing.advance(MAX_RESTORE_TIME).await;
            let original = HealingCase::original_values();
            assert_eq!(healing.values(), original, "a program {description}");
            assert!(healing.case.is_synced("ns/n"), "a program {description}");
            healing.advance(MAX_RESTORE_TIME * 5).await;
            let versions = std::fs::read_dir(healing.directory()).unwrap();
            let names = versions.map(|entry| entry.unwrap().file_name());
            let versions = names.filter(|name| name.to_string_lossy().starts_with("..v"));
            assert_eq!(versions.count(), 1, "a program {description}");
            healing
                .case
                .seal("sealed/x.yaml", "ns/n", &[("a", "3"), ("b", "2")]);
            healing.advance(MAX_RESTORE_TIME).await;
            assert_eq!(
                healing.values()[0].as_deref(),
                Some("3"),
                "a program {description}"
            );
        }
    }
}

/// Attack: a program changes a random value, which rendering the template again cannot reproduce.
#[tokio::test]
async fn an_edited_random_value_is_generated_again_and_the_others_stay() {
    for restarts in [false, true] {
        let mut healing = HealingCase::new(&[]).await;
        let mut object = sealed(&KEYS[0], "ns/n", &[("a", "1")]);
        let texts = [("b", "{{ uuidv4 }}"), ("c", "{{ .a }}-{{ uuidv4 }}")];
        let texts = texts.map(|(key, text)| (key.to_owned(), Some(text.to_owned())));
        object.spec.template.data = Some(texts.into());
        healing.case.write("sealed/x.yaml", &manifest_of(&object));
        healing.advance(MAX_RESTORE_TIME).await;
        let [_, first, second] = healing.values();
        let edit = |directory: PathBuf| {
            write(&directory.join("a"), "edited");
            write(&directory.join("b"), "edited");
        };
        if restarts {
            let directory = healing.directory();
            healing = healing.restart_after(|| edit(directory)).await;
        } else {
            edit(healing.directory());
        }
        healing.advance(MAX_RESTORE_TIME).await;
        let [a, b, c] = healing.values();
        assert_eq!((a.as_deref(), c), (Some("1"), second));
        assert_ne!(b, first);
        assert_eq!(b.unwrap().len(), 36);
        assert!(healing.case.is_synced("ns/n"));
    }
}

/// Fault: the controller restarts after random values were generated again, after their key was removed, or after the
/// process ended at any time.
#[tokio::test]
async fn random_values_stay_after_restarts() {
    type Action = fn(&Path);
    let actions: [(&str, Action, bool); 6] = [
        ("nothing", |_| (), true),
        (
            "an edit",
            |dir| write(&dir.join("secrets/ns/n/a"), "evil"),
            false,
        ),
        (
            "a deletion",
            |dir| remove_directory(&dir.join("secrets/ns/n")),
            false,
        ),
        (
            "a deletion of all",
            |dir| remove_directory(&dir.join("secrets")),
            false,
        ),
        ("another key", replace_key, true),
        (
            "no status",
            |dir| remove_directory(&dir.join("status")),
            true,
        ),
    ];
    for (description, action, stays) in actions {
        for restarts in [false, true] {
            let warnings = Warnings::default();
            let _guard = record_log(warnings.clone());
            let mut healing = HealingCase::with_random_values(&[]).await;
            let before = healing.values();
            let status = healing.case.status_text("ns/n").unwrap();
            let dir = healing.case.dir.clone();
            if restarts {
                healing = healing.restart_after(|| action(&dir)).await;
            } else {
                action(&dir);
            }
            healing.advance(MAX_RESTORE_TIME).await;
            let values = healing.values();
            assert_eq!(values == before, stays, "{description} {restarts}");
            let logged = warnings.messages();
            let is_logged = logged.iter().any(|text| text.contains("generated again"));
            assert_eq!(is_logged, !stays, "{description} {restarts}: {logged:?}");
            assert_eq!(values[0].as_ref().unwrap().len(), 36, "{description}");
            healing = healing.restart().await;
            assert_eq!(
                healing.values(),
                values,
                "{description} {restarts}: restart"
            );
            // As if the process had ended after writing the values and before writing their status.
            let restore_status = || write(&dir.join("status/ns/n.yaml"), &status);
            healing = healing.restart_after(restore_status).await;
            healing.advance(MAX_RESTORE_TIME).await;
            assert_eq!(healing.values(), values, "{description} {restarts}: kill");
        }
    }
}

/// Fault: a controller that writes no statuses restarts, so values that programs use are generated again.
#[tokio::test]
async fn without_statuses_random_values_stay_until_their_key_is_replaced() {
    let mut healing = HealingCase::with_random_values(&["--update-status=false"]).await;
    let values = healing.values();
    healing = healing.restart().await;
    assert_eq!(healing.values(), values);
    let dir = healing.case.dir.clone();
    remove_directory(&dir.join("secrets/ns/n"));
    healing.advance(MAX_RESTORE_TIME).await;
    let values = healing.values();
    healing = healing.restart().await;
    assert_eq!(healing.values(), values);
    // Without the key of the mark, nothing shows for which version the values were rendered.
    replace_key(&dir);
    healing = healing.restart().await;
    let others = healing.values();
    assert_ne!(others, values);
    healing = healing.restart().await;
    assert_eq!(healing.values(), others);
}

fn replace_key(dir: &Path) {
    write(&dir.join("keys/two.yaml"), &key_manifest("two", &KEYS[1]));
    remove_file(&dir.join("keys/one.yaml"));
}

/// Returns a manifest without sealed items, which needs no key.
fn random_manifest() -> String {
    let mut object = sealed(&KEYS[0], "ns/n", &[]);
    let texts = ["a", "b", "c"].map(|item| (item.to_owned(), Some("{{ uuidv4 }}".to_owned())));
    object.spec.template.data = Some(texts.into());
    manifest_of(&object)
}

/// Attack: while no controller is running, a program changes a random value and the mark that shows its version.
#[tokio::test]
async fn a_random_value_with_a_changed_mark_is_generated_again() {
    let changes: [fn(&Path); 2] = [remove_file, |mark| write(mark, "AAAA")];
    for change in changes {
        for restarts in [false, true] {
            let mut healing = HealingCase::with_random_values(&[]).await;
            let directory = healing.directory();
            let edit = || {
                write(&directory.join("a"), "evil");
                change(&directory.join("..data/..mark"));
            };
            if restarts {
                healing = healing.restart_after(edit).await;
            } else {
                edit();
            }
            healing.advance(MAX_RESTORE_TIME).await;
            let values = healing.values();
            assert_eq!(values[0].as_ref().unwrap().len(), 36);
            healing = healing.restart().await;
            assert_eq!(healing.values(), values);
        }
    }
}

/// An earlier release wrote the mark only to the status file.
#[tokio::test]
async fn random_values_of_an_earlier_release_stay() {
    let mut healing = HealingCase::with_random_values(&[]).await;
    let before = healing.values();
    let mark = healing.directory().join("..data/..mark");
    healing = healing.restart_after(|| remove_file(&mark)).await;
    healing.advance(MAX_RESTORE_TIME).await;
    assert_eq!(healing.values(), before);
    write(&healing.directory().join("a"), "evil");
    healing.advance(MAX_RESTORE_TIME).await;
    let after = healing.values();
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..], "values that were not edited stay");
    assert!(mark.exists());
}

/// Attack: a program makes values unreadable, and the controller cannot restore them, so that the status does not
/// change.
#[tokio::test]
async fn values_that_cannot_be_read_are_reported() {
    let mut healing = HealingCase::new(&[]).await;
    // The directory of the namespace is replaced with a link, which is not followed.
    let namespace = healing.directory().parent().unwrap().to_owned();
    let moved = healing.case.outer.path().join("moved");
    std::fs::rename(&namespace, &moved).unwrap();
    symlink(&moved, &namespace).unwrap();
    healing.advance(MAX_RESTORE_TIME).await;
    let message = healing.case.failure("ns/n");
    assert!(!message.is_empty());
    let metrics = healing.metrics.text(healing.case.now);
    let condition = metrics
        .lines()
        .find(|line| line.contains("condition_info{"));
    assert!(condition.unwrap().ends_with(" -1"), "{condition:?}");
}

#[tokio::test]
async fn the_metric_follows_the_rotate_by_annotation() {
    let mut healing = HealingCase::new(&[]).await;
    let mut sealed = sealed(&KEYS[0], "ns/n", &[("a", "1"), ("b", "2")]);
    for (annotation, want) in [
        ("a 2027-03-01 90d\nb 2026-12-01\n", Some("1796083200")),
        ("a 2027-03-01 90d\n", Some("1803859200")),
        ("a soon\n", None),
    ] {
        let annotations = sealed.metadata.annotations.get_or_insert_default();
        annotations.insert(ROTATE_BY.to_owned(), annotation.to_owned());
        healing.case.write("sealed/x.yaml", &manifest_of(&sealed));
        healing.advance(MAX_RESTORE_TIME).await;
        let metrics = healing.metrics.text(healing.case.now);
        let mut lines = metrics.lines();
        let series = lines.find(|line| line.contains("rotate_by_timestamp_seconds{"));
        let date = series.and_then(|line| line.split(' ').next_back());
        assert_eq!(date, want, "{annotation}");
    }
}

#[tokio::test]
async fn no_key_is_used_for_unchanged_values() {
    let mut healing = HealingCase::new(&[]).await;
    healing
        .case
        .seal("sealed/y.yaml", "ns/other", &[("a", "1")]);
    healing.advance(MAX_RESTORE_TIME).await;
    let before = healing.count_attempts();
    healing.advance(MAX_RESTORE_TIME * 30).await;
    assert_eq!(healing.count_attempts(), before, "nothing was changed");
    write(&healing.directory().join("unrelated"), "of another program");
    healing.advance(MAX_RESTORE_TIME).await;
    assert_eq!(
        healing.count_attempts(),
        before,
        "a file of another program was added"
    );
    write(&healing.directory().join("a"), "edited");
    healing.advance(MAX_RESTORE_TIME).await;
    assert_eq!(
        healing.count_attempts(),
        before + 1,
        "one of two objects was edited"
    );
    assert_eq!(healing.values(), HealingCase::original_values());
    let unrelated_file = healing.directory().join("unrelated");
    assert_eq!(
        std::fs::read_to_string(unrelated_file).unwrap(),
        "of another program"
    );
}

#[tokio::test]
async fn the_opt_out_by_flag_or_annotation_keeps_edits_but_not_deletions() {
    let flag = "--correct-drift=false";
    for args in [
        &[flag][..],
        &[flag, "--update-status=false"],
        &[],
        &["--update-status=false"],
    ] {
        let has_flag = args.contains(&flag);
        for (description, edit) in EDITS {
            let mut healing = HealingCase::new(args).await;
            if !has_flag {
                opt_out(&mut healing).await;
            }
            let before = healing.count_attempts();
            edit(&healing.directory());
            let values_after_edit = healing.values();
            healing.advance(MAX_RESTORE_TIME * 5).await;
            assert_eq!(
                healing.values(),
                values_after_edit,
                "{args:?}: a program {description}"
            );
            assert_eq!(
                healing.count_attempts(),
                before,
                "{args:?}: a program {description}"
            );
        }
        for (description, deletion) in DELETIONS {
            let mut healing = HealingCase::new(args).await;
            if !has_flag {
                opt_out(&mut healing).await;
            }
            deletion(&healing.directory());
            healing.advance(MAX_RESTORE_TIME).await;
            assert_eq!(
                healing.values(),
                HealingCase::original_values(),
                "{args:?}: a program {description}"
            );
        }
    }
}

async fn opt_out(healing: &mut HealingCase) {
    let mut sealed = sealed(&KEYS[0], "ns/n", &[("a", "1"), ("b", "2")]);
    let annotations = sealed.metadata.annotations.get_or_insert_default();
    annotations.insert(OPT_OUT.into(), "false".into());
    healing.case.write("sealed/x.yaml", &manifest_of(&sealed));
    healing.advance(MAX_RESTORE_TIME).await;
}

/// Attack: a program edits values while the controller cannot correct them, so that the status reports the edited
/// values as the values of the last good version.
#[tokio::test]
async fn the_status_reports_kept_values_only_if_no_other_program_edited_them() {
    const VALUES_KEPT: &str = "the values of the last good version stay in place";
    const VALUES_MAY_DIFFER: &str = "another client may have changed the values of the Secret";
    let broken = manifest_of(&sealed(&KEYS[1], "ns/n", &[("a", "3")]));
    for args in [&[][..], &["--correct-drift=false"]] {
        for (description, edit) in EDITS.iter().chain(REPLACEMENTS).chain(DELETIONS) {
            let mut healing = HealingCase::new(args).await;
            healing.case.write("sealed/x.yaml", &broken);
            healing.advance(MAX_RESTORE_TIME).await;
            assert_eq!(
                healing.last_line(),
                VALUES_KEPT,
                "{args:?}: before {description}"
            );
            edit(&healing.directory());
            healing.advance(MAX_RESTORE_TIME).await;
            assert_ne!(healing.last_line(), VALUES_KEPT, "{args:?}: {description}");
        }
        let mut healing = HealingCase::new(args).await;
        write(&healing.directory().join("a"), "edited");
        healing.case.write("sealed/x.yaml", "a: [");
        healing.advance(MAX_RESTORE_TIME).await;
        assert_eq!(healing.last_line(), VALUES_MAY_DIFFER, "{args:?}");
    }
}

#[tokio::test]
async fn repeated_edits_are_reported_and_not_reverted_forever() {
    let mut healing = HealingCase::new(&[]).await;
    for i in 0..10 {
        write(&healing.directory().join("a"), &format!("edited {i}"));
        healing.advance(MAX_RESTORE_TIME).await;
    }
    assert_eq!(healing.values()[0].as_deref(), Some("edited 9"));
    let message = healing.case.failure("ns/n");
    assert!(
        message.starts_with("another client keeps changing the Secret"),
        "{message}"
    );
    healing.advance(SignedDuration::from_mins(10)).await;
    assert_eq!(healing.values(), HealingCase::original_values());
}

/// Attack: a program edits values repeatedly while no statuses are written, so that the controller writes indefinitely.
#[tokio::test]
async fn a_drift_fight_without_statuses_ends() {
    type Action = fn(&Path);
    let actions: [(&str, Action, u32); 3] = [
        (
            "edits",
            |directory| write(&directory.join("a"), "edited"),
            5,
        ),
        (
            "adds",
            |directory| write(&directory.join("..data/a"), "edited"),
            5,
        ),
        // Deleted values are restored once a minute even after the limit.
        ("deletes", remove_directory, 6),
    ];
    for (description, action, max) in actions {
        let mut healing = HealingCase::new(&["--update-status=false"]).await;
        let mut restore_count = 0;
        for _ in 0..20 {
            if healing.directory().exists() {
                action(&healing.directory());
            }
            healing.advance(MAX_RESTORE_TIME).await;
            restore_count += u32::from(healing.values() == HealingCase::original_values());
        }
        assert!(
            (5..=max).contains(&restore_count),
            "{description}: {restore_count}"
        );
    }
}

#[tokio::test]
async fn a_failed_restore_is_reported_and_retried() {
    let mut healing = HealingCase::new(&[]).await;
    remove_directory(&healing.directory());
    write(&healing.directory(), "a file with that name");
    healing.advance(MAX_RESTORE_TIME).await;
    let message = healing.case.failure("ns/n");
    assert!(
        message.contains("is not managed by SealedSecret"),
        "{message}"
    );
    remove_file(&healing.directory());
    healing.advance(MAX_RESTORE_TIME).await;
    healing.advance(SignedDuration::from_mins(5)).await;
    assert_eq!(healing.values(), HealingCase::original_values());
}

#[tokio::test]
async fn a_changed_file_mode_does_not_lose_values() {
    let mut healing = HealingCase::new(&[]).await;
    let file = healing.directory().join("..data/a");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    healing.advance(MAX_RESTORE_TIME * 3).await;
    assert_eq!(healing.values(), HealingCase::original_values());
}
