//! YAML and JSON: both sides read the same values out of the same texts, and write the same texts.

use proptest::{collection::btree_map, prelude::*};
use serde_json::{Value, json};
use shared::manifest::{self, Reading, Shape, to_json, to_yaml};
use tests::peer::{Format, Kind, PeerError};

use crate::PEER;

/// Texts that YAML readers and writers stumble over, beside any text at all.
fn text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "Y",
        "N",
        "true",
        "False",
        "null",
        "~",
        "",
        "0",
        "010",
        "0x1F",
        "0o7",
        "0b1",
        "1_000",
        "1e3",
        "1.5",
        ".5",
        "5.",
        "-0",
        "+1",
        ".inf",
        "-.Inf",
        ".nan",
        "12:30",
        "190:20:30.15",
        "2024-01-02",
        "2024-01-02T03:04:05Z",
        "=",
        "<<",
        "-",
        "?",
        ":",
        "---",
        "...",
        "- a",
        "? a",
        "a: b",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "{a}",
        "[a]",
        "a,b",
        "it's",
        "\"a\"",
        " a",
        "a ",
        "\ta",
        "a\t",
        "\n",
        "\na",
        "a\n",
        "a\n\n",
        " \n",
        "\n ",
        "a\n b",
        " a\nb",
        "a \nb",
        "a\r\nb",
        "\r",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}",
        "\u{1f600}",
        "\u{7f}",
        "\0",
        "a\u{2028}b\nc",
        "\\",
        "\\n",
        "'",
        "''",
    ]);
    prop_oneof![
        4 => words.prop_map(str::to_owned),
        2 => "[a-z ]{60,200}",
        2 => "[a-z\"':#\\\\ \t]{0,120}",
        2 => "[ a:#\\-\n]{0,20}",
        1 => any::<String>(),
    ]
}

/// Keys as Kubernetes lets them stand in data, labels and annotations, typed ones among them.
fn key() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "yes",
        "no",
        "n",
        "y",
        "on",
        "off",
        "true",
        "null",
        "0",
        "1",
        "9",
        "10",
        "010",
        "0x1F",
        "1_000",
        "1e3",
        "1.5",
        ".5",
        "1.",
        "-1",
        "a1",
        "a10",
        "a9",
        "a-b",
        "a.b",
        "a_b",
        "B",
        "Z",
        "-",
        "_",
        "2024-01-02",
        ".inf",
    ]);
    prop_oneof![
        1 => words.prop_map(str::to_owned),
        2 => "[-._a-zA-Z0-9]{1,12}",
        1 => "[a-z0-9.]{1,12}/[-._a-zA-Z0-9]{1,140}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key(), inner, 0..4).prop_map(|map| Value::from_iter(map)),
        ]
    })
}

/// Breaks of YAML 1.1 that YAML 1.2 reads as letters. Go writes them raw, we escape them, so that readers of
/// both versions agree on what stands there.
const OLD_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// A SealedSecret with texts wherever a user may write some.
fn sealed_secret() -> impl Strategy<Value = Value> {
    let text = || text().prop_filter("no old breaks", |text| !text.contains(OLD_BREAKS));
    // Go compares digits as numbers, and with leading zeros that is no order: 03a < 0x1 < 1 < 03a. It then
    // prints keys in whatever order chance brings.
    let key = || key().prop_map(|key| key.replace('0', "7"));
    let texts = move || btree_map(key(), text(), 0..4);
    (
        texts(),
        texts(),
        texts(),
        text().prop_filter("a type", |text| !text.is_empty()),
    )
        .prop_map(|(labels, annotations, items, type_)| {
            let mut metadata = json!({"name": "app", "namespace": "ns"});
            if !labels.is_empty() {
                metadata["labels"] = json!(labels);
            }
            if !annotations.is_empty() {
                metadata["annotations"] = json!(annotations);
            }
            json!({
                "kind": "SealedSecret",
                "apiVersion": "bitnami.com/v1alpha1",
                "metadata": {"name": "app", "namespace": "ns"},
                "spec": {"template": {"metadata": metadata, "type": type_}, "encryptedData": items},
            })
        })
}

fn read_by_us(text: &str) -> Value {
    let documents = manifest::read(text.as_bytes()).unwrap();
    Reading::default()
        .json(&documents[0].root, Shape::Any)
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn go_reads_our_yaml_as_the_value_that_we_wrote(inner in value()) {
        let value = json!({"root": inner});
        let text = to_yaml(&value);
        prop_assert_eq!(PEER.parse(text.as_bytes()).unwrap(), value, "{}", text);
    }

    #[test]
    fn we_read_our_yaml_as_the_value_that_we_wrote(inner in value()) {
        let value = json!({"root": inner});
        let text = to_yaml(&value);
        prop_assert_eq!(read_by_us(&text), value, "{}", text);
    }

    #[test]
    fn both_sides_read_our_json_as_the_value_that_we_wrote(inner in value()) {
        let value = json!({"root": inner});
        let text = to_json(&value);
        prop_assert_eq!(&PEER.parse(text.as_bytes()).unwrap(), &value, "Go: {}", text);
        prop_assert_eq!(read_by_us(&text), value, "we: {}", text);
    }

    #[test]
    fn we_write_an_object_byte_for_byte_as_go_does(object in sealed_secret()) {
        let json = PEER.encode(Kind::SealedSecret, &object, Format::Json).unwrap();
        prop_assert_eq!(to_json(&object), String::from_utf8(json).unwrap() + "\n");
        let yaml = yaml_of_go(&object);
        prop_assume!(yaml.is_some());
        prop_assert_eq!(to_yaml(&object), yaml.unwrap());
    }

    #[test]
    fn we_read_gos_yaml_as_go_reads_it(object in sealed_secret()) {
        let yaml = yaml_of_go(&object);
        prop_assume!(yaml.is_some());
        let yaml = yaml.unwrap();
        prop_assert_eq!(read_by_us(&yaml), PEER.parse(yaml.as_bytes()).unwrap(), "{}", yaml);
    }
}

