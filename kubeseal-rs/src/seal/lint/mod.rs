//! `seal lint`: finds mistakes in a tree without a cluster and without a key.

mod class;
mod connection_string;
mod exempt;
mod format;
mod generated;
mod misplaced;
mod named;
mod nested;
mod object;
mod patch;
mod placeholder;
mod plain;
mod repeated;
mod rotate_by;
mod sops;
mod sources;
mod target_kind;
mod template;
mod unrendered;
mod v2;
mod v2_keys;
mod v2_trials;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use kubeseal_library::certificate::{UseError, is_url};
use kubeseal_library::environment::Environment;
use kubeseal_library::git::{Repository, StagedLinks};
use kubeseal_library::notice::Notice;
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::{self, RulesFileError, Source};
use kubeseal_library::shown::ShowPath as _;
use kubeseal_library::walk::{self, Candidate, Kind, ManifestFile, SkippedFiles};
use kubeseal_library::{files, finding, loose};
use shared::error_chain;
use shared::key::Certificate;
use shared::key_ring::KeyRing;
use shared::manifest::{self, Document, Node, ReadError, ReadProblem, folded};
use shared::resource::SealedSecret;
use shared::rotate_by::date_of;
use zeroize::Zeroizing;

use self::class::ClassCheck;
use self::generated::GeneratedFiles;
use self::named::NamedFiles;
use self::nested::Search;
use self::object::{CheckContext, UncheckedItems};
use self::template::Literals;
use self::unrendered::UnreadableLine;
use super::controller_keys::KnownKeys;
use super::object::Object;
use super::recipients::{KnownRecipients, known_recipients};
use super::session::Session;
use super::settings::{self, Origin, Settings};
use super::{Outcome, print};
use crate::command::read_keys;
use crate::report::{self, Paint, path_text};
use crate::seal_args::Sealing;
pub use kubeseal_library::finding::{Finding, RULES, Rule, Severity};

/// Arguments of `seal lint`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rules: plain-secret sealed-key malformed-file malformed-object malformed-value key-size retired-key other-key
  closed-item stale-hint rotate-by rotate-by-line scope no-name no-namespace name template-name template
  incomplete-type missing-item unknown-field duplicate-item repeated-key size deprecated foreign-recipient
  missing-recipient mixed-suites weak-suite template-changed refused-value partly-bound unbound-value
  may-become-secret unused-lock format deliver deliver-value class class-secret class-parameter class-object
  class-item broken-rule rules-file certificate exemption not-checked
Findings of deliver, rotate-by and not-checked are notes, and do not change the exit code.
Key hints are advice: only the controller or a private key (--keys) can show whether a value can be unsealed.
Empty values, variables such as ${TOKEN} without a default, and template actions are not plain values.
To exempt a file, give a reason: in a comment `# seal lint: ignore plain-secret: REASON`, or in its rule in
.seal.yaml `ignore: {plain-secret: REASON}`.

Examples:
  seal lint
  seal lint --format sarif prod > findings.sarif
  seal lint --cert cert.pem --ignore other-key db.sealed.yaml")]
#[command(mut_arg("no_hints", |arg| arg.hide(true)))]
pub struct Lint {
    /// Files and directories to check; the current directory if none is given
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
    /// Private keys to try each item with, as PEM, key Secrets, or v2 keys, one per line
    #[arg(long, value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Skip named files that are not YAML, like files below directories: for hooks, which name every committed
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
    /// Human-readable text
    Text,
    /// Machine-readable JSON
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations for GitHub Actions
    Github,
}

/// Why the arguments or the rules are invalid.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// `--ignore` names a rule that does not exist.
    #[error("unknown rule {0:?}\nhint: `seal lint --help` lists the rules")]
    NoSuchRule(String),
    /// Files could not be checked against the rules that their repository sets.
    #[error("invalid rules (see above), so files were not checked against them")]
    Rules,
}

