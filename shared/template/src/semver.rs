//! Semantic versions and constraints, as lenient as Masterminds/semver v3.4, which Bitnami's controller uses.

use std::cmp::Ordering;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use crate::text::Text;
use crate::value::Value;

/// A version; omitted parts are zero.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    pub(crate) prerelease: String,
    pub(crate) metadata: String,
    pub(crate) original: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

const SUFFIXES: &str =
    r"(?:-([0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*))?(?:\+([0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*))?";

/// Compiles a pattern of this module; `None` if it is invalid, which the tests rule out.
fn pattern(source: &str) -> Option<Regex> {
    Regex::new(source).ok()
}

impl Version {
    pub(crate) fn zero() -> Self {
        Self {
            major: 0,
            minor: 0,
            patch: 0,
            prerelease: String::new(),
            metadata: String::new(),
            original: String::new(),
        }
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
            pattern(&format!(
                r"^v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?{SUFFIXES}$"
            ))
        });
        let text = std::str::from_utf8(text).ok()?;
        let parts = PATTERN.as_ref()?.captures(text)?;
        let part = |at: usize| parts.get(at).map_or("", |part| part.as_str());
        let number = |at: usize| {
            if part(at).is_empty() {
                Some(0)
            } else {
                part(at).parse().ok()
            }
        };
        let version = Self {
            major: number(1)?,
            minor: number(2)?,
            patch: number(3)?,
            prerelease: part(4).to_owned(),
            metadata: part(5).to_owned(),
            original: text.to_owned(),
        };
        let has_leading_zero = |part: &str| {
            part.len() > 1
                && part.starts_with('0')
                && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        (!version.prerelease.split('.').any(has_leading_zero)).then_some(version)
    }

    /// Returns the total length of the version's strings in bytes.
    pub(crate) fn len(&self) -> usize {
        self.prerelease.len() + self.metadata.len() + self.original.len()
    }

    /// Compares versions; ignores metadata.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => compare_prereleases(&self.prerelease, &other.prerelease),
            }
        })
    }

    /// Returns the next major (0), minor (1) or patch (2) version.
    pub(crate) fn next(&self, part: usize) -> Self {
        let mut next = Self {
            prerelease: String::new(),
            metadata: String::new(),
            ..self.clone()
        };
        match part {
            0 => (next.major, next.minor, next.patch) = (self.major.wrapping_add(1), 0, 0),
            1 => (next.minor, next.patch) = (self.minor.wrapping_add(1), 0),
            _ if self.prerelease.is_empty() => next.patch = self.patch.wrapping_add(1),
            _ => {}
        }
        let prefix = if self.original.starts_with('v') {
            "v"
        } else {
            ""
        };
        next.original = format!("{prefix}{next}");
        next
    }

    /// Returns Go's fields, for printing.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Value)> {
        let text = |text: &str| Value::Text(Text::from(text));
        vec![
            ("major", Value::uint64(self.major)),
            ("minor", Value::uint64(self.minor)),
            ("patch", Value::uint64(self.patch)),
            ("pre", text(&self.prerelease)),
            ("metadata", text(&self.metadata)),
            ("original", text(&self.original)),
        ]
    }
}

fn compare_prereleases(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (Some(a), Some(b)) => compare_parts(a, b),
            (a, _) => {
                if a.is_some() {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Compares two parts of prereleases; numbers sort before other identifiers.
fn compare_parts(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) if a > b => Ordering::Greater,
        (Ok(_), _) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

/// A version constraint: alternatives, each a list of conditions that must all hold.
pub(crate) struct Constraint {
    alternatives: Vec<Vec<Condition>>,
}

struct Condition {
    operator: Operator,
    version: Version,
    /// Whether a part of the version is omitted or a wildcard (`x`, `X` or `*`).
    dirty: bool,
    minor_dirty: bool,
    patch_dirty: bool,
}

#[derive(Clone, Copy)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    AtLeast,
    AtMost,
    Tilde,
    Caret,
}

const OPERATORS: &str = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^";

/// Returns a pattern for a version in a constraint, whose parts may be wildcards. `groups` adds capture groups.
fn version_pattern(groups: bool) -> String {
    let number = r"[0-9|x|X|\*]+";
    let tail = r"[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*";
    if groups {
        format!(r"v?({number})(\.{number})?(\.{number})?(-(?:{tail}))?(?:\+(?:{tail}))?")
    } else {
        format!(r"v?(?:{number})(?:\.{number})?(?:\.{number})?(?:-{tail})?(?:\+{tail})?")
    }
}

struct Patterns {
    range: Regex,
    valid: Regex,
    conditions: Regex,
    condition: Regex,
}

fn patterns() -> Option<&'static Patterns> {
    static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
        let (version, groups) = (version_pattern(false), version_pattern(true));
        Some(Patterns {
            range: pattern(&format!(r"\s*({version})\s+-\s+({version})\s*"))?,
            valid: pattern(&format!(
                r"^(?:\s*(?:{OPERATORS})\s*(?:{version})\s*)(?:(?:\s+|,\s*)(?:{OPERATORS})\s*(?:{version})\s*)*$"
            ))?,
            conditions: pattern(&format!(r"(?:{OPERATORS})\s*(?:{version})"))?,
            condition: pattern(&format!(r"^\s*({OPERATORS})\s*(?:{groups})\s*$"))?,
        })
    });
    PATTERNS.as_ref()
}

