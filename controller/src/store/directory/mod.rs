//! The store on a directory: SealedSecrets in `DIR/sealed`, values in `DIR/secrets`, statuses in
//! `DIR/status`.
//!
//! Only values become files: the owner, labels, annotations and type of a Secret are not stored. Created
//! folders have mode 0700 and files 0600. This includes statuses: they name files, items and failures, and
//! the owner of DIR decides who may read them.

mod catalogue;
mod claims;
mod home;
pub(crate) mod names;
mod prints;
mod status_file;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use controller_core::decide::{Existing, Held, Plan};
use controller_core::drift;
use controller_core::object_id::ObjectId;
use controller_core::status::is_synced;
use jiff::{SignedDuration, Timestamp};
use shared::error_chain;
use shared::plain::Plain;
use shared::resource::SealedSecretStatus;
use shared::secret::Secret;
use tracing::{error, warn};

use crate::folder::{FileError, Folder, Opened};
use crate::poll::{self, Depth, Listing, Polled};
use crate::pool::Pool;
use crate::store::{Applied, Look, Observed, Source, Store, StoreError};
use catalogue::Catalogue;
use claims::Claims;
use home::Home;
use prints::{Print, Prints};
use status_file::{StatusFile, digest_of, file_name};
use values::{Owner, Values};

const SEALED: &str = "sealed";
const SECRETS: &str = "secrets";
const STATUS: &str = "status";

/// How long an old version of the values is kept, for an open(2) that has already followed the link to it.
const GRACE: SignedDuration = SignedDuration::from_secs(1);

/// Maximum length of a file name on current file systems.
const MAX_FILE_NAME: usize = 255;

/// The store on a directory. Only one process may use it at a time; see [`Folder::lock`].
#[derive(Debug)]
pub struct DirectoryStore {
    place: Arc<Place>,
    pool: Pool,
}

#[derive(Debug)]
struct Place {
    root: Arc<Folder>,
    /// Locked for reading while values are written, and for writing while old versions are removed, since an
    /// unfinished version looks like an old one.
    tidying: RwLock<()>,
    /// Whether edits of values are left in place.
    tolerates_drift: bool,
    /// The file system of `secrets` at start.
    secrets_device: u64,
    scanned: Mutex<Scanned>,
}

#[derive(Debug, Default)]
struct Scanned {
    files: Polled<Claims>,
    catalogue: Catalogue,
    home: Home,
    prints: Prints,
    /// Whether `secrets` is on another file system than at start.
    misses_secrets: bool,
    /// Each object as of its last reconciliation, which its next status describes.
    gathered: BTreeMap<ObjectId, Source>,
    /// Digests of the SealedSecrets unsealed last, as far as this process knows. Status files can be turned
    /// off.
    unsealed: BTreeMap<ObjectId, String>,
    /// Messages about files that were already logged.
    reported: BTreeSet<String>,
    /// Objects with old files to remove, and the scan that first noticed it.
    untidy: BTreeMap<ObjectId, Option<Timestamp>>,
}

impl DirectoryStore {
    /// Creates `secrets` and `status` if they are missing, and reads what an earlier process left there. With
    /// `tolerates_drift`, edits of values stay until their SealedSecret changes.
    ///
    /// # Errors
    ///
    /// Returns an error if either folder cannot be used.
    pub fn open(root: Arc<Folder>, pool: Pool, tolerates_drift: bool) -> Result<Self, FileError> {
        let mut catalogue = Catalogue::default();
        let statuses = root.child_or_new(STATUS)?;
        statuses.remove_leftovers()?;
        remember_statuses(&statuses, &mut catalogue)?;
        let secrets = root.child_or_new(SECRETS)?;
        remember_secrets(&secrets, &mut catalogue)?;
        let scanned = Scanned {
            catalogue,
            home: Home::read(&statuses),
            ..Scanned::default()
        };
        let place = Place {
            root,
            tidying: RwLock::default(),
            tolerates_drift,
            secrets_device: device(&secrets)?,
            scanned: Mutex::new(scanned),
        };
        Ok(Self {
            place: Arc::new(place),
            pool,
        })
    }

