//! Decides which keys v2 values are sealed for: the keys of the rule, else the keys that the user names, else the key
//! of the certificate, else the key that the controller prefers. The keys never come from the SealedSecret itself.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use kubeseal_library::certificate::{self, RuleContext, SettingSource};
use kubeseal_library::cluster::Controller;
use kubeseal_library::keys::compromised;
use kubeseal_library::recipients::{self, RecipientKey, RecipientSource};
use kubeseal_library::rules::{Rule, RulesFile, Source};
use shared::key::{Certificate, Fingerprint};
use shared::v2::{AnyKeyId, Recipient, ShortKeyId};

use super::marked_keys;
use super::session::Session;
use super::settings::{NamedRecipient, Origin, Settings};
use crate::failure::Failure;
use crate::report;

/// The keys that v2 values are sealed for.
#[derive(Debug, Clone)]
pub struct Recipients {
    /// The keys, each once.
    pub keys: Vec<RecipientKey>,
    /// Whether classical recipients are allowed in addition to post-quantum recipients.
    pub allow_classical: bool,
    /// Whether the rule requires that values are bound to the template; `true` without a rule.
    pub bind_template: bool,
    /// Whether the rule requires that new values can never become a Secret.
    pub is_never_secret: bool,
    /// The identifiers of the keys that the user names with `--recipient`.
    pub confirmed: Vec<AnyKeyId>,
}

impl Recipients {
    /// Returns the keys for sealing.
    pub fn keys(&self) -> Vec<&dyn Recipient> {
        self.keys.iter().map(|key| key as &dyn Recipient).collect()
    }

