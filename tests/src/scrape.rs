//! A metrics scrape, parsed by Prometheus' own parser in a Go program.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::go_build;

/// The content of a scrape.
#[derive(Debug, Deserialize)]
pub struct Scrape {
    /// Metrics by name.
    pub families: BTreeMap<String, Family>,
    /// Findings of Prometheus' linter; `None` if there are none.
    pub problems: Option<Vec<Problem>>,
}

/// One metric with its series.
#[derive(Debug, Deserialize)]
pub struct Family {
    /// The type: 0 is a counter, 1 a gauge, 4 a histogram. JSON omits a 0.
    #[serde(default, rename = "type")]
    pub kind: u8,
    /// The series, one for each combination of labels.
    pub metric: Vec<Series>,
}

/// One series of a metric.
#[derive(Debug, Deserialize)]
pub struct Series {
    /// The labels, which identify the series.
    #[serde(default)]
    pub label: Vec<Label>,
    counter: Option<Number>,
    gauge: Option<Number>,
}

/// One label of a series.
#[derive(Debug, Deserialize)]
pub struct Label {
    /// The label's name, such as `namespace`.
    pub name: String,
    /// The label's value, such as `kube-system`.
    #[serde(default)]
    pub value: String,
}

/// A finding of Prometheus' linter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Problem {
    /// The name of the metric that the finding is about.
    pub metric: String,
    /// The linter's message.
    pub text: String,
}

#[derive(Debug, Deserialize)]
struct Number {
    value: Option<f64>,
}

impl Scrape {
    /// Parses a scrape.
    ///
    /// # Panics
    /// Panics if Prometheus' parser fails, or Go is missing.
    pub fn read(text: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("metrics");
        let mut child = Command::new(go_build::build(&source, ".", "metrics"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program was just built");
        let mut input = child.stdin.take().expect("stdin is piped");
        input
            .write_all(text.as_bytes())
            .expect("the program reads its input");
        drop(input);
        let output = child.wait_with_output().expect("the process is our child");
        assert!(
            output.status.success(),
            "Prometheus cannot parse this:\n{text}"
        );
        serde_json::from_slice(&output.stdout).expect("the program prints JSON")
    }

    /// Returns the value of the first counter or gauge with this name and these labels, and possibly others; `None` if
    /// there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |series: &&Series| {
            labels.iter().all(|(name, value)| {
                let mut series_labels = series.label.iter();
                series_labels.any(|label| label.name == *name && label.value == *value)
            })
        };
        let series = self.families.get(name)?.metric.iter().find(has)?;
        let number = series.counter.as_ref().or(series.gauge.as_ref())?;
        Some(number.value.unwrap_or_default())
    }
}
