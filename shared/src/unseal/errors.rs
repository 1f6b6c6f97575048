//! Errors of unsealing.

use std::borrow::Cow;
use std::fmt;

use super::{RenderErrors, TemplateErrors};
use crate::base64::Base64Error;
use crate::hints::Hints;
use crate::key_ring::NoKey;
use crate::resource::SealedSecret;
use crate::scope::Scope;
use crate::{error_chain, visible_line};

/// Why a SealedSecret was not unsealed. It is all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Items that could not be unsealed.
    #[error(transparent)]
    Items(#[from] ItemErrors),
    /// Templates that are refused because of their text, whatever the values are.
    #[error(transparent)]
    Template(#[from] TemplateErrors),
    /// Templates that cannot be rendered with the values of this object.
    #[error(transparent)]
    Render(#[from] RenderErrors),
    /// Both forms at once.
    #[error(
        "cannot use the field 'encryptedData' and the deprecated field 'data' at the same time"
    )]
    BothForms,
    /// The deprecated form, which the caller does not accept.
    #[error("using deprecated 'data' field, use 'encryptedData' or flip the feature flag")]
    LegacyRefused,
    /// `spec.data` is not base64.
    #[error("the deprecated field 'data' is not base64")]
    LegacyBase64(#[from] Base64Error),
    /// `spec.data` could not be unsealed.
    #[error(transparent)]
    LegacyNoKey(#[from] NoKey),
    /// `spec.data` was unsealed but does not contain a Secret.
    #[error("the deprecated field 'data' does not hold a Secret")]
    LegacyContent,
    /// The meter ended the unsealing of items. This does not mean that anything is wrong, and another attempt
    /// can continue from here. Templates never end with this error, since the work that they need depends on
    /// the values.
    #[error(
        "this object needs more work than one attempt may take; the next attempt continues where this one \
         stopped. To speed it up, split the object or seal its items for one key"
    )]
    BudgetUsedUp {
        /// The key of each item that was unsealed: with these hints, the next attempt needs one operation for
        /// each.
        opened: Hints,
    },
}

impl UnsealError {
    /// Returns the complete message, for users who may read the values. Which template fails, where and how
    /// depends on the values, so `Display` does not reveal it.
    pub fn exact(&self) -> String {
        match self {
            Self::Render(errors) => errors.exact().to_string(),
            other => error_chain(other),
        }
    }
}

/// One item that could not be unsealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// Item key.
    pub key: String,
    /// The problem.
    pub problem: ItemProblem,
}

/// Why an item could not be unsealed. Never reveals how the decryption failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemProblem {
    /// Not base64, which is public.
    #[error(transparent)]
    Base64(#[from] Base64Error),
    /// No key, wrong scope or damaged: these are indistinguishable.
    #[error(transparent)]
    NoKey(#[from] NoKey),
}

/// The items that could not be unsealed, by key. Displayed as in upstream: each distinct problem once, with
/// its keys in parentheses, one per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemErrors {
    /// Items that cannot be unsealed.
    pub items: Vec<ItemError>,
    /// Number of further items that were not tried with every key, so it is not known whether they can be
    /// unsealed.
    pub untried: usize,
    /// Set if the object may have been renamed or moved after it was sealed.
    pub renamed: Option<Box<Renamed>>,
}

/// The template names another Secret than the object, and the values may be bound to that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// What differs: the name or the namespace.
    what: &'static str,
    /// The template's name or namespace.
    template: String,
    /// The object's name or namespace.
    object: String,
    /// A scope whose values could be unsealed here as well.
    scope: Scope,
}

impl Renamed {
    /// Compares name and namespace of the template with those of the object, as far as the scope binds values
    /// to them.
    pub(super) fn of(sealed: &SealedSecret) -> Option<Self> {
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        let (template, object) = (&sealed.spec.template.metadata, &sealed.metadata);
        let differ = |what, one: &Option<String>, two: &Option<String>, scope| {
            let (template, object) = (one.clone()?, two.clone()?);
            let renamed = Self {
                what,
                template,
                object,
                scope,
            };
            (!renamed.template.is_empty() && renamed.template != renamed.object).then_some(renamed)
        };
        let namespace = || {
            differ(
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
                .or_else(|| differ("name", &template.name, &object.name, Scope::NamespaceWide)),
        }
    }
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, scope, .. } = self;
        let (template, object) = (visible_line(&self.template), visible_line(&self.object));
        write!(
            f,
            "hint: the template has the {what} {template}, the object has the {what} {object}, and its values open only \
             under the {what} that they were sealed for: seal them for {object}, or with scope {scope} if a tool such as \
             kustomize changes the {what}"
        )
    }
}

impl std::error::Error for ItemErrors {}

impl fmt::Display for ItemErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut problems: Vec<(String, Vec<Cow<'_, str>>)> = Vec::new();
        for ItemError { key, problem } in &self.items {
            let (key, text) = (visible_line(key), problem.to_string());
            match problems.iter_mut().find(|(known, _)| *known == text) {
                Some((_, keys)) => keys.push(key),
                None => problems.push((text, vec![key])),
            }
        }
        for (i, (text, keys)) in problems.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}{text} ({})", keys.join(", "))?;
        }
        match self.untried {
            0 => {}
            1 => f.write_str("\n1 more item was not tried")?,
            count => write!(f, "\n{count} more items were not tried")?,
        }
        match &self.renamed {
            Some(renamed) => write!(f, "\n{renamed}"),
            None => Ok(()),
        }
    }
}
