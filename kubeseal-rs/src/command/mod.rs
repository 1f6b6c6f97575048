//! Runs the commands of `kubeseal`.
//!
//! A command writes its result last, so a command that fails earlier writes no part of a result.

mod explain;
mod merge;
mod online;
mod raw;
mod recover;
mod secrets;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kubeseal_library::certificate::{self, CertificateQuery, ObtainError, UseError};
use kubeseal_library::cluster::rotated::RotationError;
use kubeseal_library::cluster::{Access, ClusterError, Clusters, Controller};
use kubeseal_library::environment::Environment;
use kubeseal_library::files::{self, FileError};
use kubeseal_library::kubeconfig::{self, KubeconfigError};
use shared::key::Certificate;
use shared::scope::Scope;
use shared::seal::SealError;
use shared::unseal::UnsealError;
use zeroize::Zeroizing;

use crate::report;

use crate::report::ShowPath as _;
pub use kubeseal_library::format::Format;
use recover::RecoveryKeys;
pub(crate) use recover::read_keys;
pub use secrets::ManifestError;

/// A parsed command line.
#[derive(Debug)]
pub struct Request {
    /// The command to run.
    pub command: Command,
    /// Stdin, or the file of `--secret-file`.
    pub input: Input,
    /// The file of `--sealed-secret-file`.
    pub output: Option<PathBuf>,
    /// The value of `--format`, not validated yet.
    pub format: String,
    /// Whether `--format` is set explicitly.
    pub has_format: bool,
    /// Warnings about the arguments, to print before the command runs.
    pub warnings: Vec<String>,
}

/// A command with its options.
#[derive(Debug)]
pub enum Command {
    /// Print the version.
    Version,
    /// Print a manual page or completion script.
    Print(Vec<u8>),
    /// Seal Secret manifests.
    Seal(SealOptions),
    /// Seal Secret manifests and merge the items into an existing file.
    MergeInto {
        /// The file to merge into.
        file: PathBuf,
        /// The flags for sealing.
        options: SealOptions,
    },
    /// Seal one value.
    Raw {
        /// The flags for sealing.
        options: SealOptions,
        /// The values of `--from-file`; stdin if empty.
        from_files: Vec<OsString>,
    },
    /// Output the certificate, even if it is not valid now.
    FetchCertificate(CertificateQuery),
    /// Decrypt with backup keys.
    Recover {
        /// The values of `--recovery-private-key`.
        key_files: Vec<PathBuf>,
    },
    /// Ask the controller whether it can decrypt.
    Validate {
        /// The flags that select the cluster and the controller.
        access: Access,
        /// The value of `--namespace`, for objects without a namespace.
        namespace: Option<String>,
    },
    /// Ask the controller to re-encrypt.
    ReEncrypt {
        /// The flags that select the cluster and the controller.
        access: Access,
        /// The value of `--namespace`, for objects without a namespace.
        namespace: Option<String>,
    },
}

/// Options for sealing.
#[derive(Debug, Clone, Default)]
pub struct SealOptions {
    /// The certificate to seal with.
    pub certificate: CertificateQuery,
    /// The value of `--name`.
    pub name: Option<String>,
    /// The value of `--namespace`.
    pub namespace: Option<String>,
    /// The value of `--scope`; `None` if it is not set.
    pub scope: Option<Scope>,
    /// Whether `--allow-empty-data` is set.
    pub allow_empty_data: bool,
    /// The kubeconfig that provides the namespace if no flag or manifest does.
    pub kubeconfig: kubeconfig::Choice,
}

