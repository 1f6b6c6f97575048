//! Checks one object, without I/O.

use std::collections::HashSet;

use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use jiff::civil::Date;
use kubeseal_library::finding::{self, Rule};
use shared::hints::Hints;
use shared::key::{Certificate, Fingerprint};
use shared::key_ring::KeyRing;
use shared::key_secret::{has_key_label, is_named_like_key};
use shared::manifest::{Coercion, Node, Reading, Value};
use shared::needs::{Need, needs};
use shared::resource::SealedSecret;
use shared::scope::{CLUSTER_WIDE_ANNOTATION, NAMESPACE_WIDE_ANNOTATION, Scope};
use shared::secret_types::check_names;
use shared::v2::key_secret;
use template::Template;

use super::placeholder::{has_more_than_actions, is_templated};
use super::{rotate_by, v2, v2_keys, v2_trials};
use crate::seal::object::{Form, Item, Object, item_nodes, items, sealed_nodes};
use crate::seal::recipients::KnownRecipients;
use crate::seal::requirements;
use crate::seal::settings::Settings;
use shared::names;

/// The rule, the line and the message of a finding.
pub(super) type FindingInFile = (Rule, usize, String);

/// The settings, certificate and keys that a SealedSecret is checked against.
#[derive(Clone, Copy)]
pub(super) struct CheckContext<'a> {
    /// The settings for the file of the SealedSecret.
    pub(super) settings: &'a Settings,
    /// The certificate for that file, if available without a network.
    pub(super) certificate: Option<&'a Certificate>,
    /// The private keys of `--keys`, if given.
    pub(super) ring: Option<&'a KeyRing>,
    /// The recipients of v2 values, as far as known without a network.
    pub(super) recipients: &'a KnownRecipients,
    /// The date in UTC.
    pub(super) today: Date,
}

/// The numbers of items that could not be checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct UncheckedItems {
    /// Items whose key is unknown: a template outputs their value, or they have no hint and no key of `--keys` can
    /// unseal them.
    pub(super) unknown: usize,
    /// Items that cannot be compared with a certificate, because none is available.
    pub(super) uncompared: usize,
    /// v2 items with recipients that cannot be compared with a rule.
    pub(super) recipients: usize,
    /// v2 items that no key of `--keys` can be tried on.
    pub(super) untried: usize,
}

impl UncheckedItems {
    /// Adds the numbers of another object.
    pub(super) fn add(&mut self, other: Self) {
        self.unknown += other.unknown;
        self.uncompared += other.uncompared;
        self.recipients += other.recipients;
        self.untried += other.untried;
    }
}

/// Checks a SealedSecret, and returns its findings and the numbers of items that could not be checked.
pub(super) fn sealed_secret(
    node: &Node,
    context: CheckContext<'_>,
) -> (Vec<FindingInFile>, UncheckedItems) {
    let object = match Object::read_leniently(node) {
        Ok(object) => object,
        Err(error) => {
            let message = shared::error_chain(error.as_ref());
            let findings = vec![(finding::MALFORMED_OBJECT, node.line, message)];
            return (findings, UncheckedItems::default());
        }
    };
    let mut unchecked = UncheckedItems::default();
    let mut findings = unknown_fields(node);
    findings.extend(check_object_names(&object));
    findings.extend(scope_findings(node, &object));
    findings.extend(unquoted(node));
    findings.extend(check_templates(node, &object));
    findings.extend(check_type(&object));
    findings.extend(check_controller_key(&object));
    let too_large = requirements::sealed_size_warning(&object.sealed.spec);
    findings.extend(too_large.map(|message| (finding::SIZE, object.line, message)));
    findings.extend(check_rules(&object, context.settings));
    findings.extend(check_item_keys(node, &object));
    findings.extend(values(node, &object, context, &mut unchecked, is_action));
    findings.extend(v2::findings(node, &object, context));
    findings.extend(check_delivery(&object));
    unchecked.recipients += v2_keys::count_uncompared(&object, context);
    if let Some(ring) = context.ring {
        let (closed, untried) = v2_trials::findings(&object, ring);
        findings.extend(closed);
        unchecked.untried += untried;
    }
    for key in object
        .hints
        .keys()
        .filter(|key| !object.texts().contains_key(*key))
    {
        let message = format!("a key hint names {key}, but no such item exists");
        findings.push((finding::STALE_HINT, object.line, message));
    }
    findings.extend(rotate_by::findings(node, &object, context.today));
    if object.sealed.spec.data.is_some() {
        let message = "spec.data is deprecated, and some controllers do not unseal it; \
                        convert it to items with `kubeseal --re-encrypt`";
        findings.push((finding::DEPRECATED, object.line, message.into()));
    }
    (findings, unchecked)
}

