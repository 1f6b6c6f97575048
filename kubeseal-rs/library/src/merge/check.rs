//! Checks a result without conflicts before Git uses it.

use std::collections::{BTreeMap, BTreeSet};

use shared::manifest::edit;
use shared::manifest::{self, Node};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::sealed_file::Found;
use shared::v2::{self, Checked, Policy, Target};

use super::items::{ItemAnnotation, uncombinable};
use super::side::Sides;
use super::tokens::{self, Plan};

/// Why the items of an object cannot be merged one by one.
const LAYOUT: &str = "its items cannot be merged in this layout";

/// Why a result cannot be used.
pub(super) struct Problem {
    /// The namespace and name of the object, if there is one.
    pub(super) object: Option<String>,
    pub(super) reason: String,
}

impl Problem {
    fn of_file(reason: &str) -> Self {
        Self {
            object: None,
            reason: reason.to_owned(),
        }
    }

    fn of(sealed: &SealedSecret, reason: impl Into<String>) -> Self {
        Self {
            object: Some(sealed.qualified_name()),
            reason: reason.into(),
        }
    }
}

/// Returns the merged file with the merged item annotations.
///
/// # Errors
///
/// Fails unless each object has exactly the merged items, and each item comes from an object of the same scope,
/// namespace and name: an item that moved to another place could not be unsealed.
pub(super) fn finish(
    sides: &Sides<'_>,
    plans: &[Plan<'_>],
    bytes: &[u8],
) -> Result<Vec<u8>, Problem> {
    for plan in plans {
        let sealed = &plan.same.ours.sealed;
        if let Some(reason) = &plan.items.refusal {
            return Err(Problem::of(sealed, reason));
        }
        // Without a mark: the text of an alias is unchanged although its value is another.
        if !plan.items.conflicts.is_empty() {
            return Err(Problem::of(sealed, LAYOUT));
        }
    }
    let plans = ByName::new(plans);
    let bytes = with_annotations(&plans, bytes)?;
    let objects = tokens::objects(&bytes)
        .ok_or_else(|| Problem::of_file("the merged lines are not valid YAML or JSON"))?;
    if has_new_repeated_key(sides, &bytes) {
        return Err(Problem::of_file("both versions added the same key"));
    }
    let sources = [&sides.ours, &sides.theirs];
    let sources = sources.iter().flat_map(|side| &side.objects);
    let sources: BTreeSet<_> = sources
        .flat_map(|found| placed_items(&found.sealed))
        .collect();
    for found in &objects {
        check_items(&sources, plans.of(found), &found.sealed)?;
        check_v2(sides, &found.sealed)?;
    }
    let count = objects.iter().filter(|found| plans.of(found).is_some());
    if count.count() != plans.count {
        return Err(Problem::of_file(
            "the merged lines lack an object, or repeat one",
        ));
    }
    Ok(bytes)
}

/// The plans by the namespace and name of their object. If the two versions name the object differently, both names
/// lead to its plan.
struct ByName<'s> {
    plans: BTreeMap<(&'s str, &'s str), &'s Plan<'s>>,
    count: usize,
}

impl<'s> ByName<'s> {
    fn new(plans: &'s [Plan<'s>]) -> Self {
        let names = plans.iter().flat_map(|plan| {
            let sides = [plan.same.ours, plan.same.theirs];
            sides.map(|found| (name(&found.sealed), plan))
        });
        Self {
            plans: names.collect(),
            count: plans.len(),
        }
    }

    fn of(&self, found: &Found) -> Option<&'s Plan<'s>> {
        self.plans.get(&name(&found.sealed)).copied()
    }
}

fn name(sealed: &SealedSecret) -> (&str, &str) {
    (sealed.namespace_or_empty(), sealed.name_or_empty())
}

/// The maximum number of annotations that are added or removed, each of which parses the file.
const MAX_ANNOTATION_EDITS: usize = 100;

