//! Changes to the protections of an object and its values, which are visible without a key.

use std::collections::BTreeMap;

use deliver::DELIVER_ANNOTATION;
use shared::v2::ItemView;

use super::locks::views;
use super::{Change, ChangeKind};
use crate::seal::object::Object;

/// A protection of a v2 value. A value that is v1, malformed or absent has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// The value can never become a Secret.
    NeverSecret,
    /// The value is bound to the template.
    TemplateBinding,
    /// Only post-quantum keys are allowed.
    PostQuantumOnly,
    /// The object must contain only the values of the value's lock.
    Alone,
}

impl Protection {
    const ALL: [Self; 4] = [
        Self::NeverSecret,
        Self::TemplateBinding,
        Self::PostQuantumOnly,
        Self::Alone,
    ];

    fn protects(self, view: &ItemView) -> bool {
        match self {
            Self::NeverSecret => view.is_never_secret,
            Self::TemplateBinding => view.is_template_bound,
            Self::PostQuantumOnly => view.is_post_quantum_only,
            Self::Alone => view.is_alone,
        }
    }

    /// Returns the name of the protection in all outputs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NeverSecret => "never-secret",
            Self::TemplateBinding => "template-bound",
            Self::PostQuantumOnly => "post-quantum-only",
            Self::Alone => "alone",
        }
    }

    /// Returns the name of the loss in all outputs.
    pub(super) fn lost(self) -> &'static str {
        match self {
            Self::NeverSecret => "never-secret lost",
            Self::TemplateBinding => "template binding lost",
            Self::PostQuantumOnly => "post-quantum only lost",
            Self::Alone => "alone lost",
        }
    }

    /// Returns the name of the gain in all outputs.
    pub(super) fn gained(self) -> &'static str {
        match self {
            Self::NeverSecret => "never-secret gained",
            Self::TemplateBinding => "template binding gained",
            Self::PostQuantumOnly => "post-quantum only gained",
            Self::Alone => "alone gained",
        }
    }
}

/// Returns the protections of a value.
pub(super) fn of(view: &ItemView) -> Vec<Protection> {
    let all = Protection::ALL.into_iter();
    all.filter(|protection| protection.protects(view)).collect()
}

/// Returns the protections that values lost or gained.
pub(super) fn changes(old: &Object, new: &Object) -> Vec<Change> {
    let (old_views, new_views) = (views(old), views(new));
    let is_in_both = |item: &str| old.texts().contains_key(item) && new.texts().contains_key(item);
    let mut changes = Vec::new();
    for protection in Protection::ALL {
        let found = of_items(protection, &old_views, &new_views, is_in_both);
        if found.is_empty() {
            changes.extend(of_object(protection, &old_views, &new_views));
        }
        changes.extend(found);
    }
    changes
}

type Views<'a> = BTreeMap<&'a str, ItemView>;

/// Returns the changes to one protection for items that exist in both versions.
fn of_items(
    protection: Protection,
    old: &Views<'_>,
    new: &Views<'_>,
    is_in_both: impl Fn(&str) -> bool,
) -> Vec<Change> {
    let protects = |views: &Views<'_>, item: &str| {
        views
            .get(item)
            .is_some_and(|view| protection.protects(view))
    };
    let mut items: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    items.sort_unstable();
    items.dedup();
    let items = items.into_iter().filter(|item| is_in_both(item));
    let change = |item| {
        change(
            Some(item),
            protection,
            protects(old, item),
            protects(new, item),
        )
    };
    items.filter_map(change).collect()
}

/// Returns the change to one protection for the object: lost if some of its values had it before and none has it now,
/// gained for the reverse.
fn of_object(protection: Protection, old: &Views<'_>, new: &Views<'_>) -> Option<Change> {
    let protects = |views: &Views<'_>| views.values().any(|view| protection.protects(view));
    change(None, protection, protects(old), protects(new))
}

/// Returns the change to one protection of an item, or of the object for `None`; `None` if it did not change.
fn change(
    item: Option<&str>,
    protection: Protection,
    was_protected: bool,
    is_protected: bool,
) -> Option<Change> {
    let kind = match (was_protected, is_protected) {
        (true, false) => ChangeKind::Lost(protection),
        (false, true) => ChangeKind::Gained(protection),
        _ => return None,
    };
    let item = item.map(str::to_owned);
    Some(Change { item, kind })
}

/// Returns the change to the annotation for delivery.
pub(super) fn delivery(old: &Object, new: &Object) -> Option<Change> {
    let (from, to) = (form(old), form(new));
    let kind = (from != to).then(|| ChangeKind::Delivery(from.to_owned(), to.to_owned()))?;
    Some(Change { item: None, kind })
}

/// Returns the value of the annotation for delivery; `(none)` without the annotation.
fn form(object: &Object) -> &str {
    delivery_annotation(object).unwrap_or("(none)")
}

/// Returns the value of the annotation for delivery.
pub(super) fn delivery_annotation(object: &Object) -> Option<&str> {
    let annotations = object.sealed.metadata.annotations.as_ref()?;
    annotations.get(DELIVER_ANNOTATION).map(String::as_str)
}
