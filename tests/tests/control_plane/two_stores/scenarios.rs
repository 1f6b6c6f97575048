//! The scenarios, each of which runs as a test in both stores.

use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::sealing::{KEYS, sealed_for};

use super::store::TestStore;

const GOOD: &[(&str, &str)] = &[("a", "1"), ("b", "2")];

async fn store_with_object<S: TestStore>() -> S {
    let store = S::new().await;
    store.seal("db", GOOD).await;
    store.wait_for_values("db", GOOD).await;
    store.wait_until_synced("db", "True").await;
    store
}

fn with_template(mut sealed: SealedSecret, key: &str, text: &str) -> SealedSecret {
    sealed.spec.template.data = Some([(key.to_owned(), Some(text.to_owned()))].into());
    sealed
}

pub(crate) async fn a_new_object_is_unsealed_and_the_status_names_the_key<S: TestStore>() {
    let store: S = store_with_object().await;
    let items = store.status("db").await.unwrap().items;
    let fingerprint = KEYS[0].pair.certificate().fingerprint().to_string();
    assert_eq!(items.len(), 2);
    for item in items {
        assert_eq!(item.sealed_by.as_ref(), Some(&fingerprint));
    }
}

pub(crate) async fn a_changed_object_replaces_the_values_and_drops_old_items<S: TestStore>() {
    let store: S = store_with_object().await;
    let next = [("b", "3"), ("c", "4")];
    store.seal("db", &next).await;
    store.wait_for_values("db", &next).await;
}

pub(crate) async fn the_values_are_deleted_and_recreated_with_the_object<S: TestStore>() {
    let store: S = store_with_object().await;
    store.remove("db").await;
    store.wait_until_deleted("db").await;
    store.seal("db", GOOD).await;
    store.wait_for_values("db", GOOD).await;
}

pub(crate) async fn a_bad_version_keeps_the_old_values_and_names_the_bad_item<S: TestStore>() {
    let store: S = store_with_object().await;
    let mut bad = store.sealed_secret("db", &[("a", "3"), ("b", "4")]);
    bad.spec.encrypted_data.insert("b".into(), "AAAA".into());
    store.put(&bad).await;
    let condition = store.wait_until_synced("db", "False").await;
    let want = "no key could decrypt secret (b)\nhint: item b is not a sealed value: ";
    let message = condition.message.unwrap_or_default();
    assert!(message.starts_with(want), "{message}");
    let status = store.status("db").await.unwrap();
    assert_eq!(status.items.len(), 1);
    assert_eq!(status.items[0].key, "b");
    let ready = status.conditions[1].message.clone().unwrap();
    assert!(
        ready.starts_with("item b is not a sealed value: "),
        "{ready}"
    );
    assert!(ready.ends_with("stay in place"), "{ready}");
    store.wait_until_idle().await;
    store.wait_for_values("db", GOOD).await;
}

pub(crate) async fn a_scope_added_later_takes_effect<S: TestStore>() {
    let store = S::new().await;
    let wide = sealed_for(&KEYS[0], store.namespace(), "db", GOOD, Scope::ClusterWide);
    let mut without_scope = wide.clone();
    without_scope.metadata.annotations = None;
    store.put(&without_scope).await;
    store.wait_until_synced("db", "False").await;
    store.put(&wide).await;
    store.wait_for_values("db", GOOD).await;
    store.wait_until_synced("db", "True").await;
}

pub(crate) async fn a_key_added_later_unseals_failed_objects<S: TestStore>() {
    let store = S::new().await;
    store
        .put(&store.sealed_with_key(&KEYS[1], "db", GOOD))
        .await;
    store.wait_until_synced("db", "False").await;
    store.add_key(&KEYS[1]).await;
    store.wait_for_values("db", GOOD).await;
    store.wait_until_synced("db", "True").await;
}

pub(crate) async fn a_malformed_object_is_reported_and_affects_no_other<S: TestStore>() {
    let store = S::new().await;
    store.put_malformed("odd").await;
    store.seal("db", GOOD).await;
    store.wait_for_values("db", GOOD).await;
    store.wait_until_synced("odd", "False").await;
    assert!(store.values("odd").await.is_none());
}

pub(crate) async fn a_failing_template_keeps_the_old_values_and_reports_its_position<
    S: TestStore,
>() {
    let store = S::new().await;
    let rendered = with_template(store.sealed_secret("db", &[("a", "1")]), "t", "<{{ .a }}>");
    store.put(&rendered).await;
    let values = [("a", "1"), ("t", "<1>")];
    store.wait_for_values("db", &values).await;
    let failing = with_template(
        store.sealed_secret("db", &[("a", "2")]),
        "t",
        "\n{{ fail .a }}",
    );
    store.put(&failing).await;
    let message = store
        .wait_until_synced("db", "False")
        .await
        .message
        .unwrap();
    let location = "template \"t\", line 2, column 4, function fail: ";
    assert!(message.contains(location), "{message}");
    store.wait_until_idle().await;
    store.wait_for_values("db", &values).await;
}

pub(crate) async fn random_results_survive_a_restart<S: TestStore>() {
    let store = S::new().await;
    let random = with_template(
        store.sealed_secret("db", &[("a", "1")]),
        "id",
        "{{ uuidv4 }}",
    );
    store.put(&random).await;
    store.wait_until_synced("db", "True").await;
    let generated = store.values("db").await.unwrap();
    assert_eq!(generated["id"].len(), 36);
    let store = store.restart(async |_| {}).await;
    store.wait_until_idle().await;
    assert_eq!(store.values("db").await.unwrap(), generated);
}

pub(crate) async fn a_restart_writes_nothing<S: TestStore>() {
    let store: S = store_with_object().await;
    let before = store.revision("db").await;
    let store = store.restart(async |_| {}).await;
    store.wait_until_idle().await;
    assert_eq!(store.revision("db").await, before);
}

pub(crate) async fn reverts_an_edit_made_during_a_restart<S: TestStore>() {
    let store: S = store_with_object().await;
    let store = store
        .restart(async |store| store.tamper("db", "a", "tampered").await)
        .await;
    store.wait_for_values("db", GOOD).await;
    store.wait_until_synced("db", "True").await;
}

pub(crate) async fn keeps_secrets_that_are_not_owned<S: TestStore>() {
    let store = S::new().await;
    store.put_unowned("db", "x", "unowned").await;
    store.seal("db", GOOD).await;
    let message = store
        .wait_until_synced("db", "False")
        .await
        .message
        .unwrap();
    assert!(
        message.contains("is not managed by SealedSecret"),
        "{message}"
    );
    store.wait_for_values("db", &[("x", "unowned")]).await;
    store.remove("db").await;
    store.wait_until_idle().await;
    store.wait_for_values("db", &[("x", "unowned")]).await;
}
