//! The Go peer's `kubeseal` and ours, given the same inputs.
//!
//! `DIFFERENTIAL_PRINT=1` prints what the peer does on every case.

mod cases;
mod fixtures;
mod kind;
mod opened;
mod outcome;
mod run;
mod web;

use std::{
    env,
    fmt::Write,
    num::NonZero,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, Result, anyhow};

use cases::Case;
use fixtures::Fixtures;
use opened::Opener;
use outcome::Outcome;
use run::Prepared;

#[test]
fn agrees_with_the_peer_except_where_the_table_says_so() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let cases = cases::load(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/differential"
    )))?;
    let peer = tests::peer::peer_kubeseal();
    let outcomes = in_parallel(&cases, |case| {
        let prepared = Prepared::new(case, &fixtures).with_context(|| case.name.clone())?;
        observed(case, &prepared, &fixtures, &peer).with_context(|| case.name.clone())
    })?;
    let mut transcript = String::new();
    for (case, outcome) in cases.iter().zip(&outcomes) {
        writeln!(
            transcript,
            "## {}\n$ kubeseal {}\n{outcome}",
            case.name,
            case.args.as_deref().unwrap_or_default()
        )?;
    }
    if env::var_os("DIFFERENTIAL_PRINT").is_some() {
        println!("{transcript}");
    }
    Ok(())
}

/// The results of the task, in the order of the cases.
fn in_parallel<R: Send>(
    cases: &[Case],
    task: impl Fn(&Case) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((index, case)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            cases.get(index).map(|case| (index, case))
        } {
            done.push((index, task(case)?));
        }
        anyhow::Ok(done)
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut results = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut results = Vec::new();
        for worker in workers {
            results.extend(worker.join().map_err(|_| anyhow!("a worker panicked"))??);
        }
        anyhow::Ok(results)
    })?;
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

fn observed(
    case: &Case,
    prepared: &Prepared,
    fixtures: &Fixtures,
    program: &Path,
) -> Result<Outcome> {
    let opener = Opener {
        peer: &fixtures.peer,
        keys: &fixtures.keys,
        labels: &case.labels,
    };
    Ok(Outcome::new(&prepared.run(program)?, &opener))
}
