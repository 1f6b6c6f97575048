//! Reports why an API server rejects a Secret, without any information that depends on its values.
//!
//! The API server's own checks quote values: for a value that should be JSON, they report the first invalid character,
//! and the author of the SealedSecret can move that position along the value. The set of failing checks also depends on
//! the values. Webhooks and policies receive the complete Secret and can report anything. Redacting values in the
//! message is not enough: the message also quotes text of the author, and a redaction in that text shows that the text
//! equals a value. The report therefore contains only information that is the same for all values.
//!
//! Messages of the API server are recognized only by their beginning. The author chooses texts in later parts: the API
//! server quotes an invalid label, in brackets if there are further problems.

use controller_core::names_size;
use kube::core::Status;
use kube::core::response::StatusCause;
use shared::secret::Secret;
use shared::secret_types::{MAX_SECRET_LEN, values_len};

use crate::store::directory::names::is_item;
use crate::store::{StoreError, api_error};

/// The beginnings of messages about a denial, before the quoted name of the webhook or policy.
const DENIALS: [&str; 4] = [
    "admission webhook \"",
    "ValidatingAdmissionPolicy '",
    // A MutatingAdmissionPolicy, with and without a binding.
    "policy '",
    "policy \"",
];
/// The beginnings of denials by the API server itself that do not depend on values: missing permission, a quota, a
/// namespace that is being deleted, and the check of owner references.
const PUBLIC_DENIALS: [&str; 6] = [
    "User \"",
    "exceeded quota: ",
    "failed quota: ",
    "insufficient quota to ",
    "unable to create new content in namespace ",
    "cannot set ",
];
/// The beginning of the message if a webhook gave no valid response, before its quoted name.
const FAILED_WEBHOOK: &str = "Internal error occurred: failed calling webhook \"";
/// The fields of a Secret whose problems do not depend on values.
const PUBLIC_FIELDS: [&str; 3] = ["metadata", "type", "immutable"];
/// The message for a Secret that is too large whatever its values are.
const NAMES_TOO_LARGE: &str = "its item keys, labels and annotations are larger than an API server accepts: remove some \
                               from the template, or from the Secret if another client added them";

/// Rejects a Secret that an API server would reject because of its size. Without this check, the error for a very large
/// request, which etcd rejects, would differ from the error for a slightly too large request. The reason is public if
/// it is the same for all values.
///
/// # Errors
///
/// Returns [`StoreError::Rejected`] if the Secret is too large.
pub(crate) fn check_size(operation: &'static str, secret: &Secret) -> Result<(), StoreError> {
    let rejection = |public| Err(StoreError::Rejected { operation, public });
    let values = values_len(secret);
    let names =
        names_size::item_keys_len(&secret.data) + names_size::metadata_len(&secret.metadata);
    if names > names_size::MAX_WITH_VALUES {
        return rejection(Some(NAMES_TOO_LARGE.to_owned()));
    }
    if values > MAX_SECRET_LEN || values + names > names_size::MAX_WITH_VALUES {
        return rejection(None);
    }
    Ok(())
}

/// Returns a function that adds the failed operation to an API server's error, like [`api_error`], and removes
/// everything that depends on the values of the Secret.
pub(crate) fn secret_error(
    operation: &'static str,
    secret: &Secret,
) -> impl Fn(kube::Error) -> StoreError {
    move |error| match error {
        kube::Error::Api(status) => classify(operation, *status, secret),
        error => api_error(operation)(error),
    }
}

fn classify(operation: &'static str, mut status: Status, secret: &Secret) -> StoreError {
    let rejection = |public| StoreError::Rejected { operation, public };
    if let Some(public) = denial(&status.message, secret) {
        return rejection(Some(public));
    }
    match status.code {
        413 | 422 => return rejection(public_causes(&status, secret)),
        403 if is_public_denial(&status.message, secret) => {}
        401 | 404 | 409 | 429 => {}
        code => {
            let webhook = failed_webhook(&status.message);
            let reason = &status.reason;
            status.message =
                webhook.unwrap_or_else(|| format!("the API server responded with {code} {reason}"));
        }
    }
    api_error(operation)(kube::Error::Api(Box::new(status)))
}

/// Returns a text that names the webhook or policy that denied the request, without its message; `None` if the message
/// is not a denial.
fn denial(message: &str, secret: &Secret) -> Option<String> {
    let message = without_subject(message, secret);
    let beginning = DENIALS.iter().find(|text| message.starts_with(**text))?;
    let (kind, quote) = beginning.split_at(beginning.len() - 1);
    let (name, rest) = message[beginning.len()..].split_once(quote)?;
    let is_denial =
        is_name(name) && (rest.starts_with(" denied ") || rest.starts_with(" with binding '"));
    is_denial.then(|| {
        format!(
            "{kind}\"{name}\" denied the request; its message is not shown, since it may quote a value: ask the \
             administrator of the webhook or policy"
        )
    })
}

/// Returns whether the API server itself denied the request, for a reason that does not depend on values.
fn is_public_denial(message: &str, secret: &Secret) -> bool {
    let message = without_subject(message, secret);
    PUBLIC_DENIALS.iter().any(|text| message.starts_with(text))
}

