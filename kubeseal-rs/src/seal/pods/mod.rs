//! `seal pods`: shows which Pods have which version of a Secret.
//!
//! Reads SealedSecrets, Pods and workloads, but neither Secrets nor values: a version is determined by the status of
//! the SealedSecret and the time at which a container started.

mod json;
mod read;
mod table;

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use jiff::SignedDuration;
use kubeseal_library::cluster::{Clusters, Objects};
use kubeseal_library::environment::Environment;
use kubeseal_library::kubeconfig;
use restart::survey::{Row, Verdict};

use super::{Outcome, keys, output, print};
use crate::failure::Failure;
use crate::report;
use crate::seal_args::{Cluster, Controller, KeyLocation, OutputFormat};
use read::Scope;

/// Time between two surveys with `--wait`.
const POLL: Duration = Duration::from_secs(2);

/// Arguments of `seal pods`.
#[derive(Debug, Args)]
#[command(
    after_help = "A variable and a file mounted by subPath have the value from the start of their container. A file in a \
volume has the newest value two minutes after a change at the latest. Without a version in the status of the SealedSecret, \
and for changes before the first version, the answer is `unknown`.\n\n\
Exit code 1 means that a container has an earlier value. Needs `list` on SealedSecrets, Pods and workloads.\n\n\
Examples:\n  seal pods db -n shop\n  seal pods -A -o json\n  seal pods db -n shop --wait --timeout 10m"
)]
pub struct Pods {
    /// SealedSecret to show; all of the namespace if not given
    pub name: Option<String>,
    /// Namespace; that of the context if not given
    #[arg(long, short, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Show all namespaces
    #[arg(long, short = 'A', conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Wait until no container has an earlier value
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "wait", value_parser = flags::parse_duration)]
    pub timeout: SignedDuration,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// The cluster to use.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Runs the command. Returns findings if a container has an earlier value.
///
/// # Errors
///
/// Fails if objects cannot be read, or the SealedSecret does not exist.
pub fn run(args: &Pods, environment: &Environment) -> Result<Outcome> {
    let location = KeyLocation {
        directory: None,
        cluster: args.cluster.clone(),
        controller: Controller::default(),
    };
    let access = keys::access(&location, environment);
    let objects = Objects::connect(&access, &Clusters::new(environment))?;
    let scope = scope(args, environment)?;
    let rows = survey(args, &objects, &scope, environment)?;
    let rows = rows.into_iter().collect::<Vec<_>>();
    match args.output {
        OutputFormat::Text => {
            print(table::text(&rows, args.all_namespaces, environment.now).as_bytes())?
        }
        OutputFormat::Json => print(&output::json(&json::PodsReport::new(&rows))?)?,
    };
    Ok(if rows.iter().any(is_stale) {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

fn scope(args: &Pods, environment: &Environment) -> Result<Scope> {
    if args.all_namespaces {
        return Ok(Scope::All);
    }
    let choice = kubeconfig::Choice {
        file: args.cluster.kubeconfig.clone(),
        context: args.cluster.context.clone(),
    };
    let namespace = match &args.namespace {
        Some(namespace) => Some(namespace.clone()),
        None => kubeconfig::namespace(&choice, environment)?,
    };
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    Ok(match &args.name {
        Some(name) => Scope::Object {
            namespace,
            name: name.clone(),
        },
        None => Scope::Namespace(namespace),
    })
}

/// Returns the rows. With `--wait`, repeats the survey until no row is stale or the time limit is reached.
fn survey(
    args: &Pods,
    objects: &Objects,
    scope: &Scope,
    environment: &Environment,
) -> Result<BTreeSet<Row>> {
    let limit = Duration::try_from(args.timeout).unwrap_or_default();
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        let elapsed = SignedDuration::try_from(waited).unwrap_or_default();
        let now = environment
            .now
            .checked_add(elapsed)
            .unwrap_or(environment.now);
        let rows = read::rows(objects, scope, now)?;
        let stale = rows.iter().filter(|row| is_stale(row)).count();
        if !args.wait || stale == 0 || waited >= limit {
            return Ok(rows);
        }
        if (environment.is_interrupted)() {
            bail!(Failure::new(
                "interrupted while containers had an earlier value"
            ));
        }
        if let Some(status_line) = environment.status_line {
            status_line(&format!("waiting for {stale} containers"));
        }
        sleep(POLL.min(limit.saturating_sub(waited)));
        if environment.status_line.is_some() {
            report::status_line("");
        }
    }
}

fn is_stale(row: &Row) -> bool {
    matches!(row.verdict, Verdict::Stale(_))
}
