//! Compares the key that a controller prefers for v2 values with the key of an earlier run.

use shared::v2::{Recipient as _, Suite};

use super::cache::{Cache, CachedRecipient};
use super::trust::{self, Discovery, SettingSource, cache_kind};
use crate::cluster::{Controller, Service};
use crate::environment::Environment;
use crate::recipients::RecipientKey;

/// Caches the key that a controller prefers for v2 values. Returns warnings for the user if the key differs from the
/// cached one, if the cached one cannot be read, or, on a terminal, if the key cannot be cached. `named_by` is the
/// source of the controller's name.
pub fn remember_preferred(
    controller: &Controller,
    key: &RecipientKey,
    named_by: SettingSource,
    environment: &Environment,
) -> Vec<String> {
    let directory = environment.cache_directory();
    let cache = Cache::for_cluster(directory.as_deref(), controller.address());
    let (kind, service) = (
        cache_kind(named_by, Discovery::Named, None),
        controller.service(),
    );
    let new = format!("{} {}", key.suite(), key.key_id());
    let (last, mut remarks) = match cache.last_recipient(kind, service) {
        Ok(last) => (last, Vec::new()),
        Err(remark) => (None, vec![remark]),
    };
    if last.as_ref().is_some_and(|last| last.key == new) {
        return remarks;
    }
    remarks.extend(last.map(|last| change_warning(&last, &new, key, service, environment)));
    if let Err(error) = cache.remember_recipient(kind, service, &new)
        && environment.stderr_is_terminal
    {
        remarks.push(format!(
            "cannot cache the key for v2 values, so a change will not be detected: {}",
            shared::error_chain(&error)
        ));
    }
    remarks
}

fn change_warning(
    last: &CachedRecipient,
    new: &str,
    key: &RecipientKey,
    service: &Service,
    environment: &Environment,
) -> String {
    let first_seen = trust::age(last.since, environment.now);
    let was_post_quantum = last
        .key
        .split(' ')
        .next()
        .and_then(|suite| suite.parse().ok());
    let was_post_quantum = was_post_quantum.is_some_and(|suite: Suite| suite.is_post_quantum());
    let loss = if was_post_quantum && !key.suite().is_post_quantum() {
        ", which is not post-quantum, unlike the previous one"
    } else {
        ""
    };
    format!(
        "the key of {service} for v2 values has changed to {new}{loss}; the previous one was {}, first seen {first_seen}\n\
         hint: by default, controllers generate a new key every 30 days; if yours did not, check which server responds at \
         this address",
        last.key
    )
}
