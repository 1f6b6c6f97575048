//! Tests the path to a controller in a cluster (API server, service proxy, Service), with Bitnami's `kubeseal` and this
//! project's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::json;
use shared::resource::SealedSecret;
use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::directory_controller::DirectoryController;
use tests::patience::until;
use tests::upstream;

const SECRET: &str = "{\"kind\": \"Secret\", \"metadata\": {\"name\": \"db\", \"namespace\": \"shop\"}, \
                      \"stringData\": {\"password\": \"hunter2\"}}";

struct Fixture {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    controller: DirectoryController,
}

impl Fixture {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace("service-path").await;
        let controller = DirectoryController::start();
        namespace.route("sealed-secrets", controller.port()).await;
        fs::write(controller.directory().join("secret.json"), SECRET).unwrap();
        Self {
            plane,
            namespace,
            controller,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.controller.directory().join(name)
    }

    fn run(&self, kubeseal: &Path, args: &[&str], input: &str) -> Output {
        self.run_as(kubeseal, self.plane.kubeconfig(), args, input)
    }

    fn run_as(&self, kubeseal: &Path, kubeconfig: &Path, args: &[&str], input: &str) -> Output {
        Command::new(kubeseal)
            .env("KUBECONFIG", kubeconfig)
            .args(["--controller-name", "sealed-secrets"])
            .args(["--controller-namespace", self.namespace.name()])
            .args(args)
            .stdin(File::open(self.file(input)).unwrap())
            .output()
            .unwrap()
    }
}

#[tokio::test]
async fn both_programs_seal_validate_and_re_encrypt_through_the_api_server() {
    let fixture = Fixture::new().await;
    let url = format!("http://127.0.0.1:{}/v1/cert.pem", fixture.controller.port());
    let certificate = Command::new(binaries::kubeseal())
        .args(["--fetch-cert", "--cert", &url])
        .output();
    let certificate = expect_success(certificate.unwrap());
    for kubeseal in [upstream::upstream_kubeseal(), binaries::kubeseal()] {
        let run = |args: &[&str], input: &str| fixture.run(&kubeseal, args, input);
        assert_eq!(
            expect_success(run(&["--fetch-cert"], "secret.json")),
            certificate
        );
        let sealed = expect_success(run(&[], "secret.json"));
        fs::write(fixture.file("db.json"), &sealed).unwrap();
        expect_success(run(&["--validate"], "db.json"));
        let re_encrypted = expect_success(run(&["--re-encrypt"], "db.json"));
        let re_encrypted: SealedSecret = serde_json::from_slice(&re_encrypted).unwrap();
        let original: SealedSecret = serde_json::from_slice(&sealed).unwrap();
        assert_eq!(
            re_encrypted.spec, original.spec,
            "already sealed for the newest key"
        );

        let mut moved = original;
        moved.metadata.name = Some("other".into());
        fs::write(fixture.file("moved.json"), moved.to_document().to_string()).unwrap();
        let message = expect_failure(run(&["--validate"], "moved.json"));
        assert!(
            message.contains("unable to decrypt sealed secret: other"),
            "{message}"
        );
        let message = expect_failure(run(&["--re-encrypt"], "moved.json"));
        assert!(message.contains("unable to rotate secret"), "{message}");

        fs::write(fixture.file("sealed/db.json"), sealed).unwrap();
        let value = fixture.file("secrets/shop/db/password");
        let content = until("the value exists", async || fs::read(&value).ok()).await;
        assert_eq!(content, b"hunter2");
    }
}

#[tokio::test]
async fn re_encryption_replaces_a_file_and_keeps_a_malformed_one() {
    let fixture = Fixture::new().await;
    let run = |args: &[&str], input: &str| fixture.run(&binaries::kubeseal(), args, input);
    let sealed = expect_success(run(&["-o", "yaml"], "secret.json"));
    let file = fixture.file("db.yaml");
    fs::write(&file, &sealed).unwrap();
    let name = file.to_str().unwrap();
    assert!(expect_success(run(&["--re-encrypt", "-f", name], "secret.json")).is_empty());
    assert_eq!(
        fs::read(&file).unwrap(),
        sealed,
        "already sealed for the newest key"
    );
    // K1: Bitnami's program empties a file with a malformed document.
    let bad = [&sealed[..], b"---\nkind: [\n"].concat();
    fs::write(&file, &bad).unwrap();
    expect_failure(run(&["--re-encrypt", "-f", name], "secret.json"));
    assert_eq!(fs::read(&file).unwrap(), bad);
    // K7: Bitnami's program reports no error for an empty file.
    fs::write(fixture.file("empty.yaml"), "").unwrap();
    let message = expect_failure(run(&["--validate"], "empty.yaml"));
    assert!(
        message.contains("the input contains no SealedSecret"),
        "{message}"
    );
}

