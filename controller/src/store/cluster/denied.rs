//! What an API server says of a Secret that it does not accept, without anything that depends on its values.
//!
//! Its own checks quote what they stumble over: of a value that should be JSON they report the first character
//! that is none, and an author of the SealedSecret moves that along the value. Which checks fail depends on
//! the values too. Webhooks and policies see the whole Secret and say what they like. Taking values out of a
//! text is no help: what is missing then shows which of the author's own words, quoted beside them, is a
//! value. So of a rejection that is reported which would be the same for all values, and nothing else.

use kube::core::Status;
use kube::core::response::StatusCause;
use shared::secret::Secret;
use shared::secret_types::{LARGEST, values_len};

use crate::store::directory::names::is_item;
use crate::store::{StoreError, api};

/// Behind these, a webhook or a policy speaks; before them the API server, which names it.
const DENIALS: [&str; 2] = ["denied the request", "denied request"];
/// Before the name of a webhook that did not answer as it should.
const FAILED_WEBHOOK: &str = "failed calling webhook \"";
/// etcd stores requests of 1.5 MiB, and answers larger ones in another way than the API server.
const LARGEST_WITH_NAMES: usize = 1_400_000;

/// Rejects what an API server would reject for its size: a large request gets another answer than one that
/// is just too large.
///
/// # Errors
///
/// [`StoreError::Rejected`].
pub(crate) fn check_size(doing: &'static str, secret: &Secret) -> Result<(), StoreError> {
    let values = values_len(secret);
    if values > LARGEST || values + names_len(secret) > LARGEST_WITH_NAMES {
        return Err(StoreError::Rejected {
            doing,
            public: None,
        });
    }
    Ok(())
}

/// Bytes of names, labels and annotations as etcd stores them: names of items stand in `managedFields` once more.
fn names_len(secret: &Secret) -> usize {
    const BESIDE_A_NAME: usize = 32;
    let items = secret
        .data
        .keys()
        .map(|key| 2 * (key.len() + BESIDE_A_NAME));
    let metadata = &secret.metadata;
    let texts = [&metadata.labels, &metadata.annotations];
    let texts = texts.into_iter().flatten().flatten();
    let texts = texts.map(|(key, text)| 2 * (key.len() + BESIDE_A_NAME) + text.len());
    items.chain(texts).sum()
}

/// As [`api`], for a request about that Secret.
pub(crate) fn of_secret(
    doing: &'static str,
    secret: &Secret,
) -> impl Fn(kube::Error) -> StoreError {
    move |error| match error {
        kube::Error::Api(status) => judged(doing, *status, secret),
        error => api(doing)(error),
    }
}

fn judged(doing: &'static str, mut status: Status, secret: &Secret) -> StoreError {
    let rejected = |public| StoreError::Rejected { doing, public };
    if let Some(public) = denial(&status.message) {
        return rejected(Some(public));
    }
    match status.code {
        413 | 422 => rejected(causes(&status, secret)),
        401 | 403 | 404 | 409 | 429 => api(doing)(kube::Error::Api(Box::new(status))),
        code => {
            let webhook = failed_webhook(&status.message);
            let reason = &status.reason;
            status.message =
                webhook.unwrap_or_else(|| format!("the API server answered {code} {reason}"));
            api(doing)(kube::Error::Api(Box::new(status)))
        }
    }
}

/// Who denies it, without the words.
fn denial(text: &str) -> Option<String> {
    let end = |words: &&str| text.find(*words).map(|at| at + words.len());
    let end = DENIALS.iter().filter_map(end).min()?;
    Some(format!(
        "{}; its message may quote a value and is not shown: ask its operator",
        &text[..end]
    ))
}

fn failed_webhook(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(FAILED_WEBHOOK)?;
    let (name, _) = rest.split_once('"')?;
    Some(format!("{FAILED_WEBHOOK}{name}\""))
}

/// What is wrong whatever the values are. The values may be wrong as well.
fn causes(status: &Status, secret: &Secret) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let public = causes.iter().filter(|cause| is_public(cause, secret));
    let public: Vec<String> = public
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    (!public.is_empty()).then(|| format!("the Secret is invalid: {}", public.join("; ")))
}

