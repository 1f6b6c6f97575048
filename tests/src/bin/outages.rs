//! Measures the time from the end of an outage to the next Secret, for this project's controller and for Bitnami's, and
//! writes `deploy/docs/outages.md`. Each run has its own control plane, and the table contains the medians of all runs.
//! `--runs=N` sets the number of runs. If the arguments name outages, only these are measured, and the other rows of
//! the page stay.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check prints its results, and fails by panicking"
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

/// The `RoleBinding` that lets the controller unseal.
const BINDING: &str = "secrets-unsealer";
const MINUTE: Duration = Duration::from_mins(1);
/// The maximum time to wait for a Secret.
const SECRET_TIMEOUT: Duration = Duration::from_mins(5);
/// Enough time for requests in progress to end, and for a watch to report a change.
const PAUSE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Number of objects that are timed if the outage interrupts neither controller; odd, so that the median is one of
/// them. Such times are a few milliseconds, too short to measure with one object.
const SAMPLES: usize = 21;
/// Default number of runs; odd, so that the median is one of the runs.
const RUNS: usize = 3;

/// The pause after each of the [`SAMPLES`] objects, during which its events and its status are written.
const SAMPLE_PAUSE: Duration = Duration::from_secs(1);

/// How much earlier the outage of this project's controller begins. Its recovery is timed first, because the recovery
/// of Bitnami's controller can take a minute and would prolong the other outage.
const HEAD_START: Duration = Duration::from_secs(10);

/// Locked from the end of an outage until all its Secrets are timed, so that only one controller is timed at a time.
static TIMING_LOCK: Mutex<()> = Mutex::const_new(());

/// The kinds of outages.
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
    Permissions,
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
        Self::Permissions,
        Self::Elsewhere,
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
            Self::Permissions => "the Role of a namespace unbound for 60 s, and bound again",
            Self::Elsewhere => {
                "the Role of a namespace unbound for 60 s; the Secret of an object in another namespace, meanwhile"
            }
        }
    }
}

impl Outage {
    /// Returns whether one of the two controllers is stopped or cut off during the outage. If not, the median of
    /// [`SAMPLES`] objects is measured instead of the first.
    fn is_interruption(self) -> bool {
        !matches!(
            self,
            Self::None | Self::Lease | Self::Keys | Self::Permissions | Self::Elsewhere
        )
    }
}

/// The controller under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The time to a Secret; `None` if no Secret appeared within [`SECRET_TIMEOUT`].
type SecretTime = Option<Duration>;

/// The measurements of one outage.
#[derive(Debug)]
struct Row {
    /// The time from the end of the outage to the next Secret.
    secret_time: SecretTime,
    counts: Counts,
    alerts: BTreeSet<String>,
}

/// The numbers of requests that the API server responded to, of writes among them, and of lines in the log.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: usize,
    writes: usize,
    lines: usize,
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            writes: self.writes - earlier.writes,
            lines: self.lines - earlier.lines,
        }
    }
}

struct Case {
    plane: ControlPlane,
    client: Client,
    namespace: String,
    /// Another namespace in which the controller works, with a separate Role.
    other_namespace: String,
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    pod: Option<Pod>,
    /// Number of log lines of earlier containers.
    earlier_lines: usize,
    /// The deleted `RoleBinding`, which is created again later.
    deleted_binding: Option<RoleBinding>,
}

impl Case {
    async fn start(implementation: Implementation, metrics_port: u16) -> Self {
        let plane = ControlPlane::start().await;
        let namespace = plane.namespace("outage").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_leases(&namespace).await;
        let other_namespace = plane.namespace("elsewhere").await;
        roles::grant_also(&namespace, &other_namespace).await;
        for (name, key) in key_names().zip(KEYS.iter()) {
            put_key(&namespace, &name, key).await;
        }
        let port = http::free_port();
        let args = [
            "--all-namespaces=false".to_owned(),
            format!("--additional-namespaces={}", other_namespace.name()),
            format!("--listen-addr=127.0.0.1:{port}"),
            format!("--listen-metrics-addr=127.0.0.1:{metrics_port}"),
            "--key-renew-period=0".to_owned(),
        ];
        let name = namespace.name().to_owned();
        let other_namespace_name = other_namespace.name().to_owned();
        drop((namespace, other_namespace));
        let mut case = Self {
            client: plane.admin(),
            namespace: name,
            other_namespace: other_namespace_name,
            program: implementation.program(),
            args: args.into(),
            port,
            pod: None,
            earlier_lines: 0,
            deleted_binding: None,
            plane,
        };
        case.run_container().await;
        case
    }

