//! Checks v2 values against the rule of their file, after a controller has re-encrypted them. A controller seals for
//! its own key and the recipients of its flags, regardless of the rule.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubeseal_library::recipients::{RecipientKey, RecipientSource};
use kubeseal_library::rules::{Rule, SealedFormat};
use shared::resource::SealedSecret;
use shared::v2::{AnyKeyId, ItemView, Object, Recipient as _, ShortKeyId, Suite};

use crate::failure::Failure;
use crate::seal::recipients::{KnownRecipients, known_recipients};
use crate::seal::settings::Settings;

/// The keys that a rule lists, accepts and refuses.
pub(super) struct RuleKeys {
    rule: Option<Rule>,
    recipients: KnownRecipients,
}

const HINT: &str = "re-encrypt with --key FILE, which seals for the recipients of the rule";

impl RuleKeys {
    pub(super) fn of(settings: &Settings, now: Timestamp) -> Self {
        Self {
            rule: settings.rule.clone(),
            recipients: known_recipients(settings, now),
        }
    }

    /// Checks that each new v2 value is sealed for the keys that the rule lists, and for no key that the rule refuses.
    pub(super) fn check(
        &self,
        sent: &SealedSecret,
        entries: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let Some(rule) = &self.rule else {
            return Ok(());
        };
        let (old, new) = (views(&sent.spec.encrypted_data), views(entries));
        let mut changed = new
            .iter()
            .filter(|(item, view)| old.get(*item) != Some(view));
        changed.try_for_each(|(_, view)| self.check_view(rule, view))
    }

    fn check_view(&self, rule: &Rule, view: &ItemView) -> Result<(), Failure> {
        for key in &view.recipients {
            self.check_key(rule, *key)?;
        }
        let requires_list = !rule.recipients.is_empty() || rule.format == Some(SealedFormat::V2);
        if requires_list {
            self.check_list(rule, view)
        } else {
            Ok(())
        }
    }

    /// Refuses a retired key and, if the rule lists fingerprints or identifiers, a key that is not among them.
    fn check_key(&self, rule: &Rule, (id, suite): Key) -> Result<(), Failure> {
        let has = |ids: &[AnyKeyId]| ids.iter().any(|listed| listed.short() == id);
        let name = name((id, suite));
        if has(&rule.retired_ids) {
            let rule = rule.describe();
            let message = format!("the controller seals for {name}, which {rule} lists as retired");
            return Err(Failure::new(message).hint(HINT));
        }
        if let Some(key) = self.recipients.keys.iter().find(|key| key.short_id() == id) {
            let is_line = |source: &RecipientSource| matches!(source, RecipientSource::Line(line) if line.key_id() == key.key_id());
            let checked = rule.check_recipient(key, rule.recipients.iter().any(is_line));
            return checked.map_err(|violation| Failure::new(violation.to_string()).hint(HINT));
        }
        let pins = rule.pin_texts();
        if pins.is_empty() || has(&rule.key_ids) {
            return Ok(());
        }
        let (rule, pins) = (rule.describe(), pins.join(" or "));
        let message = format!("the controller seals for {name}, but {rule} requires {pins}");
        Err(Failure::new(message).hint(HINT))
    }

    /// Refuses a value that is not sealed for every key that the rule lists, or is sealed for further keys. One further
    /// key is accepted for each recipient of the rule whose key is unknown here, such as a URL or the controller.
    fn check_list(&self, rule: &Rule, view: &ItemView) -> Result<(), Failure> {
        let listed = &self.recipients.keys;
        let is_listed = |id: ShortKeyId| listed.iter().any(|key| key.short_id() == id);
        let is_recipient = |id: ShortKeyId| view.recipients.iter().any(|(own, _)| *own == id);
        let missing = listed.iter().filter(|key| !is_recipient(key.short_id()));
        let missing: Vec<String> = missing.map(key_name).collect();
        let unlisted = view.recipients.iter().filter(|(id, _)| !is_listed(*id));
        if missing.is_empty() && unlisted.count() <= self.recipients.unknown {
            return Ok(());
        }
        let keys: Vec<String> = view.recipients.iter().copied().map(name).collect();
        let (keys, rule) = (keys.join(", "), rule.describe());
        let message = match missing.as_slice() {
            [] => format!("the controller seals for {keys}, which {rule} does not list"),
            missing => format!(
                "the controller seals for {keys}, and {rule} also lists {}",
                missing.join(", ")
            ),
        };
        Err(Failure::new(message).hint(HINT))
    }
}

type Key = (ShortKeyId, Option<Suite>);

fn name((id, suite): Key) -> String {
    match suite {
        Some(suite) => format!("{suite} {id}"),
        None => id.to_string(),
    }
}

fn key_name(key: &RecipientKey) -> String {
    name((key.short_id(), Some(key.suite())))
}

/// Returns the visible properties of each v2 item; empty for a malformed object, whose response is discarded for
/// another reason.
fn views(entries: &BTreeMap<String, String>) -> BTreeMap<String, ItemView> {
    let object = Object::parse(entries);
    let views = object.as_ref().map(Object::view).unwrap_or_default();
    let views = views.into_iter();
    views.map(|(item, view)| (item.to_owned(), view)).collect()
}
