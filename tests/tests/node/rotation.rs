//! Tests the rotation of a password of a real PostgreSQL, while clients in Pods connect every 50 ms. The steps
//! follow `deploy/docs/rotation.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use shared::resource::{
    KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION, KEEP_PREVIOUS_UNTIL_ANNOTATION,
    SealedSecret,
};
use shared::scope::Scope;
use tests::binaries;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::node::{Node, PodLogs, PostgreSql, image};
use tests::patience::until;
use tests::restarter::Restarter;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::shared;

const CLIENT_IMAGE: &str = "docker.io/library/database-client:tests";
/// The number of client Pods, which a rollout replaces one after another.
const CLIENTS: usize = 2;
const ROTATIONS: usize = 3;
/// Longer than the interval in which the controller checks whether Pods use former values.
const ABOVE_CHECK_INTERVAL: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_rotation_with_two_roles_refuses_no_client_under_load() {
    let case = Case::start(
        "two-roles",
        json!({ KEEP_PREVIOUS_ANNOTATION: "user,password" }),
    )
    .await;
    case.deploy(
        &restart_annotations(),
        &clients_with_variables(&case.database),
    )
    .await;
    let mut current = pair("app_a", 0);
    for number in 1..=ROTATIONS {
        let next = pair(other_user(&current), number);
        rotate_in_turn(&case, &current, &next).await;
        current = next;
    }
    assert_eq!(case.logs.lines("refused"), [""; 0]);
    for role in ["app_a", "app_b"] {
        assert_eq!(
            case.database.count_refused_connections(role).await,
            0,
            "{role}"
        );
        let accepted = case.database.count_accepted_connections(role).await;
        eprintln!("{role} connected {accepted} times");
        assert!(accepted > 20, "{role} connected only {accepted} times");
    }
    assert_eq!(
        case.count_restarts().await,
        ROTATIONS,
        "one restart for each rotation"
    );
}

/// Rotates with two roles, as an administrator does, and checks the Pods and the database.
async fn rotate_in_turn(case: &Case, former: &Pair, next: &Pair) {
    case.set_password(next).await;
    case.seal(next).await;
    case.wait_for_values(&[
        ("password", &next.password),
        ("password.previous", &former.password),
        ("user", next.user),
        ("user.previous", former.user),
    ])
    .await;
    let kept = until("the status names the former values", async || {
        case.items_with_former_value().await
    })
    .await;
    assert_eq!(kept, ["password", "user"]);
    assert_eq!(
        case.pods_of(former).await.len(),
        CLIENTS,
        "no Pod has ended"
    );

    case.wait_until_dropped().await;
    let remaining = case.pods_of(former).await;
    assert!(remaining.is_empty(), "{remaining:?} use the former role");
    case.wait_for_values(&[("password", &next.password), ("user", next.user)])
        .await;
    let accepted = case.database.count_accepted_connections(former.user).await;
    sleep(Duration::from_millis(500)).await;
    let later = case.database.count_accepted_connections(former.user).await;
    assert_eq!(accepted, later, "a client uses the former role");

    let replaced = Pair {
        password: format!("replaced-{}", former.password),
        ..*former
    };
    case.set_password(&replaced).await;
}

