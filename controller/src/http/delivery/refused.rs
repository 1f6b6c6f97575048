//! Refusals of requests for values, and their responses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use deliver::{Failure, LayoutError, RequestError};

use crate::http::refusal::Refusal;

/// Seconds after which a caller may retry while the controller is busy or the API server fails.
const RETRY_AFTER: i64 = 5;

const HINT_FOR_RETRY: &str = "retry after the time in the Retry-After header";
const HINT_FOR_VALUES: &str = "check which values the templates expect, and the size of the files; the reason is not \
                               reported, because it depends on the values";

/// Why a request is refused. No message depends on a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeliveryRefusal {
    /// The request is malformed or too large.
    Request(RequestError),
    /// A template of the request cannot be parsed.
    Template {
        /// The path of the template's file.
        path: String,
        /// Why it cannot be parsed.
        reason: &'static str,
    },
    /// The body was incomplete, or took too long.
    Body,
    /// The request has no valid token that was issued for this controller alone.
    Unauthenticated,
    /// The token is not bound to a Pod.
    NotBound,
    /// RBAC does not allow the account to unseal the object.
    Forbidden {
        /// The account, as in `system:serviceaccount:NAMESPACE:NAME`.
        account: String,
        /// The name of the object.
        object: String,
    },
    /// The object or item does not exist.
    NotFound {
        /// The name of the object.
        object: String,
        /// The name of the item; `None` if the object does not exist.
        item: Option<String>,
    },
    /// The object cannot be delivered as it is.
    Object(Box<ObjectError>),
    /// A template of the request fails with the values.
    Rendering,
    /// The reason depends on the values, and is not reported.
    Values {
        /// The names of all objects of the request, or of the object that fails.
        objects: Vec<String>,
    },
    /// The slow functions of the request's templates cost too much.
    TooSlow,
    /// A template would give each Pod different values.
    Random {
        /// The path of the template's file.
        path: String,
    },
    /// The flag `--forbid-templates` refuses templates in the namespace.
    TemplatesForbidden {
        /// The namespace of the Pod.
        namespace: String,
    },
    /// The paths of several files of the response conflict.
    Layout(LayoutError),
    /// The response would be too large.
    TooLarge,
    /// A limit on the rate or number of requests of the Pod or its namespace is reached; the caller may retry after this
    /// many seconds.
    TooOften(i64),
    /// Too many unknown tokens need a review, from the address of the caller or from all; the caller may retry after
    /// this many seconds.
    TooManyReviews(i64),
    /// Too many bytes of bodies arrive, from the address of the caller or from all; the caller may retry after this many
    /// seconds.
    TooManyBytes(i64),
    /// The controller is busy, or the work took too long.
    Busy,
    /// A request to the API server failed.
    NoReview,
    /// The replica has not read its keys and objects yet, or is stopping.
    NotReady,
    /// An object changed while it was read.
    Changed,
}

/// Why an object cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectError {
    /// The name of the object.
    pub(super) object: String,
    /// The item that caused the error, if it was a single item.
    pub(super) item: Option<String>,
    /// The error message.
    pub(super) error: String,
    /// The hint: what the user can do.
    pub(super) hint: &'static str,
}

