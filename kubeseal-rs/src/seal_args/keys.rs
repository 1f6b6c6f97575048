use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use shared::key::Fingerprint;

use super::{Asking, Opening, Place};

/// Arguments of `seal keys`.
#[derive(Debug, Args)]
pub struct Keys {
    /// The subcommand.
    #[command(subcommand)]
    pub verb: KeysVerb,
}

/// Subcommands of `seal keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// List keys with state, age, fingerprint and last backup
    List(KeysList),
    /// List keys, and how many objects and files need each
    Status(KeysStatus),
    /// Write all keys to an encrypted archive, and mark them as backed up
    Backup(KeysBackup),
    /// Restore keys of a backup to a cluster or folder
    Restore(KeysRestore),
    /// Request a new key from the controller, and wait for its certificate
    Rotate(KeysRotate),
    /// Retire a key that is no longer needed
    Retire(KeysRetire),
    /// Mark a key as compromised, and list what was sealed for it
    Compromise(KeysCompromise),
}

/// An output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The output format of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For a ticket.
    Markdown,
}

/// Arguments of `seal keys list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  seal keys list --directory state\n  seal keys list --directory state -o json"
)]
pub struct KeysList {
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Form,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

/// Where to search for values that need a key.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where to search for values that need a key")]
pub struct Search {
    /// Search SealedSecrets of this namespace only; repeatable
    #[arg(long = "only-namespace", value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Search every branch of the repositories of PATH too
    #[arg(long)]
    pub all_branches: bool,
    /// Try the keys of this backup too: an age archive, manifests or PEM; repeatable
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// How to decrypt backups.
    #[command(flatten)]
    pub opening: Opening,
    /// How to reach the controller's port for callers with a token.
    #[command(flatten)]
    pub asking: Asking,
}

/// Arguments of `seal keys status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  seal keys status prod --directory state\n  seal keys status --all-branches . --directory state -o json"
)]
pub struct KeysStatus {
    /// Files and folders to search besides the cluster
    pub paths: Vec<PathBuf>,
    /// Unseal every value, even of more than 200 objects that name their key
    #[arg(long)]
    pub open_all: bool,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Form,
    /// Where to search for what needs a key.
    #[command(flatten)]
    pub search: Search,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `seal keys backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The program `age` decrypts the archive too: age -d -i identity.txt keys.age\n\n\
Anyone can encrypt an archive for a recipient; only a signature (--sign) shows who created it. For keys with a \
passphrase, agents and hardware: ssh-keygen -Y sign -n sealed-secrets-backup -f KEY keys.age\n\n\
Examples:\n  seal keys backup new.age --recipients-file recipients.txt --directory state\n  \
seal keys backup signed.age --recipients-file recipients.txt --sign id_ed25519 --directory state"
)]
pub struct KeysBackup {
    /// Archive to write
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// Encrypt for this age recipient; repeatable
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
    /// Sign the archive with this OpenSSH private key, into ARCHIVE.sig
    #[arg(long, value_name = "FILE")]
    pub sign: Option<PathBuf>,
    /// Replace an existing archive
    #[arg(long)]
    pub force: bool,
    /// How to decrypt the new archive, to check it.
    #[command(flatten)]
    pub opening: Opening,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `seal keys restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "BACKUP may also be the output of `kubectl get secret -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml`.\n\n\
Restored keys can unseal but do not seal: a backup does not prove who created it, and the creator of a key can read \
everything that is sealed for it. A controller without another key generates one when it starts. To seal with a key \
of the backup, compare its fingerprint with a certificate that you trust (seal cert show cert.pem) and pass it with \
--seal-with. Bitnami's controller ignores this mark: it seals with the newest key.\n\n\
Only the key, its certificate and the marks of this project are restored; other labels and annotations are only \
listed.\n\n\
Exit codes: 0 success, 1 a key of the backup is unusable and was not restored, 2 failure or wrong usage.\n\n\
Examples:\n  seal keys restore keys.age --identity identity.txt --directory state\n  \
seal keys restore keys.age --identity identity.txt --directory state --dry-run -o json"
)]
pub struct KeysRestore {
    /// Backup to restore: an age archive, or manifests
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,
    /// Let the key with this fingerprint seal, not only unseal
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
    pub output: Form,
    /// How to decrypt backups.
    #[command(flatten)]
    pub opening: Opening,
    /// The cluster or folder to restore keys to.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `seal keys rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal keys rotate\n  seal keys rotate --timeout 300")]
pub struct KeysRotate {
    /// Seconds to wait for the new certificate
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,
    /// URL of the certificate, for a controller on a folder
    #[arg(long, value_name = "URL", requires = "directory")]
    pub cert: Option<String>,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `seal keys retire`.
#[derive(Debug, Args)]
#[command(
    after_help = "A retired key cannot unseal until its label is restored: keep the backup.\n\n\
Examples:\n  seal keys retire key-old prod --all-branches --directory state"
)]
pub struct KeysRetire {
    /// Name of the key Secret, or fingerprint
    pub key: String,
    /// Files and folders to search besides the cluster
    pub paths: Vec<PathBuf>,
    /// Retire the key although no known key can unseal some items, which may need it
    #[arg(long)]
    pub allow_undecided: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where to search for what needs a key.
    #[command(flatten)]
    pub search: Search,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `seal keys compromise`.
#[derive(Debug, Args)]
#[command(
    after_help = "The marked key can still unseal, but never seals again. Treat every listed value as known to \
others.\n\n\
Examples:\n  seal keys compromise key-old . --directory state --output markdown > ticket.md"
)]
pub struct KeysCompromise {
    /// Name of the key Secret, or fingerprint
    pub key: String,
    /// Files and folders to search besides the cluster; of a repository the whole history
    pub paths: Vec<PathBuf>,
    /// Format of the report
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: ReportForm,
    /// Report without marking the key
    #[arg(long)]
    pub dry_run: bool,
    /// Where to search for what needs a key.
    #[command(flatten)]
    pub search: Search,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text
        .parse()
        .map_err(|_| "expected a whole number of seconds".to_owned())?;
    Ok(Duration::from_secs(seconds))
}
