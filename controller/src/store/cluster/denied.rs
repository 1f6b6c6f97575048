//! What an API server says of a Secret that it does not take, without anything of its values.
//!
//! Its own checks quote what they stumble over: of a value that shall be JSON they tell the first character
//! that is none, and whoever may edit the SealedSecret moves that along the value. Webhooks see the whole
//! Secret and say what they like, which is worth reading.

use kube::core::Status;
use kube::core::response::StatusCause;
use shared::base64;
use shared::plain::Plain;
use shared::secret::Secret;

use crate::store::{StoreError, api};

/// Values are sought in what is said from this length on; `1` stands in too many words.
const SHORTEST: usize = 4;
/// What stands in the place of a value.
const HIDDEN: &str = "[value]";
/// Reasons whose text never quotes a value.
const HARMLESS: [&str; 3] = [
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueForbidden",
];
/// It is about the name of an item, not about its value.
const ABOUT_A_KEY: &str = "a valid config key must consist of";

/// As [`api`], for a request with this Secret.
pub(crate) fn about(secret: &Secret, doing: &'static str) -> impl Fn(kube::Error) -> StoreError {
    move |error| api(doing)(without_values(error, secret))
}

fn without_values(error: kube::Error, secret: &Secret) -> kube::Error {
    let kube::Error::Api(mut status) = error else {
        return error;
    };
    let text = causes(&status).unwrap_or_else(|| status.message.clone());
    status.message = redacted(text, secret);
    status.details = None;
    kube::Error::Api(status)
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

fn redacted(mut text: String, secret: &Secret) -> String {
    let mut forms: Vec<String> = secret.data.values().flat_map(forms).collect();
    // Of two that overlap the longer one leaves nothing.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    for form in forms {
        text = text.replace(&form, HIDDEN);
    }
    text
}

/// The texts by which a value could be quoted: its base64, and each line, as it is and in quotes.
fn forms(value: &Plain) -> Vec<String> {
    let bytes = value.expose();
    let lines = std::str::from_utf8(bytes).unwrap_or_default().lines();
    let mut forms: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    let quoted = forms
        .iter()
        .map(|line| line.replace('\\', "\\\\").replace('"', "\\\""));
    forms.extend(quoted.collect::<Vec<_>>());
    forms.push(base64::encode(bytes));
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    fn secret() -> Secret {
        let mut secret = Secret::default();
        for (key, value) in [
            ("a", "hunter2"),
            ("b", "{\"x\":\"y\"}"),
            ("c", "first line\n  second line\n"),
            ("d", "e"),
        ] {
            let value = Plain::from(value.to_owned());
            secret.data.insert(key.into(), value);
        }
        secret
    }

    fn told(status: Status) -> String {
        let error = kube::Error::Api(Box::new(status));
        about(&secret(), "cannot create the Secret")(error).to_string()
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
    fn a_webhook_is_heard_but_for_the_values_that_it_quotes() {
        let text = "admission webhook \"w\" denied the request: hunter2 (aHVudGVyMg==) is weak, so is \
                    \"{\\\"x\\\":\\\"y\\\"}\", {\"x\":\"y\"} and \"first line\\n  second line\\n\" in every namespace";
        assert_eq!(
            told(Status::failure(text, "Forbidden").with_code(403)),
            "cannot create the Secret: admission webhook \"w\" denied the request: [value] ([value]) is weak, so is \
             \"[value]\", [value] and \"[value]\\n  [value]\\n\" in every namespace"
        );
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        let told = told(Status::failure("exceeded quota: q", "Forbidden").with_code(403));
        assert_eq!(told, "cannot create the Secret: exceeded quota: q");
    }
}
