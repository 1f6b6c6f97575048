//! A test case with a controller that delivers values to Pods on its TLS port.

use std::time::{Duration, Instant};

use kube::api::PostParams;
use serde_json::{Value, json};
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace, create_pod};
use tests::https;
use tests::patience::until;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scrape::Scrape;

use super::case::Case;

pub const AUDIENCE: &str = "sealed-secrets.bitnami.com";
pub const PORT: &str = "--listen-authorized-addr=127.0.0.1:0";

/// The TLS port of a controller, and the CA that issued its certificate.
#[derive(Clone)]
pub struct TlsPort {
    port: u16,
    authority: String,
}

impl TlsPort {
    pub async fn of(controller: &ClusterController) -> Self {
        let port = until("the TLS port is open", async || {
            controller.authorized_port()
        });
        let port = port.await;
        let response = controller.get("/v1/ca.pem").await;
        let (_, authority) = response.split_once("\r\n\r\n").unwrap();
        let authority = authority.to_owned();
        Self { port, authority }
    }

    /// Sends a request; returns the status code and the text of the response.
    pub async fn post(&self, token: Option<&str>, body: &str) -> (u16, String) {
        let Self { port, authority } = self;
        let response = https::post(*port, authority, AUDIENCE, "/v1/deliver", token, body);
        response.await.unwrap()
    }

    /// Sends a request; returns the status code and the JSON of the response.
    pub async fn deliver(&self, token: &str, body: &Value) -> (u16, Value) {
        let (code, text) = self.post(Some(token), &body.to_string()).await;
        (code, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Repeats a request until the response has this status code, because permissions and watches take effect with a
    /// delay.
    pub async fn wait_for(&self, want: u16, token: &str, body: &Value) -> Value {
        let (mut last, goal) = (
            (0, Value::Null),
            format!("{body} gets the status code {want}"),
        );
        let found = async {
            until(&goal, async || {
                last = self.deliver(token, body).await;
                (last.0 == want).then(|| last.1.clone())
            })
            .await
        };
        found.await
    }
}

pub struct DeliverCase {
    pub case: Case,
    pub tls: TlsPort,
}

impl DeliverCase {
    pub async fn new(purpose: &str) -> Self {
        Self::with_args(purpose, &[]).await
    }

    pub async fn with_args(purpose: &str, args: &[&str]) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(purpose).await;
        Self::in_namespace(plane, namespace, args).await
    }

    /// Creates a case in a namespace that the test has prepared.
    pub async fn in_namespace(
        plane: &'static ControlPlane,
        namespace: Namespace<'static>,
        args: &[&str],
    ) -> Self {
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_reviews(&namespace).await;
        roles::grant_leases(&namespace).await;
        let args = [&[PORT, "--key-renew-period=0"], args].concat();
        let case = Case::start(plane, namespace, &args).await;
        let tls = TlsPort::of(&case.controller).await;
        Self { case, tls }
    }

    /// Restarts the controller without log lines of libraries, which would slow down tests with many requests.
    pub async fn restart_quietly(mut self) -> Self {
        let namespace = self.case.namespace.name().to_owned();
        let kubeconfig = self.case.plane.kubeconfig_of(&namespace, ACCOUNT).await;
        let args = [PORT, "--key-renew-period=0"];
        let next = ClusterController::start_quietly(&kubeconfig, &namespace, &args).await;
        std::mem::replace(&mut self.case.controller, next).stop();
        let tls = TlsPort::of(&self.case.controller).await;
        Self { tls, ..self }
    }

    pub async fn restart(self) -> Self {
        let case = self.case.restart(&[PORT, "--key-renew-period=0"]).await;
        let tls = TlsPort::of(&case.controller).await;
        Self { case, tls }
    }

    /// Creates a service account that may unseal every SealedSecret of the namespace, and a Pod; returns the token of
    /// the Pod.
    pub async fn create_pod(&self, account: &str) -> String {
        roles::create_caller(&self.case.namespace, account, &["unseal"]).await;
        self.create_another_pod(account, account).await
    }

    /// Creates another Pod of a service account; returns the token of the Pod.
    pub async fn create_another_pod(&self, name: &str, account: &str) -> String {
        let pod = create_pod(&self.case.namespace, name, account).await;
        self.case.plane.token_of_pod(&pod, &[AUDIENCE]).await
    }

    /// Replaces the values of a SealedSecret.
    pub async fn seal_again(&self, name: &str, items: &[(&str, &str)]) {
        let objects = self.case.sealed_secrets();
        let mut present = objects.get(name).await.unwrap();
        present.spec.encrypted_data = self.case.sealed_secret(name, items).spec.encrypted_data;
        let params = PostParams::default();
        objects.replace(name, &params, &present).await.unwrap();
    }

    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let scrape = Scrape::read(&self.case.controller.scrape().await);
        scrape.value(name, labels).unwrap_or_default()
    }

    /// Waits until this number of requests wait for a change.
    pub async fn wait_for_waiting_requests(&self, count: usize) {
        let want = format!("\nsealed_secrets_deliver_waiting {count}\n");
        let goal = format!("{count} requests wait");
        until(&goal, async || {
            let metrics = self.case.controller.scrape().await;
            metrics.contains(&want).then_some(())
        })
        .await;
    }
}

/// Returns a request for all items of an object.
pub fn all_of(object: &str) -> Value {
    json!({ "objects": [{ "sealedSecret": object }] })
}

/// Returns a copy of a request that waits up to `seconds` for a different revision.
pub fn waiting_request(body: &Value, revision: &Value, seconds: u16) -> Value {
    let mut body = body.clone();
    body["have"] = revision.clone();
    body["wait"] = json!(seconds);
    body
}

/// Returns the path and value of each file.
pub fn values(response: &Value) -> Vec<(String, String)> {
    let files = response["files"].as_array().into_iter().flatten();
    let text = |field: &Value| field.as_str().unwrap().to_owned();
    let value = |file: &Value| {
        let bytes = shared::base64::decode(text(&file["value"]).as_bytes()).unwrap();
        (text(&file["path"]), String::from_utf8(bytes).unwrap())
    };
    files.map(value).collect()
}

/// Returns the version of a file.
pub fn version<'a>(response: &'a Value, path: &str) -> &'a str {
    let mut files = response["files"].as_array().into_iter().flatten();
    let file = files.find(|file| file["path"] == path);
    file.and_then(|file| file["version"].as_str()).unwrap()
}

/// Returns how long a future took, and its result.
pub async fn timed<T>(future: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let result = future.await;
    (start.elapsed(), result)
}
