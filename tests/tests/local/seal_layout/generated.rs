//! Generates YAML and JSON files with the layouts that users write.

use rand::RngExt as _;
use rand::rngs::StdRng;

pub(crate) struct GeneratedFile {
    pub(crate) text: String,
    /// The index of the document with the SealedSecret, counted from zero. Empty documents do not count.
    pub(crate) document: usize,
    /// The item keys of the SealedSecret.
    pub(crate) items: Vec<String>,
    pub(crate) extension: &'static str,
}

/// A function that returns the sealed text of an item, given the namespace and the name of its object, and the item
/// key.
pub(crate) type Seal<'a> = &'a mut dyn FnMut(&str, &str, &str) -> String;

pub(crate) fn generate_file(rng: &mut StdRng, seal: Seal<'_>) -> GeneratedFile {
    let object_name = ("ns".to_owned(), format!("n{}", rng.random_range(0..1000)));
    let count = rng.random_range(1..5);
    let items: Vec<String> = ["alpha", "beta.key", "gamma-1", "delta_2", "epsilon"][..count]
        .iter()
        .map(|key| (*key).to_owned())
        .collect();
    let values: Vec<String> = items
        .iter()
        .map(|key| seal(&object_name.0, &object_name.1, key))
        .collect();
    if rng.random_range(0..6) == 0 {
        return json_file(rng, &object_name, items, &values);
    }
    let sealed = sealed_secret(rng, &object_name, &items, &values);
    let mut documents = vec![sealed];
    let mut document = 0;
    for _ in 0..rng.random_range(0..3) {
        let other = other_object(rng);
        if rng.random() {
            documents.insert(0, other);
            document += 1;
        } else {
            documents.push(other);
        }
    }
    let mut text = documents.join(pick(rng, &["---\n", "--- # next\n", "...\n---\n"]));
    if rng.random() {
        text.insert_str(0, pick(rng, &["---\n", "# first\n---\n", "\n"]));
    }
    if rng.random_range(0..4) == 0 {
        text.truncate(text.trim_end().len());
    }
    if rng.random_range(0..3) == 0 {
        text = text.replace('\n', "\r\n");
    }
    if rng.random_range(0..8) == 0 {
        text.insert(0, '\u{feff}');
    }
    let extension = "yaml";
    GeneratedFile {
        text,
        document,
        items,
        extension,
    }
}

fn pick<'a>(rng: &mut StdRng, choices: &[&'a str]) -> &'a str {
    choices[rng.random_range(0..choices.len())]
}

fn json_file(
    rng: &mut StdRng,
    object_name: &(String, String),
    items: Vec<String>,
    values: &[String],
) -> GeneratedFile {
    let data: serde_json::Map<String, serde_json::Value> = items
        .iter()
        .cloned()
        .zip(values.iter().map(|v| v.clone().into()))
        .collect();
    let object = serde_json::json!({
        "kind": "SealedSecret", "apiVersion": "bitnami.com/v1alpha1",
        "metadata": { "name": object_name.1, "namespace": object_name.0, "annotations": { "ü": "\u{1f600}" } },
        "spec": { "encryptedData": data, "template": { "type": "Opaque" } },
    });
    let mut text = match rng.random_range(0..3) {
        0 => object.to_string(),
        1 => format!("{object:#}\n"),
        _ => format!("{object:#}\n")
            .replace("  ", "\t")
            .replace("\": ", "\" : "),
    };
    if rng.random() {
        text = text.replace('\n', "\r\n");
    }
    GeneratedFile {
        text,
        document: 0,
        items,
        extension: "json",
    }
}

/// Returns an object of another kind, which must not change.
fn other_object(rng: &mut StdRng) -> String {
    let bodies = [
        "data:\n  a: |+\n    kept  \n\n\n",
        "data: {a: 'it''s', b: \"x\\\n  y\"}   \n",
        "x: &x {k: v} # anchor\ny: *x\nz:\n  <<: *x\n",
        "list:\n- a: 1\n  b: [1, 2,\n    3]\n-   - c\n# end\n",
        "? odd key\n: value\nnumbers: [0x10, 1_000, yes, ~]\n",
        "folded: >-\n    one\n    two\n\n    three\n\t\n",
    ];
    let body = pick(rng, &bodies).replace("\t\n", "\n");
    format!("# another\nkind: ConfigMap\napiVersion: v1\n{body}")
}

