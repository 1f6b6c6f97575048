//! The findings of each step, and their output as text and JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::report::shown;

/// The verdict on a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    /// The step succeeded.
    #[serde(rename = "ok")]
    Good,
    /// The step succeeded, with a warning.
    #[serde(rename = "remark")]
    Remark,
    /// The step could not be checked.
    #[serde(rename = "skipped")]
    Skipped,
    /// The step failed.
    #[serde(rename = "broken")]
    Bad,
}

/// The finding of a step, with a remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    verdict: Verdict,
    #[serde(rename = "finding")]
    text: String,
    /// The remedy; `None` if the verdict is good or skipped.
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

/// The output of `seal doctor`: the steps in the order in which they were checked.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    steps: Vec<Step>,
}

/// A step that was checked.
#[derive(Debug, Serialize)]
struct Step {
    #[serde(rename = "step")]
    name: String,
    #[serde(flatten)]
    finding: Finding,
}

impl Findings {
    /// Adds a step. Returns `None` if the step failed.
    pub(super) fn add(&mut self, name: &str, mut finding: Finding) -> Option<()> {
        // The text of a finding is one line of the output.
        let line = finding.text.replace("\nhint: ", "; hint: ");
        finding.text = line.lines().collect::<Vec<_>>().join(" ");
        let is_bad = finding.verdict == Verdict::Bad;
        let name = name.to_owned();
        self.steps.push(Step { name, finding });
        (!is_bad).then_some(())
    }

    /// Returns whether a step failed.
    pub(super) fn is_bad(&self) -> bool {
        self.steps
            .iter()
            .any(|step| step.finding.verdict == Verdict::Bad)
    }

    /// Returns the findings as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Step { name, finding } in &self.steps {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::output::tests::{check, check_bytes};

    #[test]
    fn the_report_has_the_documented_form() {
        let mut findings = Findings::default();
        check_bytes(&findings, "{\n  \"steps\": []\n}\n");
        let _ = findings.add("seal", Finding::good("version 1"));
        let _ = findings.add("keys", Finding::remark("no backup", "make one"));
        let _ = findings.add("rules", Finding::skipped("no rule"));
        let _ = findings.add(
            "db",
            Finding::bad("cannot\nbe read\nhint: look", "correct it"),
        );
        let want = r#"{
  "steps": [
    {
      "step": "seal",
      "verdict": "ok",
      "finding": "version 1",
      "remedy": null
    },
    {
      "step": "keys",
      "verdict": "remark",
      "finding": "no backup",
      "remedy": "make one"
    },
    {
      "step": "rules",
      "verdict": "skipped",
      "finding": "no rule",
      "remedy": null
    },
    {
      "step": "db",
      "verdict": "broken",
      "finding": "cannot be read; hint: look",
      "remedy": "correct it"
    }
  ]
}
"#;
        check("seal doctor", &findings, want);
    }
}