/// Returns the message without the leading text in which the API server names the Secret.
fn without_subject<'a>(message: &'a str, secret: &Secret) -> &'a str {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let named = message.strip_prefix(&format!("secrets \"{name}\" is forbidden: "));
    let unnamed = || message.strip_prefix("secrets is forbidden: ");
    named.or_else(unnamed).unwrap_or(message)
}

/// Returns whether the text can be the name of a webhook or policy: a DNS name.
fn is_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    !text.is_empty() && text.chars().all(is_allowed)
}

/// Returns a text that names the webhook that failed; `None` if no webhook failed.
fn failed_webhook(message: &str) -> Option<String> {
    let (name, _) = message.strip_prefix(FAILED_WEBHOOK)?.split_once('"')?;
    is_name(name).then(|| format!("failed calling webhook \"{name}\""))
}

/// Returns the problems that are independent of the values; `None` if there are none. They are sorted, since the API
/// server reports problems of items in random order, and each new order would be a new message. There may also be
/// problems that depend on the values.
fn public_causes(status: &Status, secret: &Secret) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let causes = causes.iter().filter(|cause| is_public(cause, secret));
    let mut causes: Vec<String> = causes
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    causes.sort();
    (!causes.is_empty()).then(|| format!("the Secret is invalid: {}", causes.join("; ")))
}

