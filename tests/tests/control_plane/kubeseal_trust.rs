//! Tests which certificates `kubeseal` accepts: cached, from a Service found by its labels, and published in a
//! `ConfigMap`. Also tests connections to an API server that need more than flags: a Pod's service account, a proxy, an
//! identity provider.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use shared::key::NewKey;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key};
use tests::{binaries, pod};

const SECRET: &str = "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";

fn fingerprint(key: &NewKey) -> String {
    key.pair.certificate().fingerprint().to_string()
}

/// A controller with the first key, behind the Service `seals`, and a user with a separate cache.
struct Fixture<'a> {
    plane: &'a ControlPlane,
    namespace: Namespace<'a>,
    controller: ClusterController,
    directory: Scratch,
}

impl<'a> Fixture<'a> {
    async fn new() -> Fixture<'static> {
        Fixture::with_labels(ControlPlane::shared().await, json!({})).await
    }

    /// Creates the fixture, whose Service has these labels.
    async fn with_labels(plane: &'a ControlPlane, labels: Value) -> Self {
        let namespace = plane.namespace("trust").await;
        roles::grant(&namespace, Reach::Namespace).await;
        put_key(&namespace, "sealed-secrets-key0", &KEYS[0]).await;
        let args = [
            "--key-renew-period=0",
            "--certificate-configmap=seals-certificate",
        ];
        roles::grant_publishing(&namespace, "seals-certificate").await;
        let controller = ClusterController::start(plane, &namespace, &args).await;
        let spec = json!({ "ports": [{ "name": "http", "port": 8080 }] });
        let object = json!({ "metadata": { "name": "seals", "labels": labels }, "spec": spec });
        let _: Service = namespace.create_object(object).await;
        namespace.route("seals", controller.port().unwrap()).await;
        let directory = Scratch::new();
        fs::write(directory.path().join("secret.yaml"), SECRET).unwrap();
        Self {
            plane,
            namespace,
            controller,
            directory,
        }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binaries::kubeseal());
        self.set_environment(&mut command);
        command.args(args);
        command
    }

    fn set_environment(&self, command: &mut Command) {
        command
            .current_dir(self.directory.path())
            .env("KUBECONFIG", self.plane.kubeconfig())
            .env("XDG_CACHE_HOME", self.cache())
            .stdin(Stdio::null());
    }

    /// Runs `kubeseal` with the name and the namespace of the Service in environment variables.
    fn run_with_service(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command
            .env("SEALED_SECRETS_CONTROLLER_NAME", "seals")
            .env("SEALED_SECRETS_CONTROLLER_NAMESPACE", self.namespace.name());
        command.output().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Returns the path of the cached certificate; `None` if there is none.
    fn cached_certificate(&self) -> Option<PathBuf> {
        let clusters = fs::read_dir(self.cache().join("sealed-secrets/pins")).ok()?;
        let cluster = clusters.flatten().next()?.path();
        Some(fs::read_dir(cluster).ok()?.flatten().next()?.path())
    }
}

fn expect_success(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    assert!(!output.stdout.is_empty());
    message
}

fn expect_failure(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty());
    message
}

/// Attack: an attacker replaces the controller's certificate with their own, to read the values that are sealed for it.
#[tokio::test]
async fn a_changed_certificate_is_reported_once_and_the_last_one_is_used_offline() {
    let mut fixture = Fixture::new().await;
    let offline = ["--offline", "-f", "secret.yaml"];
    assert!(expect_failure(&fixture.run_with_service(&offline)).contains("no cached certificate"));
    assert_eq!(
        expect_success(&fixture.run_with_service(&["--fetch-cert"])),
        ""
    );
    let cached = fixture.cached_certificate().unwrap();
    let first = fs::metadata(&cached).unwrap().modified().unwrap();
    assert_eq!(
        expect_success(&fixture.run_with_service(&["-f", "secret.yaml"])),
        ""
    );
    assert_eq!(
        fs::metadata(&cached).unwrap().modified().unwrap(),
        first,
        "the cached file is not written again"
    );

    put_key(&fixture.namespace, "sealed-secrets-key1", &KEYS[1]).await;
    fixture
        .controller
        .wait_for_log("secretname=sealed-secrets-key1")
        .await;
    let message = expect_success(&fixture.run_with_service(&["-f", "secret.yaml"]));
    let (old, new) = (fingerprint(&KEYS[0]), fingerprint(&KEYS[1]));
    let change = format!("has changed to {new}, created ");
    assert!(
        message.contains(&change)
            && message.contains(&format!("the previous one was {old}, first seen ")),
        "{message}"
    );
    assert_eq!(
        expect_success(&fixture.run_with_service(&["-f", "secret.yaml"])),
        ""
    );

    let message = expect_success(&fixture.run_with_service(&offline));
    assert!(
        message.contains("offline: ") && message.contains(&new),
        "{message}"
    );
    let mut without_network = Command::new("unshare");
    without_network
        .args(["--net", "--map-root-user"])
        .arg(binaries::kubeseal());
    fixture.set_environment(&mut without_network);
    without_network.args([
        "--controller-name=seals",
        "--controller-namespace",
        fixture.namespace.name(),
    ]);
    expect_success(&without_network.args(offline).output().unwrap());
    let cached = cached.to_str().unwrap();
    assert_eq!(
        expect_success(&fixture.run(&["--cert", cached, "-f", "secret.yaml"])),
        ""
    );
}