impl DeliveryRefusal {
    /// Returns whether the refusal must not be cached: a retry can succeed although no object has changed.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Busy | Self::NotReady | Self::Changed | Self::NoReview
        )
    }

    /// Returns the refusal of a request with templates: one refusal for all reasons that depend on the values. Such a
    /// reason would otherwise let the author of a template learn more than one bit of a value.
    pub(super) fn without_values(self, objects: impl FnOnce() -> Vec<String>) -> Self {
        match self {
            Self::Rendering | Self::TooLarge | Self::Values { .. } => {
                Self::Values { objects: objects() }
            }
            other => other,
        }
    }

    /// Returns the outcome for the log.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Request(_) | Self::Template { .. } | Self::Body | Self::Layout(_) => "malformed",
            Self::Unauthenticated | Self::NotBound => "not authenticated",
            Self::Forbidden { .. } => "not allowed",
            Self::NotFound { .. } => "not found",
            Self::Object(_)
            | Self::Rendering
            | Self::Values { .. }
            | Self::TooSlow
            | Self::Random { .. }
            | Self::TemplatesForbidden { .. } => "cannot be delivered",
            Self::TooLarge => "too large",
            Self::TooOften(_) | Self::TooManyReviews(_) | Self::TooManyBytes(_) => "rate limited",
            Self::Busy | Self::NoReview | Self::NotReady | Self::Changed => "retry later",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Request(RequestError::TooLong) | Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Request(_) | Self::Template { .. } | Self::Body | Self::Layout(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthenticated | Self::NotBound => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Object(_)
            | Self::Rendering
            | Self::Values { .. }
            | Self::TooSlow
            | Self::Random { .. }
            | Self::TemplatesForbidden { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooOften(_) | Self::TooManyReviews(_) | Self::TooManyBytes(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Busy | Self::NoReview | Self::NotReady | Self::Changed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn retry_after(&self) -> Option<i64> {
        match self {
            Self::TooOften(seconds)
            | Self::TooManyReviews(seconds)
            | Self::TooManyBytes(seconds) => Some(*seconds),
            Self::NotReady | Self::Changed => Some(1),
            Self::Busy | Self::NoReview => Some(RETRY_AFTER),
            _ => None,
        }
    }

    fn failure(&self) -> Failure {
        let (error, hint) = self.error_and_hint();
        let (object, item) = match self {
            Self::NotFound { object, item } => (Some(object), item.as_ref()),
            Self::Object(unusable) => (Some(&unusable.object), unusable.item.as_ref()),
            Self::Values { objects } => (objects.first().filter(|_| objects.len() == 1), None),
            _ => (None, None),
        };
        Failure {
            error,
            hint,
            sealed_secret: object.cloned(),
            item: item.cloned(),
        }
    }

    fn error_and_hint(&self) -> (String, String) {
        let texts = |error: &str, hint: &str| (error.to_owned(), hint.to_owned());
        match self {
            Self::Request(error) => (error.to_string(), error.hint().to_owned()),
            Self::Layout(error) => (
                error.to_string(),
                "give one of the entries a different path".to_owned(),
            ),
            Self::Template { path, reason } => (
                format!("the template of {path:?} cannot be parsed: {reason}"),
                "correct the template".to_owned(),
            ),
            Self::Body => texts("the request did not arrive completely", "send the request again"),
            Self::Unauthenticated => texts(
                "authentication failed: the token is not valid, or is not for this controller alone",
                "project a serviceAccountToken with the only audience sealed-secrets.bitnami.com into the Pod, or name \
                 this audience in tokenRequests of the CSIDriver",
            ),
            Self::NotBound => texts(
                "the token is not bound to a Pod",
                "use a token that the kubelet projects into a Pod; `kubectl create token` needs --bound-object-kind \
                 Pod",
            ),
            Self::Forbidden { account, object } => {
                let name = account.rsplit(':').next().unwrap_or_default();
                (
                    format!("{account} may not unseal the SealedSecret {object:?}"),
                    format!("allow it with `seal grant {object} --to {name} | kubectl apply -f -`"),
                )
            }
            Self::NotFound { object, item: None } => (
                format!("there is no SealedSecret {object:?} in the namespace of the Pod"),
                "apply the SealedSecret, or check its name; the controller must watch this namespace".to_owned(),
            ),
            Self::NotFound {
                object,
                item: Some(item),
            } => (
                format!("the SealedSecret {object:?} has no item {item:?}"),
                "seal the item, or check its name".to_owned(),
            ),
            Self::Object(unusable) => (unusable.error.clone(), unusable.hint.to_owned()),
            Self::Rendering => texts(
                "a template cannot be rendered with these values",
                HINT_FOR_VALUES,
            ),
            Self::Values { objects } => (
                format!(
                    "the values of {} cannot be delivered: a template fails, the files are too large, or the content of the \
                     field 'data' is invalid",
                    quoted(objects)
                ),
                HINT_FOR_VALUES.to_owned(),
            ),
            Self::TooSlow => texts(
                "the templates of the request call slow functions such as derivePassword too often to be rendered while a \
                 Pod waits",
                "call derivePassword at most four times and not in a loop, or seal its result",
            ),
            Self::Random { path } => (
                format!(
                    "the template of {path:?} uses the time, random values or new keys, so each Pod would get different values"
                ),
                "seal a fixed value instead".to_owned(),
            ),
            Self::TemplatesForbidden { namespace } => (
                format!("templates are not rendered in namespace {namespace} (--forbid-templates)"),
                "seal complete values, or ask the administrator of the controller".to_owned(),
            ),
            Self::TooLarge => texts(
                "the files exceed the limits of one response: 3 MiB and 1,000 files",
                "split the selection into several requests",
            ),
            Self::TooOften(_) => texts(
                "too many requests from this Pod or its namespace",
                HINT_FOR_RETRY,
            ),
            Self::TooManyReviews(_) => texts(
                "too many new tokens from the address of this Pod, or from all addresses together",
                HINT_FOR_RETRY,
            ),
            Self::TooManyBytes(_) => texts(
                "too many requests arrive at once from the address of this Pod, or from all addresses together",
                HINT_FOR_RETRY,
            ),
            Self::Busy => texts("the controller is busy", HINT_FOR_RETRY),
            Self::NoReview => texts(
                "the API server could not review the token or the permission, or could not return the SealedSecret",
                HINT_FOR_RETRY,
            ),
            Self::NotReady => texts(
                "this replica is starting or stopping",
                "retry after the time in the Retry-After header; if this persists, check the log of the controller",
            ),
            Self::Changed => texts(
                "a SealedSecret changed while it was read",
                HINT_FOR_RETRY,
            ),
        }
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}

impl From<Refusal> for DeliveryRefusal {
    fn from(why: Refusal) -> Self {
        match why {
            // Only bodies: reviews have a refusal of their own.
            Refusal::TooOften(seconds) => Self::TooManyBytes(seconds),
            Refusal::TooLong => Self::Request(RequestError::TooLong),
            Refusal::TooSlow | Refusal::Broken => Self::Body,
            Refusal::Unauthenticated => Self::Unauthenticated,
            Refusal::NoReview => Self::NoReview,
            _ => Self::Busy,
        }
    }
}

impl From<RequestError> for DeliveryRefusal {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl IntoResponse for DeliveryRefusal {
    fn into_response(self) -> Response {
        let json = serde_json::to_string(&self.failure()).unwrap_or_default();
        let headers = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.status(), headers, json).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_refusals() -> Vec<DeliveryRefusal> {
        let object = || "db".to_owned();
        vec![
            DeliveryRefusal::Request(RequestError::NoEntry),
            DeliveryRefusal::Template {
                path: "f".into(),
                reason: "r",
            },
            DeliveryRefusal::Body,
            DeliveryRefusal::Unauthenticated,
            DeliveryRefusal::NotBound,
            DeliveryRefusal::Forbidden {
                account: "system:serviceaccount:ns:web".into(),
                object: object(),
            },
            DeliveryRefusal::NotFound {
                object: object(),
                item: None,
            },
            DeliveryRefusal::NotFound {
                object: object(),
                item: Some("x".into()),
            },
            DeliveryRefusal::Rendering,
            DeliveryRefusal::Values {
                objects: vec![object()],
            },
            DeliveryRefusal::TooSlow,
            DeliveryRefusal::Random { path: "f".into() },
            DeliveryRefusal::TemplatesForbidden {
                namespace: "ns".into(),
            },
            DeliveryRefusal::Layout(LayoutError::Repeated("f".into())),
            DeliveryRefusal::TooLarge,
            DeliveryRefusal::TooOften(3),
            DeliveryRefusal::TooManyReviews(3),
            DeliveryRefusal::TooManyBytes(3),
            DeliveryRefusal::Busy,
            DeliveryRefusal::NoReview,
            DeliveryRefusal::NotReady,
            DeliveryRefusal::Changed,
        ]
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for refused in all_refusals() {
            let failure = refused.failure();
            assert!(
                !failure.error.is_empty() && !failure.error.ends_with('.'),
                "{refused:?}"
            );
            assert!(
                !failure.hint.is_empty() && !failure.hint.ends_with('.'),
                "{refused:?}"
            );
            let is_missing = refused.status() == StatusCode::NOT_FOUND;
            let names_object = is_missing || matches!(refused, DeliveryRefusal::Values { .. });
            assert_eq!(failure.sealed_secret.is_some(), names_object, "{refused:?}");
        }
    }

    #[test]
    fn limits_and_outages_name_the_time_to_wait() {
        for refused in all_refusals() {
            let response = refused.clone().into_response();
            let code = response.status().as_u16();
            let has_time = response.headers().contains_key("retry-after");
            assert_eq!(has_time, code == 429 || code == 503, "{refused:?}");
        }
    }

    #[test]
    fn each_rate_limit_names_the_clients_that_it_applies_to() {
        let text = |refusal: DeliveryRefusal| refusal.failure().error;
        assert!(text(DeliveryRefusal::TooOften(1)).contains("this Pod or its namespace"));
        for refusal in [
            DeliveryRefusal::TooManyReviews(1),
            DeliveryRefusal::TooManyBytes(1),
        ] {
            let text = text(refusal);
            assert!(text.contains("from all addresses together"), "{text}");
            assert!(!text.contains("namespace"), "{text}");
        }
    }
}
