//! Tests that a reader of SealedSecrets, events, logs and metrics learns nothing about values except whether a valid
//! Secret results from them.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use controller::metrics::Metrics;
use controller::pool::Pool;
use controller::reconcile::{Policy, Reconciler, Urgency};
use controller::store::cluster::ClusterStore;
use controller_core::author_limits::{AuthorLimits, ScopeRules, TypeRules};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use shared::key_ring::{KeyRing, RingKey};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::{base64, envelope, key_secret};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};

use crate::support::api_server::{ApiServer, id};
use crate::support::{Case, KEYS, record_log, sealed};

/// A controller that reconciles one object on a simulated API server, and all public results: the status,
/// events, log lines and metrics.
pub(crate) struct Scenario {
    pub(crate) server: Arc<ApiServer>,
    store: Arc<ClusterStore>,
    reconciler: Reconciler<ClusterStore>,
    metrics: Arc<Metrics>,
    log: Log,
    generation: i64,
}

impl Scenario {
    pub(crate) fn new() -> Self {
        Self::with_server(ApiServer::default(), |_| ())
    }

    pub(crate) fn with_server(server: ApiServer, adjust: impl FnOnce(&mut Policy)) -> Self {
        let (server, store) = server.start();
        let metrics = Arc::new(Metrics::new(false).unwrap());
        let mut policy = Case::idle().config().policy;
        adjust(&mut policy);
        let mut reconciler = Reconciler::new(
            Arc::clone(&store),
            Pool::new(),
            policy,
            Arc::clone(&metrics),
        );
        reconciler.use_ring(ring(), Timestamp::UNIX_EPOCH);
        Self {
            server,
            store,
            reconciler,
            metrics,
            log: Log::default(),
            generation: 0,
        }
    }

    /// Returns a scenario with a new controller process on the same server.
    pub(crate) fn restart_on(server: &Arc<ApiServer>) -> Self {
        Self::restart_with(server, |_| ())
    }

    /// Like [`Self::restart_on`], with a changed policy.
    pub(crate) fn restart_with(server: &Arc<ApiServer>, adjust: impl FnOnce(&mut Policy)) -> Self {
        let mut scenario = Self::new();
        scenario.store = server.restart();
        scenario.server = Arc::clone(server);
        let mut policy = Case::idle().config().policy;
        adjust(&mut policy);
        let (store, metrics) = (Arc::clone(&scenario.store), Arc::clone(&scenario.metrics));
        scenario.reconciler = Reconciler::new(store, Pool::new(), policy, metrics);
        scenario.reconciler.use_ring(ring(), Timestamp::UNIX_EPOCH);
        scenario
    }

    /// Uses these keys for later reconciliations.
    pub(crate) fn use_ring(&mut self, ring: Arc<KeyRing>) {
        self.reconciler.use_ring(ring, Timestamp::UNIX_EPOCH);
    }

    /// Replaces the object and reconciles it.
    pub(crate) async fn apply(&mut self, sealed: &SealedSecret) {
        self.generation += 1;
        self.server.put_sealed(sealed, "u", self.generation);
        self.reconcile().await;
    }

    pub(crate) async fn reconcile(&mut self) {
        let now = Timestamp::from_second(self.generation).unwrap();
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        self.run_due().await;
    }

    /// Reconciles all due objects.
    pub(crate) async fn run_due(&mut self) {
        let now = Timestamp::from_second(self.generation).unwrap();
        let _guard = record_log(self.log.clone());
        while self.reconciler.run_once(now).await == Some(now) {}
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.server.is_synced()
    }

    /// Returns all public information, without times, which vary, and without counts of the process, which include
    /// other tests.
    pub(crate) fn public_state(&self) -> Value {
        let metrics = self.metrics.text(Timestamp::UNIX_EPOCH);
        let varying = ["process_", "_seconds", "private_key_operations", "keys{"];
        let metrics: Vec<&str> = metrics
            .lines()
            .filter(|line| varying.iter().all(|text| !line.contains(text)))
            .collect();
        json!([
            self.server.public_state(),
            *self.log.0.lock().unwrap(),
            metrics
        ])
    }
}

