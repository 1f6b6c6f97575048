//! Measures delivery to many Pods: the memory of the controller and of `seal-deliver node`, the private-key operations,
//! and the time from a change to the responses.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace, create_pod};
use tests::logged::LoggedProcess;
use tests::patience::until;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for};
use tests::{binaries, guarded, https};
use tokio::task::JoinSet;

use crate::report::{percentile, print_head, print_row, time};
use crate::sizes::Sizes;

const OPERATIONS: &str = "sealed_secrets_controller_private_key_operations_total";
/// Maximum number of waiting requests of each Pod in this benchmark. The controller allows 32.
const REQUESTS_PER_POD: usize = 25;

pub async fn run(sizes: Sizes) {
    let agents = sizes.size("agents", 100, 1_000);
    let mounts = sizes.size("mounts", 20, 100);
    let plane = ControlPlane::start().await;
    let site = Site::start(&plane).await;
    let tokens = site.create_pods(agents.div_ceil(REQUESTS_PER_POD)).await;
    print_head(&["phase", "resident MB", "private-key operations"]);
    site.row("controller, no agent").await;
    let times = site.change_while_waiting(&tokens, agents).await;
    site.row(&format!(
        "controller, after a change reached {agents} agents"
    ))
    .await;
    let node = Node::start(&site).await;
    node.row("seal-deliver node, idle");
    let before = site.count_operations().await;
    for i in 0..mounts {
        node.mount(&tokens[i % tokens.len()]).await;
    }
    node.row(&format!("seal-deliver node, after {mounts} mounts"));
    let operations = site.count_operations().await - before;
    println!("\n{operations} private-key operations for {mounts} mounts of an unchanged object");
    println!(
        "from the change to the response: median {}, p99 {}",
        time(percentile(&times, 50)),
        time(percentile(&times, 99))
    );
}

/// A controller, and a SealedSecret whose values are only delivered, without a Secret.
struct Site<'a> {
    plane: &'a ControlPlane,
    namespace: Namespace<'a>,
    controller: ClusterController,
    port: u16,
    authority: String,
}

impl<'a> Site<'a> {
    async fn start(plane: &'a ControlPlane) -> Self {
        let namespace = plane.namespace("agents").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_reviews(&namespace).await;
        roles::grant_leases(&namespace).await;
        roles::create_caller(&namespace, "web", &["unseal"]).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
        let args = [
            "--listen-authorized-addr=127.0.0.1:0",
            "--key-renew-period=0",
        ];
        // Log lines of libraries would slow down a thousand requests.
        let controller =
            ClusterController::start_quietly(&kubeconfig, namespace.name(), &args).await;
        let port = until("the TLS port is open", async || {
            controller.authorized_port()
        });
        let port = port.await;
        let authority = controller.authority().await;
        let site = Self {
            plane,
            namespace,
            controller,
            port,
            authority,
        };
        site.seal("first").await;
        site
    }

    /// Creates or changes the SealedSecret `db`.
    async fn seal(&self, value: &str) {
        use kube::api::{Patch, PatchParams};
        let namespace = self.namespace.name();
        let items = [("password", value)];
        let mut sealed = sealed_for(&KEYS[0], namespace, "db", &items, Scope::Strict);
        sealed.metadata.annotations.get_or_insert_default().insert(
            deliver::DELIVER_ANNOTATION.to_owned(),
            deliver::DELIVER_FILES.to_owned(),
        );
        let document: Value = sealed.to_document();
        let api = self.namespace.api::<shared::resource::SealedSecret>();
        let params = PatchParams::apply("user").force();
        let applied = api.patch("db", &params, &Patch::Apply(&document)).await;
        applied.expect("the API server accepts the SealedSecret");
    }

    /// Creates this number of Pods, waits until the first of them may receive the object, and returns their tokens.
    async fn create_pods(&self, pods: usize) -> Vec<String> {
        let token = async |i| {
            let pod = create_pod(&self.namespace, &format!("web-{i}"), "web").await;
            self.plane.token_of_pod(&pod, &[deliver::AUDIENCE]).await
        };
        let tokens = join_all((0..pods).map(token)).await;
        until("the object is delivered", async || {
            let (code, _) = self.deliver(&tokens[0], &request()).await;
            (code == 200).then_some(())
        })
        .await;
        tokens
    }

