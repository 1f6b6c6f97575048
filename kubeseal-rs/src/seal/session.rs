//! The state of one run of `seal`: its environment, and the rules and certificates it has read,
//! each once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use kubeseal_library::certificate::{
    self, AcceptedFingerprint, CertificateQuery, ObtainedCertificate, Origin, SettingSource,
};
use kubeseal_library::cluster::{Access, Clusters, Overrides};
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::compromised;
use kubeseal_library::kubeconfig;
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::{RulesFile, Source};
use shared::key::Certificate;
use shared::key_ring::KeyRing;
use shared::rotate_by::RotateBy;
use shared::v2::{KeyId, Recipient as _};

use super::recipients::{self, Recipients};
use super::settings::{self, Setting, Settings};
use super::{dates, marked_keys};
use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;
use crate::seal_args::Sealing;

/// Upstream's default name and namespace of the controller's Service.
const DEFAULT_CONTROLLER: (&str, &str) = ("sealed-secrets-controller", "kube-system");

/// The key of the certificate cache: the source, the directory of the rules for relative paths, the origin of the
/// source, and the accepted fingerprints. A cached certificate is reused only for an equal key. Otherwise a certificate
/// that a rule accepts could be used where the rule does not apply.
type CacheKey = (
    Source,
    Option<PathBuf>,
    SettingSource,
    Vec<AcceptedFingerprint>,
);

/// Which keys a run may encrypt for.
#[derive(Clone, Copy)]
enum AllowedKeys<'a> {
    /// Every certificate that the settings name, since the user provides the values.
    FromSettings,
    /// Only a certificate that the user names, or whose private key is in this key ring and may seal. Existing values
    /// could come from a file that the author of a rule has copied.
    ConfirmedByUser(&'a KeyRing),
}

/// The state of one run. Can be shared between threads.
pub struct Session<'a> {
    /// Clock, environment and terminal.
    pub environment: &'a Environment,
    /// The connections to API servers.
    pub clusters: Clusters<'a>,
    /// The options for sealing.
    pub args: &'a Sealing,
    allowed_keys: AllowedKeys<'a>,
    no_keys: KeyRing,
    rotate_by: Option<RotateBy>,
    rules: Mutex<BTreeMap<PathBuf, Option<Arc<RulesFile>>>>,
    certificates: Mutex<Vec<(CacheKey, Arc<Certificate>)>>,
    recipient_lists: Mutex<Vec<(recipients::CacheKey, Arc<Recipients>)>>,
}

impl<'a> Session<'a> {
    /// Creates a session. Nothing is read yet.
    pub fn new(args: &'a Sealing, environment: &'a Environment) -> Self {
        Self {
            environment,
            clusters: Clusters::new(environment),
            args,
            allowed_keys: AllowedKeys::FromSettings,
            no_keys: KeyRing::default(),
            rotate_by: None,
            rules: Mutex::default(),
            certificates: Mutex::default(),
            recipient_lists: Mutex::default(),
        }
    }

    /// Like [`Self::new`], for a run that encrypts values that already exist. Refuses a certificate that only a rule
    /// names, unless the user pins it or `keys` contains its private key. Refuses keys that `keys` marks as compromised
    /// or opening-only, even if the user names them.
    pub fn for_existing_values(
        args: &'a Sealing,
        environment: &'a Environment,
        keys: &'a KeyRing,
    ) -> Self {
        Self {
            allowed_keys: AllowedKeys::ConfirmedByUser(keys),
            ..Self::new(args, environment)
        }
    }

    /// Sets the value of `--rotate-by`, which replaces that of the rules. Warns about a date that is not in the future.
    #[must_use]
    pub fn with_rotate_by(mut self, rotate_by: Option<RotateBy>) -> Self {
        if let Some(warning) = dates::past_warning(rotate_by, self.environment.now) {
            report::warn(&warning);
        }
        self.rotate_by = rotate_by;
        self
    }

    /// Returns the settings for a file, which need not exist.
    ///
    /// # Errors
    ///
    /// Fails if the rules cannot be read, or the flags violate them.
    pub fn settings(&self, path: &Path) -> Result<Settings> {
        let path = resolve(path)?;
        let rules = self.rules_for(path.parent().unwrap_or(Path::new("/")))?;
        let rule = rules
            .as_ref()
            .and_then(|file| file.rule_for(&path))
            .cloned();
        let variable = |name: &str| self.environment.nonempty_variable(name);
        let mut settings = settings::decide(rules, rule, self.args, variable)?;
        if let Some(value) = self.rotate_by {
            let by = settings::Origin::Flag("rotate-by");
            settings.rotate_by = Some(Setting { value, by });
        }
        Ok(settings)
    }

    fn rules_for(&self, directory: &Path) -> Result<Option<Arc<RulesFile>>> {
        let mut cache = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let path = match &self.args.config {
            Some(path) => Some(path.clone()),
            None => RulesFile::find(directory)?,
        };
        let Some(path) = path else { return Ok(None) };
        if let Some(file) = cache.get(&path) {
            return Ok(file.clone());
        }
        let file = Some(Arc::new(RulesFile::read(&path)?));
        cache.insert(path, file.clone());
        Ok(file)
    }