/// Does it follow from metadata, type or the names of items alone?
fn is_public(cause: &StatusCause, secret: &Secret) -> bool {
    if !cause.field.starts_with("data") {
        return true;
    }
    let item = cause.field.strip_prefix("data[");
    let Some(item) = item.and_then(|field| field.strip_suffix(']')) else {
        return false;
    };
    // One that is required may be there and empty.
    if secret.data.contains_key(item) {
        !is_item(item)
    } else {
        cause.reason == "FieldValueRequired"
    }
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;
    use shared::plain::Plain;

    use super::*;

    const INVALID_KEY: &str =
        "Invalid value: \"a b\": a valid config key must consist of alphanumeric characters";

    fn secret() -> Secret {
        let mut secret = Secret::default();
        for item in [".dockerconfigjson", "ssh-privatekey", "a b"] {
            secret.data.insert(item.into(), Plain::default());
        }
        secret
    }

    fn judged(status: Status) -> StoreError {
        of_secret("cannot create the Secret", &secret())(kube::Error::Api(Box::new(status)))
    }

    fn invalid(causes: &[(&str, &str, &str)]) -> StoreError {
        let cause = |(field, reason, message): &(&str, &str, &str)| StatusCause {
            field: (*field).into(),
            reason: (*reason).into(),
            message: (*message).into(),
        };
        let details = StatusDetails {
            name: "n".into(),
            group: String::new(),
            kind: "secrets".into(),
            uid: String::new(),
            causes: causes.iter().map(cause).collect(),
            retry_after_seconds: 0,
        };
        let text = "Secret \"n\" is invalid: everything that the causes say";
        judged(
            Status::failure(text, "Invalid")
                .with_code(422)
                .with_details(details),
        )
    }

    fn is_about_values(error: &StoreError) -> bool {
        matches!(error, StoreError::Rejected { public: None, .. })
    }

    /// Attack: an author gives the Secret a type whose check quotes the first wrong character of a value.
    #[test]
    fn a_check_of_a_value_tells_neither_a_character_nor_the_item_nor_the_check() {
        let text = "Invalid value: \"<secret contents redacted>\": invalid character 'r' looking for \
                    beginning of object key string";
        for (field, reason, message) in [
            ("data[.dockerconfigjson]", "FieldValueInvalid", text),
            (
                "data",
                "FieldValueTooLong",
                "Too long: may not be more than 1048576 bytes",
            ),
            (
                "data[ssh-privatekey]",
                "FieldValueRequired",
                "Required value",
            ),
        ] {
            let error = invalid(&[(field, reason, message)]);
            assert!(is_about_values(&error), "{field}");
            assert_eq!(
                error.to_string(),
                "cannot create the Secret: its values are not accepted"
            );
        }
        assert!(is_about_values(&invalid(&[])));
        let too_large = Status::failure("etcdserver: request is too large", "").with_code(413);
        assert!(is_about_values(&judged(too_large)));
    }

    /// Attack: hides a value behind an error that every value gets.
    #[test]
    fn what_is_wrong_for_all_values_is_reported_without_what_is_wrong_with_these() {
        for (field, reason, message) in [
            ("data[tls.key]", "FieldValueRequired", "Required value"),
            ("data[a b]", "FieldValueInvalid", INVALID_KEY),
            (
                "metadata.labels",
                "FieldValueInvalid",
                "Invalid value: \"*\": a valid label must …",
            ),
        ] {
            let private = ("data[.dockerconfigjson]", "FieldValueInvalid", "'r'");
            let alone = invalid(&[(field, reason, message)]).to_string();
            let both = invalid(&[private, (field, reason, message)]).to_string();
            assert_eq!(
                alone,
                format!("cannot create the Secret: the Secret is invalid: {field}: {message}")
            );
            assert_eq!(alone, both);
        }
    }

    /// Attack: runs an admission webhook that quotes the Secret in its refusal.
    #[test]
    fn who_denies_it_is_named_and_what_he_says_is_not() {
        for (text, who) in [
            (
                "admission webhook \"w\" denied the request: hunter2 is weak",
                "admission webhook \"w\" denied the request",
            ),
            (
                "admission webhook \"w\" denied the request without explanation",
                "admission webhook \"w\" denied the request",
            ),
            (
                "secrets \"n\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: hunter2",
                "secrets \"n\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request",
            ),
        ] {
            for code in [400, 403, 422, 500] {
                assert_eq!(
                    judged(Status::failure(text, "Forbidden").with_code(code)).to_string(),
                    format!(
                        "cannot create the Secret: {who}; its message may quote a value and is not shown: ask its operator"
                    )
                );
            }
        }
    }

    /// Attack: has the API server fail in words that quote the Secret.
    #[test]
    fn answers_that_may_quote_what_was_sent_are_reported_by_their_code() {
        for (code, text, want) in [
            (403, "exceeded quota: q", "exceeded quota: q"),
            (400, "hunter2", "the API server answered 400 R"),
            (500, "hunter2", "the API server answered 500 R"),
            (
                500,
                "Internal error occurred: failed calling webhook \"w\": hunter2",
                "failed calling webhook \"w\"",
            ),
        ] {
            let told = judged(Status::failure(text, "R").with_code(code)).to_string();
            assert_eq!(told, format!("cannot create the Secret: {want}"));
        }
    }

    #[test]
    fn a_secret_of_more_than_a_mebibyte_is_not_even_sent() {
        for (size, is_sent) in [(LARGEST, true), (LARGEST + 1, false)] {
            let mut secret = Secret::default();
            secret
                .data
                .insert("a".into(), Plain::from(vec![0; size - 1]));
            secret.data.insert("b".into(), Plain::from(vec![0; 1]));
            assert_eq!(check_size("x", &secret).is_ok(), is_sent, "{size}");
        }
    }
}
