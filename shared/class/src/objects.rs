//! The parameter `objects`: a list of entries as in a request to the controller, or as for Vault's provider.

use std::collections::HashMap;

use deliver::{EntryBody, MAX_REQUEST, Request, RequestBody};
use serde::Deserialize;
use serde_json::Value;

use crate::encoding::Encoding;
use crate::yaml;

/// What to request from the controller, and how to decode it.
#[derive(Debug, PartialEq)]
pub struct Selection {
    /// The request to the controller.
    pub request: RequestBody,
    /// The encodings of files whose values are decoded, by path.
    pub encodings: HashMap<String, Encoding>,
}

/// Why the parameter cannot be used. The message contains no line or column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parameter `objects` cannot be used: {0}")]
pub struct ObjectsError(String);

/// An entry for Vault's provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct VaultEntry {
    object_name: String,
    secret_path: String,
    secret_key: Option<String>,
    file_permission: Option<String>,
    encoding: Option<String>,
}

/// The key that every entry for Vault's provider has.
const VAULT_KEY: &str = "objectName";

/// Parses and checks the parameter.
///
/// # Errors
///
/// Returns the first problem.
pub fn read(text: &str) -> Result<Selection, ObjectsError> {
    // Checked first, because parsing needs much more memory than the text.
    if text.len() > MAX_REQUEST {
        return Err(too_long());
    }
    let list = yaml::read(text).map_err(|error| ObjectsError(error.to_string()))?;
    let Value::Array(list) = list else {
        return Err(ObjectsError("it is not a list".to_owned()));
    };
    let mut encodings = HashMap::new();
    let entries = list.into_iter().enumerate().map(|(index, entry)| {
        let result = entry_of(entry, &mut encodings);
        result.map_err(|problem| ObjectsError(format!("objects[{index}]: {problem}")))
    });
    let request = RequestBody {
        objects: entries.collect::<Result<_, _>>()?,
        ..RequestBody::default()
    };
    check(&request)?;
    Ok(Selection { request, encodings })
}

fn too_long() -> ObjectsError {
    ObjectsError("it is longer than 256 KiB\nhint: use several volumes".to_owned())
}

/// Checks the entries before a request is sent, so that mistakes are reported even if no controller responds.
fn check(request: &RequestBody) -> Result<(), ObjectsError> {
    if request.to_json().len() > MAX_REQUEST {
        return Err(too_long());
    }
    Request::try_from(request.clone())
        .map(drop)
        .map_err(|error| {
            let hint = error.hint();
            ObjectsError(format!("{error}\nhint: {hint}"))
        })
}

fn entry_of(entry: Value, encodings: &mut HashMap<String, Encoding>) -> Result<EntryBody, String> {
    if entry.get(VAULT_KEY).is_none() {
        return serde_json::from_value(entry).map_err(|error| error.to_string());
    }
    let entry: VaultEntry = serde_json::from_value(entry).map_err(|error| error.to_string())?;
    let name = entry.encoding.as_deref().unwrap_or_default();
    if let Some(encoding) = Encoding::from_name(name).map_err(|error| error.to_string())? {
        encodings.insert(entry.object_name.clone(), encoding);
    }
    Ok(EntryBody {
        mode: entry.file_permission.map(permission).transpose()?,
        sealed_secret: Some(sealed_secret(&entry.secret_path)),
        items: Some(vec![entry.secret_key.ok_or(
            "`secretKey` is missing: name an item of the SealedSecret",
        )?]),
        path: Some(entry.object_name),
        ..EntryBody::default()
    })
}

