//! `seal diff`: shows the changes to sealed items between two states of a repository.

mod content;
mod json;
mod locks;
mod moves;
mod protections;
mod selection;
mod states;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use deliver::DELIVER_ANNOTATION;
use kubeseal_library::environment::Environment;
use kubeseal_library::format::Format;
use kubeseal_library::walk::SkippedFiles;
use shared::resource::{KEY_HINTS_ANNOTATION, LAST_APPLIED_ANNOTATIONS, SecretTemplate};
use shared::scope::Scope;
use shared::v2;
use zeroize::Zeroizing;

use super::object::Object;
use super::{Outcome, output, print};
use crate::report::{self, Paint, shown};
use content::{Content, Values};
use protections::Protection;
use selection::{path_from, select};
use states::Comparison;

/// Arguments of `seal diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
REV is a Git revision, or two as A..B; HEAD if not given. A new ciphertext does not show whether the
value changed or was re-encrypted.

Examples:
  seal diff
  seal diff HEAD~1 db.sealed.yaml
  seal diff --exit-code HEAD")]
pub struct Diff {
    /// A revision, then files and directories; `--` before a path that looks like a revision
    #[arg(value_name = "[REV] [PATH]...")]
    pub args: Vec<OsString>,
    /// Files and directories; names are never read as revisions
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Exit with code 1 if anything differs
    #[arg(long)]
    pub exit_code: bool,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = crate::seal_args::output_format())]
    pub output: Option<Format>,
}

/// A change to an item, or to the object itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The item key, or `(data)` for the deprecated `spec.data`; `None` for any other change.
    pub item: Option<String>,
    /// What was changed.
    pub kind: ChangeKind,
}

/// What a change affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// The item or object is new.
    Added(Content),
    /// The item or object was removed.
    Removed(Content),
    /// The object was moved from another file, whose path is relative to the current directory. All other changes are
    /// relative to the object in that file.
    Moved(String),
    /// The item was re-encrypted, possibly with another value.
    Changed,
    /// The item was re-encrypted for another key, according to its hints: old and new fingerprint.
    Rekeyed(String, String),
    /// The item was converted to the other format, possibly with another value: old and new format.
    Reformatted(&'static str, &'static str),
    /// The scope changed: old and new scope.
    Rescoped(String, String),
    /// The keys that open v2 values changed: old and new keys.
    Recipients(String, String),
    /// A v2 value lost a protection. For the object: all of its values with the protection were removed.
    Lost(Protection),
    /// A v2 value gained a protection. For the object: it had no value with the protection, and one was added.
    Gained(Protection),
    /// The annotation for delivery changed: old and new value.
    Delivery(String, String),
    /// Lock entries of v2 values changed, although the scope, items, protections and recipients did not; or a lock
    /// entry was replaced under the same name.
    Locks,
    /// The template changed.
    Template,
    /// Labels, annotations, finalizers or owners of the SealedSecret changed.
    Metadata,
    /// The file, directory or submodule cannot be read, with the reason.
    Unreadable(String),
    /// The file, which changed, contains sealed values outside SealedSecrets in at least one of the two states.
    NotCompared,
}

/// The file of an object, relative to the current directory; the namespace and name of the object; and its changes.
/// Namespace and name are empty for a file, directory or submodule that is unreadable or not compared.
type ObjectChanges = (String, String, Vec<Change>);

