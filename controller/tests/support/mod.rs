//! A controller on a temporary directory, run round by round with a clock that only the test advances.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test program uses only some of the helpers, and a test fails by panicking"
)]

pub mod api_server;
pub mod server;
pub mod v2_objects;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use controller::args::Config;
use controller::directory::{DirectoryController, INTERVAL, StartError};
use controller::metrics::Metrics;
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shared::key::{KeySize, KeySpec, NewKey};
use shared::plain::Plain;
use shared::resource::{Condition, SealedSecret};
use shared::scope::Scope;
use shared::seal::seal;
use shared::secret::Secret;
use shared::{key_secret, manifest};
use tracing::Dispatch;
use tracing::field::Field;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Two keys for all tests of a program, since generating a key is slow.
pub static KEYS: LazyLock<[NewKey; 2]> = LazyLock::new(|| [key(1_700_000_000), key(1_700_000_001)]);

/// Returns a new key whose certificate is valid from this second for ten years.
pub fn key(second: i64) -> NewKey {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(87_600),
        common_name: String::new(),
    };
    let now = Timestamp::from_second(second).unwrap();
    spec.generate(now, &mut shared::random::system()).unwrap()
}

/// Returns the manifest of a key, in the format of a backup.
pub fn key_manifest(name: &str, key: &NewKey) -> String {
    let secret = key_secret::build(name, "kube-system", key, BTreeMap::new(), BTreeMap::new());
    manifest::to_yaml(&secret.to_document())
}

/// Returns a SealedSecret that is sealed for a key.
pub fn sealed(key: &NewKey, id: &str, items: &[(&str, &str)]) -> SealedSecret {
    let (namespace, name) = id.split_once('/').unwrap();
    let mut secret = Secret::default();
    secret.metadata.namespace = Some(namespace.into());
    secret.metadata.name = Some(name.into());
    // With this scope, objects with invalid names can be sealed too.
    Scope::ClusterWide.annotate(secret.metadata.annotations.get_or_insert_default());
    for (item, value) in items {
        secret
            .data
            .insert((*item).into(), Plain::from((*value).to_owned()));
    }
    seal(
        &secret,
        key.pair.certificate().public_key(),
        &mut shared::random::system(),
    )
    .unwrap()
}

/// Returns the manifest of a SealedSecret.
pub fn manifest_of(sealed: &SealedSecret) -> String {
    manifest::to_yaml(&sealed.to_document())
}

/// Sends the log of this thread to a layer until the guard is dropped.
pub fn record_log(layer: impl Layer<Registry> + Send + Sync) -> DefaultGuard {
    // While a process has only one subscriber, `tracing` permanently discards a log line that another thread reaches
    // first, without asking the subscriber.
    static SECOND_SUBSCRIBER: LazyLock<Dispatch> =
        LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&SECOND_SUBSCRIBER);
    tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
}

/// Records the messages of warnings.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            event.record(&mut |field: &Field, value: &dyn std::fmt::Debug| {
                if field.name() == "message" {
                    self.0.lock().unwrap().push(format!("{value:?}"));
                }
            });
        }
    }
}

impl Warnings {
    pub fn messages(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Raises the limit on open files of this process and its children to the maximum.
pub fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

pub struct Case {
    pub outer: tempfile::TempDir,
    pub dir: PathBuf,
    pub now: Timestamp,
    args: Vec<String>,
    controller: Option<DirectoryController>,
}

impl Case {
    /// Creates a directory with the first key, and starts a controller on it.
    pub async fn new() -> Self {
        let mut case = Self::idle();
        case.write("keys/one.yaml", &key_manifest("one", &KEYS[0]));
        case.start(&[]).await.unwrap();
        case
    }

    /// Creates a directory without a controller.
    pub fn idle() -> Self {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("dir");
        std::fs::create_dir_all(dir.join("sealed")).unwrap();
        std::fs::create_dir_all(dir.join("keys")).unwrap();
        Self {
            outer,
            dir,
            // Later than the clock that stamps files, so that every file counts as complete.
            now: Timestamp::now() + SignedDuration::from_hours(1),
            args: Vec::new(),
            controller: None,
        }
    }

    /// Starts a controller after stopping the previous one.
    pub async fn start(&mut self, args: &[&str]) -> Result<(), StartError> {
        self.controller = None;
        self.set_args(args);
        let config = self.config();
        self.controller = Some(
            DirectoryController::start(
                &config,
                &self.dir,
                Arc::new(Metrics::new(false).unwrap()),
                self.now,
            )
            .await?,
        );
        self.settle().await;
        Ok(())
    }

    /// Sets the arguments of the next controller.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Returns the configuration of a controller on this directory.
    pub fn config(&self) -> Config {
        let mut args: Vec<OsString> = vec![
            "--directory".into(),
            self.dir.clone().into(),
            "--key-size=2048".into(),
            "--key-renew-period=0".into(),
        ];
        args.extend(self.args.iter().map(OsString::from));
        Config::read(args, |_| None).unwrap()
    }

    pub async fn restart(&mut self) {
        let args = self.args.clone();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.start(&args).await.unwrap();
    }

    pub fn controller(&mut self) -> &mut DirectoryController {
        self.controller.as_mut().unwrap()
    }

    /// Runs rounds at the current time until nothing is due.
    pub async fn settle(&mut self) {
        while self.controller.as_mut().unwrap().run_once(self.now).await <= self.now {}
    }

    /// Advances the clock interval by interval, as the main loop does.
    pub async fn advance(&mut self, time: SignedDuration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + INTERVAL);
            self.settle().await;
        }
    }

