//! What a run did, for people and for programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::report::ShowPath as _;
use serde_json::{Value as Json, json};
use shared::key::Fingerprint;
use shared::sealed_file::Found;

/// What became of one object.
#[derive(Debug)]
pub(super) struct ObjectReport {
    pub(super) place: String,
    pub(super) line: usize,
    /// All of its values.
    pub(super) items: usize,
    /// Items that were sealed anew.
    pub(super) rotated: Vec<String>,
    /// The keys that these were sealed for, if known.
    pub(super) from: BTreeMap<Fingerprint, usize>,
    /// Items that only their hint says to be sealed for the newest key.
    pub(super) believed: Vec<String>,
    /// Why nothing was.
    pub(super) problem: Option<String>,
}

/// What became of one file.
#[derive(Debug)]
pub(super) struct FileReport {
    pub(super) path: PathBuf,
    pub(super) objects: Vec<ObjectReport>,
}

impl ObjectReport {
    pub(super) fn of(found: &Found) -> Self {
        let spec = &found.sealed.spec;
        Self {
            place: found.sealed.place(),
            line: found.line,
            items: spec.encrypted_data.len() + usize::from(spec.data.is_some()),
            rotated: Vec::new(),
            from: BTreeMap::new(),
            believed: Vec::new(),
            problem: None,
        }
    }

    /// Values that were left alone, since they are for the newest key already.
    fn current(&self) -> usize {
        match self.problem {
            Some(_) => 0,
            None => self.items - self.rotated.len(),
        }
    }
}

/// A file that could not even be read counts as one object.
pub(super) fn unreadable(path: PathBuf, problem: String) -> FileReport {
    let object = ObjectReport {
        place: String::new(),
        line: 0,
        items: 0,
        rotated: Vec::new(),
        from: BTreeMap::new(),
        believed: Vec::new(),
        problem: Some(problem),
    };
    FileReport {
        path,
        objects: vec![object],
    }
}

pub(super) fn failed(reports: &[FileReport]) -> usize {
    let objects = reports.iter().flat_map(|file| &file.objects);
    objects.filter(|object| object.problem.is_some()).count()
}

/// A line for each object that changed or failed, and one for all.
pub(super) fn lines(reports: &[FileReport], dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for file in reports {
        for object in &file.objects {
            let path = file.path.shown();
            let place = match object.line {
                0 => path.clone(),
                line => format!("{path}:{line}: {}", object.place),
            };
            if let Some(problem) = &object.problem {
                lines.push(format!("{place}: failed: {}", problem.replace('\n', "; ")));
            } else if !object.rotated.is_empty() {
                lines.push(format!("{place}: {}", object.rotated.join(", ")));
            }
            if !object.believed.is_empty() {
                lines.push(format!(
                    "{place}: no key given opens {}, whose key hint says that it is for the newest key",
                    object.believed.join(", ")
                ));
            }
        }
    }
    lines.push(total(reports, dry_run));
    lines
}

fn total(reports: &[FileReport], dry_run: bool) -> String {
    let Total {
        rotated,
        files,
        current,
    } = Total::of(reports);
    let verb = if dry_run {
        "would be sealed anew"
    } else {
        "sealed anew"
    };
    let items = if rotated == 1 { "item" } else { "items" };
    let in_files = match files {
        0 => String::new(),
        1 => " in 1 file".to_owned(),
        n => format!(" in {n} files"),
    };
    format!("{rotated} {items}{in_files} {verb}; {current} for the newest key already")
}

struct Total {
    rotated: usize,
    files: usize,
    current: usize,
}

impl Total {
    fn of(reports: &[FileReport]) -> Self {
        let objects = || reports.iter().flat_map(|file| &file.objects);
        let changed = |file: &&FileReport| file.objects.iter().any(|o| !o.rotated.is_empty());
        Self {
            rotated: objects().map(|object| object.rotated.len()).sum(),
            files: reports.iter().filter(changed).count(),
            current: objects().map(ObjectReport::current).sum(),
        }
    }
}

/// Files in which nothing changed and nothing failed are only counted.
pub(super) fn json(reports: &[FileReport], dry_run: bool) -> Json {
    let total = Total::of(reports);
    let is_told = |object: &&ObjectReport| {
        object.problem.is_some() || !object.rotated.is_empty() || !object.believed.is_empty()
    };
    let told = |file: &FileReport| {
        let objects: Vec<Json> = file.objects.iter().filter(is_told).map(object).collect();
        let path = file.path.to_string_lossy();
        (!objects.is_empty()).then(|| json!({ "path": path, "objects": objects }))
    };
    json!({
        "dryRun": dry_run,
        "rotated": total.rotated,
        "current": total.current,
        "failed": failed(reports),
        "files": reports.iter().filter_map(told).collect::<Vec<Json>>(),
    })
}

fn object(object: &ObjectReport) -> Json {
    let mut json = json!({
        "name": object.place,
        "line": object.line,
        "rotated": object.rotated,
        "current": object.current(),
    });
    if !object.from.is_empty() {
        let from = object.from.iter();
        let from: serde_json::Map<String, Json> = from
            .map(|(key, count)| (key.to_string(), (*count).into()))
            .collect();
        json["from"] = Json::Object(from);
    }
    if !object.believed.is_empty() {
        json["believed"] = object.believed.clone().into();
    }
    if let Some(problem) = &object.problem {
        json["problem"] = problem.clone().into();
    }
    json
}
