//! Several replicas of the controller: one writes, the others stand by. Each test has its own plane, and the
//! API server's audit log shows who wrote what and when.

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

/// Short lease durations, so that a test does not wait long.
const TERMS: [&str; 4] = [
    "--leader-elect-lease-duration=4s",
    "--leader-elect-renew-deadline=2500ms",
    "--leader-elect-retry-period=500ms",
    "--key-renew-period=0",
];
const LEADS: &str = "This replica is the leader";
const FOLLOWS: &str = "Another replica is the leader";
const OBJECTS: usize = 60;
const OBJECTS_SERIES: &str = "sealed_secrets_controller_objects";
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
        let controller = ClusterController::spawn(&kubeconfig, namespace.name(), &TERMS);
        let mut replica = Self {
            controller,
            credential,
        };
        // The next replica's token will be in the same file.
        replica.controller.logs("Searching for existing").await;
        replica
    }

    async fn count(&self, name: &str) -> f64 {
        let scrape = Scrape::read(&self.controller.scrape().await);
        let value = scrape.value(&format!("sealed_secrets_controller_{name}"), &[]);
        value.unwrap_or_default()
    }

    /// Returns its writes: time of arrival and object, such as `events/s-1.17c`.
    fn writes(&self, audit: &[Value]) -> Vec<(Timestamp, String)> {
        let extra = "authentication.kubernetes.io/credential-id";
        let ours = audit
            .iter()
            .filter(|event| event["user"]["extra"][extra][0] == json!(self.credential));
        let done = ours.filter(|event| {
            event["responseStatus"]["code"]
                .as_u64()
                .is_some_and(|code| code < 300)
        });
        let write = |event: &Value| {
            let time = event["requestReceivedTimestamp"].as_str().unwrap();
            let about = |field: &str| event["objectRef"][field].as_str().unwrap_or_default();
            let what = format!("{}/{}", about("resource"), about("name"));
            (time.parse().unwrap(), what)
        };
        done.map(write).collect()
    }
}

/// Returns the `jti` of the token in a kubeconfig.
fn credential(kubeconfig: &str) -> String {
    let kubeconfig: Value = serde_json::from_str(kubeconfig).unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    format!("JTI={}", claims["jti"].as_str().unwrap())
}

async fn place(plane: &ControlPlane) -> Namespace<'_> {
    let namespace = plane.namespace("replicas").await;
    roles::grant(&namespace, Reach::Namespace).await;
    roles::grant_leases(&namespace).await;
    namespace
}

