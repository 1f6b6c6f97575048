//! Runs Bitnami's `kubeseal` and this project's with the same arguments, with Bitnami's controller and this project's,
//! on a real API server: four combinations for each case in `tests/differential/online`.
//!
//! `DIFFERENCES.toml` lists the intended differences between the tools or the controllers, and
//! `DIFFERENTIAL_PRINT` prints outcomes, as for the cases without a cluster.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking; the other suite uses the rest of its modules"
)]

#[path = "../../local/kubeseal_differential/cases.rs"]
mod cases;
#[path = "../../local/kubeseal_differential/compare.rs"]
mod compare;
#[path = "../../local/kubeseal_differential/differences.rs"]
mod differences;
#[path = "../../local/kubeseal_differential/fixtures.rs"]
mod fixtures;
#[path = "../../local/kubeseal_differential/kind.rs"]
mod kind;
#[path = "../../local/kubeseal_differential/opener.rs"]
mod opener;
#[path = "../../local/kubeseal_differential/outcome.rs"]
mod outcome;
#[path = "../../local/kubeseal_differential/parallel.rs"]
mod parallel;
#[path = "../../local/kubeseal_differential/run.rs"]
mod run;
mod test_cluster;
#[path = "../../local/kubeseal_differential/usage.rs"]
mod usage;
#[path = "../../local/kubeseal_differential/web.rs"]
mod web;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use cases::Case;
use differences::{Differences, Program};
use fixtures::Fixtures;
use opener::Opener;
use outcome::Outcome;
use run::{Limit, PreparedCase};
use test_cluster::TestCluster;

/// The minimum number of cases: a run with fewer cases fails, so that a broken loader does not pass.
const MIN_CASES: usize = 60;

/// The implementation of a tool or a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Implementation {
    Upstream,
    Ours,
}

const IMPLEMENTATIONS: [Implementation; 2] = [Implementation::Upstream, Implementation::Ours];

/// Outcomes by tool, then controller.
type Outcomes = BTreeMap<(Implementation, Implementation), Outcome>;

#[tokio::test(flavor = "multi_thread")]
async fn both_kubeseals_and_controllers_agree_except_for_the_listed_differences() {
    let fixtures = Fixtures::new().unwrap();
    let clusters = [
        TestCluster::start_upstream(&fixtures).await,
        TestCluster::start_own(&fixtures).await,
    ];
    let suite = tokio::task::block_in_place(|| Suite::run(&fixtures, &clusters));
    let suite = suite.unwrap_or_else(|error| panic!("{error:?}"));
    suite.print();
    let complaints = suite.complaints();
    assert!(
        complaints.is_empty(),
        "{} of {} cases fail:\n\n{}",
        complaints.len(),
        suite.cases.len(),
        complaints.join("\n")
    );
    // Flaws that only a cluster shows: each has a case in which upstream still has the flaw.
    for flaw in ["K1", "K7", "K12", "K18", "R1", "R2", "R5", "S1"] {
        let cases = suite.differences.cases_of(flaw);
        let is_shown = suite
            .cases
            .iter()
            .any(|case| cases.contains(&case.name.as_str()));
        assert!(is_shown, "no case of {flaw}");
    }
}

struct Suite {
    cases: Vec<Case>,
    outcomes: Vec<Outcomes>,
    differences: Differences,
}

