use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::testing::{client, refusal};

const LEASE_DURATION: Duration = Duration::from_secs(15);

/// The response of the simulated API server to every request, which a test can replace.
type ServerResponse = Arc<Mutex<(u16, Value)>>;

fn election() -> Election {
    Election {
        enabled: true,
        lease_name: "lease".into(),
        lease_duration: LEASE_DURATION,
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    }
}

fn candidate(client: Client) -> Candidate {
    Candidate::new(
        client,
        "ns",
        election(),
        Pod::default(),
        Arc::default(),
        Arc::default(),
    )
}

fn candidate_with(response: &ServerResponse) -> Candidate {
    let response = Arc::clone(response);
    candidate(client(move |_, _| response.lock().unwrap().clone()))
}

fn lease_held_by(holder: &str) -> (u16, Value) {
    let spec =
        json!({ "holderIdentity": holder, "leaseDurationSeconds": LEASE_DURATION.as_secs() });
    let metadata = json!({ "name": "lease", "namespace": "ns", "resourceVersion": "7" });
    (200, json!({ "metadata": metadata, "spec": spec }))
}

/// Returns the role of the candidate, and whether it may write.
fn role(candidate: &Candidate) -> (Role, bool) {
    (*candidate.role().borrow(), candidate.write_lease.is_valid())
}

#[test]
fn an_attempt_that_waited_for_the_api_server_shortens_the_next_pause() {
    let pause = Duration::from_secs(2);
    for (milliseconds, want) in [
        (None, 2000),
        (Some(0), 2000),
        (Some(500), 1500),
        (Some(1900), 200),
        (Some(10_000), 200),
    ] {
        let attempt = milliseconds.map(Duration::from_millis);
        let want = Duration::from_millis(want);
        assert_eq!(shortened_pause(pause, attempt), want, "{milliseconds:?}");
    }
    let short = Duration::from_millis(50);
    assert_eq!(
        shortened_pause(short, Some(short)),
        short,
        "never longer than configured"
    );
}

#[tokio::test]
async fn leads_without_a_lease_until_it_first_gets_access_to_leases() {
    let response = ServerResponse::new(Mutex::new(refusal(403, "leases are forbidden")));
    let mut candidate = candidate_with(&response);
    for _ in 0..2 {
        candidate.step().await;
        assert_eq!(role(&candidate), (Role::Leader, true));
        assert!(candidate.pause() >= candidate.election.renew_deadline);
    }
    *response.lock().unwrap() = lease_held_by("other");
    candidate.step().await;
    assert_eq!(role(&candidate), (Role::Follower, false));
    *response.lock().unwrap() = refusal(403, "leases are forbidden");
    candidate.step().await;
    assert_eq!(
        role(&candidate),
        (Role::Stuck, false),
        "the Lease was used before"
    );
}

#[tokio::test]
async fn yields_if_another_replica_acquired_the_lease() {
    let is_forbidden = Arc::new(Mutex::new(true));
    let server = Arc::clone(&is_forbidden);
    let mut candidate = candidate(client(move |method, _| {
        match (*server.lock().unwrap(), method.as_str()) {
            (true, _) => refusal(403, "leases are forbidden"),
            (false, "GET") => refusal(404, "not found"),
            (false, _) => refusal(409, "already exists"),
        }
    }));
    candidate.step().await;
    *is_forbidden.lock().unwrap() = false;
    candidate.step().await;
    assert_eq!(role(&candidate), (Role::Follower, false));
}

#[tokio::test]
async fn the_lease_duration_counts_from_the_response() {
    let response_time = Arc::new(Mutex::new(None));
    let time_in_server = Arc::clone(&response_time);
    let mut candidate = candidate(client(move |_, _| {
        std::thread::sleep(Duration::from_millis(20));
        *time_in_server.lock().unwrap() = Some(Moment::now());
        lease_held_by("other")
    }));
    candidate.step().await;
    let response_time = response_time.lock().unwrap().unwrap();
    let expiry = candidate.view.as_ref().unwrap().expiry();
    assert!(expiry >= response_time.after(LEASE_DURATION));
}

#[tokio::test]
async fn a_problem_with_the_lease_is_logged_once_each_time_it_begins() {
    let response = ServerResponse::new(Mutex::new(lease_held_by("other")));
    let mut candidate = candidate_with(&response);
    let mut problems = Vec::new();
    for next in [
        lease_held_by("other"),
        refusal(500, "etcd is full"),
        refusal(500, "etcd is full"),
        refusal(403, "leases are forbidden"),
        lease_held_by("other"),
        refusal(403, "leases are forbidden"),
    ] {
        *response.lock().unwrap() = next;
        candidate.step().await;
        problems.push(candidate.logged_problem.clone());
    }
    let (full, forbidden) = (Some("etcd is full"), Some("leases are forbidden"));
    let want = [None, full, full, forbidden, None, forbidden];
    let problems: Vec<_> = problems.iter().map(Option::as_deref).collect();
    assert_eq!(problems, want);
}

