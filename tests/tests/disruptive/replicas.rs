//! Tests several replicas of the controller: one leads and writes, the others are on standby. Each test has its own
//! control plane, and the API server's audit log shows which replica wrote each object and when.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::Api;
use kube::api::{ListParams, PostParams};
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::resource::{KEY_LABEL, SealedSecret};
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scrape::Scrape;
use tests::sealing::{KEYS, put_key, sealed_for};

/// Arguments with short lease durations, so that a test does not wait long.
const SHORT_LEASE_ARGS: [&str; 4] = [
    "--leader-elect-lease-duration=4s",
    "--leader-elect-renew-deadline=2500ms",
    "--leader-elect-retry-period=500ms",
    "--key-renew-period=0",
];
const LEADER: &str = "This replica is the leader";
const STANDBY: &str = "Another replica is the leader";
const OBJECTS: usize = 60;
const OBJECTS_METRIC: &str = "sealed_secrets_controller_objects";
const ITEMS: [(&str, &str); 2] = [("a", "1"), ("b", "2")];

/// A replica, and its identity in the audit log.
struct Replica {
    controller: ClusterController,
    credential: String,
}

impl Replica {
    async fn start(plane: &ControlPlane, namespace: &Namespace<'_>) -> Self {
        let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
        let credential = credential(&std::fs::read_to_string(&kubeconfig).unwrap());
        let controller = ClusterController::spawn(&kubeconfig, namespace.name(), &SHORT_LEASE_ARGS);
        let mut replica = Self {
            controller,
            credential,
        };
        // The start of the next replica overwrites the kubeconfig, so this replica must have read it.
        replica
            .controller
            .wait_for_log("Searching for existing")
            .await;
        replica
    }

    async fn metric(&self, name: &str) -> f64 {
        let scrape = Scrape::read(&self.controller.scrape().await);
        let value = scrape.value(&format!("sealed_secrets_controller_{name}"), &[]);
        value.unwrap_or_default()
    }

    /// Returns the replica's successful writes: the time of arrival and the object, such as `events/s-1.17c`.
    fn writes(&self, audit: &[Value]) -> Vec<(Timestamp, String)> {
        let credential_field = "authentication.kubernetes.io/credential-id";
        let own_events = audit
            .iter()
            .filter(|event| event["user"]["extra"][credential_field][0] == json!(self.credential));
        let successful = own_events.filter(|event| {
            event["responseStatus"]["code"]
                .as_u64()
                .is_some_and(|code| code < 300)
        });
        let write = |event: &Value| {
            let time = event["requestReceivedTimestamp"].as_str().unwrap();
            let reference = |field: &str| event["objectRef"][field].as_str().unwrap_or_default();
            let object = format!("{}/{}", reference("resource"), reference("name"));
            (time.parse().unwrap(), object)
        };
        successful.map(write).collect()
    }
}

/// Returns the credential ID of the token in a kubeconfig: `JTI=` and the claim `jti`.
fn credential(kubeconfig: &str) -> String {
    let kubeconfig: Value = serde_json::from_str(kubeconfig).unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    format!("JTI={}", claims["jti"].as_str().unwrap())
}

async fn create_namespace(plane: &ControlPlane) -> Namespace<'_> {
    let namespace = plane.namespace("replicas").await;
    roles::grant(&namespace, Reach::Namespace).await;
    roles::grant_leases(&namespace).await;
    namespace
}

/// Starts two replicas: the first leads, the second is on standby.
async fn start_pair(plane: &ControlPlane, namespace: &Namespace<'_>) -> [Replica; 2] {
    let mut first = Replica::start(plane, namespace).await;
    first.controller.wait_for_log(LEADER).await;
    let mut second = Replica::start(plane, namespace).await;
    second.controller.wait_for_log(STANDBY).await;
    second.controller.become_ready().await;
    [first, second]
}

async fn seal_many(namespace: &Namespace<'_>, prefix: &str) {
    let api: Api<SealedSecret> = namespace.api();
    let create = async |i| {
        let name = format!("{prefix}-{i}");
        let sealed = sealed_for(&KEYS[0], namespace.name(), &name, &ITEMS, Scope::Strict);
        api.create(&PostParams::default(), &sealed).await.unwrap();
    };
    stream::iter((0..OBJECTS).map(create))
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
}

async fn count_synced(namespace: &Namespace<'_>, prefix: &str) -> usize {
    let api: Api<SealedSecret> = namespace.api();
    let objects = api.list(&ListParams::default()).await.unwrap();
    let is_synced = |object: &&SealedSecret| {
        let status = object.status.as_ref();
        let synced = status.and_then(|status| status.conditions.first());
        object.metadata.name.as_ref().unwrap().starts_with(prefix)
            && synced.is_some_and(|synced| synced.status == "True")
    };
    objects.iter().filter(is_synced).count()
}

async fn wait_until_synced(namespace: &Namespace<'_>, prefix: &str, min_count: usize) {
    until(&format!("{min_count} of {prefix} are synced"), async || {
        (count_synced(namespace, prefix).await >= min_count).then_some(())
    })
    .await;
}

