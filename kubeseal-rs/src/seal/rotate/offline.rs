//! Rotates with the old private keys, without a controller, on every core. Private-key operations take nearly all the
//! time, so the order in which keys are tried matters.

use std::sync::Arc;

use anyhow::Result;
use kubeseal_library::parallel;
use kubeseal_library::progress::Progress;
use kubeseal_library::rules::SealedFormat;
use kubeseal_library::walk::Candidate;
use shared::key::{Certificate, Fingerprint};
use shared::key_ring::{KeyRing, RingKey};
use shared::reseal::{self, ResealedValues};
use shared::resource::SealedSecret;
use shared::unseal::{ItemError, ItemProblem, UnsealError};
use shared::v2;

use super::forecast::{Keys, forecast};
use super::key_files::KeyFiles;
use super::summary::{FileReport, unreadable_report};
use super::templates::{self, ConfirmedTemplates, TemplateSummary};
use super::{AttemptResult, MAX_ATTEMPTS, NewCiphertexts, NewKeys, Work, conversion};
use crate::interrupt::Interrupt;
use crate::seal::rotate::Rotate;
use crate::seal::session::Session;
use crate::seal::settings::Settings;
use crate::seal::target;

/// The state that all files of a run share.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// The rules and options of the run.
    pub(super) session: &'a Session<'a>,
    /// The keys of `--key`.
    pub(super) ring: &'a KeyRing,
    pub(super) args: &'a Rotate,
    /// The templates that values may be bound to.
    pub(super) confirmed_templates: &'a ConfirmedTemplates,
}

impl Run<'_> {
    /// Rotates every candidate, unless interrupted. The report of a candidate contains its failure.
    pub(super) fn rotate(
        self,
        candidates: &[Candidate],
        interrupt: &Interrupt,
    ) -> Result<Vec<FileReport>> {
        let key_files = KeyFiles::read(&self.args.key)?;
        let line = self.session.environment.status_line;
        let progress = Progress::new("files", candidates.len(), line);
        let start = || Worker {
            run: self,
            key_files: &key_files,
            last: None,
        };
        let reports = parallel::map(candidates, start, |worker, _, candidate| {
            if interrupt.was_received() {
                return None;
            }
            let report = worker.rotate_file(candidate);
            progress.step();
            report
        });
        drop(progress);
        Ok(reports.into_iter().flatten().collect())
    }
}

struct Worker<'a> {
    run: Run<'a>,
    key_files: &'a KeyFiles,
    /// The key that unsealed the last value. It is tried first, because neighboring files were mostly sealed
    /// together.
    last: Option<Fingerprint>,
}

