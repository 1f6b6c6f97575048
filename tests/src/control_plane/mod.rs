//! A real Kubernetes control plane for tests: etcd, the API server and the controllers that tests need, as
//! processes on loopback addresses, without containers.
//!
//! Tests share one plane per test process, [`ControlPlane::shared`], and each has its own [`Namespace`]. A
//! test that disturbs its plane starts its own with [`ControlPlane::start`]: the methods that cause faults
//! need `&mut`, which a shared plane never provides.
//!
//! - By default, the plane runs the program of `tests/control-plane`, built with Go on first use.
//! - `KUBEBUILDER_ASSETS` names a directory with `etcd`, `kube-apiserver` and, for the tests that need
//!   controllers, `kube-controller-manager`, to use instead.
//! - `TEST_KUBECONFIG` names a kubeconfig: its current context is used, and no process is started. The CRD of
//!   SealedSecrets is installed in that cluster and stays there.

mod command_lines;
mod definition;
mod kubeconfig;
mod namespace;
mod own;
mod pod_network;
mod pod_token;
mod port;
pub(crate) mod process;
mod programs;
mod service_proxy;
mod settings;

use std::collections::{BTreeMap, HashSet};
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
pub use pod_token::create_pod;
pub use programs::build;

use crate::scratch::Scratch;
use own::OwnProcesses;
pub(crate) use pod_network::PodNetwork;
use programs::Programs;
pub(crate) use settings::KUBERNETES_SERVICE;

/// The verbs that [`ControlPlane::audit`] counts as writes.
const WRITE_VERBS: [&str; 4] = ["create", "update", "patch", "delete"];

/// A cluster with a running API server.
pub struct ControlPlane {
    /// The processes of the control plane; `None` for a cluster from `TEST_KUBECONFIG`.
    own: Option<OwnProcesses>,
    kubeconfig: PathBuf,
    config: Config,
    scratch: Arc<Scratch>,
}

