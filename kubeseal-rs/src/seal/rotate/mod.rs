//! `seal rotate [PATH…]`: re-encrypts items for the newest key.
//!
//! For each file: read, unseal, seal, splice the new ciphertexts into the bytes, replace the file in one
//! step. So a run can be killed at any moment, and the next run continues where it stopped: it skips items
//! that are for the newest key.

mod conversion;
mod forecast;
mod json;
mod key_files;
mod offline;
mod online;
mod rule_keys;
mod summary;
mod templates;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::environment::Environment;
use kubeseal_library::format::Format;
use kubeseal_library::rules::SealedFormat;
use kubeseal_library::walk::{self, Candidate, Kind, ManifestFile};
use kubeseal_library::{files, loose};
use shared::key::Fingerprint;
use shared::manifest::edit;
use shared::resource::SealedSecret;
use shared::sealed_file::{self, Changes, Found, HintRule};
use shared::v2;

use super::session::Session;
use super::target::is_same_object;
use super::{Outcome, output, print, settings};
use crate::command::read_keys;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::report;
use crate::report::ShowPath as _;
use crate::seal_args::{Sealing, TlsPort};
use summary::{FileReport, ObjectReport};
use templates::ConfirmedTemplates;
use zeroize::Zeroizing;

/// Arguments of `seal rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only values change; comments, order and layout are kept. Each file is replaced atomically, and values that are
already encrypted for the newest key are skipped, so that the next run completes an interrupted run.
With --key, no cluster is contacted. Also pass the newest key: without it, only key hints show which values are
already re-encrypted, so hints are added to each file. --no-hints adds none; existing hints are updated.
A file that cannot be read is reported, and the exit code is 2.
With --key, a certificate that only a rule of .seal.yaml names is refused unless its private key is also
passed: pass --cert or --cert-fingerprint. Keys that their Secret marks as compromised or opening-only decrypt, but
confirm no certificate, and values are never encrypted for them.
v2 values are sealed for the recipients of .seal.yaml or of --recipient, all under one lock; a file that needs
no change stays unchanged. --bind-template shows the templates first, and asks for confirmation, because any user
who can change a file may have changed its template. With --key, a recipient that only a rule names must be confirmed with
--recipient, unless its private key is also passed.
--dry-run uses sizes and key hints. With --key, it decrypts only values without a conclusive hint; without
--key, it only fetches the certificate of the controller.

Examples:
  seal rotate --key key.pem --cert cert.pem
  seal rotate --key key.pem --dry-run -o json prod/
  seal rotate --to v2 --key key.pem --recipient cluster.txt prod/
  seal rotate --to v2 --bind-template --dry-run --key key.pem --recipient cluster.txt prod/
  seal rotate --to v1 --key key.pem --cert cert.pem prod/")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
pub struct Rotate {
    /// Files and directories to re-encrypt; the current directory if not given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Decrypt with these private keys (PEM, key Secrets, or v2 keys, one per line) instead of asking the controller;
    /// repeatable
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Convert every value to this format: v1 or v2; by default each file keeps its own
    #[arg(long, value_name = "FORMAT")]
    pub to: Option<SealedFormat>,
    /// Bind v2 values to the template of their object, as it is now
    #[arg(long, requires = "to")]
    pub bind_template: bool,
    /// Show the templates, and bind values to them without a prompt
    #[arg(long, requires = "bind_template")]
    pub yes: bool,
    /// Allow keys that are not post-quantum for values that forbid them, if a rule has `allowClassical`
    #[arg(long, requires = "key")]
    pub allow_classical: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", value_parser = crate::seal_args::output_format())]
    pub output: Option<Format>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
    /// How to reach the controller's TLS port.
    #[command(flatten)]
    pub tls_port: TlsPort,
}

