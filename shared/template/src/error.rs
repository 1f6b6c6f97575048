//! Errors. Their reasons are fixed sentences, so no message contains a value or template text.

/// Why a template cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template {template:?}, line {line}, column {column}: {reason}")]
pub struct ParseError {
    /// The name of the template, such as its key under `spec.template.data`.
    pub template: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in bytes, counted from 1.
    pub column: usize,
    /// Why the template cannot be parsed.
    pub reason: &'static str,
}

/// Why a template cannot be rendered with these values, or why the meter ended the work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template {template:?}, line {line}, column {column}{}: {reason}", in_function(*.function))]
pub struct RenderError {
    /// The name of the template, such as its key under `spec.template.data`.
    pub template: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in bytes, counted from 1.
    pub column: usize,
    /// The function that failed or refused its arguments; `None` if no function did.
    pub function: Option<&'static str>,
    /// Kind of failure, for metrics and tests.
    pub kind: ErrorKind,
    /// Why the rendering failed.
    pub reason: &'static str,
}

impl RenderError {
    /// Returns the error of a template that was not parsed, because the meter ended the work.
    pub fn interrupted(template: &str) -> Self {
        let Fault { kind, reason } = Fault::limit(Limit::Interrupted);
        Self {
            template: template.to_owned(),
            line: 1,
            column: 1,
            function: None,
            kind,
            reason,
        }
    }
}

fn in_function(name: Option<&'static str>) -> String {
    name.map_or_else(String::new, |name| format!(", function {name}"))
}

/// Kinds of rendering failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A function received too few or too many arguments, or arguments of the wrong type.
    Argument,
    /// A function reported a failure; includes `fail`.
    Failed,
    /// The value does not have this field or method.
    Field,
    /// A value does not support this use, such as `range` over a value without items, or arguments for a value that
    /// takes none.
    Misuse,
    /// The template or variable is not defined.
    Undefined,
    /// The budget is exhausted, or the meter ended the work.
    Limit(Limit),
}

/// The limits of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Number of steps: roughly one per action, per argument and per 64 processed bytes.
    Steps,
    /// Bytes of the results.
    Output,
    /// Bytes of one intermediate value.
    Value,
    /// Bytes of all values created by the renderings that share a budget.
    Memory,
    /// Nesting of templates, pipelines and values.
    Depth,
    /// Number of RSA, ECDSA and Ed25519 keys generated.
    Keys,
    /// Number of deliberately slow hashes: bcrypt and scrypt.
    Hashes,
    /// Total cost of keys and hashes.
    Work,
    /// Not a limit of the budget: the caller's meter ended the work.
    Interrupted,
}

impl Limit {
    fn reason(self) -> &'static str {
        match self {
            Self::Steps => "too much work; shorten the loops or split the object",
            Self::Output => "the results are larger than allowed; split the object",
            Self::Value => "an intermediate value is larger than allowed; shorten it",
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

/// A failure without its position in the template.
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
