//! The interface of a store that the tests need.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::key::NewKey;
use shared::resource::{Condition, SealedSecret, SealedSecretStatus};
use shared::scope::Scope;
use tests::patience::until;
use tests::sealing::{KEYS, sealed_for};

/// Values by item key.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

/// Returns an object that is unusable, but that every API server accepts.
pub(crate) fn malformed(name: &str, namespace: &str) -> Value {
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

/// A store with a controller that has the first of the keys.
#[allow(async_fn_in_trait, reason = "its futures stay on one thread")]
pub(crate) trait Place: Sized {
    /// Creates a store.
    async fn new() -> Self;
    /// Returns the namespace to work in.
    fn namespace(&self) -> &str;
    /// Creates or changes a SealedSecret.
    async fn put(&self, sealed: &SealedSecret);
    /// Creates one with a text where a list is required.
    async fn put_malformed(&self, name: &str);
    /// Deletes one.
    async fn remove(&self, name: &str);
    /// Gives the controller another key.
    async fn add_key(&self, key: &NewKey);
    /// Stops the controller, runs `meanwhile`, and starts it again.
    async fn restart(self, meanwhile: impl AsyncFnOnce(&Self)) -> Self;
    /// Changes a value without the controller.
    async fn tamper(&self, name: &str, item: &str, value: &str);
    /// Creates a Secret that the controller does not own.
    async fn put_foreign(&self, name: &str, item: &str, value: &str);
    /// Returns the current values.
    async fn values(&self, name: &str) -> Option<Values>;
    /// Returns the current status.
    async fn status(&self, name: &str) -> Option<SealedSecretStatus>;
    /// Returns a stamp that changes with each write of values or status.
    async fn stamp(&self, name: &str) -> String;
    /// Returns the controller's log.
    fn log(&self) -> String;

    fn sealed(&self, name: &str, items: &[(&str, &str)]) -> SealedSecret {
        self.sealed_by(&KEYS[0], name, items)
    }

    fn sealed_by(&self, key: &NewKey, name: &str, items: &[(&str, &str)]) -> SealedSecret {
        sealed_for(key, self.namespace(), name, items, Scope::Strict)
    }

    async fn seal(&self, name: &str, items: &[(&str, &str)]) {
        self.put(&self.sealed(name, items)).await;
    }

    /// Waits until these are the values.
    async fn holds(&self, name: &str, items: &[(&str, &str)]) {
        let item = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
        let want: Values = items.iter().map(item).collect();
        until(
            &format!("{name} holds {items:?}\n{}", self.log()),
            async || (self.values(name).await? == want).then_some(()),
        )
        .await;
    }

    async fn has_none(&self, name: &str) {
        until(&format!("{name} is gone\n{}", self.log()), async || {
            self.values(name).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits for the first condition to have this status, and returns it.
    async fn synced(&self, name: &str, status: &str) -> Condition {
        let what = format!("{name} is synced: {status}\n{}", self.log());
        until(&what, async || {
            let condition = self.status(name).await?.conditions.first()?.clone();
            (condition.type_ == "Synced" && condition.status == status).then_some(condition)
        })
        .await
    }

    /// Waits until the controller has processed all previous changes.
    async fn rest(&self) {
        self.seal("marker", &[("a", "1")]).await;
        self.synced("marker", "True").await;
    }
}
