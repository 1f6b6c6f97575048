//! Opened items + `spec.template.data` → the values of the Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use template::{Budget, Context, Data, ErrorKind, Limit, ParseError, RenderError, Template};

use super::Chance;
use crate::meter::Meter;
use crate::plain::Plain;

/// A template that gives no value. Says where and why in words that hold no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is malformed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It cannot be rendered with these values.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// It would give another value each time, which [`super::Rules::refuse_chance`] forbids.
    #[error(
        "template {0:?} uses time, chance or new keys, which --refuse-random-templates refuses; \
         seal a finished value instead"
    )]
    Chance(String),
}

impl TemplateError {
    /// The key of the template.
    pub fn key(&self) -> &str {
        match self {
            Self::Parse(error) => &error.template,
            Self::Render(error) => &error.template,
            Self::Chance(key) => key,
        }
    }

    /// Was it ended by the caller's meter?
    pub(super) fn is_interrupted(&self) -> bool {
        let Self::Render(error) = self else {
            return false;
        };
        error.kind == ErrorKind::Limit(Limit::Interrupted)
    }
}

/// All templates that give no value, in order of their keys, one to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateErrors(pub Vec<TemplateError>);

impl std::error::Error for TemplateErrors {}

impl fmt::Display for TemplateErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}{error}")?;
        }
        Ok(())
    }
}

/// The values of a Secret.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) values: BTreeMap<String, Plain>,
    /// Those of them that would be others next time.
    pub(super) by_chance: BTreeSet<String>,
}

impl From<BTreeMap<String, Plain>> for Rendered {
    fn from(values: BTreeMap<String, Plain>) -> Self {
        Self {
            values,
            by_chance: BTreeSet::new(),
        }
    }
}

/// Each template sees the items, and of `texts` as they stand those that no item hides. An item
/// hides the result of its template, too, whose errors count all the same; `null` takes the item
/// out of the Secret.
pub(super) fn render(
    items: BTreeMap<String, Plain>,
    texts: &BTreeMap<String, Option<String>>,
    refuse_chance: bool,
    chance: &mut Chance<'_>,
    meter: &mut dyn Meter,
) -> Result<Rendered, TemplateErrors> {
    let templates = parse_all(texts, refuse_chance)?;
    let results = render_all(&templates, &dot(&items, texts), chance, meter)?;
    let mut rendered = Rendered::from(items);
    rendered
        .values
        .retain(|key, _| !matches!(texts.get(key), Some(None)));
    for (template, result) in templates.iter().zip(results) {
        let key = template.name();
        if rendered.values.contains_key(key) {
            continue;
        }
        rendered.values.insert(key.to_owned(), result);
        if !template.is_deterministic() {
            rendered.by_chance.insert(key.to_owned());
        }
    }
    Ok(rendered)
}

fn dot(items: &BTreeMap<String, Plain>, texts: &BTreeMap<String, Option<String>>) -> Data {
    let mut dot = Data::default();
    for (key, text) in texts {
        if let Some(text) = text {
            dot.insert(key, text.as_bytes());
        }
    }
    for (key, value) in items {
        dot.insert(key, value.expose());
    }
    dot
}

fn parse_all(
    texts: &BTreeMap<String, Option<String>>,
    refuse_chance: bool,
) -> Result<Vec<Template>, TemplateErrors> {
    let mut templates = Vec::new();
    let mut errors = Vec::new();
    for (key, text) in texts {
        let Some(text) = text else { continue };
        match Template::parse(key, text) {
            Ok(template) if refuse_chance && !template.is_deterministic() => {
                errors.push(TemplateError::Chance(key.clone()));
            }
            Ok(template) => templates.push(template),
            Err(error) => errors.push(error.into()),
        }
    }
    all_or_errors(templates, errors)
}

/// One budget serves all templates of an object, so that many small ones stall its neighbours as
/// little as a large one. Whoever uses it up is named; those after it are not tried.
fn render_all(
    templates: &[Template],
    dot: &Data,
    chance: &mut Chance<'_>,
    meter: &mut dyn Meter,
) -> Result<Vec<Plain>, TemplateErrors> {
    let mut context = Context {
        budget: Budget::default(),
        now: chance.now,
        rng: &mut *chance.rng,
    };
    let mut results = Vec::new();
    let mut errors = Vec::new();
    for template in templates {
        match template.render_within(dot, &mut context, meter) {
            Ok(result) => results.push(Plain::from(result)),
            Err(error) => {
                let is_used_up = matches!(error.kind, ErrorKind::Limit(_));
                errors.push(error.into());
                if is_used_up {
                    break;
                }
            }
        }
    }
    all_or_errors(results, errors)
}

