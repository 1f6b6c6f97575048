//! The result of a run, and its output as text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubeseal_library::walk;

use crate::report::ShowPath as _;
use shared::key::{Certificate, Fingerprint};
use shared::sealed_file::Found;
use shared::v2;

use super::forecast::Forecast;
use super::templates::TemplateSummary;

/// The result for one object.
#[derive(Debug)]
pub(super) struct ObjectReport {
    pub(super) name: String,
    pub(super) line: usize,
    /// Whether the object has v2 values.
    pub(super) is_v2: bool,
    /// Whether the object has v1 values, possibly together with v2 values.
    pub(super) has_v1: bool,
    /// The number of values.
    pub(super) items: usize,
    /// Items that were re-encrypted.
    pub(super) rotated: Vec<String>,
    /// The number of re-encrypted items per old key, as far as known.
    pub(super) from: BTreeMap<Fingerprint, usize>,
    /// The fingerprint of the certificate, or the v2 keys, that the re-encrypted items are for.
    pub(super) to: Option<String>,
    /// Items that are for the newest key according to their hint alone.
    pub(super) current_by_hint: Vec<String>,
    /// The template that values are newly bound to.
    pub(super) template: Option<TemplateSummary>,
    /// Why the object was not re-encrypted.
    pub(super) problem: Option<String>,
}

/// The result for one file.
#[derive(Debug)]
pub(super) struct FileReport {
    pub(super) path: PathBuf,
    pub(super) objects: Vec<ObjectReport>,
    /// Why the file could not be read.
    pub(super) problem: Option<String>,
}

impl ObjectReport {
    pub(super) fn of(found: &Found) -> Self {
        let spec = &found.sealed.spec;
        Self {
            name: found.sealed.qualified_name(),
            line: found.line,
            is_v2: v2::is_v2(&spec.encrypted_data),
            has_v1: spec.data.is_some()
                || v2::items(&spec.encrypted_data).any(|(_, text)| !v2::is_v2_value(text)),
            items: v2::items(&spec.encrypted_data).count() + usize::from(spec.data.is_some()),
            rotated: Vec::new(),
            from: BTreeMap::new(),
            to: None,
            current_by_hint: Vec::new(),
            template: None,
            problem: None,
        }
    }

    /// Sets the result to a forecast.
    pub(super) fn set_forecast(&mut self, forecast: Forecast, certificate: &Certificate) {
        let is_changed = !forecast.rotated.is_empty();
        if is_changed {
            self.to = Some(certificate.fingerprint().to_string());
        }
        self.rotated.extend(forecast.rotated);
        self.from = forecast.from;
        self.current_by_hint = forecast.current_by_hint;
        self.problem = forecast.problem;
    }

    /// Removes the result of an attempt that wrote nothing.
    pub(super) fn clear(&mut self) {
        self.rotated.clear();
        self.from.clear();
        self.current_by_hint.clear();
        (self.to, self.template) = (None, None);
    }

    /// Returns the number of values that are already for the key or recipients of the run; 0 after a failure.
    pub(super) fn current(&self) -> usize {
        match self.problem {
            Some(_) => 0,
            None => self.items - self.rotated.len(),
        }
    }
}

/// Describes the keys of an offline run that keeps the format of each object.
pub(super) fn target(reports: &[FileReport]) -> &'static str {
    let objects = || reports.iter().flat_map(|report| &report.objects);
    match (objects().any(|o| o.is_v2), objects().all(|o| o.is_v2)) {
        (true, true) => "the configured recipients",
        (true, false) => "the certificate's key or the configured recipients",
        (false, _) => "the key of the certificate",
    }
}

/// Returns the report of a file that cannot be read.
pub(super) fn unreadable_report(path: &Path, error: &anyhow::Error) -> FileReport {
    FileReport {
        path: path.to_owned(),
        objects: Vec::new(),
        problem: Some(walk::without_path(path, error)),
    }
}

/// Returns the number of failed objects, and of files that cannot be read.
pub(super) fn failure_counts(reports: &[FileReport]) -> (usize, usize) {
    let objects = reports.iter().flat_map(|file| &file.objects);
    let objects = objects.filter(|object| object.problem.is_some()).count();
    let files = reports.iter().filter(|file| file.problem.is_some()).count();
    (objects, files)
}

