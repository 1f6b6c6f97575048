//! The findings of each step, and their output as text and JSON.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::report::shown;

/// The verdict on a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The step succeeded.
    Good,
    /// The step succeeded, with a warning.
    Remark,
    /// The step could not be checked.
    Skipped,
    /// The step failed.
    Bad,
}

/// The finding of a step, with a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    verdict: Verdict,
    finding: String,
    remedy: Option<String>,
}

impl Found {
    /// Returns the finding of a step that succeeded.
    pub(super) fn good(finding: impl Into<String>) -> Self {
        Self::new(Verdict::Good, finding.into(), None)
    }

    /// Returns the finding of a step that could not be checked.
    pub(super) fn skipped(finding: impl Into<String>) -> Self {
        Self::new(Verdict::Skipped, finding.into(), None)
    }

    /// Returns the finding of a step that succeeded with a warning.
    pub(super) fn remark(finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Remark, finding.into(), Some(remedy.into()))
    }

    /// Returns the finding of a step that failed.
    pub(super) fn bad(finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Bad, finding.into(), Some(remedy.into()))
    }

    fn new(verdict: Verdict, finding: String, remedy: Option<String>) -> Self {
        Self {
            verdict,
            finding,
            remedy,
        }
    }
}

/// The steps in the order in which they were checked, each with its name.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, Found)>);

impl Findings {
    /// Adds a step. Returns `None` if the step failed.
    pub(super) fn add(&mut self, name: &str, mut found: Found) -> Option<()> {
        // The output of a step is one line.
        let finding = found.finding.replace("\nhint: ", "; hint: ");
        found.finding = finding.lines().collect::<Vec<_>>().join(" ");
        let is_bad = found.verdict == Verdict::Bad;
        self.0.push((name.to_owned(), found));
        (!is_bad).then_some(())
    }

    /// Returns whether a step failed.
    pub(super) fn is_bad(&self) -> bool {
        self.0
            .iter()
            .any(|(_, found)| found.verdict == Verdict::Bad)
    }

    /// Returns the findings as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, found) in &self.0 {
            let mark = match found.verdict {
                Verdict::Good => "ok     ",
                Verdict::Remark => "remark ",
                Verdict::Skipped => "skipped",
                Verdict::Bad => "BROKEN ",
            };
            let _ = writeln!(text, "{mark}  {}: {}", shown(name), shown(&found.finding));
            if let Some(remedy) = &found.remedy {
                let _ = writeln!(text, "         → {}", shown(remedy));
            }
        }
        text
    }

    /// Returns the findings as JSON.
    pub(super) fn json(&self) -> Result<Vec<u8>> {
        let step = |(name, found): &(String, Found)| {
            let verdict = match found.verdict {
                Verdict::Good => "ok",
                Verdict::Remark => "remark",
                Verdict::Skipped => "skipped",
                Verdict::Bad => "broken",
            };
            json!({"step": name, "verdict": verdict, "finding": found.finding, "remedy": found.remedy})
        };
        let steps: Vec<_> = self.0.iter().map(step).collect();
        crate::seal::keys::json_bytes(&json!({ "steps": steps }))
    }
}