/// Re-encrypts items for the newest key, in files and directory trees.
///
/// # Errors
///
/// Fails if the tree or the keys cannot be read, or the controller does not respond. Also fails if some objects cannot
/// be re-encrypted, after all other objects are re-encrypted. A dry run changes nothing.
pub fn run(args: &Rotate, environment: &Environment) -> Result<Outcome> {
    if args.key.is_empty() && args.sealing.cert.is_some() {
        let message =
            "--cert selects the certificate of an offline run, which requires the old keys";
        bail!(Failure::new(message).hint(
            "pass --key FILE, or omit --cert: then the controller re-encrypts for its newest key"
        ));
    }
    if args.key.is_empty() && (args.to == Some(SealedFormat::V1) || args.bind_template) {
        let message = "no controller converts values to v1 or binds them to their template: this needs the private keys";
        bail!(Failure::new(message).hint("pass --key FILE"));
    }
    settings::check_certificate_flag(&args.sealing)?;
    report::warn_about_missing_submodules(&args.paths);
    let candidates = walk::candidates(&args.paths, &mut report::notice)?;
    conversion::check_recipients(args, &candidates)?;
    let confirmed_templates = ConfirmedTemplates::find(args, &candidates, environment)?;
    if !args.dry_run {
        remove_leftovers(&candidates);
    }
    let interrupt = Interrupt::watch().context("cannot watch for signals")?;
    let reports = if args.key.is_empty() {
        let session = Session::new(&args.sealing, environment);
        online::rotate(&session, &candidates, args, &interrupt)?
    } else {
        let ring = read_keys(&args.key)?;
        let session = Session::for_existing_values(&args.sealing, environment, &ring);
        let run = offline::Run {
            session: &session,
            ring: &ring,
            args,
            confirmed_templates: &confirmed_templates,
        };
        run.rotate(&candidates, &interrupt)?
    };
    if let Some(signal) = interrupt.name() {
        let _ = finish(args, &reports);
        report::info(&interruption_text(signal, &reports));
        interrupt.exit_by_signal();
    }
    let named_paths = candidates.iter().filter(|candidate| candidate.named);
    let named_paths: Vec<String> = named_paths.map(|c| c.path.shown()).collect();
    let is_reportable =
        |report: &FileReport| !report.objects.is_empty() || report.problem.is_some();
    let has_reports = reports.iter().any(is_reportable);
    if !has_reports && !named_paths.is_empty() {
        let message = format!("no SealedSecret found in {}", named_paths.join(", "));
        bail!(Failure::new(message).hint("pass sealed files, or a directory that contains them"));
    }
    finish(args, &reports)
}

fn interruption_text(signal: &str, reports: &[FileReport]) -> String {
    let files = match reports.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    format!(
        "interrupted by {signal} after {files} with SealedSecrets; no file is damaged, and the same command \
         continues with the rest"
    )
}

fn finish(args: &Rotate, reports: &[FileReport]) -> Result<Outcome> {
    let target = match (args.to, args.key.is_empty()) {
        (Some(SealedFormat::V2), _) => "the configured recipients",
        (_, true) => "the newest key",
        (Some(SealedFormat::V1), false) => "the key of the certificate",
        (None, false) => summary::target(reports),
    };
    for line in summary::lines(reports, target, args.dry_run) {
        report::info(&line);
    }
    if args.to == Some(SealedFormat::V2)
        && !args.dry_run
        && let Some(note) = summary::history_note(reports)
    {
        report::info(note);
    }
    if args.dry_run && args.key.is_empty() {
        report::info(&summary::dry_run_note(reports));
    }
    if args.dry_run && !args.key.is_empty() && args.to.is_none() {
        report::info(
            "(dry run: only values without a conclusive key hint were decrypted; the actual run decrypts every value)",
        );
    }
    if let Some(format) = args.output {
        let report = json::RotateReport::new(reports, args.dry_run);
        print(&output::documents(&[report], format)?)?;
    }
    match summary::failures_text(reports) {
        None => Ok(Outcome::Done),
        Some(failures) => {
            let others = if args.dry_run {
                "nothing was changed (dry run)"
            } else {
                "all other items are re-encrypted or current"
            };
            bail!("{failures} could not be re-encrypted (see above); {others}")
        }
    }
}

/// Removes the temporary files of a killed run.
fn remove_leftovers(candidates: &[Candidate]) {
    let directory = |candidate: &Candidate| candidate.path.parent().map(Path::to_owned);
    let directories: BTreeSet<_> = candidates.iter().filter_map(directory).collect();
    for directory in directories {
        files::remove_leftovers(&directory);
    }
}

