//! Errors of unsealing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::{RenderErrors, TemplateErrors};
use crate::hints::{self, Hints};
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, NoKey};
use crate::resource::SealedSecret;
use crate::scope::Scope;
use crate::sealed_text::NotSealed;
use crate::v2::{self, ShortKeyId, Unavailable};
use crate::{error_chain, visible_line};

/// Why a SealedSecret cannot be unsealed. On an error, no value is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Some v1 items cannot be unsealed.
    #[error(transparent)]
    Items(#[from] ItemErrors),
    /// Some templates are refused because of their text, regardless of the values.
    #[error(transparent)]
    Template(#[from] TemplateErrors),
    /// Some templates cannot be rendered with the values of this object.
    #[error(transparent)]
    Render(#[from] RenderErrors),
    /// The object has v2 items and is refused as a whole, or the policy refuses its format.
    #[error(transparent)]
    Refused(#[from] v2::Refusal),
    /// A key outside this process is unavailable. This is independent of the object's validity.
    #[error("cannot use the key {key}: {source}; try again, since the object was not refused")]
    KeyUnavailable {
        /// The identifier of the unavailable key.
        key: ShortKeyId,
        /// The cause of the failure.
        source: Unavailable,
    },
    /// The object has items and the deprecated `spec.data`.
    #[error(
        "cannot use the field 'encryptedData' and the deprecated field 'data' at the same time; remove 'data'"
    )]
    BothForms,
    /// The object has the deprecated form, which the caller does not accept.
    #[error("using deprecated 'data' field, use 'encryptedData' or flip the feature flag")]
    LegacyRefused,
    /// `spec.data` is not a sealed value.
    #[error("the deprecated field 'data' is {0}")]
    LegacyNotSealed(#[from] NotSealed),
    /// `spec.data` could not be unsealed.
    #[error(transparent)]
    LegacyNoKey(#[from] NoKey),
    /// `spec.data` was decrypted, but the plaintext is not a Secret.
    #[error(
        "the deprecated field 'data' was decrypted, but is not a Secret; seal the Secret again, which writes 'encryptedData'"
    )]
    LegacyContent,
    /// The meter interrupted the unsealing of items. This does not indicate a problem with the object, and another
    /// attempt can continue from here. Templates never cause this error, since their work depends on the values.
    #[error(
        "this object needs more work than one attempt may take; the next attempt continues where this one \
         stopped; to speed it up, split the object, or re-encrypt its items for one key"
    )]
    BudgetUsedUp {
        /// The fingerprint of the key that unsealed each v1 item, by item key: from this attempt or, if the meter
        /// interrupted it before the v1 items, from earlier attempts. If these fingerprints are passed as hints, the
        /// next attempt needs one private-key operation for each of these items.
        opened: Hints,
    },
}

impl UnsealError {
    /// Returns the complete message, for users who may read the values. Which template fails, where and why depends on
    /// the values, so `Display` does not reveal this.
    pub fn exact_message(&self) -> String {
        match self {
            Self::Render(errors) => errors.exact_message().to_string(),
            other => error_chain(other),
        }
    }

    /// Returns the message for users, with the likely cause first. `Display` begins with the text of Bitnami's
    /// controller, for scripts. For [`Self::Render`], the message is only for users who may read the values, like
    /// [`Self::exact_message`].
    pub fn diagnosis(&self) -> String {
        match self {
            Self::Items(errors) => errors.diagnosis(),
            other => other.exact_message(),
        }
    }
}

/// One item that could not be unsealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// Item key.
    pub key: String,
    /// Why the item could not be unsealed.
    pub problem: ItemProblem,
}

