//! One SealedSecret in a file: choosing it, sealing new values for it, and writing the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kubeseal_library::files;
use kubeseal_library::rules::SealedFormat;
use kubeseal_library::walk::ManifestFile;
use shared::manifest::edit;
use shared::names;
use shared::plain::Plain;
use shared::scope::Scope;
use shared::sealed_file::{self, Changes, Found, HintRule};
use shared::{base64, envelope, v2};
use zeroize::Zeroizing;

use super::dates::{self, NewDates};
use super::sealing::SealedFor;
use super::session::Session;
use super::settings::{Origin, Setting, Settings};
use super::{binding, controller_keys, post_quantum, requirements, v2_items};
use crate::report::{self, ShowPath as _, shown};

/// Why the file or the requested change is not valid.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The file contains no SealedSecret.
    #[error("{} contains no SealedSecret\nhint: create one from a Secret with `seal FILE`", .0.shown())]
    None(PathBuf),
    /// The file contains several SealedSecrets, and no name was given.
    #[error(
        "{} contains {} SealedSecrets: {}\nhint: select one with --name",
        file.shown(), candidates.len(), candidates.join(", ")
    )]
    Several {
        /// The file that contains the SealedSecrets.
        file: PathBuf,
        /// The namespaces and names of the SealedSecrets in the file.
        candidates: Vec<String>,
    },
    /// The file contains no SealedSecret of that name.
    #[error("{} contains no SealedSecret {name:?}, but {}", file.shown(), candidates.join(", "))]
    NoSuchName {
        /// The file without a SealedSecret of that name.
        file: PathBuf,
        /// The argument of `--name`.
        name: String,
        /// The namespaces and names of the SealedSecrets in the file.
        candidates: Vec<String>,
    },
    /// The SealedSecret has the deprecated form, without items.
    #[error(
        "{} has the deprecated field `data`, which contains a whole Secret in one value\n\
         hint: convert it to items with `kubeseal --re-encrypt`", .0
    )]
    Deprecated(String),
    /// The requested scope contradicts the SealedSecret in the file.
    #[error(
        "the items of {object} have scope {found}, not {requested}; the items of an object share its scope\nhint: omit \
         --scope"
    )]
    Scope {
        /// The namespace and name of the object.
        object: String,
        /// The scope of the SealedSecret in the file.
        found: Scope,
        /// The requested scope.
        requested: Scope,
    },
    /// The SealedSecret has v2 values, and a flag requests v1.
    #[error(
        "{0} has values that are sealed as v2, and one object has one format\n\
         hint: omit --sealed-format, or convert the file with `seal rotate --to v1`"
    )]
    Format(String),
    /// The requested namespace contradicts the SealedSecret in the file.
    #[error("{object} is in the namespace {found:?}, not {requested:?}\nhint: omit --namespace")]
    Namespace {
        /// The namespace and name of the object.
        object: String,
        /// The namespace of the SealedSecret, or else that of the kubeconfig.
        found: String,
        /// The requested namespace.
        requested: String,
    },
    /// The object has no namespace, but its scope requires one.
    #[error("{0} has no namespace, but its scope requires one\nhint: pass --namespace")]
    NoNamespace(String),
    /// During the run, another program changed the same item, the format of the values or the template.
    #[error("another program changed {item} in {}\nhint: run the command again", file.shown())]
    Conflict {
        /// The file that another program changed.
        file: PathBuf,
        /// The item key, or a description of what else was changed.
        item: String,
    },
    /// Another program repeatedly changed the object.
    #[error(
        "another program keeps changing {object} in {}, so nothing was written\nhint: run the command again",
        file.shown()
    )]
    Busy {
        /// The file that contains the object.
        file: PathBuf,
        /// The namespace and name of the object.
        object: String,
    },
    /// Another program removed or renamed the object during the run.
    #[error(
        "another program changed {}, and removed or renamed {object}\nhint: run the command again",
        file.shown()
    )]
    Gone {
        /// The file that another program changed.
        file: PathBuf,
        /// The namespace and name of the object.
        object: String,
    },
    /// The SealedSecret has no name.
    #[error(
        "the SealedSecret at line {0} has no metadata.name, so its values could never be unsealed\n\
         hint: add the name to the file"
    )]
    NoName(usize),
}

