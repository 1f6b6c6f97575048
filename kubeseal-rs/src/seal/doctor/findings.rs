//! What was found, step by step, and how it is shown.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::report::shown;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// Works, and deserves a look.
    Remark,
    /// Could not be looked at.
    Skipped,
    /// Broken.
    Bad,
}

/// What a look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    verdict: Verdict,
    finding: String,
    remedy: Option<String>,
}

impl Found {
    /// As it should be.
    pub(super) fn good(finding: impl Into<String>) -> Self {
        Self::new(Verdict::Good, finding.into(), None)
    }

    /// Could not be looked at.
    pub(super) fn skipped(finding: impl Into<String>) -> Self {
        Self::new(Verdict::Skipped, finding.into(), None)
    }

    /// Deserves a look.
    pub(super) fn remark(finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Remark, finding.into(), Some(remedy.into()))
    }

    /// Broken.
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

/// Steps in the order in which they were looked at, each with its name.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, Found)>);

impl Findings {
    /// One more step; `None` if it is broken.
    pub(super) fn add(&mut self, name: &str, mut found: Found) -> Option<()> {
        // A step is one line.
        found.finding = found.finding.lines().collect::<Vec<_>>().join(" ");
        let is_bad = found.verdict == Verdict::Bad;
        self.0.push((name.to_owned(), found));
        (!is_bad).then_some(())
    }

    /// Is a step broken?
    pub(super) fn is_bad(&self) -> bool {
        self.0
            .iter()
            .any(|(_, found)| found.verdict == Verdict::Bad)
    }

    /// For people.
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

    /// For programs.
    ///
    /// # Errors
    ///
    /// None that is known.
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
