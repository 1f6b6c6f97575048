//! The Go peer's `kubeseal` and ours, given the same inputs; `tests/differential/README.md`
//! explains the inputs.
//!
//! `DIFFERENTIAL_PRINT=1` prints what both do on every case, another word only on cases with that
//! word in their name. `DIFFERENTIAL_PEER=1` runs only the peer, and holds it to the table of
//! differences.

mod cases;
mod compare;
mod differences;
mod fixtures;
mod kind;
mod opened;
mod outcome;
mod parallel;
mod run;
mod usage;
mod web;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use cases::Case;
use differences::Differences;
use fixtures::Fixtures;
use opened::Opener;
use outcome::Outcome;
use run::{Limit, Prepared};

#[test]
fn agrees_with_the_peer_except_where_the_table_says_so() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("differential");
    let cases = cases::load(&folder)?;
    let differences = Differences::load(&folder.join("DIFFERENCES.toml"), &cases)?;
    let fixtures = Fixtures::new()?;
    let programs = Programs::new();

    let verdicts = parallel::map(&cases, |case| {
        verdict(case, &programs, &fixtures, &differences).with_context(|| case.name.clone())
    })?;

    print(&cases, &verdicts);
    let peer: Vec<Outcome> = verdicts
        .iter()
        .map(|verdict| verdict.peer.clone())
        .collect();
    let mut complaints: Vec<String> = cases
        .iter()
        .zip(&verdicts)
        .filter_map(|(case, verdict)| verdict.complaint(case))
        .collect();
    for pattern in differences.unused_patterns(&peer) {
        complaints.push(format!("DIFFERENCES.toml: the peer never prints {pattern}"));
    }
    assert!(
        complaints.is_empty(),
        "{} of {} cases are not as they should be:\n\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
    Ok(())
}

struct Programs {
    peer: PathBuf,
    /// Missing only on request, while there is nothing to compare with yet.
    ours: Option<PathBuf>,
}

impl Programs {
    fn new() -> Self {
        let peer_only = env::var_os("DIFFERENTIAL_PEER").is_some();
        Self {
            peer: tests::peer::peer_kubeseal(),
            ours: (!peer_only).then(tests::binaries::kubeseal),
        }
    }
}

struct Verdict {
    peer: Outcome,
    ours: Option<Outcome>,
    complaints: Vec<String>,
}

fn verdict(
    case: &Case,
    programs: &Programs,
    fixtures: &Fixtures,
    differences: &Differences,
) -> Result<Verdict> {
    let prepared = Prepared::new(case, fixtures)?;
    let opener = Opener {
        peer: &fixtures.peer,
        keys: &fixtures.keys,
        labels: &case.labels,
    };
    let peer = Outcome::new(&prepared.run(&programs.peer, Limit::OfTheCase)?, &opener);
    let ours = match &programs.ours {
        Some(program) => Some(Outcome::new(
            &prepared.run(program, Limit::Generous)?,
            &opener,
        )),
        None => None,
    };
    let complaints = match (differences.of(&case.name), &ours) {
        (Some(difference), Some(ours)) => difference.complaints(&peer, ours),
        (Some(difference), None) => difference.peer_complaints(&peer),
        (None, Some(ours)) => compare::disagreements(&differences.rewritten(&peer), ours),
        (None, None) => Vec::new(),
    };
    Ok(Verdict {
        peer,
        ours,
        complaints,
    })
}

impl Verdict {
    fn complaint(&self, case: &Case) -> Option<String> {
        (!self.complaints.is_empty()).then(|| {
            let complaints = self.complaints.join(
                "
  - ",
            );
            format!(
                "{}
  - {complaints}
{}",
                case.title(),
                self.transcript()
            )
        })
    }

    fn transcript(&self) -> String {
        match &self.ours {
            Some(ours) => format!("the peer: {}ours: {ours}", self.peer),
            None => self.peer.to_string(),
        }
    }
}

fn print(cases: &[Case], verdicts: &[Verdict]) {
    let Some(wanted) = env::var("DIFFERENTIAL_PRINT").ok() else {
        return;
    };
    for (case, verdict) in cases.iter().zip(verdicts) {
        if wanted == "1" || case.name.contains(&wanted) {
            println!("{}\n{}", case.title(), verdict.transcript());
        }
    }
}
