//! Recognises Secrets that are up to date by the record in the status, so that nothing need be decrypted.

use std::sync::Arc;

use controller_core::decide::{Existing, Held};
use controller_core::drift;
use controller_core::object_id::ObjectId;
use controller_core::status::is_synced;
use shared::key_ring::KeyRing;
use shared::record::{self, Identity, Origin};
use shared::resource::{SealedSecret, SecretRecord};
use shared::secret::Secret;

use super::attempt::Tools;
use super::ended::Ended;
use crate::store::{Observed, Source, Store};

impl<S: Store> Tools<S> {
    /// Returns the instance label of the object, if its Secret is known to be up to date without fetching or
    /// decrypting anything.
    pub(super) fn recognised(&self, id: &ObjectId, ring: &KeyRing) -> Option<String> {
        let glance = self.store.glance(id).filter(|_| self.trusts_records())?;
        let (record, (uid, version)) = (&glance.record, &glance.secret);
        let origin = self.origin(glance.identity, glance.opts_out);
        let is_known = record::names(record, glance.identity, ring, uid, version)
            && record::is_genuine(record, origin, ring);
        if is_known {
            self.store.note_recognised(id, glance.identity);
        }
        is_known.then_some(glance.instance)
    }

    /// Returns the SealedSecret, if the fetched Secret is known to be up to date without decrypting anything.
    pub(super) fn fits(&self, observed: &Observed, ring: &KeyRing) -> Option<Arc<SealedSecret>> {
        let (Source::Sealed(sealed), Existing::Owned(Held::Secret(secret))) =
            (&observed.source, &observed.existing)
        else {
            return None;
        };
        let record = observed.status.as_ref()?.record.as_ref()?;
        let identity = Identity::of(sealed)?;
        let opts_out = drift::opts_out(sealed.metadata.annotations.as_ref());
        let origin = self.origin(identity, opts_out);
        let wanted = self.policy.added.with_added(sealed);
        let fits = self.trusts_records()
            && observed.settled
            && observed.status.as_ref().is_some_and(is_synced)
            && record::is_genuine(record, origin, ring)
            && self.policy.added.are_on(&secret.metadata)
            && record::fits(record, identity, &wanted, ring, secret);
        fits.then(|| Arc::clone(sealed))
    }

    /// Returns whether the record in the status proves that the observed version was unsealed. Everything else
    /// in a status can be written by other clients.
    pub(super) fn was_unsealed(&self, observed: &Observed) -> bool {
        let (Source::Sealed(sealed), Some(status)) = (&observed.source, &observed.status) else {
            return false;
        };
        let record = status.record.as_ref();
        record
            .zip(Identity::of(sealed))
            .is_some_and(|(record, identity)| record::vouches(record, identity, &self.ring()))
    }

    /// Returns whether records count. A record shows what was allowed when it was made, so it does not count
    /// if the author limits depend on time.
    fn trusts_records(&self) -> bool {
        !self.policy.author_limits.depend_on_time()
    }

    pub(super) fn in_place(&self, id: &ObjectId, instance: &str) -> Ended {
        self.metrics.recognised();
        self.metrics.condition(id, instance, true);
        Ended::Well { changed: false }
    }

    /// Returns a record of the Secret as it is stored now: as the store returned it, or as it was found.
    pub(super) fn proof(
        &self,
        observed: &Observed,
        stored: Option<&Secret>,
        ring: &KeyRing,
    ) -> Option<SecretRecord> {
        let Source::Sealed(sealed) = &observed.source else {
            return None;
        };
        let found = match &observed.existing {
            Existing::Owned(Held::Secret(secret)) => Some(&**secret),
            _ => None,
        };
        let origin = self.origin(
            Identity::of(sealed)?,
            drift::opts_out(sealed.metadata.annotations.as_ref()),
        );
        record::record(origin, stored.or(found)?, ring)
    }

    fn origin(&self, identity: Identity, opts_out: bool) -> Origin<'_> {
        Origin {
            identity,
            rules: self.policy.rules,
            limits: &self.judged_by,
            tolerates_drift: self.policy.tolerates_drift || opts_out,
        }
    }
}