/// Reports mistakes in a tree, without a cluster and without a key.
///
/// # Errors
///
/// Fails if an argument is not valid, a path cannot be read, or a rules file is not valid. For a file below a directory
/// and for a rules file, the other findings are shown first. Mistakes in a file are findings.
pub fn run(args: &Lint, environment: &Environment) -> Result<Outcome> {
    let is_known = |name: &String| RULES.iter().any(|rule| rule.name == name);
    if let Some(name) = args.ignore.iter().find(|name| !is_known(name)) {
        return Err(LintError::NoSuchRule(name.clone()).into());
    }
    settings::check_certificate_flag(&args.sealing)?;
    let staged = args.staged.then(Repository::open_for_hook).transpose()?;
    let mut outside = Vec::new();
    let candidates = match &staged {
        Some(staged) => staged_candidates(args, staged)?,
        None => candidates(args, &mut outside)?,
    };
    if staged.is_some() && candidates.is_empty() {
        // Otherwise every commit without a manifest would print "nothing found".
        return Ok(Outcome::Done);
    }
    let links = staged.as_ref().map(Repository::staged_links).transpose()?;
    let ring = (!args.keys.is_empty()).then(|| read_keys(&args.keys));
    let ring = ring.transpose()?;
    let mut linter = Linter {
        session: Session::new(&args.sealing, environment),
        staged: links.as_ref(),
        ring,
        findings: Vec::new(),
        exempted: 0,
        unchecked: UncheckedItems::default(),
        generated: GeneratedFiles::default(),
        named: NamedFiles::default(),
        class_check: ClassCheck::default(),
        certificates: BTreeMap::new(),
        known_keys: BTreeMap::new(),
        problems: BTreeSet::new(),
    };
    if let Some(staged) = &staged {
        linter.check_encodings(staged, &candidates)?;
    }
    for (link, message) in outside {
        linter.add(&link, (finding::MALFORMED_FILE, 1, message));
    }
    let mut unreadable_count = 0;
    for candidate in &candidates {
        match bytes_of(candidate, staged.as_ref())? {
            Some(bytes) => linter.check_file(candidate, bytes),
            None => unreadable_count += 1,
        }
    }
    linter.check_named_files(&candidates);
    linter.check_classes(is_tree(args));
    linter.check_rules(&candidates);
    let remarks = remarks(&linter);
    let mut findings = linter.findings;
    findings.retain(|finding| !args.ignore.iter().any(|name| name == finding.rule.name));
    findings.sort_by(|a, b| (&a.file, a.line, a.rule).cmp(&(&b.file, b.line, b.rule)));
    findings.dedup();
    show(
        args,
        &findings,
        candidates.len() - unreadable_count,
        environment,
    )?;
    for remark in remarks {
        report::info(&remark);
    }
    SkippedFiles::check(unreadable_count)?;
    if findings
        .iter()
        .any(|finding| finding.rule == finding::RULES_FILE)
    {
        return Err(LintError::Rules.into());
    }
    Ok(if findings.iter().all(Finding::is_note) {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// Returns the content of a file, as staged or of the work tree. Returns `None` for a file of the work tree that cannot
/// be read, after reporting it.
fn bytes_of(
    candidate: &Candidate,
    staged: Option<&Repository>,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let path = &candidate.path;
    if let Some(staged) = staged {
        return Ok(Some(staged.staged_content(path)?));
    }
    match files::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => {
            let problem = error_chain(&error);
            report::info(&format!("{}: not checked: {problem}", path.shown()));
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
    let UncheckedItems {
        unknown,
        uncompared,
        recipients,
        untried,
    } = linter.unchecked;
    let mut remarks = Vec::new();
    if unknown > 0 {
        let hint = if linter.ring.is_some() {
            ""
        } else {
            "; pass --keys FILE to try private keys"
        };
        remarks.push(format!(
            "{} could not be checked: no key hint{hint}",
            items(unknown)
        ));
    }
    if untried > 0 {
        remarks.push(format!(
            "{} could not be checked with --keys: sealed for other keys, or in a template",
            items(untried)
        ));
    }
    if uncompared > 0 {
        let why = if linter.certificates.values().any(Option::is_none) {
            "the certificate cannot be used"
        } else {
            "no certificate is available; pass a certificate with --cert FILE"
        };
        remarks.push(format!("{} could not be checked: {why}", items(uncompared)));
    }
    if recipients > 0 {
        remarks.push(format!(
            "the recipients of {} could not be checked: no rule names their keys in a file or by identifier",
            items(recipients)
        ));
    }
    match linter.exempted {
        0 => {}
        1 => remarks.push("1 finding is exempted, with a reason".to_owned()),
        n => remarks.push(format!("{n} findings are exempted, with a reason")),
    }
    remarks
}

/// Returns whether the arguments include a directory. Only then, an object that no file defines counts as missing.
fn is_tree(args: &Lint) -> bool {
    let is_directory = |path: &PathBuf| !args.staged && path.is_dir();
    args.paths.is_empty() || args.paths.iter().any(is_directory)
}

/// Returns the files in the work tree to check. Adds links that lead out of the tree to `outside`, each with a message.
fn candidates(args: &Lint, outside: &mut Vec<(PathBuf, String)>) -> Result<Vec<Candidate>> {
    report::warn_about_missing_submodules(&args.paths);
    let mut notices = |notice| match notice {
        Notice::LinkOutside { link, target } => {
            let message = format!(
                "not read: symbolic link that leads out of the tree, to {}",
                target.shown()
            );
            outside.push((link, message));
        }
        notice => report::notice(notice),
    };
    let mut candidates = walk::candidates(&args.paths, &mut notices)?;
    for candidate in &mut candidates {
        candidate.named &= !args.found;
    }
    Ok(candidates)
}

/// Returns the named files or, if no file is named, every staged manifest. Also returns the kustomizations that read
/// one of the named files or, if no file is named, one of the staged files. The returned files may be missing in the
/// work tree.
fn staged_candidates(args: &Lint, staged: &Repository) -> Result<Vec<Candidate>> {
    let has_paths = !args.paths.is_empty();
    let files: Vec<PathBuf> = if has_paths {
        let absolute = |path: &PathBuf| Some(staged.root().join(staged.path_in_work_tree(path)?));
        args.paths.iter().filter_map(absolute).collect()
    } else {
        staged.staged_files()?
    };
    let readers = sources::readers(staged, &files)?;
    let mut paths: BTreeSet<PathBuf> = readers
        .iter()
        .map(|path| files::relative_to_current_directory(path))
        .collect();
    if has_paths {
        paths.extend(args.paths.iter().cloned());
    } else {
        let manifests = files.iter().filter(|path| walk::is_manifest_name(path));
        paths.extend(manifests.map(|path| files::relative_to_current_directory(path)));
    }
    let unnamed = |path| Candidate { path, named: false };
    Ok(paths.into_iter().map(unnamed).collect())
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
    let count = findings.iter().filter(|finding| !finding.is_note()).count();
    let noun = if files == 1 { "file" } else { "files" };
    // If the user changes only the file, without `git add`, the hook reports the same finding again.
    let next = if args.staged {
        ", as staged: `git add` your fixes"
    } else {
        ""
    };
    report::info(&match count {
        0 => format!("nothing found in {files} {noun}"),
        1 => format!("1 finding in {files} {noun}{next}"),
        _ => format!("{count} findings in {files} {noun}{next}"),
    });
    Ok(())
}

struct Linter<'a> {
    session: Session<'a>,
    /// The links of the index, if the staged content is checked.
    staged: Option<&'a StagedLinks<'a>>,
    /// The private keys of `--keys`, if given.
    ring: Option<KeyRing>,
    findings: Vec<Finding>,
    /// The number of findings that a comment or a rule exempts.
    exempted: usize,
    unchecked: UncheckedItems,
    generated: GeneratedFiles,
    named: NamedFiles,
    class_check: ClassCheck,
    /// Certificates by source and rule; `None` for a certificate that cannot be used.
    certificates: BTreeMap<Source, Option<Arc<Certificate>>>,
    /// The known keys of controllers, by rules file and rule.
    known_keys: BTreeMap<Option<(PathBuf, usize)>, Arc<KnownKeys>>,
    /// Problems with recipients that were reported: the line of the rule, and the message.
    problems: BTreeSet<(usize, String)>,
}

impl Linter<'_> {
    /// Reports staged files that Git converts to another encoding at checkout: the checked-out content then differs
    /// from the staged bytes, which are checked.
    fn check_encodings(&mut self, staged: &Repository, candidates: &[Candidate]) -> Result<()> {
        let converted = staged.converted_files()?;
        for Candidate { path, .. } in candidates {
            let path_in_tree = staged.path_in_work_tree(path);
            if path_in_tree
                .is_some_and(|path_in_tree| converted.contains(&staged.root().join(path_in_tree)))
            {
                let message = "the attribute working-tree-encoding changes this file at checkout, so only its content \
                               in Git was checked: remove the attribute in .gitattributes";
                let before = self.findings.len();
                self.add(path, (finding::MALFORMED_FILE, 1, message.to_owned()));
                let (exempt, _) = exempt::comments(&staged.staged_content(path)?);
                self.exempt(path, before, &exempt);
            }
        }
        Ok(())
    }

    /// Reports rules that apply to these files and cannot be used, even if no object needs them now.
    fn check_rules(&mut self, candidates: &[Candidate]) {
        let mut checked_directories = BTreeSet::new();
        for candidate in candidates {
            if !checked_directories.insert(candidate.path.parent()) {
                continue;
            }
            let error = self.session.settings(&candidate.path).err();
            if let Some(error) = error.as_ref().and_then(|error| error.downcast_ref()) {
                self.add_rules_error(error);
            }
        }
    }

    /// Reports an error in a rules file. Its content may be staged, and differ from the work tree.
    fn check_rules_file(&mut self, path: &Path, bytes: &[u8]) {
        if let Err(source) = rules::parse(bytes) {
            let path = path.to_owned();
            self.add_rules_error(&RulesFileError::Rules { path, source });
        }
    }

    fn add_rules_error(&mut self, error: &RulesFileError) {
        let (file, line) = error.file();
        let message = match error {
            RulesFileError::Rules { source, .. } => error_chain(source),
            error => error_chain(error),
        };
        self.add(&file, (finding::RULES_FILE, line, message));
    }

    fn check_file(&mut self, candidate: &Candidate, bytes: Zeroizing<Vec<u8>>) {
        if candidate
            .path
            .file_name()
            .is_some_and(|name| name == rules::FILE_NAME)
        {
            self.check_rules_file(&candidate.path, &bytes);
            return;
        }
        let is_relevant = candidate.named
            || sources::is_kustomization(&candidate.path)
            || mentions_secrets(&walk::without_nulls(&bytes));
        let before = self.findings.len();
        if !is_relevant && !walk::may_hide_kind(&bytes) && bytes.is_ascii() {
            self.add_loose_value(&candidate.path, &bytes, &[]);
            if self.findings.len() > before {
                self.exempt(&candidate.path, before, &[]);
            }
            return;
        }
        let (exempt, problems) = exempt::comments(&bytes);
        self.check_content(candidate, bytes);
        if self.findings.len() > before {
            self.exempt(&candidate.path, before, &exempt);
        }
        for problem in problems {
            self.add(&candidate.path, problem);
        }
    }

    /// Checks the files that kustomizations name, unless they are among the candidates.
    fn check_named_files(&mut self, candidates: &[Candidate]) {
        let paths: BTreeSet<&Path> = candidates.iter().map(|one| one.path.as_path()).collect();
        while let Some((file, bytes)) = self.named.next(self.staged) {
            let path = files::relative_to_current_directory(&file.path);
            if !paths.contains(path.as_path()) {
                self.add_value_of_patch(&path, &file.kustomization, &bytes);
                self.check_file(&Candidate { path, named: false }, bytes);
            }
        }
    }

    /// Applies the rule of a kustomization to the sealed values in a file that it names, if the rule requires that
    /// values never become a Secret and the rule of the file does not.
    fn add_value_of_patch(&mut self, path: &Path, kustomization: &Path, bytes: &[u8]) {
        if self.never_secret_rule(path).is_some() {
            return;
        }
        let rule = self.never_secret_rule(kustomization);
        let is_ignored = |rule: &rules::Rule| {
            let mut names = rule.ignore.iter().map(|(name, _)| name);
            names.any(|name| name == finding::NOT_CHECKED.name)
        };
        if let Some(rule) = rule.filter(|rule| !is_ignored(rule)) {
            self.add_loose_value_of_rule(path, bytes, &[], &rule);
        }
    }

    /// Removes the findings that a comment of the file, or its rule in `.seal.yaml`, exempts.
    fn exempt(&mut self, path: &Path, before: usize, by_comment: &[Rule]) {
        let settings = self.session.settings(path).ok();
        let ignored = settings.and_then(|settings| Some(settings.rule?.ignore));
        let ignored = ignored.unwrap_or_default();
        let file = files::relative_to_current_directory(path);
        let is_exempt = |finding: &Finding| {
            let by_rule = ignored.iter().any(|(name, _)| name == finding.rule.name);
            finding.file == file && (by_rule || by_comment.contains(&finding.rule))
        };
        let new = self.findings.split_off(before);
        let (exempt, others): (Vec<_>, Vec<_>) = new.into_iter().partition(is_exempt);
        self.exempted += exempt.len();
        self.findings.extend(others);
    }

    fn check_content(&mut self, candidate: &Candidate, bytes: Zeroizing<Vec<u8>>) {
        let path = &candidate.path;
        let read = manifest::read(&bytes);
        let repeated = repeated::keys(&bytes);
        let text = Zeroizing::new(String::from_utf8_lossy(&manifest::as_utf8(&bytes)).into_owned());
        let literals = Literals::of(&text);
        let mut search = Search::new(text.len(), self.known_keys(path));
        let mut unrendered = unrendered::Unrendered::default();
        let mut not_checked = Vec::new();
        // Actions in comments can change a template that is also well-formed YAML.
        let replaced = read
            .as_ref()
            .ok()
            .and_then(|_| unrendered::replace_actions(&text, &literals));
        let replaced = replaced.and_then(|text| manifest::read(text.as_bytes()).ok());
        let replaced = replaced.unwrap_or_default();
        let documents = read.unwrap_or_else(|error| {
            // Other programs may apply the well-formed documents, so these are checked.
            let documents = manifest::read_well_formed(&bytes);
            let is_relevant = sources::is_kustomization(path)
                || may_define_secrets(&bytes)
                || matches!(error.problem, ReadProblem::LineBreak(_)) && may_hide_secrets(&bytes);
            if is_template(&error, &bytes) {
                unrendered = unrendered::documents(&text, &literals, &documents);
                if is_relevant {
                    not_checked = unreadable_line_findings(&unrendered.unreadable);
                }
            } else if candidate.named || is_relevant {
                let line = error.line().unwrap_or(1);
                let message = error.problem.to_string();
                self.add(path, (finding::MALFORMED_FILE, line, message));
            }
            documents
        });
        let file = ManifestFile::of(path, bytes, documents);
        let unrendered = ManifestFile::of(path, Zeroizing::default(), unrendered.documents);
        let documents = || file.documents.iter().chain(&unrendered.documents);
        search.search_documents(&text, &literals, documents());
        search.search_documents(&text, &literals, &replaced);
        search.search_strings(&text, &literals);
        not_checked.extend(
            search
                .unreadable_lines
                .iter()
                .copied()
                .map(not_checked_finding),
        );
        let mut findings = search.findings;
        for root in documents().map(|document| &document.root) {
            findings.extend(plain::generators(root, &literals));
            findings.extend(self.generated.findings(root, path, self.staged));
            findings.extend(repeated::variants(root));
            if sources::is_kustomization(path) {
                self.named.add(root, path, self.staged);
            }
        }
        for finding in longest(findings).chain(not_checked) {
            self.add(path, finding);
        }
        self.add_sealed_secrets(path, &file, object::sealed_secret);
        self.add_sealed_secrets(path, &unrendered, object::unrendered);
        let checked: Vec<&Node> = file.of_kind(Kind::SealedSecret).collect();
        self.add_loose_value(path, &file.bytes, &checked);
        self.add_class_objects(path, &file);
        self.add_repeated(path, repeated);
    }

    /// Returns the keys of controllers that the rule of a file, the flags and `--keys` name. Contacts no server.
    fn known_keys(&mut self, path: &Path) -> Arc<KnownKeys> {
        let Ok(settings) = self.session.settings(path) else {
            return Arc::default();
        };
        let rules = settings.rules.as_ref().map(|rules| rules.path.clone());
        let cache_key = rules.zip(settings.rule.as_ref().map(|rule| rule.number));
        if let Some(known) = self.known_keys.get(&cache_key) {
            return Arc::clone(known);
        }
        let recipients = known_recipients(&settings, self.session.environment.now);
        let known = KnownKeys::named_in(&settings).with_recipients(&recipients);
        let known = match &self.ring {
            Some(ring) => known.with_ring(ring),
            None => known,
        };
        let known = Arc::new(known);
        self.known_keys.insert(cache_key, Arc::clone(&known));
        known
    }

    /// If the rule of the file requires that values never become a Secret, adds a note about the first sealed value
    /// outside these SealedSecrets, such as a value in a chart: lint does not check it.
    fn add_loose_value(&mut self, path: &Path, bytes: &[u8], checked: &[&Node]) {
        if let Some(rule) = self.never_secret_rule(path) {
            self.add_loose_value_of_rule(path, bytes, checked, &rule);
        }
    }

    /// Returns the rule of a file, if it requires that values never become a Secret.
    fn never_secret_rule(&mut self, path: &Path) -> Option<rules::Rule> {
        let settings = self.session.settings(path).ok();
        let rule = settings.and_then(|of_file| of_file.rule);
        rule.filter(|rule| rule.never_secret)
    }

    fn add_loose_value_of_rule(
        &mut self,
        path: &Path,
        bytes: &[u8],
        checked: &[&Node],
        rule: &rules::Rule,
    ) {
        let objects = checked.iter().map(|node| Object::read_leniently(node));
        let objects: Vec<Object> = objects.filter_map(Result::ok).collect();
        let sealed: Vec<&SealedSecret> = objects.iter().map(|object| &object.sealed).collect();
        if let Some(line) = loose::first_line_beside(&manifest::as_utf8(bytes), &sealed) {
            let message = format!(
                "a sealed value on this line is outside the SealedSecrets that can be checked here, so it may become a \
                 Secret, although {} requires that values never do: render the template or chart, and check the result",
                rule.describe()
            );
            self.add(path, (finding::NOT_CHECKED, line, message));
        }
    }

    /// Adds the findings about each `SecretProviderClass` in a file, and remembers the SealedSecrets.
    fn add_class_objects(&mut self, path: &Path, file: &ManifestFile) {
        for node in file.of_kind(Kind::SealedSecret) {
            self.class_check.add_sealed(node);
        }
        for node in file.objects() {
            for finding in self.class_check.add_class(node, path) {
                self.add(path, finding);
            }
        }
    }

    /// Adds the findings about SealedSecrets that classes name.
    fn check_classes(&mut self, is_tree: bool) {
        let class_check = std::mem::take(&mut self.class_check);
        for (file, finding) in class_check.findings(is_tree) {
            let before = self.findings.len();
            self.add(file, finding);
            self.exempt(file, before, &[]);
        }
    }

    /// Adds findings of repeated keys, except on a line that already has a finding about a duplicate item.
    fn add_repeated(&mut self, path: &Path, repeated: Vec<object::FindingInFile>) {
        let file = files::relative_to_current_directory(path);
        let own = self
            .findings
            .iter()
            .filter(|finding| finding.rule == finding::DUPLICATE_ITEM && finding.file == file);
        let own: BTreeSet<usize> = own.map(|finding| finding.line).collect();
        for finding in repeated {
            if !own.contains(&finding.1) {
                self.add(path, finding);
            }
        }
    }

    /// Adds the findings about the SealedSecrets in a file.
    fn add_sealed_secrets(&mut self, path: &Path, file: &ManifestFile, check: Check) {
        if file.of_kind(Kind::SealedSecret).next().is_none() {
            return;
        }
        let Some(settings) = self.settings(path) else {
            return;
        };
        let certificate = self.certificate(&settings);
        let recipients = self.recipients(&settings);
        for node in file.of_kind(Kind::SealedSecret) {
            let context = CheckContext {
                settings: &settings,
                certificate: certificate.as_deref(),
                ring: self.ring.as_ref(),
                recipients: &recipients,
                today: date_of(self.session.environment.now),
            };
            let (findings, unchecked) = check(node, context);
            self.unchecked.add(unchecked);
            for finding in findings {
                self.add(path, finding);
            }
        }
    }

    fn add(&mut self, file: &Path, (rule, line, message): object::FindingInFile) {
        self.findings.push(Finding {
            rule,
            file: files::relative_to_current_directory(file),
            line,
            message,
        });
    }

    fn settings(&mut self, path: &Path) -> Option<Settings> {
        match self.session.settings(path) {
            Ok(settings) => Some(settings),
            Err(error) => {
                if let Some(error) = error.downcast_ref() {
                    self.add_rules_error(error);
                } else {
                    let message = error_chain(error.as_ref());
                    self.add(path, (finding::RULES_FILE, 1, message));
                }
                None
            }
        }
    }

    /// Returns the recipients of v2 values that are known without a network.
    fn recipients(&mut self, settings: &Settings) -> KnownRecipients {
        let recipients = known_recipients(settings, self.session.environment.now);
        let (file, line) = certificate_location(settings);
        let has_recipients = settings
            .rule
            .as_ref()
            .is_some_and(|rule| !rule.recipients.is_empty());
        let problems = recipients.problems.iter().filter(|_| has_recipients);
        for problem in problems {
            if self.problems.insert((line, problem.clone())) {
                self.add(&file, (finding::CERTIFICATE, line, problem.clone()));
            }
        }
        recipients
    }

    /// Returns the certificate if it is a file or comes from `--cert`. `lint` never contacts a cluster, and contacts
    /// another server only if `--cert` contains its URL.
    fn certificate(&mut self, settings: &Settings) -> Option<Arc<Certificate>> {
        let source = &settings.certificate.value;
        let is_from_flag = matches!(settings.certificate.by, Origin::Flag("cert"));
        match source {
            Source::At(at) if is_from_flag || !is_url(at) => {}
            _ => return None,
        }
        // A certificate that two rules name is checked for each rule, because each may require a different fingerprint.
        let (file, line) = certificate_location(settings);
        let key = Source::At(format!("{}:{line}:{source:?}", path_text(file.as_os_str())).into());
        if let Some(certificate) = self.certificates.get(&key) {
            return certificate.clone();
        }
        let certificate = match self.session.certificate(settings) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                let (file, line) = certificate_location(settings);
                let message = match error.downcast_ref() {
                    Some(UseError::Expired { date, .. }) => format!(
                        "the certificate {} expired on {date}; fetch the current one with `seal cert fetch`",
                        certificate_name(source)
                    ),
                    _ => error_chain(error.as_ref()),
                };
                self.add(&file, (finding::CERTIFICATE, line, message));
                None
            }
        };
        self.certificates.insert(key, certificate.clone());
        certificate
    }
}

