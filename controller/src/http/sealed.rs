//! The endpoints `/v1/verify` and `/v1/rotate`, and the work of those on the TLS port.
//!
//! Callers of verify and rotate may send any ciphertext from a public repository, under any name and with any template.
//! These endpoints therefore render no template, use the scope of the object itself, and return no reason if an object
//! cannot be unsealed. Verify applies the limits on scopes and key ages, like the reconciler and unseal. Rotate does not:
//! its result is how an author replaces an item that was sealed for a key that is too old.

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use controller_core::author_limits::AuthorLimits;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use shared::key_ring::KeyRing;
use shared::manifest;
use shared::meter::{Interrupted, Meter};
use shared::needs::{Need, needs_within};
use shared::reseal::{ResealError, ResealRules, Resealed, reseal, reseal_as_v2};
use shared::resource::SealedSecret;
use shared::unseal::{Admission, Randomness, UnsealError, UsedKey, check_within, unseal_within};
use shared::v2::{Checked, Policy};
use shared::visible;

use super::limiter::{AcceptanceRules, Caller};
use super::refusal::Refusal;
use super::{Context, Peer};

/// Maximum number of items in a request. A Secret of one mebibyte rarely has more than a hundred items.
const MAX_ITEMS: usize = 1000;
/// Maximum number of YAML or JSON values in a body; a string counts by its length. A body of ten mebibytes with a few
/// thousand items stays below this limit.
const MAX_VALUES: usize = 250_000;
/// Number of bytes of a body that are parsed in a microsecond.
const BYTES_PER_MICROSECOND: u64 = 10;

/// The handler of a parsed request. Refuses objects that do not meet the requirements, and charges its work to the
/// meter.
pub(super) type Work =
    fn(Request, &KeyRing, &AcceptanceRules, &mut dyn Meter) -> Result<Response, Refusal>;

/// Responds with 200 if the object can be unsealed within the limits on scopes and key ages of its namespace, and 409 if
/// not.
pub(super) async fn verify(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let caller = Caller::from_address(peer.0, &headers);
    respond(context, "/v1/verify", peer, caller, body, Request::verify).await
}

/// Responds with the SealedSecret, or the `List` of SealedSecrets, re-encrypted for the sealing key; with 409 if any of
/// the objects cannot be unsealed.
pub(super) async fn rotate(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let caller = Caller::from_address(peer.0, &headers);
    respond(context, "/v1/rotate", peer, caller, body, Request::rotate).await
}

async fn respond(
    Context { state, limiter }: Context,
    path: &'static str,
    peer: Peer,
    caller: Caller,
    body: Body,
    work: Work,
) -> Response {
    let (ticket, admission) = limiter.admit(&caller, path, Timestamp::now());
    let respond = async {
        admission?;
        let bytes = limiter.read(peer.0, body).await?;
        let (ring, accepted) = (state.ring(), limiter.accepted());
        let work = move |meter: &mut dyn Meter| {
            let request = Request::read(&bytes, meter)?;
            work(request, &ring, &accepted, meter)
        };
        limiter.work(&caller, work).await
    };
    ticket.add_headers(respond.await.into_response())
}

/// The parsed body of a request.
pub(super) struct Request {
    pub(super) objects: Vec<SealedSecret>,
    is_list: bool,
}

impl Request {
    /// Parses one document with a SealedSecret or a list of SealedSecrets.
    pub(super) fn read(bytes: &[u8], meter: &mut dyn Meter) -> Result<Self, Refusal> {
        meter.spend(bytes.len() as u64 / BYTES_PER_MICROSECOND)?;
        let documents = manifest::read_within(bytes, MAX_VALUES).map_err(|_| Refusal::Malformed)?;
        let [document] = documents.as_slice() else {
            return Err(Refusal::Malformed);
        };
        let parsed = SealedSecret::all_from_document(document);
        let (objects, _) = parsed.map_err(|_| Refusal::Malformed)?;
        let items = |sealed: &SealedSecret| {
            let items = sealed.spec.encrypted_data.len() + usize::from(sealed.spec.data.is_some());
            // Count at least one item per object, since each costs a request to the API server.
            items.max(1)
        };
        if objects.iter().map(items).sum::<usize>() > MAX_ITEMS {
            return Err(Refusal::TooManyItems);
        }
        let nodes = document.root.list_items(&["List", "SealedSecretList"]);
        let root = &raw const document.root;
        let is_single = matches!(nodes.as_slice(), [one] if std::ptr::eq(*one, root));
        Ok(Self {
            objects,
            is_list: !is_single,
        })
    }