/// Shows which sealed items changed between two states of a repository.
///
/// # Errors
///
/// Fails if a path or, without paths, the current directory is in no Git work tree, or if an argument is invalid or
/// ambiguous. If a file cannot be read, the changes to the other files are printed first.
pub fn run(args: &Diff, environment: &Environment) -> Result<Outcome> {
    let current_dir = std::env::current_dir()?.canonicalize()?;
    let mut changes: Vec<ObjectChanges> = Vec::new();
    for selection in select(args, &current_dir)? {
        let comparison = Comparison::new(&selection.paths, &current_dir);
        for (file, object_name, object_changes) in
            comparison.run(&selection.repository, selection.from, selection.to)?
        {
            changes.push((path_from(&current_dir, &file), object_name, object_changes));
        }
    }
    let text = match args.output {
        Some(format) => output::documents(&[json::DiffReport::new(&changes)], format)?,
        None => Zeroizing::new(text(&changes, Paint::for_stdout(environment)).into_bytes()),
    };
    print(&text)?;
    let item_changes = changes.iter().flat_map(|(_, _, changes)| changes);
    SkippedFiles::check(
        item_changes
            .filter(|change| change.kind.is_unreadable())
            .count(),
    )?;
    if changes.is_empty() {
        report::info("no sealed item changed");
        return Ok(Outcome::Done);
    }
    Ok(if args.exit_code {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

/// Returns the changes between two versions of an object.
pub fn compare(old: Option<&Object>, new: Option<&Object>) -> Vec<Change> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => {
            let kind = ChangeKind::Added(Content::of_object(new));
            return vec![Change { item: None, kind }];
        }
        (Some(old), None) => {
            let kind = ChangeKind::Removed(Content::of_object(old));
            return vec![Change { item: None, kind }];
        }
        (None, None) => return Vec::new(),
    };
    let mut changes = Vec::new();
    if old.scope != new.scope {
        let kind = ChangeKind::Rescoped(old.scope.to_string(), new.scope.to_string());
        changes.push(Change { item: None, kind });
    }
    let items = v2::items(old.texts()).chain(v2::items(new.texts()));
    let keys: BTreeSet<&String> = items.map(|(key, _)| key).collect();
    let (old_values, new_values) = (content::values(old), content::values(new));
    let (before, after) = ((old, &old_values), (new, &new_values));
    changes.extend(
        keys.into_iter()
            .filter_map(|key| item_change(before, after, key)),
    );
    changes.extend(protections::changes(old, new));
    changes.extend(locks::changes(old, new, changes.is_empty()));
    if old.sealed.spec.data != new.sealed.spec.data {
        let kind = match (&old.sealed.spec.data, &new.sealed.spec.data) {
            (None, _) => ChangeKind::Added(Content::of_item(&new_values, WHOLE_SECRET)),
            (_, None) => ChangeKind::Removed(Content::of_item(&old_values, WHOLE_SECRET)),
            _ => ChangeKind::Changed,
        };
        let item = Some(WHOLE_SECRET.to_owned());
        changes.push(Change { item, kind });
    }
    changes.extend(protections::delivery(old, new));
    if metadata(old) != metadata(new) {
        changes.push(Change {
            item: None,
            kind: ChangeKind::Metadata,
        });
    }
    if template(old) != template(new) {
        changes.push(Change {
            item: None,
            kind: ChangeKind::Template,
        });
    }
    changes
}

/// Returns the change to the sealed text of an item that exists in at least one of the versions.
fn item_change(
    (old, old_values): (&Object, &Values),
    (new, new_values): (&Object, &Values),
    key: &String,
) -> Option<Change> {
    let kind = match (old.texts().get(key), new.texts().get(key)) {
        (None, _) => ChangeKind::Added(Content::of_item(new_values, key)),
        (_, None) => ChangeKind::Removed(Content::of_item(old_values, key)),
        (Some(old_text), Some(new_text)) if old_text == new_text => return None,
        (Some(old_text), Some(new_text)) if format(old_text) != format(new_text) => {
            ChangeKind::Reformatted(format(old_text), format(new_text))
        }
        _ => match (old.hints.get(key), new.hints.get(key)) {
            (Some(from), Some(to)) if from != to => {
                ChangeKind::Rekeyed(from.to_string(), to.to_string())
            }
            _ => ChangeKind::Changed,
        },
    };
    let item = Some(key.clone());
    Some(Change { item, kind })
}

fn format(text: &str) -> &'static str {
    if v2::is_v2_value(text) { "v2" } else { "v1" }
}

/// The displayed name of the deprecated `spec.data`, a whole Secret that is sealed as one value. No item can have this
/// name.
const WHOLE_SECRET: &str = "(data)";