/// Returns a client of a simulated API server that stores one Lease.
fn storing_client(lease: &Arc<Mutex<Value>>) -> Client {
    let lease = Arc::clone(lease);
    crate::testing::client_with_bodies(move |method, body| {
        let mut lease = lease.lock().unwrap();
        if method != "GET" {
            *lease = body;
            lease["metadata"]["resourceVersion"] =
                json!(format!("{:x}", shared::random::number::<u64>()));
        }
        if lease.is_null() {
            refusal(404, "not found")
        } else {
            (200, lease.clone())
        }
    })
}

/// Attack: a client copies a `POD_UID` to a second machine, so that two processes have one identity.
#[tokio::test]
async fn two_processes_with_one_identity_do_not_both_lead() {
    let lease = Arc::new(Mutex::new(Value::Null));
    let [mut first, mut second] = [(); 2].map(|()| candidate(storing_client(&lease)));
    first.step().await;
    assert_eq!(role(&first), (Role::Leader, true));
    // Simulates another machine, where the identity is not claimed.
    let identity = first.identity.as_str().to_owned();
    second.identity = Identity::without_claim(&identity);
    second.step().await;
    for _ in 0..3 {
        first.step().await;
        second.step().await;
    }
    let leaders = [&first, &second].map(|candidate| role(candidate) == (Role::Leader, true));
    assert_eq!(leaders, [false, true]);
    assert_ne!(first.identity.as_str(), identity);
}

#[tokio::test]
async fn a_sole_leader_keeps_its_identity() {
    let lease = Arc::new(Mutex::new(Value::Null));
    let mut candidate = candidate(storing_client(&lease));
    let identity = candidate.identity.as_str().to_owned();
    for _ in 0..4 {
        candidate.step().await;
        assert_eq!(role(&candidate), (Role::Leader, true));
    }
    assert_eq!(candidate.identity.as_str(), identity);
}

/// Attack: a client that may write Leases creates a Lease that the controller cannot read, so that two replicas lead,
/// or that the leader stops without a report.
#[tokio::test]
async fn an_unreadable_lease_stops_the_leader_and_is_reported_until_it_can_be_read() {
    for spec in [
        json!(5),
        json!({ "renewTime": "soon" }),
        json!({ "holderIdentity": 5 }),
        json!({ "leaseDurationSeconds": 1_i64 << 40 }),
    ] {
        let response = ServerResponse::new(Mutex::new(refusal(403, "leases are forbidden")));
        let mut candidate = candidate_with(&response);
        candidate.step().await;
        assert_eq!(role(&candidate), (Role::Leader, true));
        let (code, mut lease) = lease_held_by("other");
        lease["spec"] = spec.clone();
        *response.lock().unwrap() = (code, lease);
        candidate.step().await;
        assert_eq!(role(&candidate), (Role::Stuck, false), "{spec}");
        assert!(
            candidate
                .logged_problem
                .as_ref()
                .unwrap()
                .contains("60 minutes")
        );
        assert!(candidate.health.failing_since().is_some());
        *response.lock().unwrap() = lease_held_by("other");
        candidate.step().await;
        assert_eq!(role(&candidate), (Role::Follower, false), "{spec}");
        assert!(candidate.health.failing_since().is_none());
    }
}

/// Attack: a client that may write Leases stops the controller with a time that the API server stores and the types of
/// `k8s-openapi` cannot represent.
#[tokio::test]
async fn a_lease_with_a_time_out_of_range_is_read() {
    for field in ["renewTime", "acquireTime"] {
        for time in [
            "9999-12-31T23:59:59.999999Z",
            "10000-01-01T13:59:59.000000Z",
            "-0001-12-31T10:00:00.000000Z",
        ] {
            let (code, mut lease) = lease_held_by("other");
            lease["spec"][field] = json!(time);
            lease["metadata"]["managedFields"] = json!([{ "time": time }]);
            let mut candidate = candidate_with(&ServerResponse::new(Mutex::new((code, lease))));
            candidate.step().await;
            assert_eq!(role(&candidate), (Role::Follower, false), "{field} {time}");
        }
    }
}
