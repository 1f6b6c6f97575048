//! Every answer that is no success.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::key_ring::NoSealingKey;

/// Why a caller gets nothing. Nothing of what he sent is in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// He asks too often, or others do; he may ask again after so many seconds.
    TooOften(i64),
    /// The body is too long.
    TooLong,
    /// The body came too slowly.
    TooSlow,
    /// The body broke off.
    Broken,
    /// There is too much in it.
    TooManyItems,
    /// It takes more work than one request may.
    TooMuchWork,
    /// Its time was over before its turns came to an end.
    TooBusy,
    /// It is not what the endpoint is for.
    Malformed,
    /// It does not open, for whatever reason. No body, as in the peer.
    Closed,
    /// There is nothing to seal for.
    NoCertificate,
    /// There are keys, and none may seal.
    MayNotSeal(NoSealingKey),
    /// He shows no token that was made for us.
    Anonymous,
    /// He may not do this with that object.
    Forbidden,
    /// The API server does not say who he is or what he may do.
    NoReview,
    /// Our own fault.
    Failed,
}

impl Refused {
    /// Of a ring in which no key may seal. An empty one gets the peer's answer.
    pub(super) fn of_ring(why: NoSealingKey) -> Self {
        match why {
            NoSealingKey::NoKey => Self::NoCertificate,
            why => Self::MayNotSeal(why),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::TooOften(seconds) => {
                let retry = [("retry-after", HeaderValue::from(seconds))];
                (StatusCode::TOO_MANY_REQUESTS, retry, "limit exceeded\n").into_response()
            }
            Self::TooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is longer than 10 MiB\n",
            )
                .into_response(),
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT.into_response(),
            Self::Broken => StatusCode::BAD_REQUEST.into_response(),
            Self::TooManyItems => {
                (StatusCode::PAYLOAD_TOO_LARGE, "more than 1000 items\n").into_response()
            }
            Self::TooMuchWork => {
                let text = "the request takes more work than one request may; send fewer items at a time, or sealed \
                            with `seal`, which notes the key of each\n";
                (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
            }
            Self::TooBusy => {
                let retry = [("retry-after", HeaderValue::from(10))];
                let text = "the controller is busy with other requests; try again, with fewer items at a time\n";
                (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
            }
            Self::Malformed => {
                let text = "the body is not one SealedSecret in JSON or YAML\n";
                (StatusCode::BAD_REQUEST, text).into_response()
            }
            Self::Closed => StatusCode::CONFLICT.into_response(),
            Self::NoCertificate => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "cannot get certificate\n",
            )
                .into_response(),
            Self::MayNotSeal(why) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
            }
            Self::Anonymous => {
                let wanted = [("www-authenticate", "Bearer")];
                let text = "a token with the audience sealed-secrets.bitnami.com is needed\n";
                (StatusCode::UNAUTHORIZED, wanted, text).into_response()
            }
            Self::Forbidden => {
                let text = "not allowed: RBAC grants no such verb on this SealedSecret\n";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::NoReview => {
                let text = "the API server cannot be asked about this token\n";
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
