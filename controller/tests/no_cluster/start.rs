//! Tests the start in a cluster, with a simulated API server that controls the order of its responses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Response, Uri};
use controller::args::{Backend, Config};
use controller::cluster::Cluster;
use controller::metrics::Metrics;
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::manifest::{self, Reading, Shape};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::{KEYS, key_manifest, manifest_of, sealed};

/// Far longer than a correct start takes, so that a controller that waits without limit fails the test.
const MAX_WAIT: Duration = Duration::from_mins(1);
const OBJECTS_LISTED: &str = "objects listed";
const LEASE_HELD: &str = "Lease held";
const SECRETS_WATCHED: &str = "Secrets watched";
const SECRET_CREATED: &str = "write /api/v1/namespaces/ns/secrets";

/// A simulated API server: the log of its requests, in order, and its Lease.
struct ApiServer {
    log: watch::Sender<Vec<String>>,
    lease: Mutex<Option<Value>>,
    address: String,
}

impl ApiServer {
    async fn start(lease: Option<Value>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            log: watch::Sender::default(),
            lease: Mutex::new(lease),
            address: listener.local_addr().unwrap().to_string(),
        });
        let router = Router::new()
            .fallback(respond)
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    fn record(&self, entry: &str) {
        self.log.send_modify(|log| log.push(entry.to_owned()));
    }

    async fn wait_for_record(&self, entry: &str) {
        let mut log = self.log.subscribe();
        let recorded = log.wait_for(|log| log.iter().any(|line| line == entry));
        let result = timeout(MAX_WAIT, recorded).await.map(drop);
        assert!(result.is_ok(), "no {entry:?}: {:?}", self.log.borrow());
    }

    /// Returns the number of requests that change something except the Lease, and how many of them came before the
    /// Lease was held.
    fn count_writes(&self) -> (usize, usize) {
        let log = self.log.borrow();
        let is_write = |entry: &&String| entry.starts_with("write ");
        let lease_index = log.iter().position(|entry| entry == LEASE_HELD);
        let early = log.iter().take(lease_index.unwrap_or(log.len()));
        (
            log.iter().filter(is_write).count(),
            early.filter(is_write).count(),
        )
    }

    /// Delays the response to reads of the Lease until the objects are listed.
    async fn respond_to_lease(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        if *method == Method::GET {
            self.wait_for_record(OBJECTS_LISTED).await;
            let lease = self.lease.lock().unwrap().clone();
            return lease.map_or_else(|| (404, status_response(404)), |lease| (200, lease));
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        lease["metadata"]["resourceVersion"] = json!("2");
        *self.lease.lock().unwrap() = Some(lease.clone());
        self.record(LEASE_HELD);
        (201, lease)
    }
}

async fn respond(
    State(server): State<Arc<ApiServer>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response<Body> {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if query.contains("watch=true") {
        if path.ends_with("/secrets") && !query.contains("labelSelector") {
            server.record(SECRETS_WATCHED);
        }
        let silent_body =
            Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        return Response::new(silent_body);
    }
    let (code, response) = match path.rsplit('/').next().unwrap_or_default() {
        _ if path.contains("/leases") => server.respond_to_lease(&method, &body).await,
        _ if method != Method::GET => {
            server.record(&format!("write {path}"));
            (201, serde_json::from_slice(&body).unwrap())
        }
        "sealedsecrets" => {
            server.record(OBJECTS_LISTED);
            (
                200,
                list("bitnami.com/v1alpha1", "SealedSecretList", object()),
            )
        }
        "secrets" if query.contains("labelSelector") => {
            (200, list("v1", "SecretList", key_secret()))
        }
        "secrets" => (200, list("v1", "SecretList", Value::Null)),
        _ => (404, status_response(404)),
    };
    let response = Body::from(response.to_string());
    Response::builder().status(code).body(response).unwrap()
}

fn status_response(code: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound",
        "message": "not found", "code": code,
    })
}

fn list(api_version: &str, kind: &str, item: Value) -> Value {
    let items: Vec<Value> = Some(item)
        .filter(|item| !item.is_null())
        .into_iter()
        .collect();
    json!({
        "apiVersion": api_version, "kind": kind, "items": items,
        "metadata": { "resourceVersion": "1" },
    })
}

