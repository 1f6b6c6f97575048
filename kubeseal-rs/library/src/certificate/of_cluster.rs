//! Gets the certificate of a cluster's controller, and compares it with the one seen before.
//!
//! The certificate is fetched from the named controller through the service proxy. If the user named
//! no controller and the default Service does not exist, a Service with a controller's labels is
//! tried; if the service proxy cannot be used, the `ConfigMap` in which controllers publish their
//! certificate. Other accounts can write to these two, so a certificate found there is used only if
//! its fingerprint was specified, or is pinned for this Service.

use shared::key::Certificate;

use super::cache::Cache;
use super::trust::{self, Memory, Vouched, Way, judge, memory, vouched_by};
use super::{ObtainError, Obtained, Origin, Wanted};
use crate::cluster::{Access, Address, Cluster, ClusterError, Clusters, NoService, Service};
use crate::environment::Environment;

/// The item of the `ConfigMap` with the published certificate; see [`config_map`].
const CONFIG_MAP_ITEM: &str = "cert.pem";

/// Returns the default name of the `ConfigMap` in which a controller publishes its certificate.
fn config_map(service: &Service) -> String {
    format!("{}-certificate", service.name)
}

/// A certificate found in the cluster.
struct Offer {
    pem: Vec<u8>,
    way: Way,
    /// The Service that claims the certificate.
    service: Service,
    /// Where it was found, for messages.
    place: String,
}

/// Gets the certificate from the cluster, and caches it.
pub(super) fn fetch(wanted: &Wanted, clusters: &Clusters<'_>) -> Result<Obtained, ObtainError> {
    let environment = clusters.environment;
    let cluster = clusters.connect(&wanted.access)?;
    let cache = Cache::of(environment.cache_folder().as_deref(), cluster.address());
    let offer = offer(&cluster, &wanted.access, &wanted.fingerprints, &cache)?;
    accept(offer, wanted, &cache, environment)
}

/// Returns the cached certificate, without network access and without credentials.
pub(super) fn last(access: &Access, environment: &Environment) -> Result<Obtained, ObtainError> {
    let cluster = Address::find(access, environment)?;
    let cache = Cache::of(environment.cache_folder().as_deref(), &cluster);
    let service = Service {
        namespace: access.namespace.clone(),
        name: access.name.clone(),
    };
    let seen = cache.pin(&service);
    let seen = seen.ok_or_else(|| ObtainError::NeverSeen {
        service: service.clone(),
        server: cluster.server,
    })?;
    let since = trust::age(seen.since, environment.now);
    Ok(Obtained {
        pem: seen.pem,
        origin: Origin::Local,
        remarks: vec![format!(
            "offline: sealing with the certificate of {service} that was first seen {since}, {}",
            seen.fingerprint
        )],
    })
}

