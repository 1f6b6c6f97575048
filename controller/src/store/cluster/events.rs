//! Writes core/v1 Events, since upstream's role grants no others. A repeated event increments a count instead
//! of creating another.

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
use crate::store::{News, api_answer};

/// The component name that upstream uses.
const COMPONENT: &str = "sealed-secrets";
/// Maximum length of a message in an API server.
const MESSAGE: usize = 1024;
/// Maximum length of a name, without the part that makes it unique.
const NAME: usize = 253 - 17;

/// What the events of one recorder are about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    SealedSecrets,
    Secrets,
}

/// Writes the events about objects of one kind.
pub(crate) struct Events {
    client: Client,
    subject: Subject,
    /// The last event of each object, to detect repetitions.
    last: Mutex<BTreeMap<ObjectId, Reported>>,
}

#[derive(Debug, Clone)]
struct Reported {
    news: News,
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

    /// Writes an event. If it cannot be written, this is only logged at DEBUG, since the status says the
    /// same.
    pub(crate) async fn tell(
        &self,
        id: &ObjectId,
        uid: Option<String>,
        news: News,
        now: Timestamp,
    ) {
        let news = News {
            message: cut(visible(&news.message).into_owned(), MESSAGE),
            ..news
        };
        let last = self
            .last()
            .get(id)
            .filter(|reported| reported.news == news)
            .cloned();
        let reported = match last {
            Some(reported) => self.count(id, reported, now).await.transpose(),
            None => None,
        };
        let reported = match reported {
            Some(reported) => reported,
            None => self.create(id, uid, news, now).await,
        };
        match reported {
            Ok(reported) => {
                self.last().insert(id.clone(), reported);
            }
            Err(error) => {
                self.forget(id);
                debug!(error = api_answer(&error), "Cannot write an event");
            }
        }
    }

    async fn create(
        &self,
        id: &ObjectId,
        uid: Option<String>,
        news: News,
        now: Timestamp,
    ) -> Result<Reported, kube::Error> {
        let name = format!(
            "{}.{:016x}",
            cut(id.name.clone(), NAME),
            shared::random::number::<u64>()
        );
        let event = self.event(id, uid, &news, &name, time(now));
        let event = Readable::Object(event);
        self.api(id).create(&PostParams::default(), &event).await?;
        Ok(Reported {
            news,
            name,
            count: 1,
        })
    }

    /// Increments the count of an event. Returns `None` if the event no longer exists: an API server keeps it
    /// for an hour after its last update.
    async fn count(
        &self,
        id: &ObjectId,
        reported: Reported,
        now: Timestamp,
    ) -> Result<Option<Reported>, kube::Error> {
        let count = reported.count.saturating_add(1);
        let patch = Patch::Merge(json!({ "count": count, "lastTimestamp": time(now) }));
        let patched = self
            .api(id)
            .patch(&reported.name, &PatchParams::default(), &patch)
            .await;
        match patched {
            Ok(_) => Ok(Some(Reported { count, ..reported })),
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
        news: &News,
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
            type_: Some(if news.is_warning { "Warning" } else { "Normal" }.into()),
            reason: Some(news.reason.to_string()),
            message: Some(news.message.clone()),
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

    fn last(&self) -> MutexGuard<'_, BTreeMap<ObjectId, Reported>> {
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

    /// Returns the requests to an API server that has forgotten every event.
    async fn asked_for(tellings: usize) -> Vec<String> {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        let forgetful = client(move |method, _| {
            noted.lock().unwrap().push(method.to_string());
            match method.as_str() {
                "PATCH" => refusal(404, "not found"),
                _ => (201, event()),
            }
        });
        let events = Events::new(forgetful, Subject::SealedSecrets);
        for _ in 0..tellings {
            let news = News {
                is_warning: true,
                reason: Reason::ErrUnsealFailed,
                message: "no key".into(),
            };
            events
                .tell(&id("n"), None, news, Timestamp::UNIX_EPOCH)
                .await;
        }
        let asked = asked.lock().unwrap();
        asked.clone()
    }

    fn event() -> Value {
        json!({ "metadata": { "name": "n.1", "namespace": "ns" }, "involvedObject": {} })
    }

    #[tokio::test]
    async fn an_expired_event_is_recreated() {
        let asked = asked_for(3).await;
        assert_eq!(asked, ["POST", "PATCH", "POST", "PATCH", "POST"]);
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
