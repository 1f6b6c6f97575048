//! Compares Bitnami's `kubeseal` (upstream) with this project's on the same inputs, as `tests/differential/README.md`
//! explains.
//!
//! `DIFFERENTIAL_PRINT=1` prints both outcomes of every case; any other string prints the outcomes of the cases with
//! that string in their name. `DIFFERENTIAL_PEER=1` runs only upstream, and checks the outcomes against the table of
//! differences.
#![allow(
    clippy::panic,
    dead_code,
    reason = "a test fails by panicking; the suite with a cluster uses the rest of its modules"
)]

mod cases;
mod compare;
mod differences;
mod fixtures;
mod kind;
mod opener;
mod outcome;
mod parallel;
mod run;
mod usage;
mod web;

use std::{
    env,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context, Result};

use cases::Case;
use differences::{Differences, Program};
use fixtures::{Fixtures, Placeholders};
use opener::Opener;
use outcome::Outcome;
use run::{Limit, PreparedCase};

/// All cases, compared once for all tests of this module.
static COMPARISON: LazyLock<Comparison> =
    LazyLock::new(|| Comparison::new().unwrap_or_else(|error| panic!("{error:?}")));

struct Comparison {
    cases: Vec<Case>,
    verdicts: Vec<Verdict>,
    differences: Differences,
}

#[test]
fn agrees_with_upstream_except_for_the_listed_differences() {
    let comparison = &*COMPARISON;
    comparison.print();
    comparison.assert_no_complaint_about(|_| true);
    let upstream: Vec<Outcome> = comparison
        .verdicts
        .iter()
        .map(|verdict| verdict.upstream.clone())
        .collect();
    let unused: Vec<_> = comparison.differences.unused_patterns(&upstream).collect();
    assert!(
        unused.is_empty(),
        "DIFFERENCES.toml: upstream never prints {unused:?}"
    );
}

/// Defines one test for each flaw of upstream: upstream has the flaw, and this project does not.
macro_rules! flaws {
    ($($name:ident: $flaw:literal,)*) => {
        $(
            #[test]
            fn $name() {
                COMPARISON.assert_fixed($flaw);
            }
        )*
    };
}

flaws! {
    k2_names_malformed_documents_instead_of_skipping_them: "K2",
    k3_stops_at_garbage_after_valid_objects: "K3",
    k4_creates_the_maps_that_a_merge_needs: "K4",
    k5_merges_under_the_scope_of_the_target: "K5",
    k6_merging_keeps_format_and_documents: "K6",
    k8_recovers_every_document: "K8",
    k9_accepts_keys_in_every_format: "K9",
    k10_strict_by_flag_cancels_annotations: "K10",
    k11_reports_what_is_wrong_with_the_kubeconfig: "K11",
    k12_prints_messages_only_to_stderr: "K12",
    k13_replaces_files_atomically_and_keeps_their_mode: "K13",
    k14_warns_of_values_that_coercion_changes: "K14",
    k15_refuses_positional_arguments: "K15",
    k16_checks_kinds_and_expands_lists: "K16",
    k17_writes_all_or_nothing: "K17",
    k19_warns_of_unusual_certificates: "K19",
    k20_recovers_what_can_be_applied: "K20",
    s7_seals_neither_finalizers_nor_managed_fields: "S7",
}

impl Comparison {
    fn new() -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("differential");
        let cases = cases::load(&directory)?;
        let online = cases::load(&directory.join("online"))?;
        let all_cases = [cases.as_slice(), &online].concat();
        let differences = Differences::load(&directory.join("DIFFERENCES.toml"), &all_cases)?;
        let fixtures = Fixtures::new()?;
        let programs = Programs::new();
        let verdicts = parallel::map(&cases, |case| {
            judge(case, &programs, &fixtures, &differences).with_context(|| case.name.clone())
        })?;
        Ok(Self {
            cases,
            verdicts,
            differences,
        })
    }

    fn assert_fixed(&self, flaw: &str) {
        let cases = self.differences.cases_of(flaw);
        assert!(!cases.is_empty(), "DIFFERENCES.toml has no case of {flaw}");
        self.assert_no_complaint_about(|case| cases.contains(&case.name.as_str()));
    }

    fn assert_no_complaint_about(&self, is_concerned: impl Fn(&Case) -> bool) {
        let complaints: Vec<String> = self
            .cases
            .iter()
            .zip(&self.verdicts)
            .filter(|(case, _)| is_concerned(case))
            .filter_map(|(case, verdict)| verdict.complaint_text(case))
            .collect();
        assert!(
            complaints.is_empty(),
            "{} of {} cases fail:\n\n{}",
            complaints.len(),
            self.cases.len(),
            complaints.join("\n")
        );
    }

    fn print(&self) {
        let Some(filter) = env::var("DIFFERENTIAL_PRINT").ok() else {
            return;
        };
        for (case, verdict) in self.cases.iter().zip(&self.verdicts) {
            if filter == "1" || case.name.contains(&filter) {
                println!("{}\n{}", case.title(), verdict.transcript());
            }
        }
    }
}

struct Programs {
    upstream: PathBuf,
    /// This project's program; `None` only with `DIFFERENTIAL_PEER`.
    own: Option<PathBuf>,
}

impl Programs {
    fn new() -> Self {
        let upstream_only = env::var_os("DIFFERENTIAL_PEER").is_some();
        Self {
            upstream: tests::upstream::upstream_kubeseal(),
            own: (!upstream_only).then(tests::binaries::kubeseal),
        }
    }
}

struct Verdict {
    upstream: Outcome,
    own: Option<Outcome>,
    complaints: Vec<String>,
}

fn judge(
    case: &Case,
    programs: &Programs,
    fixtures: &Fixtures,
    differences: &Differences,
) -> Result<Verdict> {
    let prepared = PreparedCase::new(case, fixtures, &Placeholders::new())?;
    let opener = Opener {
        upstream: &fixtures.upstream,
        keys: &fixtures.keys,
        labels: &case.labels,
    };
    let upstream = Outcome::new(&prepared.run(&programs.upstream, Limit::Case)?, &opener);
    let own = match &programs.own {
        Some(program) => Some(Outcome::new(
            &prepared.run(program, Limit::Default)?,
            &opener,
        )),
        None => None,
    };
    let complaints = match (differences.difference(&case.name, Program::Kubeseal), &own) {
        (Some(difference), Some(own)) => difference.complaints(&upstream, own),
        (Some(difference), None) => difference.upstream_complaints(&upstream),
        (None, Some(own)) => compare::disagreements(&differences.rewrite(&upstream), own),
        (None, None) => Vec::new(),
    };
    Ok(Verdict {
        upstream,
        own,
        complaints,
    })
}

impl Verdict {
    fn complaint_text(&self, case: &Case) -> Option<String> {
        (!self.complaints.is_empty()).then(|| {
            let complaints = self.complaints.join("\n  - ");
            format!("{}\n  - {complaints}\n{}", case.title(), self.transcript())
        })
    }

    fn transcript(&self) -> String {
        match &self.own {
            Some(own) => format!("upstream: {}this project: {own}", self.upstream),
            None => self.upstream.to_string(),
        }
    }
}
