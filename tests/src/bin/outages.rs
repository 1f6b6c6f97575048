//! Measures how soon a Secret follows after outages of several kinds, beside Bitnami's controller, and writes
//! `deploy/docs/outages.md`. Each outage is one of a control plane that was started for it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check that people run fails by panicking, and speaks"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, CustomResourceExt as _, ResourceExt as _};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::control_plane::ControlPlane;
use tests::pod::{Pod, Root};
use tests::prometheus::Prometheus;
use tests::roles::{self, ACCOUNT, Reach};
use tests::sealing::{KEYS, put_key, sealed_for};
use tests::{binaries, http, patience, peer};

const MINUTE: Duration = Duration::from_mins(1);
/// A Secret that does not follow within this counts as none.
const LONGEST: Duration = Duration::from_mins(5);
/// Before and after an outage, so that what was begun comes to an end.
const REST: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    None,
    ApiServer,
    Etcd,
    Kill,
    Lease,
    Definition,
    Keys,
    Rights,
}

impl Outage {
    const ALL: [Self; 8] = [
        Self::None,
        Self::ApiServer,
        Self::Etcd,
        Self::Kill,
        Self::Lease,
        Self::Definition,
        Self::Keys,
        Self::Rights,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::None => "nothing, for comparison",
            Self::ApiServer => "no API server for 60 s",
            Self::Etcd => "no etcd for 60 s",
            Self::Kill => "the controller killed (`kill -9`) and started again by the kubelet",
            Self::Lease => "the Lease deleted",
            Self::Definition => "the definition deleted with all objects, and made again",
            Self::Keys => "every key Secret deleted, and restored 60 s later",
            Self::Rights => "the Role unbound for 60 s, and bound again",
        }
    }
}

/// Which controller.
#[derive(Debug, Clone, Copy)]
enum Side {
    Ours,
    Bitnami,
}

impl Side {
    fn program(self) -> PathBuf {
        match self {
            Self::Ours => binaries::controller(),
            Self::Bitnami => peer::peer_controller(),
        }
    }
}

/// What was measured of one outage.
#[derive(Debug)]
struct Row {
    /// From the end of the outage to the next Secret; none if there was none in time.
    took: Option<Duration>,
    writes: usize,
    lines: usize,
    alerts: BTreeSet<String>,
}

struct Case {
    plane: ControlPlane,
    client: Client,
    namespace: String,
    program: PathBuf,
    words: Vec<String>,
    pod: Option<Pod>,
    /// What containers logged that are gone.
    logged: usize,
}

impl Case {
    async fn start(side: Side, metrics: u16) -> Self {
        let plane = ControlPlane::start().await;
        let namespace = plane.namespace("outage").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_leases(&namespace).await;
        for (i, key) in KEYS.iter().enumerate() {
            put_key(&namespace, &format!("sealed-secrets-key{i}"), key).await;
        }
        let words = [
            "--all-namespaces=false".to_owned(),
            format!("--listen-addr=127.0.0.1:{}", http::free_port()),
            format!("--listen-metrics-addr=127.0.0.1:{metrics}"),
            "--key-renew-period=0".to_owned(),
        ];
        let name = namespace.name().to_owned();
        drop(namespace);
        let mut case = Self {
            client: plane.admin(),
            namespace: name,
            program: side.program(),
            words: words.into(),
            pod: None,
            logged: 0,
            plane,
        };
        case.run().await;
        case
    }

    /// The next container of the same Pod.
    async fn run(&mut self) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let uid = [("POD_UID".to_owned(), "of-this-pod".to_owned())];
        let namespace = self.plane.existing(&self.namespace);
        let root = Root::Ours(self.program.clone());
        let pod = Pod::spawn(&self.plane, &namespace, ACCOUNT, root, &words, &uid).await;
        self.pod = Some(pod);
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn lines(&self) -> usize {
        let log = self.pod.as_ref().map(Pod::log).unwrap_or_default();
        self.logged + log.lines().count()
    }