fn all_or_errors<T>(all: Vec<T>, errors: Vec<TemplateError>) -> Result<Vec<T>, TemplateErrors> {
    if errors.is_empty() {
        Ok(all)
    } else {
        Err(TemplateErrors(errors))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::meter::Unmetered;

    type Texts<'a> = &'a [(&'a str, Option<&'a str>)];

    fn rendered(
        items: &[(&str, &[u8])],
        texts: Texts,
        refuse_chance: bool,
    ) -> Result<Rendered, TemplateErrors> {
        let items = items
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Plain::from(value.to_vec())))
            .collect();
        let texts = texts
            .iter()
            .map(|(key, text)| ((*key).to_owned(), text.map(str::to_owned)))
            .collect();
        let mut chance = Chance {
            now: Timestamp::UNIX_EPOCH,
            rng: &mut StdRng::seed_from_u64(1),
        };
        render(items, &texts, refuse_chance, &mut chance, &mut Unmetered)
    }

    #[test]
    fn items_and_templates_make_the_values() {
        type Bytes<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(&str, Bytes, Texts, Bytes); 9] = [
            (
                "text without actions is literal",
                &[],
                &[("t", Some("a: {b}\n"))],
                &[("t", b"a: {b}\n")],
            ),
            (
                "items are seen",
                &[("a", b"x")],
                &[("t", Some("<{{ .a }}>"))],
                &[("a", b"x"), ("t", b"<x>")],
            ),
            (
                "bytes pass",
                &[("a", b"\xff\x00")],
                &[("t", Some("{{ .a }}"))],
                &[("a", b"\xff\x00"), ("t", b"\xff\x00")],
            ),
            (
                "a missing key is no error",
                &[],
                &[("t", Some("{{ .nope }}{{ index . \"nope\" }}"))],
                &[("t", b"<no value>")],
            ),
            (
                "other texts are seen unrendered",
                &[],
                &[("t", Some("{{ .u }}")), ("u", Some("{{ 1 }}"))],
                &[("t", b"{{ 1 }}"), ("u", b"1")],
            ),
            (
                "the item wins over the template",
                &[("a", b"item")],
                &[("a", Some("template")), ("t", Some("{{ .a }}"))],
                &[("a", b"item"), ("t", b"item")],
            ),
            (
                "null removes an item that templates still see",
                &[("a", b"x")],
                &[("a", None), ("t", Some("{{ .a }}"))],
                &[("t", b"x")],
            ),
            (
                "null without an item is nothing",
                &[],
                &[("a", None), ("t", Some("{{ .a }}"))],
                &[("t", b"<no value>")],
            ),
            ("no templates", &[("a", b"x")], &[], &[("a", b"x")]),
        ];
        for (why, items, texts, want) in cases {
            let rendered = rendered(items, texts, true).unwrap();
            let got: Vec<(&str, &[u8])> = rendered
                .values
                .iter()
                .map(|(key, value)| (key.as_str(), value.expose()))
                .collect();
            assert_eq!(got, want, "{why}");
            assert!(rendered.by_chance.is_empty(), "{why}");
        }
    }

    #[test]
    fn errors_name_key_and_place_of_each_template_and_no_value() {
        let chance = "uses time, chance or new keys, which --refuse-random-templates refuses; seal a finished value instead";
        for (why, texts, want) in [
            (
                "failing",
                &[("t", Some("\n {{ fail .a }}"))][..],
                "template \"t\", line 2, column 5, function fail: ".to_owned(),
            ),
            (
                "malformed",
                &[("t", Some("{{ .a ")), ("u", Some("{{ fail .a }}"))],
                "template \"t\", line 1, column ".to_owned(),
            ),
            (
                "hidden by an item, and failing",
                &[("a", Some("{{ fail .a }}"))],
                "template \"a\", line 1, column 4, function fail: ".to_owned(),
            ),
            (
                "by chance, although hidden by an item",
                &[("a", Some("{{ uuidv4 }}")), ("b", Some("{{ now }}"))],
                format!("template \"a\" {chance}\ntemplate \"b\" {chance}"),
            ),
        ] {
            let error = rendered(&[("a", b"hunter2")], texts, true).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with(&want), "{why}: {said}");
            assert!(!format!("{error:?} {said}").contains("hunter2"), "{why}");
        }
        let texts: Texts = &[("t", Some("{{ fail .a }}")), ("u", Some("{{ fail .a }}"))];
        let error = rendered(&[], texts, true).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 2, "{error}");
    }

    #[test]
    fn says_which_values_would_be_others_next_time() {
        let texts: Texts = &[
            ("a", Some("{{ uuidv4 }}")),
            ("b", Some("{{ if false }}{{ now }}{{ end }}")),
            ("c", Some("{{ .x }}")),
            ("x", Some("{{ randAlpha 3 }}")),
        ];
        let rendered = rendered(&[("x", b"item")], texts, false).unwrap();
        assert_eq!(
            rendered.by_chance,
            BTreeSet::from(["a".into(), "b".into()]),
            "`c` uses no chance, and `x` is an item"
        );
        assert_eq!(rendered.values["x"].expose(), b"item");
    }

    #[test]
    fn all_templates_of_an_object_share_one_budget() {
        let half = "{{ repeat 600000 \"x\" }}";
        assert!(rendered(&[], &[("a", Some(half))], true).is_ok());
        let texts: Texts = &[("a", Some(half)), ("b", Some(half)), ("c", Some(half))];
        let error = rendered(&[], texts, true).unwrap_err().to_string();
        assert!(error.starts_with("template \"b\", "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");

        let keys: Vec<String> = (0..9).map(|i| format!("k{i}")).collect();
        let texts: Vec<(&str, Option<&str>)> = keys
            .iter()
            .map(|key| (key.as_str(), Some("{{ genPrivateKey \"ed25519\" }}")))
            .collect();
        let error = rendered(&[], &texts, false).unwrap_err().to_string();
        assert!(error.starts_with("template \"k8\", "), "{error}");
    }
}
