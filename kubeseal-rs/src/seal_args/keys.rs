use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Asking, Opening, Place};

/// `seal keys`.
#[derive(Debug, Args)]
pub struct Keys {
    /// What about them.
    #[command(subcommand)]
    pub verb: KeysVerb,
}

/// What can be done about keys.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// List keys: state, age, fingerprint, last backup
    List(KeysList),
    /// The same, and how many objects and files need each key
    Status(KeysStatus),
    /// Write all keys to an encrypted archive, and mark them as backed up
    Backup(KeysBackup),
    /// Put keys of a backup back into a cluster or folder
    Restore(KeysRestore),
    /// Have the controller make a new key, and wait for its certificate
    Rotate(KeysRotate),
    /// Take a key out of use that nothing needs any more
    Retire(KeysRetire),
    /// Mark a key as known to others, and list what was sealed for it
    Compromise(KeysCompromise),
}

/// A form of output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// A form of a report.
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

/// `seal keys list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  seal keys list --directory state\n  seal keys list --directory state -o json"
)]
pub struct KeysList {
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: Form,
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
}

/// What to look through for what needs a key.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where to look for what needs a key")]
pub struct Search {
    /// Look at SealedSecrets of this namespace only; may be given several times
    #[arg(long = "only-namespace", value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Look at every branch of the repositories of PATH too
    #[arg(long)]
    pub all_branches: bool,
    /// Try the keys of this backup too: an age archive, manifests or PEM
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// What opens them.
    #[command(flatten)]
    pub opening: Opening,
    /// Whom to ask about the rest.
    #[command(flatten)]
    pub asking: Asking,
}

/// `seal keys status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  seal keys status prod --directory state\n  seal keys status --all-branches . --directory state -o json"
)]
pub struct KeysStatus {
    /// Files and folders to look through besides the cluster
    pub paths: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: Form,
    /// Where to look.
    #[command(flatten)]
    pub search: Search,
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
}

/// `seal keys backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The archive opens with the ordinary `age` too: age -d -i identity.txt keys.age\n\n\
Examples:\n  seal keys backup new.age --recipients-file recipients.txt --directory state"
)]
pub struct KeysBackup {
    /// The archive to write
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// Whom it is for: an age recipient; may be given several times
    #[arg(long, short, value_name = "age1…", conflicts_with = "passphrase_file")]
    pub recipient: Vec<String>,
    /// File with age recipients, one a line
    #[arg(
        long,
        short = 'R',
        value_name = "FILE",
        conflicts_with = "passphrase_file"
    )]
    pub recipients_file: Vec<PathBuf>,
    /// Replace an archive that is there
    #[arg(long)]
    pub force: bool,
    /// With an identity of a recipient, the archive is decrypted to check it.
    #[command(flatten)]
    pub opening: Opening,
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
}

/// `seal keys restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "BACKUP may also be what `kubectl get secret -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml` gave.\n\n\
Examples:\n  seal keys restore keys.age --identity identity.txt --directory state"
)]
pub struct KeysRestore {
    /// The backup: an age archive, or manifests
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What opens it.
    #[command(flatten)]
    pub opening: Opening,
    /// Where the keys go.
    #[command(flatten)]
    pub place: Place,
}

/// `seal keys rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal keys rotate\n  seal keys rotate --timeout 300")]
pub struct KeysRotate {
    /// Seconds to wait for the new certificate
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,
    /// Where the certificate is served, for a controller on a folder
    #[arg(long, value_name = "URL", requires = "directory")]
    pub cert: Option<String>,
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
}

/// `seal keys retire`.
#[derive(Debug, Args)]
#[command(
    after_help = "A key that is retired opens nothing until its label is put back: keep the backup.\n\n\
Examples:\n  seal keys retire key-old prod --all-branches --directory state"
)]
pub struct KeysRetire {
    /// Name of the key's Secret, or its fingerprint
    pub key: String,
    /// Files and folders to look through besides the cluster
    pub paths: Vec<PathBuf>,
    /// Retire it although some items opened with no key, so that they may need it
    #[arg(long)]
    pub allow_undecided: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where to look.
    #[command(flatten)]
    pub search: Search,
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
}

/// `seal keys compromise`.
#[derive(Debug, Args)]
#[command(
    after_help = "The key is marked: it goes on opening, and never seals again. Everything listed counts as known.\n\n\
Examples:\n  seal keys compromise key-old . --directory state --output markdown > ticket.md"
)]
pub struct KeysCompromise {
    /// Name of the key's Secret, or its fingerprint
    pub key: String,
    /// Files and folders to look through besides the cluster; of a repository the whole history
    pub paths: Vec<PathBuf>,
    /// Form of the report
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: ReportForm,
    /// Report, and mark nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where to look.
    #[command(flatten)]
    pub search: Search,
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text
        .parse()
        .map_err(|_| "it takes whole seconds".to_owned())?;
    Ok(Duration::from_secs(seconds))
}
