//! The case table: `tests/differential/*.toml`, explained in `tests/differential/README.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// One input for both programs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The name: a sentence, unique among all cases.
    pub(crate) name: String,
    /// The arguments, quoted as in a shell.
    pub(crate) args: Option<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Option<String>,
    /// Binary input, in base64. Replaces `stdin`.
    pub(crate) stdin_base64: Option<String>,
    /// Files in the directory before the run, in addition to the standard files.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Symbolic links in the directory before the run: name to target.
    #[serde(default)]
    pub(crate) links: BTreeMap<String, String>,
    /// Permission bits of files before the run, in octal; 644 otherwise.
    #[serde(default)]
    pub(crate) modes: BTreeMap<String, String>,
    /// Additional labels to try on ciphertexts. The label that decrypts a ciphertext is part of the outcome.
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    /// Seconds after which upstream is considered to hang.
    pub(crate) limit: Option<u64>,
}

/// Defaults for the cases of one file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    args: Option<String>,
    stdin: Option<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    default: Defaults,
    case: Vec<Case>,
}

/// Loads every case of the table, ordered by file name and then as in the file.
pub(crate) fn load(directory: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for path in group_files(directory)? {
        cases.extend(load_group(&path).with_context(|| path.display().to_string())?);
    }
    let mut names = BTreeSet::new();
    for case in &cases {
        ensure!(
            names.insert(&case.name),
            "two cases are named {:?}",
            case.name
        );
    }
    Ok(cases)
}

fn group_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let is_group = path.extension().is_some_and(|e| e == "toml")
            && path.file_stem().is_some_and(|stem| stem != "DIFFERENCES");
        if is_group {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn load_group(path: &Path) -> Result<Vec<Case>> {
    let group: Group = toml::from_str(&fs::read_to_string(path)?)?;
    group
        .case
        .into_iter()
        .map(|case| case.with_defaults(&group.default))
        .collect()
}

impl Case {
    /// Returns the name and the command line.
    pub(crate) fn title(&self) -> String {
        format!(
            "## {}\n$ kubeseal {}",
            self.name,
            self.args.as_deref().unwrap_or_default()
        )
    }

    fn with_defaults(mut self, defaults: &Defaults) -> Result<Self> {
        if self.args.is_none() && defaults.args.is_none() {
            bail!("case {:?} has no args", self.name);
        }
        self.args = self.args.or_else(|| defaults.args.clone());
        if self.stdin_base64.is_none() {
            self.stdin = self.stdin.or_else(|| defaults.stdin.clone());
        }
        for (name, content) in &defaults.files {
            self.files
                .entry(name.clone())
                .or_insert_with(|| content.clone());
        }
        if self.labels.is_empty() {
            self.labels.clone_from(&defaults.labels);
        }
        Ok(self)
    }
}
