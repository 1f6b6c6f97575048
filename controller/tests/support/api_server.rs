//! A simulated API server with one SealedSecret and one Secret, `ns/n`, in memory, and changes that other clients make
//! between two requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use controller::store::cluster::{ClusterStore, Watched};
use controller_core::object_id::ObjectId;
use http::header::ACCEPT;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use shared::base64;
use shared::resource::SealedSecret;
use tokio::time::Instant;
use tower::service_fn;

pub const SECRET: &str = "secret";
pub const SEALED: &str = "sealed";

type Action = Box<dyn FnOnce(&ApiServer) + Send>;

#[derive(Default)]
pub struct ApiServer {
    objects: Mutex<[Value; 2]>,
    version: Mutex<u64>,
    /// Changes by other clients. The server makes the first one before it processes the next write of the Secret.
    actions: Mutex<VecDeque<Action>>,
    /// The number of reads of the Secret with its values.
    pub value_reads: Mutex<u32>,
    /// The number of completed writes of the Secret.
    pub writes: Mutex<u32>,
    /// The writes of the Secret and the status that created a revision, in order.
    history: Mutex<Vec<String>>,
    events: Mutex<Vec<Value>>,
    /// Returns the causes if the values of a Secret are rejected, `None` if they are accepted.
    check: Option<fn(&Value) -> Option<Value>>,
    /// Whether the CRD lacks `status.record`.
    drops_record: bool,
    store: OnceLock<Arc<ClusterStore>>,
    /// The time that writing a Secret takes per byte.
    nanoseconds_per_byte: u64,
    /// The times at which statuses and events were written.
    published: Mutex<Vec<Instant>>,
    /// The objects that the store returned when the watch reported a written Secret.
    observed: Mutex<Vec<ObjectId>>,
    /// Whether the CRD has no `status` subresource.
    pub lacks_subresource: AtomicBool,
    /// Whether writes of the Secret fail with the status code 403, because a quota is exhausted.
    pub has_exhausted_quota: AtomicBool,
}

pub fn id() -> ObjectId {
    ObjectId {
        namespace: "ns".into(),
        name: "n".into(),
    }
}

impl ApiServer {
    /// Returns a server whose CRD drops the record from statuses, like upstream's, or keeps it.
    pub fn with_crd(drops_record: bool) -> Self {
        Self {
            drops_record,
            ..Self::default()
        }
    }

    /// Returns a server that rejects values with the causes that the function returns.
    pub fn with_check(check: fn(&Value) -> Option<Value>) -> Self {
        Self {
            check: Some(check),
            ..Self::default()
        }
    }

    /// Returns a server that takes longer to write a larger Secret.
    pub fn with_write_delay(nanoseconds_per_byte: u64) -> Self {
        Self {
            nanoseconds_per_byte,
            ..Self::default()
        }
    }

    /// Sets the check of an existing server, like [`Self::with_check`].
    pub fn and_check(self, check: fn(&Value) -> Option<Value>) -> Self {
        Self {
            check: Some(check),
            ..self
        }
    }

    /// Like [`Self::restart`], but also reports the Secret to the new store if it exists.
    pub fn restart_with_secret(self: &Arc<Self>) -> Arc<ClusterStore> {
        let store = self.restart();
        let secret = self.get(SECRET);
        if !secret.is_null() {
            let metadata = secret_metadata(&secret);
            store.record_secret(&serde_json::from_value(metadata).unwrap());
        }
        store
    }

    /// Reports both objects to a store, like its watches.
    pub fn report_to(&self, store: &ClusterStore) {
        store.store_object(self.object());
        let secret = self.get(SECRET);
        if !secret.is_null() {
            let metadata = secret_metadata(&secret);
            store.record_secret(&serde_json::from_value(metadata).unwrap());
        }
    }

