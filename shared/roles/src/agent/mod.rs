//! `seal agent`: runs in a Pod, receives values of SealedSecrets from the controller and writes them to files.

#[cfg(target_os = "linux")]
mod action;
#[cfg(target_os = "linux")]
mod config;
#[cfg(target_os = "linux")]
mod hcl;
#[cfg(target_os = "linux")]
mod linux;
mod objects;
#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(target_os = "linux")]
mod vault;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use deliver::Mode;

use crate::delivery::Delivery;

#[cfg(target_os = "linux")]
pub use linux::run;
#[cfg(target_os = "linux")]
pub(crate) use linux::{connect, stop_on_signals};
pub use objects::ObjectChoice;
#[cfg(not(target_os = "linux"))]
pub use unsupported::run;

/// The default of `--to`.
const TARGET: &str = "/secrets";

/// Arguments of `seal agent`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs as a sidecar until SIGTERM: a change reaches the files within about a second. All files are replaced \
together. While the controller cannot be reached, existing files stay, and the first start waits. The Pod needs a \
token for the audience \
sealed-secrets.bitnami.com in a projected volume, and its service account needs the permission that `seal grant` prints.\n\n\
A configuration is YAML with the list `objects` (entries with `sealedSecret`, `items`, `path`, `mode`; or `template`, `from`, \
`path`, `mode`), or HCL (*.hcl) with `template` blocks as for Vault Agent.\n\n\
Examples:\n  seal agent --objects=db --to=/secrets\n  seal agent --objects=db:password,web --to=/secrets --once\n  \
seal agent --objects=db --once --env-file=/env/db\n  seal agent --objects=web-tls --on-change=signal:HUP --process=nginx\n  \
seal agent --ready"
)]
pub struct Agent {
    /// SealedSecrets, or single items of them
    #[arg(
        long,
        value_name = "NAME[:ITEM]",
        value_delimiter = ',',
        required_unless_present_any = ["config", "ready"]
    )]
    pub objects: Vec<ObjectChoice>,
    /// File with the objects, templates and paths, instead of --objects
    #[arg(long, value_name = "FILE", conflicts_with = "objects")]
    pub config: Option<PathBuf>,
    /// Directory for the files
    #[arg(long, value_name = "DIR", default_value = TARGET)]
    pub to: PathBuf,
    /// Mode of the files, with --objects
    #[arg(long, value_name = "MODE", default_value_t, conflicts_with = "config")]
    pub mode: Mode,
    /// Owner and group of the files, as numeric IDs
    #[arg(long, value_name = "UID:GID")]
    pub owner: Option<String>,
    /// Write once and exit, for an init container
    #[arg(long)]
    pub once: bool,
    /// Only check that the files were written, for a startup probe; exit code 0 or 2
    #[arg(long, conflicts_with_all = ["objects", "config", "once"])]
    pub ready: bool,
    /// Write this file for `fileKeyRef` of Kubernetes, with a line for each item, instead of a directory
    #[arg(long, value_name = "FILE", requires = "once", conflicts_with = "to")]
    pub env_file: Option<PathBuf>,
    /// After a change, send a signal to --process, or run the command after `--`
    #[arg(long, value_name = "signal:NAME|exec", conflicts_with_all = ["once", "ready"])]
    pub on_change: Option<String>,
    /// Name of the program to signal; needs `shareProcessNamespace` in the Pod
    #[arg(long, value_name = "NAME", requires = "on_change")]
    pub process: Option<String>,
    /// Address of metrics and a probe; none if not given
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["once", "ready"])]
    pub listen: Option<SocketAddr>,
    /// The command for --on-change=exec
    #[arg(last = true, value_name = "COMMAND", requires = "on_change")]
    pub command: Vec<OsString>,
    /// How to reach the controller.
    #[command(flatten)]
    pub delivery: Delivery,
}