    pub(super) fn single_object(&self) -> Result<&SealedSecret, Refusal> {
        match self.objects.as_slice() {
            [sealed] if !self.is_list => Ok(sealed),
            _ => Err(Refusal::Malformed),
        }
    }

    pub(super) fn verify(
        self,
        ring: &KeyRing,
        accepted: &AcceptanceRules,
        meter: &mut dyn Meter,
    ) -> Result<Response, Refusal> {
        let sealed = self.single_object()?;
        let sealed_by = check_within(sealed, ring, admission(sealed, accepted), meter)
            .map_err(|error| cannot_unseal(&error))?;
        if !is_within_limits(sealed, &sealed_by, ring, accepted) {
            return Err(Refusal::CannotUnseal);
        }
        Ok(StatusCode::OK.into_response())
    }

    /// Like [`Self::verify`], with the key of each item in the response. Apart from the keys, callers that may verify
    /// the object could learn the same by verifying each item separately.
    pub(super) fn verify_items(
        self,
        ring: &KeyRing,
        accepted: &AcceptanceRules,
        meter: &mut dyn Meter,
    ) -> Result<Response, Refusal> {
        let sealed = self.single_object()?;
        let admission = admission(sealed, accepted);
        let is_refused = Checked::new(sealed, &admission.policy, admission.target).is_err();
        let needs = needs_within(sealed, ring, meter)?;
        let sealed_by = used_keys(&needs);
        let key = |item| json!(sealed_by.get(item).map(UsedKey::to_string));
        let items = needs.keys().map(|item| (item.clone(), key(item)));
        let items: Map<String, Value> = items.collect();
        let has_failed_items = items.values().any(Value::is_null);
        // For the deprecated form, only a full check shows whether the content is an accepted Secret.
        let is_failure = is_refused
            || has_failed_items
            || !is_within_limits(sealed, &sealed_by, ring, accepted)
            || sealed.spec.data.is_some() && check_within(sealed, ring, admission, meter).is_err();
        let code = if is_failure {
            StatusCode::CONFLICT
        } else {
            StatusCode::OK
        };
        Ok((code, as_json(&json!({ "items": items }))).into_response())
    }

    pub(super) fn rotate(
        self,
        ring: &KeyRing,
        accepted: &AcceptanceRules,
        meter: &mut dyn Meter,
    ) -> Result<Response, Refusal> {
        let random = &mut shared::random::system();
        self.rotate_each(accepted, AuthorLimits::policy_of, |sealed, rules| {
            reseal(sealed, ring, rules, random, meter)
        })
    }

    /// Like [`Self::rotate`], but seals v1 items as v2.
    pub(super) fn rotate_to_v2(
        self,
        ring: &KeyRing,
        accepted: &AcceptanceRules,
        meter: &mut dyn Meter,
    ) -> Result<Response, Refusal> {
        let random = &mut shared::random::system();
        self.rotate_each(
            accepted,
            AuthorLimits::conversion_policy,
            |sealed, rules| reseal_as_v2(sealed, ring, rules, random, meter),
        )
    }

    fn rotate_each(
        self,
        accepted: &AcceptanceRules,
        policy: impl Fn(&AuthorLimits, &SealedSecret, Timestamp) -> Policy,
        mut reseal: impl FnMut(&SealedSecret, ResealRules) -> Result<Resealed, ResealError>,
    ) -> Result<Response, Refusal> {
        // For the deprecated form, the number of items is known only after it is unsealed.
        let mut remaining = MAX_ITEMS;
        let now = Timestamp::now();
        let mut rotated = Vec::with_capacity(self.objects.len());
        for sealed in &self.objects {
            let rules = ResealRules {
                now,
                accept_legacy: accepted.legacy,
                max_items: remaining,
                policy: policy(&accepted.limits, sealed, now),
            };
            let resealed = reseal(sealed, rules)?;
            remaining = remaining.saturating_sub(resealed.changed);
            rotated.push(resealed.sealed.to_document());
        }
        Ok(as_json(&document(rotated, self.is_list)))
    }

    /// Responds with the unsealed Secret. The caller must have checked that RBAC allows `unseal`: the response
    /// contains values and exact errors.
    pub(super) fn unseal(
        self,
        ring: &KeyRing,
        accepted: &AcceptanceRules,
        meter: &mut dyn Meter,
    ) -> Result<Response, Refusal> {
        let now = Timestamp::now();
        let mut randomness = Randomness {
            now,
            rng: &mut shared::random::system(),
        };
        let sealed = self.single_object()?;
        let rules = (admission(sealed, accepted), false);
        let unsealed = match unseal_within(sealed, ring, rules, &mut randomness, meter) {
            Ok(unsealed) => unsealed,
            Err(UnsealError::BudgetUsedUp { .. }) => return Err(Refusal::TooMuchWork),
            Err(error) => return Ok(conflict(&error.exact_message())),
        };
        let limits = &accepted.limits;
        Ok(
            match limits.allow_ciphertext(sealed, &unsealed.sealed_by, ring, now) {
                Ok(()) => as_json(&unsealed.secret.to_document()),
                Err(violation) => conflict(&violation.to_string()),
            },
        )
    }
}

