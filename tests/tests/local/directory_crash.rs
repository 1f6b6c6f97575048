//! Kills the directory controller at random instants while objects and keys change. A reader never finds a
//! partial, mixed, outdated or missing value.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::key::{KeySize, KeySpec, NewKey};
use shared::plain::Plain;
use shared::seal::seal;
use shared::secret::Secret;
use shared::{key_secret, manifest};
use tests::binaries;
use tests::guarded::{self, GuardedProcess};
use tests::patience::LIMIT;
use tests::scratch::Scratch;

const SEED: u64 = 20_261_122;
const KILL_COUNT: usize = 60;
/// The maximum number of kills on a busy machine, where the controller makes few changes between two kills.
const MAX_KILL_COUNT: usize = 600;
/// The test is meaningful only if the reader observes more changes than this.
const MIN_CHANGES: usize = 20;
const OBJECT_COUNT: usize = 8;
const KEY_COUNT: i64 = 3;

/// `odd` exists only in odd generations, so that its symbolic link is also added and removed.
const ITEMS: [&str; 4] = ["a", "b", "c", "odd"];

/// Fault: the controller is killed at random instants while objects and keys change.
#[test]
fn a_crash_exposes_no_partial_mixed_outdated_or_missing_value() {
    let scratch = Scratch::new();
    let directory = TestDirectory::new(scratch.path());
    let (done, observed_count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (observations, last) = std::thread::scope(|scope| {
        let observer = scope.spawn(|| observe(&directory, &done, &observed_count));
        let changer = scope.spawn(|| change(&directory, &done));
        kill_repeatedly(&directory, &observed_count);
        done.store(true, Ordering::Release);
        let last = changer.join().unwrap();
        (observer.join().unwrap(), last)
    });
    eprintln!(
        "{} values read, {} changes observed",
        observations.values_read, observations.changes
    );
    assert!(
        observations.values_read > 1000 && observations.changes > MIN_CHANGES,
        "too few changes for a meaningful test"
    );
    assert_converges(&directory, &last);
}

/// The directory of a controller, a directory outside it, and the keys to seal with.
struct TestDirectory {
    dir: PathBuf,
    outside: PathBuf,
    keys: Vec<NewKey>,
}

impl TestDirectory {
    fn new(scratch: &Path) -> Self {
        let directory = Self {
            dir: scratch.join("dir"),
            outside: scratch.join("outside"),
            keys: (0..KEY_COUNT).map(generate_key).collect(),
        };
        for directory in [
            &directory.dir.join("sealed"),
            &directory.dir.join("keys"),
            &directory.outside,
        ] {
            std::fs::create_dir_all(directory).unwrap();
        }
        for i in 0..directory.keys.len() {
            directory.put_key(i);
        }
        directory
    }

    fn start(&self) -> GuardedProcess {
        let log = std::fs::File::create(self.outside.join("log")).unwrap();
        let mut command = guarded::command(binaries::controller());
        command
            .arg("--directory")
            .arg(&self.dir)
            .args([
                "--listen-addr=127.0.0.1:0",
                "--listen-metrics-addr=127.0.0.1:0",
                "--key-renew-period=0",
                "--key-size=2048",
            ])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        GuardedProcess::spawn(&mut command).unwrap()
    }

    fn put_key(&self, i: usize) {
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        let secret = key_secret::build(&key_name(i), "ns", &self.keys[i], labels, annotations);
        self.put(&key_file(i), &manifest::to_yaml(&secret.to_document()));
    }

    /// Writes a file atomically.
    fn put(&self, path: &str, text: &str) {
        let temporary = self.outside.join("temporary");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.dir.join(path)).unwrap();
    }

    fn sealed_manifest(&self, object: usize, generation: u32, key: usize) -> String {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name(object));
        secret.metadata.namespace = Some("ns".into());
        for item in items(generation) {
            let value = Plain::from(value(object, generation, item));
            secret.data.insert(item.into(), value);
        }
        let public = self.keys[key].pair.certificate().public_key();
        let sealed = seal(&secret, public, &mut shared::random::system()).unwrap();
        manifest::to_yaml(&sealed.to_document())
    }

    fn values_directory(&self, object: usize) -> PathBuf {
        self.dir.join("secrets/ns").join(name(object))
    }
}

fn generate_key(second: i64) -> NewKey {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(87_600),
        common_name: String::new(),
    };
    let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
    spec.generate(now, &mut shared::random::system()).unwrap()
}

fn key_name(i: usize) -> String {
    format!("key-{i}")
}

fn key_file(i: usize) -> String {
    format!("keys/{}.yaml", key_name(i))
}

fn name(object: usize) -> String {
    format!("object-{object}")
}

fn items(generation: u32) -> impl Iterator<Item = &'static str> {
    let is_odd = generation % 2 == 1;
    ITEMS
        .into_iter()
        .filter(move |item| is_odd || *item != "odd")
}

/// Returns a value that identifies its object, and is long enough to be written partially.
fn value(object: usize, generation: u32, item: &str) -> String {
    format!("{object} {generation} {item}\n").repeat(500)
}

/// Returns the generation of a value, which must be complete.
fn generation(object: usize, item: &str, text: &str) -> u32 {
    let generation = text.split(' ').nth(1).and_then(|part| part.parse().ok());
    let generation = generation.unwrap_or_else(|| panic!("not a value of this test: {text:.40?}"));
    assert_eq!(text, value(object, generation, item), "a partial value");
    generation
}