impl Worker<'_> {
    fn rotate_file(&mut self, candidate: &Candidate) -> Option<FileReport> {
        let finished = Work::read(candidate).and_then(|work| match work {
            Some(work) => self.rotate_with_retries(work).map(Some),
            None => Ok(None),
        });
        finished.unwrap_or_else(|error| Some(unreadable_report(&candidate.path, &error)))
    }

    /// Rotates a file, and repeats this for its objects that another program changes meanwhile.
    fn rotate_with_retries(&mut self, work: Work) -> Result<FileReport> {
        let path = work.file.path.clone();
        let mut finished = self.rotate_once(work)?;
        for _ in 1..MAX_ATTEMPTS {
            if finished.stale.is_empty() {
                break;
            }
            finished = self.rotate_once(Work::read_again(&path, finished.final_reports())?)?;
        }
        Ok(finished.give_up())
    }

    fn rotate_once(&mut self, mut work: Work) -> Result<AttemptResult> {
        let settings = self.run.session.settings(&work.file.path)?;
        for index in 0..work.objects.len() {
            if work.final_indexes.contains(&index) {
                continue;
            }
            let (found, _) = &mut work.objects[index];
            target::fill_namespace(self.run.session, &settings, found)?;
            if let Some(format) = conversion::target(self.run.args, &found.sealed) {
                self.convert(&mut work, index, &settings, format);
            }
            if self.run.args.to.is_none() && may_have_v1(&work.objects[index].0.sealed) {
                self.reseal(&mut work, index, &settings)?;
            }
        }
        Ok(work.finish(self.run.args.dry_run))
    }

    /// Converts one object, and reports why it cannot be converted.
    fn convert(&self, work: &mut Work, index: usize, settings: &Settings, format: SealedFormat) {
        let object = (index, &work.objects[index].0);
        let Run {
            session,
            ring,
            args,
            confirmed_templates,
        } = self.run;
        let new = confirmed_templates
            .check(args, &work.file.path, object.1)
            .and_then(|()| conversion::convert(session, ring, settings, args, object, format));
        match new {
            Ok(new) => {
                let (found, report) = &mut work.objects[index];
                let is_bound = args.bind_template && templates::has_unbound(&found.sealed);
                let template = &found.sealed.spec.template;
                report.template = is_bound.then(|| TemplateSummary::of(template));
                work.change(new);
            }
            Err(error) => {
                let problem = shared::error_chain(error.as_ref());
                work.objects[index].1.problem = Some(problem);
            }
        }
    }

    /// Re-encrypts the v1 items of one object for the certificate.
    fn reseal(&mut self, work: &mut Work, index: usize, settings: &Settings) -> Result<()> {
        let certificate = self.run.session.certificate(settings)?;
        self.key_files.warn_of_newer_key(settings, &certificate);
        let ring = newest_last(self.run.ring, &certificate);
        let (found, report) = &mut work.objects[index];
        let sealed = found.sealed.v1_part();
        if self.run.args.dry_run {
            let (ring, certificate) = (self.run.ring, &*certificate);
            report.set_forecast(forecast(&sealed, Keys { ring, certificate }), certificate);
            return Ok(());
        }
        match self.texts(&sealed, &ring, &certificate) {
            Ok(new) => {
                report.from = new.from;
                report.current_by_hint = new.current_by_hint;
                work.change(NewCiphertexts {
                    index,
                    items: new.items,
                    removed: Vec::new(),
                    data: new.data,
                    keys: NewKeys::Certificate {
                        fingerprint: certificate.fingerprint().clone(),
                        adds_hints: self.adds_hints(&certificate),
                    },
                });
            }
            Err(error) => {
                let mut problem = shared::error_chain(&error);
                if lacks_key(&error) && !self.has_key_of(&certificate) {
                    problem += ALREADY_SEALED_HINT;
                }
                report.problem = Some(problem);
            }
        }
        Ok(())
    }

    /// Returns whether to add key hints. Without the new private key, only hints show the next run which items an
    /// interrupted run already re-encrypted.
    fn adds_hints(&self, certificate: &Certificate) -> bool {
        !self.run.session.args.no_hints && !self.has_key_of(certificate)
    }

    fn has_key_of(&self, certificate: &Certificate) -> bool {
        let mut keys = self.run.ring.keys().iter();
        keys.any(|key| key.fingerprint() == certificate.fingerprint())
    }

    fn texts(
        &mut self,
        sealed: &SealedSecret,
        ring: &KeyRing,
        certificate: &Certificate,
    ) -> Result<ResealedValues, reseal::ResealError> {
        let new =
            reseal::reseal_values(sealed, ring, certificate.public_key(), self.last.as_ref())?;
        self.last.clone_from(&new.last);
        Ok(new)
    }
}

/// Returns whether an object has v1 items, or no items at all, as in the deprecated form.
fn may_have_v1(sealed: &SealedSecret) -> bool {
    let entries = &sealed.spec.encrypted_data;
    let has_v1_items = v2::items(entries).any(|(_, text)| !v2::is_v2_value(text));
    has_v1_items || entries.is_empty()
}

/// Another possible reason why no key can unseal an item.
const ALREADY_SEALED_HINT: &str =
    "; if it is already sealed for the new certificate, also pass its private key with --key";

fn lacks_key(error: &reseal::ResealError) -> bool {
    let reseal::ResealError::Unseal(UnsealError::Items(errors)) = error else {
        return false;
    };
    let has_no_key = |item: &ItemError| matches!(item.problem, ItemProblem::NoKey(_));
    errors.items.iter().any(has_no_key)
}

/// Moves the key of the certificate to the end of the ring, because most remaining items are for an older key. The keys
/// of `--key` have no order time, so the ring keeps this order.
fn newest_last(ring: &KeyRing, certificate: &Certificate) -> KeyRing {
    let is_newest = |key: &&Arc<RingKey>| key.fingerprint() == certificate.fingerprint();
    let (newest, old): (Vec<_>, Vec<_>) = ring.keys().iter().partition(is_newest);
    KeyRing::new(old.into_iter().chain(newest).cloned())
}
