//! Tests that large annotations, `managedFields` and unknown fields, and thousands of items, templates and conditions
//! of SealedSecrets are not kept in memory. The test measures the memory of its process, so the process runs no other
//! test.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fmt::Write as _;
use std::pin::pin;

use controller::store::cluster::{ClusterStore, sealed_secrets};
use futures::StreamExt as _;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::{self, Event, watcher};
use tower::service_fn;

/// The pages of the list. Each page has objects with one large part.
const PAGES: [Page; 12] = {
    use Page::{Annotations, Items, Statuses, Templates, Unknown};
    [
        Unknown,
        Annotations,
        Items,
        Annotations,
        Templates,
        Annotations,
        Unknown,
        Statuses,
        Annotations,
        Items,
        Annotations,
        Unknown,
    ]
};
const ANNOTATIONS: usize = 10_000;

/// The part that makes the objects of a page large.
#[derive(Clone, Copy)]
enum Page {
    /// Annotations and `managedFields`, in 50 objects.
    Annotations,
    /// A list of objects in an unknown field of `spec`, in 20 objects.
    Unknown,
    /// As many empty items as the controller accepts, in 20 objects.
    Items,
    /// Empty templates, as many as fit into an object, in 20 objects.
    Templates,
    /// Conditions, in 20 objects.
    Statuses,
}

impl Page {
    fn count_objects(self) -> usize {
        match self {
            Self::Annotations => 50,
            _ => 20,
        }
    }

    /// Returns the additional metadata of an object, and its spec and status, as JSON text.
    fn content(self) -> (String, String) {
        let no_metadata = String::new();
        match self {
            Self::Annotations => (large_metadata(), r#""spec":{"encryptedData":{}}"#.into()),
            Self::Unknown => {
                let list = vec![r#"{"":0}"#; 170_000].join(",");
                (
                    no_metadata,
                    format!(r#""spec":{{"template":{{"metadata":{{"x":[{list}]}}}}}}"#),
                )
            }
            Self::Items => {
                let items = empty_entries(20_000);
                (
                    no_metadata,
                    format!(r#""spec":{{"encryptedData":{{{items}}}}}"#),
                )
            }
            Self::Templates => {
                let texts = empty_entries(120_000);
                (
                    no_metadata,
                    format!(r#""spec":{{"template":{{"data":{{{texts}}}}}}}"#),
                )
            }
            Self::Statuses => {
                let list = vec![r#"{"type":"a","status":"b"}"#; 50_000].join(",");
                (
                    no_metadata,
                    format!(r#""spec":{{}},"status":{{"conditions":[{list}]}}"#),
                )
            }
        }
    }
}

fn empty_entries(count: usize) -> String {
    let entries: Vec<String> = (0..count).map(|i| format!("\"{i:x}\":\"\"")).collect();
    entries.join(",")
}

fn large_metadata() -> String {
    let mut annotations = String::new();
    for i in 0..ANNOTATIONS {
        let _ = write!(annotations, "\"example.com/{i:06}\":\"\",");
    }
    let large = "x".repeat(100_000);
    format!(
        r#","annotations":{{{annotations}"large":"{large}"}},"managedFields":[{{"manager":"m","fieldsV1":{{"f:{large}":{{}}}}}}]"#
    )
}

/// Returns a page of a list.
fn page(number: usize) -> String {
    let page = PAGES[number];
    let (metadata, content) = page.content();
    let mut items = String::new();
    for i in 0..page.count_objects() {
        let _ = write!(
            items,
            r#"{{"metadata":{{"name":"n{number}-{i}","namespace":"ns","uid":"u{number}-{i}","resourceVersion":"1","generation":1{metadata}}},{content}}},"#
        );
    }
    items.pop();
    let next = if number + 1 == PAGES.len() {
        String::new()
    } else {
        format!(r#","continue":"{}""#, number + 1)
    };
    format!(
        r#"{{"apiVersion":"bitnami.com/v1alpha1","kind":"SealedSecretList","metadata":{{"resourceVersion":"1"{next}}},"items":[{items}]}}"#
    )
}

/// Returns a client of an API server that serves [`PAGES`].
fn client() -> Client {
    let service = service_fn(|request: Request<Body>| async move {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let number = query.split_once("continue=").map(|(_, start)| {
            let digits: String = start.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        });
        let body = Body::from(page(number.unwrap_or_default()).into_bytes());
        Ok::<_, kube::Error>(Response::builder().status(200).body(body).unwrap())
    });
    Client::new(service, "ns")
}

/// Returns the value of a line of the process status, in MiB.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|text| text.strip_prefix(line));
    let kibibytes = line.unwrap().trim_matches(|c: char| !c.is_ascii_digit());
    kibibytes.parse::<usize>().unwrap() / 1024
}

/// Attack: a tenant creates hundreds of objects with large annotations or many unknown fields, items, templates or
/// conditions, so that the controller runs out of memory each time it starts.
#[tokio::test]
async fn large_annotations_and_fields_of_many_objects_are_not_kept_in_memory() {
    let store = ClusterStore::new(client(), false);
    drop(page(0));
    let before = memory("VmRSS:");
    let config = watcher::Config::default().page_size(50);
    let mut events = pin!(watcher(sealed_secrets(client(), None), config));
    let mut accepted = 0;
    while let Some(event) = events.next().await {
        match event.unwrap() {
            Event::InitApply(object) => {
                accepted += usize::from(store.store_object(object).is_some());
            }
            Event::InitDone => break,
            _ => {}
        }
    }
    let (growth, max_growth) = (memory("VmRSS:") - before, memory("VmHWM:") - before);
    let objects: usize = PAGES.iter().map(|page| page.count_objects()).sum();
    assert_eq!(accepted, objects);
    // Each page has about 23 MB, and all of them about 250 MB; parsed, the unknown fields of a page have 2 GB.
    assert!(growth < 200, "{growth} MiB kept, at most {max_growth} MiB");
    assert!(
        max_growth < 260,
        "at most {max_growth} MiB, {growth} MiB kept"
    );
}
