//! `seal cert`: fetches, shows and verifies certificates.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kubeseal_library::bounded::Kind;
use kubeseal_library::certificate::{
    self, AcceptedFingerprint, CertificateQuery, NewCacheEntry, ObtainError, SettingSource,
    TrustError,
};
use kubeseal_library::cluster::{Clusters, Controller};
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::keys::record;
use kubeseal_library::redacted::redacted_source;
use serde::Serialize;
use shared::key::{Certificate, Fingerprint, Validity};
use shared::key_marks::KeyState;

use super::keys::{access, open_store};
use super::{Outcome, output, print};
use crate::failure::Failure;
use crate::prompt;
use crate::report;
use crate::report::{ShowPath as _, shown};
use crate::seal_args::{KeyLocation, OutputFormat};

/// Arguments of `seal cert`.
#[derive(Debug, Args)]
pub struct Cert {
    /// The subcommand.
    #[command(subcommand)]
    pub verb: CertVerb,
}

/// Subcommands of `seal cert`.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Print the controller's certificate, or write it to a file
    Fetch(CertFetch),
    /// Show fingerprint, validity and key size
    Show(CertShow),
    /// Compare the certificate with a fingerprint or another certificate
    Verify(CertVerify),
}

/// The source of a certificate.
#[derive(Debug, Clone, Default, Args)]
pub struct CertSource {
    /// Use this certificate instead of the controller's
    #[arg(
        value_name = "FILE|URL",
        conflicts_with_all = ["directory", "kubeconfig", "context", "controller_name", "controller_namespace"]
    )]
    pub cert: Option<OsString>,
    /// The controller, or its directory, if no certificate is given.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Arguments of `seal cert fetch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert fetch cert.pem --out copy.pem")]
pub struct CertFetch {
    /// File to write; stdout if not given
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite an existing file without a prompt, even if its content differs
    #[arg(long, requires = "out")]
    pub replace: bool,
    /// Fail unless the certificate has this fingerprint
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<Fingerprint>,
    /// The certificate to fetch.
    #[command(flatten)]
    pub source: CertSource,
}

/// Arguments of `seal cert show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert show cert.pem -o json")]
pub struct CertShow {
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// The certificate to show.
    #[command(flatten)]
    pub source: CertSource,
}

/// Arguments of `seal cert verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert verify cert.pem --against cert.pem")]
pub struct CertVerify {
    /// Expected fingerprint; repeatable
    #[arg(long, value_name = "SHA256:…", required_unless_present = "against")]
    pub fingerprint: Vec<Fingerprint>,
    /// Certificate to compare with
    #[arg(long, value_name = "FILE|URL")]
    pub against: Option<OsString>,
    /// The certificate to verify.
    #[command(flatten)]
    pub source: CertSource,
}

/// Fetches, shows or verifies a certificate.
///
/// # Errors
///
/// Fails if a certificate cannot be read, fetched or parsed; for `fetch`, also if the certificate is not trusted or
/// does not have the fingerprint of `--fingerprint`, or if the output file is not written.
pub fn run(args: &Cert, environment: &Environment) -> Result<Outcome> {
    match &args.verb {
        CertVerb::Fetch(args) => fetch(args, environment),
        CertVerb::Show(args) => show(args, environment),
        CertVerb::Verify(args) => verify(args, environment),
    }
}

fn fetch(args: &CertFetch, environment: &Environment) -> Result<Outcome> {
    let (certificate, new_entry) = read_to_fetch(args, environment)?;
    let fingerprint = certificate.fingerprint();
    if let Some(pin) = args.fingerprint.as_ref().filter(|pin| *pin != fingerprint) {
        bail!(wrong_fingerprint(fingerprint, pin));
    }
    let outcome = write(args, &certificate, environment)?;
    // Save the cache entry last: if the user does not accept the certificate, the next run must report it again.
    if let Some(failure) = new_entry.and_then(|entry| entry.save(environment)) {
        report::warn(&failure);
    }
    Ok(outcome)
}

fn wrong_fingerprint(actual: &Fingerprint, pin: &Fingerprint) -> Failure {
    Failure::new(format!(
        "the certificate has the fingerprint {actual}, not {pin} (--fingerprint); nothing was written"
    ))
    .hint("if the key was renewed, confirm the new fingerprint with the administrator of the controller")
}