    /// Checks `sealed` and `secrets` for changes and returns the objects to reconcile.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Stopped`] at shutdown. A folder that is missing or unreadable is logged; it
    /// changes nothing and removes nothing.
    pub async fn scan(&self, now: Timestamp) -> Result<Vec<ObjectId>, StoreError> {
        let place = Arc::clone(&self.place);
        Ok(self.pool.run(move || place.scan(now)).await?)
    }

    async fn run<T: Send + 'static>(
        &self,
        id: &ObjectId,
        work: impl FnOnce(&Place, &ObjectId) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (place, id) = (Arc::clone(&self.place), id.clone());
        self.pool.run(move || work(&place, &id)).await?
    }
}

impl Store for DirectoryStore {
    async fn gather(&self, id: &ObjectId, _look: Look) -> Result<Observed, StoreError> {
        self.run(id, Place::gather).await
    }

    async fn apply(&self, id: &ObjectId, plan: Plan) -> Result<Applied, StoreError> {
        self.run(id, move |place, id| place.apply(id, plan)).await?;
        Ok(Applied::Done(None))
    }

    async fn record(
        &self,
        id: &ObjectId,
        _uid: Option<&str>,
        status: Option<SealedSecretStatus>,
    ) -> Result<(), StoreError> {
        self.run(id, move |place, id| place.record(id, status))
            .await
    }

    fn note_unsealed(&self, id: &ObjectId, observed: &Observed) {
        if let Some(digest) = digest_of(&observed.source) {
            self.place.scanned().unsealed.insert(id.clone(), digest);
        }
    }
}

impl Place {
    fn scan(&self, now: Timestamp) -> Vec<ObjectId> {
        self.tidy(now);
        let mut changed = self.scan_sealed(now);
        changed.extend(self.edited(now));
        changed
    }

    fn scan_sealed(&self, now: Timestamp) -> Vec<ObjectId> {
        let mut scanned = self.scanned();
        let listing = match poll::list(&self.root, SEALED, Depth::Deep) {
            Ok(listing) => listing,
            Err(error) => {
                let text = format!(
                    "{}; no Secret is removed while this lasts",
                    error_chain(&error)
                );
                scanned.tell([text].into(), BTreeSet::new());
                scanned.catalogue.take_nothing();
                return Vec::new();
            }
        };
        let strange = self.see_home(&mut scanned, &listing);
        let Scanned {
            files, catalogue, ..
        } = &mut *scanned;
        let look = files.look(&self.root, &listing, now, |_, bytes| claims::read(bytes));
        let mut problems: BTreeSet<String> = listing.problems.into_values().collect();
        problems.extend(strange);
        let mut notes = BTreeSet::new();
        for (path, known) in files.files() {
            let path = path.display();
            problems.extend(catalogue::problems(known).map(|text| format!("{path}: {text}")));
            notes.extend(
                catalogue::others(known)
                    .iter()
                    .map(|text| format!("{path}: {text}")),
            );
        }
        let clean = look.settled && problems.is_empty();
        let changed = catalogue.take(files.files(), clean, now);
        scanned.tell(problems, notes);
        changed
    }

    /// Returns the objects whose values another program edited or deleted.
    fn edited(&self, now: Timestamp) -> Vec<ObjectId> {
        let mut scanned = self.scanned();
        if !scanned.prints.are_due(now) || !self.secrets_are_in_place(&mut scanned) {
            return Vec::new();
        }
        let Scanned {
            prints, catalogue, ..
        } = &mut *scanned;
        let keeps_edits = |id: &ObjectId| {
            self.tolerates_drift
                || catalogue
                    .entry(id)
                    .is_some_and(|entry| opts_out(&entry.source))
        };
        prints.edited(|id| Print::of(&self.values(id)), keeps_edits)
    }

