//! The kind in the target of a patch of kustomize: a regular expression in the syntax of Go.

use regex::RegexBuilder;

use super::placeholder::is_templated;

/// The kind that expressions are compared with.
const KIND: &str = "Secret";

/// The maximum length of an expression that is evaluated, in bytes.
const MAX_LEN: usize = 256;

/// The maximum size of a compiled expression, in bytes.
const MAX_SIZE: usize = 1 << 18;

/// Returns whether an expression may match Secrets. `true` if it cannot be evaluated here, or comes from a template. An
/// empty one is no expression for kustomize.
pub(super) fn may_match_secret(expression: &str) -> bool {
    if expression.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return expression == KIND;
    }
    if expression.len() > MAX_LEN || is_templated(expression) || differs_in_go(expression) {
        return true;
    }
    // Older versions of kustomize do not group the expression, so the anchors belong to its first and last branch.
    let anchored = [format!("^(?:{expression})$"), format!("^{expression}$")];
    anchored.iter().any(|anchored| is_match(anchored))
}

fn is_match(expression: &str) -> bool {
    let expression = RegexBuilder::new(expression).size_limit(MAX_SIZE).build();
    expression.map_or(true, |expression| expression.is_match(KIND))
}

/// Returns whether Go may read a character class differently: it has no operators such as `&&`, and no nested classes.
fn differs_in_go(expression: &str) -> bool {
    let mut classes = expression.split('[').skip(1).peekable();
    let has_class = classes.peek().is_some();
    let has_operator = ["&&", "--", "~~", "\\"]
        .iter()
        .any(|operator| expression.contains(operator));
    // A part that does not end its class is followed by a bracket inside the class.
    let is_nested = |class: &str| !class.trim_start_matches(['^', ']']).contains(']');
    has_class && (has_operator || classes.any(is_nested))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a committer writes the kind of a patch's target as an expression that matches `Secret` only for
    /// kustomize, so that lint overlooks the values of the patch.
    #[test]
    fn an_expression_that_matches_secrets_for_kustomize_matches() {
        let long = format!("{}|Secret", "a".repeat(MAX_LEN));
        let large = "(?:a{1000}){1000}";
        for (expression, want) in [
            ("Secret", true),
            ("ConfigMap|Secret", true),
            ("(Secret)", true),
            ("Se[c]ret", true),
            ("S[a-z]+", true),
            ("(?i)secret", true),
            ("(?i:S)ecret", true),
            ("S\\w+", true),
            ("[^a]ecret", true),
            ("Secre[[:alpha:]]", true),
            ("[S&&]ecret", true),
            ("[S[]ecret", true),
            ("\\QSecret\\E", true),
            ("Secret|(", true),
            ("X|et", true),
            ("{{ .kind }}", true),
            (".*", true),
            (long.as_str(), true),
            (large, true),
            ("", false),
            ("secret", false),
            ("Deployment", false),
            ("ConfigMap|Deployment", false),
            ("Deploy.*", false),
            ("[CD].*", false),
            ("[Cc]onfig[Mm]ap", false),
            (".*Set", false),
            ("Sealed.*", false),
            ("Secrets?Store", false),
        ] {
            assert_eq!(may_match_secret(expression), want, "{expression}");
        }
    }
}
