//! Formats findings as text, JSON, SARIF 2.1.0 or workflow commands of GitHub Actions.

use std::borrow::Cow;
use std::path::Path;

use kubeseal_library::finding::{Finding, RULES, Rule, Severity};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::report::ShowPath as _;
use crate::report::{Paint, lines_shown, path_text, shown};

/// Formats findings as text: `file:line: severity: message [rule]`.
pub(super) fn text(findings: &[Finding], paint: Paint) -> String {
    let line = |finding: &Finding| {
        let Finding {
            rule,
            file,
            line,
            message,
        } = finding;
        let word = rule.severity.name();
        let word = match rule.severity {
            Severity::Error => paint.red(word),
            Severity::Warning => paint.yellow(word),
            Severity::Note => word.into(),
        };
        format!(
            "{}:{line}: {word}: {} [{}]\n",
            shown(&file.shown()),
            shown(&message.replace('\n', "; ")),
            rule.name
        )
    };
    findings.iter().map(line).collect()
}

/// One entry of the list that `seal lint --format json` prints.
#[derive(Debug, Serialize)]
struct FindingReport<'a> {
    /// The name of the rule.
    rule: &'a str,
    /// `error`, `warning` or `note`.
    severity: &'a str,
    file: Cow<'a, str>,
    /// The line, counted from one.
    line: usize,
    /// The message, without the location.
    message: &'a str,
}

impl<'a> FindingReport<'a> {
    fn new(finding: &'a Finding) -> Self {
        Self {
            rule: finding.rule.name,
            severity: finding.rule.severity.name(),
            file: path_text(finding.file.as_os_str()),
            line: finding.line,
            message: &finding.message,
        }
    }
}

/// Formats findings as a JSON list of objects.
pub(super) fn json(findings: &[Finding]) -> Json {
    let reports: Vec<_> = findings.iter().map(FindingReport::new).collect();
    json!(reports)
}

/// Formats each finding as an annotation of GitHub Actions.
pub(super) fn github(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        format!(
            "::{} file={},line={},title={}::{}\n",
            level(finding.rule.severity),
            escape_property(&finding.file.shown()),
            finding.line,
            escape_property(finding.rule.name),
            escape_data(&lines_shown(&finding.message))
        )
    };
    findings.iter().map(line).collect()
}

/// Returns the command of GitHub Actions for findings of a severity.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "notice",
        other => other.name(),
    }
}

fn escape_data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Formats findings as SARIF, for code scanning.
pub(super) fn sarif(findings: &[Finding]) -> Json {
    let rule = |rule: &Rule| {
        json!({
            "id": rule.name,
            "shortDescription": {"text": rule.description},
            "defaultConfiguration": {"level": rule.severity.name()},
        })
    };
    let result = |finding: &Finding| {
        json!({
            "ruleId": finding.rule.name,
            "ruleIndex": RULES.iter().position(|rule| *rule == finding.rule),
            "level": finding.rule.severity.name(),
            "message": {"text": finding.message},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": uri(&finding.file)},
                "region": {"startLine": finding.line},
            }}],
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "seal",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": RULES.iter().map(rule).collect::<Json>(),
            }},
            "results": findings.iter().map(result).collect::<Json>(),
        }],
    })
}

/// Returns a path as a relative reference (RFC 3986): all bytes but unreserved characters and slashes are escaped. A
/// name that is not UTF-8 keeps its bytes, so that the reference names the file.
fn uri(path: &Path) -> String {
    let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let escape = |b: u8| {
        if is_unreserved(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().copied().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::output::tests::{check, check_bytes};
    use kubeseal_library::finding;

    fn finding() -> Finding {
        Finding {
            rule: finding::SCOPE,
            file: "a b/ü,c:d.yaml".into(),
            line: 3,
            message: "50%\nand more".into(),
        }
    }

    #[test]
    fn the_report_has_the_documented_form() {
        let want = r#"[
  {
    "rule": "scope",
    "severity": "error",
    "file": "a b/ü,c:d.yaml",
    "line": 3,
    "message": "50%\nand more"
  }
]
"#;
        check("seal lint --format json", &json(&[finding()]), want);
        check_bytes(&json(&[]), "[]\n");
    }

    #[test]
    fn the_sarif_report_has_the_documented_form() {
        let mut report = sarif(&[finding()]);
        let rules = report["runs"][0]["tool"]["driver"]["rules"].as_array_mut();
        let rules = rules.unwrap();
        assert_eq!(rules.len(), RULES.len());
        rules.truncate(1);
        let version = env!("CARGO_PKG_VERSION");
        let index = RULES
            .iter()
            .position(|rule| *rule == finding::SCOPE)
            .unwrap();
        let want = format!(
            r#"{{
  "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
  "version": "2.1.0",
  "runs": [
    {{
      "tool": {{
        "driver": {{
          "name": "seal",
          "version": "{version}",
          "rules": [
            {{
              "id": "plain-secret",
              "shortDescription": {{
                "text": "A Secret, or a `secretGenerator`, with plain values is in a file that is tracked by Git or not ignored."
              }},
              "defaultConfiguration": {{
                "level": "error"
              }}
            }}
          ]
        }}
      }},
      "results": [
        {{
          "ruleId": "scope",
          "ruleIndex": {index},
          "level": "error",
          "message": {{
            "text": "50%\nand more"
          }},
          "locations": [
            {{
              "physicalLocation": {{
                "artifactLocation": {{
                  "uri": "a%20b/%C3%BC%2Cc%3Ad.yaml"
                }},
                "region": {{
                  "startLine": 3
                }}
              }}
            }}
          ]
        }}
      ]
    }}
  ]
}}
"#
        );
        check_bytes(&report, &want);
    }

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(
            github(&[finding()]),
            "::error file=a b/ü%2Cc%3Ad.yaml,line=3,title=scope::50%25%0Aand more\n"
        );
        let sarif = sarif(&[finding()]);
        let location = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(
            location["artifactLocation"]["uri"],
            "a%20b/%C3%BC%2Cc%3Ad.yaml"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_uri_keeps_the_bytes_of_a_file_name() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        for (name, want) in [
            (&b"caf\xe9.yaml"[..], "caf%E9.yaml"),
            (b"\xff/a b", "%FF/a%20b"),
            (b"100%", "100%25"),
        ] {
            assert_eq!(uri(Path::new(OsStr::from_bytes(name))), want);
        }
    }

    #[test]
    fn sarif_results_refer_to_listed_rules() {
        let sarif = sarif(&[finding()]);
        let run = &sarif["runs"][0];
        let index = usize::try_from(run["results"][0]["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "scope");
    }

    #[test]
    fn rule_names_are_unique() {
        let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
    }
}
