//! Emits events of core/v1, since upstream's roles do not grant access to events.k8s.io/v1. Emitting the last event
//! of an object again increments its count instead of creating another event.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use controller_core::object_id::ObjectId;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use shared::resource::time;
use shared::visible;
use tracing::debug;

use super::has_status;
use crate::readable::Readable;
use crate::store::{EventRecord, api_response};

/// The component name, equal to upstream's.
const COMPONENT: &str = "sealed-secrets";
/// Maximum length of a message that the API server accepts, in bytes.
const MAX_MESSAGE: usize = 1024;
/// Maximum length of the object's name in the name of an event, which also has a unique suffix.
const MAX_NAME: usize = 253 - 17;

/// The kind of object that events are about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    SealedSecrets,
    Secrets,
}

/// Emits events about objects of one kind.
pub(crate) struct Events {
    client: Client,
    subject: Subject,
    /// The last event of each object, to detect repetitions.
    last: Mutex<BTreeMap<ObjectId, LastEvent>>,
}

#[derive(Debug, Clone)]
struct LastEvent {
    record: EventRecord,
    name: String,
    count: i32,
}

impl Events {
    pub(crate) fn new(client: Client, subject: Subject) -> Self {
        Self {
            client,
            subject,
            last: Mutex::default(),
        }
    }

    pub(super) fn forget(&self, id: &ObjectId) {
        self.last().remove(id);
    }

    /// Emits an event. Logs a failure only at DEBUG.
    pub(crate) async fn write(
        &self,
        id: &ObjectId,
        uid: Option<String>,
        record: EventRecord,
        now: Timestamp,
    ) {
        let record = EventRecord {
            message: truncate(visible(&record.message).into_owned(), MAX_MESSAGE),
            ..record
        };
        let equal_event = self
            .last()
            .get(id)
            .filter(|event| event.record == record)
            .cloned();
        let incremented = match equal_event {
            Some(event) => self.increment_count(id, event, now).await.transpose(),
            None => None,
        };
        let result = match incremented {
            Some(result) => result,
            None => self.create(id, uid, record, now).await,
        };
        match result {
            Ok(event) => {
                self.last().insert(id.clone(), event);
            }
            Err(error) => {
                self.forget(id);
                debug!(error = api_response(&error), "Cannot emit an event");
            }
        }
    }

    async fn create(
        &self,
        id: &ObjectId,
        uid: Option<String>,
        record: EventRecord,
        now: Timestamp,
    ) -> Result<LastEvent, kube::Error> {
        let name = format!(
            "{}.{:016x}",
            truncate(id.name.clone(), MAX_NAME),
            shared::random::number::<u64>()
        );
        let event = self.event(id, uid, &record, &name, time(now));
        let event = Readable::Object(event);
        self.api(id).create(&PostParams::default(), &event).await?;
        Ok(LastEvent {
            record,
            name,
            count: 1,
        })
    }

    /// Increments the count of an event. Returns `None` if the event no longer exists: by default, an API server keeps
    /// events for an hour after their last update.
    async fn increment_count(
        &self,
        id: &ObjectId,
        event: LastEvent,
        now: Timestamp,
    ) -> Result<Option<LastEvent>, kube::Error> {
        let count = event.count.saturating_add(1);
        let patch = Patch::Merge(json!({ "count": count, "lastTimestamp": time(now) }));
        let result = self
            .api(id)
            .patch(&event.name, &PatchParams::default(), &patch)
            .await;
        match result {
            Ok(_) => Ok(Some(LastEvent { count, ..event })),
            Err(error) if has_status(&error, 404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn api(&self, id: &ObjectId) -> Api<Readable<Event>> {
        Api::namespaced(self.client.clone(), &id.namespace)
    }

    fn event(
        &self,
        id: &ObjectId,
        uid: Option<String>,
        record: &EventRecord,
        name: &str,
        now: Time,
    ) -> Event {
        let (version, kind) = match self.subject {
            Subject::SealedSecrets => ("bitnami.com/v1alpha1", "SealedSecret"),
            Subject::Secrets => ("v1", "Secret"),
        };
        Event {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(id.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(version.into()),
                kind: Some(kind.into()),
                namespace: Some(id.namespace.clone()),
                name: Some(id.name.clone()),
                uid,
                ..ObjectReference::default()
            },
            type_: Some(
                if record.is_warning {
                    "Warning"
                } else {
                    "Normal"
                }
                .into(),
            ),
            reason: Some(record.reason.to_string()),
            message: Some(record.message.clone()),
            source: Some(EventSource {
                component: Some(COMPONENT.into()),
                host: None,
            }),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            ..Event::default()
        }
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<ObjectId, LastEvent>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Truncates the string to at most `limit` bytes, at a character boundary.
fn truncate(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use controller_core::reason::Reason;
    use lease::testing::client_with_bodies;

    use super::*;
    use crate::testing::{client, id, refusal};

    /// Emits the same event `count` times to an API server that deletes every event. Returns the methods of the
    /// requests.
    async fn methods_of_writes(count: usize) -> Vec<String> {
        let methods = Arc::<Mutex<Vec<String>>>::default();
        let methods_in_server = Arc::clone(&methods);
        let client = client(move |method, _| {
            methods_in_server.lock().unwrap().push(method.to_string());
            match method.as_str() {
                "PATCH" => refusal(404, "not found"),
                _ => (201, event()),
            }
        });
        let events = Events::new(client, Subject::SealedSecrets);
        for _ in 0..count {
            let record = EventRecord {
                is_warning: true,
                reason: Reason::ErrUnsealFailed,
                message: "no key".into(),
            };
            events
                .write(&id("n"), None, record, Timestamp::UNIX_EPOCH)
                .await;
        }
        let methods = methods.lock().unwrap();
        methods.clone()
    }

    fn event() -> Value {
        json!({ "metadata": { "name": "n.1", "namespace": "ns" }, "involvedObject": {} })
    }

    #[tokio::test]
    async fn an_expired_event_is_recreated() {
        let methods = methods_of_writes(3).await;
        assert_eq!(methods, ["POST", "PATCH", "POST", "PATCH", "POST"]);
    }

    /// Attack: an author uses a text that an event quotes to control the terminal of its reader.
    #[tokio::test]
    async fn an_event_contains_no_hidden_character() {
        let message = Arc::<Mutex<String>>::default();
        let message_in_server = Arc::clone(&message);
        let client = client_with_bodies(move |_, body| {
            let text = body["message"].as_str().unwrap_or_default();
            text.clone_into(&mut message_in_server.lock().unwrap());
            (201, event())
        });
        let record = EventRecord {
            is_warning: true,
            reason: Reason::ErrUnsealFailed,
            message: "a\u{202e}b\u{1b}[2J\u{200b}".into(),
        };
        let events = Events::new(client, Subject::SealedSecrets);
        events
            .write(&id("n"), None, record, Timestamp::UNIX_EPOCH)
            .await;
        assert_eq!(*message.lock().unwrap(), "a\\u{202e}b\\u{1b}[2J\\u{200b}");
    }

    #[test]
    fn truncates_between_characters() {
        for (text, limit, want) in [
            ("abc", 5, "abc"),
            ("abc", 2, "ab"),
            ("aé", 2, "a"),
            ("", 0, ""),
        ] {
            assert_eq!(truncate(text.into(), limit), want);
        }
    }
}
