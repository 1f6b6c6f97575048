//! Checks one object, without I/O.

use std::collections::HashSet;

use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use kubeseal_library::finding::{self, Rule};
use shared::hints::Hints;
use shared::key::{Certificate, Fingerprint};
use shared::key_ring::KeyRing;
use shared::key_secret::{PRIVATE_KEY_ITEM as RSA_KEY_ITEM, has_key_label};
use shared::manifest::{Coercion, Node, Reading, Value};
use shared::needs::{Need, needs};
use shared::resource::{SealedSecret, UNLABELED_KEY_NAME};
use shared::scope::{CLUSTER_WIDE_ANNOTATION, NAMESPACE_WIDE_ANNOTATION, Scope};
use shared::secret_types::check_names;
use shared::v2::key_secret;
use template::Template;

use super::placeholder::{has_more_than_actions, is_templated};
use super::{v2, v2_keys};
use crate::seal::object::{Form, Item, Object, item_nodes, items, sealed_nodes};
use crate::seal::recipients::KnownRecipients;
use crate::seal::requirements;
use crate::seal::settings::Settings;
use shared::names;

/// The rule, the line and the message of a finding.
pub(super) type Found = (Rule, usize, String);

/// The settings, certificate and keys that a SealedSecret is checked against.
#[derive(Clone, Copy)]
pub(super) struct Against<'a> {
    /// The settings for the file of the SealedSecret.
    pub(super) settings: &'a Settings,
    /// The certificate for that file, if available without a network.
    pub(super) certificate: Option<&'a Certificate>,
    /// The private keys of `--keys`, if given.
    pub(super) ring: Option<&'a KeyRing>,
    /// The recipients of v2 values, as far as known without a network.
    pub(super) recipients: &'a KnownRecipients,
}

/// The numbers of items that could not be checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unjudged {
    /// Items without a hint that no key of `--keys` can unseal.
    pub(super) unknown: usize,
    /// Items for which there is no certificate to compare with.
    pub(super) uncompared: usize,
    /// v2 items with recipients that cannot be compared with a rule.
    pub(super) recipients: usize,
}

impl Unjudged {
    /// Adds the numbers of another object.
    pub(super) fn add(&mut self, other: Self) {
        self.unknown += other.unknown;
        self.uncompared += other.uncompared;
        self.recipients += other.recipients;
    }
}

/// Checks a SealedSecret, and returns its findings and the numbers of items that could not be checked.
pub(super) fn sealed_secret(node: &Node, against: Against<'_>) -> (Vec<Found>, Unjudged) {
    let object = match Object::read_leniently(node) {
        Ok(object) => object,
        Err(error) => {
            let message = shared::error_chain(error.as_ref());
            let found = vec![(finding::MALFORMED_OBJECT, node.line, message)];
            return (found, Unjudged::default());
        }
    };
    let mut unjudged = Unjudged::default();
    let mut found = unknown_fields(node);
    found.extend(names_of(&object));
    found.extend(scope_of(node, &object));
    found.extend(unquoted(node));
    found.extend(templates(node, &object));
    found.extend(type_of(&object));
    found.extend(key_of_controller(&object));
    let too_large = requirements::size_of_sealed(&object.sealed.spec);
    found.extend(too_large.map(|message| (finding::SIZE, object.line, message)));
    found.extend(rules(&object, against.settings));
    found.extend(item_names(node, &object));
    found.extend(values(node, &object, against, &mut unjudged, is_action));
    found.extend(v2::findings(node, &object, against));
    found.extend(delivery(&object));
    unjudged.recipients += v2_keys::uncompared(&object, against);
    for key in object
        .hints
        .keys()
        .filter(|key| !object.texts().contains_key(*key))
    {
        let message = format!("a key hint names {key}, but no such item exists");
        found.push((finding::STALE_HINT, object.line, message));
    }
    if object.sealed.spec.data.is_some() {
        let message = "spec.data is deprecated, and some controllers do not unseal it; \
                        `kubeseal --re-encrypt` converts it to items";
        found.push((finding::DEPRECATED, object.line, message.into()));
    }
    (found, unjudged)
}

