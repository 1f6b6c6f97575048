//! Tests the v2 format against a reader and writer in Go that was written from the specification alone.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value as Json, json};
use shared::key::PrivateKey;
use shared::meter::Unmetered;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::scope::Scope;
use shared::v2::{
    self, Checked, LockSpec, OpenError, OpenedLocks, Opener, Place, Policy, PublicRecipient,
    Reason, Recipient, Refusal, SecretKey, Target, TemplateDigest, Value,
};
use tests::go_build;

use super::v2_hpke::{from_hex, to_hex};

/// Entries of `spec.encryptedData`.
type Entries = BTreeMap<String, String>;

/// The published vectors.
static FILE: LazyLock<Json> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../vectors/v2.json")).expect("the vectors are JSON")
});

/// The keys of the vectors.
struct Keys {
    xw: SecretKey,
    xw_public: PublicRecipient,
    p256: SecretKey,
    p256_public: PublicRecipient,
    rsa: PrivateKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let private = |name: &str| FILE["keys"][name]["private"].as_str().unwrap();
    let [xw, p256] = ["xw", "p256"].map(|name| SecretKey::parse(private(name)).unwrap());
    let rsa = STANDARD.encode(from_hex(private("rsa")));
    let rsa = format!("-----BEGIN PRIVATE KEY-----\n{rsa}\n-----END PRIVATE KEY-----\n");
    Keys {
        xw_public: xw.recipient(),
        xw,
        p256_public: p256.recipient(),
        p256,
        rsa: PrivateKey::from_pem(rsa.as_bytes()).unwrap(),
    }
});

fn recipient(name: &str) -> &'static dyn Recipient {
    match name {
        "xw" => &KEYS.xw_public,
        "p256" => &KEYS.p256_public,
        _ => KEYS.rsa.public_key(),
    }
}

fn opener(name: &str) -> &'static dyn Opener {
    match name {
        "xw" => KEYS.xw.opener(),
        "p256" => KEYS.p256.opener(),
        _ => &KEYS.rsa,
    }
}

/// Returns the directory of the Go program.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("v2-reader")
}

/// Runs a command of the Go program; returns its results in the order of the cases.
fn run_go(command: &str, cases: &[Json]) -> Vec<Json> {
    let program = go_build::build(&source(), ".", "v2-reader");
    let mut child = Command::new(program)
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let file = json!({"keys": FILE["keys"], "cases": cases}).to_string();
    let mut input = child.stdin.take().unwrap();
    input.write_all(file.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command}: {}", output.status);
    let results: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results.len(), cases.len());
    results
}

fn strings(list: &Json) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().map(|s| s.as_str().unwrap())
}

fn entries(case: &Json) -> Entries {
    serde_json::from_value(case["encryptedData"].clone()).unwrap()
}

fn scope(case: &Json) -> Scope {
    case["place"]["scope"].as_str().unwrap().parse().unwrap()
}

/// Returns the object of a case, with these entries.
fn object(case: &Json, entries: Entries) -> SealedSecret {
    let text = |name: &str| case["place"][name].as_str().map(str::to_owned);
    let mut sealed = SealedSecret::new("", SealedSecretSpec::default());
    sealed.metadata.name = text("name");
    sealed.metadata.namespace = text("namespace");
    scope(case).annotate(sealed.metadata.annotations.get_or_insert_default());
    if let template @ Json::Object(_) = &case["template"] {
        sealed.spec.template = serde_json::from_value(template.clone()).unwrap();
    }
    sealed.spec.encrypted_data = entries;
    sealed
}

fn check(sealed: &SealedSecret) -> Result<Checked, Refusal> {
    Checked::new(sealed, &Policy::default(), Target::Other)
}

/// Opens a case with `shared` under the default policy. Returns the values in hexadecimal, by item.
fn open(case: &Json, keys: &Json) -> Result<Json, Reason> {
    let sealed = object(case, entries(case));
    let checked = check(&sealed).map_err(|refusal| refusal.reason())?;
    let keys = strings(keys).map(opener).collect();
    let (opened, rng) = (&mut OpenedLocks::default(), &mut StdRng::seed_from_u64(4));
    let opened = v2::open(&checked, &keys, opened, &mut Unmetered, rng);
    let opened = opened.map_err(|error| match error {
        OpenError::Refused(refusal) => refusal.reason(),
        other => panic!("{other}"),
    })?;
    let values = opened.into_iter();
    Ok(values
        .map(|(name, opened)| (name, to_hex(opened.value.plain.expose())))
        .collect())
}