/// Nothing for texts with control characters that Go cannot write as YAML: on the way it reads its own JSON
/// as YAML, where they must not stand.
fn yaml_of_go(object: &Value) -> Option<String> {
    match PEER.encode(Kind::SealedSecret, object, Format::Yaml) {
        Ok(yaml) => Some(String::from_utf8(yaml).unwrap()),
        Err(PeerError::Refused(why)) if why.contains("control characters") => None,
        Err(error) => panic!("{error}"),
    }
}

/// Texts that once came out differently.
#[test]
fn writes_texts_as_go_does() {
    let leading_blank = format!(" {}", "a bb ".repeat(40));
    for text in [
        leading_blank.as_str(),
        &leading_blank[1..],
        leading_blank.trim(),
        "2724-71-72",
        "2024-02-30",
        ".0_0",
    ] {
        let object = json!({
            "kind": "SealedSecret",
            "apiVersion": "bitnami.com/v1alpha1",
            "metadata": {"name": "app", "namespace": "ns"},
            "spec": {
                "template": {"metadata": {"annotations": {"a-key-that-leaves-little-room/for-its-value-in-the-line-that-it-begins-with": text}}},
                "encryptedData": {},
            },
        });
        assert_eq!(to_yaml(&object), yaml_of_go(&object).unwrap(), "{text:?}");
    }
}

/// Unquoted scalars, as people type them.
const SCALARS: &[&str] = &[
    ".0_0",
    "._1",
    ".1_",
    "1_.5",
    "1._5",
    ".5e1",
    ".e1",
    "2724-71-72",
    "2024-02-30",
    "2024-1-2",
    "yes",
    "Yes",
    "YES",
    "yEs",
    "no",
    "on",
    "off",
    "y",
    "Y",
    "n",
    "N",
    "true",
    "True",
    "tRue",
    "~",
    "null",
    "NULL",
    "nUll",
    "",
    "0",
    "-0",
    "+0",
    "00",
    "010",
    "-010",
    "08",
    "0o10",
    "0O10",
    "0x10",
    "0X10",
    "-0x10",
    "0b11",
    "-0b11",
    "0B11",
    "1_000",
    "_1",
    "1_",
    "0x_10",
    "0_1",
    "1__0",
    "1e3",
    "1E3",
    "1e+3",
    "1e-3",
    "1.e3",
    ".5",
    "5.",
    ".",
    "-.5",
    "+.5",
    "1.5e300",
    "1e400",
    "-1e400",
    "1.50",
    "1_0.5",
    ".inf",
    "+.inf",
    "-.inf",
    ".Inf",
    ".INF",
    ".iNf",
    ".nan",
    ".NaN",
    ".NAN",
    ".nAn",
    "inf",
    "nan",
    "Infinity",
    "12:30",
    "12:30:45",
    "190:20:30.15",
    "1:2",
    "2024-01-02",
    "2024-1-2",
    "2024-01-02T03:04:05Z",
    "2024-01-02t03:04:05z",
    "2024-01-02 03:04:05 +01:00",
    "2024-13-45",
    "=",
    "<<",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1234567.891",
    "123456789012345678901234567890",
    "0.1",
    "1e21",
    "1e20",
    "100000000000000000000",
    "0.000001",
    "0.0000001",
    "1.0",
    "-1.0",
    "a#b",
    "a:b",
    "1.2.3",
    "1,000",
    "+1",
    "++1",
    "0x",
    "0b",
    "0o",
    "0o8",
    "0b2",
    "0xg",
    "- 1",
    "4e",
    "e4",
    "1e",
    "1e+",
    "x1",
];

#[test]
fn both_sides_read_unquoted_scalars_alike() {
    let mut differences = Vec::new();
    for scalar in SCALARS {
        let text = format!("v: {scalar}\n");
        let theirs = PEER.parse(text.as_bytes()).ok();
        let ours = manifest::read(text.as_bytes()).ok();
        let ours =
            ours.and_then(|documents| Reading::default().json(&documents[0].root, Shape::Any).ok());
        if theirs.map(whole_numbers) != ours.map(whole_numbers) {
            differences.push(scalar);
        }
    }
    assert!(differences.is_empty(), "{differences:?}");
}

/// `1.0` and `1` are one number, however they are kept.
fn whole_numbers(mut value: Value) -> Value {
    let number = &mut value["v"];
    if let Some(float) = number
        .as_f64()
        .filter(|float| float.fract() == 0.0 && !number.is_i64() && !number.is_u64())
    {
        *number = json!(format!("{float:.0}"));
    } else if number.is_number() {
        *number = json!(number.to_string());
    }
    value
}

#[test]
fn both_sides_make_the_same_texts_of_unquoted_scalars() {
    let mut differences = Vec::new();
    for scalar in SCALARS {
        let text = format!("kind: Secret\nstringData:\n  v: {scalar}\n");
        let theirs = PEER.parse_as(Kind::Secret, text.as_bytes()).ok();
        let theirs = theirs.map(|secret| {
            secret["stringData"]["v"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        let ours = string_data(&text);
        if theirs != ours {
            differences.push(format!("{scalar:?}: Go {theirs:?}, we {ours:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn string_data(text: &str) -> Option<String> {
    let documents = manifest::read(text.as_bytes()).ok()?;
    let (secrets, _) = shared::secret::Secret::all_from_document(&documents[0]).ok()?;
    Some(String::from_utf8_lossy(secrets[0].data["v"].expose()).into_owned())
}
