//! Writes core/v1 Events, since upstream's role does not grant access to other kinds of events. A repeated event
//! increments a count instead of creating another event.

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

use super::is;
use crate::readable::Readable;
use crate::store::{EventRecord, api_response};

/// The component name, equal to upstream's.
const COMPONENT: &str = "sealed-secrets";
/// Maximum length of a message in the API.
const MAX_MESSAGE: usize = 1024;
/// Maximum length of a name, without the unique suffix.
const MAX_NAME: usize = 253 - 17;

/// The kind of object that events are about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    SealedSecrets,
    Secrets,
}

/// Writes events about objects of one kind.
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

    /// Writes an event. A failure is logged only at DEBUG, since the status has the same content.
    pub(crate) async fn write(
        &self,
        id: &ObjectId,
        uid: Option<String>,
        record: EventRecord,
        now: Timestamp,
    ) {
        let record = EventRecord {
            message: cut(visible(&record.message).into_owned(), MAX_MESSAGE),
            ..record
        };
        let last = self
            .last()
            .get(id)
            .filter(|reported| reported.record == record)
            .cloned();
        let reported = match last {
            Some(reported) => self.count(id, reported, now).await.transpose(),
            None => None,
        };
        let reported = match reported {
            Some(reported) => reported,
            None => self.create(id, uid, record, now).await,
        };
        match reported {
            Ok(reported) => {
                self.last().insert(id.clone(), reported);
            }
            Err(error) => {
                self.forget(id);
                debug!(error = api_response(&error), "Cannot write an event");
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
            cut(id.name.clone(), MAX_NAME),
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

    /// Increments the count of an event. Returns `None` if the event no longer exists: an API server keeps events for
    /// an hour after their last update.
    async fn count(
        &self,
        id: &ObjectId,
        reported: LastEvent,
        now: Timestamp,
    ) -> Result<Option<LastEvent>, kube::Error> {
        let count = reported.count.saturating_add(1);
        let patch = Patch::Merge(json!({ "count": count, "lastTimestamp": time(now) }));
        let patched = self
            .api(id)
            .patch(&reported.name, &PatchParams::default(), &patch)
            .await;
        match patched {
            Ok(_) => Ok(Some(LastEvent { count, ..reported })),
            Err(error) if is(&error, 404) => Ok(None),
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

/// Truncates the text to this many bytes, at a character boundary.
fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use controller_core::reason::Reason;

    use super::*;
    use crate::testing::{client, id, refusal};

    /// Returns the requests to an API server that has deleted every event.
    async fn requests_for(events_written: usize) -> Vec<String> {
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let requests_in_server = Arc::clone(&requests);
        let without_events = client(move |method, _| {
            requests_in_server.lock().unwrap().push(method.to_string());
            match method.as_str() {
                "PATCH" => refusal(404, "not found"),
                _ => (201, event()),
            }
        });
        let events = Events::new(without_events, Subject::SealedSecrets);
        for _ in 0..events_written {
            let record = EventRecord {
                is_warning: true,
                reason: Reason::ErrUnsealFailed,
                message: "no key".into(),
            };
            events
                .write(&id("n"), None, record, Timestamp::UNIX_EPOCH)
                .await;
        }
        let requests = requests.lock().unwrap();
        requests.clone()
    }

    fn event() -> Value {
        json!({ "metadata": { "name": "n.1", "namespace": "ns" }, "involvedObject": {} })
    }

    #[tokio::test]
    async fn an_expired_event_is_recreated() {
        let requests = requests_for(3).await;
        assert_eq!(requests, ["POST", "PATCH", "POST", "PATCH", "POST"]);
    }

    #[test]
    fn cuts_between_characters() {
        for (text, limit, want) in [
            ("abc", 5, "abc"),
            ("abc", 2, "ab"),
            ("aé", 2, "a"),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text.into(), limit), want);
        }
    }
}