    /// Returns the certificate to seal with, checked against the rule. Fetches it once for all
    /// files that use it.
    ///
    /// # Errors
    ///
    /// Fails if the certificate cannot be obtained, has expired, is not the certificate that the rule or a flag
    /// requires, belongs to a key that is recorded as compromised, or to a key in `--key` that is marked as compromised
    /// or opening-only. Also fails for existing values if only a rule names the certificate.
    pub fn certificate(&self, settings: &Settings) -> Result<Arc<Certificate>> {
        let source = settings.certificate.value.clone();
        let directory =
            rules_naming_certificate(settings).map(|rules| rules.directory().to_owned());
        let mut certificates = self
            .certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let cache_key = (
            source,
            directory,
            SettingSource::from(settings.certificate.by),
            self.fingerprints(settings),
        );
        let cached = certificates.iter().find(|(key, _)| *key == cache_key);
        let certificate = if let Some((_, certificate)) = cached {
            Arc::clone(certificate)
        } else {
            let certificate = Arc::new(self.fetch(&cache_key.0, settings)?);
            certificates.push((cache_key, Arc::clone(&certificate)));
            certificate
        };
        settings.check_certificate(&certificate)?;
        compromised::check(self.environment, certificate.fingerprint())?;
        marked_keys::check_certificate(self.keys(), settings, &certificate)?;
        self.check_recipient(settings, &certificate)?;
        Ok(certificate)
    }