/// Reads a template that is not YAML, with placeholders for its actions, as far as possible.
pub fn read_template(text: &str) -> Vec<Document> {
    unrendered::documents(text, &Literals::of(text), &[]).documents
}

/// Returns one finding for each object, line and lint rule: the finding with the longest message, which names the most
/// values. A template is searched twice, as it is and with placeholders.
fn longest(findings: Vec<object::FindingInFile>) -> impl Iterator<Item = object::FindingInFile> {
    let mut longest: BTreeMap<(usize, Rule, String), String> = BTreeMap::new();
    for (rule, line, message) in findings {
        let object = message.split(':').next().unwrap_or_default().to_owned();
        let longest_message = longest.entry((line, rule, object)).or_default();
        if message.len() > longest_message.len() {
            *longest_message = message;
        }
    }
    let findings = longest.into_iter();
    findings.map(|((line, rule, _), message)| (rule, line, message))
}

/// Returns the findings about a SealedSecret, and counts the items that cannot be checked.
type Check = fn(&Node, CheckContext<'_>) -> (Vec<object::FindingInFile>, UncheckedItems);

/// Returns findings about the lines of a template that cannot be read even with placeholders.
fn unreadable_line_findings(lines: &[UnreadableLine]) -> Vec<object::FindingInFile> {
    let finding = |line: &UnreadableLine| {
        if !line.may_contain_value {
            return not_checked_finding(line.number);
        }
        let message = "this line of the template of a Secret can be read only after rendering, and may contain a \
                       value: render the template, and check the result";
        (finding::MALFORMED_FILE, line.number, message.to_owned())
    };
    lines.iter().map(finding).collect()
}

fn not_checked_finding(line: usize) -> object::FindingInFile {
    let message = "this text names a Secret and cannot be read here, as in a template or script: render it if it is a \
                   template, and check the result";
    (finding::NOT_CHECKED, line, message.to_owned())
}

/// Returns whether a file that cannot be read may define a Secret or a SealedSecret, or generate a Secret.
fn may_define_secrets(bytes: &[u8]) -> bool {
    let bytes = walk::without_nulls(bytes);
    walk::names_kind(&bytes, &SECRETS)
        || walk::names_kind(&bytes, &["SecretGenerator"])
        || folded(&String::from_utf8_lossy(&bytes)).contains("secretgenerator")
}

/// Returns whether text that only other parsers read may define a Secret.
fn may_hide_secrets(bytes: &[u8]) -> bool {
    walk::may_hide_kind(bytes) || mentions_secrets(&walk::without_nulls(bytes))
}

/// Returns whether a file may be about Secrets: `ecret` is part of both `Secret` and `secretGenerator`, and a Secret
/// without `kind` has `data` or `stringData`. Ignores letter case.
fn mentions_secrets(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    if memchr::memmem::find(&text, b"ecret").is_some() {
        return true;
    }
    let is_word = |at: usize| {
        let before = text[..at].last();
        let is_word_start = !before.is_some_and(u8::is_ascii_alphanumeric);
        let after = text.get(at + b"data".len());
        (is_word_start || text[..at].ends_with(b"string"))
            && !after.is_some_and(u8::is_ascii_alphanumeric)
    };
    memchr::memmem::find_iter(&text, b"data").any(is_word)
}

/// The kinds of Secrets and SealedSecrets, and of lists of them. A malformed file that names one is reported even if
/// the user did not name the file.
const SECRETS: [&str; 4] = ["Secret", "SealedSecret", "SecretList", "SealedSecretList"];

/// Returns whether a file is a template, which is not a manifest until it is rendered. A JSON stream is not a template:
/// other programs may apply the documents before the error.
fn is_template(error: &ReadError, bytes: &[u8]) -> bool {
    let is_action = |rest: &[u8]| matches!(rest, [b'{', b'{' | b'%' | b'#', ..]);
    let looks_like_json = manifest::begins_like_json(bytes) && !is_action(bytes.trim_ascii_start());
    matches!(error.problem, ReadProblem::Template(_)) && !looks_like_json
}

fn certificate_name(source: &Source) -> String {
    match source {
        Source::At(at) => redacted_source(at).into_owned(),
        Source::Controller { .. } => "of the controller".to_owned(),
    }
}

/// Returns the file and line to report for a problem with a certificate or recipient: where the user can fix it.
fn certificate_location(settings: &Settings) -> (PathBuf, usize) {
    let line = settings.rule.as_ref().map_or(1, |rule| rule.line);
    match (&settings.rules, &settings.certificate.value) {
        (Some(rules), _) => (rules.path.clone(), line),
        (None, Source::At(at)) => (PathBuf::from(&*redacted_source(at)), 1),
        (None, Source::Controller { .. }) => (PathBuf::from("."), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal_args;

    #[test]
    fn the_help_lists_each_rule() {
        let mut command = seal_args::program();
        let lint = command.find_subcommand_mut("lint").unwrap();
        let help = lint.render_help().to_string();
        let listed = help.split("Rules: ").nth(1).unwrap();
        let listed = listed.split("Findings of").next().unwrap();
        let listed: BTreeSet<&str> = listed.split_whitespace().collect();
        let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(listed, names);
    }
}
