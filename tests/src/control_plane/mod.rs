//! A real Kubernetes control plane for tests: etcd, the API server and the controllers that tests
//! need, as processes on loopback addresses, without containers.
//!
//! Tests share one plane per test process, [`ControlPlane::shared`], and live in a [`Namespace`] of
//! their own. A test that disturbs its plane takes one of its own, [`ControlPlane::start`]: the
//! faults need `&mut`, which a shared plane never gives.
//!
//! - Without further settings the plane is built from `tests/control-plane` with Go, once per
//!   machine.
//! - `KUBEBUILDER_ASSETS` names a folder with `etcd`, `kube-apiserver` and, for the tests that need
//!   controllers, `kube-controller-manager`: these are used.
//! - `TEST_KUBECONFIG` names a cluster: its current context is used, and no process is started. It
//!   gets our definition of a SealedSecret, and keeps that.

mod command_lines;
mod definition;
mod kubeconfig;
mod namespace;
mod own;
mod pod_network;
mod port;
mod process;
mod programs;
mod service_proxy;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client, Config, CustomResourceExt};
use rustix::process::Signal;
use shared::resource::SealedSecret;
use tokio::sync::OnceCell;

pub use namespace::Namespace;
pub use programs::build;

use crate::scratch::Scratch;
use own::Own;
use programs::Programs;

/// A cluster whose API server answers.
pub struct ControlPlane {
    /// Its processes; none for a cluster that `TEST_KUBECONFIG` names.
    own: Option<Own>,
    kubeconfig: PathBuf,
    config: Config,
    scratch: Arc<Scratch>,
}

