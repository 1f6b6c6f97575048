//! The tests, which run in every store.

use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::sealing::{KEYS, sealed_for};

use crate::place::Place;

const GOOD: &[(&str, &str)] = &[("a", "1"), ("b", "2")];

async fn good<P: Place>() -> P {
    let place = P::new().await;
    place.seal("db", GOOD).await;
    place.holds("db", GOOD).await;
    place.synced("db", "True").await;
    place
}

fn with_template(mut sealed: SealedSecret, key: &str, text: &str) -> SealedSecret {
    sealed.spec.template.data = Some([(key.to_owned(), Some(text.to_owned()))].into());
    sealed
}

pub(crate) async fn a_new_object_is_unsealed_and_the_status_names_the_key<P: Place>() {
    let place: P = good().await;
    let items = place.status("db").await.unwrap().items;
    let fingerprint = KEYS[0].pair.certificate().fingerprint().to_string();
    assert_eq!(items.len(), 2);
    for item in items {
        assert_eq!(item.sealed_by.as_ref(), Some(&fingerprint));
    }
}

pub(crate) async fn a_changed_object_replaces_the_values_and_drops_old_items<P: Place>() {
    let place: P = good().await;
    let next = [("b", "3"), ("c", "4")];
    place.seal("db", &next).await;
    place.holds("db", &next).await;
}

pub(crate) async fn the_values_are_deleted_and_recreated_with_the_object<P: Place>() {
    let place: P = good().await;
    place.remove("db").await;
    place.has_none("db").await;
    place.seal("db", GOOD).await;
    place.holds("db", GOOD).await;
}

pub(crate) async fn a_bad_version_keeps_the_old_values_and_names_the_bad_item<P: Place>() {
    let place: P = good().await;
    let mut bad = place.sealed("db", &[("a", "3"), ("b", "4")]);
    bad.spec.encrypted_data.insert("b".into(), "AAAA".into());
    place.put(&bad).await;
    let condition = place.synced("db", "False").await;
    let want = "no key could decrypt secret (b)\nhint: item b is not a sealed value: ";
    let message = condition.message.unwrap_or_default();
    assert!(message.starts_with(want), "{message}");
    let status = place.status("db").await.unwrap();
    assert_eq!(status.items.len(), 1);
    assert_eq!(status.items[0].key, "b");
    let ready = status.conditions[1].message.clone().unwrap();
    assert!(
        ready.starts_with("item b is not a sealed value: "),
        "{ready}"
    );
    assert!(ready.ends_with("stay in place"), "{ready}");
    place.rest().await;
    place.holds("db", GOOD).await;
}

pub(crate) async fn notices_a_scope_added_later<P: Place>() {
    let place = P::new().await;
    let wide = sealed_for(&KEYS[0], place.namespace(), "db", GOOD, Scope::ClusterWide);
    let mut bare = wide.clone();
    bare.metadata.annotations = None;
    place.put(&bare).await;
    place.synced("db", "False").await;
    place.put(&wide).await;
    place.holds("db", GOOD).await;
    place.synced("db", "True").await;
}

pub(crate) async fn a_key_added_later_unseals_what_failed<P: Place>() {
    let place = P::new().await;
    place.put(&place.sealed_by(&KEYS[1], "db", GOOD)).await;
    place.synced("db", "False").await;
    place.add_key(&KEYS[1]).await;
    place.holds("db", GOOD).await;
    place.synced("db", "True").await;
}

pub(crate) async fn a_malformed_object_reports_it_and_disturbs_no_other<P: Place>() {
    let place = P::new().await;
    place.put_malformed("odd").await;
    place.seal("db", GOOD).await;
    place.holds("db", GOOD).await;
    place.synced("odd", "False").await;
    assert!(place.values("odd").await.is_none());
}

pub(crate) async fn a_failing_template_keeps_the_old_values_and_reports_its_position<P: Place>() {
    let place = P::new().await;
    let rendered = with_template(place.sealed("db", &[("a", "1")]), "t", "<{{ .a }}>");
    place.put(&rendered).await;
    let values = [("a", "1"), ("t", "<1>")];
    place.holds("db", &values).await;
    let failing = with_template(place.sealed("db", &[("a", "2")]), "t", "\n{{ fail .a }}");
    place.put(&failing).await;
    let message = place.synced("db", "False").await.message.unwrap();
    let where_ = "template \"t\", line 2, column 4, function fail: ";
    assert!(message.contains(where_), "{message}");
    place.rest().await;
    place.holds("db", &values).await;
}

pub(crate) async fn random_results_survive_a_restart<P: Place>() {
    let place = P::new().await;
    let random = with_template(place.sealed("db", &[("a", "1")]), "id", "{{ uuidv4 }}");
    place.put(&random).await;
    place.synced("db", "True").await;
    let made = place.values("db").await.unwrap();
    assert_eq!(made["id"].len(), 36);
    let place = place.restart(async |_| {}).await;
    place.rest().await;
    assert_eq!(place.values("db").await.unwrap(), made);
}

pub(crate) async fn a_restart_writes_nothing<P: Place>() {
    let place: P = good().await;
    let before = place.stamp("db").await;
    let place = place.restart(async |_| {}).await;
    place.rest().await;
    assert_eq!(place.stamp("db").await, before);
}

pub(crate) async fn reverts_an_edit_made_during_a_restart<P: Place>() {
    let place: P = good().await;
    let place = place
        .restart(async |place| place.tamper("db", "a", "tampered").await)
        .await;
    place.holds("db", GOOD).await;
    place.synced("db", "True").await;
}

pub(crate) async fn keeps_secrets_that_it_does_not_own<P: Place>() {
    let place = P::new().await;
    place.put_foreign("db", "x", "theirs").await;
    place.seal("db", GOOD).await;
    let message = place.synced("db", "False").await.message.unwrap();
    assert!(
        message.contains("is not managed by SealedSecret"),
        "{message}"
    );
    place.holds("db", &[("x", "theirs")]).await;
    place.remove("db").await;
    place.rest().await;
    place.holds("db", &[("x", "theirs")]).await;
}
