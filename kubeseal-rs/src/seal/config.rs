//! `seal config explain`: shows which settings apply to a file, and the source of each setting.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use kubeseal_library::environment::Environment;
use kubeseal_library::format::Format;
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::{Rule, SealedFormat, Source};
use serde::Serialize;

use super::session::Session;
use super::settings::{NamedRecipient, Origin, Setting, Settings};
use super::{Outcome, output, print};
use crate::report::{ShowPath as _, path_text, shown};
use crate::seal_args::Sealing;

/// Arguments of `seal config`.
#[derive(Debug, Args)]
pub struct Config {
    /// The subcommand.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// Subcommands of `seal config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show which rule applies to a file, and the resulting settings
    Explain(Explain),
}

/// Arguments of `seal config explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal config explain prod/db.yaml")]
#[command(mut_arg("no_hints", |arg| arg.hide(true)))]
pub struct Explain {
    /// Path of the file, which need not exist
    pub path: PathBuf,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = crate::seal_args::output_format())]
    pub output: Option<Format>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Shows which rule applies to a file, and the resulting settings with the source of each.
///
/// # Errors
///
/// Fails if the rules cannot be read, or the flags violate them.
pub fn run(args: &Config, environment: &Environment) -> Result<Outcome> {
    let ConfigVerb::Explain(args) = &args.verb;
    let session = Session::new(&args.sealing, environment);
    let settings = session.settings(&args.path)?;
    match args.output {
        Some(format) => print(&output::documents(
            &[Explanation::new(args, &settings)],
            format,
        )?),
        None => print(text(args, &settings).as_bytes()),
    }
}

/// One setting, its value and the source of the value.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    value: String,
    by: String,
}

/// Returns the settings in the order of display.
fn lines(settings: &Settings) -> Vec<Line> {
    let line = |name, value: String, by: &dyn ToString| Line {
        name,
        value,
        by: by.to_string(),
    };
    let mut lines = Vec::new();
    let certificate = &settings.certificate;
    lines.push(line("certificate", source(certificate), &certificate.by));
    let rule = settings.rule.as_ref();
    let join = |items: Vec<String>| items.join(", ");
    if let Some(pins) = &settings.pins {
        lines.push(line("fingerprint", join(texts(&pins.value)), &pins.by));
    }
    for (name, values) in [
        ("fingerprint", rule.map(Rule::pin_texts)),
        ("retired", rule.map(Rule::retired_texts)),
    ] {
        if let Some(values) = values.filter(|values| !values.is_empty()) {
            lines.push(line(name, join(values), &"the rule"));
        }
    }
    match &settings.namespace {
        Some(namespace) => lines.push(line("namespace", namespace.value.clone(), &namespace.by)),
        None => lines.push(line(
            "namespace",
            "from the Secret, else from the kubeconfig".into(),
            &"default",
        )),
    }
    match &settings.scope {
        Some(scope) => lines.push(line("scope", scope.value.to_string(), &scope.by)),
        None => lines.push(line(
            "scope",
            "from the Secret's annotations, else strict".into(),
            &"default",
        )),
    }
    if let Some(scopes) = rule
        .map(|r| texts(&r.allowed_scopes))
        .filter(|s| !s.is_empty())
    {
        lines.push(line("allowedScopes", join(scopes), &"the rule"));
    }
    if let Some(bits) = rule.and_then(|rule| rule.key_size) {
        lines.push(line(
            "keySize",
            format!("at least {bits} bits"),
            &"the rule",
        ));
    }
    lines.extend(v2_lines(settings));
    if let Some(rotate_by) = &settings.rotate_by {
        let value = rotate_by.value.to_string();
        lines.push(line("rotateBy", value, &rotate_by.by));
    }
    for (name, reason) in rule.iter().flat_map(|rule| &rule.ignore) {
        lines.push(line("ignore", format!("{name}: {reason}"), &"the rule"));
    }
    lines
}