async fn count_keys(namespace: &Namespace<'_>) -> usize {
    let api: Api<ApiSecret> = namespace.api();
    let active = ListParams::default().labels(&format!("{KEY_LABEL}=active"));
    api.list(&active).await.unwrap().items.len()
}

#[tokio::test]
async fn the_successor_of_a_killed_leader_repeats_little_work() {
    let plane = ControlPlane::start().await;
    let namespace = create_namespace(&plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let [mut first, mut second] = start_pair(&plane, &namespace).await;
    let certificate = second.controller.get("/v1/cert.pem").await;
    assert!(certificate.contains("BEGIN CERTIFICATE"), "{certificate}");
    let kill = async {
        wait_until_synced(&namespace, "s", 5).await;
        first.controller.signal(Signal::KILL);
    };
    tokio::join!(seal_many(&namespace, "s"), kill);
    second.controller.wait_for_log(LEADER).await;
    wait_until_synced(&namespace, "s", OBJECTS).await;
    assert_eq!(count_keys(&namespace).await, 1);
    let operations = second.metric("private_key_operations_total").await;
    let total = f64::from(u32::try_from(OBJECTS * ITEMS.len()).unwrap());
    assert!(
        operations < total,
        "{operations} of {total}: completed work is not repeated"
    );
    assert!((second.metric("leader").await - 1.0).abs() < 0.5);
}

/// Fault: the leader is paused beyond its lease and then resumes.
#[tokio::test]
async fn a_leader_paused_beyond_its_lease_writes_nothing_afterwards() {
    let plane = ControlPlane::start().await;
    let namespace = create_namespace(&plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let [mut first, mut second] = start_pair(&plane, &namespace).await;
    let pause = async {
        wait_until_synced(&namespace, "s", 5).await;
        first.controller.signal(Signal::STOP);
    };
    tokio::join!(seal_many(&namespace, "s"), pause);
    second.controller.wait_for_log(LEADER).await;
    let resume = async {
        wait_until_synced(&namespace, "t", 5).await;
        first.controller.signal(Signal::CONT);
    };
    tokio::join!(seal_many(&namespace, "t"), resume);
    for prefix in ["s", "t"] {
        wait_until_synced(&namespace, prefix, OBJECTS).await;
    }
    first
        .controller
        .wait_for_log("is no longer the leader")
        .await;
    assert!(first.metric("leader").await < 0.5);
    until("only the leader exports object metrics", async || {
        let text = first.controller.scrape().await;
        let scrape = Scrape::read(&text);
        let synced = scrape.value(OBJECTS_METRIC, &[("synced", "True")]);
        (synced == Some(0.0) && !text.contains("condition_info{")).then_some(())
    })
    .await;

    let audit = plane.audit();
    let acquisitions = second.writes(&audit).into_iter();
    let acquisitions = acquisitions
        .filter(|(_, object)| object.starts_with("leases/"))
        .map(|(time, _)| time);
    let acquired_at = acquisitions
        .min()
        .expect("the second replica acquired the Lease");
    let writes = first.writes(&audit);
    assert!(writes.len() > 5, "{writes:?}");
    // A process that is paused while it sends an event sends the event after it resumes. No resource version can
    // prevent that. The event can only be about an object `s-…`, because the process has not received the others.
    let late_writes: Vec<_> = writes
        .into_iter()
        .filter(|(time, object)| *time >= acquired_at && !object.starts_with("events/s-"))
        .collect();
    assert!(
        late_writes.is_empty(),
        "after {acquired_at}: {late_writes:?}"
    );
    let early_writes = second.writes(&audit).into_iter();
    let early_writes: Vec<_> = early_writes
        .filter(|(time, _)| *time < acquired_at)
        .collect();
    assert!(early_writes.is_empty(), "a standby wrote: {early_writes:?}");
    assert_eq!(count_keys(&namespace).await, 1);
}

#[tokio::test]
async fn a_leader_that_exits_releases_the_lease() {
    let plane = ControlPlane::start().await;
    let namespace = create_namespace(&plane).await;
    let [first, mut second] = start_pair(&plane, &namespace).await;
    assert_eq!(first.controller.stop(), Some(0));
    let lease: Lease = namespace.api().get(ACCOUNT).await.unwrap();
    let holder = lease.spec.unwrap().holder_identity.unwrap_or_default();
    if !holder.is_empty() {
        let identity = format!("identity={holder}");
        second.controller.wait_for_log(&identity).await;
    }
    second.controller.wait_for_log(LEADER).await;
}

/// Fault: two replicas start at the same time on an empty cluster, where neither finds a key.
#[tokio::test]
async fn replicas_that_start_together_generate_one_key() {
    let plane = ControlPlane::start().await;
    let namespace = create_namespace(&plane).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let start = || ClusterController::spawn(&kubeconfig, namespace.name(), &SHORT_LEASE_ARGS);
    let mut controllers = [start(), start()];
    for controller in &mut controllers {
        controller.become_ready().await;
    }
    assert_eq!(count_keys(&namespace).await, 1);
    let certificates = [
        controllers[0].get("/v1/cert.pem").await,
        controllers[1].get("/v1/cert.pem").await,
    ];
    let body = |response: &str| response.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(&certificates[0]), body(&certificates[1]));
    assert!(body(&certificates[0]).contains("BEGIN CERTIFICATE"));
}

/// The default lease duration, long enough to distinguish a run that waits for it from a run that does not.
const DEFAULT_LEASE_DURATION: Duration = Duration::from_secs(12);

fn pod_uid() -> String {
    format!("{:032x}", shared::random::number::<u128>())
}

/// Starts a container of the Pod with this uid.
async fn start_container(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    uid: &str,
    args: &[&str],
) -> ClusterController {
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    ClusterController::spawn_in_pod(&kubeconfig, namespace.name(), uid, args)
}

async fn seal_one(namespace: &Namespace<'_>, name: &str) {
    let sealed = sealed_for(&KEYS[0], namespace.name(), name, &ITEMS, Scope::Strict);
    let api: Api<SealedSecret> = namespace.api();
    api.create(&PostParams::default(), &sealed).await.unwrap();
}

async fn wait_for_secret(namespace: &Namespace<'_>, name: &str) {
    until(&format!("the Secret {name} exists"), async || {
        let secrets = namespace.api::<ApiSecret>();
        secrets.get_opt(name).await.unwrap()
    })
    .await;
}

/// Kills a controller, and returns the time from the start of the next controller to its first Secret. `same_pod`
/// determines whether the next controller is a container of the same Pod.
async fn time_to_the_first_secret(plane: &ControlPlane, same_pod: bool) -> Duration {
    let namespace = create_namespace(plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let uid = pod_uid();
    let args = ["--key-renew-period=0"];
    let mut first = start_container(plane, &namespace, &uid, &args).await;
    first.wait_for_log(LEADER).await;
    first.signal(Signal::KILL);
    drop(first);
    seal_one(&namespace, "after").await;
    let start = Instant::now();
    let next_uid = if same_pod { uid } else { pod_uid() };
    let _second = start_container(plane, &namespace, &next_uid, &args).await;
    wait_for_secret(&namespace, "after").await;
    start.elapsed()
}

#[tokio::test]
async fn a_restarted_container_resumes_leadership_at_once() {
    let plane = ControlPlane::start().await;
    let same_pod = time_to_the_first_secret(&plane, true).await;
    let other_pod = time_to_the_first_secret(&plane, false).await;
    eprintln!("the first Secret after {same_pod:.2?} in the same Pod, {other_pod:.2?} in another");
    assert!(
        other_pod > DEFAULT_LEASE_DURATION / 2,
        "the other Pod did not wait for the lease: {other_pod:?}"
    );
    assert!(same_pod < DEFAULT_LEASE_DURATION / 2, "{same_pod:?}");
}

/// Attack: a second process in the Pod of the leader, started by `kubectl exec` for example, takes the Lease
/// under the leader's identity while the leader is only paused.
#[tokio::test]
async fn two_processes_of_a_pod_never_lead_at_the_same_time() {
    let plane = ControlPlane::start().await;
    let namespace = create_namespace(&plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let uid = pod_uid();
    let mut first = start_container(&plane, &namespace, &uid, &SHORT_LEASE_ARGS).await;
    first.wait_for_log(LEADER).await;
    let mut second = start_container(&plane, &namespace, &uid, &SHORT_LEASE_ARGS).await;
    second.wait_for_log(STANDBY).await;
    second.wait_for_log("which another process may use").await;
    assert!(!second.log().contains(LEADER));

    // The pause does not release the identity: the second process leads when the Lease has expired.
    let lease: Lease = namespace.api().get(ACCOUNT).await.unwrap();
    let holder = |lease: &Lease| lease.spec.clone().unwrap().holder_identity.unwrap();
    assert!(holder(&lease).ends_with(&uid));
    first.signal(Signal::STOP);
    second.wait_for_log(LEADER).await;
    let new_lease: Lease = namespace.api().get(ACCOUNT).await.unwrap();
    assert!(
        !holder(&new_lease).ends_with(&uid),
        "{}",
        holder(&new_lease)
    );
    first.signal(Signal::CONT);
    first.wait_for_log("is no longer the leader").await;
    seal_one(&namespace, "later").await;
    wait_for_secret(&namespace, "later").await;
}

/// Fault: two replicas start before the permission to use Leases is granted.
///
/// Role bindings may be created a moment after the replicas start.
#[tokio::test]
async fn replicas_without_permission_for_leases_elect_a_leader_when_it_is_granted() {
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("replicas").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let mut first = Replica::start(&plane, &namespace).await;
    first.controller.wait_for_log(LEADER).await;
    let mut second = Replica::start(&plane, &namespace).await;
    second.controller.wait_for_log(LEADER).await;
    roles::grant_leases(&namespace).await;
    until("exactly one replica leads", async || {
        let leaders = first.metric("leader").await + second.metric("leader").await;
        (0.5..1.5).contains(&leaders).then_some(())
    })
    .await;
}
