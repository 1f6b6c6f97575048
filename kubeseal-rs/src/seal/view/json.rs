//! The output of `seal view` as YAML and JSON.

use serde::Serialize;
use shared::base64;
use shared::plain::Plain;

use super::v2::V2Report;
use super::{ObjectView, form};
use crate::seal::object::{Form, Item};

/// One SealedSecret. **It contains plain values with `--reveal`.**
#[derive(Serialize)]
pub(super) struct ObjectReport<'a> {
    file: &'a str,
    /// The line where the object begins.
    line: usize,
    /// The namespace; empty if the object has none.
    namespace: &'a str,
    /// The name; empty if the object has none.
    name: &'a str,
    /// `strict`, `namespace-wide` or `cluster-wide`.
    scope: String,
    /// The type of the Secret.
    #[serde(rename = "type")]
    type_: &'a str,
    /// The items, in the order of the file.
    items: Vec<ItemReport<'a>>,
    /// The item keys that have a template.
    templates: Vec<&'a String>,
}

/// One sealed item.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemReport<'a> {
    /// The item key.
    key: &'a str,
    /// The line where the sealed value begins.
    line: usize,
    /// The size of the RSA key that a v1 value is sealed for, in bits; absent for any other value.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<usize>,
    /// The properties of a v2 value that are visible without a key; absent for any other value.
    #[serde(skip_serializing_if = "Option::is_none")]
    v2: Option<V2Report<'a>>,
    /// Why the value is not a sealed value; absent if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The fingerprint that the key hint names; absent without a hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed_for: Option<String>,
    /// The date from which the value is overdue for a change; absent without a date.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate_by: Option<String>,
    /// The age of the ciphertext in Git, in days; absent if it is not committed, or its commit is missing in a shallow
    /// clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i64>,
    /// The value in base64; absent without `--reveal`, or if the value is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl<'a> ObjectReport<'a> {
    pub(super) fn new(view: &'a ObjectView) -> Self {
        let object = &view.object;
        let spec = &object.sealed.spec;
        let items = object.items.iter().enumerate();
        Self {
            file: &view.file,
            line: object.line,
            namespace: object.sealed.namespace_or_empty(),
            name: object.sealed.name_or_empty(),
            scope: object.scope.to_string(),
            type_: spec.template.type_.as_deref().unwrap_or("Opaque"),
            items: items
                .map(|(index, item)| ItemReport::new(view, index, item))
                .collect(),
            templates: object.templates().collect(),
        }
    }
}

impl<'a> ItemReport<'a> {
    fn new(view: &'a ObjectView, index: usize, item: &'a Item) -> Self {
        let (bits, problem) = match &item.form {
            Form::Bits(bits) => (Some(*bits), None),
            Form::V2(_) => (None, None),
            other => (None, Some(form(other))),
        };
        let values = view.values.as_ref();
        let value = values.and_then(|values| values.get(&item.key)?.as_ref());
        Self {
            key: &item.key,
            line: item.line,
            bits,
            v2: match &item.form {
                Form::V2(item) => Some(V2Report::new(item, &view.comments)),
                _ => None,
            },
            problem,
            sealed_for: item.hint.as_ref().map(ToString::to_string),
            rotate_by: object_date(view, item),
            days: view.ages.get(index).copied().flatten(),
            value: value.map(|value: &Plain| base64::encode(value.expose())),
        }
    }
}

fn object_date(view: &ObjectView, item: &Item) -> Option<String> {
    let due = view.object.rotate_by.dates.get(&item.key);
    due.map(|due| due.date.to_string())
}

#[cfg(test)]
mod tests {
    use shared::manifest;
    use shared::scope::Scope;
    use shared::v2::{self, LockSpec, Place, Recipient as _, SecretKey, Suite, Value};

    use super::*;
    use crate::seal::object::Object;
    use crate::seal::output::tests::{check_documents, document_text};
    use crate::seal::recipients::KeyComments;

