//! Tests that `kubeseal` and `seal` use the controller's TLS port if it serves verify and rotate only to callers
//! with a token.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::binaries;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const ARGS: &[&str] = &[
    "--listen-authorized-addr=127.0.0.1:0",
    "--plain-certificate-only",
    "--certificate-configmap=seals-certificate",
    "--rate-limit=1000",
    "--rate-limit-burst=1000",
];

/// A controller with two keys that serves verify and rotate only on its TLS port, a Service with its HTTP port
/// and its TLS port, and the service account `ci`.
struct Fixture {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    _controller: ClusterController,
    port: u16,
    network: Network,
    directory: Scratch,
}

impl Fixture {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace("by-token").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_reviews(&namespace).await;
        roles::grant_publishing(&namespace, "seals-certificate").await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        put_key(&namespace, "key-1", &KEYS[1]).await;
        let controller = ClusterController::start(plane, &namespace, ARGS).await;
        let port = until("the TLS port is open", async || {
            controller.authorized_port()
        });
        let port = port.await;
        let ports =
            json!([{ "name": "http", "port": 8080 }, { "name": "authorized", "port": 8443 }]);
        let service = json!({ "metadata": { "name": "seals" }, "spec": { "ports": ports } });
        let _: Service = namespace.create_object(service).await;
        namespace.route("seals", controller.port().unwrap()).await;
        let rules = json!([
            { "apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "verbs": ["verify", "rotate"] },
            { "apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["get"] },
            { "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get", "create"] },
            { "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["ci"], "verbs": ["create"] },
        ]);
        roles::create_caller_with(&namespace, "ci", &rules).await;
        let network = Network::new(port).await;
        let fixture = Self {
            plane,
            namespace,
            _controller: controller,
            port,
            network,
            directory: Scratch::new(),
        };
        let sealed = fixture.sealed_secret().to_document().to_string();
        fs::write(fixture.file("db.json"), sealed).unwrap();
        fixture
    }

    /// Returns an object sealed for the older key.
    fn sealed_secret(&self) -> SealedSecret {
        let items = [("a", "hunter2")];
        sealed_for(&KEYS[0], self.namespace.name(), "db", &items, Scope::Strict)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a program whose requests go through [`Network`], so that it can use the Service's host name, as in a Pod.
    fn run_in_cluster(&self, program: &Path, kubeconfig: &Path, args: &[&str]) -> Output {
        let proxy = format!("http://127.0.0.1:{}", self.network.port);
        let mut command = self.command(program, kubeconfig, args);
        command.env("HTTPS_PROXY", proxy);
        command.env("NO_PROXY", "127.0.0.1,localhost");
        command.output().unwrap()
    }

    fn run_outside_cluster(&self, program: &Path, kubeconfig: &Path, args: &[&str]) -> Output {
        self.command(program, kubeconfig, args).output().unwrap()
    }

    fn command(&self, program: &Path, kubeconfig: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", kubeconfig)
            .env("XDG_CACHE_HOME", self.file("cache"))
            .env_remove("HTTPS_PROXY")
            .current_dir(self.directory.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Appends the flags that name the controller.
    fn with_controller_flags<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let namespace = self.namespace.name();
        let flags = [
            "--controller-name",
            "seals",
            "--controller-namespace",
            namespace,
        ];
        [args, &flags].concat()
    }
}

/// An HTTP proxy that connects every request to the controller and records the requested hosts and ports.
struct Network {
    port: u16,
    names: Arc<Mutex<Vec<String>>>,
}

impl Network {
    async fn new(controller: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let names: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = Arc::clone(&names);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, controller, Arc::clone(&recorded)));
            }
        });
        Self { port, names }
    }

    fn names(&self) -> Vec<String> {
        self.names.lock().unwrap().clone()
    }
}

async fn forward(stream: TcpStream, controller: u16, names: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    let name = head.split(' ').nth(1).unwrap().to_owned();
    names.lock().unwrap().push(name);
    let mut target = TcpStream::connect(("127.0.0.1", controller)).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut target).await;
}

fn expect_success(output: Output) -> Vec<u8> {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    output.stdout
}

