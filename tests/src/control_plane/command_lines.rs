//! The command lines of the processes of a control plane.

use std::process::Command;

use super::programs::Programs;
use super::settings::Settings;

/// The file in which the API server records each request of a service account.
pub(super) const AUDIT_LOG: &str = "audit.log";

/// The file with the configuration of admission plug-ins.
pub(super) const ADMISSION: &str = "admission.yaml";

/// Returns the command for etcd. It runs without fsync, because the data need not survive a crash of the machine.
pub(super) fn etcd(programs: &Programs, settings: &Settings) -> Command {
    let client = format!("http://127.0.0.1:{}", settings.etcd_port.number());
    let peer = format!("http://127.0.0.1:{}", settings.etcd_peer_port.number());
    let mut command = programs.command("etcd");
    command
        .arg("--data-dir")
        .arg(settings.file("etcd"))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .args([
            "--unsafe-no-fsync",
            "--socket-reuse-port",
            "--log-level=warn",
        ]);
    command
}

/// Returns the command for the API server. It runs without an endpoint reconciler, because a Pod could not use its
/// address.
pub(super) fn api_server(programs: &Programs, settings: &Settings) -> Command {
    let file = |flag: &str, name: &str| format!("--{flag}={}", settings.file(name).display());
    let mut command = programs.command("kube-apiserver");
    command
        .arg(format!(
            "--etcd-servers=http://127.0.0.1:{}",
            settings.etcd_port.number()
        ))
        .arg(format!("--secure-port={}", settings.api_port.number()))
        .args([
            "--permit-port-sharing",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
        ])
        .args([
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
        ])
        .args([
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
        ])
        .arg(file("tls-cert-file", "server.crt"))
        .arg(file("tls-private-key-file", "server.key"))
        .arg(file("token-auth-file", "users.csv"))
        .arg(file("service-account-key-file", "service-account.pub"))
        .arg(file(
            "service-account-signing-key-file",
            "service-account.key",
        ))
        .arg(file("kubelet-client-certificate", "kubelet-client.crt"))
        .arg(file("kubelet-client-key", "kubelet-client.key"))
        .arg("--kubelet-preferred-address-types=InternalIP")
        .arg(file("egress-selector-config-file", "egress.yaml"))
        .arg(file("audit-policy-file", "audit.yaml"))
        .arg(file("audit-log-path", AUDIT_LOG));
    if settings.limits_events {
        command
            .arg("--enable-admission-plugins=EventRateLimit")
            .arg(file("admission-control-config-file", ADMISSION));
    }
    command
}

/// Returns the command for the controller manager with only the controllers that tests need: the garbage collector for
/// owner references, the namespace controller to empty deleted namespaces, the service account controller, without
/// which no Pod is admitted, and the token controller, which adds tokens to Secrets.
pub(super) fn controllers(programs: &Programs, settings: &Settings) -> Command {
    let file = |flag: &str, name: &str| format!("--{flag}={}", settings.file(name).display());
    let mut command = controller_manager(
        programs,
        settings,
        &[
            "garbage-collector-controller",
            "namespace-controller",
            "serviceaccount-controller",
            "serviceaccount-token-controller",
        ],
    );
    command.arg(file("root-ca-file", "authority.crt")).arg(file(
        "service-account-private-key-file",
        "service-account.key",
    ));
    command
}

/// Returns the command for a second controller manager, for planes with nodes: it creates the Pods of Deployments and
/// `DaemonSets`, maintains the endpoints of Services, publishes the CA certificate in every namespace, and lets Pods be
/// scheduled to ready nodes.
pub(super) fn workload_controllers(programs: &Programs, settings: &Settings) -> Command {
    let mut command = controller_manager(
        programs,
        settings,
        &[
            "daemonset-controller",
            "deployment-controller",
            "replicaset-controller",
            "endpoints-controller",
            "endpointslice-controller",
            "root-ca-certificate-publisher-controller",
            "node-lifecycle-controller",
        ],
    );
    let authority = settings.file("authority.crt");
    command.arg(format!("--root-ca-file={}", authority.display()));
    command
}

fn controller_manager(programs: &Programs, settings: &Settings, controllers: &[&str]) -> Command {
    let mut command = programs.command("kube-controller-manager");
    command
        .arg("--kubeconfig")
        .arg(settings.file("controllers.kubeconfig"))
        .arg(format!("--controllers={}", controllers.join(",")))
        .args(["--leader-elect=false", "--secure-port=0"]);
    command
}

/// Returns the command for the scheduler.
pub(super) fn scheduler(programs: &Programs, settings: &Settings) -> Command {
    let mut command = programs.command("kube-scheduler");
    command
        .arg("--kubeconfig")
        .arg(settings.file("controllers.kubeconfig"))
        .args(["--leader-elect=false", "--secure-port=0"]);
    command
}
