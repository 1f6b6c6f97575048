use std::path::PathBuf;

use clap::Args;
use kubeseal_library::format::Format;

use super::{Asking, Sealing};

/// Arguments of `seal rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only values change; comments, order and layout stay. Each file is replaced atomically, and values that are
already encrypted for the newest key are skipped, so that the next run completes an interrupted one.
With --key no cluster is contacted. Also pass the newest key: without it, only key hints show which values
are done, so each file gets them. A file that cannot be read is reported, and the exit code is 2.
With --key, a certificate that only a rule of .seal.yaml names is refused unless its private key is also
passed: pass --cert or --cert-fingerprint.
--dry-run uses sizes and key hints. With --key it decrypts only values without a conclusive hint; without
--key it only fetches the certificate of the controller.

Examples:
  seal rotate --key key.pem --cert cert.pem
  seal rotate --key key.pem --dry-run -o json prod/")]
pub struct Rotate {
    /// Files and folders to re-encrypt; the current folder if not given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Decrypt with these private keys (PEM or key Secrets) instead of asking the controller
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Format of the summary: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", value_parser = super::output_format())]
    pub output: Option<Format>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
    /// How to reach the controller's port for callers with a token.
    #[command(flatten)]
    pub asking: Asking,
}