    /// Returns the suite and the short identifier of each key, for messages.
    pub fn describe(&self) -> String {
        let keys = self.keys.iter();
        let texts = keys.map(|key| format!("{} {}", key.suite(), key.short_id()));
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// A key, and whether the rule contains it as a line.
struct NamedKey {
    key: RecipientKey,
    /// Whether the key itself, not a file or a server, is in the rule.
    is_line: bool,
}

impl Session<'_> {
    /// Returns the keys that v2 values of a file are sealed for, checked against the rule. Obtains them once for all
    /// files with the same rule and source of the certificate.
    ///
    /// # Errors
    ///
    /// Fails if a key cannot be obtained or is not accepted, or if existing values would be re-encrypted for a key that
    /// only a rule names and the user has not confirmed.
    pub fn recipients(&self, settings: &Settings) -> Result<Arc<Recipients>> {
        let cache_key = cache_key(settings);
        let mut cache = self.cached_recipients();
        if let Some((_, recipients)) = cache.iter().find(|(key, _)| *key == cache_key) {
            return Ok(Arc::clone(recipients));
        }
        let recipients = Arc::new(self.find_recipients(settings)?);
        cache.push((cache_key, Arc::clone(&recipients)));
        Ok(recipients)
    }

    fn find_recipients(&self, settings: &Settings) -> Result<Recipients> {
        let rule = settings.rule.as_ref();
        let rule_sources = rule.map_or(&[][..], |rule| &rule.recipients);
        let named = self.named_by_user(settings, rule_sources.is_empty())?;
        let keys = match (rule_sources, named.as_slice()) {
            ([], []) => self.default_recipient(settings)?,
            ([], _) => accept_named_keys(rule, &named)?,
            (sources, _) => self.rule_recipients(settings, sources, &named)?,
        };
        Ok(Recipients {
            keys: distinct(keys),
            allow_classical: rule.is_some_and(|rule| rule.allow_classical),
            bind_template: rule.is_none_or(|rule| rule.bind_template),
            is_never_secret: rule.is_some_and(|rule| rule.never_secret),
            confirmed: confirmed_ids(settings, &named),
        })
    }

    /// Returns the keys of `--recipient`. Omits identifiers, because an identifier only confirms a recipient of the
    /// rule. Refuses an identifier if the rule lists no recipients (`is_rule_empty`).
    fn named_by_user(&self, settings: &Settings, is_rule_empty: bool) -> Result<Vec<RecipientKey>> {
        let mut keys = Vec::new();
        for named in &settings.named_recipients {
            match named {
                NamedRecipient::Source(source) => {
                    let recipient_keys =
                        self.read_recipients(source, settings, Origin::Flag("recipient"))?;
                    keys.extend(recipient_keys);
                }
                NamedRecipient::Id(id) if is_rule_empty => bail!(
                    Failure::new(format!(
                        "--recipient {id} is an identifier, and no rule lists its key"
                    ))
                    .hint("pass the whole `seal2-recipient …` line, or a file that contains it")
                ),
                NamedRecipient::Id(_) => {}
            }
        }
        for key in &keys {
            self.check_may_seal(key)?;
        }
        Ok(keys)
    }

    /// Returns the key of the certificate, or the key that the controller prefers.
    fn default_recipient(&self, settings: &Settings) -> Result<Vec<RecipientKey>> {
        let source = match &settings.certificate.value {
            Source::At(_) => {
                return Ok(vec![RecipientKey::Certificate(self.certificate(settings)?)]);
            }
            Source::Controller { .. } => RecipientSource::Cluster,
        };
        let keys = self.read_recipients(&source, settings, settings.certificate.by)?;
        let named = keys.into_iter().map(|key| NamedKey {
            key,
            is_line: false,
        });
        let named: Vec<NamedKey> = named.collect();
        for named in &named {
            self.check_key(settings, named, &[])?;
        }
        self.check_confirmation(settings, &named, &[])?;
        Ok(named.into_iter().map(|named| named.key).collect())
    }

    fn rule_recipients(
        &self,
        settings: &Settings,
        sources: &[RecipientSource],
        named: &[RecipientKey],
    ) -> Result<Vec<RecipientKey>> {
        let mut keys = Vec::new();
        for source in sources {
            let is_line = matches!(source, RecipientSource::Line(_));
            let source_keys = self.read_recipients(source, settings, Origin::Rule)?;
            keys.extend(source_keys.into_iter().map(|key| NamedKey { key, is_line }));
        }
        let confirmed = confirmed_ids(settings, named);
        let is_listed = |id: &&AnyKeyId| keys.iter().any(|named| id.is_of(&named.key.key_id()));
        if let Some(id) = confirmed.iter().find(|id| !is_listed(id)) {
            let rule = settings.rule.as_ref().map(Rule::describe);
            let rule = rule.unwrap_or_default();
            bail!(
                Failure::new(format!(
                    "{rule} does not list the recipient {id} of --recipient"
                ))
                .hint("omit --recipient, or add the recipient to the rule")
            );
        }
        for named in &keys {
            self.check_key(settings, named, &confirmed)?;
        }
        self.check_confirmation(settings, &keys, &confirmed)?;
        Ok(keys.into_iter().map(|named| named.key).collect())
    }

    fn check_key(
        &self,
        settings: &Settings,
        named: &NamedKey,
        confirmed: &[AnyKeyId],
    ) -> Result<()> {
        let id = named.key.key_id();
        if let Some(rule) = &settings.rule {
            rule.check_recipient(&named.key, named.is_line)?;
        }
        self.check_may_seal(&named.key)?;
        let is_confirmed =
            confirmed.iter().any(|own| own.is_of(&id)) || is_pinned(settings, &named.key);
        if let Some(pins) = settings.pins.as_ref().filter(|_| !is_confirmed) {
            let message = format!(
                "{} accepts certificates only, and the recipient {id} is not one of them",
                pins.by
            );
            bail!(
                Failure::new(message).hint(format!("if you trust the key, pass --recipient {id}"))
            );
        }
        Ok(())
    }

    /// Refuses keys that only a rule names, for existing values. Names all of them, so that the user can check and
    /// confirm them at once.
    fn check_confirmation(
        &self,
        settings: &Settings,
        keys: &[NamedKey],
        confirmed: &[AnyKeyId],
    ) -> Result<()> {
        let is_unconfirmed = |named: &&NamedKey| {
            let id = named.key.key_id();
            let is_confirmed = confirmed.iter().any(|own| own.is_of(&id));
            !is_confirmed
                && !is_pinned(settings, &named.key)
                && self.needs_confirmation(settings, &id)
        };
        let unconfirmed: Vec<&NamedKey> = keys.iter().filter(is_unconfirmed).collect();
        let texts = |text: fn(&NamedKey) -> String, separator: &str| {
            let texts: Vec<String> = unconfirmed.iter().map(|named| text(named)).collect();
            texts.join(separator)
        };
        let names = texts(|n| format!("{} {}", n.key.suite(), n.key.key_id()), ", ");
        let flags = texts(|n| format!("--recipient {}", n.key.key_id()), " ");
        let (recipients, keys_noun) = match unconfirmed.len() {
            0 => return Ok(()),
            1 => ("recipient", "key"),
            _ => ("recipients", "keys"),
        };
        let message = format!(
            "refused to re-encrypt for the {recipients} {names}, which only a rule names: the author of the rule could \
             decrypt existing values"
        );
        bail!(Failure::new(message).hint(format!("if you trust the {keys_noun}, pass {flags}")))
    }

    /// Refuses a key that is recorded as compromised on this machine, or that `--key` marks as compromised or
    /// opening-only.
    fn check_may_seal(&self, key: &RecipientKey) -> Result<()> {
        match key {
            RecipientKey::Certificate(certificate) => {
                compromised::check(self.environment, certificate.fingerprint())?;
            }
            RecipientKey::Line(_) => {
                compromised::check_v2(self.environment, &key.key_id())?;
            }
        }
        Ok(marked_keys::check_recipient(self.keys(), key)?)
    }

    fn read_recipients(
        &self,
        source: &RecipientSource,
        settings: &Settings,
        by: Origin,
    ) -> Result<Vec<RecipientKey>> {
        match source {
            RecipientSource::Line(line) => Ok(vec![RecipientKey::Line(line.clone())]),
            RecipientSource::At(at) => {
                let rules = settings.rules.as_deref().filter(|_| by == Origin::Rule);
                let bytes = match rules {
                    Some(rules) => certificate::read_named_by_rule(
                        at,
                        RuleContext {
                            directory: rules.directory(),
                            tree: rules.tree(),
                            is_pinned: false,
                        },
                    )?,
                    None => certificate::read(at)?,
                };
                let read = recipients::in_text(&bytes, self.environment.now);
                let (keys, remarks) =
                    read.with_context(|| format!("cannot use the recipient {source}"))?;
                for remark in &remarks {
                    report::warn(remark);
                }
                Ok(keys)
            }
            RecipientSource::Cluster => Ok(vec![self.recipient_of_cluster(settings)?]),
        }
    }

    fn recipient_of_cluster(&self, settings: &Settings) -> Result<RecipientKey> {
        let (source, named_by) = match &settings.certificate.value {
            source @ Source::Controller { .. } => (source.clone(), settings.certificate.by.into()),
            Source::At(_) => {
                let source = Source::Controller {
                    context: self.args.cluster.context.clone(),
                    name: self.args.controller.name.clone(),
                    namespace: self.args.controller.namespace.clone(),
                };
                (source, SettingSource::default())
            }
        };
        let controller = Controller::find(&self.access(&source), &self.clusters)?;
        let list = controller.recipients().map_err(|error| {
            let hint = "if the controller supports only v1 values, use `--sealed-format v1`, or list the keys in \
                        `recipients:` in .seal.yaml or with --recipient";
            anyhow::Error::from(error).context(
                Failure::new("cannot get the recipients for v2 values from the controller").hint(hint),
            )
        })?;
        let key = recipients::from_list(&list, self.environment.now);
        let key = key.context("cannot use the recipients of the controller")?;
        for remark in certificate::remember_preferred(&controller, &key, named_by, self.environment)
        {
            report::warn(&remark);
        }
        Ok(key)
    }
}

/// Returns the keys that the user names for a rule without recipients, if the rule accepts them.
fn accept_named_keys(rule: Option<&Rule>, named: &[RecipientKey]) -> Result<Vec<RecipientKey>> {
    if let Some(rule) = rule {
        for key in named {
            rule.check_recipient(key, false)?;
        }
    }
    Ok(named.to_vec())
}

/// Returns whether the user's pins include the certificate of a key.
fn is_pinned(settings: &Settings, key: &RecipientKey) -> bool {
    match (key, &settings.pins) {
        (RecipientKey::Certificate(certificate), Some(pins)) => {
            pins.value.contains(certificate.fingerprint())
        }
        _ => false,
    }
}

/// Returns the identifiers that the user confirms.
fn confirmed_ids(settings: &Settings, named: &[RecipientKey]) -> Vec<AnyKeyId> {
    let ids = settings.named_recipients.iter();
    let ids = ids.filter_map(|named| match named {
        NamedRecipient::Id(id) => Some(*id),
        NamedRecipient::Source(_) => None,
    });
    let named = named.iter().map(|key| key.key_id().into());
    ids.chain(named).collect()
}

/// Returns each key once, in the same order.
fn distinct(keys: Vec<RecipientKey>) -> Vec<RecipientKey> {
    let mut distinct: Vec<RecipientKey> = Vec::new();
    for key in keys {
        if distinct.iter().all(|other| other.key_id() != key.key_id()) {
            distinct.push(key);
        }
    }
    distinct
}

/// Comments of keys, by the short identifier of the key.
pub type KeyComments = BTreeMap<ShortKeyId, String>;

/// The keys of a rule that can be read without a network.
#[derive(Debug, Clone, Default)]
pub struct KnownRecipients {
    /// The keys that the rule names as lines or in files of its tree, or that are in its certificate file.
    pub keys: Vec<RecipientKey>,
    /// The number of recipients whose keys are unknown: recipients that the rule names by URL or as the controller, and
    /// files that cannot be read. `usize::MAX` without a rule.
    pub unknown: usize,
    /// The fingerprints of the certificates that are read from files, by the short identifier of the key: those among
    /// the recipients, and the certificate of the settings. Expired certificates are included.
    pub fingerprints: BTreeMap<ShortKeyId, Fingerprint>,
    /// Files that cannot be read or contain no valid recipient, with the reason.
    pub problems: Vec<String>,
}

/// Returns the recipients of a rule, without contacting a server. For a rule without recipients, the certificate is the
/// recipient.
pub fn known_recipients(settings: &Settings, now: Timestamp) -> KnownRecipients {
    let mut recipients = KnownRecipients::default();
    let Some((rule, rules)) = settings.rule.as_ref().zip(settings.rules.as_deref()) else {
        recipients.unknown = usize::MAX;
        return recipients;
    };
    let certificate = match &settings.certificate.value {
        Source::At(at) => RecipientSource::At(at.clone()),
        Source::Controller { .. } => RecipientSource::Cluster,
    };
    let sources = match rule.recipients.as_slice() {
        [] => std::slice::from_ref(&certificate),
        sources => sources,
    };
    for source in sources {
        recipients.add(source, rules, now);
    }
    recipients.add_fingerprint(&certificate, rules);
    recipients
}

impl KnownRecipients {
    /// Returns whether a key is one of [`Self::keys`].
    pub fn has(&self, id: ShortKeyId) -> bool {
        self.keys.iter().any(|key| key.short_id() == id)
    }