    /// Changes the metadata of the Secret, as another client, and reports the change through the watch.
    pub fn edit_metadata(&self, edit: impl FnOnce(&mut Value)) {
        let mut secret = self.get(SECRET);
        edit(&mut secret["metadata"]);
        let secret = self.put(SECRET, secret);
        if let Some(store) = self.store.get() {
            let metadata = secret_metadata(&secret);
            store.record_secret(&serde_json::from_value(metadata).unwrap());
        }
    }

    /// Returns the reasons of all events.
    pub fn event_reasons(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let reasons = events.iter().map(|event| event[1]["reason"].as_str());
        reasons
            .map(|reason| reason.unwrap_or_default().to_owned())
            .collect()
    }

    /// Returns the times at which statuses and events were published, and clears the list.
    pub fn take_published(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.published.lock().unwrap())
    }

    /// Returns the objects whose written Secret the watch reported, and clears the list.
    pub fn take_observed(&self) -> Vec<ObjectId> {
        std::mem::take(&mut *self.observed.lock().unwrap())
    }

    /// Returns all information that a reader of SealedSecrets and events can see: the status, the events, and which
    /// writes created a revision. Digests that depend on the ciphertext are replaced.
    pub fn public_state(&self) -> Value {
        let mut status = self.status();
        if let Some(record) = status["record"].as_object_mut() {
            for digest in ["content", "proof"] {
                record.insert(digest.into(), json!("a digest"));
            }
            let version = record["secretVersion"].as_str().unwrap_or_default();
            let record_version = if version.len() < 40 {
                version
            } else {
                "a digest"
            };
            record.insert("secretVersion".into(), json!(record_version));
        }
        json!([
            status,
            *self.events.lock().unwrap(),
            *self.history.lock().unwrap(),
            *self.version.lock().unwrap(),
        ])
    }

    /// Changes the status, as a client with permission.
    pub fn edit_status(&self, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(SEALED);
        edit(&mut object["status"]);
        self.put(SEALED, object);
        self.report_object();
    }

    /// Adds the annotation with which a Secret that is not owned consents to a merge but not to a change of owner.
    pub fn consent_to_a_merge(&self) {
        let mut secret = self.get(SECRET);
        secret["metadata"]["annotations"] = json!({ "sealedsecrets.bitnami.com/patch": "true" });
        self.put(SECRET, secret);
    }

    /// Replaces the Secret as another client, and reports the change through the watch.
    pub fn edit_secret(&self, edit: impl FnOnce(&mut Value)) {
        let mut secret = self.get(SECRET);
        edit(&mut secret);
        let secret = self.put(SECRET, secret);
        if let Some(store) = self.store.get() {
            let metadata = secret_metadata(&secret);
            store.record_secret(&serde_json::from_value(metadata).unwrap());
        }
    }

    /// Deletes the Secret, as another client, and reports the change through the watch.
    pub fn delete_secret(&self, store: &ClusterStore) {
        let secret = self.get(SECRET);
        self.objects.lock().unwrap()[0] = Value::Null;
        let metadata = secret_metadata(&secret);
        store.record_secret_deletion(&serde_json::from_value(metadata).unwrap());
    }

    /// Makes the Secret immutable, as another client.
    pub fn make_immutable(&self) {
        let mut secret = self.get(SECRET);
        secret["immutable"] = json!(true);
        self.put(SECRET, secret);
    }

    /// Deletes the SealedSecret but not its Secret, and reports the change through the watch.
    pub fn delete_sealed(&self, store: &ClusterStore) {
        let object = self.object();
        self.objects.lock().unwrap()[1] = Value::Null;
        store.mark_deleted(&object);
    }

    /// Replaces the spec of the SealedSecret with one that cannot be read.
    pub fn make_malformed(&self, generation: i64) {
        let mut object = self.get(SEALED);
        object["metadata"]["generation"] = json!(generation);
        object["spec"] = json!("not an object");
        self.put(SEALED, object);
        self.report_object();
    }

    pub fn secret(&self) -> Value {
        self.get(SECRET)
    }

    pub fn sealed(&self) -> Value {
        self.get(SEALED)
    }

    /// Starts the server, and a store that has observed the SealedSecret, if it exists.
    pub fn start(self) -> (Arc<Self>, Arc<ClusterStore>) {
        let server = Arc::new(self);
        let store = Arc::new(ClusterStore::new(client(&server), false));
        assert!(server.store.set(Arc::clone(&store)).is_ok());
        server.report_object();
        (server, store)
    }

    /// Returns a new store, as after a restart.
    pub fn restart(self: &Arc<Self>) -> Arc<ClusterStore> {
        let store = Arc::new(ClusterStore::new(client(self), false));
        store.store_object(self.object());
        store
    }

    /// Queues a change that another client makes before the server processes a write of the Secret. Each write takes
    /// one change from the queue.
    pub fn before_the_next_write(&self, action: impl FnOnce(&Self) + Send + 'static) {
        self.actions.lock().unwrap().push_back(Box::new(action));
    }

    /// Replaces the object, except its status if the `uid` is the same, and reports the change through the watch.
    pub fn put_sealed(&self, sealed: &SealedSecret, uid: &str, generation: i64) {
        let mut object = sealed.to_document();
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["generation"] = json!(generation);
        if self.get(SEALED)["metadata"]["uid"] == json!(uid) {
            object["status"] = self.get(SEALED)["status"].clone();
        }
        self.put(SEALED, object);
        self.report_object();
    }

    /// Sets an item of the Secret, as another client, and reports the change through the watch. If the Secret does not
    /// exist, creates it as one that another client hands over.
    pub fn edit(&self, item: &str, value: &str) {
        let mut secret = self.get(SECRET);
        secret["metadata"]["name"] = json!("n");
        secret["metadata"]["namespace"] = json!("ns");
        if secret["metadata"]["uid"].is_null() {
            secret["metadata"]["uid"] = json!("of-others");
            secret["metadata"]["annotations"] =
                json!({ "sealedsecrets.bitnami.com/managed": "true" });
        }
        secret["data"][item] = json!(base64::encode(value.as_bytes()));
        self.put(SECRET, secret.clone());
        if let Some(store) = self.store.get() {
            let metadata = secret_metadata(&self.get(SECRET));
            store.record_secret(&serde_json::from_value(metadata).unwrap());
        }
    }

    pub fn value(&self, item: &str) -> String {
        let text = self.get(SECRET)["data"][item].as_str().unwrap().to_owned();
        String::from_utf8(base64::decode(text.as_bytes()).unwrap()).unwrap()
    }

    pub fn status(&self) -> Value {
        self.get(SEALED)["status"].clone()
    }

    pub fn is_synced(&self) -> bool {
        self.status()["conditions"][0]["status"] == json!("True")
    }

    fn object(&self) -> Watched {
        serde_json::from_value(self.get(SEALED)).unwrap()
    }

    fn report_object(&self) {
        if let (Some(store), false) = (self.store.get(), self.get(SEALED).is_null()) {
            store.store_object(self.object());
        }
    }

    fn get(&self, kind: &str) -> Value {
        self.objects.lock().unwrap()[usize::from(kind == SEALED)].clone()
    }

    fn put(&self, kind: &str, mut object: Value) -> Value {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.objects.lock().unwrap()[usize::from(kind == SEALED)] = object.clone();
        object
    }

    fn respond(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        match (method.as_str(), path) {
            ("GET", "/api/v1/namespaces/ns/secrets/n") => object_response(self.get(SECRET)),
            ("GET", path) if path.ends_with("/sealedsecrets/n") => {
                object_response(self.get(SEALED))
            }
            ("PUT", path) if path.ends_with("/sealedsecrets/n/status") => self.put_status(&body),
            (_, path) if path.contains("/secrets") => self.write_secret(method, body),
            (_, path) if path.contains("/events") => {
                self.published.lock().unwrap().push(Instant::now());
                let mut event = body.clone();
                for field in ["metadata", "firstTimestamp", "lastTimestamp"] {
                    event[field] = Value::Null;
                }
                event["involvedObject"]["uid"] = Value::Null;
                self.events
                    .lock()
                    .unwrap()
                    .push(json!([method.as_str(), event]));
                (200, body)
            }
            _ => (200, body),
        }
    }

    fn write_secret(&self, method: &Method, mut body: Value) -> (u16, Value) {
        let action = self.actions.lock().unwrap().pop_front();
        if let Some(action) = action {
            action(self);
        }
        if self.has_exhausted_quota.load(Ordering::Relaxed) {
            return (403, error_response(403));
        }
        let existing = self.get(SECRET);
        if *method == Method::POST && existing.is_null() {
            body["metadata"]["uid"] = json!("created");
        } else if existing.is_null() || !is_newest(&body, &existing) {
            return (409, error_response(409));
        }
        if let Some(causes) = self.check.and_then(|check| check(&body)) {
            let mut response = error_response(422);
            response["reason"] = json!("Invalid");
            response["details"] = json!({ "causes": causes });
            return (422, response);
        }
        *self.writes.lock().unwrap() += 1;
        // As in etcd, a write that changes nothing creates no revision.
        if body == existing {
            return (200, existing);
        }
        self.history
            .lock()
            .unwrap()
            .push(format!("{method} Secret"));
        let stored = self.put(SECRET, body);
        // The watch may be faster than the response.
        if let Some(store) = self.store.get() {
            let metadata = secret_metadata(&stored);
            let ids = store.record_secret(&serde_json::from_value(metadata).unwrap());
            self.observed.lock().unwrap().extend(ids);
        }
        (200, stored)
    }

    fn put_status(&self, body: &Value) -> (u16, Value) {
        let mut existing = self.get(SEALED);
        if self.lacks_subresource.load(Ordering::Relaxed) {
            return (404, error_response(404));
        }
        if !is_newest(body, &existing) {
            return (409, error_response(409));
        }
        existing["status"] = body["status"].clone();
        if self.drops_record {
            existing["status"].as_object_mut().unwrap().remove("record");
        }
        self.history.lock().unwrap().push("PUT status".into());
        self.published.lock().unwrap().push(Instant::now());
        (200, self.put(SEALED, existing))
    }
}