/// Returns whether the problem depends only on metadata, type, immutability or item names.
fn is_public(cause: &StatusCause, secret: &Secret) -> bool {
    if PUBLIC_FIELDS.contains(&cause.field.split('.').next().unwrap_or_default()) {
        return true;
    }
    let item = cause.field.strip_prefix("data[");
    let Some(item) = item.and_then(|field| field.strip_suffix(']')) else {
        return false;
    };
    // A required item that exists may be reported because it is empty, which depends on the value.
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
        secret.metadata.name = Some("n".into());
        for item in [".dockerconfigjson", "ssh-privatekey", "a b"] {
            secret.data.insert(item.into(), Plain::default());
        }
        secret
    }

    fn classify_response(status: Status) -> StoreError {
        secret_error("cannot create the Secret", &secret())(kube::Error::Api(Box::new(status)))
    }

    fn invalid_with(causes: &[(&str, &str, &str)]) -> StoreError {
        invalid_with_text(
            "Secret \"n\" is invalid: everything that the causes say",
            causes,
        )
    }

    fn invalid_with_text(text: &str, causes: &[(&str, &str, &str)]) -> StoreError {
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
        classify_response(
            Status::failure(text, "Invalid")
                .with_code(422)
                .with_details(details),
        )
    }

    fn is_about_values(error: &StoreError) -> bool {
        matches!(error, StoreError::Rejected { public: None, .. })
    }

    /// Attack: an author gives the Secret a type whose check quotes the first invalid character of a value, to read the
    /// character in the status.
    #[test]
    fn reports_no_detail_of_value_checks() {
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
            let error = invalid_with(&[(field, reason, message)]);
            assert!(is_about_values(&error), "{field}");
            assert_eq!(
                error.to_string(),
                "cannot create the Secret: the API server does not accept its values"
            );
        }
        assert!(is_about_values(&invalid_with(&[])));
        let too_large = Status::failure("etcdserver: request is too large", "").with_code(413);
        assert!(is_about_values(&classify_response(too_large)));
    }

    /// Attack: an author hides the error of a value behind an error that occurs for every value, to learn the value
    /// from the difference.
    #[test]
    fn reports_only_errors_that_are_independent_of_values() {
        for (field, reason, message) in [
            ("data[tls.key]", "FieldValueRequired", "Required value"),
            ("data[a b]", "FieldValueInvalid", INVALID_KEY),
            (
                "metadata.labels",
                "FieldValueInvalid",
                "Invalid value: \"*\": a valid label must …",
            ),
        ] {
            let value_cause = ("data[.dockerconfigjson]", "FieldValueInvalid", "'r'");
            let text = invalid_with(&[(field, reason, message)]).to_string();
            let text_of_both = invalid_with(&[value_cause, (field, reason, message)]).to_string();
            assert_eq!(
                text,
                format!("cannot create the Secret: the Secret is invalid: {field}: {message}")
            );
            assert_eq!(text, text_of_both);
        }
    }

    /// Attack: a client runs an admission webhook that quotes the Secret in its denial, to read the Secret in the
    /// status.
    #[test]
    fn names_the_webhook_but_hides_its_message() {
        for (text, denier) in [
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
                "ValidatingAdmissionPolicy \"p\" denied the request",
            ),
            (
                "policy 'p.q' with binding 'b' denied request: hunter2",
                "policy \"p.q\" denied the request",
            ),
            (
                "policy \"p\" denied request: hunter2",
                "policy \"p\" denied the request",
            ),
        ] {
            for code in [400, 403, 422, 500] {
                assert_eq!(
                    classify_response(Status::failure(text, "Forbidden").with_code(code))
                        .to_string(),
                    format!(
                        "cannot create the Secret: {denier}; its message is not shown, since it may quote a value: ask the administrator of the webhook or policy"
                    )
                );
            }
        }
    }

    /// Attack: an author puts the text of a denial into an invalid label. The API server quotes the label, in brackets
    /// if it also rejects a value, and the brackets would appear as part of the denial.
    #[test]
    fn a_denial_quoted_from_a_label_is_not_reported_as_a_denial() {
        let label = "Invalid value: \"denied the request; denied request\": a valid label must …";
        let label_cause = ("metadata.labels", "FieldValueInvalid", label);
        let value_cause = ("data[.dockerconfigjson]", "FieldValueInvalid", "'r'");
        let [alone, with_value] = [
            (format!("metadata.labels: {label}"), vec![label_cause]),
            (
                format!("[metadata.labels: {label}, data[.dockerconfigjson]: 'r']"),
                vec![label_cause, value_cause],
            ),
        ]
        .map(|(text, causes)| {
            let text = format!("Secret \"n\" is invalid: {text}");
            invalid_with_text(&text, &causes).to_string()
        });
        assert_eq!(alone, with_value);
        assert_eq!(
            alone,
            format!("cannot create the Secret: the Secret is invalid: metadata.labels: {label}")
        );
    }

    /// Attack: an author makes the API server quote the Secret after the beginning of a denial, or in a check outside
    /// webhooks and policies, to read the Secret in the status.
    #[test]
    fn reports_only_names_of_denials_and_only_denials_independent_of_values() {
        let is_hidden = |code, text: &str| {
            let error = classify_response(Status::failure(text, "R").with_code(code)).to_string();
            !error.contains("hunter2")
        };
        for (code, text) in [
            (400, "admission webhook \"w hunter2\" denied the request"),
            (400, "hunter2: admission webhook \"w\" denied the request"),
            (500, "hunter2: failed calling webhook \"hunter2\""),
            (422, "policy 'p' with binding 'b' denied request: hunter2"),
            (422, "policy \"p\" denied request: hunter2"),
            (
                403,
                "secrets \"n\" is forbidden: expression 'e' resulted in error: hunter2",
            ),
            (
                403,
                "secrets \"n\" is forbidden: hunter2: exceeded quota: q",
            ),
            (403, "hunter2"),
        ] {
            assert!(is_hidden(code, text), "{text}");
        }
    }

    /// Attack: an author makes the API server fail with a message that quotes the Secret, to read the Secret in the
    /// status.
    #[test]
    fn responses_that_may_quote_the_request_are_reported_by_their_code() {
        for (code, text, want) in [
            (
                403,
                "secrets \"n\" is forbidden: exceeded quota: q",
                "secrets \"n\" is forbidden: exceeded quota: q",
            ),
            (
                403,
                "secrets is forbidden: User \"u\" cannot create resource",
                "secrets is forbidden: User \"u\" cannot create resource",
            ),
            (403, "hunter2", "the API server responded with 403 R"),
            (400, "hunter2", "the API server responded with 400 R"),
            (500, "hunter2", "the API server responded with 500 R"),
            (
                500,
                "Internal error occurred: failed calling webhook \"w\": hunter2",
                "failed calling webhook \"w\"",
            ),
        ] {
            let error = classify_response(Status::failure(text, "R").with_code(code)).to_string();
            assert_eq!(error, format!("cannot create the Secret: {want}"));
        }
    }

    #[test]
    fn reports_the_same_message_for_problems_in_any_order() {
        let problems = [
            ("data[a b]", "FieldValueInvalid", INVALID_KEY),
            ("metadata.labels", "FieldValueInvalid", "invalid"),
        ];
        let mut reversed = problems;
        reversed.reverse();
        assert_eq!(
            invalid_with(&problems).to_string(),
            invalid_with(&reversed).to_string()
        );
    }

    #[test]
    fn a_secret_of_more_than_a_mebibyte_is_not_sent() {
        for (size, is_sent) in [(MAX_SECRET_LEN, true), (MAX_SECRET_LEN + 1, false)] {
            let mut secret = Secret::default();
            secret
                .data
                .insert("a".into(), Plain::from(vec![0; size - 1]));
            secret.data.insert("b".into(), Plain::from(vec![0; 1]));
            assert_eq!(check_size("x", &secret).is_ok(), is_sent, "{size}");
        }
    }

    /// Attack: another client adds so many annotations that the Secret cannot be written, so that the status blames the
    /// values.
    #[test]
    fn a_size_that_does_not_depend_on_values_is_reported() {
        for (count, is_public) in [(10_000, false), (21_000, true)] {
            let mut secret = Secret::default();
            let annotations = (0..count).map(|i| (format!("x{i}"), String::new()));
            secret.metadata.annotations = Some(annotations.collect());
            secret
                .data
                .insert("a".into(), Plain::from(vec![0; MAX_SECRET_LEN]));
            let error = check_size("x", &secret).unwrap_err();
            assert_eq!(!is_about_values(&error), is_public, "{count}: {error}");
        }
    }
}
