//! Tests how values reach containers without a Secret: `seal-deliver agent` as a sidecar and as an init container, and
//! `seal-deliver exec`. The controller is a Pod, and `seal grant` prints the permissions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use k8s_openapi::api::core::v1::{Event, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::node::{BUSYBOX, NodePod, container_status, image};
use tests::operators;
use tests::patience::until;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for};
use tokio::sync::OnceCell;

use crate::{pods, shared};

/// An image with `seal-deliver` and a shell.
const SEAL_WITH_SHELL: &str = "docker.io/library/seal-with-shell:tests";
const DELIVER: &str = "sealedsecrets.bitnami.com/deliver";

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_starts_the_application_with_files_and_a_change_arrives_within_two_seconds() {
    let fixture = Fixture::new("sidecar").await;
    fixture.apply("first").await;
    let pod = fixture.create(fixture.sidecar()).await;
    pod.wait_until_ready().await;
    assert_eq!(pod.run("main", &["cat", "/dev/shm/first"]).await, "first");
    let mode = pod.run("main", &["stat", "-L", "-c", "%a", "/secrets/password"]);
    assert_eq!(mode.await, "440\n");
    // The first request has been answered; the next one waits for a change.
    let elapsed = fixture.change_in(&pod, "second").await;
    eprintln!("the file had the new value after {elapsed:.1?}");
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    let secrets: Api<Secret> = fixture.namespace.api();
    let secret = secrets.get_opt("db").await.unwrap();
    assert!(secret.is_none(), "no Secret was created");
}