/// Checks the annotation for delivery without a Secret.
fn delivery(object: &Object) -> Option<Found> {
    let annotations = object.sealed.metadata.annotations.as_ref()?;
    let value = annotations.get(DELIVER_ANNOTATION)?;
    if value != DELIVER_FILES {
        let message = format!(
            "the annotation {DELIVER_ANNOTATION} has the value {value:?}, so the controller makes a Secret; the only known \
             value is {DELIVER_FILES:?}"
        );
        return Some((finding::DELIVER_VALUE, object.line, message));
    }
    let is_never_secret = matches!(&object.v2, Some(Ok(v2)) if v2.is_never_secret());
    let message = format!(
        "no Secret is made only because of the annotation {DELIVER_ANNOTATION}: whoever edits the object can remove it, and \
         Bitnami's controller ignores it and makes the Secret"
    );
    (!is_never_secret).then_some((finding::DELIVER, object.line, message))
}

/// Returns a finding for an object that contains a private key: the key that it is sealed for opens it.
fn key_of_controller(object: &Object) -> Option<Found> {
    let spec = &object.sealed.spec;
    let labels = spec.template.metadata.labels.iter().flatten();
    let has = |items: &[&str]| {
        items
            .iter()
            .all(|item| spec.encrypted_data.contains_key(*item))
    };
    let is_unlabeled = object.sealed.name_or_empty() == UNLABELED_KEY_NAME && has(&[RSA_KEY_ITEM])
        || has(&[key_secret::PRIVATE_KEY_ITEM, key_secret::RECIPIENT_ITEM]);
    if !has_key_label(labels.map(|(name, _)| name)) && !is_unlabeled {
        return None;
    }
    let message = format!(
        "{} contains a private key of the controller: with the key that it is sealed for, every value that is sealed for it \
         can be read; remove it, keep the key in an archive of `seal keys backup`, and generate a new key if this was \
         committed",
        object.sealed.qualified_name()
    );
    Some((finding::SEALED_KEY, object.line, message))
}

/// Checks a SealedSecret of a template that was read with placeholders. Only its values and the names of its fields are
/// known: names, scope and the set of items may depend on the branches of the template.
pub(super) fn unrendered(node: &Node, against: Against<'_>) -> (Vec<Found>, Unjudged) {
    let mut unjudged = Unjudged::default();
    let mut found = unknown_fields(node);
    match Object::read_leniently(node) {
        Ok(object) => found.extend(values(node, &object, against, &mut unjudged, is_unknown)),
        Err(_) => found.extend(malformed_values(node)),
    }
    (found, unjudged)
}

/// Returns the values of an object with a field of the wrong type, such as one that an action outputs, which are no
/// sealed values.
fn malformed_values(node: &Node) -> Vec<Found> {
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
            Form::NoText => "is not a string".to_owned(),
            Form::NotSealed(why) => format!("is {why}; seal it again"),
        };
        let message = format!("the value of {} {why}", item.key);
        Some((finding::MALFORMED_VALUE, item.line, message))
    });
    malformed.collect()
}

/// Returns numbers and booleans where the API server accepts only strings. The scope annotations have their own rule.
fn unquoted(node: &Node) -> Vec<Found> {
    let mut reading = Reading::default();
    let _ = SealedSecret::from_node_leniently(node, &mut reading);
    let is_scope = |path: &str| {
        [NAMESPACE_WIDE_ANNOTATION, CLUSTER_WIDE_ANNOTATION]
            .iter()
            .any(|name| path.strip_prefix("metadata.annotations.") == Some(name))
    };
    let converted = reading.converted.into_iter();
    let converted = converted.filter(|scalar| !is_scope(&scalar.path));
    let found = converted.map(|Coercion { line, path, kind }| {
        let message =
            format!("{path} must be a quoted string: the API server does not accept {kind}");
        (finding::MALFORMED_OBJECT, line, message)
    });
    found.collect()
}

/// Returns a finding for each item that occurs again or has an invalid name.
fn item_names(node: &Node, object: &Object) -> Vec<Found> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for (key, node) in sealed_nodes(node) {
        if !seen.insert(key) {
            let message = format!("duplicate item {key}; only this one is used");
            found.push((finding::DUPLICATE_ITEM, node.line, message));
        }
    }
    for item in &object.items {
        if !is_templated(&item.key)
            && let Err(error) = names::check_item(&item.key)
        {
            found.push((finding::NAME, item.line, error.to_string()));
        }
    }
    found
}

/// Returns whether a value consists of actions of a template.
fn is_action(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if is_templated(text) && !has_more_than_actions(text))
}

/// Like [`is_action`], in a template that was read with placeholders: an action that is a whole line left no placeholder.
fn is_unknown(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => !has_more_than_actions(text),
        _ => false,
    }
}