impl Suite {
    fn run(fixtures: &Fixtures, clusters: &[TestCluster; 2]) -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("differential");
        let cases = cases::load(&directory.join("online"))?;
        ensure!(cases.len() >= MIN_CASES, "only {} cases", cases.len());
        let all_cases = [cases::load(&directory)?, cases.clone()].concat();
        let differences = Differences::load(&directory.join("DIFFERENCES.toml"), &all_cases)?;
        let tools = [
            tests::upstream::upstream_kubeseal(),
            tests::binaries::kubeseal(),
        ];
        let outcomes = parallel::map(&cases, |case| {
            run_case(case, fixtures, &tools, clusters).with_context(|| case.name.clone())
        })?;
        Ok(Self {
            cases,
            outcomes,
            differences,
        })
    }

    fn complaints(&self) -> Vec<String> {
        let results = self.cases.iter().zip(&self.outcomes);
        let complaint = |(case, outcomes): (&Case, &Outcomes)| {
            let mut complaints = self.compare_tools(case, outcomes);
            complaints.extend(self.compare_controllers(case, outcomes));
            let title = case.title();
            let transcript = transcript(outcomes);
            let complaints = complaints.join("\n  - ");
            (!complaints.is_empty()).then(|| format!("{title}\n  - {complaints}\n{transcript}"))
        };
        results.filter_map(complaint).collect()
    }

    fn compare_tools(&self, case: &Case, outcomes: &Outcomes) -> Vec<String> {
        let difference = self.differences.difference(&case.name, Program::Kubeseal);
        let complaints_with = |controller| {
            let (upstream, ours) = (
                &outcomes[&(Implementation::Upstream, controller)],
                &outcomes[&(Implementation::Ours, controller)],
            );
            let complaints = match difference {
                Some(difference) => difference.complaints(upstream, ours),
                None => compare::disagreements(&self.differences.rewrite(upstream), ours),
            };
            complaints
                .into_iter()
                .map(move |text| format!("with the {controller:?} controller: {text}"))
        };
        IMPLEMENTATIONS
            .into_iter()
            .flat_map(complaints_with)
            .collect()
    }

    /// Compares, for each tool, its output against upstream's controller with its output against this project's
    /// controller. Ignores the wording, which depends only on the tool.
    fn compare_controllers(&self, case: &Case, outcomes: &Outcomes) -> Vec<String> {
        let difference = self.differences.difference(&case.name, Program::Controller);
        let complaints_with = |tool| {
            let (upstream, ours) = (
                &outcomes[&(tool, Implementation::Upstream)],
                &outcomes[&(tool, Implementation::Ours)],
            );
            let complaints = match difference {
                Some(difference) => difference.complaints(upstream, ours),
                None => compare::disagreements(&without_wording(upstream), &without_wording(ours)),
            };
            complaints
                .into_iter()
                .map(move |text| format!("with the {tool:?} tool, between controllers: {text}"))
        };
        IMPLEMENTATIONS
            .into_iter()
            .flat_map(complaints_with)
            .collect()
    }

    fn print(&self) {
        let Some(filter) = env::var("DIFFERENTIAL_PRINT").ok() else {
            return;
        };
        for (case, outcomes) in self.cases.iter().zip(&self.outcomes) {
            if filter == "1" || case.name.contains(&filter) {
                println!("{}\n{}", case.title(), transcript(outcomes));
            }
        }
    }
}

fn without_wording(outcome: &Outcome) -> Outcome {
    Outcome {
        error: None,
        ..outcome.clone()
    }
}

fn transcript(outcomes: &Outcomes) -> String {
    let line = |((tool, controller), outcome): (&(Implementation, Implementation), &Outcome)| {
        format!("tool {tool:?}, controller {controller:?}: {outcome}")
    };
    outcomes.iter().map(line).collect()
}

fn run_case(
    case: &Case,
    fixtures: &Fixtures,
    tools: &[PathBuf; 2],
    clusters: &[TestCluster; 2],
) -> Result<Outcomes> {
    let opener = Opener {
        upstream: &fixtures.upstream,
        keys: &fixtures.keys,
        labels: &case.labels,
    };
    let mut outcomes = Outcomes::new();
    for (controller, cluster) in IMPLEMENTATIONS.into_iter().zip(clusters) {
        let mut case = case.clone();
        for (name, value) in test_cluster::VARIABLES {
            case.env
                .entry((*name).to_owned())
                .or_insert_with(|| (*value).to_owned());
        }
        let prepared = PreparedCase::new(&case, fixtures, &cluster.placeholders())?;
        for (tool, program) in IMPLEMENTATIONS.into_iter().zip(tools) {
            let mut output = prepared.run(program, Limit::Default)?;
            cluster.normalize(&mut output);
            outcomes.insert((tool, controller), Outcome::new(&output, &opener));
        }
    }
    Ok(outcomes)
}
