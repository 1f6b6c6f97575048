//! Rotates through the controller, with many objects in one request if the controller supports lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use kubeseal_library::cluster::{Access, ClusterError, Clusters, Controller, TokenAccess, rotated};
use kubeseal_library::progress::Progress;
use kubeseal_library::rules::{SealedFormat, Source};
use kubeseal_library::walk::Candidate;
use serde_json::{Value as Json, json};
use shared::hints;
use shared::key::{Certificate, Fingerprint};
use shared::key_ring::KeyRing;
use shared::resource::SealedSecret;
use shared::sealed_file::Found;
use shared::v2;

use super::forecast::{Keys, forecast};
use super::rule_keys::RuleKeys;
use super::summary::{FileReport, unreadable_report};
use super::{AttemptResult, MAX_ATTEMPTS, NewCiphertexts, NewKeys, Work};
use crate::interrupt::Interrupt;
use crate::report::{self, ShowPath as _, shown};
use crate::seal::rotate::Rotate;
use crate::seal::session::Session;
use crate::seal::settings::Settings;
use crate::seal::target::{self, TargetError};
use crate::seal_args::{Sealing, TlsPort};

/// The maximum number of values in one request. The controller accepts a thousand; smaller requests keep it available
/// to other clients.
const MAX_ITEMS: usize = 200;
/// The maximum size of the values in one request, in bytes. The request itself is slightly larger.
const MAX_BYTES: usize = 1024 * 1024;

/// Rotates every candidate, unless interrupted. The report of a candidate contains its failure.
///
/// # Errors
///
/// Fails if a controller cannot be found or does not respond, unless the run is interrupted.
pub(super) fn rotate(
    session: &Session<'_>,
    candidates: &[Candidate],
    args: &Rotate,
    interrupt: &Interrupt,
) -> Result<Vec<FileReport>> {
    let progress = Progress::new("files", candidates.len(), session.environment.status_line);
    let mut run = Rotation {
        session,
        is_dry: args.dry_run,
        to: args.to,
        tls_port: &args.tls_port,
        interrupt,
        clusters: BTreeMap::new(),
        batch: Batch::default(),
        reports: Vec::new(),
        stale: Vec::new(),
    };
    let result = run.rotate_all(candidates, &progress);
    drop(progress);
    // An interrupted request fails, too.
    if !interrupt.was_received() {
        result?;
    }
    run.reports.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(run.reports)
}

struct Rotation<'a> {
    session: &'a Session<'a>,
    is_dry: bool,
    /// The format of `--to`, that every value is converted to, if given.
    to: Option<SealedFormat>,
    tls_port: &'a TlsPort,
    interrupt: &'a Interrupt,
    clusters: BTreeMap<Source, Cluster>,
    batch: Batch,
    reports: Vec<FileReport>,
    /// The files with objects that another program changed while they were re-encrypted.
    stale: Vec<AttemptResult>,
}

struct Cluster {
    controller: Controller,
    certificate: Certificate,
}

/// The files of one request.
#[derive(Default)]
struct Batch {
    source: Option<Source>,
    files: Vec<Work>,
    items: usize,
    bytes: usize,
}