/// Returns the findings about the form and the key of each sealed value, except those that a template outputs.
fn values(
    node: &Node,
    object: &Object,
    against: Against<'_>,
    unjudged: &mut Unjudged,
    is_output: fn(&Node) -> bool,
) -> Vec<Found> {
    let needs = against.ring.map(|ring| needs(&object.sealed, ring));
    let mut found = Vec::new();
    for (item, (_, node)) in object.items.iter().zip(item_nodes(node)) {
        if is_output(node) {
            unjudged.unknown += 1;
            continue;
        }
        if let Form::V2(_) | Form::MalformedV2 = item.form {
            // These have checks of their own.
            continue;
        }
        let form = form(item, against);
        let is_judged = form.is_some();
        if let Some((rule, message)) = form {
            found.push((rule, item.line, message));
            if rule != finding::KEY_SIZE {
                continue;
            }
        }
        match key(
            item,
            needs.as_ref().and_then(|needs| needs.get(&item.key)),
            against,
        ) {
            Verdict::Right => {}
            Verdict::Wrong(rule, message) => found.push((rule, item.line, message)),
            Verdict::Unknown | Verdict::Uncompared if is_judged => {}
            Verdict::Unknown => unjudged.unknown += 1,
            Verdict::Uncompared => unjudged.uncompared += 1,
        }
    }
    found
}

fn form(item: &Item, against: Against<'_>) -> Option<(Rule, String)> {
    let key = &item.key;
    let malformed = |what: &str| {
        Some((
            finding::MALFORMED_VALUE,
            format!("the value of {key} {what}"),
        ))
    };
    let bits = match &item.form {
        Form::NoText => return malformed("is not a string"),
        Form::NotSealed(why) => return malformed(&format!("is {why}; seal it again")),
        Form::Bits(bits) => *bits,
        Form::V2(_) | Form::MalformedV2 => return None,
    };
    let required_bits = against
        .certificate
        .map(|c| c.public_key().modulus_len() * 8);
    if let Some(required_bits) = required_bits.filter(|required_bits| *required_bits != bits) {
        let message = format!(
            "{key} is sealed for a key of {bits} bits, but the certificate has {required_bits}"
        );
        return Some((finding::KEY_SIZE, message));
    }
    let rule = against.settings.rule.as_ref()?;
    let fewest = rule.key_size.filter(|fewest| *fewest > bits)?;
    let message = format!(
        "{key} is sealed for a key of {bits} bits, but {} requires at least {fewest}",
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
fn key(item: &Item, need: Option<&Need>, against: Against<'_>) -> Verdict {
    let (key, current) = (&item.key, against.certificate.map(Certificate::fingerprint));
    let (sealed_for, is) = match (need, &item.hint) {
        (Some(Need::Key(opened)), _) => (opened, "according to a key of --keys,"),
        (Some(Need::Undecided(_)), _) if is_among(current, against.ring) => {
            let message =
                format!("no key of --keys can unseal {key}, not even the key of the certificate");
            return Verdict::Wrong(finding::CLOSED_ITEM, message);
        }
        (_, Some(hint)) => (hint, "according to its hint,"),
        (_, None) => return Verdict::Unknown,
    };
    if against.settings.is_retired(sealed_for) {
        let message = format!(
            "{is} {key} is sealed for the retired key {sealed_for}; `seal rotate` re-encrypts it"
        );
        return Verdict::Wrong(finding::RETIRED_KEY, message);
    }
    match current {
        None if matches!(need, Some(Need::Key(_))) => Verdict::Right,
        None => Verdict::Uncompared,
        Some(current) if current == sealed_for => Verdict::Right,
        Some(current) => {
            let message =
                format!("{is} {key} is sealed for {sealed_for}, but the certificate is {current}");
            Verdict::Wrong(finding::OTHER_KEY, message)
        }
    }
}

fn is_among(key: Option<&Fingerprint>, ring: Option<&KeyRing>) -> bool {
    let keys = ring.into_iter().flat_map(KeyRing::keys);
    key.is_some_and(|key| keys.into_iter().any(|known| known.fingerprint() == key))
}

fn names_of(object: &Object) -> Vec<Found> {
    let line = object.line;
    let mut found = Vec::new();
    let (name, namespace) = (
        object.sealed.name_or_empty(),
        object.sealed.namespace_or_empty(),
    );
    if name.is_empty() {
        found.push((
            finding::NO_NAME,
            line,
            "the SealedSecret has no metadata.name".into(),
        ));
    } else if let (false, Err(error)) = (is_templated(name), names::check_object(name)) {
        found.push((finding::NAME, line, error.to_string()));
    }
    if namespace.is_empty() && object.scope != Scope::ClusterWide {
        let message = format!(
            "{name} has no namespace, which its scope ({}) requires",
            object.scope
        );
        found.push((finding::NO_NAMESPACE, line, message));
    } else if !namespace.is_empty()
        && !is_templated(namespace)
        && names::check_namespace(namespace).is_err()
    {
        let error = names::NameError::Namespace(namespace.to_owned());
        found.push((finding::NAME, line, error.to_string()));
    }
    let template = &object.sealed.spec.template.metadata;
    for (what, mine, own) in [
        ("name", template.name.as_deref(), name),
        ("namespace", template.namespace.as_deref(), namespace),
    ] {
        let differs = |mine: &&str| !mine.is_empty() && !own.is_empty() && *mine != own;
        if let Some(mine) =
            mine.filter(|mine| differs(mine) && !is_templated(mine) && !is_templated(own))
        {
            let message = format!(
                "the template has the {what} {mine:?}, but the Secret gets that of the object, {own:?}"
            );
            found.push((finding::TEMPLATE_NAME, line, message));
        }
    }
    found
}

fn scope_of(node: &Node, object: &Object) -> Vec<Found> {
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
    let mut found = Vec::new();
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
            found.push((finding::SCOPE, node.line, message));
        } else if !is("true") && !is("false") {
            let message =
                format!("{name} has an effect only if it is \"true\"; this value means strict");
            found.push((finding::SCOPE, node.line, message));
        }
    }
    if wide_annotations.iter().all(|name| {
        annotation(name).is_some_and(|n| matches!(&n.value, Value::Text(t) if t.as_str() == "true"))
    }) {
        let message =
            "both scope annotations are set, and cluster-wide takes precedence; remove one";
        found.push((finding::SCOPE, object.line, message.into()));
    }
    let template = object.sealed.spec.template.metadata.annotations.as_ref();
    let template = Scope::from_annotations(template);
    if template > object.scope {
        let message = format!(
            "the template declares the scope {template}, but the object declares {}, which takes precedence",
            object.scope
        );
        found.push((finding::SCOPE, object.line, message));
    }
    found
}