/// The object differs from the object that the changes were decided for.
#[derive(Debug, thiserror::Error)]
#[error("the object has changed")]
struct Stale;

/// The maximum number of attempts to decide changes, because another program may change the object meanwhile.
const MAX_ATTEMPTS: usize = 100;

/// How to treat new values if another program changed the same items since the file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The new values replace the changed values.
    Overwrite,
    /// The change is refused, because it is based on outdated values.
    Refuse,
}

/// One SealedSecret in a file.
#[derive(Clone)]
pub struct Target {
    /// The manifest that contains the SealedSecret.
    pub path: PathBuf,
    /// The content of the file when it was read.
    pub bytes: Vec<u8>,
    /// The SealedSecret, as parsed from the file; [`fill_namespace`] may have added its namespace.
    pub found: Found,
}

impl Target {
    /// Reads a file and returns its only SealedSecret, or the SealedSecret with that name.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, if it contains no such SealedSecret or several, or if the SealedSecret has the
    /// deprecated `spec.data`.
    pub fn read(path: &Path, name: Option<&str>) -> Result<Self> {
        let file = ManifestFile::parse(path, files::read_to_change(path)?)?;
        let objects = sealed_file::find(&file.documents);
        let objects = objects.with_context(|| path.shown())?;
        let found = select(path, objects, name)?;
        if found.sealed.spec.data.is_some() {
            return Err(TargetError::Deprecated(qualified_name(&found)).into());
        }
        Ok(Self {
            path: path.to_owned(),
            bytes: file.bytes.to_vec(),
            found,
        })
    }

    /// Returns the scope of the object.
    pub fn scope(&self) -> Scope {
        Scope::from_annotations(self.found.sealed.metadata.annotations.as_ref())
    }

    /// Checks that the change adds no violation of the type of the Secret. Warns if an item that was missing before is
    /// still missing, or if the Secret is too large.
    ///
    /// # Errors
    ///
    /// Fails if the change removes an item that the type requires, or sets a value that does not have the form that the
    /// type requires.
    pub fn check_change(&self, set: &BTreeMap<String, Plain>, removed: &[String]) -> Result<()> {
        let warnings = requirements::check_change(&self.found.sealed, set, removed);
        for warning in warnings.with_context(|| qualified_name(&self.found))? {
            report::warn(&format!("{}: {warning}", qualified_name(&self.found)));
        }
        Ok(())
    }

    /// Returns the item keys.
    pub fn items(&self) -> impl Iterator<Item = &String> {
        v2::items(&self.found.sealed.spec.encrypted_data).map(|(name, _)| name)
    }

    /// Returns whether the object has an item.
    pub fn has_item(&self, item: &str) -> bool {
        let entries = &self.found.sealed.spec.encrypted_data;
        !v2::is_lock_entry(item) && entries.contains_key(item)
    }

    /// Seals values for this object. `removed` names the items that the same change removes.
    ///
    /// # Errors
    ///
    /// Fails if a flag contradicts the SealedSecret, a rule is violated, the object lacks a name or namespace, or no
    /// certificate or recipient is available.
    pub fn seal(
        &mut self,
        session: &Session<'_>,
        values: &BTreeMap<String, Plain>,
        removed: &[String],
    ) -> Result<NewValues> {
        let settings = session.settings(&self.path)?;
        self.check(session, &settings)?;
        let change = v2_items::Change {
            set: values,
            removed,
        };
        let format = self.format_of_change(&settings, change)?;
        controller_keys::check_values(session, &settings, format, values)?;
        let mut new = match format {
            SealedFormat::V1 => self.seal_v1(session, &settings, values)?,
            SealedFormat::V2 => self.seal_v2(session, &settings, change)?,
        };
        new.removed.extend_from_slice(removed);
        let rotate_by = settings.rotate_by.map(|setting| setting.value);
        let now = session.environment.now;
        new.dates = dates::of_new_values(&self.found.sealed, values.keys(), rotate_by, now)?;
        Ok(new)
    }

