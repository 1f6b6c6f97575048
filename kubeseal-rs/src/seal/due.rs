//! `seal due`: lists the values that have to be changed soon, by their rotate-by dates.

mod json;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::civil::Date;
use kubeseal_library::environment::Environment;
use kubeseal_library::parallel;
use kubeseal_library::walk::{self, Candidate, Kind, SkippedFiles};
use shared::manifest::Node;
use shared::rotate_by::{Due, MAX_DAYS, date_of};

use super::dates;
use super::object::{Object, rotate_by_line};
use super::table::table;
use super::{Outcome, output, print};
use crate::report::{self, ShowPath as _, path_text, shown};
use crate::seal_args::OutputFormat;

/// Arguments of `seal due`.
#[derive(Debug, Args)]
#[command(after_help = "\
The dates are in an annotation that `--rotate-by` of `seal create`, `generate`, `set` and `edit`, or `rotateBy` in
.seal.yaml, sets. A value is overdue from the beginning of its date, in UTC. The exit code is 1 if a value is overdue or
becomes overdue within the time, or if a line of an annotation is malformed or names no item. No value is decrypted.

Examples:
  seal due
  seal due prod --within 7d
  seal due -o json")]
pub struct DueItems {
    /// Files and directories to search; the current directory if none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also list values that become overdue within this number of days; 0d lists only overdue values
    #[arg(long, value_name = "DAYS", default_value = "30d", value_parser = parse_days)]
    pub within: i64,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
}

/// Parses a number of days, with or without its unit.
fn parse_days(text: &str) -> Result<i64, String> {
    let digits = text.strip_suffix('d').unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let days = digits.parse::<u16>().ok().filter(|_| is_number);
    let days = days.filter(|days| *days <= MAX_DAYS).map(i64::from);
    days.ok_or_else(|| format!("must be a number of days from 0 to {MAX_DAYS}, such as 7d"))
}