/// Where to read the input.
#[derive(Debug, Clone)]
pub enum Input {
    /// Read stdin to its end.
    Stdin,
    /// Read the file of `--secret-file`.
    File(PathBuf),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The file of `--secret-file` cannot be read.
    #[error("Could not read file specified with --secret-file")]
    Input(#[source] FileError),
    /// Another file, or stdin, cannot be read, or a file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Writing to stdout failed.
    #[error("cannot write to stdout")]
    Stdout(#[source] std::io::Error),
    /// The certificate cannot be obtained, or is not trusted.
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] UseError),
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The input is malformed, or an object in it is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A Secret, or the value of `--raw`, cannot be sealed.
    #[error("{prefix}{problem}")]
    Seal {
        /// The prefix, such as `object 2 of 3: `; empty if there is only one object.
        prefix: String,
        /// Why it cannot be sealed.
        problem: SealError,
    },
    /// The input contains no Secret.
    #[error("no secrets found. Ensure the input is valid and UTF-8 encoded")]
    NoSecrets,
    /// The input contains no SealedSecret.
    #[error(
        "the input contains no SealedSecret\nhint: pass a SealedSecret on stdin or with -f FILE"
    )]
    NoSealedSecrets,
    /// The Secret has no values.
    #[error(
        "{prefix}secret.data is empty in input Secret, assuming this is an error and aborting. \
         To work with empty data, --allow-empty-data can be used"
    )]
    EmptyData {
        /// The prefix, such as `object 2 of 3: `; empty if there is only one object.
        prefix: String,
    },
    /// The output format, which is neither json nor yaml.
    #[error("unsupported output format: {0}")]
    Format(String),
    /// Sealing one value lacks a flag that its scope requires.
    #[error("must provide the --{flag} flag with --raw and --scope {scope}")]
    RawNeeds {
        /// The missing flag, without dashes.
        flag: &'static str,
        /// The scope that requires the flag.
        scope: Scope,
    },
    /// More than one `--from-file` is set with `--raw`.
    #[error("must provide only one --from-file when encrypting a single item with --raw")]
    RawFiles,
    /// Merging failed.
    #[error("cannot merge into {}", file.shown())]
    Merge {
        /// The file to merge into.
        file: PathBuf,
        /// Why merging failed.
        source: merge::MergeError,
    },
    /// A key file cannot be used.
    #[error("cannot use the recovery key file {}", file.shown())]
    RecoveryKey {
        /// The file of `--recovery-private-key`.
        file: PathBuf,
        /// Why the file provides no usable key.
        source: recover::KeyFileError,
    },
    /// A key file is a directory.
    #[error("read {}: is a directory\nhint: pass the files in it instead", .0.shown())]
    RecoveryDirectory(PathBuf),
    /// A SealedSecret cannot be decrypted.
    #[error("{prefix}{}{}", problem.exact_message(), hint_lines(hints))]
    Unseal {
        /// The namespace and name, as `namespace/name: `; empty if there is only one object.
        prefix: String,
        /// Why the SealedSecret cannot be decrypted.
        problem: UnsealError,
        /// Hints for the user.
        hints: Vec<String>,
    },
    /// There is no private key to decrypt with.
    #[error("--recovery-unseal requires the private keys\nhint: pass --recovery-private-key FILE")]
    NoRecoveryKey,
    /// The cluster or the controller cannot be reached, refuses a request, or responds incorrectly.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The controller cannot decrypt the SealedSecret. The message begins like upstream's.
    #[error("unable to decrypt sealed secret: {name}\n{why}")]
    CannotDecrypt {
        /// The name of the SealedSecret.
        name: String,
        /// Possible reasons.
        why: String,
    },
    /// The controller cannot re-encrypt the SealedSecret, because it cannot decrypt it. The message begins like
    /// upstream's.
    #[error("unable to rotate secret: {name}\n{why}")]
    CannotRotate {
        /// The name of the SealedSecret.
        name: String,
        /// Possible reasons.
        why: String,
    },
    /// The controller's response is not the re-encrypted SealedSecret.
    #[error("unable to rotate secret: {name}\n{problem}")]
    NotRotated {
        /// The name of the SealedSecret.
        name: String,
        /// The problem with the response.
        problem: RotationError,
    },
}