/// Returns the metadata that affects the object, without the scope and the delivery (reported separately), the hints
/// (which sealing changes), and fields that tools and the API server write.
fn metadata(object: &Object) -> impl PartialEq {
    let metadata = &object.sealed.metadata;
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    Scope::Strict.annotate(&mut annotations);
    annotations.remove(DELIVER_ANNOTATION);
    annotations.remove(KEY_HINTS_ANNOTATION);
    for annotation in LAST_APPLIED_ANNOTATIONS {
        annotations.remove(annotation);
    }
    (
        metadata.labels.clone().unwrap_or_default(),
        annotations,
        metadata.finalizers.clone(),
        metadata.owner_references.clone(),
    )
}

/// Returns the template without its copy of the scope annotation.
fn template(object: &Object) -> SecretTemplate {
    let mut template = object.sealed.spec.template.clone();
    if let Some(annotations) = &mut template.metadata.annotations {
        Scope::Strict.annotate(annotations);
        if annotations.is_empty() {
            template.metadata.annotations = None;
        }
    }
    template
}

impl ChangeKind {
    fn name(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::Removed(_) => "removed",
            Self::Moved(_) => "moved",
            Self::Changed => "changed",
            Self::Rekeyed(..) => "rekeyed",
            Self::Reformatted(..) => "format changed",
            Self::Rescoped(..) => "rescoped",
            Self::Recipients(..) => "recipients changed",
            Self::Lost(protection) => protection.lost(),
            Self::Gained(protection) => protection.gained(),
            Self::Delivery(..) => "delivery changed",
            Self::Locks => "locks changed",
            Self::Template => "template changed",
            Self::Metadata => "metadata changed",
            Self::Unreadable(_) => "unreadable",
            Self::NotCompared => "not compared",
        }
    }

    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }

    /// Returns the content of an added or removed object or item.
    fn content(&self) -> Option<&Content> {
        match self {
            Self::Added(content) | Self::Removed(content) => Some(content),
            _ => None,
        }
    }

    /// Returns why a file, directory or submodule was not compared.
    fn problem(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::NotCompared => Some("sealed values outside SealedSecrets"),
            _ => None,
        }
    }

    fn old_and_new(&self) -> Option<(&str, &str)> {
        match self {
            Self::Rekeyed(from, to)
            | Self::Rescoped(from, to)
            | Self::Recipients(from, to)
            | Self::Delivery(from, to) => Some((from, to)),
            Self::Reformatted(from, to) => Some((from, to)),
            _ => None,
        }
    }
}

fn text(changes: &[ObjectChanges], paint: Paint) -> String {
    let mut text = String::new();
    for (file, object_name, changes) in changes {
        let colon = if object_name.is_empty() { "" } else { ": " };
        text.extend([format!("{}{colon}{}\n", shown(file), shown(object_name))]);
        for Change { item, kind } in changes {
            let mark = match kind {
                ChangeKind::Added(_) => paint.green("+"),
                ChangeKind::Removed(_) => paint.red("-"),
                _ => paint.yellow("~"),
            };
            let item = match (item.as_deref(), kind) {
                (Some(item), _) => item,
                (None, ChangeKind::NotCompared) => "(the file)",
                (None, _) => "(the object)",
            };
            text.extend([format!(
                "  {mark} {} {}{}\n",
                shown(item),
                kind.name(),
                details(kind)
            )]);
        }
    }
    text
}

