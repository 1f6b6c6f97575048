//! `seal lint`: what is wrong in a tree, found without a cluster and without a key.

mod finding;
mod format;
mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use shared::error_chain;
use shared::key::Certificate;
use zeroize::Zeroizing;

pub use finding::{Finding, RULES, Rule, Severity};

use self::object::Against;
use super::session::Session;
use super::settings::{Origin, Settings};
use super::walk::{self, Candidate, Kind, ManifestFile, WalkError};
use super::{Outcome, print};
use crate::certificate::is_url;
use crate::files;
use crate::git::Repository;
use crate::redacted::redacted;
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
    let staged = words.staged.then(Repository::of_hook).transpose()?;
    let candidates = match &staged {
        Some(staged) => staged_candidates(words, staged)?,
        None => candidates(words)?,
    };
    if staged.is_some() && candidates.is_empty() {
        // Every commit without a manifest would say so.
        return Ok(Outcome::Done);
    }
    let mut linter = Linter {
        session: Session::new(&words.sealing, surroundings),
        findings: Vec::new(),
        certificates: BTreeMap::new(),
    };
    for candidate in &candidates {
        let bytes = match &staged {
            Some(staged) => staged.staged(&candidate.path)?,
            None => files::read(&candidate.path)?,
        };
        linter.look_at(candidate, bytes);
    }
    let mut findings = linter.findings;
    findings.retain(|finding| !words.ignore.iter().any(|name| name == finding.rule.name));
    findings.sort_by(|a, b| (&a.file, a.line, a.rule).cmp(&(&b.file, b.line, b.rule)));
    findings.dedup();
    show(words, &findings, candidates.len(), surroundings)
}

/// The files in the work tree.
fn candidates(words: &Lint) -> Result<Vec<Candidate>> {
    let mut candidates = walk::candidates(&words.paths)?;
    for candidate in &mut candidates {
        candidate.named &= !words.found;
    }
    Ok(candidates)
}

/// The files that were named, or else every manifest that would be committed. They need not lie in the work
/// tree any more.
fn staged_candidates(words: &Lint, staged: &Repository) -> Result<Vec<Candidate>> {
    let paths: BTreeSet<PathBuf> = if words.paths.is_empty() {
        let files = staged.staged_files()?.into_iter();
        let manifests = files.filter(|path| walk::is_manifest_name(path));
        manifests.map(|path| files::from_here(&path)).collect()
    } else {
        words.paths.iter().cloned().collect()
    };
    let found = |path| Candidate { path, named: false };
    Ok(paths.into_iter().map(found).collect())
}

fn show(
    words: &Lint,
    findings: &[Finding],
    files: usize,
    surroundings: &Surroundings,
) -> Result<Outcome> {
    let pretty = |json| {
        let text = serde_json::to_string_pretty(&json).unwrap_or_default();
        report::json_shown(&text) + "\n"
    };
    let text = match words.format {
        LintFormat::Text => format::text(findings, Paint::for_stdout(surroundings)),
        LintFormat::Json => pretty(format::json(findings)),
        LintFormat::Sarif => pretty(format::sarif(findings)),
        LintFormat::Github => format::github(findings),
    };
    print(text.as_bytes())?;
    let (count, of) = (findings.len(), if files == 1 { "file" } else { "files" });
    // Whoever mends the file alone would be told the same again.
    let next = if words.staged {
        ", as staged: `git add` what you mend"
    } else {
        ""
    };
    report::say(&match count {
        0 => format!("nothing found in {files} {of}"),
        1 => format!("1 finding in {files} {of}{next}"),
        _ => format!("{count} findings in {files} {of}{next}"),
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
    fn look_at(&mut self, candidate: &Candidate, bytes: Zeroizing<Vec<u8>>) {
        let path = &candidate.path;
        let may_hold_one = memchr::memmem::find(&bytes, b"Secret").is_some()
            || walk::may_hide_kind(&bytes)
            || !bytes.is_ascii();
        if !candidate.named && !may_hold_one {
            return;
        }
        // A Helm template is no YAML until it is rendered.
        let is_template = memchr::memmem::find(&bytes, b"{{").is_some();
        let names_secrets = names_secrets(&bytes);
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
                return;
            }
            Err(_) => return,
        };
        for node in file.of_kind(Kind::Secret) {
            if let Some(found) = object::plain_secret(node) {
                self.add(path, found);
            }
        }
        if file.of_kind(Kind::SealedSecret).next().is_none() {
            return;
        }
        let Some(settings) = self.settings(path) else {
            return;
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
    }

    fn add(&mut self, file: &Path, (rule, line, message): object::Found) {
        self.findings.push(Finding {
            rule,
            file: files::from_here(file),
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
        // One certificate under two rules is checked for each of them, since each may demand another.
        let (file, line) = blamed(settings);
        let key = Source::At(format!("{}:{line}:{source:?}", file.to_string_lossy()));
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

/// Does a text that nobody can parse say that it holds Secrets?
fn names_secrets(text: &[u8]) -> bool {
    const KINDS: [&[u8]; 4] = [
        b"Secret",
        b"SealedSecret",
        b"SecretList",
        b"SealedSecretList",
    ];
    memchr::memmem::find_iter(text, b"kind").any(|at| {
        let (before, rest) = text.split_at(at);
        before.last().is_none_or(|byte| !is_of_word(*byte))
            && word_behind(&rest[b"kind".len()..]).is_some_and(|kind| KINDS.contains(&kind))
    })
}

/// The word that is the value of the key before, with quotes around either or without.
fn word_behind(key: &[u8]) -> Option<&[u8]> {
    let value = without_quote(key).trim_ascii_start().strip_prefix(b":")?;
    let word = without_quote(value.trim_ascii_start());
    let end = word.iter().position(|byte| !is_of_word(*byte));
    Some(&word[..end.unwrap_or(word.len())])
}

fn without_quote(text: &[u8]) -> &[u8] {
    match text {
        [b'"' | b'\'', rest @ ..] => rest,
        _ => text,
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Where somebody has to change something so that there is a certificate.
fn blamed(settings: &Settings) -> (PathBuf, usize) {
    let line = settings.rule.as_ref().map_or(1, |rule| rule.line);
    match (&settings.rules, &settings.certificate.value) {
        (Some(rules), _) => (rules.path.clone(), line),
        (None, Source::At(at)) => (PathBuf::from(&*redacted(at)), 1),
        (None, Source::Controller { .. }) => (PathBuf::from("."), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_text_names_secrets_however_it_quotes_them() {
        for (text, want) in [
            ("kind: Secret\na: [", true),
            ("a: [\nkind:  SealedSecret", true),
            ("- kind: 'Secret'\n", true),
            ("kind: \"Secret\" # x\n", true),
            ("{\"kind\": \"Secret\",", true),
            ("{\"kind\":\"SealedSecret\"", true),
            ("{\"kind\" :\n \"Secret\"}}", true),
            ("'kind': Secret\r\n", true),
            ("kind: SecretList\n", true),
            ("kind: SecretStore\n---\nkind: Secret\n", true),
            ("kind: SecretStore\n", false),
            ("kind: ClusterSecretStore\n", false),
            ("\"kind\": \"SecretProviderClass\"", false),
            ("kind: Secret-of-mine\n", false),
            ("mankind: Secret\n", false),
            ("kind of Secret\n", false),
            ("kinds: Secret\n", false),
            ("kind:", false),
            ("kind", false),
            ("Secret", false),
        ] {
            assert_eq!(names_secrets(text.as_bytes()), want, "{text:?}");
        }
    }
}