    /// Returns the format of new values: v2 if the SealedSecret has v2 values or the settings require v2, else v1.
    ///
    /// # Errors
    ///
    /// Fails if a flag requests v1 for a SealedSecret with v2 values.
    pub fn format(&self, settings: &Settings) -> Result<SealedFormat, TargetError> {
        let Setting { value, by } = settings.format;
        if !v2::is_v2(&self.found.sealed.spec.encrypted_data) {
            return Ok(value);
        }
        if value == SealedFormat::V1 && matches!(by, Origin::Flag(_)) {
            return Err(TargetError::Format(qualified_name(&self.found)));
        }
        Ok(SealedFormat::V2)
    }

    /// Returns the format of these new values. Controllers refuse v2 values that are bound to the template if the
    /// object also has v1 values. So if v1 values stay in the object, and only a rule requires v2 and the binding, the
    /// new values are v1.
    fn format_of_change(
        &self,
        settings: &Settings,
        change: v2_items::Change<'_>,
    ) -> Result<SealedFormat> {
        let format = self.format(settings)?;
        let entries = &self.found.sealed.spec.encrypted_data;
        let is_by_flag = matches!(settings.format.by, Origin::Flag(_));
        if format == SealedFormat::V1 || is_by_flag || v2::is_v2(entries) {
            return Ok(format);
        }
        let rule = settings.rule.as_ref().filter(|rule| rule.bind_template);
        let kept = entries.keys().find(|item| change.keeps(item));
        let (Some(rule), Some(item)) = (rule, kept) else {
            return Ok(format);
        };
        let committed = binding::committed(&self.path, &self.found);
        binding::keep_v1(&self.found.sealed, committed.as_ref(), item, rule)?;
        Ok(SealedFormat::V1)
    }

    fn seal_v1(
        &self,
        session: &Session<'_>,
        settings: &Settings,
        values: &BTreeMap<String, Plain>,
    ) -> Result<NewValues> {
        settings.check_v1()?;
        let certificate = session.certificate(settings)?;
        let sealed = &self.found.sealed;
        let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
        let label = self.scope().label_for_sealing(namespace, name)?;
        let seal = |(key, value): (&String, &Plain)| -> Result<(String, String)> {
            names::check_item(key)?;
            let public = certificate.public_key();
            let sealed = envelope::seal(
                public,
                &label,
                value.expose(),
                &mut shared::random::system(),
            )?;
            Ok((key.clone(), base64::encode(&sealed)))
        };
        Ok(NewValues {
            texts: values.iter().map(seal).collect::<Result<_>>()?,
            removed: Vec::new(),
            dates: NewDates::new(),
            keys: SealedFor::Certificate(certificate),
        })
    }

    fn seal_v2(
        &self,
        session: &Session<'_>,
        settings: &Settings,
        change: v2_items::Change<'_>,
    ) -> Result<NewValues> {
        let recipients = session.recipients(settings)?;
        let now = session.environment.now;
        let sealed = &self.found.sealed;
        let committed = binding::committed(&self.path, &self.found);
        post_quantum::check(sealed, committed.as_ref(), &recipients)?;
        let entries = v2_items::seal(sealed, committed.as_ref(), change, &recipients, now)?;
        Ok(NewValues {
            texts: entries.set,
            removed: entries.unused,
            dates: NewDates::new(),
            keys: SealedFor::Recipients(recipients),
        })
    }

    fn check(&mut self, session: &Session<'_>, settings: &Settings) -> Result<()> {
        fill_namespace(session, settings, &mut self.found)?;
        let (object, scope) = (qualified_name(&self.found), self.scope());
        if self.found.sealed.name_or_empty().is_empty() {
            return Err(TargetError::NoName(self.found.line).into());
        }
        if let Some(requested) = session.args.scope.filter(|requested| *requested != scope) {
            let found = scope;
            return Err(TargetError::Scope {
                object,
                found,
                requested,
            }
            .into());
        }
        let namespace = self.found.sealed.namespace_or_empty();
        if let Some(requested) = &session.args.namespace
            && requested != namespace
            && scope != Scope::ClusterWide
        {
            let (found, requested) = (namespace.to_owned(), requested.clone());
            return Err(TargetError::Namespace {
                object,
                found,
                requested,
            }
            .into());
        }
        if namespace.is_empty() && scope != Scope::ClusterWide {
            return Err(TargetError::NoNamespace(object).into());
        }
        settings.check_scope(scope)?;
        if !namespace.is_empty() {
            settings.check_namespace(namespace)?;
        }
        Ok(())
    }