/// Checks the annotation for delivery without a Secret.
fn check_delivery(object: &Object) -> Option<FindingInFile> {
    let is_never_secret = matches!(&object.v2, Some(Ok(v2)) if v2.is_never_secret());
    let annotations = object.sealed.metadata.annotations.as_ref();
    let value = annotations.and_then(|annotations| annotations.get(DELIVER_ANNOTATION));
    let (rule, message) = match value {
        Some(value) if value != DELIVER_FILES => (finding::DELIVER_VALUE, unknown_value(value)),
        Some(_) if !is_never_secret => (finding::DELIVER, only_annotation()),
        // If no Secret is created anyway, the annotation of the template is harmless, and removing it would invalidate
        // values that are bound to the template.
        None if !is_never_secret && is_template_delivered(object) => {
            (finding::DELIVER_VALUE, without_effect())
        }
        _ => return None,
    };
    Some((rule, object.line, message))
}

fn is_template_delivered(object: &Object) -> bool {
    let annotations = object.sealed.spec.template.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(DELIVER_ANNOTATION))
}

fn unknown_value(value: &str) -> String {
    format!(
        "the annotation {DELIVER_ANNOTATION} has the value {value:?}, so the controller refuses the object; the only \
         valid value is {DELIVER_FILES:?}"
    )
}

fn only_annotation() -> String {
    format!(
        "only the annotation {DELIVER_ANNOTATION} prevents the creation of a Secret: every author of the object can remove it, and \
         Bitnami's controller ignores it and creates the Secret"
    )
}

fn without_effect() -> String {
    format!(
        "the annotation {DELIVER_ANNOTATION} has no effect in spec.template.metadata.annotations, so the controller \
         creates a Secret; add it to metadata.annotations of the SealedSecret"
    )
}

/// Returns a finding for an object that contains a private key of a controller: anyone who can unseal the object can
/// then unseal every value that is sealed for this key.
fn check_controller_key(object: &Object) -> Option<FindingInFile> {
    let spec = &object.sealed.spec;
    let labels = spec.template.metadata.labels.iter().flatten();
    let has = |items: &[&str]| {
        items
            .iter()
            .all(|item| spec.encrypted_data.contains_key(*item))
    };
    let type_ = spec.template.type_.as_deref();
    let has_item = |item: &str| has(&[item]);
    let is_unlabeled = is_named_like_key(object.sealed.name_or_empty(), type_, has_item)
        || has(&[key_secret::PRIVATE_KEY_ITEM, key_secret::RECIPIENT_ITEM]);
    if !has_key_label(labels.map(|(name, _)| name)) && !is_unlabeled {
        return None;
    }
    let message = format!(
        "{} contains a private key of the controller: anyone who can unseal it can then unseal every value that is sealed \
         for this key; remove it, and keep the key in an archive of `seal keys backup`; if it was committed, run \
         `seal keys compromise`, renew the key, and change these values",
        object.sealed.qualified_name()
    );
    Some((finding::SEALED_KEY, object.line, message))
}