#[tokio::test]
async fn an_unusable_cache_is_replaced() {
    let fixture = Fixture::new().await;
    fs::write(fixture.cache(), "a file where the directory should be").unwrap();
    expect_success(&fixture.run_with_service(&["-f", "secret.yaml"]));
    fs::remove_file(fixture.cache()).unwrap();
    expect_success(&fixture.run_with_service(&["-f", "secret.yaml"]));
    let cached = fixture.cached_certificate().unwrap();
    fs::write(&cached, "half a certifi").unwrap();
    let warning = expect_success(&fixture.run_with_service(&["-f", "secret.yaml"]));
    assert!(
        warning.contains("it is unknown whether the certificate has changed"),
        "{warning}"
    );
    assert!(
        fs::read_to_string(&cached)
            .unwrap()
            .contains(&fingerprint(&KEYS[0])),
        "the cached file is replaced"
    );
    let mut without_home = fixture.command(&[
        "-f",
        "secret.yaml",
        "--controller-name=seals",
        "--controller-namespace",
    ]);
    without_home
        .arg(fixture.namespace.name())
        .env_remove("XDG_CACHE_HOME")
        .env("HOME", "");
    expect_success(&without_home.output().unwrap());
}

/// Attack: an attacker puts their own certificate behind the Service, into the cache or into a file, to read the values
/// that are sealed for it.
#[tokio::test]
async fn cert_fingerprint_applies_to_the_service_the_cache_and_files() {
    let fixture = Fixture::new().await;
    let (own_fingerprint, other_fingerprint) = (fingerprint(&KEYS[0]), fingerprint(&KEYS[1]));
    expect_success(&fixture.run_with_service(&[
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &own_fingerprint,
    ]));
    expect_success(&fixture.run_with_service(&[
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &other_fingerprint,
        "--cert-fingerprint",
        &own_fingerprint,
    ]));
    let message = expect_failure(&fixture.run_with_service(&[
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &other_fingerprint,
    ]));
    assert!(
        message.contains(&own_fingerprint)
            && message.contains("neither --cert-fingerprint nor a rule accepts"),
        "{message}"
    );
    expect_failure(&fixture.run_with_service(&[
        "--fetch-cert",
        "--cert-fingerprint",
        &other_fingerprint,
    ]));
    expect_failure(&fixture.run_with_service(&[
        "--offline",
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &other_fingerprint,
    ]));
    let file = fixture.directory.path().join("cert.pem");
    fs::write(&file, KEYS[0].pair.certificate().to_pem()).unwrap();
    expect_success(&fixture.run(&[
        "--cert=cert.pem",
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &own_fingerprint,
    ]));
    expect_failure(&fixture.run(&[
        "--cert=cert.pem",
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &other_fingerprint,
    ]));
    let message = expect_failure(&fixture.run_with_service(&[
        "--fetch-cert",
        "--cert-fingerprint",
        "SHA1:x",
    ]));
    assert!(message.contains("invalid fingerprint"), "{message}");
}

