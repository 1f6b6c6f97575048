//! The JSON output of `seal due`.

use jiff::civil::Date;
use serde::Serialize;

use super::{DueItem, DueItems, FoundDates, Problem};

/// The values that are overdue or become overdue within the time.
#[derive(Debug, Serialize)]
pub(super) struct DueReport<'a> {
    /// The date in UTC that the days are counted from.
    today: String,
    /// The number of days of `--within`.
    within: i64,
    /// The items, sorted by date.
    due: Vec<DueItemReport<'a>>,
    /// The lines of annotations that have no effect or name no item.
    problems: Vec<ProblemReport<'a>>,
    /// The number of items without a date.
    undated: usize,
}

#[derive(Debug, Serialize)]
struct DueItemReport<'a> {
    file: &'a str,
    /// The line where the sealed value begins.
    line: usize,
    /// The namespace and name.
    object: &'a str,
    item: &'a str,
    date: String,
    /// Zero or negative for an overdue value.
    days: i64,
    /// Absent if the annotation has none for the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProblemReport<'a> {
    file: &'a str,
    /// The line of the annotation.
    line: usize,
    /// The namespace and name.
    object: &'a str,
    message: &'a str,
}

impl<'a> DueReport<'a> {
    pub(super) fn new(args: &DueItems, found: &'a FoundDates, today: Date) -> Self {
        let due = found.items.iter();
        Self {
            today: today.to_string(),
            within: args.within,
            due: due.map(|item| DueItemReport::new(item, today)).collect(),
            problems: found.problems.iter().map(ProblemReport::new).collect(),
            undated: found.undated,
        }
    }
}

impl<'a> DueItemReport<'a> {
    fn new(item: &'a DueItem, today: Date) -> Self {
        Self {
            file: &item.place.file,
            line: item.place.line,
            object: &item.place.object,
            item: &item.item,
            date: item.due.date.to_string(),
            days: item.due.days_left(today),
            period: item.due.period.map(|period| period.to_string()),
        }
    }
}

impl<'a> ProblemReport<'a> {
    fn new((place, message): &'a Problem) -> Self {
        Self {
            file: &place.file,
            line: place.line,
            object: &place.object,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use shared::rotate_by;

    use super::super::Place;
    use super::*;
    use crate::seal::output::tests::check;
    use crate::seal_args::OutputFormat;

    #[test]
    fn the_report_has_the_documented_form() {
        let place = |line| Place {
            file: "db.yaml".to_owned(),
            line,
            object: "shop/db".to_owned(),
        };
        let dates = rotate_by::parse("a 2027-03-01 90d\n").dates;
        let found = FoundDates {
            items: vec![DueItem {
                due: dates["a"],
                place: place(9),
                item: "a".to_owned(),
            }],
            problems: vec![(place(6), "malformed".to_owned())],
            undated: 2,
        };
        let args = DueItems {
            paths: Vec::new(),
            within: 30,
            output: OutputFormat::Json,
        };
        let want = r#"{
  "today": "2027-03-02",
  "within": 30,
  "due": [
    {
      "file": "db.yaml",
      "line": 9,
      "object": "shop/db",
      "item": "a",
      "date": "2027-03-01",
      "days": -1,
      "period": "90d"
    }
  ],
  "problems": [
    {
      "file": "db.yaml",
      "line": 6,
      "object": "shop/db",
      "message": "malformed"
    }
  ],
  "undated": 2
}
"#;
        let report = DueReport::new(&args, &found, date(2027, 3, 2));
        check("seal due", &report, want);
    }
}
