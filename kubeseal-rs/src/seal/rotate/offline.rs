//! With old keys: opening and sealing here, on every core. Private-key work is all but everything,
//! so what counts is how few keys are tried.

use std::sync::Arc;

use anyhow::Result;
use shared::key::{Certificate, Fingerprint};
use shared::key_ring::{KeyRing, RingKey};
use shared::reseal::{self, NewTexts};
use shared::sealed_file::Found;

use super::given::GivenKeys;
use super::summary::{FileReport, unreadable};
use super::{New, Work};
use crate::command::read_keys;
use crate::interrupt::Interrupt;
use crate::parallel;
use crate::progress::Progress;
use crate::seal::session::Session;
use crate::seal::target;
use crate::seal::walk::Candidate;
use crate::seal_args::Rotate;

/// Rotates every candidate; what fails is told in its report.
pub(super) fn rotate(
    session: &Session<'_>,
    candidates: &[Candidate],
    words: &Rotate,
    interrupt: &Interrupt,
) -> Result<Vec<FileReport>> {
    let ring = read_keys(&words.key)?;
    let given = GivenKeys::read(&words.key)?;
    let progress = Progress::new(
        "files",
        candidates.len(),
        session.surroundings.stderr_is_terminal,
    );
    let start = || Worker {
        session,
        ring: &ring,
        given: &given,
        last: None,
        dry_run: words.dry_run,
    };
    let reports = parallel::map(candidates, start, |worker, _, candidate| {
        if interrupt.is_there() {
            return None;
        }
        let report = worker.file(candidate);
        progress.step();
        report
    });
    drop(progress);
    Ok(reports.into_iter().flatten().collect())
}

struct Worker<'a> {
    session: &'a Session<'a>,
    ring: &'a KeyRing,
    given: &'a GivenKeys,
    /// The key that opened the last value: neighbours in a tree were mostly sealed together.
    last: Option<Fingerprint>,
    dry_run: bool,
}

impl Worker<'_> {
    fn file(&mut self, candidate: &Candidate) -> Option<FileReport> {
        match self.work(candidate) {
            Ok(work) => work.map(|work| work.finish(self.dry_run)),
            Err(error) => {
                let problem = shared::error_chain(error.as_ref());
                Some(unreadable(candidate.path.clone(), problem))
            }
        }
    }

    fn work(&mut self, candidate: &Candidate) -> Result<Option<Work>> {
        let Some(mut work) = Work::read(candidate)? else {
            return Ok(None);
        };
        let settings = self.session.settings(&candidate.path)?;
        let certificate = self.session.certificate(&settings)?;
        self.given.check(&settings, &certificate)?;
        let ring = newest_last(self.ring, &certificate);
        for index in 0..work.objects.len() {
            let found = &mut work.objects[index].0;
            target::fill_namespace(self.session, &settings, found)?;
            match self.texts(found, &ring, &certificate) {
                Ok(new) => {
                    work.objects[index].1.from = new.from;
                    work.objects[index].1.believed = new.believed;
                    work.change(New {
                        index,
                        items: new.items,
                        data: new.data,
                        key: certificate.fingerprint().clone(),
                    });
                }
                Err(error) => {
                    work.objects[index].1.problem = Some(shared::error_chain(&error));
                }
            }
        }
        Ok(Some(work))
    }

    fn texts(
        &mut self,
        found: &Found,
        ring: &KeyRing,
        certificate: &Certificate,
    ) -> Result<NewTexts, reseal::ResealError> {
        let new = reseal::new_texts(
            &found.sealed,
            ring,
            certificate.public_key(),
            self.last.as_ref(),
            &mut shared::random::system(),
        )?;
        self.last.clone_from(&new.last);
        Ok(new)
    }
}

/// Most of what is not done yet is for another key.
fn newest_last(ring: &KeyRing, certificate: &Certificate) -> KeyRing {
    let is_newest = |key: &&Arc<RingKey>| key.fingerprint() == certificate.fingerprint();
    let (newest, old): (Vec<_>, Vec<_>) = ring.keys().iter().partition(is_newest);
    KeyRing::new(old.into_iter().chain(newest).cloned())
}
