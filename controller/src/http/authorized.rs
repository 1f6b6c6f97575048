//! The endpoints for authenticated callers, over TLS.
//!
//! They do not work through the service proxy, since the API server drops the Authorization header there.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::UserInfo;
use shared::meter::Meter;
use shared::resource::SealedSecret;
use tracing::info;

use super::limiter::{Caller, RequestLimiter};
use super::refusal::Refusal;
use super::reviews::{Reviews, Verb};
use super::sealed::{Request, Work};
use super::tokens::Tokens;
use super::{Peer, ServerState};

#[derive(Clone)]
struct Context {
    state: ServerState,
    /// The limiter of the TLS port. Callers of the unauthenticated port, which has its own limiter, cannot exhaust it.
    limiter: Arc<RequestLimiter>,
    reviews: Arc<Reviews>,
    tokens: Arc<Tokens>,
}

/// Returns the routes for verify, rotate and unseal. Unlike on the unauthenticated port, verify also returns which key
/// unseals each item, and there is a route that seals v1 items as v2.
pub(super) fn router(state: ServerState, limiter: RequestLimiter, reviews: Arc<Reviews>) -> Router {
    let endpoint = |verb: Verb, work: Work| {
        post(
            move |State(context): State<Context>,
                  Extension(peer): Extension<Peer>,
                  headers: HeaderMap,
                  body: Body| async move {
                let respond = context.respond(verb, work, peer, &headers, body);
                respond.await.unwrap_or_else(IntoResponse::into_response)
            },
        )
    };
    Router::new()
        .route("/v1/verify", endpoint(Verb::Verify, Request::verify_items))
        .route("/v1/rotate", endpoint(Verb::Rotate, Request::rotate))
        .route("/v2/rotate", endpoint(Verb::Rotate, Request::rotate_to_v2))
        .route("/v1/unseal", endpoint(Verb::Unseal, Request::unseal))
        .with_state(Context {
            state,
            limiter: Arc::new(limiter),
            reviews,
            tokens: Arc::default(),
        })
}

impl Context {
    async fn respond(
        &self,
        verb: Verb,
        work: Work,
        peer: Peer,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let user = self.authenticate(peer, headers).await?;
        let caller = Caller::from_user(user.username.as_deref().unwrap_or_default());
        let (ticket, admission) = self.limiter.admit(&caller, "", Timestamp::now());
        let respond = async {
            admission?;
            // Kept until the response is ready: the memory reserved for the bytes covers the data that is parsed from
            // them.
            let bytes = Arc::new(self.limiter.read(peer.0, body).await?);
            let read = {
                let bytes = Arc::clone(&bytes);
                move |meter: &mut dyn Meter| Request::read(&bytes, meter)
            };
            let request = self.limiter.work(&caller, read).await?;
            if verb != Verb::Rotate {
                request.single_object()?;
            }
            let object_names = object_names(&request);
            let response = self.work(&caller, &user, verb, request, work).await;
            if verb == Verb::Unseal {
                log(&user, &object_names, &response);
            }
            response
        };
        Ok(ticket.add_headers(respond.await.into_response()))
    }

    async fn work(
        &self,
        caller: &Caller,
        user: &UserInfo,
        verb: Verb,
        request: Request,
        work: Work,
    ) -> Result<Response, Refusal> {
        let authorized = self.authorize(user, verb, &request);
        self.limiter.wait(caller, authorized).await?;
        let (ring, accepted) = (self.state.ring(), self.limiter.accepted());
        let work = move |meter: &mut dyn Meter| work(request, &ring, &accepted, meter);
        self.limiter.work(caller, work).await
    }

    async fn authenticate(&self, peer: Peer, headers: &HeaderMap) -> Result<UserInfo, Refusal> {
        let token = token(headers).ok_or(Refusal::Unauthenticated)?;
        self.tokens.check_review(peer.0, token, Timestamp::now())?;
        let owner = self.reviews.review_token(token).await;
        let owner = owner.map_err(|_| Refusal::NoReview)?;
        let tokens = &self.tokens;
        tokens.record(peer.0, token, owner.is_some(), Timestamp::now());
        owner.ok_or(Refusal::Unauthenticated)
    }

    async fn authorize(
        &self,
        user: &UserInfo,
        verb: Verb,
        request: &Request,
    ) -> Result<(), Refusal> {
        let mut object_names = HashSet::new();
        for sealed in &request.objects {
            if !object_names.insert((sealed.namespace_or_empty(), sealed.name_or_empty())) {
                continue;
            }
            let allowed = self.reviews.is_allowed(user, verb, sealed).await;
            if !allowed.map_err(|_| Refusal::NoReview)? {
                return Err(Refusal::Forbidden(verb.reach(sealed)));
            }
        }
        Ok(())
    }
}

/// Returns the bearer token of a request. Returns `None` unless the request has exactly one `Authorization` header,
/// with such a token: if there are several, a proxy in front of the controller might have checked a different one.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, None) = (values.next()?, values.next()) else {
        return None;
    };
    let token = first.to_str().ok()?.strip_prefix("Bearer ")?;
    is_token(token).then_some(token)
}

/// Returns whether the string is a bearer token (RFC 6750, section 2.1). The API server's authenticator drops leading
/// spaces, and would then treat an empty token as the anonymous user's.
fn is_token(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Returns the names of the first objects of a request and the number of further objects, for a log line.
fn object_names(request: &Request) -> String {
    const MAX_NAMES: usize = 4;
    let objects = &request.objects;
    let mut object_names: Vec<String> = objects
        .iter()
        .take(MAX_NAMES)
        .map(SealedSecret::qualified_name)
        .collect();
    if objects.len() > MAX_NAMES {
        object_names.push(format!("{} more", objects.len() - MAX_NAMES));
    }
    object_names.join(", ")
}

/// Logs which user requested values, and the outcome.
fn log(user: &UserInfo, object: &str, response: &Result<Response, Refusal>) {
    let user = user.username.as_deref().unwrap_or_default();
    let outcome = match response {
        Ok(response) if response.status().is_success() => "unsealed",
        Ok(_) | Err(Refusal::CannotUnseal) => "cannot be unsealed",
        Err(Refusal::Forbidden(_)) => "not allowed",
        Err(_) => "failed",
    };
    info!(
        user,
        object, outcome, "A caller asked to unseal a SealedSecret"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a caller sends text that is not a token, so that the API server reviews an anonymous user.
    #[test]
    fn accepts_only_tokens_of_rfc_6750() {
        for token in ["a", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "A-._~+/z09=="] {
            assert!(is_token(token), "{token}");
        }
        for token in [
            "", " ", " x", "x ", "a b", "=", "a=b", "a,b", "\tx", "é", "a\u{7f}",
        ] {
            assert!(!is_token(token), "{token:?}");
        }
    }

    /// Attack: a caller sends two tokens, so that a proxy checks one of them and the controller the other.
    #[test]
    fn refuses_two_tokens_in_one_request() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.append(header::AUTHORIZATION, "Bearer a".parse().unwrap());
        assert_eq!(token(&headers), Some("a"));
        headers.append(header::AUTHORIZATION, "Bearer a".parse().unwrap());
        assert_eq!(token(&headers), None);
    }
}
