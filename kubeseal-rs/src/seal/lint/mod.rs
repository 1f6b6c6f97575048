//! `seal lint`: what is wrong in a tree, found without a cluster and without a key.

mod finding;
mod format;
mod object;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use shared::error_chain;
use shared::key::Certificate;

pub use finding::{Finding, RULES, Rule, Severity};

use self::object::Against;
use super::session::Session;
use super::settings::{Origin, Settings};
use super::walk::{self, Candidate, Kind, ManifestFile, WalkError};
use super::{Outcome, print};
use crate::certificate::is_url;
use crate::files;
use crate::report::{self, Paint};
use crate::rules::Source;
use crate::seal_args::{Lint, LintFormat};
use crate::surroundings::Surroundings;

/// The words make no sense.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// `--ignore` of nothing.
    #[error("there is no rule {0:?}; `seal lint --help` lists them")]
    NoSuchRule(String),
}

/// Runs the command.
///
/// # Errors
///
/// A path cannot be read. What is wrong inside is a finding.
pub fn run(words: &Lint, surroundings: &Surroundings) -> Result<Outcome> {
    let known = |name: &String| RULES.iter().any(|rule| rule.name == name);
    if let Some(name) = words.ignore.iter().find(|name| !known(name)) {
        return Err(LintError::NoSuchRule(name.clone()).into());
    }
    let mut candidates = walk::candidates(&words.paths)?;
    for candidate in &mut candidates {
        candidate.named &= !words.found;
    }
    let mut linter = Linter {
        session: Session::new(&words.sealing, surroundings),
        findings: Vec::new(),
        certificates: BTreeMap::new(),
    };
    for candidate in &candidates {
        linter.look_at(candidate)?;
    }
    let mut findings = linter.findings;
    findings.retain(|finding| !words.ignore.iter().any(|name| name == finding.rule.name));
    findings.sort_by(|a, b| (&a.file, a.line, a.rule).cmp(&(&b.file, b.line, b.rule)));
    findings.dedup();
    show(words, &findings, candidates.len(), surroundings)
}

fn show(
    words: &Lint,
    findings: &[Finding],
    files: usize,
    surroundings: &Surroundings,
) -> Result<Outcome> {
    let pretty = |json| serde_json::to_string_pretty(&json).unwrap_or_default() + "\n";
    let text = match words.format {
        LintFormat::Text => format::text(findings, Paint::for_stdout(surroundings)),
        LintFormat::Json => pretty(format::json(findings)),
        LintFormat::Sarif => pretty(format::sarif(findings)),
        LintFormat::Github => format::github(findings),
    };
    print(text.as_bytes())?;
    let (count, of) = (findings.len(), if files == 1 { "file" } else { "files" });
    report::say(&match count {
        0 => format!("nothing found in {files} {of}"),
        1 => format!("1 finding in {files} {of}"),
        _ => format!("{count} findings in {files} {of}"),
    });
    Ok(if findings.is_empty() {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

struct Linter<'a> {
    session: Session<'a>,
    findings: Vec<Finding>,
    /// Certificates that can be had without a network, and those that cannot.
    certificates: BTreeMap<Source, Option<Arc<Certificate>>>,
}

impl Linter<'_> {
    fn look_at(&mut self, candidate: &Candidate) -> Result<()> {
        let path = &candidate.path;
        let bytes = files::read(path)?;
        if !candidate.named && memchr::memmem::find(&bytes, b"Secret").is_none() && bytes.is_ascii()
        {
            return Ok(());
        }
        // A Helm template is no YAML until it is rendered.
        let is_template = memchr::memmem::find(&bytes, b"{{").is_some();
        let names = |kind: &[u8]| memchr::memmem::find(&bytes, kind).is_some();
        let names_secrets = names(b"kind: SealedSecret") || names(b"kind: Secret");
        let file = match ManifestFile::parse(path, bytes) {
            Ok(file) => file,
            Err(WalkError::Malformed { source, .. })
                if candidate.named || names_secrets && !is_template =>
            {
                let line = source.line().unwrap_or(1);
                self.add(
                    path,
                    (finding::MALFORMED_FILE, line, source.problem.to_string()),
                );
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        for node in file.of_kind(Kind::Secret) {
            if let Some(found) = object::plain_secret(node) {
                self.add(path, found);
            }
        }
        if file.of_kind(Kind::SealedSecret).next().is_none() {
            return Ok(());
        }
        let Some(settings) = self.settings(path) else {
            return Ok(());
        };
        let certificate = self.certificate(&settings);
        let against = Against {
            settings: &settings,
            certificate: certificate.as_deref(),
        };
        for node in file.of_kind(Kind::SealedSecret) {
            for found in object::sealed_secret(node, against) {
                self.add(path, found);
            }
        }
        Ok(())
    }

    fn add(&mut self, file: &Path, (rule, line, message): object::Found) {
        self.findings.push(Finding {
            rule,
            file: from_here(file),
            line,
            message,
        });
    }

    fn settings(&mut self, path: &Path) -> Option<Settings> {
        match self.session.settings(path) {
            Ok(settings) => Some(settings),
            Err(error) => {
                let file = error
                    .downcast_ref()
                    .map(|error: &crate::rules::RulesFileError| error.file());
                let (file, line) = file.unwrap_or_else(|| (path.to_owned(), 1));
                let message = error_chain(error.as_ref());
                self.add(&file, (finding::RULES_FILE, line, message));
                None
            }
        }
    }

    /// Only what lies in a file, or was typed: lint asks neither a cluster nor, by itself, a server.
    fn certificate(&mut self, settings: &Settings) -> Option<Arc<Certificate>> {
        let source = &settings.certificate.value;
        let typed = matches!(settings.certificate.by, Origin::Flag("cert"));
        match source {
            Source::At(at) if typed || !is_url(at) => {}
            _ => return None,
        }
        let key = match &settings.rules {
            Some(rules) if !typed => Source::At(format!("{}:{source:?}", rules.path.display())),
            _ => source.clone(),
        };
        if let Some(known) = self.certificates.get(&key) {
            return known.clone();
        }
        let certificate = match self.session.certificate(settings) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                let (file, line) = blamed(settings);
                self.add(
                    &file,
                    (finding::CERTIFICATE, line, error_chain(error.as_ref())),
                );
                None
            }
        };
        self.certificates.insert(key, certificate.clone());
        certificate
    }
}

/// A file of rules is found by its absolute path; readers of findings want it as all others are.
fn from_here(file: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let below = here
        .ok()
        .and_then(|here| file.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or_else(|| file.to_owned())
}

/// Where somebody has to change something so that there is a certificate.
fn blamed(settings: &Settings) -> (PathBuf, usize) {
    let line = settings.rule.as_ref().map_or(1, |rule| rule.line);
    match (&settings.rules, &settings.certificate.value) {
        (Some(rules), _) => (rules.path.clone(), line),
        (None, Source::At(at)) => (PathBuf::from(at), 1),
        (None, Source::Controller { .. }) => (PathBuf::from("."), 1),
    }
}