/// Seals a case with `shared`.
fn seal(case: &Json, rng: &mut StdRng) -> Entries {
    let plan = &case["seal"];
    let is_set = |name: &str| plan[name].as_bool().unwrap();
    let template = TemplateDigest::of(&object(case, Entries::new()).spec.template);
    let spec = LockSpec {
        place: &Place::for_sealing(scope(case), "shop", "db").unwrap(),
        recipients: &strings(&plan["recipients"])
            .map(recipient)
            .collect::<Vec<_>>(),
        allow_classical: is_set("allowClassical"),
        template: is_set("bindTemplate").then_some(template),
        is_never_secret: is_set("neverSecret"),
        is_alone: is_set("alone"),
        revision: plan["revision"].as_u64().unwrap(),
    };
    let values = values(case, rng);
    match values.first_key_value() {
        Some((item, value)) if is_set("inline") => {
            let entry = v2::seal_inline(&spec, item, value, rng).unwrap();
            Entries::from([(item.clone(), entry)])
        }
        _ => v2::seal(&spec, &values, rng).unwrap(),
    }
}

fn values(case: &Json, rng: &mut StdRng) -> BTreeMap<String, Value> {
    let values = case["values"].as_object().unwrap().iter();
    let mut value = |text: &Json| Value::new(Plain::from(from_hex(text.as_str().unwrap())), rng);
    values
        .map(|(name, text)| (name.clone(), value(text)))
        .collect()
}

/// Returns cases to seal with every combination of recipients, scope and flags.
fn all_combinations() -> Vec<Json> {
    let recipients: [&[&str]; 4] = [&["xw"], &["p256"], &["rsa"], &["xw", "p256", "rsa"]];
    let mut cases = Vec::new();
    for recipients in recipients {
        for scope in Scope::ALL {
            cases.extend((0..32).map(|bits| combination(recipients, scope, bits)));
        }
    }
    cases
}

/// Returns a case with these recipients and scope. Each bit chooses one of the other properties.
fn combination(recipients: &[&str], scope: Scope, bits: u8) -> Json {
    let is_set = |bit: u8| bits & bit != 0;
    let values = if is_set(4) {
        json!({"token": "74"})
    } else {
        json!({"empty": "", "password": "68756e74657232"})
    };
    json!({
        "name": format!("{recipients:?}, {scope}, {bits:05b}"),
        "place": {"scope": scope.to_string(), "namespace": "shop", "name": "db"},
        "template": {
            "type": "Opaque",
            "metadata": {"labels": {"app": "shop"}, "finalizers": ["x/y"]},
            "data": {"url": "{{ .user }}", "user": null},
        },
        "keys": recipients,
        "values": values,
        "seal": {
            "recipients": recipients,
            "bindTemplate": is_set(1),
            "neverSecret": is_set(2),
            "inline": is_set(4),
            "allowClassical": recipients.len() > 1 || is_set(8),
            "alone": is_set(16),
            "revision": 7,
        },
    })
}

/// Returns a copy of the case for each of its keys, with only this key.
fn with_each_key(case: &Json) -> Vec<Json> {
    let with = |key: &str| {
        let mut case = case.clone();
        case["keys"] = json!([key]);
        case
    };
    strings(&case["keys"]).map(with).collect()
}

#[test]
fn the_tests_of_the_go_program_pass() {
    let program = go_build::build_tests(&source(), ".", "", "v2-reader-tests");
    let output = Command::new(program)
        .current_dir(source())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

#[test]
fn go_returns_the_expected_values_or_refusal_of_every_case() {
    let cases = FILE["cases"].as_array().unwrap();
    for (case, result) in cases.iter().zip(run_go("open", cases)) {
        for field in ["values", "vids", "reason", "error"] {
            assert_eq!(result[field], case[field], "{field} of {}", case["name"]);
        }
    }
}

#[test]
fn go_reproduces_the_cases_with_fixed_randomness() {
    let cases = FILE["cases"].as_array().unwrap().iter();
    let cases: Vec<_> = cases.filter(|c| c["seal"].is_object()).cloned().collect();
    assert!(cases.len() >= 12, "{}", cases.len());
    for (case, result) in cases.iter().zip(run_go("seal", &cases)) {
        assert_eq!(result["encryptedData"], case["encryptedData"], "{result}");
    }
}

#[test]
fn go_opens_objects_that_shared_seals() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut cases = all_combinations();
    for case in &mut cases {
        case["encryptedData"] = json!(seal(case, &mut rng));
    }
    let cases: Vec<_> = cases.iter().flat_map(with_each_key).collect();
    for (case, result) in cases.iter().zip(run_go("open", &cases)) {
        assert_eq!(result["values"], case["values"], "{result}");
    }
}

#[test]
fn shared_opens_objects_that_go_seals() {
    let mut cases = all_combinations();
    let results = run_go("seal", &cases);
    for (case, result) in cases.iter_mut().zip(results) {
        assert!(result["encryptedData"].is_object(), "{result}");
        case["encryptedData"] = result["encryptedData"].clone();
    }
    for case in cases.iter().flat_map(with_each_key) {
        let opened = open(&case, &case["keys"]);
        assert_eq!(opened, Ok(case["values"].clone()), "{}", case["name"]);
        check_view(&case);
    }
}