    /// Returns whether `secrets` is on the same file system as at start. It may be a memory file system; if
    /// that is unmounted, values must not be written to the disk below the mount point.
    fn secrets_are_in_place(&self, scanned: &mut Scanned) -> bool {
        let current = match self.root.child(SECRETS) {
            Err(error) if error.is_missing() => device(&self.root),
            secrets => secrets.and_then(|secrets| device(&secrets)),
        };
        let is_elsewhere = current.is_ok_and(|device| device != self.secrets_device);
        if is_elsewhere && !scanned.misses_secrets {
            error!(
                folder = %self.root.path().join(SECRETS).display(),
                "The folder is on another file system than at the start, so edited and deleted values are not \
                 restored there: mount it again, or restart the controller if the change is intended"
            );
        }
        scanned.misses_secrets = is_elsewhere;
        !is_elsewhere
    }

    /// Returns the problem with `sealed` itself, if there is one. Then no object counts as deleted.
    fn see_home(&self, scanned: &mut Scanned, listing: &Listing) -> Option<String> {
        if scanned.home.see(listing) {
            let statuses = self.root.child_or_new(STATUS);
            if let Err(error) = statuses.and_then(|statuses| scanned.home.write(&statuses)) {
                let error = error_chain(&error);
                warn!(error, "Cannot note which folder `sealed` is");
            }
        }
        let is_strange = scanned.catalogue.knows_any() && scanned.home.is_elsewhere(listing);
        is_strange.then(|| {
            format!(
                "{} is empty, and not the folder in which manifests were seen last, so no Secret is removed: mount \
                 it, if it is not mounted; if all SealedSecrets are gone for good, put an empty file none.yaml there",
                self.root.path().join(SEALED).display()
            )
        })
    }

    /// Removes old files of objects whose last write is long enough ago.
    fn tidy(&self, now: Timestamp) {
        let mut due = Vec::new();
        self.scanned().untidy.retain(|id, since| {
            let is_due = now.duration_since(*since.get_or_insert(now)) >= GRACE;
            if is_due {
                due.push(id.clone());
            }
            !is_due
        });
        if due.is_empty() {
            return;
        }
        let _alone = self.tidying.write();
        for id in due {
            match self.values(&id).and_then(|values| values.tidy()) {
                Err(error) if !error.is_missing() => {
                    let error = error_chain(&error);
                    warn!(
                        namespace = id.namespace,
                        name = id.name,
                        error,
                        "Cannot clean up"
                    );
                }
                _ => {}
            }
        }
    }

    fn gather(&self, id: &ObjectId) -> Result<Observed, StoreError> {
        let source = self.source(id);
        // An unreadable status must not prevent values from being written.
        let file = self.status(id).ok().flatten();
        Ok(Observed {
            existing: self.existing(id)?,
            settled: self.was_unsealed(id, &source)
                || file.as_ref().is_some_and(|file| file.is_settled(&source)),
            claimed: false,
            guessed: false,
            is_fresh: false,
            uid: None,
            generation: generation(&source, file.as_ref()),
            status: file.map(|file| file.status),
            source,
        })
    }

    /// Returns whether this version of the SealedSecret was the last one that this process unsealed.
    fn was_unsealed(&self, id: &ObjectId, source: &Source) -> bool {
        let unsealed = self.scanned().unsealed.get(id).cloned();
        unsealed.is_some() && unsealed == digest_of(source)
    }

    fn source(&self, id: &ObjectId) -> Source {
        let mut scanned = self.scanned();
        let entry = scanned.catalogue.entry(id);
        let source = entry.map_or(Source::Gone, |entry| entry.source.clone());
        scanned.gathered.insert(id.clone(), source.clone());
        source
    }

