//! Decides which certificate, scope and namespace apply to one file: from flags, else the rule,
//! else the environment, else the defaults.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use kubeseal_library::certificate::{self, AcceptedFingerprint, SettingSource, is_url};
use kubeseal_library::files;
use kubeseal_library::recipients::RecipientSource;
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::{Rule, RulesFile, SealedFormat, Source, Violation};
use shared::key::{Certificate, Fingerprint, MalformedFingerprint};
use shared::rotate_by::RotateBy;
use shared::scope::Scope;
use shared::v2::AnyKeyId;

use crate::failure::Failure;
use crate::report::{ShowPath as _, shown};
use crate::seal_args::Sealing;

/// A setting and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The effective value.
    pub value: T,
    /// The source of the value.
    pub by: Origin,
}

/// The source of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A flag, by its name without dashes.
    Flag(&'static str),
    /// The rule in `.seal.yaml`.
    Rule,
    /// An environment variable, by its name.
    Variable(&'static str),
    /// The default.
    Default,
}

impl From<Origin> for SettingSource {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Flag(_) => Self::Flag,
            Origin::Rule => Self::Rule,
            Origin::Variable(_) => Self::Environment,
            Origin::Default => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Rule => f.write_str("the rule"),
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The settings for one file.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rules file that applies.
    pub rules: Option<Arc<RulesFile>>,
    /// The rule that matches.
    pub rule: Option<Rule>,
    /// The source of the certificate.
    pub certificate: Setting<Source>,
    /// The fingerprints that the user accepts, in addition to the restrictions of the rule.
    pub pins: Option<Setting<Vec<Fingerprint>>>,
    /// The namespace of objects without one. If `None`, the kubeconfig's context sets it.
    pub namespace: Option<Setting<String>>,
    /// The scope of new objects. If `None`, the input's annotations set it.
    pub scope: Option<Setting<Scope>>,
    /// The format of new values in a file without v2 values.
    pub format: Setting<SealedFormat>,
    /// The recipients that the user names.
    pub named_recipients: Vec<NamedRecipient>,
    /// When new values become overdue; `None` if nothing sets this.
    pub rotate_by: Option<Setting<RotateBy>>,
}

/// A recipient that the user names.
#[derive(Debug, Clone)]
pub enum NamedRecipient {
    /// The full or short identifier of a key, which confirms a recipient of the rule.
    Id(AnyKeyId),
    /// A key, or where to read it from.
    Source(RecipientSource),
}

/// The environment variable for `--cert-fingerprint`: one fingerprint, or several separated by
/// commas.
const PIN: &str = "SEALED_SECRETS_CERT_FINGERPRINT";

/// Determines the settings. `variable` returns environment variables that are not empty.
///
/// # Errors
///
/// Fails if flags or variables violate the rule, or a variable is not valid.
pub fn decide(
    rules: Option<Arc<RulesFile>>,
    rule: Option<Rule>,
    args: &Sealing,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings> {
    let matching_rule = rule.as_ref();
    let scope = first_set(
        args.scope.map(|scope| ("scope", scope)),
        matching_rule.and_then(|rule| rule.scope),
        match variable("SEALED_SECRETS_SCOPE") {
            Some(text) => {
                let scope = text.parse::<Scope>().context("SEALED_SECRETS_SCOPE")?;
                Some(("SEALED_SECRETS_SCOPE", scope))
            }
            None => None,
        },
    );
    let namespace = first_set(
        args.namespace.clone().map(|name| ("namespace", name)),
        matching_rule.and_then(|rule| rule.namespace.clone()),
        variable("SEALED_SECRETS_NAMESPACE").map(|name| ("SEALED_SECRETS_NAMESPACE", name)),
    );
    let certificate = source(matching_rule, args, &variable);
    let format = first_set(
        args.sealed_format.map(|format| ("sealed-format", format)),
        matching_rule.and_then(|rule| rule.format),
        None,
    );
    let settings = Settings {
        format: format.unwrap_or(Setting {
            value: SealedFormat::V1,
            by: Origin::Default,
        }),
        named_recipients: named_recipients(args)?,
        rotate_by: first_set(
            None,
            matching_rule.and_then(|rule| rule.rotate_by.map(RotateBy::After)),
            None,
        ),
        pins: pins(args, &variable)?,
        certificate,
        namespace,
        scope,
        rules,
        rule,
    };
    if let Some(scope) = &settings.scope {
        settings.check_scope(scope.value)?;
    }
    if let Some(namespace) = &settings.namespace {
        settings.check_namespace(&namespace.value)?;
    }
    Ok(settings)
}

fn first_set<T>(
    flag: Option<(&'static str, T)>,
    rule: Option<T>,
    variable: Option<(&'static str, T)>,
) -> Option<Setting<T>> {
    let setting = |by| move |value| Setting { value, by };
    flag.map(|(name, value)| setting(Origin::Flag(name))(value))
        .or_else(|| rule.map(setting(Origin::Rule)))
        .or_else(|| variable.map(|(name, value)| setting(Origin::Variable(name))(value)))
}

fn named_recipients(args: &Sealing) -> Result<Vec<NamedRecipient>> {
    let named = args.recipient.iter().map(|text| {
        if let Ok(id) = text.parse() {
            return Ok(NamedRecipient::Id(id));
        }
        let source = text.parse().map(NamedRecipient::Source);
        source.context("--recipient")
    });
    named.collect()
}

/// Returns the user's pins. They apply to a certificate from any source, since an untrusted committer
/// may have written the rule.
fn pins(
    args: &Sealing,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Setting<Vec<Fingerprint>>>> {
    if let Some(fingerprint) = args.cert_fingerprint.clone() {
        let by = Origin::Flag("cert-fingerprint");
        let value = vec![fingerprint];
        return Ok(Some(Setting { value, by }));
    }
    let Some(text) = variable(PIN) else {
        return Ok(None);
    };
    let fingerprints = text.split(',').map(|text| text.trim().parse());
    let value = fingerprints
        .collect::<Result<_, MalformedFingerprint>>()
        .context(PIN)?;
    let by = Origin::Variable(PIN);
    Ok(Some(Setting { value, by }))
}

/// Returns the source of the certificate: `--cert`, else the controller of `--context`, else the source of the rule,
/// else `SEALED_SECRETS_CERT`, else the controller of `SEALED_SECRETS_CONTEXT` or of the current context.
fn source(
    rule: Option<&Rule>,
    args: &Sealing,
    variable: impl Fn(&str) -> Option<String>,
) -> Setting<Source> {
    let setting = |value, by| Setting { value, by };
    let from_controller = |context: &Option<String>| Source::Controller {
        context: context.clone(),
        name: args.controller.name.clone(),
        namespace: args.controller.namespace.clone(),
    };
    if let Some(at) = &args.cert {
        return setting(Source::At(at.clone()), Origin::Flag("cert"));
    }
    if args.cluster.context.is_some() {
        return setting(
            from_controller(&args.cluster.context),
            Origin::Flag("context"),
        );
    }
    if let Some(source) = rule.and_then(|rule| rule.certificate.clone()) {
        return setting(source, Origin::Rule);
    }
    if let Some(at) = variable("SEALED_SECRETS_CERT") {
        return setting(
            Source::At(at.into()),
            Origin::Variable("SEALED_SECRETS_CERT"),
        );
    }
    let from_variable = |word: &Option<String>, name| word.clone().or_else(|| variable(name));
    let context = variable("SEALED_SECRETS_CONTEXT");
    let by = match context {
        Some(_) => Origin::Variable("SEALED_SECRETS_CONTEXT"),
        None => Origin::Default,
    };
    let controller = Source::Controller {
        context,
        name: from_variable(&args.controller.name, "SEALED_SECRETS_CONTROLLER_NAME"),
        namespace: from_variable(
            &args.controller.namespace,
            "SEALED_SECRETS_CONTROLLER_NAMESPACE",
        ),
    };
    setting(controller, by)
}

impl Settings {
    /// Checks whether the rule allows this scope.
    ///
    /// # Errors
    ///
    /// Fails if the rule does not allow the scope.
    pub fn check_scope(&self, scope: Scope) -> Result<(), Violation> {
        match &self.rule {
            Some(rule) => rule.check_scope(scope),
            None => Ok(()),
        }
    }

    /// Checks whether the rule allows this namespace.
    ///
    /// # Errors
    ///
    /// Fails if the rule allows only another namespace.
    pub fn check_namespace(&self, namespace: &str) -> Result<(), Violation> {
        match &self.rule {
            Some(rule) => rule.check_namespace(namespace),
            None => Ok(()),
        }
    }

    /// Returns the accepted fingerprints with their source, without keys that the rule accepts by their identifier.
    pub fn fingerprints(&self) -> Vec<AcceptedFingerprint> {
        let accepted = |fingerprint| AcceptedFingerprint {
            fingerprint,
            by: SettingSource::Rule,
        };
        let rule = self.rule.iter().flat_map(|rule| rule.fingerprints.clone());
        rule.map(accepted).chain(self.user_pins()).collect()
    }

    /// Returns the accepted fingerprints that the user has set.
    pub fn user_pins(&self) -> Vec<AcceptedFingerprint> {
        let pins = self.pins.iter();
        let accepted = pins.flat_map(|setting| {
            let by = setting.by.into();
            let fingerprints = setting.value.iter().cloned();
            fingerprints.map(move |fingerprint| AcceptedFingerprint { fingerprint, by })
        });
        accepted.collect()
    }

    /// Refuses a certificate that only a rule names: existing values would be encrypted for it. The caller has
    /// already checked the user's pins.
    ///
    /// # Errors
    ///
    /// Fails if only a rule names the certificate.
    pub fn check_named_by_user(&self, certificate: &Certificate) -> Result<(), Failure> {
        let (Origin::Rule, None) = (self.certificate.by, &self.pins) else {
            return Ok(());
        };
        let rule = self.rule.as_ref().map(Rule::describe).unwrap_or_default();
        let (description, file) = self.describe_certificate();
        let fingerprint = certificate.fingerprint();
        let message = format!(
            "refused to re-encrypt for {description}, {fingerprint}, which only {rule} names: the author of the rule \
             could decrypt existing values"
        );
        let cert_flag = file.map(|file| format!("--cert {} or ", file.shown()));
        let cert_flag = cert_flag.unwrap_or_default();
        Err(Failure::new(message).hint(format!(
            "if you trust the certificate, pass {cert_flag}--cert-fingerprint {fingerprint}"
        )))
    }

    fn describe_certificate(&self) -> (String, Option<PathBuf>) {
        match &self.certificate.value {
            Source::At(at) if is_url(at) => {
                (format!("the certificate {}", redacted_source(at)), None)
            }
            Source::At(at) => {
                let directory = self.rules.as_ref().map(|rules| rules.directory().join(at));
                let file =
                    files::relative_to_current_directory(&directory.unwrap_or_else(|| at.into()));
                (format!("the certificate {}", file.shown()), Some(file))
            }
            Source::Controller { .. } => ("the controller of this certificate".to_owned(), None),
        }
    }

    /// Checks that the pins and the rule allow this certificate.
    ///
    /// # Errors
    ///
    /// Fails if the certificate is not pinned, or the rule does not allow it.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<()> {
        let fingerprint = certificate.fingerprint();
        if let Some(pins) = self
            .pins
            .as_ref()
            .filter(|pins| !pins.value.contains(fingerprint))
        {
            let pinned: Vec<String> = pins.value.iter().map(ToString::to_string).collect();
            let message = format!(
                "{} requires a certificate with the fingerprint {}, but this certificate has the fingerprint \
                 {fingerprint}",
                pins.by,
                pinned.join(" or ")
            );
            bail!(
                Failure::new(message)
                    .hint("use --cert to pass the certificate with the required fingerprint")
            );
        }
        match &self.rule {
            Some(rule) => Ok(rule.check_certificate(certificate)?),
            None => Ok(()),
        }
    }

    /// Refuses settings that v1 cannot express: keys of `--recipient`, because a v1 value is sealed only for the key of
    /// the certificate, and a rule with `neverSecret`.
    ///
    /// # Errors
    ///
    /// Fails if the user names a recipient, or the rule requires values that can never become a Secret.
    pub fn check_v1(&self) -> Result<(), Failure> {
        if !self.named_recipients.is_empty() {
            return Err(unused_recipients().hint("pass --sealed-format v2, or omit --recipient"));
        }
        match self.rule.as_ref().filter(|rule| rule.never_secret) {
            Some(rule) => Err(v1_against_rule(rule)),
            None => Ok(()),
        }
    }

    /// Returns whether the rule lists this key as retired.
    pub fn is_retired(&self, key: &Fingerprint) -> bool {
        self.rule
            .as_ref()
            .is_some_and(|rule| rule.retired.contains(key))
    }
}

fn v1_against_rule(rule: &Rule) -> Failure {
    Failure::new(format!(
        "{} requires values that can never become a Secret, which v1 cannot express",
        shown(&rule.describe())
    ))
    .hint(
        "omit --sealed-format v1; if the file has v1 values, seal all values again into a new file",
    )
}

/// Checks that the file of `--cert` contains a certificate, as other commands do, even if the certificate is not
/// needed. A file that can be read only once, such as a pipe, is read when the certificate is needed.
///
/// # Errors
///
/// Fails if the file cannot be read, or contains no certificate.
pub fn check_certificate_flag(args: &Sealing) -> Result<()> {
    let Some(at) = args.cert.as_ref().filter(|at| !is_url(at)) else {
        return Ok(());
    };
    let path = Path::new(at);
    if path.exists() && !path.is_file() && !path.is_dir() {
        return Ok(());
    }
    let cannot_use = || format!("cannot use the certificate {}", redacted_source(at));
    let pem = certificate::read(at).with_context(cannot_use)?;
    Certificate::from_pem(&pem).with_context(cannot_use)?;
    Ok(())
}

/// Returns the error for keys of `--recipient` that nothing is sealed for.
pub fn unused_recipients() -> Failure {
    Failure::new("--recipient has no effect on values sealed as v1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeseal_library::rules;

    fn decide_for(
        rule: &str,
        args: &Sealing,
        variables: &[(&str, &str)],
    ) -> Result<Settings, String> {
        let rule = rules::parse(format!("rules: [{{path: a, {rule}}}]").as_bytes()).unwrap();
        let variable = |name: &str| {
            let entry = variables.iter().find(|(n, _)| *n == name);
            entry.map(|(_, value)| (*value).to_owned())
        };
        decide(None, rule.for_path("a").cloned(), args, variable).map_err(|e| format!("{e:#}"))
    }

    fn args(cert: Option<&str>, namespace: Option<&str>, scope: Option<Scope>) -> Sealing {
        Sealing {
            cert: cert.map(Into::into),
            namespace: namespace.map(str::to_owned),
            scope,
            ..Sealing::default()
        }
    }

    #[test]
    fn flags_override_rules_and_rules_override_variables() {
        let variables = [
            ("SEALED_SECRETS_CERT", "v.pem"),
            ("SEALED_SECRETS_NAMESPACE", "v"),
            ("SEALED_SECRETS_SCOPE", "cluster-wide"),
        ];
        for (why, rule, args, cert, namespace, scope) in [
            (
                "flags",
                "certificate: r.pem, scope: namespace-wide, allowedScopes: [strict, namespace-wide]",
                args(Some("f.pem"), Some("f"), Some(Scope::Strict)),
                ("f.pem", Origin::Flag("cert")),
                ("f", Origin::Flag("namespace")),
                (Scope::Strict, Origin::Flag("scope")),
            ),
            (
                "the rule",
                "certificate: r.pem, namespace: r, scope: namespace-wide",
                Sealing::default(),
                ("r.pem", Origin::Rule),
                ("r", Origin::Rule),
                (Scope::NamespaceWide, Origin::Rule),
            ),
            (
                "variables",
                "",
                Sealing::default(),
                ("v.pem", Origin::Variable("SEALED_SECRETS_CERT")),
                ("v", Origin::Variable("SEALED_SECRETS_NAMESPACE")),
                (Scope::ClusterWide, Origin::Variable("SEALED_SECRETS_SCOPE")),
            ),
        ] {
            let settings = decide_for(rule, &args, &variables).unwrap();
            let setting = |value: &str, by| Setting {
                value: value.to_owned(),
                by,
            };
            let source = |(at, by): (&str, _)| Setting {
                value: Source::At(at.into()),
                by,
            };
            assert_eq!(settings.certificate, source(cert), "{why}");
            assert_eq!(
                settings.namespace,
                Some(setting(namespace.0, namespace.1)),
                "{why}"
            );
            assert_eq!(
                settings.scope.map(|s| (s.value, s.by)),
                Some(scope),
                "{why}"
            );
        }
        let settings = decide_for("", &Sealing::default(), &[]).unwrap();
        assert_eq!(settings.certificate.by, Origin::Default);
        assert_eq!((settings.namespace, settings.scope), (None, None));
    }

    /// Attack: a committer writes a rule that names their own certificate, where the user has pinned another one.
    #[test]
    fn a_variable_also_pins_the_certificate_of_a_rule() {
        let pin = format!("SHA256:{}A", "a".repeat(42));
        let repeated = format!("{pin}, {pin}");
        let variables = [(PIN, repeated.as_str())];
        let by = |rule| {
            let settings = decide_for(rule, &Sealing::default(), &variables).unwrap();
            settings.pins.map(|setting| setting.by)
        };
        assert_eq!(by(""), Some(Origin::Variable(PIN)));
        for rule in [
            "certificate: r.pem",
            "context: c",
            "controller: {name: other}",
        ] {
            assert_eq!(by(rule), Some(Origin::Variable(PIN)), "{rule}");
        }
        let error = decide_for("", &Sealing::default(), &[(PIN, "x")]).unwrap_err();
        assert!(error.starts_with(PIN), "{error}");
    }

    #[test]
    fn refuses_flags_and_variables_that_violate_the_rule() {
        for (rule, args, variables, want) in [
            (
                "allowedScopes: [strict]",
                args(None, None, Some(Scope::ClusterWide)),
                vec![],
                "allows only the scope strict, but the object has the scope cluster-wide",
            ),
            (
                "allowedScopes: [strict]",
                Sealing::default(),
                vec![("SEALED_SECRETS_SCOPE", "namespace-wide")],
                "allows only the scope strict, but the object has the scope namespace-wide",
            ),
            (
                "scope: strict",
                args(None, None, Some(Scope::ClusterWide)),
                vec![],
                "allows only the scope strict, but the object has the scope cluster-wide",
            ),
            (
                "namespace: shop",
                args(None, Some("other"), None),
                vec![],
                "requires the namespace \"shop\", but the object is in \"other\"",
            ),
            (
                "",
                Sealing::default(),
                vec![("SEALED_SECRETS_SCOPE", "wide")],
                "SEALED_SECRETS_SCOPE: must be one of",
            ),
        ] {
            let error = decide_for(rule, &args, &variables).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
