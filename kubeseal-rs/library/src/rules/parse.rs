//! Parses `.seal.yaml` into [`Rules`].

use globset::{GlobBuilder, GlobMatcher};
use shared::key::{Fingerprint, MalformedFingerprint};
use shared::manifest::{self, Node, ReadError, Value};
use shared::names::{self, NameError};
use shared::rotate_by::{MalformedPeriod, Period};
use shared::scope::{Scope, UnknownScope};

use shared::v2::{AnyKeyId, MAX_RECIPIENTS, MalformedAnyKeyId};

use super::{Rule, Rules, SealedFormat, Source, UnknownFormat};
use crate::finding::{NEVER_EXEMPT, RULES};
use crate::recipients::{RecipientSource, RecipientSourceError};

/// Why a file does not contain valid rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// The file is not valid YAML.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file has several documents.
    #[error("the file contains {0} documents; rules must be in a single document")]
    Documents(usize),
    /// A line is not valid.
    #[error("line {line}: {problem}")]
    Line {
        /// The line number, counted from one.
        line: usize,
        /// Why the line is not valid.
        problem: RuleProblem,
    },
}

impl RulesError {
    /// Returns the line number; `None` for an error without one.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Read(error) => error.line(),
            Self::Documents(_) => None,
            Self::Line { line, .. } => Some(*line),
        }
    }
}

/// Why a line is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    /// The field does not exist.
    #[error("unknown field {found:?}\nhint: valid fields: {valid}")]
    Unknown {
        /// The field as written.
        found: String,
        /// The names of the valid fields, separated by commas.
        valid: String,
    },
    /// The field is repeated.
    #[error("duplicate field {0:?}\nhint: remove one of the two")]
    Duplicate(String),
    /// The value has the wrong type.
    #[error("{field} must be {expected}, not {found}")]
    Kind {
        /// The field with the wrong type.
        field: &'static str,
        /// The expected type, such as `a list` or `true or false`.
        expected: &'static str,
        /// The actual type, such as `a mapping`; `empty` for an empty string.
        found: &'static str,
    },
    /// The rule has no path.
    #[error("a rule needs a path, such as `path: prod/**`")]
    NoPath,
    /// The namespace is not valid.
    #[error(transparent)]
    Namespace(NameError),
    /// The path is not a valid pattern.
    #[error("the path is not a valid pattern: {0}")]
    Pattern(String),
    /// The scope does not exist.
    #[error("{field}: {source}")]
    Scope {
        /// The field with the unknown scope.
        field: &'static str,
        /// The unknown scope.
        source: UnknownScope,
    },
    /// `scope` is not among `allowedScopes`.
    #[error(
        "`scope` is {0}, which is not in `allowedScopes`\nhint: add {0} to `allowedScopes`, or change `scope`"
    )]
    ScopeNotAllowed(Scope),
    /// The fingerprint is malformed.
    #[error("{field}: {source}")]
    Fingerprint {
        /// The field with the malformed fingerprint.
        field: &'static str,
        /// Why the fingerprint is malformed.
        source: MalformedFingerprint,
    },
    /// The list in this field is empty, most likely by mistake: an empty list would have the same effect as no field.
    #[error("{0} is empty\nhint: add a value, or remove the field to allow any value")]
    Empty(&'static str),
    /// The rule has both `certificate` and `context`.
    #[error(
        "the rule has both a certificate (a file or URL) and a context\nhint: remove one of them"
    )]
    TwoSources,
    /// The rule has both `certificate` and `controller`, so the controller would not be used.
    #[error("the rule has both a certificate and a controller\nhint: remove one of them")]
    ControllerUnused,
    /// No Service can have the name or the namespace of the controller.
    #[error("{field} of the controller: {source}")]
    Controller {
        /// `name` or `namespace`.
        field: &'static str,
        /// Why the name is invalid.
        source: NameError,
    },
    /// The reason for ignoring a rule of `seal lint` contains neither letters nor digits.
    #[error("the reason is empty\nhint: state why the rule is ignored")]
    NoReason,
    /// The file has too many rules.
    #[error(
        "the file has more than the limit of {0} rules\nhint: combine rules with patterns such as `prod/**`"
    )]
    TooMany(usize),
    /// The identifier of a key is malformed.
    #[error("{field}: {source}, or a fingerprint `SHA256:…`")]
    KeyId {
        /// The field with the malformed identifier.
        field: &'static str,
        /// Why the identifier is malformed.
        source: MalformedAnyKeyId,
    },
    /// The format does not exist.
    #[error("format: {0}")]
    Format(UnknownFormat),
    /// A recipient is malformed.
    #[error("recipients: {0}")]
    Recipient(RecipientSourceError),
    /// A recipient is repeated.
    #[error("recipients: the same recipient is listed twice\nhint: remove one of the two")]
    DuplicateRecipient,
    /// The rule has too many recipients.
    #[error(
        "recipients: a value can be sealed for at most {MAX_RECIPIENTS} keys\nhint: remove recipients"
    )]
    TooManyRecipients,
    /// This field has an effect only with `format: v2`.
    #[error(
        "{0} has no effect on values sealed as v1\nhint: add `format: v2` to the rule, or remove the field"
    )]
    NeedsV2(&'static str),
    /// The period is malformed.
    #[error("rotateBy {0}")]
    RotateBy(MalformedPeriod),
    /// The period is a number without its unit.
    #[error("rotateBy must be a number of days with its unit, such as 90d")]
    RotateByUnit,
    /// The key size is out of range.
    #[error("keySize must be a number of bits from 2048 to 8192")]
    KeySize,
}