    /// Seals values and writes the file with them. The values to seal and the entries to remove are decided for the
    /// current object in the file. If another program changes the object meanwhile, the decision is repeated.
    ///
    /// # Errors
    ///
    /// Fails for the reasons of [`Self::check_change`], [`Self::seal`] and [`Self::write`]. Fails with
    /// [`TargetError::Conflict`] if v2 values would be bound to a different template from the one that was read, if
    /// they would become v1, or if another program changed the same items and `on_conflict` is [`OnConflict::Refuse`].
    pub fn change(
        &mut self,
        session: &Session<'_>,
        change: v2_items::Change<'_>,
        on_conflict: OnConflict,
    ) -> Result<NewValues> {
        let read = self.clone();
        self.until_current(|target| {
            if on_conflict == OnConflict::Refuse {
                target.check_items_since(&read, change)?;
            }
            target.check_format_since(&read)?;
            target.check_change(change.set, change.removed)?;
            let new = target.seal(session, change.set, change.removed)?;
            target.check_protection_since(&read, &new)?;
            let is_written = target.write(&new.changes(session))?;
            Ok(is_written.then_some(new))
        })
    }

    /// Calls `attempt` with the current object until it returns a result. `attempt` returns `None` if the object in the
    /// file has changed.
    ///
    /// # Errors
    ///
    /// Returns the error of an attempt. Fails if the file can no longer be read, if the object is gone, or if another
    /// program keeps changing the object.
    pub fn until_current<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(result) = attempt(self)? {
                return Ok(result);
            }
            self.read_again()?;
        }
        let (file, object) = (self.path.clone(), qualified_name(&self.found));
        Err(TargetError::Busy { file, object }.into())
    }

    /// Writes the file with these changes, and keeps every other byte. Other changes to the file since it was read are
    /// kept. Returns whether the file was written. It is not written if the object itself has changed, because the
    /// changes were decided for the object that was read.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be edited safely or cannot be written, or if the object was removed.
    pub fn write(&self, changes: &Changes<'_>) -> Result<bool> {
        files::remove_leftovers_beside(&self.path);
        let written = files::update(&self.path, |bytes| {
            let edits = if *bytes == *self.bytes {
                self.found.edits(changes)
            } else {
                let now = self.find_again(bytes)?;
                if now.sealed.spec != self.found.sealed.spec {
                    return Err(Stale.into());
                }
                now.edits(changes)
            };
            edit::apply(bytes, &edits).with_context(|| self.path.shown())
        });
        match written {
            Err(error) if error.is::<Stale>() => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Reads the file again, and replaces the object with its current version.
    fn read_again(&mut self) -> Result<()> {
        let bytes = files::read_to_change(&self.path)?;
        let mut now = self.find_again(&bytes)?;
        let namespace = &mut now.sealed.metadata.namespace;
        if namespace.is_none() {
            namespace.clone_from(&self.found.sealed.metadata.namespace);
        }
        (self.bytes, self.found) = (bytes.to_vec(), now);
        Ok(())
    }

    /// Refuses to change items that another program has changed since the object was read.
    fn check_items_since(&self, read: &Self, change: v2_items::Change<'_>) -> Result<()> {
        let text = |target: &Self, item: &String| {
            let entries = &target.found.sealed.spec.encrypted_data;
            entries.get(item).cloned()
        };
        let mut items = change.set.keys().chain(change.removed);
        match items.find(|item| text(self, item) != text(read, item)) {
            Some(item) => Err(self.conflict(item).into()),
            None => Ok(()),
        }
    }

    /// Refuses to change v1 values that were v2 when the object was read.
    fn check_format_since(&self, read: &Self) -> Result<()> {
        let is_v2 = |target: &Self| v2::is_v2(&target.found.sealed.spec.encrypted_data);
        if is_v2(read) && !is_v2(self) && self.items().next().is_some() {
            return Err(self.conflict("the format of the values").into());
        }
        Ok(())
    }

    /// Refuses new values if the template has changed since the object was read, or if the values would now be v1
    /// instead of v2: the user entered the values while the object would still have protected them.
    fn check_protection_since(&self, read: &Self, new: &NewValues) -> Result<()> {
        let (before, now) = (&read.found.sealed.spec, &self.found.sealed.spec);
        match &new.keys {
            SealedFor::Certificate(_) if v2::is_v2(&before.encrypted_data) => {
                Err(self.conflict("the format of the values").into())
            }
            SealedFor::Recipients(_) if before.template != now.template => {
                Err(self.conflict("the template").into())
            }
            _ => Ok(()),
        }
    }

    fn conflict(&self, item: &str) -> TargetError {
        let (file, item) = (self.path.clone(), item.to_owned());
        TargetError::Conflict { file, item }
    }

    /// Finds the same object in another version of the file (see [`is_same_object`]).
    fn find_again(&self, bytes: &[u8]) -> Result<Found> {
        let file = ManifestFile::parse(&self.path, Zeroizing::new(bytes.to_vec()))?;
        let objects = sealed_file::find(&file.documents);
        let objects = objects.with_context(|| self.path.shown())?;
        let mut matches = objects
            .into_iter()
            .filter(|found| is_same_object(found, &self.found));
        if let (Some(found), None) = (matches.next(), matches.next()) {
            return Ok(found);
        }
        let (file, object) = (self.path.clone(), qualified_name(&self.found));
        Err(TargetError::Gone { file, object }.into())
    }
}

/// Returns whether `now`, in another version of the file, is the same object as `before`: same name, namespace and
/// scope. A missing namespace in `now` matches any namespace. Templates are not compared, although v2 values may be
/// bound to them.
pub fn is_same_object(now: &Found, before: &Found) -> bool {
    let scope = |found: &Found| Scope::from_annotations(found.sealed.metadata.annotations.as_ref());
    let namespace = now.sealed.metadata.namespace.as_ref();
    now.sealed.metadata.name == before.sealed.metadata.name
        && namespace.is_none_or(|namespace| namespace == before.sealed.namespace_or_empty())
        && scope(now) == scope(before)
}

/// Formats the object's namespace and name for messages.
pub fn qualified_name(found: &Found) -> String {
    shown(&found.sealed.qualified_name()).into_owned()
}

/// Sealed new values of an object.
pub struct NewValues {
    /// New entries of `spec.encryptedData`.
    pub texts: BTreeMap<String, String>,
    /// Entries to remove: items, and locks that no item refers to.
    pub removed: Vec<String>,
    /// The rotate-by dates of the new values.
    pub dates: NewDates,
    /// The keys that the values were sealed for.
    pub keys: SealedFor,
}

impl NewValues {
    /// Returns the changes to the object. A v2 value names its keys itself and needs no hint.
    pub fn changes(&self, session: &Session<'_>) -> Changes<'_> {
        let hints = match &self.keys {
            SealedFor::Certificate(certificate) if !session.args.no_hints => {
                HintRule::Write(certificate.fingerprint())
            }
            _ => HintRule::Drop,
        };
        Changes {
            texts: self.texts.clone(),
            removed: self.removed.clone(),
            data: None,
            hints,
            dates: self.dates.clone(),
        }
    }
}

/// Sets a missing namespace, except for a cluster-wide object. Uses the namespace of the settings or else of the
/// kubeconfig, in which `kubectl apply` would create the object.
///
/// # Errors
///
/// Fails if the kubeconfig cannot be used.
pub fn fill_namespace(session: &Session<'_>, settings: &Settings, found: &mut Found) -> Result<()> {
    let scope = Scope::from_annotations(found.sealed.metadata.annotations.as_ref());
    if found.sealed.namespace_or_empty().is_empty() && scope != Scope::ClusterWide {
        found.sealed.metadata.namespace = session.namespace(settings)?;
    }
    Ok(())
}

fn select(path: &Path, mut found: Vec<Found>, name: Option<&str>) -> Result<Found, TargetError> {
    let candidates: Vec<String> = found.iter().map(qualified_name).collect();
    let file = path.to_owned();
    if found.is_empty() {
        return Err(TargetError::None(file));
    }
    if let Some(name) = name {
        let has_name = |found: &Found| {
            found.sealed.qualified_name() == name || found.sealed.name_or_empty() == name
        };
        found.retain(has_name);
    }
    match (found.pop(), found.is_empty(), name) {
        (Some(one), true, _) => Ok(one),
        (None, _, Some(name)) => Err(TargetError::NoSuchName {
            file,
            name: name.to_owned(),
            candidates,
        }),
        _ => Err(TargetError::Several { file, candidates }),
    }
}