/// Why an item could not be unsealed. Never reveals how the decryption failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemProblem {
    /// The string does not have the form of a sealed value, which is public.
    #[error(transparent)]
    NotSealed(#[from] NotSealed),
    /// The key is missing, the scope is wrong, or the value is damaged: these causes are indistinguishable.
    #[error(transparent)]
    NoKey(#[from] NoKey),
}

impl ItemProblem {
    /// Returns the error text of Bitnami's controller.
    fn upstream_message(&self) -> String {
        match self {
            Self::NotSealed(why) => why.upstream_message(),
            Self::NoKey(why) => why.to_string(),
        }
    }
}

/// The items that could not be unsealed, by key. Displayed as in upstream: each distinct problem once, with
/// its keys in parentheses, one per line. Hints, which upstream does not have, follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemErrors {
    /// Items that cannot be unsealed.
    pub items: Vec<ItemError>,
    /// Number of further items that were not tried with every key, so it is not known whether they can be
    /// unsealed.
    pub untried: usize,
    /// Set if the object may have been renamed or moved after it was sealed.
    pub renamed: Option<Box<NameMismatch>>,
    /// The keys that the object's annotation names for items that no key unseals, and whether each key is in the ring.
    pub hinted: BTreeMap<Fingerprint, HintedItems>,
}

/// Items that are sealed for one key according to an annotation, which any client that may write the object can forge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HintedItems {
    items: Vec<String>,
    is_in_ring: bool,
}

/// The name or namespace of the template differs from the object's, and the values may have been sealed for the name or
/// namespace of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameMismatch {
    /// The field that differs: `name` or `namespace`.
    field: &'static str,
    /// The template's name or namespace.
    template: String,
    /// The object's name or namespace.
    object: String,
    /// A scope with which the values could be unsealed in this object too.
    scope: Scope,
}

impl NameMismatch {
    /// Compares name and namespace of the template with those of the object, as far as the scope binds values
    /// to them.
    pub(super) fn of(sealed: &SealedSecret) -> Option<Self> {
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        let (template, object) = (&sealed.spec.template.metadata, &sealed.metadata);
        let difference =
            |field, template_value: &Option<String>, object_value: &Option<String>, scope| {
                let (template, object) = (template_value.clone()?, object_value.clone()?);
                let mismatch = Self {
                    field,
                    template,
                    object,
                    scope,
                };
                (!mismatch.template.is_empty() && mismatch.template != mismatch.object)
                    .then_some(mismatch)
            };
        let namespace = || {
            difference(
                "namespace",
                &template.namespace,
                &object.namespace,
                Scope::ClusterWide,
            )
        };
        match scope {
            Scope::ClusterWide => None,
            Scope::NamespaceWide => namespace(),
            Scope::Strict => namespace()
                .or_else(|| difference("name", &template.name, &object.name, Scope::NamespaceWide)),
        }
    }
}

impl fmt::Display for NameMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, scope, .. } = self;
        let (template, object) = (visible_line(&self.template), visible_line(&self.object));
        write!(
            f,
            "the template has the {field} {template}, the object has the {field} {object}, and its values can be unsealed only under the {field} that they were sealed for: seal them for {object}, or with scope {scope} if a tool such as \
             kustomize changes the {field}"
        )
    }
}

impl ItemErrors {
    /// Replaces the errors of items that are not strings, which were read as empty values, with errors that name the
    /// type. `types` contains the types by item key.
    pub fn name_types(&mut self, types: &BTreeMap<String, &'static str>) {
        for item in &mut self.items {
            if let Some(kind) = types.get(&item.key) {
                item.problem = NotSealed::wrong_type(kind).into();
            }
        }
    }

    /// Adds the likely cause, using only public data: names, annotations and fingerprints of keys. Tries no key.
    pub(crate) fn explain(&mut self, sealed: &SealedSecret, ring: &KeyRing) {
        let hints = hints::read(sealed.metadata.annotations.as_ref());
        let is_for_no_key = |item: &&ItemError| matches!(item.problem, ItemProblem::NoKey(_));
        for ItemError { key, .. } in self.items.iter().filter(is_for_no_key) {
            if let Some(hint) = hints.get(key) {
                let hinted = self.hinted.entry(hint.clone()).or_default();
                hinted.is_in_ring = ring.key(hint).is_some();
                hinted.items.push(key.clone());
            }
        }
        let has_item_without_key = self.items.iter().any(|item| is_for_no_key(&item));
        self.renamed = NameMismatch::of(sealed)
            .filter(|_| has_item_without_key)
            .map(Box::new);
    }