/// Lists the values that are overdue or become overdue within a time, sorted by date.
///
/// # Errors
///
/// Fails if a file cannot be read or contains a malformed SealedSecret. For a file below a directory, the result for all
/// other files is shown first.
pub fn run(args: &DueItems, environment: &Environment) -> Result<Outcome> {
    report::warn_about_missing_submodules(&args.paths);
    let candidates = walk::candidates(&args.paths, &mut report::notice)?;
    let today = date_of(environment.now);
    let files = parallel::map(&candidates, || (), |(), _, candidate| read_file(candidate));
    let (mut found, mut unreadable_count) = (FoundDates::default(), 0);
    for (candidate, file) in candidates.iter().zip(files) {
        match file {
            Ok(file) => found.add(file),
            Err(error) if candidate.named => return Err(error),
            Err(error) => {
                unreadable_count += 1;
                let problem = walk::without_path(&candidate.path, &error);
                report::info(&format!("{}: not read: {problem}", candidate.path.shown()));
            }
        }
    }
    found.keep_until(today, args.within);
    match args.output {
        OutputFormat::Text => print(text(&found, today).as_bytes())?,
        OutputFormat::Json => print(&output::json(&json::DueReport::new(args, &found, today))?)?,
    };
    report::info(&summary(&found, args.within, today));
    SkippedFiles::check(unreadable_count)?;
    Ok(if found.items.is_empty() && found.problems.is_empty() {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// The position of an object or item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: String,
    line: usize,
    /// The namespace and name of the object.
    object: String,
}

/// An item with a date. Sorted by date.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DueItem {
    due: Due,
    place: Place,
    item: String,
}

/// A line of an annotation that has no effect or names no item, with the message.
type Problem = (Place, String);

/// The dates of one or more files.
#[derive(Debug, Default)]
struct FoundDates {
    items: Vec<DueItem>,
    problems: Vec<Problem>,
    /// The number of items without a date.
    undated: usize,
}

impl FoundDates {
    fn add(&mut self, other: Self) {
        self.items.extend(other.items);
        self.problems.extend(other.problems);
        self.undated += other.undated;
    }

    /// Removes items that become overdue later, and sorts the others by date.
    fn keep_until(&mut self, today: Date, within: i64) {
        self.items
            .retain(|item| item.due.days_left(today) <= within);
        self.items.sort();
    }

    fn add_object(&mut self, file: &str, node: &Node, object: &Object) {
        let place = |line| Place {
            file: file.to_owned(),
            line,
            object: object.sealed.qualified_name(),
        };
        for item in &object.items {
            match object.rotate_by.dates.get(&item.key) {
                Some(due) => self.items.push(DueItem {
                    due: *due,
                    place: place(item.line),
                    item: item.key.clone(),
                }),
                None => self.undated += 1,
            }
        }
        let problems = dates::problems(&object.rotate_by).into_iter();
        let problems = problems.chain(lines_without_item(object));
        let problems = problems.map(|message| (place(rotate_by_line(node)), message));
        self.problems.extend(problems);
    }
}

/// Returns a message for each line that names no item, with the items that have no date: the line may be meant for one
/// of them.
fn lines_without_item(object: &Object) -> Vec<String> {
    let undated = object.items.iter().map(|item| item.key.as_str());
    let undated = undated.filter(|item| !object.rotate_by.dates.contains_key(*item));
    let undated: Vec<&str> = undated.collect();
    let hint = match undated.as_slice() {
        [] => String::new(),
        items => format!("; items without a date: {}", items.join(", ")),
    };
    let missing = dates::missing_items(object).into_iter();
    let message = |item| format!("the line for {item} names no item{hint}");
    missing.map(message).collect()
}

fn read_file(candidate: &Candidate) -> Result<FoundDates> {
    let mut found = FoundDates::default();
    let path = &candidate.path;
    if let Some(file) = walk::read(candidate, Kind::SealedSecret)? {
        let name = path_text(path.as_os_str());
        for node in file.of_kind(Kind::SealedSecret) {
            let object = Object::read_leniently(node).with_context(|| path.shown())?;
            found.add_object(&name, node, &object);
        }
    }
    Ok(found)
}

fn text(found: &FoundDates, today: Date) -> String {
    let mut text = String::new();
    if !found.items.is_empty() {
        let head = ["DATE", "DUE", "OBJECT", "ITEM", "FILE"].map(str::to_owned);
        let rows = found.items.iter().map(|item| columns(item, today));
        let lines: Vec<_> = std::iter::once(head.to_vec()).chain(rows).collect();
        text = table(&lines);
    }
    for (Place { file, line, object }, message) in &found.problems {
        let problem = format!("{file}:{line}: error: {object}: {message}");
        text.extend([shown(&problem).as_ref(), "\n"]);
    }
    text
}

fn columns(item: &DueItem, today: Date) -> Vec<String> {
    vec![
        item.due.date.to_string(),
        dates::time_left(item.due.days_left(today)),
        item.place.object.clone(),
        item.item.clone(),
        format!("{}:{}", item.place.file, item.place.line),
    ]
}

fn summary(found: &FoundDates, within: i64, today: Date) -> String {
    let items = found.items.iter();
    let overdue = items.filter(|item| item.due.days_left(today) <= 0).count();
    let until = match within {
        1 => "within 1 day".to_owned(),
        n => format!("within {n} days"),
    };
    let due = match (overdue, within) {
        (_, 0) => format!("{} overdue", counted(overdue)),
        (0, _) => format!("{} due {until}", counted(found.items.len())),
        (_, _) => {
            let more = found.items.len() - overdue;
            format!("{} overdue, {more} more {until}", counted(overdue))
        }
    };
    let undated = match found.undated {
        0 => String::new(),
        1 => "; 1 item has no date".to_owned(),
        n => format!("; {n} items have no date"),
    };
    format!("{due}{undated}")
}

fn counted(values: usize) -> String {
    match values {
        0 => "no value is".to_owned(),
        1 => "1 value is".to_owned(),
        n => format!("{n} values are"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use shared::manifest;
    use shared::resource::ROTATE_BY_ANNOTATION;

    use super::*;

    fn found(annotation: &str) -> FoundDates {
        let annotation = serde_json::Value::from(annotation);
        let yaml = format!(
            "metadata:\n  name: db\n  namespace: shop\n  annotations:\n    {ROTATE_BY_ANNOTATION}: {annotation}\nspec: {{encryptedData: {{a: x, b: x, c: x}}}}\n"
        );
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        let node = &documents[0].root;
        let mut found = FoundDates::default();
        found.add_object("db.yaml", node, &Object::read(node).unwrap());
        found
    }

    #[test]
    fn lists_values_by_date_as_the_clock_moves() {
        for (today, within, want) in [
            (date(2027, 1, 1), 30, vec![]),
            (date(2027, 2, 1), 30, vec!["b"]),
            (date(2027, 3, 1), 30, vec!["b", "a"]),
            (date(2027, 3, 1), 0, vec!["b"]),
            (date(2028, 1, 1), 0, vec!["b", "a"]),
        ] {
            let mut found = found("a 2027-03-31 90d\nb 2027-03-01\ngone 2020-01-01\n");
            found.keep_until(today, within);
            let items: Vec<&str> = found.items.iter().map(|item| &*item.item).collect();
            assert_eq!((items, found.undated), (want, 1), "{today}, {within}");
        }
    }

    #[test]
    fn counts_days() {
        for (text, want) in [
            ("0d", Some(0)),
            ("30d", Some(30)),
            ("30", Some(30)),
            ("36500", Some(36500)),
            ("36501", None),
            ("-1d", None),
            ("+1", None),
            ("d", None),
            ("", None),
        ] {
            assert_eq!(parse_days(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn counts_overdue_values_separately() {
        for (today, within, want) in [
            (
                date(2027, 2, 28),
                1,
                "1 value is due within 1 day; 1 item has no date",
            ),
            (
                date(2027, 2, 28),
                0,
                "no value is overdue; 1 item has no date",
            ),
            (
                date(2027, 3, 1),
                30,
                "1 value is overdue, 0 more within 30 days; 1 item has no date",
            ),
            (
                date(2027, 3, 2),
                60,
                "1 value is overdue, 1 more within 60 days; 1 item has no date",
            ),
            (
                date(2027, 4, 15),
                0,
                "2 values are overdue; 1 item has no date",
            ),
        ] {
            let mut found = found("a 2027-03-01\nb 2027-04-15\n");
            found.keep_until(today, within);
            assert_eq!(summary(&found, within, today), want);
        }
        let today = date(2027, 3, 1);
        assert_eq!(
            summary(&FoundDates::default(), 0, today),
            "no value is overdue"
        );
    }

    /// A mistyped name must not lead to the message that no value is due.
    #[test]
    fn a_line_that_names_no_item_is_a_problem() {
        for (annotation, want) in [
            (
                "a 2020-01-01\nbb 2020-01-01\n",
                Some("the line for bb names no item; items without a date: b, c"),
            ),
            (
                "a 2027-01-01\nb 2027-01-01\nc 2027-01-01\nd 2027-01-01\n",
                Some("the line for d names no item"),
            ),
            ("a 2027-01-01\n", None),
        ] {
            let problems = found(annotation).problems;
            let messages: Vec<&str> = problems.iter().map(|(_, message)| &**message).collect();
            assert_eq!(messages, want.as_slice(), "{annotation}");
        }
    }

    /// Attack: an author writes a line that moves the cursor, to hide a date from the list.
    #[test]
    fn malformed_lines_do_not_control_a_terminal() {
        let found = found("a \u{1b}[2J\u{202e}\n");
        let text = text(&found, date(2027, 1, 1));
        assert!(
            text.starts_with("db.yaml:5: error: shop/db: the line "),
            "{text}"
        );
        assert_eq!(report::lines_shown(&text), text);
        assert_eq!(
            (found.items.len(), found.problems.len(), found.undated),
            (0, 1, 3)
        );
    }
}
