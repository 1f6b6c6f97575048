//! Tests that the messages of `kubeseal` for faults in the connection to the controller equal those in
//! `tests/stories/kubeseal-faults.md`. `STORIES=overwrite` rewrites the messages; review the changes. Also tests
//! retries of `kubeseal` and `seal` with a busy controller.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{env, fs};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Endpoints, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::client::Body;
use regex::Regex;
use serde_json::{Value, json};
use shared::key::{KeySize, KeySpec};
use shared::scope::Scope;
use tests::binaries;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for};

#[tokio::test]
async fn documented_faults_are_reported_with_a_next_step() {
    // Messages list the controllers in the whole cluster, so the test has its own control plane.
    let plane = ControlPlane::start().await;
    let fixture = Fixture::new(&plane).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories/kubeseal-faults.md");
    let documented = fs::read_to_string(&path).unwrap();
    let current = fixture.with_current_output(&documented);
    if env::var("STORIES").is_ok_and(|mode| mode == "overwrite") {
        fs::write(&path, &current).unwrap();
    }
    assert_eq!(documented.matches("\n$ ").count(), 10);
    assert_eq!(
        documented, current,
        "update the file with STORIES=overwrite"
    );
}

/// A controller that accepts one request per second from each client, and a directory with an object sealed for its
/// key.
struct BusyController {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    controller: ClusterController,
    directory: Scratch,
}

