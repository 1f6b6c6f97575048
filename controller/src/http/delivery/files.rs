//! Creates the files of a response from unsealed objects.

use std::collections::{BTreeMap, BTreeSet};

use deliver::{
    DeliveredFile, DeliveredObject, Entry, FilePath, LayoutError, MAX_VALUES, Mode, ObjectEntry,
    Response, ResponseError, TemplateEntry,
};
use jiff::Timestamp;
use shared::meter::{Interrupted, Meter};
use shared::needs::LEGACY_ITEM;
use shared::v2::{ContentVersion, VersionInputs, VersionKey};
use template::{Budget, Context, Data, ParseBudget, Template};

use super::opening::OpenedObject;
use super::refused::{DeliveryRefusal, ObjectError};
use crate::reconcile::versioning::{self, Provenance};

/// The unsealed objects of a request, by name.
pub(super) type Objects = BTreeMap<String, OpenedObject>;

/// The inputs that, with the entries of the request, determine the files of a response.
pub(super) struct Files<'a> {
    pub(super) namespace: &'a str,
    pub(super) objects: &'a Objects,
    pub(super) version_key: &'a VersionKey,
    pub(super) now: Timestamp,
}

/// The entries of a request. All templates are parsed before the first one is rendered, so that neither the time nor
/// the failure of parsing depends on values.
#[derive(Debug)]
pub(super) struct ParsedEntries(Vec<ParsedEntry>);

#[derive(Debug)]
enum ParsedEntry {
    Object(ObjectEntry),
    Template(TemplateEntry, Template),
}

impl ParsedEntries {
    /// Parses the templates.
    pub(super) fn parse(
        entries: Vec<Entry>,
        meter: &mut dyn Meter,
    ) -> Result<Self, DeliveryRefusal> {
        let mut budget = ParseBudget::new(meter);
        let parsed = entries.into_iter().map(|entry| match entry {
            Entry::Object(entry) => Ok(ParsedEntry::Object(entry)),
            Entry::Template(entry) => {
                let template = parse(&entry, &mut budget)?;
                Ok(ParsedEntry::Template(entry, template))
            }
        });
        Ok(Self(parsed.collect::<Result<_, DeliveryRefusal>>()?))
    }

    /// Returns the cost of the slow functions of the templates, in microseconds.
    pub(super) fn slow_work(&self) -> u64 {
        let works = self.templates().map(|(_, template)| template.slow_work());
        works.fold(0, u64::saturating_add)
    }

    fn objects(&self) -> impl Iterator<Item = &ObjectEntry> {
        self.0.iter().filter_map(|entry| match entry {
            ParsedEntry::Object(entry) => Some(entry),
            ParsedEntry::Template(..) => None,
        })
    }

    fn templates(&self) -> impl Iterator<Item = (&TemplateEntry, &Template)> {
        self.0.iter().filter_map(|entry| match entry {
            ParsedEntry::Template(entry, template) => Some((entry, template)),
            ParsedEntry::Object(_) => None,
        })
    }
}

