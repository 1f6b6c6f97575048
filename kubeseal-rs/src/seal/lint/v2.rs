//! Checks the v2 values of an object, and what a rule requires of its v1 values: everything that is visible without a key.

use kubeseal_library::finding;
use kubeseal_library::rules::SealedFormat;
use shared::manifest::Node;
use shared::scope::Scope;
use shared::v2::{
    Checked, ItemView, Object as V2Object, Policy, Reason, Recipient as _, Refusal, ShortKeyId,
    Suite, Target,
};

use super::object::{CheckContext, FindingInFile};
use super::plain::join_first_keys;
use super::v2_keys::{RecipientStatus, compare};
use crate::seal::object::{Form, Item, Object, sealed_nodes};

/// Returns the findings about v2 values, and about v1 values where the rule requires v2.
pub(super) fn findings(
    node: &Node,
    object: &Object,
    context: CheckContext<'_>,
) -> Vec<FindingInFile> {
    let mut findings = other_format(object, context);
    findings.extend(may_become_secret(object, context));
    match &object.v2 {
        None => {}
        Some(Err(refusal)) => findings.push(malformed_finding(node, object, refusal)),
        Some(Ok(v2)) => {
            findings.extend(unused_locks(node, v2));
            findings.extend(refusal(object));
            let items = object.items.iter().filter_map(|item| match &item.form {
                Form::V2(view) => Some((item, &**view)),
                _ => None,
            });
            let items: Vec<_> = items.collect();
            findings.extend(check_partly_bound(&items));
            let items = items.into_iter();
            findings.extend(items.flat_map(|(item, view)| item_findings(item, view, context)));
        }
    }
    findings
}

fn other_format(object: &Object, context: CheckContext<'_>) -> Vec<FindingInFile> {
    let rule = context.settings.rule.as_ref();
    let Some(rule) = rule.filter(|rule| rule.format == Some(SealedFormat::V2)) else {
        return Vec::new();
    };
    let v1_items = object
        .items
        .iter()
        .filter(|item| matches!(item.form, Form::Bits(_)));
    let message = |item: &Item| {
        let message = format!(
            "{} is sealed as v1, but {} requires v2; convert it with `seal rotate --to v2`",
            item.key,
            rule.describe()
        );
        (finding::FORMAT, item.line, message)
    };
    v1_items.map(message).collect()
}

/// Reports values that may become a Secret although the rule forbids this. Malformed values already have findings.
fn may_become_secret(object: &Object, context: CheckContext<'_>) -> Vec<FindingInFile> {
    let rule = context.settings.rule.as_ref();
    let Some(rule) = rule.filter(|rule| rule.never_secret) else {
        return Vec::new();
    };
    let items = object.items.iter().filter(|item| match &item.form {
        Form::V2(view) => !view.is_never_secret,
        Form::Bits(_) => true,
        Form::MalformedV2 | Form::NotString | Form::NotSealed(_) => false,
    });
    let items = items.map(|item| (item.line, item.key.as_str()));
    let whole_secret = object.sealed.spec.data.as_ref();
    let whole_secret = whole_secret.map(|_| (object.line, "spec.data"));
    let finding = |(line, name): (usize, &str)| {
        let message = format!(
            "{name} may become a Secret, although {} requires that it never does; seal all values again into a new file",
            rule.describe()
        );
        (finding::MAY_BECOME_SECRET, line, message)
    };
    items.chain(whole_secret).map(finding).collect()
}

fn malformed_finding(node: &Node, object: &Object, refusal: &Refusal) -> FindingInFile {
    let line = match refusal {
        Refusal::Malformed { entry, .. } => line_of(node, entry),
        _ => None,
    };
    let line = line.unwrap_or(object.line);
    (finding::MALFORMED_VALUE, line, refusal.to_string())
}

fn line_of(node: &Node, entry: &str) -> Option<usize> {
    let mut entries = sealed_nodes(node).iter();
    let node = entries.find(|(name, _)| name == entry);
    node.map(|(_, node)| node.line)
}

/// Returns one finding for each unused lock.
fn unused_locks(node: &Node, v2: &V2Object) -> Vec<FindingInFile> {
    let unused = v2.unused_lock_entries();
    let headers = unused
        .into_iter()
        .filter(|name| name.matches('/').count() == 2);
    let findings = headers.map(|name| {
        let message = format!("no item belongs to the lock {name}; remove its lines");
        (
            finding::UNUSED_LOCK,
            line_of(node, name).unwrap_or(node.line),
            message,
        )
    });
    findings.collect()
}

/// Returns why a controller refuses the object. Without a namespace, the scope of the values cannot be checked.
fn refusal(object: &Object) -> Option<FindingInFile> {
    let refusal = Checked::new(&object.sealed, &Policy::default(), Target::Other).err()?;
    let is_scope_checkable =
        object.scope == Scope::ClusterWide || !object.sealed.namespace_or_empty().is_empty();
    let rule = match refusal.reason() {
        Reason::ScopeMismatch if !is_scope_checkable => return None,
        Reason::TemplateChanged => finding::TEMPLATE_CHANGED,
        _ => finding::REFUSED_VALUE,
    };
    Some((rule, object.line, refusal.to_string()))
}

/// Reports an object with both bound and unbound values: an author of the file can change the template of the unbound
/// values.
fn check_partly_bound(items: &[(&Item, &ItemView)]) -> Option<FindingInFile> {
    let (bound, unbound): (Vec<_>, Vec<_>) =
        items.iter().partition(|(_, view)| view.is_template_bound);
    let (first, _) = *unbound.first().filter(|_| !bound.is_empty())?;
    let names: Vec<&str> = unbound.iter().map(|(item, _)| item.key.as_str()).collect();
    let message = format!(
        "unlike the others, these values are not bound to the template, so controllers with --require-v2 refuse the \
         object: {}; bind all values with `seal rotate --to v2 --bind-template`",
        join_first_keys(&names)
    );
    Some((finding::PARTLY_BOUND, first.line, message))
}

