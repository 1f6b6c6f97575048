//! Decides whether and when to retry a request: after the time that the server asks to wait, or if the connection ended
//! before the response.

use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use rand::RngExt as _;

use super::Timeout;
use crate::notice::{StatusLine, Waiting};

/// The longest wait between two attempts that a server can request. A random extra wait is added.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Maximum random extra wait after the first attempt, so that many callers do not retry at the same time. It doubles
/// with each attempt, up to [`LONGEST_SPREAD`].
const FIRST_SPREAD: Duration = Duration::from_millis(250);
/// The longest random extra wait.
const LONGEST_SPREAD: Duration = Duration::from_secs(4);
/// The interval at which a wait checks whether the user has interrupted the run.
const INTERRUPT_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum number of attempts for a request whose connection ends early.
pub(super) const BROKEN_ATTEMPTS: u32 = 4;

/// Why a request should be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// The server asks to wait this long.
    Busy(Duration),
    /// The API server reports that its connection to the controller ended before the response.
    Broken,
}

impl Retry {
    /// Determines from a response whether the request has to be sent again; `None` if the response is final.
    pub(super) fn from_response(
        code: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Self> {
        let may_retry = code == StatusCode::TOO_MANY_REQUESTS || code.is_server_error();
        let seconds = headers.get("retry-after").filter(|_| may_retry);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = seconds {
            return Some(Self::Busy(Duration::from_secs(seconds)));
        }
        let is_broken = code.is_server_error() && is_broken(&String::from_utf8_lossy(body));
        is_broken.then_some(Self::Broken)
    }

    /// Returns why the request is sent again, for display.
    fn cause(self) -> &'static str {
        match self {
            // The server can be the controller or the API server.
            Self::Busy(_) => "the server asks to wait",
            Self::Broken => "the API server lost its connection to the controller",
        }
    }

    /// Returns how long the server asks to wait; `None` for a broken connection.
    pub(super) fn requested_pause(self) -> Option<Duration> {
        match self {
            Self::Busy(wait) => Some(wait),
            Self::Broken => None,
        }
    }
}

/// Returns whether the API server's proxy reports that the connection to the controller ended
/// early, rather than that it could not be opened.
pub(super) fn is_broken(text: &str) -> bool {
    let ends = [
        "server closed idle connection",
        "connection reset by peer",
        "broken pipe",
        "EOF",
    ];
    text.contains("trying to reach service") && ends.iter().any(|end| text.contains(end))
}

/// Counts the attempts of one request.
pub(super) struct Attempts {
    start: Instant,
    limit: Option<Duration>,
    /// The number of responses received.
    pub(super) done: u32,
    broken: u32,
    is_interrupted: fn() -> bool,
    wait_line: WaitLine,
}

impl Attempts {
    pub(super) fn new(timeout: Timeout, waiting: Waiting) -> Self {
        Self {
            start: Instant::now(),
            limit: timeout.busy,
            done: 0,
            broken: 0,
            is_interrupted: waiting.is_interrupted,
            wait_line: WaitLine {
                line: waiting.status_line,
                is_shown: false,
            },
        }
    }

    /// Returns how long to wait before the request is sent again, or `None` if this response is
    /// final or a limit does not allow another attempt.
    pub(super) fn next_pause(&mut self, retry: Option<Retry>) -> Option<Duration> {
        self.done += 1;
        let retry = retry?;
        let wait = match retry {
            Retry::Busy(wait) => {
                wait.min(LONGEST_WAIT)
                    + random_extra_wait(self.done, shared::random::system().random())
            }
            Retry::Broken => {
                self.broken += 1;
                (self.broken < BROKEN_ATTEMPTS).then(|| random_extra_wait(self.done, 1.0))?
            }
        };
        let elapsed_after_wait = self.start.elapsed() + wait;
        if self.limit.is_some_and(|limit| elapsed_after_wait > limit) {
            return None;
        }
        self.wait_line.show(retry, wait, self.done);
        Some(wait)
    }

    /// Divides a wait into parts. The iterator ends early if the user interrupts the run.
    pub(super) fn parts(&self, wait: Duration) -> impl Iterator<Item = Duration> {
        let (is_interrupted, mut rest) = (self.is_interrupted, wait);
        std::iter::from_fn(move || {
            let part = rest.min(INTERRUPT_CHECK_INTERVAL);
            rest -= part;
            (!part.is_zero() && !is_interrupted()).then_some(part)
        })
    }

    /// Returns whether the user has interrupted the run.
    pub(super) fn is_interrupted(&self) -> bool {
        (self.is_interrupted)()
    }
}

/// Returns the random extra wait after an attempt. `fraction` is a random number between 0 and 1.
fn random_extra_wait(attempt: u32, fraction: f64) -> Duration {
    let doubled = FIRST_SPREAD.saturating_mul(1 << attempt.saturating_sub(1).min(8));
    doubled
        .min(LONGEST_SPREAD)
        .mul_f64(fraction.clamp(0.0, 1.0))
}

/// The line on the terminal that is shown during a wait.
struct WaitLine {
    line: Option<StatusLine>,
    is_shown: bool,
}

impl WaitLine {
    fn show(&mut self, retry: Retry, wait: Duration, attempts: u32) {
        let Some(line) = self.line else {
            return;
        };
        self.is_shown = true;
        let seconds = wait.as_secs_f64().ceil();
        line(&format!(
            "{}: retrying in {seconds} s (attempt {})",
            retry.cause(),
            attempts + 1
        ));
    }
}

