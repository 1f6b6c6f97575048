use std::path::PathBuf;

use clap::{Args, Subcommand};
use shared::key::Fingerprint;

use super::{Form, Place};

/// `seal cert`.
#[derive(Debug, Args)]
pub struct Cert {
    /// What about it.
    #[command(subcommand)]
    pub verb: CertVerb,
}

/// What can be done about the certificate.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Print the certificate of the controller, or write it to a file
    Fetch(CertFetch),
    /// Tell its fingerprint, validity and size
    Show(CertShow),
    /// Compare it with a pin
    Verify(CertVerify),
}

/// Which certificate.
#[derive(Debug, Clone, Default, Args)]
pub struct CertSource {
    /// Take this certificate instead of the controller's
    #[arg(value_name = "FILE|URL")]
    pub cert: Option<String>,
    /// Where the controller is.
    #[command(flatten)]
    pub place: Place,
}

/// `seal cert fetch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert fetch cert.pem --out copy.pem")]
pub struct CertFetch {
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// It must be this one
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<Fingerprint>,
    /// Which.
    #[command(flatten)]
    pub source: CertSource,
}

/// `seal cert show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert show cert.pem -o json")]
pub struct CertShow {
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: Form,
    /// Which.
    #[command(flatten)]
    pub source: CertSource,
}

/// `seal cert verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert verify cert.pem --against cert.pem")]
pub struct CertVerify {
    /// The pin; may be given several times
    #[arg(long, value_name = "SHA256:…", required_unless_present = "against")]
    pub fingerprint: Vec<Fingerprint>,
    /// A certificate to compare with
    #[arg(long, value_name = "FILE|URL")]
    pub against: Option<String>,
    /// Which.
    #[command(flatten)]
    pub source: CertSource,
}