/// Fault: the administrator does not wait, and changes the password of the former role as soon as the Secret has the
/// new pair.
#[tokio::test]
async fn without_the_wait_for_all_pods_a_client_is_refused() {
    let case = Case::start("no-wait", json!({})).await;
    case.deploy(
        &restart_annotations(),
        &clients_with_variables(&case.database),
    )
    .await;
    let (former, next) = (pair("app_a", 0), pair("app_b", 1));
    case.set_password(&next).await;
    case.seal(&next).await;
    case.wait_for_values(&[("password", &next.password), ("user", next.user)])
        .await;
    case.set_password(&pair("app_a", 2)).await;
    until("a client is refused", async || {
        (!case.logs.lines("refused").is_empty()).then_some(())
    })
    .await;
    assert!(case.database.count_refused_connections(former.user).await > 0);
    until("the new Pods connect", async || {
        let are_new = case.pods_of(&next).await.len() == CLIENTS;
        (are_new && case.pods_of(&former).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(case.database.count_refused_connections(next.user).await, 0);
}

#[tokio::test]
async fn a_rotation_of_one_role_refuses_no_client_that_also_tries_the_former_password() {
    let annotations = json!({
        KEEP_PREVIOUS_ANNOTATION: "password",
        KEEP_PREVIOUS_FOR_ANNOTATION: "25s",
        KEEP_PREVIOUS_UNTIL_ANNOTATION: "time",
        "sealedsecrets.bitnami.com/refresh": "true",
    });
    let case = Case::start("one-role", annotations).await;
    case.deploy(&json!({}), &clients_with_files(&case.database))
        .await;
    for number in 1..=2 {
        let (former, next) = (pair("app_a", number - 1), pair("app_a", number));
        case.seal(&next).await;
        case.wait_for_values(&[
            ("password", &next.password),
            ("password.previous", &former.password),
            ("user", "app_a"),
        ])
        .await;
        // The database still has the former password.
        until("every client uses the former password", async || {
            let lines = case
                .logs
                .lines("connected as app_a with the former password");
            (lines.len() == CLIENTS * number).then_some(())
        })
        .await;
        case.wait_with_seal_pods();
        // During this time, the controller observes that all Pods have the new content.
        sleep(ABOVE_CHECK_INTERVAL).await;
        assert_eq!(
            case.items_with_former_value().await,
            Some(vec!["password".to_owned()])
        );
        case.set_password(&next).await;
        case.wait_until_dropped().await;
        case.wait_for_values(&[("password", &next.password), ("user", "app_a")])
            .await;
    }
    assert_eq!(case.logs.lines("refused"), [""; 0]);
    assert_eq!(case.logs.by_pod().len(), CLIENTS, "no Pod was restarted");
}

/// A role and its password.
#[derive(Debug, Clone)]
struct Pair {
    user: &'static str,
    password: String,
}

fn pair(user: &'static str, number: usize) -> Pair {
    let password = format!("password-{number}");
    Pair { user, password }
}

fn other_user(pair: &Pair) -> &'static str {
    if pair.user == "app_a" {
        "app_b"
    } else {
        "app_a"
    }
}

/// A server, a SealedSecret with a pair, and clients that use its Secret, in a namespace with a controller and with
/// `seal restart`.
struct Case {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    annotations: Value,
    database: PostgreSql,
    logs: PodLogs,
    _controller: ClusterController,
    _restarter: Restarter,
}

impl Case {
    /// Starts the server, the controller and `seal restart`, with the first pair and these annotations of the
    /// SealedSecret.
    async fn start(purpose: &str, annotations: Value) -> Self {
        let (plane, node) = shared().await;
        import(node).await;
        let namespace = plane.namespace(purpose).await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_pods(&namespace).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let args = ["--key-renew-period=0"];
        let controller = ClusterController::start(plane, &namespace, &args).await;
        let kubeconfig = plane.kubeconfig();
        let restarter = Restarter::start(kubeconfig, namespace.name(), &[]).await;
        let case = Self {
            plane,
            annotations,
            database: PostgreSql::start(&namespace).await,
            logs: PodLogs::follow(&namespace, "app=client"),
            namespace,
            _controller: controller,
            _restarter: restarter,
        };
        case.create_roles().await;
        case
    }

    async fn create_roles(&self) {
        self.database.run("CREATE ROLE app NOLOGIN").await;
        for role in ["app_a", "app_b"] {
            let create = format!("CREATE ROLE {role} LOGIN IN ROLE app");
            self.database.run(&create).await;
            let owner = format!("ALTER ROLE {role} SET role = app");
            self.database.run(&owner).await;
        }
        let first = pair("app_a", 0);
        self.set_password(&first).await;
        self.seal(&first).await;
        self.wait_for_values(&[("password", &first.password), ("user", first.user)])
            .await;
    }

    /// Changes the password of a role in the database.
    async fn set_password(&self, pair: &Pair) {
        let Pair { user, password } = pair;
        let statement = format!("ALTER ROLE {user} PASSWORD '{password}'");
        self.database.run(&statement).await;
    }

    /// Applies the SealedSecret with this pair.
    async fn seal(&self, pair: &Pair) {
        let items = [("user", pair.user), ("password", &*pair.password)];
        let namespace = self.namespace.name();
        let sealed = sealed_for(&KEYS[0], namespace, "database", &items, Scope::Strict);
        let patch = json!({
            "apiVersion": "bitnami.com/v1alpha1",
            "kind": "SealedSecret",
            "metadata": { "name": "database", "annotations": self.annotations },
            "spec": sealed.spec,
        });
        let sealed: Api<SealedSecret> = self.namespace.api();
        let apply = PatchParams::apply("user").force();
        let result = sealed.patch("database", &apply, &Patch::Apply(patch)).await;
        result.expect("the API server accepts the object");
    }

    /// Waits until the Secret has exactly these values.
    async fn wait_for_values(&self, values: &[(&str, &str)]) {
        let values: BTreeMap<String, Vec<u8>> = values
            .iter()
            .map(|(item, value)| ((*item).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let secrets: Api<Secret> = self.namespace.api();
        until(&format!("the Secret has {:?}", values.keys()), async || {
            let data = secrets.get_opt("database").await.ok()??.data?;
            let data: BTreeMap<_, _> = data
                .into_iter()
                .map(|(item, value)| (item, value.0))
                .collect();
            (data == values).then_some(())
        })
        .await;
    }

    /// Returns the items with a former value in the Secret, according to the status.
    async fn items_with_former_value(&self) -> Option<Vec<String>> {
        let sealed: Api<SealedSecret> = self.namespace.api();
        let sealed = sealed
            .get("database")
            .await
            .expect("the SealedSecret exists");
        Some(sealed.status?.previous?.items)
    }

    async fn wait_until_dropped(&self) {
        until("the former values are gone", async || {
            self.items_with_former_value().await.is_none().then_some(())
        })
        .await;
    }

    /// Runs `seal pods --wait`.
    fn wait_with_seal_pods(&self) {
        let output = Command::new(binaries::seal())
            .args(["pods", "database", "--wait", "--timeout", "60s", "-n"])
            .arg(self.namespace.name())
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig())
            .output()
            .expect("the program was built");
        assert!(output.status.success(), "{output:?}");
    }

    /// Creates the Deployment of the clients with these annotations, and waits until they are connected.
    async fn deploy(&self, annotations: &Value, template: &Value) {
        let deployment = json!({
            "metadata": { "name": "client", "annotations": annotations },
            "spec": {
                "replicas": CLIENTS,
                "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
                "selector": { "matchLabels": { "app": "client" } },
                "template": { "metadata": { "labels": { "app": "client" } }, "spec": template },
            },
        });
        let _: Deployment = self.namespace.create_object(deployment).await;
        let first = pair("app_a", 0);
        until("the clients are connected", async || {
            (self.pods_of(&first).await.len() == CLIENTS).then_some(())
        })
        .await;
    }

    /// Returns the names of the client Pods that exist and have connected as this role.
    async fn pods_of(&self, pair: &Pair) -> Vec<String> {
        let pods: Api<Pod> = self.namespace.api();
        let pods = pods.list(&ListParams::default().labels("app=client")).await;
        let lines = self.logs.by_pod();
        let has_connected = |pod: &String| {
            let lines = lines.get(pod).into_iter().flatten();
            let way = format!("connected as {}", pair.user);
            lines.into_iter().any(|line| *line == way)
        };
        let pods = pods.expect("an admin may list").items;
        let names = pods.iter().map(ResourceExt::name_any);
        names.filter(has_connected).collect()
    }

    /// Returns how often the clients were restarted.
    async fn count_restarts(&self) -> usize {
        let deployments: Api<Deployment> = self.namespace.api();
        let deployment = deployments
            .get("client")
            .await
            .expect("the Deployment exists");
        let generation = deployment
            .metadata
            .generation
            .expect("the API server sets the generation");
        usize::try_from(generation).expect("the generation is small") - 1
    }
}

/// Imports the images of the server and the client once.
async fn import(node: &Node) {
    static IMPORTED: OnceCell<()> = OnceCell::const_new();
    IMPORTED
        .get_or_init(async || {
            PostgreSql::import(node);
            let directory = Scratch::new();
            let archive = directory.path().join("client.tar");
            let program = Path::new(env!("CARGO_BIN_EXE_database_client"));
            image::pack_program(CLIENT_IMAGE, program, &archive);
            node.import(&archive);
        })
        .await;
}

/// Returns the annotations of a workload that `seal restart` restarts.
fn restart_annotations() -> Value {
    json!({
        "sealedsecrets.bitnami.com/restart": "auto",
        "sealedsecrets.bitnami.com/restart-window": "1s",
    })
}

/// Returns clients that take the pair from their environment.
fn clients_with_variables(database: &PostgreSql) -> Value {
    let variable = |name: &str, item: &str| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": "database", "key": item } } });
    let mut template = client(database);
    let variables = template["containers"][0]["env"].as_array_mut();
    variables.expect("a list").extend([
        variable("DATABASE_USER", "user"),
        variable("DATABASE_PASSWORD", "password"),
    ]);
    template
}

/// Returns clients that read the pair from mounted files.
fn clients_with_files(database: &PostgreSql) -> Value {
    let mut template = client(database);
    let container = &mut template["containers"][0];
    let variables = container["env"].as_array_mut();
    let variable = json!({ "name": "DATABASE_FILES", "value": "/database" });
    variables.expect("a list").push(variable);
    container["volumeMounts"] = json!([{ "name": "database", "mountPath": "/database" }]);
    template["volumes"] = json!([{ "name": "database", "secret": { "secretName": "database" } }]);
    template
}

fn client(database: &PostgreSql) -> Value {
    let container = json!({
        "name": "main",
        "image": CLIENT_IMAGE,
        "command": ["database_client"],
        "env": [{ "name": "DATABASE_HOST", "value": database.address() }],
    });
    json!({ "containers": [container], "terminationGracePeriodSeconds": 2 })
}