    /// Adds the fingerprint of a certificate in a file.
    fn add_fingerprint(&mut self, source: &RecipientSource, rules: &RulesFile) {
        let bytes = match source {
            RecipientSource::At(at) if !certificate::is_url(at) => read_file(at, rules).ok(),
            _ => None,
        };
        if let Some(Ok(certificate)) = bytes.map(|bytes| Certificate::from_pem(&bytes)) {
            let id = certificate.public_key().key_id().short();
            self.fingerprints
                .insert(id, certificate.fingerprint().clone());
        }
    }

    fn add(&mut self, source: &RecipientSource, rules: &RulesFile, now: Timestamp) {
        match source {
            RecipientSource::Line(line) => self.keys.push(RecipientKey::Line(line.clone())),
            RecipientSource::At(at) if !certificate::is_url(at) => {
                self.add_fingerprint(source, rules);
                let keys = read_file(at, rules).and_then(|bytes| {
                    let keys = recipients::in_text(&bytes, now);
                    keys.map_err(|error| shared::error_chain(&error))
                });
                match keys {
                    Ok((keys, _)) => self.keys.extend(keys),
                    Err(why) => {
                        self.unknown += 1;
                        self.problems.push(format!("the recipient {source}: {why}"));
                    }
                }
            }
            RecipientSource::At(_) | RecipientSource::Cluster => self.unknown += 1,
        }
    }
}

/// Reads a file that a rule names.
fn read_file(at: &OsStr, rules: &RulesFile) -> Result<Vec<u8>, String> {
    let context = RuleContext {
        directory: rules.directory(),
        tree: rules.tree(),
        is_pinned: false,
    };
    let bytes = certificate::read_named_by_rule(at, context);
    bytes.map_err(|error| shared::error_chain(&error))
}

/// Returns the comments of the recipient lines in the rule and in its files. A certificate has no comment.
pub fn key_comments(settings: &Settings) -> KeyComments {
    let recipients = known_recipients(settings, Timestamp::UNIX_EPOCH);
    let keys = recipients.keys.iter();
    let named = keys.filter(|key| !key.comment().is_empty());
    named
        .map(|key| (key.short_id(), key.comment().to_owned()))
        .collect()
}

/// The rule and the source of the certificate, which determine the recipients of a file. Flags are the same for the
/// whole run.
pub type CacheKey = (Option<(PathBuf, usize)>, Source);

fn cache_key(settings: &Settings) -> CacheKey {
    let rules = settings.rules.as_ref();
    let path = rules.map(|rules| rules.path.clone());
    let rule = path.zip(settings.rule.as_ref().map(|rule| rule.number));
    (rule, settings.certificate.value.clone())
}