/// Sets the item annotations that the merge of lines lost, for example because one version removed the last entry.
fn with_annotations(plans: &ByName<'_>, bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let objects = tokens::objects(bytes).unwrap_or_default();
    let edits = objects.iter().flat_map(|found| {
        let plan = plans.of(found);
        let edit = move |annotation: ItemAnnotation| annotation.edit(found, &plan?.items);
        ItemAnnotation::ALL.into_iter().filter_map(edit)
    });
    let edits: Vec<_> = edits.collect();
    if edits.is_empty() {
        return Ok(bytes.to_vec());
    }
    if edits.len() > MAX_ANNOTATION_EDITS {
        return Err(Problem::of_file(
            "the key hints or dates of too many objects have changed",
        ));
    }
    edit::apply(bytes, &edits).map_err(|error| {
        Problem::of_file(&format!("the key hints or dates cannot be merged: {error}"))
    })
}

fn has_new_repeated_key(sides: &Sides<'_>, bytes: &[u8]) -> bool {
    let may_contain_sealed = |root: &Node| {
        let kind = root.text("kind").unwrap_or_default();
        kind == "SealedSecret" || kind.ends_with("List")
    };
    let has_repeated_key =
        |bytes: &[u8]| !manifest::repeated_keys(bytes, may_contain_sealed).is_empty();
    has_repeated_key(bytes)
        && ![&sides.ours, &sides.theirs]
            .iter()
            .any(|side| has_repeated_key(side.bytes))
}

/// An item, and where it can be unsealed: scope, namespace (empty if cluster-wide), name (empty unless strict), key and
/// text.
type PlacedItem<'a> = (Scope, &'a str, &'a str, &'a str, &'a str);

fn placed_items(sealed: &SealedSecret) -> impl Iterator<Item = PlacedItem<'_>> {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let (namespace, name) = match scope {
        Scope::Strict => (sealed.namespace_or_empty(), sealed.name_or_empty()),
        Scope::NamespaceWide => (sealed.namespace_or_empty(), ""),
        Scope::ClusterWide => ("", ""),
    };
    let items = v2::items(&sealed.spec.encrypted_data);
    let items = items.map(|(key, text)| (key.as_str(), text.as_str()));
    let data = sealed.spec.data.iter().map(|data| ("", data.as_str()));
    let items = items.chain(data);
    items.map(move |(key, text)| (scope, namespace, name, key, text))
}

fn check_items(
    sources: &BTreeSet<PlacedItem<'_>>,
    plan: Option<&Plan<'_>>,
    sealed: &SealedSecret,
) -> Result<(), Problem> {
    if plan.is_some_and(|plan| plan.items.texts != sealed.spec.encrypted_data) {
        return Err(Problem::of(sealed, LAYOUT));
    }
    let mut moved = placed_items(sealed).filter(|item| !sources.contains(item));
    moved.next().map_or(Ok(()), |(.., key, _)| {
        let reason = format!(
            "one version changed the scope, namespace or name, and the item {key:?} is sealed for the former place"
        );
        Err(Problem::of(sealed, reason))
    })
}

/// Refuses an object whose v2 values no key can open, unless one of the versions has such an object, too.
fn check_v2(sides: &Sides<'_>, sealed: &SealedSecret) -> Result<(), Problem> {
    let check = |sealed: &SealedSecret| Checked::new(sealed, &Policy::default(), Target::Other);
    let Err(refusal) = check(sealed) else {
        return Ok(());
    };
    let sources = [&sides.ours, &sides.theirs];
    let mut sources = sources.iter().flat_map(|side| &side.objects);
    let is_refused = sources.any(|found| {
        found.sealed.metadata.name == sealed.metadata.name && check(&found.sealed).is_err()
    });
    if is_refused {
        return Ok(());
    }
    Err(Problem::of(sealed, uncombinable(&refusal)))
}
