//! Which objects and files need which key, by trying.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::needs::{Need, needs};
use shared::resource::SealedSecret;
use zeroize::Zeroizing;

use crate::cluster::{Authorised, AuthorisedError, KeysOfItems};
use crate::rules::RulesFile;
use crate::seal::walk::{self, Kind, ManifestFile};

/// Where a SealedSecret was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the cluster.
    Cluster {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// In the folder of a controller.
    Folder {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// In a file of a branch.
    Branch {
        /// The repository.
        repository: PathBuf,
        /// The branch.
        branch: String,
        /// The file, below the root of the repository.
        path: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { namespace, name } => write!(f, "SealedSecret {namespace}/{name}"),
            Self::Folder { path, name } | Self::File { path, name } => {
                write!(f, "{} ({name})", path.display())
            }
            Self::Branch {
                branch, path, name, ..
            } => write!(f, "{branch}:{path} ({name})"),
        }
    }
}

/// A SealedSecret and where it was found.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Where.
    pub origin: Origin,
    /// It.
    pub sealed: SealedSecret,
}

/// What was found out about many.
#[derive(Debug, Default)]
pub struct Survey {
    /// Each with the need of each item.
    pub found: Vec<(Origin, BTreeMap<String, Need>)>,
}

/// An item that needs a key, or may need it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependent {
    /// Where it is.
    pub origin: Origin,
    /// Item key.
    pub item: String,
    /// Was it opened with the key? Otherwise nothing opened it, and so it counts.
    pub is_sure: bool,
}

impl Survey {
    /// Tries every item with every key.
    pub fn of(holders: &[Holder], ring: &KeyRing) -> Self {
        let look = |holder: &Holder| (holder.origin.clone(), needs(&holder.sealed, ring));
        Self {
            found: holders.iter().map(look).collect(),
        }
    }

    /// Has a controller try what opened with no key here; of the same holders. Gives those about which
    /// the caller may not ask: they stay undecided.
    ///
    /// # Errors
    ///
    /// The controller cannot be asked at all.
    pub fn ask(
        &mut self,
        holders: &[Holder],
        controller: &Authorised,
    ) -> Result<Vec<(Origin, AuthorisedError)>, AuthorisedError> {
        let mut untold = Vec::new();
        for (holder, (origin, needs)) in holders.iter().zip(&mut self.found) {
            if !needs.values().any(is_undecided) {
                continue;
            }
            match controller.keys(&holder.sealed) {
                Ok(keys) => learn(needs, keys),
                Err(error @ AuthorisedError::Forbidden) => untold.push((origin.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        Ok(untold)
    }

    /// What needs this key, or may.
    pub fn dependents(&self, key: &Fingerprint, modulus_len: usize) -> Vec<Dependent> {
        let mut dependents = Vec::new();
        for (origin, items) in &self.found {
            for (item, need) in items {
                if need.may_be(key, modulus_len) {
                    dependents.push(Dependent {
                        origin: origin.clone(),
                        item: item.clone(),
                        is_sure: matches!(need, Need::Key(_)),
                    });
                }
            }
        }
        dependents.sort();
        dependents
    }

    /// How many objects, and how many files, surely need this key.
    pub fn counts(&self, key: &Fingerprint) -> (usize, usize) {
        let needed = self
            .found
            .iter()
            .filter(|(_, items)| items.values().any(|need| *need == Need::Key(key.clone())));
        let (mut objects, mut files) = (0, BTreeSet::new());
        for (origin, _) in needed {
            match origin {
                Origin::Cluster { .. } | Origin::Folder { .. } => objects += 1,
                Origin::File { path, .. } => drop(files.insert(path.display().to_string())),
                Origin::Branch { branch, path, .. } => {
                    files.insert(format!("{branch}:{path}"));
                }
            }
        }
        (objects, files.len())
    }

    /// Items that no key opened.
    pub fn undecided(&self) -> Vec<(&Origin, &str)> {
        let items = self.found.iter().flat_map(|(origin, items)| {
            let open = items.iter().filter(|(_, need)| is_undecided(need));
            open.map(move |(item, _)| (origin, item.as_str()))
        });
        items.collect()
    }
}

fn is_undecided(need: &Need) -> bool {
    matches!(need, Need::Undecided(_))
}

fn learn(needs: &mut BTreeMap<String, Need>, keys: KeysOfItems) {
    for (item, key) in keys {
        if let (Some(need), Some(key)) = (needs.get_mut(&item), key)
            && is_undecided(need)
        {
            *need = Need::Key(key);
        }
    }
}

/// The SealedSecrets in files, and below folders. One that names no namespace gets that of the rule
/// for its file.
///
/// # Errors
///
/// A file that was named cannot be read, or its rules cannot.
pub fn in_files(paths: &[PathBuf]) -> Result<Vec<Holder>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for candidate in walk::candidates(paths)? {
        if let Some(file) = walk::read(&candidate, Kind::SealedSecret)? {
            let namespace = rule_namespace(&candidate.path)?;
            for sealed in file.sealed() {
                let mut sealed = sealed?;
                if sealed.metadata.namespace.is_none() {
                    sealed.metadata.namespace.clone_from(&namespace);
                }
                let origin = Origin::File {
                    path: candidate.path.clone(),
                    name: sealed.name_or_empty().to_owned(),
                };
                found.push(Holder { origin, sealed });
            }
        }
    }
    Ok(found)
}

/// The namespace that the rule for a file says.
pub(super) fn rule_namespace(path: &Path) -> Result<Option<String>> {
    let path = std::path::absolute(path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let Some(rules) = RulesFile::find(folder)? else {
        return Ok(None);
    };
    let rules = RulesFile::read(&rules)?;
    Ok(rules
        .rule_for(&path)
        .and_then(|rule| rule.namespace.clone()))
}

/// The SealedSecrets in the bytes of a file; none if it is malformed.
pub fn in_bytes(path: &Path, bytes: Vec<u8>) -> Vec<SealedSecret> {
    match ManifestFile::parse(path, Zeroizing::new(bytes)) {
        Ok(file) => file.sealed().filter_map(Result::ok).collect(),
        Err(_) => Vec::new(),
    }
}
