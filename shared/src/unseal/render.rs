//! Renders the templates of an object with its unsealed items into the values of the Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use rand::{SeedableRng, rngs::StdRng};
pub use template::RenderError;
use template::{Budget, Context, Data, ErrorKind, Interrupted, ParseBudget, ParseError, Template};

use super::{Randomness, UnsealError};
use crate::meter::Meter;
use crate::plain::Plain;
use crate::resource::SealedSecret;
use crate::v2;

/// Replaces each value where the result must not depend on the values. The placeholder is a number, since most
/// functions that parse a string accept numbers.
const PLACEHOLDER: &[u8] = b"1";

/// A template is refused because of its text, regardless of the values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is malformed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The result of the template would differ between renderings, which [`super::Rules::refuse_random`] forbids.
    #[error(
        "template {0:?} uses the time, random values or new keys, which --refuse-random-templates refuses; \
         seal a fixed value instead"
    )]
    Randomness(String),
}

impl TemplateError {
    /// Returns the item key of the template.
    pub fn key(&self) -> &str {
        match self {
            Self::Parse(error) => &error.template,
            Self::Randomness(key) => key,
        }
    }
}

/// The templates that are refused because of their text, sorted by key, displayed one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateErrors(pub Vec<TemplateError>);

impl std::error::Error for TemplateErrors {}

impl fmt::Display for TemplateErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_lines(&self.0, f)
    }
}

fn write_lines<T: fmt::Display>(items: &[T], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        let line_break = if i > 0 { "\n" } else { "" };
        write!(f, "{line_break}{item}")?;
    }
    Ok(())
}

/// At least one template cannot be rendered with the values of the object.
///
/// Which templates fail, where and why depends on the values: an author with 256 templates could read a byte from the
/// name of the failing template. So neither `Display` nor `Debug` reveals these details; [`Self::exact_message`] does,
/// for users who may read the values.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("a template cannot be rendered with the values of this object")]
pub struct RenderErrors(Vec<RenderError>);

impl RenderErrors {
    /// Returns position and reason of each failure, one per line. The text contains no value but depends on
    /// the values.
    pub fn exact_message(&self) -> impl fmt::Display + '_ {
        ExactMessage(&self.0)
    }
}

impl fmt::Debug for RenderErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderErrors").finish_non_exhaustive()
    }
}

struct ExactMessage<'a>(&'a [RenderError]);

impl fmt::Display for ExactMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_lines(self.0, f)
    }
}

/// Renders the templates of an object with a placeholder for each value, and returns the failures. For users who may
/// not read the values: the result depends only on public data, and can differ from the failures with the real values.
/// It is empty for an object of the deprecated form, or if the templates cannot be parsed.
///
/// The random generator has a fixed seed, so that the result is deterministic.
pub fn failures_without_values(
    sealed: &SealedSecret,
    now: Timestamp,
    meter: &mut dyn Meter,
) -> Vec<RenderError> {
    let (Some(texts), None) = (&sealed.spec.template.data, &sealed.spec.data) else {
        return Vec::new();
    };
    let Ok(templates) = parse_all(texts, false, meter) else {
        return Vec::new();
    };
    let items = v2::item_names(&sealed.spec.encrypted_data);
    let items = items.map(|name| (name, PLACEHOLDER));
    let mut randomness = Randomness {
        now,
        rng: &mut StdRng::seed_from_u64(0),
    };
    match render_all(
        &templates,
        &template_data(items, texts),
        &mut randomness,
        meter,
    ) {
        Ok(_) => Vec::new(),
        Err(RenderErrors(errors)) => errors,
    }
}

/// Returns an upper bound on the cost of slow functions in one rendering of the object's templates, in
/// microseconds. It depends only on public data. Templates that cannot be parsed cost nothing.
///
/// # Errors
///
/// Returns [`Interrupted`] if the meter ends the parsing.
pub fn slow_work(sealed: &SealedSecret, meter: &mut dyn Meter) -> Result<u64, Interrupted> {
    let mut budget = ParseBudget::new(meter);
    let mut work = 0_u64;
    for (key, text) in sealed.spec.template.data.iter().flatten() {
        let Some(text) = text else { continue };
        if let Ok(template) = Template::parse_within(key, text, &mut budget)? {
            work = work.saturating_add(template.slow_work());
        }
    }
    Ok(work)
}

