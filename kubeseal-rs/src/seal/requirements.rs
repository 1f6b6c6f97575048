//! Checks what the API server requires of the Secret of a SealedSecret, so that a mistake is reported here and not in
//! the cluster.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::secret::Secret;
use shared::secret_types::{MAX_SECRET_LEN, check_names, check_values, values_len};
use shared::{envelope, sealed_text, v2};

use crate::report;

/// Checks that a Secret has the items and values that its type requires.
///
/// # Errors
///
/// Fails if an item that the type requires is missing, or a value does not have the form that the type requires.
pub fn check_secret(secret: &Secret) -> Result<()> {
    let has = |item: &str| secret.data.contains_key(item);
    check_names(secret.type_.as_deref(), has)?;
    check_values(secret)?;
    Ok(())
}

/// Warns about a Secret in a file that the API server would refuse because of its type.
pub fn warn_of_type(secret: &Secret, file: &str) {
    if let Err(why) = check_secret(secret) {
        report::warn(&format!(
            "{file}: {why}; the API server will refuse the Secret: correct its items, or change its type"
        ));
    }
}

/// Warns about a Secret whose values are too large in total.
pub fn warn_of_size(secret: &Secret) {
    if let Some(warning) = size_warning(values_len(secret)) {
        report::warn(&warning);
    }
}

/// Checks that new values and removed items add no violation of the type of an object. Returns warnings about an item
/// that was missing before, which a later run may add, and about values that are too large.
///
/// # Errors
///
/// Fails if the change removes an item that the type requires, or if a new value does not have the form that the type
/// requires.
pub fn check_change(
    sealed: &SealedSecret,
    set: &BTreeMap<String, Plain>,
    removed: &[String],
) -> Result<Vec<String>> {
    let spec = &sealed.spec;
    let type_ = spec.template.type_.as_deref();
    check_values(&values_in_secret(spec, set))?;
    let items: Vec<&String> = v2::items(&spec.encrypted_data)
        .map(|(name, _)| name)
        .collect();
    let before: BTreeSet<&String> = items.iter().copied().collect();
    let after = items
        .into_iter()
        .chain(set.keys())
        .filter(|item| !removed.contains(item));
    let after: BTreeSet<&String> = after.collect();
    let missing =
        |items: &BTreeSet<&String>| check_names(type_, |item| has_item(spec, items, item));
    let was_complete = missing(&before).is_ok();
    let mut warnings = Vec::new();
    match missing(&after) {
        Err(missing) if was_complete => return Err(missing.into()),
        Err(missing) => warnings.push(missing.to_string()),
        Ok(()) => {}
    }
    let is_kept = |item: &String| !set.contains_key(item) && !removed.contains(item);
    let kept_len = total_plain_len(spec, is_kept);
    warnings.extend(size_warning(
        kept_len + values_len(&values_in_secret(spec, set)),
    ));
    Ok(warnings)
}

/// Returns the new values that the Secret will contain: a template replaces the item of its name.
fn values_in_secret(spec: &SealedSecretSpec, set: &BTreeMap<String, Plain>) -> Secret {
    let values = set
        .iter()
        .filter(|(item, _)| template(spec, item).is_none());
    Secret {
        type_: spec.template.type_.clone(),
        data: values
            .map(|(item, value)| (item.clone(), value.clone()))
            .collect(),
        ..Secret::default()
    }
}

/// Returns whether the Secret will contain an item. A template that is `null` removes the item of its name.
fn has_item(spec: &SealedSecretSpec, items: &BTreeSet<&String>, item: &str) -> bool {
    match template(spec, item) {
        Some(template) => template.is_some(),
        None => items.iter().any(|key| *key == item),
    }
}

fn template<'a>(spec: &'a SealedSecretSpec, item: &str) -> Option<&'a Option<String>> {
    spec.template.data.as_ref()?.get(item)
}

/// Returns the total length of the values that become part of the Secret unchanged, in bytes, as far as it is visible
/// without a key. The actual length of v2 values may be greater.
fn total_plain_len(spec: &SealedSecretSpec, is_counted: impl Fn(&String) -> bool) -> usize {
    let object = v2::Object::parse(&spec.encrypted_data).ok();
    let views = object.as_ref().map(v2::Object::view).unwrap_or_default();
    let items = v2::items(&spec.encrypted_data);
    let items = items.filter(|(item, _)| is_counted(item) && template(spec, item).is_none());
    let len = |(item, text): (&String, &String)| {
        let view = views.get(item.as_str());
        view.map_or_else(
            || plain_len(text),
            |view| view.max_len.saturating_sub(MAX_PADDING),
        )
    };
    items.map(len).sum()
}

/// The maximum difference between the visible and the actual length of a v2 value.
const MAX_PADDING: usize = 31;

/// Returns the length of the plaintext of a v1 value, in bytes; 0 if the value is malformed.
fn plain_len(text: &str) -> usize {
    let sealed = sealed_text::decode(text).ok();
    let len = sealed.and_then(|sealed| envelope::plain_len(&sealed));
    len.unwrap_or_default()
}

/// Returns a warning if the values of an object are too large. Determines their size from the lengths of the sealed
/// values. Templates do not count: their output depends on the values.
pub fn sealed_size_warning(spec: &SealedSecretSpec) -> Option<String> {
    size_warning(total_plain_len(spec, |_| true))
}

