//! One SealedSecret of a file: which one is meant, where its items open, and writing the file back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use shared::key::Certificate;
use shared::manifest::edit;
use shared::names;
use shared::plain::Plain;
use shared::scope::Scope;
use shared::sealed_file::{self, Changes, Found, HintRule};
use shared::{base64, envelope};
use zeroize::Zeroizing;

use super::session::Session;
use super::settings::Settings;
use super::walk::ManifestFile;
use crate::files;
use crate::report::{ShowPath as _, shown};

/// A file, or what is asked of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No SealedSecret at all.
    #[error("{} contains no SealedSecret; `seal FILE` makes one from a Secret", .0.shown())]
    None(PathBuf),
    /// Several, and no name.
    #[error(
        "{} holds {} SealedSecrets; say which one with --name: {}",
        file.shown(), candidates.len(), candidates.join(", ")
    )]
    Several {
        /// The file.
        file: PathBuf,
        /// Their names.
        candidates: Vec<String>,
    },
    /// None of that name.
    #[error("{} contains no SealedSecret {name:?}, but {}", file.shown(), candidates.join(", "))]
    NoSuchName {
        /// The file.
        file: PathBuf,
        /// What was asked for.
        name: String,
        /// Those that are there.
        candidates: Vec<String>,
    },
    /// The deprecated form has no items.
    #[error(
        "{} has the deprecated field `data`, which holds a whole Secret in one value; `kubeseal --re-encrypt` \
         turns it into items", .0
    )]
    Deprecated(String),
    /// A flag that contradicts the file.
    #[error(
        "the items of {place} are {found}, not {wanted}; items of one object share its scope: leave --scope out"
    )]
    Scope {
        /// The object.
        place: String,
        /// That of the file.
        found: Scope,
        /// That of the flag.
        wanted: Scope,
    },
    /// Likewise.
    #[error("{place} is in the namespace {found:?}, not {wanted:?}: leave --namespace out")]
    Namespace {
        /// The object.
        place: String,
        /// That of the file.
        found: String,
        /// That of the flag.
        wanted: String,
    },
    /// Nobody knows the namespace.
    #[error("{0} names no namespace, and its scope needs one: pass --namespace")]
    NoNamespace(String),
    /// Somebody else was faster.
    #[error("{} was changed meanwhile by somebody else, who changed {item} too; run this again", file.shown())]
    Conflict {
        /// The file.
        file: PathBuf,
        /// The item.
        item: String,
    },
    /// Likewise.
    #[error(
        "{} was changed meanwhile by somebody else, and {place} is not in it any more as it was; run this again",
        file.shown()
    )]
    Gone {
        /// The file.
        file: PathBuf,
        /// The object.
        place: String,
    },
    /// Only metadata.name is missing.
    #[error("the SealedSecret at line {0} has no metadata.name, so its values could never open")]
    NoName(usize),
}

/// One SealedSecret of a file.
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// As it was read.
    pub bytes: Vec<u8>,
    /// The object.
    pub found: Found,
}

impl Target {
    /// Reads a file and picks the only SealedSecret, or the one of that name.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or it is not clear which one is meant.
    pub fn read(path: &Path, name: Option<&str>) -> Result<Self> {
        let file = ManifestFile::read(path)?;
        let found = sealed_file::find(&file.documents);
        let found = found.with_context(|| path.shown())?;
        let found = pick(path, found, name)?;
        if found.sealed.spec.data.is_some() {
            return Err(TargetError::Deprecated(place(&found)).into());
        }
        Ok(Self {
            path: path.to_owned(),
            bytes: file.bytes.to_vec(),
            found,
        })
    }

    /// That of the object.
    pub fn scope(&self) -> Scope {
        Scope::from_annotations(self.found.sealed.metadata.annotations.as_ref())
    }

    /// Seals values for this object.
    ///
    /// # Errors
    ///
    /// A flag contradicts the file, a rule is broken, or there is no certificate.
    pub fn seal(
        &mut self,
        session: &Session<'_>,
        values: &BTreeMap<String, Plain>,
    ) -> Result<(BTreeMap<String, String>, Arc<Certificate>)> {
        let settings = session.settings(&self.path)?;
        self.check(session, &settings)?;
        let certificate = session.certificate(&settings)?;
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
        let texts = values.iter().map(seal).collect::<Result<_>>()?;
        Ok((texts, certificate))
    }

