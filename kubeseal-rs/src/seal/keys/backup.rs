//! `seal keys backup`: writes every key Secret that can be read to an age archive, and marks the keys after reading the
//! archive back.

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::bounded::Kind;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::keys::archive::{self, ArchiveEncryption, ArchiveRecipient};
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::{KeyRecord, KeyStore, V2KeyRecord, signature};
use shared::key_marks::backed_up_text;
use shared::resource::BACKED_UP_ANNOTATION;
use shared::secret::Secret;

use super::{info, open_store, warn};
use crate::failure::Failure;
use crate::report::ShowPath as _;
use crate::seal::{Outcome, decryption, names};
use crate::seal_args::{DecryptionArgs, KeyLocation};

/// Arguments of `seal keys backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The program `age` decrypts the archive too: age -d -i identity.txt keys.age\n\n\
Anyone can encrypt an archive for a recipient; only a signature (--sign) shows who created it. If the signing \
key has a passphrase, or is in an SSH agent or on a hardware token, sign the archive afterwards: ssh-keygen -Y sign -n sealed-secrets-backup -f KEY keys.age\n\n\
Examples:\n  seal keys backup new.age --recipients-file recipients.txt --directory state\n  \
seal keys backup signed.age --recipients-file recipients.txt --sign id_ed25519 --directory state"
)]
pub struct KeysBackup {
    /// Archive to write
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// Encrypt for this age recipient, post-quantum (age1pq1…) or not; repeatable
    #[arg(long, short, value_name = "age1…", conflicts_with = "passphrase_file")]
    pub recipient: Vec<String>,
    /// Encrypt for the age recipients in this file, one per line
    #[arg(
        long,
        short = 'R',
        value_name = "FILE",
        conflicts_with = "passphrase_file"
    )]
    pub recipients_file: Vec<PathBuf>,
    /// Sign the archive with this OpenSSH private key and write ARCHIVE.sig
    #[arg(long, value_name = "FILE")]
    pub sign: Option<PathBuf>,
    /// Replace an existing archive and its signature
    #[arg(long)]
    pub force: bool,
    /// The identities and passphrase that decrypt the new archive, to check it.
    #[command(flatten)]
    pub decryption: DecryptionArgs,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Writes every readable key Secret to the archive, and marks the keys as backed up. The keys in the archive already
/// have this mark, so that a restored key counts as backed up.
///
/// # Errors
///
/// Fails before any key is marked if the archive or its signature cannot be written. If marking fails, the error names
/// the key that could not be marked, and the archive is kept.
pub fn run(args: &KeysBackup, environment: &Environment) -> Result<Outcome> {
    let store = open_store(&args.location, &Clusters::new(environment))?;
    let records = skip_unreadable(store.read()?);
    let v2_records = store.read_v2()?;
    if records.is_empty() && v2_records.is_empty() {
        bail!("no key in {} to back up", store.location());
    }
    check_outputs(args, &records, &v2_records)?;
    let signing = Signing::of(args)?;
    let mut decryption_keys = decryption::read(&args.decryption, environment)?;
    let encryption = archive_encryption(args, &mut decryption_keys)?;
    let marks: Vec<Option<Change>> = records
        .iter()
        .map(|record| mark(record, environment))
        .collect();
    let v2_marks: Vec<Option<Change>> = v2_records
        .iter()
        .map(|record| Some(mark_text(&record.key_id()?, environment)))
        .collect();
    let v1_secrets = records.iter().map(|record| &record.secret).zip(&marks);
    let v2_secrets = v2_records
        .iter()
        .map(|record| &record.secret)
        .zip(&v2_marks);
    let secrets: Vec<Secret> = v1_secrets.chain(v2_secrets).map(with_mark).collect();
    let plain = archive::manifests(secrets.iter());
    let archive_bytes = archive::write(
        &args.archive,
        &plain,
        &encryption,
        &decryption_keys,
        args.force,
    )?;
    signing.sign(&archive_bytes)?;
    warn_of_invalid_names(&secrets);
    let mut marked_count = set_marks(&store, &records, &marks)?;
    marked_count += set_v2_marks(&store, &v2_records, &v2_marks)?;
    info(&format!(
        "{} written and read back: {} of {}, {marked_count} marked as backed up",
        args.archive.shown(),
        key_count(secrets.len()),
        store.location(),
    ));
    Ok(Outcome::Done)
}

