//! Gets the certificate of a cluster's controller, and compares it with the cached one.
//!
//! The certificate is fetched from the named controller through the service proxy. If the user named no controller and
//! the default Service does not exist, a Service with a controller's labels is tried. If the service proxy cannot be
//! used, or RBAC forbids reading the Service, the `ConfigMap` in which controllers publish their certificate is tried.
//! Accounts other than the controller's can create such a Service or `ConfigMap`, so a certificate found there is used
//! only if its fingerprint was specified or is pinned for this Service.

use shared::key::Certificate;

use super::cache::Cache;
use super::trust::{
    self, AcceptedFingerprint, CacheKind, Discovery, accepted_by, cache_kind, judge,
};
use super::{CertificateQuery, ObtainError, ObtainedCertificate, Origin};
use crate::cluster::{Access, Address, Cluster, ClusterError, Clusters, NoService, Service};
use crate::environment::Environment;

/// The item of the `ConfigMap` with the published certificate; see [`Service::config_map_name`].
const CONFIG_MAP_ITEM: &str = "cert.pem";

/// A certificate found in the cluster.
struct ClusterCertificate {
    pem: Vec<u8>,
    discovery: Discovery,
    /// The Service that the certificate is for.
    service: Service,
    /// Where the certificate was found, for messages.
    location: String,
}

/// A certificate to cache. The cache has no certificate of this kind for the controller, or one with another key.
pub struct NewCacheEntry {
    cache: Cache,
    kind: CacheKind,
    service: Service,
    certificate: Certificate,
}

impl NewCacheEntry {
    /// Caches the certificate. Returns a remark if that fails and stderr is a terminal: scripts in containers without a
    /// home directory would print the remark at every run.
    pub fn save(self, environment: &Environment) -> Option<String> {
        let saved = self
            .cache
            .remember(self.kind, &self.service, &self.certificate);
        let error = saved.err()?;
        environment.stderr_is_terminal.then(|| {
            format!(
                "cannot cache the certificate, so a change will not be detected: {}",
                shared::error_chain(&error)
            )
        })
    }
}

/// Gets the certificate from the cluster. The caller caches it with [`NewCacheEntry::save`].
///
/// # Errors
///
/// Returns an [`ObtainError`] if the certificate cannot be obtained or parsed, or is not trusted.
pub fn fetch(
    query: &CertificateQuery,
    clusters: &Clusters<'_>,
) -> Result<(ObtainedCertificate, Option<NewCacheEntry>), ObtainError> {
    let environment = clusters.environment;
    let cluster = clusters.connect(&query.access)?;
    let cache = Cache::for_cluster(environment.cache_directory().as_deref(), cluster.address());
    let cluster_certificate =
        find_certificate(&cluster, &query.access, &query.fingerprints, &cache)?;
    accept(cluster_certificate, query, cache, environment)
}

/// Returns the pinned certificate of the controller, without network access and without credentials.
pub(super) fn cached_certificate(
    access: &Access,
    environment: &Environment,
) -> Result<ObtainedCertificate, ObtainError> {
    let cluster = Address::find(access, environment)?;
    let cache = Cache::for_cluster(environment.cache_directory().as_deref(), &cluster);
    let service = Service {
        namespace: access.namespace.clone(),
        name: access.name.clone(),
    };
    let pinned = cache.pin(&service);
    let pinned = pinned.ok_or_else(|| ObtainError::NotCached {
        service: service.clone(),
        server: cluster.server,
    })?;
    let since = trust::age(pinned.since, environment.now);
    Ok(ObtainedCertificate {
        pem: pinned.pem,
        origin: Origin::Local,
        remarks: vec![format!(
            "offline: sealing with the certificate of {service} that was first seen {since}, {}",
            pinned.fingerprint
        )],
    })
}

