//! Tests the content of volumes, with a real controller.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::csi::{
    Driver, Provider, StatusChanges, create_class, create_class_with, failures, versions, volume,
};
use tests::node::{Node, NodePod};
use tests::patience::{until, until_within};
use tests::roles::{self, Reach};
use tests::sealing::{KEYS, put_key, sealed_for};

use super::{driver, provider_name, read, reader};

/// A value that no other file or object of a test contains.
const CANARY: &str = "canary-7f3a91c2e5d8";

/// The time limit for a periodic refresh of a volume by the kubelet.
const REFRESH_LIMIT: Duration = Duration::from_secs(100);

/// The time limit for a Pod to become ready, shorter than the limit of other waits.
const READY_LIMIT: Duration = Duration::from_secs(50);

/// A controller and a provider of the CSI driver, for one namespace.
pub(super) struct Site {
    pub(super) plane: &'static ControlPlane,
    pub(super) node: &'static Node,
    pub(super) driver: &'static Driver,
    pub(super) namespace: Namespace<'static>,
    pub(super) controller: Option<ClusterController>,
    pub(super) provider: Provider,
    port: u16,
}

impl Site {
    pub(super) async fn new(purpose: &str) -> Self {
        let (plane, ..) = driver().await;
        let namespace = plane.namespace(purpose).await;
        let name = provider_name(&namespace);
        Self::start(namespace, &name).await
    }

    /// Like [`Self::new`], with a provider of this name, which no other test uses.
    pub(super) async fn with_provider(purpose: &str, name: &str) -> Self {
        let (plane, ..) = driver().await;
        Self::start(plane.namespace(purpose).await, name).await
    }

    async fn start(namespace: Namespace<'static>, name: &str) -> Self {
        let (plane, node, driver) = driver().await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_reviews(&namespace).await;
        roles::create_caller(&namespace, "web", &["unseal"]).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let port = tests::http::free_port();
        let controller = start_controller(plane, &namespace, port).await;
        let authority = controller.authority().await;
        let provider = Provider::start(driver, name, port, &authority).await;
        Self {
            plane,
            node,
            driver,
            namespace,
            controller: Some(controller),
            provider,
            port,
        }
    }

    pub(super) fn stop_controller(&mut self) {
        let controller = self.controller.take();
        controller.expect("the controller is running").stop();
    }

    /// Starts a new controller at the same address, and makes the provider trust the new CA of the controller.
    pub(super) async fn start_controller(&mut self) {
        let controller = start_controller(self.plane, &self.namespace, self.port).await;
        self.provider.set_authority(&controller.authority().await);
        self.controller = Some(controller);
    }

    /// Creates or changes a SealedSecret, sealed for the key with this index. Its values are delivered without a Secret.
    pub(super) async fn seal(&self, name: &str, key: usize, items: &[(&str, &str)]) {
        let namespace = self.namespace.name();
        let mut sealed = sealed_for(&KEYS[key], namespace, name, items, Scope::Strict);
        sealed.annotations_mut().insert(
            deliver::DELIVER_ANNOTATION.to_owned(),
            deliver::DELIVER_FILES.to_owned(),
        );
        let api: Api<SealedSecret> = self.namespace.api();
        let params = PatchParams::apply("user").force();
        let document: Value = sealed.to_document();
        let applied = api.patch(name, &params, &Patch::Apply(&document)).await;
        applied.expect("the API server accepts the SealedSecret");
    }

    /// Creates a SecretProviderClass for the provider.
    pub(super) async fn create_class(&self, name: &str, objects: &str) {
        create_class(&self.namespace, name, self.provider.name(), objects).await;
    }

    /// Creates a Pod with a volume for a class. Its service account has the permission to unseal.
    pub(super) async fn create_pod(&self, class: &str) -> NodePod {
        self.create_pod_with(&volume(class, &json!({})), "web")
            .await
    }

    pub(super) async fn create_pod_with(&self, volume: &Value, account: &str) -> NodePod {
        NodePod::create(&self.namespace, reader(volume, account)).await
    }

