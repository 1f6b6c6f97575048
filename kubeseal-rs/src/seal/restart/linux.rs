//! Runs `seal restart`, and writes its log to stderr.

use std::time::Duration;

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;
use lease::{Election, LONGEST_LEASE, Pod};
use restart::run::Settings;
use shared::names;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{LogFormat, Restart};
use crate::failure::Failure;
use crate::seal::Outcome;

/// The shortest lease duration: the leader renews the Lease several times within it.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// Runs until a signal asks the process to stop.
///
/// # Errors
///
/// Fails if the arguments are invalid, the cluster is not known or the address is in use.
pub fn run(args: &Restart, environment: &Environment) -> Result<Outcome> {
    check_names(args)?;
    let settings = settings(args, environment)?;
    start_log(args);
    restart::run::run(settings)?;
    Ok(Outcome::Done)
}

/// Checks names that become part of request paths.
fn check_names(args: &Restart) -> Result<()> {
    for namespace in args.namespaces.iter().chain(&args.lease_namespace) {
        names::check_namespace(namespace)?;
    }
    names::check_object(&args.lease_name)?;
    Ok(())
}

fn settings(args: &Restart, environment: &Environment) -> Result<Settings> {
    let kubeconfig = environment.nonempty_variable("SEALED_SECRETS_KUBECONFIG");
    let context = environment.nonempty_variable("SEALED_SECRETS_CONTEXT");
    Ok(Settings {
        kubeconfig: args
            .cluster
            .kubeconfig
            .clone()
            .or(kubeconfig.map(Into::into)),
        context: args.cluster.context.clone().or(context),
        namespaces: args.namespaces.clone(),
        max_rollouts: args.max_rollouts.into(),
        refresh_rate: args.refresh_rate,
        with_reloader: args.with_reloader,
        listen: args.listen,
        lease_namespace: args.lease_namespace.clone(),
        election: election(args)?,
        pod: Pod::from_variables(|name| environment.variable(name)),
    })
}

/// Returns the election, with the ratios of the defaults of client-go: 15 s, 10 s and 2 s.
fn election(args: &Restart) -> Result<Election> {
    let lease_duration = Duration::try_from(args.lease_duration).unwrap_or_default();
    if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&lease_duration) {
        bail!(Failure::new("--lease-duration must be between 3s and 1h"));
    }
    Ok(Election {
        enabled: args.leader_elect,
        lease_name: args.lease_name.clone(),
        lease_duration,
        renew_deadline: lease_duration.mul_f64(2.0 / 3.0),
        retry_period: lease_duration.mul_f64(2.0 / 15.0),
    })
}

/// Logs only events of this project, because libraries log connections. Does nothing if the process already has a log.
fn start_log(args: &Restart) {
    let level = if args.verbose {
        Level::DEBUG
    } else {
        Level::INFO
    };
    let filter = Targets::new()
        .with_target("restart", level)
        .with_target("lease", level)
        .with_target("probes", level);
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    let layer = match args.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    let _ = tracing::subscriber::set_global_default(subscriber);
}
