//! Measures how soon a Secret follows after outages of several kinds, beside Bitnami's controller, and writes
//! `deploy/docs/outages.md`. Each run of an outage has a control plane that was started for it, and the table has the
//! medians of all runs. `--runs=N` sets how many. With names of outages as arguments, only these are measured, and
//! nothing is written.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check that people run fails by panicking, and speaks"
)]

use std::collections::BTreeSet;
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
use tokio::sync::Mutex;

/// That of the Role which lets the controller unseal.
const BINDING: &str = "secrets-unsealer";
const MINUTE: Duration = Duration::from_mins(1);
/// A Secret that does not follow within this counts as none.
const LONGEST: Duration = Duration::from_mins(5);
/// Before and after an outage, so that what was begun comes to an end.
const REST: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// An odd number, so that the median is one of the runs.
const RUNS: usize = 3;

/// Held from the end of an outage to the Secret, so that the two sides do not share the processors meanwhile.
static ALONE: Mutex<()> = Mutex::const_new(());

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
    Clock,
    Rights,
    Elsewhere,
}

impl Outage {
    const ALL: [Self; 10] = [
        Self::None,
        Self::ApiServer,
        Self::Etcd,
        Self::Kill,
        Self::Lease,
        Self::Definition,
        Self::Keys,
        Self::Clock,
        Self::Rights,
        Self::Elsewhere,
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
            Self::Clock => {
                "a key made while the clock was 40 days ahead; the clock set back, the controller started again"
            }
            Self::Rights => "the Role of a namespace unbound for 60 s, and bound again",
            Self::Elsewhere => {
                "the Role of a namespace unbound for 60 s; the Secret is one of another namespace, meanwhile"
            }
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
            Self::Bitnami => upstream::upstream_controller(),
        }
    }
}

/// The time to a Secret; none if there was none in time.
type Took = Option<Duration>;

/// What was measured of one outage.
#[derive(Debug)]
struct Row {
    /// From the end of the outage to the next Secret.
    took: Took,
    requests: usize,
    writes: usize,
    lines: usize,
    alerts: BTreeSet<String>,
}

struct Case {
    plane: ControlPlane,
    client: Client,
    namespace: String,
    /// Another namespace in which the controller works, by a Role of its own.
    elsewhere: String,
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    pod: Option<Pod>,
    /// What containers logged that are gone.
    logged: usize,
    /// The binding of a Role, while it is deleted.
    unbound: Option<RoleBinding>,
}

impl Case {
    async fn start(side: Side, metrics: u16) -> Self {
        let plane = ControlPlane::start().await;
        let namespace = plane.namespace("outage").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_leases(&namespace).await;
        let elsewhere = plane.namespace("elsewhere").await;
        roles::grant_also(&namespace, &elsewhere).await;
        for (name, key) in key_names().zip(KEYS.iter()) {
            put_key(&namespace, &name, key).await;
        }
        let port = http::free_port();
        let args = [
            "--all-namespaces=false".to_owned(),
            format!("--additional-namespaces={}", elsewhere.name()),
            format!("--listen-addr=127.0.0.1:{port}"),
            format!("--listen-metrics-addr=127.0.0.1:{metrics}"),
            "--key-renew-period=0".to_owned(),
        ];
        let name = namespace.name().to_owned();
        let elsewhere_name = elsewhere.name().to_owned();
        drop((namespace, elsewhere));
        let mut case = Self {
            client: plane.admin(),
            namespace: name,
            elsewhere: elsewhere_name,
            program: side.program(),
            args: args.into(),
            port,
            pod: None,
            logged: 0,
            unbound: None,
            plane,
        };
        case.run().await;
        case
    }