/// Checks a SealedSecret of a template that was read with placeholders. Only its values and the names of its fields are
/// known: names, scope and the set of items may depend on the branches of the template.
pub(super) fn unrendered(
    node: &Node,
    context: CheckContext<'_>,
) -> (Vec<FindingInFile>, UncheckedItems) {
    let mut unchecked = UncheckedItems::default();
    let mut findings = unknown_fields(node);
    match Object::read_leniently(node) {
        Ok(object) => {
            findings.extend(values(node, &object, context, &mut unchecked, is_unknown));
            // The place and the template of the object are unknown.
            let is_tried = context.ring.is_some();
            unchecked.untried += v2_trials::count(&object) * usize::from(is_tried);
        }
        Err(_) => findings.extend(malformed_values(node)),
    }
    (findings, unchecked)
}

/// Returns findings for values that are not sealed values, in an object with a field of the wrong type, such as a field
/// that a template action outputs.
fn malformed_values(node: &Node) -> Vec<FindingInFile> {
    let spec = node.field("spec");
    let data = spec.and_then(|spec| spec.field("encryptedData"));
    let Some(data) = data.filter(|data| !is_unknown(data)) else {
        return Vec::new();
    };
    if !matches!(data.value, Value::Map(_)) {
        let message = format!("spec.encryptedData must be a mapping, not {}", data.kind());
        return vec![(finding::MALFORMED_OBJECT, data.line, message)];
    }
    let items = items(node, &Hints::default(), None).into_iter();
    let malformed = items.zip(item_nodes(node)).filter_map(|(item, (_, node))| {
        let why = match &item.form {
            _ if is_unknown(node) => return None,
            // Without the whole object, the locks of a v2 value are unknown.
            Form::Bits(_) | Form::V2(_) | Form::MalformedV2 => return None,
            Form::NotString => "is not a string".to_owned(),
            Form::NotSealed(why) => format!("is {why}; seal it again"),
        };
        let message = format!("the value of {} {why}", item.key);
        Some((finding::MALFORMED_VALUE, item.line, message))
    });
    malformed.collect()
}

/// Returns findings for numbers and booleans where the API server accepts only strings. The scope annotations have
/// their own rule.
fn unquoted(node: &Node) -> Vec<FindingInFile> {
    let mut reading = Reading::default();
    let _ = SealedSecret::from_node_leniently(node, &mut reading);
    let is_scope = |path: &str| {
        [NAMESPACE_WIDE_ANNOTATION, CLUSTER_WIDE_ANNOTATION]
            .iter()
            .any(|name| path.strip_prefix("metadata.annotations.") == Some(name))
    };
    let converted = reading.converted.into_iter();
    let converted = converted.filter(|scalar| !is_scope(&scalar.path));
    let findings = converted.map(|Coercion { line, path, kind }| {
        let message =
            format!("{path} must be a quoted string: the API server does not accept {kind}");
        (finding::MALFORMED_OBJECT, line, message)
    });
    findings.collect()
}

/// Returns a finding for each duplicate item and each invalid item key.
fn check_item_keys(node: &Node, object: &Object) -> Vec<FindingInFile> {
    let (mut seen, mut findings) = (HashSet::new(), Vec::new());
    for (key, node) in sealed_nodes(node) {
        if !seen.insert(key) {
            let message = format!("duplicate item {key}; only this one is used");
            findings.push((finding::DUPLICATE_ITEM, node.line, message));
        }
    }
    for item in &object.items {
        if !is_templated(&item.key)
            && let Err(error) = names::check_item(&item.key)
        {
            findings.push((finding::NAME, item.line, error.to_string()));
        }
    }
    findings
}

/// Returns whether a value consists of actions of a template.
fn is_action(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if is_templated(text) && !has_more_than_actions(text))
}

/// Like [`is_action`], in a template that was read with placeholders: an action that fills a whole line has no
/// placeholder.
fn is_unknown(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => !has_more_than_actions(text),
        _ => false,
    }
}

