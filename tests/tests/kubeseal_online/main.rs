//! Runs Bitnami's `kubeseal` and ours with the same arguments, with Bitnami's controller and ours, on a real
//! API server: four combinations for each case in `tests/differential/online`.
//!
//! `DIFFERENCES.toml` lists the intended differences between the tools or the controllers, and
//! `DIFFERENTIAL_PRINT` prints outcomes, as for the cases without a cluster.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking; the other suite uses the rest of its modules"
)]

#[path = "../kubeseal_differential/cases.rs"]
mod cases;
#[path = "../kubeseal_differential/compare.rs"]
mod compare;
#[path = "../kubeseal_differential/differences.rs"]
mod differences;
#[path = "../kubeseal_differential/fixtures.rs"]
mod fixtures;
#[path = "../kubeseal_differential/kind.rs"]
mod kind;
#[path = "../kubeseal_differential/opened.rs"]
mod opened;
#[path = "../kubeseal_differential/outcome.rs"]
mod outcome;
#[path = "../kubeseal_differential/parallel.rs"]
mod parallel;
#[path = "../kubeseal_differential/run.rs"]
mod run;
mod test_cluster;
#[path = "../kubeseal_differential/usage.rs"]
mod usage;
#[path = "../kubeseal_differential/web.rs"]
mod web;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use cases::Case;
use differences::{Differences, Of};
use fixtures::Fixtures;
use opened::Opener;
use outcome::Outcome;
use run::{Limit, Prepared};
use test_cluster::TestCluster;

/// The run fails if fewer cases are found, so that a broken loader does not pass.
const MIN_CASES: usize = 60;

/// The implementation of a tool or a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Implementation {
    Upstream,
    Ours,
}

const BOTH: [Implementation; 2] = [Implementation::Upstream, Implementation::Ours];

/// Outcomes by tool, then controller.
type Outcomes = BTreeMap<(Implementation, Implementation), Outcome>;

#[tokio::test(flavor = "multi_thread")]
async fn four_combinations_agree_except_as_the_table_says() {
    let fixtures = Fixtures::new().unwrap();
    let clusters = [
        TestCluster::with_upstreams(&fixtures).await,
        TestCluster::with_ours(&fixtures).await,
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
        let concerned = suite.differences.cases_of(flaw);
        let reported = suite
            .cases
            .iter()
            .any(|case| concerned.contains(&case.name.as_str()));
        assert!(reported, "no case of {flaw}");
    }
}

struct Suite {
    cases: Vec<Case>,
    outcomes: Vec<Outcomes>,
    differences: Differences,
}

impl Suite {
    fn run(fixtures: &Fixtures, clusters: &[TestCluster; 2]) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("differential");
        let cases = cases::load(&folder.join("online"))?;
        ensure!(cases.len() >= MIN_CASES, "only {} cases", cases.len());
        let all_cases = [cases::load(&folder)?, cases.clone()].concat();
        let differences = Differences::load(&folder.join("DIFFERENCES.toml"), &all_cases)?;
        let tools = [
            tests::upstream::upstream_kubeseal(),
            tests::binaries::kubeseal(),
        ];
        let outcomes = parallel::map(&cases, |case| {
            outcomes(case, fixtures, &tools, clusters).with_context(|| case.name.clone())
        })?;
        Ok(Self {
            cases,
            outcomes,
            differences,
        })
    }

    fn complaints(&self) -> Vec<String> {
        let reported = self.cases.iter().zip(&self.outcomes);
        let complaint = |(case, outcomes): (&Case, &Outcomes)| {
            let mut wrong = self.between_tools(case, outcomes);
            wrong.extend(self.between_controllers(case, outcomes));
            let title = case.title();
            let transcript = transcript(outcomes);
            let wrong = wrong.join("\n  - ");
            (!wrong.is_empty()).then(|| format!("{title}\n  - {wrong}\n{transcript}"))
        };
        reported.filter_map(complaint).collect()
    }

    fn between_tools(&self, case: &Case, outcomes: &Outcomes) -> Vec<String> {
        let difference = self.differences.of(&case.name, Of::Kubeseal);
        let before = |controller| {
            let (upstream, ours) = (
                &outcomes[&(Implementation::Upstream, controller)],
                &outcomes[&(Implementation::Ours, controller)],
            );
            let wrong = match difference {
                Some(difference) => difference.complaints(upstream, ours),
                None => compare::disagreements(&self.differences.rewritten(upstream), ours),
            };
            wrong
                .into_iter()
                .map(move |text| format!("with the {controller:?} controller: {text}"))
        };
        BOTH.into_iter().flat_map(before).collect()
    }

    /// Compares the output of each tool with upstream's controller and with ours. Ignores the wording, which depends
    /// only on the tool.
    fn between_controllers(&self, case: &Case, outcomes: &Outcomes) -> Vec<String> {
        let difference = self.differences.of(&case.name, Of::Controller);
        let by = |tool| {
            let (upstream, ours) = (
                &outcomes[&(tool, Implementation::Upstream)],
                &outcomes[&(tool, Implementation::Ours)],
            );
            let wrong = match difference {
                Some(difference) => difference.complaints(upstream, ours),
                None => compare::disagreements(&without_wording(upstream), &without_wording(ours)),
            };
            wrong
                .into_iter()
                .map(move |text| format!("with the {tool:?} tool, between controllers: {text}"))
        };
        BOTH.into_iter().flat_map(by).collect()
    }

    fn print(&self) {
        let Some(wanted) = env::var("DIFFERENTIAL_PRINT").ok() else {
            return;
        };
        for (case, outcomes) in self.cases.iter().zip(&self.outcomes) {
            if wanted == "1" || case.name.contains(&wanted) {
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
    let one = |((tool, controller), outcome): (&(Implementation, Implementation), &Outcome)| {
        format!("tool {tool:?}, controller {controller:?}: {outcome}")
    };
    outcomes.iter().map(one).collect()
}

fn outcomes(
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
    for (controller, cluster) in BOTH.into_iter().zip(clusters) {
        let mut case = case.clone();
        for (name, value) in test_cluster::VARIABLES {
            case.env
                .entry((*name).to_owned())
                .or_insert_with(|| (*value).to_owned());
        }
        let prepared = Prepared::new(&case, fixtures, &cluster.marks())?;
        for (tool, program) in BOTH.into_iter().zip(tools) {
            let mut traces = prepared.run(program, Limit::Generous)?;
            cluster.normalize(&mut traces);
            outcomes.insert((tool, controller), Outcome::new(&traces, &opener));
        }
    }
    Ok(outcomes)
}
