//! Tests that values edited or deleted under `secrets`, by people or programs, are restored in time.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use controller::metrics::Metrics;
use controller::rounds::Rounds;
use jiff::SignedDuration;
use support::{Case, KEYS, manifest_of, sealed};

/// The time that the documentation promises.
const PROMISED: SignedDuration = SignedDuration::from_secs(2);
const OPT_OUT: &str = "sealedsecrets.bitnami.com/correct-drift";

/// A change that another program makes to the folder of an object with the items `a` and `b`.
type Edit = fn(&Path);

const EDITS: &[(&str, Edit)] = &[
    ("edits a value in place", |of| {
        write(&of.join("a"), "another value");
    }),
    ("edits a value in place to one of the same length", |of| {
        write(&of.join("a"), "2");
    }),
    ("empties a value", |of| write(&of.join("a"), "")),
    ("deletes the file behind a value", |of| {
        remove(&of.join("..data/a"));
    }),
    ("deletes the name of a value", |of| remove(&of.join("a"))),
    ("replaces the file behind a value", |of| {
        remove(&of.join("..data/a"));
        write(&of.join("..data/a"), "1");
        write(&of.join("..data/a"), "2");
    }),
    ("adds a value to the version", |of| {
        write(&of.join("..data/c"), "3");
        symlink("..data/c", of.join("c")).unwrap();
    }),
    ("deletes the current version", |of| {
        let version = std::fs::read_link(of.join("..data")).unwrap();
        std::fs::remove_dir_all(of.join(version)).unwrap();
    }),
    ("deletes the link to the current version", |of| {
        remove(&of.join("..data"));
    }),
    ("leads the link elsewhere", |of| {
        std::fs::create_dir(of.join("..v00000000000000ff")).unwrap();
        write(&of.join("..v00000000000000ff/a"), "2");
        remove(&of.join("..data"));
        symlink("..v00000000000000ff", of.join("..data")).unwrap();
    }),
];

const DELETIONS: &[(&str, Edit)] = &[
    ("deletes the folder of the object", delete),
    ("empties the folder of the object", |of| {
        delete(of);
        std::fs::create_dir(of).unwrap();
    }),
    ("deletes the folder of the namespace", |of| {
        delete(of.parent().unwrap());
    }),
    ("deletes secrets", |of| {
        delete(of.parent().unwrap().parent().unwrap());
    }),
];

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn delete(path: &Path) {
    std::fs::remove_dir_all(path).unwrap();
}

/// A controller that has unsealed `ns/n`, with readable counters.
struct Healing {
    case: Case,
    metrics: Arc<Metrics>,
    rounds: Rounds,
}

impl Healing {
    async fn new(args: &[&str]) -> Self {
        let mut case = Case::idle();
        case.write("keys/one.yaml", &support::key_manifest("one", &KEYS[0]));
        case.seal("sealed/x.yaml", "ns/n", &[("a", "1"), ("b", "2")]);
        case.set_words(args);
        let metrics = Arc::new(Metrics::new(false).unwrap());
        let config = case.config();
        let rounds = Rounds::start(&config, &case.dir, Arc::clone(&metrics), case.now).await;
        let rounds = rounds.unwrap();
        let mut healing = Self {
            case,
            metrics,
            rounds,
        };
        healing.pass(PROMISED).await;
        assert_eq!(healing.values(), Self::whole());
        healing
    }

    async fn pass(&mut self, time: SignedDuration) {
        let end = self.case.now + time;
        while self.case.now < end {
            self.case.now = end.min(self.case.now + controller::rounds::INTERVAL);
            while self.rounds.round(self.case.now).await <= self.case.now {}
        }
    }

    fn values(&self) -> [Option<String>; 3] {
        ["a", "b", "c"].map(|item| self.case.value(&format!("ns/n/{item}")))
    }

    fn whole() -> [Option<String>; 3] {
        [Some("1".into()), Some("2".into()), None]
    }

    /// Returns the number of attempts so far, each of which uses the private key at most once per item.
    fn attempts(&self) -> u32 {
        let text = self.metrics.text(self.case.now);
        let name = "sealed_secrets_controller_unseal_requests_total ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().parse().unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.case.dir.join("secrets/ns/n")
    }
}

/// Attack: a program edits and deletes values under `secrets`.
#[tokio::test]
async fn whatever_was_edited_or_deleted_comes_back_within_two_seconds() {
    for (why, edit) in EDITS.iter().chain(DELETIONS) {
        let mut healing = Healing::new(&[]).await;
        let before = healing.attempts();
        edit(&healing.folder());
        healing.pass(PROMISED).await;
        assert_eq!(healing.values(), Healing::whole(), "a program {why}");
        assert!(healing.case.is_synced("ns/n"), "a program {why}");
        healing.pass(PROMISED * 5).await;
        assert_eq!(healing.attempts(), before + 1, "once: a program {why}");
    }
}

