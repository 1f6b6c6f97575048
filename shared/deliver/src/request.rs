//! A checked request.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::body::{EntryBody, RequestBody};
use crate::layout::Layout;
use crate::mode::Mode;
use crate::path::{FilePath, PathError};
use crate::request_error::{EntryProblem, RequestError};
use crate::{
    MAX_ENTRIES, MAX_FILES, MAX_OBJECTS, MAX_REQUEST, MAX_REVISION, MAX_TEMPLATE, MAX_WAIT,
};

/// A request that is valid and within all limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to deliver. At least one entry, and at most [`MAX_ENTRIES`].
    pub entries: Vec<Entry>,
    /// The revision that the caller already has.
    pub have: Option<String>,
    /// How long to wait at most for a revision other than [`Self::have`].
    pub wait: Duration,
}

/// One entry. Its serialized form is only for digests; requests are sent as [`RequestBody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Entry {
    /// Items of a SealedSecret.
    Object(ObjectEntry),
    /// A template that uses items of SealedSecrets.
    Template(TemplateEntry),
}

/// Items of a SealedSecret, each of which becomes a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectEntry {
    /// The name of the SealedSecret.
    pub sealed_secret: String,
    /// The item keys; `None` for all items.
    pub items: Option<BTreeSet<String>>,
    /// Where the files are written.
    pub destination: Destination,
    /// The mode of the files.
    pub mode: Mode,
}

/// Where the files of items are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Destination {
    /// In the target directory, under the names of the items.
    Root,
    /// In this directory, under the names of the items.
    Directory(FilePath),
    /// At this path, for the only item.
    File(FilePath),
}

/// A template, whose result becomes a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TemplateEntry {
    /// The path of the file that receives the result.
    pub path: FilePath,
    /// The text of the template. It refers to values as `.OBJECT.ITEM`.
    pub template: String,
    /// The names of the SealedSecrets that the template may use.
    pub from: BTreeSet<String>,
    /// The mode of the file.
    pub mode: Mode,
}

impl Request {
    /// Parses and checks the JSON of a request.
    ///
    /// # Errors
    ///
    /// Returns the first problem.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_REQUEST {
            return Err(RequestError::TooLong);
        }
        let body = serde_json::from_slice::<RequestBody>(bytes);
        body.map_err(|error| RequestError::Malformed(error.to_string()))?
            .try_into()
    }

    /// Returns the names of all SealedSecrets, including those that only templates use.
    pub fn object_names(&self) -> BTreeSet<&str> {
        let names = self.entries.iter().flat_map(|entry| match entry {
            Entry::Object(entry) => vec![entry.sealed_secret.as_str()],
            Entry::Template(entry) => entry.from.iter().map(String::as_str).collect(),
        });
        names.collect()
    }
}

impl TryFrom<RequestBody> for Request {
    type Error = RequestError;

    fn try_from(body: RequestBody) -> Result<Self, RequestError> {
        let RequestBody {
            objects,
            have,
            wait,
        } = body;
        let have = have.filter(|revision| !revision.is_empty());
        if have
            .as_ref()
            .is_some_and(|revision| revision.len() > MAX_REVISION)
        {
            return Err(RequestError::Revision);
        }
        let wait = wait.unwrap_or_default();
        if wait > MAX_WAIT {
            return Err(RequestError::Wait);
        }
        let request = Self {
            entries: entries(objects)?,
            have,
            wait: Duration::from_secs(wait.into()),
        };
        if request.object_names().len() > MAX_OBJECTS {
            return Err(RequestError::TooManyObjects);
        }
        layout(&request.entries)?.check()?;
        Ok(request)
    }
}

fn entries(bodies: Vec<EntryBody>) -> Result<Vec<Entry>, RequestError> {
    if bodies.is_empty() {
        return Err(RequestError::NoEntry);
    }
    if bodies.len() > MAX_ENTRIES {
        return Err(RequestError::TooManyEntries);
    }
    let entries = bodies.into_iter().enumerate().map(|(index, body)| {
        Entry::try_from(body).map_err(|problem| RequestError::Entry { index, problem })
    });
    entries.collect()
}

/// Returns the paths that are known without reading the objects.
fn layout(entries: &[Entry]) -> Result<Layout, RequestError> {
    let (mut layout, mut files) = (Layout::default(), 0);
    for entry in entries {
        match entry {
            Entry::Object(entry) => {
                files += entry.items.as_ref().map_or(0, BTreeSet::len);
                entry.add_to(&mut layout);
            }
            Entry::Template(entry) => {
                files += 1;
                layout.add_file(&entry.path);
            }
        }
        if files > MAX_FILES {
            return Err(RequestError::TooManyFiles);
        }
    }
    Ok(layout)
}

