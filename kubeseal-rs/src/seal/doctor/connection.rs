//! Checks the steps between this machine and the controller.

use std::path::Path;

use kubeseal_library::cluster::{
    Access, ApiPath, Authorized, Clusters, Controller, Objects, TokenAccess, parse,
};
use kubeseal_library::keys::KeyStore;
use serde_json::Value as Json;
use shared::error_chain;

use super::findings::{Finding, Findings};
use super::keys::StoredKeys;
use super::{controller, keys};
use crate::report::ShowPath as _;
use crate::seal::doctor::Doctor;
use crate::seal::keys::{access, location_flags};

/// The remedy for an API server that stopped responding.
pub(super) const STOPPED_RESPONDING: &str = "the API server stopped responding: try again";

/// The results of the connection checks, which the check of a file uses.
#[derive(Default)]
pub(super) struct Connection {
    /// The API server; `None` without a cluster, or if a step up to the Service failed.
    pub(super) objects: Option<Objects>,
    /// The controller; `None` without a cluster, or if a step up to the controller failed.
    pub(super) controller: Option<Controller>,
    /// The controller's TLS port; `None` if the arguments do not name it.
    pub(super) authorized: Option<Authorized>,
    /// The key Secrets; empty if they were not read.
    pub(super) stored: StoredKeys,
}

impl Connection {
    /// Returns up to 500 namespaces of the cluster; none if they cannot be listed. Each call sends a request.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.objects.as_ref().map(namespaces).unwrap_or_default()
    }
}

/// Checks each step. If a step fails, the steps that depend on it are skipped. `is_by_rule` is whether a rule chose the
/// controller.
pub(super) fn check(
    args: &Doctor,
    is_by_rule: bool,
    clusters: &Clusters<'_>,
    findings: &mut Findings,
) -> Connection {
    let mut connection = Connection::default();
    let location_flags = location_flags(&args.location);
    let _ = if let Some(path) = &args.location.directory {
        check_directory(path, &location_flags, &mut connection, findings)
    } else {
        let access = Access {
            by_token: TokenAccess {
                is_by_rule,
                ..args.tls_port.token_access()
            },
            ..access(&args.location, clusters.environment)
        };
        check_cluster(
            (&access, clusters),
            &location_flags,
            &mut connection,
            findings,
        )
    };
    connection
}

/// Checks the keys in the directory of a controller. Returns `None` if they cannot be read, or if there is no sealing
/// key.
fn check_directory(
    path: &Path,
    location_flags: &str,
    connection: &mut Connection,
    findings: &mut Findings,
) -> Option<()> {
    let stored = KeyStore::directory(path).and_then(|store| StoredKeys::read(&store));
    let finding = match &stored {
        Ok(_) => Finding::good(path.shown()),
        Err(error) => Finding::bad(
            error_chain(error.as_ref()),
            "pass the directory of the controller with --directory",
        ),
    };
    findings.add("directory", finding)?;
    connection.stored = stored.ok()?;
    let remedy = keys::restore_step(location_flags);
    keys::check_states(
        &connection.stored,
        None,
        (&remedy, location_flags),
        findings,
    )
}

