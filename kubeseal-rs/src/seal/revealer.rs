//! Values of sealed files, from private keys or from the Secret in the cluster.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use shared::key_ring::KeyRing;
use shared::plain::Plain;
use shared::resource::SealedSecret;
use shared::unseal::{self, UnsealError};
use shared::v2::{self, Checked, Policy};

use super::in_cluster::{self, Values};
use super::session::Session;
use super::v2_items;
use crate::command::read_keys;

/// The hint for a cluster that does not provide values.
const KEY_HINT: &str = "pass --key FILE to unseal the values locally";

/// The source of values.
pub enum Revealer<'a> {
    /// Private keys that decrypt the file.
    Keys(Box<KeyRing>),
    /// The Secret in the cluster, which the user may read.
    Cluster(&'a Session<'a>),
}

impl<'a> Revealer<'a> {
    /// Uses the private keys in these files, or the cluster if there are none.
    ///
    /// # Errors
    ///
    /// Fails if the keys cannot be read.
    pub fn new(keys: &[PathBuf], session: &'a Session<'a>) -> Result<Self> {
        if keys.is_empty() {
            return Ok(Self::Cluster(session));
        }
        Ok(Self::Keys(Box::new(read_keys(keys)?)))
    }

    /// Returns the values of the items. Templates are not rendered.
    ///
    /// # Errors
    ///
    /// Fails if a value cannot be decrypted, or the Secret cannot be read.
    pub fn values(&self, sealed: &SealedSecret, file: &Path) -> Result<Values> {
        let ring = match self {
            Self::Keys(ring) => ring,
            Self::Cluster(session) => {
                return in_cluster::values(session, file, sealed, KEY_HINT);
            }
        };
        let unsealed = unseal::unseal_values(sealed, ring);
        let unsealed = unsealed.map_err(|why| to_error(sealed, &why))?;
        Ok(unsealed
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect())
    }

    /// Returns the value of an item, like [`Self::values`]. The keys need to decrypt only this item.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::values`], and names no other item unless the object is refused as a whole.
    pub fn value(&self, sealed: &SealedSecret, item: &str, file: &Path) -> Result<Option<Plain>> {
        let mut values = match self {
            Self::Keys(_) => {
                let checked = Checked::new(sealed, &Policy::default(), v2::Target::Other);
                checked.map_err(|why| to_error(sealed, &why.into()))?;
                self.values(&with_only(sealed, item), file)?
            }
            Self::Cluster(_) => self.values(sealed, file)?,
        };
        Ok(values.remove(item).flatten())
    }
}

fn to_error(sealed: &SealedSecret, why: &UnsealError) -> anyhow::Error {
    let object_name = sealed.qualified_name();
    anyhow!(
        "{object_name} cannot be unsealed with these keys: {}",
        why.diagnosis()
    )
}

/// Returns the object without its other items and their locks.
fn with_only(sealed: &SealedSecret, item: &str) -> SealedSecret {
    let others = v2::item_names(&sealed.spec.encrypted_data).filter(|name| *name != item);
    let others: Vec<String> = others.map(str::to_owned).collect();
    let unused = v2_items::unused_after_removal(sealed, &others);
    let mut sealed = sealed.clone();
    let entries = &mut sealed.spec.encrypted_data;
    entries.retain(|name, _| !others.contains(name) && !unused.contains(name));
    sealed
}
