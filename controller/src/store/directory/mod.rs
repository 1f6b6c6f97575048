//! The store on a directory: SealedSecrets in `DIR/sealed`, values in `DIR/secrets`, statuses in
//! `DIR/status`.
//!
//! Only values are stored as files, without the owner, labels, annotations and type of a Secret. The controller creates
//! directories with mode 0700 and files with mode 0600. This includes statuses, since they name files, items and
//! failures: the owner of DIR decides which users may read them.

mod catalog;
mod directory_states;
mod manifest_directory;
mod manifest_file;
pub(crate) mod names;
mod status_file;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use controller_core::decide::{Content, Existing, Plan};
use controller_core::drift;
use controller_core::object_id::ObjectId;
use controller_core::status::is_synced;
use jiff::{SignedDuration, Timestamp};
use shared::error_chain;
use shared::plain::Plain;
use shared::random_mark;
use shared::resource::SealedSecretStatus;
use shared::secret::Secret;
use tracing::{error, warn};

use crate::files::{Directory, FileError, OpenEntry};
use crate::poll::{self, Depth, Listing, PolledFiles};
use crate::pool::Pool;
use crate::store::{AppliedPlan, Observed, ReadMode, Source, Store, StoreError, StoredSecret};
use catalog::Catalog;
use directory_states::{DirectoryState, DirectoryStates};
use manifest_directory::ManifestDirectory;
use manifest_file::ManifestFile;
use status_file::{StatusFile, digest_of, file_name};
use values::{Owner, Values};

const SEALED: &str = "sealed";
const SECRETS: &str = "secrets";
const STATUS: &str = "status";

/// How long an old version of the values is kept, for readers whose open(2) has already followed the link to it.
const RETENTION: SignedDuration = SignedDuration::from_secs(1);

/// Maximum length of a file name on current file systems.
const MAX_FILE_NAME: usize = 255;

/// The store on a directory. Only one process may use it at a time; see [`Directory::lock`].
#[derive(Debug)]
pub struct DirectoryStore {
    inner: Arc<Inner>,
    pool: Pool,
}

#[derive(Debug)]
struct Inner {
    root: Arc<Directory>,
    /// Locked for reading while values are written, and for writing while old versions are removed: an unfinished
    /// version cannot be distinguished from an old version.
    cleanup: RwLock<()>,
    /// Whether edits of values are left in place.
    tolerates_drift: bool,
    /// The device number of the file system of `secrets` when the store was opened.
    secrets_device: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: PolledFiles<ManifestFile>,
    catalog: Catalog,
    manifest_directory: ManifestDirectory,
    directory_states: DirectoryStates,
    /// Whether `secrets` is on a different file system than at startup.
    secrets_unmounted: bool,
    /// The version of each object that its current reconciliation has read. The next status describes this version.
    gathered: BTreeMap<ObjectId, Source>,
    /// The digest of the last version of each SealedSecret that this process unsealed. Kept in memory because status
    /// files can be disabled.
    unsealed: BTreeMap<ObjectId, String>,
    /// Messages about files that were already logged.
    reported: BTreeSet<String>,
    /// Objects with old files to remove, and the time of the first scan after their last write; `None` before that
    /// scan.
    leftovers: BTreeMap<ObjectId, Option<Timestamp>>,
}

impl DirectoryStore {
    /// Creates `secrets` and `status` if they are missing, and reads the files of earlier processes. With
    /// `tolerates_drift`, edits of values stay until their SealedSecret changes.
    ///
    /// # Errors
    ///
    /// Fails if one of the directories or their subdirectories cannot be used.
    pub fn open(
        root: Arc<Directory>,
        pool: Pool,
        tolerates_drift: bool,
    ) -> Result<Self, FileError> {
        let mut catalog = Catalog::default();
        let statuses = root.child_or_new(STATUS)?;
        statuses.remove_leftovers()?;
        remember_statuses(&statuses, &mut catalog)?;
        let secrets = root.child_or_new(SECRETS)?;
        remember_secrets(&secrets, &mut catalog)?;
        let state = State {
            catalog,
            manifest_directory: ManifestDirectory::read(&statuses),
            ..State::default()
        };
        let inner = Inner {
            root,
            cleanup: RwLock::default(),
            tolerates_drift,
            secrets_device: device(&secrets)?,
            state: Mutex::new(state),
        };
        Ok(Self {
            inner: Arc::new(inner),
            pool,
        })
    }