    /// Starts the next container of the Pod.
    async fn run_container(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        // All Pods share the network namespace of this machine, in which a controller claims the uid of its Pod.
        let uid = [("POD_UID".to_owned(), format!("of-this-pod-{}", self.port))];
        let namespace = self.plane.existing(&self.namespace);
        let root = Root::Host(self.program.clone());
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

    fn line_count(&self) -> usize {
        let log = self.pod.as_ref().map(Pod::log).unwrap_or_default();
        self.earlier_lines + log.lines().count()
    }

    /// Creates an object in the controller's namespace; returns the time until its Secret exists.
    async fn next_secret_time(&self, name: &str) -> SecretTime {
        self.time_secret(&KEYS[0], &self.namespace, name, Instant::now())
            .await
    }

    /// Creates an object that is sealed for `key`; returns the time from `start` until its Secret exists.
    async fn time_secret(
        &self,
        key: &NewKey,
        namespace: &str,
        name: &str,
        start: Instant,
    ) -> SecretTime {
        let items = [("a", "1")];
        let sealed = sealed_for(key, namespace, name, &items, Scope::Strict);
        let mut is_created = false;
        while start.elapsed() < SECRET_TIMEOUT {
            if !is_created {
                let sealed_secrets = self.api_in::<SealedSecret>(namespace);
                let created = sealed_secrets.create(&PostParams::default(), &sealed).await;
                is_created = created.is_ok();
            }
            if self.has_secret(namespace, name).await {
                return Some(start.elapsed());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        None
    }

    async fn has_secret(&self, namespace: &str, name: &str) -> bool {
        let secrets = self.api_in::<ApiSecret>(namespace);
        let secret = secrets.get_opt(name).await;
        secret.is_ok_and(|secret| secret.is_some())
    }

    /// Ends an outage, except those that [`Self::clean_up`] ends; returns the time from then to the next Secret.
    async fn end(&mut self, outage: Outage) -> SecretTime {
        match outage {
            Outage::None | Outage::Keys | Outage::Elsewhere => {}
            Outage::ApiServer => self.plane.start_api_server().await,
            Outage::Etcd => self.plane.start_etcd().await,
            Outage::Kill => self.restart().await,
            Outage::Lease => self.delete_lease().await,
            Outage::Definition => self.plane.install(&SealedSecret::crd()).await,
            Outage::Clock => return self.start_with_future_key().await,
            Outage::Permissions => self.restore_binding().await,
        }
        self.secret_time_after(outage, "after").await
    }

    /// Like [`Self::next_secret_time`], in the namespace in which this outage is measured.
    async fn secret_time_after(&self, outage: Outage, name: &str) -> SecretTime {
        let namespace = match outage {
            Outage::Elsewhere => &self.other_namespace,
            _ => &self.namespace,
        };
        self.time_secret(&KEYS[0], namespace, name, Instant::now())
            .await
    }

    /// Measures the times of further objects; returns the median.
    async fn median_secret_time(&self, outage: Outage) -> SecretTime {
        let mut times = Vec::new();
        for sample in 0..SAMPLES {
            if outage == Outage::Lease {
                self.delete_lease().await;
            }
            let name = format!("sample-{sample}");
            times.push(self.secret_time_after(outage, &name).await);
            tokio::time::sleep(SAMPLE_PAUSE).await;
        }
        median_time(times.into_iter())
    }

    fn counts(&self) -> Counts {
        Counts {
            requests: self.plane.count_requests(),
            writes: self.plane.audit().len(),
            lines: self.line_count(),
        }
    }

    /// Starts an outage and waits for its duration, except the outages that [`Self::end`] causes.
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
            Outage::Clock => self.put_future_key().await,
            Outage::Permissions | Outage::Elsewhere => {
                self.delete_binding().await;
                tokio::time::sleep(MINUTE).await;
            }
        }
    }

    /// Ends an outage that lasts while the Secret is timed.
    async fn clean_up(&self, outage: Outage) {
        match outage {
            Outage::Keys => self.restore_keys().await,
            Outage::Elsewhere => self.restore_binding().await,
            _ => {}
        }
    }

    async fn delete_lease(&self) {
        let leases = self.api::<Lease>();
        let (delete, no_filter) = (DeleteParams::default(), ListParams::default());
        leases.delete_collection(&delete, &no_filter).await.unwrap();
    }

    async fn restart(&mut self) {
        self.earlier_lines = self.line_count();
        self.pod = None;
        self.run_container().await;
    }

    async fn put_future_key(&self) {
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
        tokio::time::sleep(PAUSE).await;
    }

    /// Restarts the controller; returns the time until it serves a certificate that is valid now and an object sealed
    /// for that certificate has its Secret.
    async fn start_with_future_key(&mut self) -> SecretTime {
        self.restart().await;
        let start = Instant::now();
        while start.elapsed() < MINUTE {
            let served = self.served_certificate().await;
            let key = KEYS.iter().find(|key| {
                let fingerprint = key.pair.certificate().fingerprint();
                served
                    .as_ref()
                    .is_some_and(|served| served.fingerprint() == fingerprint)
            });
            if let Some(key) = key {
                return self.time_secret(key, &self.namespace, "after", start).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        None
    }

    async fn served_certificate(&self) -> Option<Certificate> {
        let response = http::get(self.port, "/v1/cert.pem").await.ok()?;
        let pem = &response[response.find("-----BEGIN")?..];
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
            let definition = definitions.get_opt(&name).await.unwrap();
            definition.is_none().then_some(())
        })
        .await;
        tokio::time::sleep(PAUSE).await;
    }

    async fn delete_keys(&self) {
        let secrets = self.api::<ApiSecret>();
        for name in key_names() {
            let delete = DeleteParams::default();
            secrets.delete(&name, &delete).await.unwrap();
        }
        tokio::time::sleep(PAUSE).await;
    }

    async fn restore_keys(&self) {
        tokio::time::sleep(MINUTE).await;
        let namespace = self.plane.existing(&self.namespace);
        for (name, key) in key_names().zip(KEYS.iter()) {
            put_key(&namespace, &name, key).await;
        }
    }

    async fn delete_binding(&mut self) {
        let bindings = self.api::<RoleBinding>();
        let mut binding = bindings.get(BINDING).await.unwrap();
        let delete = DeleteParams::default();
        bindings.delete(BINDING, &delete).await.unwrap();
        binding.metadata.resource_version = None;
        binding.metadata.uid = None;
        self.deleted_binding = Some(binding);
    }

    async fn restore_binding(&self) {
        let binding = self.deleted_binding.as_ref().unwrap();
        let bindings = self.api::<RoleBinding>();
        let create = PostParams::default();
        bindings.create(&create, binding).await.unwrap();
    }
}

fn key_names() -> impl Iterator<Item = String> {
    (0..KEYS.len()).map(|i| format!("sealed-secrets-key{i}"))
}

async fn measure(implementation: Implementation, outage: Outage) -> Row {
    let metrics_port = http::free_port();
    let mut case = Case::start(implementation, metrics_port).await;
    let rules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/helm/sealed-secrets/files/alerts.yaml");
    let prometheus = Prometheus::start_scraping(metrics_port, Some(&rules));
    assert!(
        case.next_secret_time("before").await.is_some(),
        "{implementation:?}"
    );
    prometheus.wait_for("up == 1").await;
    tokio::time::sleep(PAUSE).await;
    if implementation == Implementation::Bitnami {
        tokio::time::sleep(HEAD_START).await;
    }
    let before = case.counts();
    case.begin(outage).await;
    let timing = TIMING_LOCK.lock().await;
    let mut secret_time = case.end(outage).await;
    let mut sample_counts = Counts::default();
    if !outage.is_interruption() {
        let before = case.counts();
        secret_time = case.median_secret_time(outage).await;
        sample_counts = case.counts() - before;
    }
    drop(timing);
    case.clean_up(outage).await;
    tokio::time::sleep(PAUSE).await;
    let row = Row {
        secret_time,
        counts: case.counts() - before - sample_counts,
        alerts: alerts(&prometheus).await,
    };
    println!("{}, {implementation:?}: {row:?}", outage.title());
    row
}

async fn alerts(prometheus: &Prometheus) -> BTreeSet<String> {
    let query = "count by (alertname) (max_over_time(ALERTS{alertstate=\"firing\"}[10m]))";
    let series = prometheus.series(query).await.unwrap_or_default();
    let name =
        |series: &serde_json::Value| series["metric"]["alertname"].as_str().map(str::to_owned);
    series.iter().filter_map(name).collect()
}

const HEAD: &str = "\
# Outages

Written by `.ci/extra outages`. It runs both controllers on a real control plane (etcd, API server and controller manager on
one machine), one outage after another, each controller on a control plane of its own. Only one controller is timed at a time,
so that the two do not compete for the processors.

- *Next Secret*: the time from the end of the outage until an object that is created then has its Secret. If keys are deleted,
  the time is measured while there is no key. An outage that interrupts neither controller leaves a difference of a few
  milliseconds: in these rows, the time is the median of 21 further objects, created one after another.
- *Requests*: requests of the controller that the API server responded to, from before the outage until five seconds after the
  Secret, without those for the further objects; in brackets, those that change something. For this project's controller,
  they include renewals of the Lease, a read and a write every two seconds, which allow a second replica to take over.
- *Alerts*: the alerts of [`alerts.yaml`](../helm/sealed-secrets/files/alerts.yaml) that fired during a run. An outage of a minute
  fires none; the loss of every key does.

";

const TABLE: &str = "
| outage | next Secret: here | Bitnami's | requests (writes): here | Bitnami's | lines in the log: here | Bitnami's | alerts |
|---|---|---|---|---|---|---|---|
";

const TAIL: &str = "
After a kill, this controller acquires its Lease with two requests before it writes, and meanwhile reads the keys and lists the
objects. Bitnami's controller has no Lease, so it sends no such requests, and no second replica can take over from it.

The API server checks permissions when a watch begins. This controller requests each watch again after a minute, so a Role that is
unbound is reported within a minute, and the earlier watch continues until the next one is allowed, for up to five minutes. So
a minute without the Role interrupts neither controller. After a longer time, this controller requests the watch again
every second, and Bitnami's after pauses that grow to half a minute. Other namespaces, with Roles of their own, are not affected.

A clock that was 40 days ahead leaves a key whose certificate becomes valid only after 40 days; the program creates such a
key. The row shows the time from the start of the controller until an object sealed for a served certificate that is valid
has its Secret. Bitnami's controller continues to seal with that key, and generates no new one before it is due. The
clock itself is moved by the tests `a_key_generated_while_the_clock_was_ahead_neither_seals_nor_delays_the_next` and
`a_key_is_generated_if_every_key_is_from_the_future` in `controller/tests/no_cluster/keys.rs`; `tests/alerts/tests.yaml`
shows which alert fires.
";

fn line(outage: Outage, ours: &Row, bitnamis: &Row) -> String {
    let alerts: Vec<_> = ours.alerts.iter().map(|name| format!("`{name}`")).collect();
    let alerts = if alerts.is_empty() {
        "none".to_owned()
    } else {
        alerts.join(", ")
    };
    let requests = |row: &Row| format!("{} ({})", row.counts.requests, row.counts.writes);
    let cells = [
        outage.title().to_owned(),
        time_text(outage, ours.secret_time),
        time_text(outage, bitnamis.secret_time),
        requests(ours),
        requests(bitnamis),
        ours.counts.lines.to_string(),
        bitnamis.counts.lines.to_string(),
        alerts,
    ];
    format!("| {} |\n", cells.join(" | "))
}

fn time_text(outage: Outage, time: SecretTime) -> String {
    let timeout = if outage == Outage::Clock {
        MINUTE
    } else {
        SECRET_TIMEOUT
    };
    match time {
        Some(time) if time.as_secs() < 1 => format!("{} ms", time.as_millis()),
        Some(time) => format!("{:.2} s", time.as_secs_f64()),
        None => format!("none in {} s", timeout.as_secs()),
    }
}

/// Returns a sentence about the builds of the measured controllers.
fn build_note() -> &'static str {
    let is_release = binaries::controller()
        .components()
        .any(|part| part.as_os_str() == "release");
    if is_release {
        "Both controllers are release builds."
    } else {
        "The controller is a development build, which is several times slower than a release; Bitnami's is a release."
    }
}