/// Refuses to replace a file that this run reads, such as the only copy of a key, and to write to a pipe or device.
fn check_outputs(
    args: &KeysBackup,
    records: &[KeyRecord],
    v2_records: &[V2KeyRecord],
) -> Result<()> {
    let decryption = &args.decryption;
    let keys = records.iter().filter_map(|record| record.file.as_ref());
    let v2_keys = v2_records.iter().filter_map(|record| record.file.as_ref());
    let keys = keys.chain(v2_keys);
    let credentials = decryption
        .identity
        .iter()
        .chain(&decryption.passphrase_file);
    let inputs = keys
        .chain(credentials)
        .chain(&args.recipients_file)
        .chain(&args.sign);
    let inputs = inputs.map(PathBuf::as_path);
    files::refuse_input_as_output(&args.archive, inputs.clone())?;
    files::check_regular(&args.archive)?;
    if args.sign.is_some() {
        let signature = signature::default_path(&args.archive);
        files::refuse_input_as_output(&signature, inputs)?;
        files::check_regular(&signature)?;
    }
    Ok(())
}

/// The path of the signature, and the key to sign with, if requested.
struct Signing {
    path: PathBuf,
    key: Option<ssh_key::PrivateKey>,
}

impl Signing {
    /// Reads the key of `--sign`, before anything is written. Fails if the signature already exists, unless `--force`
    /// is set.
    fn of(args: &KeysBackup) -> Result<Self> {
        let path = signature::default_path(&args.archive);
        let Some(key_file) = &args.sign else {
            return Ok(Self { path, key: None });
        };
        if path.exists() && !args.force {
            bail!(
                Failure::new(format!("{} already exists", path.shown()))
                    .hint("choose another name, or pass --force to replace both files")
            );
        }
        let key = signature::signing_key(&files::read(key_file)?);
        let key = key.with_context(|| key_file.shown())?;
        Ok(Self {
            path,
            key: Some(key),
        })
    }

    fn sign(&self, archive: &[u8]) -> Result<()> {
        let Some(key) = &self.key else {
            if self.path.exists() {
                warn(&format!(
                    "{} already existed and is not a signature of this archive; remove it",
                    self.path.shown()
                ));
            }
            return Ok(());
        };
        let signature = signature::sign(archive, key);
        let written = signature
            .map_err(anyhow::Error::from)
            .and_then(|signature| Ok(files::replace(&self.path, signature.as_bytes())?));
        written.context(
            Failure::new("the archive is complete but not signed, and no key was marked")
                .hint("run the command again with --force"),
        )
    }
}

/// Returns the readable key Secrets, and warns about unreadable ones.
fn skip_unreadable(records: Vec<KeyRecord>) -> Vec<KeyRecord> {
    let is_readable = |record: &KeyRecord| {
        if let (false, Err(problem)) = (record.is_readable, &record.key) {
            warn(&format!("{} is not backed up: {problem}", record.name()));
        }
        record.is_readable
    };
    records.into_iter().filter(is_readable).collect()
}

/// Warns about names that a restore would refuse, while the keys still exist.
fn warn_of_invalid_names(secrets: &[Secret]) {
    let names = secrets
        .iter()
        .filter_map(|secret| secret.metadata.name.as_deref());
    for name in names.filter(|name| names::check_object(name).is_err()) {
        warn(&format!(
            "the key name {name} is not a valid Secret name, so a restore would refuse this key; correct `metadata.name` in \
             its manifest (or rename the file, if the manifest has no name), then run the backup again"
        ));
    }
}

