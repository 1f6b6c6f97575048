//! What can be asked for, and running it.
//!
//! Every verb is a function from bytes read to bytes to write; this module reads before and writes
//! after, so that nothing is half-written when a verb fails.

mod explain;
mod merge;
mod online;
mod raw;
mod recover;
mod secrets;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use shared::key::Certificate;
use shared::scope::Scope;
use shared::seal::SealError;
use shared::unseal::UnsealError;
use zeroize::Zeroizing;

use crate::certificate::{self, ObtainError, UseError, Wanted};
use crate::cluster::{Access, ClusterError, Controller};
use crate::files::{self, FileError};
use crate::kubeconfig::{self, KubeconfigError};
use crate::report;
use crate::surroundings::Surroundings;

use crate::report::ShowPath as _;
use recover::RecoveryKeys;
pub(crate) use recover::read_keys;
pub use secrets::ManifestError;

/// One run.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Where the input comes from.
    pub input: Input,
    /// Where the result goes; stdout if nowhere else.
    pub output: Option<PathBuf>,
    /// `--format` as typed; checked when something is written.
    pub format: String,
    /// Was the format typed, rather than a default?
    pub format_given: bool,
    /// Sentences to say before anything else.
    pub warnings: Vec<String>,
}

/// What can be asked for.
#[derive(Debug)]
pub enum Command {
    /// Print the version.
    Version,
    /// Print a page that is part of the program.
    Print(Vec<u8>),
    /// Seal Secret manifests.
    Seal(SealOptions),
    /// Seal Secret manifests into an existing file.
    MergeInto {
        /// The file.
        file: PathBuf,
        /// How to seal.
        options: SealOptions,
    },
    /// Seal one value.
    Raw {
        /// How to seal.
        options: SealOptions,
        /// `--from-file` as typed; stdin if there is none.
        from_files: Vec<OsString>,
    },
    /// Print the certificate as it is.
    FetchCertificate(Wanted),
    /// Decrypt with backup keys.
    Recover {
        /// `--recovery-private-key`.
        key_files: Vec<PathBuf>,
    },
    /// Ask the controller whether it can decrypt.
    Validate {
        /// Where the controller is.
        access: Access,
        /// `--namespace`, for objects that name none.
        namespace: Option<String>,
    },
    /// Ask the controller to re-encrypt.
    ReEncrypt {
        /// Where the controller is.
        access: Access,
        /// `--namespace`, for objects that name none.
        namespace: Option<String>,
    },
}

/// How to seal.
#[derive(Debug, Clone, Default)]
pub struct SealOptions {
    /// With which certificate.
    pub certificate: Wanted,
    /// `--name`.
    pub name: Option<String>,
    /// `--namespace`.
    pub namespace: Option<String>,
    /// `--scope`, if it was typed.
    pub scope: Option<Scope>,
    /// `--allow-empty-data`.
    pub allow_empty_data: bool,
    /// Which kubeconfig names the namespace if nothing else does.
    pub kubeconfig: kubeconfig::Choice,
}

/// Where the input comes from.
#[derive(Debug, Clone)]
pub enum Input {
    /// stdin.
    Stdin,
    /// `--secret-file`.
    File(PathBuf),
}

