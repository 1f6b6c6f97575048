//! Waits for the first values and for changes.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use deliver::{EntryBody, RequestBody, Response};

use crate::client::{Client, ClientError, Delivery};
use crate::metrics::Metrics;
use crate::random;

/// The longest pause after a failure, in addition to a pause that the controller requests.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause after the first failure; the pause doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long a request waits for a change, in seconds. The time is random within this range, so that agents that start
/// at the same time do not send their requests at the same time.
const WAIT: std::ops::RangeInclusive<u16> = 45..=60;
/// The shortest time between the starts of a successful request and of the next request. The values of a hostile
/// controller could change with each request, and the caller may start a command for each change.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// How often the same failure is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(5);

/// Requests the values of SealedSecrets, and then waits for changes.
pub struct Poll {
    client: Client,
    request: RequestBody,
    log: fn(&str),
    metrics: Arc<Metrics>,
    failures: u32,
    /// The start time of the last successful request.
    requested_at: Option<Instant>,
    /// The last logged failure, and when it was logged.
    last_logged: Option<(String, Instant)>,
}

impl Poll {
    /// Creates a poller for these objects. `log` receives messages about failures and recoveries, each of one or more
    /// lines.
    pub fn new(client: Client, objects: Vec<EntryBody>, log: fn(&str)) -> Self {
        let request = RequestBody {
            objects,
            have: None,
            wait: None,
        };
        Self {
            client,
            request,
            log,
            metrics: Arc::default(),
            failures: 0,
            requested_at: None,
            last_logged: None,
        }
    }

    /// Returns the metrics of the requests.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Returns the values at the first call; later calls wait for a change. Repeats failed requests until one succeeds.
    pub fn next_change(&mut self) -> Response {
        loop {
            let past = self.requested_at.map(|time| time.elapsed());
            sleep(past.map_or(Duration::ZERO, |past| SHORTEST_WAIT.saturating_sub(past)));
            let start = Instant::now();
            let result = self.client.deliver(&self.request);
            self.metrics.record(&result);
            match result {
                Ok(Delivery::Values(response)) => {
                    self.record_success(start);
                    self.request.have = Some(response.revision.clone());
                    self.request.wait = Some(wait_seconds(random::fraction()));
                    return *response;
                }
                Ok(Delivery::Unchanged) => self.record_success(start),
                Err(error) => self.handle_failure(&error),
            }
        }
    }

    /// Pauses because the caller could not use the values, and makes [`Self::next_change`] request them again.
    pub fn repeat(&mut self, why: &str) {
        self.request.have = None;
        self.request.wait = None;
        self.pause_after(why, None);
    }

    fn record_success(&mut self, start: Instant) {
        self.failures = 0;
        self.requested_at = Some(start);
        if self.last_logged.take().is_some() {
            (self.log)("the controller delivers values again");
        }
    }

    fn handle_failure(&mut self, error: &ClientError) {
        let retry_after = match error {
            ClientError::Refused(refusal) => refusal.retry_after,
            _ => None,
        };
        self.pause_after(&error_chain(error), retry_after);
    }

    fn pause_after(&mut self, why: &str, retry_after: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        self.log_once(why);
        sleep(pause(self.failures, retry_after, random::fraction()));
    }

    /// Logs a failure, unless the same one was logged recently.
    fn log_once(&mut self, text: &str) {
        let is_known =
            |(last, time): &(String, Instant)| last == text && time.elapsed() < LOG_INTERVAL;
        if !self.last_logged.as_ref().is_some_and(is_known) {
            let state = match self.request.have {
                Some(_) => "cannot refresh, so the last values stay",
                None => "waiting for values",
            };
            (self.log)(&format!("{state}: {text}"));
            self.last_logged = Some((text.to_owned(), Instant::now()));
        }
    }
}

/// Formats an error and its causes on one line, followed by the hints of the error.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let (message, hints) = text.split_once("\nhint: ").unwrap_or((&text, ""));
    let mut message = message.to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    match hints {
        "" => message,
        hints => format!("{message}\nhint: {hints}"),
    }
}

/// Returns how long to wait before the next attempt: the pause that the controller requests, and a random pause whose
/// limit doubles with each failure up to [`MAX_PAUSE`]. It is random so that agents that lose the same controller do
/// not all retry at the same time.
fn pause(failures: u32, retry_after: Option<Duration>, fraction: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = (FIRST_PAUSE * 2_u32.pow(doublings)).min(MAX_PAUSE);
    let least = retry_after.unwrap_or_default();
    least + longest.mul_f64(f64::midpoint(fraction, 1.0))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the result lies within the range"
)]
fn wait_seconds(fraction: f64) -> u16 {
    let (least, most) = (f64::from(*WAIT.start()), f64::from(*WAIT.end()));
    (least + (most - least) * fraction).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_vary() {
        let seconds = |failures, fraction| pause(failures, None, fraction).as_secs_f64();
        assert!((seconds(1, 0.0) - 0.125).abs() < 1e-9);
        assert!((seconds(1, 1.0) - 0.25).abs() < 1e-9);
        assert!((seconds(3, 1.0) - 1.0).abs() < 1e-9);
        for failures in [10, 100, u32::MAX] {
            assert!((seconds(failures, 1.0) - 15.0).abs() < 1e-9);
            assert!((seconds(failures, 0.0) - 7.5).abs() < 1e-9);
        }
    }

    #[test]
    fn a_busy_controller_chooses_the_shortest_pause() {
        let asked = Duration::from_secs(20);
        for fraction in [0.0, 0.5, 1.0] {
            assert!(pause(1, Some(asked), fraction) >= asked);
        }
    }

    #[test]
    fn waits_stay_within_the_limit_of_the_protocol() {
        assert_eq!((wait_seconds(0.0), wait_seconds(1.0)), (45, 60));
        assert!(*WAIT.end() <= deliver::MAX_WAIT);
    }
}