fn offer(
    cluster: &Cluster,
    access: &Access,
    accepted: &[Vouched],
    cache: &Cache,
) -> Result<Offer, ObtainError> {
    let controller = match cluster.controller(access) {
        Ok(controller) => controller,
        Err(ClusterError::NoService(missing)) => {
            return without_service(cluster, missing, accepted, cache);
        }
        Err(error) => return Err(error.into()),
    };
    match controller.certificate() {
        Ok(pem) => Ok(Offer {
            pem,
            way: Way::Named,
            place: controller.service().to_string(),
            service: controller.service().clone(),
        }),
        Err(error @ ClusterError::Refused { .. }) => {
            published(cluster, controller.service(), &error).ok_or(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Gets the certificate when the named Service does not exist. Only the certificate of other
/// Services is requested, and only if it may match an accepted or pinned fingerprint.
fn without_service(
    cluster: &Cluster,
    missing: Box<NoService>,
    accepted: &[Vouched],
    cache: &Cache,
) -> Result<Offer, ObtainError> {
    let candidates = missing.candidates.iter().filter(|_| missing.may_be_another);
    for service in candidates {
        let pin = cache.pin(service).map(|seen| seen.fingerprint);
        if accepted.is_empty() && pin.is_none() {
            continue;
        }
        let pem = cluster.certificate_of(service).unwrap_or_default();
        let fingerprint = Certificate::from_pem(&pem).map(|c| c.fingerprint().clone());
        let judged = fingerprint.map(|f| judge(&f, "", Way::Found, accepted, pin.as_ref()));
        if judged.is_ok_and(|judged| judged.is_ok()) {
            return Ok(Offer {
                pem,
                way: Way::Found,
                place: format!("{service}, which was found by its labels"),
                service: service.clone(),
            });
        }
    }
    if missing.is_forbidden {
        let service = missing.service.clone();
        let error = ClusterError::NoService(missing);
        return published(cluster, &service, &error).ok_or(error.into());
    }
    Err(ClusterError::NoService(missing).into())
}

/// Returns the certificate that the controller publishes, if the service proxy cannot be used.
fn published(cluster: &Cluster, service: &Service, error: &ClusterError) -> Option<Offer> {
    match error {
        ClusterError::Refused { problem, .. } if problem.is_in_the_way() => {}
        ClusterError::NoService(_) => {}
        _ => return None,
    }
    let name = config_map(service);
    let pem = cluster.config_map_item(&service.namespace, &name, CONFIG_MAP_ITEM)?;
    Some(Offer {
        pem: pem.into_bytes(),
        way: Way::Found,
        place: format!(
            "{service} in the ConfigMap {name} (the service proxy failed: {})",
            first_line(&error.to_string())
        ),
        service: service.clone(),
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Decides whether to use the certificate, and caches it. The named controller's response is accepted
/// even if it is not a certificate: `--fetch-cert` prints it, and sealing reports why it cannot be
/// used.
fn accept(
    offer: Offer,
    wanted: &Wanted,
    cache: &Cache,
    environment: &Environment,
) -> Result<Obtained, ObtainError> {
    let Offer {
        pem,
        way,
        service,
        place,
    } = offer;
    let accepted = &wanted.fingerprints;
    let mut remarks = Vec::new();
    match Certificate::from_pem(&pem) {
        Ok(certificate) => {
            let fingerprint = certificate.fingerprint();
            let pin = cache.pin(&service).map(|seen| seen.fingerprint);
            judge(fingerprint, &place, way, accepted, pin.as_ref())?;
            if way == Way::Found {
                remarks.push(format!(
                    "sealing with the certificate of {place}; its fingerprint {fingerprint} is trusted"
                ));
            }
            let memory = memory(wanted.named_by, way, vouched_by(fingerprint, accepted));
            let last = cache.last(memory, &service);
            remarks.extend(
                last.as_ref()
                    .and_then(|last| trust::change(last, &certificate, &service, environment.now)),
            );
            if last.is_none_or(|last| &last.fingerprint != fingerprint) {
                remarks.extend(remember(cache, memory, &service, &certificate, environment));
            }
        }
        Err(error) if way == Way::Found || !accepted.is_empty() => {
            return Err(ObtainError::Unreadable {
                place,
                source: error,
            });
        }
        Err(_) => {}
    }
    Ok(Obtained {
        pem,
        origin: Origin::Controller,
        remarks,
    })
}

/// Caches a certificate. A failure is reported only on a terminal: scripts in containers without a
/// home folder would report it at every run.
fn remember(
    cache: &Cache,
    memory: Memory,
    service: &Service,
    certificate: &Certificate,
    environment: &Environment,
) -> Option<String> {
    let error = cache.remember(memory, service, certificate).err()?;
    environment.stderr_is_terminal.then(|| {
        format!(
            "cannot cache the certificate, so a change will not be detected: {}",
            shared::error_chain(&error)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_runs_no_plug_in() {
        let folder = tempfile::tempdir().unwrap();
        let (kubeconfig, ran) = (folder.path().join("config"), folder.path().join("ran"));
        let text = serde_json::json!({
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "clusters": [{"name": "a", "cluster": {"server": "https://no.such.host.example"}}],
            "users": [{"name": "a", "user": {"exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
                "command": "touch", "args": [ran],
            }}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let access = Access {
            kubeconfig: Some(kubeconfig),
            name: "seals".into(),
            namespace: "ops".into(),
            ..Access::default()
        };
        let seen = last(&access, &Environment::of_this_process());
        assert!(
            matches!(seen, Err(ObtainError::NeverSeen { .. })),
            "{seen:?}"
        );
        assert!(!ran.exists());
    }
}
