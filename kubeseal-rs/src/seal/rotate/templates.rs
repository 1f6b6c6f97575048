//! Shows the templates that `--bind-template` binds values to, before the user confirms them. A user who can change a
//! file chooses its template, and no key shows which template the author of the values meant.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;
use kubeseal_library::walk::{self, Candidate, Kind};
use serde::Serialize;
use shared::resource::{SealedSecret, SecretTemplate};
use shared::sealed_file::{self, Found};
use shared::v2::{Object, TemplateDigest};

use super::Rotate;
use crate::failure::Failure;
use crate::prompt;
use crate::report::{self, ShowPath as _};

/// The maximum number of characters of a label, annotation or finalizer in the text output.
const MAX_SHOWN: usize = 120;

/// The digests of the templates that the user confirmed, by file and line of the object.
#[derive(Debug, Default)]
pub(super) struct ConfirmedTemplates(HashMap<(PathBuf, usize), TemplateDigest>);

/// The properties of a template, without the texts of its items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TemplateSummary {
    /// The type of the Secret.
    #[serde(rename = "type")]
    type_: String,
    /// Whether the data of the Secret can never change.
    immutable: bool,
    /// The labels, as `KEY=VALUE`.
    labels: Vec<String>,
    /// The annotations, as `KEY=VALUE`.
    annotations: Vec<String>,
    finalizers: Vec<String>,
    /// The templates of items.
    data: Vec<TemplateText>,
}

/// The template of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TemplateText {
    /// The item key.
    item: String,
    /// The number of lines; null if the template removes the item.
    lines: Option<usize>,
}

impl TemplateSummary {
    pub(super) fn of(template: &SecretTemplate) -> Self {
        let metadata = &template.metadata;
        let data = template.data.iter().flatten();
        let text = |(item, text): (&String, &Option<String>)| TemplateText {
            item: item.clone(),
            lines: text.as_ref().map(|text| text.lines().count()),
        };
        Self {
            type_: template.type_.clone().unwrap_or("Opaque".to_owned()),
            immutable: template.immutable.unwrap_or_default(),
            labels: pairs(metadata.labels.as_ref()),
            annotations: pairs(metadata.annotations.as_ref()),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            data: data.map(text).collect(),
        }
    }

    /// Returns a line for each property.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("type {}", self.type_)];
        if self.immutable {
            lines.push("immutable".to_owned());
        }
        let named = |kind: &'static str, all: &[String]| -> Vec<String> {
            let lines = all.iter().map(|text| format!("{kind} {}", shortened(text)));
            lines.collect()
        };
        lines.extend(named("label", &self.labels));
        lines.extend(named("annotation", &self.annotations));
        lines.extend(named("finalizer", &self.finalizers));
        lines.extend(self.data.iter().map(TemplateText::line));
        lines
    }
}

impl TemplateText {
    fn line(&self) -> String {
        let item = &self.item;
        match self.lines {
            None => format!("item {item} is removed"),
            Some(1) => format!("item {item} from a template of 1 line"),
            Some(lines) => format!("item {item} from a template of {lines} lines"),
        }
    }
}

