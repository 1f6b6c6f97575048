//! Tests that large labels, annotations and `managedFields` of SealedSecrets are not kept in memory. This is the only
//! test of its process, whose memory it measures.
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

const PAGES: usize = 8;
const OBJECTS: usize = 50;
const ANNOTATIONS: usize = 10_000;

/// Returns a page of a list: objects without items, with as many annotations as an API server accepts and large
/// `managedFields`.
fn page(number: usize) -> String {
    let mut annotations = String::new();
    for i in 0..ANNOTATIONS {
        let _ = write!(annotations, "\"example.com/{i:06}\":\"\",");
    }
    let large = "x".repeat(100_000);
    let mut items = String::new();
    for i in 0..OBJECTS {
        let _ = write!(
            items,
            r#"{{"metadata":{{"name":"n{number}-{i}","namespace":"ns","uid":"u{number}-{i}","resourceVersion":"1","generation":1,"annotations":{{{annotations}"large":"{large}"}},"managedFields":[{{"manager":"m","fieldsV1":{{"f:{large}":{{}}}}}}]}},"spec":{{"encryptedData":{{}}}}}},"#
        );
    }
    items.pop();
    let next = if number + 1 == PAGES {
        String::new()
    } else {
        format!(r#","continue":"{}""#, number + 1)
    };
    format!(
        r#"{{"apiVersion":"bitnami.com/v1alpha1","kind":"SealedSecretList","metadata":{{"resourceVersion":"1"{next}}},"items":[{items}]}}"#
    )
}

/// Returns a client of an API server with these pages.
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

/// Attack: a tenant creates hundreds of objects with annotations as large as the API server accepts, so that the
/// controller runs out of memory at each start.
#[tokio::test]
async fn large_annotations_of_many_objects_are_not_kept_in_memory() {
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
    assert_eq!(accepted, PAGES * OBJECTS);
    // Each page has about 23 MB, and all of them about 180 MB.
    assert!(growth < 90, "{growth} MiB kept, at most {max_growth} MiB");
    assert!(
        max_growth < 160,
        "at most {max_growth} MiB, {growth} MiB kept"
    );
}
