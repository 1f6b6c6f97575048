//! Tests `seal` with a real API server: the command fetches the certificate through the service proxy, as the rule
//! specifies, and shows values of Secrets that the caller may read.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod connections;
mod inventory;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::binaries;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::directory_controller::DirectoryController;
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for, values};

struct Fixture {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    controller: DirectoryController,
    tree: Scratch,
}

impl Fixture {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace("seal").await;
        let controller = DirectoryController::start();
        namespace.route("sealed-secrets", controller.port()).await;
        let tree = Scratch::new();
        Self {
            plane,
            namespace,
            controller,
            tree,
        }
    }

    fn write_rules(&self, extra_lines: &str) {
        let rules = format!(
            "rules:\n- path: '**'\n  controller: {{name: sealed-secrets, namespace: {}}}\n{extra_lines}",
            self.namespace.name()
        );
        fs::write(self.tree.path().join(".seal.yaml"), rules).unwrap();
    }

    fn seal(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(binaries::seal())
            .env("KUBECONFIG", self.plane.kubeconfig())
            .current_dir(self.tree.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails early reads no input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn state_path(&self, name: &str) -> PathBuf {
        self.controller.directory().join(name)
    }
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn the_controller_of_the_rule_unseals_the_created_object() {
    let fixture = Fixture::new().await;
    fixture.write_rules("");
    let args = [
        "create", "db", "--stdin", "password", "-n", "shop", "-w", "db.yaml",
    ];
    let output = fixture.seal(&args, "hunter2");
    assert!(output.status.success(), "{}", output_text(&output));
    fs::copy(
        fixture.tree.path().join("db.yaml"),
        fixture.state_path("sealed/db.yaml"),
    )
    .unwrap();
    let value = fixture.state_path("secrets/shop/db/password");
    let content = until("the value exists", async || fs::read(&value).ok()).await;
    assert_eq!(content, b"hunter2");
}

#[tokio::test]
async fn refuses_to_seal_if_the_fingerprint_in_the_rule_does_not_match() {
    let fixture = Fixture::new().await;
    fixture.write_rules("  fingerprint: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n");
    let output = fixture.seal(
        &[
            "create", "db", "--stdin", "password", "-n", "shop", "-w", "db.yaml",
        ],
        "hunter2",
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(
        output_text(&output).contains("which neither --cert-fingerprint nor a rule accepts"),
        "{}",
        output_text(&output)
    );
    assert!(!fixture.tree.path().join("db.yaml").exists());
}

#[tokio::test]
async fn without_a_rule_seal_requires_the_default_controller() {
    let fixture = Fixture::new().await;
    let output = fixture.seal(
        &["create", "db", "--stdin", "password", "-n", "shop"],
        "hunter2",
    );
    assert_eq!(output.status.code(), Some(2));
    let message = output_text(&output);
    assert!(
        message.contains("cannot get sealed secret service"),
        "{message}"
    );
    // `seal lint` contacts no cluster.
    fixture.write_rules("");
    let lint = Command::new(binaries::seal())
        .env("KUBECONFIG", "nowhere")
        .current_dir(fixture.tree.path())
        .arg("lint")
        .output()
        .unwrap();
    assert!(lint.status.success(), "{lint:?}");
}

/// A SealedSecret that a controller has unsealed, and its file.
struct AppliedObject<'a> {
    plane: &'a ControlPlane,
    namespace: Namespace<'a>,
    _controller: ClusterController,
    tree: Scratch,
}

impl<'a> AppliedObject<'a> {
    async fn new() -> AppliedObject<'static> {
        AppliedObject::new_in(ControlPlane::shared().await).await
    }

    async fn new_in(plane: &'a ControlPlane) -> Self {
        let namespace = plane.namespace("seal-values").await;
        roles::grant(&namespace, Reach::Namespace).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let args = ["--key-renew-period=0"];
        let controller = ClusterController::start(plane, &namespace, &args).await;
        namespace
            .route("sealed-secrets", controller.port().unwrap())
            .await;
        let tree = Scratch::new();
        let rules = format!(
            "rules:\n- path: '**'\n  controller: {{name: sealed-secrets, namespace: {}}}\n",
            namespace.name()
        );
        fs::write(tree.path().join(".seal.yaml"), rules).unwrap();
        let applied = Self {
            plane,
            namespace,
            _controller: controller,
            tree,
        };
        let items = [("a", "hunter2"), ("b", "kept")];
        let sealed = sealed_for(
            &KEYS[0],
            applied.namespace.name(),
            "db",
            &items,
            Scope::Strict,
        );
        let text = shared::manifest::to_yaml(&sealed.to_document());
        fs::write(applied.file(), text).unwrap();
        let objects = applied.namespace.api::<SealedSecret>();
        objects
            .create(&PostParams::default(), &sealed)
            .await
            .unwrap();
        applied.wait_for_value("hunter2").await;
        applied
    }

    fn file(&self) -> PathBuf {
        self.tree.path().join("db.yaml")
    }

    async fn wait_for_value(&self, value: &str) {
        let want = values(&[("a", value), ("b", "kept")]);
        until(&format!("the Secret has the value {value}"), async || {
            let secret = self
                .namespace
                .api::<Secret>()
                .get_opt("db")
                .await
                .unwrap()?;
            (secret.data.unwrap_or_default() == want).then_some(())
        })
        .await;
    }

    /// Creates an account that may fetch the controller's certificate and read these Secrets. Returns its
    /// kubeconfig.
    async fn create_user(&self, name: &str, secrets: &[&str]) -> PathBuf {
        let mut rules = json!([
            { "apiGroups": [""], "resources": ["services"], "verbs": ["get"] },
            { "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"] },
        ]);
        if !secrets.is_empty() {
            let rule = json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get"] });
            rules.as_array_mut().unwrap().push(rule);
        }
        roles::create_caller_with(&self.namespace, name, &rules).await;
        self.plane.kubeconfig_of(self.namespace.name(), name).await
    }

    fn seal(&self, kubeconfig: &Path, editor: &str, args: &[&str]) -> Output {
        Command::new(binaries::seal())
            .env("KUBECONFIG", kubeconfig)
            .env("EDITOR", editor)
            .env_remove("VISUAL")
            .current_dir(self.tree.path())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// Returns the flag that accepts the controller's certificate.
fn fingerprint_flag() -> String {
    let certificate = KEYS[0].pair.certificate();
    format!("--cert-fingerprint={}", certificate.fingerprint())
}

#[tokio::test]
async fn a_user_who_may_read_the_secret_sees_and_edits_its_values() {
    let applied = AppliedObject::new().await;
    let reader = applied.create_user("reader", &["db"]).await;
    let view = ["view", "--reveal", "db.yaml"];
    let revealed = until("the permission takes effect", async || {
        let output = applied.seal(&reader, "false", &view);
        output.status.success().then_some(output)
    });
    let revealed = revealed.await;
    let text = String::from_utf8_lossy(&revealed.stdout).into_owned();
    for (item, value) in [("  a  ", "    hunter2"), ("  b  ", "    kept")] {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(item));
        assert_eq!(lines.nth(1), Some(value), "{text}");
    }
    assert!(output_text(&revealed).contains("values come from the Secrets in the cluster"));

    let before = fs::read_to_string(applied.file()).unwrap();
    // Only the rule names the controller, so the user has to accept its certificate.
    let pin = fingerprint_flag();
    let editor = "sed -i s/hunter2/hunter3/";
    let output = applied.seal(&reader, editor, &["edit", "db.yaml"]);
    assert!(
        output_text(&output).contains("could decrypt existing values"),
        "{}",
        output_text(&output)
    );
    let output = applied.seal(&reader, editor, &["edit", "db.yaml", &pin]);
    assert!(output.status.success(), "{}", output_text(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr).trim(),
        format!("db.yaml: {}/db: a changed", applied.namespace.name())
    );
    let after = fs::read_to_string(applied.file()).unwrap();
    let item = |text: &str, key: &str| {
        let lines = text.lines().find(|line| line.trim().starts_with(key));
        lines.map(str::to_owned)
    };
    assert_ne!(item(&before, "a:"), item(&after, "a:"));
    assert_eq!(
        item(&before, "b:"),
        item(&after, "b:"),
        "unchanged items are not re-encrypted"
    );

    let documents = shared::manifest::read(after.as_bytes()).unwrap();
    let (objects, _) = SealedSecret::all_from_document(&documents[0]).unwrap();
    let api = applied.namespace.api::<SealedSecret>();
    let mut current = api.get("db").await.unwrap();
    current.spec = objects[0].spec.clone();
    api.replace("db", &PostParams::default(), &current)
        .await
        .unwrap();
    applied.wait_for_value("hunter3").await;
}

#[tokio::test]
async fn refuses_to_show_values_to_a_user_who_may_not_read_the_secret() {
    let applied = AppliedObject::new().await;
    let user = applied.create_user("user", &[]).await;
    let before = fs::read(applied.file()).unwrap();
    let pin = fingerprint_flag();
    for (args, hint) in [
        (
            &["view", "--reveal", "db.yaml"][..],
            "\nhint: pass --key FILE to unseal the values locally",
        ),
        (
            &["edit", "db.yaml", &pin],
            "\nhint: pass --key FILE to unseal the values locally, or --blind to edit without the values",
        ),
    ] {
        let output = applied.seal(&user, "touch", args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let message = output_text(&output);
        for part in [
            "/db from the cluster: ",
            hint,
            "secrets \\\"db\\\" is forbidden",
        ] {
            assert!(
                message.contains(part),
                "{args:?}, missing {part}: {message}"
            );
        }
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert_eq!(fs::read(applied.file()).unwrap(), before);
}