/// The maximum number of rules in a file. A file may be compared with every rule.
const MAX_RULES: usize = 1_000;

type ParseResult<T> = Result<T, RulesError>;

/// Parses rules. An empty file contains no rules.
///
/// # Errors
///
/// Returns the first error. Unknown fields are errors, so that a misspelled field is not silently ignored.
pub fn parse(bytes: &[u8]) -> ParseResult<Rules> {
    let documents = manifest::read(bytes)?;
    let root = match documents.as_slice() {
        [] => return Ok(Rules::default()),
        [document] => &document.root,
        several => return Err(RulesError::Documents(several.len())),
    };
    let fields = Fields::parse(root, "the file", &["rules"])?;
    let Some(rules) = fields.get("rules") else {
        return Ok(Rules::default());
    };
    let rules = list(rules, "rules")?;
    if let Some(excess) = rules.get(MAX_RULES) {
        return Err(line_error(excess, RuleProblem::TooMany(MAX_RULES)));
    }
    let rules = rules.iter().enumerate();
    let rules: ParseResult<Vec<Rule>> = rules.map(|(i, node)| rule(i + 1, node)).collect();
    Ok(Rules(rules?))
}

const RULE_FIELDS: [&str; 17] = [
    "path",
    "certificate",
    "context",
    "controller",
    "fingerprint",
    "retired",
    "namespace",
    "scope",
    "allowedScopes",
    "keySize",
    "format",
    "recipients",
    "allowClassical",
    "bindTemplate",
    "neverSecret",
    "rotateBy",
    "ignore",
];

/// The fields that have an effect only with `format: v2`.
const V2_FIELDS: [&str; 4] = [
    "recipients",
    "allowClassical",
    "bindTemplate",
    "neverSecret",
];

fn rule(number: usize, node: &Node) -> ParseResult<Rule> {
    let fields = Fields::parse(node, "a rule", &RULE_FIELDS)?;
    let path = fields.get("path");
    let path = path.ok_or_else(|| line_error(node, RuleProblem::NoPath))?;
    let pattern = text(path, "path")?;
    let format = fields.get("format").map(format).transpose()?;
    if format != Some(SealedFormat::V2) {
        refuse_v2_fields(&fields)?;
    }
    let (fingerprints, key_ids) =
        split_key_names(fields.nonempty_list_of("fingerprint", key_name)?);
    let (retired, retired_ids) = split_key_names(fields.list_of("retired", key_name)?);
    let rule = Rule {
        number,
        line: node.line,
        matcher: matcher(pattern).map_err(|problem| line_error(path, problem))?,
        path: pattern.to_owned(),
        certificate: source(node, &fields)?,
        fingerprints,
        key_ids,
        retired,
        retired_ids,
        namespace: fields.get("namespace").map(namespace).transpose()?,
        scope: fields
            .get("scope")
            .map(|node| scope(node, "scope"))
            .transpose()?,
        allowed_scopes: fields.nonempty_list_of("allowedScopes", scope)?,
        key_size: fields.get("keySize").map(key_size).transpose()?,
        format,
        recipients: recipients(&fields)?,
        allow_classical: fields.boolean("allowClassical")?.unwrap_or(false),
        bind_template: fields.boolean("bindTemplate")?.unwrap_or(true),
        never_secret: fields.boolean("neverSecret")?.unwrap_or(false),
        rotate_by: fields.get("rotateBy").map(rotate_by).transpose()?,
        ignore: fields
            .get("ignore")
            .map(ignored_rules)
            .transpose()?
            .unwrap_or_default(),
    };
    match rule.scope {
        Some(scope) if rule.check_scope(scope).is_err() => {
            Err(line_error(node, RuleProblem::ScopeNotAllowed(scope)))
        }
        _ => Ok(rule),
    }
}