/// Returns the findings about the form and the key of each sealed v1 value. Values that a template outputs are only
/// counted.
fn values(
    node: &Node,
    object: &Object,
    context: CheckContext<'_>,
    unchecked: &mut UncheckedItems,
    is_output: fn(&Node) -> bool,
) -> Vec<FindingInFile> {
    let needs = context.ring.map(|ring| needs(&object.sealed, ring));
    let mut findings = Vec::new();
    for (item, (_, node)) in object.items.iter().zip(item_nodes(node)) {
        if is_output(node) {
            unchecked.unknown += 1;
            continue;
        }
        if let Form::V2(_) | Form::MalformedV2 = item.form {
            // v2 values have separate checks.
            continue;
        }
        let form = check_form(item, context);
        let has_form_finding = form.is_some();
        if let Some((rule, message)) = form {
            findings.push((rule, item.line, message));
            if rule != finding::KEY_SIZE {
                continue;
            }
        }
        match check_key(
            item,
            needs.as_ref().and_then(|needs| needs.get(&item.key)),
            context,
        ) {
            Verdict::Right => {}
            Verdict::Wrong(rule, message) => findings.push((rule, item.line, message)),
            Verdict::Unknown | Verdict::Uncompared if has_form_finding => {}
            Verdict::Unknown => unchecked.unknown += 1,
            Verdict::Uncompared => unchecked.uncompared += 1,
        }
    }
    findings
}

fn check_form(item: &Item, context: CheckContext<'_>) -> Option<(Rule, String)> {
    let key = &item.key;
    let malformed = |problem: &str| {
        Some((
            finding::MALFORMED_VALUE,
            format!("the value of {key} {problem}"),
        ))
    };
    let bits = match &item.form {
        Form::NotString => return malformed("is not a string"),
        Form::NotSealed(why) => return malformed(&format!("is {why}; seal it again")),
        Form::Bits(bits) => *bits,
        Form::V2(_) | Form::MalformedV2 => return None,
    };
    let required_bits = context
        .certificate
        .map(|c| c.public_key().modulus_len() * 8);
    if let Some(required_bits) = required_bits.filter(|required_bits| *required_bits != bits) {
        let message = format!(
            "{key} is sealed for a key of {bits} bits, but the certificate has {required_bits}"
        );
        return Some((finding::KEY_SIZE, message));
    }
    let rule = context.settings.rule.as_ref()?;
    let min_bits = rule.key_size.filter(|min_bits| *min_bits > bits)?;
    let message = format!(
        "{key} is sealed for a key of {bits} bits, but {} requires at least {min_bits}",
        rule.describe()
    );
    Some((finding::KEY_SIZE, message))
}

/// Whether an item is sealed for the right key.
enum Verdict {
    Right,
    Wrong(Rule, String),
    Unknown,
    Uncompared,
}

/// Compares the key that an item is sealed for with the certificate and the retired keys. A key that can unseal the
/// item is proof. A hint is only advice: the message then contains "according to its hint", and does not claim that the
/// item can be unsealed.
fn check_key(item: &Item, need: Option<&Need>, context: CheckContext<'_>) -> Verdict {
    let (key, current) = (&item.key, context.certificate.map(Certificate::fingerprint));
    let (sealed_for, source) = match (need, &item.hint) {
        (Some(Need::Key(opened)), _) => (opened, "according to a key of --keys,"),
        (Some(Need::Undecided(_)), _) if is_among(current, context.ring) => {
            let message =
                format!("no key of --keys can unseal {key}, not even the key of the certificate");
            return Verdict::Wrong(finding::CLOSED_ITEM, message);
        }
        (_, Some(hint)) => (hint, "according to its hint,"),
        (_, None) => return Verdict::Unknown,
    };
    if context.settings.is_retired(sealed_for) {
        let message = format!(
            "{source} {key} is sealed for the retired key {sealed_for}; re-encrypt it with `seal rotate`"
        );
        return Verdict::Wrong(finding::RETIRED_KEY, message);
    }
    match current {
        None if matches!(need, Some(Need::Key(_))) => Verdict::Right,
        None => Verdict::Uncompared,
        Some(current) if current == sealed_for => Verdict::Right,
        Some(current) => {
            let message = format!(
                "{source} {key} is sealed for {sealed_for}, but the certificate is {current}"
            );
            Verdict::Wrong(finding::OTHER_KEY, message)
        }
    }
}

