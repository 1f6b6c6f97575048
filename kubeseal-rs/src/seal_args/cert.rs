use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use shared::key::Fingerprint;

use super::{Form, Place};

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
    /// The cluster and controller, if no certificate is given.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `seal cert fetch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert fetch cert.pem --out copy.pem")]
pub struct CertFetch {
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace a file that contains another certificate, without asking
    #[arg(long, requires = "out")]
    pub replace: bool,
    /// Fail unless the certificate has this fingerprint
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<Fingerprint>,
    /// The certificate to use.
    #[command(flatten)]
    pub source: CertSource,
}

/// Arguments of `seal cert show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal cert show cert.pem -o json")]
pub struct CertShow {
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Form,
    /// The certificate to use.
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
    /// The certificate to use.
    #[command(flatten)]
    pub source: CertSource,
}
