//! What can go wrong. Texts are fixed sentences: no value, no template text ever becomes part of one.

/// A template that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template {template:?}, line {line}, column {column}: {reason}")]
pub struct ParseError {
    /// The key under `spec.template.data`.
    pub template: String,
    /// Counted from 1.
    pub line: usize,
    /// Bytes into the line, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// A template that was parsed but cannot be rendered with these values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template {template:?}, line {line}, column {column}{}: {reason}", in_function(*.function))]
pub struct RenderError {
    /// The key under `spec.template.data`.
    pub template: String,
    /// Counted from 1.
    pub line: usize,
    /// Bytes into the line, counted from 1.
    pub column: usize,
    /// The function that failed or refused its arguments, if it was one.
    pub function: Option<&'static str>,
    /// What kind of failure, for metrics and tests.
    pub kind: ErrorKind,
    /// What is wrong.
    pub reason: &'static str,
}

fn in_function(name: Option<&'static str>) -> String {
    name.map_or_else(String::new, |name| format!(", function {name}"))
}

/// Kinds of failure while rendering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A function got too few, too many or the wrong type of arguments.
    Argument,
    /// A function reported failure, `fail` included.
    Failed,
    /// A field or method that the value does not have.
    Field,
    /// `range`, or an argument given to something that is no function.
    Misuse,
    /// A name of a template or variable that is not defined.
    Undefined,
    /// The budget is used up.
    Limit(Limit),
}

/// What a budget limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Work done, roughly one per action, argument and 64 bytes touched.
    Steps,
    /// Bytes of the result.
    Output,
    /// Bytes of one value in between.
    Value,
    /// Bytes of all values made in one rendering.
    Memory,
    /// Nesting of templates, pipelines and values.
    Depth,
    /// RSA, DSA, ECDSA and Ed25519 keys made.
    Keys,
    /// Deliberately slow hashes: bcrypt and scrypt.
    Hashes,
    /// What keys and hashes cost together.
    Work,
    /// Nothing of the budget: the caller's meter ended the rendering.
    Interrupted,
}

impl Limit {
    fn reason(self) -> &'static str {
        match self {
            Self::Steps => "too much work; shorten the loops or split the object",
            Self::Output => "the results are larger than allowed; split the object",
            Self::Value => "a value in between is larger than allowed; shorten it",
            Self::Memory => "all values together need more memory than allowed; split the object",
            Self::Depth => "nested too deeply; flatten the template or the value",
            Self::Keys => "more keys generated than allowed in one object; split the object",
            Self::Hashes => {
                "more slow password hashes than allowed in one object; split the object"
            }
            Self::Work => {
                "keys and password hashes take longer than allowed in one object; split the object, or generate \
                 ECDSA or Ed25519 keys"
            }
            Self::Interrupted => "interrupted; the rest of the budget was not used",
        }
    }
}

/// A failure before its place is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) reason: &'static str,
}

impl Fault {
    pub(crate) fn argument(reason: &'static str) -> Self {
        Self {
            kind: ErrorKind::Argument,
            reason,
        }
    }

    pub(crate) fn failed(reason: &'static str) -> Self {
        Self {
            kind: ErrorKind::Failed,
            reason,
        }
    }

    pub(crate) fn field(reason: &'static str) -> Self {
        Self {
            kind: ErrorKind::Field,
            reason,
        }
    }

    pub(crate) fn misuse(reason: &'static str) -> Self {
        Self {
            kind: ErrorKind::Misuse,
            reason,
        }
    }

    pub(crate) fn undefined(reason: &'static str) -> Self {
        Self {
            kind: ErrorKind::Undefined,
            reason,
        }
    }

    pub(crate) fn limit(limit: Limit) -> Self {
        Self {
            kind: ErrorKind::Limit(limit),
            reason: limit.reason(),
        }
    }
}
