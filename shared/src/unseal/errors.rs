//! Why a SealedSecret does not open.

use std::borrow::Cow;
use std::fmt;

use super::{RenderErrors, TemplateErrors};
use crate::base64::Base64Error;
use crate::hints::Hints;
use crate::key_ring::NoKey;
use crate::resource::SealedSecret;
use crate::scope::Scope;
use crate::{error_chain, visible_line};

/// Nothing is unsealed unless all of it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Items that did not open.
    #[error(transparent)]
    Items(#[from] ItemErrors),
    /// Templates that are refused for their text alone.
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
    /// The old form, which the caller does not accept.
    #[error("using deprecated 'data' field, use 'encryptedData' or flip the feature flag")]
    LegacyRefused,
    /// `spec.data` is not base64.
    #[error("the deprecated field 'data' is not base64")]
    LegacyBase64(#[from] Base64Error),
    /// `spec.data` did not open.
    #[error(transparent)]
    LegacyNoKey(#[from] NoKey),
    /// `spec.data` opened, but held no Secret.
    #[error("the deprecated field 'data' does not hold a Secret")]
    LegacyContent,
    /// The meter ended the opening of items. Nothing is known to be wrong, and another attempt may go on from
    /// here. Templates never end like this: how much work they take depends on the values.
    #[error(
        "this object needs more work than one attempt may take; the next attempt continues where this one \
         stopped. To speed it up, split the object or seal its items for one key"
    )]
    BudgetUsedUp {
        /// The key of each item that opened: with these, the next attempt opens each by one operation.
        opened: Hints,
    },
}

impl UnsealError {
    /// The whole truth, for those who may read the values. Which template fails, where and how depends
    /// on the values, so that `Display` does not say it.
    pub fn exact(&self) -> String {
        match self {
            Self::Render(errors) => errors.exact().to_string(),
            other => error_chain(other),
        }
    }
}

/// One item that did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// Item key.
    pub key: String,
    /// What is wrong with it.
    pub problem: ItemProblem,
}

/// Why an item did not open: that it did not, never how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemProblem {
    /// Not base64: public knowledge, anyone can see it.
    #[error(transparent)]
    Base64(#[from] Base64Error),
    /// No key, wrong place or damaged: these look alike.
    #[error(transparent)]
    NoKey(#[from] NoKey),
}

/// The items that did not open, by key. Shown as the peer shows them: each distinct problem once,
/// with its keys in parentheses, one to a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemErrors {
    /// Items that are known not to open.
    pub items: Vec<ItemError>,
    /// Further items, which may or may not open: they were not tried with every key.
    pub untried: usize,
    /// The object may have been renamed or moved after it was sealed.
    pub renamed: Option<Box<Renamed>>,
}

/// The template names another Secret than the object, and the values are bound to the place that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// What differs: the name or the namespace.
    what: &'static str,
    /// That of the template.
    template: String,
    /// That of the object.
    object: String,
    /// A scope whose values would open here as well.
    scope: Scope,
}

impl Renamed {
    /// Compares the template's place with that of the object, as far as the scope binds values to it.
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