impl ObjectEntry {
    fn add_to(&self, layout: &mut Layout) {
        if let Destination::Directory(path) = &self.destination {
            layout.add_directory(path);
        }
        // The path of each named item was checked before.
        let items = self.items.iter().flatten();
        for path in items.filter_map(|item| self.destination.file(item).ok()) {
            layout.add_file(&path);
        }
    }
}

impl Destination {
    /// Returns the path of an item's file.
    ///
    /// # Errors
    ///
    /// Returns an error if the path that results from the item key is not valid.
    pub fn file(&self, item: &str) -> Result<FilePath, PathError> {
        match self {
            Self::Root => item.parse(),
            Self::Directory(directory) => format!("{directory}/{item}").parse(),
            Self::File(path) => Ok(path.clone()),
        }
    }

    fn read(path: &str) -> Result<Self, PathError> {
        match path.strip_suffix('/') {
            Some(directory) => directory.parse().map(Self::Directory),
            None if path.is_empty() => Ok(Self::Root),
            None => path.parse().map(Self::File),
        }
    }
}

impl TryFrom<EntryBody> for Entry {
    type Error = EntryProblem;

    fn try_from(body: EntryBody) -> Result<Self, EntryProblem> {
        match (body.sealed_secret.is_some(), body.template.is_some()) {
            (true, false) => ObjectEntry::try_from(body).map(Self::Object),
            (false, true) => TemplateEntry::try_from(body).map(Self::Template),
            _ => Err(EntryProblem::Kind),
        }
    }
}

impl TryFrom<EntryBody> for ObjectEntry {
    type Error = EntryProblem;

    fn try_from(body: EntryBody) -> Result<Self, EntryProblem> {
        refuse("from", body.from.is_some(), "sealedSecret")?;
        let path = body.path.unwrap_or_default();
        let entry = Self {
            sealed_secret: object_name(body.sealed_secret.unwrap_or_default())?,
            items: body.items.map(item_names).transpose()?,
            destination: Destination::read(&path)?,
            mode: mode(body.mode.as_deref())?,
        };
        let names_one = entry.items.as_ref().is_some_and(|items| items.len() == 1);
        if matches!(entry.destination, Destination::File(_)) && !names_one {
            return Err(EntryProblem::OneFile(path));
        }
        for item in entry.items.iter().flatten() {
            entry.destination.file(item)?;
        }
        Ok(entry)
    }
}

impl TryFrom<EntryBody> for TemplateEntry {
    type Error = EntryProblem;

    fn try_from(body: EntryBody) -> Result<Self, EntryProblem> {
        refuse("items", body.items.is_some(), "template")?;
        let template = body.template.unwrap_or_default();
        if template.len() > MAX_TEMPLATE {
            return Err(EntryProblem::Template);
        }
        let from = body.from.unwrap_or_default().into_iter().map(object_name);
        let entry = Self {
            path: body.path.ok_or(EntryProblem::NoPath)?.parse()?,
            template,
            from: from.collect::<Result<_, _>>()?,
            mode: mode(body.mode.as_deref())?,
        };
        if entry.from.is_empty() {
            return Err(EntryProblem::NoFrom);
        }
        Ok(entry)
    }
}

fn refuse(field: &'static str, is_set: bool, with: &'static str) -> Result<(), EntryProblem> {
    if is_set {
        Err(EntryProblem::Field { field, with })
    } else {
        Ok(())
    }
}

fn mode(text: Option<&str>) -> Result<Mode, EntryProblem> {
    Ok(text.map(str::parse).transpose()?.unwrap_or_default())
}

/// Checks that the name is valid for a Kubernetes object (RFC 1123 subdomain).
fn object_name(name: String) -> Result<String, EntryProblem> {
    if is_object_name(&name) {
        Ok(name)
    } else {
        Err(EntryProblem::Name(name.chars().take(253).collect()))
    }
}

/// Returns whether an API server accepts this name of an object (RFC 1123 subdomain).
pub fn is_object_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let (first, last) = (label.bytes().next(), label.bytes().next_back());
        let has_ends = first.is_some_and(is_inner) && last.is_some_and(is_inner);
        has_ends && label.bytes().all(|byte| is_inner(byte) || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn item_names(names: Vec<String>) -> Result<BTreeSet<String>, EntryProblem> {
    if names.is_empty() {
        return Err(EntryProblem::NoItems);
    }
    names.into_iter().map(item_name).collect()
}

/// Checks that the name is a valid item key.
fn item_name(name: String) -> Result<String, EntryProblem> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_item = (1..=253).contains(&name.len()) && name.bytes().all(is_allowed);
    if is_item && name != "." && !name.starts_with("..") {
        Ok(name)
    } else {
        Err(EntryProblem::Item(name.chars().take(253).collect()))
    }
}

#[cfg(test)]
mod tests;