#[tokio::test]
async fn no_key_is_used_for_what_is_unchanged() {
    let mut healing = Healing::new(&[]).await;
    healing
        .case
        .seal("sealed/y.yaml", "ns/other", &[("a", "1")]);
    healing.pass(PROMISED).await;
    let before = healing.attempts();
    healing.pass(PROMISED * 30).await;
    assert_eq!(healing.attempts(), before, "nothing happened");
    write(&healing.folder().join("beside"), "of another program");
    healing.pass(PROMISED).await;
    assert_eq!(healing.attempts(), before, "a file beside is not ours");
    write(&healing.folder().join("a"), "edited");
    healing.pass(PROMISED).await;
    assert_eq!(
        healing.attempts(),
        before + 1,
        "one of two objects was edited"
    );
    assert_eq!(healing.values(), Healing::whole());
    let beside = healing.folder().join("beside");
    assert_eq!(
        std::fs::read_to_string(beside).unwrap(),
        "of another program"
    );
}

#[tokio::test]
async fn edits_stay_where_the_flag_or_the_annotation_asks_for_it_and_deletions_do_not() {
    let flag = "--correct-drift=false";
    for args in [
        &[flag][..],
        &[flag, "--update-status=false"],
        &[],
        &["--update-status=false"],
    ] {
        let by_flag = args.contains(&flag);
        for (why, edit) in EDITS {
            let mut healing = Healing::new(args).await;
            if !by_flag {
                opt_out(&mut healing).await;
            }
            let before = healing.attempts();
            edit(&healing.folder());
            let edited = healing.values();
            healing.pass(PROMISED * 5).await;
            assert_eq!(healing.values(), edited, "{args:?}: a program {why}");
            assert_eq!(healing.attempts(), before, "{args:?}: a program {why}");
        }
        for (why, deletion) in DELETIONS {
            let mut healing = Healing::new(args).await;
            if !by_flag {
                opt_out(&mut healing).await;
            }
            deletion(&healing.folder());
            healing.pass(PROMISED).await;
            assert_eq!(
                healing.values(),
                Healing::whole(),
                "{args:?}: a program {why}"
            );
        }
    }
}

async fn opt_out(healing: &mut Healing) {
    let mut sealed = sealed(&KEYS[0], "ns/n", &[("a", "1"), ("b", "2")]);
    let annotations = sealed.metadata.annotations.get_or_insert_default();
    annotations.insert(OPT_OUT.into(), "false".into());
    healing.case.write("sealed/x.yaml", &manifest_of(&sealed));
    healing.pass(PROMISED).await;
}

#[tokio::test]
async fn a_program_that_edits_again_and_again_is_named_and_not_reverted_without_end() {
    let mut healing = Healing::new(&[]).await;
    for i in 0..10 {
        write(&healing.folder().join("a"), &format!("edited {i}"));
        healing.pass(PROMISED).await;
    }
    assert_eq!(healing.values()[0].as_deref(), Some("edited 9"));
    let said = healing.case.failure("ns/n");
    assert!(
        said.starts_with("another client keeps changing the Secret"),
        "{said}"
    );
    healing.pass(SignedDuration::from_mins(10)).await;
    assert_eq!(healing.values(), Healing::whole());
}

/// Attack: a program edits values repeatedly where no status counts its edits, so that the controller writes
/// without end.
#[tokio::test]
async fn a_fight_without_statuses_ends_too() {
    type Deed = fn(&Path);
    let deeds: [(&str, Deed, u32); 3] = [
        ("edits", |of| write(&of.join("a"), "edited"), 5),
        ("adds", |of| write(&of.join("..data/a"), "edited"), 5),
        // A deleted value is restored in any case, once a minute.
        ("deletes", delete, 6),
    ];
    for (why, deed, most) in deeds {
        let mut healing = Healing::new(&["--update-status=false"]).await;
        let mut restored = 0;
        for _ in 0..20 {
            if healing.folder().exists() {
                deed(&healing.folder());
            }
            healing.pass(PROMISED).await;
            restored += u32::from(healing.values() == Healing::whole());
        }
        assert!((5..=most).contains(&restored), "{why}: {restored}");
    }
}

#[tokio::test]
async fn what_cannot_be_restored_is_said_and_is_restored_when_it_can_be() {
    let mut healing = Healing::new(&[]).await;
    delete(&healing.folder());
    write(&healing.folder(), "a file is in the way");
    healing.pass(PROMISED).await;
    let said = healing.case.failure("ns/n");
    assert!(said.contains("is not managed by SealedSecret"), "{said}");
    remove(&healing.folder());
    healing.pass(PROMISED).await;
    healing.pass(SignedDuration::from_mins(5)).await;
    assert_eq!(healing.values(), Healing::whole());
}

#[tokio::test]
async fn a_changed_mode_loses_no_value() {
    let mut healing = Healing::new(&[]).await;
    let file = healing.folder().join("..data/a");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    healing.pass(PROMISED * 3).await;
    assert_eq!(healing.values(), Healing::whole());
}
