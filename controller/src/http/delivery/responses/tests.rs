use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use controller_core::added_metadata::AddedMetadata;
use serde_json::json;
use shared::key_ring::RingV2Key;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::scope::Scope;
use shared::unseal::Rules;
use shared::v2::key_secret::StoredKey;
use shared::v2::{self, LockSpec, Place, SecretKey, Suite, Value};

use super::*;
use crate::metrics::Metrics;
use crate::reconcile::Policy;
use crate::testing::{client, id, refusal};

fn key() -> SecretKey {
    SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap()
}

fn ring() -> Arc<KeyRing> {
    let stored = StoredKey {
        key: key(),
        not_before: Timestamp::MIN,
        not_after: Timestamp::MAX,
    };
    let key = RingV2Key::new("k".into(), Timestamp::MIN, stored);
    Arc::new(KeyRing::default().with_v2_keys([Arc::new(key)]))
}

/// Returns an object with the item `a`, and with a template unless it is empty.
fn object(name: &str, value: &str, template: &str) -> SealedSecret {
    let mut sealed = SealedSecret::new(name, SealedSecretSpec::default());
    sealed.metadata.namespace = Some("ns".into());
    sealed.metadata.uid = Some("u".into());
    sealed.metadata.generation = Some(1);
    let place = Place::for_sealing(Scope::Strict, "ns", name).unwrap();
    let spec = LockSpec {
        place: &place,
        recipients: &[&key().recipient()],
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: 1,
    };
    let rng = &mut shared::random::system();
    let value = Value::new(Plain::from(value.to_owned()), rng);
    let values = BTreeMap::from([("a".to_owned(), value)]);
    sealed.spec.encrypted_data = v2::seal(&spec, &values, rng).unwrap();
    sealed.spec.template.data =
        (!template.is_empty()).then(|| [("t".into(), Some(template.into()))].into());
    sealed
}

fn owner(pod: &str) -> Owner {
    Owner {
        namespace: "ns".into(),
        pod: pod.into(),
    }
}

/// The caches of a controller, and the objects of its API server.
struct Fixture {
    responses: Responses,
    objects: BTreeMap<ObjectId, Identity>,
}

impl Fixture {
    /// The API server returns the objects in the order of their names, again and again.
    fn new(objects: Vec<SealedSecret>) -> Self {
        let identity = |sealed: &SealedSecret| Identity::of(sealed).unwrap();
        let identities = objects
            .iter()
            .map(|sealed| (id(sealed.name_or_empty()), identity(sealed)));
        let identities = identities.collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let client = client(move |_, _| {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match objects.get(index % objects.len()) {
                Some(sealed) => (200, serde_json::to_value(sealed).unwrap()),
                None => refusal(404, "no object"),
            }
        });
        Self {
            responses: Responses::new(&delivery(client)),
            objects: identities,
        }
    }

    /// Requests all values of all objects, and possibly a file from a template. `number` distinguishes requests.
    /// Returns the result, and the time that it took in milliseconds.
    async fn request(
        &self,
        number: u8,
        template: Option<&str>,
    ) -> (Result<Arc<PreparedBody>, DeliveryRefusal>, u128) {
        self.request_of("p", number, template).await
    }

    /// Like [`Self::request`], of a Pod with this `uid`.
    async fn request_of(
        &self,
        pod: &str,
        number: u8,
        template: Option<&str>,
    ) -> (Result<Arc<PreparedBody>, DeliveryRefusal>, u128) {
        let names: Vec<&str> = self.objects.keys().map(|id| id.name.as_str()).collect();
        let mut entries: Vec<_> = names
            .iter()
            .map(|name| json!({ "sealedSecret": name, "path": format!("{number}/{name}/") }))
            .collect();
        entries.extend(
            template.map(|text| json!({ "path": "file", "template": text, "from": names })),
        );
        self.send(pod, &entries).await
    }

    /// Sends a request with these entries.
    async fn send(
        &self,
        pod: &str,
        entries: &[serde_json::Value],
    ) -> (Result<Arc<PreparedBody>, DeliveryRefusal>, u128) {
        let request = json!({ "objects": entries }).to_string();
        let request = Request::from_json(request.as_bytes()).unwrap();
        let identities = self.objects.iter();
        let identities = identities.map(|(id, identity)| (id.name.as_str(), *identity));
        let revision = Revision::new("ns", "", &request.entries, &identities.collect());
        let start = Instant::now();
        let owner = owner(pod);
        let responses = &self.responses;
        let result = responses
            .get(&owner, &request, &self.objects, revision)
            .await;
        (result, start.elapsed().as_millis())
    }
}