    /// Checks `sealed` and `secrets` for changes and returns the objects to reconcile.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Stopped`] at shutdown. A directory that is missing or unreadable is logged, and causes no
    /// change and no removal.
    pub async fn scan(&self, now: Timestamp) -> Result<Vec<ObjectId>, StoreError> {
        let inner = Arc::clone(&self.inner);
        Ok(self.pool.run(move || inner.scan(now)).await?)
    }

    async fn run<T: Send + 'static>(
        &self,
        id: &ObjectId,
        work: impl FnOnce(&Inner, &ObjectId) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, id) = (Arc::clone(&self.inner), id.clone());
        self.pool.run(move || work(&inner, &id)).await?
    }
}

impl Store for DirectoryStore {
    async fn gather(&self, id: &ObjectId, _mode: ReadMode) -> Result<Observed, StoreError> {
        self.run(id, Inner::gather).await
    }

    async fn apply(&self, id: &ObjectId, plan: Plan) -> Result<AppliedPlan, StoreError> {
        self.run(id, move |inner, id| inner.apply(id, plan)).await?;
        Ok(AppliedPlan::Done(None))
    }

    async fn record(
        &self,
        id: &ObjectId,
        _uid: Option<&str>,
        status: Option<SealedSecretStatus>,
    ) -> Result<(), StoreError> {
        self.run(id, move |inner, id| inner.record(id, status))
            .await
    }

    fn note_unsealed(&self, id: &ObjectId, observed: &Observed, stored: StoredSecret<'_>) {
        let mut state = self.inner.state();
        if let Some(digest) = digest_of(&observed.source) {
            state.unsealed.insert(id.clone(), digest);
        }
        if stored.has_unsealed_values {
            state.directory_states.mark_unsealed(id);
        }
    }
}

impl Inner {
    fn scan(&self, now: Timestamp) -> Vec<ObjectId> {
        self.clean_up(now);
        let mut changed = self.scan_sealed(now);
        changed.extend(self.take_edited(now));
        changed
    }

    fn scan_sealed(&self, now: Timestamp) -> Vec<ObjectId> {
        let mut state = self.state();
        let listing = match poll::list(&self.root, SEALED, Depth::Deep) {
            Ok(listing) => listing,
            Err(error) => {
                let text = format!(
                    "{}; no Secret is removed until this is fixed",
                    error_chain(&error)
                );
                state.report([text].into(), BTreeSet::new());
                state.catalog.record_failed_scan();
                return Vec::new();
            }
        };
        let directory_problem = self.check_manifest_directory(&mut state, &listing);
        let State { files, catalog, .. } = &mut *state;
        let scan = files.scan(&self.root, &listing, now, |_, bytes| {
            manifest_file::read(bytes)
        });
        let mut problems: BTreeSet<String> = listing.problems.into_values().collect();
        problems.extend(directory_problem);
        let mut ignored = BTreeSet::new();
        for (path, file) in files.files() {
            let path = path.display();
            problems.extend(catalog::problems(file).map(|text| format!("{path}: {text}")));
            ignored.extend(
                catalog::ignored_messages(file)
                    .iter()
                    .map(|text| format!("{path}: {text}")),
            );
        }
        let is_clean = scan.settled && problems.is_empty();
        let changed = catalog.process_scan(files.files(), is_clean, now);
        state.report(problems, ignored);
        changed
    }

    /// Returns the objects whose values were edited or deleted by another program.
    fn take_edited(&self, now: Timestamp) -> Vec<ObjectId> {
        let mut state = self.state();
        if !state.directory_states.are_due(now) || !self.is_secrets_directory_in_place(&mut state) {
            return Vec::new();
        }
        let State {
            directory_states,
            catalog,
            unsealed,
            ..
        } = &mut *state;
        let source = |id: &ObjectId| catalog.entry(id).map(|entry| &entry.source);
        let keeps_edits = |id: &ObjectId| self.tolerates_drift || source(id).is_some_and(opts_out);
        let is_failing =
            |id: &ObjectId| source(id).and_then(digest_of).as_ref() != unsealed.get(id);
        let current = |id: &ObjectId| DirectoryState::from_values(&self.values(id));
        directory_states.take_edited(current, keeps_edits, is_failing)
    }

