//! `seal edit`: edits values in an editor.

#[cfg(target_os = "linux")]
mod document;
#[cfg(target_os = "linux")]
mod editor;
#[cfg(target_os = "linux")]
mod guarded;
#[cfg(target_os = "linux")]
mod hidden;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod unsupported;

use std::path::PathBuf;

use clap::Args;
use shared::rotate_by::RotateBy;

use crate::seal_args::Sealing;

#[cfg(target_os = "linux")]
pub use linux::run;
#[cfg(not(target_os = "linux"))]
pub use unsupported::run;

/// Arguments of `seal edit`.
#[derive(Debug, Args)]
#[command(after_help = "\
The editor is $VISUAL or $EDITOR, else vi, found in PATH. It edits an in-memory file that only you can read
and that is removed afterwards. Only Linux supports such files; on other systems the command fails. Values
that you do not change keep their ciphertext. Vim is started without swap, backup and undo files; other editors
may keep copies elsewhere, such as the local history of VS Code.

Examples:
  seal edit db.sealed.yaml --key key.pem
  seal edit db.sealed.yaml --blind --cert cert.pem")]
pub struct Edit {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Show only item keys and accept new values; nothing is decrypted
    #[arg(long, conflicts_with = "key")]
    pub blind: bool,
    /// Decrypt with these private keys (PEM, key Secrets, or v2 keys, one per line) instead of reading the Secret in the cluster; repeatable
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// When to change the values that you change: after a number of days such as 90d, on a date such as 2027-03-01,
    /// or never; recorded in an annotation, see `seal due`
    #[arg(long, value_name = "DAYS|DATE")]
    pub rotate_by: Option<RotateBy>,
    /// SealedSecret to change, if the file contains several: [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}
