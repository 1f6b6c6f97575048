//! The fuzz targets: functions that pass bytes to the parsers of untrusted input.
//!
//! `targets/` wraps them for libFuzzer (`.ci/extra fuzz`); `tests/corpus.rs` replays the seeds and every past
//! finding as ordinary tests.

mod endpoints;

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::LazyLock;

use jiff::Timestamp;
use kubeseal_library::cluster::{self, HiddenString, Overrides};
use kubeseal_library::keys::KeyRecord;
use kubeseal_library::keys::archive::{self, ArchiveDecryption};
use kubeseal_library::keys::restored::{KeyUse, RestoredSecret};
use kubeseal_library::keys::signature;
use kubeseal_library::keys::signers::Signers;
use kubeseal_library::merge::{self, Labels, Versions};
use kubeseal_library::recipe::Recipe;
use kubeseal_library::{dotenv, kubeconfig, proxies, rules};
use kubeseal_rs::seal::{decryption, lint};
use rand::SeedableRng;
use rand::rngs::StdRng;
use shared::key::{Certificate, PrivateKey};
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret::{self, OrderPriority};
use shared::manifest::edit::{self, Change, Edit, Step};
use shared::manifest::{self, Reading, Shape};
use shared::meter::Unmetered;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::unseal::{self, Randomness, Rules};
use shared::v2::{self, Checked, OpenedLocks, Policy, PublicRecipient, SecretKey, Suite};
use shared::{base64, envelope, hints, rotate_by};

/// The name and function of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Each target has the name of its directory in `corpus/`.
pub const TARGETS: [Target; 26] = [
    ("archive", archive_bytes),
    ("backup", backup_text),
    ("base64", base64_text),
    ("class", class_text),
    ("deliver", deliver_bytes),
    ("dotenv", dotenv_text),
    ("edit", edited_manifest),
    ("envelope", envelope_bytes),
    ("flags", flag_text),
    ("hints", hints_text),
    ("http", http_body),
    ("key", key_pem),
    ("kubeconfig", kubeconfig_text),
    ("lint", linted_template),
    ("manifest", manifest_text),
    ("merge", merged_versions),
    ("recipe", recipe_text),
    ("rotate_by", rotate_by_text),
    ("rules", rules_text),
    ("sealed_secret", sealed_secret_text),
    ("secret", secret_text),
    ("signature", signature_text),
    ("template", template_text),
    ("v2_bytes", v2_bytes),
    ("v2_entries", v2_entries),
    ("v2_key", v2_key_text),
];

/// Returns the string with this name in the published vectors, or an empty string.
fn vector(name: &str) -> String {
    let vectors = include_str!("../../vectors/sealed-secrets-vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap_or_default();
    vectors[name].as_str().unwrap_or_default().to_owned()
}

/// Returns the throw-away keys of the published vectors.
fn vector_keys() -> Vec<PrivateKey> {
    PrivateKey::all_from_pem(vector("private_key_pkcs1").as_bytes()).unwrap_or_default()
}

static KEYS: LazyLock<Vec<PrivateKey>> = LazyLock::new(vector_keys);

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let keys = vector_keys().into_iter();
    KeyRing::new(keys.map(|key| RingKey::opening_only("k".into(), key).into()))
});

/// A throw-away age identity, for which the seeds of `archive` are encrypted.
const IDENTITY: &str = "AGE-SECRET-KEY-1DT77P2S5GEXTMMWPUUDLS5QA6RK96KQRRNVP7YP7KUNZQJ7AEX5QLZLDVC";