/// Returns the key of each item that a key unseals.
fn used_keys(needs: &BTreeMap<String, Need>) -> BTreeMap<String, UsedKey> {
    let key = |need: &Need| match need {
        Need::Key(key) => Some(UsedKey::Rsa(key.clone())),
        Need::V2Key(key) => Some(UsedKey::V2(*key)),
        Need::OneOf(_) | Need::Undecided(_) | Need::AnyKey | Need::Nothing => None,
    };
    let keys = needs.iter();
    keys.filter_map(|(item, need)| Some((item.clone(), key(need)?)))
        .collect()
}

/// Returns whether the author limits allow the scope of the object and the age of each key in `sealed_by`.
fn is_within_limits(
    sealed: &SealedSecret,
    sealed_by: &BTreeMap<String, UsedKey>,
    ring: &KeyRing,
    accepted: &AcceptanceRules,
) -> bool {
    let now = Timestamp::now();
    let allowed = accepted
        .limits
        .allow_ciphertext(sealed, sealed_by, ring, now);
    allowed.is_ok()
}

/// Returns the response with the exact reason why an object is not unsealed.
fn conflict(reason: &str) -> Response {
    (StatusCode::CONFLICT, format!("{}\n", visible(reason))).into_response()
}

/// Returns the requirements for an object: whether the deprecated form is accepted, and the rules for formats in its
/// namespace. The values need not form a valid Secret, since callers may use them for other purposes.
fn admission(sealed: &SealedSecret, accepted: &AcceptanceRules) -> Admission {
    Admission {
        policy: accepted.limits.policy_of(sealed, Timestamp::now()),
        ..Admission::for_values(accepted.legacy)
    }
}

/// Returns the refusal of an object that cannot be unsealed. The refusal does not reveal the reason, except for an
/// exceeded budget.
fn cannot_unseal(error: &UnsealError) -> Refusal {
    match error {
        UnsealError::BudgetUsedUp { .. } => Refusal::TooMuchWork,
        _ => Refusal::CannotUnseal,
    }
}

impl From<ResealError> for Refusal {
    fn from(error: ResealError) -> Self {
        match error {
            ResealError::TooManyItems(_) => Self::TooManyItems,
            ResealError::Unseal(error) => cannot_unseal(&error),
            ResealError::V2(_) => Self::CannotUnseal,
            ResealError::Interrupted(error) => error.into(),
            ResealError::NoCertificate(error) => Self::no_sealing_key(error),
            ResealError::Seal(_) => Self::NoCertificate,
        }
    }
}

impl From<Interrupted> for Refusal {
    fn from(Interrupted: Interrupted) -> Self {
        Self::TooMuchWork
    }
}

fn document(mut objects: Vec<Value>, is_list: bool) -> Value {
    match objects.pop() {
        Some(object) if !is_list => object,
        last => {
            objects.extend(last);
            json!({ "kind": "List", "apiVersion": "v1", "items": objects })
        }
    }
}