fn is_newest(body: &Value, existing: &Value) -> bool {
    body["metadata"]["resourceVersion"] == existing["metadata"]["resourceVersion"]
}

fn secret_metadata(secret: &Value) -> Value {
    secret["metadata"].clone()
}

fn object_response(object: Value) -> (u16, Value) {
    if object.is_null() {
        return (404, error_response(404));
    }
    (200, object)
}

fn error_response(code: u16) -> Value {
    // The client recognizes a missing object by the reason, not by the code.
    let reason = if code == 404 { "NotFound" } else { "" };
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": reason,
    })
}

pub fn client(server: &Arc<ApiServer>) -> Client {
    let server = Arc::clone(server);
    let service = service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            if head.uri.path().contains("/secrets") && head.method != Method::GET {
                let delay = server.nanoseconds_per_byte * body.len() as u64;
                tokio::time::sleep(Duration::from_nanos(delay)).await;
            }
            let (code, mut response) = server.respond(&head.method, head.uri.path(), &body);
            if head.method == Method::GET && head.uri.path().contains("/secrets/") {
                let accept = head
                    .headers
                    .get(ACCEPT)
                    .map(|accept| accept.to_str().unwrap());
                if accept.is_some_and(|accept| accept.contains("PartialObjectMetadata")) {
                    for field in ["data", "type", "immutable"] {
                        response.as_object_mut().unwrap().remove(field);
                    }
                } else {
                    *server.value_reads.lock().unwrap() += 1;
                }
            }
            let response = Body::from(response.to_string().into_bytes());
            Ok::<_, kube::Error>(Response::builder().status(code).body(response).unwrap())
        }
    });
    Client::new(service, "ns")
}