    /// Returns whether `secrets` is on the same file system as at startup, and logs an error once if not. If `secrets`
    /// is an in-memory file system and is unmounted, values must not be written to the disk below the mount point.
    fn is_secrets_directory_in_place(&self, state: &mut State) -> bool {
        let current = match self.root.child(SECRETS) {
            Err(error) if error.is_missing() => device(&self.root),
            secrets => secrets.and_then(|secrets| device(&secrets)),
        };
        let is_another_file_system = current.is_ok_and(|device| device != self.secrets_device);
        if is_another_file_system && !state.secrets_unmounted {
            error!(
                directory = %self.root.path().join(SECRETS).display(),
                "The directory is on a different file system than at startup, so edited and deleted values are not restored: \
                 mount the file system again, or restart the controller if the change is intended"
            );
        }
        state.secrets_unmounted = is_another_file_system;
        !is_another_file_system
    }

    /// Returns the problem with the directory `sealed` itself; `None` if there is none. While there is a problem, no
    /// object counts as deleted.
    fn check_manifest_directory(&self, state: &mut State, listing: &Listing) -> Option<String> {
        if state.manifest_directory.record(listing) {
            let statuses = self.root.child_or_new(STATUS);
            if let Err(error) =
                statuses.and_then(|statuses| state.manifest_directory.write(&statuses))
            {
                let error = error_chain(&error);
                warn!(
                    error,
                    "Cannot write the marker file for the directory `sealed`"
                );
            }
        }
        let is_suspicious = state.catalog.tracks_any()
            && state.manifest_directory.is_another_empty_directory(listing);
        is_suspicious.then(|| {
            format!(
                "{} is empty, and is not the directory that contained manifests before, so no Secret is removed: mount the \
                 directory if it is not mounted; if all SealedSecrets were removed on purpose, create an empty file none.yaml in \
                 the directory",
                self.root.path().join(SEALED).display()
            )
        })
    }

    /// Removes old files of objects, at least [`RETENTION`] after the first scan that followed the last write.
    fn clean_up(&self, now: Timestamp) {
        let mut due = Vec::new();
        self.state().leftovers.retain(|id, since| {
            let is_due = now.duration_since(*since.get_or_insert(now)) >= RETENTION;
            if is_due {
                due.push(id.clone());
            }
            !is_due
        });
        if due.is_empty() {
            return;
        }
        let _exclusive = self.cleanup.write();
        for id in due {
            match self.values(&id).and_then(|values| values.clean_up()) {
                Err(error) if !error.is_missing() => {
                    let error = error_chain(&error);
                    warn!(
                        namespace = id.namespace,
                        name = id.name,
                        error,
                        "Cannot remove old versions of the values"
                    );
                }
                _ => {}
            }
        }
    }

    fn gather(&self, id: &ObjectId) -> Result<Observed, StoreError> {
        let source = self.source(id);
        // An unreadable status must not prevent writing values.
        let file = self.status(id).ok().flatten();
        let (existing, has_unsealed_values) = match self.existing(id) {
            // The values of a deleted object must not be forgotten.
            Err(error) if source != Source::Gone => {
                (Existing::Unreadable(error_chain(&error)), false)
            }
            existing => existing?,
        };
        let was_unsealed = self.was_unsealed(id, &source);
        let is_settled = file.as_ref().is_some_and(|file| file.is_settled(&source));
        let mark = self.mark(id);
        Ok(Observed {
            unmanaged: None,
            existing,
            settled: was_unsealed || is_settled,
            claimed: false,
            assumed_absent: false,
            has_unsealed_values,
            is_fresh: false,
            is_exclusive: false,
            trusts_mark: !was_unsealed && is_settled && has_mark(file.as_ref(), mark.as_ref()),
            random_mark: mark.or_else(|| file.as_ref()?.random_mark()),
            uid: None,
            generation: generation(&source, file.as_ref()),
            status: file.map(|file| file.status),
            source,
        })
    }

    /// Returns whether this version of the SealedSecret is the last version that this process unsealed.
    fn was_unsealed(&self, id: &ObjectId, source: &Source) -> bool {
        let unsealed = self.state().unsealed.get(id).cloned();
        unsealed.is_some() && unsealed == digest_of(source)
    }

    /// Returns the mark that was written together with the values of an object.
    fn mark(&self, id: &ObjectId) -> Option<String> {
        self.values(id).ok()?.mark()
    }

    fn source(&self, id: &ObjectId) -> Source {
        let mut state = self.state();
        let entry = state.catalog.entry(id);
        let source = entry.map_or(Source::Gone, |entry| entry.source.clone());
        state.gathered.insert(id.clone(), source.clone());
        source
    }