/// Records every log line of the controller at every level, with all fields.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("controller") {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

fn ring() -> Arc<KeyRing> {
    let secret = key_secret::build("k", "ns", &KEYS[0], BTreeMap::new(), BTreeMap::new());
    let key: RingKey =
        key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
    Arc::new(KeyRing::new([Arc::new(key)]))
}

fn object(value: &str) -> SealedSecret {
    sealed(&KEYS[0], "ns/n", &[("a", value)])
}

fn object_with_templates(value: &str, texts: &[(String, String)]) -> SealedSecret {
    let mut object = object(value);
    let texts = texts
        .iter()
        .map(|(key, text)| (key.clone(), Some(text.clone())));
    object.spec.template.data = Some(texts.collect());
    object
}

/// Returns an object in the deprecated form: a whole Secret, sealed as one value.
fn legacy_object(content: &str) -> SealedSecret {
    let mut object = object("");
    let label = Scope::ClusterWide.label("ns", "n");
    let key = KEYS[0].pair.certificate().public_key();
    let data = envelope::seal(
        key,
        &label,
        content.as_bytes(),
        &mut shared::random::system(),
    )
    .unwrap();
    object.spec.encrypted_data.clear();
    object.spec.data = Some(base64::encode(&data));
    object
}

/// Asserts that both public states are equal; otherwise reports the first difference.
pub(crate) fn assert_indistinguishable(first: &Value, second: &Value, description: &str) {
    fn find_difference(path: &str, first: &Value, second: &Value) -> Option<String> {
        if first == second {
            return None;
        }
        let difference = match (first, second) {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                let mut pairs = a.iter().zip(b).enumerate();
                pairs.find_map(|(i, (a, b))| find_difference(&format!("{path}/{i}"), a, b))
            }
            (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
                let mut keys = a.keys();
                keys.find_map(|key| find_difference(&format!("{path}/{key}"), &a[key], &b[key]))
            }
            _ => None,
        };
        difference.or_else(|| Some(format!("{path}: {first:#} or {second:#}")))
    }
    let difference = find_difference("", first, second);
    assert!(
        difference.is_none(),
        "{description}{}",
        difference.unwrap_or_default()
    );
}

/// Returns one template for each possible byte. Each template fails if the first byte of the value equals its byte.
fn templates_for_each_byte() -> Vec<(String, String)> {
    let text = |byte: u8| {
        format!("{{{{ if eq (index .a 0 | int) {byte} }}}}{{{{ fail \"\" }}}}{{{{ end }}}}")
    };
    (0..=255)
        .map(|byte| (format!("x{byte:03}"), text(byte)))
        .collect()
}