/// Fuzzes the decryption of key backups, and the parsing of their content. Without a passphrase, the decryption of a
/// backup that needs a passphrase fails.
pub fn archive_bytes(bytes: &[u8]) {
    let identity: Option<age::x25519::Identity> = IDENTITY.parse().ok();
    let identities = identity
        .into_iter()
        .map(|i| Box::new(i) as Box<dyn age::Identity>);
    let decryption = ArchiveDecryption {
        identities: identities.collect(),
        passphrase: None,
    };
    if archive::needs_passphrase(bytes) {
        assert!(archive::decrypt(bytes, &decryption).is_err());
    } else if let Ok(plain) = archive::decrypt(bytes, &decryption) {
        let _ = manifest::read(&plain);
    }
}

/// Fuzzes the parsing of unencrypted key backups: manifests, or keys in PEM. A restored key has only labels
/// and annotations of Sealed Secrets.
pub fn backup_text(bytes: &[u8]) {
    if archive::begins_like_archive(bytes) {
        return;
    }
    let bytes = zeroize::Zeroizing::new(bytes.to_vec());
    let Ok(backup) =
        decryption::parse_backup(Path::new("x"), bytes, &mut ArchiveDecryption::default())
    else {
        return;
    };
    for secret in backup.secrets {
        let record = KeyRecord::new(secret, None);
        let Some(key) = record.fingerprint() else {
            continue;
        };
        let restored =
            RestoredSecret::new(&record, key, KeyUse::OpeningOnly(Timestamp::UNIX_EPOCH));
        let metadata = restored.secret.metadata;
        let names = metadata
            .labels
            .into_iter()
            .chain(metadata.annotations)
            .flatten();
        for (name, _) in names {
            assert!(name.starts_with("sealedsecrets.bitnami.com/"), "{name}");
        }
    }
}

/// Fuzzes the parsing of signatures, signing keys, and allowed signers files.
pub fn signature_text(bytes: &[u8]) {
    let _ = signature::signing_key(bytes);
    let signers = include_bytes!("../../../kubeseal-rs/tests/seal/key-fixtures/allowed_signers");
    for signers in [bytes, signers] {
        if let Ok(signers) = Signers::parse(signers) {
            let _ = signature::verify(b"archive", bytes, &signers, Timestamp::UNIX_EPOCH);
        }
    }
}

/// Fuzzes the decoding of base64. A decoded value is unchanged after encoding and decoding.
pub fn base64_text(bytes: &[u8]) {
    if let Ok(decoded) = base64::decode(bytes) {
        assert_eq!(
            base64::decode(base64::encode(&decoded).as_bytes()),
            Ok(decoded)
        );
    }
}

/// Fuzzes the parsing of the parameter `objects` of a `SecretProviderClass`. The result is a request that a controller
/// accepts, and every file with an encoding is a file of the request.
pub fn class_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(class::objects::Selection { request, encodings }) = class::objects::read(&text) else {
        return;
    };
    assert!(deliver::Request::from_json(&request.to_json()).is_ok());
    let has_path = |path: &String| {
        let mut entries = request.objects.iter();
        entries.any(|entry| entry.path.as_ref() == Some(path))
    };
    assert!(encodings.keys().all(has_path));
}

/// Fuzzes the parsing of requests to `/v1/deliver` and of its responses. Every template of a request and every file of
/// a response is below the target directory, and a response is unchanged after writing and parsing.
pub fn deliver_bytes(bytes: &[u8]) {
    if let Ok(request) = deliver::Request::from_json(bytes) {
        assert!(request.object_names().len() <= deliver::MAX_OBJECTS);
        for entry in &request.entries {
            if let deliver::Entry::Template(entry) = entry {
                assert!(stays_below(&entry.path), "{}", entry.path);
            }
        }
    }
    if let Ok(response) = deliver::Response::from_json(bytes) {
        assert!(response.files.iter().all(|file| stays_below(&file.path)));
        assert_eq!(
            deliver::Response::from_json(&response.to_json()),
            Ok(response)
        );
    }
}

fn stays_below(path: &deliver::FilePath) -> bool {
    let is_normal = |part| matches!(part, Component::Normal(_));
    Path::new(path.as_str()).components().all(is_normal)
}

