//! A watch that continues after the permission to start it was revoked.
//!
//! The API server checks permissions only when a watch starts, so each watch is started again after a period, to detect
//! revoked permissions soon. If the next watch is forbidden, the previous watch continues until the API server ends it.
//! A permission that is granted again within minutes therefore causes no interruption.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, service_fn};

/// How long a watch continues before the next one is requested.
#[derive(Debug, Clone, Copy)]
pub(super) struct Periods {
    /// The period after a watch that was allowed.
    pub(super) allowed: Duration,
    /// The period after a watch that was forbidden.
    pub(super) forbidden: Duration,
}

/// Receives the outcome of each request for a watch that was allowed, or that was forbidden while the previous watch
/// continues. An error contains the message of the response.
pub(super) type Report = dyn Fn(Result<(), String>) + Send + Sync;

type WatchResponse = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The watch that continues if the next one is forbidden.
type PreviousWatch = Arc<Mutex<Option<Body>>>;

/// Returns a client for a single watch.
pub(super) fn client(inner: Client, periods: Periods, report: Arc<Report>) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let previous = PreviousWatch::default();
    let service = service_fn(move |request: Request<Body>| {
        let (inner, previous, report) = (inner.clone(), Arc::clone(&previous), Arc::clone(&report));
        async move { respond(&inner, request, previous, periods, &*report).await }
    });
    Client::new(service, namespace)
}

async fn respond(
    inner: &Client,
    request: Request<Body>,
    previous: PreviousWatch,
    periods: Periods,
    report: &Report,
) -> kube::Result<WatchResponse> {
    let is_watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    // Everything except a 403 response to a watch ends the previous watch, since the next watch may continue from a
    // later version.
    let previous_body = take(&previous);
    let response = inner.send(request).await?;
    if !is_watch {
        return Ok(response.map(boxed));
    }
    match (response.status(), previous_body) {
        (StatusCode::FORBIDDEN, Some(previous_body)) => {
            report(Err(denial_reason(response).await));
            let watch = lasting_body(previous_body, previous, periods.forbidden);
            Ok(Response::new(watch))
        }
        (StatusCode::OK, _) => {
            report(Ok(()));
            Ok(response.map(|body| lasting_body(body, previous, periods.allowed)))
        }
        _ => Ok(response.map(boxed)),
    }
}

fn take(previous: &PreviousWatch) -> Option<Body> {
    let mut previous = previous.lock().unwrap_or_else(PoisonError::into_inner);
    previous.take()
}

fn boxed(body: Body) -> UnsyncBoxBody<Bytes, BoxError> {
    body.map_err(BoxError::from).boxed_unsync()
}

async fn denial_reason(response: Response<Body>) -> String {
    let body = response.into_body().collect_bytes().await;
    let status = body
        .ok()
        .and_then(|body| serde_json::from_slice(&body).ok());
    status.map_or_else(|| "forbidden".to_owned(), |status: Status| status.message)
}

/// The response body of a watch, which ends when the period ends.
struct LastingWatch {
    body: Body,
    previous: PreviousWatch,
    end: Instant,
    /// Whether the bytes passed on so far end with a complete event.
    is_between_events: bool,
}

fn lasting_body(
    body: Body,
    previous: PreviousWatch,
    period: Duration,
) -> UnsyncBoxBody<Bytes, BoxError> {
    let watch = LastingWatch {
        body,
        previous,
        end: Instant::now() + period,
        is_between_events: true,
    };
    StreamBody::new(stream::unfold(watch, next)).boxed_unsync()
}