impl Files<'_> {
    /// Creates the response. All templates share one budget.
    pub(super) fn response(
        &self,
        revision: String,
        entries: &ParsedEntries,
        meter: &mut dyn Meter,
    ) -> Result<Response, DeliveryRefusal> {
        let (mut files, mut len) = (Vec::new(), 0);
        for entry in entries.objects() {
            len += self.add_items(entry, &mut files)?;
        }
        len += self.add_templates(entries, &mut files, meter)?;
        // Not the real length: this refusal must not reveal the length of a padded value.
        if len > MAX_VALUES {
            return Err(DeliveryRefusal::TooLarge);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let objects = self.objects.values().map(|opened| self.object(opened));
        let response = Response {
            revision,
            files,
            objects: objects.collect(),
        };
        match response.check() {
            Ok(()) => Ok(response),
            Err(ResponseError::Layout(error)) => Err(self.layout_refusal(error)),
            Err(_) => Err(DeliveryRefusal::TooLarge),
        }
    }

    /// Returns the refusal for paths that conflict. It contains no path if item names of an object are sealed.
    fn layout_refusal(&self, error: LayoutError) -> DeliveryRefusal {
        match self
            .objects
            .values()
            .find(|opened| has_sealed_names(opened))
        {
            Some(opened) => unnamed_path_error(opened),
            None => DeliveryRefusal::Layout(error),
        }
    }

    /// Adds the files, and returns their length as far as it is public.
    fn add_items(
        &self,
        entry: &ObjectEntry,
        files: &mut Vec<DeliveredFile>,
    ) -> Result<usize, DeliveryRefusal> {
        let opened = self.opened(&entry.sealed_secret)?;
        let all = || opened.values.keys().cloned().collect();
        let items: BTreeSet<String> = entry.items.clone().unwrap_or_else(all);
        for item in &items {
            let path = entry.destination.file(item).map_err(|error| {
                if entry.items.is_none() && has_sealed_names(opened) {
                    return unnamed_path_error(opened);
                }
                object_error(&entry.sealed_secret, item, &error.to_string())
            })?;
            files.push(self.file_of_item(opened, item, path, entry.mode)?);
        }
        Ok(opened.public_len(&items))
    }

    fn file_of_item(
        &self,
        opened: &OpenedObject,
        item: &str,
        path: FilePath,
        mode: Mode,
    ) -> Result<DeliveredFile, DeliveryRefusal> {
        let object = opened.sealed.name_or_empty();
        let value = opened
            .values
            .get(item)
            .ok_or_else(|| DeliveryRefusal::NotFound {
                object: object.to_owned(),
                item: Some(item.to_owned()),
            })?;
        let version = if let Some(digest) = opened.digests.get(item) {
            self.version(&path, None, &[((object, item), *digest)].into())
        } else {
            // A template of the object renders the item, and can use any value of the object.
            let text = format!("{item}\n{}", text_of_templates(opened));
            self.version(&path, Some(&text), &inputs([opened]))
        };
        Ok(DeliveredFile {
            path,
            mode,
            version,
            value: value.expose().to_vec().into(),
        })
    }

    /// Adds the files, and returns their length. All templates share one budget.
    fn add_templates(
        &self,
        entries: &ParsedEntries,
        files: &mut Vec<DeliveredFile>,
        meter: &mut dyn Meter,
    ) -> Result<usize, DeliveryRefusal> {
        for (entry, template) in entries.templates() {
            self.check_fields(entry, template)?;
        }
        let mut context = Context {
            budget: Budget::default(),
            now: self.now,
            rng: &mut shared::random::system(),
        };
        let mut len = 0;
        for (entry, template) in entries.templates() {
            let file = self.file_of_template(entry, template, &mut context, meter)?;
            len += file.value.len();
            files.push(file);
        }
        Ok(len)
    }

    /// Checks that each object of which the template inserts an item is in `from` and has the item. In place of a
    /// missing item, the file would contain `<no value>`.
    fn check_fields(
        &self,
        entry: &TemplateEntry,
        template: &Template,
    ) -> Result<(), DeliveryRefusal> {
        for (object, item) in template.inserted_nested_fields() {
            let is_granted = entry.from.contains(&object);
            let opened = self.objects.get(&object).filter(|_| is_granted);
            if opened.is_none() {
                let error = format!(
                    "the template of {:?} uses the SealedSecret {object:?}, which is not in its `from`",
                    entry.path.as_str()
                );
                return Err(object_error(&object, &item, &error));
            }
            if opened.is_some_and(|opened| !opened.values.contains_key(&item)) {
                let item = Some(item);
                return Err(DeliveryRefusal::NotFound { object, item });
            }
        }
        Ok(())
    }

    fn file_of_template(
        &self,
        entry: &TemplateEntry,
        template: &Template,
        context: &mut Context<'_>,
        meter: &mut dyn Meter,
    ) -> Result<DeliveredFile, DeliveryRefusal> {
        let mut data = Data::default();
        let mut from = Vec::new();
        for name in &entry.from {
            let opened = self.opened(name)?;
            for (item, value) in &opened.values {
                data.insert_in_group(name, item, value.expose());
            }
            from.push(opened);
        }
        let value = template.render_within(&data, context, meter);
        let value = value.map_err(|_| DeliveryRefusal::Rendering)?;
        let texts = from.iter().map(|opened| text_of_templates(opened));
        let text = serde_json::json!([entry.template, texts.collect::<Vec<_>>()]);
        Ok(DeliveredFile {
            version: self.version(&entry.path, Some(&text.to_string()), &inputs(from)),
            path: entry.path.clone(),
            mode: entry.mode,
            value: value.into(),
        })
    }

    fn opened(&self, name: &str) -> Result<&OpenedObject, DeliveryRefusal> {
        let opened = self.objects.get(name);
        opened.ok_or_else(|| DeliveryRefusal::NotFound {
            object: name.to_owned(),
            item: None,
        })
    }

    fn object(&self, opened: &OpenedObject) -> DeliveredObject {
        let sealed = &opened.sealed;
        let provenance = Provenance {
            digests: opened.digests.clone(),
            ..Provenance::default()
        };
        DeliveredObject {
            name: sealed.name_or_empty().to_owned(),
            generation: sealed.metadata.generation.unwrap_or_default(),
            version: versioning::version(self.version_key, sealed, &provenance),
        }
    }

    fn version(
        &self,
        path: &FilePath,
        template: Option<&str>,
        inputs: &VersionInputs<'_>,
    ) -> String {
        // No Secret has a name with two slashes, so this version never equals that of a Secret.
        let path = format!("files//{path}");
        ContentVersion::new(self.version_key, self.namespace, &path, template, inputs).to_string()
    }
}

/// Parses a template of the request.
fn parse(entry: &TemplateEntry, budget: &mut ParseBudget<'_>) -> Result<Template, DeliveryRefusal> {
    let path = entry.path.as_str();
    let parsed = Template::parse_within(path, &entry.template, budget);
    let parsed = parsed.map_err(|Interrupted| DeliveryRefusal::Busy)?;
    let template = parsed.map_err(|error| DeliveryRefusal::Template {
        path: path.to_owned(),
        reason: error.reason,
    })?;
    if template.is_deterministic() {
        Ok(template)
    } else {
        let path = path.to_owned();
        Err(DeliveryRefusal::Random { path })
    }
}