/// Returns the certificate. The certificate of a controller is compared with the cached certificate, as before sealing.
/// The caller saves the new cache entry after the user has accepted the certificate.
fn read_to_fetch(
    args: &CertFetch,
    environment: &Environment,
) -> Result<(Certificate, Option<NewCacheEntry>)> {
    let CertSource { cert, location } = &args.source;
    if cert.is_some() || location.directory.is_some() {
        return Ok((read(&args.source, environment)?, None));
    }
    let accepted = args.fingerprint.iter().map(|pin| AcceptedFingerprint {
        fingerprint: pin.clone(),
        by: SettingSource::Flag,
    });
    let query = CertificateQuery {
        access: access(location, environment),
        fingerprints: accepted.collect(),
        ..CertificateQuery::default()
    };
    let fetched = certificate::fetch(&query, &Clusters::new(environment));
    let (obtained, new_entry) = match (fetched, &args.fingerprint) {
        (Err(ObtainError::Trust(TrustError::NotAccepted { found, .. })), Some(pin)) => {
            bail!(wrong_fingerprint(&found, pin))
        }
        (fetched, _) => fetched?,
    };
    for remark in &obtained.remarks {
        report::warn(remark);
    }
    let certificate = Certificate::from_pem(&obtained.pem);
    let certificate = certificate.context("cannot use the certificate of the controller")?;
    Ok((certificate, new_entry))
}

fn write(
    args: &CertFetch,
    certificate: &Certificate,
    environment: &Environment,
) -> Result<Outcome> {
    let (fingerprint, pem) = (certificate.fingerprint(), certificate.to_pem());
    let Some(out) = &args.out else {
        return print(pem.as_bytes());
    };
    match read_existing(out)? {
        Existing::None => {}
        Existing::Certificate(old) if old == *fingerprint => {
            report::info(&format!("{} is unchanged: {fingerprint}", out.shown()));
            return Ok(Outcome::Done);
        }
        // The user chose the certificate by its fingerprint.
        Existing::Certificate(_) if args.fingerprint.is_some() => {}
        _ if args.replace => {}
        existing => confirm_replacement(out, &existing, fingerprint, environment)?,
    }
    files::replace(out, pem.as_bytes())?;
    report::info(&format!("{} written: {fingerprint}", out.shown()));
    Ok(Outcome::Done)
}

/// The content of the output file before it is written.
enum Existing {
    None,
    Certificate(Fingerprint),
    /// Content that is not a certificate.
    Other,
}

fn read_existing(out: &Path) -> Result<Existing> {
    // A pipe, a device or a missing file has no content to replace.
    if !out.is_file() {
        return Ok(Existing::None);
    }
    let bytes = files::read_as(out, Kind::Certificate)?;
    if bytes.trim_ascii().is_empty() {
        return Ok(Existing::None);
    }
    let certificate = Certificate::from_pem(&bytes);
    Ok(certificate.map_or(Existing::Other, |certificate| {
        Existing::Certificate(certificate.fingerprint().clone())
    }))
}

/// Asks the user on the terminal whether to replace the file. Fails if the user declines, or if there is no terminal.
fn confirm_replacement(
    out: &Path,
    existing: &Existing,
    new: &Fingerprint,
    environment: &Environment,
) -> Result<()> {
    let problem = match existing {
        Existing::Certificate(old) => format!(
            "{} contains another certificate, {old}; with {new}, values are sealed for another key, which is correct \
             if the key was renewed, and may be an attack otherwise",
            out.shown()
        ),
        _ => format!("{} already exists and is not a certificate", out.shown()),
    };
    let hint =
        format!("compare {new} with `seal keys list`, and pass --fingerprint {new} or --replace");
    let question = format!("{}\nReplace it? [y/N] ", shown(&problem));
    match prompt::confirm(&question, environment)? {
        Some(true) => Ok(()),
        Some(false) => bail!(Failure::new("nothing was written").hint(hint)),
        None => bail!(Failure::new(format!("{problem}; nothing was written")).hint(hint)),
    }
}

fn show(args: &CertShow, environment: &Environment) -> Result<Outcome> {
    let certificate = read(&args.source, environment)?;
    let report = CertificateReport {
        fingerprint: certificate.fingerprint().to_string(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        bits: certificate.public_key().modulus_len() * 8,
        validity: validity(&certificate, environment),
    };
    match args.output {
        OutputFormat::Text => print(report.text().as_bytes()),
        OutputFormat::Json => print(&output::json(&report)?),
    }
}

/// The output of `seal cert show`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateReport {
    /// The fingerprint of the public key.
    fingerprint: String,
    /// The beginning of the validity.
    not_before: Timestamp,
    /// The end of the validity.
    not_after: Timestamp,
    /// The size of the RSA key, in bits.
    bits: usize,
    /// Whether the certificate is valid now: `valid`, `not yet valid` or `expired`.
    validity: &'static str,
}

