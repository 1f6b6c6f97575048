//! Bitnami's released integration suite, and its results for the programs of this project.
//!
//! The suite comes from the Go module cache and is built like other Go programs of the tests; none of its
//! sources is in this repository.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::go_build;

/// Builds the suite as a program; returns its path.
///
/// # Panics
/// Panics like [`go_build::build`].
pub fn program() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("upstream-suite");
    let package = "github.com/bitnami-labs/sealed-secrets/integration";
    go_build::build_tests(&source, package, "integration", "upstream-suite")
}

/// The CRD of SealedSecrets in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Definition {
    /// Bitnami's CRD.
    Upstream,
    /// The CRD of this project.
    Ours,
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream => "upstream's definition",
            Self::Ours => "our definition",
        })
    }
}

/// The list of specs that are expected to fail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFailures {
    fails: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    spec: String,
    definition: Definitions,
    #[serde(default)]
    races: bool,
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Definitions {
    Both,
    Upstream,
    Ours,
}

impl Definitions {
    fn applies_to(self, definition: Definition) -> bool {
        match self {
            Self::Both => true,
            Self::Upstream => definition == Definition::Upstream,
            Self::Ours => definition == Definition::Ours,
        }
    }
}

impl ExpectedFailures {
    /// Parses the list of specs that are expected to fail.
    ///
    /// # Errors
    ///
    /// Returns an error if the list is malformed, an entry has no reason, or a spec occurs twice.
    pub fn read(text: &str) -> Result<Self, String> {
        let expected: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut specs = BTreeSet::new();
        for entry in &expected.fails {
            if entry.why.trim().is_empty() {
                return Err(format!("{:?} has no reason", entry.spec));
            }
            if !specs.insert(&entry.spec) {
                return Err(format!("{:?} is listed twice", entry.spec));
            }
        }
        Ok(expected)
    }
}

/// The result of one spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Full name of the spec.
    pub spec: String,
    /// Ginkgo's state, for example `passed`.
    pub state: String,
    /// The failure message; empty if the spec did not fail.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Report>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    failure: Failure,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    message: String,
}

/// Parses a JSON report of Ginkgo.
///
/// # Errors
///
/// Returns an error if the text is not a report.
pub fn verdicts(report: &str) -> Result<Vec<Verdict>, String> {
    let suites: Vec<Suite> = serde_json::from_str(report).map_err(|error| error.to_string())?;
    let reports = suites.into_iter().flat_map(|suite| suite.spec_reports);
    let specs = reports.filter(|report| report.leaf_node_type == "It");
    Ok(specs.map(verdict).collect())
}

fn verdict(report: Report) -> Verdict {
    let mut texts = report.container_hierarchy_texts.unwrap_or_default();
    texts.push(report.leaf_node_text);
    Verdict {
        spec: texts.join(" "),
        state: report.state,
        message: report.failure.message,
    }
}

/// Returns the differences between a run and the list, one sentence each.
pub fn differences(
    expected: &ExpectedFailures,
    definition: Definition,
    verdicts: &[Verdict],
) -> Vec<String> {
    let mut differences: Vec<_> = verdicts
        .iter()
        .filter_map(|verdict| difference(expected, definition, verdict))
        .collect();
    for entry in &expected.fails {
        if !verdicts.iter().any(|verdict| verdict.spec == entry.spec) {
            differences.push(format!(
                "the suite has no spec {:?}, which is listed",
                entry.spec
            ));
        }
    }
    differences
}