    /// Advances the clock by one interval.
    pub async fn tick(&mut self) {
        self.advance(INTERVAL).await;
    }

    /// Writes a file atomically.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = self.outer.path().join("temporary");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, path).unwrap();
    }

    /// Seals for the first key and writes the manifest to a file.
    pub fn seal(&self, file: &str, id: &str, items: &[(&str, &str)]) {
        self.write(file, &manifest_of(&sealed(&KEYS[0], id, items)));
    }

    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.dir.join(path)).unwrap();
    }

    /// Replaces `sealed` with an empty directory, like an empty mount point. Returns the path of the original
    /// directory.
    pub fn unmount(&self) -> PathBuf {
        let original = self.outer.path().join("away");
        std::fs::rename(self.dir.join("sealed"), &original).unwrap();
        std::fs::create_dir(self.dir.join("sealed")).unwrap();
        original
    }

    /// Reads a value as an application does, by its path relative to `secrets`.
    pub fn value(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.join("secrets").join(path)).ok()
    }

    /// Returns the current version of an object's values.
    pub fn version(&self, id: &str) -> PathBuf {
        std::fs::read_link(self.dir.join("secrets").join(id).join("..data")).unwrap()
    }

    /// Returns the status and message of an object's `Synced` condition.
    pub fn synced_condition(&self, id: &str) -> Option<(String, String)> {
        let condition = self.conditions(id)?.into_iter().next()?;
        assert_eq!(condition.type_, "Synced");
        Some((condition.status, condition.message.unwrap_or_default()))
    }

    /// Returns the reason of the `Synced` condition.
    pub fn reason(&self, id: &str) -> String {
        let condition = self.conditions(id).unwrap().into_iter().next().unwrap();
        condition.reason.unwrap()
    }

    /// Returns the message of the `Synced` condition of a failed object. Panics if the object has not failed.
    pub fn failure(&self, id: &str) -> String {
        match self.synced_condition(id) {
            Some((status, message)) if status == "False" => message,
            other => panic!("{id} has not failed: {other:?}"),
        }
    }

    pub fn is_synced(&self, id: &str) -> bool {
        self.synced_condition(id) == Some(("True".into(), String::new()))
    }

    pub fn status_text(&self, id: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.join(format!("status/{id}.yaml"))).ok()
    }

    pub fn conditions(&self, id: &str) -> Option<Vec<Condition>> {
        let text = self.status_text(id)?;
        let document = &manifest::read(text.as_bytes()).unwrap()[0];
        let mut reading = manifest::Reading::default();
        let json = reading.json(&document.root, manifest::Shape::Any).unwrap();
        Some(serde_json::from_value(json["status"]["conditions"].clone()).unwrap())
    }

    /// Returns every path below a directory with its content or, for links, its target.
    pub fn tree(path: &Path) -> BTreeMap<PathBuf, String> {
        let mut entries = BTreeMap::new();
        let mut pending = vec![path.to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                let text = if kind.is_symlink() {
                    format!("-> {}", std::fs::read_link(entry.path()).unwrap().display())
                } else if kind.is_dir() {
                    pending.push(entry.path());
                    "a directory".into()
                } else {
                    std::fs::read_to_string(entry.path()).unwrap()
                };
                entries.insert(entry.path(), text);
            }
        }
        entries
    }
}
