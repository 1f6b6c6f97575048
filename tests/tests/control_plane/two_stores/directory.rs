//! A test store in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use shared::key::NewKey;
use shared::manifest::{self, Reading, Shape, to_yaml};
use shared::resource::{SealedSecret, SealedSecretStatus};
use shared::{base64, key_secret};
use tests::logged::LoggedProcess;
use tests::scratch::Scratch;
use tests::sealing::KEYS;
use tests::{binaries, guarded};

use super::store::{TestStore, Values, malformed_object};

const NAMESPACE: &str = "ns";

pub(crate) struct Directory {
    scratch: Scratch,
    process: LoggedProcess,
}

impl Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.path(&format!("sealed/{name}.yaml"))
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.path(&format!("secrets/{NAMESPACE}/{name}"))
    }

    fn status_file(&self, name: &str) -> PathBuf {
        self.path(&format!("status/{NAMESPACE}/{name}.yaml"))
    }
}

async fn start_controller(directory: &Path) -> LoggedProcess {
    let mut command = guarded::command(binaries::controller());
    command
        .args([
            "--listen-addr=127.0.0.1:0",
            "--listen-metrics-addr=127.0.0.1:0",
        ])
        .arg("--key-renew-period=0")
        .arg("--directory")
        .arg(directory);
    let mut process = LoggedProcess::spawn(&mut command).unwrap();
    let serving = |log: &str| log.contains("HTTP server serving").then_some(());
    process
        .wait_for_log("the controller serves HTTP", serving)
        .await;
    process
}

fn put_key(directory: &Path, name: &str, key: &NewKey) {
    let none = std::collections::BTreeMap::new;
    let secret = key_secret::build(name, "kube-system", key, none(), none());
    let path = directory.join(format!("keys/{name}.yaml"));
    fs::write(path, to_yaml(&secret.to_document())).unwrap();
}

impl TestStore for Directory {
    async fn new() -> Self {
        let scratch = Scratch::new();
        for directory in ["sealed", "keys"] {
            fs::create_dir(scratch.path().join(directory)).unwrap();
        }
        put_key(scratch.path(), "one", &KEYS[0]);
        let process = start_controller(scratch.path()).await;
        Self { scratch, process }
    }

    fn namespace(&self) -> &str {
        NAMESPACE
    }

    async fn put(&self, sealed: &SealedSecret) {
        let name = sealed.metadata.name.as_deref().unwrap();
        fs::write(self.manifest(name), to_yaml(&sealed.to_document())).unwrap();
    }

    async fn put_malformed(&self, name: &str) {
        let object = malformed_object(name, NAMESPACE);
        fs::write(self.manifest(name), object.to_string()).unwrap();
    }

    async fn remove(&self, name: &str) {
        fs::remove_file(self.manifest(name)).unwrap();
    }

    async fn add_key(&self, key: &NewKey) {
        put_key(self.scratch.path(), "two", key);
    }

    async fn restart(mut self, action: impl AsyncFnOnce(&Self)) -> Self {
        self.process.signal(rustix::process::Signal::TERM);
        tests::patience::until("the controller has exited", async || {
            self.process.try_wait()
        })
        .await;
        action(&self).await;
        self.process = start_controller(self.scratch.path()).await;
        self
    }

    async fn tamper(&self, name: &str, item: &str, value: &str) {
        fs::write(self.secret(name).join(item), value).unwrap();
    }

    async fn put_unowned(&self, name: &str, item: &str, value: &str) {
        fs::create_dir_all(self.secret(name)).unwrap();
        fs::write(self.secret(name).join(item), value).unwrap();
    }

    async fn values(&self, name: &str) -> Option<Values> {
        let entries = fs::read_dir(self.secret(name)).ok()?;
        let mut values = Values::new();
        for entry in entries {
            let key = entry.ok()?.file_name().into_string().ok()?;
            if !key.starts_with("..") {
                values.insert(key.clone(), fs::read(self.secret(name).join(&key)).ok()?);
            }
        }
        Some(values)
    }

    async fn status(&self, name: &str) -> Option<SealedSecretStatus> {
        let text = fs::read(self.status_file(name)).ok()?;
        let documents = manifest::read(&text).ok()?;
        let json = Reading::default().json(&documents.first()?.root, Shape::Any);
        serde_json::from_value(json.ok()?["status"].take()).ok()
    }

    async fn revision(&self, name: &str) -> String {
        let version = fs::read_link(self.secret(name).join("..data")).unwrap();
        let status = fs::read(self.status_file(name)).unwrap();
        let modified_at = fs::metadata(self.status_file(name)).unwrap().modified();
        let status = base64::encode(&status);
        format!("{} {status} {modified_at:?}", version.display())
    }

    fn log(&self) -> String {
        self.process.log()
    }
}
