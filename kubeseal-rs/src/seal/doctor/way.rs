//! Checks the steps between this machine and the controller.

use std::path::Path;

use kubeseal_library::cluster::{Access, Authorised, Clusters, Controller, Objects, parse};
use kubeseal_library::keys::{KeyRecord, KeyStore};
use serde_json::Value as Json;
use shared::error_chain;

use super::findings::{Findings, Found};
use super::{controller, keys};
use crate::report::ShowPath as _;
use crate::seal::keys::{access, again};
use crate::seal_args::Doctor;

/// The remedy for an API server that stopped answering.
pub(super) const WENT_AWAY: &str = "the API server went away meanwhile: try again";

/// The results of the steps that the check of a file uses.
#[derive(Default)]
pub(super) struct Way {
    /// The API server, if it answers.
    pub(super) objects: Option<Objects>,
    /// The controller, if it answers.
    pub(super) controller: Option<Controller>,
    /// The controller's port for callers with a token, if the arguments name it.
    pub(super) authorised: Option<Authorised>,
    /// The key Secrets, if the user may read them.
    pub(super) records: Vec<KeyRecord>,
}

impl Way {
    /// Returns the namespaces of the cluster, if it answers and the user may list them. Each call sends a request.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.objects.as_ref().map(namespaces).unwrap_or_default()
    }
}

/// Checks each step, and stops at the first failure.
pub(super) fn look(args: &Doctor, clusters: &Clusters<'_>, findings: &mut Findings) -> Way {
    let mut way = Way::default();
    let again = again(&args.place);
    let _ = if let Some(folder) = &args.place.directory {
        directory(folder, &again, &mut way, findings)
    } else {
        let access = Access {
            by_token: args.asking.by_token(),
            ..access(&args.place, clusters.environment)
        };
        cluster((&access, clusters), &again, &mut way, findings)
    };
    way
}

/// Checks the keys of a folder. Returns `None` after a failure.
fn directory(folder: &Path, again: &str, way: &mut Way, findings: &mut Findings) -> Option<()> {
    let records = KeyStore::folder(folder).and_then(|store| store.read());
    let found = match &records {
        Ok(_) => Found::good(folder.shown()),
        Err(error) => Found::bad(
            error_chain(error.as_ref()),
            "name the folder that the controller got with --directory",
        ),
    };
    findings.add("folder", found)?;
    way.records = records.ok()?;
    let remedy = "put a backup into DIR/keys, or start the controller, which makes a key";
    keys::judge(&way.records, None, (remedy, again), findings)
}

/// Checks the cluster and the controller. Returns `None` after a failure.
fn cluster(
    (access, clusters): (&Access, &Clusters<'_>),
    again: &str,
    way: &mut Way,
    findings: &mut Findings,
) -> Option<()> {
    let objects = Objects::connect(access, clusters);
    findings.add("kubeconfig", kubeconfig(objects.as_ref()))?;
    let objects = objects.ok()?;
    findings.add("API server", api_server(&objects))?;
    findings.add("definition of SealedSecret", definition(&objects))?;
    findings.add("Service", service(&objects, access))?;
    let (controller, found) = controller::look(&objects, access, clusters);
    if findings.add("controller", found).is_some() {
        let (served, found) = controller::certificate(&objects, access);
        findings.add("certificate", found);
        way.records = keys::look((access, clusters), again, served.as_ref(), findings);
    }
    (way.objects, way.controller) = (Some(objects), controller);
    Some(())
}

fn kubeconfig(objects: Result<&Objects, &kubeseal_library::cluster::ClusterError>) -> Found {
    match objects {
        Ok(objects) => Found::good(format!("leads to {}", objects.server())),
        Err(error) => Found::bad(
            error_chain(error),
            "name another with --kubeconfig or KUBECONFIG, and a context of it with --context; \
             `kubectl config get-contexts` lists them",
        ),
    }
}

fn api_server(objects: &Objects) -> Found {
    match objects.look("/api") {
        Ok((200, _)) => Found::good("answers, and knows who you are"),
        // A user who may not list the API versions may still read the Service.
        Ok((403, _)) => Found::good("answers"),
        Ok((401, _)) => Found::bad(
            "does not know who you are (401)",
            "the kubeconfig is out of date: fetch it again, or log in again",
        ),
        Ok((code, _)) => Found::bad(
            format!("answers {code} where an API server says what it serves"),
            "is that the address of an API server? See `kubectl cluster-info`",
        ),
        Err(error) => Found::bad(
            error_chain(&error),
            "is the cluster up, and is its address right? Try `kubectl cluster-info`",
        ),
    }
}

fn definition(objects: &Objects) -> Found {
    match objects.look("/apis/bitnami.com/v1alpha1") {
        Ok((200, _)) => Found::good("is there"),
        Ok((404, _)) => Found::bad(
            "the cluster does not know the kind",
            "apply the definition: kubectl apply -f deploy/crd.yaml",
        ),
        _ => Found::skipped("may not be seen"),
    }
}

fn service(objects: &Objects, access: &Access) -> Found {
    let Access {
        namespace,
        name: service,
        ..
    } = access;
    let title = format!("{namespace}/{service}");
    let elsewhere = "name the controller's with --controller-namespace and --controller-name; \
                     `kubectl get services -A` lists them";
    match objects.look(&format!(
        "/api/v1/namespaces/{namespace}/services/{service}"
    )) {
        Ok((200, body)) if has_ports(&body) => Found::good(title),
        Ok((200, _)) => Found::bad(format!("{title} has no ports"), elsewhere),
        Ok((404, _)) => Found::bad(format!("{title} is not there"), elsewhere),
        Ok((403, _)) => Found::skipped(format!("you may not see {title}")),
        Ok((code, _)) => Found::bad(
            format!("{title}: the API server answers {code}"),
            "see the log of the API server",
        ),
        Err(error) => Found::bad(error_chain(&error), WENT_AWAY),
    }
}

fn has_ports(service: &[u8]) -> bool {
    let service: Json = parse(service).unwrap_or_default();
    service["spec"]["ports"].get(0).is_some()
}

fn namespaces(objects: &Objects) -> Vec<String> {
    let Ok((200, body)) = objects.look("/api/v1/namespaces?limit=500") else {
        return Vec::new();
    };
    let list: Json = parse(&body).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Json| item["metadata"]["name"].as_str().map(str::to_owned);
    items.iter().filter_map(name).collect()
}