impl Rotation<'_> {
    fn rotate_all(&mut self, candidates: &[Candidate], progress: &Progress) -> Result<()> {
        for candidate in candidates {
            if self.interrupt.was_received() {
                break;
            }
            let work = Work::read(candidate);
            self.rotate_file(&candidate.path, work)?;
            progress.step();
        }
        self.send()?;
        self.rotate_stale()
    }

    /// Repeats the rotation of objects that another program has changed meanwhile.
    fn rotate_stale(&mut self) -> Result<()> {
        for _ in 1..MAX_ATTEMPTS {
            if self.interrupt.was_received() {
                break;
            }
            for file in std::mem::take(&mut self.stale) {
                let path = file.report.path.clone();
                let work = Work::read_again(&path, file.final_reports()).map(Some);
                self.rotate_file(&path, work)?;
            }
            self.send()?;
        }
        let stale = std::mem::take(&mut self.stale).into_iter();
        self.reports.extend(stale.map(AttemptResult::give_up));
        Ok(())
    }

    /// Adds a file to the next request, or reports why it cannot be rotated.
    fn rotate_file(&mut self, path: &Path, work: Result<Option<Work>>) -> Result<()> {
        let prepared = work.and_then(|work| work.map(|work| self.prepare(work)).transpose());
        match prepared {
            Ok(None) => {}
            Ok(Some((source, work))) => self.add(source, work)?,
            Err(error) => self.reports.push(unreadable_report(path, &error)),
        }
        Ok(())
    }

    fn prepare(&self, mut work: Work) -> Result<(Source, Work)> {
        let settings = self.session.settings(&work.file.path)?;
        for (found, report) in &mut work.objects {
            target::fill_namespace(self.session, &settings, found)?;
            if found.sealed.spec.data.is_some() {
                report.problem =
                    Some(TargetError::Deprecated(found.sealed.qualified_name()).to_string());
            }
        }
        Ok((controller_of(self.session.args, &settings), work))
    }

    fn add(&mut self, source: Source, work: Work) -> Result<()> {
        let values = || {
            let objects = work.objects.iter().map(|(found, _)| found);
            objects.flat_map(|found| found.sealed.spec.encrypted_data.values())
        };
        let (items, bytes) = (values().count(), values().map(String::len).sum::<usize>());
        let batch = &self.batch;
        let is_full = batch.items + items > MAX_ITEMS || batch.bytes + bytes > MAX_BYTES;
        if is_full
            || batch
                .source
                .as_ref()
                .is_some_and(|current| *current != source)
        {
            self.send()?;
        }
        self.batch.source = Some(source);
        self.batch.items += items;
        self.batch.bytes += bytes;
        self.batch.files.push(work);
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let Batch { source, files, .. } = std::mem::take(&mut self.batch);
        let Some(source) = source else { return Ok(()) };
        let cluster = match self.clusters.remove(&source) {
            Some(cluster) => cluster,
            None => Cluster::find(&self.access(&source), &self.session.clusters)?,
        };
        let result = self.rotate_files(&cluster, files);
        self.clusters.insert(source, cluster);
        result
    }

    fn access(&self, source: &Source) -> Access {
        let by_token = TokenAccess {
            is_by_rule: !self.session.is_named_by_user(source),
            ..self.tls_port.token_access()
        };
        Access {
            by_token,
            ..self.session.access(source)
        }
    }

    fn rotate_files(&mut self, cluster: &Cluster, mut files: Vec<Work>) -> Result<()> {
        let mut rules = Vec::new();
        for work in &mut files {
            let settings = self.session.settings(&work.file.path)?;
            rules.push(RuleKeys::of(&settings, self.session.environment.now));
            if let Err(error) = settings.check_certificate(&cluster.certificate) {
                for (_, report) in &mut work.objects {
                    report.problem.get_or_insert_with(|| error.to_string());
                }
            }
        }
        if self.is_dry {
            let forecast = files
                .into_iter()
                .map(|work| forecast_file(work, &cluster.certificate));
            self.reports.extend(forecast);
            return Ok(());
        }
        let rotatable = |work: &Work| -> Vec<usize> {
            let objects = work.objects.iter().enumerate();
            let rotatable = objects.filter(|(index, (_, report))| {
                report.problem.is_none() && !work.final_indexes.contains(index)
            });
            rotatable.map(|(index, _)| index).collect()
        };
        let indices: Vec<(usize, usize)> = files
            .iter()
            .enumerate()
            .flat_map(|(file, work)| {
                rotatable(work)
                    .into_iter()
                    .map(move |object| (file, object))
            })
            .collect();
        let objects: Vec<&Found> = indices
            .iter()
            .map(|(f, o)| &files[*f].objects[*o].0)
            .collect();
        let responses = cluster.rotate(&objects, self.to, self.interrupt)?;
        for ((file, object), response) in indices.into_iter().zip(responses) {
            let response = ReceivedResponse {
                response,
                to: self.to,
                certificate: &cluster.certificate,
                rule: &rules[file],
            };
            files[file].apply_response(object, response);
        }
        for work in files {
            let finished = work.finish(false);
            if finished.stale.is_empty() {
                self.reports.push(finished.report);
            } else {
                self.stale.push(finished);
            }
        }
        Ok(())
    }
}