/// Checks the kubeconfig, the API server, the CRD, the Service and the controller and, if none of these steps fails,
/// the certificate and the keys. Returns `None` if a step before the controller failed.
fn check_cluster(
    (access, clusters): (&Access, &Clusters<'_>),
    location_flags: &str,
    connection: &mut Connection,
    findings: &mut Findings,
) -> Option<()> {
    let objects = Objects::connect(access, clusters);
    findings.add("kubeconfig", check_kubeconfig(objects.as_ref()))?;
    let objects = objects.ok()?;
    findings.add("API server", check_api_server(&objects))?;
    findings.add("SealedSecret CRD", check_definition(&objects))?;
    findings.add("Service", check_service(&objects, access))?;
    let (controller, finding) = controller::check(&objects, access, clusters);
    if findings.add("controller", finding).is_some() {
        let (served, finding) = controller::check_certificate(&objects, access);
        findings.add("certificate", finding);
        connection.stored = keys::check(
            (access, clusters),
            location_flags,
            served.as_ref(),
            findings,
        );
    }
    (connection.objects, connection.controller) = (Some(objects), controller);
    Some(())
}

fn check_kubeconfig(
    objects: Result<&Objects, &kubeseal_library::cluster::ClusterError>,
) -> Finding {
    match objects {
        Ok(objects) => Finding::good(format!("API server {}", objects.server())),
        Err(error) => Finding::bad(
            error_chain(error),
            "select a file with --kubeconfig or KUBECONFIG, and one of its contexts with --context; \
             `kubectl config get-contexts` lists them",
        ),
    }
}

fn check_api_server(objects: &Objects) -> Finding {
    match objects.get_raw(&ApiPath::fixed("/api")) {
        Ok((200, body)) if has_kind(&body) => Finding::good("reachable, authenticated"),
        Ok((200, _)) => Finding::bad(
            "does not respond like a Kubernetes API server",
            "check that no proxy or login page responds in place of the API server: `kubectl get --raw /api`",
        ),
        // A user who may not list the API versions may still read the Service.
        Ok((403, _)) => Finding::good("reachable"),
        Ok((401, _)) => Finding::bad(
            "authentication failed (401)",
            "the credentials may have expired: fetch the kubeconfig again, or log in again",
        ),
        Ok((code, _)) => Finding::bad(
            format!("returns {code} for the API discovery path"),
            "check whether the address belongs to an API server: `kubectl cluster-info`",
        ),
        Err(error) => Finding::bad(
            error_chain(&error),
            "check whether the cluster is running and its address is correct: `kubectl cluster-info`",
        ),
    }
}

fn has_kind(body: &[u8]) -> bool {
    parse(body).is_ok_and(|json| json["kind"].is_string())
}

fn check_definition(objects: &Objects) -> Finding {
    match objects.get_raw(&ApiPath::fixed("/apis/bitnami.com/v1alpha1")) {
        Ok((200, body)) if has_kind(&body) => Finding::good("installed"),
        Ok((404, _)) => Finding::bad(
            "not installed in the cluster",
            "apply it: kubectl apply -f deploy/crd.yaml",
        ),
        _ => Finding::skipped("cannot be read"),
    }
}

fn check_service(objects: &Objects, access: &Access) -> Finding {
    let Access {
        namespace,
        name: service,
        ..
    } = access;
    let title = format!("{namespace}/{service}");
    let remedy = "select the Service of the controller with --controller-namespace and --controller-name; \
                     `kubectl get services -A` lists them";
    let services = ApiPath::namespaced("/api/v1", namespace, "services");
    let response = services
        .and_then(|services| services.object(service))
        .and_then(|path| objects.get_raw(&path));
    match response {
        Ok((200, body)) if has_ports(&body) => Finding::good(title),
        Ok((200, _)) => Finding::bad(format!("{title} has no ports"), remedy),
        Ok((404, _)) => Finding::bad(format!("{title} not found"), remedy),
        Ok((403, _)) => Finding::skipped(format!("no permission to read {title}")),
        Ok((code, _)) => Finding::bad(
            format!("{title}: the API server returns {code}"),
            "check the log of the API server",
        ),
        Err(error) => Finding::bad(error_chain(&error), STOPPED_RESPONDING),
    }
}

fn has_ports(service: &[u8]) -> bool {
    let service: Json = parse(service).unwrap_or_default();
    service["spec"]["ports"].get(0).is_some()
}

fn namespaces(objects: &Objects) -> Vec<String> {
    let path = ApiPath::fixed("/api/v1/namespaces").parameter("limit", "500");
    let Ok((200, body)) = objects.get_raw(&path) else {
        return Vec::new();
    };
    let list: Json = parse(&body).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Json| item["metadata"]["name"].as_str().map(str::to_owned);
    items.iter().filter_map(name).collect()
}