/// Returns the next received bytes. Ends after the period, between two events, and stores the remaining body as the
/// previous watch.
async fn next(mut watch: LastingWatch) -> Option<(Result<Frame<Bytes>, BoxError>, LastingWatch)> {
    let frame = tokio::select! {
        biased;
        () = sleep_until(watch.end), if watch.is_between_events => None,
        frame = watch.body.frame() => Some(frame?),
    };
    let Some(frame) = frame else {
        *watch
            .previous
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(watch.body);
        return None;
    };
    if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
        watch.is_between_events = data.last().is_none_or(|last| *last == b'\n');
    }
    Some((frame.map_err(BoxError::from), watch))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::channel::mpsc::{UnboundedSender, unbounded};

    use super::*;

    const PERIODS: Periods = Periods {
        allowed: Duration::from_mins(1),
        forbidden: Duration::from_secs(5),
    };
    const WATCH: &str = "/api/v1/secrets?watch=true";

    /// A client of an API server with prepared responses, and the reports.
    struct Case {
        client: Client,
        responses: Arc<Mutex<VecDeque<WatchResponse>>>,
        reports: Arc<Mutex<Vec<Result<(), String>>>>,
    }

    impl Case {
        fn new() -> Self {
            let responses = Arc::<Mutex<VecDeque<WatchResponse>>>::default();
            let prepared_responses = Arc::clone(&responses);
            let server = service_fn(move |_: Request<Body>| {
                let next = prepared_responses.lock().unwrap().pop_front();
                async move { Ok::<_, BoxError>(next.expect("a prepared response")) }
            });
            let reports = Arc::<Mutex<Vec<Result<(), String>>>>::default();
            let log = Arc::clone(&reports);
            let report = Arc::new(move |report| log.lock().unwrap().push(report));
            Self {
                client: client(Client::new(server, "ns"), PERIODS, report),
                responses,
                reports,
            }
        }

        /// Prepares a response with a watch. Returns the sender of its events.
        fn allow_watch(&self) -> UnboundedSender<&'static str> {
            let (sender, events) = unbounded();
            let frames = futures::StreamExt::map(events, |text: &str| {
                Ok(Frame::data(Bytes::from_static(text.as_bytes())))
            });
            let body = StreamBody::new(frames).boxed_unsync();
            self.responses
                .lock()
                .unwrap()
                .push_back(Response::new(body));
            sender
        }

        /// Prepares a response with a failure.
        fn respond_with(&self, code: u16) {
            let status = Status::failure("no", "Reason").with_code(code);
            let text = serde_json::to_vec(&status).unwrap();
            let response = Response::builder().status(code);
            let response = response.body(boxed(Body::from(text))).unwrap();
            self.responses.lock().unwrap().push_back(response);
        }

        async fn request(&self, path: &str) -> Response<Body> {
            let request = Request::get(path).body(Body::empty()).unwrap();
            self.client.send(request).await.unwrap()
        }

        fn take_reports(&self) -> Vec<Result<(), String>> {
            std::mem::take(&mut *self.reports.lock().unwrap())
        }
    }

    async fn next_bytes(watch: &mut Response<Body>) -> Option<Bytes> {
        let frame = watch.body_mut().frame().await?;
        frame.unwrap().into_data().ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_continues_while_the_next_watch_is_forbidden_and_loses_no_event() {
        let case = Case::new();
        let events = case.allow_watch();
        let mut watch = case.request(WATCH).await;
        events.unbounded_send("1\n").unwrap();
        assert_eq!(next_bytes(&mut watch).await.unwrap(), "1\n");
        for event in ["2\n", "3\n", "4\n"] {
            assert_eq!(next_bytes(&mut watch).await, None);
            events.unbounded_send(event).unwrap();
            case.respond_with(403);
            watch = case.request(WATCH).await;
            assert_eq!(watch.status(), 200);
            assert_eq!(next_bytes(&mut watch).await.unwrap(), event);
        }
        let denial = Err("no".to_owned());
        assert_eq!(
            case.take_reports(),
            [Ok(()), denial.clone(), denial.clone(), denial]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_ends_after_the_period_for_allowed_or_forbidden_requests() {
        let case = Case::new();
        let _events = case.allow_watch();
        for seconds in [60, 5, 5] {
            let start = Instant::now();
            let mut watch = case.request(WATCH).await;
            assert_eq!(next_bytes(&mut watch).await, None);
            assert_eq!(start.elapsed().as_secs(), seconds);
            case.respond_with(403);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_allowed_watch_replaces_the_previous_watch() {
        let case = Case::new();
        let old_events = case.allow_watch();
        let mut watch = case.request(WATCH).await;
        assert_eq!(next_bytes(&mut watch).await, None);
        let new_events = case.allow_watch();
        let mut watch = case.request(WATCH).await;
        assert!(old_events.is_closed());
        new_events.unbounded_send("2\n").unwrap();
        assert_eq!(next_bytes(&mut watch).await.unwrap(), "2\n");
        assert_eq!(case.take_reports(), [Ok(()), Ok(())]);
    }

    /// After these responses, the watcher may continue from a later version, so the previous watch would repeat old
    /// events.
    #[tokio::test(start_paused = true)]
    async fn the_previous_watch_ends_after_a_list_or_a_failure_other_than_403() {
        for (path, code) in [
            (WATCH, 410),
            (WATCH, 500),
            (WATCH, 401),
            (WATCH, 429),
            ("/api/v1/secrets?limit=1", 200),
            ("/api/v1/secrets?limit=1", 403),
        ] {
            let case = Case::new();
            let old_events = case.allow_watch();
            let mut watch = case.request(WATCH).await;
            assert_eq!(next_bytes(&mut watch).await, None);
            case.respond_with(code);
            assert_eq!(case.request(path).await.status(), code);
            assert!(old_events.is_closed(), "{path} {code}");
            case.respond_with(403);
            assert_eq!(case.request(WATCH).await.status(), 403, "{path} {code}");
            assert_eq!(case.take_reports(), [Ok(())], "{path} {code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_was_never_allowed_is_refused() {
        let case = Case::new();
        case.respond_with(403);
        assert_eq!(case.request(WATCH).await.status(), 403);
        assert_eq!(case.take_reports(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_ends_between_two_events_and_never_within_an_event() {
        let case = Case::new();
        let events = case.allow_watch();
        let mut watch = case.request(WATCH).await;
        events.unbounded_send("{\"a\":").unwrap();
        assert_eq!(next_bytes(&mut watch).await.unwrap(), "{\"a\":");
        tokio::time::sleep(PERIODS.allowed * 2).await;
        events.unbounded_send("1}\n").unwrap();
        assert_eq!(next_bytes(&mut watch).await.unwrap(), "1}\n");
        assert_eq!(next_bytes(&mut watch).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_the_api_server_ended_does_not_continue() {
        let case = Case::new();
        let events = case.allow_watch();
        let mut watch = case.request(WATCH).await;
        drop(events);
        assert_eq!(next_bytes(&mut watch).await, None);
        case.respond_with(403);
        assert_eq!(case.request(WATCH).await.status(), 403);
    }
}
