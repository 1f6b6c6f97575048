//! The reasons for refusing a request, and their responses.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::key_ring::NoSealingKey;
use shared::scope::Scope;

/// Why a request is refused. The response contains nothing that the caller sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The caller sent too many requests, or no slot or memory became free. Contains the seconds until the caller may
    /// retry.
    TooOften(i64),
    /// The body is too long.
    TooLong,
    /// The body arrived too slowly.
    TooSlow,
    /// The body cannot be read, for example because it ended early.
    Broken,
    /// The body contains too many items.
    TooManyItems,
    /// The request needs more work than the budget of one request.
    TooMuchWork,
    /// The request took too long, because of its own work or of other requests.
    TooBusy,
    /// The body is not in the format that the endpoint expects.
    Malformed,
    /// The object cannot be unsealed. The response has no body, as in upstream.
    CannotUnseal,
    /// There is no certificate for sealing, or sealing with it failed.
    NoCertificate,
    /// No key may seal, for this reason.
    MayNotSeal(NoSealingKey),
    /// The caller sent no token, or a token that is refused: invalid, or not issued for this controller only.
    Unauthenticated,
    /// RBAC does not allow the caller the verb on an object of the request, or on all objects that the values of the
    /// request may belong to. Contains the reach of the missing permission.
    Forbidden(Scope),
    /// The API server could not review the token or the permission.
    NoReview,
    /// An internal error.
    Failed,
}

impl Refusal {
    /// Returns the refusal for a key ring in which no key may seal. For an empty ring, the refusal equals upstream's.
    pub(super) fn no_sealing_key(error: NoSealingKey) -> Self {
        match error {
            NoSealingKey::NoKey => Self::NoCertificate,
            error => Self::MayNotSeal(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::TooOften(seconds) => {
                let retry = [("retry-after", HeaderValue::from(seconds))];
                (StatusCode::TOO_MANY_REQUESTS, retry, "limit exceeded\n").into_response()
            }
            Self::TooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is longer than the limit of 10 MiB; send fewer items in one request\n",
            )
                .into_response(),
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT.into_response(),
            Self::Broken => StatusCode::BAD_REQUEST.into_response(),
            Self::TooManyItems => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request contains more than the limit of 1000 items; send fewer items in one request\n",
            )
                .into_response(),
            Self::TooMuchWork => {
                let text = "the request needs more work than one request may use; send fewer items in one request, or items \
                            sealed with `seal`, which records the key of each item\n";
                (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
            }
            Self::TooBusy => {
                let retry = [("retry-after", HeaderValue::from(10))];
                let text = "the request took longer than 30 seconds; retry later, or send fewer items in one request\n";
                (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
            }
            Self::Malformed => {
                let text = "the body must be one SealedSecret in JSON or YAML; rotate also accepts a List of SealedSecrets\n";
                (StatusCode::BAD_REQUEST, text).into_response()
            }
            Self::CannotUnseal => StatusCode::CONFLICT.into_response(),
            Self::NoCertificate => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "cannot get certificate\n",
            )
                .into_response(),
            Self::MayNotSeal(error) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
            }
            Self::Unauthenticated => {
                let scheme = [("www-authenticate", "Bearer")];
                let text = "authentication failed: a token with the audience sealed-secrets.bitnami.com is required\n";
                (StatusCode::UNAUTHORIZED, scheme, text).into_response()
            }
            Self::Forbidden(reach) => {
                (StatusCode::FORBIDDEN, missing_permission(reach)).into_response()
            }
            Self::NoReview => {
                let text =
                    "the API server could not review the token or the permission; retry later\n";
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

/// Returns which permission the caller lacks.
fn missing_permission(reach: Scope) -> &'static str {
    match reach {
        Scope::Strict => {
            "forbidden: RBAC does not grant the token's user the verb of this endpoint (`verify`, `rotate` or `unseal`) \
             on the SealedSecret\n"
        }
        Scope::NamespaceWide => {
            "forbidden: the SealedSecret is namespace-wide, and RBAC does not grant the token's user the verb `unseal` \
             on all SealedSecrets in the namespace (bind a role whose rule has no `resourceNames`)\n"
        }
        Scope::ClusterWide => {
            "forbidden: the SealedSecret is cluster-wide, and RBAC does not grant the token's user the verb `unseal` \
             on all SealedSecrets in all namespaces (bind a ClusterRole whose rule has no `resourceNames` with a \
             ClusterRoleBinding)\n"
        }
    }
}