    /// Reads the existing values, and returns whether they are known to come from the last version that was unsealed.
    /// Records the state of the directory before it reads the values, so that a concurrent edit is detected later.
    fn existing(&self, id: &ObjectId) -> Result<(Existing, bool), FileError> {
        if id.namespace.is_empty() {
            return Ok((Existing::Absent, false));
        }
        let values = self.values(id);
        let directory_state = DirectoryState::from_values(&values);
        let has_unsealed_values = self
            .state()
            .directory_states
            .record_read(id, directory_state);
        Ok((Self::content(values)?, has_unsealed_values))
    }

    fn content(values: Result<Values, FileError>) -> Result<Existing, FileError> {
        let values = match values {
            Ok(values) => values,
            Err(error) if error.is_missing() => return Ok(Existing::Absent),
            Err(error) if error.is_not_a_directory() => return Ok(Existing::NotOwned),
            Err(error) => return Err(error),
        };
        Ok(match values.owner() {
            Owner::None => Existing::Absent,
            Owner::Controller => Existing::Owned(Content::Values(values.read()?)),
            Owner::Other => Existing::NotOwned,
        })
    }

    fn values(&self, id: &ObjectId) -> Result<Values, FileError> {
        Values::list(
            self.root
                .child(SECRETS)?
                .child(&id.namespace)?
                .child(&id.name)?,
        )
    }

    fn apply(&self, id: &ObjectId, plan: Plan) -> Result<(), StoreError> {
        match plan {
            Plan::Create(secret) | Plan::Replace(secret) => self.write(id, &secret),
            Plan::Remove => Ok(self.remove(id)?),
            Plan::Leave | Plan::Refuse(_) => Ok(self.record_leftovers(id)?),
        }
    }

    fn write(&self, id: &ObjectId, secret: &Secret) -> Result<(), StoreError> {
        check_items(&secret.data)?;
        let _no_cleanup = self.cleanup.read();
        let namespace = self
            .root
            .child_or_new(SECRETS)?
            .child_or_new(&id.namespace)?;
        let values = Values::list(namespace.child_or_new(&id.name)?)?;
        self.state().leftovers.insert(id.clone(), None);
        let mark = random_mark::of(secret).map(String::as_str);
        let result = values.write(&secret.data, mark, shared::random::number());
        let directory_state = DirectoryState::from_values(&self.values(id));
        let mut state = self.state();
        if result.is_ok() {
            state.directory_states.record_written(id, directory_state);
        } else {
            state.directory_states.record_read(id, directory_state);
        }
        Ok(result?)
    }

    fn remove(&self, id: &ObjectId) -> Result<(), FileError> {
        self.values(id)?.remove()?;
        let secrets = self.root.child(SECRETS)?;
        let namespace = secrets.child(&id.namespace)?;
        namespace.remove_directory_if_empty(&id.name)?;
        namespace.sync()?;
        secrets.remove_directory_if_empty(&id.namespace)
    }

