//! `seal doctor`: checks each step from the kubeconfig to the items of a file, up to the first failure.
//!
//! | module | checks |
//! |---|---|
//! | [`connection`] | kubeconfig, API server, Service; or the folder |
//! | [`controller`] | the controller behind the Service, and its certificate |
//! | [`keys`] | key Secrets, if the user may read them |
//! | [`object`] | whether the SealedSecrets of a file can be unsealed |
//! | [`item`] | why an item cannot be unsealed |
//! | [`findings`] | nothing; it prints the findings of the others |
//!
//! `doctor` sends the controller only the unmodified file: answers about modified copies would show every client
//! which place a value was sealed for. It tries other places locally, with keys that the user has. The controller
//! reports which items it can unseal only to callers that may verify the object.

mod connection;
mod controller;
mod findings;
mod item;
mod keys;
mod object;
mod templates;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::{KeyRecord, record};
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::{Rule, Source};
use shared::error_chain;
use shared::key_ring::KeyRing;

use super::keys::authorized;
use super::session::Session;
use super::settings::Origin;
use super::{Outcome, opening, print};
use crate::seal_args::{Asking, Form, Opening, Place, Sealing};
use findings::{Findings, Found};

/// Arguments of `seal doctor`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Other names and namespaces are tried only with keys that you have: those of --backup, or the key \
Secrets if you may read them. The controller only gets the unmodified file; with --authorized it reports the \
result for each item to callers that may verify the object.\n\n\
Examples:\n  seal doctor db.sealed.yaml --offline --backup key.pem"
)]
pub struct Doctor {
    /// File with SealedSecrets that cannot be unsealed
    pub file: Option<PathBuf>,
    /// Also try this namespace; repeatable
    #[arg(long, value_name = "NAME")]
    pub try_namespace: Vec<String>,
    /// Also try this name; repeatable
    #[arg(long, value_name = "NAME")]
    pub try_name: Vec<String>,
    /// Namespace of objects that name none
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Try the keys of this backup: an age archive, manifests or PEM; repeatable
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// Contact no cluster and no controller: use the keys of --backup alone
    #[arg(
        long,
        requires = "file",
        requires = "backups",
        conflicts_with = "authorized"
    )]
    pub offline: bool,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Form,
    /// How to decrypt backups.
    #[command(flatten)]
    pub opening: Opening,
    /// How to reach the controller's TLS port.
    #[command(flatten)]
    pub asking: Asking,
    /// The cluster or folder with the keys. Missing options come from the rule of `.seal.yaml` for the file.
    #[command(flatten)]
    pub place: Place,
}

/// Runs the command. Returns findings if a step failed.
///
/// # Errors
///
/// A file that was named cannot be read.
pub fn run(args: &Doctor, environment: &Environment) -> Result<Outcome> {
    let mut findings = Findings::default();
    let version = format!("version {}", env!("CARGO_PKG_VERSION"));
    findings.add("seal", Found::good(version));
    let clusters = Clusters::new(environment);
    let mut connection = connection::Connection::default();
    if !args.offline {
        // A rule must not choose which server receives a token: `--authorized` follows the arguments alone.
        let args = &under_rule(args, environment, &mut findings);
        connection = connection::check(args, &clusters, &mut findings);
    }
    if let Some(file) = &args.file {
        connection.authorized = authorized(&args.asking, &args.place, &clusters)?;
        let keys = key_ring(args, environment, &connection.records)?;
        object::check(args, file, &keys, &connection, environment, &mut findings)?;
    }
    match args.output {
        Form::Text => print(findings.text().as_bytes())?,
        Form::Json => print(&findings.json()?)?,
    };
    Ok(if findings.is_bad() {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

/// Returns the arguments with the controller that the rule of `.seal.yaml` for the file names, unless flags name one.
fn under_rule(args: &Doctor, environment: &Environment, findings: &mut Findings) -> Doctor {
    let mut args = args.clone();
    let place = &mut args.place;
    let (Some(file), None) = (&args.file, &place.directory) else {
        return args;
    };
    let sealing = Sealing {
        cluster: place.cluster.clone(),
        controller: place.controller.clone(),
        ..Sealing::default()
    };
    let session = Session::new(&sealing, environment);
    let settings = match session.settings(file) {
        Ok(settings) => settings,
        Err(error) => {
            let why = error_chain(error.as_ref());
            findings.add(
                "rules",
                Found::bad(
                    why,
                    "correct .seal.yaml; `seal config explain FILE` shows the rule",
                ),
            );
            return args;
        }
    };
    let rule = settings
        .rule
        .as_ref()
        .filter(|_| settings.certificate.by == Origin::Rule);
    let Some(rule) = rule.map(Rule::describe) else {
        return args;
    };
    let found = match &settings.certificate.value {
        Source::Controller {
            context,
            name,
            namespace,
        } => {
            for (word, by_rule) in [
                (&mut place.cluster.context, context),
                (&mut place.controller.name, name),
                (&mut place.controller.namespace, namespace),
            ] {
                *word = word.take().or_else(|| by_rule.clone());
            }
            Found::good(format!("{rule} names the controller"))
        }
        Source::At(at) => match session.certificate(&settings) {
            Ok(certificate) => {
                let (at, found) = (redacted_source(at), certificate.fingerprint());
                Found::good(format!("{rule} names the certificate {at}, {found}"))
            }
            Err(error) => Found::bad(
                error_chain(error.as_ref()),
                "no new value can be sealed: fetch the current certificate",
            ),
        },
    };
    findings.add("rules", found);
    args
}

fn key_ring(args: &Doctor, environment: &Environment, records: &[KeyRecord]) -> Result<KeyRing> {
    if args.backups.is_empty() {
        return Ok(record::ring(records));
    }
    opening::ring(records, &args.backups, &args.opening, environment)
}