fn namespace(node: &Node) -> ParseResult<String> {
    let name = text(node, "namespace")?;
    names::check_namespace(name)
        .map_err(|error| line_error(node, RuleProblem::Namespace(error)))?;
    Ok(name.to_owned())
}

/// Compiles a pattern. A pattern without a slash matches at any depth; one that ends with a slash matches
/// everything below that directory.
fn matcher(pattern: &str) -> Result<GlobMatcher, RuleProblem> {
    let mut full_pattern = pattern.trim_start_matches("./").to_owned();
    if full_pattern.ends_with('/') {
        full_pattern.push_str("**");
    } else if !full_pattern.contains('/') {
        full_pattern.insert_str(0, "**/");
    }
    let glob = GlobBuilder::new(full_pattern.trim_start_matches('/'))
        .literal_separator(true)
        .build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| RuleProblem::Pattern(error.kind().to_string()))
}

fn source(rule: &Node, fields: &Fields<'_>) -> ParseResult<Option<Source>> {
    let controller = fields.get("controller");
    let controller = controller
        .map(|node| Fields::parse(node, "controller", &["name", "namespace"]))
        .transpose()?;
    match (fields.text("certificate")?, fields.text("context")?) {
        (Some(_), Some(_)) => Err(line_error(rule, RuleProblem::TwoSources)),
        (Some(_), None) if controller.is_some() => {
            Err(line_error(rule, RuleProblem::ControllerUnused))
        }
        (Some(at), None) => Ok(Some(Source::At(at.into()))),
        (None, None) if controller.is_none() => Ok(None),
        (None, context) => {
            let part = |field, check: fn(&str) -> Result<(), NameError>| {
                let fields = controller.as_ref();
                fields.map_or(Ok(None), |fields| name_of_part(fields, field, check))
            };
            Ok(Some(Source::Controller {
                context: context.map(str::to_owned),
                name: part("name", names::check_object)?,
                namespace: part("namespace", names::check_namespace)?,
            }))
        }
    }
}

/// Returns the name or the namespace of the controller. Both become part of request paths, so they must be valid.
fn name_of_part(
    fields: &Fields<'_>,
    field: &'static str,
    check: fn(&str) -> Result<(), NameError>,
) -> ParseResult<Option<String>> {
    let (Some(node), Some(name)) = (fields.get(field), fields.text(field)?) else {
        return Ok(None);
    };
    check(name).map_err(|source| line_error(node, RuleProblem::Controller { field, source }))?;
    Ok(Some(name.to_owned()))
}

fn scope(node: &Node, field: &'static str) -> ParseResult<Scope> {
    let value = text(node, field)?;
    value
        .parse()
        .map_err(|source| line_error(node, RuleProblem::Scope { field, source }))
}

/// A key, by its fingerprint or by its identifier in v2.
enum KeyName {
    Fingerprint(Fingerprint),
    Id(AnyKeyId),
}

fn key_name(node: &Node, field: &'static str) -> ParseResult<KeyName> {
    let value = text(node, field)?;
    if KEY_ID_LENS.contains(&value.len()) && !value.starts_with("SHA256:") {
        let id = value.parse().map(KeyName::Id);
        return id.map_err(|source| line_error(node, RuleProblem::KeyId { field, source }));
    }
    let fingerprint = value.parse().map(KeyName::Fingerprint);
    fingerprint.map_err(|source| line_error(node, RuleProblem::Fingerprint { field, source }))
}

/// The lengths of a short and of a full key identifier as text.
const KEY_ID_LENS: [usize; 2] = [22, 43];