impl Drop for WaitLine {
    fn drop(&mut self) {
        if let Some(line) = self.line.filter(|_| self.is_shown) {
            line("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(status_line: Option<StatusLine>) -> Waiting {
        Waiting {
            status_line,
            is_interrupted: || false,
        }
    }

    fn attempts(busy: Option<Duration>) -> Attempts {
        Attempts::new(
            Timeout {
                response: None,
                busy,
            },
            waiting(None),
        )
    }

    #[test]
    fn waits_at_least_as_long_as_the_server_asks_and_not_beyond_the_time_limit() {
        let second = Duration::from_secs(1);
        let mut short_limit = attempts(Some(Duration::from_millis(900)));
        assert_eq!(short_limit.next_pause(Some(Retry::Busy(second))), None);
        let mut long_limit = attempts(Some(Duration::from_mins(1)));
        for _ in 0..20 {
            let wait = long_limit.next_pause(Some(Retry::Busy(second))).unwrap();
            assert!(
                (second..=second + LONGEST_SPREAD).contains(&wait),
                "{wait:?}"
            );
        }
        assert_eq!(long_limit.next_pause(None), None);
        assert_eq!(long_limit.done, 21);
        let mut no_limit = attempts(None);
        let hour = Retry::Busy(Duration::from_hours(1));
        assert!(no_limit.next_pause(Some(hour)).unwrap() <= LONGEST_WAIT + LONGEST_SPREAD);
    }

    #[test]
    fn a_wait_ends_at_an_interruption() {
        thread_local! {
            static CHECKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
        }
        let mut attempts = attempts(None);
        let wait = Duration::from_millis(250);
        let parts: Vec<Duration> = attempts.parts(wait).collect();
        assert_eq!(
            parts,
            [
                INTERRUPT_CHECK_INTERVAL,
                INTERRUPT_CHECK_INTERVAL,
                Duration::from_millis(50)
            ]
        );
        attempts.is_interrupted = || CHECKS.replace(CHECKS.get() + 1) >= 2;
        assert_eq!(attempts.parts(Duration::from_secs(20)).count(), 2);
        assert!(attempts.is_interrupted());
    }

    #[test]
    fn shows_a_wait_and_removes_its_line() {
        thread_local! {
            static SHOWN: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        let show: StatusLine = |line| SHOWN.with_borrow_mut(|shown| shown.push(line.to_owned()));
        let timeout = Timeout {
            response: None,
            busy: Some(Duration::from_secs(20)),
        };
        let busy = |seconds| Some(Retry::Busy(Duration::from_secs(seconds)));
        let line = |seconds, attempt| {
            format!("the server asks to wait: retrying in {seconds} s (attempt {attempt})")
        };
        let broken_line = |attempt| {
            format!(
                "the API server lost its connection to the controller: retrying in 1 s (attempt {attempt})"
            )
        };
        // The random extra wait is less than a second after the first two attempts.
        for (why, retries, want) in [
            ("no response", &[][..], vec![]),
            ("a final response", &[None], vec![]),
            ("one wait", &[busy(3)], vec![line(4, 2), String::new()]),
            (
                "two waits",
                &[busy(1), busy(5)],
                vec![line(2, 2), line(6, 3), String::new()],
            ),
            (
                "a broken connection",
                &[Some(Retry::Broken)],
                vec![broken_line(2), String::new()],
            ),
            (
                "a request to wait, then a broken connection",
                &[busy(1), Some(Retry::Broken)],
                vec![line(2, 2), broken_line(3), String::new()],
            ),
            ("a wait longer than the time limit", &[busy(30)], vec![]),
            (
                "a second wait longer than the time limit",
                &[busy(1), busy(30)],
                vec![line(2, 2), String::new()],
            ),
        ] {
            let mut attempts = Attempts::new(timeout, waiting(Some(show)));
            for retry in retries {
                let _ = attempts.next_pause(*retry);
            }
            drop(attempts);
            assert_eq!(SHOWN.take(), want, "{why}");
        }
    }

    #[test]
    fn retries_a_broken_connection_a_few_times() {
        let mut attempts = attempts(None);
        let waits = std::iter::from_fn(|| attempts.next_pause(Some(Retry::Broken)));
        assert_eq!(waits.take(100).count(), 3);
    }

    #[test]
    fn distinguishes_final_responses_from_those_to_retry() {
        let broken = "error trying to reach service: http: server closed idle connection";
        let not_connected = "error trying to reach service: dial tcp: connection refused";
        let second = Some("1");
        for (code, after, body, want) in [
            (429, second, "", Some(Retry::Busy(Duration::from_secs(1)))),
            (
                503,
                second,
                broken,
                Some(Retry::Busy(Duration::from_secs(1))),
            ),
            (429, None, "", None),
            (429, Some("soon"), "", None),
            (200, second, broken, None),
            (503, None, broken, Some(Retry::Broken)),
            (503, None, not_connected, None),
            (404, None, "EOF", None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert("retry-after", after.parse().unwrap());
            }
            let code = StatusCode::from_u16(code).unwrap();
            let retry = Retry::from_response(code, &headers, body.as_bytes());
            assert_eq!(retry, want, "{code} {after:?} {body}");
        }
    }
}
