//! `seal pods`: shows which Pods have which version of a Secret.
//!
//! Reads SealedSecrets, Pods and workloads, but neither Secrets nor values. A version is determined by the status of
//! the SealedSecret, and by the time at which a container started, the record of the CSI driver, or what `seal agent`
//! and `seal exec` report in their log.

mod failed;
mod json;
mod read;
mod receivers;
mod reports;
mod table;
mod timeout;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kubeseal_library::cluster::{Clusters, Objects};
use kubeseal_library::environment::Environment;
use kubeseal_library::kubeconfig;
use restart::survey::{Row, Verdict};

use super::{Outcome, keys, output, print};
use crate::failure::Failure;
use crate::report;
use crate::seal_args::{Cluster, Controller, KeyLocation, OutputFormat};
use read::{Scope, Survey};

/// Time between two surveys with `--wait`.
const POLL: Duration = Duration::from_secs(2);
/// The time for the first survey with `--wait`, if the time limit is shorter.
const FIRST_SURVEY: Duration = Duration::from_secs(5);

/// Arguments of `seal pods`.
#[derive(Debug, Args)]
#[command(
    after_help = "A variable and a file mounted by subPath have the value from the start of their container. A file in a volume \
has the newest value two minutes after a change at the latest. The Secrets Store CSI driver records which version it has \
mounted. `seal agent` logs the version that it wrote, and `seal exec` the version that its command started with. Without a \
version in the status of the SealedSecret, for changes before the first version, and without a report, the result is \
`unknown`: for example, while `seal exec` still waits for values, although its container is running.\n\n\
Exit code 1 means that a container has an earlier value, that the newest version of a SealedSecret could not be unsealed or, \
with `--wait`, that the controller has not reported on it. Needs `list` on SealedSecrets, Pods and workloads; if Pods have such volumes, on SecretProviderClasses and \
SecretProviderClassPodStatuses; if Pods run `seal agent` or `seal exec`, `get` on `pods/log`.\n\n\
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
    /// Wait until the newest versions are unsealed and no container has an earlier value
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, including the time for reading objects and logs
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "wait", value_parser = flags::parse_duration)]
    pub timeout: SignedDuration,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// The cluster to use.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Shows which containers have which version of a Secret. Returns [`Outcome::Findings`] if a container has an
/// earlier value or, with `--wait`, may have one, or if the newest version of a SealedSecret could not be unsealed. With
/// `--wait`, a container may have an earlier value if the controller has not reported on the newest version.
///
/// # Errors
///
/// Fails if objects cannot be read, if the SealedSecret does not exist, or if the user interrupts the wait.
pub fn run(args: &Pods, environment: &Environment) -> Result<Outcome> {
    let location = KeyLocation {
        directory: None,
        cluster: args.cluster.clone(),
        controller: Controller::default(),
    };
    let access = keys::access(&location, environment);
    let objects = Objects::connect(&access, &Clusters::new(environment))?;
    let scope = scope(args, environment)?;
    let survey = if args.wait {
        wait(args, &objects, &scope, environment)?
    } else {
        read::survey(&objects, &scope, environment.now)?
    };
    for note in &survey.notes {
        report::warn(note);
    }
    let is_report_missing = args.wait && !is_recorded(&survey);
    let rows = survey.rows.iter().cloned().collect::<Vec<_>>();
    match args.output {
        OutputFormat::Text => {
            print(table::text(&rows, args.all_namespaces, environment.now).as_bytes())?
        }
        OutputFormat::Json => print(&output::json(&json::PodsReport::new(&rows))?)?,
    };
    if args.wait {
        warn_about_timeout(&rows, &survey, args.timeout);
    }
    if let Some(warning) = failed::warning(&survey.failed) {
        report::warn(&warning);
    }
    let has_failed = !survey.failed.is_empty();
    Ok(
        if is_report_missing || has_failed || rows.iter().any(is_stale) {
            Outcome::Findings
        } else {
            Outcome::Done
        },
    )
}

/// Warns about stale containers and about versions that are not recorded. After the wait, such a result means that the
/// time limit was reached.
fn warn_about_timeout(rows: &[Row], survey: &Survey, limit: SignedDuration) {
    let unreported = timeout::unreported(&survey.unreported, limit);
    let unrecorded = survey.is_unrecorded.then(|| timeout::unrecorded(limit));
    let warnings = unreported.into_iter().chain(unrecorded);
    for warning in warnings.chain(timeout::warning(rows, limit)) {
        report::warn(&warning);
    }
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

/// Repeats the survey until no row is stale and the controller has unsealed and recorded every change, or until the time
/// limit is reached. Returns the last complete survey.
///
/// # Errors
///
/// Fails if the user interrupts the command, or if the first survey is not complete at the time limit.
fn wait(
    args: &Pods,
    objects: &Objects,
    scope: &Scope,
    environment: &Environment,
) -> Result<Survey> {
    let limit = Duration::try_from(args.timeout).unwrap_or_default();
    let start = Instant::now();
    let first = objects.until(start + limit.max(FIRST_SURVEY));
    let objects = objects.until(start + limit);
    let first = read::survey_in_time(&first, scope, environment.now)?;
    let mut survey = first.ok_or_else(|| not_read(limit))?;
    while !is_complete(&survey) && start.elapsed() < limit {
        if (environment.is_interrupted)() {
            bail!(Failure::new(
                "interrupted before all containers had the newest values"
            ));
        }
        if let Some(status_line) = environment.status_line {
            status_line(&waiting_for(stale_count(&survey)));
        }
        sleep(POLL.min(limit.saturating_sub(start.elapsed())));
        if environment.status_line.is_some() {
            report::status_line("");
        }
        let now = time_after(environment.now, start.elapsed());
        match read::survey_in_time(&objects, scope, now)? {
            Some(newer) => survey = newer,
            None => break,
        }
    }
    Ok(survey)
}

fn is_complete(survey: &Survey) -> bool {
    stale_count(survey) == 0 && is_recorded(survey) && survey.failed.is_empty()
}

/// Returns whether the controller has reported on the newest version of every SealedSecret.
fn is_recorded(survey: &Survey) -> bool {
    !survey.is_unrecorded && survey.unreported.is_empty()
}

fn stale_count(survey: &Survey) -> usize {
    survey.rows.iter().filter(|row| is_stale(row)).count()
}

fn time_after(start: Timestamp, elapsed: Duration) -> Timestamp {
    let elapsed = SignedDuration::try_from(elapsed).unwrap_or_default();
    start.checked_add(elapsed).unwrap_or(start)
}

fn not_read(limit: Duration) -> Failure {
    let limit = SignedDuration::try_from(limit.max(FIRST_SURVEY)).unwrap_or_default();
    Failure::new(format!(
        "timed out after {limit:#}: the API server did not return all objects and logs in this time, so no state is known"
    ))
    .hint("pass a longer --timeout, or a namespace instead of --all-namespaces")
}

fn waiting_for(stale: usize) -> String {
    match stale {
        0 => "waiting for the controller".to_owned(),
        1 => "waiting for 1 container".to_owned(),
        _ => format!("waiting for {stale} containers"),
    }
}

fn is_stale(row: &Row) -> bool {
    matches!(row.verdict, Verdict::Stale(_))
}
