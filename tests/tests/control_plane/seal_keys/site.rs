//! A namespace with a controller behind a Service, and `seal` with access to both.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::Api;
use kube::api::{ListParams, PostParams};
use shared::key::{Certificate, Fingerprint, NewKey};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scratch::Scratch;
use tests::sealing::{put_key, sealed_for, values};
use tests::{binaries, http};

pub const SERVICE: &str = "sealed-secrets-controller";

/// A controller in a namespace of its own, with a working directory for `seal`.
pub struct Site<'a> {
    pub plane: &'a ControlPlane,
    pub namespace: Namespace<'a>,
    pub controller: ClusterController,
    pub scratch: Scratch,
}

impl<'a> Site<'a> {
    /// Stores these keys as the Secrets `key-0`, `key-1` and so on, and starts a controller behind a Service.
    pub async fn start(
        plane: &'a ControlPlane,
        namespace: Namespace<'a>,
        keys: &[NewKey],
        args: &[&str],
    ) -> Site<'a> {
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_leases(&namespace).await;
        for (i, key) in keys.iter().enumerate() {
            put_key(&namespace, &format!("key-{i}"), key).await;
        }
        let controller = ClusterController::start(plane, &namespace, args).await;
        namespace.route(SERVICE, controller.port().unwrap()).await;
        Self {
            plane,
            namespace,
            controller,
            scratch: Scratch::new(),
        }
    }

    pub async fn new(purpose: &str, keys: &[NewKey], args: &[&str]) -> Site<'static> {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(purpose).await;
        Site::start(plane, namespace, keys, args).await
    }

    /// Restarts the controller at the same port, to which the Service forwards.
    pub async fn restart(mut self, args: &[&str]) -> Self {
        let address = format!(
            "--listen-addr=127.0.0.1:{}",
            self.controller.port().unwrap()
        );
        assert_eq!(self.controller.stop(), Some(0));
        let args: Vec<&str> = args.iter().copied().chain([address.as_str()]).collect();
        self.controller = ClusterController::start(self.plane, &self.namespace, &args).await;
        self
    }

    /// Starts a second controller, as during a rollout.
    pub async fn start_second(&self, args: &[&str]) -> ClusterController {
        let kubeconfig = self
            .plane
            .kubeconfig_of(self.namespace.name(), ACCOUNT)
            .await;
        ClusterController::start_with(&kubeconfig, self.namespace.name(), args).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs `seal` as an administrator, in the site's own directory.
    pub fn seal(&self, args: &[&str]) -> Output {
        seal_in(self.plane, &self.namespace, &self.scratch, args)
    }

    /// Runs `seal`, which must succeed. Returns its stdout.
    pub fn run_successfully(&self, args: &[&str]) -> String {
        let output = self.seal(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            output_text(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `seal`, which must exit with this code. Returns its output.
    pub fn run_with_exit_code(&self, code: i32, args: &[&str]) -> String {
        let output = self.seal(args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            output_text(&output)
        );
        output_text(&output)
    }

    pub fn secrets(&self) -> Api<ApiSecret> {
        self.namespace.api()
    }

    pub fn sealed_secrets(&self) -> Api<SealedSecret> {
        self.namespace.api()
    }

    pub async fn create(&self, sealed: &SealedSecret) {
        self.sealed_secrets()
            .create(&PostParams::default(), sealed)
            .await
            .unwrap();
    }

    pub fn sealed_secret(&self, key: &NewKey, name: &str) -> SealedSecret {
        sealed_for(
            key,
            self.namespace.name(),
            name,
            &[("a", name)],
            Scope::Strict,
        )
    }

    /// Writes a SealedSecret to a file.
    pub fn write(&self, name: &str, sealed: &SealedSecret) {
        fs::write(self.path(name), sealed.to_document().to_string()).unwrap();
    }

    pub async fn wait_for_value(&self, name: &str) {
        let want = values(&[("a", name)]);
        until(
            &format!("{name} is unsealed\n{}", self.controller.log()),
            async || {
                let secret = self.secrets().get_opt(name).await.unwrap()?;
                (secret.data.unwrap_or_default() == want).then_some(())
            },
        )
        .await;
    }

    /// Returns the names of the Secrets with the key label.
    pub async fn key_names(&self) -> Vec<String> {
        let labeled = ListParams::default().labels(shared::resource::KEY_LABEL);
        let secrets = self.secrets().list(&labeled).await.unwrap();
        secrets
            .into_iter()
            .filter_map(|key| key.metadata.name)
            .collect()
    }

    /// Returns the fingerprint of the certificate that the controller serves, or the error response.
    pub async fn served_key(&self) -> Result<Fingerprint, String> {
        served_key_at(self.controller.port().unwrap()).await
    }

    pub async fn wait_until_served(&self, key: &Fingerprint) {
        until(&format!("{key} is served"), async || {
            (self.served_key().await.as_ref() == Ok(key)).then_some(())
        })
        .await;
    }

    /// Writes a token of an account to a file, and waits until the controller's TLS port is open. Returns the arguments
    /// with which `seal` uses the token on that port.
    pub async fn token_args(&self, account: &str) -> [String; 4] {
        let audience = ["sealed-secrets.bitnami.com"];
        let token = self
            .plane
            .token_for(self.namespace.name(), account, &audience);
        fs::write(self.path(account), token.await).unwrap();
        let port = until("the TLS port is open", async || {
            self.controller.authorized_port()
        });
        let url = format!("https://localhost:{}", port.await);
        ["--authorized", &url, "--token-file", account].map(str::to_owned)
    }

    /// Creates an age identity in `identity.txt`. Returns its recipient.
    pub fn create_identity(&self) -> String {
        let output = Command::new(tests::age::age_keygen()).output().unwrap();
        assert!(output.status.success());
        fs::write(self.path("identity.txt"), &output.stdout).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "));
        line.unwrap().to_owned()
    }
}

/// Like [`Site::seal`], but requires no controller.
pub fn seal_in(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    scratch: &Scratch,
    args: &[&str],
) -> Output {
    Command::new(binaries::seal())
        .env("KUBECONFIG", plane.kubeconfig())
        .env("SEALED_SECRETS_CONTROLLER_NAMESPACE", namespace.name())
        .current_dir(scratch.path())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub async fn served_key_at(port: u16) -> Result<Fingerprint, String> {
    let response = http::get(port, "/v1/cert.pem")
        .await
        .map_err(|e| e.to_string())?;
    match Certificate::from_pem(response.as_bytes()) {
        Ok(certificate) => Ok(certificate.fingerprint().clone()),
        Err(_) => Err(response),
    }
}

pub fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
