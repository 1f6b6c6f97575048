//! Tests that both implementations interpret unquoted YAML scalars alike.

use serde_json::{Value, json};
use shared::{
    manifest::{self, Reading, Shape},
    secret::Secret,
};
use tests::upstream::Kind;

use super::UPSTREAM;

const SCALARS: &str = "yes Yes YES yEs no on off oN y Y n N true True tRue ~ null NULL nUll \
    0 -0 +0 00 010 -010 08 0o10 0O10 0x10 0X10 -0x10 0b11 -0b11 0B11 1_000 _1 1_ 0x_10 0_1 1__0 0x 0b 0o 0o8 0b2 0xg \
    1e3 1E3 1e+3 1e-3 1.e3 .5 5. . -.5 +.5 1.5e300 1e400 -1e400 1.50 1_0.5 .0_0 ._1 .1_ 1_.5 1._5 .5e1 .e1 4e e4 1e 1e+ x1 \
    .inf +.inf -.inf .Inf .INF .iNf .nan .NaN .NAN .nAn inf nan Infinity \
    12:30 12:30:45 190:20:30.15 1:2 2024-01-02 2024-1-2 2724-71-72 2024-02-30 2024-13-45 2024-01-02T03:04:05Z \
    2024-01-02t03:04:05z = << a#b a:b 1.2.3 1,000 +1 ++1 1.0 -1.0 0.1 \
    9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615 \
    18446744073709551616 1234567.891 123456789012345678901234567890 1e21 1e20 100000000000000000000 0.000001 0.0000001";

/// Returns [`SCALARS`], and some scalars with spaces.
fn scalars() -> impl Iterator<Item = &'static str> {
    SCALARS
        .split_whitespace()
        .chain(["", "2024-01-02 03:04:05 +01:00", "- 1", "a b", "1 000"])
}

#[test]
fn both_implementations_read_unquoted_scalars_alike() {
    let mut differences = Vec::new();
    for scalar in scalars() {
        let text = format!("v: {scalar}\n");
        let upstream_value = UPSTREAM.parse(text.as_bytes()).ok().map(normalize_number);
        let own_value = read_value(&text).map(normalize_number);
        if upstream_value != own_value {
            differences.push(format!(
                "{scalar:?}: upstream {upstream_value:?}, shared {own_value:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn both_implementations_convert_unquoted_scalars_to_the_same_strings() {
    let mut differences = Vec::new();
    for scalar in scalars() {
        let text = format!("kind: Secret\nstringData:\n  v: {scalar}\n");
        let upstream_value = UPSTREAM.parse_as(Kind::Secret, text.as_bytes()).ok();
        let upstream_value = upstream_value.map(|secret| {
            secret["stringData"]["v"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        let own_value = read_string_data(&text);
        if upstream_value != own_value {
            differences.push(format!(
                "{scalar:?}: upstream {upstream_value:?}, shared {own_value:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn read_value(text: &str) -> Option<Value> {
    let documents = manifest::read(text.as_bytes()).ok()?;
    Reading::default().json(&documents[0].root, Shape::Any).ok()
}

fn read_string_data(text: &str) -> Option<String> {
    let documents = manifest::read(text.as_bytes()).ok()?;
    let (secrets, _) = Secret::all_from_document(&documents[0]).ok()?;
    Some(String::from_utf8_lossy(secrets[0].data["v"].expose()).into_owned())
}

/// Converts numbers so that `1.0` and `1` are equal.
fn normalize_number(mut value: Value) -> Value {
    let number = &mut value["v"];
    let integer = number
        .as_f64()
        .filter(|float| float.fract() == 0.0 && number.is_f64());
    if let Some(float) = integer {
        *number = json!(format!("{float:.0}"));
    } else if number.is_number() {
        *number = json!(number.to_string());
    }
    value
}