/// A file with SealedSecrets, their reports and their new ciphertexts.
struct Work {
    file: ManifestFile,
    objects: Vec<(Found, ObjectReport)>,
    new: Vec<NewCiphertexts>,
    /// The objects whose reports are final, because an earlier attempt processed them.
    final_indexes: BTreeSet<usize>,
}

/// The maximum number of attempts to process the objects of a file, because another program may change them.
const MAX_ATTEMPTS: usize = 10;

/// The result of one attempt to re-encrypt a file.
struct AttemptResult {
    report: FileReport,
    /// The objects that another program changed meanwhile, so their values were not written.
    stale: BTreeSet<usize>,
}

impl AttemptResult {
    /// Returns the final reports of the objects that need no further attempt.
    fn final_reports(self) -> Vec<ObjectReport> {
        let objects = self.report.objects.into_iter().enumerate();
        let reports = objects.filter(|(index, _)| !self.stale.contains(index));
        reports.map(|(_, report)| report).collect()
    }

    /// Returns the report of a file that gets no further attempt.
    fn give_up(mut self) -> FileReport {
        for index in self.stale {
            let problem = "another program changed the object meanwhile, so the object was not written\n\
                           hint: run the command again";
            self.report.objects[index].problem = Some(problem.to_owned());
        }
        self.report
    }
}

/// The new ciphertexts of one object.
struct NewCiphertexts {
    index: usize,
    items: BTreeMap<String, String>,
    data: Option<String>,
    /// Entries to remove: locks of v2.
    removed: Vec<String>,
    /// The keys that the values are encrypted for.
    keys: NewKeys,
}

/// The public keys that new ciphertexts are encrypted for.
enum NewKeys {
    /// The key of a certificate, for v1 values.
    Certificate {
        fingerprint: Fingerprint,
        /// Whether every item gets a key hint, not only items that already have one.
        adds_hints: bool,
    },
    /// The recipients of v2 values, as text for reports.
    Recipients(String),
}

impl NewCiphertexts {
    /// Returns the edits of the current object; `None` if another program, most likely another `seal rotate`, changed
    /// it since it was read. v2 values may be bound to the template, so the template must not have changed.
    fn edits(&self, before: &Found, now: &Found) -> Option<Vec<edit::Edit>> {
        let (old, current) = (&before.sealed.spec, &now.sealed.spec);
        let has_same_values =
            old.encrypted_data == current.encrypted_data && old.data == current.data;
        let is_v2 = matches!(self.keys, NewKeys::Recipients(_));
        if !has_same_values || is_v2 && old.template != current.template {
            return None;
        }
        Some(now.edits(&Changes {
            texts: self.items.clone(),
            removed: self.removed.clone(),
            data: self.data.clone(),
            hints: match &self.keys {
                NewKeys::Certificate {
                    fingerprint,
                    adds_hints: true,
                } => HintRule::Write(fingerprint),
                NewKeys::Certificate { fingerprint, .. } => HintRule::Follow(fingerprint),
                NewKeys::Recipients(_) => HintRule::Drop,
            },
            // The values are the same, so their dates stay.
            dates: BTreeMap::new(),
        }))
    }
}

/// Reports a sealed value outside the SealedSecrets in a file. The SealedSecrets are still re-encrypted.
fn report_loose_value(file: &ManifestFile, objects: &[&SealedSecret]) {
    if let Some(line) = loose::first_line_beside(&file.bytes, objects) {
        let path = file.path.shown();
        report::fail_at_end(&format!("{path}: {}", loose::remark(&file.bytes, line)));
    }
}

impl Work {
    /// Reads a candidate. Returns `None` if it contains no SealedSecret and no sealed value outside of one.
    fn read(candidate: &Candidate) -> Result<Option<Self>> {
        let Some(file) = walk::read(candidate, Kind::SealedSecret)? else {
            let bytes = files::read(&candidate.path)?;
            return match loose::first_line(&bytes) {
                Some(line) => bail!(loose::remark(&bytes, line)),
                None => Ok(None),
            };
        };
        let work = Self::of(file)?;
        let objects: Vec<&SealedSecret> = work.objects.iter().map(|(o, _)| &o.sealed).collect();
        report_loose_value(&work.file, &objects);
        Ok(Some(work))
    }

