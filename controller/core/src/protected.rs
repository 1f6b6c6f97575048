//! The labels and annotations of a Secret that the controller restores even if edits by other clients are tolerated or
//! the SealedSecret is refused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shared::secret::Secret;

use crate::added_metadata::AddedMetadata;
use crate::names_size;
use crate::ownership::{drop_consent, drop_metadata_of_others, is_merged_into, merges};

/// The inputs that determine the protected labels and annotations of a Secret.
#[derive(Debug, Clone, Copy)]
pub struct Protected<'a> {
    /// The metadata that the administrator adds.
    pub added: &'a AddedMetadata,
    /// The metadata in the template of the SealedSecret; `None` if the template is sealed (the deprecated form), or if
    /// the SealedSecret cannot be read.
    pub template: Option<&'a ObjectMeta>,
    /// Whether this version of the SealedSecret was unsealed. If so, its Secret has the metadata of this template.
    pub settled: bool,
    /// Whether all content of the Secret is known to come from the SealedSecret.
    pub is_exclusive: bool,
}

impl Protected<'_> {
    /// Returns the metadata of the Secret with the additions of the administrator, and without a consent to a merge
    /// that another client added. Returns `None` if the Secret already has this metadata.
    ///
    /// If the labels and annotations of other clients leave no room for the write, they are removed too, unless the
    /// SealedSecret is merged into the Secret.
    pub fn restored(&self, existing: &Secret) -> Option<ObjectMeta> {
        let mut restored = existing.metadata.clone();
        if self.forbids_merges() {
            drop_consent(&mut restored);
        }
        self.added.add_to(&mut restored);
        if restored == existing.metadata {
            return None;
        }
        let is_too_large = !names_size::leave_room(&existing.data, &[&restored]);
        if is_too_large && !self.is_merged(&existing.metadata) {
            drop_metadata_of_others(&mut restored, self.template);
            self.added.add_to(&mut restored);
        }
        Some(restored)
    }

    /// Returns whether a consent to a merge on the Secret counts as an edit by another client.
    fn forbids_merges(&self) -> bool {
        let is_in_template = self.template.is_none_or(is_merged_into);
        self.settled && self.is_exclusive && !is_in_template
    }

    /// Returns whether the SealedSecret is merged into the Secret, so that the labels and annotations of the Secret's
    /// owner are kept. Without a template, only the annotation of the Secret counts.
    fn is_merged(&self, existing: &ObjectMeta) -> bool {
        self.template.map_or_else(
            || is_merged_into(existing),
            |template| merges(template, existing, self.is_exclusive),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::plain::Plain;
    use shared::resource::{PATCH_ANNOTATION, RANDOM_VALUES_ANNOTATION};

    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    fn secret(annotations: &[(&str, &str)], count_of_others: usize) -> Secret {
        let mut secret = Secret::default();
        let mut annotations = texts(annotations);
        annotations.extend((0..count_of_others).map(|i| (format!("x{i}"), String::new())));
        secret.metadata.annotations = Some(annotations);
        secret.data.insert("a".into(), Plain::from("1".to_owned()));
        secret
    }

    fn annotated(annotations: &[(&str, &str)]) -> ObjectMeta {
        ObjectMeta {
            annotations: Some(texts(annotations)),
            ..ObjectMeta::default()
        }
    }

    /// Attack: a client removes a label of the administrator, and adds so many annotations that no API server accepts
    /// the label again.
    #[test]
    fn drops_the_metadata_of_other_clients_if_it_leaves_no_room() {
        let added = AddedMetadata::default().with_labels("team=ops").unwrap();
        let template = annotated(&[("own", "x")]);
        for (template, kept) in [
            (Some(&template), &["own", RANDOM_VALUES_ANNOTATION][..]),
            (None, &[RANDOM_VALUES_ANNOTATION][..]),
        ] {
            for (count, is_kept) in [(4_000, true), (6_000, false)] {
                let existing = secret(&[("own", "x"), (RANDOM_VALUES_ANNOTATION, "m")], count);
                let protected = Protected {
                    added: &added,
                    template,
                    settled: false,
                    is_exclusive: true,
                };
                let restored = protected.restored(&existing).unwrap();
                assert!(added.are_present_on(&restored));
                let annotations = restored.annotations.unwrap();
                assert!(kept.iter().all(|key| annotations.contains_key(*key)));
                assert_eq!(annotations.len() > 2, is_kept, "{count}");
            }
        }
    }

    #[test]
    fn keeps_the_metadata_of_the_owner_of_a_secret_that_is_merged_into() {
        let added = AddedMetadata::default().with_labels("team=ops").unwrap();
        let existing = secret(&[(PATCH_ANNOTATION, "true")], 6_000);
        for template in [Some(&ObjectMeta::default()), None] {
            let protected = Protected {
                added: &added,
                template,
                settled: true,
                is_exclusive: false,
            };
            let restored = protected.restored(&existing).unwrap();
            assert_eq!(restored.annotations, existing.metadata.annotations);
        }
    }

    /// Attack: a client consents to a merge in the name of the author.
    #[test]
    fn drops_a_consent_to_a_merge_only_if_another_client_added_it() {
        let consent = [(PATCH_ANNOTATION, "true")];
        let existing = secret(&consent, 1);
        let (without_consent, consenting) = (annotated(&[]), annotated(&consent));
        for (template, settled, is_exclusive, is_dropped) in [
            (Some(&without_consent), true, true, true),
            (Some(&consenting), true, true, false),
            (None, true, true, false),
            (Some(&without_consent), false, true, false),
            (Some(&without_consent), true, false, false),
        ] {
            let protected = Protected {
                added: &AddedMetadata::default(),
                template,
                settled,
                is_exclusive,
            };
            let restored = protected.restored(&existing);
            assert_eq!(restored.is_some(), is_dropped);
            if let Some(restored) = restored {
                assert_eq!(restored.annotations, Some(texts(&[("x0", "")])));
            }
        }
        let declined = secret(&[(PATCH_ANNOTATION, "false")], 0);
        let protected = Protected {
            added: &AddedMetadata::default(),
            template: Some(&without_consent),
            settled: true,
            is_exclusive: true,
        };
        assert_eq!(protected.restored(&declined), None);
    }
}