fn expect_failure(output: Output) -> String {
    assert!(!output.status.success());
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn parse(json: &[u8]) -> SealedSecret {
    serde_json::from_slice(json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_uses_the_port_that_the_service_names() {
    let fixture = Fixture::new().await;
    let kubeconfig = fixture
        .plane
        .kubeconfig_of(fixture.namespace.name(), "ci")
        .await;
    let (kubeseal, seal) = (binaries::kubeseal(), binaries::seal());
    let validate = fixture.with_controller_flags(&["--validate", "-f", "db.json"]);
    until("the account's permissions take effect", async || {
        let output = fixture.run_in_cluster(&kubeseal, &kubeconfig, &validate);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!message.contains("is not a controller"), "{message}");
        output.status.success().then_some(())
    })
    .await;
    let name = format!("seals.{}.svc:8443", fixture.namespace.name());
    assert!(
        fixture.network.names().contains(&name),
        "{:?}",
        fixture.network.names()
    );

    let re_encrypt =
        fixture.with_controller_flags(&["--re-encrypt", "-f", "db.json", "-w", "new.json"]);
    expect_success(fixture.run_in_cluster(&kubeseal, &kubeconfig, &re_encrypt));
    let re_encrypted = parse(&fs::read(fixture.file("new.json")).unwrap());
    assert_ne!(
        re_encrypted.spec.encrypted_data,
        fixture.sealed_secret().spec.encrypted_data
    );

    let doctor = fixture.with_controller_flags(&["doctor", "db.json"]);
    let message = fixture.run_in_cluster(&seal, &kubeconfig, &doctor);
    let message = String::from_utf8(message.stdout).unwrap();
    assert!(
        message.contains("the controller can unseal it"),
        "{message}"
    );

    let rotate = fixture.with_controller_flags(&["rotate", "db.json"]);
    expect_success(fixture.run_in_cluster(&seal, &kubeconfig, &rotate));
    let rotated = parse(&fs::read(fixture.file("db.json")).unwrap());
    assert_ne!(
        rotated.spec.encrypted_data,
        fixture.sealed_secret().spec.encrypted_data
    );

    let mut moved = fixture.sealed_secret();
    moved.metadata.name = Some("other".into());
    fs::write(fixture.file("moved.json"), moved.to_document().to_string()).unwrap();
    let validate = fixture.with_controller_flags(&["--validate", "-f", "moved.json"]);
    let message = expect_failure(fixture.run_in_cluster(&kubeseal, &kubeconfig, &validate));
    assert!(
        message.contains("unable to decrypt sealed secret: other"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_specifies_the_port_and_an_account_or_a_token() {
    let fixture = Fixture::new().await;
    let admin = fixture.plane.kubeconfig();
    let kubeseal = binaries::kubeseal();
    let url = format!("https://localhost:{}", fixture.port);
    let account = format!("{}/ci", fixture.namespace.name());
    let validate = |more: &[&str]| {
        let args = [&["--validate", "-f", "db.json"], more].concat();
        fixture.run_outside_cluster(&kubeseal, admin, &fixture.with_controller_flags(&args))
    };
    let flags = ["--authorized", &url, "--token-account", &account];
    until("the account's permissions take effect", async || {
        validate(&flags).status.success().then_some(())
    })
    .await;
    let token = fixture.plane.token_for(
        fixture.namespace.name(),
        "ci",
        &["sealed-secrets.bitnami.com"],
    );
    fs::write(fixture.file("token"), token.await).unwrap();
    expect_success(validate(&["--authorized", &url, "--token-file", "token"]));

    let message = expect_failure(validate(&[]));
    assert!(
        message.contains("--token-account NAMESPACE/NAME"),
        "{message}"
    );
    let message = expect_failure(validate(&["--token-account", "../x"]));
    assert!(message.contains("expected NAMESPACE/NAME"), "{message}");
    let missing_account = format!("{}/nobody", fixture.namespace.name());
    let message = expect_failure(validate(&["--token-account", &missing_account]));
    assert!(message.contains("\"nobody\" not found"), "{message}");
    let message = expect_failure(validate(&[
        "--authorized",
        "http://localhost",
        "--token-account",
        &account,
    ]));
    assert!(message.contains("sent unencrypted"), "{message}");
    let unprivileged = format!("{}/default", fixture.namespace.name());
    let message = expect_failure(validate(&[
        "--authorized",
        &url,
        "--token-account",
        &unprivileged,
    ]));
    assert!(
        message.contains("does not allow the token's user to `verify`"),
        "{message}"
    );
}

/// Attack: a rule in a repository names a controller of the rule's author, to get the token of a user who
/// re-encrypts or checks files there.
#[tokio::test(flavor = "multi_thread")]
async fn sends_no_token_to_a_controller_that_a_rule_names() {
    let fixture = Fixture::new().await;
    let kubeconfig = fixture
        .plane
        .kubeconfig_of(fixture.namespace.name(), "ci")
        .await;
    let rules = format!(
        "rules:\n- path: '**'\n  controller: {{name: seals, namespace: {}}}\n",
        fixture.namespace.name()
    );
    fs::write(fixture.file(".seal.yaml"), rules).unwrap();
    let seal = binaries::seal();
    let message = until("the account's permissions take effect", async || {
        let message =
            expect_failure(fixture.run_in_cluster(&seal, &kubeconfig, &["rotate", "db.json"]));
        (!message.contains("forbidden")).then_some(message)
    })
    .await;
    assert!(
        message.contains("a rule names this controller"),
        "{message}"
    );
    let report = fixture.run_in_cluster(&seal, &kubeconfig, &["doctor", "db.json"]);
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.contains("a rule names this controller"), "{report}");
    assert_eq!(fixture.network.names(), [""; 0]);
    // Without --authority, the CA certificate would come from a namespace that the rule names.
    let args_with_url = ["rotate", "db.json", "--authorized", "https://localhost:1"];
    let message = expect_failure(fixture.run_in_cluster(&seal, &kubeconfig, &args_with_url));
    assert!(
        message.contains("a rule names this controller"),
        "{message}"
    );
    assert_eq!(fixture.network.names(), [""; 0]);
    for arguments in [["rotate", "db.json"], ["doctor", "db.json"]] {
        let arguments = fixture.with_controller_flags(&arguments);
        expect_success(fixture.run_in_cluster(&seal, &kubeconfig, &arguments));
    }
}