fn split_key_names(names: Vec<KeyName>) -> (Vec<Fingerprint>, Vec<AnyKeyId>) {
    let (mut fingerprints, mut ids) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            KeyName::Fingerprint(fingerprint) => fingerprints.push(fingerprint),
            KeyName::Id(id) => ids.push(id),
        }
    }
    (fingerprints, ids)
}

fn format(node: &Node) -> ParseResult<SealedFormat> {
    let value = text(node, "format")?;
    value
        .parse()
        .map_err(|unknown| line_error(node, RuleProblem::Format(unknown)))
}

fn refuse_v2_fields(fields: &Fields<'_>) -> ParseResult<()> {
    for name in V2_FIELDS {
        if let Some(node) = fields.get(name) {
            return Err(line_error(node, RuleProblem::NeedsV2(name)));
        }
    }
    Ok(())
}

fn recipients(fields: &Fields<'_>) -> ParseResult<Vec<RecipientSource>> {
    let located =
        fields.nonempty_list_of("recipients", |node, _| Ok((recipient(node)?, node.line)))?;
    let problem = |line, problem| Err(RulesError::Line { line, problem });
    if let Some((_, line)) = located.get(MAX_RECIPIENTS) {
        return problem(*line, RuleProblem::TooManyRecipients);
    }
    let mut recipients: Vec<RecipientSource> = Vec::new();
    for (recipient, line) in located {
        if recipients.contains(&recipient) {
            return problem(line, RuleProblem::DuplicateRecipient);
        }
        recipients.push(recipient);
    }
    Ok(recipients)
}

fn recipient(node: &Node) -> ParseResult<RecipientSource> {
    let value = text(node, "recipients")?;
    value
        .parse()
        .map_err(|problem| line_error(node, RuleProblem::Recipient(problem)))
}

fn key_size(node: &Node) -> ParseResult<usize> {
    match node.value {
        Value::Int(bits @ 2048..=8192) => Ok(usize::try_from(bits).unwrap_or(usize::MAX)),
        _ => Err(line_error(node, RuleProblem::KeySize)),
    }
}

fn rotate_by(node: &Node) -> ParseResult<Period> {
    if matches!(node.value, Value::Int(_)) {
        return Err(line_error(node, RuleProblem::RotateByUnit));
    }
    let value = text(node, "rotateBy")?;
    value
        .parse()
        .map_err(|problem| line_error(node, RuleProblem::RotateBy(problem)))
}

/// Parses the rules of `seal lint` to ignore, with reasons.
fn ignored_rules(node: &Node) -> ParseResult<Vec<(String, String)>> {
    let rules = RULES.iter().filter(|rule| !NEVER_EXEMPT.contains(rule));
    let names: Vec<&str> = rules.map(|rule| rule.name).collect();
    let fields = Fields::parse(node, "ignore", &names)?;
    let reason = |(name, node): &(String, Node)| {
        let reason = text(node, "a reason")?;
        if !reason.contains(char::is_alphanumeric) {
            return Err(line_error(node, RuleProblem::NoReason));
        }
        Ok((name.clone(), reason.to_owned()))
    };
    fields.0.iter().map(reason).collect()
}

/// The fields of a mapping, checked for unknown and repeated names.
struct Fields<'a>(&'a [(String, Node)]);

impl<'a> Fields<'a> {
    fn parse(node: &'a Node, field: &'static str, names: &[&'static str]) -> ParseResult<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => return Err(type_error(node, field, "a mapping")),
        };
        for (i, (name, value)) in entries.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let (found, valid) = (name.clone(), names.join(", "));
                return Err(line_error(value, RuleProblem::Unknown { found, valid }));
            }
            if entries[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(line_error(value, RuleProblem::Duplicate(name.clone())));
            }
        }
        Ok(Self(entries))
    }

    /// Returns the value of a field; `None` if the field is missing or null.
    fn get(&self, name: &str) -> Option<&'a Node> {
        let entry = self.0.iter().find(|(field, _)| field == name);
        entry
            .map(|(_, node)| node)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    fn text(&self, name: &'static str) -> ParseResult<Option<&'a str>> {
        self.get(name).map(|node| text(node, name)).transpose()
    }

    fn boolean(&self, name: &'static str) -> ParseResult<Option<bool>> {
        let value = self.get(name).map(|node| match &node.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(type_error(node, name, "true or false")),
        });
        value.transpose()
    }

    /// Like [`Self::list_of`], but an empty list or null is an error: it would have the same effect as no field.
    fn nonempty_list_of<T>(
        &self,
        name: &'static str,
        read: fn(&Node, &'static str) -> ParseResult<T>,
    ) -> ParseResult<Vec<T>> {
        let items = self.list_of(name, read)?;
        match self.0.iter().find(|(field, _)| field == name) {
            Some((_, node)) if items.is_empty() => Err(line_error(node, RuleProblem::Empty(name))),
            _ => Ok(items),
        }
    }

    /// Returns the items of a list. A single value counts as a list of one, and a missing or null field as an empty
    /// list.
    fn list_of<T>(
        &self,
        name: &'static str,
        read: fn(&Node, &'static str) -> ParseResult<T>,
    ) -> ParseResult<Vec<T>> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(node) => match &node.value {
                Value::List(items) => items.iter().map(|item| read(item, name)).collect(),
                _ => Ok(vec![read(node, name)?]),
            },
        }
    }
}