/// `kubeseal` must retry if the service proxy reports a closed connection, and if the controller is busy.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_re_encryptions_succeed() {
    let fixture = Fixture::new().await;
    let kubeseal = binaries::kubeseal();
    // The value is too large to arrive together with the head of a request.
    let value = "x".repeat(20_000);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "db", "namespace": "shop" },
        "stringData": { "password": value },
    });
    fs::write(fixture.file("large.json"), secret.to_string()).unwrap();
    let sealed = expect_success(fixture.run(&kubeseal, &[], "large.json"));
    fs::write(fixture.file("db.json"), &sealed).unwrap();
    let job = || (0..30).map(|_| fixture.run(&kubeseal, &["--re-encrypt"], "db.json"));
    let failures: Vec<String> = thread::scope(|scope| {
        let jobs = [(); 6].map(|()| scope.spawn(|| job().collect::<Vec<Output>>()));
        let outputs = jobs.into_iter().flat_map(|job| job.join().unwrap());
        let failing = outputs.filter(|output| !output.status.success());
        let message = failing.map(|output| String::from_utf8(output.stderr).unwrap());
        message.collect()
    });
    assert!(failures.is_empty(), "{}: {failures:#?}", failures.len());
}

#[tokio::test]
async fn errors_name_the_fault_and_a_next_step() {
    let fixture = Fixture::new().await;
    let kubeseal = binaries::kubeseal();
    let fetch = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--fetch-cert"]).collect();
        expect_failure(fixture.run(&kubeseal, &args, "secret.json"))
    };
    let message = fetch(&["--controller-name=absent"]);
    assert!(
        message.contains("cannot get sealed secret service: services \"absent\" not found"),
        "{message}"
    );
    assert!(message.contains("--controller-namespace"), "{message}");
    let message = fetch(&["--context=absent"]);
    assert!(
        message.contains("context \"absent\" does not exist"),
        "{message}"
    );
    let message = fetch(&["--server=https://127.0.0.1:1"]);
    assert!(
        message.contains("cannot reach the API server at https://127.0.0.1:1"),
        "{message}"
    );
    let message = fetch(&["--token=nonsense"]);
    assert!(
        message.contains("Unauthorized") && !message.contains("nonsense"),
        "{message}"
    );

    let bare = json!({ "metadata": { "name": "bare" }, "spec": { "clusterIP": "None" } });
    let _: k8s_openapi::api::core::v1::Service = fixture.namespace.create_object(bare).await;
    let message = fetch(&["--controller-name=bare"]);
    assert!(message.contains("has no ports"), "{message}");
}

#[tokio::test]
async fn the_flags_select_the_user_whose_permissions_apply() {
    let fixture = Fixture::new().await;
    let namespace = fixture.namespace.name();
    let account = json!({ "metadata": { "name": "reader" } });
    let _: ServiceAccount = fixture.namespace.create_object(account).await;
    let rules = json!([{ "apiGroups": [""], "resources": ["services"], "verbs": ["get"] }]);
    let role = json!({ "metadata": { "name": "reader" }, "rules": rules });
    let _: Role = fixture.namespace.create_object(role).await;
    let binding = json!({
        "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": namespace }],
    });
    let _: RoleBinding = fixture.namespace.create_object(binding).await;
    let reader = format!("system:serviceaccount:{namespace}:reader");
    let kubeseal = binaries::kubeseal();
    let as_reader = until("the role takes effect", async || {
        let args = ["--fetch-cert", "--as", &reader];
        let message = expect_failure(fixture.run(&kubeseal, &args, "secret.json"));
        (!message.contains("cannot get sealed secret service")).then_some(message)
    })
    .await;
    assert!(as_reader.contains("RBAC does not allow you"), "{as_reader}");
    let args = [
        "--fetch-cert",
        "--as",
        "nobody",
        "--as-group",
        "system:masters",
    ];
    expect_success(fixture.run(&kubeseal, &args, "secret.json"));

    let kubeconfig = fixture.plane.kubeconfig_of(namespace, "reader").await;
    let message =
        expect_failure(fixture.run_as(&kubeseal, &kubeconfig, &["--fetch-cert"], "secret.json"));
    assert!(message.contains("RBAC does not allow you"), "{message}");
}

fn expect_success(output: Output) -> Vec<u8> {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    output.stdout
}

fn expect_failure(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}