/// Checks the templates of an object that must have the same result in each rendering, and returns the cost of their
/// slow functions like [`slow_work`]. The result depends only on public data.
///
/// # Errors
///
/// Returns [`UnsealError::Template`] for templates that are malformed or random, and [`UnsealError::Render`] if the
/// meter ends the parsing.
pub fn check_templates(sealed: &SealedSecret, meter: &mut dyn Meter) -> Result<u64, UnsealError> {
    let Some(texts) = &sealed.spec.template.data else {
        return Ok(0);
    };
    let templates = parse_all(texts, true, meter)?;
    let work = templates.iter().map(Template::slow_work);
    Ok(work.fold(0, u64::saturating_add))
}

/// The values of a Secret, with the results of templates.
#[derive(Debug)]
pub(super) struct RenderedValues {
    pub(super) values: BTreeMap<String, Plain>,
    /// Items whose value would differ in another rendering.
    pub(super) random_items: BTreeSet<String>,
}

impl From<BTreeMap<String, Plain>> for RenderedValues {
    fn from(values: BTreeMap<String, Plain>) -> Self {
        Self {
            values,
            random_items: BTreeSet::new(),
        }
    }
}

/// Renders the templates. Each template can use the items, and the source text of each template that has no item of the
/// same key. An item also replaces the result of the template with its key, but errors of that template still count. A
/// `null` template removes the item from the Secret.
pub(super) fn render(
    items: BTreeMap<String, Plain>,
    texts: &BTreeMap<String, Option<String>>,
    refuse_random: bool,
    randomness: &mut Randomness<'_>,
    meter: &mut dyn Meter,
) -> Result<RenderedValues, UnsealError> {
    let templates = parse_all(texts, refuse_random, meter)?;
    let values = items
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose()));
    let results = render_all(&templates, &template_data(values, texts), randomness, meter)?;
    let mut rendered = RenderedValues::from(items);
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
            rendered.random_items.insert(key.to_owned());
        }
    }
    Ok(rendered)
}

/// Returns the value of `.` in templates: the items, and the source text of each template without an item of the same
/// key.
fn template_data<'a>(
    items: impl Iterator<Item = (&'a str, &'a [u8])>,
    texts: &BTreeMap<String, Option<String>>,
) -> Data {
    let mut dot = Data::default();
    for (key, text) in texts {
        if let Some(text) = text {
            dot.insert(key, text.as_bytes());
        }
    }
    for (key, value) in items {
        dot.insert(key, value);
    }
    dot
}

/// Parses all templates within one budget. If a template exhausts the budget, its error is reported and later templates
/// are not parsed.
fn parse_all(
    texts: &BTreeMap<String, Option<String>>,
    refuse_random: bool,
    meter: &mut dyn Meter,
) -> Result<Vec<Template>, UnsealError> {
    let mut budget = ParseBudget::new(meter);
    let mut templates = Vec::new();
    let mut errors = Vec::new();
    for (key, text) in texts {
        let Some(text) = text else { continue };
        let parsed = Template::parse_within(key, text, &mut budget);
        match parsed.map_err(|Interrupted| RenderErrors(vec![RenderError::interrupted(key)]))? {
            Ok(template) if refuse_random && !template.is_deterministic() => {
                errors.push(TemplateError::Randomness(key.clone()));
            }
            Ok(template) => templates.push(template),
            Err(error) => {
                errors.push(error.into());
                if budget.is_used_up() {
                    break;
                }
            }
        }
    }
    Ok(all_or_errors(templates, errors).map_err(TemplateErrors)?)
}

/// Renders all templates with one shared budget, so that many small templates delay other objects no more than one
/// large template. If a template exhausts the budget, its error is reported and later templates are not rendered.
fn render_all(
    templates: &[Template],
    dot: &Data,
    randomness: &mut Randomness<'_>,
    meter: &mut dyn Meter,
) -> Result<Vec<Plain>, RenderErrors> {
    let mut context = Context {
        budget: Budget::default(),
        now: randomness.now,
        rng: &mut *randomness.rng,
    };
    let mut results = Vec::new();
    let mut errors = Vec::new();
    for template in templates {
        match template.render_within(dot, &mut context, meter) {
            Ok(result) => results.push(Plain::from(result)),
            Err(error) => {
                let is_used_up = matches!(error.kind, ErrorKind::Limit(_));
                errors.push(error);
                if is_used_up {
                    break;
                }
            }
        }
    }
    all_or_errors(results, errors).map_err(RenderErrors)
}