/// The Pod has no Secret, wrapper or webhook: the kubelet reads the variable from a file in memory.
#[tokio::test(flavor = "multi_thread")]
async fn an_init_container_sets_a_variable_of_an_unmodified_image() {
    let fixture = Fixture::new("file-key").await;
    fixture.apply("it is # a \"value\"").await;
    let init = fixture.seal(&["agent", "--once", "--objects=db", "--env-file=/secrets/env"]);
    let reference = json!({ "volumeName": "secrets", "path": "env", "key": "password" });
    let main = json!({
        "name": "main",
        "image": BUSYBOX,
        "env": [{ "name": "PGPASSWORD", "valueFrom": { "fileKeyRef": reference } }],
    });
    let pod = fixture
        .create(json!({ "initContainers": [init], "containers": [main] }))
        .await;
    pod.wait_until_ready().await;
    let value = pod.run("main", &["sh", "-c", "echo \"$PGPASSWORD\""]).await;
    assert_eq!(value, "it is # a \"value\"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_gives_a_command_its_variable_and_restarts_it_after_a_change() {
    let fixture = Fixture::new("exec").await;
    fixture.apply("short").await;
    let script = "echo started ${#PGPASSWORD}; trap 'echo ended; exit 0' TERM; trap 'echo signaled' USR1; sleep 0.1 & while :; do sleep 0.1; done";
    let only = [
        "exec",
        "--from=db",
        "--only=PGPASSWORD=password",
        "--on-change=restart",
    ];
    let server = fixture.server_flag();
    let args = [&only[..], &[&server, "--", "sh", "-c", script]].concat();
    let mut main = container("main", SEAL_WITH_SHELL, &args);
    main["volumeMounts"] =
        json!([{ "name": "token", "mountPath": "/var/run/secrets/sealed-secrets" }]);
    let pod = fixture.create(json!({ "containers": [main] })).await;
    pod.wait_until_ready().await;
    wait_for_log(&pod, "main", "started 5\n").await;
    fixture.apply("longer").await;
    let output = async || without_reports(&pod.log("main").await);
    until("the command has started again", async || {
        (output().await == "started 5\nended\nstarted 6\n").then_some(())
    })
    .await;
    let zombies = pod
        .run(
            "main",
            &[
                "sh",
                "-c",
                "grep -l '^State:.Z' /proc/[0-9]*/status || true",
            ],
        )
        .await;
    assert_eq!(zombies, "", "ended processes are reaped");
    // The first process of the container is `seal-deliver`.
    pod.run("main", &["kill", "-USR1", "1"]).await;
    wait_for_log(&pod, "main", "started 6\nsignaled\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seal_pods_agrees_with_the_output_of_the_containers() {
    let fixture = Fixture::new("pods").await;
    fixture.apply("first").await;
    pods::wait_until_recorded(&fixture.namespace, "db", 1).await;
    let pod = fixture
        .create_with_volumes(fixture.spec_with_all_delivery_ways())
        .await;
    pod.wait_until_ready().await;
    wait_for_log(&pod, "variable", "first\n").await;
    let want = |agent, once, exec| {
        [
            ("agent", "once", once),
            ("agent", "seal", agent),
            ("exec", "variable", exec),
        ]
    };
    let (plane, _) = shared().await;
    let survey = |args: &[&str]| pods::survey(plane, &fixture.namespace, "db", args);
    let (code, rows) = survey(&[]);
    assert_eq!(
        states(&rows),
        want("current", "current", "current"),
        "{rows}"
    );
    assert_eq!(code, Some(0));

    fixture.change_in(&pod, "second").await;
    pods::wait_until_recorded(&fixture.namespace, "db", 2).await;
    wait_for_log(&pod, "seal", "generation 2").await;
    let (code, rows) = survey(&[]);
    let name = |is_new: bool| if is_new { "current" } else { "stale" };
    let once = pod.run("main", &["cat", "/once/password"]).await == "second";
    let exec = pod.log("variable").await.contains("second");
    let agent = value_in_volume(&pod).await == "second";
    assert_eq!((agent, once, exec), (true, false, false));
    assert_eq!(
        states(&rows),
        want(name(agent), name(once), name(exec)),
        "{rows}"
    );
    assert_eq!(code, Some(1));
    let generations: Vec<_> = rows["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["generation"])
        .collect();
    assert_eq!(generations, [1, 2, 1]);
}

/// Fault: a container is running, and Kubernetes shows its Pod as ready, while `seal-deliver exec` waits for an item or
/// a permission, and `seal pods` reports the container as current.
#[tokio::test(flavor = "multi_thread")]
async fn seal_pods_does_not_call_a_waiting_command_current() {
    let fixture = Fixture::new("exec-waits").await;
    fixture.apply("first").await;
    pods::wait_until_recorded(&fixture.namespace, "db", 1).await;
    let no_item = fixture.command("item", &["--only=PW=nosuch"]);
    let no_grant = fixture.command("permission", &["--only=PW=password"]);
    let mut ungranted = json!({ "containers": [no_grant] });
    ungranted["serviceAccountName"] = json!("default");
    for (container, spec) in [
        ("item", json!({ "containers": [no_item] })),
        ("permission", ungranted),
    ] {
        let pod = fixture.create(spec).await;
        pod.wait_until_ready().await;
        wait_for_log(&pod, container, "waiting for values: ").await;
    }
    let (plane, _) = shared().await;
    let (code, rows) = pods::survey(plane, &fixture.namespace, "db", &["--wait"]);
    let mut found = states(&rows);
    found.sort_unstable();
    let want = [
        ("exec", "item", "unknown"),
        ("exec", "permission", "unknown"),
    ];
    assert_eq!(found, want, "{rows}");
    for row in rows["pods"].as_array().unwrap() {
        assert_eq!(row["reason"], "the log has no report");
        assert_eq!(row["generation"], Value::Null);
    }
    assert_eq!(code, Some(0));
}

/// Fault: the value changes while `seal-deliver exec` waits for its permission, so the application has the new value in
/// a container that is older than the change, and `seal pods` reports the container as stale.
#[tokio::test(flavor = "multi_thread")]
async fn seal_pods_reports_the_version_that_a_command_waited_for() {
    let fixture = Fixture::new("exec-waited").await;
    fixture.apply("first").await;
    pods::wait_until_recorded(&fixture.namespace, "db", 1).await;
    let mut created = Vec::new();
    for (name, args) in [
        (
            "follower",
            &["--only=PW=password", "--on-change=restart"][..],
        ),
        ("once", &["--only=PW=password"]),
    ] {
        let container = fixture.command(name, args);
        let spec = json!({ "containers": [container], "serviceAccountName": "default" });
        let pod = fixture.create(spec).await;
        wait_for_log(&pod, name, "waiting for values: ").await;
        created.push((pod, name));
    }
    fixture.apply("second").await;
    pods::wait_until_recorded(&fixture.namespace, "db", 2).await;
    fixture.grant_to("default").await;
    for (pod, name) in &created {
        wait_for_log(pod, name, "second\n").await;
    }
    let (plane, _) = shared().await;
    let survey = || {
        let (code, rows) = pods::survey(plane, &fixture.namespace, "db", &[]);
        let rows = rows["pods"].as_array().unwrap().iter();
        let mut rows: Vec<_> = rows
            .map(|row| json!([row["container"], row["state"], row["generation"]]).to_string())
            .collect();
        rows.sort_unstable();
        (code, rows)
    };
    let want = |code, generation, once| {
        let rows = [
            json!(["follower", "current", generation]),
            json!(["once", once, 2]),
        ];
        (Some(code), rows.map(|row| row.to_string()).to_vec())
    };
    assert_eq!(survey(), want(0, 2, "current"));

    fixture.apply("third").await;
    pods::wait_until_recorded(&fixture.namespace, "db", 3).await;
    let (pod, name) = &created[0];
    wait_for_log(pod, name, "third\n").await;
    assert_eq!(survey(), want(1, 3, "stale"));
}

/// Returns the log of a container without the reports of `seal-deliver`.
fn without_reports(log: &str) -> String {
    let lines = log.split_inclusive('\n');
    lines
        .filter(|line| deliver::report::newest(line).is_none())
        .collect()
}

/// Returns the fields `consumes`, `container` and `state` of each row in the JSON output of `seal pods`.
fn states(report: &Value) -> Vec<(&str, &str, &str)> {
    let rows = report["pods"].as_array().unwrap().iter();
    rows.map(|row| {
        (
            row["consumes"].as_str().unwrap(),
            row["container"].as_str().unwrap(),
            row["state"].as_str().unwrap(),
        )
    })
    .collect()
}

/// Fault: the controller is unavailable for a while, and restarts with another CA.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_controller_old_files_stay_and_a_new_pod_waits() {
    let fixture = Fixture::new("outage").await;
    fixture.apply("first").await;
    let old = fixture.create(fixture.sidecar()).await;
    old.wait_until_ready().await;
    fixture.stop_controller().await;
    let new = fixture.create(fixture.sidecar()).await;
    wait_for_log(&new, "seal", "waiting for values: ").await;
    wait_for_log(&old, "seal", "cannot refresh, so the last values stay: ").await;
    assert_eq!(value_in_volume(&old).await, "first");
    let pods: Api<Pod> = fixture.namespace.api();
    let waiting = pods.get(new.name()).await.unwrap();
    let main = container_status(&waiting, "main");
    let is_started = main.is_some_and(|status| status.started == Some(true));
    assert!(!is_started, "the application waits for its files");

    fixture.start_controller().await;
    new.wait_until_ready().await;
    assert_eq!(value_in_volume(&new).await, "first");
    fixture.change_in(&old, "second").await;
}

/// Attack: a user who can read the data of etcd, events, and the logs of all containers searches for a value.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_value_is_in_no_store_log_or_event() {
    let fixture = Fixture::new("canary").await;
    let canary = format!("canary-{:032x}", shared::random::number::<u128>());
    fixture.apply(&canary).await;
    let pod = fixture.create(fixture.sidecar()).await;
    pod.wait_until_ready().await;
    assert_eq!(value_in_volume(&pod).await, canary);
    let changed = format!("{canary}-changed");
    fixture.change_in(&pod, &changed).await;

    let control = format!("control-{:032x}", shared::random::number::<u128>());
    let secret = json!({ "metadata": { "name": "control" }, "stringData": { "a": control } });
    let _: Secret = fixture.namespace.create_object(secret).await;
    let stored = content_below(&fixture.plane.etcd_data());
    let stored_has = |text: &str| memchr::memmem::find(&stored, text.as_bytes()).is_some();
    assert!(stored_has(&control), "the search finds stored values");
    assert!(!stored_has(&canary), "etcd has the value");
    let encoded = BASE64.encode(&canary);
    assert!(!stored_has(&encoded[..40]), "etcd has the value in base64");

    let mut texts = vec![
        pod.log("seal").await,
        fixture.controller_pod().log("controller").await,
    ];
    let events: Api<Event> = fixture.namespace.api();
    texts.push(format!(
        "{:?}",
        events.list(&ListParams::default()).await.unwrap().items
    ));
    let pods: Api<Pod> = fixture.namespace.api();
    texts.push(format!("{:?}", pods.get(pod.name()).await.unwrap()));
    for text in texts {
        assert!(!text.is_empty() && !text.contains(&canary), "{text}");
    }
}

/// Attack: a Pod requests values with a token for another audience, or without the permission.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_the_audience_or_the_permission_waits_and_its_log_says_why() {
    let fixture = Fixture::new("refused").await;
    fixture.apply("first").await;
    let mut spec = fixture.sidecar();
    spec["volumes"] = volumes("https://kubernetes.default.svc");
    let pod = fixture.create_with_volumes(spec).await;
    wait_for_log(&pod, "seal", "waiting for values: ").await;
    wait_for_log(&pod, "seal", "hint: ").await;
    let mut spec = fixture.sidecar();
    spec["serviceAccountName"] = json!("default");
    let pod = fixture.create(spec).await;
    wait_for_log(&pod, "seal", "waiting for values: ").await;
    let pods: Api<Pod> = fixture.namespace.api();
    let status = pods.get(pod.name()).await.unwrap();
    let main = container_status(&status, "main");
    assert!(main.is_none_or(|status| status.started != Some(true)));
}