    /// The time until a new object has its Secret.
    async fn next_secret(&self, name: &str) -> Option<Duration> {
        let (items, start) = ([("a", "1")], Instant::now());
        let sealed = sealed_for(&KEYS[0], &self.namespace, name, &items, Scope::Strict);
        let mut is_created = false;
        while start.elapsed() < LONGEST {
            if !is_created {
                let sealed_secrets = self.api::<SealedSecret>();
                let created = sealed_secrets.create(&PostParams::default(), &sealed).await;
                is_created = created.is_ok();
            }
            let secret = self.api::<ApiSecret>().get_opt(name).await;
            if secret.is_ok_and(|secret| secret.is_some()) {
                return Some(start.elapsed());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        None
    }

    /// Goes through the outage, and gives the time from its end to the next Secret.
    async fn suffers(&mut self, outage: Outage) -> Option<Duration> {
        match outage {
            Outage::None => {}
            Outage::ApiServer => {
                self.plane.stop_api_server();
                tokio::time::sleep(MINUTE).await;
                self.plane.start_api_server().await;
            }
            Outage::Etcd => {
                self.plane.stop_etcd();
                tokio::time::sleep(MINUTE).await;
                self.plane.start_etcd().await;
            }
            Outage::Kill => {
                self.logged = self.lines();
                self.pod = None;
                self.run().await;
            }
            Outage::Lease => {
                let all = ListParams::default();
                let leases = self.api::<Lease>();
                let delete = DeleteParams::default();
                leases.delete_collection(&delete, &all).await.unwrap();
            }
            Outage::Definition => self.remake_definition().await,
            Outage::Keys => return self.lose_keys().await,
            Outage::Rights => self.lose_rights().await,
        }
        self.next_secret("after").await
    }

    async fn remake_definition(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = SealedSecret::crd().name_any();
        let delete = DeleteParams::default();
        definitions.delete(&name, &delete).await.unwrap();
        patience::until("the definition is gone", async || {
            let found = definitions.get_opt(&name).await.unwrap();
            found.is_none().then_some(())
        })
        .await;
        // Long enough for a watch to notice.
        tokio::time::sleep(REST).await;
        self.plane.install(&SealedSecret::crd()).await;
    }

    /// The time counts while there is no key.
    async fn lose_keys(&self) -> Option<Duration> {
        let secrets = self.api::<ApiSecret>();
        let names: Vec<_> = (0..KEYS.len())
            .map(|i| format!("sealed-secrets-key{i}"))
            .collect();
        for name in &names {
            let delete = DeleteParams::default();
            secrets.delete(name, &delete).await.unwrap();
        }
        tokio::time::sleep(REST).await;
        let took = self.next_secret("after").await;
        tokio::time::sleep(MINUTE).await;
        let namespace = self.plane.existing(&self.namespace);
        for (name, key) in names.iter().zip(KEYS.iter()) {
            put_key(&namespace, name, key).await;
        }
        took
    }

    async fn lose_rights(&self) {
        let bindings = self.api::<RoleBinding>();
        let mut binding = bindings.get("secrets-unsealer").await.unwrap();
        let delete = DeleteParams::default();
        bindings.delete("secrets-unsealer", &delete).await.unwrap();
        tokio::time::sleep(MINUTE).await;
        binding.metadata.resource_version = None;
        binding.metadata.uid = None;
        bindings
            .create(&PostParams::default(), &binding)
            .await
            .unwrap();
    }
}

async fn measure(side: Side, outage: Outage) -> Row {
    let metrics = http::free_port();
    let mut case = Case::start(side, metrics).await;
    let rules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/helm/sealed-secrets/files/alerts.yaml");
    let prometheus = Prometheus::scraping(metrics, Some(&rules));
    assert!(case.next_secret("before").await.is_some(), "{side:?}");
    prometheus.finds("up == 1").await;
    tokio::time::sleep(REST).await;
    let (lines, writes) = (case.lines(), case.plane.audit().len());
    let took = case.suffers(outage).await;
    tokio::time::sleep(REST).await;
    let row = Row {
        took,
        writes: case.plane.audit().len() - writes,
        lines: case.lines() - lines,
        alerts: alerts(&prometheus).await,
    };
    println!("{}, {side:?}: {row:?}", outage.title());
    row
}

async fn alerts(prometheus: &Prometheus) -> BTreeSet<String> {
    let query = "count by (alertname) (max_over_time(ALERTS{alertstate=\"firing\"}[10m]))";
    let series = prometheus.series(query).await.unwrap_or_default();
    let name = |one: &serde_json::Value| one["metric"]["alertname"].as_str().map(str::to_owned);
    series.iter().filter_map(name).collect()
}

const HEAD: &str = "\
# Outages

Written by `.ci/extra outages`. It runs both controllers on a real control plane (etcd, API server and controller manager on
one machine), one outage after the other, each controller on a control plane of its own at the same time.

- *Next Secret*: the time from the end of the outage until an object that is created then has its Secret; where keys are
  deleted, while there is none.
- *Writes*: requests of the controller that change something, from before the outage until five seconds after the Secret. Here
  they include renewals of the Lease, one every two seconds, by which a second replica could take over.
- *Alerts*: those of [`alerts.yaml`](../helm/sealed-secrets/files/alerts.yaml) that fired meanwhile. An outage of a minute
  is no reason for one, the loss of every key is.

";

const TABLE: &str = "
| outage | next Secret: here | Bitnami's | writes: here | Bitnami's | lines in the log: here | Bitnami's | alerts |
|---|---|---|---|---|---|---|---|
";

const TAIL: &str = "
When the Role is unbound, this controller notices within a minute and reports it; then it asks again after a second at most,
which is the time in the last row. Bitnami's controller does not notice: the API server looks at rights when a watch begins, and its
watches last five to ten minutes.

A clock that is 40 days ahead and then set back is no row, because it takes a fake clock. The tests
`a_key_made_while_the_clock_was_ahead_neither_seals_nor_holds_off_the_next` and
`if_every_key_is_from_the_future_one_is_made_that_is_not` in `controller/tests/keys.rs` move it, and
`tests/alerts/tests.yaml` shows which alert fires.
";

fn line(outage: Outage, ours: &Row, bitnamis: &Row) -> String {
    let took = |row: &Row| match row.took {
        Some(took) => format!("{:.2} s", took.as_secs_f64()),
        None => format!("none in {} s", LONGEST.as_secs()),
    };
    let alerts: Vec<_> = ours.alerts.iter().map(|name| format!("`{name}`")).collect();
    let alerts = if alerts.is_empty() {
        "none".to_owned()
    } else {
        alerts.join(", ")
    };
    let mut line = format!("| {} | {} | {}", outage.title(), took(ours), took(bitnamis));
    let _ = write!(line, " | {} | {}", ours.writes, bitnamis.writes);
    let _ = writeln!(line, " | {} | {} | {alerts} |", ours.lines, bitnamis.lines);
    line
}

/// Figures of a development build are worse.
fn build() -> &'static str {
    let is_release = binaries::controller()
        .components()
        .any(|part| part.as_os_str() == "release");
    if is_release {
        "The controller is a release build."
    } else {
        "The controller is a development build, which is several times slower than a release; Bitnami's is a release."
    }
}

#[tokio::main]
async fn main() {
    let mut text = format!("{HEAD}{}\n{TABLE}", build());
    for outage in Outage::ALL {
        let (ours, bitnamis) =
            tokio::join!(measure(Side::Ours, outage), measure(Side::Bitnami, outage));
        text += &line(outage, &ours, &bitnamis);
    }
    text += TAIL;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docs/outages.md");
    fs::write(path, text).unwrap();
}
