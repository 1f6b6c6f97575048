use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Sealing;

/// Arguments of `seal lint`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rules: plain-secret malformed-file malformed-object malformed-value key-size retired-key other-key closed-item
  stale-hint scope no-name no-namespace name template-name template incomplete-type missing-item unknown-field
  duplicate-item repeated-key deprecated broken-rule rules-file certificate exemption
Key hints are advice: only the controller or a private key (--keys) can show whether a value can be unsealed.
Empty values, variables such as ${TOKEN} without a default, and template actions are not plain values.
To exempt a file, give a reason: in a comment `# seal lint: ignore plain-secret: REASON`, or in its rule in
.seal.yaml `ignore: {plain-secret: REASON}`.

Examples:
  seal lint
  seal lint --format sarif prod > findings.sarif
  seal lint --cert cert.pem --ignore other-key db.sealed.yaml")]
pub struct Lint {
    /// Files and folders to check; the current folder if none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Output format: text, json, sarif, github
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub format: LintFormat,
    /// Ignore findings of this rule; repeatable
    #[arg(long, value_name = "RULE")]
    pub ignore: Vec<String>,
    /// Private keys to try each item with, as PEM or key Secrets
    #[arg(long, value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Skip named files that are not YAML, like files below folders: for hooks, which name every committed
    /// file
    #[arg(long, hide = true)]
    pub found: bool,
    /// Check the staged content instead of the work tree: of the named files, or of every manifest that would
    /// be committed
    #[arg(long, hide = true)]
    pub staged: bool,
    /// Options for the certificate, namespace and scope that files are checked against.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// The output format of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LintFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations in GitHub Actions
    Github,
}
