//! The output of `seal view` for v2 values, which contains only public properties.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use shared::v2::{ItemView, ShortKeyId, Suite};

use super::ObjectView;
use crate::report::shown;
use crate::seal::object::{Form, Object};
use crate::seal::recipients::{KeyComments, key_comments};
use crate::seal::session::Session;

/// A recipient as stored in a sealed value.
type Key = (ShortKeyId, Option<Suite>);

/// Returns the comments of the recipients in the rule; empty if the object has no v2 value, or if the rules cannot be
/// read.
pub(super) fn comments(object: &Object, session: &Session<'_>, path: &Path) -> KeyComments {
    let settings = object.v2.as_ref().and_then(|_| session.settings(path).ok());
    settings
        .map(|settings| key_comments(&settings))
        .unwrap_or_default()
}

/// Describes the properties of a v2 item that are visible without a key.
pub(super) fn text(view: &ItemView) -> String {
    let flags = [
        (view.is_inline, "inline"),
        (view.is_template_bound, "bound to the template"),
        (view.is_never_secret, "never a Secret"),
        (view.is_alone, "allows no other values"),
        (view.is_post_quantum_only, "post-quantum only"),
    ];
    let flags = flags.iter().filter(|(is_set, _)| *is_set);
    let flags = flags.map(|(_, name)| (*name).to_owned());
    let revision = format!("revision {}", revision(view.revision));
    let scope = format!("{} v2", view.scope);
    [scope, revision]
        .into_iter()
        .chain(flags)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns a revision as a time, or as a number if it is not a valid time.
pub(super) fn revision(revision: u64) -> String {
    let time = i64::try_from(revision).ok();
    let time = time.and_then(|time| Timestamp::from_millisecond(time).ok());
    time.map_or_else(|| revision.to_string(), |time| time.to_string())
}

/// Returns a line for each recipient, and for malformed or mixed content.
pub(super) fn lines(view: &ObjectView) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(Err(refusal)) = &view.object.v2 {
        lines.push(format!("  malformed: {}\n", shown(&refusal.to_string())));
    }
    let (items, count) = items_by_key(&view.object);
    for (key, items) in items {
        let name = name(key, &view.comments);
        let which = if items.len() == count {
            String::new()
        } else {
            let items: Vec<_> = items.iter().map(|item| shown(item)).collect();
            format!(" (only {})", items.join(", "))
        };
        lines.push(format!("  for {name}{which}\n"));
    }
    if is_mixed(&view.object) {
        lines.push("  mixed: some items are v1, for one RSA key\n".to_owned());
    }
    lines
}

fn name((id, suite): Key, comments: &KeyComments) -> String {
    let suite = suite.map_or_else(|| "unknown suite".to_owned(), |suite| suite.to_string());
    let comment = comments
        .get(&id)
        .map(|comment| format!(" {}", shown(comment)));
    format!("{suite} {id}{}", comment.unwrap_or_default())
}

/// Returns the items that each key opens, and the number of all v2 items.
fn items_by_key(object: &Object) -> (BTreeMap<Key, BTreeSet<&str>>, usize) {
    let (mut by_key, mut count) = (BTreeMap::<Key, BTreeSet<&str>>::new(), 0);
    for item in &object.items {
        if let Form::V2(view) = &item.form {
            count += 1;
            for key in &view.recipients {
                by_key.entry(*key).or_default().insert(&item.key);
            }
        }
    }
    (by_key, count)
}

fn is_mixed(object: &Object) -> bool {
    let v2 = object.v2.as_ref().and_then(|v2| v2.as_ref().ok());
    v2.is_some_and(|v2| !v2.v1_items().is_empty() && !v2.view().is_empty())
}

/// A v2 item in JSON.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of the format"
)]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct V2Report<'a> {
    /// The identifier of the lock, which items that were sealed together share.
    lock: String,
    /// Whether the item carries its own lock.
    inline: bool,
    /// The revision, which grows whenever an item is sealed; usually the time of sealing in milliseconds since 1970.
    revision: u64,
    /// The scope that the item was sealed for.
    scope: String,
    /// Whether the item is bound to the template.
    template_bound: bool,
    /// Whether only post-quantum keys are allowed.
    post_quantum_only: bool,
    /// Whether the value must never become a Secret object.
    never_secret: bool,
    /// Whether the object must contain only the values of this lock.
    alone: bool,
    /// The keys that open the item.
    recipients: Vec<RecipientReport<'a>>,
}

/// A recipient of a v2 item.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecipientReport<'a> {
    /// `xw`, `p256` or `rsa`; absent for an unknown suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    /// The short identifier of the key.
    key_id: String,
    /// The comment of the key in the `recipients` of the rule; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

impl<'a> V2Report<'a> {
    pub(super) fn new(view: &ItemView, comments: &'a KeyComments) -> Self {
        let recipients = view.recipients.iter().map(|(id, suite)| RecipientReport {
            suite: suite.map(|suite| suite.to_string()),
            key_id: id.to_string(),
            comment: comments.get(id).map(String::as_str),
        });
        Self {
            lock: view.lock.to_string(),
            inline: view.is_inline,
            revision: view.revision,
            scope: view.scope.to_string(),
            template_bound: view.is_template_bound,
            post_quantum_only: view.is_post_quantum_only,
            never_secret: view.is_never_secret,
            alone: view.is_alone,
            recipients: recipients.collect(),
        }
    }
}