fn item_findings(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Vec<FindingInFile> {
    let checks = [
        check_retired,
        check_not_accepted,
        check_unlisted,
        check_missing,
        check_mixed,
        check_weak_recipients,
        check_unbound,
    ];
    let findings = checks.iter().filter_map(|check| check(item, view, context));
    findings
        .map(|(rule, message)| (rule, item.line, message))
        .collect()
}

/// A rule that an item breaks, with the message; `None` if the item is fine.
type Problem = Option<(finding::Rule, String)>;

fn check_retired(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Problem {
    let mut recipients = view.recipients.iter();
    let (id, _) = recipients.find(|key| compare(key, context) == RecipientStatus::Retired)?;
    let message = format!(
        "{} is sealed for the retired key {id}; re-encrypt it with `seal rotate --to v2`",
        item.key
    );
    Some((finding::FOREIGN_RECIPIENT, message))
}

/// Reports a key that the `fingerprint` of the rule does not accept, if the rule names a recipient whose key lint does
/// not know.
fn check_not_accepted(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Problem {
    let rule = context.settings.rule.as_ref()?;
    let mut recipients = view.recipients.iter();
    let key = recipients.find(|key| compare(key, context) == RecipientStatus::NotAccepted)?;
    let message = format!(
        "{} is sealed for {}, but {} accepts only {}",
        item.key,
        key_name(key),
        rule.describe(),
        rule.pin_texts().join(" or ")
    );
    Some((finding::FOREIGN_RECIPIENT, message))
}

/// Reports recipients that the rule does not list. Some of them can be recipients of the rule whose keys lint does not
/// know, so it reports nothing if there are at least as many unknown keys.
fn check_unlisted(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Problem {
    let recipients = context.recipients;
    let is_listed = |id: &ShortKeyId| recipients.keys.iter().any(|key| key.short_id() == *id);
    let unlisted = view.recipients.iter().filter(|(id, _)| !is_listed(id));
    let unlisted: Vec<String> = unlisted.map(key_name).collect();
    if unlisted.len() <= recipients.unknown {
        return None;
    }
    let note = match recipients.unknown {
        0 => String::new(),
        unknown => format!(
            " (at most {unknown} of them can be recipients that the rule names by URL, controller or unreadable file, \
             which lint does not know)"
        ),
    };
    let message = format!(
        "{} is sealed for keys that the rule does not list: {}{note}",
        item.key,
        unlisted.join(", ")
    );
    Some((finding::FOREIGN_RECIPIENT, message))
}

fn check_missing(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Problem {
    let has = |id: ShortKeyId| view.recipients.iter().any(|(own, _)| *own == id);
    let keys = context.recipients.keys.iter();
    let missing: Vec<String> = keys
        .filter(|key| !has(key.short_id()))
        .map(|key| format!("{} {} {}", key.suite(), key.short_id(), key.comment()))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let missing: Vec<&str> = missing.iter().map(|key| key.trim_end()).collect();
    let message = format!(
        "{} is not sealed for {}, which the rule lists",
        item.key,
        missing.join(", ")
    );
    Some((finding::MISSING_RECIPIENT, message))
}

fn check_mixed(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Problem {
    let rule = context.settings.rule.as_ref();
    let is_allowed = rule.is_some_and(|rule| rule.allow_classical);
    let mut classical = view.recipients.iter().filter(|key| is_classical(key));
    let is_mixed = view.recipients.iter().any(|key| !is_classical(key));
    let key = classical.next().filter(|_| is_mixed && !is_allowed)?;
    let message = format!(
        "{} is sealed for post-quantum keys and for {}, which is not post-quantum",
        item.key,
        key_name(key)
    );
    Some((finding::MIXED_SUITES, message))
}

/// Reports a key that is not post-quantum although all keys of the rule are.
fn check_weak_recipients(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Problem {
    let recipients = context.recipients;
    let is_strong = !recipients.keys.is_empty()
        && recipients.unknown == 0
        && recipients
            .keys
            .iter()
            .all(|key| key.suite().is_post_quantum());
    let key = view.recipients.iter().find(|key| is_classical(key));
    let key = key.filter(|_| is_strong)?;
    let message = format!(
        "{} is sealed for {}, which is not post-quantum, although all keys of the rule are",
        item.key,
        key_name(key)
    );
    Some((finding::WEAK_SUITE, message))
}

/// Reports a value that is not bound to the template although the rule requires it.
fn check_unbound(item: &Item, view: &ItemView, context: CheckContext<'_>) -> Problem {
    let rule = context.settings.rule.as_ref()?;
    let is_required = rule.format == Some(SealedFormat::V2) && rule.bind_template;
    if view.is_template_bound || !is_required {
        return None;
    }
    let message = format!(
        "{} is not bound to the template, although {} requires it; bind it with `seal rotate --to v2 --bind-template`",
        item.key,
        rule.describe()
    );
    Some((finding::UNBOUND_VALUE, message))
}

/// Returns whether a key is of a known suite that is not post-quantum.
fn is_classical((_, suite): &(ShortKeyId, Option<Suite>)) -> bool {
    suite.is_some_and(|suite| !suite.is_post_quantum())
}

fn key_name((id, suite): &(ShortKeyId, Option<Suite>)) -> String {
    match suite {
        Some(suite) => format!("{suite} {id}"),
        None => format!("{id} (unknown suite)"),
    }
}