/// Returns the numbers of failed objects and files as text, or `None` without failures.
pub(super) fn failures_text(reports: &[FileReport]) -> Option<String> {
    let count_text = |count, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {one}s")),
    };
    let (objects, files) = failure_counts(reports);
    let parts = [count_text(objects, "object"), count_text(files, "file")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Returns a line for each file that cannot be read and for each object that changed or failed, a line with the totals,
/// and a line for each new key. `target` describes the keys that values are re-encrypted for.
pub(super) fn lines(reports: &[FileReport], target: &str, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for file in reports {
        let path = file.path.shown();
        if let Some(problem) = &file.problem {
            lines.push(format!("{path}: failed: {}", problem.replace('\n', "; ")));
        }
        for object in &file.objects {
            let location = format!("{path}:{}: {}", object.line, object.name);
            if let Some(problem) = &object.problem {
                lines.push(format!(
                    "{location}: failed: {}",
                    problem.replace('\n', "; ")
                ));
            } else if !object.rotated.is_empty() {
                lines.push(format!("{location}: {}", object.rotated.join(", ")));
            }
        }
    }
    lines.push(total(reports, target, dry_run));
    lines.extend(recipients(reports, dry_run));
    lines
}

/// Returns a line for each key that new values are encrypted for.
fn recipients(reports: &[FileReport], dry_run: bool) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for object in reports.iter().flat_map(|file| &file.objects) {
        if let Some(key) = &object.to {
            *counts.entry(key.as_str()).or_default() += object.rotated.len();
        }
    }
    let verb = if dry_run {
        "would be encrypted"
    } else {
        "encrypted"
    };
    let line = |(key, count): (&str, usize)| match count {
        1 => format!("1 item {verb} for {key}"),
        count => format!("{count} items {verb} for {key}"),
    };
    counts.into_iter().map(line).collect()
}

fn total(reports: &[FileReport], target: &str, dry_run: bool) -> String {
    let Total {
        rotated,
        files,
        current,
        current_by_hint,
    } = Total::of(reports);
    let verb = if dry_run {
        "would be re-encrypted"
    } else {
        "re-encrypted"
    };
    let items = if rotated == 1 { "item" } else { "items" };
    let in_files = match files {
        0 => String::new(),
        1 => " in 1 file".to_owned(),
        n => format!(" in {n} files"),
    };
    let by_hints = match current_by_hint {
        0 => String::new(),
        n => format!(" ({n} by their key hints alone)"),
    };
    format!("{rotated} {items}{in_files} {verb}; {current} already for {target}{by_hints}")
}

/// The totals of a run.
pub(super) struct Total {
    pub(super) rotated: usize,
    files: usize,
    pub(super) current: usize,
    /// The current values that are for the newest key according to their hint alone.
    current_by_hint: usize,
}

impl Total {
    pub(super) fn of(reports: &[FileReport]) -> Self {
        let objects = || reports.iter().flat_map(|file| &file.objects);
        let changed = |file: &&FileReport| file.objects.iter().any(|o| !o.rotated.is_empty());
        Self {
            rotated: objects().map(|object| object.rotated.len()).sum(),
            files: reports.iter().filter(changed).count(),
            current: objects().map(ObjectReport::current).sum(),
            current_by_hint: objects().map(|object| object.current_by_hint.len()).sum(),
        }
    }
}

/// Returns a note about the history if a run with `--to v2` converted v1 values: a holder of the old RSA key, or a
/// quantum computer, can decrypt earlier commits.
pub(super) fn history_note(reports: &[FileReport]) -> Option<&'static str> {
    let mut objects = reports.iter().flat_map(|file| &file.objects);
    let is_converted = |object: &ObjectReport| object.has_v1 && !object.rotated.is_empty();
    objects.any(is_converted).then_some(
        "earlier commits still contain the values as v1; set new values (`seal set`) for everything that must stay \
         secret",
    )
}

/// Returns a note about values whose result a dry run through the controller cannot determine.
pub(super) fn dry_run_note(reports: &[FileReport]) -> String {
    let objects = reports.iter().flat_map(|file| &file.objects);
    let unhinted: usize = objects
        .map(|object| object.rotated.len() - object.from.values().sum::<usize>())
        .sum();
    let counted = match unhinted {
        0 => String::new(),
        1 => "; the count includes 1 value without a key hint, which the actual run skips if it is already sealed for \
              the newest key"
            .to_owned(),
        n => format!(
            "; the count includes {n} values without a key hint, and the actual run skips every value that is already \
             sealed for the newest key"
        ),
    };
    format!(
        "(dry run: based on sizes and key hints alone; the actual run shows whether the controller can unseal every \
         value{counted})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(has_v1: bool, rotated: &[&str]) -> FileReport {
        let object = ObjectReport {
            name: "shop/db".to_owned(),
            line: 1,
            is_v2: !has_v1,
            has_v1,
            items: 1,
            rotated: rotated.iter().map(|item| (*item).to_owned()).collect(),
            from: BTreeMap::new(),
            to: None,
            current_by_hint: Vec::new(),
            template: None,
            problem: None,
        };
        FileReport {
            path: "db.yaml".into(),
            objects: vec![object],
            problem: None,
        }
    }

    #[test]
    fn the_history_is_mentioned_only_after_a_conversion_from_v1() {
        for (has_v1, rotated, want) in [
            (true, &["a"][..], true),
            (true, &[], false),
            (false, &["a"], false),
        ] {
            let reports = [report(false, &[]), report(has_v1, rotated)];
            let note = history_note(&reports);
            assert_eq!(note.is_some(), want, "{has_v1} {rotated:?}");
        }
    }
}