    /// Reads the existing values. The fingerprint of the folder is taken before the values are read, so that
    /// an edit in between is noticed later.
    fn existing(&self, id: &ObjectId) -> Result<Existing, FileError> {
        if id.namespace.is_empty() {
            return Ok(Existing::Absent);
        }
        let values = self.values(id);
        self.scanned().prints.note(id, Print::of(&values));
        let values = match values {
            Ok(values) => values,
            Err(error) if error.is_missing() => return Ok(Existing::Absent),
            Err(error) if error.is_no_folder() => return Ok(Existing::Foreign),
            Err(error) => return Err(error),
        };
        Ok(match values.owner() {
            Owner::Nobody => Existing::Absent,
            Owner::Us => Existing::Ours(Held::Values(values.read()?)),
            Owner::Other => Existing::Foreign,
        })
    }

    fn values(&self, id: &ObjectId) -> Result<Values, FileError> {
        Values::of(
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
            Plan::Leave | Plan::Refuse(_) => Ok(self.leave(id)?),
        }
    }

    fn write(&self, id: &ObjectId, secret: &Secret) -> Result<(), StoreError> {
        check_items(&secret.data)?;
        let _not_tidied = self.tidying.read();
        let namespace = self
            .root
            .child_or_new(SECRETS)?
            .child_or_new(&id.namespace)?;
        let values = Values::of(namespace.child_or_new(&id.name)?)?;
        self.scanned().untidy.insert(id.clone(), None);
        let written = values.write(&secret.data, shared::random::number());
        let print = written.is_ok().then(|| Print::of(&self.values(id)));
        self.scanned().prints.note(id, print.flatten());
        Ok(written?)
    }

    fn remove(&self, id: &ObjectId) -> Result<(), FileError> {
        self.values(id)?.remove()?;
        let secrets = self.root.child(SECRETS)?;
        let namespace = secrets.child(&id.namespace)?;
        namespace.remove_folder_if_empty(&id.name)?;
        namespace.sync()?;
        secrets.remove_folder_if_empty(&id.namespace)
    }

