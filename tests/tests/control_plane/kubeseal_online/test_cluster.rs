//! A namespace with a controller, and the Services that the cases use.

use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use serde_json::{Value, json};
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::http;
use tests::patience::until;
use tests::pod::Pod;
use tests::roles::{self, ACCOUNT, Reach};
use tests::upstream;

use super::fixtures::{Fixtures, Placeholders};
use super::run::{Entry, RunOutput};

/// Environment variables of every case, unless the case sets its own.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    ("KUBECONFIG", "${kubeconfig}"),
    ("SEALED_SECRETS_CONTROLLER_NAME", "seals"),
    ("SEALED_SECRETS_CONTROLLER_NAMESPACE", "${namespace}"),
    // This project's `kubeseal` caches certificates. The cache must be outside the compared directory.
    ("XDG_CACHE_HOME", "${dir}/../cache"),
];

/// The common arguments of both controllers. The rate limits, which have their own test, are too high to take effect.
const ARGS: &[&str] = &[
    "--all-namespaces=false",
    "--key-renew-period=0",
    "--rate-limit=100000",
    "--rate-limit-burst=100000",
];

pub(crate) struct TestCluster {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    reader: String,
    _controller: RunningController,
}

/// A controller that runs until it is dropped.
enum RunningController {
    Upstream(#[expect(dead_code, reason = "runs until it is dropped")] Pod),
    Ours(#[expect(dead_code, reason = "runs until it is dropped")] Box<ClusterController>),
}

impl TestCluster {
    pub(crate) async fn start_upstream(fixtures: &Fixtures) -> Self {
        let (plane, namespace) = prepare_namespace("online-upstream", fixtures).await;
        // Bitnami's controller logs the configured address, not the actual one.
        let (port, metrics) = (http::free_port(), http::free_port());
        let listen = format!("--listen-addr=127.0.0.1:{port}");
        let listen_metrics = format!("--listen-metrics-addr=127.0.0.1:{metrics}");
        let args = [ARGS, &[listen.as_str(), listen_metrics.as_str()]].concat();
        let program = upstream::upstream_controller();
        let pod = Pod::start(plane, &namespace, ACCOUNT, &program, &args).await;
        until("upstream's controller responds", async || {
            http::get(port, "/v1/cert.pem").await.ok()
        })
        .await;
        Self::new(
            plane,
            namespace,
            RunningController::Upstream(pod),
            port,
            fixtures,
        )
        .await
    }

    pub(crate) async fn start_own(fixtures: &Fixtures) -> Self {
        let (plane, namespace) = prepare_namespace("online-ours", fixtures).await;
        let controller = ClusterController::start(plane, &namespace, ARGS).await;
        let port = controller.port().unwrap();
        let controller = RunningController::Ours(Box::new(controller));
        Self::new(plane, namespace, controller, port, fixtures).await
    }

    async fn new(
        plane: &'static ControlPlane,
        namespace: Namespace<'static>,
        controller: RunningController,
        port: u16,
        fixtures: &Fixtures,
    ) -> Self {
        for (name, ports) in [
            ("unnamed", json!([{ "port": 8080 }])),
            ("web", json!([{ "name": "web", "port": 8080 }])),
            (
                "two-ports",
                json!([{ "name": "http", "port": 8080 }, { "name": "metrics", "port": 8081 }]),
            ),
            ("down", json!([{ "name": "http", "port": 8080 }])),
            ("headless", Value::Null),
        ] {
            let cluster_ip = ports.is_null().then_some("None");
            let spec = json!({ "ports": ports, "clusterIP": cluster_ip });
            let object = json!({ "metadata": { "name": name }, "spec": spec });
            let _: Service = namespace.create_object(object).await;
        }
        for name in ["seals", "unnamed", "web", "two-ports"] {
            namespace.route(name, port).await;
        }
        namespace.route("elsewhere", fixtures.web_port()).await;
        namespace.route("closed", http::free_port()).await;
        create_service_reader(&namespace, "reader").await;
        let kubeconfig = plane.kubeconfig_of(namespace.name(), "reader").await;
        Self {
            plane,
            reader: kubeconfig.display().to_string(),
            namespace,
            _controller: controller,
        }
    }

    /// Returns the placeholders that cases may use.
    pub(crate) fn placeholders(&self) -> Placeholders {
        let (host, port) = self.plane.address();
        let kubeconfig = self.plane.kubeconfig();
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let text = |pointer: &str| {
            json.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap()
                .to_owned()
        };
        [
            ("namespace", self.namespace.name().to_owned()),
            ("kubeconfig", kubeconfig.display().to_string()),
            ("reader", self.reader.clone()),
            ("server", format!("https://{host}:{port}")),
            (
                "authority",
                text("/clusters/0/cluster/certificate-authority"),
            ),
            ("token", text("/users/0/user/token")),
        ]
        .into()
    }

    /// Removes differences between the controllers that are due to their namespaces.
    pub(crate) fn normalize(&self, output: &mut RunOutput) {
        let replace_namespace = |bytes: &mut Vec<u8>| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                *bytes = text
                    .replace(self.namespace.name(), "${namespace}")
                    .into_bytes();
            }
        };
        replace_namespace(&mut output.stdout);
        replace_namespace(&mut output.stderr);
        for entry in output.changed.values_mut() {
            if let Entry::File { content, .. } = entry {
                replace_namespace(content);
            }
        }
    }
}

/// Creates a namespace with the suite's keys before the controller starts, so that the controller generates none.
async fn prepare_namespace(
    purpose: &str,
    fixtures: &Fixtures,
) -> (&'static ControlPlane, Namespace<'static>) {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace(purpose).await;
    roles::grant(&namespace, Reach::Namespace).await;
    for name in ["old-", ""] {
        let text = |file: &str| fixtures.text(&format!("{name}{file}.pem")).unwrap();
        let data = json!({ "tls.crt": text("cert"), "tls.key": text("key") });
        let labels = json!({ "sealedsecrets.bitnami.com/sealed-secrets-key": "active" });
        let metadata = json!({ "generateName": "sealed-secrets-key", "labels": labels });
        let object =
            json!({ "metadata": metadata, "type": "kubernetes.io/tls", "stringData": data });
        let _: Secret = namespace.create_object(object).await;
    }
    (plane, namespace)
}

async fn create_service_reader(namespace: &Namespace<'_>, name: &str) {
    let metadata = json!({ "name": name });
    let account = json!({ "metadata": metadata });
    let _: ServiceAccount = namespace.create_object(account).await;
    let rules = json!([{ "apiGroups": [""], "resources": ["services"], "verbs": ["get"] }]);
    let role = json!({ "metadata": metadata, "rules": rules });
    let _: Role = namespace.create_object(role).await;
    let binding = json!({
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace.name() }],
    });
    let _: RoleBinding = namespace.create_object(binding).await;
    let plane = ControlPlane::shared().await;
    let services = Api::<Service>::namespaced(
        plane.client_of(namespace.name(), name).await,
        namespace.name(),
    );
    until("the role takes effect", async || {
        services.get("seals").await.ok()
    })
    .await;
}