    /// The next container of the same Pod.
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
        self.api_in(&self.namespace)
    }

    fn api_in<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn lines(&self) -> usize {
        let log = self.pod.as_ref().map(Pod::log).unwrap_or_default();
        self.logged + log.lines().count()
    }

    /// The time until a new object has its Secret.
    async fn next_secret(&self, name: &str) -> Took {
        self.secret_of(&KEYS[0], &self.namespace, name, Instant::now())
            .await
    }

    async fn secret_of(&self, key: &NewKey, namespace: &str, name: &str, start: Instant) -> Took {
        let items = [("a", "1")];
        let sealed = sealed_for(key, namespace, name, &items, Scope::Strict);
        let mut is_created = false;
        while start.elapsed() < LONGEST {
            if !is_created {
                let sealed_secrets = self.api_in::<SealedSecret>(namespace);
                let created = sealed_secrets.create(&PostParams::default(), &sealed).await;
                is_created = created.is_ok();
            }
            if self.has_secret(namespace, name).await {
                return Some(start.elapsed());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        None
    }

    async fn has_secret(&self, namespace: &str, name: &str) -> bool {
        let secrets = self.api_in::<ApiSecret>(namespace);
        let secret = secrets.get_opt(name).await;
        secret.is_ok_and(|secret| secret.is_some())
    }

    /// Goes through the outage, and gives the time from its end to the next Secret.
    async fn suffers(&mut self, outage: Outage) -> Took {
        self.begin(outage).await;
        let _alone = ALONE.lock().await;
        match outage {
            Outage::None | Outage::Keys => {}
            Outage::ApiServer => self.plane.start_api_server().await,
            Outage::Etcd => self.plane.start_etcd().await,
            Outage::Kill => self.restart().await,
            Outage::Lease => self.delete_lease().await,
            Outage::Definition => self.plane.install(&SealedSecret::crd()).await,
            Outage::Clock => return self.start_with_a_key_of_the_future().await,
            Outage::Rights => self.bind().await,
            Outage::Elsewhere => {
                let start = Instant::now();
                return self
                    .secret_of(&KEYS[0], &self.elsewhere, "after", start)
                    .await;
            }
        }
        self.next_secret("after").await
    }

    /// What lasts for a while before the outage ends.
    async fn begin(&mut self, outage: Outage) {
        match outage {
            Outage::None | Outage::Kill | Outage::Lease => {}
            Outage::ApiServer => {
                self.plane.stop_api_server();
                tokio::time::sleep(MINUTE).await;
            }
            Outage::Etcd => {
                self.plane.stop_etcd();
                tokio::time::sleep(MINUTE).await;
            }
            Outage::Definition => self.delete_definition().await,
            Outage::Keys => self.delete_keys().await,
            Outage::Clock => self.put_a_key_of_the_future().await,
            Outage::Rights | Outage::Elsewhere => {
                self.unbind().await;
                tokio::time::sleep(MINUTE).await;
            }
        }
    }

    /// What has to be put right after the Secret.
    async fn end(&self, outage: Outage) {
        match outage {
            Outage::Keys => self.restore_keys().await,
            Outage::Elsewhere => self.bind().await,
            _ => {}
        }
    }

    async fn delete_lease(&self) {
        let leases = self.api::<Lease>();
        let (delete, all) = (DeleteParams::default(), ListParams::default());
        leases.delete_collection(&delete, &all).await.unwrap();
    }

    async fn restart(&mut self) {
        self.logged = self.lines();
        self.pod = None;
        self.run().await;
    }

    async fn put_a_key_of_the_future(&self) {
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
        tokio::time::sleep(REST).await;
    }

    /// The time until an object that is sealed for a certificate that is valid now, as the controller serves it, has its
    /// Secret.
    async fn start_with_a_key_of_the_future(&mut self) -> Took {
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
                return self.secret_of(key, &self.namespace, "after", start).await;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
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

    async fn delete_definition(&self) {
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
    }

    async fn delete_keys(&self) {
        let secrets = self.api::<ApiSecret>();
        for name in key_names() {
            let delete = DeleteParams::default();
            secrets.delete(&name, &delete).await.unwrap();
        }
        tokio::time::sleep(REST).await;
    }

    async fn restore_keys(&self) {
        tokio::time::sleep(MINUTE).await;
        let namespace = self.plane.existing(&self.namespace);
        for (name, key) in key_names().zip(KEYS.iter()) {
            put_key(&namespace, &name, key).await;
        }
    }

    async fn unbind(&mut self) {
        let bindings = self.api::<RoleBinding>();
        let mut binding = bindings.get(BINDING).await.unwrap();
        let delete = DeleteParams::default();
        bindings.delete(BINDING, &delete).await.unwrap();
        binding.metadata.resource_version = None;
        binding.metadata.uid = None;
        self.unbound = Some(binding);
    }

    async fn bind(&self) {
        let binding = self.unbound.as_ref().unwrap();
        let bindings = self.api::<RoleBinding>();
        let create = PostParams::default();
        bindings.create(&create, binding).await.unwrap();
    }
}

fn key_names() -> impl Iterator<Item = String> {
    (0..KEYS.len()).map(|i| format!("sealed-secrets-key{i}"))
}

async fn measure(side: Side, outage: Outage) -> Row {
    let metrics = http::free_port();
    let mut case = Case::start(side, metrics).await;
    let rules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/helm/sealed-secrets/files/alerts.yaml");
    let prometheus = Prometheus::scraping(metrics, Some(&rules));
    assert!(case.next_secret("before").await.is_some(), "{side:?}");
    prometheus.wait_for("up == 1").await;
    tokio::time::sleep(REST).await;
    let (lines, requests) = (case.lines(), case.plane.requests());
    let writes = case.plane.audit().len();
    let took = case.suffers(outage).await;
    case.end(outage).await;
    tokio::time::sleep(REST).await;
    let row = Row {
        took,
        requests: case.plane.requests() - requests,
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
one machine), one outage after the other, each controller on a control plane of its own. What is timed is timed for one
controller after the other, so that they do not share the processors.

- *Next Secret*: the time from the end of the outage until an object that is created then has its Secret; where keys are
  deleted, while there is none.
- *Requests*: those that the API server answered for the controller, from before the outage until five seconds after the Secret,
  and in brackets those that change something. Here they include renewals of the Lease, a read and a write every two seconds, by
  which a second replica could take over.
- *Alerts*: those of [`alerts.yaml`](../helm/sealed-secrets/files/alerts.yaml) that fired meanwhile. An outage of a minute
  is no reason for one, the loss of every key is.

";

const TABLE: &str = "
| outage | next Secret: here | Bitnami's | requests (writes): here | Bitnami's | lines in the log: here | Bitnami's | alerts |
|---|---|---|---|---|---|---|---|
";

const TAIL: &str = "
After a kill this controller acquires its Lease before it writes, which is two requests that Bitnami's does without: it has no
Lease, and no second replica can take over from it. Meanwhile it reads the keys and lists the objects.

The API server checks permissions when a watch begins. This controller requests each watch again after a minute, so a Role that is
unbound is reported within a minute, and the watch from before goes on until the next one is allowed, for up to five minutes. So
neither controller is interrupted by a minute without the Role. After a longer one, this controller requests the watch again
every second, and Bitnami's after pauses that grow to half a minute. Other namespaces, with Roles of their own, are not affected.

A clock that was 40 days ahead leaves a key behind whose certificate is not valid for as long, and the program puts such a
key there. The row shows the time from the start of the controller until an object sealed for a served certificate that is valid
has its Secret. Bitnami's controller goes on sealing with the key from the future, and makes no new one before that is due. The
clock itself is moved by the tests `a_key_generated_while_the_clock_was_ahead_neither_seals_nor_delays_the_next` and
`a_key_is_generated_if_every_key_is_from_the_future` in `controller/tests/keys.rs`; `tests/alerts/tests.yaml` shows which
alert fires.
";

fn line(outage: Outage, ours: &Row, bitnamis: &Row) -> String {
    let alerts: Vec<_> = ours.alerts.iter().map(|name| format!("`{name}`")).collect();
    let alerts = if alerts.is_empty() {
        "none".to_owned()
    } else {
        alerts.join(", ")
    };
    let requests = |row: &Row| format!("{} ({})", row.requests, row.writes);
    let cells = [
        outage.title().to_owned(),
        shown(outage, ours.took),
        shown(outage, bitnamis.took),
        requests(ours),
        requests(bitnamis),
        ours.lines.to_string(),
        bitnamis.lines.to_string(),
        alerts,
    ];
    format!("| {} |\n", cells.join(" | "))
}

fn shown(outage: Outage, took: Took) -> String {
    let longest = if outage == Outage::Clock {
        MINUTE
    } else {
        LONGEST
    };
    match took {
        Some(took) => format!("{:.2} s", took.as_secs_f64()),
        None => format!("none in {} s", longest.as_secs()),
    }
}

/// Figures of a development build are worse.
fn build() -> &'static str {
    let is_release = binaries::controller()
        .components()
        .any(|part| part.as_os_str() == "release");
    if is_release {
        "Both controllers are release builds."
    } else {
        "The controller is a development build, which is several times slower than a release; Bitnami's is a release."
    }
}

/// The median of each figure, and the alerts of all runs. No Secret in time is longer than any time.
fn median(rows: &[Row]) -> Row {
    let count = |figure: fn(&Row) -> usize| middle(rows.iter().map(figure));
    Row {
        took: middle(rows.iter().map(|row| row.took.unwrap_or(Duration::MAX)))
            .filter(|took| *took < Duration::MAX),
        requests: count(|row| row.requests).unwrap_or(0),
        writes: count(|row| row.writes).unwrap_or(0),
        lines: count(|row| row.lines).unwrap_or(0),
        alerts: rows.iter().flat_map(|row| row.alerts.clone()).collect(),
    }
}

fn middle<T: Ord>(figures: impl Iterator<Item = T>) -> Option<T> {
    let mut figures: Vec<T> = figures.collect();
    figures.sort();
    let middle = figures.len() / 2;
    figures.into_iter().nth(middle)
}

async fn compared(outage: Outage, runs: usize) -> String {
    let (mut ours, mut bitnamis) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (one, other) =
            tokio::join!(measure(Side::Ours, outage), measure(Side::Bitnami, outage));
        ours.push(one);
        bitnamis.push(other);
    }
    line(outage, &median(&ours), &median(&bitnamis))
}

async fn table(outages: &[Outage], runs: usize) -> String {
    let mut text = String::new();
    for outage in outages {
        text += &Box::pin(compared(*outage, runs)).await;
    }
    text
}

/// Which outages are named, and how often each is measured.
fn read(args: impl Iterator<Item = String>) -> (Vec<Outage>, usize) {
    let (mut named, mut runs) = (Vec::new(), RUNS);
    for arg in args {
        let outage = Outage::ALL
            .into_iter()
            .find(|outage| format!("{outage:?}").to_lowercase() == arg);
        match (outage, arg.strip_prefix("--runs=")) {
            (Some(outage), _) => named.push(outage),
            (None, Some(number)) => runs = number.parse().unwrap(),
            (None, None) => panic!("{arg:?} is no outage: see `.ci/extra`"),
        }
    }
    assert!(runs % 2 == 1, "--runs=N takes an odd number, for a median");
    (named, runs)
}

#[tokio::main]
async fn main() {
    let (named, runs) = read(env::args().skip(1));
    if !named.is_empty() {
        return println!("{}", table(&named, runs).await);
    }
    let table = table(&Outage::ALL, runs).await;
    let text = format!(
        "{HEAD}{} Each figure is the median of {runs} runs.\n{TABLE}{table}{TAIL}",
        build(),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docs/outages.md");
    fs::write(path, text).unwrap();
}
