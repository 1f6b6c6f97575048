//! What an API server says of a Secret that it does not take, without anything of its values.
//!
//! Its own checks quote what they stumble over: of a value that shall be JSON they tell the first character
//! that is none, and whoever may edit the SealedSecret moves that along the value. Webhooks and policies see
//! the whole Secret and say what they like. To take values out of a text is no help: what is missing then
//! tells which of the author's own words, quoted beside them, is a value.

use kube::core::Status;
use kube::core::response::StatusCause;

use crate::store::{StoreError, api};

/// Reasons whose text never quotes a value.
const HARMLESS: [&str; 3] = [
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueForbidden",
];
/// It is about the name of an item, not about its value.
const ABOUT_A_KEY: &str = "a valid config key must consist of";
/// Behind these, a webhook or a policy speaks; before them the API server, which names it.
const DENIALS: [&str; 2] = ["denied the request", "denied request"];

/// As [`api`], for a request with a Secret.
pub(crate) fn of_secret(doing: &'static str) -> impl Fn(kube::Error) -> StoreError {
    move |error| api(doing)(without_values(error))
}

fn without_values(error: kube::Error) -> kube::Error {
    let kube::Error::Api(mut status) = error else {
        return error;
    };
    if let Some(text) = denial(&status.message).or_else(|| causes(&status)) {
        status.message = text;
    }
    status.details = None;
    kube::Error::Api(status)
}

/// Who denies it, without the words.
fn denial(text: &str) -> Option<String> {
    let end = |words: &&str| text.find(*words).map(|at| at + words.len());
    let end = DENIALS.iter().filter_map(end).min()?;
    Some(format!(
        "{}; its words may quote a value and are not shown: ask whoever runs it",
        &text[..end]
    ))
}

/// What is wrong, cause by cause, if any of it is about a value.
fn causes(status: &Status) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    if !causes.iter().any(is_about_data) {
        return None;
    }
    let causes: Vec<String> = causes.iter().map(cause).collect();
    Some(format!("the Secret is invalid: {}", causes.join("; ")))
}

fn is_about_data(cause: &StatusCause) -> bool {
    cause.field.starts_with("data")
}

fn cause(cause: &StatusCause) -> String {
    let StatusCause {
        field,
        reason,
        message,
    } = cause;
    let is_harmless = !is_about_data(cause)
        || HARMLESS.contains(&reason.as_str())
        || message.contains(ABOUT_A_KEY);
    if is_harmless {
        return format!("{field}: {message}");
    }
    format!("{field}: {reason}; what is wrong with it is not shown, since it may show the value")
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    fn told(status: Status) -> String {
        let error = kube::Error::Api(Box::new(status));
        of_secret("cannot create the Secret")(error).to_string()
    }

    fn invalid(causes: &[(&str, &str, &str)]) -> String {
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
        told(
            Status::failure(text, "Invalid")
                .with_code(422)
                .with_details(details),
        )
    }

    #[test]
    fn a_check_of_the_api_server_tells_no_character_of_a_value() {
        let text = "Invalid value: \"<secret contents redacted>\": invalid character 'r' looking for \
                    beginning of object key string";
        assert_eq!(
            invalid(&[("data[.dockerconfigjson]", "FieldValueInvalid", text)]),
            "cannot create the Secret: the Secret is invalid: data[.dockerconfigjson]: FieldValueInvalid; what is \
             wrong with it is not shown, since it may show the value"
        );
    }

    #[test]
    fn what_quotes_no_value_is_told() {
        for (field, reason, message) in [
            ("data[tls.key]", "FieldValueRequired", "Required value"),
            (
                "data",
                "FieldValueTooLong",
                "Too long: may not be more than 1048576 bytes",
            ),
            (
                "data[a b]",
                "FieldValueInvalid",
                "Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            ),
            (
                "metadata.labels",
                "FieldValueInvalid",
                "Invalid value: \"*\": a valid label must …",
            ),
        ] {
            let other = ("data[x]", "FieldValueRequired", "Required value");
            let told = invalid(&[(field, reason, message), other]);
            assert!(
                told.contains(&format!("{field}: {message}; data[x]: ")),
                "{told}"
            );
        }
    }

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
            assert_eq!(
                told(Status::failure(text, "Forbidden").with_code(403)),
                format!(
                    "cannot create the Secret: {who}; its words may quote a value and are not shown: ask whoever runs it"
                )
            );
        }
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        let told = told(Status::failure("exceeded quota: q", "Forbidden").with_code(403));
        assert_eq!(told, "cannot create the Secret: exceeded quota: q");
    }
}