fn is_among(key: Option<&Fingerprint>, ring: Option<&KeyRing>) -> bool {
    let keys = ring.into_iter().flat_map(KeyRing::keys);
    key.is_some_and(|key| keys.into_iter().any(|other| other.fingerprint() == key))
}

fn check_object_names(object: &Object) -> Vec<FindingInFile> {
    let line = object.line;
    let mut findings = Vec::new();
    let (name, namespace) = (
        object.sealed.name_or_empty(),
        object.sealed.namespace_or_empty(),
    );
    if name.is_empty() {
        findings.push((
            finding::NO_NAME,
            line,
            "the SealedSecret has no metadata.name".into(),
        ));
    } else if let (false, Err(error)) = (is_templated(name), names::check_object(name)) {
        findings.push((finding::NAME, line, error.to_string()));
    }
    if namespace.is_empty() && object.scope != Scope::ClusterWide {
        let message = format!(
            "{name} has no namespace, which its scope ({}) requires",
            object.scope
        );
        findings.push((finding::NO_NAMESPACE, line, message));
    } else if !namespace.is_empty()
        && !is_templated(namespace)
        && names::check_namespace(namespace).is_err()
    {
        let error = names::NameError::Namespace(namespace.to_owned());
        findings.push((finding::NAME, line, error.to_string()));
    }
    let template = &object.sealed.spec.template.metadata;
    for (property, template_value, object_value) in [
        ("name", template.name.as_deref(), name),
        ("namespace", template.namespace.as_deref(), namespace),
    ] {
        let differs =
            |value: &&str| !value.is_empty() && !object_value.is_empty() && *value != object_value;
        let is_rendered = |value: &&str| !is_templated(value) && !is_templated(object_value);
        if let Some(value) = template_value.filter(|value| differs(value) && is_rendered(value)) {
            let message = format!(
                "the template has the {property} {value:?}, but the Secret gets the {property} of the object, \
                 {object_value:?}"
            );
            findings.push((finding::TEMPLATE_NAME, line, message));
        }
    }
    findings
}

fn scope_findings(node: &Node, object: &Object) -> Vec<FindingInFile> {
    let annotations = node.field("metadata").and_then(|m| m.field("annotations"));
    let annotation = |name: &str| {
        let Value::Map(entries) = &annotations?.value else {
            return None;
        };
        entries
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, node)| node)
    };
    let mut findings = Vec::new();
    let wide_annotations = [NAMESPACE_WIDE_ANNOTATION, CLUSTER_WIDE_ANNOTATION];
    for name in wide_annotations {
        let Some(node) = annotation(name) else {
            continue;
        };
        let is = |word: &str| matches!(&node.value, Value::Text(text) if text.as_str() == word);
        if matches!(&node.value, Value::Text(text) if is_templated(text)) {
            continue;
        }
        if matches!(node.value, Value::Bool(_)) {
            let message = format!(
                "{name} must be the quoted string \"true\": the API server does not accept a boolean"
            );
            findings.push((finding::SCOPE, node.line, message));
        } else if !is("true") && !is("false") {
            let message =
                format!("{name} has an effect only if it is \"true\"; this value means strict");
            findings.push((finding::SCOPE, node.line, message));
        }
    }
    if wide_annotations.iter().all(|name| {
        annotation(name).is_some_and(|n| matches!(&n.value, Value::Text(t) if t.as_str() == "true"))
    }) {
        let message =
            "both scope annotations are set, and cluster-wide takes precedence; remove one";
        findings.push((finding::SCOPE, object.line, message.into()));
    }
    let template = object.sealed.spec.template.metadata.annotations.as_ref();
    let template = Scope::from_annotations(template);
    if template > object.scope {
        let message = format!(
            "the template declares the scope {template}, but the object declares {}, which takes precedence",
            object.scope
        );
        findings.push((finding::SCOPE, object.line, message));
    }
    findings
}