/// Attack: an author adds a template for each byte in one edit, so that the name of the failing template reveals the
/// value.
#[tokio::test(start_paused = true)]
async fn the_status_does_not_reveal_which_template_fails() {
    let mut outcomes = Vec::new();
    for value in ["A", "B"] {
        let mut scenario = Scenario::new();
        scenario.apply(&object(value)).await;
        assert!(scenario.is_synced());
        scenario
            .apply(&object_with_templates(value, &templates_for_each_byte()))
            .await;
        assert!(!scenario.is_synced());
        outcomes.push(scenario.public_state());
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
}

/// Attack: an author adds one template with a line for each byte, so that the line that fails reveals the byte.
#[tokio::test(start_paused = true)]
async fn the_status_does_not_reveal_where_a_template_fails() {
    let lines: Vec<String> = templates_for_each_byte()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let mut outcomes = Vec::new();
    for value in ["A", "B"] {
        let mut scenario = Scenario::new();
        let text = [("t".to_owned(), lines.join("\n"))];
        scenario.apply(&object_with_templates(value, &text)).await;
        outcomes.push(scenario.public_state());
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
}

/// Attack: an author seals a guess for a value and applies it, to learn from the absence of a change that the guess is
/// correct.
#[tokio::test(start_paused = true)]
async fn a_correct_guess_is_indistinguishable_from_a_wrong_one() {
    let mut outcomes = Vec::new();
    for guess in ["4711", "4712"] {
        let mut scenario = Scenario::new();
        scenario.apply(&object("4711")).await;
        scenario.apply(&object(guess)).await;
        assert!(scenario.is_synced());
        outcomes.push(scenario.public_state());
        scenario.apply(&object(guess)).await;
        assert_eq!(
            scenario.server.public_state()[2].as_array().unwrap().len(),
            6
        );
        // Nothing more is written after the Secret is up to date.
        let before = scenario.public_state();
        scenario.reconcile().await;
        assert_eq!(scenario.public_state()[0], before[0]);
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
}

fn immutable_object(value: &str) -> SealedSecret {
    let mut object = object(value);
    object.spec.template.immutable = Some(true);
    object
}

/// Attack: an author applies a guess for a Secret whose values cannot be changed, so that only the correct guess
/// succeeds, in a namespace where an edit must reveal nothing.
#[tokio::test(start_paused = true)]
async fn a_correct_guess_of_an_immutable_value_is_indistinguishable_from_a_wrong_one() {
    let forbid = |policy: &mut Policy| {
        policy.author_limits = Arc::new(AuthorLimits::default().forbidding_templates("*"));
    };
    let mut outcomes = Vec::new();
    for guess in ["4711", "4712"] {
        let mut scenario = Scenario::with_server(ApiServer::default(), forbid);
        scenario.apply(&immutable_object("4711")).await;
        assert!(scenario.is_synced());
        scenario.apply(&immutable_object(guess)).await;
        assert!(!scenario.is_synced());
        outcomes.push(scenario.public_state());
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
}

/// Without the comparison of values, re-encrypting a tree would fail for each immutable Secret in the tree.
#[tokio::test(start_paused = true)]
async fn an_immutable_secret_stays_synced_after_re_encryption() {
    let mut scenario = Scenario::new();
    scenario.apply(&immutable_object("1")).await;
    scenario.apply(&immutable_object("1")).await;
    assert!(scenario.is_synced(), "{}", scenario.public_state());
    scenario.apply(&immutable_object("2")).await;
    assert!(!scenario.is_synced());
}

/// Without the comparison of values, an immutable Secret without a status would never become synced.
#[tokio::test(start_paused = true)]
async fn an_immutable_secret_is_synced_after_a_crash_and_when_handed_over() {
    let mut crashed = Scenario::new();
    crashed.apply(&immutable_object("1")).await;
    crashed.server.edit_status(|status| *status = Value::Null);
    let mut restarted = Scenario::restart_on(&crashed.server);
    restarted.reconcile().await;
    assert!(restarted.is_synced());

    let server = ApiServer::default();
    server.edit("a", "1");
    server.make_immutable();
    let mut handed_over = Scenario::with_server(server, |_| ());
    handed_over.apply(&immutable_object("1")).await;
    handed_over.reconcile().await;
    assert!(handed_over.is_synced(), "{}", handed_over.public_state());
    let owner = &handed_over.server.secret()["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], json!("u"));
}

/// Attack: an author guesses the value of an immutable Secret that is not owned and consents to a merge: only a correct
/// guess could be merged.
#[tokio::test(start_paused = true)]
async fn an_immutable_secret_that_consents_to_a_merge_is_never_compared() {
    let mut outcomes = Vec::new();
    for guess in ["4711", "4712"] {
        let server = ApiServer::default();
        server.edit("a", "4711");
        server.consent_to_a_merge();
        server.make_immutable();
        let mut scenario = Scenario::with_server(server, |_| ());
        scenario.apply(&object(guess)).await;
        scenario.reconcile().await;
        assert!(!scenario.is_synced(), "{}", scenario.public_state());
        outcomes.push(scenario.public_state());
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
}

/// Attack: an author uses the API server's check of a Secret type instead of a failing template. A different outcome
/// would reveal another bit, and the name of the failed check even more.
#[tokio::test(start_paused = true)]
async fn a_value_that_the_api_server_rejects_is_indistinguishable_from_a_failing_template() {
    fn check(secret: &Value) -> Option<Value> {
        let text = base64::decode(secret["data"]["a"].as_str()?.as_bytes()).ok()?;
        let first = text.first().copied()? as char;
        (first != '{').then(|| {
            json!([{
                "field": "data[a]", "reason": "FieldValueInvalid", "message": format!("invalid character {first:?}"),
            }])
        })
    }
    let text = [(
        "t".to_owned(),
        "{{ if eq .a \"fail\" }}{{ fail \"\" }}{{ end }}".to_owned(),
    )];
    let mut outcomes = Vec::new();
    for value in ["fail", "x", "y"] {
        let mut scenario = Scenario::with_server(ApiServer::with_check(check), |_| ());
        scenario.apply(&object_with_templates("{}", &text)).await;
        assert!(scenario.is_synced());
        scenario.apply(&object_with_templates(value, &text)).await;
        assert!(!scenario.is_synced());
        outcomes.push(scenario.public_state());
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
    assert_indistinguishable(&outcomes[1], &outcomes[2], "");
}

/// Attack: an author edits the value of an immutable Secret that has templates. If the refusal of the change differed
/// from a failing template, each edit would reveal another bit.
#[tokio::test(start_paused = true)]
async fn a_changed_value_of_an_immutable_secret_is_indistinguishable_from_a_failing_template() {
    let text = [(
        "t".to_owned(),
        "{{ if eq .a \"fail\" }}{{ fail \"\" }}{{ end }}".to_owned(),
    )];
    let immutable = |value: &str| {
        let mut object = object_with_templates(value, &text);
        object.spec.template.immutable = Some(true);
        object
    };
    let mut outcomes = Vec::new();
    for value in ["fail", "x", "y"] {
        let mut scenario = Scenario::new();
        scenario.apply(&immutable("1")).await;
        assert!(scenario.is_synced());
        scenario.apply(&immutable(value)).await;
        assert!(!scenario.is_synced(), "{value}");
        outcomes.push(scenario.public_state());
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
    assert_indistinguishable(&outcomes[1], &outcomes[2], "");
}

/// Attack: a reader of SealedSecrets compares the digests in the records of several versions, to find versions with
/// equal values.
#[tokio::test(start_paused = true)]
async fn three_versions_of_equal_value_share_no_digest() {
    let mut scenario = Scenario::new();
    let mut digests = BTreeSet::new();
    for version in 0..3 {
        scenario.apply(&object("4711")).await;
        assert!(scenario.is_synced());
        let record = scenario.server.status()["record"].clone();
        for field in ["content", "proof", "secretVersion"] {
            let digest = record[field].as_str().unwrap().to_owned();
            assert!(digests.insert(digest), "{field} of version {version}");
        }
    }
}

/// Attack: an author whose templates are forbidden gives the Secret a type whose values the API server checks.
///
/// The author can still learn one thing: whether the value is a JSON object.
#[tokio::test(start_paused = true)]
async fn without_templates_the_type_of_a_secret_reveals_only_whether_a_value_is_valid() {
    fn check(secret: &Value) -> Option<Value> {
        let text = base64::decode(secret["data"][".dockerconfigjson"].as_str()?.as_bytes()).ok()?;
        let first = text.first().copied()? as char;
        (first != '{').then(|| {
            json!([{
                "field": "data[.dockerconfigjson]", "reason": "FieldValueInvalid",
                "message": format!("invalid character {first:?}"),
            }])
        })
    }
    let forbid = |policy: &mut Policy| {
        policy.author_limits = Arc::new(AuthorLimits::default().forbidding_templates("*"));
    };
    let pull_secret = |value: &str| {
        let mut object = sealed(&KEYS[0], "ns/n", &[(".dockerconfigjson", value)]);
        object.spec.template.type_ = Some("kubernetes.io/dockerconfigjson".into());
        object
    };
    for (values, is_synced) in [
        (["hunter2", "x", "7"], false),
        (["{}", "{\"a\":1}", "{\"b\":2}"], true),
    ] {
        let mut outcomes = Vec::new();
        for value in values {
            let mut scenario = Scenario::with_server(ApiServer::with_check(check), forbid);
            scenario.apply(&pull_secret("{}")).await;
            assert!(scenario.is_synced());
            scenario.apply(&pull_secret(value)).await;
            assert_eq!(scenario.is_synced(), is_synced, "{value}");
            outcomes.push(scenario.public_state());
        }
        assert_indistinguishable(&outcomes[0], &outcomes[1], "");
        assert_indistinguishable(&outcomes[1], &outcomes[2], "");
    }
}

/// Attack: an author applies an object in the deprecated form that another author sealed, to infer the content from
/// refusals.
#[tokio::test(start_paused = true)]
async fn no_content_of_a_secret_that_is_sealed_as_a_whole_is_reported() {
    let text = |content: Value| {
        let mut secret = json!({ "kind": "Secret", "apiVersion": "v1" });
        secret
            .as_object_mut()
            .unwrap()
            .extend(content.as_object().unwrap().clone());
        secret.to_string()
    };
    let limit = |policy: &mut Policy| {
        let types = TypeRules::read("x/one,x/two", "").unwrap();
        let limits = AuthorLimits::new(types, ScopeRules::default(), None);
        policy.author_limits = Arc::new(limits);
    };
    let refused_contents = [
        "no Secret at all".to_owned(),
        text(json!({ "type": "x/one" })),
        text(json!({ "type": "x/two", "data": { "a": "YQ==" } })),
        text(json!({ "type": "another", "data": { "b": "YQ==" } })),
    ];
    let accepted_contents = [
        text(json!({ "data": { "a": "YQ==" } })),
        text(json!({ "data": { "b": "YQ==", "c": "" }, "metadata": { "labels": { "l": "v" } } })),
    ];
    for contents in [&refused_contents[..], &accepted_contents] {
        let mut outcomes = Vec::new();
        for content in contents {
            let mut scenario = Scenario::with_server(ApiServer::default(), limit);
            scenario
                .apply(&legacy_object(&text(json!({ "data": { "a": "" } }))))
                .await;
            assert!(scenario.is_synced());
            scenario.apply(&legacy_object(content)).await;
            outcomes.push(scenario.public_state());
        }
        for outcome in &outcomes {
            assert_indistinguishable(outcome, &outcomes[0], "");
        }
    }
}

/// Attack: an author uses the name of an item, or quoted text of a template, to move the cursor or hide the rest of a
/// line.
#[tokio::test(start_paused = true)]
async fn published_texts_contain_no_invisible_or_control_characters() {
    const HOSTILE: &str = "a\u{202e}b\u{1b}[2J\nSynced\u{200b}\u{9b}";
    /// Rejects every Secret except the first, with a text that only the last step before publication escapes.
    fn check(secret: &Value) -> Option<Value> {
        let is_first = secret["data"]["a"] == json!(base64::encode(b"first"));
        let message = "Invalid value: a\u{202e}b\u{1b}[2J\u{200b}\u{9b}";
        (!is_first).then(|| {
            json!([{ "field": "metadata.labels", "reason": "FieldValueInvalid", "message": message }])
        })
    }
    let mut broken = object("1");
    broken
        .spec
        .encrypted_data
        .insert(HOSTILE.into(), "AAAA".into());
    let failing = object_with_templates("1", &[(HOSTILE.to_owned(), "{{ fail .a }}".to_owned())]);
    let unparsed = object_with_templates("1", &[(HOSTILE.to_owned(), "{{ \u{202e}".to_owned())]);
    let rejected = object("1");
    for hostile in [broken, failing, unparsed, rejected] {
        let mut scenario = Scenario::with_server(ApiServer::with_check(check), |_| ());
        scenario.apply(&object("first")).await;
        assert!(scenario.is_synced());
        scenario.apply(&hostile).await;
        assert!(!scenario.is_synced());
        let public_state = scenario.server.public_state();
        assert!(
            public_state[0]["conditions"].is_array(),
            "{}",
            scenario.public_state()
        );
        let conditions = public_state[0]["conditions"].as_array().unwrap().iter();
        let events = public_state[1]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event[1]);
        let messages: Vec<&str> = conditions
            .chain(events)
            .filter_map(|object| object["message"].as_str())
            .collect();
        assert!(messages.len() > 3, "{public_state}");
        for message in messages {
            assert!(!message.contains("\nSynced"), "{message:?}");
            let is_hidden =
                |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{200b}".contains(c));
            assert!(!message.contains(is_hidden), "{message:?}");
        }
    }
}

/// Returns a conditional whose effect depends on a value.
fn fragment(rng: &mut StdRng) -> String {
    let condition = [
        "eq .a \"1\"",
        "lt (len .a) 3",
        "eq (index .a 0 | int) 65",
        "contains \"A\" .a",
        "regexMatch \"^[A-C]\" .a",
    ];
    let action = [
        "{{ fail \"\" }}",
        "{{ index .a 1 }}",
        "{{ .a.b.c }}",
        "{{ repeat 2000000 .a }}",
        "{{ range until 100000 }}{{ $x := . }}{{ end }}",
        "{{ mustFromJson .a | toString }}",
        "{{ .a }}\n",
        "\n\n",
        "{{ template \"none\" }}",
    ];
    let condition = condition[rng.random_range(0..condition.len())];
    let (first, second) = (
        action[rng.random_range(0..action.len())],
        action[rng.random_range(0..action.len())],
    );
    format!("{{{{ if {condition} }}}}{first}{{{{ else }}}}{second}{{{{ end }}}}")
}

/// Attack: an author applies generated templates to chosen values and compares everything that is public.
///
/// The general property: for any templates, two objects that differ only in values are indistinguishable, except for
/// whether a valid Secret results from the values.
#[tokio::test(start_paused = true)]
async fn objects_that_differ_only_in_values_are_indistinguishable() {
    let mut rng = StdRng::seed_from_u64(1);
    let values = ["1", "A", "AB", "{}", "C9"];
    let mut comparison_counts = [0, 0];
    for case in 0..16 {
        let texts: Vec<(String, String)> = (0..rng.random_range(1..4))
            .map(|i| (format!("t{i}"), fragment(&mut rng)))
            .collect();
        let mut outcomes: [Option<Value>; 2] = [None, None];
        for value in values {
            let mut scenario = Scenario::new();
            scenario.apply(&object("A")).await;
            scenario.apply(&object_with_templates(value, &texts)).await;
            let outcome = usize::from(scenario.is_synced());
            match &outcomes[outcome] {
                None => outcomes[outcome] = Some(scenario.public_state()),
                Some(first) => {
                    let description = format!("case {case}: {value} of {texts:?}");
                    assert_indistinguishable(&scenario.public_state(), first, &description);
                    comparison_counts[outcome] += 1;
                }
            }
        }
    }
    assert!(
        comparison_counts.iter().all(|count| *count >= 5),
        "{comparison_counts:?}"
    );
}

/// An earlier release published the version of the Secret in its record, and a later release may do so again.
#[tokio::test(start_paused = true)]
async fn neither_an_upgrade_nor_a_downgrade_changes_the_secret() {
    let mut random_object = object("1");
    random_object.spec.template.data =
        Some([("r".to_owned(), Some("{{ uuidv4 }}".to_owned()))].into());
    let mut scenario = Scenario::new();
    scenario.apply(&random_object).await;
    assert!(scenario.is_synced());
    let secret = scenario.server.secret();
    // An earlier release can read the record of this release: it has the same fields, and all of them are strings.
    let record = scenario.server.status()["record"].clone();
    let fields = ["content", "key", "proof", "secretUid", "secretVersion"];
    let mut fields_found: Vec<&String> = record.as_object().unwrap().keys().collect();
    fields_found.sort();
    assert_eq!(fields_found, fields);
    assert!(fields.iter().all(|field| record[field].is_string()));
    assert_ne!(
        record["secretVersion"],
        secret["metadata"]["resourceVersion"]
    );

    scenario.server.edit_status(|status| {
        status["record"]["secretVersion"] = secret["metadata"]["resourceVersion"].clone();
        status["record"]["proof"] = json!("AAAA");
    });
    let mut scenario = Scenario::restart_on(&scenario.server);
    scenario.reconcile().await;
    assert!(scenario.is_synced());
    assert_eq!(scenario.server.secret(), secret);
    assert_ne!(scenario.server.status()["record"]["proof"], json!("AAAA"));
}