/// Returns the text after the name of a change.
fn details(kind: &ChangeKind) -> String {
    match kind {
        ChangeKind::Moved(from) => format!(" from {}", shown(from)),
        ChangeKind::Reformatted(from, to) => {
            format!(" from {from} to {to}; whether the value changed is unknown")
        }
        kind => match (kind.content(), kind.problem(), kind.old_and_new()) {
            (Some(content), ..) => content.text(),
            (_, Some(why), _) => format!(": {}", shown(why)),
            (.., Some((from, to))) => format!(" from {} to {}", shown(from), shown(to)),
            _ => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use shared::manifest;

    use super::*;

    fn object(annotations: &str, items: &str, template: &str) -> Object {
        let yaml = format!(
            "metadata: {{name: n, annotations: {{{annotations}}}}}\nspec:\n  encryptedData: {{{items}}}\n  template: {{{template}}}\n"
        );
        Object::read(&manifest::read(yaml.as_bytes()).unwrap()[0].root).unwrap()
    }

    fn read(yaml: &str) -> Object {
        Object::read(&manifest::read(yaml.as_bytes()).unwrap()[0].root).unwrap()
    }

    /// Attack: a committer changes metadata or settings of the Secret without changing an item, so that a reviewer
    /// overlooks the change.
    #[test]
    fn reports_changes_outside_the_items() {
        let object = |metadata: &str, spec: &str| {
            read(&format!(
                "metadata: {{name: n{metadata}}}\nspec: {{encryptedData: {{a: x}}{spec}}}\n"
            ))
        };
        let base = object("", "");
        for (metadata, spec, want) in [
            ("", "", vec![]),
            ("", ", data: sealed", vec!["(data):added"]),
            (", labels: {a: b}", "", vec![":metadata changed"]),
            (", finalizers: [a/b]", "", vec![":metadata changed"]),
            (
                ", annotations: {sealedsecrets.bitnami.com/skip-set-owner-references: 'true'}",
                "",
                vec![":metadata changed"],
            ),
            (
                ", annotations: {kubectl.kubernetes.io/last-applied-configuration: x}",
                "",
                vec![],
            ),
            (", annotations: {}, labels: {}", "", vec![]),
            (
                ", annotations: {sealedsecrets.bitnami.com/deliver: files}",
                "",
                vec![":delivery changed"],
            ),
        ] {
            assert_eq!(
                changes_of(&base, &object(metadata, spec)),
                want,
                "{metadata} {spec}"
            );
        }
        let (old, new) = (object("", ", data: good"), object("", ", data: evil"));
        assert_eq!(changes_of(&old, &new), ["(data):changed"]);
        assert_eq!(changes_of(&old, &base), ["(data):removed"]);
    }

    fn changes_of(old: &Object, new: &Object) -> Vec<String> {
        let describe = |c: Change| format!("{}:{}", c.item.unwrap_or_default(), c.kind.name());
        compare(Some(old), Some(new))
            .into_iter()
            .map(describe)
            .collect()
    }

    #[test]
    fn reports_the_change_of_each_item() {
        let hint = |c: &str| {
            format!(
                "sealedsecrets.bitnami.com/key-hints: '{{\"a\":\"SHA256:{}\"}}'",
                c.repeat(42) + "A"
            )
        };
        let base = object("", "a: x, b: w", "");
        for (why, new, want) in [
            ("nothing", object("", "a: x, b: w", ""), vec![]),
            (
                "one item added and one removed",
                object("", "a: x, c: z", ""),
                vec!["b:removed", "c:added"],
            ),
            (
                "another ciphertext",
                object("", "a: z, b: w", ""),
                vec!["a:changed"],
            ),
            (
                "another format",
                object("", "a: seal2.s.AAAA, b: w", ""),
                vec!["a:format changed"],
            ),
            (
                "a wider scope",
                object(
                    "sealedsecrets.bitnami.com/cluster-wide: 'true'",
                    "a: x, b: w",
                    "",
                ),
                vec![":rescoped"],
            ),
            (
                "a template",
                object("", "a: x, b: w", "type: t"),
                vec![":template changed"],
            ),
        ] {
            assert_eq!(changes_of(&base, &new), want, "{why}");
        }
        let (old, new) = (
            object(&hint("A"), "a: x", ""),
            object(&hint("B"), "a: w", ""),
        );
        assert_eq!(changes_of(&old, &new), ["a:rekeyed"]);
        let added = ChangeKind::Added(Content::of_object(&base));
        assert_eq!(compare(None, Some(&base))[0].kind, added);
    }
}