/// Returns the recipients, or a passphrase from a file or a prompt.
fn archive_encryption(
    args: &KeysBackup,
    decryption_keys: &mut archive::ArchiveDecryption,
) -> Result<ArchiveEncryption> {
    let mut texts = args.recipient.clone();
    for path in &args.recipients_file {
        let text = files::read_as(path, Kind::Credential)?;
        let lines = String::from_utf8_lossy(&text);
        let lines = lines.lines().map(str::trim);
        texts.extend(
            lines
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .map(str::to_owned),
        );
    }
    if !args.recipients_file.is_empty() && texts.is_empty() {
        bail!(
            Failure::new("the recipients file contains no recipient")
                .hint("write one age recipient (age1…) per line")
        );
    }
    if texts.is_empty() {
        let passphrase = match decryption_keys.passphrase.take() {
            Some(passphrase) => passphrase,
            None => decryption::ask_passphrase(true)?,
        };
        decryption_keys.passphrase = Some(passphrase.clone());
        return Ok(ArchiveEncryption::Passphrase(passphrase));
    }
    let recipient =
        |text: &String| ArchiveRecipient::parse(text).ok_or_else(|| invalid_recipient(text));
    let recipients = texts.iter().map(recipient).collect::<Result<_, _>>();
    Ok(ArchiveEncryption::Recipients(recipients?))
}

fn invalid_recipient(text: &str) -> Failure {
    let what = "an argument of --recipient or a line of --recipients-file";
    if text.starts_with("seal2-recipient ") {
        return Failure::new(format!(
            "{what} is a recipient of v2 values, and an archive needs age recipients (age1…)"
        ))
        .hint("generate a key with `age-keygen -pq`: its recipient is valid for v2 values and for archives");
    }
    // Do not print an argument that may be a secret key, passed by mistake. Post-quantum recipients are long.
    let shown = if text.starts_with("age1") && text.len() <= 100 {
        text
    } else {
        what
    };
    Failure::new(format!("{shown} is not a valid age recipient (age1…)"))
        .hint("print the recipient of an identity with `age-keygen -y FILE`")
}

/// Returns the mark for a key; `None` for a Secret without a usable key, which is archived too but
/// does not count as backed up.
fn mark(record: &KeyRecord, environment: &Environment) -> Option<Change> {
    Some(mark_text(record.fingerprint()?, environment))
}

fn mark_text(key: &impl Display, environment: &Environment) -> Change {
    let text = backed_up_text(key, environment.now);
    Change::annotation(BACKED_UP_ANNOTATION, text)
}

fn with_mark((secret, mark): (&Secret, &Option<Change>)) -> Secret {
    let mut secret = secret.clone();
    let annotations = mark.iter().flat_map(|change| &change.annotations);
    for (name, value) in annotations {
        let value = value.clone().unwrap_or_default();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert((*name).into(), value);
    }
    secret
}

fn set_marks(store: &KeyStore, records: &[KeyRecord], marks: &[Option<Change>]) -> Result<usize> {
    let mut marked_count = 0;
    for (record, mark) in records.iter().zip(marks) {
        let Some(change) = mark else {
            warn_unmarked(record.name(), record.key.as_ref().err());
            continue;
        };
        let marked = store.change(record, change);
        marked.with_context(|| not_marked(record.name()))?;
        marked_count += 1;
    }
    Ok(marked_count)
}

fn set_v2_marks(
    store: &KeyStore,
    records: &[V2KeyRecord],
    marks: &[Option<Change>],
) -> Result<usize> {
    let mut marked_count = 0;
    for (record, mark) in records.iter().zip(marks) {
        let Some(change) = mark else {
            warn_unmarked(record.name(), record.key.as_ref().err());
            continue;
        };
        let marked = store.change_secret(&record.secret, record.file.as_deref(), change);
        marked.with_context(|| not_marked(record.name()))?;
        marked_count += 1;
    }
    Ok(marked_count)
}

fn warn_unmarked(name: &str, problem: Option<&String>) {
    let problem = problem.map_or("", String::as_str);
    warn(&format!(
        "{name} is in the archive unchanged, but was not marked as backed up: {problem}"
    ));
}

fn not_marked(name: &str) -> Failure {
    Failure::new(format!(
        "the archive is complete, but {name} could not be marked as backed up"
    ))
    .hint("run the command again with another ARCHIVE, or with --force to replace this one")
}

fn key_count(count: usize) -> String {
    match count {
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    }
}