/// Prints the warnings of the request, and runs its command.
///
/// # Errors
///
/// Returns why the command failed. Unless the failure is a write error, no result has been written.
pub fn run(request: &Request, environment: &Environment) -> Result<(), CommandError> {
    for warning in &request.warnings {
        report::warn(warning);
    }
    match &request.command {
        Command::Version => print_version(),
        Command::Print(page) => report::print(page).map_err(CommandError::Stdout),
        Command::Seal(options) => {
            refuse_to_overwrite(request, &options.certificate.files())?;
            let input = PreparedInput::new(request, environment)?;
            let certificate = sealing_certificate(options, environment)?;
            let sealed = secrets::seal(&input.read()?, &certificate, options, environment)?;
            write_result(request, &secrets::write(&sealed, output_format(request)?))
        }
        Command::MergeInto { file, options } => {
            let input = PreparedInput::new(request, environment)?;
            let certificate = sealing_certificate(options, environment)?;
            files::check(file)?;
            let format = request
                .has_format
                .then(|| output_format(request))
                .transpose()?;
            let new_secrets = input.read()?;
            files::update(file, |existing| {
                merge::merge(file, existing, &new_secrets, &certificate, options, format)
            })
        }
        Command::Raw {
            options,
            from_files,
        } => {
            refuse_to_overwrite(request, &options.certificate.files())?;
            check_input(request)?;
            let certificate = sealing_certificate(options, environment)?;
            let sealed = raw::seal(&certificate, options, from_files, environment)?;
            write_result(request, sealed.as_bytes())
        }
        Command::FetchCertificate(wanted) => {
            check_input(request)?;
            write_result(request, &obtain_certificate(wanted, environment)?.pem)
        }
        Command::Recover { key_files } => {
            refuse_to_overwrite(request, key_files)?;
            let input = PreparedInput::new(request, environment)?;
            let keys = RecoveryKeys::read(key_files)?;
            let secrets = recover::unseal(&input.read()?, &keys, environment.now)?;
            let bytes = secrets::write(&secrets, output_format(request)?);
            match &request.output {
                Some(path) => Ok(files::replace_private(path, &bytes)?),
                None => report::print(&bytes).map_err(CommandError::Stdout),
            }
        }
        Command::Validate { access, namespace } => {
            let input = PreparedInput::new(request, environment)?;
            let mut objects = online::read(&input.read()?)?;
            online::fill_namespaces(&mut objects, namespace.as_ref(), access, environment)?;
            online::validate(
                &objects,
                &Controller::find(access, &Clusters::new(environment))?,
            )
        }
        Command::ReEncrypt { access, namespace } => {
            let input = PreparedInput::new(request, environment)?;
            let objects = online::read(&input.read()?)?;
            let (output, format) = online::output_file_and_format(request)?;
            let mut with_namespaces = objects.clone();
            online::fill_namespaces(
                &mut with_namespaces,
                namespace.as_ref(),
                access,
                environment,
            )?;
            let mut rotated = online::rotate(
                &with_namespaces,
                &Controller::find(access, &Clusters::new(environment))?,
            )?;
            online::remove_added_namespaces(&mut rotated, &objects);
            let bytes = secrets::write(&rotated, format);
            match output {
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

/// The input. A file is read before the certificate is fetched, so that a missing file is reported before a bad
/// certificate. Stdin is read afterwards.
enum PreparedInput {
    Stdin,
    Bytes(Zeroizing<Vec<u8>>),
}

impl PreparedInput {
    fn new(request: &Request, environment: &Environment) -> Result<Self, CommandError> {
        match &request.input {
            Input::File(path) => Ok(Self::Bytes(files::read(path).map_err(CommandError::Input)?)),
            Input::Stdin => {
                if environment.stdin_is_terminal {
                    report::info("(tty detected: expecting json/yaml k8s resource in stdin)");
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

/// Checks that the file of `--secret-file` exists although the command does not use it, as upstream does.
fn check_input(request: &Request) -> Result<(), CommandError> {
    match &request.input {
        Input::File(path) => files::check(path).map_err(CommandError::Input),
        Input::Stdin => Ok(()),
    }
}

fn obtain_certificate(
    query: &CertificateQuery,
    environment: &Environment,
) -> Result<certificate::ObtainedCertificate, CommandError> {
    let obtained = certificate::obtain(query, &Clusters::new(environment))?;
    for remark in &obtained.remarks {
        report::warn(remark);
    }
    Ok(obtained)
}

fn sealing_certificate(
    options: &SealOptions,
    environment: &Environment,
) -> Result<Certificate, CommandError> {
    let obtained = obtain_certificate(&options.certificate, environment)?;
    let parsed = certificate::parse_from(obtained.origin, &obtained.pem, environment.now);
    let (certificate, remarks) = parsed?;
    for remark in &remarks {
        report::warn(remark);
    }
    Ok(certificate)
}

/// Returns the output format. An output file that ends in `.yaml` or `.yml` takes precedence over
/// `--format`.
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

/// Refuses to overwrite a key or certificate that the command reads. The input file may be overwritten, as upstream
/// allows.
fn refuse_to_overwrite(request: &Request, inputs: &[PathBuf]) -> Result<(), CommandError> {
    let inputs = inputs.iter().map(PathBuf::as_path);
    if let Some(output) = &request.output {
        files::refuse_input_as_output(output, inputs)?;
    }
    Ok(())
}

fn write_result(request: &Request, bytes: &[u8]) -> Result<(), CommandError> {
    match &request.output {
        Some(path) => Ok(files::replace(path, bytes)?),
        None => report::print(bytes).map_err(CommandError::Stdout),
    }
}

/// Returns the namespace of `--namespace` or the kubeconfig, for objects without one.
fn default_namespace(
    options: &SealOptions,
    environment: &Environment,
) -> Result<Option<String>, CommandError> {
    match &options.namespace {
        Some(namespace) => Ok(Some(namespace.clone())),
        None => Ok(kubeconfig::namespace(&options.kubeconfig, environment)?),
    }
}