impl CertificateReport {
    fn text(&self) -> String {
        let Self {
            fingerprint,
            not_before,
            not_after,
            bits,
            validity,
        } = self;
        format!(
            "fingerprint  {fingerprint}\nvalid from   {not_before}\nvalid until  {not_after}\n\
             now          {validity}\nkey          RSA, {bits} bits\n"
        )
    }
}

fn validity(certificate: &Certificate, environment: &Environment) -> &'static str {
    match certificate.validity(environment.now) {
        Validity::Valid => "valid",
        Validity::NotYet => "not yet valid",
        Validity::Expired => "expired",
    }
}

/// Compares the certificate with those of `--fingerprint` and `--against`. Returns [`Outcome::Findings`] if none
/// matches, or if the certificate is not valid now.
fn verify(args: &CertVerify, environment: &Environment) -> Result<Outcome> {
    let certificate = read(&args.source, environment)?;
    let mut pins = args.fingerprint.clone();
    if let Some(against) = &args.against {
        let expected = read_certificate(against)?;
        pins.push(expected.fingerprint().clone());
    }
    let fingerprint = certificate.fingerprint();
    let mut outcome = Outcome::Done;
    if pins.contains(fingerprint) {
        report::info(&format!("{fingerprint} is the pinned certificate"));
    } else {
        let pins: Vec<String> = pins.iter().map(ToString::to_string).collect();
        report::info_lines(&format!(
            "the certificate has the fingerprint {fingerprint}, but the pinned fingerprint is {}\n\
             hint: if the key was renewed, `seal keys list` shows the new key (this needs permission to read the keys); \
             otherwise another server may have responded",
            pins.join(" or ")
        ));
        outcome = Outcome::Findings;
    }
    let validity = validity(&certificate, environment);
    if validity != "valid" {
        report::info(&format!(
            "the certificate is {validity}: valid from {} until {}",
            certificate.not_before(),
            certificate.not_after()
        ));
        outcome = Outcome::Findings;
    }
    Ok(outcome)
}

fn read(source: &CertSource, environment: &Environment) -> Result<Certificate> {
    match (&source.cert, &source.location.directory) {
        (Some(source), _) => read_certificate(source),
        (None, Some(directory)) => {
            certificate_in_directory(directory, &source.location, environment)
        }
        (None, None) => {
            let clusters = Clusters::new(environment);
            let access = access(&source.location, environment);
            let controller = Controller::find(&access, &clusters)?;
            let pem = controller.certificate()?;
            Certificate::from_pem(&pem).context("cannot use the certificate of the controller")
        }
    }
}

/// Returns the certificate of the sealing key in a directory.
fn certificate_in_directory(
    directory: &Path,
    location: &KeyLocation,
    environment: &Environment,
) -> Result<Certificate> {
    let records = open_store(location, &Clusters::new(environment))?.read()?;
    let states = record::states(&records, None);
    let mut keys = records.iter().zip(states);
    let sealing = keys.find(|(_, state)| *state == KeyState::Sealing);
    let key = sealing.and_then(|(record, _)| record.key.as_ref().ok());
    let pem = key.and_then(|key| Some(key.certificate()?.to_pem()));
    let pem = pem.with_context(|| {
        Failure::new(format!("no sealing key in {}", directory.shown()))
            .hint("start a controller on this directory, so that it generates a key")
    })?;
    Ok(Certificate::from_pem(pem.as_bytes())?)
}

fn read_certificate(source: &OsStr) -> Result<Certificate> {
    let pem = certificate::read(source)?;
    Certificate::from_pem(&pem)
        .with_context(|| format!("cannot use the certificate {}", redacted_source(source)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::output::tests::check;

    #[test]
    fn the_report_has_the_documented_form() {
        let report = CertificateReport {
            fingerprint: "SHA256:x".to_owned(),
            not_before: "2024-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2034-01-01T00:00:00Z".parse().unwrap(),
            bits: 4096,
            validity: "valid",
        };
        let want = r#"{
  "fingerprint": "SHA256:x",
  "notBefore": "2024-01-01T00:00:00Z",
  "notAfter": "2034-01-01T00:00:00Z",
  "bits": 4096,
  "validity": "valid"
}
"#;
        check("seal cert show", &report, want);
    }
}