impl Constraint {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let patterns = patterns()?;
        let text = std::str::from_utf8(text).ok()?;
        let text = expand_ranges(text, patterns);
        let alternatives: Option<Vec<_>> = text
            .split("||")
            .map(|part| conditions(part, patterns))
            .collect();
        Some(Self {
            alternatives: alternatives?,
        })
    }

    /// Returns whether a version meets the constraint. A prerelease meets only alternatives that mention a prerelease.
    pub(crate) fn is_met_by(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|conditions| {
            let mentions_prerelease = conditions
                .iter()
                .any(|condition| !condition.version.prerelease.is_empty());
            (version.prerelease.is_empty() || mentions_prerelease)
                && conditions
                    .iter()
                    .all(|condition| condition.is_met_by(version))
        })
    }
}

/// Expands each range, such as `1.2 - 2.3`, to two conditions.
fn expand_ranges(text: &str, patterns: &Patterns) -> String {
    let mut result = text.to_owned();
    for range in patterns.range.captures_iter(text) {
        let part = |at: usize| range.get(at).map_or("", |part| part.as_str());
        result = result.replacen(part(0), &format!(">= {}, <= {} ", part(1), part(2)), 1);
    }
    result
}

fn conditions(part: &str, patterns: &Patterns) -> Option<Vec<Condition>> {
    if !patterns.valid.is_match(part) {
        return None;
    }
    patterns
        .conditions
        .find_iter(part)
        .map(|matched| Condition::parse(matched.as_str(), patterns))
        .collect()
}

impl Condition {
    fn parse(text: &str, patterns: &Patterns) -> Option<Self> {
        let parts = patterns.condition.captures(text)?;
        let part = |at: usize| parts.get(at).map_or("", |part| part.as_str());
        let is_wildcard =
            |at: usize| matches!(part(at).trim_start_matches('.'), "" | "x" | "X" | "*");
        let (major, minor, suffix) = (part(2), part(3), part(5));
        let (version_text, dirty, minor_dirty, patch_dirty) = if is_wildcard(2) {
            (format!("0.0.0{suffix}"), true, false, false)
        } else if is_wildcard(3) {
            (format!("{major}.0.0{suffix}"), true, true, false)
        } else if is_wildcard(4) {
            (format!("{major}{minor}.0{suffix}"), true, false, true)
        } else {
            let start = parts.get(2)?.start();
            (text.get(start..)?.trim().to_owned(), false, false, false)
        };
        Some(Self {
            operator: operator(part(1)),
            version: Version::parse(version_text.as_bytes())?,
            dirty,
            minor_dirty,
            patch_dirty,
        })
    }

    fn is_met_by(&self, version: &Version) -> bool {
        let bound = &self.version;
        match self.operator {
            Operator::Equal if self.dirty => self.tilde(version),
            Operator::Equal => version.compare(bound).is_eq(),
            Operator::NotEqual => self.not_equal(version),
            Operator::Greater => self.greater(version),
            Operator::Less => version.compare(bound).is_lt(),
            Operator::AtLeast => version.compare(bound).is_ge(),
            Operator::AtMost => self.at_most(version),
            Operator::Tilde => self.tilde(version),
            Operator::Caret => self.caret(version),
        }
    }

    fn not_equal(&self, version: &Version) -> bool {
        let bound = &self.version;
        if self.dirty {
            if bound.major != version.major {
                return true;
            }
            if self.minor_dirty {
                return false;
            }
            if bound.minor != version.minor {
                return true;
            }
            if self.patch_dirty {
                return compare_prereleases_or_none(&version.prerelease, &bound.prerelease).is_ne();
            }
            if bound.patch != version.patch {
                return true;
            }
        }
        version.compare(bound).is_ne()
    }

    fn greater(&self, version: &Version) -> bool {
        let bound = &self.version;
        if !self.dirty {
            return version.compare(bound).is_gt();
        }
        match version.major.cmp(&bound.major) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal if self.minor_dirty => false,
            Ordering::Equal if self.patch_dirty => version.minor > bound.minor,
            Ordering::Equal => version.compare(bound).is_gt(),
        }
    }

    fn at_most(&self, version: &Version) -> bool {
        let bound = &self.version;
        if !self.dirty {
            return version.compare(bound).is_le();
        }
        version.major <= bound.major
            && !(version.major == bound.major && version.minor > bound.minor && !self.minor_dirty)
    }

    fn tilde(&self, version: &Version) -> bool {
        let bound = &self.version;
        if version.compare(bound).is_lt() {
            return false;
        }
        if (bound.major, bound.minor, bound.patch) == (0, 0, 0)
            && !self.minor_dirty
            && !self.patch_dirty
        {
            return true;
        }
        version.major == bound.major && (version.minor == bound.minor || self.minor_dirty)
    }

    fn caret(&self, version: &Version) -> bool {
        let bound = &self.version;
        if version.compare(bound).is_lt() {
            return false;
        }
        if bound.major > 0 || self.minor_dirty {
            return version.major == bound.major;
        }
        if version.major > 0 {
            return false;
        }
        if bound.minor > 0 || self.patch_dirty {
            return version.minor == bound.minor;
        }
        version.minor == 0 && version.patch == bound.patch
    }
}

fn compare_prereleases_or_none(a: &str, b: &str) -> Ordering {
    if a.is_empty() && b.is_empty() {
        Ordering::Equal
    } else {
        compare_prereleases(a, b)
    }
}

fn operator(text: &str) -> Operator {
    match text {
        "!=" => Operator::NotEqual,
        ">" => Operator::Greater,
        "<" => Operator::Less,
        ">=" | "=>" => Operator::AtLeast,
        "<=" | "=<" => Operator::AtMost,
        "~" | "~>" => Operator::Tilde,
        "^" => Operator::Caret,
        _ => Operator::Equal,
    }
}