    /// Schedules the removal of old files that killed processes left.
    fn record_leftovers(&self, id: &ObjectId) -> Result<(), FileError> {
        if id.namespace.is_empty() {
            return Ok(());
        }
        match self.values(id) {
            Ok(values) => {
                if values.owner() == Owner::Controller && values.has_leftovers()? {
                    self.state().leftovers.insert(id.clone(), None);
                }
                Ok(())
            }
            Err(error) if error.is_missing() || error.is_not_a_directory() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn status(&self, id: &ObjectId) -> Result<Option<StatusFile>, FileError> {
        let statuses = self.root.child(STATUS)?;
        let result = statuses
            .child(names::status_directory(&id.namespace))
            .and_then(|namespace| namespace.open_file(file_name(&id.name))?.read());
        match result {
            Ok(bytes) => Ok(StatusFile::read(&bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn record(&self, id: &ObjectId, status: Option<SealedSecretStatus>) -> Result<(), StoreError> {
        let name = file_name(&id.name);
        let statuses = self.root.child_or_new(STATUS)?;
        let gathered = self.state().gathered.remove(id);
        let Some(status) = status else {
            let mut state = self.state();
            state.directory_states.forget(id);
            state.unsealed.remove(id);
            drop(state);
            return Ok(forget_status(&statuses, id, &name)?);
        };
        if name.len() > MAX_FILE_NAME {
            warn!(
                namespace = id.namespace,
                name = id.name,
                "The name is too long for a status file, so no status is written"
            );
            return Ok(());
        }
        let file = self
            .state()
            .catalog
            .entry(id)
            .map(|entry| entry.file.clone());
        let previous = self.status(id).ok().flatten();
        let random_mark = self.mark(id).or_else(|| previous.as_ref()?.random_mark());
        let digest = if is_synced(&status) {
            gathered.as_ref().and_then(digest_of)
        } else {
            previous.and_then(StatusFile::digest)
        };
        let text = StatusFile::new(id, file.as_deref(), digest, random_mark, status).to_yaml();
        let namespace = statuses.child_or_new(names::status_directory(&id.namespace))?;
        Ok(namespace.replace(&name, text.as_bytes())?)
    }

    /// Locks the state. Ignores poisoning: a panicked thread leaves no lasting damage, since each scan processes
    /// everything again.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Logs problems and ignored documents that were not reported for the previous scan.
    fn report(&mut self, problems: BTreeSet<String>, ignored: BTreeSet<String>) {
        for problem in problems.difference(&self.reported) {
            error!(error = problem, "Cannot use a manifest");
        }
        for note in ignored.difference(&self.reported) {
            warn!(note, "Ignoring a document");
        }
        self.reported = problems;
        self.reported.extend(ignored);
    }
}

/// Returns the generation in the manifest of a SealedSecret, if it has one. If the manifest is invalid or was removed,
/// returns the generation in the status file.
fn generation(source: &Source, file: Option<&StatusFile>) -> Option<i64> {
    match source {
        Source::Sealed(sealed) => sealed.metadata.generation,
        Source::Malformed(_) | Source::Gone => file?.status.observed_generation,
    }
}

/// Returns whether the status file has the mark that was written together with the values. Returns true for values
/// without a mark: an earlier release wrote them, and wrote the mark only to the status file.
fn has_mark(file: Option<&StatusFile>, mark: Option<&String>) -> bool {
    mark.is_none() || mark == file.and_then(StatusFile::random_mark).as_ref()
}

fn opts_out(source: &Source) -> bool {
    matches!(source, Source::Sealed(sealed) if drift::opts_out(sealed.metadata.annotations.as_ref()))
}

fn device(directory: &Directory) -> Result<u64, FileError> {
    Ok(directory.stamp()?.identity.0)
}

fn check_items(values: &BTreeMap<String, Plain>) -> Result<(), StoreError> {
    match values.keys().find(|key| !names::is_item(key)) {
        Some(key) => Err(StoreError::ItemName(key.chars().take(300).collect())),
        None => Ok(()),
    }
}

fn forget_status(statuses: &Directory, id: &ObjectId, name: &str) -> Result<(), FileError> {
    let directory = names::status_directory(&id.namespace);
    match statuses.child(directory) {
        Ok(namespace) => {
            namespace.remove(name)?;
            statuses.remove_directory_if_empty(directory)
        }
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Records the objects with a status file of an earlier process.
fn remember_statuses(statuses: &Directory, catalog: &mut Catalog) -> Result<(), FileError> {
    for (name, directory) in
        open_subdirectories(statuses, |name| names::status_namespace(name).is_some())?
    {
        let namespace = names::status_namespace(&name).unwrap_or_default();
        directory.remove_leftovers()?;
        for (file, _) in directory.entries()? {
            let name = file.to_str().and_then(|file| file.strip_suffix(".yaml"));
            let Some(name) = name.filter(|name| names::check_name(name).is_ok()) else {
                continue;
            };
            let bytes = directory.open_file(&file).and_then(OpenEntry::read);
            let manifest = bytes
                .ok()
                .and_then(|bytes| StatusFile::read(&bytes)?.file());
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            catalog.remember(ObjectId { namespace, name }, manifest);
        }
    }
    Ok(())
}

/// Records the objects with values of an earlier process.
fn remember_secrets(secrets: &Directory, catalog: &mut Catalog) -> Result<(), FileError> {
    for (namespace, directory) in
        open_subdirectories(secrets, |name| names::check_namespace(name).is_ok())?
    {
        for (name, directory) in
            open_subdirectories(&directory, |name| names::check_name(name).is_ok())?
        {
            if Values::list(directory)?.owner() == Owner::Controller {
                let namespace = namespace.clone();
                catalog.remember(ObjectId { namespace, name }, None);
            }
        }
    }
    Ok(())
}

/// Opens the subdirectories with accepted names. Skips symbolic links.
fn open_subdirectories(
    directory: &Directory,
    accepts: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Directory)>, FileError> {
    let mut subdirectories = Vec::new();
    for (name, kind) in directory.entries()? {
        if let (Ok(name), rustix::fs::FileType::Directory) = (name.into_string(), kind)
            && accepts(&name)
        {
            let child = directory.child(Path::new(&name))?;
            subdirectories.push((name, child));
        }
    }
    Ok(subdirectories)
}
