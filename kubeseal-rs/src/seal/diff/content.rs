//! The values of an added or removed object or item, with the protections that are visible without a key.

use std::collections::{BTreeMap, BTreeSet};

use shared::scope::Scope;
use shared::v2;

use super::locks::views;
use super::protections::{self, Protection};
use super::{WHOLE_SECRET, format};
use crate::report::shown;
use crate::seal::object::Object;

/// The values that were added or removed, with their scope, delivery and protections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The scope of the object; `None` for an item.
    pub(super) scope: Option<Scope>,
    /// The value of the object's annotation for delivery; `None` without the annotation, and for an item.
    pub(super) delivery: Option<String>,
    /// The values of the object, or the single value of an item.
    pub(super) values: Vec<SealedValue>,
}

/// A sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealedValue {
    /// The item key, or `(data)`.
    pub(super) item: String,
    /// `v1` or `v2`.
    pub(super) format: &'static str,
    /// The protections; none for a v1 value, and for every value if the v2 content of the object is malformed.
    pub(super) protections: Vec<Protection>,
}

/// The values of an object by item key, which is `(data)` for the deprecated `spec.data`.
pub(super) type Values = BTreeMap<String, SealedValue>;

impl Content {
    pub(super) fn of_object(object: &Object) -> Self {
        Self {
            scope: Some(object.scope),
            delivery: protections::delivery_annotation(object).map(str::to_owned),
            values: values(object).into_values().collect(),
        }
    }

    /// Returns the content of an item, from the [`values`] of its object.
    pub(super) fn of_item(values: &Values, key: &str) -> Self {
        Self {
            values: values.get(key).cloned().into_iter().collect(),
            ..Self::default()
        }
    }

    /// Returns the content in parentheses, after a space; empty without any content. Names the items only if they have
    /// different protections or formats, and the scope only if it is wider than strict.
    pub(super) fn text(&self) -> String {
        let scope = self.scope.filter(|scope| *scope != Scope::Strict);
        let delivery = self.delivery.as_deref();
        let mut parts: Vec<String> = scope.iter().map(Scope::to_string).collect();
        parts.extend(delivery.map(|form| format!("delivery {}", shown(form))));
        parts.extend(self.groups());
        match parts.join("; ") {
            parts if parts.is_empty() => parts,
            parts => format!(" ({parts})"),
        }
    }

    /// Groups the values by their protections or format, and returns a text for each group. The texts name the items
    /// only if there are several groups.
    fn groups(&self) -> Vec<String> {
        let mut groups: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for value in &self.values {
            groups.entry(value.text()).or_default().insert(&value.item);
        }
        if groups.len() == 1 {
            return groups.into_keys().collect();
        }
        let group = |(protections, items): (String, BTreeSet<&str>)| {
            let items: Vec<_> = items.into_iter().map(shown).collect();
            format!("{}: {protections}", items.join(", "))
        };
        groups.into_iter().map(group).collect()
    }
}

impl SealedValue {
    /// Returns the protections, or the format of a value that has none.
    fn text(&self) -> String {
        if self.protections.is_empty() {
            return self.format.to_owned();
        }
        let names = self.protections.iter().map(|protection| protection.name());
        names.collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn values(object: &Object) -> Values {
    let views = views(object);
    let value = |(item, text): (&String, &String)| SealedValue {
        item: item.clone(),
        format: format(text),
        protections: views
            .get(item.as_str())
            .map(protections::of)
            .unwrap_or_default(),
    };
    let whole = object.sealed.spec.data.as_ref().map(|_| SealedValue {
        item: WHOLE_SECRET.to_owned(),
        format: "v1",
        protections: Vec::new(),
    });
    let values = v2::items(object.texts()).map(value).chain(whole);
    values.map(|value| (value.item.clone(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(item: &str, protections: &[Protection]) -> SealedValue {
        SealedValue {
            item: item.to_owned(),
            format: if protections.is_empty() { "v1" } else { "v2" },
            protections: protections.to_vec(),
        }
    }

    fn object_content(scope: Scope, delivery: Option<&str>, values: Vec<SealedValue>) -> Content {
        Content {
            scope: Some(scope),
            delivery: delivery.map(str::to_owned),
            values,
        }
    }

    #[test]
    fn names_items_only_if_their_protections_differ() {
        let both = [Protection::NeverSecret, Protection::TemplateBinding];
        for (content, want) in [
            (object_content(Scope::Strict, None, Vec::new()), ""),
            (
                object_content(Scope::Strict, None, vec![value("a", &[])]),
                " (v1)",
            ),
            (
                object_content(
                    Scope::ClusterWide,
                    Some("files"),
                    vec![value("a", &both), value("b", &both)],
                ),
                " (cluster-wide; delivery files; never-secret, template-bound)",
            ),
            (
                object_content(
                    Scope::Strict,
                    None,
                    vec![value("a", &[]), value("b", &both), value("c", &[])],
                ),
                " (b: never-secret, template-bound; a, c: v1)",
            ),
        ] {
            assert_eq!(content.text(), want);
        }
    }
}