fn sealed_secret(
    rng: &mut StdRng,
    (namespace, name): &(String, String),
    items: &[String],
    values: &[String],
) -> String {
    let step = [1, 2, 3, 4, 8][rng.random_range(0..5)];
    let (indent, double_indent) = (" ".repeat(step), " ".repeat(2 * step));
    let comment = |rng: &mut StdRng, indent: &str| match rng.random_range(0..4) {
        0 => format!("{indent}# about what follows: [{{\n"),
        1 => format!("{indent}#\n\n"),
        _ => String::new(),
    };
    let metadata = if rng.random() {
        format!("metadata: {{ name: {name}, namespace: '{namespace}' }} # flow\n")
    } else {
        format!("metadata:\n{indent}name:   {name}\n{indent}\"namespace\": {namespace}  \n")
    };
    let mut data = String::new();
    if rng.random_range(0..4) == 0 {
        data.push_str(&flow_mapping(rng, items, values, &indent));
    } else {
        data.push_str(pick(
            rng,
            &[
                "encryptedData:\n",
                "encryptedData:   # the values\n",
                "\"encryptedData\" :\n",
            ],
        ));
        for (key, value) in items.iter().zip(values) {
            data.push_str(&comment(rng, &double_indent));
            data.push_str(&yaml_item(rng, key, value, &double_indent, &indent));
        }
    }
    let template = match rng.random_range(0..4) {
        0 => format!("{indent}template: {{type: Opaque}}\n"),
        1 => format!(
            "{indent}template:\n{double_indent}type: Opaque # why not\n{double_indent}data:\n{double_indent} t: |\n{double_indent}   x\n\n"
        ),
        2 => format!("{indent}template: ~\n"),
        _ => String::new(),
    };
    let spec = if rng.random() {
        format!("spec:\n{}{indent}{data}{template}", comment(rng, &indent))
    } else {
        format!("spec: # all\n{template}{indent}{data}")
    };
    let head = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n";
    if rng.random() {
        format!("{head}{metadata}{}{spec}", comment(rng, ""))
    } else {
        format!("{spec}{head}{metadata}")
    }
}

fn yaml_item(rng: &mut StdRng, key: &str, value: &str, indent: &str, step: &str) -> String {
    let inner_indent = format!("{indent}{step}");
    let key = match rng.random_range(0..4) {
        0 => format!("\"{key}\""),
        1 => format!("'{key}'"),
        _ => key.to_owned(),
    };
    let middle = value.len() / 2;
    let value = match rng.random_range(0..11) {
        0 => format!("'{value}'"),
        1 => format!("\"{value}\"  # quoted"),
        2 => format!(">-\n{inner_indent}{value}"),
        3 => format!("|- # literal\n{inner_indent}{value}\n"),
        4 => format!("\n{inner_indent}{value}"),
        5 => format!("\n{inner_indent}# below its key\n{inner_indent}{value} # here"),
        6 => format!("&anchor {value}"),
        7 => format!("!!str {value}"),
        8 => format!(
            "\"{}\\\n{inner_indent}{}\"",
            &value[..middle],
            &value[middle..]
        ),
        _ => value.to_owned(),
    };
    let end = pick(rng, &["", "", " ", " # comment with: a colon"]);
    let end = if value.contains('\n') { "" } else { end };
    format!(
        "{indent}{key}:{}{value}{end}\n",
        pick(rng, &[" ", " ", "   "])
    )
}

fn flow_mapping(rng: &mut StdRng, items: &[String], values: &[String], indent: &str) -> String {
    let quote = pick(rng, &["", "'", "\""]);
    let pairs = items.iter().zip(values);
    let pairs: Vec<String> = pairs
        .map(|(k, v)| format!("{quote}{k}{quote}: {quote}{v}{quote}"))
        .collect();
    match rng.random_range(0..4) {
        0 => format!("encryptedData: {{{}}}\n", pairs.join(", ")),
        1 => format!("encryptedData: {{ {}, }} # flow\n", pairs.join(" , ")),
        2 => format!(
            "encryptedData: {{\n{indent}  {}\n{indent} }}\n",
            pairs.join(&format!(",\n{indent}  "))
        ),
        _ => format!(
            "encryptedData: {{ # over lines\n{indent}  {}, # last\n{indent} }}\n",
            pairs.join(&format!(", # c\n{indent}  "))
        ),
    }
}
