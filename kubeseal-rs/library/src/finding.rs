//! The rules of `seal lint`, and its findings.

use std::path::PathBuf;

/// The severity of a finding. Every severity except [`Severity::Note`] makes the check fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A mistake, such as a leaked value or an object that cannot work.
    Error,
    /// A possible mistake.
    Warning,
    /// A reminder, something that was not checked, or something that cannot be changed in the object.
    Note,
}

impl Severity {
    /// Returns the name of the severity.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A rule of `seal lint`. `--ignore` accepts its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The name, in kebab case.
    pub name: &'static str,
    /// The severity of its findings.
    pub severity: Severity,
    /// The description, one sentence.
    pub description: &'static str,
}

macro_rules! rules {
    ($($id:ident $name:literal $severity:ident $description:literal;)*) => {
        $(#[doc = $description] pub const $id: Rule = Rule { name: $name, severity: Severity::$severity, description: $description };)*
        /// All rules.
        pub const RULES: &[Rule] = &[$($id),*];
    };
}

rules! {
    PLAIN_SECRET "plain-secret" Error "A Secret, or a `secretGenerator`, with plain values is in a file that is tracked by Git or not ignored.";
    SEALED_KEY "sealed-key" Error "A SealedSecret contains a private key of a controller.";
    MALFORMED_FILE "malformed-file" Error "A file that mentions Secrets, SealedSecrets or generators (or, in a template, one of its lines) cannot be read.";
    MALFORMED_OBJECT "malformed-object" Error "A SealedSecret has fields of the wrong type.";
    MALFORMED_VALUE "malformed-value" Error "A sealed value is empty, not base64, truncated, or something else, such as a PGP message or the plain value.";
    KEY_SIZE "key-size" Error "A value is sealed for a key whose size differs from that of the certificate, or is below the minimum of a rule.";
    RETIRED_KEY "retired-key" Error "According to its key hint, an item is sealed for a retired key.";
    OTHER_KEY "other-key" Warning "According to its key hint, an item is sealed for a key other than the one that applies.";
    CLOSED_ITEM "closed-item" Error "No key of `--keys` unseals an item, although the item is sealed for one of these keys.";
    STALE_HINT "stale-hint" Warning "A key hint names an item that does not exist.";
    ROTATE_BY "rotate-by" Note "The value of an item is overdue for a change, according to its rotate-by date.";
    ROTATE_BY_LINE "rotate-by-line" Error "A line of the annotation with rotate-by dates is malformed, repeats an item, or names an item that does not exist.";
    SCOPE "scope" Error "The scope annotations contradict each other, or have a value that the controller does not know.";
    NO_NAME "no-name" Error "A SealedSecret has no name, so no value can be decrypted.";
    NO_NAMESPACE "no-namespace" Warning "A SealedSecret has no namespace, although its scope is bound to one.";
    NAME "name" Error "The API server rejects a name, a namespace or an item key.";
    TEMPLATE_NAME "template-name" Warning "The template has a different name or namespace from the object; both are ignored.";
    INCOMPLETE_TYPE "incomplete-type" Error "The type of the Secret requires an item that is missing.";
    TEMPLATE "template" Error "A template cannot be parsed.";
    MISSING_ITEM "missing-item" Error "A template inserts an item that does not exist, and so renders `<no value>`.";
    UNKNOWN_FIELD "unknown-field" Error "A field does not exist, and the API server drops it.";
    DUPLICATE_ITEM "duplicate-item" Error "An item is defined twice; only the last one counts.";
    REPEATED_KEY "repeated-key" Error "A key, or a variant of the name of a field such as `Literals` and `literals`, is repeated in a mapping of a document with Secrets; tools disagree on which value applies.";
    SIZE "size" Warning "The values of a SealedSecret are larger than a Secret may be.";
    DEPRECATED "deprecated" Warning "The deprecated field `spec.data` contains a whole Secret.";
    FOREIGN_RECIPIENT "foreign-recipient" Error "A v2 value is sealed for a key that the rule does not list, or that it lists as retired.";
    MISSING_RECIPIENT "missing-recipient" Error "A v2 value is not sealed for a key that the rule lists.";
    MIXED_SUITES "mixed-suites" Error "A v2 value is sealed for post-quantum keys and for other keys, but the rule does not allow this.";
    WEAK_SUITE "weak-suite" Error "A value is sealed for a key that is not post-quantum, although all keys of the rule are.";
    TEMPLATE_CHANGED "template-changed" Error "The template was changed after v2 values were sealed and bound to it.";
    REFUSED_VALUE "refused-value" Error "A controller refuses a v2 value without using a key, for example because it was sealed for another name.";
    PARTLY_BOUND "partly-bound" Warning "Some v2 values of an object are bound to its template, and others are not.";
    UNBOUND_VALUE "unbound-value" Warning "A v2 value is not bound to the template of its object, but the rule requires this.";
    MAY_BECOME_SECRET "may-become-secret" Error "A value may become a Secret, but the rule requires that it never does.";
    UNUSED_LOCK "unused-lock" Warning "A lock of v2 values belongs to no item.";
    FORMAT "format" Warning "A value is sealed as v1, but the rule requires v2.";
    DELIVER "deliver" Note "Only an annotation prevents the controller from creating a Secret; every author of the object can remove the annotation.";
    DELIVER_VALUE "deliver-value" Error "The annotation for delivery without a Secret has an unknown value, and the controller refuses the object, or it is on the template, where it has no effect.";
    CLASS "class" Error "A SecretProviderClass for the provider `sealed` cannot be mounted.";
    CLASS_SECRET "class-secret" Warning "A SecretProviderClass for the provider `sealed` has `secretObjects`, from which the CSI driver creates Secrets.";
    CLASS_PARAMETER "class-parameter" Warning "A SecretProviderClass for the provider `sealed` has a parameter without effect.";
    CLASS_OBJECT "class-object" Warning "A SecretProviderClass names a SealedSecret that no file in the checked directories defines.";
    CLASS_ITEM "class-item" Error "A SecretProviderClass names an item that its SealedSecret does not have.";
    BROKEN_RULE "broken-rule" Error "An object contradicts its rule in `.seal.yaml`.";
    RULES_FILE "rules-file" Error "`.seal.yaml` cannot be used.";
    CERTIFICATE "certificate" Error "The certificate that applies cannot be used.";
    EXEMPTION "exemption" Error "A comment exempts a file without a reason, or from a rule that allows no exemption by a comment.";
    NOT_CHECKED "not-checked" Note "A part of a template of a possible Secret, or a sealed value whose rule sets `neverSecret`, can be checked only after rendering.";
}

/// Rules that `.seal.yaml` cannot ignore: their findings are about that file, the certificate, or an
/// exemption itself.
pub const NEVER_EXEMPT: [Rule; 3] = [RULES_FILE, CERTIFICATE, EXEMPTION];

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The violated rule.
    pub rule: Rule,
    /// The file that contains the violation.
    pub file: PathBuf,
    /// The line, counted from one.
    pub line: usize,
    /// The message, without the location.
    pub message: String,
}

impl Finding {
    /// Returns whether the finding is only a note, which does not make the check fail.
    pub fn is_note(&self) -> bool {
        self.rule.severity == Severity::Note
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_rules_describes_each_rule() {
        let page = include_str!("../../docs/lint.md");
        for rule in RULES {
            let row = format!(
                "\n| `{}` | {} | {} | ",
                rule.name,
                rule.severity.name(),
                rule.description
            );
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn the_page_of_rules_shows_how_each_can_be_exempted() {
        let page = include_str!("../../docs/lint.md");
        for rule in RULES {
            let row = format!("\n| `{}` | ", rule.name);
            let row = page.split(&row).nth(1).unwrap();
            let exemption = row.lines().next().unwrap().trim_end_matches(" |");
            let exemption = exemption.rsplit("| ").next().unwrap();
            let is_never_exempt = NEVER_EXEMPT.contains(rule);
            let is_by_comment = [PLAIN_SECRET, MALFORMED_FILE].contains(rule);
            let want = match (is_never_exempt, is_by_comment) {
                (true, _) => "no",
                (_, true) => "comment, rule",
                _ => "rule",
            };
            assert_eq!(exemption, want, "{}", rule.name);
        }
    }
}