    /// Waits until a Pod is ready.
    ///
    /// # Panics
    /// Panics with the messages of its failed mounts and the logs of the provider and the controller if it is not ready
    /// in time.
    pub(super) async fn wait_until_ready(&self, pod: &NodePod) -> Pod {
        tokio::select! {
            ready = pod.wait_until_ready() => ready,
            () = tokio::time::sleep(READY_LIMIT) => {
                let events = failures(&self.namespace, pod).await;
                let controller = self.controller.as_ref().map(ClusterController::log);
                let log = controller.unwrap_or_default();
                let end: Vec<_> = log.lines().rev().take(20).collect();
                panic!("{events:#?}\n{}\n{end:#?}", self.provider.log())
            }
        }
    }

    pub(super) async fn versions(&self, pod: &NodePod) -> BTreeMap<String, String> {
        until("the driver has recorded versions", async || {
            versions(&self.namespace, pod).await
        })
        .await
    }

    /// Changes an annotation of a Pod, so that the kubelet remounts its volumes.
    pub(super) async fn touch(&self, pod: &NodePod, text: &str) {
        let pods: Api<Pod> = self.namespace.api();
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": text } } }));
        let patched = pods
            .patch(pod.name(), &PatchParams::default(), &patch)
            .await;
        patched.expect("the Pod exists");
    }
}

async fn start_controller(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    port: u16,
) -> ClusterController {
    let listen = format!("--listen-authorized-addr=127.0.0.1:{port}");
    let args = [&listen, "--key-renew-period=0"];
    ClusterController::start(plane, namespace, &args).await
}

#[tokio::test]
async fn a_pod_reads_values_in_memory_and_no_secret_exists() {
    let site = Site::new("csi-content").await;
    let items = [("user", "app"), ("password", CANARY)];
    site.seal("db", 0, &items).await;
    let objects = r#"
        - sealedSecret: db
          path: db/
          mode: "0440"
        - path: dsn
          template: "postgres://{{ .db.user }}:{{ .db.password }}@pg/shop"
          from: [db]
    "#;
    site.create_class("web", objects).await;
    let pod = site.create_pod("web").await;
    site.wait_until_ready(&pod).await;
    assert_eq!(read(&pod, "db/password").await, CANARY);
    assert_eq!(read(&pod, "db/user").await, "app");
    assert_eq!(
        read(&pod, "dsn").await,
        format!("postgres://app:{CANARY}@pg/shop")
    );
    let mode = async |path: &str| pod.run("main", &["stat", "-L", "-c", "%a", path]).await;
    assert_eq!(mode("/values/db/password").await, "440\n");
    assert_eq!(mode("/values/dsn").await, "444\n");
    let mounts = pod.run("main", &["cat", "/proc/mounts"]).await;
    assert!(mounts.contains("tmpfs /values tmpfs ro,"), "{mounts}");
    let recorded = site.versions(&pod).await;
    assert_eq!(recorded.keys().collect::<Vec<_>>(), ["db"]);
    assert_eq!(recorded["db"].len(), 22, "{recorded:?}");
    let secrets: Api<Secret> = site.namespace.api();
    let secrets = secrets.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = secrets.items.iter().map(ResourceExt::name_any).collect();
    assert!(!names.contains(&"db".to_owned()), "{names:?}");
    assert_has_no_canary(&site).await;
}

/// Checks that the canary is in no log, in no event, and in no file of etcd.
async fn assert_has_no_canary(site: &Site) {
    let kubelet = std::fs::read_to_string(site.node.log("kubelet")).unwrap();
    let logs = [
        (
            "controller",
            site.controller
                .as_ref()
                .expect("the controller is running")
                .log(),
        ),
        ("provider", site.provider.log()),
        ("driver", site.driver.log()),
        ("kubelet", kubelet),
    ];
    for (name, log) in logs {
        assert!(!log.contains(CANARY), "the log of the {name} has the value");
    }
    let events: Api<Event> = site.namespace.api();
    let events = events.list(&ListParams::default()).await.unwrap();
    assert!(
        !serde_json::to_string(&events.items)
            .unwrap()
            .contains(CANARY)
    );
    // The log of etcd contains each write.
    let etcd = site.plane.kubeconfig().with_file_name("etcd");
    assert!(files_below(&etcd).len() > 1, "{}", etcd.display());
    for file in files_below(&etcd) {
        let content = std::fs::read(&file).unwrap();
        let found = memchr::memmem::find(&content, CANARY.as_bytes());
        assert_eq!(found, None, "{}", file.display());
    }
}

fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[tokio::test]
async fn kubelet_refreshes_a_volume_and_removes_it_with_the_pod() {
    let site = Site::new("csi-refresh").await;
    site.seal("db", 0, &[("password", "first")]).await;
    site.create_class("web", "- sealedSecret: db").await;
    let pod = site.create_pod("web").await;
    let uid = site.wait_until_ready(&pod).await.uid();
    let first = site.versions(&pod).await;

    site.seal("db", 0, &[("password", "second")]).await;
    let start = Instant::now();
    until_within(REFRESH_LIMIT, "the volume has the new value", async || {
        (read(&pod, "password").await == "second").then_some(())
    })
    .await;
    eprintln!("the volume had the new value after {:.1?}", start.elapsed());
    // The driver records versions after it has written the files.
    until("the version has changed", async || {
        (site.versions(&pod).await != first).then_some(())
    })
    .await;

    // The driver skips a mount within its interval after the last change to the files.
    tokio::time::sleep(Duration::from_secs(2)).await;
    site.seal("db", 0, &[("password", "third")]).await;
    let start = Instant::now();
    site.touch(&pod, "1").await;
    until("the volume has the new value", async || {
        (read(&pod, "password").await == "third").then_some(())
    })
    .await;
    eprintln!("after a change to the Pod, after {:.1?}", start.elapsed());
    let same = site.wait_until_ready(&pod).await;
    assert_eq!(same.uid(), uid);
    let status = tests::node::container_status(&same, "main").unwrap();
    assert_eq!(status.restart_count, 0);

    let uid = uid.expect("the API server sets it");
    assert!(site.node.has_mount(&uid));
    pod.delete().await;
    let start = Instant::now();
    until("the volume is unmounted", async || {
        (!site.node.has_mount(&uid)).then_some(())
    })
    .await;
    eprintln!("the volume was unmounted after {:.1?}", start.elapsed());
}

/// Attack: the author of a Pod requests values that its service account may not unseal, in the class, in the attributes
/// of the volume, or under the identity of another Pod.
#[tokio::test]
async fn only_the_account_of_the_pod_decides_which_values_it_gets() {
    let site = Site::new("csi-matrix").await;
    site.seal("db", 0, &[("password", CANARY)]).await;
    site.create_class("web", "- sealedSecret: db").await;
    let granted = site.create_pod("web").await;
    site.wait_until_ready(&granted).await;
    let forged = json!({
        "csi.storage.k8s.io/pod.name": granted.name(),
        "csi.storage.k8s.io/serviceAccount.name": "web",
        tests::csi::TOKENS: json!({ deliver::AUDIENCE: { "token": "forged" } }).to_string(),
        "objects": "- {sealedSecret: db, path: forged/}",
    });
    for (case, attributes) in [("no permission", json!({})), ("forged attributes", forged)] {
        let pod = site
            .create_pod_with(&volume("web", &attributes), "default")
            .await;
        let event = until("the Pod has an event", async || {
            failures(&site.namespace, &pod).await.into_iter().next()
        });
        let event = event.await;
        assert!(event.contains("code = PermissionDenied"), "{case}: {event}");
        assert!(!event.contains(CANARY), "{case}: {event}");
        pod.delete().await;
    }
    let token = site
        .plane
        .token_for(site.namespace.name(), "web", &[deliver::AUDIENCE])
        .await;
    let other = site
        .plane
        .token_for(site.namespace.name(), "web", &["other"])
        .await;
    let cases = [
        ("not bound to a Pod", token.as_str(), "16"),
        ("for another audience", &other, "16"),
        ("not a token", "forged", "16"),
    ];
    for (case, token, code) in cases {
        let tokens = json!({ deliver::AUDIENCE: { "token": token } }).to_string();
        let attributes = json!({ "objects": "- sealedSecret: db", tests::csi::TOKENS: tokens });
        let result = node::client::mount(site.provider.socket(), &attributes.to_string()).await;
        let error = result.expect_err(case).to_string();
        assert!(
            error.contains(&format!("the error code {code}:")),
            "{case}: {error}"
        );
        assert!(!error.contains(CANARY), "{case}: {error}");
    }
    assert_has_no_canary(&site).await;
}