/// A run failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// `--secret-file` cannot be read.
    #[error("Could not read file specified with --secret-file")]
    Input(#[source] FileError),
    /// Another file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// stdout cannot be written.
    #[error("cannot write to stdout")]
    Stdout(#[source] std::io::Error),
    /// The certificate cannot be had.
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] UseError),
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The input is not what it should be.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A Secret cannot be sealed.
    #[error("{place}{problem}")]
    Seal {
        /// `object 2 of 3: `, or nothing if there is only one.
        place: String,
        /// What is wrong.
        problem: SealError,
    },
    /// No Secret in the input.
    #[error("no secrets found. Ensure the input is valid and UTF-8 encoded")]
    NoSecrets,
    /// No SealedSecret in the input.
    #[error("no SealedSecret found. Ensure the input is valid and UTF-8 encoded")]
    NoSealedSecrets,
    /// A Secret without values.
    #[error(
        "{place}secret.data is empty in input Secret, assuming this is an error and aborting. \
         To work with empty data, --allow-empty-data can be used"
    )]
    EmptyData {
        /// As above.
        place: String,
    },
    /// Neither json nor yaml.
    #[error("unsupported output format: {0}")]
    Format(String),
    /// Sealing one value needs a place.
    #[error("must provide the --{flag} flag with --raw and --scope {scope}")]
    RawNeeds {
        /// The flag.
        flag: &'static str,
        /// The scope that needs it.
        scope: Scope,
    },
    /// One value at a time.
    #[error("must provide only one --from-file when encrypting a single item with --raw")]
    RawFiles,
    /// Merging failed.
    #[error("cannot merge into {}", file.shown())]
    Merge {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: merge::MergeError,
    },
    /// A backup key cannot be used.
    #[error("the recovery key file {}", file.shown())]
    RecoveryKey {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: recover::KeyFileError,
    },
    /// Many files.
    #[error("read {}: is a directory\nhint: name the files in it", .0.shown())]
    RecoveryFolder(PathBuf),
    /// A SealedSecret does not open.
    #[error("{place}{}{}", problem.exact(), hint_lines(hints))]
    Unseal {
        /// `namespace/name: `, or nothing if there is only one.
        place: String,
        /// What is wrong.
        problem: UnsealError,
        /// What to do about it.
        hints: Vec<String>,
    },
    /// Nothing to decrypt with.
    #[error("--recovery-unseal needs the private keys: pass --recovery-private-key FILE")]
    NoRecoveryKey,
    /// The controller cannot be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The controller says no. The peer's words, and what to look at.
    #[error("unable to decrypt sealed secret: {name}\n{why}")]
    CannotDecrypt {
        /// Its name.
        name: String,
        /// What may have happened to it.
        why: String,
    },
    /// Likewise.
    #[error("unable to rotate secret: {name}\n{why}")]
    CannotRotate {
        /// Its name.
        name: String,
        /// What may have happened to it.
        why: String,
    },
}

/// Runs a request: reads, does, writes.
///
/// # Errors
///
/// What went wrong first; nothing has been written then.
pub fn run(request: &Request, surroundings: &Surroundings) -> Result<(), CommandError> {
    for warning in &request.warnings {
        report::warn(warning);
    }
    match &request.command {
        Command::Version => print_version(),
        Command::Print(page) => report::print(page).map_err(CommandError::Stdout),
        Command::Seal(options) => {
            let input = Prepared::new(request, surroundings)?;
            let certificate = sealing_certificate(options, surroundings)?;
            let sealed = secrets::seal(&input.read()?, &certificate, options, surroundings)?;
            write_result(request, &secrets::write(&sealed, output_format(request)?))
        }
        Command::MergeInto { file, options } => {
            let input = Prepared::new(request, surroundings)?;
            let certificate = sealing_certificate(options, surroundings)?;
            files::check(file)?;
            let format = request
                .format_given
                .then(|| output_format(request))
                .transpose()?;
            let fresh = input.read()?;
            files::update(file, |existing| {
                merge::merge(file, existing, &fresh, &certificate, options, format)
            })
        }
        Command::Raw {
            options,
            from_files,
        } => {
            check_input(request)?;
            let certificate = sealing_certificate(options, surroundings)?;
            let sealed = raw::seal(&certificate, options, from_files, surroundings)?;
            write_result(request, sealed.as_bytes())
        }
        Command::FetchCertificate(wanted) => {
            check_input(request)?;
            write_result(request, &obtain(wanted, surroundings)?.pem)
        }
        Command::Recover { key_files } => {
            let input = Prepared::new(request, surroundings)?;
            let keys = RecoveryKeys::read(key_files)?;
            let secrets = recover::unseal(&input.read()?, &keys, surroundings.now)?;
            write_result(request, &secrets::write(&secrets, output_format(request)?))
        }
        Command::Validate { access, namespace } => {
            let input = Prepared::new(request, surroundings)?;
            let mut objects = online::read(&input.read()?)?;
            online::fill_namespaces(&mut objects, namespace.as_ref(), access, surroundings)?;
            online::validate(&objects, &Controller::find(access)?)
        }
        Command::ReEncrypt { access, namespace } => {
            let input = Prepared::new(request, surroundings)?;
            let objects = online::read(&input.read()?)?;
            let (place, format) = online::target(request)?;
            let mut placed = objects.clone();
            online::fill_namespaces(&mut placed, namespace.as_ref(), access, surroundings)?;
            let mut rotated = online::rotate(&placed, &Controller::find(access)?)?;
            online::empty_namespaces(&mut rotated, &objects);
            let bytes = secrets::write(&rotated, format);
            match place {
                Some(path) => Ok(files::replace(path, &bytes)?),
                None => report::print(&bytes).map_err(CommandError::Stdout),
            }
        }
    }
}