/// Attack: a tenant labels their own Service like a controller's, so that users seal for the tenant's certificate.
#[tokio::test]
async fn uses_a_service_selected_by_labels_only_with_a_pinned_certificate() {
    let labels = json!({ "app.kubernetes.io/name": "sealed-secrets" });
    // The search includes the whole cluster.
    let plane = ControlPlane::start().await;
    let fixture = Fixture::with_labels(&plane, labels.clone()).await;
    // A tenant who may create Services can choose these labels, and serve any certificate.
    let impostor = fixture.plane.namespace("impostor").await;
    let spec = json!({ "ports": [{ "name": "http", "port": 8080 }] });
    let object = json!({ "metadata": { "name": "a", "labels": labels }, "spec": spec });
    let _: Service = impostor.create_object(object).await;
    impostor.route("a", serve_certificate(&KEYS[2])).await;
    let seal = ["-f", "secret.yaml"];
    let message = expect_failure(&fixture.run(&seal));
    for namespace in [impostor.name(), fixture.namespace.name()] {
        assert!(
            message.contains(&format!("--controller-namespace {namespace}")),
            "{message}"
        );
    }
    let own_fingerprint = fingerprint(&KEYS[0]);
    let message = expect_success(&fixture.run(&[
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &own_fingerprint,
    ]));
    assert!(
        message.contains("found by its labels") && message.contains(fixture.namespace.name()),
        "{message}"
    );
    let message = expect_success(&fixture.run(&seal));
    assert!(
        message.contains(&own_fingerprint),
        "the fingerprint is now pinned: {message}"
    );
    expect_failure(&fixture.run(&[
        "-f",
        "secret.yaml",
        "--cert-fingerprint",
        &fingerprint(&KEYS[1]),
    ]));
    // An impostor can serve the correct certificate and any other response, so only sealing uses discovery.
    let sealed = fixture.run(&seal).stdout;
    fs::write(fixture.directory.path().join("sealed.json"), sealed).unwrap();
    for verb in ["--validate", "--re-encrypt"] {
        let message = expect_failure(&fixture.run(&[verb, "-f", "sealed.json"]));
        assert!(
            message.contains("cannot get sealed secret service"),
            "{message}"
        );
    }
    // An explicit flag takes precedence, even if it is wrong.
    let message = expect_failure(&fixture.run(&["-f", "secret.yaml", "--controller-name=absent"]));
    assert!(
        message.contains(&format!(
            "--controller-namespace {}",
            fixture.namespace.name()
        )),
        "{message}"
    );
}

