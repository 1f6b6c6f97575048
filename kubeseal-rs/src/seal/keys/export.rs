//! `seal keys export`: prints the public keys for v2 values.

use anyhow::{Result, bail};
use clap::Args;
use kubeseal_library::cluster::{Clusters, Controller};
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::v2;
use kubeseal_library::recipients::{self, RecipientKey};
use shared::key_marks::KeyState;

use super::{access, info, store};
use crate::failure::Failure;
use crate::seal::{Outcome, print};
use crate::seal_args::KeyLocation;

/// Arguments of `seal keys export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the key that the controller prefers for v2 values as a line `seal2-recipient …`, or its certificate if the key is
RSA. Put the output in a file, check it with the administrator of the cluster, and list the file under `recipients` in
.seal.yaml. With --directory, prints the sealing key of each suite.

Examples:
  seal keys export --directory v2-state
  seal keys export --directory v2-state --comment 'production cluster'")]
pub struct KeysExport {
    /// Comment at the end of each line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub comment: String,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the keys cannot be read, or there is none.
pub fn run(args: &KeysExport, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let keys = if args.location.directory.is_some() {
        in_directory(args, &clusters)?
    } else {
        vec![in_cluster(args, &clusters)?]
    };
    let lines: Vec<String> = keys
        .into_iter()
        .map(|key| line(key, &args.comment))
        .collect();
    print(lines.concat().as_bytes())
}

fn in_cluster(args: &KeysExport, clusters: &Clusters<'_>) -> Result<RecipientKey> {
    let access = access(&args.location, clusters.environment);
    let list = Controller::find(&access, clusters)?.recipients()?;
    Ok(recipients::from_list(&list, clusters.environment.now)?)
}

fn in_directory(args: &KeysExport, clusters: &Clusters<'_>) -> Result<Vec<RecipientKey>> {
    let store = store(&args.location, clusters)?;
    let records = store.read_v2()?;
    let mut keys = Vec::new();
    for (record, state) in records.iter().zip(v2::states(&records)) {
        match &record.key {
            Ok(key) if state == KeyState::Sealing => {
                keys.push(RecipientKey::Line(key.recipient().clone().into()));
            }
            Ok(_) => {}
            Err(problem) => info(&format!("{} is broken: {problem}", record.name())),
        }
    }
    if keys.is_empty() {
        bail!(
            Failure::new(format!("no v2 key in {}", store.location())).hint(
                "the controller generates one with --sealing-suite=xw; RSA keys need no line: list their certificate"
            )
        );
    }
    Ok(keys)
}

fn line(key: RecipientKey, comment: &str) -> String {
    match key {
        RecipientKey::Certificate(certificate) => certificate.to_pem(),
        RecipientKey::Line(mut line) => {
            comment.clone_into(&mut line.comment);
            format!("{line}\n")
        }
    }
}
