//! `seal lint`: finds mistakes in a tree without a cluster and without a key.

mod exempt;
mod format;
mod generated;
mod object;
mod placeholder;
mod plain;
mod repeated;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use shared::error_chain;
use shared::key::Certificate;
use shared::key_ring::KeyRing;
use shared::manifest::{self, ReadError, ReadProblem};
use zeroize::Zeroizing;

use kubeseal_library::finding;
pub use kubeseal_library::finding::{Finding, RULES, Rule, Severity};

use kubeseal_library::certificate::is_url;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::git::Repository;
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::Source;
use kubeseal_library::shown::ShowPath as _;
use kubeseal_library::walk::{self, Candidate, Kind, ManifestFile, PassedOver};

use self::object::{Against, Unjudged};
use super::session::Session;
use super::settings::{Origin, Settings};
use super::{Outcome, print};
use crate::command::read_keys;
use crate::report::{self, Paint, path_text};
use crate::seal_args::{Lint, LintFormat};

/// The arguments are invalid.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// `--ignore` names a rule that does not exist.
    #[error("unknown rule {0:?}; `seal lint --help` lists the rules")]
    NoSuchRule(String),
}

/// Runs the command.
///
/// # Errors
///
/// A path cannot be read; for a file below a folder, the findings of the others are shown first. Mistakes in a file
/// are findings.
pub fn run(args: &Lint, environment: &Environment) -> Result<Outcome> {
    let known = |name: &String| RULES.iter().any(|rule| rule.name == name);
    if let Some(name) = args.ignore.iter().find(|name| !known(name)) {
        return Err(LintError::NoSuchRule(name.clone()).into());
    }
    let staged = args.staged.then(Repository::of_hook).transpose()?;
    let candidates = match &staged {
        Some(staged) => staged_candidates(args, staged)?,
        None => candidates(args)?,
    };
    if staged.is_some() && candidates.is_empty() {
        // Otherwise every commit without a manifest would print "nothing found".
        return Ok(Outcome::Done);
    }
    let ring = (!args.keys.is_empty()).then(|| read_keys(&args.keys));
    let ring = ring.transpose()?;
    let mut linter = Linter {
        session: Session::new(&args.sealing, environment),
        staged: staged.as_ref(),
        ring,
        findings: Vec::new(),
        exempted: 0,
        unjudged: Unjudged::default(),
        certificates: BTreeMap::new(),
    };
    let mut unread = 0;
    for candidate in &candidates {
        match bytes_of(candidate, staged.as_ref())? {
            Some(bytes) => linter.look_at(candidate, bytes),
            None => unread += 1,
        }
    }
    let remarks = remarks(&linter);
    let mut findings = linter.findings;
    findings.retain(|finding| !args.ignore.iter().any(|name| name == finding.rule.name));
    findings.sort_by(|a, b| (&a.file, a.line, a.rule).cmp(&(&b.file, b.line, b.rule)));
    findings.dedup();
    show(args, &findings, candidates.len() - unread, environment)?;
    for remark in remarks {
        report::say(&remark);
    }
    PassedOver::check(unread)?;
    Ok(if findings.is_empty() {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// Returns the content of a file, as staged or of the work tree. A file that was found and cannot be read is reported,
/// and the others are checked; a named one is an error.
fn bytes_of(
    candidate: &Candidate,
    staged: Option<&Repository>,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let path = &candidate.path;
    if let Some(staged) = staged {
        return Ok(Some(staged.staged(path)?));
    }
    match files::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if candidate.named => Err(error.into()),
        Err(error) => {
            let problem = error_chain(&error);
            report::say(&format!("{}: not checked: {problem}", path.shown()));
            Ok(None)
        }
    }
}

/// Returns remarks about items that could not be checked and findings that are exempted.
fn remarks(linter: &Linter<'_>) -> Vec<String> {
    let items = |count| {
        if count == 1 {
            "1 item".to_owned()
        } else {
            format!("{count} items")
        }
    };
    let Unjudged {
        unknown,
        uncompared,
    } = linter.unjudged;
    let mut remarks = Vec::new();
    if unknown > 0 {
        let hint = if linter.ring.is_some() {
            ""
        } else {
            "; --keys FILE tries private keys"
        };
        remarks.push(format!(
            "{} could not be judged: no key hint{hint}",
            items(unknown)
        ));
    }
    if uncompared > 0 {
        remarks.push(format!(
            "{} could not be judged: no certificate is known; --cert FILE names it",
            items(uncompared)
        ));
    }
    match linter.exempted {
        0 => {}
        1 => remarks.push("1 finding is exempted, with a reason".to_owned()),
        n => remarks.push(format!("{n} findings are exempted, with a reason")),
    }
    remarks
}

/// Returns the files of the work tree to check.
fn candidates(args: &Lint) -> Result<Vec<Candidate>> {
    let mut candidates = walk::candidates(&args.paths, &mut report::notice)?;
    for candidate in &mut candidates {
        candidate.named &= !args.found;
    }
    Ok(candidates)
}

/// Returns the named files, or else every staged manifest. The files may be missing in the work tree.
fn staged_candidates(args: &Lint, staged: &Repository) -> Result<Vec<Candidate>> {
    let paths: BTreeSet<PathBuf> = if args.paths.is_empty() {
        let files = staged.staged_files()?.into_iter();
        let manifests = files.filter(|path| walk::is_manifest_name(path));
        manifests.map(|path| files::from_here(&path)).collect()
    } else {
        args.paths.iter().cloned().collect()
    };
    let found = |path| Candidate { path, named: false };
    Ok(paths.into_iter().map(found).collect())
}

fn show(args: &Lint, findings: &[Finding], files: usize, environment: &Environment) -> Result<()> {
    let pretty = |json| {
        let text = serde_json::to_string_pretty(&json).unwrap_or_default();
        report::json_shown(&text) + "\n"
    };
    let text = match args.format {
        LintFormat::Text => format::text(findings, Paint::for_stdout(environment)),
        LintFormat::Json => pretty(format::json(findings)),
        LintFormat::Sarif => pretty(format::sarif(findings)),
        LintFormat::Github => format::github(findings),
    };
    print(text.as_bytes())?;
    let (count, of) = (findings.len(), if files == 1 { "file" } else { "files" });
    // After a change of the file alone, without `git add`, the hook would report the same finding again.
    let next = if args.staged {
        ", as staged: `git add` what you mend"
    } else {
        ""
    };
    report::say(&match count {
        0 => format!("nothing found in {files} {of}"),
        1 => format!("1 finding in {files} {of}{next}"),
        _ => format!("{count} findings in {files} {of}{next}"),
    });
    Ok(())
}

struct Linter<'a> {
    session: Session<'a>,
    /// The repository, if the staged content is checked.
    staged: Option<&'a Repository>,
    /// The private keys of `--keys`, if given.
    ring: Option<KeyRing>,
    findings: Vec<Finding>,
    /// The number of findings that a comment or a rule exempts.
    exempted: usize,
    unjudged: Unjudged,
    /// Certificates by source and rule; `None` for one that cannot be read.
    certificates: BTreeMap<Source, Option<Arc<Certificate>>>,
}

impl Linter<'_> {
    fn look_at(&mut self, candidate: &Candidate, bytes: Zeroizing<Vec<u8>>) {
        // Part of both `Secret` and `secretGenerator`.
        let is_mentioned = memchr::memmem::find(&bytes, b"ecret").is_some();
        if !candidate.named && !is_mentioned && !walk::may_hide_kind(&bytes) && bytes.is_ascii() {
            return;
        }
        let (exempt, problems) = exempt::comments(&bytes);
        let before = self.findings.len();
        self.look_into(candidate, bytes);
        if self.findings.len() > before {
            self.exempt(&candidate.path, before, &exempt);
        }
        for problem in problems {
            self.add(&candidate.path, problem);
        }
    }

    /// Removes the findings that a comment of the file, or its rule in `.seal.yaml`, exempts.
    fn exempt(&mut self, path: &Path, before: usize, by_comment: &[Rule]) {
        let settings = self.session.settings(path).ok();
        let ignored = settings.and_then(|settings| Some(settings.rule?.ignore));
        let ignored = ignored.unwrap_or_default();
        let file = files::from_here(path);
        let is_exempt = |finding: &Finding| {
            let by_rule = ignored.iter().any(|(name, _)| name == finding.rule.name);
            finding.file == file && (by_rule || by_comment.contains(&finding.rule))
        };
        let new = self.findings.split_off(before);
        let (exempt, others): (Vec<_>, Vec<_>) = new.into_iter().partition(is_exempt);
        self.exempted += exempt.len();
        self.findings.extend(others);
    }

    fn look_into(&mut self, candidate: &Candidate, bytes: Zeroizing<Vec<u8>>) {
        let path = &candidate.path;
        let documents = manifest::read(&bytes).unwrap_or_else(|error| {
            let is_meant = || walk::names_kind(&bytes, &SECRETS) && !is_template(&error, &bytes);
            if candidate.named || is_meant() {
                let line = error.line().unwrap_or(1);
                let message = error.problem.to_string();
                self.add(path, (finding::MALFORMED_FILE, line, message));
            }
            // The cluster applies documents one by one, so the well-formed ones are checked.
            manifest::read_well_formed(&bytes)
        });
        let repeated = repeated::keys(&bytes);
        let file = ManifestFile::of(path, bytes, documents);
        let secrets = file.of_kind(Kind::Secret).filter_map(plain::secret);
        let generators = file.documents.iter().map(|document| &document.root);
        let roots = generators.clone();
        let files = roots.flat_map(|root| generated::files(root, path, self.staged));
        let literals = generators.flat_map(plain::generators);
        for found in secrets.chain(literals).chain(files).collect::<Vec<_>>() {
            self.add(path, found);
        }
        if file.of_kind(Kind::SealedSecret).next().is_some() {
            self.sealed(path, &file);
        }
        self.add_repeated(path, repeated);
    }

    /// Adds findings of repeated keys, but not for an item that already has a finding as a duplicate.
    fn add_repeated(&mut self, path: &Path, repeated: Vec<object::Found>) {
        let file = files::from_here(path);
        let own = self
            .findings
            .iter()
            .filter(|finding| finding.rule == finding::DUPLICATE_ITEM && finding.file == file);
        let own: BTreeSet<usize> = own.map(|finding| finding.line).collect();
        for found in repeated {
            if !own.contains(&found.1) {
                self.add(path, found);
            }
        }
    }

    fn sealed(&mut self, path: &Path, file: &ManifestFile) {
        let Some(settings) = self.settings(path) else {
            return;
        };
        let certificate = self.certificate(&settings);
        for node in file.of_kind(Kind::SealedSecret) {
            let against = Against {
                settings: &settings,
                certificate: certificate.as_deref(),
                ring: self.ring.as_ref(),
            };
            let (found, unjudged) = object::sealed_secret(node, against);
            self.unjudged.add(unjudged);
            for found in found {
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
                    .map(|error: &kubeseal_library::rules::RulesFileError| error.file());
                let (file, line) = file.unwrap_or_else(|| (path.to_owned(), 1));
                let message = error_chain(error.as_ref());
                self.add(&file, (finding::RULES_FILE, line, message));
                None
            }
        }
    }

    /// Returns the certificate if it is a file or comes from `--cert`. `lint` calls neither a cluster nor, unless
    /// `--cert` names it, another server.
    fn certificate(&mut self, settings: &Settings) -> Option<Arc<Certificate>> {
        let source = &settings.certificate.value;
        let typed = matches!(settings.certificate.by, Origin::Flag("cert"));
        match source {
            Source::At(at) if typed || !is_url(at) => {}
            _ => return None,
        }
        // A certificate of two rules is checked for each of them, because each may require another fingerprint.
        let (file, line) = blamed(settings);
        let key = Source::At(format!("{}:{line}:{source:?}", path_text(file.as_os_str())).into());
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

/// A malformed file is reported only if it names one of these kinds.
const SECRETS: [&str; 4] = ["Secret", "SealedSecret", "SecretList", "SealedSecretList"];

/// Returns whether a file is a template, which is not a manifest until it is rendered. A stream of JSON is not one: the
/// cluster applies the documents before the error.
fn is_template(error: &ReadError, bytes: &[u8]) -> bool {
    let is_action = |rest: &[u8]| matches!(rest, [b'{', b'{' | b'%' | b'#', ..]);
    let is_json = manifest::begins_like_json(bytes) && !is_action(bytes.trim_ascii_start());
    matches!(error.problem, ReadProblem::Template(_)) && !is_json
}

/// Returns the file and line to report for a missing certificate: where the user can fix it.
fn blamed(settings: &Settings) -> (PathBuf, usize) {
    let line = settings.rule.as_ref().map_or(1, |rule| rule.line);
    match (&settings.rules, &settings.certificate.value) {
        (Some(rules), _) => (rules.path.clone(), line),
        (None, Source::At(at)) => (PathBuf::from(&*redacted_source(at)), 1),
        (None, Source::Controller { .. }) => (PathBuf::from("."), 1),
    }
}
