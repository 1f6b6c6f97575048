//! The files and secrets that the processes of a control plane share, new for every control plane.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

use super::command_lines::ADMISSION;
use super::kubeconfig;
use super::port::Port;

/// The address of the Service `kubernetes`: the first of the API server's `--service-cluster-ip-range`.
pub(crate) const KUBERNETES_SERVICE: SocketAddrV4 =
    SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 1), 443);

/// The directory with the files, and the ports. Only this user can read the directory, so it may contain secrets.
pub(super) struct Settings {
    directory: PathBuf,
    pub(super) api_port: Port,
    pub(super) etcd_port: Port,
    pub(super) etcd_peer_port: Port,
    /// Whether the API server limits the rate of events, see [`Self::limit_events`].
    pub(super) limits_events: bool,
}

impl Settings {
    /// Chooses ports, generates certificates and tokens, and writes them to `directory`.
    pub(super) fn write(directory: &Path) -> Self {
        let settings = Self {
            directory: directory.to_owned(),
            api_port: Port::choose(),
            etcd_port: Port::choose(),
            etcd_peer_port: Port::choose(),
            limits_events: false,
        };
        settings.write_certificates();
        settings.write_service_account_key();
        settings.write_users();
        settings.write_pod_network();
        settings.write_audit_policy();
        settings
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn admin_kubeconfig(&self) -> PathBuf {
        self.file("admin.kubeconfig")
    }

    pub(super) fn pod_network_socket(&self) -> PathBuf {
        self.file("pods.sock")
    }

    fn store(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file(name), content).expect("a writable directory");
    }

    fn write_certificates(&self) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, key()).expect("a valid certificate");
        self.store("authority.crt", authority.pem());
        let service = KUBERNETES_SERVICE.ip().to_string();
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc", &service];
        self.write_certificate("server", &names, &authority);
        self.write_certificate("kubelet-client", &[], &authority);
    }

    fn write_certificate(
        &self,
        name: &str,
        names: &[&str],
        authority: &CertifiedIssuer<'_, KeyPair>,
    ) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("valid names");
        let key = key();
        let certificate = params.signed_by(&key, authority);
        let certificate = certificate.expect("a valid certificate");
        self.store(&format!("{name}.crt"), certificate.pem());
        self.store(&format!("{name}.key"), key.serialize_pem());
    }

    fn write_service_account_key(&self) {
        let key = key();
        self.store("service-account.key", key.serialize_pem());
        self.store("service-account.pub", key.public_key_pem());
    }

    /// Writes two users with all permissions. The controllers have no separate roles, for a faster start.
    fn write_users(&self) {
        let lines = ["admin", "controllers"].map(|user| {
            let token = format!("{:032x}", shared::random::number::<u128>());
            self.write_kubeconfig(user, &token);
            format!("{token},{user},{user},system:masters\n")
        });
        self.store("users.csv", lines.concat());
    }

    fn write_kubeconfig(&self, user: &str, token: &str) {
        let server = format!("https://127.0.0.1:{}", self.api_port.number());
        let kubeconfig = kubeconfig::new(&server, &self.file("authority.crt"), token);
        self.store(&format!("{user}.kubeconfig"), kubeconfig::text(&kubeconfig));
    }

    /// Writes a policy that records each request of a service account, without its content.
    fn write_audit_policy(&self) {
        let accounts = ["system:serviceaccounts"];
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [
                { "level": "Metadata", "userGroups": accounts },
                { "level": "None" },
            ],
        });
        self.store("audit.yaml", policy.to_string());
    }

    /// Configures the next start of the API server to reject events of a namespace above `per_second`.
    pub(super) fn limit_events(&mut self, per_second: u32) {
        let limit = json!({ "type": "Namespace", "qps": per_second, "burst": 2 * per_second });
        let configuration = json!({
            "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
            "kind": "Configuration",
            "limits": [limit],
        });
        let admission = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AdmissionConfiguration",
            "plugins": [{ "name": "EventRateLimit", "configuration": configuration }],
        });
        self.store(ADMISSION, admission.to_string());
        self.limits_events = true;
    }

    /// Writes a configuration that sends the API server's traffic for Pods, Services and nodes through the socket of
    /// [`super::pod_network`].
    fn write_pod_network(&self) {
        let uds = json!({ "udsName": self.pod_network_socket() });
        let connection = json!({ "proxyProtocol": "HTTPConnect", "transport": { "uds": uds } });
        let configuration = json!({
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{ "name": "cluster", "connection": connection }],
        });
        self.store("egress.yaml", configuration.to_string());
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}