fn find_certificate(
    cluster: &Cluster,
    access: &Access,
    accepted: &[AcceptedFingerprint],
    cache: &Cache,
) -> Result<ClusterCertificate, ObtainError> {
    let controller = match cluster.controller(access) {
        Ok(controller) => controller,
        Err(ClusterError::NoService(missing)) => {
            return find_without_service(cluster, missing, accepted, cache);
        }
        Err(error) => return Err(error.into()),
    };
    match controller.certificate() {
        Ok(pem) => Ok(ClusterCertificate {
            pem,
            discovery: Discovery::Named,
            location: controller.service().to_string(),
            service: controller.service().clone(),
        }),
        Err(error @ ClusterError::Refused { .. }) => {
            published_certificate(cluster, controller.service(), &error).ok_or(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Gets the certificate when the requested Service cannot be read. Contacts another Service only if the user named no
/// controller and a fingerprint is accepted, or pinned for that Service. The certificate of that Service must match. If
/// none does, and RBAC forbids reading the requested Service, uses the `ConfigMap` of the requested Service.
fn find_without_service(
    cluster: &Cluster,
    missing: Box<NoService>,
    accepted: &[AcceptedFingerprint],
    cache: &Cache,
) -> Result<ClusterCertificate, ObtainError> {
    let candidates = missing
        .candidates
        .iter()
        .filter(|_| missing.can_use_candidate);
    for service in candidates {
        let pin = cache.pin(service).map(|pin| pin.fingerprint);
        if accepted.is_empty() && pin.is_none() {
            continue;
        }
        let pem = cluster.certificate_of(service).unwrap_or_default();
        let fingerprint = Certificate::from_pem(&pem).map(|c| c.fingerprint().clone());
        let verdict = fingerprint.map(|f| judge(&f, "", Discovery::Found, accepted, pin.as_ref()));
        if verdict.is_ok_and(|verdict| verdict.is_ok()) {
            return Ok(ClusterCertificate {
                pem,
                discovery: Discovery::Found,
                location: format!("{service}, which was found by its labels"),
                service: service.clone(),
            });
        }
    }
    if missing.is_forbidden {
        let service = missing.service.clone();
        let error = ClusterError::NoService(missing);
        return published_certificate(cluster, &service, &error).ok_or(error.into());
    }
    Err(ClusterError::NoService(missing).into())
}

/// Returns the certificate in the `ConfigMap` of the controller; `None` if it cannot be read, or if `error` is about
/// neither the service proxy nor the Service.
fn published_certificate(
    cluster: &Cluster,
    service: &Service,
    error: &ClusterError,
) -> Option<ClusterCertificate> {
    match error {
        ClusterError::Refused { problem, .. } if problem.is_unreachable() => {}
        ClusterError::NoService(_) => {}
        _ => return None,
    }
    let name = service.config_map_name();
    let pem = cluster.config_map_item(&service.namespace, &name, CONFIG_MAP_ITEM)?;
    Some(ClusterCertificate {
        pem: pem.into_bytes(),
        discovery: Discovery::Found,
        location: format!(
            "{service} in the ConfigMap {name} (used because the controller cannot be reached: {})",
            first_line(&error.to_string())
        ),
        service: service.clone(),
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Decides whether to use the certificate, and whether to cache it. If no fingerprint is required, the named
/// controller's response is accepted even if it is not a certificate: `--fetch-cert` prints it, and sealing reports why
/// it cannot be used.
fn accept(
    cluster_certificate: ClusterCertificate,
    query: &CertificateQuery,
    cache: Cache,
    environment: &Environment,
) -> Result<(ObtainedCertificate, Option<NewCacheEntry>), ObtainError> {
    let ClusterCertificate {
        pem,
        discovery,
        service,
        location,
    } = cluster_certificate;
    let accepted = &query.fingerprints;
    let (mut remarks, mut new_entry) = (Vec::new(), None);
    match Certificate::from_pem(&pem) {
        Ok(certificate) => {
            let fingerprint = certificate.fingerprint();
            let pin = cache.pin(&service).map(|pin| pin.fingerprint);
            judge(fingerprint, &location, discovery, accepted, pin.as_ref())?;
            if discovery == Discovery::Found {
                remarks.push(format!(
                    "sealing with the certificate of {location}; its fingerprint {fingerprint} is trusted"
                ));
            }
            let kind = cache_kind(
                query.named_by,
                discovery,
                accepted_by(fingerprint, accepted),
            );
            remarks.extend(cache.unreadable_remark(kind, &service));
            let last = cache.last_certificate(kind, &service);
            remarks.extend(last.as_ref().and_then(|last| {
                trust::change_warning(last, &certificate, &service, environment.now)
            }));
            if last.is_none_or(|last| &last.fingerprint != fingerprint) {
                new_entry = Some(NewCacheEntry {
                    cache,
                    kind,
                    service,
                    certificate,
                });
            }
        }
        Err(error) if discovery == Discovery::Found || !accepted.is_empty() => {
            return Err(ObtainError::Unreadable {
                location,
                source: error,
            });
        }
        Err(_) => {}
    }
    let obtained = ObtainedCertificate {
        pem,
        origin: Origin::Controller,
        remarks,
    };
    Ok((obtained, new_entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_runs_no_plug_in() {
        let directory = tempfile::tempdir().unwrap();
        let (kubeconfig, marker) = (
            directory.path().join("config"),
            directory.path().join("ran"),
        );
        let text = serde_json::json!({
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "clusters": [{"name": "a", "cluster": {"server": "https://no.such.host.example"}}],
            "users": [{"name": "a", "user": {"exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
                "command": "touch", "args": [marker],
            }}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let access = Access {
            kubeconfig: Some(kubeconfig),
            name: "seals".into(),
            namespace: "ops".into(),
            ..Access::default()
        };
        let result = cached_certificate(&access, &Environment::of_this_process());
        assert!(
            matches!(result, Err(ObtainError::NotCached { .. })),
            "{result:?}"
        );
        assert!(!marker.exists());
    }
}