    /// Reads a file again, and carries over the final reports of the objects that need no further attempt.
    fn read_again(path: &Path, final_reports: Vec<ObjectReport>) -> Result<Self> {
        let mut work = Self::of(ManifestFile::read(path)?)?;
        for report in final_reports {
            let is_same = |index: &usize| {
                !work.final_indexes.contains(index) && work.objects[*index].1.name == report.name
            };
            if let Some(index) = (0..work.objects.len()).find(is_same) {
                let line = work.objects[index].1.line;
                work.objects[index].1 = ObjectReport { line, ..report };
                work.final_indexes.insert(index);
            }
        }
        Ok(work)
    }

    fn of(file: ManifestFile) -> Result<Self> {
        let objects = sealed_file::find(&file.documents);
        let objects = objects.with_context(|| file.path.shown())?;
        let report = |found: Found| {
            let report = ObjectReport::of(&found);
            (found, report)
        };
        Ok(Self {
            file,
            objects: objects.into_iter().map(report).collect(),
            new: Vec::new(),
            final_indexes: BTreeSet::new(),
        })
    }

    fn change(&mut self, new: NewCiphertexts) {
        let report = &mut self.objects[new.index].1;
        let items = v2::items(&new.items).map(|(item, _)| item.clone());
        report.rotated.extend(items);
        if new.data.is_some() {
            report.rotated.push("(data)".to_owned());
        }
        if !report.rotated.is_empty() {
            report.to = Some(match &new.keys {
                NewKeys::Certificate { fingerprint, .. } => fingerprint.to_string(),
                NewKeys::Recipients(keys) => keys.clone(),
            });
            self.new.push(new);
        }
    }

    /// Writes the file if anything in it changes, except in a dry run. Leaves out objects that another program has
    /// changed since they were read.
    fn finish(self, dry_run: bool) -> AttemptResult {
        let mut stale = BTreeSet::new();
        let edited = |bytes: &[u8]| -> Result<_> {
            let edits;
            (edits, stale) = self.edits(bytes)?;
            Ok(edit::apply(bytes, &edits)?)
        };
        let written = self.write(dry_run, edited);
        let path = self.file.path;
        let mut objects: Vec<ObjectReport> = self.objects.into_iter().map(|(_, r)| r).collect();
        for index in &stale {
            objects[*index].clear();
        }
        if let Err(error) = written {
            let problem = shared::error_chain(error.as_ref());
            for new in &self.new {
                objects[new.index].clear();
                objects[new.index].problem = Some(problem.clone());
            }
            stale.clear();
        }
        let problem = None;
        let report = FileReport {
            path,
            objects,
            problem,
        };
        AttemptResult { report, stale }
    }

    fn write(&self, dry_run: bool, mut edited: impl FnMut(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
        match (self.new.is_empty(), dry_run) {
            (true, _) => Ok(()),
            (_, true) => edited(&self.file.bytes).map(drop),
            _ => files::update(&self.file.path, edited),
        }
    }

    /// Returns the edits for the current content of the file, and the indexes of the objects to skip because another
    /// program has changed them since they were read.
    fn edits(&self, bytes: &[u8]) -> Result<(Vec<edit::Edit>, BTreeSet<usize>)> {
        let current = Self::of(ManifestFile::parse(
            &self.file.path,
            Zeroizing::new(bytes.to_vec()),
        )?)?;
        let mut edits = BTreeMap::new();
        for (number, new) in self.new.iter().enumerate() {
            let before = &self.objects[new.index].0;
            let now = current.objects.iter().map(|(found, _)| found);
            let same = now.filter(|now| is_same_object(now, before));
            let object_edits: Vec<_> = same.filter_map(|now| new.edits(before, now)).collect();
            edits.insert((new.index, number), object_edits.concat());
        }
        let empty = edits.iter().filter(|(_, edits)| edits.is_empty());
        let stale: BTreeSet<usize> = empty.map(|((index, _), _)| *index).collect();
        edits.retain(|(index, _), _| !stale.contains(index));
        let edits = edits.into_values().flatten().collect();
        Ok((edits, stale))
    }
}