fn size_warning(len: usize) -> Option<String> {
    let is_too_large = len > MAX_SECRET_LEN;
    is_too_large.then(|| {
        format!(
            "the values of the Secret have {len} bytes, but Kubernetes accepts at most {MAX_SECRET_LEN}; split the Secret"
        )
    })
}

#[cfg(test)]
mod tests {
    use shared::base64;
    use shared::manifest::{self, Reading};

    use super::*;

    fn object(type_: &str, items: &[&str], templates: &str) -> SealedSecret {
        let items: Vec<String> = items.iter().map(|item| format!("{item}: AgB")).collect();
        let yaml = format!(
            "metadata: {{name: n}}\nspec: {{encryptedData: {{{}}}, template: {{type: {type_}, data: {{{templates}}}}}}}",
            items.join(", ")
        );
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        SealedSecret::from_node(&documents[0].root, &mut Reading::default()).unwrap()
    }

    fn values(values: &[(&str, &str)]) -> BTreeMap<String, Plain> {
        let values = values.iter();
        values
            .map(|(key, value)| ((*key).to_owned(), Plain::from((*value).to_owned())))
            .collect()
    }

    const TLS: &str = "kubernetes.io/tls";
    const DOCKER: &str = "kubernetes.io/dockerconfigjson";
    const SSH: &str = "kubernetes.io/ssh-auth";

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn refuses_a_change_that_violates_the_type() {
        let config = ".dockerconfigjson";
        for (why, object, set, removed, want) in [
            (
                "a required item is removed",
                object(TLS, &["tls.crt", "tls.key"], ""),
                vec![],
                vec!["tls.key"],
                Err("requires the item tls.key"),
            ),
            (
                "another item is removed",
                object(TLS, &["tls.crt", "tls.key", "ca"], ""),
                vec![],
                vec!["ca"],
                Ok(0),
            ),
            (
                "items are still missing",
                object(TLS, &[], ""),
                vec![("tls.crt", "x")],
                vec![],
                Ok(1),
            ),
            (
                "the last missing item is added",
                object(TLS, &["tls.crt"], ""),
                vec![("tls.key", "x")],
                vec![],
                Ok(0),
            ),
            (
                "a template creates the missing item",
                object(TLS, &["tls.crt"], "tls.key: x"),
                vec![("tls.crt", "x")],
                vec![],
                Ok(0),
            ),
            (
                "a template removes a required item",
                object(TLS, &["tls.crt", "tls.key"], "tls.key: null"),
                vec![("tls.crt", "x")],
                vec![],
                Ok(1),
            ),
            (
                "not JSON",
                object(DOCKER, &[config], ""),
                vec![(config, "hunter2")],
                vec![],
                Err("is a JSON object"),
            ),
            (
                "JSON",
                object(DOCKER, &[config], ""),
                vec![(config, "{}")],
                vec![],
                Ok(0),
            ),
            (
                "a template replaces the value",
                object(DOCKER, &[config], "'.dockerconfigjson': x"),
                vec![(config, "hunter2")],
                vec![],
                Ok(0),
            ),
            (
                "empty",
                object(SSH, &["ssh-privatekey"], ""),
                vec![("ssh-privatekey", "")],
                vec![],
                Err("is not empty"),
            ),
            (
                "one of two alternative items stays",
                object("kubernetes.io/basic-auth", &["username", "password"], ""),
                vec![],
                vec!["password"],
                Ok(0),
            ),
            (
                "a type without requirements",
                object("Opaque", &["a"], ""),
                vec![("b", "")],
                vec!["a"],
                Ok(0),
            ),
        ] {
            let removed: Vec<String> = removed.into_iter().map(str::to_owned).collect();
            let result = check_change(&object, &values(&set), &removed);
            match (result, want) {
                (Ok(warnings), Ok(count)) => assert_eq!(warnings.len(), count, "{why}"),
                (Err(error), Err(want)) => {
                    let error = error.to_string();
                    assert!(
                        error.contains(want) && !error.contains("hunter2"),
                        "{why}: {error}"
                    );
                }
                (result, want) => panic!("{why}: {result:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn warns_about_values_above_the_total_limit() {
        let sealed = |len: usize| {
            let bytes = [&256_u16.to_be_bytes()[..], &vec![7; 256 + len + 16]].concat();
            base64::encode(&bytes)
        };
        let half = MAX_SECRET_LEN / 2;
        for (kept, new, replaced, want) in [
            (half, half, 0, false),
            (half, half + 1, 0, true),
            (0, MAX_SECRET_LEN + 1, 0, true),
            (half, half, MAX_SECRET_LEN, false),
        ] {
            let mut object = object("Opaque", &[], "");
            let items = &mut object.spec.encrypted_data;
            items.insert("kept".to_owned(), sealed(kept));
            items.insert("new".to_owned(), sealed(replaced));
            items.insert("removed".to_owned(), sealed(MAX_SECRET_LEN));
            let new = "x".repeat(new);
            let warnings =
                check_change(&object, &values(&[("new", &new)]), &["removed".to_owned()]);
            assert_eq!(!warnings.unwrap().is_empty(), want, "{kept}, {replaced}");
        }
    }
}
