//! `seal keys restore`: restores keys from a backup to a cluster or directory, as opening-only unless the user
//! selects one for sealing.
//!
//! | module | does |
//! |---|---|
//! | `plan`, `v2` | plan the step for every key before the first is written |
//! | `outcome` | the outcome for a key of either kind |
//! | `report`, `json` | format the result as text and as JSON |

mod json;
mod outcome;
mod plan;
mod report;
mod v2;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::keys::signature::{self, VerifiedSigner};
use kubeseal_library::keys::signers::Signers;
use kubeseal_library::keys::store::{Change, NewKey, RestoreOutcome};
use kubeseal_library::keys::{self, KeyStore};
use shared::key::Fingerprint;
use shared::resource::OPENING_ONLY_ANNOTATION;
use shared::v2::AnyKeyId;

use self::outcome::Row;
use self::plan::{Action, Plan};
use super::{info, open_store, warn};
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
of the backup, check that its fingerprint matches a certificate that you trust (seal cert show cert.pem), or that its \
identifier matches a line of `seal keys export` that you trust, and pass it with --seal-with. Bitnami's controller ignores the `opening-only` mark and seals with the newest key, \
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
    /// Use the key with this fingerprint, or identifier of a v2 key, for sealing; all other restored keys are
    /// opening-only; repeatable
    #[arg(long, value_name = "FINGERPRINT")]
    pub seal_with: Vec<ChosenKey>,
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
    /// The identities and passphrase that decrypt backups.
    #[command(flatten)]
    pub decryption: DecryptionArgs,
    /// The cluster or directory to restore keys to.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// A key that the user selects for sealing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChosenKey {
    /// An RSA key.
    Rsa(Fingerprint),
    /// A key that is only for v2.
    V2(AnyKeyId),
}

/// The string is neither a fingerprint nor the identifier of a v2 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a fingerprint, which begins with `SHA256:`, or the identifier of a v2 key, 22 or 43 characters of base64url"
)]
pub struct MalformedChoice;

impl FromStr for ChosenKey {
    type Err = MalformedChoice;

    fn from_str(text: &str) -> Result<Self, MalformedChoice> {
        let rsa = text.parse().map(Self::Rsa).ok();
        let v2 = || text.parse().map(Self::V2).ok();
        rsa.or_else(v2).ok_or(MalformedChoice)
    }
}

/// The verified signer, if a signature was required.
type SignedBy<'a> = Option<&'a VerifiedSigner>;

/// The plans for all Secrets of a backup.
struct Plans<'a> {
    rsa: Plan<'a>,
    v2: v2::Plan<'a>,
}

impl Plans<'_> {
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let rsa = self.rsa.steps.iter().map(Row::from_rsa_step);
        rsa.chain(self.v2.rows())
    }
}

/// Restores keys from a backup. The only change to existing Secrets is that the opening-only mark is removed from the
/// keys of `--seal-with`. The outcome is [`Outcome::Findings`] if a key in the backup cannot be used.
///
/// # Errors
///
/// Fails before any change if the backup cannot be decrypted or does not consist of key Secrets, if `--verify` is set
/// and no allowed signer signed it, if a key of `--seal-with` is not in the backup or cannot seal, or if another object
/// has the name or the file of a key. If storing fails halfway, the error names the key; the command can be run again.
pub fn run(args: &KeysRestore, environment: &Environment) -> Result<Outcome> {
    let path = &args.backup;
    if path.is_dir() {
        let message = format!("{} is a directory, but a backup is a file", path.shown());
        bail!(Failure::new(message).hint(
            "pass the files in it one at a time, or copy them to the directory `keys` of the new controller"
        ));
    }
    let bytes = files::read(path)?;
    let signed = args
        .verify
        .as_deref()
        .map(|signers| verify(args, signers, &bytes, environment.now));
    let signed = signed.transpose()?;
    let mut decryption = decryption::read(&args.decryption, environment)?;
    let backup = decryption::parse_backup(path, bytes, &mut decryption)?;
    if !backup.pem_keys.is_empty() || !backup.lines.is_empty() {
        let what = if backup.pem_keys.is_empty() {
            "v2 keys without their validity"
        } else {
            "PEM keys without certificates"
        };
        let message = format!(
            "{} contains {what}, which cannot be restored as key Secrets",
            path.shown()
        );
        bail!(
            Failure::new(message)
                .hint("unseal files with these keys: `kubeseal --recovery-unseal`")
        );
    }
    let store = open_store(&args.location, &Clusters::new(environment))?;
    let (existing, existing_v2) = (store.read()?, store.read_v2()?);
    let (v2_secrets, secrets) = backup.secrets.into_iter().partition(keys::v2::is_v2);
    let (chosen, chosen_v2) = chosen(&args.seal_with)?;
    let now = environment.now;
    let plans = Plans {
        v2: v2::Plan::new(v2_secrets, &existing, &existing_v2, &chosen_v2, now)?,
        rsa: Plan::new(secrets, &existing, chosen, now)?,
    };
    for step in &plans.rsa.steps {
        if let (Action::Put(_), Some(name)) = (&step.action, step.stored_name()) {
            store.check_new_key_name(name, NewKey::Rsa(step.fingerprint.as_ref()))?;
        }
    }
    plans.v2.check_new_key_names(&store)?;
    if !args.dry_run {
        execute(&store, &plans.rsa)?;
        plans.v2.execute(&store)?;
    }
    print_result(args, &plans, &store, signed.as_ref())
}

/// Returns the RSA key and the v2 keys of `--seal-with`. Refuses two different RSA keys: only one seals at a time.
fn chosen(keys: &[ChosenKey]) -> Result<(Option<&Fingerprint>, Vec<AnyKeyId>)> {
    let (mut rsa, mut v2) = (None, Vec::new());
    for key in keys {
        match key {
            ChosenKey::V2(id) => v2.push(*id),
            ChosenKey::Rsa(key) if rsa.is_none_or(|chosen| chosen == key) => rsa = Some(key),
            ChosenKey::Rsa(_) => {
                bail!(
                    "--seal-with names two RSA keys, but only the newest would seal\nhint: name only the newest RSA key"
                )
            }
        }
    }
    Ok((rsa, v2))
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
                    .hint("if the signature is in another file, pass --signature FILE"),
            )
        } else {
            error.context("cannot read the signature")
        }
    })?;
    let signed = signature::verify(archive, &signature, &allowed, now);
    signed.with_context(|| path.shown())
}

fn execute(store: &KeyStore, plan: &Plan<'_>) -> Result<()> {
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
            Action::AllowSealing(records) => {
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
    plans: &Plans<'_>,
    store: &KeyStore,
    signed: SignedBy<'_>,
) -> Result<Outcome> {
    match args.output {
        OutputFormat::Text => {
            for line in report::lines(plans, &store.location(), args.dry_run, signed) {
                info(&line);
            }
        }
        OutputFormat::Json => {
            let location = store.location();
            let report = json::RestoreReport::new(plans, &location, args.dry_run, signed);
            print(&output::json(&report)?)?;
        }
    }
    for line in report::warnings(plans) {
        warn(&line);
    }
    Ok(if plans.rows().any(|row| row.is_broken()) {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}
