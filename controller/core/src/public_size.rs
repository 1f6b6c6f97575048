//! The size of the values of a Secret as far as it is public.

use std::collections::BTreeMap;

use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::v2;

use crate::no_secret::is_legacy;

/// v2 values are padded to a multiple of this many bytes (`shared/docs/v2.md`, section 4.5).
const V2_STEP: usize = 32;
/// Bytes of a padded v2 value besides the value and the zeros: its identifier and the marker.
const V2_OVERHEAD: usize = 17;

/// Returns whether a SealedSecret shows the names and sizes of the values of its Secret: they are not sealed as a
/// whole, and no template produces values.
pub fn is_public(sealed: &SealedSecret) -> bool {
    let templates = sealed.spec.template.data.as_ref();
    !is_legacy(sealed) && templates.is_none_or(BTreeMap::is_empty)
}

/// Returns the greatest length of a v2 value with the same ciphertext length as a value of this length.
pub fn padded_len(len: usize) -> usize {
    (len + V2_OVERHEAD).next_multiple_of(V2_STEP) - V2_OVERHEAD
}

/// Returns the size of the values of a Secret that has the items of the SealedSecret, and possibly former values. The
/// length of a v1 value is public. The length of a v2 value is public only in steps, so the value counts with the
/// greatest length of its step: an editor who adds values until the Secret is too large must not learn more. The same
/// applies to former values, whose format is unknown.
pub fn values_len(sealed: &SealedSecret, secret: &Secret) -> usize {
    let encrypted_data = &sealed.spec.encrypted_data;
    let is_v1 = |item: &str| {
        let text = encrypted_data.get(item);
        text.is_some_and(|text| v2::is_v1_item(item, text))
    };
    let len = |(item, value): (&String, &shared::plain::Plain)| {
        let len = value.expose().len();
        if is_v1(item) { len } else { padded_len(len) }
    };
    secret.data.iter().map(len).sum()
}

#[cfg(test)]
mod tests {
    use shared::resource::SealedSecretSpec;

    use super::*;

    /// Attack: an author finds out the exact length of a v2 value by the number of bytes that still fit together with
    /// its former value.
    #[test]
    fn former_values_count_in_steps() {
        let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
        let text = "AgB=".to_owned();
        sealed.spec.encrypted_data.insert("a".into(), text);
        for (len, want) in [(0, 15), (15, 15), (16, 47)] {
            let mut secret = Secret::default();
            let former = "x".repeat(len);
            secret.data.insert("a.previous".into(), former.into());
            assert_eq!(values_len(&sealed, &secret), want, "{len}");
        }
    }

    #[test]
    fn v2_values_count_in_steps_and_v1_values_exactly() {
        for (text, sizes) in [
            ("AgB=", [(0, 0), (15, 15), (16, 16), (47, 47), (48, 48)]),
            (
                "seal2.s.AA",
                [(0, 15), (15, 15), (16, 47), (47, 47), (48, 79)],
            ),
        ] {
            let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
            sealed.spec.encrypted_data.insert("a".into(), text.into());
            for (len, want) in sizes {
                let mut secret = Secret::default();
                secret.data.insert("a".into(), "x".repeat(len).into());
                assert_eq!(values_len(&sealed, &secret), want, "{text} {len}");
            }
        }
    }
}