impl BusyController {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace("busy").await;
        roles::grant(&namespace, Reach::Namespace).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let args = [
            "--key-renew-period=0",
            "--rate-limit=1",
            "--rate-limit-burst=0",
        ];
        let controller = ClusterController::start(plane, &namespace, &args).await;
        namespace.route("seals", controller.port().unwrap()).await;
        let directory = Scratch::new();
        let sealed = sealed_for(&KEYS[0], "shop", "db", &[("a", "b")], Scope::Strict);
        fs::write(
            directory.path().join("db.json"),
            sealed.to_document().to_string(),
        )
        .unwrap();
        Self {
            plane,
            namespace,
            controller,
            directory,
        }
    }

    fn validate(&self, timeout: &str) -> Output {
        let args = ["--validate", "-f", "db.json", "--request-timeout", timeout];
        self.run(&binaries::kubeseal(), &args)
    }

    fn run(&self, program: &Path, args: &[&str]) -> Output {
        Command::new(program)
            .args(args)
            .args(["--controller-name", "seals"])
            .args(["--controller-namespace", self.namespace.name()])
            .current_dir(self.directory.path())
            .env("KUBECONFIG", self.plane.kubeconfig())
            .env("XDG_CACHE_HOME", self.directory.path().join("cache"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Exhausts the rate limit for the duration of the test. Sends its requests through the API server, so
    /// that the controller counts them for the same client as the requests of `kubeseal`.
    fn exhaust_rate_limit(&self) {
        let name = self.namespace.name();
        let path = format!("/api/v1/namespaces/{name}/services/http:seals:http/proxy/v1/verify");
        let client = self.plane.admin();
        tokio::spawn(async move {
            loop {
                let request = http::Request::post(&path).body(Body::empty());
                let _ = client.send(request.unwrap()).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }

    async fn has_rejected_request(&self) -> bool {
        let metrics = self.controller.scrape().await;
        metrics.lines().any(|line| line.contains("code=\"429\""))
    }
}

#[tokio::test]
async fn waits_as_long_as_a_busy_controller_requests_and_then_continues() {
    let (kubeseal, seal) = (binaries::kubeseal(), binaries::seal());
    for (program, args) in [
        (&kubeseal, &["--validate", "-f", "db.json"][..]),
        (
            &kubeseal,
            &["--re-encrypt", "-f", "db.json", "-w", "new.json"],
        ),
        (&seal, &["rotate", "db.json"]),
    ] {
        let busy = BusyController::new().await;
        until("a response contains Retry-After", async || {
            let output = busy.run(program, args);
            assert!(output.status.success(), "{args:?}: {output:?}");
            busy.has_rejected_request().await.then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_on_a_busy_controller_and_names_the_time_of_the_next_attempt() {
    let busy = BusyController::new().await;
    busy.exhaust_rate_limit();
    // Occasionally `kubeseal` sends the one request that is allowed in that second.
    let attempts = std::iter::repeat_with(|| tokio::task::block_in_place(|| busy.validate("5s")));
    let output = attempts.take(5).find(|output| !output.status.success());
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    let (before, after) = message.split_once(" attempts").unwrap();
    let (before, attempts) = before.rsplit_once(' ').unwrap();
    assert_eq!(
        (before, after),
        (
            "error: cannot validate sealed secret: too many requests, after",
            "; the next one is allowed in 1 s\n\
             hint: the controller accepts --rate-limit requests per second from each caller; wait, or raise the limit\n"
        )
    );
    let attempts: u32 = attempts.parse().unwrap();
    assert!((2..=5).contains(&attempts), "{attempts}");
}

struct Fixture<'a> {
    plane: &'a ControlPlane,
    namespace: Namespace<'a>,
    expired: Namespace<'a>,
    directory: Scratch,
    _controllers: [ClusterController; 2],
}

impl<'a> Fixture<'a> {
    async fn new(plane: &'a ControlPlane) -> Self {
        let (namespace, expired) = (plane.namespace("ops").await, plane.namespace("old").await);
        put_key(&namespace, "sealed-secrets-key0", &KEYS[0]).await;
        put_expired_key(&expired).await;
        let labeled = json!({ "app.kubernetes.io/name": "sealed-secrets" });
        create_service(&namespace, "seals", &labeled, "http").await;
        create_service(&namespace, "renamed", &json!({}), "web").await;
        create_service(&namespace, "down", &json!({}), "http").await;
        let controllers = [
            start_controller(plane, &namespace, &["seals", "renamed"]).await,
            start_controller(plane, &expired, &["seals"]).await,
        ];
        namespace.route("blocked", 1).await;
        // These are the Endpoints of a Service without a ready Pod.
        let no_endpoints = json!({ "metadata": { "name": "down" }, "subsets": [] });
        let _: Endpoints = namespace.create_object(no_endpoints).await;
        let names = ["http:seals:http", "http:renamed:http"];
        create_caller(plane, &namespace, "reader", &[]).await;
        create_caller(plane, &namespace, "developer", &names).await;
        let directory = Scratch::new();
        for account in ["reader", "developer"] {
            let kubeconfig = plane.kubeconfig_of(namespace.name(), account).await;
            fs::copy(kubeconfig, directory.path().join(account)).unwrap();
        }
        let for_other_key = sealed_for(&KEYS[1], "shop", "db", &[("a", "b")], Scope::Strict);
        let renamed = sealed_for(&KEYS[0], "shop", "db", &[("a", "b")], Scope::Strict);
        for (mut sealed, name, key) in [
            (for_other_key, "db", &KEYS[1]),
            (renamed, "database", &KEYS[0]),
        ] {
            let fingerprint = key.pair.certificate().fingerprint();
            let hints = json!({ "a": fingerprint.to_string() }).to_string();
            let annotations = sealed.metadata.annotations.get_or_insert_default();
            annotations.insert("sealedsecrets.bitnami.com/key-hints".into(), hints);
            sealed.metadata.name = Some(name.into());
            let file = directory.path().join(format!("{name}.json"));
            fs::write(file, sealed.to_document().to_string()).unwrap();
        }
        fs::write(
            directory.path().join("secret.yaml"),
            "kind: Secret\nmetadata: {name: db}\nstringData: {a: b}\n",
        )
        .unwrap();
        Self {
            plane,
            namespace,
            expired,
            directory,
            _controllers: controllers,
        }
    }

    /// Returns the story with the current output of its commands.
    fn with_current_output(&self, documented: &str) -> String {
        let mut text = String::new();
        let mut in_block = false;
        for line in documented.lines() {
            match line.strip_prefix("$ ") {
                Some(args) => {
                    let _ = writeln!(text, "{line}");
                    text.push_str(&self.run(args));
                    in_block = true;
                }
                None if in_block && line == "```" => {
                    text.push_str("```\n");
                    in_block = false;
                }
                None if in_block => {}
                None => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        text
    }

    /// Runs a command of the story, which must fail, and returns its message, with placeholders for names and
    /// fingerprints. Maps the account name in a leading `KUBECONFIG=` to a file.
    fn run(&self, args: &str) -> String {
        let args: Vec<String> = shlex::split(args).unwrap();
        let (variables, args): (Vec<_>, Vec<_>) = args
            .into_iter()
            .partition(|arg| arg.starts_with("KUBECONFIG="));
        let account = variables
            .first()
            .map(|v| v.trim_start_matches("KUBECONFIG="));
        let kubeconfig = match account {
            Some(account) => self.directory.path().join(account),
            None => self.plane.kubeconfig().to_owned(),
        };
        let names = [("OPS", &self.namespace), ("OLD", &self.expired)];
        let expanded_args = args[1..].iter().map(|arg| {
            names
                .iter()
                .fold(arg.clone(), |arg, (placeholder, namespace)| {
                    arg.replace(placeholder, namespace.name())
                })
        });
        let output = Command::new(binaries::kubeseal())
            .args(expanded_args)
            .current_dir(self.directory.path())
            .env("KUBECONFIG", kubeconfig)
            .env("XDG_CACHE_HOME", self.directory.path().join("cache"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        let socket = Regex::new(r"/\S+/pods\.sock").unwrap();
        let message = socket.replace(&message, "PROXY").into_owned();
        let message = names
            .iter()
            .fold(message, |message, (placeholder, namespace)| {
                message.replace(namespace.name(), placeholder)
            });
        let keys = ["OURS", "THEIRS"].into_iter().zip(KEYS.iter());
        keys.fold(message, |message, (placeholder, key)| {
            let fingerprint = key.pair.certificate().fingerprint();
            message.replace(&fingerprint.to_string(), &format!("SHA256:{placeholder}"))
        })
    }
}

async fn start_controller(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    services: &[&str],
) -> ClusterController {
    roles::grant(namespace, Reach::Namespace).await;
    let controller = ClusterController::start(plane, namespace, &["--key-renew-period=0"]).await;
    for service in services {
        namespace.route(service, controller.port().unwrap()).await;
    }
    controller
}

async fn create_service(namespace: &Namespace<'_>, name: &str, labels: &Value, port: &str) {
    let spec = json!({ "ports": [{ "name": port, "port": 8080 }] });
    let object = json!({ "metadata": { "name": name, "labels": labels }, "spec": spec });
    let _: Service = namespace.create_object(object).await;
}

/// Creates an account that may read Services, and use the service proxy with these names.
async fn create_caller(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    name: &str,
    proxies: &[&str],
) {
    let metadata = json!({ "name": name });
    let _: ServiceAccount = namespace
        .create_object(json!({ "metadata": metadata }))
        .await;
    let mut rules = vec![json!({ "apiGroups": [""], "resources": ["services"], "verbs": ["get"] })];
    if !proxies.is_empty() {
        rules.push(json!({
            "apiGroups": [""], "resources": ["services/proxy"], "resourceNames": proxies, "verbs": ["get", "create"],
        }));
    }
    let _: Role = namespace
        .create_object(json!({ "metadata": metadata, "rules": rules }))
        .await;
    let binding = json!({
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace.name() }],
    });
    let _: RoleBinding = namespace.create_object(binding).await;
    let client = plane.client_of(namespace.name(), name).await;
    let services = Api::<Service>::namespaced(client, namespace.name());
    until("the role takes effect", async || {
        services.get("seals").await.ok()
    })
    .await;
}

async fn put_expired_key(namespace: &Namespace<'_>) {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(24),
        common_name: String::new(),
    };
    let created = Timestamp::from_second(1_700_000_000).unwrap();
    let key = spec
        .generate(created, &mut shared::random::system())
        .unwrap();
    put_key(namespace, "sealed-secrets-key0", &key).await;
}
