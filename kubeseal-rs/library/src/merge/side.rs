//! The SealedSecrets of one version of a file, and the same object in three versions.

use std::collections::BTreeMap;

use shared::manifest;
use shared::manifest::edit::Layout;
use shared::resource::SealedSecret;
use shared::sealed_file::{self, Found};

use super::Versions;

/// One version of a file that can be read.
pub(super) struct Side<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) objects: Vec<Found>,
    /// `None` for a layout that is merged by lines only.
    pub(super) layout: Option<Layout<'a>>,
}

impl<'a> Side<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let documents = manifest::read(bytes).ok()?;
        Some(Self {
            bytes,
            objects: sealed_file::find(&documents).ok()?,
            layout: Layout::of(bytes),
        })
    }
}

/// The three versions of a file. The base may be unreadable: Git makes a base with conflict markers if two branches
/// were merged in both directions.
pub(super) struct Sides<'a> {
    pub(super) base: Option<Side<'a>>,
    pub(super) ours: Side<'a>,
    pub(super) theirs: Side<'a>,
}

impl<'a> Sides<'a> {
    /// Returns `None` if one of the two versions to merge cannot be read.
    pub(super) fn read(versions: &Versions<'a>) -> Option<Self> {
        Some(Self {
            base: Side::read(versions.base),
            ours: Side::read(versions.ours)?,
            theirs: Side::read(versions.theirs)?,
        })
    }

    pub(super) fn have_objects(&self) -> bool {
        !(self.ours.objects.is_empty() && self.theirs.objects.is_empty())
    }

    /// Returns the objects that are in both versions. An object has the same namespace and name in all versions, or is
    /// the only one in each. Several objects of one name are not merged by item.
    pub(super) fn same_objects(&self) -> Vec<SameObject<'_>> {
        let Some(base) = &self.base else {
            return Vec::new();
        };
        let [base, ours, theirs] = [base, &self.ours, &self.theirs].map(|side| &side.objects[..]);
        if let ([], [ours], [theirs]) = (base, ours, theirs) {
            return same(None, ours, theirs).into_iter().collect();
        }
        if let ([base], [ours], [theirs]) = (base, ours, theirs) {
            return vec![SameObject {
                base: Some(base),
                ours,
                theirs,
            }];
        }
        let (Some(base), Some(ours), Some(theirs)) =
            (by_name(base), by_name(ours), by_name(theirs))
        else {
            return Vec::new();
        };
        let in_all = ours
            .iter()
            .filter_map(|(name, ours)| same(base.get(name).copied(), ours, theirs.get(name)?));
        in_all.collect()
    }
}

/// An object in three versions.
#[derive(Clone, Copy)]
pub(super) struct SameObject<'s> {
    /// `None` for an object that was added in both versions.
    pub(super) base: Option<&'s Found>,
    pub(super) ours: &'s Found,
    pub(super) theirs: &'s Found,
}

fn same<'s>(base: Option<&'s Found>, ours: &'s Found, theirs: &'s Found) -> Option<SameObject<'s>> {
    (name(&ours.sealed) == name(&theirs.sealed)).then_some(SameObject { base, ours, theirs })
}

fn name(sealed: &SealedSecret) -> (&str, &str) {
    (sealed.namespace_or_empty(), sealed.name_or_empty())
}

/// Returns the objects by name; `None` if a name occurs twice.
fn by_name(objects: &[Found]) -> Option<BTreeMap<(&str, &str), &Found>> {
    let by_name: BTreeMap<_, _> = objects
        .iter()
        .map(|found| (name(&found.sealed), found))
        .collect();
    (by_name.len() == objects.len()).then_some(by_name)
}