    /// Returns the certificates that the rules of these files name as local files, even expired ones. Leaves out those
    /// that cannot be read or parsed.
    pub fn local_certificates_of_rules<'p>(
        &self,
        paths: impl Iterator<Item = &'p Path>,
    ) -> Vec<Certificate> {
        let (mut known, mut certificates) = (BTreeSet::new(), Vec::new());
        for settings in paths.filter_map(|path| self.settings(path).ok()) {
            let (Some(rules), Source::At(at)) = (
                rules_naming_certificate(&settings),
                &settings.certificate.value,
            ) else {
                continue;
            };
            if certificate::is_url(at) || !known.insert((rules.directory().to_owned(), at.clone()))
            {
                continue;
            }
            let pem = certificate::read_named_by_rule(at, self.rule_context(rules, &settings));
            certificates.extend(pem.ok().and_then(|pem| Certificate::from_pem(&pem).ok()));
        }
        certificates
    }

    fn rule_context<'r>(
        &self,
        rules: &'r RulesFile,
        settings: &Settings,
    ) -> certificate::RuleContext<'r> {
        certificate::RuleContext {
            directory: rules.directory(),
            tree: rules.tree(),
            is_pinned: !self.fingerprints(settings).is_empty(),
        }
    }

    /// Returns the fingerprints that make a certificate trusted.
    fn fingerprints(&self, settings: &Settings) -> Vec<AcceptedFingerprint> {
        match self.allowed_keys {
            AllowedKeys::FromSettings => settings.fingerprints(),
            AllowedKeys::ConfirmedByUser(_) => settings.user_pins(),
        }
    }

    pub(super) fn cached_recipients(
        &self,
    ) -> MutexGuard<'_, Vec<(recipients::CacheKey, Arc<Recipients>)>> {
        let lock = self.recipient_lists.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the user has to confirm a key that only a rule names, because existing values would be sealed
    /// for it and the user did not pass its private key. A private key that is marked as compromised or opening-only
    /// does not count.
    pub(super) fn needs_confirmation(&self, settings: &Settings, key: &KeyId) -> bool {
        let AllowedKeys::ConfirmedByUser(keys) = self.allowed_keys else {
            return false;
        };
        let has_key = marked_keys::confirms(keys, key);
        let is_from_rule = settings
            .rule
            .as_ref()
            .is_some_and(|rule| !rule.recipients.is_empty())
            || settings.certificate.by == settings::Origin::Rule;
        is_from_rule && !has_key
    }

    /// Returns the private keys that the user has passed; none if the user provides the values.
    pub(super) fn keys(&self) -> &KeyRing {
        match self.allowed_keys {
            AllowedKeys::FromSettings => &self.no_keys,
            AllowedKeys::ConfirmedByUser(keys) => keys,
        }
    }

    fn check_recipient(
        &self,
        settings: &Settings,
        certificate: &Certificate,
    ) -> Result<(), Failure> {
        let AllowedKeys::ConfirmedByUser(keys) = self.allowed_keys else {
            return Ok(());
        };
        let has_key = marked_keys::confirms(keys, &certificate.public_key().key_id());
        if has_key || self.is_named_by_user(&settings.certificate.value) {
            return Ok(());
        }
        settings.check_named_by_user(certificate)
    }

    fn fetch(&self, source: &Source, settings: &Settings) -> Result<Certificate> {
        let obtained = self.obtain(source, settings)?;
        for remark in &obtained.remarks {
            report::warn(remark);
        }
        let now = self.environment.now;
        let parsed = certificate::parse_from(obtained.origin, &obtained.pem, now);
        let (certificate, remarks) = match source {
            Source::At(at) => parsed
                .with_context(|| format!("cannot use the certificate {}", redacted_source(at)))?,
            Source::Controller { .. } => {
                parsed.context("cannot use the certificate of the controller")?
            }
        };
        for remark in &remarks {
            report::warn(remark);
        }
        Ok(certificate)
    }

    fn obtain(&self, source: &Source, settings: &Settings) -> Result<ObtainedCertificate> {
        let request = match source {
            Source::At(at) if let Some(rules) = rules_naming_certificate(settings) => {
                let rule = self.rule_context(rules, settings);
                return Ok(ObtainedCertificate {
                    pem: certificate::read_named_by_rule(at, rule)?,
                    origin: Origin::Local,
                    remarks: Vec::new(),
                });
            }
            Source::At(at) => CertificateQuery {
                source: at.clone(),
                ..CertificateQuery::default()
            },
            // A certificate that is found by labels or is published has to match a known fingerprint.
            Source::Controller { .. } => CertificateQuery {
                access: self.access(source),
                named_by: settings.certificate.by.into(),
                fingerprints: self.fingerprints(settings),
                ..CertificateQuery::default()
            },
        };
        Ok(certificate::obtain(&request, &self.clusters)?)
    }

    /// Returns how to reach the controller of a source.
    pub fn access(&self, source: &Source) -> Access {
        let (context, name, namespace) = match source {
            Source::Controller {
                context,
                name,
                namespace,
            } => (context.clone(), name.clone(), namespace.clone()),
            Source::At(_) => (self.args.cluster.context.clone(), None, None),
        };
        Access {
            kubeconfig: self.kubeconfig(),
            overrides: Overrides {
                context,
                ..Overrides::default()
            },
            is_unnamed: name.is_none() && namespace.is_none(),
            name: name.unwrap_or_else(|| DEFAULT_CONTROLLER.0.to_owned()),
            namespace: namespace.unwrap_or_else(|| DEFAULT_CONTROLLER.1.to_owned()),
            ..Access::default()
        }
    }

    /// Returns whether flags, the environment or the defaults name this controller, rather than a
    /// rule.
    pub fn is_named_by_user(&self, source: &Source) -> bool {
        let Source::Controller {
            context,
            name,
            namespace,
        } = source
        else {
            return false;
        };
        let chosen = |flag: &Option<String>, variable: &str, default: &str| {
            let variable = || self.environment.nonempty_variable(variable);
            flag.clone()
                .or_else(variable)
                .unwrap_or_else(|| default.to_owned())
        };
        let args = &self.args.controller;
        let or_default = |setting: &Option<String>, default: &str| {
            setting.clone().unwrap_or_else(|| default.to_owned())
        };
        or_default(name, DEFAULT_CONTROLLER.0)
            == chosen(
                &args.name,
                "SEALED_SECRETS_CONTROLLER_NAME",
                DEFAULT_CONTROLLER.0,
            )
            && or_default(namespace, DEFAULT_CONTROLLER.1)
                == chosen(
                    &args.namespace,
                    "SEALED_SECRETS_CONTROLLER_NAMESPACE",
                    DEFAULT_CONTROLLER.1,
                )
            && or_default(context, "")
                == chosen(&self.args.cluster.context, "SEALED_SECRETS_CONTEXT", "")
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        let variable = || {
            self.environment
                .nonempty_variable("SEALED_SECRETS_KUBECONFIG")
        };
        self.args
            .cluster
            .kubeconfig
            .clone()
            .or_else(|| variable().map(PathBuf::from))
    }

    /// Returns the namespace for objects without one: from the settings, or else from the
    /// kubeconfig's context.
    ///
    /// # Errors
    ///
    /// Fails if the kubeconfig cannot be used.
    pub fn namespace(&self, settings: &Settings) -> Result<Option<String>> {
        if let Some(namespace) = &settings.namespace {
            return Ok(Some(namespace.value.clone()));
        }
        let context = match &settings.certificate.value {
            Source::Controller { context, .. } => context.clone(),
            Source::At(_) => self.args.cluster.context.clone(),
        };
        let choice = kubeconfig::Choice {
            file: self.kubeconfig(),
            context,
        };
        Ok(kubeconfig::namespace(&choice, self.environment)?)
    }
}

/// Returns the rules if a rule names the certificate; `None` otherwise.
fn rules_naming_certificate(settings: &Settings) -> Option<&RulesFile> {
    let rules = settings.rules.as_deref();
    rules.filter(|_| settings.certificate.by == settings::Origin::Rule)
}

/// Returns the absolute path with symbolic links resolved. So the location of the file itself decides which rule
/// applies, not the location of a link to it.
fn resolve(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| path.shown())?;
    if let Ok(resolved) = path.canonicalize() {
        return Ok(resolved);
    }
    // The file does not exist yet.
    let directory = path
        .parent()
        .and_then(|directory| directory.canonicalize().ok());
    match (directory, path.file_name()) {
        (Some(directory), Some(name)) => Ok(directory.join(name)),
        _ => Ok(path),
    }
}