    fn check(&mut self, session: &Session<'_>, settings: &Settings) -> Result<()> {
        fill_namespace(session, settings, &mut self.found)?;
        let (place, scope) = (place(&self.found), self.scope());
        if self.found.sealed.name_or_empty().is_empty() {
            return Err(TargetError::NoName(self.found.line).into());
        }
        if let Some(wanted) = session.words.scope.filter(|wanted| *wanted != scope) {
            let found = scope;
            return Err(TargetError::Scope {
                place,
                found,
                wanted,
            }
            .into());
        }
        let namespace = self.found.sealed.namespace_or_empty();
        if let Some(wanted) = &session.words.namespace
            && wanted != namespace
            && scope != Scope::ClusterWide
        {
            let (found, wanted) = (namespace.to_owned(), wanted.clone());
            return Err(TargetError::Namespace {
                place,
                found,
                wanted,
            }
            .into());
        }
        if namespace.is_empty() && scope != Scope::ClusterWide {
            return Err(TargetError::NoNamespace(place).into());
        }
        settings.check_scope(scope)?;
        if !namespace.is_empty() {
            settings.check_namespace(namespace)?;
        }
        Ok(())
    }

    /// Writes the file with these changes and with every other byte as it was. If the file was changed since it
    /// was read, the changes are made to what is there now.
    ///
    /// # Errors
    ///
    /// It cannot be edited safely or not be written, or the object is not the same any more.
    pub fn write(&self, changes: &Changes<'_>) -> Result<()> {
        files::remove_leftovers_beside(&self.path);
        files::update(&self.path, |bytes| {
            let edits = if *bytes == *self.bytes {
                self.found.edits(changes)
            } else {
                self.found_again(bytes)?.edits(changes)
            };
            edit::apply(bytes, &edits).with_context(|| self.path.shown())
        })
    }

    /// As [`Self::write`], unless somebody else changed the same items meanwhile.
    ///
    /// # Errors
    ///
    /// Likewise, and [`TargetError::Conflict`].
    pub fn write_what_is_untouched(&self, changes: &Changes<'_>) -> Result<()> {
        let items =
            |found: &Found, key: &String| found.sealed.spec.encrypted_data.get(key).cloned();
        let file = ManifestFile::read(&self.path)?;
        if *file.bytes != *self.bytes {
            let now = self.found_again(&file.bytes)?;
            let mut keys = changes.texts.keys().chain(&changes.removed);
            if let Some(key) = keys.find(|key| items(&now, key) != items(&self.found, key)) {
                let (file, item) = (self.path.clone(), key.clone());
                return Err(TargetError::Conflict { file, item }.into());
            }
        }
        self.write(changes)
    }

    /// The object in another version of the file. Values that are sealed for it must open there.
    fn found_again(&self, bytes: &[u8]) -> Result<Found> {
        let file = ManifestFile::parse(&self.path, Zeroizing::new(bytes.to_vec()))?;
        let found = sealed_file::find(&file.documents);
        let found = found.with_context(|| self.path.shown())?;
        let mut same = found
            .into_iter()
            .filter(|found| is_same_object(found, &self.found));
        if let (Some(found), None) = (same.next(), same.next()) {
            return Ok(found);
        }
        let (file, place) = (self.path.clone(), place(&self.found));
        Err(TargetError::Gone { file, place }.into())
    }
}

/// In another version of the file: would what was sealed for the object before open there?
pub fn is_same_object(now: &Found, before: &Found) -> bool {
    let scope = |found: &Found| Scope::from_annotations(found.sealed.metadata.annotations.as_ref());
    let namespace = now.sealed.metadata.namespace.as_ref();
    now.sealed.metadata.name == before.sealed.metadata.name
        && namespace.is_none_or(|namespace| namespace == before.sealed.namespace_or_empty())
        && scope(now) == scope(before)
}

/// The object as messages name it.
pub fn place(found: &Found) -> String {
    shown(&found.sealed.place()).into_owned()
}

/// The hints that a run writes.
pub fn hint_rule<'a>(session: &Session<'_>, certificate: &'a Certificate) -> HintRule<'a> {
    if session.words.no_hints {
        HintRule::Drop
    } else {
        HintRule::Write(certificate.fingerprint())
    }
}

/// A file without namespace goes where `kubectl apply` would put it, and that is where it has to open.
///
/// # Errors
///
/// The kubeconfig cannot be used.
pub fn fill_namespace(session: &Session<'_>, settings: &Settings, found: &mut Found) -> Result<()> {
    let scope = Scope::from_annotations(found.sealed.metadata.annotations.as_ref());
    if found.sealed.namespace_or_empty().is_empty() && scope != Scope::ClusterWide {
        found.sealed.metadata.namespace = session.namespace(settings)?;
    }
    Ok(())
}

fn pick(path: &Path, mut found: Vec<Found>, name: Option<&str>) -> Result<Found, TargetError> {
    let candidates: Vec<String> = found.iter().map(place).collect();
    let file = path.to_owned();
    if found.is_empty() {
        return Err(TargetError::None(file));
    }
    if let Some(name) = name {
        let is_meant =
            |found: &Found| found.sealed.place() == name || found.sealed.name_or_empty() == name;
        found.retain(is_meant);
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
