//! Asks a controller which keys it seals with. The response is not authenticated, so it never permits an action that is
//! refused without a response.

use kubeseal_library::cluster::{ClusterError, Clusters, Controller};
use kubeseal_library::keys::{KeyRecord, V2KeyRecord};
use kubeseal_library::recipients;
use shared::error_chain;
use shared::key::{Certificate, Fingerprint};
use shared::v2::{KeyId, Recipient as _, Suite};

use super::{access, warn};
use crate::seal_args::KeyLocation;

/// The keys that a controller seals with.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// The key whose certificate the controller serves; `None` if it is unknown.
    pub(super) certificate: Option<Fingerprint>,
    /// The key that the controller prefers for v2 values; `None` if it is unknown.
    pub(super) preferred: Option<(Suite, KeyId)>,
}

impl Served {
    /// Asks the controller. With `--directory`, returns no keys. Asks about v2 keys only if the store contains v2 keys.
    pub(super) fn find(
        location: &KeyLocation,
        clusters: &Clusters<'_>,
        rsa: &[KeyRecord],
        v2: &[V2KeyRecord],
    ) -> Self {
        if location.directory.is_some() {
            return Self::default();
        }
        let access = access(location, clusters.environment);
        let controller = match Controller::find(&access, clusters) {
            Ok(controller) => controller,
            Err(error) => {
                warn_unknown("certificate", "the newest key seals", &error);
                return Self::default();
            }
        };
        Self {
            certificate: certificate(&controller),
            preferred: if v2.is_empty() {
                None
            } else {
                preferred(&controller, clusters, &ids(rsa, v2))
            },
        }
    }

    pub(super) fn preferred_id(&self) -> Option<KeyId> {
        self.preferred.map(|(_, id)| id)
    }
}

fn ids(rsa: &[KeyRecord], v2: &[V2KeyRecord]) -> Vec<KeyId> {
    let rsa = rsa.iter().filter_map(|record| record.key.as_ref().ok());
    let rsa = rsa.map(|key| key.key_id());
    rsa.chain(v2.iter().filter_map(V2KeyRecord::key_id))
        .collect()
}

fn certificate(controller: &Controller) -> Option<Fingerprint> {
    match controller.certificate() {
        Ok(pem) => fingerprint_of(&pem),
        Err(error) => {
            warn_unknown("certificate", "the newest key seals", &error);
            None
        }
    }
}

pub(super) fn fingerprint_of(pem: &[u8]) -> Option<Fingerprint> {
    let certificate = Certificate::from_pem(pem).ok()?;
    Some(certificate.fingerprint().clone())
}

/// Returns the preferred key for v2 values, if the store has it.
fn preferred(
    controller: &Controller,
    clusters: &Clusters<'_>,
    stored: &[KeyId],
) -> Option<(Suite, KeyId)> {
    let assumption = "the controller prefers the newest key of each suite";
    let list = controller.recipients();
    let list = list
        .map_err(|error| warn_unknown("keys for v2 values", assumption, &error))
        .ok()?;
    let key = match recipients::from_list(&list, clusters.environment.now) {
        Ok(key) => key,
        Err(error) => {
            warn(&format!(
                "cannot use the controller's keys for v2 values: {}; assuming that {assumption}",
                error_chain(&error)
            ));
            return None;
        }
    };
    let (suite, id) = (key.suite(), key.key_id());
    if !stored.contains(&id) {
        warn(&format!(
            "the controller prefers the key {suite} {id} for v2 values, which is not among the key Secrets; assuming \
             that {assumption}"
        ));
        return None;
    }
    Some((suite, id))
}

fn warn_unknown(subject: &str, assumption: &str, error: &ClusterError) {
    let why = error_chain(error);
    let why: Vec<&str> = why.lines().collect();
    warn(&format!(
        "cannot fetch the controller's {subject}: {}; assuming that {assumption}",
        why.join(" ")
    ));
}
