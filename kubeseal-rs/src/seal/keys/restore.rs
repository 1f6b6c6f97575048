//! `seal keys restore`: restores keys from a backup to a cluster or directory, as opening-only unless the user
//! selects one for sealing.
//!
//! | module | does |
//! |---|---|
//! | `plan` | decides about every key before the first is written |
//! | `report`, `json` | format the result as text and as JSON |

mod json;
mod plan;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::keys::KeyStore;
use kubeseal_library::keys::signature::{self, VerifiedSigner};
use kubeseal_library::keys::signers::Signers;
use kubeseal_library::keys::store::{Change, RestoreOutcome};
use shared::key::Fingerprint;
use shared::resource::OPENING_ONLY_ANNOTATION;

use self::plan::{Action, Plan, Step};
use super::{info, store, warn};
use crate::failure::Failure;
use crate::report::ShowPath as _;
use crate::seal::{Outcome, decryption, output, print};
use crate::seal_args::{DecryptionArgs, KeyLocation, OutputFormat};

/// Arguments of `seal keys restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "BACKUP may also be the output of `kubectl get secret -n NAMESPACE -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml`.\n\n\
Restored keys are marked `opening-only`: they can unseal but do not seal, because a backup does not prove who created \
it, and the creator of a key can read everything that is sealed for it. A controller without another key generates one when it starts. To seal with a key \
of the backup, check that its fingerprint is that of a certificate that you trust (seal cert show cert.pem), and pass \
the fingerprint with --seal-with. Bitnami's controller ignores the `opening-only` mark and seals with the newest key, \
even a restored one.\n\n\
Only the key, its certificate and the annotations of this project's controller are restored; other labels and \
annotations are only listed.\n\n\
Exit codes: 0 success, 1 a key in the backup is unusable and was not restored, 2 failure or wrong usage.\n\n\
Examples:\n  seal keys restore keys.age --identity identity.txt --directory state\n  \
seal keys restore keys.age --identity identity.txt --directory state --dry-run -o json"
)]
pub struct KeysRestore {
    /// Backup to restore: an age archive, or manifests
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,
    /// Use the key with this fingerprint for sealing; all other restored keys are opening-only
    #[arg(long, value_name = "SHA256:…")]
    pub seal_with: Option<Fingerprint>,
    /// Restore only a backup signed by one of the allowed signers in this file (format of `ssh-keygen -Y verify`)
    #[arg(long, value_name = "FILE")]
    pub verify: Option<PathBuf>,
    /// File with the signature; BACKUP.sig if not given
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub signature: Option<PathBuf>,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// How to decrypt backups.
    #[command(flatten)]
    pub decryption: DecryptionArgs,
    /// The cluster or directory to restore keys to.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Runs the command. Existing Secrets are never changed, except that the opening-only mark is
/// removed from the key of `--seal-with`. The outcome is [`Outcome::Findings`] if a key in the backup cannot be used.
///
/// # Errors
///
/// Fails before any change if the backup cannot be decrypted or contains no key, if `--verify` is set and no
/// allowed signer signed it, or if another object has the name or the file of a key. If storing fails halfway,
/// the error names the key; the command can be run again.
pub fn run(args: &KeysRestore, environment: &Environment) -> Result<Outcome> {
    let path = &args.backup;
    if path.is_dir() {
        let message = format!("{} is a directory, but a backup is a file", path.shown());
        bail!(Failure::new(message).hint(
            "pass the files in it one at a time, or copy them to the keys directory of the other controller"
        ));
    }
    let bytes = files::read(path)?;
    let signed = args
        .verify
        .as_deref()
        .map(|signers| verify(args, signers, &bytes, environment.now));
    let signed = signed.transpose()?;
    let mut unlock = decryption::read(&args.decryption, environment)?;
    let backup = decryption::parse_backup(path, bytes, &mut unlock)?;
    if !backup.bare.is_empty() {
        let message = format!(
            "{} contains PEM keys without certificates, which cannot be restored as key Secrets",
            path.shown()
        );
        bail!(
            Failure::new(message).hint("`kubeseal --recovery-unseal` can unseal files with them")
        );
    }
    let store = store(&args.location, &Clusters::new(environment))?;
    let existing = store.read()?;
    let plan = Plan::new(
        backup.secrets,
        &existing,
        args.seal_with.as_ref(),
        environment.now,
    )?;
    for step in &plan.steps {
        if let (Action::Put(_), Some(name)) = (&step.action, step.stored_name()) {
            store.check_place(name)?;
        }
    }
    if !args.dry_run {
        carry_out(&store, &plan)?;
    }
    print_result(args, &plan, &store, signed.as_ref())
}

fn verify(
    args: &KeysRestore,
    signers: &Path,
    archive: &[u8],
    now: Timestamp,
) -> Result<VerifiedSigner> {
    let text = files::text(files::read(signers)?);
    let allowed = Signers::parse(&text).with_context(|| signers.shown())?;
    let path = match &args.signature {
        Some(path) => path.clone(),
        None => signature::default_path(&args.backup),
    };
    let signature = files::read(&path).map_err(|error| {
        let is_default = error.is_missing() && args.signature.is_none();
        let error = anyhow::Error::from(error);
        if is_default {
            error.context(
                Failure::new("no signature found")
                    .hint("if it is elsewhere, pass --signature FILE"),
            )
        } else {
            error.context("cannot read the signature")
        }
    })?;
    let signed = signature::verify(archive, &signature, &allowed, now);
    signed.with_context(|| path.shown())
}

fn carry_out(store: &KeyStore, plan: &Plan<'_>) -> Result<()> {
    for step in &plan.steps {
        let context = || {
            let name = &step.name;
            Failure::new(format!(
                "cannot restore {name}; the keys before it were restored"
            ))
            .hint("run the command again")
        };
        match &step.action {
            Action::Put(secret) => match store.put(secret).with_context(context)? {
                RestoreOutcome::Restored => {}
                RestoreOutcome::Existed => bail!(
                    Failure::new(format!("{} was created during this run", step.name))
                        .hint("run the command again")
                ),
            },
            Action::LetSeal(records) => {
                let change = Change {
                    annotations: vec![(OPENING_ONLY_ANNOTATION, None)],
                    ..Change::default()
                };
                for record in records {
                    store.change(record, &change).with_context(context)?;
                }
            }
            Action::Exists(_) | Action::Broken(_) => {}
        }
    }
    Ok(())
}

fn print_result(
    args: &KeysRestore,
    plan: &Plan<'_>,
    store: &KeyStore,
    signed: Option<&VerifiedSigner>,
) -> Result<Outcome> {
    match args.output {
        OutputFormat::Text => {
            for line in report::lines(plan, &store.location(), args.dry_run, signed) {
                info(&line);
            }
        }
        OutputFormat::Json => {
            let place = store.location();
            let report = json::RestoreReport::new(plan, &place, args.dry_run, signed);
            print(&output::json(&report)?)?;
        }
    }
    for line in report::warnings(plan) {
        warn(&line);
    }
    let is_broken = |step: &Step| matches!(step.action, Action::Broken(_));
    Ok(if plan.steps.iter().any(is_broken) {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}