fn parse_yaml(yaml: &str) -> Value {
    let document = &manifest::read(yaml.as_bytes()).unwrap()[0];
    let json = Reading::default().json(&document.root, Shape::Any).unwrap();
    serde_json::to_value(json).unwrap()
}

fn object() -> Value {
    let mut object = parse_yaml(&manifest_of(&sealed(&KEYS[0], "ns/n", &[("a", "1")])));
    for (name, value) in [
        ("uid", json!("u")),
        ("resourceVersion", json!("1")),
        ("generation", json!(1)),
    ] {
        object["metadata"][name] = value;
    }
    object
}

fn key_secret() -> Value {
    let mut key = parse_yaml(&key_manifest("k", &KEYS[0]));
    key["metadata"]["uid"] = json!("k");
    key["metadata"]["resourceVersion"] = json!("1");
    key
}

fn lease_held_by(holder: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "sealed-secrets-controller", "namespace": "ns", "resourceVersion": "1" },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 3600 },
    })
}

/// Runs a controller with the API server until the log of the API server contains `entry`.
async fn run_until(server: &ApiServer, entry: &str) {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let cluster = json!({ "server": format!("http://{}", server.address) });
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": cluster }],
        "users": [{ "name": "u", "user": {} }],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let args = [
        "--all-namespaces=false".into(),
        "--key-renew-period=0".into(),
        format!("--kubeconfig={}", kubeconfig.display()),
    ];
    // Unique, because processes of one machine may share the network namespace in which the uid is claimed.
    let uid = server.address.clone();
    let variables = BTreeMap::from([("POD_NAMESPACE", "ns".to_owned()), ("POD_UID", uid)]);
    let config = Config::read(args.map(Into::into), |name| variables.get(name).cloned()).unwrap();
    let Backend::Cluster(cluster_config) = &config.backend else {
        panic!("expected a cluster");
    };
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let mut cluster = Cluster::new(&config, cluster_config, metrics)
        .await
        .unwrap();
    let controller_loop = async {
        cluster.begin(Timestamp::now).await;
        loop {
            cluster.run_once(Timestamp::now()).await;
            // A standby has no change to wait for.
            let _ = timeout(
                Duration::from_millis(50),
                cluster.wait_for_change(Timestamp::now),
            )
            .await;
        }
    };
    tokio::select! {
        () = controller_loop => {}
        () = server.wait_for_record(entry) => {}
    }
}

/// Fault: the API server responds late to the request for the Lease, while the replica has already listed every object:
/// the replica could write before it is the leader.
#[tokio::test]
async fn lists_the_objects_while_it_waits_for_the_lease_and_writes_when_it_holds_it() {
    for (description, lease) in [
        ("no Lease", None),
        ("released Lease", Some(lease_held_by(""))),
    ] {
        let server = ApiServer::start(lease).await;
        run_until(&server, SECRET_CREATED).await;
        let (writes, early) = server.count_writes();
        assert!(
            writes > 0 && early == 0,
            "{description}: {:?}",
            server.log.borrow()
        );
    }
}

#[tokio::test]
async fn a_restarted_container_lists_the_objects_while_it_waits_for_the_lease() {
    let server = ApiServer::start(None).await;
    run_until(&server, SECRET_CREATED).await;
    let lease = server.lease.lock().unwrap().clone();
    let holder = lease.unwrap()["spec"]["holderIdentity"].clone();
    assert!(
        holder.as_str().unwrap().contains(&server.address),
        "{holder}"
    );
    server.log.send_replace(Vec::new());
    run_until(&server, SECRET_CREATED).await;
    assert_eq!(server.count_writes().1, 0, "{:?}", server.log.borrow());
}

/// Fault: a replica has listed every object while another replica holds the Lease: both could write.
#[tokio::test]
async fn a_standby_that_has_listed_everything_writes_nothing() {
    let server = ApiServer::start(Some(lease_held_by("another"))).await;
    // The Secrets are listed after the objects, so all lists are complete when their watch begins.
    run_until(&server, SECRETS_WATCHED).await;
    assert_eq!(server.count_writes(), (0, 0), "{:?}", server.log.borrow());
    assert!(server.log.borrow().iter().all(|entry| entry != LEASE_HELD));
}