    /// Records old files that killed processes left behind.
    fn leave(&self, id: &ObjectId) -> Result<(), FileError> {
        if id.namespace.is_empty() {
            return Ok(());
        }
        match self.values(id) {
            Ok(values) => {
                if values.owner() == Owner::Us && values.is_untidy()? {
                    self.scanned().untidy.insert(id.clone(), None);
                }
                Ok(())
            }
            Err(error) if error.is_missing() || error.is_no_folder() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn status(&self, id: &ObjectId) -> Result<Option<StatusFile>, FileError> {
        let statuses = self.root.child(STATUS)?;
        let read = statuses
            .child(names::status_folder(&id.namespace))
            .and_then(|namespace| namespace.open_file(file_name(&id.name))?.read());
        match read {
            Ok(bytes) => Ok(StatusFile::read(&bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn record(&self, id: &ObjectId, status: Option<SealedSecretStatus>) -> Result<(), StoreError> {
        let name = file_name(&id.name);
        let statuses = self.root.child_or_new(STATUS)?;
        let gathered = self.scanned().gathered.remove(id);
        let Some(status) = status else {
            let mut scanned = self.scanned();
            scanned.prints.forget(id);
            scanned.unsealed.remove(id);
            drop(scanned);
            return Ok(forget_status(&statuses, id, &name)?);
        };
        if name.len() > MAX_FILE_NAME {
            warn!(
                namespace = id.namespace,
                name = id.name,
                "The name is too long for a status file"
            );
            return Ok(());
        }
        let file = self
            .scanned()
            .catalogue
            .entry(id)
            .map(|entry| entry.file.clone());
        let digest = if is_synced(&status) {
            gathered.as_ref().and_then(digest_of)
        } else {
            self.status(id).ok().flatten().and_then(StatusFile::digest)
        };
        let text = StatusFile::new(id, file.as_deref(), digest, status).to_yaml();
        let namespace = statuses.child_or_new(names::status_folder(&id.namespace))?;
        Ok(namespace.replace(&name, text.as_bytes())?)
    }

    /// Ignores poisoning: a panicked thread leaves no lasting damage, since each scan processes everything
    /// again.
    fn scanned(&self) -> MutexGuard<'_, Scanned> {
        self.scanned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scanned {
    /// Logs problems and ignored documents, once each time they appear.
    fn tell(&mut self, problems: BTreeSet<String>, notes: BTreeSet<String>) {
        for problem in problems.difference(&self.reported) {
            error!(error = problem, "A manifest cannot be used");
        }
        for note in notes.difference(&self.reported) {
            warn!(note, "A document is left alone");
        }
        self.reported = problems;
        self.reported.extend(notes);
    }
}

/// Returns the generation. A manifest seldom has one, and a manifest that is now unreadable may have had one
/// before.
fn generation(source: &Source, file: Option<&StatusFile>) -> Option<i64> {
    match source {
        Source::Sealed(sealed) => sealed.metadata.generation,
        Source::Malformed(_) | Source::Gone => file?.status.observed_generation,
    }
}

fn opts_out(source: &Source) -> bool {
    matches!(source, Source::Sealed(sealed) if drift::opts_out(sealed.metadata.annotations.as_ref()))
}

fn device(folder: &Folder) -> Result<u64, FileError> {
    Ok(folder.stamp()?.identity.0)
}

fn check_items(values: &BTreeMap<String, Plain>) -> Result<(), StoreError> {
    match values.keys().find(|key| !names::is_item(key)) {
        Some(key) => Err(StoreError::ItemName(key.chars().take(300).collect())),
        None => Ok(()),
    }
}

fn forget_status(statuses: &Folder, id: &ObjectId, name: &str) -> Result<(), FileError> {
    let folder = names::status_folder(&id.namespace);
    match statuses.child(folder) {
        Ok(namespace) => {
            namespace.remove(name)?;
            statuses.remove_folder_if_empty(folder)
        }
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error),
    }
}

fn remember_statuses(statuses: &Folder, catalogue: &mut Catalogue) -> Result<(), FileError> {
    for (name, folder) in folders(statuses, |name| names::status_namespace(name).is_some())? {
        let namespace = names::status_namespace(&name).unwrap_or_default();
        folder.remove_leftovers()?;
        for (file, _) in folder.entries()? {
            let name = file.to_str().and_then(|file| file.strip_suffix(".yaml"));
            let Some(name) = name.filter(|name| names::check_name(name).is_ok()) else {
                continue;
            };
            let bytes = folder.open_file(&file).and_then(Opened::read);
            let manifest = bytes
                .ok()
                .and_then(|bytes| StatusFile::read(&bytes)?.file());
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            catalogue.remember(ObjectId { namespace, name }, manifest);
        }
    }
    Ok(())
}

fn remember_secrets(secrets: &Folder, catalogue: &mut Catalogue) -> Result<(), FileError> {
    for (namespace, folder) in folders(secrets, |name| names::check_namespace(name).is_ok())? {
        for (name, folder) in folders(&folder, |name| names::check_name(name).is_ok())? {
            if Values::of(folder)?.owner() == Owner::Us {
                let namespace = namespace.clone();
                catalogue.remember(ObjectId { namespace, name }, None);
            }
        }
    }
    Ok(())
}

/// Returns the subfolders whose name is accepted, without links.
fn folders(
    folder: &Folder,
    is_good: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Folder)>, FileError> {
    let mut found = Vec::new();
    for (name, kind) in folder.entries()? {
        if let (Ok(name), rustix::fs::FileType::Directory) = (name.into_string(), kind)
            && is_good(&name)
        {
            let child = folder.child(Path::new(&name))?;
            found.push((name, child));
        }
    }
    Ok(found)
}