/// Starts two replicas: the first leads, the second stands by.
async fn pair(plane: &ControlPlane, namespace: &Namespace<'_>) -> [Replica; 2] {
    let mut first = Replica::start(plane, namespace).await;
    first.controller.logs(LEADS).await;
    let mut second = Replica::start(plane, namespace).await;
    second.controller.logs(FOLLOWS).await;
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

async fn synced(namespace: &Namespace<'_>, prefix: &str) -> usize {
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

async fn are_synced(namespace: &Namespace<'_>, prefix: &str, least: usize) {
    until(&format!("{least} of {prefix} are synced"), async || {
        (synced(namespace, prefix).await >= least).then_some(())
    })
    .await;
}

async fn keys(namespace: &Namespace<'_>) -> usize {
    let api: Api<ApiSecret> = namespace.api();
    let active = ListParams::default().labels(&format!("{KEY_LABEL}=active"));
    api.list(&active).await.unwrap().items.len()
}

#[tokio::test]
async fn the_successor_of_a_killed_leader_finishes_and_repeats_little() {
    let plane = ControlPlane::start().await;
    let namespace = place(&plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let [mut first, mut second] = pair(&plane, &namespace).await;
    let certificate = second.controller.get("/v1/cert.pem").await;
    assert!(certificate.contains("BEGIN CERTIFICATE"), "{certificate}");
    let kill = async {
        are_synced(&namespace, "s", 5).await;
        first.controller.signal(Signal::KILL);
    };
    tokio::join!(seal_many(&namespace, "s"), kill);
    second.controller.logs(LEADS).await;
    are_synced(&namespace, "s", OBJECTS).await;
    assert_eq!(keys(&namespace).await, 1);
    let operations = second.count("private_key_operations_total").await;
    let total = f64::from(u32::try_from(OBJECTS * ITEMS.len()).unwrap());
    assert!(
        operations < total,
        "{operations} of {total}: what was done is not done again"
    );
    assert!((second.count("leader").await - 1.0).abs() < 0.5);
}

/// Attack: pauses the leader beyond its lease and resumes it.
#[tokio::test]
async fn a_leader_that_was_paused_for_longer_than_its_term_writes_nothing_after_it() {
    let plane = ControlPlane::start().await;
    let namespace = place(&plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let [mut first, mut second] = pair(&plane, &namespace).await;
    let pause = async {
        are_synced(&namespace, "s", 5).await;
        first.controller.signal(Signal::STOP);
    };
    tokio::join!(seal_many(&namespace, "s"), pause);
    second.controller.logs(LEADS).await;
    let more = async {
        are_synced(&namespace, "t", 5).await;
        first.controller.signal(Signal::CONT);
    };
    tokio::join!(seal_many(&namespace, "t"), more);
    for prefix in ["s", "t"] {
        are_synced(&namespace, prefix, OBJECTS).await;
    }
    first.controller.logs("is no longer the leader").await;
    assert!(first.count("leader").await < 0.5);
    until("only the leader tells of objects", async || {
        let text = first.controller.scrape().await;
        let scrape = Scrape::read(&text);
        let synced = scrape.value(OBJECTS_SERIES, &[("synced", "True")]);
        (synced == Some(0.0) && !text.contains("condition_info{")).then_some(())
    })
    .await;

    let audit = plane.audit();
    let taken = second.writes(&audit).into_iter();
    let taken = taken
        .filter(|(_, what)| what.starts_with("leases/"))
        .map(|(time, _)| time);
    let taken = taken.min().expect("it took the Lease");
    let before = first.writes(&audit);
    assert!(before.len() > 5, "{before:?}");
    // An event that was in flight when the process was stopped is sent when it resumes, and no resource
    // version can prevent that. It can only be about the first objects, because the process has not seen the
    // others.
    let late: Vec<_> = before
        .into_iter()
        .filter(|(time, what)| *time >= taken && !what.starts_with("events/s-"))
        .collect();
    assert!(late.is_empty(), "after {taken}: {late:?}");
    let early = second.writes(&audit).into_iter();
    let early: Vec<_> = early.filter(|(time, _)| *time < taken).collect();
    assert!(early.is_empty(), "a follower wrote: {early:?}");
    assert_eq!(keys(&namespace).await, 1);
}

#[tokio::test]
async fn a_leader_that_exits_lets_the_next_one_lead_at_once() {
    let plane = ControlPlane::start().await;
    let namespace = place(&plane).await;
    let [first, mut second] = pair(&plane, &namespace).await;
    assert_eq!(first.controller.stop(), Some(0));
    let lease: Lease = namespace.api().get(ACCOUNT).await.unwrap();
    let holder = lease.spec.unwrap().holder_identity.unwrap_or_default();
    if !holder.is_empty() {
        let identity = format!("identity={holder}");
        second.controller.logs(&identity).await;
    }
    second.controller.logs(LEADS).await;
}

/// Attack: starts two replicas at once on an empty cluster.
#[tokio::test]
async fn two_that_start_at_once_on_an_empty_cluster_make_one_key() {
    let plane = ControlPlane::start().await;
    let namespace = place(&plane).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let start = || ClusterController::spawn(&kubeconfig, namespace.name(), &TERMS);
    let mut both = [start(), start()];
    for controller in &mut both {
        controller.become_ready().await;
    }
    assert_eq!(keys(&namespace).await, 1);
    let certificates = [
        both[0].get("/v1/cert.pem").await,
        both[1].get("/v1/cert.pem").await,
    ];
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(&certificates[0]), body(&certificates[1]));
    assert!(body(&certificates[0]).contains("BEGIN CERTIFICATE"));
}

/// The default lease duration, so that a wait for it would show.
const DEFAULT_TERM: Duration = Duration::from_secs(12);

fn pod_uid() -> String {
    format!("{:032x}", shared::random::number::<u128>())
}

/// Starts a container of the Pod with this uid.
async fn container(
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

async fn has_secret(namespace: &Namespace<'_>, name: &str) {
    until(&format!("the Secret {name} is there"), async || {
        let secrets = namespace.api::<ApiSecret>();
        secrets.get_opt(name).await.unwrap()
    })
    .await;
}

/// Returns how long the next controller takes from its start to its first Secret, after the previous one was
/// killed. `same_pod` says whether it is a container of the same Pod.
async fn time_to_the_first_secret(plane: &ControlPlane, same_pod: bool) -> Duration {
    let namespace = place(plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let uid = pod_uid();
    let args = ["--key-renew-period=0"];
    let mut first = container(plane, &namespace, &uid, &args).await;
    first.logs(LEADS).await;
    first.signal(Signal::KILL);
    drop(first);
    seal_one(&namespace, "after").await;
    let start = Instant::now();
    let next = if same_pod { uid } else { pod_uid() };
    let _second = container(plane, &namespace, &next, &args).await;
    has_secret(&namespace, "after").await;
    start.elapsed()
}

#[tokio::test]
async fn a_container_that_was_killed_and_started_again_in_its_pod_goes_on_at_once() {
    let plane = ControlPlane::start().await;
    let same_pod = time_to_the_first_secret(&plane, true).await;
    let another = time_to_the_first_secret(&plane, false).await;
    eprintln!("the first Secret after {same_pod:.2?} in the same Pod, {another:.2?} in another");
    assert!(
        another > DEFAULT_TERM / 2,
        "nothing was waited for: {another:?}"
    );
    assert!(same_pod < DEFAULT_TERM / 2, "{same_pod:?}");
}

/// Attack: a second process in the Pod of the leader, started by `kubectl exec` for example, takes the Lease
/// under the leader's identity while the leader is only paused.
#[tokio::test]
async fn two_processes_of_one_pod_do_not_lead_together_even_if_one_is_paused() {
    let plane = ControlPlane::start().await;
    let namespace = place(&plane).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let uid = pod_uid();
    let mut first = container(&plane, &namespace, &uid, &TERMS).await;
    first.logs(LEADS).await;
    let mut second = container(&plane, &namespace, &uid, &TERMS).await;
    second.logs(FOLLOWS).await;
    second.logs("may use its identity").await;
    assert!(!second.log().contains(LEADS));

    // The pause does not release the identity: the second one leads when the Lease has expired.
    let held: Lease = namespace.api().get(ACCOUNT).await.unwrap();
    let holder = |lease: &Lease| lease.spec.clone().unwrap().holder_identity.unwrap();
    assert!(holder(&held).ends_with(&uid));
    first.signal(Signal::STOP);
    second.logs(LEADS).await;
    let taken: Lease = namespace.api().get(ACCOUNT).await.unwrap();
    assert!(!holder(&taken).ends_with(&uid), "{}", holder(&taken));
    first.signal(Signal::CONT);
    first.logs("is no longer the leader").await;
    seal_one(&namespace, "later").await;
    has_secret(&namespace, "later").await;
}

/// Attack: starts two replicas before the permission to use Leases is granted.
///
/// Role bindings may be created a moment after the replicas start.
#[tokio::test]
async fn two_that_start_before_they_may_use_leases_agree_on_a_leader_when_they_may() {
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("replicas").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let mut first = Replica::start(&plane, &namespace).await;
    first.controller.logs(LEADS).await;
    let mut second = Replica::start(&plane, &namespace).await;
    second.controller.logs(LEADS).await;
    roles::grant_leases(&namespace).await;
    until("one of the two leads", async || {
        let leaders = first.count("leader").await + second.count("leader").await;
        (0.5..1.5).contains(&leaders).then_some(())
    })
    .await;
}
