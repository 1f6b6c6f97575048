//! Tests the responses of `/v1/deliver`: files, versions and refusals.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use serde_json::{Value, json};
use shared::reseal::{ResealRules, reseal};
use shared::v2;
use tests::patience::until;
use tests::sealing::{KEYS, key_ring, put_key};

use super::deliver_case::{DeliverCase, all_of, timed, values, version};

const ITEMS: [(&str, &str); 2] = [("password", "p/w"), ("user", "app")];

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(path, value): &(&str, &str)| ((*path).to_owned(), (*value).to_owned());
    files.iter().map(owned).collect()
}

#[tokio::test]
async fn files_have_the_paths_modes_and_templates_of_the_request() {
    let case = DeliverCase::new("deliver-files").await;
    case.case.seal("db", &ITEMS).await;
    let templates = [("url", "pg://{{ .user }}:{{ .password | urlquery }}@db")];
    case.case
        .seal_with("api", &[("user", "u"), ("password", "x y")], &templates)
        .await;
    let token = case.create_pod("web").await;
    let body = json!({ "objects": [
        { "sealedSecret": "db", "items": ["password"], "path": "db/", "mode": "0440" },
        { "sealedSecret": "db", "items": ["user"], "path": "name" },
        { "sealedSecret": "api", "path": "api/" },
        { "path": "conf/dsn", "template": "{{ .db.user }} {{ .api.url }}", "from": ["db", "api"], "mode": "0400" },
    ] });
    let response = case.tls.wait_for(200, &token, &body).await;
    let want = pairs(&[
        ("api/password", "x y"),
        ("api/url", "pg://u:x+y@db"),
        ("api/user", "u"),
        ("conf/dsn", "app pg://u:x+y@db"),
        ("db/password", "p/w"),
        ("name", "app"),
    ]);
    assert_eq!(values(&response), want);
    let modes = response["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["mode"].as_str().unwrap());
    assert_eq!(
        modes.collect::<Vec<_>>(),
        ["0444", "0444", "0444", "0400", "0440", "0444"]
    );
    case.case.wait_until_synced("db").await;
    let status = case.case.status("db").await;
    let object = response["objects"]
        .as_array()
        .unwrap()
        .iter()
        .find(|object| object["name"] == "db");
    let object = object.unwrap();
    assert_eq!(object["generation"], 1);
    assert_eq!(
        object["version"], status.versions[0].version,
        "as in the status"
    );
    let versions = response["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["version"].as_str().unwrap());
    assert!(versions.clone().all(|version| version.len() == 22));
    assert_eq!(
        versions.collect::<std::collections::BTreeSet<_>>().len(),
        want.len()
    );
}

/// Attack: a template of a request, or of an object, gives each Pod different values, or reveals a value in an error.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
async fn refusals_name_object_and_item_and_show_no_value() {
    let case = DeliverCase::new("deliver-refusals").await;
    case.case.seal("db", &ITEMS).await;
    case.case
        .seal_with(
            "random",
            &[("a", "1")],
            &[("token", "{{ randAlphaNum 20 }}")],
        )
        .await;
    case.case
        .seal_with("failing", &[("a", "canary")], &[("t", "{{ fail .a }}")])
        .await;
    let mut damaged = case.case.sealed_secret("damaged", &ITEMS);
    let other = case.case.sealed_secret("other", &ITEMS).spec.encrypted_data;
    damaged
        .spec
        .encrypted_data
        .insert("user".into(), other["user"].clone());
    case.case.create(&damaged).await;
    let token = case.create_pod("web").await;
    case.tls.wait_for(200, &token, &all_of("db")).await;
    let template = |text: &str| json!({ "path": "f", "template": text, "from": ["db"] });
    for (why, entry, code, object, item) in [
        (
            "unknown object",
            json!({ "sealedSecret": "nope" }),
            404,
            json!("nope"),
            Value::Null,
        ),
        (
            "unknown item",
            json!({ "sealedSecret": "db", "items": ["nope"] }),
            404,
            json!("db"),
            json!("nope"),
        ),
        (
            "unknown item in a template",
            template("{{ .db.nope }}"),
            404,
            json!("db"),
            json!("nope"),
        ),
        (
            "object that is not granted to the template",
            template("{{ .api.key }}"),
            422,
            json!("api"),
            json!("key"),
        ),
        (
            "random template of the object",
            json!({ "sealedSecret": "random" }),
            422,
            json!("random"),
            json!("token"),
        ),
        (
            "failing template of the object",
            json!({ "sealedSecret": "failing" }),
            422,
            json!("failing"),
            Value::Null,
        ),
        (
            "damaged item",
            json!({ "sealedSecret": "damaged" }),
            422,
            json!("damaged"),
            json!("user"),
        ),
        (
            "random template",
            template("{{ now }}"),
            422,
            Value::Null,
            Value::Null,
        ),
        (
            "failing template",
            template("{{ fail .db.password }}"),
            422,
            json!("db"),
            Value::Null,
        ),
        (
            "failing in another place",
            template("\n{{ index .db.password 99 }}"),
            422,
            json!("db"),
            Value::Null,
        ),
        (
            "malformed template",
            template("{{ .db.user "),
            400,
            Value::Null,
            Value::Null,
        ),
        (
            "malformed path",
            json!({ "sealedSecret": "db", "path": "../" }),
            400,
            Value::Null,
            Value::Null,
        ),
    ] {
        let body = json!({ "objects": [entry] });
        let failure = case.tls.wait_for(code, &token, &body).await;
        assert_eq!(
            (&failure["sealedSecret"], &failure["item"]),
            (&object, &item),
            "{why}: {failure}"
        );
        let text = failure.to_string();
        assert!(
            failure["hint"].is_string() && !text.contains("p/w") && !text.contains("canary"),
            "{why}: {text}"
        );
        assert!(
            !text.contains("line ") && !text.contains("column "),
            "{why}: {text}"
        );
    }
}

/// Attack: the author of templates learns more than one bit of a value with one edit: which template fails, where,
/// whether the files become too large, or how long that takes.
#[tokio::test]
async fn all_outcomes_that_depend_on_values_have_one_response_and_one_duration() {
    let case = DeliverCase::new("deliver-values").await;
    let outcome = "{{ if eq .a \"fail\" }}{{ fail .a }}{{ else if eq .a \"large\" }}{{ repeat 900000 .a }}{{ end }}";
    let objects = [("obj1", "fail"), ("obj2", "large"), ("obj3", "other")];
    for (name, value) in objects {
        let items = [("a", value), ("b", "1")];
        case.case.seal_with(name, &items, &[("t", outcome)]).await;
    }
    let token = case.create_pod("web").await;
    case.tls.wait_for(404, &token, &all_of("missing")).await;
    for request_template in [
        "{{ .OBJECT.b }}",
        "{{ fail .OBJECT.b }}",
        "{{ repeat 900000 .OBJECT.t }}",
    ] {
        let mut failures = BTreeSet::new();
        for (name, _) in objects {
            let text = request_template.replace("OBJECT", name);
            let body = json!({ "objects": [
                { "sealedSecret": name },
                { "path": "f", "template": text, "from": [name] },
            ] });
            let (took, (code, response)) = timed(case.tls.deliver(&token, &body)).await;
            assert!(
                took >= Duration::from_millis(500),
                "{name} {text}: {took:?}"
            );
            if code != 200 {
                assert_eq!(code, 422, "{name} {text}: {response}");
                failures.insert(response.to_string().replace(name, "OBJECT"));
            }
        }
        assert!(failures.len() <= 1, "{failures:#?}");
    }
}

#[tokio::test]
async fn re_encryption_key_renewal_and_restart_keep_versions_and_a_new_value_changes_its_own() {
    let case = DeliverCase::new("deliver-versions").await;
    case.case.seal("db", &ITEMS).await;
    let token = case.create_pod("web").await;
    let body = json!({ "objects": [
        { "sealedSecret": "db" }, { "path": "f", "template": "{{ .db.user }}", "from": ["db"] },
    ] });
    let first = case.tls.wait_for(200, &token, &body).await;

    put_key(&case.case.namespace, "key-1", &KEYS[1]).await;
    case.case.wait_for_log("secretname=key-1").await;
    let ring = key_ring(&[&KEYS[0], &KEYS[1]]);
    let objects = case.case.sealed_secrets();
    let present = objects.get("db").await.unwrap();
    let rules = ResealRules {
        now: jiff::Timestamp::now(),
        accept_legacy: false,
        max_items: 10,
        policy: v2::Policy::default(),
    };
    let (random, meter) = (&mut shared::random::system(), &mut shared::meter::Unmetered);
    let resealed = reseal(&present, &ring, rules, random, meter).unwrap();
    let mut replaced = present.clone();
    replaced.spec = resealed.sealed.spec;
    let params = kube::api::PostParams::default();
    objects.replace("db", &params, &replaced).await.unwrap();
    let second = until("the new generation is delivered", async || {
        let (_, response) = case.tls.deliver(&token, &body).await;
        (response["objects"][0]["generation"] == 2).then_some(response)
    })
    .await;
    assert_ne!(second["revision"], first["revision"]);
    assert_eq!(
        second["files"], first["files"],
        "re-encrypted for a new key"
    );
    assert_eq!(
        second["objects"][0]["version"],
        first["objects"][0]["version"]
    );

    let case = case.restart().await;
    let third = case.tls.wait_for(200, &token, &body).await;
    assert_eq!(
        third, second,
        "after a restart, by the same files and revision"
    );

    let present = case.case.sealed_secrets().get("db").await.unwrap();
    let mut changed = present.clone();
    let user = case
        .case
        .sealed_secret("db", &[("user", "other")])
        .spec
        .encrypted_data;
    changed.spec.encrypted_data.extend(user);
    case.case
        .sealed_secrets()
        .replace("db", &params, &changed)
        .await
        .unwrap();
    let fourth = until("the new value is delivered", async || {
        let (_, response) = case.tls.deliver(&token, &body).await;
        (response["objects"][0]["generation"] == 3).then_some(response)
    })
    .await;
    assert_eq!(
        version(&fourth, "password"),
        version(&first, "password"),
        "unchanged item"
    );
    for path in ["user", "f"] {
        assert_ne!(version(&fourth, path), version(&first, path), "{path}");
    }
}

/// Attack: a thousand Pods of a workload start or remount their volumes, to keep the controller busy with private keys.
#[tokio::test]
async fn a_hundred_requests_for_unchanged_objects_use_no_private_key_again() {
    let case = DeliverCase::new("deliver-operations").await;
    case.case.seal("db", &ITEMS).await;
    case.case.wait_until_synced("db").await;
    let token = case.create_pod("web").await;
    let first = case.tls.wait_for(200, &token, &all_of("db")).await;
    let operations = "sealed_secrets_controller_private_key_operations_total";
    let before = case.metric(operations, &[]).await;
    let mut have = all_of("db");
    have["have"] = first["revision"].clone();
    let start = std::time::Instant::now();
    for i in 0..10 {
        let token = case.create_another_pod(&format!("web-{i}"), "web").await;
        let (code, response) = case.tls.deliver(&token, &all_of("db")).await;
        assert_eq!((code, &response), (200, &first));
    }
    // Unsealed values are cached for thirty seconds.
    let expired = start.elapsed().as_secs() / 29;
    let after = case.metric(operations, &[]).await;
    let allowed = f64::from(u32::try_from(expired).unwrap()) * 2.0;
    assert!(after - before < allowed + 0.5, "{before} {after} {expired}");
    for i in 0..100 {
        let token = case.create_another_pod(&format!("have-{i}"), "web").await;
        let (code, text) = case.tls.post(Some(&token), &have.to_string()).await;
        assert_eq!((code, text.as_str()), (304, ""));
    }
    let last = case.metric(operations, &[]).await;
    assert!((last - after).abs() < 0.5, "{after} {last}");
    let served = case
        .metric("sealed_secrets_deliver_requests_total", &[("code", "304")])
        .await;
    assert!(served >= 100.0, "{served}");
}

/// Attack: a user who can read logs, events, statuses, Secrets or the data of etcd finds a value that is only
/// delivered.
#[tokio::test]
async fn a_delivered_value_is_nowhere_but_in_the_response() {
    const CANARY: &str = "canaryJ4tR8mW1zP6e";
    let case = DeliverCase::new("deliver-canary").await;
    let mut sealed = case.case.sealed_secret("db", &[("password", CANARY)]);
    let annotation = (
        "sealedsecrets.bitnami.com/deliver".to_owned(),
        "files".to_owned(),
    );
    sealed
        .metadata
        .annotations
        .get_or_insert_default()
        .extend([annotation]);
    case.case.create(&sealed).await;
    case.case.wait_until_synced("db").await;
    let token = case.create_pod("web").await;
    let response = case.tls.wait_for(200, &token, &all_of("db")).await;
    assert_eq!(values(&response), pairs(&[("password", CANARY)]));
    let failing = json!({ "objects": [{ "path": "f", "template": "{{ fail .db.password }}", "from": ["db"] }] });
    case.tls.wait_for(422, &token, &failing).await;
    assert!(case.case.secret("db").await.is_none());
    let encoded = shared::base64::encode(CANARY.as_bytes());
    let needles = [CANARY.as_bytes(), encoded.trim_end_matches('=').as_bytes()];
    let contains = |bytes: &[u8]| {
        needles
            .iter()
            .any(|needle| bytes.windows(needle.len()).any(|window| window == *needle))
    };
    assert!(
        !contains(case.case.controller.log().as_bytes()),
        "in the log"
    );
    assert!(
        !contains(case.case.controller.scrape().await.as_bytes()),
        "in a metric"
    );
    let secrets = case
        .case
        .namespace
        .api::<ApiSecret>()
        .list(&kube::api::ListParams::default())
        .await;
    assert!(
        !contains(json!(secrets.unwrap().items).to_string().as_bytes()),
        "in a Secret"
    );
    let object = case.case.sealed_secrets().get("db").await.unwrap();
    assert!(
        !contains(json!(object).to_string().as_bytes()),
        "in the SealedSecret"
    );
    assert!(
        !contains(json!(case.case.events().await).to_string().as_bytes()),
        "in an event"
    );
    // A Secret with another canary shows that the search finds values in the data of etcd.
    let stored =
        json!({ "metadata": { "name": "stored" }, "stringData": { "a": "storedQ7wZ9xK2v" } });
    case.case.create_secret(stored).await;
    let files = files_below(&case.case.plane.etcd_data());
    let data: Vec<Vec<u8>> = files
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect();
    let is_stored = |bytes: &Vec<u8>| bytes.windows(15).any(|window| window == b"storedQ7wZ9xK2v");
    assert!(
        data.iter().any(is_stored),
        "etcd stores Secrets in {files:?}"
    );
    assert!(!data.iter().any(|bytes| contains(bytes)), "in etcd");
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = entries.flat_map(|path| {
        if path.is_dir() {
            files_below(&path)
        } else {
            vec![path]
        }
    });
    below.collect()
}
