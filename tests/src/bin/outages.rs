//! Measures how soon a Secret follows after outages of several kinds, beside Bitnami's controller, and writes
//! `deploy/docs/outages.md`. Each outage disturbs its own control plane. With names of outages as arguments, measures
//! only these, and writes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check prints its results, and fails by panicking"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, CustomResourceExt as _, ResourceExt as _};
use shared::key::{Certificate, KeySize, KeySpec, NewKey};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::control_plane::ControlPlane;
use tests::pod::{Pod, Root};
use tests::prometheus::Prometheus;
use tests::roles::{self, ACCOUNT, Reach};
use tests::sealing::{KEYS, put_key, sealed_for};
use tests::{binaries, http, patience, upstream};

const MINUTE: Duration = Duration::from_mins(1);
/// Maximum wait for a Secret; later ones count as missing.
const MAX_WAIT: Duration = Duration::from_mins(5);
/// Pause before and after an outage, so that work in progress finishes.
const SETTLE_TIME: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A kind of outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    None,
    ApiServer,
    Etcd,
    Kill,
    Lease,
    Definition,
    Keys,
    Clock,
    Rights,
}

impl Outage {
    const ALL: [Self; 9] = [
        Self::None,
        Self::ApiServer,
        Self::Etcd,
        Self::Kill,
        Self::Lease,
        Self::Definition,
        Self::Keys,
        Self::Clock,
        Self::Rights,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::None => "nothing, for comparison",
            Self::ApiServer => "no API server for 60 s",
            Self::Etcd => "no etcd for 60 s",
            Self::Kill => "the controller killed (`kill -9`) and restarted by the kubelet",
            Self::Lease => "the Lease deleted",
            Self::Definition => "the CRD deleted with all objects, and recreated",
            Self::Keys => "every key Secret deleted, and restored 60 s later",
            Self::Clock => {
                "a key generated while the clock was 40 days ahead; the clock set back, the controller restarted"
            }
            Self::Rights => "the Role unbound for 60 s, and bound again",
        }
    }
}

/// The controller under test.
#[derive(Debug, Clone, Copy)]
enum Implementation {
    Ours,
    Bitnami,
}

impl Implementation {
    fn program(self) -> PathBuf {
        match self {
            Self::Ours => binaries::controller(),
            Self::Bitnami => upstream::upstream_controller(),
        }
    }
}

/// The time until a Secret existed; `None` if it did not exist in time.
type Took = Option<Duration>;

/// The measurements of one outage.
#[derive(Debug)]
struct Row {
    /// The time from the end of the outage to the next Secret.
    took: Took,
    writes: usize,
    lines: usize,
    alerts: BTreeSet<String>,
}

struct Case {
    plane: ControlPlane,
    client: Client,
    namespace: String,
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    pod: Option<Pod>,
    /// Number of lines that earlier containers logged.
    logged: usize,
}

impl Case {
    async fn start(implementation: Implementation, metrics: u16) -> Self {
        let plane = ControlPlane::start().await;
        let namespace = plane.namespace("outage").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_leases(&namespace).await;
        for (i, key) in KEYS.iter().enumerate() {
            put_key(&namespace, &format!("sealed-secrets-key{i}"), key).await;
        }
        let port = http::free_port();
        let args = [
            "--all-namespaces=false".to_owned(),
            format!("--listen-addr=127.0.0.1:{port}"),
            format!("--listen-metrics-addr=127.0.0.1:{metrics}"),
            "--key-renew-period=0".to_owned(),
        ];
        let name = namespace.name().to_owned();
        drop(namespace);
        let mut case = Self {
            client: plane.admin(),
            namespace: name,
            program: implementation.program(),
            args: args.into(),
            port,
            pod: None,
            logged: 0,
            plane,
        };
        case.run().await;
        case
    }

