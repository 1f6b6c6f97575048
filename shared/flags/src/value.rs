use jiff::SignedDuration;

use crate::duration::parse_duration;

/// The type of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; `true` without a value.
    Switch,
    /// Any text.
    Text,
    /// A list of texts, separated by commas (with CSV quotes) or given by repetition.
    List,
    /// A list of texts, given only by repetition: commas are part of a text. An environment variable adds one
    /// text.
    Repeated,
    /// One of these words. The second text lists them for the help page.
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

/// A parsed value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Switch(bool),
    Text(String),
    List(Vec<String>),
    Int(i64),
    Float(f64),
    Duration(SignedDuration),
}

impl Kind {
    /// Returns the placeholder for the value in the help page.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Switch => "true|false",
            Self::Text | Self::Repeated => "TEXT",
            Self::Choice(..) => "WORD",
            Self::List => "TEXT,…",
            Self::Int | Self::Count | Self::Float => "NUMBER",
            Self::Duration => "DURATION",
        }
    }

    /// Returns the value of a flag without a default that was not given.
    pub(crate) fn zero(self) -> Value {
        match self {
            Self::Switch => Value::Switch(false),
            Self::Text | Self::Choice(..) => Value::Text(String::new()),
            Self::List | Self::Repeated => Value::List(Vec::new()),
            Self::Int | Self::Count => Value::Int(0),
            Self::Float => Value::Float(0.0),
            Self::Duration => Value::Duration(SignedDuration::ZERO),
        }
    }

    /// Parses a value; the error says what was expected.
    pub(crate) fn parse(self, text: &str) -> Result<Value, &'static str> {
        match self {
            Self::Switch => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Switch(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Switch(false)),
                _ => Err("true or false"),
            },
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::List => split(text)
                .map(Value::List)
                .ok_or("a list by commas, its quotes in pairs"),
            Self::Repeated => {
                let item = Some(text).filter(|text| !text.is_empty());
                Ok(Value::List(item.map(str::to_owned).into_iter().collect()))
            }
            Self::Choice(words, _) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(_, expected) => Err(expected),
            Self::Count => match text.parse() {
                Ok(number @ 0..) => Ok(Value::Int(number)),
                _ => Err("a whole number that is not negative"),
            },
            Self::Int => text.parse().map(Value::Int).map_err(|_| "a whole number"),
            Self::Float => text.parse().map(Value::Float).map_err(|_| "a number"),
            Self::Duration => parse_duration(text)
                .map(Value::Duration)
                .map_err(|_| "a duration like 720h or 1h30m"),
        }
    }
}

impl Value {
    /// Merges a later value into this one: it replaces this one, or extends a list.
    pub(crate) fn followed_by(self, later: Self) -> Self {
        match (self, later) {
            (Self::List(mut items), Self::List(more)) => {
                items.extend(more);
                Self::List(items)
            }
            (_, later) => later,
        }
    }
}

/// Splits one CSV record: quotes protect commas, two quotes stand for one. Returns `None` if a quote is not
/// closed or is in the middle of an item.
fn split(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let (item, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_item(quoted)?,
            None => plain_item(rest)?,
        };
        items.push(item);
        match tail.strip_prefix(',') {
            Some(tail) => rest = tail,
            None => return tail.is_empty().then_some(items),
        }
    }
}

fn plain_item(text: &str) -> Option<(String, &str)> {
    let (item, tail) = text.split_at(text.find(',').unwrap_or(text.len()));
    (!item.contains('"')).then(|| (item.to_owned(), tail))
}

fn quoted_item(text: &str) -> Option<(String, &str)> {
    let mut item = String::new();
    let mut rest = text;
    loop {
        let (part, tail) = rest.split_once('"')?;
        item.push_str(part);
        match tail.strip_prefix('"') {
            Some(tail) => {
                item.push('"');
                rest = tail;
            }
            None => return Some((item, tail)),
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
            let want: Vec<String> = want.into_iter().map(str::to_owned).collect();
            assert_eq!(split(text), Some(want), "{text}");
        }
        for text in ["it\"s", "\"open", "\"a\"b", "a,\""] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
