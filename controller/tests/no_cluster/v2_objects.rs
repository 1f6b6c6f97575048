//! Tests v2 objects of every suite on a simulated API server: the reports, and what a reader can infer from them.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::sync::Arc;

use controller::reconcile::Policy;
use controller_core::author_limits::{AuthorLimits, FormatRules};
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::v2::Suite;

use crate::public_information::{Scenario, assert_indistinguishable};
use crate::support::api_server::ApiServer;
use crate::support::v2_objects::{Sealing, change_bytes, key_id, ring};

fn scenario() -> Scenario {
    with_policy(|_| ())
}

fn with_policy(adjust: impl FnOnce(&mut Policy)) -> Scenario {
    let mut scenario = Scenario::with_server(ApiServer::default(), adjust);
    scenario.use_ring(ring(&[Suite::XWing, Suite::P256]));
    scenario
}

fn reasons(scenario: &Scenario) -> Vec<Value> {
    let status = scenario.server.status();
    let conditions = status["conditions"].as_array().unwrap().iter();
    conditions
        .map(|condition| condition["reason"].clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn values_of_every_suite_are_written_and_the_status_names_their_keys() {
    for suite in Suite::ALL {
        let mut scenario = scenario();
        let mut object = Sealing::new(suite).object("ns/n", &[("a", "1"), ("b", "2")]);
        Sealing::new(suite).set_inline(&mut object, "c", "3");
        scenario.apply(&object).await;
        assert!(
            scenario.is_synced(),
            "{suite}: {}",
            scenario.server.status()
        );
        let values = ["a", "b", "c"].map(|item| scenario.server.value(item));
        assert_eq!(values, ["1", "2", "3"]);
        let data = &scenario.server.secret()["data"];
        assert_eq!(data.as_object().unwrap().len(), 3, "locks are not items");
        let items = &scenario.server.status()["items"];
        assert_eq!(items.as_array().unwrap().len(), 3);
        if suite != Suite::Rsa {
            assert_eq!(items[2]["sealedBy"], json!(key_id(suite).to_string()));
        }
    }
}

/// Attack: an editor replaces an item with a guess of its value, inline or with a shared lock, and compares status,
/// events, log, metrics and revisions.
#[tokio::test(start_paused = true)]
async fn a_right_guess_of_a_v2_value_is_indistinguishable_from_a_wrong_one() {
    type Guess = fn(&mut SealedSecret, Sealing, &str);
    let inline: Guess = |object, sealing, guess| sealing.set_inline(object, "pin", guess);
    let shared: Guess = |object, sealing, guess| sealing.add_shared(object, &[("pin", guess)]);
    for suite in Suite::ALL {
        for guess_as in [inline, shared] {
            let sealing = Sealing::new(suite);
            let original = sealing.object("ns/n", &[("pin", "4711"), ("b", "x")]);
            let mut outcomes = Vec::new();
            for guess in ["4711", "4712"] {
                let mut scenario = scenario();
                scenario.apply(&original).await;
                let mut guessed = original.clone();
                guess_as(&mut guessed, sealing, guess);
                scenario.apply(&guessed).await;
                assert!(scenario.is_synced());
                assert_eq!(scenario.server.value("pin"), guess);
                scenario.apply(&original).await;
                outcomes.push(scenario.public_state());
            }
            assert_indistinguishable(&outcomes[0], &outcomes[1], &suite.to_string());
        }
    }
}

/// Attack: an editor adds an item of a chosen size, so that the exact length of another value determines whether the
/// Secret is too large.
#[tokio::test(start_paused = true)]
async fn the_exact_length_of_a_v2_value_is_not_revealed_by_the_limit_of_kubernetes() {
    // Together with `filling`, 16 more bytes fit into a Secret and 17 do not. The sealed value reveals only that the
    // length is 16 to 47.
    let filling = "x".repeat((1 << 20) - 16);
    let mut outcomes = Vec::new();
    for len in [16, 47] {
        let mut scenario = scenario();
        let value = "v".repeat(len);
        let items = [("a", value.as_str()), ("filling", filling.as_str())];
        let sealed = Sealing::new(Suite::XWing).object("ns/n", &items);
        scenario.apply(&sealed).await;
        assert_eq!(reasons(&scenario), ["ErrUpdateFailed"; 3]);
        outcomes.push(scenario.public_state());
    }
    assert_indistinguishable(&outcomes[0], &outcomes[1], "");
}

/// Attack: an editor damages different parts of a sealed value, to infer from the report at which step opening failed.
#[tokio::test(start_paused = true)]
async fn all_failures_after_the_private_key_operation_are_reported_alike() {
    for suite in Suite::ALL {
        let original = Sealing::new(suite).object("ns/n", &[("a", "1")]);
        let mut attacked = original.clone();
        Sealing::new(suite).set_inline(&mut attacked, "a", "hunter2");
        let len = {
            let mut len = 0;
            change_bytes(&mut attacked, "a", |bytes| len = bytes.len());
            len
        };
        // The commitment, the wrapped key, the nonce, the ciphertext and the tag.
        let positions = [58, 100, len - 60, len - 30, len - 1];
        let mut outcomes = Vec::new();
        for position in positions {
            let mut scenario = scenario();
            scenario.apply(&original).await;
            let mut damaged = attacked.clone();
            change_bytes(&mut damaged, "a", |bytes| bytes[position] ^= 1);
            scenario.apply(&damaged).await;
            assert_eq!(reasons(&scenario), ["Tampered"; 3], "{suite} {position}");
            assert_eq!(scenario.server.value("a"), "1");
            outcomes.push(scenario.public_state());
        }
        for outcome in &outcomes[1..] {
            assert_indistinguishable(&outcomes[0], outcome, &suite.to_string());
        }
        assert!(!outcomes[0].to_string().contains("hunter2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_by_status_event_and_metric_and_the_secret_stays() {
    let mut scenario = scenario();
    let sealing = Sealing::new(Suite::XWing);
    scenario
        .apply(&sealing.object("ns/n", &[("a", "good")]))
        .await;
    let secret = scenario.server.secret();
    let other = sealing.object("ns/other", &[("a", "bad")]);
    let mut moved = sealing.empty_object("ns/n");
    moved.spec.encrypted_data = other.spec.encrypted_data;
    scenario.apply(&moved).await;
    assert_eq!(reasons(&scenario), ["ScopeMismatch"; 3]);
    assert_eq!(scenario.server.secret(), secret);
    assert_eq!(
        scenario.server.event_reasons(),
        ["Unsealed", "ScopeMismatch"]
    );
    let state = scenario.public_state().to_string();
    let metric = "unseal_errors_total{namespace=\\\"ns\\\",reason=\\\"unseal\\\"} 1";
    assert!(state.contains(metric), "{state}");
    assert!(
        !state.contains("ns/other") && !state.contains("bad\""),
        "{state}"
    );
}

/// Attack: an editor uses annotations of the SealedSecret, which no lock binds, to change the Secret of bound values.
#[tokio::test(start_paused = true)]
async fn only_the_template_of_a_bound_object_affects_the_secret() {
    let sealing = Sealing {
        is_bound: true,
        ..Sealing::new(Suite::XWing)
    };
    let mut object = sealing.empty_object("ns/n");
    let metadata = &mut object.spec.template.metadata;
    metadata.labels = Some([("bound".into(), "yes".into())].into());
    sealing.add_shared(&mut object, &[("a", "1")]);
    let mut first = scenario();
    first.apply(&object).await;
    let secret = first.server.secret();
    assert_eq!(secret["metadata"]["labels"], json!({ "bound": "yes" }));

    let annotations = object.metadata.annotations.get_or_insert_default();
    for name in ["managed", "patch", "skip-set-owner-references", "x"] {
        annotations.insert(format!("sealedsecrets.bitnami.com/{name}"), "true".into());
    }
    object.metadata.labels = Some([("unbound".into(), "yes".into())].into());
    let metadata = &mut object.spec.template.metadata;
    metadata.name = Some("other".into());
    metadata.namespace = Some("other".into());
    metadata.generate_name = Some("other-".into());
    let mut second = scenario();
    second.apply(&object).await;
    assert!(second.is_synced(), "{}", second.server.status());
    assert_eq!(second.server.secret(), secret);
}

/// A restart needs no private-key operation: the second controller does not have the key of the values.
#[tokio::test(start_paused = true)]
async fn after_a_restart_an_object_is_recognized_without_its_key() {
    for suite in [Suite::XWing, Suite::P256] {
        let mut scenario = scenario();
        scenario
            .apply(&Sealing::new(suite).object("ns/n", &[("a", "1")]))
            .await;
        assert!(scenario.is_synced());
        let mut restarted = Scenario::restart_on(&scenario.server);
        restarted.use_ring(ring(&[]));
        restarted.reconcile().await;
        assert!(restarted.is_synced(), "{}", restarted.server.status());
        // Without the record, the controller needs the key.
        let without_record = |status: &mut Value| status["record"] = Value::Null;
        scenario.server.edit_status(without_record);
        let mut restarted = Scenario::restart_on(&scenario.server);
        restarted.use_ring(ring(&[]));
        restarted.reconcile().await;
        assert_eq!(reasons(&restarted), ["UnknownKey"; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_without_a_key_is_tried_again_when_the_keys_change() {
    let mut scenario = scenario();
    scenario.use_ring(ring(&[]));
    scenario
        .apply(&Sealing::new(Suite::XWing).object("ns/n", &[("a", "1")]))
        .await;
    assert_eq!(reasons(&scenario), ["UnknownKey"; 3]);
    let message = scenario.server.status()["conditions"][0]["message"].to_string();
    assert!(
        message.contains(&key_id(Suite::XWing).to_string()),
        "{message}"
    );
    scenario.use_ring(ring(&[Suite::XWing]));
    scenario.run_due().await;
    assert!(scenario.is_synced(), "{}", scenario.server.status());
}

#[tokio::test(start_paused = true)]
async fn a_record_is_ignored_after_the_required_formats_change() {
    let mut scenario = scenario();
    let object = Sealing::new(Suite::P256).object("ns/n", &[("a", "1")]);
    scenario.apply(&object).await;
    assert!(scenario.is_synced());
    let require = |policy: &mut Policy| {
        let suites = "ns=post-quantum".parse().unwrap();
        let formats = FormatRules::new("", "", suites, 256);
        let limits = AuthorLimits::default().requiring_formats(formats);
        policy.author_limits = Arc::new(limits);
    };
    let mut restarted = Scenario::restart_with(&scenario.server, require);
    restarted.use_ring(ring(&[Suite::P256]));
    restarted.reconcile().await;
    assert_eq!(reasons(&restarted), ["SuiteRefused"; 3]);
    assert_eq!(scenario.server.value("a"), "1");
}
