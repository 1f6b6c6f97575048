use std::ffi::{OsStr, OsString};

use clap_lex::OsStrExt as _;
use jiff::SignedDuration;

use crate::duration::parse_duration;

/// The type of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; `true` without a value.
    Switch,
    /// Any string.
    Text,
    /// A path of arbitrary bytes, or a URL.
    Path,
    /// A list of paths, with the syntax of a [`List`](Self::List).
    Paths,
    /// A list of strings, separated by commas (with CSV quotes) or set by repetition.
    List,
    /// A list of strings, set only by repetition: commas are part of a string. An environment variable adds one
    /// string.
    Repeated,
    /// One of these values. The second string describes them in error messages.
    Choice(&'static [&'static str], &'static str),
    /// An integer.
    Int,
    /// An integer that is not negative.
    Count,
    /// A floating-point number.
    Float,
    /// A duration in Go's syntax.
    Duration,
}

/// The parsed value of a flag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Switch(bool),
    Text(String),
    Path(OsString),
    Paths(Vec<OsString>),
    List(Vec<String>),
    Int(i64),
    Float(f64),
    Duration(SignedDuration),
}

impl Kind {
    /// Returns the placeholder for the value in the help page.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Switch => "true|false",
            Self::Text | Self::Repeated => "TEXT",
            Self::Choice(..) => "VALUE",
            Self::Path => "PATH",
            Self::List => "TEXT,…",
            Self::Paths => "PATH,…",
            Self::Int | Self::Count | Self::Float => "NUMBER",
            Self::Duration => "DURATION",
        }
    }

    /// Returns the value of a flag that is not set and has no default.
    pub(crate) fn zero(self) -> Value {
        match self {
            Self::Switch => Value::Switch(false),
            Self::Text | Self::Choice(..) => Value::Text(String::new()),
            Self::Path => Value::Path(OsString::new()),
            Self::Paths => Value::Paths(Vec::new()),
            Self::List | Self::Repeated => Value::List(Vec::new()),
            Self::Int | Self::Count => Value::Int(0),
            Self::Float => Value::Float(0.0),
            Self::Duration => Value::Duration(SignedDuration::ZERO),
        }
    }

    /// Parses a value. The error describes the expected value.
    pub(crate) fn parse(self, value: &OsStr) -> Result<Value, &'static str> {
        match self {
            Self::Path => Ok(Value::Path(value.to_owned())),
            Self::Paths => split_csv(value).map(Value::Paths).ok_or(EXPECTED_LIST),
            _ => self.parse_text(value.to_str().ok_or("UTF-8 text")?),
        }
    }

    fn parse_text(self, text: &str) -> Result<Value, &'static str> {
        match self {
            Self::Switch => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Switch(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Switch(false)),
                _ => Err("true or false"),
            },
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Path | Self::Paths => self.parse(OsStr::new(text)),
            Self::List => {
                let items = split_csv(OsStr::new(text)).ok_or(EXPECTED_LIST)?;
                let texts = items.into_iter().map(OsString::into_string);
                texts
                    .collect::<Result<_, _>>()
                    .map(Value::List)
                    .map_err(|_| EXPECTED_LIST)
            }
            Self::Repeated => {
                let item = Some(text).filter(|text| !text.is_empty());
                Ok(Value::List(item.map(str::to_owned).into_iter().collect()))
            }
            Self::Choice(values, _) if values.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(_, expected) => Err(expected),
            Self::Count => match text.parse() {
                Ok(number @ 0..) => Ok(Value::Int(number)),
                _ => Err("a non-negative integer"),
            },
            Self::Int => text.parse().map(Value::Int).map_err(|_| "an integer"),
            Self::Float => text.parse().map(Value::Float).map_err(|_| "a number"),
            Self::Duration => parse_duration(text)
                .map(Value::Duration)
                .map_err(|_| "a duration like 720h or 1h30m"),
        }
    }
}

/// Describes the expected form of a list in error messages.
const EXPECTED_LIST: &str = "a comma-separated list with closed quotes";

impl Value {
    /// Merges a later value into this one: the later value replaces this one, or is appended if this one is a list.
    pub(crate) fn merge(self, later: Self) -> Self {
        match (self, later) {
            (Self::List(mut items), Self::List(later_items)) => {
                items.extend(later_items);
                Self::List(items)
            }
            (Self::Paths(mut items), Self::Paths(later_items)) => {
                items.extend(later_items);
                Self::Paths(items)
            }
            (_, later) => later,
        }
    }
}

/// Splits one CSV record: quotes protect commas, two quotes represent one. Returns `None` if a quote is not
/// closed or is in the middle of an item.
fn split_csv(text: &OsStr) -> Option<Vec<OsString>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut items = Vec::new();
    let mut remaining = Some(text);
    while let Some(text) = remaining {
        let (item, after_comma) = match text.strip_prefix("\"") {
            Some(after_quote) => quoted_item(after_quote)?,
            None => unquoted_item(text)?,
        };
        items.push(item);
        remaining = after_comma;
    }
    Some(items)
}

/// Returns the item and, if a comma ends it, the text after the comma; `None` if the item contains a quote.
fn unquoted_item(text: &OsStr) -> Option<(OsString, Option<&OsStr>)> {
    let (item, after_comma) = match text.split_once(",") {
        Some((item, after_comma)) => (item, Some(after_comma)),
        None => (text, None),
    };
    (!item.contains("\"")).then(|| (item.to_owned(), after_comma))
}

fn quoted_item(text: &OsStr) -> Option<(OsString, Option<&OsStr>)> {
    let mut item = OsString::new();
    let mut remaining = text;
    loop {
        let (part, after_quote) = remaining.split_once("\"")?;
        item.push(part);
        if let Some(after_quote) = after_quote.strip_prefix("\"") {
            item.push("\"");
            remaining = after_quote;
        } else if after_quote.is_empty() {
            return Some((item, None));
        } else {
            return after_quote
                .strip_prefix(",")
                .map(|after_quote| (item, Some(after_quote)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_lists_as_csv() {
        for (text, want) in [
            ("", vec![]),
            ("a", vec!["a"]),
            ("a,b", vec!["a", "b"]),
            ("a,,b", vec!["a", "", "b"]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"say \"\"hi\"\"\"", vec!["say \"hi\""]),
        ] {
            let want: Vec<OsString> = want.into_iter().map(OsString::from).collect();
            assert_eq!(split_csv(OsStr::new(text)), Some(want), "{text}");
        }
        for text in ["it\"s", "\"open", "\"a\"b", "a,\""] {
            assert_eq!(split_csv(OsStr::new(text)), None, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn splits_paths_of_any_bytes() {
        use std::os::unix::ffi::OsStrExt as _;

        let paths = |list: &[&[u8]]| {
            list.iter()
                .map(|b| OsStr::from_bytes(b).to_owned())
                .collect()
        };
        for (text, want) in [
            (&b"\xff"[..], &[&b"\xff"[..]][..]),
            (b"\xff,a\xfe", &[b"\xff", b"a\xfe"]),
            (b"\"\xff,\"\"\",b", &[b"\xff,\"", b"b"]),
        ] {
            let parsed = Kind::Paths.parse(OsStr::from_bytes(text));
            assert_eq!(parsed, Ok(Value::Paths(paths(want))), "{text:?}");
        }
        let parsed = Kind::Text.parse(OsStr::from_bytes(b"\xff"));
        assert_eq!(parsed, Err("UTF-8 text"));
    }
}
