//! `seal doctor`: checks each step from the kubeconfig to the items of a file. If a step fails, the steps that depend
//! on it are skipped.
//!
//! | module | checks |
//! |---|---|
//! | `connection` | kubeconfig, API server, CRD, Service; or the directory |
//! | `controller` | the controller behind the Service, and its certificate |
//! | `keys` | key Secrets, if the user may read them |
//! | `object` | whether the SealedSecrets in a file can be unsealed |
//! | `item` | why an item cannot be unsealed |
//! | `rollback` | the objects that Bitnami's controller could not unseal, or would create a Secret for |
//! | `templates` | whether the templates of a SealedSecret render |
//! | `findings` | nothing; it formats the findings of the other modules |
//!
//! `doctor` sends the controller each object only under its own name and namespace: the responses to copies with other
//! names would reveal the name and namespace that a value was sealed for, even to a user without keys. It tries other
//! names and namespaces locally, with keys that the user has. The controller reports which items it can unseal only to
//! callers that may verify the object.

mod connection;
mod controller;
mod findings;
mod item;
mod keys;
mod object;
mod rollback;
mod templates;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::{record, v2};
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::{Rule, Source};
use shared::error_chain;
use shared::key_ring::KeyRing;

use super::keys::authorized;
use super::session::Session;
use super::settings::Origin;
use super::{Outcome, decryption, output, print};
use crate::seal_args::{DecryptionArgs, KeyLocation, OutputFormat, Sealing, TlsPort};
use findings::{Finding, Findings};
use keys::StoredKeys;

/// Arguments of `seal doctor`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Other names and namespaces are tried only with keys that you have: those of --backup, and the key \
Secrets if you may read them. The controller receives each object only under its own name and namespace; with \
--authorized it reports the result for each item to callers whose token has the verb `verify` on the object.\n\n\
With --rollback, FILE may be a directory; without it, the objects of the cluster or of --directory are counted.\n\n\
Examples:\n  seal doctor db.sealed.yaml --offline --backup key.pem\n  seal doctor --rollback prod/"
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
    /// Namespace for objects without one
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Try the keys in this backup: an age archive, manifests, PEM, or v2 keys, one per line; repeatable
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
    /// Count the objects that would stop working or get a Secret under Bitnami's controller, and check nothing else
    #[arg(long, conflicts_with_all = ["offline", "backups", "authorized", "try_namespace", "try_name"])]
    pub rollback: bool,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// The identities and passphrase that decrypt backups.
    #[command(flatten)]
    pub decryption: DecryptionArgs,
    /// How to reach the controller's TLS port.
    #[command(flatten)]
    pub tls_port: TlsPort,
    /// The cluster or directory with the keys. The rule for the file provides the context and the controller if they
    /// are not given.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Checks each step from the kubeconfig to the items of a file. With `--rollback`, checks only the objects, before a
/// switch to Bitnami's controller. Returns [`Outcome::Findings`] if a step failed.
///
/// # Errors
///
/// Fails if a file in the arguments cannot be read or contains no SealedSecret or key, if the arguments name the TLS
/// port and it cannot be used, or if the objects for `--rollback` cannot be listed.
pub fn run(args: &Doctor, environment: &Environment) -> Result<Outcome> {
    let mut findings = Findings::default();
    let version = format!("version {}", env!("CARGO_PKG_VERSION"));
    findings.add("seal", Finding::good(version));
    let clusters = Clusters::new(environment);
    if args.rollback {
        rollback::check(args, &clusters, &mut findings)?;
        return print_findings(args, &findings);
    }
    let mut connection = connection::Connection::default();
    if !args.offline {
        // A rule must not choose which server receives a token: the TLS port below depends on the arguments alone, and
        // `connection::check` receives whether a rule chose the controller.
        let (args, is_by_rule) = with_rule(args, environment, &mut findings);
        connection = connection::check(&args, is_by_rule, &clusters, &mut findings);
    }
    if let Some(file) = &args.file {
        connection.authorized = authorized(&args.tls_port, &args.location, &clusters)?;
        let keys = key_ring(args, &clusters, &connection.stored)?;
        object::check(args, file, &keys, &connection, environment, &mut findings)?;
    }
    print_findings(args, &findings)
}

fn print_findings(args: &Doctor, findings: &Findings) -> Result<Outcome> {
    match args.output {
        OutputFormat::Text => print(findings.text().as_bytes())?,
        OutputFormat::Json => print(&output::json(findings)?)?,
    };
    Ok(if findings.is_bad() {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

/// Fills in the controller of the rule that applies to the file, unless flags name a controller. Returns the arguments,
/// and whether the rule names a controller that the user did not name. Adds a finding if the rule names the controller
/// or the certificate, or if the settings for the file cannot be determined.
fn with_rule(args: &Doctor, environment: &Environment, findings: &mut Findings) -> (Doctor, bool) {
    let mut args = args.clone();
    let location = &mut args.location;
    let (Some(file), None) = (&args.file, &location.directory) else {
        return (args, false);
    };
    let sealing = Sealing {
        cluster: location.cluster.clone(),
        controller: location.controller.clone(),
        ..Sealing::default()
    };
    let session = Session::new(&sealing, environment);
    let settings = match session.settings(file) {
        Ok(settings) => settings,
        Err(error) => {
            let why = error_chain(error.as_ref());
            findings.add(
                "rules",
                Finding::bad(
                    why,
                    "correct .seal.yaml; `seal config explain FILE` shows the rule",
                ),
            );
            return (args, false);
        }
    };
    let rule = settings
        .rule
        .as_ref()
        .filter(|_| settings.certificate.by == Origin::Rule);
    let Some(rule) = rule.map(Rule::describe) else {
        return (args, false);
    };
    let mut is_by_rule = false;
    let finding = match &settings.certificate.value {
        Source::Controller {
            context,
            name,
            namespace,
        } => {
            is_by_rule = !session.is_named_by_user(&settings.certificate.value);
            for (flag, by_rule) in [
                (&mut location.cluster.context, context),
                (&mut location.controller.name, name),
                (&mut location.controller.namespace, namespace),
            ] {
                *flag = flag.take().or_else(|| by_rule.clone());
            }
            Finding::good(format!("{rule} names the controller"))
        }
        Source::At(source) => match session.certificate(&settings) {
            Ok(certificate) => {
                let (source, fingerprint) = (redacted_source(source), certificate.fingerprint());
                Finding::good(format!(
                    "{rule} names the certificate {source}, {fingerprint}"
                ))
            }
            Err(error) => Finding::bad(
                error_chain(error.as_ref()),
                "no new value can be sealed: fetch the current certificate",
            ),
        },
    };
    findings.add("rules", finding);
    (args, is_by_rule)
}

fn key_ring(args: &Doctor, clusters: &Clusters<'_>, stored: &StoredKeys) -> Result<KeyRing> {
    let ring = if args.backups.is_empty() {
        record::ring(&stored.rsa)
    } else {
        decryption::ring(
            &stored.rsa,
            &args.backups,
            &args.decryption,
            clusters.environment,
        )?
    };
    Ok(v2::add_to_ring(ring, &stored.v2))
}