fn pairs(map: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let entries = map.into_iter().flatten();
    entries
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

fn shortened(text: &str) -> String {
    let mut start: String = text.chars().take(MAX_SHOWN).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

/// Returns whether an object has a value that is not bound to a template yet, so that the run would bind it to the
/// current template.
pub(super) fn has_unbound(sealed: &SealedSecret) -> bool {
    let Ok(object) = Object::parse(&sealed.spec.encrypted_data) else {
        return false;
    };
    let view = object.view();
    sealed.spec.data.is_some()
        || !object.v1_items().is_empty()
        || view.values().any(|item| !item.is_template_bound)
}

impl ConfirmedTemplates {
    /// Shows each template that values would be bound to. Without `--yes` and `--dry-run`, asks the user whether the
    /// templates are right.
    ///
    /// # Errors
    ///
    /// Fails if the user declines, or if there is neither `--yes` nor a terminal to ask on.
    pub(super) fn find(
        args: &Rotate,
        candidates: &[Candidate],
        environment: &Environment,
    ) -> Result<Self> {
        let mut confirmed_templates = Self::default();
        if !args.bind_template {
            return Ok(confirmed_templates);
        }
        for candidate in candidates {
            for found in unbound_objects(candidate) {
                print_template(&candidate.path, &found);
                let template = TemplateDigest::of(&found.sealed.spec.template);
                let location = (candidate.path.clone(), found.line);
                confirmed_templates.0.insert(location, template);
            }
        }
        if !confirmed_templates.0.is_empty() && !args.dry_run && !args.yes {
            confirm(environment)?;
        }
        Ok(confirmed_templates)
    }

    /// Checks that the user has seen the template of an object whose values are about to be bound to it.
    ///
    /// # Errors
    ///
    /// Fails if the template or the file was changed after the template was shown.
    pub(super) fn check(&self, args: &Rotate, path: &Path, found: &Found) -> Result<()> {
        if !args.bind_template || !has_unbound(&found.sealed) {
            return Ok(());
        }
        let template = TemplateDigest::of(&found.sealed.spec.template);
        if self.0.get(&(path.to_owned(), found.line)) == Some(&template) {
            return Ok(());
        }
        bail!(
            Failure::new("the file was changed after its templates were shown")
                .hint("run the command again")
        )
    }
}

/// Returns the objects in a file with values that would be bound. A file that cannot be read is reported later.
fn unbound_objects(candidate: &Candidate) -> Vec<Found> {
    let Ok(Some(file)) = walk::read(candidate, Kind::SealedSecret) else {
        return Vec::new();
    };
    let mut objects = sealed_file::find(&file.documents).unwrap_or_default();
    objects.retain(|found| has_unbound(&found.sealed));
    objects
}

fn print_template(path: &Path, found: &Found) {
    let name = found.sealed.qualified_name();
    let location = format!("{}:{}: {name}", path.shown(), found.line);
    report::info(&format!("{location}: values are bound to this template:"));
    for line in TemplateSummary::of(&found.sealed.spec.template).lines() {
        report::info(&format!("  {line}"));
    }
}

fn confirm(environment: &Environment) -> Result<()> {
    let hint = "check the templates in the files, and pass --yes";
    match prompt::confirm("Are these the right templates? [y/N] ", environment)? {
        Some(true) => Ok(()),
        Some(false) => bail!(Failure::new("nothing was changed").hint(hint)),
        None => bail!(
            Failure::new("a user must confirm the templates (see above); nothing was changed")
                .hint(hint)
        ),
    }
}

#[cfg(test)]
mod tests {
    use shared::manifest::{self, Reading};

    use super::*;

    fn summary(template: &str) -> TemplateSummary {
        let text = format!("metadata: {{name: a}}\nspec: {{template: {template}}}");
        let documents = manifest::read(text.as_bytes()).unwrap();
        let sealed = SealedSecret::from_node(&documents[0].root, &mut Reading::default()).unwrap();
        TemplateSummary::of(&sealed.spec.template)
    }

    /// Attack: the author of a file adds a label, annotation, type or template that sends the values to another
    /// program, and hides it at the end of a long text or behind terminal escapes.
    #[test]
    fn each_bound_property_is_shown() {
        for (template, want) in [
            ("{}", vec!["type Opaque"]),
            ("{immutable: true}", vec!["type Opaque", "immutable"]),
            (
                "{type: kubernetes.io/tls, metadata: {labels: {a: b}, annotations: {c: d}, finalizers: [e]}}",
                vec![
                    "type kubernetes.io/tls",
                    "label a=b",
                    "annotation c=d",
                    "finalizer e",
                ],
            ),
            (
                "{data: {url: \"a\\nb\", one: x, gone: null}}",
                vec![
                    "type Opaque",
                    "item gone is removed",
                    "item one from a template of 1 line",
                    "item url from a template of 2 lines",
                ],
            ),
        ] {
            assert_eq!(summary(template).lines(), want, "{template}");
        }
        let long = format!("{{metadata: {{annotations: {{a: {}}}}}}}", "x".repeat(200));
        let lines = summary(&long).lines();
        assert_eq!(
            lines[1].chars().count(),
            "annotation ".len() + MAX_SHOWN + 1
        );
        assert!(lines[1].ends_with('…'));
    }
}
