//! Tests that online commands of `seal` open one connection to the API server and run the exec plug-in of the
//! kubeconfig once, for any number of objects.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value as Json, json};
use shared::scope::Scope;
use tests::binaries;
use tests::control_plane::ControlPlane;
use tests::sealing::{KEYS, sealed_for};

use super::{AppliedObject, fingerprint_flag, output_text};

/// Forwards connections to an address, and counts them.
struct Forwarder {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Forwarder {
    fn start((host, port): (String, String)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let target = format!("{host}:{port}");
        thread::spawn(move || {
            for client in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                forward(client.unwrap(), &target);
            }
        });
        Self {
            port: own_port,
            connections,
        }
    }
}

fn forward(client: TcpStream, target: &str) {
    let server = TcpStream::connect(target).unwrap();
    let pairs = [
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server, client),
    ];
    for (mut from, mut to) in pairs {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// An API server behind a [`Forwarder`], with a kubeconfig whose exec plug-in writes a line to a file at
/// each run.
struct CountedCluster<'a> {
    applied: AppliedObject<'a>,
    forwarder: Forwarder,
    kubeconfig: PathBuf,
    runs: PathBuf,
}

impl<'a> CountedCluster<'a> {
    async fn new(plane: &'a ControlPlane) -> Self {
        let applied = AppliedObject::new_in(plane).await;
        let forwarder = Forwarder::start(applied.plane.address());
        let runs = applied.tree.path().join("runs");
        let kubeconfig = applied.tree.path().join("kubeconfig");
        let text = fs::read_to_string(applied.plane.kubeconfig()).unwrap();
        let text = with_plug_in(&text, applied.tree.path(), &runs, forwarder.port);
        fs::write(&kubeconfig, text.to_string()).unwrap();
        Self {
            applied,
            forwarder,
            kubeconfig,
            runs,
        }
    }

    /// Runs `seal`. Returns its output, the number of plug-in runs and the number of connections.
    fn seal(&self, args: &[&str]) -> (Output, usize, usize) {
        let _ = fs::remove_file(&self.runs);
        self.forwarder.connections.store(0, Ordering::SeqCst);
        let output = Command::new(binaries::seal())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("SEALED_SECRETS_CONTROLLER_NAME", "sealed-secrets")
            .env(
                "SEALED_SECRETS_CONTROLLER_NAMESPACE",
                self.applied.namespace.name(),
            )
            .current_dir(self.applied.tree.path())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let runs = fs::read_to_string(&self.runs).unwrap_or_default();
        let connections = self.forwarder.connections.load(Ordering::SeqCst);
        (output, runs.lines().count(), connections)
    }

    /// Writes a file with ten SealedSecrets for the same Secret in the cluster.
    fn write_ten_objects(&self) -> &'static str {
        let text = (0..10).map(|_| {
            let namespace = self.applied.namespace.name();
            let items = [("a", "hunter2"), ("b", "kept")];
            let sealed = sealed_for(&KEYS[0], namespace, "db", &items, Scope::Strict);
            format!("---\n{}", shared::manifest::to_yaml(&sealed.to_document()))
        });
        fs::write(
            self.applied.tree.path().join("ten.yaml"),
            text.collect::<String>(),
        )
        .unwrap();
        "ten.yaml"
    }
}

/// Returns the kubeconfig with another port, and with an exec plug-in that outputs the user's token.
fn with_plug_in(kubeconfig: &str, directory: &Path, runs: &Path, port: u16) -> Json {
    let mut root: Json = serde_json::from_str(kubeconfig).unwrap();
    let user = &mut root["users"][0]["user"];
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": { "token": user["token"], "expirationTimestamp": "2199-01-01T00:00:00Z" },
    });
    let file = directory.join("credential.json");
    fs::write(&file, credential.to_string()).unwrap();
    let script = format!("echo run >> '{}'; cat '{}'", runs.display(), file.display());
    *user = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "sh", "args": ["-c", script],
    }});
    root["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
    root
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_open_one_connection_and_run_the_plug_in_once() {
    // `seal keys status` reads the SealedSecrets of the whole cluster.
    let plane = ControlPlane::start().await;
    let cluster = CountedCluster::new(&plane).await;
    let file = cluster.write_ten_objects();
    let pin = fingerprint_flag();
    for args in [
        &["view", "--reveal", file][..],
        &["doctor"],
        &["doctor", file],
        &["keys", "list"],
        &["keys", "status", file],
        &["cert", "show"],
        &["cert", "fetch", "-o", "cert.pem"],
        &["rotate", file],
        &["rotate", file, &pin],
        &["create", "new", "--from-literal", "a=b", "-n", "shop"],
    ] {
        let (output, runs, connections) = cluster.seal(args);
        let message = output_text(&output);
        assert!(output.status.success(), "{args:?}: {message}");
        assert_eq!((runs, connections), (1, 1), "{args:?}: {message}");
    }
}