/// Fault: no controller is running when a Pod starts, and while other Pods are running.
#[tokio::test]
async fn without_a_controller_old_files_stay_and_new_pods_wait() {
    let mut site = Site::new("csi-outage").await;
    site.seal("db", 0, &[("password", "first")]).await;
    site.create_class("web", "- sealedSecret: db").await;
    let running = site.create_pod("web").await;
    site.wait_until_ready(&running).await;
    site.stop_controller();
    site.touch(&running, "1").await;
    let waiting = site.create_pod("web").await;
    until("the new Pod has an event", async || {
        let events = failures(&site.namespace, &waiting).await;
        let event = events.into_iter().next()?;
        event.contains("cannot reach the controller").then_some(())
    })
    .await;
    assert_eq!(read(&running, "password").await, "first");
    site.start_controller().await;
    site.wait_until_ready(&waiting).await;
    assert_eq!(read(&waiting, "password").await, "first");
    assert_eq!(read(&running, "password").await, "first");
}

#[tokio::test]
async fn versions_change_with_the_value_and_only_then() {
    let mut site = Site::new("csi-versions").await;
    site.seal("db", 0, &[("password", "first")]).await;
    site.create_class("web", "- sealedSecret: db").await;
    let pods = [site.create_pod("web").await, site.create_pod("web").await];
    for pod in &pods {
        site.wait_until_ready(pod).await;
    }
    let first = site.versions(&pods[0]).await;
    assert_eq!(site.versions(&pods[1]).await, first, "equal on all Pods");

    put_key(&site.namespace, "key-1", &KEYS[1]).await;
    site.stop_controller();
    site.start_controller().await;
    let fresh = site.create_pod("web").await;
    site.wait_until_ready(&fresh).await;
    assert_eq!(
        site.versions(&fresh).await,
        first,
        "after a new key and a restart"
    );

    site.seal("db", 1, &[("password", "second")]).await;
    for pod in pods.iter().chain([&fresh]) {
        site.touch(pod, "1").await;
    }
    let changed = until("the version changed", async || {
        let now = site.versions(&pods[0]).await;
        (now != first).then_some(now)
    })
    .await;
    for pod in pods.iter().chain([&fresh]) {
        until("all Pods have the new version", async || {
            (site.versions(pod).await == changed).then_some(())
        })
        .await;
        assert_eq!(read(pod, "password").await, "second");
    }
}

/// Uses a class as in tutorials for Vault's provider, with the changes that the documentation names.
#[tokio::test]
async fn a_class_for_vault_works_after_the_documented_change() {
    let site = Site::new("csi-vault").await;
    let items = [("username", "app"), ("password", "aHVudGVyMg==")];
    site.seal("db-pass", 0, &items).await;
    let objects = r#"
        - objectName: "db-user"
          secretPath: "secret/data/db-pass"
          secretKey: "username"
        - objectName: "db-password"
          secretPath: "secret/data/db-pass"
          secretKey: "password"
          filePermission: 0400
          encoding: base64
    "#;
    let parameters = json!({
        "vaultAddress": "http://vault.default:8200",
        "roleName": "database",
        "objects": objects,
    });
    create_class_with(&site.namespace, "vault", site.provider.name(), parameters).await;
    let pod = site.create_pod("vault").await;
    site.wait_until_ready(&pod).await;
    assert_eq!(read(&pod, "db-user").await, "app");
    assert_eq!(read(&pod, "db-password").await, "hunter2");
    let mode = pod.run("main", &["stat", "-L", "-c", "%a", "/values/db-password"]);
    assert_eq!(mode.await, "400\n");
}

/// Attack: an attacker reads the memory of the provider, as root on the node or from the core dump of a crash, while a
/// Pod runs and after its volume is unmounted.
#[tokio::test]
async fn the_memory_of_the_provider_has_no_value_after_a_mount() {
    let mut site = Site::new("csi-memory").await;
    site.seal("db", 0, &[("password", CANARY)]).await;
    site.create_class("web", "- sealedSecret: db").await;
    let pod = site.create_pod("web").await;
    site.wait_until_ready(&pod).await;
    assert_eq!(read(&pod, "password").await, CANARY);
    let process = site.provider.process();
    let needles = [
        ("the value", CANARY.as_bytes().to_vec()),
        ("the value in base64", base64(CANARY).into_bytes()),
    ];
    until("the memory contains no value", async || {
        let found = tests::memory::needles_in_memory(process.id(), &needles);
        found.is_empty().then_some(())
    })
    .await;
    let own = anonymous_memory_kib(process.id());
    eprintln!("the provider has {own} KiB of its own memory, in a development build");
    assert!(own < 8 << 10, "{own} KiB");
    let uid = pod
        .wait_until_ready()
        .await
        .uid()
        .expect("the API server sets it");
    pod.delete().await;
    until("the volume is unmounted", async || {
        (!site.node.has_mount(&uid)).then_some(())
    })
    .await;
    let found = tests::memory::needles_in_memory(process.id(), &needles);
    assert!(found.is_empty(), "after the unmount: {found:?}");
    let (is_dumped, files) = site.provider.crash(&[CANARY, &base64(CANARY)]).await;
    assert!(!is_dumped, "the provider left a core dump");
    assert!(files.is_empty(), "{files:?} contain the value");
}

