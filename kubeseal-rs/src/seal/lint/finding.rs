//! What lint finds, and its rules.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

/// How bad it is. Either makes the check fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It leaks, or it will not work.
    Error,
    /// It may not be what was meant.
    Warning,
}

impl Severity {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What can be found. Its name is what `--ignore` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Short, with dashes.
    pub name: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What it means, in a sentence.
    pub means: &'static str,
}

macro_rules! rules {
    ($($id:ident $name:literal $severity:ident $means:literal;)*) => {
        $(#[doc = $means] pub(super) const $id: Rule = Rule { name: $name, severity: Severity::$severity, means: $means };)*
        /// Every rule.
        pub const RULES: &[Rule] = &[$($id),*];
    };
}

rules! {
    PLAIN_SECRET "plain-secret" Error "A Secret or secretGenerator with plain values stands where Git sees it.";
    MALFORMED_FILE "malformed-file" Error "A file that names Secrets or SealedSecrets cannot be read.";
    MALFORMED_OBJECT "malformed-object" Error "A SealedSecret has fields of the wrong kind.";
    MALFORMED_VALUE "malformed-value" Error "A sealed value is empty, no base64, or cut short.";
    KEY_SIZE "key-size" Error "A value is sealed for a key of another size than the certificate's, or than a rule wants.";
    RETIRED_KEY "retired-key" Error "By its hint an item is sealed for a key that is retired.";
    OTHER_KEY "other-key" Warning "By its hint an item is sealed for another key than the one that applies.";
    CLOSED_ITEM "closed-item" Error "None of the keys given with --keys opens an item.";
    STALE_HINT "stale-hint" Warning "A key hint is for an item that is not there.";
    SCOPE "scope" Error "The scope annotations say what the controller will not understand, or two things.";
    NO_NAME "no-name" Error "A SealedSecret has no name, so nothing opens.";
    NO_NAMESPACE "no-namespace" Warning "A SealedSecret names no namespace, which its scope is bound to.";
    NAME "name" Error "The API server rejects a name, namespace or item key.";
    TEMPLATE_NAME "template-name" Warning "The template has another name or namespace than the object, which counts for nothing.";
    INCOMPLETE_TYPE "incomplete-type" Error "The type of the Secret requires an item that is not there.";
    TEMPLATE "template" Error "A template cannot be parsed.";
    UNKNOWN_FIELD "unknown-field" Error "A field does not exist and is dropped without a word.";
    DUPLICATE_ITEM "duplicate-item" Error "An item is there twice, and only the last counts.";
    DEPRECATED "deprecated" Warning "The deprecated `spec.data` holds a whole Secret.";
    BROKEN_RULE "broken-rule" Error "A rule of .seal.yaml is broken.";
    RULES_FILE "rules-file" Error "The .seal.yaml cannot be used.";
    CERTIFICATE "certificate" Error "The certificate that applies cannot be used.";
    EXEMPTION "exemption" Error "A comment exempts a file without a reason, or from a rule that it may not.";
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// By which rule.
    pub rule: Rule,
    /// In which file.
    pub file: PathBuf,
    /// On which line, counted from one.
    pub line: usize,
    /// In a sentence, without its place.
    pub message: String,
}

impl Finding {
    /// For programs.
    pub fn to_json(&self) -> Json {
        json!({
            "rule": self.rule.name,
            "severity": self.rule.severity.word(),
            "file": self.file.to_string_lossy(),
            "line": self.line,
            "message": self.message,
        })
    }
}