/// Forecasts the result from sizes and key hints alone: a request to the controller would re-encrypt everything.
fn forecast_file(mut work: Work, certificate: &Certificate) -> FileReport {
    let ring = &KeyRing::default();
    for (found, report) in &mut work.objects {
        if report.problem.is_none() {
            report.set_forecast(
                forecast(&found.sealed, Keys { ring, certificate }),
                certificate,
            );
        }
    }
    work.finish(true).give_up()
}

/// Returns the controller to call. A certificate from a file or URL names no controller; in that case, the flags select
/// it.
fn controller_of(args: &Sealing, settings: &Settings) -> Source {
    match &settings.certificate.value {
        source @ Source::Controller { .. } => source.clone(),
        Source::At(_) => Source::Controller {
            context: args.cluster.context.clone(),
            name: args.controller.name.clone(),
            namespace: args.controller.namespace.clone(),
        },
    }
}

/// The new object, or the reason why the controller returned none.
type Response = Result<Json, String>;

const CANNOT_UNSEAL: &str = "the controller cannot unseal the object: most likely, the object was sealed for another \
    cluster, or for another name, namespace or scope";

const INTERRUPTED: &str = "the run was interrupted";

impl Cluster {
    fn find(access: &Access, clusters: &Clusters<'_>) -> Result<Self> {
        let controller = Controller::find(access, clusters)?;
        let pem = controller.certificate()?;
        let (certificate, _) = Certificate::first_of_pem(&pem)?;
        Ok(Self {
            controller,
            certificate,
        })
    }

