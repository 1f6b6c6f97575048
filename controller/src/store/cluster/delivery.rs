//! Access to SealedSecrets for the delivery to Pods.

use std::sync::Arc;

use controller_core::object_id::ObjectId;
use controller_core::status;
use shared::hints::Hints;
use shared::record::Identity;
use shared::resource::SealedSecret;

use super::changes::Changes;
use super::{CachedSource, ClusterStore};
use crate::store::{Source, StoreError};

/// A SealedSecret as last reported by the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObservedObject {
    /// The identity of the current version; `None` if the object is malformed.
    pub(crate) identity: Option<Identity>,
}

/// A SealedSecret with its sealed values, and the keys to try first.
#[derive(Debug, Clone)]
pub(crate) struct FetchedObject {
    /// The object with its sealed values.
    pub(crate) sealed: Arc<SealedSecret>,
    /// The RSA key that unsealed each item, according to the status.
    pub(crate) hints: Hints,
}

impl ClusterStore {
    /// Returns an object as last reported by the watch, without a request to the API server; `None` if it does not
    /// exist.
    pub(crate) fn observed(&self, id: &ObjectId) -> Option<ObservedObject> {
        let catalog = self.catalog();
        let entry = catalog.entry(id).filter(|entry| !entry.is_gone())?;
        Some(ObservedObject {
            identity: entry.identity,
        })
    }

    /// Returns the object with its sealed values; `None` if it no longer exists or is malformed.
    ///
    /// # Errors
    ///
    /// Fails if the request to the API server fails.
    pub(crate) async fn fetch_sealed(
        &self,
        id: &ObjectId,
    ) -> Result<Option<FetchedObject>, StoreError> {
        let entry = self.catalog().entry(id).cloned();
        let cached = entry.and_then(|entry| match entry.cached.clone() {
            CachedSource::Complete(source) => Some((entry, source)),
            CachedSource::Digest => None,
        });
        let found = match cached {
            Some(found) => Some(found),
            None => self.fetch(id).await?,
        };
        Ok(found.and_then(|(entry, source)| match source {
            Source::Sealed(sealed) => Some(FetchedObject {
                sealed,
                hints: status::sealed_by(entry.status.as_ref()),
            }),
            Source::Malformed(_) | Source::Gone => None,
        }))
    }

    /// Returns the source of notifications about changed objects.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }
}