fn difference(
    expected: &ExpectedFailures,
    definition: Definition,
    verdict: &Verdict,
) -> Option<String> {
    let Verdict {
        spec,
        state,
        message,
    } = verdict;
    let mut entries = expected.fails.iter();
    let entry =
        entries.find(|entry| entry.spec == *spec && entry.definition.applies_to(definition));
    match (state.as_str(), entry) {
        ("passed", None) | ("failed", Some(_)) => None,
        ("passed", Some(entry)) if entry.races => None,
        ("passed", Some(_)) => Some(format!("{spec:?} is listed as failing but passes")),
        ("failed", None) => Some(format!("{spec:?} fails but is not listed:\n{message}")),
        (state, _) => Some(format!(
            "{spec:?} neither passed nor failed: {state}\n{message}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
        [[fails]]
        spec = "a fails"
        definition = "both"
        why = "on purpose"
        [[fails]]
        spec = "b fails under ours"
        definition = "ours"
        why = "on purpose"
        [[fails]]
        spec = "c may fail"
        definition = "both"
        races = true
        why = "it depends on timing"
    "#;

    fn run(states: &[(&str, &str)]) -> Vec<Verdict> {
        let verdict = |(spec, state): &(&str, &str)| Verdict {
            spec: (*spec).into(),
            state: (*state).into(),
            message: "because".into(),
        };
        states.iter().map(verdict).collect()
    }

    #[test]
    fn reports_unexpected_failures_and_unexpected_passes() {
        let expected = ExpectedFailures::read(LIST).unwrap();
        let expected_states = [
            ("a fails", "failed"),
            ("b fails under ours", "passed"),
            ("c may fail", "passed"),
            ("d", "passed"),
        ];
        let no_differences: [&str; 0] = [];
        for (definition, change, want) in [
            (Definition::Upstream, None, &no_differences[..]),
            (
                Definition::Upstream,
                Some(("c may fail", "failed")),
                &no_differences,
            ),
            (
                Definition::Upstream,
                Some(("a fails", "passed")),
                &["listed as failing but passes"],
            ),
            (
                Definition::Upstream,
                Some(("d", "failed")),
                &["fails but is not listed"],
            ),
            (
                Definition::Upstream,
                Some(("d", "skipped")),
                &["neither passed nor failed: skipped"],
            ),
            (
                Definition::Upstream,
                Some(("a fails", "panicked")),
                &["neither passed nor failed: panicked"],
            ),
            (
                Definition::Upstream,
                Some(("b fails under ours", "failed")),
                &["is not listed"],
            ),
            (
                Definition::Ours,
                None,
                &["\"b fails under ours\" is listed as failing but passes"],
            ),
            (
                Definition::Ours,
                Some(("b fails under ours", "failed")),
                &no_differences,
            ),
        ] {
            let mut states = expected_states;
            for state in &mut states {
                if let Some(change) = change.filter(|(spec, _)| *spec == state.0) {
                    *state = change;
                }
            }
            let actual = differences(&expected, definition, &run(&states));
            assert_eq!(actual.len(), want.len(), "{change:?}: {actual:?}");
            for (difference, want) in actual.iter().zip(want) {
                assert!(difference.contains(want), "{change:?}: {difference}");
            }
        }
        let missing = differences(&expected, Definition::Upstream, &run(&expected_states[1..]));
        assert_eq!(
            missing,
            ["the suite has no spec \"a fails\", which is listed"]
        );
    }

    #[test]
    fn refuses_a_list_without_reasons_or_with_duplicates() {
        let entry =
            |why: &str| format!("[[fails]]\nspec = 'a'\ndefinition = 'ours'\nwhy = '{why}'\n");
        assert!(
            ExpectedFailures::read(&entry(" "))
                .unwrap_err()
                .contains("has no reason")
        );
        let duplicates = entry("x") + &entry("y");
        assert!(
            ExpectedFailures::read(&duplicates)
                .unwrap_err()
                .contains("listed twice")
        );
        assert!(ExpectedFailures::read("[[fails]]\nspec = 'a'\n").is_err());
    }

    #[test]
    fn reads_a_report_of_ginkgo() {
        let report = r#"[{ "SuiteSucceeded": false, "SpecReports": [
            { "ContainerHierarchyTexts": null, "LeafNodeType": "BeforeSuite", "LeafNodeText": "", "State": "passed" },
            { "ContainerHierarchyTexts": ["create", "when"], "LeafNodeType": "It", "LeafNodeText": "does", "State": "failed",
              "Failure": { "Message": "Expected" } },
            { "ContainerHierarchyTexts": ["x"], "LeafNodeType": "It", "LeafNodeText": "y", "State": "passed" }
        ] }]"#;
        let verdicts_of_report = verdicts(report).unwrap();
        let states: Vec<_> = verdicts_of_report
            .iter()
            .map(|v| (v.spec.as_str(), v.state.as_str(), v.message.as_str()))
            .collect();
        assert_eq!(
            states,
            [
                ("create when does", "failed", "Expected"),
                ("x y", "passed", "")
            ]
        );
        assert!(verdicts("{}").is_err());
    }
}