/// Attack: a user writes their own certificate to the ConfigMap that clients read, to read the values that are sealed
/// for it.
#[tokio::test]
async fn uses_a_published_certificate_only_with_its_fingerprint() {
    let fixture = Fixture::new().await;
    create_caller(&fixture.namespace, "developer").await;
    let kubeconfig = fixture
        .plane
        .kubeconfig_of(fixture.namespace.name(), "developer")
        .await;
    let config_maps: Api<ConfigMap> = fixture.namespace.api();
    until("the certificate is published", async || {
        config_maps.get("seals-certificate").await.ok()
    })
    .await;
    let kubeconfig = kubeconfig.to_str().unwrap();
    let seal = ["-f", "secret.yaml", "--kubeconfig", kubeconfig];
    let message = expect_failure(&fixture.run_with_service(&seal));
    let own_fingerprint = fingerprint(&KEYS[0]);
    for part in [
        "in the ConfigMap seals-certificate",
        "is forbidden",
        "is not trusted",
        &own_fingerprint,
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(
        fixture.cached_certificate().is_none(),
        "an untrusted certificate is not cached"
    );
    let with_fingerprint = [&seal[..], &["--cert-fingerprint", &own_fingerprint]].concat();
    let message = expect_success(&fixture.run_with_service(&with_fingerprint));
    assert!(
        message.contains("the controller cannot be reached"),
        "{message}"
    );
    expect_success(&fixture.run_with_service(&seal));
    // A user who may change the ConfigMap cannot replace the certificate.
    let patch = json!({ "data": { "cert.pem": KEYS[2].pair.certificate().to_pem() } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let result = config_maps.patch("seals-certificate", &params, &patch);
    result.await.unwrap();
    assert!(expect_failure(&fixture.run_with_service(&seal)).contains("is not trusted"));
    // The ConfigMap does not replace the controller for other requests.
    fs::write(
        fixture.directory.path().join("sealed.json"),
        seal_output(&fixture),
    )
    .unwrap();
    let validate = [
        "--validate",
        "-f",
        "sealed.json",
        "--kubeconfig",
        kubeconfig,
    ];
    assert!(
        expect_failure(&fixture.run_with_service(&validate)).contains("RBAC does not allow you")
    );
}

fn seal_output(fixture: &Fixture<'_>) -> Vec<u8> {
    fixture.run_with_service(&["-f", "secret.yaml"]).stdout
}

#[tokio::test]
async fn kubeseal_in_a_pod_uses_the_cluster_and_namespace_of_the_pod() {
    let fixture = Fixture::new().await;
    create_caller(&fixture.namespace, "job").await;
    let rules = json!([{ "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"] }]);
    bind(&fixture.namespace, "proxy", "job", &rules).await;
    let args = [
        "--controller-name=seals",
        "--controller-namespace",
        fixture.namespace.name(),
        "-o",
        "yaml",
    ];
    let secret = "kind: Secret\nmetadata: {name: db}\nstringData: {a: b}\n";
    let run = async |variables: &[(&str, &str)]| {
        let program = binaries::kubeseal();
        let output = pod::run(
            fixture.plane,
            &fixture.namespace,
            "job",
            &program,
            &args,
            variables,
            secret,
        )
        .await;
        expect_success(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    let output = run(&[]).await;
    assert!(
        output.contains(&format!("namespace: {}", fixture.namespace.name())),
        "{output}"
    );
    let output = run(&[("POD_NAMESPACE", "elsewhere")]).await;
    assert!(output.contains("namespace: elsewhere"), "{output}");
}

#[tokio::test]
async fn honors_the_proxy_and_no_proxy_variables() {
    let fixture = Fixture::new().await;
    let (_, port) = fixture.plane.address();
    let proxy = serve_proxy(port.parse().unwrap());
    // This name is in the API server's certificate, but cannot be resolved on this machine.
    let server = format!("--server=https://kubernetes.default.svc:{port}");
    let fetch = |variables: &[(&str, &str)]| {
        let mut command = fixture.command(&["--fetch-cert", &server, "--controller-name=seals"]);
        command.args(["--controller-namespace", fixture.namespace.name()]);
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let address = format!("http://127.0.0.1:{proxy}");
    expect_success(&fetch(&[("HTTPS_PROXY", &address)]));
    expect_success(&fetch(&[
        ("https_proxy", &address),
        ("NO_PROXY", "127.0.0.1,,10.0.0.0/8"),
    ]));
    expect_success(&fetch(&[
        ("SEALED_SECRETS_PROXY_URL", &address),
        ("NO_PROXY", "*"),
    ]));
    for no_proxy in ["*", ".svc", "kubernetes.default.svc", "default.svc"] {
        let message = expect_failure(&fetch(&[("HTTPS_PROXY", &address), ("NO_PROXY", no_proxy)]));
        assert!(
            message.contains("cannot reach the API server"),
            "{no_proxy}: {message}"
        );
    }
}

#[tokio::test]
async fn an_identity_provider_authenticates_the_caller() {
    let fixture = Fixture::new().await;
    create_caller(&fixture.namespace, "person").await;
    let rules = json!([{ "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"] }]);
    bind(&fixture.namespace, "proxy", "person", &rules).await;
    // The client does not check the issuer, so a service account's token can serve as the ID token.
    let token = fixture
        .plane
        .token_of(fixture.namespace.name(), "person")
        .await;
    let mut config: Value =
        serde_json::from_slice(&fs::read(fixture.plane.kubeconfig()).unwrap()).unwrap();
    let file = fixture.directory.path().join("oidc");
    let mut fetch_with = |token: &str| {
        config["users"][0]["user"] =
            json!({ "auth-provider": { "name": "oidc", "config": { "id-token": token } } });
        fs::write(&file, config.to_string()).unwrap();
        fixture.run_with_service(&["--fetch-cert", "--kubeconfig", file.to_str().unwrap()])
    };
    expect_success(&fetch_with(&token));
    let expired = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.canary";
    let message = expect_failure(&fetch_with(expired));
    assert!(
        message.contains("ID token expired") && !message.contains("canary"),
        "{message}"
    );
}

/// Creates an account that may read Services and `ConfigMaps`.
async fn create_caller(namespace: &Namespace<'_>, name: &str) {
    let account = json!({ "metadata": { "name": name } });
    let _: ServiceAccount = namespace.create_object(account).await;
    let rules =
        json!([{ "apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["get"] }]);
    bind(namespace, "reading", name, &rules).await;
    let plane = ControlPlane::shared().await;
    let client = plane.client_of(namespace.name(), name).await;
    let services = Api::<Service>::namespaced(client, namespace.name());
    until("the role takes effect", async || {
        services.get("seals").await.ok()
    })
    .await;
}

async fn bind(namespace: &Namespace<'_>, role: &str, account: &str, rules: &Value) {
    let metadata = json!({ "name": role });
    let _: Role = namespace
        .create_object(json!({ "metadata": metadata, "rules": rules }))
        .await;
    let binding = json!({
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace.name() }],
    });
    let _: RoleBinding = namespace.create_object(binding).await;
}

/// Serves this certificate for every request, until the process ends; returns the port.
fn serve_certificate(key: &NewKey) -> u16 {
    let pem = key.pair.certificate().to_pem();
    listen(move |mut caller| {
        read_head(&caller)?;
        write!(
            caller,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{pem}",
            pem.len()
        )
    })
}

/// Starts a proxy that connects every host to this local port; returns the proxy's port.
fn serve_proxy(target: u16) -> u16 {
    listen(move |mut caller| {
        read_head(&caller)?;
        let mut target = TcpStream::connect(("127.0.0.1", target))?;
        caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let (mut from, mut to) = (caller.try_clone()?, target.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        io::copy(&mut target, &mut caller)?;
        caller.shutdown(Shutdown::Write)
    })
}

fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(caller));
        }
    });
    port
}

fn read_head(caller: &TcpStream) -> io::Result<()> {
    for line in BufReader::new(caller).lines() {
        if line?.is_empty() {
            break;
        }
    }
    Ok(())
}