fn check_templates(node: &Node, object: &Object) -> Vec<FindingInFile> {
    let Some(texts) = &object.sealed.spec.template.data else {
        return Vec::new();
    };
    let data = node
        .field("spec")
        .and_then(|s| s.field("template"))
        .and_then(|t| t.field("data"));
    let line = |key: &str| {
        data.and_then(|d| d.field(key))
            .map_or(object.line, |n| n.line)
    };
    let mut findings = Vec::new();
    for (key, text) in texts {
        match text.as_ref().map(|text| Template::parse(key, text)) {
            Some(Err(error)) => {
                findings.push((finding::TEMPLATE, line(key), shared::error_chain(&error)));
            }
            Some(Ok(template)) => {
                let missing = missing_items(key, &template, object);
                findings.extend(missing.map(|message| (finding::MISSING_ITEM, line(key), message)));
            }
            None => {}
        }
        if let Err(error) = names::check_item(key) {
            findings.push((finding::NAME, line(key), error.to_string()));
        }
    }
    findings
}

/// Returns a message for each item that a template inserts and that does not exist. Returns nothing if the item names
/// are unknown, because one contains a template or the object has the deprecated form.
fn missing_items(key: &str, template: &Template, object: &Object) -> impl Iterator<Item = String> {
    let items = &object.sealed.spec.encrypted_data;
    // A template can also insert the other templates of the object, before they are rendered.
    let texts = object.sealed.spec.template.data.as_ref();
    let has = move |name: &str| {
        items.contains_key(name) || texts.is_some_and(|texts| texts.contains_key(name))
    };
    let is_known =
        object.sealed.spec.data.is_none() && !items.keys().any(|item| is_templated(item));
    let fields = template.inserted_fields();
    let missing = fields
        .into_iter()
        .filter(move |(name, _)| is_known && !has(name));
    missing.map(move |(name, line)| {
        let near = most_similar(&name, items.keys()).map_or_else(String::new, |item| {
            format!("; did you mean {item}?")
        });
        format!("the template {key}, line {line}, inserts .{name}, but no sealed item {name} exists{near}")
    })
}

/// Returns the item with the most similar name; `None` if no name is similar enough.
fn most_similar<'a>(name: &str, items: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let scored = items.map(|item| (strsim::jaro_winkler(name, item), item));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > 0.7)
        .map(|(_, item)| item)
}

/// Checks that the object has the items that its type requires, as the API server does. The deprecated form is not
/// checked, because its item names are sealed.
fn check_type(object: &Object) -> Option<FindingInFile> {
    let spec = &object.sealed.spec;
    let (items, texts) = (&spec.encrypted_data, spec.template.data.as_ref());
    let has = |name: &str| match texts.and_then(|texts| texts.get(name)) {
        Some(text) => text.is_some(),
        None => items.contains_key(name),
    };
    let missing = check_names(spec.template.type_.as_deref(), has).err();
    let missing = missing.filter(|_| spec.data.is_none())?;
    Some((finding::INCOMPLETE_TYPE, object.line, missing.to_string()))
}

fn check_rules(object: &Object, settings: &Settings) -> Vec<FindingInFile> {
    let namespace = object.sealed.namespace_or_empty();
    let broken = [
        settings.check_scope(object.scope),
        // A namespace with a template is not known before it is rendered.
        settings.check_namespace(if is_templated(namespace) {
            ""
        } else {
            namespace
        }),
    ];
    let broken = broken.into_iter().filter_map(Result::err);
    broken
        .map(|error| (finding::BROKEN_RULE, object.line, error.to_string()))
        .collect()
}