impl ControlPlane {
    /// The plane of this test process, started by whoever asks first.
    ///
    /// # Panics
    /// With a sentence that says what to install or set, if no plane can be had.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED
            .get_or_init(async || match env::var_os("TEST_KUBECONFIG") {
                Some(path) => Self::connect(path.into()).await,
                None => Self::start().await,
            })
            .await
    }

    /// A plane of the caller's own, to be disturbed; it ends when it is dropped.
    ///
    /// # Panics
    /// As [`ControlPlane::shared`]; and if `TEST_KUBECONFIG` is set, because nobody asked for
    /// another cluster than that, and that one is not ours to disturb.
    pub async fn start() -> Self {
        assert!(
            env::var_os("TEST_KUBECONFIG").is_none(),
            "this test disturbs its control plane and needs one of its own, so it does not run against the \
             cluster of TEST_KUBECONFIG: unset that, or leave the test out with `-- --skip NAME`"
        );
        let programs = Programs::find();
        let scratch = Arc::new(Scratch::new());
        let own = Own::start(programs, scratch.clone()).await;
        let kubeconfig = own.kubeconfig();
        Self::with(Some(own), kubeconfig, scratch).await
    }

    async fn connect(kubeconfig: PathBuf) -> Self {
        let plane = Self::with(None, kubeconfig, Arc::new(Scratch::new())).await;
        plane.install(&SealedSecret::crd()).await;
        plane
    }

    async fn with(own: Option<Own>, kubeconfig: PathBuf, scratch: Arc<Scratch>) -> Self {
        let config = kubeconfig::config(kubeconfig::read(&kubeconfig)).await;
        Self {
            own,
            kubeconfig,
            config,
            scratch,
        }
    }

    /// A client that may do everything. Each call makes a new one, because a client's connections
    /// end with the runtime of the test that opened them. Like all clients from here it shows every
    /// answer: it does not repeat what was answered with 429, 503 or 504, as `kube` does for
    /// minutes if left alone.
    pub fn admin(&self) -> Client {
        client(self.config.clone())
    }

    /// A client that may do what the roles of this service account allow, by a token that the API
    /// server issued.
    pub async fn client_of(&self, namespace: &str, account: &str) -> Client {
        let token = self.token_of(namespace, account).await;
        client(kubeconfig::config(kubeconfig::with_token(&self.kubeconfig, &token)).await)
    }

    /// The file with which a program may do what this service account may.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.token_of(namespace, account).await;
        let path = self
            .scratch
            .path()
            .join(format!("{namespace}.{account}.kubeconfig"));
        let text = kubeconfig::text(&kubeconfig::with_token(&self.kubeconfig, &token));
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// A token of this service account, as a Pod would get it.
    pub async fn token_of(&self, namespace: &str, account: &str) -> String {
        self.token_for(namespace, account, &[]).await
    }

    /// The same for others than the API server.
    pub async fn token_for(&self, namespace: &str, account: &str, audiences: &[&str]) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), namespace);
        let mut request = TokenRequest::default();
        request.spec.audiences = audiences.iter().map(|name| (*name).to_owned()).collect();
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await;
        let answer =
            answer.unwrap_or_else(|error| panic!("no token for {namespace}/{account}: {error}"));
        answer.status.expect("the API server fills it in").token
    }

    /// The file with which a program may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// PEM of the authority that issued the API server's certificate.
    ///
    /// # Panics
    /// If the kubeconfig names none.
    pub fn authority(&self) -> Vec<u8> {
        let authorities = self.config.root_cert.as_ref().expect("tests use TLS");
        let pem = authorities.iter().map(|der| {
            let body = STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        });
        pem.collect::<String>().into_bytes()
    }

    /// Host and port of the API server.
    ///
    /// # Panics
    /// If the kubeconfig names no server.
    pub fn address(&self) -> (String, String) {
        let url = &self.config.cluster_url;
        let port = url.port_u16().unwrap_or(443);
        (url.host().expect("a server").to_owned(), port.to_string())
    }

    /// A new namespace whose name starts with `purpose`.
    pub async fn namespace(&self, purpose: &str) -> Namespace<'_> {
        Namespace::create(self, purpose).await
    }

    /// The namespace in which `kubeseal` looks for a controller. It is the cluster's and stays.
    pub fn kube_system(&self) -> Namespace<'_> {
        self.existing("kube-system")
    }

    /// A namespace that the test made itself.
    pub fn existing(&self, name: &str) -> Namespace<'_> {
        Namespace::existing(self, name)
    }

    /// Are its processes ours, so that its API server can reach processes of this machine?
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Installs a custom resource, or replaces its definition, and waits until the API server
    /// serves it. The one of a SealedSecret, as `shared` defines it, is there from the start.
    pub async fn install(&self, definition: &CustomResourceDefinition) {
        definition::install(self.admin(), definition).await;
    }

    /// Kills the API server and starts it again at the same address; returns when it answers.
    pub async fn restart_api_server(&mut self) {
        self.stop_api_server();
        self.start_api_server().await;
    }

    /// Kills the API server.
    pub fn stop_api_server(&mut self) {
        self.own_mut().stop_api_server();
    }

    /// Starts the API server again at the same address; returns when it answers.
    pub async fn start_api_server(&mut self) {
        self.own_mut().start_api_server().await;
    }

    /// Kills etcd. The API server goes on answering, mostly with errors.
    pub fn stop_etcd(&mut self) {
        self.own_mut().stop_etcd();
    }

    /// Starts etcd again with all that it had stored; returns when the API server is ready.
    pub async fn start_etcd(&mut self) {
        self.own_mut().start_etcd().await;
    }

    /// The API server stops answering and keeps its connections, as if its machine hung.
    pub fn pause(&mut self) {
        self.own_mut().signal_api_server(Signal::STOP);
    }

    /// The writes of service accounts so far, oldest first, as the API server noted them: events of
    /// `audit.k8s.io/v1`.
    ///
    /// # Panics
    /// In a cluster that `TEST_KUBECONFIG` names, whose notes are not ours to read.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let own = self.own.as_ref().expect("the plane is our own");
        let text = fs::read_to_string(own.audit_log()).expect("the API server writes it");
        let events = text.lines().map(serde_json::from_str);
        events.map_while(Result::ok).collect()
    }

    /// Ends [`ControlPlane::pause`].
    pub fn resume(&mut self) {
        self.own_mut().signal_api_server(Signal::CONT);
    }

    fn own_mut(&mut self) -> &mut Own {
        self.own
            .as_mut()
            .expect("only `start` gives a plane by value, and it starts processes")
    }
}

fn client(config: Config) -> Client {
    Client::try_from(config).expect("the settings were read from a usable kubeconfig")
}