fn delivery(client: kube::Client) -> Delivery {
    let version_key = Arc::new(VersionKey::new(&[1; 32]));
    Delivery {
        store: Arc::new(ClusterStore::new(client, false)),
        ring: watch::channel(ring()).1,
        version_key: watch::channel(Some(version_key)).1,
        is_complete: Arc::new(AtomicBool::new(true)),
        policy: Policy {
            rules: Rules {
                accept_legacy: true,
                refuse_random: false,
            },
            author_limits: Arc::default(),
            added: Arc::new(AddedMetadata::default()),
            update_status: true,
            tolerates_drift: false,
            retries: 5,
        },
        stopping: watch::channel(false).1,
        metrics: Arc::new(Metrics::new(false).unwrap()),
    }
}

const BURN: &str = "{{ range until 3000 }}{{ $_ := sha256sum \"x\" }}{{ end }}";
const SLOW: &str = "{{ $_ := derivePassword 1 \"long\" \"p\" \"u\" \"s\" }}";

/// Attack: an author writes a template that takes longer, fails, or creates a larger value, depending on a sealed
/// value, and observes when a Pod gets its values, and with which failure.
#[tokio::test(start_paused = true)]
async fn the_time_and_the_failure_of_a_delivery_depend_only_on_the_text_of_the_templates() {
    let if_one = |text: &str| format!("{{{{ if eq .a \"1\" }}}}{text}{{{{ end }}}}");
    for (template, delay) in [
        (String::new(), 0),
        (if_one("{{ fail \"\" }}"), 500),
        (if_one(BURN), 500),
        (if_one("{{ repeat 100000 \"x\" }}"), 500),
        (if_one("{{ repeat 3000000 \"x\" }}"), 500),
        (if_one(SLOW), 2_000),
    ] {
        let (mut times, mut failures) = (BTreeSet::new(), BTreeSet::new());
        for value in ["1", "2", "333"] {
            let fixture = Fixture::new(vec![object("db", value, &template)]);
            for (number, text) in [(0, None), (1, Some("{{ fail .db.a }}"))] {
                let (result, took) = fixture.request(number, text).await;
                failures.extend(result.err().map(|why| format!("{why:?}")));
                times.insert((number, took));
            }
        }
        assert!(failures.len() <= 1, "{template}: {failures:?}");
        let want = BTreeSet::from([(0, delay), (1, delay.max(500))]);
        assert_eq!(times, want, "{template}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_for_many_objects_waits_once() {
    let names = (0..30).map(|number| format!("db{number:02}"));
    let objects = names.map(|name| object(&name, "1", "{{ .a }}"));
    let (result, took) = Fixture::new(objects.collect()).request(0, None).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(took, 500);
}

#[tokio::test(start_paused = true)]
async fn templates_that_would_keep_a_pod_waiting_for_too_long_are_refused_without_rendering() {
    for (objects, calls, is_refused) in [(1, 4, false), (1, 5, true), (2, 2, false), (3, 2, true)] {
        let names = (0..objects).map(|number| format!("db{number}"));
        let objects = names.map(|name| object(&name, "1", &SLOW.repeat(calls)));
        let (result, took) = Fixture::new(objects.collect()).request(0, None).await;
        assert_eq!(result.is_err(), is_refused, "{calls}: {result:?}");
        assert_eq!(took == 0, is_refused, "{calls}: {took}");
    }
}

/// Attack: a tenant fills the caches and the memory of responses nearly completely, and finds out the size of a value
/// of another tenant by what is evicted or refused.
#[tokio::test(start_paused = true)]
async fn caches_and_memory_count_sizes_that_do_not_depend_on_values() {
    let mut sizes = BTreeSet::new();
    for value in ["1", "900000"] {
        let template = "{{ repeat (int .a) \"x\" }}";
        let fixture = Fixture::new(vec![object("db", value, template)]);
        let (prepared, _) = fixture.request(0, None).await;
        let cached = prepared.unwrap().size();
        let unsealed = Box::pin(fixture.responses.open_all(&fixture.objects));
        let unsealed = unsealed.await.unwrap();
        let entries = [json!({ "sealedSecret": "db" })];
        let request = json!({ "objects": entries }).to_string();
        let request = Request::from_json(request.as_bytes()).unwrap();
        let used = fixture.responses.memory.used_by("ns");
        let response = max_response_len(&request.entries, &unsealed);
        assert_eq!((used, cached), (response, response));
        // Both values are padded to 32 bytes.
        sizes.insert((unsealed["db"].size(), response));
    }
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}

/// Attack: a tenant requests objects with templates, to occupy the slots of other tenants while its responses wait for
/// their time.
#[tokio::test(start_paused = true)]
async fn a_response_that_waits_for_its_time_occupies_no_slot() {
    let fixture = Fixture::new(vec![object("db", "1", "{{ .a }}")]);
    let requests = (0..10).map(|number| fixture.request(number, None));
    let results = futures::future::join_all(requests).await;
    let times: BTreeSet<u128> = results.iter().map(|(_, took)| *took).collect();
    assert!(results.iter().all(|(result, _)| result.is_ok()));
    assert_eq!(times, [500].into(), "more requests than slots");
}

/// Attack: one Pod requests so many responses that wait for their time that the share of its namespace is used up, and
/// another Pod of the namespace gets no values.
#[tokio::test(start_paused = true)]
async fn a_response_that_waits_for_its_time_makes_room_for_another_pod() {
    let fixture = Fixture::new(vec![object("db", "1", SLOW)]);
    let greedy = (0..12).map(|number| fixture.request_of("greedy", number, None));
    let greedy = futures::future::join_all(greedy);
    let quiet = async {
        sleep(Duration::from_secs(1)).await;
        fixture.request_of("quiet", 100, None).await
    };
    let (greedy, (quiet, _)) = tokio::join!(greedy, quiet);
    assert!(quiet.is_ok(), "{quiet:?}");
    let (delivered, refused): (Vec<_>, Vec<_>) = greedy.iter().partition(|(r, _)| r.is_ok());
    assert!(delivered.len() > 5, "{}", delivered.len());
    let busy = Some(&DeliveryRefusal::Busy);
    assert!(!refused.is_empty() && refused.iter().all(|(r, _)| r.as_ref().err() == busy));
}

/// Attack: a namespace requests more than its share, so that the cached responses of other namespaces are dropped.
#[tokio::test(start_paused = true)]
async fn a_namespace_beyond_its_share_evicts_only_its_own_cached_responses() {
    let fixture = Fixture::new(vec![object("db", "1", "{{ .a }}")]);
    let responses = &fixture.responses;
    let (first, _) = fixture.request(0, None).await;
    let other = Owner {
        namespace: "other".into(),
        ..owner("p")
    };
    assert!(responses.reserve(&other, 17 << 20).await.is_err());
    assert_eq!(
        responses.memory.used_by("ns"),
        first.as_ref().unwrap().size()
    );
    drop(first);
    assert_ne!(responses.memory.used_by("ns"), 0, "it is still cached");
    let reserved = responses.reserve(&owner("p"), 16 << 20).await;
    assert!(reserved.is_ok(), "its own cached response was evicted");
}

/// Attack: a caller requests files from long texts without templates, which take memory that no limit counts.
#[tokio::test(start_paused = true)]
async fn the_memory_of_a_response_includes_files_from_literal_texts() {
    let fixture = Fixture::new(vec![object("db", "1", "")]);
    let text = "x".repeat(60_000);
    let (prepared, _) = fixture.request(0, Some(&text)).await;
    let prepared = prepared.unwrap();
    assert!(prepared.size() > 80_000, "{}", prepared.size());
    let response = Arc::clone(&prepared).respond(slot());
    let body = axum::body::HttpBody::size_hint(response.body());
    assert!(body.exact().unwrap() <= prepared.size() as u64);
}

fn slot() -> Arc<crate::http::connections::Slot> {
    let connections = crate::http::connections::Connections::default();
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    Arc::new(connections.admit(address).unwrap().0)
}

/// Attack: an author stores objects with twenty thousand labels, which take memory that the cache of unsealed objects
/// does not count.
#[tokio::test(start_paused = true)]
async fn the_size_of_an_unsealed_object_includes_its_labels_and_empty_items() {
    let mut with_labels = object("db", "1", "");
    let labels = (0..19_900).map(|i| (format!("k{i:05}"), String::new()));
    with_labels.spec.template.metadata.labels = Some(labels.collect());
    let mut sizes = Vec::new();
    for sealed in [object("db", "1", ""), with_labels] {
        let fixture = Fixture::new(vec![sealed]);
        let unsealed = Box::pin(fixture.responses.open_all(&fixture.objects)).await;
        sizes.push(unsealed.unwrap()["db"].size());
    }
    assert!(sizes[1] > sizes[0] + 19_900 * 128, "{sizes:?}");
}

/// Attack: an author lets the parsing of the request's templates run out of the time that remains after rendering
/// values, so that the failure differs from that of rendering.
#[tokio::test(start_paused = true)]
async fn templates_of_a_request_are_parsed_before_values_are_rendered() {
    let fixture = Fixture::new(vec![object("db", "1", "{{ fail .a }}")]);
    let (result, took) = fixture.request(0, Some("{{ end }}")).await;
    let refusal = result.err();
    let is_parse_error = matches!(refusal, Some(DeliveryRefusal::Template { .. }));
    assert!(is_parse_error, "{refusal:?}");
    assert_eq!(took, 0, "nothing was rendered");
    let long = "{{ $a := \"x\" }}".repeat(2_000);
    let (result, took) = fixture.request(1, Some(&long)).await;
    let refusal = result.err();
    assert!(
        matches!(refusal, Some(DeliveryRefusal::Values { .. })),
        "{refusal:?}"
    );
    assert_eq!(took, 500);
}

/// Attack: slow templates of many namespaces occupy the slots, so that other namespaces get no values.
#[tokio::test(start_paused = true)]
async fn responses_that_wait_for_slow_renderings_occupy_no_general_slot() {
    let fixture = Fixture::new(vec![object("db", "1", SLOW)]);
    let responses = &fixture.responses;
    let mut occupied = Vec::new();
    for i in 0..SLOW_SLOTS {
        let slot = responses
            .slow_slots
            .enqueue(&mut Job::new(&format!("n{i}")));
        occupied.push(slot.await.unwrap());
    }
    let waiting = (0..20).map(|number| fixture.request(number, None));
    let waiting = futures::future::join_all(waiting);
    let waiting = tokio::time::timeout(Duration::from_secs(10), waiting);
    let general = async {
        sleep(Duration::from_secs(1)).await;
        let slots = (0..SLOTS).map(|i| responses.slots.enqueue(&mut Job::new(&format!("n{i}"))));
        let slots: Vec<_> = slots.collect();
        tokio::time::timeout(Duration::from_secs(1), futures::future::join_all(slots)).await
    };
    let (waiting, general) = tokio::join!(waiting, general);
    assert!(waiting.is_err(), "all slow slots are occupied");
    assert!(general.is_ok(), "all general slots are free");
    drop((general, occupied));
    assert!(fixture.request(0, None).await.0.is_ok());
}

/// Attack: an author fills a response up to the limit, to find out the exact length of a padded value.
#[tokio::test(start_paused = true)]
async fn the_limit_of_a_response_counts_the_padded_length_of_v2_values() {
    // Four times this length leave 324 bytes. Values of 304 to 335 bytes have the same padded length.
    let filling = "x".repeat(24_574 * 32 - 17);
    for (len, fits) in [
        (272, true),
        (303, true),
        (304, false),
        (320, false),
        (335, false),
    ] {
        let value = object("value", &"x".repeat(len), "");
        let fixture = Fixture::new(vec![object("filling", &filling, ""), value]);
        let filling = |number| json!({ "sealedSecret": "filling", "path": format!("{number}/") });
        let mut entries: Vec<_> = (0..4).map(filling).collect();
        entries.push(json!({ "sealedSecret": "value" }));
        let (result, _) = fixture.send("p", &entries).await;
        let want = (!fits).then_some(DeliveryRefusal::TooLarge);
        assert_eq!(result.err(), want, "{len}");
    }
}