/// Returns the name of the SealedSecret for a path in Vault: the last component.
fn sealed_secret(path: &str) -> String {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Returns a file mode with the prefix `0`, which replaces `0o`. Refuses a mode without prefix: Vault's provider reads
/// `400` as a decimal number, which is the mode 0620.
fn permission(text: String) -> Result<String, String> {
    let digits = text.strip_prefix("0o").map(|digits| format!("0{digits}"));
    let text = digits.unwrap_or(text);
    if text.starts_with('0') {
        Ok(text)
    } else {
        Err("`filePermission` is not octal: begin it with 0, as in 0400".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> String {
        String::from_utf8(read(text).unwrap().request.to_json()).unwrap()
    }

    fn message(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    /// Attack: the author of a Pod sets a huge parameter, so that the provider of the node is killed for its memory.
    #[test]
    fn a_huge_parameter_is_refused_before_it_is_parsed() {
        let malformed = "[".repeat(MAX_REQUEST + 1);
        assert_eq!(read(&malformed), Err(too_long()));
        assert_ne!(read(&malformed[1..]), Err(too_long()));
    }

    #[test]
    fn reads_the_entries_of_the_protocol() {
        let text = r#"
            - sealedSecret: db
              path: db/
              mode: 0440
            - sealedSecret: web
              items: [password, 1]
            - path: dsn
              template: "postgres://{{ .db.user }}:{{ .db.password }}@pg/shop"
              from: [db]
        "#;
        let expected = concat!(
            r#"{"objects":[{"sealedSecret":"db","path":"db/","mode":"0440"},"#,
            r#"{"sealedSecret":"web","items":["password","1"]},"#,
            r#"{"path":"dsn","template":"postgres://{{ .db.user }}:{{ .db.password }}@pg/shop","from":["db"]}]}"#
        );
        assert_eq!(json(text), expected);
    }

    #[test]
    fn reads_the_entries_of_a_class_for_vault() {
        let text = r#"
            - objectName: "db-password"
              secretPath: "secret/data/shop/db"
              secretKey: "password"
              filePermission: 0400
            - objectName: key
              secretPath: db
              secretKey: key
              filePermission: 0o440
              encoding: base64
        "#;
        let expected = concat!(
            r#"{"objects":[{"sealedSecret":"db","items":["password"],"path":"db-password","mode":"0400"},"#,
            r#"{"sealedSecret":"db","items":["key"],"path":"key","mode":"0440"}]}"#
        );
        assert_eq!(json(text), expected);
        let encodings = read(text).unwrap().encodings;
        assert_eq!(
            encodings,
            HashMap::from([("key".to_owned(), Encoding::Base64)])
        );
    }

    #[test]
    fn a_message_names_the_entry_and_what_to_do() {
        let cases = [
            ("a: b", "it is not a list"),
            ("[", "it is not valid YAML"),
            ("[]", "names no object"),
            ("- db", "objects[0]: invalid type"),
            (
                "- sealedSecret: db\n  pth: x",
                "objects[0]: unknown field `pth`, expected one of",
            ),
            (
                "- sealedSecret: ../x",
                "objects[0]: \"../x\" is not a valid name for a SealedSecret",
            ),
            ("- sealedSecret: db\n  path: ../x/", "objects[0]: "),
            (
                "- {objectName: a, secretPath: db}",
                "`secretKey` is missing",
            ),
            (
                "- {objectName: a, secretPath: db, secretKey: k, filePermission: 400}",
                "begin it with 0",
            ),
            (
                "- {objectName: a, secretPath: db, secretKey: k, encoding: rot13}",
                "unknown encoding \"rot13\"",
            ),
            (
                "- {objectName: a, secretPath: db, secretKey: k, method: GET}",
                "unknown field `method`",
            ),
            (
                "- {objectName: a, secretPath: '/', secretKey: k}",
                "is not a valid name for a SealedSecret",
            ),
        ];
        for (text, expected) in cases {
            let message = message(text);
            assert!(
                message.starts_with("the parameter `objects` cannot be used: "),
                "{message}"
            );
            assert!(message.contains(expected), "{message}");
        }
    }

    proptest! {
        /// Attack: the author of a class or a Pod makes the provider request more than a controller accepts, or crash.
        #[test]
        fn an_accepted_parameter_is_a_request_that_a_controller_accepts(text in entries()) {
            if let Ok(Selection { request, encodings }) = read(&text) {
                let json = request.to_json();
                let request = Request::from_json(&json);
                prop_assert!(request.is_ok(), "{text}");
                let paths: Vec<_> = encodings.keys().collect();
                prop_assert!(paths.iter().all(|path| text.contains(path.as_str())), "{text}");
            }
        }
    }

    /// Generates strings that resemble a list of entries.
    fn entries() -> impl Strategy<Value = String> {
        let key = "sealedSecret|items|path|mode|template|from|objectName|secretPath|secretKey|filePermission|encoding|[a-z]";
        let value = r"db|web/|\.\./x|0440|400|hex|base64|\[a, b\]|\[db\]|~|[ -~]{0,6}";
        let entry = prop::collection::vec((key, value), 0..5).prop_map(|fields| {
            let fields = fields.iter().map(|(key, value)| format!("{key}: {value}"));
            fields.collect::<Vec<_>>().join("\n  ")
        });
        prop::collection::vec(entry, 0..4).prop_map(|entries| {
            entries
                .iter()
                .map(|entry| format!("- {entry}\n"))
                .collect::<Vec<_>>()
                .concat()
        })
    }
}
