//! The operations on a store that the scenarios use.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::key::NewKey;
use shared::resource::{Condition, SealedSecret, SealedSecretStatus};
use shared::scope::Scope;
use tests::patience::until;
use tests::sealing::{KEYS, sealed_for};

/// Values by item key.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

/// Returns a malformed object that the API server accepts.
pub(crate) fn malformed_object(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "encryptedData": { "a": "AAAA" },
            "template": { "metadata": { "ownerReferences": "nobody" } },
        },
    })
}

/// A store with a controller that has the first of the test keys.
#[allow(async_fn_in_trait, reason = "its futures stay on one thread")]
pub(crate) trait TestStore: Sized {
    async fn new() -> Self;
    /// Returns the namespace of the test's objects.
    fn namespace(&self) -> &str;
    /// Creates or changes a SealedSecret.
    async fn put(&self, sealed: &SealedSecret);
    /// Creates a SealedSecret with a string where a list is required.
    async fn put_malformed(&self, name: &str);
    /// Deletes a SealedSecret.
    async fn remove(&self, name: &str);
    /// Adds a key to the store.
    async fn add_key(&self, key: &NewKey);
    /// Stops the controller, runs `action`, and starts the controller again.
    async fn restart(self, action: impl AsyncFnOnce(&Self)) -> Self;
    /// Changes a value of a Secret, as another client would.
    async fn tamper(&self, name: &str, item: &str, value: &str);
    /// Creates a Secret that the controller does not own.
    async fn put_unowned(&self, name: &str, item: &str, value: &str);
    /// Returns the current values of a Secret; `None` if it does not exist.
    async fn values(&self, name: &str) -> Option<Values>;
    /// Returns the current status of a SealedSecret; `None` if there is none yet.
    async fn status(&self, name: &str) -> Option<SealedSecretStatus>;
    /// Returns a string that changes with each write of values or status.
    async fn revision(&self, name: &str) -> String;
    fn log(&self) -> String;

    fn sealed_secret(&self, name: &str, items: &[(&str, &str)]) -> SealedSecret {
        self.sealed_with_key(&KEYS[0], name, items)
    }

    fn sealed_with_key(&self, key: &NewKey, name: &str, items: &[(&str, &str)]) -> SealedSecret {
        sealed_for(key, self.namespace(), name, items, Scope::Strict)
    }

    async fn seal(&self, name: &str, items: &[(&str, &str)]) {
        self.put(&self.sealed_secret(name, items)).await;
    }

    /// Waits until the Secret has exactly these values.
    async fn wait_for_values(&self, name: &str, items: &[(&str, &str)]) {
        let item = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
        let want: Values = items.iter().map(item).collect();
        until(
            &format!("{name} has the values {items:?}\n{}", self.log()),
            async || (self.values(name).await? == want).then_some(()),
        )
        .await;
    }

    async fn wait_until_deleted(&self, name: &str) {
        until(&format!("{name} is deleted\n{}", self.log()), async || {
            self.values(name).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits for the first condition to have this status, and returns it.
    async fn wait_until_synced(&self, name: &str, status: &str) -> Condition {
        let goal = format!("{name} is synced: {status}\n{}", self.log());
        until(&goal, async || {
            let condition = self.status(name).await?.conditions.first()?.clone();
            (condition.type_ == "Synced" && condition.status == status).then_some(condition)
        })
        .await
    }

    /// Waits until the controller has processed all previous changes.
    async fn wait_until_idle(&self) {
        self.seal("marker", &[("a", "1")]).await;
        self.wait_until_synced("marker", "True").await;
    }
}
