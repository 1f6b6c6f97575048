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
pub(super) struct Finding {
    verdict: Verdict,
    text: String,
    remedy: Option<String>,
}

impl Finding {
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
            text: finding,
            remedy,
        }
    }
}

/// The steps in the order in which they were checked, each with its name.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, Finding)>);

impl Findings {
    /// Adds a step. Returns `None` if the step failed.
    pub(super) fn add(&mut self, name: &str, mut finding: Finding) -> Option<()> {
        // The output of a step is one line.
        let line = finding.text.replace("\nhint: ", "; hint: ");
        finding.text = line.lines().collect::<Vec<_>>().join(" ");
        let is_bad = finding.verdict == Verdict::Bad;
        self.0.push((name.to_owned(), finding));
        (!is_bad).then_some(())
    }

    /// Returns whether a step failed.
    pub(super) fn is_bad(&self) -> bool {
        self.0
            .iter()
            .any(|(_, finding)| finding.verdict == Verdict::Bad)
    }

    /// Returns the findings as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, finding) in &self.0 {
            let mark = match finding.verdict {
                Verdict::Good => "ok     ",
                Verdict::Remark => "remark ",
                Verdict::Skipped => "skipped",
                Verdict::Bad => "BROKEN ",
            };
            let _ = writeln!(text, "{mark}  {}: {}", shown(name), shown(&finding.text));
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "         → {}", shown(remedy));
            }
        }
        text
    }

    /// Returns the findings as JSON.
    pub(super) fn json(&self) -> Result<Vec<u8>> {
        let step = |(name, finding): &(String, Finding)| {
            let verdict = match finding.verdict {
                Verdict::Good => "ok",
                Verdict::Remark => "remark",
                Verdict::Skipped => "skipped",
                Verdict::Bad => "broken",
            };
            json!({"step": name, "verdict": verdict, "finding": finding.text, "remedy": finding.remedy})
        };
        let steps: Vec<_> = self.0.iter().map(step).collect();
        crate::seal::keys::json_bytes(&json!({ "steps": steps }))
    }
}