fn text<'a>(node: &'a Node, field: &'static str) -> ParseResult<&'a str> {
    match &node.value {
        Value::Text(text) if !text.is_empty() => Ok(text),
        _ => Err(type_error(node, field, "a string")),
    }
}

fn list<'a>(node: &'a Node, field: &'static str) -> ParseResult<&'a [Node]> {
    match &node.value {
        Value::List(items) => Ok(items),
        _ => Err(type_error(node, field, "a list")),
    }
}

fn type_error(node: &Node, field: &'static str, expected: &'static str) -> RulesError {
    let found = match &node.value {
        Value::Text(text) if text.is_empty() => "empty",
        _ => node.kind(),
    };
    line_error(
        node,
        RuleProblem::Kind {
            field,
            expected,
            found,
        },
    )
}

fn line_error(node: &Node, problem: RuleProblem) -> RulesError {
    RulesError::Line {
        line: node.line,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    fn error_text(text: &str) -> String {
        match parse(text.as_bytes()) {
            Ok(rules) => format!("{} rules", rules.0.len()),
            Err(error) => shared::error_chain(&error),
        }
    }

    /// Attack: a committer adds thousands of rules, each of which is compared with each file, to keep commands busy.
    #[test]
    fn refuses_more_rules_than_the_maximum() {
        let rules = |count| format!("rules:\n{}", "- path: a\n".repeat(count));
        assert!(parse(rules(1000).as_bytes()).is_ok());
        let error = error_text(&rules(1001));
        assert!(
            error.contains("line 1002") && error.contains("more than the limit of 1000 rules"),
            "{error}"
        );
    }

    /// Attack: a committer gives the controller a name or namespace that leads the user's requests to another path of
    /// the API server.
    #[test]
    fn refuses_names_of_a_controller_that_no_service_can_have() {
        for (field, name) in [
            ("namespace", "kube-system/secrets/x?"),
            ("namespace", "a/../b"),
            ("name", "x?a=b"),
            ("name", ".."),
        ] {
            let rules = format!("rules:\n- path: a\n  controller: {{{field}: \"{name}\"}}\n");
            let error = error_text(&rules);
            let want = format!("line 3: {field} of the controller:");
            assert!(error.contains(&want), "{name}: {error}");
        }
    }

    #[test]
    fn reads_the_fields_of_a_rule() {
        let text = format!(
            "rules:\n- path: prod/**\n  certificate: c.pem\n  fingerprint: {PIN}\n  retired: [{PIN}]\n  \
             namespace: shop\n  scope: strict\n  allowedScopes: [strict, namespace-wide]\n  keySize: 4096\n\
             - path: dev/\n  context: dev\n  controller: {{name: sealer, namespace: ops}}\n"
        );
        let Rules(rules) = parse(text.as_bytes()).unwrap();
        let [prod, dev] = rules.as_slice() else {
            unreachable!("two rules")
        };
        assert_eq!((prod.number, prod.line, dev.line), (1, 2, 10));
        assert_eq!(prod.certificate, Some(Source::At("c.pem".into())));
        assert_eq!((prod.fingerprints.len(), prod.retired.len()), (1, 1));
        assert_eq!(prod.namespace.as_deref(), Some("shop"));
        assert_eq!(prod.allowed_scopes, [Scope::Strict, Scope::NamespaceWide]);
        assert_eq!(
            (prod.scope, prod.key_size),
            (Some(Scope::Strict), Some(4096))
        );
        let Some(Source::Controller { context, name, .. }) = &dev.certificate else {
            unreachable!("a controller")
        };
        assert_eq!(
            (context.as_deref(), name.as_deref()),
            (Some("dev"), Some("sealer"))
        );
    }

    #[test]
    fn reads_the_fields_of_v2() {
        let id = "1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04";
        let text = format!(
            "rules:\n- path: a\n  format: v2\n  recipients: [cluster, c.pem]\n  fingerprint: [{PIN}, {id}]\n  \
             retired: {id}\n  allowClassical: true\n  neverSecret: true\n- path: b\n"
        );
        let Rules(rules) = parse(text.as_bytes()).unwrap();
        let [v2, other] = rules.as_slice() else {
            unreachable!("two rules")
        };
        let recipients: Vec<String> = v2.recipients.iter().map(ToString::to_string).collect();
        assert_eq!(recipients, ["cluster", "c.pem"]);
        assert_eq!(v2.pin_texts(), [PIN, id]);
        assert_eq!(v2.retired_texts(), [id]);
        assert!(v2.allow_classical && v2.bind_template && v2.never_secret);
        assert!(!other.never_secret);
        assert_eq!((v2.format, other.format), (Some(SealedFormat::V2), None));
    }

    #[test]
    fn the_first_matching_rule_applies() {
        let text = "rules: [{path: prod/**}, {path: '*.json'}, {path: a/*/x.yaml}, {path: dev/}, {path: '{p,q}/*'}]";
        let rules = parse(text.as_bytes()).unwrap();
        for (path, want) in [
            ("prod/a.yaml", Some(1)),
            ("prod/a/b.json", Some(1)),
            ("production/a.yaml", None),
            ("a/b/c.json", Some(2)),
            ("c.json", Some(2)),
            ("a/b/x.yaml", Some(3)),
            ("a/b/c/x.yaml", None),
            ("dev/a/b.yaml", Some(4)),
            ("q/a.yaml", Some(5)),
            ("q/r/a.yaml", None),
        ] {
            assert_eq!(rules.for_path(path).map(|r| r.number), want, "{path}");
        }
    }

    #[test]
    fn the_reference_page_names_every_field_and_its_example_is_valid() {
        let page = include_str!("../../../docs/seal-yaml.md");
        let example = page.split("```yaml\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        assert_eq!(parse(example.as_bytes()).unwrap().0.len(), 3);
        for field in RULE_FIELDS {
            assert!(page.contains(&format!("\n| `{field}` |")), "{field}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn errors_name_the_line_and_the_problem() {
        for (text, want) in [
            ("", "0 rules"),
            ("rules:\n", "0 rules"),
            (
                "rule: []\n",
                "line 1: unknown field \"rule\"\nhint: valid fields: rules",
            ),
            ("[a]", "line 1: the file must be a mapping, not a list"),
            ("rules: {}", "line 1: rules must be a list, not a mapping"),
            ("rules:\n- scope: strict\n", "line 2: a rule needs a path"),
            (
                "rules:\n- path: ''\n",
                "line 2: path must be a string, not empty",
            ),
            (
                "rules:\n- path: 'a{'\n",
                "line 2: the path is not a valid pattern: ",
            ),
            (
                "rules:\n- path: a\n  Scope: strict\n",
                "line 3: unknown field \"Scope\"",
            ),
            (
                "rules:\n- path: a\n  path: b\n",
                "line 3: duplicate field \"path\"",
            ),
            (
                "rules:\n- path: a\n  scope: wide\n",
                "line 3: scope: must be one of: strict, ",
            ),
            (
                "rules:\n- path: a\n  scope: cluster-wide\n  allowedScopes: strict\n",
                "line 2: `scope` is cluster-wide, which",
            ),
            (
                "rules:\n- path: a\n  fingerprint: abc\n",
                "line 3: fingerprint: invalid fingerprint",
            ),
            (
                "rules:\n- path: a\n  fingerprint: []\n",
                "line 3: fingerprint is empty\nhint: add",
            ),
            (
                "rules:\n- path: a\n  fingerprint: ~\n",
                "line 3: fingerprint is empty\nhint: add",
            ),
            (
                "rules:\n- path: a\n  allowedScopes: []\n",
                "line 3: allowedScopes is empty\nhint: add",
            ),
            (
                "rules:\n- path: a\n  certificate: c\n  context: d\n",
                "line 2: the rule has both",
            ),
            (
                "rules:\n- path: a\n  ignore: {scope: ' '}\n",
                "line 3: the reason is empty",
            ),
            (
                "rules:\n- path: a\n  ignore:\n    scope: \"\\u00a0\\t\"\n",
                "line 4: the reason is empty",
            ),
            (
                "rules:\n- path: a\n  ignore: {plain-secret: '--', scope: fine}\n",
                "line 3: the reason is empty",
            ),
            (
                "rules:\n- path: a\n  ignore: {scope: ''}\n",
                "line 3: a reason must be a string, not empty",
            ),
            (
                "rules:\n- path: a\n  ignore: {rules-file: why}\n",
                "line 3: unknown field \"rules-file\"",
            ),
            (
                "rules:\n- path: a\n  rotateBy: 2027-03-01\n",
                "line 3: rotateBy must be a number of days from 1 to 36500, such as 90d",
            ),
            (
                "rules:\n- path: a\n  rotateBy: 90\n",
                "line 3: rotateBy must be a number of days with its unit, such as 90d",
            ),
            (
                "rules:\n- path: a\n  keySize: 1024\n",
                "line 3: keySize must be a number of bits",
            ),
            (
                "rules:\n- path: a\n  namespace: Bad_NS\n",
                "line 3: \"Bad_NS\" is not a valid namespace: use at most 63 lowercase letters, digits and `-`, with a \
                 letter or digit at both ends",
            ),
            (
                "rules:\n- path: a\n  namespace: [x]\n",
                "line 3: namespace must be a string, not a list",
            ),
            (
                "rules:\n- path: a\n  format: v3\n",
                "line 3: format: unknown format: must be v1 or v2",
            ),
            (
                "rules:\n- path: a\n  recipients: [cluster]\n",
                "line 3: recipients has no effect on values sealed as v1\nhint: add `format: v2`",
            ),
            (
                "rules:\n- path: a\n  format: v1\n  bindTemplate: true\n",
                "line 4: bindTemplate has no effect",
            ),
            (
                "rules:\n- path: a\n  neverSecret: true\n",
                "line 3: neverSecret has no effect on values sealed as v1\nhint: add `format: v2`",
            ),
            (
                "rules:\n- path: a\n  format: v2\n  bindTemplate: 'no'\n",
                "line 4: bindTemplate must be true or false, not a string",
            ),
            (
                "rules:\n- path: a\n  format: v2\n  recipients: []\n",
                "line 4: recipients is empty\nhint: add",
            ),
            (
                "rules:\n- path: a\n  format: v2\n  recipients:\n  - cluster\n  - cluster\n",
                "line 6: recipients: the same recipient is listed twice",
            ),
            (
                "rules:\n- path: a\n  format: v2\n  recipients: [age1abc]\n",
                "line 4: recipients: only post-quantum age recipients",
            ),
            (
                "rules:\n- path: a\n  format: v2\n  recipients: ['seal2-key xw AAAA']\n",
                "line 4: recipients: this is a private key\nhint: remove it",
            ),
            ("a: b\n---\na: b\n", "the file contains 2 documents"),
            ("a: [", "document 1, line 2: malformed YAML"),
        ] {
            let actual = error_text(text);
            assert!(actual.starts_with(want), "{text:?}: {actual}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn never_panics_on_rules_like_text(
            field in "(path|scope|retired|keySize|context|controller)", value in "[ \\n:{}\\[\\]\"'*?!a0,/-]{0,30}"
        ) {
            let _ = parse(format!("rules:\n- path: a\n  {field}: {value}\n").as_bytes());
        }

        #[test]
        fn a_path_without_wildcards_matches_only_itself(path in "[a-z]{1,5}(/[a-z]{1,5}){1,3}", other in "[A-Z]{1,5}/[A-Z]") {
            let rules = parse(format!("rules: [{{path: \"{path}\"}}]").as_bytes()).unwrap();
            proptest::prop_assert!(rules.for_path(&path).is_some());
            proptest::prop_assert!(rules.for_path(&other).is_none());
        }
    }
}