/// Fuzzes the parsing of dotenv files. Every parsed name occurs in the input.
pub fn dotenv_text(bytes: &[u8]) {
    for variables in [dotenv::parse(bytes), dotenv::parse_kubectl(bytes)] {
        for variable in variables.unwrap_or_default() {
            assert!(contains(bytes, variable.name.as_bytes()));
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Fuzzes the parsing of key hints. Parsed hints are unchanged after writing and parsing.
pub fn hints_text(bytes: &[u8]) {
    let parsed = hints::parse(&String::from_utf8_lossy(bytes));
    assert_eq!(hints::parse(&hints::to_text(&parsed)), parsed);
}

/// Fuzzes the parsing of rotate-by dates. Parsed dates are unchanged after writing and parsing, unless their text would be
/// above the limit.
pub fn rotate_by_text(bytes: &[u8]) {
    let parsed = rotate_by::parse(&String::from_utf8_lossy(bytes));
    let text = parsed.to_text();
    if !parsed.is_too_large && text.len() <= rotate_by::MAX_BYTES {
        assert_eq!(rotate_by::parse(&text), parsed);
    }
}

/// Fuzzes the bodies of verify and rotate requests. An object that verifies can be re-encrypted, and the
/// result verifies.
pub fn http_body(bytes: &[u8]) {
    let (verified, _) = endpoints::post("/v1/verify", bytes);
    let (rotated, body) = endpoints::post("/v1/rotate", bytes);
    for status in [verified, rotated] {
        assert!(matches!(status, 200 | 400 | 409), "{status}");
    }
    if verified == 200 {
        assert_eq!(rotated, 200);
        assert_eq!(endpoints::post("/v1/verify", &body).0, 200);
    }
}

/// Fuzzes the parsing of a kubeconfig for its namespace and for its server, and of the proxy variables. The first byte
/// selects flags.
pub fn kubeconfig_text(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else {
        return;
    };
    let flag = |bit: u8, value: &str| (choice >> bit & 1 == 1).then(|| value.to_owned());
    let overrides = Overrides {
        context: flag(0, "a"),
        cluster: flag(1, "b"),
        user: flag(2, "c"),
        server: flag(3, "k.example:6443"),
        impersonate: flag(4, "jane"),
        token: flag(5, "t").map(HiddenString),
        insecure: choice >> 6 & 1 == 1,
        proxy_url: flag(7, "socks5://p.example"),
        ..Overrides::default()
    };
    let _ = kubeconfig::namespace_of_text(text);
    if let Ok(server) = cluster::server_of_text(&String::from_utf8_lossy(text), &overrides) {
        assert!(server.host().is_some());
        let proxies = |_: &str| Some(String::from_utf8_lossy(text).into_owned());
        let _ = proxies::proxy_for(&server, proxies);
    }
}

/// Fuzzes the parsing of recipes for random values.
pub fn recipe_text(bytes: &[u8]) {
    if let Ok(recipe) = String::from_utf8_lossy(bytes).parse::<Recipe>() {
        let _ = recipe.accepts_password();
    }
}

/// Fuzzes the parsing of `.seal.yaml`, the description of rules, and the matching of paths.
pub fn rules_text(bytes: &[u8]) {
    let Ok(parsed) = rules::parse(bytes) else {
        return;
    };
    for (i, rule) in parsed.0.iter().enumerate() {
        assert_eq!(rule.number, i + 1);
        assert!(rule.describe().contains(&rule.path));
        let matching = parsed.for_path(&rule.path).map(|rule| rule.number);
        assert!(matching.is_none_or(|number| number <= parsed.0.len()));
    }
}

/// Fuzzes the reading of templates that are not YAML. No document begins more than one line after the end of the file.
pub fn linted_template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count();
    for document in lint::read_template(&text) {
        assert!(document.root.line <= lines + 1);
    }
}

/// Fuzzes the decryption of ciphertexts.
pub fn envelope_bytes(bytes: &[u8]) {
    for key in KEYS.iter() {
        let _ = envelope::open(key, &Scope::Strict.label("myns", "mysecret"), bytes);
    }
}

/// Fuzzes the parsing of flag values. A parsed duration stays within Go's range.
pub fn flag_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(duration) = flags::parse_duration(&text) {
        assert!(i64::try_from(duration.as_nanos()).is_ok());
    }
}

/// Fuzzes the parsing of keys and certificates in PEM. A parsed certificate is unchanged after writing and
/// parsing.
pub fn key_pem(bytes: &[u8]) {
    let _ = PrivateKey::all_from_pem(bytes);
    if let Ok(certificate) = Certificate::from_pem(bytes) {
        let reparsed = Certificate::from_pem(certificate.to_pem().as_bytes());
        assert_eq!(
            reparsed.map(|c| c.to_pem()).ok(),
            Some(certificate.to_pem())
        );
    }
}

/// Fuzzes the parsing of manifests. A parsed mapping is unchanged after writing it as YAML and as JSON.
pub fn manifest_text(bytes: &[u8]) {
    let _ = manifest::repeated_key(bytes);
    for document in manifest::read(bytes).unwrap_or_default() {
        let Ok(value) = Reading::default().json(&document.root, Shape::Any) else {
            continue;
        };
        if !value.is_object() {
            continue;
        }
        for text in [manifest::to_yaml(&value), manifest::to_json(&value)] {
            assert_eq!(manifest::repeated_key(text.as_bytes()), None, "{text}");
            let reparsed = manifest::read(text.as_bytes()).unwrap_or_default();
            let reparsed = reparsed
                .first()
                .map(|d| Reading::default().json(&d.root, Shape::Any));
            // An empty mapping is also a document.
            assert_eq!(reparsed, Some(Ok(value.clone())), "{text}");
        }
    }
}

/// Fuzzes edits of manifests. Setting the same value again changes nothing. The first byte selects the path.
pub fn edited_manifest(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let step = |bit: u8| match choice >> bit & 3 {
        0 => Step::Key("a".into()),
        1 => Step::Key("b".into()),
        2 => Step::Field("spec"),
        _ => Step::Item(0),
    };
    let steps = [step(0), step(2), step(4)];
    let edit = |change| Edit {
        document: 1,
        path: steps[..=(usize::from(choice >> 6) % 3)].to_vec(),
        change,
    };
    let set = edit(Change::Set("AgX=".into()));
    if let Ok(edited) = edit::apply(bytes, std::slice::from_ref(&set)) {
        assert_eq!(edit::apply(&edited, &[set]).as_ref(), Ok(&edited));
        let _ = edit::apply(&edited, &[edit(Change::Remove)]);
    }
}

/// Fuzzes the merge of three versions of a file. In the input, a byte 0xff separates the versions. If only one version
/// differs from the base, the result is that version or a conflict.
pub fn merged_versions(bytes: &[u8]) {
    let mut versions = bytes.splitn(3, |byte| *byte == 0xff);
    let mut version = || versions.next().unwrap_or_default();
    let (base, ours, theirs) = (version(), version(), version());
    let merge = |base, ours, theirs| {
        let versions = Versions { base, ours, theirs };
        merge::merge(&versions, &Labels::default())
    };
    let _ = merge(base, ours, theirs);
    for merged in [merge(base, base, theirs), merge(base, theirs, base)] {
        assert!(merged.bytes == theirs || !merged.conflicts.is_empty());
    }
}

/// Fuzzes the parsing and unsealing of SealedSecrets.
pub fn sealed_secret_text(bytes: &[u8]) {
    for document in manifest::read(bytes).unwrap_or_default() {
        if let Ok((objects, _)) = SealedSecret::all_from_document(&document) {
            for sealed in objects {
                let rules = Rules {
                    accept_legacy: true,
                    refuse_random: false,
                };
                let mut randomness = Randomness {
                    now: Timestamp::UNIX_EPOCH,
                    rng: &mut StdRng::seed_from_u64(1),
                };
                let _ = unseal::unseal(&sealed, &RING, rules, &mut randomness);
                let _ = sealed.to_document();
            }
        }
    }
}

/// Fuzzes the parsing of Secrets, and of the keys in them.
pub fn secret_text(bytes: &[u8]) {
    for document in manifest::read(bytes).unwrap_or_default() {
        let secrets = key_secret::secrets(&document, &mut Reading::default());
        for secret in secrets.into_iter().flatten() {
            let _ = key_secret::parse(&secret, OrderPriority::SecretCreationTimestamp);
            let _ = secret.to_document();
        }
    }
}

/// Fuzzes the parsing and rendering of templates. No result exceeds the budget. Random values are the same in every
/// run.
pub fn template_text(bytes: &[u8]) {
    template::fuzz(bytes, &mut StdRng::seed_from_u64(1));
}

/// The keys of the vectors in `tests/vectors/v2.json`, with which the seeds can be opened.
static V2_KEYS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| {
    let keys = [(Suite::XWing, [1; 32]), (Suite::P256, [2; 32])];
    let keys = keys
        .iter()
        .map(|(suite, bytes)| SecretKey::from_bytes(*suite, bytes));
    keys.flatten().collect()
});