    /// Starts the next container of the same Pod.
    async fn run(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        // On this machine all Pods share one network namespace, in which the uid is claimed.
        let uid = [("POD_UID".to_owned(), format!("of-this-pod-{}", self.port))];
        let namespace = self.plane.existing(&self.namespace);
        let root = Root::Ours(self.program.clone());
        let pod = Pod::spawn(&self.plane, &namespace, ACCOUNT, root, &args, &uid).await;
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

    /// Measures the time until a new object has its Secret.
    async fn next_secret(&self, name: &str) -> Took {
        self.secret_of(&KEYS[0], name, Instant::now()).await
    }

    async fn secret_of(&self, key: &NewKey, name: &str, start: Instant) -> Took {
        let items = [("a", "1")];
        let sealed = sealed_for(key, &self.namespace, name, &items, Scope::Strict);
        let mut is_created = false;
        while start.elapsed() < MAX_WAIT {
            if !is_created {
                let sealed_secrets = self.api::<SealedSecret>();
                let created = sealed_secrets.create(&PostParams::default(), &sealed).await;
                is_created = created.is_ok();
            }
            if self.has_secret(name).await {
                return Some(start.elapsed());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        None
    }

    async fn has_secret(&self, name: &str) -> bool {
        let secret = self.api::<ApiSecret>().get_opt(name).await;
        secret.is_ok_and(|secret| secret.is_some())
    }

    /// Causes the outage. Returns the time from its end to the next Secret.
    async fn cause(&mut self, outage: Outage) -> Took {
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
            Outage::Kill => self.restart().await,
            Outage::Lease => {
                let all = ListParams::default();
                let leases = self.api::<Lease>();
                let delete = DeleteParams::default();
                leases.delete_collection(&delete, &all).await.unwrap();
            }
            Outage::Definition => self.recreate_definition().await,
            Outage::Keys => return self.lose_keys().await,
            Outage::Clock => return self.recover_from_a_future_key().await,
            Outage::Rights => self.lose_rights().await,
        }
        self.next_secret("after").await
    }

    async fn restart(&mut self) {
        self.logged = self.lines();
        self.pod = None;
        self.run().await;
    }

    /// Adds a key from the future and restarts the controller. Returns the time until it serves a valid certificate and
    /// an object sealed for it has its Secret.
    async fn recover_from_a_future_key(&mut self) -> Took {
        let now = Timestamp::now();
        let spec = KeySpec {
            size: KeySize::Rsa2048,
            ttl: SignedDuration::from_hours(87_600),
            common_name: String::new(),
        };
        let ahead = now + SignedDuration::from_hours(40 * 24);
        let key = spec.generate(ahead, &mut shared::random::system()).unwrap();
        put_key(
            &self.plane.existing(&self.namespace),
            "sealed-secrets-key-ahead",
            &key,
        )
        .await;
        tokio::time::sleep(SETTLE_TIME).await;
        self.restart().await;
        let start = Instant::now();
        while start.elapsed() < MINUTE {
            let served = self.served().await;
            let key = KEYS.iter().find(|key| {
                let fingerprint = key.pair.certificate().fingerprint();
                served
                    .as_ref()
                    .is_some_and(|served| served.fingerprint() == fingerprint)
            });
            if let Some(key) = key {
                return self.secret_of(key, "after", start).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        None
    }

    async fn served(&self) -> Option<Certificate> {
        let answer = http::get(self.port, "/v1/cert.pem").await.ok()?;
        let pem = &answer[answer.find("-----BEGIN")?..];
        let end = "-----END CERTIFICATE-----";
        let pem = &pem[..pem.find(end)? + end.len()];
        Certificate::from_pem(pem.as_bytes()).ok()
    }

    async fn recreate_definition(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = SealedSecret::crd().name_any();
        let delete = DeleteParams::default();
        definitions.delete(&name, &delete).await.unwrap();
        patience::until("the CRD is deleted", async || {
            let found = definitions.get_opt(&name).await.unwrap();
            found.is_none().then_some(())
        })
        .await;
        // Long enough for a watch to notice.
        tokio::time::sleep(SETTLE_TIME).await;
        self.plane.install(&SealedSecret::crd()).await;
    }

    /// Deletes all keys, and restores them later. Returns the time to the next Secret while no key is stored.
    async fn lose_keys(&self) -> Took {
        let secrets = self.api::<ApiSecret>();
        let names: Vec<_> = (0..KEYS.len())
            .map(|i| format!("sealed-secrets-key{i}"))
            .collect();
        for name in &names {
            let delete = DeleteParams::default();
            secrets.delete(name, &delete).await.unwrap();
        }
        tokio::time::sleep(SETTLE_TIME).await;
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

async fn measure(implementation: Implementation, outage: Outage) -> Row {
    let metrics = http::free_port();
    let mut case = Case::start(implementation, metrics).await;
    let rules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/helm/sealed-secrets/files/alerts.yaml");
    let prometheus = Prometheus::scraping(metrics, Some(&rules));
    assert!(
        case.next_secret("before").await.is_some(),
        "{implementation:?}"
    );
    prometheus.wait_for("up == 1").await;
    tokio::time::sleep(SETTLE_TIME).await;
    let (lines, writes) = (case.lines(), case.plane.audit().len());
    let took = case.cause(outage).await;
    tokio::time::sleep(SETTLE_TIME).await;
    let row = Row {
        took,
        writes: case.plane.audit().len() - writes,
        lines: case.lines() - lines,
        alerts: alerts(&prometheus).await,
    };
    println!("{}, {implementation:?}: {row:?}", outage.title());
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
one machine), one outage after the other, each controller on its own control plane at the same time.

- *Next Secret*: the time from the end of the outage until an object that is created then has its Secret; where keys are
  deleted, while no key is stored.
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
After a kill this controller first acquires its Lease, which takes two requests. Bitnami's controller has no Lease, and no
second replica can take over from it. Other differences of a tenth of a second are noise of the machine.

When the Role is unbound, this controller notices within a minute and reports it; then it retries within a second,
which is the time in the last row. Bitnami's controller does not notice in that time: the API server checks permissions when a
watch begins, and watches last five to ten minutes. So its figure is that of a controller that was not disturbed.

A clock that was 40 days ahead leaves a key whose certificate is not valid until then; the program stores such a key. The row shows the time from the start of the controller until an object sealed for a served certificate that is valid
has its Secret. Bitnami's controller continues to seal with the key from the future, and generates no new key before the next renewal.
The clock itself is changed by the tests `a_key_made_while_the_clock_was_ahead_neither_seals_nor_holds_off_the_next` and
`if_every_key_is_from_the_future_one_is_made_that_is_not` in `controller/tests/keys.rs`; `tests/alerts/tests.yaml` shows which
alert fires.
";

fn line(outage: Outage, ours: &Row, bitnamis: &Row) -> String {
    let alerts: Vec<_> = ours.alerts.iter().map(|name| format!("`{name}`")).collect();
    let alerts = if alerts.is_empty() {
        "none".to_owned()
    } else {
        alerts.join(", ")
    };
    let mut line = format!(
        "| {} | {} | {}",
        outage.title(),
        format_time(outage, ours.took),
        format_time(outage, bitnamis.took)
    );
    let _ = write!(line, " | {} | {}", ours.writes, bitnamis.writes);
    let _ = writeln!(line, " | {} | {} | {alerts} |", ours.lines, bitnamis.lines);
    line
}

fn format_time(outage: Outage, took: Took) -> String {
    let max_wait = if outage == Outage::Clock {
        MINUTE
    } else {
        MAX_WAIT
    };
    match took {
        Some(took) => format!("{:.2} s", took.as_secs_f64()),
        None => format!("none in {} s", max_wait.as_secs()),
    }
}

/// Describes the builds: the figures of a development build are worse.
fn describe_builds() -> &'static str {
    let is_release = binaries::controller()
        .components()
        .any(|part| part.as_os_str() == "release");
    if is_release {
        "Both controllers are release builds."
    } else {
        "The controller is a development build, which is several times slower than a release; Bitnami's is a release."
    }
}

async fn compared(outage: Outage) -> String {
    let (ours, bitnamis) = tokio::join!(
        measure(Implementation::Ours, outage),
        measure(Implementation::Bitnami, outage)
    );
    line(outage, &ours, &bitnamis)
}

async fn table(outages: &[Outage]) -> String {
    let mut text = String::new();
    for outage in outages {
        text += &Box::pin(compared(*outage)).await;
    }
    text
}

#[tokio::main]
async fn main() {
    let named: Vec<String> = env::args().skip(1).collect();
    if !named.is_empty() {
        let is_named = |outage: &Outage| named.contains(&format!("{outage:?}").to_lowercase());
        let outages: Vec<_> = Outage::ALL.into_iter().filter(is_named).collect();
        return println!("{}", table(&outages).await);
    }
    let text = format!(
        "{HEAD}{}\n{TABLE}{}{TAIL}",
        describe_builds(),
        table(&Outage::ALL).await
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docs/outages.md");
    fs::write(path, text).unwrap();
}