/// Returns the median of each measurement, and the alerts of all runs. A run without a Secret counts as the longest.
fn median(rows: &[Row]) -> Row {
    let count = |figure: fn(Counts) -> usize| {
        median_of(rows.iter().map(|row| figure(row.counts))).unwrap_or(0)
    };
    Row {
        secret_time: median_time(rows.iter().map(|row| row.secret_time)),
        counts: Counts {
            requests: count(|counts| counts.requests),
            writes: count(|counts| counts.writes),
            lines: count(|counts| counts.lines),
        },
        alerts: rows.iter().flat_map(|row| row.alerts.clone()).collect(),
    }
}

/// Returns the median; a Secret that did not appear counts as the longest time.
fn median_time(times: impl Iterator<Item = SecretTime>) -> SecretTime {
    median_of(times.map(|time| time.unwrap_or(Duration::MAX))).filter(|time| *time < Duration::MAX)
}

fn median_of<T: Ord>(figures: impl Iterator<Item = T>) -> Option<T> {
    let mut figures: Vec<T> = figures.collect();
    figures.sort();
    let median_index = figures.len() / 2;
    figures.into_iter().nth(median_index)
}

async fn compare(outage: Outage, runs: usize) -> String {
    let (mut ours, mut bitnamis) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (our_row, bitnamis_row) = tokio::join!(
            measure(Implementation::Ours, outage),
            measure(Implementation::Bitnami, outage)
        );
        ours.push(our_row);
        bitnamis.push(bitnamis_row);
    }
    line(outage, &median(&ours), &median(&bitnamis))
}