fn object_error(object: &str, item: &str, error: &str) -> DeliveryRefusal {
    DeliveryRefusal::Object(Box::new(ObjectError {
        object: object.to_owned(),
        item: Some(item.to_owned()),
        error: error.to_owned(),
        hint: "correct the entry in the request",
    }))
}

/// Returns whether the names of the object's items are sealed, as in the deprecated `spec.data`. A refusal becomes the
/// event of a Pod, so it must not contain such a name.
fn has_sealed_names(opened: &OpenedObject) -> bool {
    opened.digests.contains_key(LEGACY_ITEM)
}

fn unnamed_path_error(opened: &OpenedObject) -> DeliveryRefusal {
    let error = "the paths of files conflict or are invalid; the path is not reported, because the names of the items in \
                 `spec.data` are sealed";
    DeliveryRefusal::Object(Box::new(ObjectError {
        object: opened.sealed.name_or_empty().to_owned(),
        item: None,
        error: error.to_owned(),
        hint: "give each entry a different directory, or name the items in the request",
    }))
}

/// Returns the digests of all values of the objects, as the inputs of a version.
fn inputs<'a>(objects: impl IntoIterator<Item = &'a OpenedObject>) -> VersionInputs<'a> {
    let inputs = objects.into_iter().flat_map(|opened| {
        let name = opened.sealed.name_or_empty();
        let digests = opened.digests.iter();
        digests.map(move |(item, digest)| ((name, item.as_str()), *digest))
    });
    inputs.collect()
}

fn text_of_templates(opened: &OpenedObject) -> String {
    let templates = opened.sealed.spec.template.data.as_ref();
    templates.map(versioning::template_text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use deliver::{EntryBody, Request, RequestBody};
    use shared::meter::Unmetered;
    use shared::plain::Plain;
    use shared::resource::{SealedSecret, SealedSecretSpec};
    use shared::v2::{ValueDigest, ValueId};

    use super::*;

    const HIDDEN: &str = "hidden-item-name";

    /// Returns an object with one item, whose digest has this name.
    fn opened(name: &str, item: &str, digest: &str) -> OpenedObject {
        let value = Plain::from("v".to_owned());
        let value_digest =
            ValueDigest::new(&ValueId::random(&mut shared::random::system()), &value);
        OpenedObject {
            values: [(item.to_owned(), value)].into(),
            digests: [(digest.to_owned(), value_digest)].into(),
            padded: BTreeSet::new(),
            legacy_len: None,
            sealed: SealedSecret::new(name, SealedSecretSpec::default()),
        }
    }

    /// Returns the refusal of a request for these objects, each with its path.
    fn refusal(objects: Vec<OpenedObject>, paths: &[&str]) -> DeliveryRefusal {
        let entries = objects.iter().zip(paths).map(|(opened, path)| EntryBody {
            sealed_secret: Some(opened.sealed.name_or_empty().to_owned()),
            path: Some((*path).to_owned()),
            ..EntryBody::default()
        });
        let body = RequestBody {
            objects: entries.collect(),
            ..RequestBody::default()
        };
        let request = Request::try_from(body).unwrap();
        let named = objects.into_iter().map(|opened| {
            let name = opened.sealed.name_or_empty().to_owned();
            (name, opened)
        });
        let files = Files {
            namespace: "ns",
            objects: &named.collect(),
            version_key: &VersionKey::new(&[1; 32]),
            now: Timestamp::UNIX_EPOCH,
        };
        let entries = ParsedEntries::parse(request.entries, &mut Unmetered).unwrap();
        let response = files.response("r".to_owned(), &entries, &mut Unmetered);
        response.unwrap_err()
    }

    /// Attack: an author seals items of guessed names next to an object in the deprecated form, whose item names are
    /// sealed, and reads the events of a Pod that requests both.
    #[test]
    fn a_refusal_names_no_item_of_spec_data() {
        let legacy = || opened("legacy", HIDDEN, LEGACY_ITEM);
        let guess = opened("guess", HIDDEN, HIDDEN);
        let long = "a".repeat(254);
        let too_long = [long.as_str(); 4].join("/") + "/";
        for (objects, paths) in [
            (vec![legacy(), guess], ["", ""]),
            (
                vec![legacy(), opened("other", "x", "x")],
                ["", "hidden-item-name/"],
            ),
            (vec![legacy(), opened("other", "x", "x")], [&too_long, ""]),
        ] {
            let why = format!("{:?}", refusal(objects, &paths));
            assert!(why.contains("legacy") && !why.contains(HIDDEN), "{why}");
        }
        let regular = || opened("regular", "x", "x");
        let why = refusal(vec![regular(), opened("other", "x", "x")], &["", ""]);
        assert_eq!(
            why,
            DeliveryRefusal::Layout(LayoutError::Repeated("x".to_owned()))
        );
    }
}
