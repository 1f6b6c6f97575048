//! Comments that exempt a file: `# seal lint: ignore plain-secret: REASON`, from the first column of a line. A similar
//! line inside a quoted or block scalar is a value and not a comment.
//!
//! The author of a file also writes its comments. So a comment exempts only from two rules about the file itself; only
//! `.seal.yaml` can exempt from other rules.

use kubeseal_library::finding::{self, Rule};

use super::object::FindingInFile;
use shared::manifest::{self, Comment};

/// The rules that a comment may exempt from.
const ALLOWED: [Rule; 2] = [finding::PLAIN_SECRET, finding::MALFORMED_FILE];

/// The beginning of a comment with an exemption.
const HEAD: &str = "seal lint:";

/// Returns the rules that the comments of a file exempt it from, and a finding for each invalid exemption.
pub(super) fn comments(bytes: &[u8]) -> (Vec<Rule>, Vec<FindingInFile>) {
    let (mut exempt, mut findings) = (Vec::new(), Vec::new());
    for comment in manifest::comments(bytes, |text| exemption(text).is_some()) {
        match exempted_rules(&comment) {
            Ok(rules) => exempt.extend(rules),
            Err(problem) => findings.push((finding::EXEMPTION, comment.line, problem.to_owned())),
        }
    }
    (exempt, findings)
}

/// Returns the text after [`HEAD`], if the comment begins with it.
fn exemption(comment: &str) -> Option<&str> {
    comment.trim().strip_prefix(HEAD)
}

fn exempted_rules(comment: &Comment) -> Result<Vec<Rule>, &'static str> {
    if !comment.is_certain {
        return Err(
            "this exemption follows the first syntax error of a malformed document, where it may be part of a \
             value; move it to the top of the file",
        );
    }
    parse_rules(exemption(&comment.text).unwrap_or_default())
}

fn parse_rules(args: &str) -> Result<Vec<Rule>, &'static str> {
    const FORM: &str =
        "invalid exemption: expected `# seal lint: ignore RULE: REASON`, with a reason";
    let args = args.trim_start().strip_prefix("ignore ").ok_or(FORM)?;
    let (names, reason) = args.split_once(':').ok_or(FORM)?;
    if !reason.contains(char::is_alphanumeric) {
        return Err(FORM);
    }
    let rule = |name: &str| {
        let rule = ALLOWED.into_iter().find(|rule| rule.name == name.trim());
        rule.ok_or(
            "a comment can only ignore plain-secret and malformed-file; ignore other rules in .seal.yaml \
             (`ignore: {RULE: REASON}`)",
        )
    };
    names.split(',').map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_exempts_only_with_a_reason() {
        for (text, exempt, wrong) in [
            (
                "# seal lint: ignore plain-secret: keys of the tests\n",
                1,
                0,
            ),
            (
                "a: b\n#seal lint: ignore plain-secret, malformed-file: a fixture\r\n",
                2,
                0,
            ),
            ("# seal lint: ignore plain-secret\n", 0, 1),
            ("# seal lint: ignore plain-secret: \n", 0, 1),
            ("# seal lint: ignore plain-secret: --\n", 0, 1),
            ("# seal lint: ignore: a reason\n", 0, 1),
            ("# seal lint: ignore broken-rule: a reason\n", 0, 1),
            ("# seal lint: ignore plain-secret, scope: a reason\n", 0, 1),
            ("# seal lint finds nothing here\n", 0, 0),
            ("a: |\n  # seal lint: ignore plain-secret: a value\n", 0, 0),
            ("--- |\n# seal lint: ignore plain-secret: a value\n", 0, 0),
            ("[ }\n# seal lint: ignore malformed-file: a value\n", 0, 1),
        ] {
            let (exempted, problems) = comments(text.as_bytes());
            assert_eq!((exempted.len(), problems.len()), (exempt, wrong), "{text}");
        }
    }
}
