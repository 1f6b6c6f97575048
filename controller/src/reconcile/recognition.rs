//! Recognizes up-to-date Secrets by the record in the status, without decryption.

use std::sync::Arc;

use controller_core::decide::{Content, Existing};
use controller_core::drift;
use controller_core::object_id::ObjectId;
use controller_core::public_size;
use controller_core::status::is_synced;
use shared::key_ring::KeyRing;
use shared::record::{self, Facts, Identity, Origin};
use shared::resource::{SealedSecret, SecretRecord, SecretVersion};
use shared::secret::Secret;

use super::attempt::Tools;
use super::attempt_result::AttemptResult;
use super::former_values;
use crate::metrics::ObjectLabels;
use crate::store::{Observed, RecognizedSecret, Source, Store};

impl<S: Store> Tools<S> {
    /// Returns the labels of the object in the metrics, if its Secret is known to be up to date without a request or
    /// decryption.
    pub(super) fn recognize(&self, id: &ObjectId, ring: &KeyRing) -> Option<ObjectLabels> {
        let cached = self
            .store
            .cached_state(id)
            .filter(|_| self.trusts_records())?;
        let (record, (uid, version)) = (&cached.record, &cached.secret);
        let origin = self.origin(cached.identity, cached.opts_out);
        let tolerates_drift = origin.tolerates_drift;
        let is_recognized = self.has_current_version(cached.version_key.as_deref())
            && record::is_for_secret(record, cached.identity, ring, uid, version)
            && record::is_genuine(record, origin, ring)
            && !record::may_have_former(record, ring);
        if is_recognized {
            let secret = RecognizedSecret {
                uid,
                version,
                has_unsealed_values: !tolerates_drift,
                is_exclusive: record::is_exclusive(record, uid, ring),
            };
            self.store.note_recognized(id, cached.identity, secret);
        }
        is_recognized.then_some(cached.labels)
    }

    /// Returns the SealedSecret, if the fetched Secret is known to be up to date without decryption.
    pub(super) fn recognize_observed(
        &self,
        id: &ObjectId,
        observed: &Observed,
        ring: &KeyRing,
    ) -> Option<Arc<SealedSecret>> {
        let (Source::Sealed(sealed), Existing::Owned(Content::Secret(secret))) =
            (&observed.source, &observed.existing)
        else {
            return None;
        };
        if self.is_only_delivered(sealed) {
            return None;
        }
        let record = observed.status.as_ref()?.record.as_ref()?;
        let identity = Identity::of(sealed)?;
        let opts_out = drift::opts_out(sealed.metadata.annotations.as_ref());
        let origin = self.origin(identity, opts_out);
        let desired = self.policy.added.with_added(sealed);
        let versions = observed.status.as_ref().map(|status| &*status.versions);
        let version_key = versions.and_then(key_of_newest);
        let is_up_to_date = self.trusts_records()
            && self.has_current_version(version_key)
            && observed.settled
            && observed.status.as_ref().is_some_and(is_synced)
            && record::is_genuine(record, origin, ring)
            && self.restored_metadata(observed).is_none()
            // Without their marks, former values would never be removed.
            && (!record::may_have_former(record, ring)
                || former_values::find(id, observed, secret, ring).is_some())
            && record::is_for_content(record, identity, &desired, ring, secret);
        is_up_to_date.then(|| Arc::clone(sealed))
    }

    /// Returns whether the record in the status proves that the observed version was unsealed. Other clients can write
    /// everything else in a status.
    pub(super) fn was_unsealed(&self, observed: &Observed) -> bool {
        let (Source::Sealed(sealed), Some(status)) = (&observed.source, &observed.status) else {
            return false;
        };
        let record = status.record.as_ref();
        record
            .zip(Identity::of(sealed))
            .is_some_and(|(record, identity)| {
                record::is_proof_of_unsealing(record, identity, &self.ring())
            })
    }

    /// Returns whether the record in the status proves that all content of the observed Secret comes from the
    /// SealedSecret.
    pub(super) fn was_exclusive(&self, observed: &Observed) -> bool {
        let record = observed.status.as_ref().and_then(|s| s.record.as_ref());
        let secret = observed.existing.secret();
        let uid = secret.and_then(|secret| secret.metadata.uid.as_deref());
        record
            .zip(uid)
            .is_some_and(|(record, uid)| record::is_exclusive(record, uid, &self.ring()))
    }

    /// Returns whether records are trusted. A record shows what was allowed when it was created, so it is not trusted
    /// if the author limits depend on time.
    fn trusts_records(&self) -> bool {
        !self.policy.author_limits.depend_on_time()
    }

    /// Returns whether the status needs no new content version: versions are not recorded, or the newest version in the
    /// status was computed with the current content-version key. `key_id` is the key ID of the newest version.
    fn has_current_version(&self, key_id: Option<&str>) -> bool {
        self.versioning()
            .is_none_or(|versioning| key_id == Some(versioning.key.id()))
    }

    pub(super) fn record_up_to_date(&self, id: &ObjectId, labels: &ObjectLabels) -> AttemptResult {
        self.metrics.count_recognized();
        self.metrics.set_condition(id, labels, true);
        AttemptResult::UpToDate { changed: false }
    }

    /// Returns a record of the current state of the Secret: `stored`, or the observed Secret if `stored` is `None`.
    pub(super) fn new_record(
        &self,
        id: &ObjectId,
        observed: &Observed,
        stored: Option<&Secret>,
        is_exclusive: bool,
        ring: &KeyRing,
    ) -> Option<SecretRecord> {
        let Source::Sealed(sealed) = &observed.source else {
            return None;
        };
        let origin = self.origin(
            Identity::of(sealed)?,
            drift::opts_out(sealed.metadata.annotations.as_ref()),
        );
        let secret = stored.or(observed.existing.secret())?;
        let facts = Facts {
            is_exclusive,
            has_former: former_values::find(id, observed, secret, ring).is_some(),
            has_public_sizes: public_size::is_public(sealed),
        };
        record::create(origin, secret, facts, ring)
    }

    fn origin(&self, identity: Identity, opts_out: bool) -> Origin<'_> {
        Origin {
            identity,
            rules: self.policy.rules,
            limits: &self.limits_text,
            tolerates_drift: self.policy.tolerates_drift || opts_out,
        }
    }
}

fn key_of_newest(versions: &[SecretVersion]) -> Option<&str> {
    versions.first().map(|version| version.key_id.as_str())
}
