//! Checks the rotate-by dates of an object.

use jiff::civil::Date;
use kubeseal_library::finding;
use shared::manifest::Node;
use shared::resource::ROTATE_BY_ANNOTATION;

use super::object::FindingInFile;
use super::placeholder::is_templated;
use crate::seal::dates;
use crate::seal::object::{Object, rotate_by_line};

/// Returns a finding for each overdue value, and for each line of the annotation that has no effect.
pub(super) fn findings(node: &Node, object: &Object, today: Date) -> Vec<FindingInFile> {
    let line = rotate_by_line(node);
    let problems = dates::problems(&object.rotate_by).into_iter();
    let problems = problems.chain(missing_items(object));
    let mut findings: Vec<FindingInFile> = problems
        .map(|message| (finding::ROTATE_BY_LINE, line, message))
        .collect();
    for item in &object.items {
        let due = object.rotate_by.dates.get(&item.key);
        if let Some(due) = due.filter(|due| due.days_left(today) <= 0) {
            let message = format!(
                "the value of {} is overdue for a change since {}: set a new value with `seal set`",
                item.key, due.date
            );
            findings.push((finding::ROTATE_BY, item.line, message));
        }
    }
    findings
}

/// Returns a message for each date of an item that does not exist. The items of an object with a template in an item key
/// are unknown.
fn missing_items(object: &Object) -> Vec<String> {
    if object.items.iter().any(|item| is_templated(&item.key)) {
        return Vec::new();
    }
    let missing = dates::missing_items(object).into_iter();
    let message = |item: &String| {
        format!(
            "the annotation {ROTATE_BY_ANNOTATION} names {item}, but no such item exists; remove the line, or run \
             `seal unset FILE {item}`"
        )
    };
    missing.map(message).collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use kubeseal_library::finding::{ROTATE_BY, ROTATE_BY_LINE, Rule, Severity};
    use shared::manifest;

    use super::*;

    fn rules_at(today: Date, annotation: &str) -> Vec<(Rule, usize)> {
        let yaml = format!(
            "metadata:\n  annotations:\n    {ROTATE_BY_ANNOTATION}: {annotation:?}\nspec:\n  encryptedData:\n    a: x\n    b: x\n"
        );
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        let node = &documents[0].root;
        let object = Object::read(node).unwrap();
        let findings = findings(node, &object, today).into_iter();
        findings.map(|(rule, line, _)| (rule, line)).collect()
    }

    #[test]
    fn reports_overdue_values_from_the_beginning_of_the_date() {
        let annotation = "a 2027-03-01 90d\nb 2027-04-01\n";
        for (today, want) in [
            (date(2027, 2, 28), vec![]),
            (date(2027, 3, 1), vec![(ROTATE_BY, 6)]),
            (date(2027, 4, 2), vec![(ROTATE_BY, 6), (ROTATE_BY, 7)]),
        ] {
            assert_eq!(rules_at(today, annotation), want, "{today}");
        }
    }

    /// Otherwise a date in the past would block commits of other changes to the file.
    #[test]
    fn an_overdue_value_does_not_change_the_exit_code() {
        assert_eq!(ROTATE_BY.severity, Severity::Note);
        assert_eq!(ROTATE_BY_LINE.severity, Severity::Error);
    }

    #[test]
    fn reports_lines_without_effect() {
        let today = date(2027, 1, 1);
        for (annotation, want) in [
            ("", 0),
            ("a 2027-03-01", 0),
            ("a soon", 1),
            ("a 2027-03-01\na 2027-04-01", 1),
            ("gone 2020-03-01", 1),
            ("c 2027-03-01\n?", 2),
        ] {
            let want = vec![(ROTATE_BY_LINE, 3); want];
            assert_eq!(rules_at(today, annotation), want, "{annotation:?}");
        }
    }
}