fn as_json(document: &Value) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, document.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::to_bytes;
    use controller_core::author_limits::{FormatRules, TypeRules};
    use jiff::SignedDuration;
    use shared::key_ring::RingV2Key;
    use shared::meter::Unmetered;
    use shared::plain::Plain;
    use shared::random;
    use shared::resource::SealedSecretSpec;
    use shared::scope::Scope;
    use shared::v2::key_secret::StoredKey;
    use shared::v2::{self, LockSpec, Place, Recipient, SecretKey, Suite, TemplateDigest, Value};

    use super::*;

    fn object(key: &dyn Recipient, is_bound: bool) -> SealedSecret {
        let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
        sealed.metadata.namespace = Some("prod".into());
        let place = Place::for_sealing(Scope::Strict, "prod", "db").unwrap();
        let spec = LockSpec {
            place: &place,
            recipients: &[key],
            allow_classical: false,
            template: is_bound.then(|| TemplateDigest::of(&sealed.spec.template)),
            is_never_secret: false,
            is_alone: false,
            revision: 1,
        };
        let rng = &mut random::system();
        let value = Value::new(Plain::from("1".to_owned()), rng);
        let values = BTreeMap::from([("a".to_owned(), value)]);
        sealed.spec.encrypted_data = v2::seal(&spec, &values, rng).unwrap();
        sealed
    }

    fn ring(order_time: Timestamp) -> (KeyRing, impl Recipient) {
        let key = SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap();
        let recipient = key.recipient();
        let stored = StoredKey {
            key,
            not_before: Timestamp::MIN,
            not_after: Timestamp::MAX,
        };
        let key = RingV2Key::new("k".into(), order_time, stored);
        (KeyRing::default().with_v2_keys([Arc::new(key)]), recipient)
    }

    /// Attack: a caller has the controller unseal a value whose scope the administrator forbids, or that was sealed for
    /// a key that the administrator considers too old.
    #[tokio::test]
    async fn unsealing_applies_the_allowed_scopes_and_the_maximum_key_age() {
        let hour = SignedDuration::from_hours(1);
        let two_hours_ago = Timestamp::now() - 2 * hour;
        for (scopes, max_age, problem) in [
            ("", None, None),
            ("prod=strict", Some(3 * hour), None),
            ("prod=namespace-wide", None, Some("--allowed-scopes")),
            ("", Some(hour), Some("--max-sealing-key-age")),
        ] {
            let scopes = scopes.parse().unwrap();
            let limits = AuthorLimits::new(TypeRules::default(), scopes, max_age);
            let accepted = AcceptanceRules {
                legacy: true,
                limits: Arc::new(limits),
            };
            let (ring, recipient) = ring(two_hours_ago);
            let request = Request {
                objects: vec![object(&recipient, false)],
                is_list: false,
            };
            let response = request.unseal(&ring, &accepted, &mut Unmetered).unwrap();
            let is_refused = response.status() == StatusCode::CONFLICT;
            let body = to_bytes(response.into_body(), 10_000).await.unwrap();
            let text = String::from_utf8_lossy(&body);
            assert_eq!(is_refused, problem.is_some(), "{text}");
            assert!(
                problem.is_none_or(|problem| text.contains(problem)),
                "{text}"
            );
            assert_eq!(text.contains("MQ=="), problem.is_none(), "{text}");
        }
    }

    /// Fault: the controller reports a value as valid that the reconciler refuses, by its scope or by the age of its key.
    #[test]
    fn verifying_applies_the_allowed_scopes_and_the_maximum_key_age() {
        let hour = SignedDuration::from_hours(1);
        let two_hours_ago = Timestamp::now() - 2 * hour;
        for (scopes, max_age, want) in [
            ("", None, StatusCode::OK),
            ("prod=strict", Some(3 * hour), StatusCode::OK),
            ("prod=namespace-wide", None, StatusCode::CONFLICT),
            ("", Some(hour), StatusCode::CONFLICT),
        ] {
            let scopes = scopes.parse().unwrap();
            let limits = AuthorLimits::new(TypeRules::default(), scopes, max_age);
            let accepted = AcceptanceRules {
                legacy: true,
                limits: Arc::new(limits),
            };
            let (ring, recipient) = ring(two_hours_ago);
            let works: [Work; 2] = [Request::verify, Request::verify_items];
            for work in works {
                let request = Request {
                    objects: vec![object(&recipient, false)],
                    is_list: false,
                };
                let response = work(request, &ring, &accepted, &mut Unmetered);
                assert_eq!(
                    response.into_response().status(),
                    want,
                    "{want} {max_age:?}"
                );
            }
        }
    }

    /// Attack: a caller has the controller verify or unseal an old value that was sealed unbound, with a template of
    /// the caller, although the administrator requires bound values.
    #[test]
    fn every_endpoint_applies_the_administrators_rules_of_the_namespace() {
        let (ring, recipient) = ring(Timestamp::MIN);
        let rules = FormatRules::new("", "prod", "".parse().unwrap(), v2::DEFAULT_MAX_LOCKS);
        let required = Arc::new(AuthorLimits::default().requiring_formats(rules));
        let works: [Work; 3] = [Request::verify, Request::verify_items, Request::unseal];
        for (limits, is_bound, want) in [
            (Arc::default(), false, StatusCode::OK),
            (Arc::clone(&required), true, StatusCode::OK),
            (required, false, StatusCode::CONFLICT),
        ] {
            let accepted = AcceptanceRules {
                legacy: true,
                limits,
            };
            for work in works {
                let request = Request {
                    objects: vec![object(&recipient, is_bound)],
                    is_list: false,
                };
                let response = work(request, &ring, &accepted, &mut Unmetered);
                assert_eq!(response.into_response().status(), want);
            }
        }
    }
}