impl ControlPlane {
    /// Returns the control plane of this test process; the first call starts it.
    ///
    /// # Panics
    /// Panics with instructions if no control plane is available.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED
            .get_or_init(async || match env::var_os("TEST_KUBECONFIG") {
                Some(path) => Self::connect(path.into()).await,
                None => Self::start().await,
            })
            .await
    }

    /// Starts a separate plane, which the caller may disturb. Dropping it stops it.
    ///
    /// # Panics
    /// Panics like [`ControlPlane::shared`], and if `TEST_KUBECONFIG` is set: tests must not disturb that cluster.
    pub async fn start() -> Self {
        assert!(
            env::var_os("TEST_KUBECONFIG").is_none(),
            "this test disturbs its control plane and needs one of its own, so it does not run against the \
             cluster of TEST_KUBECONFIG: unset TEST_KUBECONFIG, or leave the test out with `-- --skip NAME`"
        );
        let programs = Programs::find();
        let scratch = Arc::new(Scratch::new());
        let own = OwnProcesses::start(programs, scratch.clone()).await;
        let kubeconfig = own.kubeconfig();
        Self::with(Some(own), kubeconfig, scratch).await
    }

    async fn connect(kubeconfig: PathBuf) -> Self {
        let plane = Self::with(None, kubeconfig, Arc::new(Scratch::new())).await;
        plane.install(&SealedSecret::crd()).await;
        plane
    }

    async fn with(own: Option<OwnProcesses>, kubeconfig: PathBuf, scratch: Arc<Scratch>) -> Self {
        let config = kubeconfig::config(kubeconfig::read(&kubeconfig)).await;
        Self {
            own,
            kubeconfig,
            config,
            scratch,
        }
    }

    /// Returns an admin client. Each call creates a new client, because a client's connections end with the runtime of
    /// the test that opened them. It does not retry after 429, 503 or 504, as `kube` does by default.
    pub fn admin(&self) -> Client {
        client(self.config.clone())
    }

    /// Returns a client with the roles of this service account, authenticated by a token that the API server
    /// issued.
    pub async fn client_of(&self, namespace: &str, account: &str) -> Client {
        let token = self.token_of(namespace, account).await;
        client(kubeconfig::config(kubeconfig::with_token(&self.kubeconfig, &token)).await)
    }

    /// Writes a kubeconfig with a token of this service account; returns its path.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.token_of(namespace, account).await;
        let path = self
            .scratch
            .path()
            .join(format!("{namespace}.{account}.kubeconfig"));
        let text = kubeconfig::text(&kubeconfig::with_token(&self.kubeconfig, &token));
        fs::write(&path, text).expect("a writable directory");
        path
    }

    /// Returns a token of this service account for the API server.
    pub async fn token_of(&self, namespace: &str, account: &str) -> String {
        self.token_for(namespace, account, &[]).await
    }

    /// Returns a token of this service account for these audiences; for the API server if the list is empty.
    pub async fn token_for(&self, namespace: &str, account: &str, audiences: &[&str]) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), namespace);
        let mut request = TokenRequest::default();
        request.spec.audiences = audiences.iter().map(|name| (*name).to_owned()).collect();
        let response = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await;
        let response =
            response.unwrap_or_else(|error| panic!("no token for {namespace}/{account}: {error}"));
        response
            .status
            .expect("the API server sets the status")
            .token
    }

    /// Returns the directory of etcd's data.
    ///
    /// # Panics
    /// Panics in a cluster from `TEST_KUBECONFIG`, whose data is not accessible.
    pub fn etcd_data(&self) -> PathBuf {
        let own = self.own.as_ref().expect("this process started the plane");
        own.etcd_data()
    }

    /// Returns the path of a kubeconfig with admin permissions.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the CA that issued the API server's certificate, as PEM.
    ///
    /// # Panics
    /// Panics if the kubeconfig contains no CA.
    pub fn authority(&self) -> Vec<u8> {
        let authorities = self.config.root_cert.as_ref().expect("tests use TLS");
        let pem = authorities.iter().map(|der| {
            let body = STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        });
        pem.collect::<String>().into_bytes()
    }

    /// Returns host and port of the API server.
    ///
    /// # Panics
    /// Panics if the kubeconfig contains no server.
    pub fn address(&self) -> (String, String) {
        let url = &self.config.cluster_url;
        let port = url.port_u16().unwrap_or(443);
        (url.host().expect("a server").to_owned(), port.to_string())
    }

    /// Creates a namespace whose name starts with `purpose`.
    pub async fn namespace(&self, purpose: &str) -> Namespace<'_> {
        Namespace::create(self, purpose).await
    }

    /// Returns the namespace in which `kubeseal` searches for a controller by default. It belongs to the cluster and is
    /// not deleted.
    pub fn kube_system(&self) -> Namespace<'_> {
        self.existing("kube-system")
    }

    /// Returns a namespace that already exists.
    pub fn existing(&self, name: &str) -> Namespace<'_> {
        Namespace::existing(self, name)
    }

    /// Prepares the plane for nodes: starts the scheduler and more controllers on the first call. Returns the network
    /// to which a node is added.
    ///
    /// # Panics
    /// Panics in a cluster from `TEST_KUBECONFIG`, to which the tests add no nodes.
    pub(crate) fn enable_nodes(&self) -> &PodNetwork {
        let own = self.own.as_ref().unwrap_or_else(|| {
            panic!(
                "this test adds a node to its control plane, which it does not do in the cluster of TEST_KUBECONFIG: \
                 unset TEST_KUBECONFIG, or leave the test out with `-- --skip NAME`"
            )
        });
        own.start_workload_processes();
        own.pod_network()
    }

    /// Returns a kubeconfig with admin permissions for a node, which reaches the API server as its Pods do.
    pub(crate) fn kubeconfig_in_node(&self) -> String {
        let server = format!("https://{KUBERNETES_SERVICE}");
        let kubeconfig = kubeconfig::for_server(&self.kubeconfig, &server, &self.authority());
        kubeconfig::text(&kubeconfig)
    }

    /// Returns whether this process started the plane, so that its API server can reach processes of this
    /// machine.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Installs or replaces a custom resource definition, and waits until the API server serves it. The CRD
    /// of SealedSecrets, as `shared` defines it, exists from the start.
    pub async fn install(&self, definition: &CustomResourceDefinition) {
        definition::install(self.admin(), definition).await;
    }

    /// Kills the API server and restarts it at the same address; returns once it responds.
    pub async fn restart_api_server(&mut self) {
        self.stop_api_server();
        self.start_api_server().await;
    }

    /// Restarts the API server with the admission plug-in `EventRateLimit`, which rejects events of a namespace above
    /// `per_second` (after a burst of twice as many) with 429. Returns once the API server responds.
    pub async fn limit_events(&mut self, per_second: u32) {
        self.own_mut().limit_events(per_second);
        self.restart_api_server().await;
    }

    /// Kills the API server.
    pub fn stop_api_server(&mut self) {
        self.own_mut().stop_api_server();
    }

    /// Starts the API server again at the same address; returns once it responds.
    pub async fn start_api_server(&mut self) {
        self.own_mut().start_api_server().await;
    }

    /// Kills etcd. The API server continues to respond, mostly with errors.
    pub fn stop_etcd(&mut self) {
        self.own_mut().stop_etcd();
    }

    /// Starts etcd again with all its data; returns when the API server is ready.
    pub async fn start_etcd(&mut self) {
        self.own_mut().start_etcd().await;
    }

    /// Suspends the API server's process (SIGSTOP); its connections stay open, as if its machine hung.
    pub fn pause(&mut self) {
        self.own_mut().signal_api_server(Signal::STOP);
    }

    /// Returns the create, update, patch and delete requests of service accounts so far, in the order of the API
    /// server's audit log (events of `audit.k8s.io/v1`).
    ///
    /// # Panics
    /// Panics in a cluster from `TEST_KUBECONFIG`, whose audit log is not accessible.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let is_write = |event: &serde_json::Value| {
            let verb = event["verb"].as_str();
            verb.is_some_and(|verb| WRITE_VERBS.contains(&verb))
        };
        self.audit_events().into_iter().filter(is_write).collect()
    }

    /// Returns how many requests service accounts have sent so far. A watch counts once, when it begins.
    ///
    /// # Panics
    /// Panics like [`ControlPlane::audit`].
    pub fn count_requests(&self) -> usize {
        let events = self.audit_events();
        let ids = events.iter().filter_map(|event| event["auditID"].as_str());
        ids.collect::<HashSet<_>>().len()
    }

    /// Returns how many requests a service account has sent so far, by verb and resource, like `list pods`. `user` is
    /// its full name.
    ///
    /// # Panics
    /// Panics like [`ControlPlane::audit`].
    pub fn count_requests_of(&self, user: &str) -> BTreeMap<String, usize> {
        let (mut ids, mut requests) = (HashSet::new(), BTreeMap::new());
        for event in self.audit_events() {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            if event["user"]["username"] == user && ids.insert(text(&event["auditID"])) {
                let resource = &event["objectRef"]["resource"];
                let request = format!("{} {}", text(&event["verb"]), text(resource));
                *requests.entry(request).or_insert(0) += 1;
            }
        }
        requests
    }

    fn audit_events(&self) -> Vec<serde_json::Value> {
        let own = self
            .own
            .as_ref()
            .expect("this process started the control plane");
        let text =
            fs::read_to_string(own.audit_log()).expect("the API server writes the audit log");
        let events = text.lines().map(serde_json::from_str);
        events.map_while(Result::ok).collect()
    }

    /// Resumes the API server's process after [`ControlPlane::pause`].
    pub fn resume(&mut self) {
        self.own_mut().signal_api_server(Signal::CONT);
    }

    fn own_mut(&mut self) -> &mut OwnProcesses {
        self.own
            .as_mut()
            .expect("only `start` returns a plane by value, and it starts processes")
    }
}

fn client(config: Config) -> Client {
    Client::try_from(config).expect("the settings were read from a usable kubeconfig")
}