    fn view(yaml: &str) -> ObjectView {
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        ObjectView {
            path: "db.yaml".into(),
            file: "db.yaml".to_owned(),
            object: Object::read(&documents[0].root).unwrap(),
            ages: Vec::new(),
            values: None,
            comments: KeyComments::new(),
        }
    }

    /// Adds a v2 item, and returns its lock.
    fn add_v2_item(view: &mut ObjectView) -> String {
        let rng = &mut shared::random::system();
        let key = SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap();
        let recipient = key.recipient();
        let place = Place::for_sealing(Scope::Strict, "shop", "db").unwrap();
        let spec = LockSpec {
            place: &place,
            recipients: &[&recipient],
            allow_classical: false,
            template: None,
            is_never_secret: false,
            is_alone: false,
            revision: 7,
        };
        let value = Value::new(Plain::from(b"x".to_vec()), rng);
        let text = v2::seal_inline(&spec, "c", &value, rng).unwrap();
        let entries = [("c".to_owned(), text)].into();
        let item = v2::Object::parse(&entries).unwrap().view()["c"].clone();
        let lock = item.lock.to_string();
        let comment = "main".to_owned();
        view.comments.insert(recipient.key_id().short(), comment);
        view.object.items.push(Item {
            key: "c".to_owned(),
            line: 8,
            form: Form::V2(item.into()),
            hint: None,
        });
        lock
    }

    #[test]
    fn the_report_has_the_documented_form() {
        let yaml = r#"metadata:
  name: db
  namespace: shop
  annotations:
    sealedsecrets.bitnami.com/key-hints: '{"a":"SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk"}'
    sealedsecrets.bitnami.com/rotate-by: "a 2027-03-01 90d"
spec:
  encryptedData: {a: "", b: x}
  template: {type: t, data: {url: "{{ .a }}"}}
"#;
        let mut view = view(yaml);
        // The test has no sealed value, so this form replaces one.
        view.object.items[0].form = Form::Bits(2048);
        view.ages = vec![Some(3), None];
        let lock = add_v2_item(&mut view);
        let value = Some(Plain::from(b"hunter2".to_vec()));
        view.values = Some([("a".to_owned(), value)].into());
        let want = r#"{
  "file": "db.yaml",
  "line": 1,
  "namespace": "shop",
  "name": "db",
  "scope": "strict",
  "type": "t",
  "items": [
    {
      "key": "a",
      "line": 8,
      "bits": 2048,
      "sealedFor": "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk",
      "rotateBy": "2027-03-01",
      "days": 3,
      "value": "aHVudGVyMg=="
    },
    {
      "key": "b",
      "line": 8,
      "problem": "not a sealed value: it is not base64 (invalid byte at offset 0), 1 byte"
    },
    {
      "key": "c",
      "line": 8,
      "v2": {
        "lock": "LOCK",
        "inline": true,
        "revision": 7,
        "scope": "strict",
        "templateBound": false,
        "postQuantumOnly": true,
        "neverSecret": false,
        "alone": false,
        "recipients": [
          {
            "suite": "xw",
            "keyId": "1f79tcRB6C15M6q5Y1tFHQ",
            "comment": "main"
          }
        ]
      }
    }
  ],
  "templates": [
    "url"
  ]
}
"#;
        let want = want.replace("LOCK", &lock);
        check_documents("seal view", &[ObjectReport::new(&view)], &want);
    }

    #[test]
    fn the_smallest_report_has_the_documented_form() {
        let view = view("spec: {encryptedData: {}}");
        let want = r#"{
  "file": "db.yaml",
  "line": 1,
  "namespace": "",
  "name": "",
  "scope": "strict",
  "type": "Opaque",
  "items": [],
  "templates": []
}
"#;
        assert_eq!(document_text(&[ObjectReport::new(&view)]), want);
    }
}