/// Returns a finding for each unknown field. `metadata` is not checked: the API server does that.
fn unknown_fields(node: &Node) -> Vec<FindingInFile> {
    let mut findings = Vec::new();
    let mut check = |node: Option<&Node>, path: &str, known_fields: &[&str]| {
        let Some(Value::Map(entries)) = node.map(|node| &node.value) else {
            return;
        };
        for (key, node) in entries
            .iter()
            .filter(|(key, _)| !known_fields.contains(&key.as_str()) && !is_templated(key))
        {
            let hint = match key.as_str() {
                "stringData" | "data" if path.is_empty() => {
                    "; sealed values belong in spec.encryptedData"
                }
                "stringData" => "; plain text and templates belong in spec.template.data",
                _ => "",
            };
            let message = format!("unknown field {path}{key}, which is dropped{hint}");
            findings.push((finding::UNKNOWN_FIELD, node.line, message));
        }
    };
    let spec = node.field("spec");
    check(
        Some(node),
        "",
        &["apiVersion", "kind", "metadata", "spec", "status"],
    );
    check(spec, "spec.", &["template", "data", "encryptedData"]);
    let template = spec.and_then(|spec| spec.field("template"));
    check(
        template,
        "spec.template.",
        &["metadata", "type", "immutable", "data"],
    );
    findings
}

#[cfg(test)]
mod tests {
    use shared::manifest;
    use shared::plain::Plain;
    use shared::resource::SealedSecretSpec;
    use shared::v2::{self as format, LockSpec, Place, SecretKey, Suite, Value as SealedValue};

    use super::*;

    /// Returns an object with these values of the annotation for delivery, on itself and on its template. With
    /// `is_never_secret`, the object has a v2 value that must never become a Secret.
    fn object(own: Option<&str>, template: Option<&str>, is_never_secret: bool) -> Object {
        let annotation = |value: Option<&str>| {
            value.map(|value| [(DELIVER_ANNOTATION.to_owned(), value.to_owned())].into())
        };
        let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
        sealed.metadata.namespace = Some("shop".to_owned());
        sealed.metadata.annotations = annotation(own);
        sealed.spec.template.metadata.annotations = annotation(template);
        if is_never_secret {
            sealed.spec.encrypted_data = v2_entries();
        }
        let text = manifest::to_yaml(&sealed.to_document());
        let documents = manifest::read(text.as_bytes()).unwrap();
        Object::read(&documents[0].root).unwrap()
    }

    fn v2_entries() -> std::collections::BTreeMap<String, String> {
        let rng = &mut shared::random::system();
        let key = SecretKey::from_bytes(Suite::P256, &[1; 32]).unwrap();
        let spec = LockSpec {
            place: &Place::for_sealing(Scope::Strict, "shop", "db").unwrap(),
            recipients: &[&key.recipient()],
            allow_classical: false,
            template: None,
            is_never_secret: true,
            is_alone: false,
            revision: 1,
        };
        let value = SealedValue::new(Plain::from("x".to_owned()), rng);
        format::seal(&spec, &[("a".to_owned(), value)].into(), rng).unwrap()
    }

    #[test]
    fn reports_how_an_object_requests_that_no_secret_is_created() {
        let (note, error) = (Some(finding::DELIVER), Some(finding::DELIVER_VALUE));
        for (own, template, is_never_secret, want) in [
            (None, None, false, None),
            (None, None, true, None),
            (Some("files"), None, false, note),
            (Some("files"), None, true, None),
            (Some("file"), None, false, error),
            (Some("file"), None, true, error),
            (None, Some("files"), false, error),
            (None, Some("file"), false, error),
            (Some("files"), Some("files"), false, note),
            (Some("file"), Some("files"), false, error),
            // Removing the annotation would invalidate values that are bound to the template.
            (None, Some("files"), true, None),
        ] {
            let found = check_delivery(&object(own, template, is_never_secret));
            let rule = found.map(|(rule, ..)| rule);
            assert_eq!(rule, want, "{own:?}, {template:?}, {is_never_secret}");
        }
    }

    #[test]
    fn names_the_right_place_of_the_annotation() {
        let (_, _, message) = check_delivery(&object(None, Some("files"), false)).unwrap();
        assert!(
            message.contains("spec.template.metadata.annotations"),
            "{message}"
        );
        assert!(
            message.ends_with("to metadata.annotations of the SealedSecret"),
            "{message}"
        );
    }
}