/// A namespace with a controller, a service account `web` that may receive the values of `db`, and images.
struct Fixture {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    port: u16,
    node_address: String,
}

impl Fixture {
    async fn new(purpose: &str) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(18_000);
        let (plane, _node) = shared().await;
        import_images().await;
        let namespace = plane.namespace(purpose).await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_reviews(&namespace).await;
        roles::grant_publishing(&namespace, "seals-certificate").await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let _: ServiceAccount = namespace
            .create_object(json!({ "metadata": { "name": "web" } }))
            .await;
        let mut fixture = Self {
            plane,
            namespace,
            port: PORT.fetch_add(3, Ordering::Relaxed),
            node_address: String::new(),
        };
        fixture.publish_certificate_to("web").await;
        fixture.publish_certificate_to("default").await;
        fixture.grant_to("web").await;
        fixture.node_address = fixture.start_controller().await;
        fixture
    }

    /// Allows a service account to read the CA certificate, as the chart allows all service accounts.
    async fn publish_certificate_to(&self, account: &str) {
        let namespace = self.namespace.name();
        let name = format!("certificate-{account}");
        let rules = json!([{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["seals-certificate"], "verbs": ["get"],
        }]);
        let role = json!({ "metadata": { "name": name }, "rules": rules });
        let _: Role = self.namespace.create_object(role).await;
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
        });
        let _: RoleBinding = self.namespace.create_object(binding).await;
    }

    /// Applies the output of `seal grant`, whose Role is the same for each service account.
    async fn grant_to(&self, account: &str) {
        let output = Command::new(binaries::seal())
            .args(["grant", "db", "--to", account, "-n", self.namespace.name()])
            .output()
            .expect("the program was built");
        let text = String::from_utf8(output.stdout).expect("text");
        for object in operators::objects(&text) {
            if object["kind"] == "Role" {
                let roles: Api<Role> = self.namespace.api();
                let name = object["metadata"]["name"]
                    .as_str()
                    .expect("a name")
                    .to_owned();
                let apply = PatchParams::apply("user").force();
                let applied = roles.patch(&name, &apply, &Patch::Apply(object)).await;
                applied.expect("the API server accepts the Role");
            } else {
                let _: RoleBinding = self.namespace.create_object(object).await;
            }
        }
    }

    /// Starts the controller in the network namespace of the node, so that its address stays the same; returns the
    /// address.
    async fn start_controller(&self) -> String {
        let listen = |flag: &str, port: u16| format!("--{flag}=0.0.0.0:{port}");
        let environment = [("POD_NAMESPACE", "metadata.namespace"), ("POD_NAME", "metadata.name")]
            .map(|(name, path)| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } }));
        let container = json!({
            "name": "controller",
            "image": image::controller_name(),
            "args": [
                listen("listen-authorized-addr", self.port),
                listen("listen-addr", self.port + 1),
                listen("listen-metrics-addr", self.port + 2),
                "--certificate-configmap=seals-certificate",
                "--all-namespaces=false",
                "--key-renew-period=0",
                "--leader-elect=false",
                "--rate-limit=1000",
                "--rate-limit-burst=1000",
            ],
            "env": environment,
            "readinessProbe": { "httpGet": { "path": "/readyz", "port": self.port + 1 }, "periodSeconds": 1 },
        });
        let pod = json!({
            "metadata": { "name": "controller" },
            "spec": {
                "serviceAccountName": ACCOUNT,
                "hostNetwork": true,
                "terminationGracePeriodSeconds": 5,
                "containers": [container],
            },
        });
        let _: Pod = self.namespace.create_object(pod).await;
        let pod = self.controller_pod().wait_until_ready().await;
        let address = pod.status.and_then(|status| status.pod_ip);
        address.expect("a Pod that is ready has an address")
    }

    async fn stop_controller(&self) {
        let pods: Api<Pod> = self.namespace.api();
        pods.delete("controller", &DeleteParams::default())
            .await
            .expect("it exists");
        until("the controller has stopped", async || {
            pods.get_opt("controller")
                .await
                .ok()?
                .is_none()
                .then_some(())
        })
        .await;
    }

    fn controller_pod(&self) -> NodePod {
        NodePod::existing(&self.namespace, "controller")
    }

    /// Applies the SealedSecret `db` with this password.
    async fn apply(&self, password: &str) {
        let items = [("password", password)];
        let sealed = sealed_for(&KEYS[0], self.namespace.name(), "db", &items, Scope::Strict);
        let patch = json!({
            "apiVersion": "bitnami.com/v1alpha1",
            "kind": "SealedSecret",
            "metadata": { "name": "db", "annotations": { DELIVER: "files" } },
            "spec": sealed.spec,
        });
        let objects: Api<SealedSecret> = self.namespace.api();
        let apply = PatchParams::apply("user").force();
        let result = objects.patch("db", &apply, &Patch::Apply(patch)).await;
        result.expect("the API server accepts the object");
    }

    /// Applies a new password, and waits until a Pod has it in its volume; returns how long that took.
    async fn change_in(&self, pod: &NodePod, password: &str) -> Duration {
        let start = Instant::now();
        self.apply(password).await;
        until("the volume has the new value", async || {
            (value_in_volume(pod).await == password).then_some(())
        })
        .await;
        start.elapsed()
    }

    fn server_flag(&self) -> String {
        format!(
            "--server=https://seals.{}.svc:{}",
            self.namespace.name(),
            self.port
        )
    }

    /// Returns a container that runs `seal-deliver`.
    fn seal(&self, args: &[&str]) -> Value {
        let server = self.server_flag();
        let args = [args, &[server.as_str()]].concat();
        container("seal", &image::controller_name(), &args)
    }

    /// Returns the spec of a Pod whose application fails if its file is missing when it starts. As in the documented
    /// example, the application runs as a different user than the agent and can read the file because of `fsGroup`.
    fn sidecar(&self) -> Value {
        let mut agent = self.seal(&["agent", "--objects=db", "--to=/secrets", "--mode=0440"]);
        agent["restartPolicy"] = json!("Always");
        let probe = json!({ "exec": { "command": ["seal-deliver", "agent", "--ready"] }, "periodSeconds": 1, "failureThreshold": 600 });
        agent["startupProbe"] = probe;
        let main = json!({
            "name": "main",
            "image": BUSYBOX,
            "command": ["sh", "-c", "cat /secrets/password >/dev/shm/first || exit 1; exec sleep 600"],
            "volumeMounts": [{ "name": "secrets", "mountPath": "/secrets" }],
            "securityContext": { "runAsUser": 12345, "runAsGroup": 12345 },
        });
        let security_context = json!({ "fsGroup": 2000 });
        json!({ "initContainers": [agent], "containers": [main], "securityContext": security_context })
    }

    /// Returns the spec of a Pod with a sidecar, an init container, and a command that receives a variable.
    fn spec_with_all_delivery_ways(&self) -> Value {
        let mut spec = self.sidecar();
        let mut once = self.seal(&["agent", "--once", "--objects=db", "--to=/once"]);
        once["name"] = json!("once");
        once["volumeMounts"][1] = json!({ "name": "once", "mountPath": "/once" });
        let variable = self.command("variable", &["--only=PW=password"]);
        push(&mut spec["containers"], variable);
        let mount = json!({ "name": "once", "mountPath": "/once" });
        push(&mut spec["containers"][0]["volumeMounts"], mount);
        push(&mut spec["initContainers"], once);
        spec["volumes"] = volumes(deliver::AUDIENCE);
        push(
            &mut spec["volumes"],
            json!({ "name": "once", "emptyDir": { "medium": "Memory" } }),
        );
        spec
    }

    /// Returns a container with a command that prints the variable `PW`, which it receives from `seal-deliver exec`.
    fn command(&self, name: &str, args: &[&str]) -> Value {
        let server = self.server_flag();
        let exec = ["exec", "--from=db", &server];
        let command = ["--", "sh", "-c", "echo $PW; exec sleep 600"];
        let args = [&exec[..], args, &command].concat();
        container(name, SEAL_WITH_SHELL, &args)
    }

    /// Creates a Pod with volumes for token and files.
    async fn create(&self, mut spec: Value) -> NodePod {
        spec["volumes"] = volumes("sealed-secrets.bitnami.com");
        self.create_with_volumes(spec).await
    }

    /// Creates a Pod with the volumes in `spec`. The Pod can resolve the name of the controller, and has the service
    /// account `web` unless `spec` names another.
    async fn create_with_volumes(&self, mut spec: Value) -> NodePod {
        let name = format!("seals.{}.svc", self.namespace.name());
        spec["hostAliases"] = json!([{ "ip": self.node_address, "hostnames": [name] }]);
        if spec["serviceAccountName"].is_null() {
            spec["serviceAccountName"] = json!("web");
        }
        NodePod::create(&self.namespace, spec).await
    }
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
}

