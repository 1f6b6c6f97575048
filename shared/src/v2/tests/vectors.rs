//! The vectors in `tests/vectors/v2.json`, which other implementations can use.

mod cases;
mod digests;

use serde_json::json;

use super::*;
use cases::{Case, Outcome};

fn opener<'a>(name: &str) -> &'a dyn Opener {
    KEYS.opener(name.parse().unwrap())
}

fn sealed_object(case: &Json) -> SealedSecret {
    let place = &case["place"];
    let mut sealed = object(serde_json::from_value(case["encryptedData"].clone()).unwrap());
    sealed.metadata.name = place["name"].as_str().map(str::to_owned);
    sealed.metadata.namespace = place["namespace"].as_str().map(str::to_owned);
    let scope: Scope = place["scope"].as_str().unwrap().parse().unwrap();
    scope.annotate(sealed.metadata.annotations.get_or_insert_default());
    sealed.spec.data = case["data"].as_str().map(str::to_owned);
    if let template @ Json::Object(_) = &case["template"] {
        sealed.spec.template = serde_json::from_value(template.clone()).unwrap();
    }
    sealed
}

fn policy(case: &Json) -> Policy {
    let policy = &case["policy"];
    let is_set = |name: &str| policy[name].as_bool().unwrap_or_default();
    let max_locks = policy["maxLocks"].as_u64();
    Policy {
        require_v2: is_set("requireV2"),
        require_bound: is_set("requireBound"),
        require_post_quantum: is_set("requirePostQuantum"),
        highest_revision: policy["highestRevision"].as_u64(),
        max_locks: max_locks.map_or(DEFAULT_MAX_LOCKS, |limit| limit.try_into().unwrap()),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn outcome(case: &Json) -> Outcome {
    let names = case["keys"].as_array().unwrap().iter();
    let keys = names.map(|name| opener(name.as_str().unwrap())).collect();
    let target = match case["makesSecret"].as_bool() {
        Some(true) => Target::Secret,
        _ => Target::Other,
    };
    match open_for(&sealed_object(case), &keys, &policy(case), target) {
        Ok(opened) => Outcome::Values(
            opened
                .into_iter()
                .map(|(name, o)| (name, o.value))
                .collect(),
        ),
        Err(refusal) => Outcome::Reason(refusal.reason()),
    }
}

fn wanted(case: &Json) -> Outcome {
    if let Some(name) = case["reason"].as_str() {
        let reason = cases::REASONS.iter().find(|reason| reason.as_str() == name);
        return Outcome::Reason(*reason.unwrap());
    }
    Outcome::Values(values_of(case))
}

fn values_of(case: &Json) -> BTreeMap<String, Value> {
    let items = case["values"].as_object().unwrap().iter();
    let value = |(name, plain): (&String, &Json)| {
        let id = ValueId::from_bytes(bytes(&case["vids"][name]).try_into().unwrap());
        let plain = Plain::from(bytes(plain));
        (name.clone(), Value { id, plain })
    };
    items.map(value).collect()
}

#[test]
fn every_case_gives_its_values_or_reason() {
    let file = read_vectors("v2.json");
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        assert_eq!(outcome(case), wanted(case), "{}", case["name"]);
    }
    for reason in cases::REASONS {
        let has_case = |case: &Json| case["reason"].as_str() == Some(reason.as_str());
        assert!(cases.iter().any(has_case), "no case for {reason}");
    }
}

/// A case with the field `seal` is sealed again with the random bytes in this field, and must be equal.
#[test]
fn writes_the_cases_with_known_randomness() {
    let file = read_vectors("v2.json");
    let cases = file["cases"].as_array().unwrap();
    let written = cases.iter().filter(|case| case["seal"].is_object());
    let count = written.map(write_again).count();
    assert!(count >= 12, "{count}");
}

fn write_again(case: &Json) {
    let plan = &case["seal"];
    let names = plan["recipients"].as_array().unwrap();
    let suites: Vec<Suite> = names
        .iter()
        .map(|s| s.as_str().unwrap().parse().unwrap())
        .collect();
    let sealed = sealed_object(case);
    let is_set = |name: &str| plan[name].as_bool().unwrap();
    let template = is_set("bindTemplate").then(|| TemplateDigest::of(&sealed.spec.template));
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let place = Place::of(scope, sealed.namespace_or_empty(), sealed.name_or_empty()).unwrap();
    let mut random = FixedBytes::new(bytes(&plan["random"]));
    let values = values_of(case);
    let entries = with_spec(
        &suites,
        |_| (),
        |spec| {
            let spec = LockSpec {
                place: &place,
                template,
                allow_classical: is_set("allowClassical"),
                is_never_secret: is_set("neverSecret"),
                is_alone: is_set("alone"),
                revision: plan["revision"].as_u64().unwrap(),
                ..*spec
            };
            cases::write(&spec, &values, is_set("inline"), &mut random)
        },
    );
    assert_eq!(entries, sealed.spec.encrypted_data, "{}", case["name"]);
    assert_eq!(random.remaining(), 0, "{}", case["name"]);
}

#[test]
fn the_keys_of_the_vector_file_have_their_identifiers() {
    let file = read_vectors("v2.json");
    for (name, key) in file["keys"].as_object().unwrap() {
        let id = opener(name).key_id();
        assert_eq!(
            key["id"].as_str(),
            Some(&*hexadecimal(id.as_bytes())),
            "{name}"
        );
        if let Some(line) = key["recipient"].as_str() {
            assert_eq!(PublicRecipient::parse(line).unwrap().key_id(), id);
        }
        if let Some(text) = key["private"].as_str().filter(|_| name != "rsa") {
            assert_eq!(SecretKey::parse(text).unwrap().recipient().key_id(), id);
        }
    }
}

/// Writes the vector file. The cases of the suite `rsa` differ each time, because RSA-OAEP is randomized.
#[test]
#[ignore = "writes tests/vectors/v2.json"]
#[expect(clippy::disallowed_methods, reason = "writes the file when asked to")]
fn write_the_vector_file() {
    let cases: Vec<Json> = cases::all().iter().map(Case::to_json).collect();
    let text = |key: &SecretKey| String::from_utf8(key.to_text().expose().to_vec()).unwrap();
    let v2_key = |key: &SecretKey| {
        json!({
            "private": text(key),
            "recipient": key.recipient().to_string(),
            "id": hexadecimal(key.recipient().key_id().as_bytes()),
        })
    };
    let rsa = &read_vectors("v2-reference.json")["rsa pkcs8"];
    let file = json!({
        "about": "Vectors of the v2 sealed format; section 11 of shared/docs/v2.md describes them.",
        "keys": {
            "xw": v2_key(&KEYS.xw),
            "p256": v2_key(&KEYS.p256),
            "rsa": {"private": rsa, "id": hexadecimal(KEYS.rsa.key_id().as_bytes())},
        },
        "cases": cases,
        "templates": digests::templates(),
        "v1Vids": digests::v1_vids(),
        "versions": digests::versions(),
    });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/v2.json");
    let text = serde_json::to_string_pretty(&file).unwrap() + "\n";
    std::fs::write(path, text).unwrap();
}