async fn table(outages: &[Outage], runs: usize) -> String {
    let mut text = String::new();
    for outage in outages {
        text += &Box::pin(compare(*outage, runs)).await;
    }
    text
}

/// Parses the arguments: the outages to measure, and the number of runs.
fn parse_args(args: impl Iterator<Item = String>) -> (Vec<Outage>, usize) {
    let (mut outages, mut runs) = (Vec::new(), RUNS);
    for arg in args {
        let outage = Outage::ALL
            .into_iter()
            .find(|outage| format!("{outage:?}").to_lowercase() == arg);
        match (outage, arg.strip_prefix("--runs=")) {
            (Some(outage), _) => outages.push(outage),
            (None, Some(number)) => runs = number.parse().unwrap(),
            (None, None) => panic!("unknown outage {arg:?}; `.ci/extra` lists the names"),
        }
    }
    assert!(
        runs % 2 == 1,
        "--runs=N requires an odd number, so that the median is one of the runs"
    );
    (outages, runs)
}

#[tokio::main]
async fn main() {
    let (outages, runs) = parse_args(env::args().skip(1));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docs/outages.md");
    if !outages.is_empty() {
        let rows = table(&outages, runs).await;
        println!("{rows}");
        let page = fs::read_to_string(&path).unwrap();
        return fs::write(path, with_rows(&page, &rows)).unwrap();
    }
    let table = table(&Outage::ALL, runs).await;
    let text = format!(
        "{HEAD}{} Each figure is the median of {runs} runs.\n{TABLE}{table}{TAIL}",
        build_note(),
    );
    fs::write(path, text).unwrap();
}

/// Replaces the rows of `page` that describe the same outages as `rows`.
fn with_rows(page: &str, rows: &str) -> String {
    let outage = |row: &str| row.split('|').nth(1).map(str::to_owned);
    let replace = |line: &str| {
        let new = rows.lines().find(|row| outage(row) == outage(line));
        let is_row = line.starts_with('|');
        new.filter(|_| is_row)
            .map_or_else(|| line.to_owned(), str::to_owned)
            + "\n"
    };
    page.lines().map(replace).collect()
}
