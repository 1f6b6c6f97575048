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
use super::refused::Refused;
use super::reviews::{Reviews, Verb};
use super::sealed::{Request, Work};
use super::tokens::Tokens;
use super::{Peer, ServerState};

#[derive(Clone)]
struct Context {
    state: ServerState,
    /// Separate from that of the unauthenticated port, so that callers of that port cannot exhaust this one.
    limiter: Arc<RequestLimiter>,
    reviews: Arc<Reviews>,
    tokens: Arc<Tokens>,
}

/// Returns the routes for verify, rotate and unseal. This verify also returns which key unseals each item, which the
/// unauthenticated port does not reveal.
pub(super) fn router(state: ServerState, limiter: RequestLimiter, reviews: Reviews) -> Router {
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
        .route("/v1/unseal", endpoint(Verb::Unseal, Request::unseal))
        .with_state(Context {
            state,
            limiter: Arc::new(limiter),
            reviews: Arc::new(reviews),
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
    ) -> Result<Response, Refused> {
        let user = self.user(peer, headers).await?;
        let caller = Caller::user(user.username.as_deref().unwrap_or_default());
        let (ticket, admitted) = self.limiter.admit(&caller, "", Timestamp::now());
        let respond = async {
            admitted?;
            // Kept until the end: data parsed from the body uses memory for as long as the body does.
            let bytes = Arc::new(self.limiter.read(peer.0, body).await?);
            let read = {
                let bytes = Arc::clone(&bytes);
                move |meter: &mut dyn Meter| Request::read(&bytes, meter)
            };
            let request = self.limiter.work(&caller, read).await?;
            if verb != Verb::Rotate {
                request.single()?;
            }
            let object_names = object_names(&request);
            let respond = self.work(&caller, &user, verb, request, work).await;
            if verb == Verb::Unseal {
                log(&user, &object_names, &respond);
            }
            respond
        };
        Ok(ticket.mark(respond.await.into_response()))
    }

    async fn work(
        &self,
        caller: &Caller,
        user: &UserInfo,
        verb: Verb,
        request: Request,
        work: Work,
    ) -> Result<Response, Refused> {
        let authorized = self.authorize(user, verb, &request);
        self.limiter.wait(caller, authorized).await?;
        let (ring, legacy) = (self.state.ring(), self.limiter.accept_legacy);
        let work = move |meter: &mut dyn Meter| work(request, &ring, legacy, meter);
        self.limiter.work(caller, work).await
    }

    async fn user(&self, peer: Peer, headers: &HeaderMap) -> Result<UserInfo, Refused> {
        let token = token(headers).ok_or(Refused::Unauthenticated)?;
        self.tokens.may_review(peer.0, token, Timestamp::now())?;
        let owner = self.reviews.owner(token).await;
        let owner = owner.map_err(|_| Refused::NoReview)?;
        self.tokens.record(token, owner.is_some(), Timestamp::now());
        owner.ok_or(Refused::Unauthenticated)
    }

    async fn authorize(
        &self,
        user: &UserInfo,
        verb: Verb,
        request: &Request,
    ) -> Result<(), Refused> {
        let mut object_names = HashSet::new();
        for sealed in &request.objects {
            if !object_names.insert((sealed.namespace_or_empty(), sealed.name_or_empty())) {
                continue;
            }
            let allowed = self.reviews.allow(user, verb, sealed).await;
            if !allowed.map_err(|_| Refused::NoReview)? {
                return Err(Refused::Forbidden);
            }
        }
        Ok(())
    }
}

/// Returns the bearer token of a request, or `None` if it has several `Authorization` headers: a proxy in front of the
/// controller might have checked another one.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut headers_in_request = headers.get_all(header::AUTHORIZATION).iter();
    let (first, None) = (headers_in_request.next()?, headers_in_request.next()) else {
        return None;
    };
    let token = first.to_str().ok()?.strip_prefix("Bearer ")?;
    is_token(token).then_some(token)
}

/// Returns whether the text is a bearer token (RFC 6750, section 2.1). The API server's authenticator drops leading
/// spaces, and would then review an empty token as that of the anonymous user.
fn is_token(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Returns the names of the objects of a request, short enough for a log line.
fn object_names(request: &Request) -> String {
    const MAX_NAMES: usize = 4;
    let all = &request.objects;
    let mut object_names: Vec<String> = all
        .iter()
        .take(MAX_NAMES)
        .map(SealedSecret::place)
        .collect();
    if all.len() > MAX_NAMES {
        object_names.push(format!("{} more", all.len() - MAX_NAMES));
    }
    object_names.join(", ")
}

/// Logs which user requested values, and the outcome.
fn log(user: &UserInfo, object: &str, respond: &Result<Response, Refused>) {
    let user = user.username.as_deref().unwrap_or_default();
    let outcome = match respond {
        Ok(response) if response.status().is_success() => "unsealed",
        Ok(_) | Err(Refused::CannotUnseal) => "cannot be unsealed",
        Err(Refused::Forbidden) => "not allowed",
        Err(_) => "not answered",
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

    /// Attack: a caller sends two tokens, so that a proxy checks one of them and the port the other.
    #[test]
    fn refuses_two_tokens() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.append(header::AUTHORIZATION, "Bearer a".parse().unwrap());
        assert_eq!(token(&headers), Some("a"));
        headers.append(header::AUTHORIZATION, "Bearer a".parse().unwrap());
        assert_eq!(token(&headers), None);
    }
}
