//! Runs Bitnami's `kubeseal` and ours with the same arguments, with Bitnami's controller and ours, on a real
//! API server: four combinations for each case in `tests/differential/online`.
//!
//! `DIFFERENCES.toml` lists the intended differences between the tools or the controllers, as for the cases
//! without a cluster. `DIFFERENTIAL_PRINT` works in the same way.
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
mod place;
#[path = "../kubeseal_differential/run.rs"]
mod run;
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
use place::Place;
use run::{Limit, Prepared};

/// Minimum number of cases.
const FEWEST: usize = 60;

/// A tool, or a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Upstream,
    Ours,
}

const BOTH: [Who; 2] = [Who::Upstream, Who::Ours];

/// Outcomes by tool, then controller.
type Outcomes = BTreeMap<(Who, Who), Outcome>;

#[tokio::test(flavor = "multi_thread")]
async fn four_combinations_agree_except_as_the_table_says() {
    let fixtures = Fixtures::new().unwrap();
    let places = [
        Place::with_upstreams(&fixtures).await,
        Place::with_ours(&fixtures).await,
    ];
    let suite = tokio::task::block_in_place(|| Suite::run(&fixtures, &places));
    let suite = suite.unwrap_or_else(|error| panic!("{error:?}"));
    suite.print();
    let complaints = suite.complaints();
    assert!(
        complaints.is_empty(),
        "{} of {} stories are not as they should be:\n\n{}",
        complaints.len(),
        suite.cases.len(),
        complaints.join("\n")
    );
    // Flaws that only a cluster shows: for each there is a case in which upstream still has it.
    for flaw in ["K1", "K7", "K12", "K18", "R1", "R2", "R5", "S1"] {
        let concerned = suite.differences.cases_of(flaw);
        let reported = suite
            .cases
            .iter()
            .any(|case| concerned.contains(&case.name.as_str()));
        assert!(reported, "no story of {flaw}");
    }
}

struct Suite {
    cases: Vec<Case>,
    outcomes: Vec<Outcomes>,
    differences: Differences,
}

impl Suite {
    fn run(fixtures: &Fixtures, places: &[Place; 2]) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("differential");
        let cases = cases::load(&folder.join("online"))?;
        ensure!(cases.len() >= FEWEST, "only {} stories", cases.len());
        let known = [cases::load(&folder)?, cases.clone()].concat();
        let differences = Differences::load(&folder.join("DIFFERENCES.toml"), &known)?;
        let tools = [
            tests::upstream::upstream_kubeseal(),
            tests::binaries::kubeseal(),
        ];
        let outcomes = parallel::map(&cases, |case| {
            outcomes(case, fixtures, &tools, places).with_context(|| case.name.clone())
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
                &outcomes[&(Who::Upstream, controller)],
                &outcomes[&(Who::Ours, controller)],
            );
            let wrong = match difference {
                Some(difference) => difference.complaints(upstream, ours),
                None => compare::disagreements(&self.differences.rewritten(upstream), ours),
            };
            wrong
                .into_iter()
                .map(move |text| format!("before {controller:?} controller: {text}"))
        };
        BOTH.into_iter().flat_map(before).collect()
    }

    /// Compares controllers by the output of a tool; how a tool words a response depends only on the tool.
    fn between_controllers(&self, case: &Case, outcomes: &Outcomes) -> Vec<String> {
        let difference = self.differences.of(&case.name, Of::Controller);
        let by = |tool| {
            let (upstream, ours) = (
                &outcomes[&(tool, Who::Upstream)],
                &outcomes[&(tool, Who::Ours)],
            );
            let wrong = match difference {
                Some(difference) => difference.complaints(upstream, ours),
                None => compare::disagreements(&without_words(upstream), &without_words(ours)),
            };
            wrong
                .into_iter()
                .map(move |text| format!("by the tool of {tool:?}, between controllers: {text}"))
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

fn without_words(outcome: &Outcome) -> Outcome {
    Outcome {
        error: None,
        ..outcome.clone()
    }
}

fn transcript(outcomes: &Outcomes) -> String {
    let one = |((tool, controller), outcome): (&(Who, Who), &Outcome)| {
        format!("tool {tool:?}, controller {controller:?}: {outcome}")
    };
    outcomes.iter().map(one).collect()
}

fn outcomes(
    case: &Case,
    fixtures: &Fixtures,
    tools: &[PathBuf; 2],
    places: &[Place; 2],
) -> Result<Outcomes> {
    let opener = Opener {
        upstream: &fixtures.upstream,
        keys: &fixtures.keys,
        labels: &case.labels,
    };
    let mut outcomes = Outcomes::new();
    for (controller, place) in BOTH.into_iter().zip(places) {
        let mut case = case.clone();
        for (name, value) in place::VARIABLES {
            case.env
                .entry((*name).to_owned())
                .or_insert_with(|| (*value).to_owned());
        }
        let prepared = Prepared::new(&case, fixtures, &place.marks())?;
        for (tool, program) in BOTH.into_iter().zip(tools) {
            let mut traces = prepared.run(program, Limit::Generous)?;
            place.make_alike(&mut traces);
            outcomes.insert((tool, controller), Outcome::new(&traces, &opener));
        }
    }
    Ok(outcomes)
}