    async fn deliver(&self, token: &str, body: &Value) -> (u16, Value) {
        post(self.port, &self.authority, token, body).await
    }

    /// Lets agents wait, changes the value, and returns how long each waited after the change.
    async fn change_while_waiting(&self, tokens: &[String], agents: usize) -> Vec<Duration> {
        let (_, response) = self.deliver(&tokens[0], &request()).await;
        let mut body = request();
        body["have"] = response["revision"].clone();
        body["wait"] = json!(300);
        let mut requests = JoinSet::new();
        for i in 0..agents {
            let (port, authority, body) = (self.port, self.authority.clone(), body.clone());
            let token = tokens[i / REQUESTS_PER_POD].clone();
            requests.spawn(async move {
                let (code, _) = post(port, &authority, &token, &body).await;
                (code, Instant::now())
            });
            if (i + 1) % REQUESTS_PER_POD == 0 || i + 1 == agents {
                self.wait_for_waiting_requests(i + 1).await;
            }
        }
        self.row(&format!("controller, {agents} agents wait")).await;
        self.seal("second").await;
        let start = Instant::now();
        let responses = requests.join_all().await;
        let refused = responses.iter().filter(|(code, _)| *code != 200).count();
        println!("\n{refused} of {agents} requests were refused\n");
        let times = responses.iter();
        times
            .map(|(_, end)| end.saturating_duration_since(start))
            .collect()
    }

    async fn wait_for_waiting_requests(&self, count: usize) {
        let want = format!("\nsealed_secrets_deliver_waiting {count}\n");
        let goal = format!("{count} requests wait");
        until(&goal, async || {
            let metrics = self.controller.scrape().await;
            metrics.contains(&want).then_some(())
        })
        .await;
    }

    async fn count_operations(&self) -> u64 {
        let scrape = self.controller.scrape().await;
        let line = scrape.lines().find(|line| line.starts_with(OPERATIONS));
        let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        number.expect("the controller reports its operations")
    }

    async fn row(&self, phase: &str) {
        print_row(&[
            phase.to_owned(),
            megabytes(self.controller.memory()),
            self.count_operations().await.to_string(),
        ]);
    }
}

async fn post(port: u16, authority: &str, token: &str, body: &Value) -> (u16, Value) {
    let (path, body) = (deliver::ENDPOINT, body.to_string());
    let response = https::post(port, authority, deliver::AUDIENCE, path, Some(token), &body).await;
    let (code, text) = response.expect("a response");
    (code, serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn request() -> Value {
    json!({ "objects": [{ "sealedSecret": "db" }] })
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// A process of `seal-deliver node`, which the benchmark calls in place of the CSI driver.
struct Node {
    process: LoggedProcess,
    directory: Scratch,
}

impl Node {
    async fn start(site: &Site<'_>) -> Self {
        let directory = Scratch::new();
        let authority = directory.path().join("ca.pem");
        fs::write(&authority, &site.authority).expect("a writable directory");
        let mut command = guarded::command(binaries::seal_deliver());
        command
            .arg("node")
            .arg(format!("--server=https://127.0.0.1:{}", site.port))
            .arg("--ca-file")
            .arg(authority)
            .arg("--socket")
            .arg(directory.path().join("sealed.sock"));
        let mut process = LoggedProcess::spawn(&mut command).expect("the program was built");
        let is_serving = |log: &str| log.contains("serving").then_some(());
        process
            .wait_for_log("the provider serves", is_serving)
            .await;
        Self { process, directory }
    }

    /// Mounts a volume for the Pod with this token.
    async fn mount(&self, token: &str) {
        let tokens = BTreeMap::from([(deliver::AUDIENCE, json!({ "token": token }))]);
        let attributes = json!({
            "objects": "- sealedSecret: db",
            tests::csi::TOKENS: json!(tokens).to_string(),
        });
        let socket = self.directory.path().join("sealed.sock");
        let mounted = node::client::mount(&socket, &attributes.to_string()).await;
        mounted.unwrap_or_else(|error| panic!("{error}\n{}", self.process.log()));
    }

    fn row(&self, phase: &str) {
        let (all, own) = (self.process.memory(), self.process.own_memory());
        let memory = format!("{}, of which {} anonymous", megabytes(all), megabytes(own));
        print_row(&[phase.to_owned(), memory, "0".to_owned()]);
    }
}