/// Returns the format of new values, the recipients and, for v2, the options of the rule; empty if no flag or rule sets
/// the format.
fn v2_lines(settings: &Settings) -> Vec<Line> {
    let Setting { value, by } = &settings.format;
    if *by == Origin::Default {
        return Vec::new();
    }
    let line = |name, value: String, by: &dyn ToString| Line {
        name,
        value,
        by: by.to_string(),
    };
    let mut lines = vec![line("format", value.to_string(), by)];
    let rule = settings.rule.iter();
    for recipient in rule.clone().flat_map(|rule| &rule.recipients) {
        lines.push(line("recipient", recipient.to_string(), &"the rule"));
    }
    for named in &settings.named_recipients {
        let text = match named {
            NamedRecipient::Id(id) => id.to_string(),
            NamedRecipient::Source(source) => source.to_string(),
        };
        lines.push(line("recipient", text, &"--recipient"));
    }
    for rule in rule.filter(|_| *value == SealedFormat::V2) {
        for (name, value) in [
            ("allowClassical", rule.allow_classical),
            ("bindTemplate", rule.bind_template),
            ("neverSecret", rule.never_secret),
        ] {
            lines.push(line(name, value.to_string(), &"the rule"));
        }
    }
    lines
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn source(certificate: &Setting<Source>) -> String {
    match &certificate.value {
        Source::At(at) => redacted_source(at).into_owned(),
        Source::Controller {
            context,
            name,
            namespace,
        } => {
            let context = context.as_ref().map_or_else(
                || "the current context".to_owned(),
                |c| format!("context {c}"),
            );
            let service = [namespace, name].map(|part| part.as_deref().unwrap_or("…"));
            match (name, namespace) {
                (None, None) => format!("the controller of {context}"),
                _ => format!("the controller {} of {context}", service.join("/")),
            }
        }
    }
}

fn text(args: &Explain, settings: &Settings) -> String {
    let path = args.path.shown();
    let path = shown(&path);
    let mut text = match (&settings.rule, &settings.rules) {
        (Some(rule), Some(file)) => format!(
            "{path}: rule {} of {} (line {}, path {})\n",
            rule.number,
            file.path.shown(),
            rule.line,
            shown(&rule.path)
        ),
        (None, Some(file)) => format!("{path}: no rule of {} matches\n", file.path.shown()),
        _ => format!("{path}: no .seal.yaml applies\n"),
    };
    for Line { name, value, by } in lines(settings) {
        text.extend([format!("  {name:<14} {} ({by})\n", shown(&value))]);
    }
    text
}

/// The output of `seal config explain` as YAML or JSON.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    /// The path from the command line.
    path: Cow<'a, str>,
    /// The rules file that applies; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<Cow<'a, str>>,
    /// The rule that applies; absent if none matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<RuleReport<'a>>,
    /// The resulting settings. Only `fingerprint`, `recipient` and `ignore` can occur more than once.
    settings: Vec<Line>,
}

/// A rule of `.seal.yaml`.
#[derive(Debug, Serialize)]
struct RuleReport<'a> {
    /// The position among the rules, counted from one.
    number: usize,
    /// The line where the rule begins.
    line: usize,
    /// The path pattern, as in the file.
    path: &'a str,
}

impl<'a> Explanation<'a> {
    fn new(args: &'a Explain, settings: &'a Settings) -> Self {
        let rules = settings.rules.as_deref();
        let rule = settings.rule.as_ref();
        Self {
            path: path_text(args.path.as_os_str()),
            file: rules.map(|file| path_text(file.path.as_os_str())),
            rule: rule.map(|rule| RuleReport {
                number: rule.number,
                line: rule.line,
                path: &rule.path,
            }),
            settings: lines(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::output::tests::{check_documents, document_text};

    fn explanation(rule: Option<RuleReport<'static>>) -> Explanation<'static> {
        Explanation {
            path: "db.yaml".into(),
            file: rule.is_some().then(|| ".seal.yaml".into()),
            rule,
            settings: vec![Line {
                name: "scope",
                value: "strict".to_owned(),
                by: "the rule".to_owned(),
            }],
        }
    }

    #[test]
    fn the_report_has_the_documented_form() {
        let want = r#"{
  "path": "db.yaml",
  "file": ".seal.yaml",
  "rule": {
    "number": 1,
    "line": 2,
    "path": "*.yaml"
  },
  "settings": [
    {
      "name": "scope",
      "value": "strict",
      "by": "the rule"
    }
  ]
}
"#;
        let rule = RuleReport {
            number: 1,
            line: 2,
            path: "*.yaml",
        };
        check_documents("seal config explain", &[explanation(Some(rule))], want);
        let minimal = Explanation {
            settings: Vec::new(),
            ..explanation(None)
        };
        assert_eq!(
            document_text(&[minimal]),
            "{\n  \"path\": \"db.yaml\",\n  \"settings\": []\n}\n"
        );
    }
}