fn hint_lines(hints: &[String]) -> String {
    let line = |hint: &String| format!("\nhint: {hint}");
    hints.iter().map(line).collect()
}

fn print_version() -> Result<(), CommandError> {
    let line = format!("kubeseal version: {}\n", env!("CARGO_PKG_VERSION"));
    report::print(line.as_bytes()).map_err(CommandError::Stdout)
}

/// Input that is there, and maybe not read yet: a missing file is reported before a bad
/// certificate, and stdin is read only when it is its turn.
enum Prepared {
    Stdin,
    Bytes(Zeroizing<Vec<u8>>),
}

impl Prepared {
    fn new(request: &Request, surroundings: &Surroundings) -> Result<Self, CommandError> {
        match &request.input {
            Input::File(path) => Ok(Self::Bytes(files::read(path).map_err(CommandError::Input)?)),
            Input::Stdin => {
                if surroundings.stdin_is_terminal {
                    report::say("(tty detected: expecting json/yaml k8s resource in stdin)");
                }
                Ok(Self::Stdin)
            }
        }
    }

    fn read(self) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        match self {
            Self::Stdin => Ok(files::read_stdin()?),
            Self::Bytes(bytes) => Ok(bytes),
        }
    }
}

/// An input file that is not used has to be there all the same, as with the peer: naming it was a
/// mistake, and a missing one shows it.
fn check_input(request: &Request) -> Result<(), CommandError> {
    match &request.input {
        Input::File(path) => files::check(path).map_err(CommandError::Input),
        Input::Stdin => Ok(()),
    }
}

fn obtain(
    wanted: &Wanted,
    surroundings: &Surroundings,
) -> Result<certificate::Obtained, CommandError> {
    let obtained = certificate::obtain(wanted, surroundings)?;
    for remark in &obtained.remarks {
        report::warn(remark);
    }
    Ok(obtained)
}

fn sealing_certificate(
    options: &SealOptions,
    surroundings: &Surroundings,
) -> Result<Certificate, CommandError> {
    let obtained = obtain(&options.certificate, surroundings)?;
    let parsed = certificate::parse_of(obtained.origin, &obtained.pem, surroundings.now);
    let (certificate, remarks) = parsed?;
    for remark in &remarks {
        report::warn(remark);
    }
    Ok(certificate)
}

/// How documents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Indented JSON, one object after the other.
    Json,
    /// YAML documents, each behind `---`.
    Yaml,
}

/// The ending `.yaml` or `.yml` of the output file wins over `--format`.
fn output_format(request: &Request) -> Result<Format, CommandError> {
    if request.output.as_deref().is_some_and(is_yaml) {
        return Ok(Format::Yaml);
    }
    match request.format.to_lowercase().as_str() {
        "" | "json" => Ok(Format::Json),
        "yaml" => Ok(Format::Yaml),
        _ => Err(CommandError::Format(request.format.clone())),
    }
}

fn is_yaml(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".yaml") || name.ends_with(b".yml")
}

fn write_result(request: &Request, bytes: &[u8]) -> Result<(), CommandError> {
    match &request.output {
        Some(path) => Ok(files::replace(path, bytes)?),
        None => report::print(bytes).map_err(CommandError::Stdout),
    }
}

/// The namespace for what has none, from `--namespace` or the kubeconfig.
fn default_namespace(
    options: &SealOptions,
    surroundings: &Surroundings,
) -> Result<Option<String>, CommandError> {
    match &options.namespace {
        Some(namespace) => Ok(Some(namespace.clone())),
        None => Ok(kubeconfig::namespace(&options.kubeconfig, surroundings)?),
    }
}