/// Returns the anonymous memory of a process in KiB.
fn anonymous_memory_kib(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the kernel reports the memory")
}

/// Encodes a string in base64, without the last characters, which depend on the following bytes.
fn base64(text: &str) -> String {
    let encoded = go_base64(text.as_bytes());
    encoded[..text.len() / 3 * 4].to_owned()
}

fn go_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The number of Pods must not increase the number of private-key operations.
#[tokio::test]
async fn remounts_of_unchanged_volumes_unseal_each_value_once_while_it_is_cached() {
    const PODS: usize = 8;
    let site = Site::new("csi-unchanged").await;
    site.seal("db", 0, &[("password", "hunter2")]).await;
    site.create_class("web", "- sealedSecret: db").await;
    let mut pods = Vec::new();
    for _ in 0..PODS {
        pods.push(site.create_pod("web").await);
    }
    for pod in &pods {
        site.wait_until_ready(pod).await;
    }
    let mounts = || {
        site.driver
            .log()
            .matches("node publish volume complete")
            .count()
    };
    let (before, start) = (count_operations(&site).await, Instant::now());
    let count = mounts();
    for (number, pod) in pods.iter().enumerate() {
        site.touch(pod, &number.to_string()).await;
    }
    until("the volumes are mounted again", async || {
        (mounts() >= count + PODS).then_some(())
    })
    .await;
    let opened = count_operations(&site).await - before;
    let cache_ends = start.elapsed().as_secs() / 30 + 1;
    eprintln!(
        "{} mounts took {opened} private-key operations",
        mounts() - count
    );
    assert!(opened <= cache_ends, "{opened} operations for {PODS} Pods");
}

/// Returns the number of private-key operations of the controller.
async fn count_operations(site: &Site) -> u64 {
    let scrape = site
        .controller
        .as_ref()
        .expect("the controller is running")
        .scrape()
        .await;
    let is_total =
        |line: &&str| line.starts_with("sealed_secrets_controller_private_key_operations_total");
    let line = scrape.lines().find(is_total).expect("the metric exists");
    let number = line
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok());
    number.expect("a number")
}

/// At each change to the `SecretProviderClassPodStatus` of a Pod, Reloader compares object IDs, versions and the name
/// of the class, and restarts the workload if they differ.
#[tokio::test]
async fn reloader_sees_one_change_of_the_status_for_each_change_of_a_value() {
    let site = Site::new("csi-reloader").await;
    site.seal("db", 0, &[("user", "app"), ("password", "first")])
        .await;
    site.create_class("web", "- sealedSecret: db").await;
    let pod = site.create_pod("web").await;
    site.wait_until_ready(&pod).await;
    let first = site.versions(&pod).await;
    let seen = StatusChanges::watch(&site.namespace, pod.name());
    site.seal("db", 0, &[("user", "app"), ("password", "second")])
        .await;
    let mut touches = 0;
    until("the version has changed", async || {
        touches += 1;
        site.touch(&pod, &touches.to_string()).await;
        (site.versions(&pod).await != first).then_some(())
    })
    .await;
    // Mount the unchanged value.
    let mounts = || {
        site.driver
            .log()
            .matches("node publish volume complete")
            .count()
    };
    for number in 0..3 {
        let before = mounts();
        site.touch(&pod, &format!("again-{number}")).await;
        until("the volume is mounted again", async || {
            (mounts() > before).then_some(())
        })
        .await;
    }
    let seen = seen.stop();
    assert_eq!(seen.len(), 2, "the old and the new version: {seen:?}");
}