    /// Sends all objects in one request. If that fails although the controller can be reached, sends them one by one:
    /// perhaps the controller cannot unseal one of the objects, or does not support lists.
    fn rotate(
        &self,
        objects: &[&Found],
        to: Option<SealedFormat>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Response>> {
        let documents: Vec<Json> = objects.iter().map(|f| f.sealed.to_document()).collect();
        if let [_, _, ..] = documents.as_slice() {
            let list = json!({ "kind": "List", "apiVersion": "v1", "items": documents });
            match self.request(&list, to) {
                Ok(Some(Json::Object(mut response))) => {
                    if let Some(Json::Array(items)) = response.remove("items")
                        && items.len() == documents.len()
                    {
                        return Ok(items.into_iter().map(Ok).collect());
                    }
                }
                Err(error @ (ClusterError::Unreachable { .. } | ClusterError::ByToken(_))) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        let rotate = |document| {
            if interrupt.was_received() {
                return Ok(Err(INTERRUPTED.to_owned()));
            }
            self.rotate_one(document, to)
        };
        documents.iter().map(rotate).collect()
    }

    fn request(
        &self,
        document: &Json,
        to: Option<SealedFormat>,
    ) -> Result<Option<Json>, ClusterError> {
        match to {
            Some(SealedFormat::V2) => self.controller.rotate_to_v2(document),
            _ => self.controller.rotate(document),
        }
    }

    fn rotate_one(&self, document: &Json, to: Option<SealedFormat>) -> Result<Response> {
        match self.request(document, to) {
            Ok(Some(response)) => Ok(Ok(response)),
            Ok(None) => Ok(Err(CANNOT_UNSEAL.to_owned())),
            Err(error @ (ClusterError::Unreachable { .. } | ClusterError::ByToken(_))) => {
                Err(error.into())
            }
            Err(error) => Ok(Err(shared::error_chain(&error))),
        }
    }
}

/// Returns a warning for each item that the controller left unchanged although the item's hint names another key.
/// Neither a hint nor the response is evidence: another server on the unauthenticated port could return the request
/// unchanged.
fn contradicted_hints(
    sealed: &SealedSecret,
    changed: &BTreeMap<String, String>,
    newest: &Fingerprint,
) -> Vec<String> {
    let hints = hints::read(sealed.metadata.annotations.as_ref()).into_iter();
    let contradicted = hints.filter(|(item, key)| {
        let is_unchanged =
            sealed.spec.encrypted_data.contains_key(item) && !changed.contains_key(item);
        is_unchanged && key != newest
    });
    let name = sealed.qualified_name();
    let line = |(item, key)| {
        format!(
            "{name}, item {item}: the controller returned the value unchanged, as for its newest key, but the key hint \
             names {key}; either the hint is outdated, or another server responded in place of the controller: `seal doctor` \
             shows the key"
        )
    };
    contradicted.map(line).collect()
}

/// A response, and the data to check it against.
struct ReceivedResponse<'a> {
    response: Response,
    to: Option<SealedFormat>,
    certificate: &'a Certificate,
    rule: &'a RuleKeys,
}

impl ReceivedResponse<'_> {
    /// Returns the entries of the re-encrypted object, after checking that no other part of the object changed, and
    /// that the rule of the file accepts their keys.
    fn entries(self, sent: &SealedSecret) -> Result<BTreeMap<String, String>, String> {
        let response = rotated::parse(self.response?).map_err(|problem| problem.to_string())?;
        let checked = match self.to {
            Some(SealedFormat::V2) => rotated::check_converted(sent, &response),
            _ => rotated::check(sent, &response, self.certificate.public_key()),
        };
        checked.map_err(|problem| problem.to_string())?;
        let entries = response.spec.encrypted_data;
        let checked = self.rule.check(sent, &entries);
        checked.map_err(|failure| failure.to_string())?;
        Ok(entries)
    }
}

impl Work {
    /// Takes the new ciphertexts from a response.
    fn apply_response(&mut self, index: usize, response: ReceivedResponse<'_>) {
        let certificate = response.certificate;
        let (found, report) = &mut self.objects[index];
        let old = &found.sealed.spec.encrypted_data;
        match response.entries(&found.sealed) {
            Ok(entries) => {
                let removed = old.keys().filter(|name| !entries.contains_key(*name));
                let removed = removed.cloned().collect();
                let keys = keys_of(&entries, certificate);
                let mut texts = entries;
                texts.retain(|item, text| old.get(item) != Some(text));
                for line in contradicted_hints(&found.sealed, &texts, certificate.fingerprint()) {
                    report::warn(&shown(&format!("{}: {line}", self.file.path.shown())));
                }
                self.change(NewCiphertexts {
                    index,
                    items: texts,
                    removed,
                    data: None,
                    keys,
                });
            }
            Err(problem) => report.problem = Some(problem),
        }
    }
}

/// Returns the keys that a response is encrypted for.
fn keys_of(entries: &BTreeMap<String, String>, certificate: &Certificate) -> NewKeys {
    let object = v2::Object::parse(entries).ok();
    let views = object.as_ref().map(v2::Object::view).unwrap_or_default();
    let keys = views.values().flat_map(|view| &view.recipients);
    let keys: BTreeSet<String> = keys
        .map(|(id, suite)| match suite {
            Some(suite) => format!("{suite} {id}"),
            None => id.to_string(),
        })
        .collect();
    if keys.is_empty() {
        return NewKeys::Certificate {
            fingerprint: certificate.fingerprint().clone(),
            adds_hints: false,
        };
    }
    NewKeys::Recipients(Vec::from_iter(keys).join(", "))
}