    /// Returns the message with the likely cause first. For text that is not a sealed value, the message says what the
    /// text appears to be.
    fn diagnosis(&self) -> String {
        let mut lines = Vec::new();
        if let Some(renamed) = &self.renamed {
            lines.push(format!("probably renamed or moved: {renamed}"));
        }
        lines.extend(self.not_sealed_lines());
        let undecryptable = self.group_by_text(|problem| match problem {
            ItemProblem::NotSealed(_) => None,
            ItemProblem::NoKey(why) => Some(why.to_string()),
        });
        let with_keys =
            |(text, keys): (String, Vec<Cow<'_, str>>)| format!("{text} ({})", keys.join(", "));
        lines.extend(undecryptable.into_iter().map(with_keys));
        lines.extend(
            self.hinted
                .iter()
                .map(|(key, hinted)| hinted.hint_line(key)),
        );
        lines.extend(self.untried_line());
        lines.join("\n")
    }

    fn not_sealed_lines(&self) -> impl Iterator<Item = String> {
        let groups = self.group_by_text(|problem| match problem {
            ItemProblem::NotSealed(why) => Some(why.finding()),
            ItemProblem::NoKey(_) => None,
        });
        groups.into_iter().map(|(finding, keys)| match &keys[..] {
            [key] => format!("item {key} is not a sealed value: {finding}; seal it again"),
            keys => format!(
                "items {} are not sealed values: {finding}; seal them again",
                keys.join(", ")
            ),
        })
    }

    fn untried_line(&self) -> Option<String> {
        match self.untried {
            0 => None,
            1 => Some("1 more item was not tried".to_owned()),
            count => Some(format!("{count} more items were not tried")),
        }
    }

    /// Groups item keys by the text of their problem, in the order of first occurrence.
    fn group_by_text(
        &self,
        text: impl Fn(&ItemProblem) -> Option<String>,
    ) -> Vec<(String, Vec<Cow<'_, str>>)> {
        let mut groups: Vec<(String, Vec<Cow<'_, str>>)> = Vec::new();
        for ItemError { key, problem } in &self.items {
            let (key, Some(text)) = (visible_line(key), text(problem)) else {
                continue;
            };
            match groups
                .iter_mut()
                .find(|(group_text, _)| *group_text == text)
            {
                Some((_, keys)) => keys.push(key),
                None => groups.push((text, vec![key])),
            }
        }
        groups
    }
}

impl HintedItems {
    fn hint_line(&self, key: &Fingerprint) -> String {
        let items: Vec<_> = self.items.iter().map(|item| visible_line(item)).collect();
        let conclusion = if self.is_in_ring {
            "which is in the key ring: the value was probably sealed for another name, namespace or scope, \
             or has since been changed; seal the value again for this object"
        } else {
            "which is not in the key ring; restore this key from a backup, or seal the value again"
        };
        format!(
            "hint: according to the key hints of the object, the sealing key was {key} ({}), {conclusion}",
            items.join(", ")
        )
    }
}

impl std::error::Error for ItemErrors {}

impl fmt::Display for ItemErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems = self.group_by_text(|problem| Some(problem.upstream_message()));
        for (i, (text, keys)) in problems.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}{text} ({})", keys.join(", "))?;
        }
        if let Some(line) = self.untried_line() {
            write!(f, "\n{line}")?;
        }
        for line in self.not_sealed_lines() {
            write!(f, "\nhint: {line}")?;
        }
        match &self.renamed {
            Some(renamed) => write!(f, "\nhint: {renamed}"),
            None => Ok(()),
        }
    }
}