fn all_or_errors<T, E>(values: Vec<T>, errors: Vec<E>) -> Result<Vec<T>, Vec<E>> {
    if errors.is_empty() {
        Ok(values)
    } else {
        Err(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Unmetered;
    use crate::resource::SealedSecretSpec;

    type Texts<'a> = &'a [(&'a str, Option<&'a str>)];

    fn render_pairs(
        items: &[(&str, &[u8])],
        texts: Texts,
        refuse_random: bool,
    ) -> Result<RenderedValues, UnsealError> {
        let items = items
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Plain::from(value.to_vec())))
            .collect();
        let texts = texts
            .iter()
            .map(|(key, text)| ((*key).to_owned(), text.map(str::to_owned)))
            .collect();
        let mut randomness = Randomness {
            now: Timestamp::UNIX_EPOCH,
            rng: &mut StdRng::seed_from_u64(1),
        };
        render(
            items,
            &texts,
            refuse_random,
            &mut randomness,
            &mut Unmetered,
        )
    }

    /// Attack: an author writes a template that names an item missing in its object, to read a value of another object.
    #[test]
    fn a_template_reads_no_item_that_its_object_lacks() {
        let text = "{{ .nope }}{{ index . \"nope\" }}";
        let rendered = render_pairs(&[], &[("t", Some(text))], true).unwrap();
        assert_eq!(rendered.values["t"].expose(), b"<no value>");
    }

    #[test]
    fn renders_items_and_templates_to_values() {
        type Bytes<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(&str, Bytes, Texts, Bytes); 8] = [
            (
                "text without actions is literal",
                &[],
                &[("t", Some("a: {b}\n"))],
                &[("t", b"a: {b}\n")],
            ),
            (
                "templates see items",
                &[("a", b"x")],
                &[("t", Some("<{{ .a }}>"))],
                &[("a", b"x"), ("t", b"<x>")],
            ),
            (
                "values may be arbitrary bytes",
                &[("a", b"\xff\x00")],
                &[("t", Some("{{ .a }}"))],
                &[("a", b"\xff\x00"), ("t", b"\xff\x00")],
            ),
            (
                "templates see the unrendered text of other templates",
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
                "null for a key without an item has no effect",
                &[],
                &[("a", None), ("t", Some("{{ .a }}"))],
                &[("t", b"<no value>")],
            ),
            ("no templates", &[("a", b"x")], &[], &[("a", b"x")]),
        ];
        for (why, items, texts, want) in cases {
            let rendered = render_pairs(items, texts, true).unwrap();
            let values: Vec<(&str, &[u8])> = rendered
                .values
                .iter()
                .map(|(key, value)| (key.as_str(), value.expose()))
                .collect();
            assert_eq!(values, want, "{why}");
            assert!(rendered.random_items.is_empty(), "{why}");
        }
    }

    #[test]
    fn errors_name_key_and_position_of_each_template_and_no_value() {
        let randomness = "uses the time, random values or new keys, which --refuse-random-templates refuses; seal a fixed value instead";
        for (why, texts, want) in [
            (
                "a failing template",
                &[("t", Some("\n {{ fail .a }}"))][..],
                "template \"t\", line 2, column 5, function fail: ".to_owned(),
            ),
            (
                "malformed",
                &[("t", Some("{{ .a ")), ("u", Some("{{ fail .a }}"))],
                "template \"t\", line 1, column ".to_owned(),
            ),
            (
                "a failing template with an item of the same key",
                &[("a", Some("{{ fail .a }}"))],
                "template \"a\", line 1, column 4, function fail: ".to_owned(),
            ),
            (
                "a random template with an item of the same key",
                &[("a", Some("{{ uuidv4 }}")), ("b", Some("{{ now }}"))],
                format!("template \"a\" {randomness}\ntemplate \"b\" {randomness}"),
            ),
        ] {
            let error = render_pairs(&[("a", b"hunter2")], texts, true).unwrap_err();
            let message = error.exact_message();
            assert!(message.starts_with(&want), "{why}: {message}");
            assert!(!format!("{error:?} {message}").contains("hunter2"), "{why}");
        }
        let texts: Texts = &[("t", Some("{{ fail .a }}")), ("u", Some("{{ fail .a }}"))];
        let error = render_pairs(&[], texts, true).unwrap_err();
        assert_eq!(error.exact_message().lines().count(), 2, "{error}");
    }

    #[test]
    fn reports_items_whose_value_is_random() {
        let texts: Texts = &[
            ("a", Some("{{ uuidv4 }}")),
            ("b", Some("{{ if false }}{{ now }}{{ end }}")),
            ("c", Some("{{ .x }}")),
            ("x", Some("{{ randAlpha 3 }}")),
        ];
        let rendered = render_pairs(&[("x", b"item")], texts, false).unwrap();
        assert_eq!(
            rendered.random_items,
            BTreeSet::from(["a".into(), "b".into()]),
            "`c` is not random, and `x` is an item"
        );
        assert_eq!(rendered.values["x"].expose(), b"item");
    }

    #[test]
    fn all_templates_of_an_object_share_one_budget() {
        let half = "{{ repeat 600000 \"x\" }}";
        assert!(render_pairs(&[], &[("a", Some(half))], true).is_ok());
        let texts: Texts = &[("a", Some(half)), ("b", Some(half)), ("c", Some(half))];
        let error = render_pairs(&[], texts, true).unwrap_err().exact_message();
        assert!(error.starts_with("template \"b\", "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");

        let keys: Vec<String> = (0..9).map(|i| format!("k{i}")).collect();
        let texts: Vec<(&str, Option<&str>)> = keys
            .iter()
            .map(|key| (key.as_str(), Some("{{ genPrivateKey \"ed25519\" }}")))
            .collect();
        let error = render_pairs(&[], &texts, false)
            .unwrap_err()
            .exact_message();
        assert!(error.starts_with("template \"k8\", "), "{error}");
    }

    /// Attack: an author adds 256 templates, to learn a byte of the value from the number of the failing template.
    #[test]
    fn only_the_exact_message_names_the_failing_template() {
        let text = |byte: u8| {
            format!("{{{{ if eq (index .a 0 | int) {byte} }}}}{{{{ fail \"\" }}}}{{{{ end }}}}")
        };
        let keys: Vec<String> = (0..=255).map(|byte: u8| format!("x{byte:03}")).collect();
        let texts: Vec<String> = (0..=255).map(text).collect();
        let texts: Vec<(&str, Option<&str>)> = keys
            .iter()
            .zip(&texts)
            .map(|(key, text)| (key.as_str(), Some(text.as_str())))
            .collect();
        let failure = |value: &[u8]| render_pairs(&[("a", value)], &texts, false).unwrap_err();
        let (first, second) = (failure(b"A"), failure(b"B"));
        assert!(first.exact_message().starts_with("template \"x065\", "));
        assert!(second.exact_message().starts_with("template \"x066\", "));
        assert_eq!(first.to_string(), second.to_string());
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }

    #[test]
    fn failures_without_values_depend_only_on_placeholders() {
        let failures = |items: &[&str], texts: Texts| {
            let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
            let items = items
                .iter()
                .map(|key| ((*key).to_owned(), "AAAA".to_owned()));
            sealed.spec.encrypted_data = items.collect();
            let texts = texts
                .iter()
                .map(|(key, text)| ((*key).to_owned(), text.map(str::to_owned)));
            sealed.spec.template.data = Some(texts.collect());
            let failures = failures_without_values(&sealed, Timestamp::UNIX_EPOCH, &mut Unmetered);
            failures
                .into_iter()
                .map(|error| error.template)
                .collect::<Vec<_>>()
        };
        let always = ("t", Some("{{ fail .a }}"));
        for (why, texts, want) in [
            ("fails in any case", &[always][..], &["t"][..]),
            ("never fails", &[("t", Some("{{ .a }}"))], &[]),
            (
                "fails with other values",
                &[("t", Some("{{ if ne .a \"1\" }}{{ fail \"\" }}{{ end }}"))],
                &[],
            ),
            (
                "needs no value",
                &[("t", Some("{{ fail \"\" }}")), ("u", None)],
                &["t"],
            ),
            ("does not parse", &[always, ("u", Some("{{ "))], &[]),
        ] {
            assert_eq!(failures(&["a"], texts), want, "{why}");
        }
    }
}
