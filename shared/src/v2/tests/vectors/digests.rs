//! Digests of templates, identifiers of v1 values, and content versions.

use super::*;

fn templates_to_digest() -> [Json; 6] {
    [
        json!(null),
        json!({"type": "", "metadata": null, "data": {}}),
        json!({"type": "Opaque", "immutable": false}),
        json!({"immutable": true, "metadata": {"labels": {"b": "2", "a": "1"}, "annotations": {"a": ""}}}),
        json!({"metadata": {"name": "n", "generateName": "g", "finalizers": ["x/y", "a/b"]}}),
        json!({"data": {"user": null, "empty": "", "\u{ff61}": "\u{e9}", "\u{10000}": "e\u{301}"}}),
    ]
}

pub(super) fn templates() -> Vec<Json> {
    let case = |template: Json| {
        let parsed = serde_json::from_value::<Option<_>>(template.clone()).unwrap();
        let digest = TemplateDigest::of(&parsed.unwrap_or_default());
        json!({"template": template, "digest": hexadecimal(digest.as_bytes())})
    };
    templates_to_digest().map(case).to_vec()
}

pub(super) fn v1_vids() -> Vec<Json> {
    let case = |len: u8| {
        let session: Vec<u8> = (0..len).collect();
        let id = crate::envelope::value_id(&session);
        json!({"sessionKey": hexadecimal(&session), "vid": hexadecimal(id.expose())})
    };
    [16, 24, 32].map(case).to_vec()
}

/// Returns a case for the version of the file `config/app.ini`. Each input consists of object, item, identifier and
/// value.
fn version(template: Option<&str>, inputs: &[(&str, &str, u8, &str)]) -> Json {
    let values = inputs.iter().map(|(_, _, id, plain)| Value {
        id: ValueId::from_bytes([*id; 16]),
        plain: Plain::from(plain.as_bytes().to_vec()),
    });
    let values: Vec<_> = values.collect();
    let named = inputs.iter().zip(&values);
    let digest = |value: &Value| ValueDigest::new(&value.id, &value.plain);
    let by_name = named.map(|(i, value)| ((i.0, i.1), digest(value)));
    let by_name: VersionInputs<'_> = by_name.collect();
    let key = VersionKey::new(&[5; 32]);
    let version = ContentVersion::new(&key, "shop", "config/app.ini", template, &by_name);
    let input = |(i, value): (&(&str, &str, u8, &str), &Value)| {
        json!({
            "object": i.0, "item": i.1,
            "vid": hexadecimal(value.id.expose()), "value": hexadecimal(value.plain.expose()),
        })
    };
    json!({
        "key": hexadecimal(&[5; 32]), "namespace": "shop", "path": "config/app.ini", "template": template,
        "inputs": inputs.iter().zip(&values).map(input).collect::<Vec<_>>(), "version": version.to_string(),
    })
}

pub(super) fn versions() -> Vec<Json> {
    let one = ("db", "password", 1, "hunter2");
    vec![
        version(None, &[]),
        version(None, &[one]),
        version(Some(""), &[one]),
        version(None, &[("db", "password", 2, "hunter2")]),
        version(None, &[("db", "password", 1, "hunter3")]),
        version(None, &[("db", "user", 1, "hunter2")]),
        version(
            Some("{{ .db }}"),
            &[("web", "a", 3, ""), one, ("db", "b", 4, "x")],
        ),
        version(
            None,
            &[("\u{10000}", "a", 3, "y"), ("\u{ff61}", "a", 4, "x")],
        ),
    ]
}

#[test]
fn digests_identifiers_and_versions_equal_those_of_the_vector_file() {
    let file = read_vectors("v2.json");
    assert_eq!(file["templates"], Json::from(templates()));
    assert_eq!(file["v1Vids"], Json::from(v1_vids()));
    assert_eq!(file["versions"], Json::from(versions()));
}
