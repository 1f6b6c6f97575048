//! Counts requests to the controller by outcome. No label depends on a Pod, an object or a value.

use std::time::{SystemTime, UNIX_EPOCH};

use probes::Status;
use probes::metrics::{Kind, Value, write_head, write_metric, write_series};
use ureq::http::StatusCode;

use crate::client::{ClientError, Delivery};

/// Prefix of the metrics of an agent.
const PREFIX: &str = "sealed_secrets_agent";

/// The outcome of a request, as the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Values,
    Unchanged,
    Refused,
    Busy,
    Failed,
    Unreachable,
    Malformed,
    Local,
}

const OUTCOMES: [(Outcome, &str); 8] = [
    (Outcome::Values, "values"),
    (Outcome::Unchanged, "unchanged"),
    (Outcome::Refused, "refused"),
    (Outcome::Busy, "busy"),
    (Outcome::Failed, "failed"),
    (Outcome::Unreachable, "unreachable"),
    (Outcome::Malformed, "malformed"),
    (Outcome::Local, "local"),
];

/// Counters and gauges of requests to the controller.
#[derive(Debug, Default)]
pub struct Requests {
    by_outcome: [Value; OUTCOMES.len()],
    last_success: Value,
    unreachable_since: Value,
}

impl Requests {
    /// Records the result of a request.
    pub fn record(&self, result: Result<&Delivery, &ClientError>) {
        let outcome = outcome(result);
        let index = OUTCOMES.iter().position(|(known, _)| *known == outcome);
        if let Some(value) = index.and_then(|index| self.by_outcome.get(index)) {
            value.increment();
        }
        match outcome {
            Outcome::Values | Outcome::Unchanged => {
                self.last_success.set(now());
                self.unreachable_since.set(0);
            }
            Outcome::Unreachable => self.unreachable_since.set_if_zero(now()),
            Outcome::Refused | Outcome::Busy | Outcome::Failed | Outcome::Malformed => {
                self.unreachable_since.set(0);
            }
            // No request was sent.
            Outcome::Local => {}
        }
    }

    /// Writes the metrics in Prometheus' text format, with a prefix for the role.
    pub fn write(&self, text: &mut String, prefix: &str) {
        let name = format!("{prefix}_requests_total");
        let help = "Requests to the controller by outcome: values, unchanged, refused, busy, failed, unreachable, malformed; \
                    local if no request was sent.";
        write_head(text, &name, Kind::Counter, help);
        for ((_, label), value) in OUTCOMES.iter().zip(&self.by_outcome) {
            write_series(text, &name, ("outcome", label), value);
        }
        write_metric(
            text,
            &format!("{prefix}_last_success_timestamp_seconds"),
            Kind::Gauge,
            "Time of the last successful response of the controller, in seconds since 1970; 0 if there was none.",
            &self.last_success,
        );
        write_metric(
            text,
            &format!("{prefix}_unreachable_since_timestamp_seconds"),
            Kind::Gauge,
            "Time since which no request reaches the controller, in seconds since 1970; 0 if the last request did.",
            &self.unreachable_since,
        );
    }
}

/// Metrics of an agent.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Requests,
    objects: Value,
}

impl Metrics {
    /// Records the result of a request, and the number of SealedSecrets whose values the agent has.
    pub(crate) fn record(&self, result: &Result<Delivery, ClientError>) {
        self.requests.record(result.as_ref());
        if let Ok(Delivery::Values(response)) = result {
            self.objects.set(response.objects.len() as u64);
        }
    }
}

impl Status for Metrics {
    fn metrics(&self) -> String {
        let mut text = String::new();
        self.requests.write(&mut text, PREFIX);
        write_metric(
            &mut text,
            &format!("{PREFIX}_current_versions"),
            Kind::Gauge,
            "Number of SealedSecrets whose values the agent has received.",
            &self.objects,
        );
        text
    }
}

fn outcome(result: Result<&Delivery, &ClientError>) -> Outcome {
    match result {
        Ok(Delivery::Values(_)) => Outcome::Values,
        Ok(Delivery::Unchanged) => Outcome::Unchanged,
        Err(ClientError::Refused(refusal)) => match refusal.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Busy,
            status if status.is_client_error() => Outcome::Refused,
            _ => Outcome::Failed,
        },
        Err(ClientError::Unreachable { .. }) => Outcome::Unreachable,
        Err(ClientError::Response(_)) => Outcome::Malformed,
        Err(_) => Outcome::Local,
    }
}

/// Returns the time in seconds since 1970.
fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use deliver::Failure;

    use super::*;
    use crate::client::Refusal;

    fn refusal(status: u16) -> ClientError {
        ClientError::Refused(Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            failure: Failure::default(),
            retry_after: None,
        })
    }

    fn unreachable() -> ClientError {
        ClientError::Unreachable {
            server: "https://x".into(),
            source: Box::new(ureq::Error::HostNotFound),
        }
    }

    #[test]
    fn every_result_has_an_outcome_of_a_fixed_set() {
        let no_token = ClientError::NoToken(PathBuf::from("token"));
        for (error, want) in [
            (refusal(403), Outcome::Refused),
            (refusal(422), Outcome::Refused),
            (refusal(429), Outcome::Busy),
            (refusal(503), Outcome::Busy),
            (refusal(500), Outcome::Failed),
            (refusal(302), Outcome::Failed),
            (unreachable(), Outcome::Unreachable),
            (no_token, Outcome::Local),
        ] {
            assert_eq!(outcome(Err(&error)), want, "{error}");
        }
        assert_eq!(outcome(Ok(&Delivery::Unchanged)), Outcome::Unchanged);
    }

    #[test]
    fn an_outage_begins_with_the_first_failure_and_ends_with_any_response() {
        let requests = Requests::default();
        requests.record(Err(&unreachable()));
        let since = requests.unreachable_since.get();
        assert!(since > 0);
        requests.record(Err(&unreachable()));
        assert_eq!(requests.unreachable_since.get(), since);
        requests.record(Err(&refusal(403)));
        assert_eq!(requests.unreachable_since.get(), 0);
        assert_eq!(requests.last_success.get(), 0);
        requests.record(Ok(&Delivery::Unchanged));
        assert!(requests.last_success.get() >= since);
        let mut text = String::new();
        requests.write(&mut text, "sealed_secrets_node");
        for line in [
            "sealed_secrets_node_requests_total{outcome=\"unreachable\"} 2",
            "sealed_secrets_node_requests_total{outcome=\"refused\"} 1",
            "sealed_secrets_node_requests_total{outcome=\"busy\"} 0",
            "sealed_secrets_node_unreachable_since_timestamp_seconds 0",
        ] {
            assert!(text.lines().any(|written| written == line), "{text}");
        }
    }
}