/// Fuzzes the parsing and opening of v2 values. Each line of the input is a name, a space and a value.
pub fn v2_entries(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    open_v2(
        lines
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    );
}

/// Fuzzes the bytes of v2 values without their text form. The first byte selects the kind.
pub fn v2_bytes(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let (name, kind) = match choice % 4 {
        0 => ("/lock/AAAAAAAAAAAAAAAAAAAAAA", 'h'),
        1 => ("/lock/AAAAAAAAAAAAAAAAAAAAAA/AAAAAAAAAAAAAAAAAAAAAA", 'l'),
        2 => ("token", 's'),
        _ => ("token", 'i'),
    };
    let text = base64::encode(bytes).replace('+', "-").replace('/', "_");
    let value = format!("seal2.{kind}.{}", text.trim_end_matches('='));
    open_v2(BTreeMap::from([(name.to_owned(), value)]));
}

/// Opens entries of the object `shop/db`. Every opened item has the name of an entry.
fn open_v2(entries: BTreeMap<String, String>) {
    let _ = v2::is_v2(&entries);
    let mut sealed = SealedSecret::new("db", shared::resource::SealedSecretSpec::default());
    sealed.metadata.namespace = Some("shop".into());
    sealed.spec.encrypted_data = entries;
    let Ok(checked) = Checked::new(&sealed, &Policy::default(), v2::Target::Other) else {
        return;
    };
    let keys = V2_KEYS.iter().map(SecretKey::opener).collect();
    let (opened, rng) = (&mut OpenedLocks::default(), &mut StdRng::seed_from_u64(1));
    let opened = v2::open(&checked, &keys, opened, &mut Unmetered, rng);
    for (name, _) in opened.unwrap_or_default() {
        assert!(sealed.spec.encrypted_data.contains_key(&name));
    }
}

/// Fuzzes the parsing of v2 keys. A parsed public key is unchanged after writing and parsing, and a parsed secret key
/// can be parsed after writing.
pub fn v2_key_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(recipient) = PublicRecipient::parse(&text) {
        let line = recipient.to_string();
        let reparsed = PublicRecipient::parse(&line).map(|recipient| recipient.to_string());
        assert_eq!(reparsed, Ok(line));
    }
    if let Ok(key) = SecretKey::parse(&text) {
        let written = String::from_utf8_lossy(key.to_text().expose()).into_owned();
        assert!(SecretKey::parse(&written).is_ok());
    }
}