fn container(name: &str, image: &str, args: &[&str]) -> Value {
    let mounts = json!([
        { "name": "token", "mountPath": "/var/run/secrets/sealed-secrets" },
        { "name": "secrets", "mountPath": "/secrets" },
    ]);
    json!({ "name": name, "image": image, "command": ["seal-deliver"], "args": args, "volumeMounts": mounts })
}

fn volumes(audience: &str) -> Value {
    let token = json!({ "audience": audience, "path": "token", "expirationSeconds": 600 });
    json!([
        { "name": "token", "projected": { "sources": [{ "serviceAccountToken": token }] } },
        { "name": "secrets", "emptyDir": { "medium": "Memory" } },
    ])
}

async fn import_images() {
    static IMPORTED: OnceCell<()> = OnceCell::const_new();
    let import = async || {
        let (_, node) = shared().await;
        crate::image::import(node);
        let directory = Scratch::new();
        let archive = directory.path().join("image.tar");
        image::pack_with_shell(SEAL_WITH_SHELL, &binaries::seal_deliver(), &archive);
        node.import(&archive);
    };
    IMPORTED.get_or_init(import).await;
}

/// Returns the content of all files below a directory.
fn content_below(directory: &Path) -> Vec<u8> {
    let entries = fs::read_dir(directory).expect("etcd creates it").flatten();
    let contents = entries.map(|entry| match entry.path() {
        path if path.is_dir() => content_below(&path),
        path => fs::read(path).unwrap_or_default(),
    });
    contents.flatten().collect()
}

async fn value_in_volume(pod: &NodePod) -> String {
    pod.run("main", &["cat", "/secrets/password"]).await
}

async fn wait_for_log(pod: &NodePod, container: &str, text: &str) {
    pod.wait_until("has started its container", |pod| {
        let status = container_status(pod, container)?;
        let state = status.state.as_ref()?;
        (state.running.is_some() || state.terminated.is_some()).then_some(())
    })
    .await;
    until(&format!("the log contains {text:?}"), async || {
        pod.log(container).await.contains(text).then_some(())
    })
    .await;
}