fn templates(node: &Node, object: &Object) -> Vec<Found> {
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
    let mut found = Vec::new();
    for (key, text) in texts {
        match text.as_ref().map(|text| Template::parse(key, text)) {
            Some(Err(error)) => {
                found.push((finding::TEMPLATE, line(key), shared::error_chain(&error)));
            }
            Some(Ok(template)) => {
                let missing = missing_items(key, &template, object);
                found.extend(missing.map(|message| (finding::MISSING_ITEM, line(key), message)));
            }
            None => {}
        }
        if let Err(error) = names::check_item(key) {
            found.push((finding::NAME, line(key), error.to_string()));
        }
    }
    found
}

/// Returns a message for each item that a template inserts and that does not exist. Item names that contain templates,
/// and those of the deprecated form, are unknown, so nothing is reported for such objects.
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
    let alike = items.map(|item| (strsim::jaro_winkler(name, item), item));
    let best = alike.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > 0.7)
        .map(|(_, item)| item)
}

/// Checks that the object has the items that its type requires, as the API server does. The deprecated form is not
/// checked, because its item names are sealed.
fn type_of(object: &Object) -> Option<Found> {
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

fn rules(object: &Object, settings: &Settings) -> Vec<Found> {
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
fn unknown_fields(node: &Node) -> Vec<Found> {
    let mut found = Vec::new();
    let mut check = |node: Option<&Node>, path: &str, known: &[&str]| {
        let Some(Value::Map(entries)) = node.map(|node| &node.value) else {
            return;
        };
        for (key, node) in entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()) && !is_templated(key))
        {
            let hint = match key.as_str() {
                "stringData" | "data" if path.is_empty() => {
                    "; sealed values belong in spec.encryptedData"
                }
                "stringData" => "; plain text and templates belong in spec.template.data",
                _ => "",
            };
            let message = format!("unknown field {path}{key}, which is dropped{hint}");
            found.push((finding::UNKNOWN_FIELD, node.line, message));
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
    found
}