#[test]
fn go_opens_objects_to_which_this_project_added_a_recipient() {
    let mut rng = StdRng::seed_from_u64(3);
    let recipients: [&[&str]; 2] = [&["xw"], &["rsa"]];
    let cases = recipients.map(|r| (8..16).map(move |bits| combination(r, Scope::Strict, bits)));
    let mut cases: Vec<_> = cases.into_iter().flatten().collect();
    for case in &mut cases {
        case["encryptedData"] = json!(seal(case, &mut rng));
        case["encryptedData"] = json!(with_p256(case, &mut rng));
        case["keys"] = json!(["p256"]);
    }
    for (case, result) in cases.iter().zip(run_go("open", &cases)) {
        assert_eq!(result["values"], case["values"], "{result}");
    }
}

/// Returns the entries of a case with the recipient `p256` added to every lock.
fn with_p256(case: &Json, rng: &mut StdRng) -> Entries {
    let mut entries = entries(case);
    let checked = check(&object(case, entries.clone())).unwrap();
    let keys = strings(&case["keys"]).map(opener).collect();
    let (opened, meter) = (&mut OpenedLocks::default(), &mut Unmetered);
    let edit = v2::add_recipient(&checked, &keys, recipient("p256"), opened, meter, rng);
    edit.unwrap().apply(&mut entries);
    entries
}

/// Checks that each item has the public properties that the case requested.
fn check_view(case: &Json) {
    let checked = check(&object(case, entries(case))).unwrap();
    for (item, view) in checked.object().view() {
        let actual = json!({
            "bindTemplate": view.is_template_bound,
            "neverSecret": view.is_never_secret,
            "alone": view.is_alone,
            "inline": view.is_inline,
            "revision": view.revision,
        });
        for (field, actual) in actual.as_object().unwrap() {
            assert_eq!(*actual, case["seal"][field], "{field} of {item}");
        }
    }
}

const CHANGES: usize = 2_000;

/// Compares the values or the reason of the refusal that `shared` and Go return for objects with one or two random
/// changes.
#[test]
fn both_implementations_give_the_same_result_for_changed_objects() {
    let mut rng = StdRng::seed_from_u64(2);
    let sealed: Vec<_> = changeable_cases().collect();
    let cases: Vec<Json> = (0..CHANGES)
        .map(|_| with_random_changes(sealed[rng.random_range(..sealed.len())], &mut rng))
        .collect();
    let mut reasons = BTreeMap::new();
    for (case, go) in cases.iter().zip(run_go("open", &cases)) {
        let (field, own_value) = match open(case, &case["keys"]) {
            Ok(values) => ("values", values),
            Err(reason) => ("reason", Json::from(reason.as_str())),
        };
        assert_eq!(go[field], own_value, "{go}\n{case}");
        *reasons
            .entry(own_value.as_str().map(str::to_owned))
            .or_insert(0) += 1;
    }
    assert!(reasons.len() >= 5, "{reasons:?}");
}

/// Returns the published cases with several entries, except those with a policy, with `spec.data`, or with a reader
/// that creates a Secret.
fn changeable_cases() -> impl Iterator<Item = &'static Json> {
    let cases = FILE["cases"].as_array().unwrap().iter();
    cases.filter(|case| {
        let fields = ["policy", "data", "makesSecret"];
        fields.iter().all(|field| case[field].is_null()) && entries(case).len() > 1
    })
}

fn with_random_changes(case: &Json, rng: &mut StdRng) -> Json {
    let mut changed = case.clone();
    let mut entries = entries(case);
    for _ in 0..rng.random_range(1..=2) {
        change(&mut entries, rng);
    }
    changed["encryptedData"] = json!(entries);
    changed
}

/// Removes, moves, renames, shortens or changes one entry.
fn change(entries: &mut Entries, rng: &mut StdRng) {
    let names: Vec<String> = entries.keys().cloned().collect();
    let mut pick = || names[rng.random_range(..names.len())].clone();
    let (name, other) = (pick(), pick());
    let mut value = entries.remove(&name).unwrap_or_default();
    match rng.random_range(..8_u8) {
        0 => {}
        1 => drop(entries.insert(other, value)),
        2 => drop(entries.insert(change_character(&name, rng), value)),
        3 => {
            value.truncate(rng.random_range(..=value.len()));
            entries.insert(name, value);
        }
        _ => drop(entries.insert(name, change_character(&value, rng))),
    }
}

/// Replaces one character of an ASCII string, unless it is empty, with a random one.
fn change_character(text: &str, rng: &mut StdRng) -> String {
    const CHARACTERS: &[u8] = b"ABCDabcdghilqsxz0129-_./=\n";
    let mut text = text.as_bytes().to_vec();
    if !text.is_empty() {
        let at = rng.random_range(..text.len());
        text[at] = CHARACTERS[rng.random_range(..CHARACTERS.len())];
    }
    String::from_utf8(text).unwrap()
}