fn kill_repeatedly(directory: &TestDirectory, observed_count: &AtomicUsize) {
    let mut rng = StdRng::seed_from_u64(SEED);
    for count in 0..MAX_KILL_COUNT {
        if count >= KILL_COUNT && observed_count.load(Ordering::Relaxed) > MIN_CHANGES {
            break;
        }
        let controller = directory.start();
        // At least half of the kills, on average, come within 150 ms, during the initial sync.
        let max_delay = if rng.random() { 150 } else { 700 };
        std::thread::sleep(Duration::from_millis(rng.random_range(0..max_delay)));
        drop(controller); // SIGKILL
    }
}

/// Changes objects and keys until `done`. Returns the last generation of each object.
fn change(directory: &TestDirectory, done: &AtomicBool) -> Vec<u32> {
    let mut rng = StdRng::seed_from_u64(SEED + 1);
    let mut generations = vec![0; OBJECT_COUNT];
    while !done.load(Ordering::Acquire) {
        let object = rng.random_range(0..OBJECT_COUNT);
        let key = rng.random_range(0..directory.keys.len());
        generations[object] += 1;
        let text = directory.sealed_manifest(object, generations[object], key);
        let file = format!("sealed/{}.yaml", name(object));
        if rng.random_range(0..8) == 0 {
            // Simulates a writer that writes in place and stops in the middle of the first value.
            let length = text.find("encryptedData").unwrap() + 200;
            std::fs::write(directory.dir.join(&file), &text[..length]).unwrap();
        }
        directory.put(&file, &text);
        if rng.random_range(0..8) == 0 {
            match std::fs::remove_file(directory.dir.join(key_file(key))) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => directory.put_key(key),
                Err(error) => panic!("{error}"),
            }
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..150)));
    }
    generations
}

#[derive(Default)]
struct Observations {
    values_read: usize,
    changes: usize,
    /// The newest generation, by object.
    newest: BTreeMap<usize, u32>,
}

/// Reads random values until `done`, and publishes the number of observed changes.
fn observe(
    directory: &TestDirectory,
    done: &AtomicBool,
    observed_count: &AtomicUsize,
) -> Observations {
    let mut observations = Observations::default();
    let mut rng = StdRng::seed_from_u64(SEED + 2);
    while !done.load(Ordering::Acquire) {
        let object = rng.random_range(0..OBJECT_COUNT);
        let item = ITEMS[rng.random_range(0..ITEMS.len())];
        observations.read_item(directory, object, item);
        if rng.random_range(0..4) == 0 {
            observations.read_version(directory, object);
        }
        observed_count.store(observations.changes, Ordering::Relaxed);
    }
    observations
}

impl Observations {
    /// Reads one value by its name. The value must not be older than the values of the object that were read before.
    fn read_item(&mut self, directory: &TestDirectory, object: usize, item: &str) {
        match std::fs::read_to_string(directory.values_directory(object).join(item)) {
            Ok(text) => self.record(object, generation(object, item, &text)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let may_be_missing = item == "odd" || !self.newest.contains_key(&object);
                assert!(may_be_missing, "{} lost {item}", name(object));
            }
            Err(error) => panic!("{} {item}: {error}", name(object)),
        }
    }

    /// Reads all values of one version, through one resolution of `..data`.
    fn read_version(&mut self, directory: &TestDirectory, object: usize) {
        let directory = directory.values_directory(object);
        let Ok(version) = std::fs::read_link(directory.join("..data")) else {
            assert!(
                !self.newest.contains_key(&object),
                "{} lost ..data",
                name(object)
            );
            return;
        };
        let start = Instant::now();
        let read = |item: &str| std::fs::read_to_string(directory.join(&version).join(item));
        let texts = ITEMS.map(|item| (item, read(item).ok()));
        if start.elapsed() > Duration::from_millis(900) {
            return; // An old version may have been removed, a second after it was replaced.
        }
        let mut generations = BTreeMap::new();
        for (item, text) in texts {
            if let Some(text) = text {
                generations.insert(item, generation(object, item, &text));
            }
        }
        let newest = generations["a"];
        let want: BTreeMap<_, _> = items(newest).map(|item| (item, newest)).collect();
        assert_eq!(generations, want, "mixed versions");
        self.record(object, newest);
    }

    fn record(&mut self, object: usize, generation: u32) {
        self.values_read += 1;
        let newest = self.newest.entry(object).or_default();
        assert!(
            generation >= *newest,
            "{}: {generation} after {newest}",
            name(object)
        );
        self.changes += usize::from(generation > *newest);
        *newest = generation;
    }
}

/// Asserts that without kills and with all keys, the controller updates every object to its last
/// generation, and leaves no other files.
fn assert_converges(directory: &TestDirectory, last: &[u32]) {
    for i in 0..directory.keys.len() {
        directory.put_key(i);
    }
    let _controller = directory.start();
    for (object, generation) in last.iter().enumerate().filter(|(_, last)| **last > 0) {
        let want: BTreeMap<String, String> = items(*generation)
            .map(|item| (item.to_owned(), value(object, *generation, item)))
            .collect();
        until(&format!("{} is up to date", name(object)), || {
            read_all(&directory.values_directory(object))
                .is_some_and(|(values, other_entries)| values == want && other_entries == 2)
        });
    }
}

/// Returns every value by name, and the number of other entries: `..data` and versions.
fn read_all(directory: &Path) -> Option<(BTreeMap<String, String>, usize)> {
    let mut values = BTreeMap::new();
    let mut other_entries = 0;
    for entry in std::fs::read_dir(directory).ok()? {
        let name = entry.ok()?.file_name().into_string().ok()?;
        if name.starts_with("..") {
            other_entries += 1;
        } else {
            let text = std::fs::read_to_string(directory.join(&name)).ok()?;
            values.insert(name, text);
        }
    }
    Some((values, other_entries))
}

fn until(goal: &str, mut is_fulfilled: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_fulfilled() {
        assert!(
            Instant::now() < deadline,
            "timed out after {LIMIT:?}: {goal}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
