//! Asks the API server for the user of a caller and for the user's permissions.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tokio::sync::Semaphore;

use super::audiences::has_another_audience;

/// The audience of accepted tokens. The controller does not accept tokens for the API server, and the API server does
/// not accept tokens for the controller.
pub use deliver::AUDIENCE;
/// Maximum number of concurrent reviews, which limits the load on the API server from callers without a valid token.
const MAX_CONCURRENT: usize = 8;
/// Like [`MAX_CONCURRENT`], for Pods that request values: after a change, a thousand Pods can need a new review.
const MAX_CONCURRENT_OF_PODS: usize = 16;

/// Sends reviews to the API server.
pub struct Reviews {
    client: Client,
    permits: Semaphore,
}

/// The RBAC verb of a request on a SealedSecret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Verify,
    Rotate,
    Unseal,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Rotate => "rotate",
            Self::Unseal => "unseal",
        }
    }

    /// Returns for which objects a caller needs this verb. Callers of unseal choose the name of the object that they
    /// send, and values with a wider scope are unsealed under any name, or in any namespace. A permission for one
    /// object must not reveal the values of others, so it must cover all objects that the values may belong to. The
    /// scope is the one that unsealing enforces, for v1 and v2.
    pub(super) fn reach(self, sealed: &SealedSecret) -> Scope {
        match self {
            Self::Unseal => Scope::from_annotations(sealed.metadata.annotations.as_ref()),
            Self::Verify | Self::Rotate => Scope::Strict,
        }
    }
}

/// Returns the namespace and the name to review for a permission of this reach. For the API server, an empty name
/// stands for all objects, and an empty namespace for all namespaces.
fn reviewed_names(sealed: &SealedSecret, reach: Scope) -> (&str, &str) {
    match reach {
        Scope::Strict => (sealed.namespace_or_empty(), sealed.name_or_empty()),
        Scope::NamespaceWide => (sealed.namespace_or_empty(), ""),
        Scope::ClusterWide => ("", ""),
    }
}

impl Reviews {
    /// Returns a sender of reviews that uses this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            permits: Semaphore::new(MAX_CONCURRENT),
        }
    }

    /// Returns a sender with a separate limit for the reviews of Pods, so that they do not wait for other reviews.
    pub(super) fn with_own_limit(&self) -> Self {
        Self {
            client: self.client.clone(),
            permits: Semaphore::new(MAX_CONCURRENT_OF_PODS),
        }
    }

    /// Returns the first permission for reviews that the controller lacks, or `None` if it lacks none.
    ///
    /// # Errors
    ///
    /// Fails if a request to the API server fails.
    pub async fn missing_permission(&self) -> Result<Option<&'static str>, kube::Error> {
        for (group, resource) in [
            ("authentication.k8s.io", "tokenreviews"),
            ("authorization.k8s.io", "subjectaccessreviews"),
        ] {
            let attributes = ResourceAttributes {
                group: Some(group.into()),
                resource: Some(resource.into()),
                verb: Some("create".into()),
                ..ResourceAttributes::default()
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(attributes),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let api = Api::all(self.client.clone());
            let response = api.create(&PostParams::default(), &review).await?;
            if !response.status.is_some_and(|status| status.allowed) {
                return Ok(Some(resource));
            }
        }
        Ok(None)
    }

    /// Returns the user of a token. Returns `None` if the token is invalid, belongs to the anonymous user, or was also
    /// issued for another audience: a recipient with that audience could use the token to call the controller.
    pub(super) async fn review_token(&self, token: &str) -> Result<Option<UserInfo>, kube::Error> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.into()]),
            },
            ..TokenReview::default()
        };
        let _permit = self.permits.acquire().await;
        let api = Api::all(self.client.clone());
        let response: TokenReview = api.create(&PostParams::default(), &review).await?;
        let status = response.status.unwrap_or_default();
        let has_audience = status
            .audiences
            .is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE));
        let is_accepted = status.authenticated == Some(true)
            && has_audience
            && !has_another_audience(token, AUDIENCE);
        Ok(status
            .user
            .filter(|user| is_accepted && !is_anonymous(user)))
    }

    /// Returns whether RBAC allows the user this verb on the object, and on all other objects that
    /// [`Verb::reach`] requires.
    pub(super) async fn is_allowed(
        &self,
        user: &UserInfo,
        verb: Verb,
        sealed: &SealedSecret,
    ) -> Result<bool, kube::Error> {
        let (namespace, name) = reviewed_names(sealed, verb.reach(sealed));
        self.is_name_allowed(user, verb, namespace, name).await
    }

    /// Returns whether RBAC allows the user this verb on the SealedSecret of this name, whether or not it exists.
    pub(super) async fn is_name_allowed(
        &self,
        user: &UserInfo,
        verb: Verb,
        namespace: &str,
        name: &str,
    ) -> Result<bool, kube::Error> {
        let attributes = ResourceAttributes {
            group: Some("bitnami.com".into()),
            resource: Some("sealedsecrets".into()),
            verb: Some(verb.name().into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                uid: user.uid.clone(),
                groups: user.groups.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let _permit = self.permits.acquire().await;
        let api = Api::all(self.client.clone());
        let response: SubjectAccessReview = api.create(&PostParams::default(), &review).await?;
        Ok(response.status.is_some_and(|status| status.allowed))
    }
}

/// Returns whether the user is anonymous. The API server treats requests without a token as this user, unless anonymous
/// authentication is disabled.
fn is_anonymous(user: &UserInfo) -> bool {
    let groups = user.groups.iter().flatten();
    user.username.as_deref() == Some("system:anonymous")
        || groups
            .into_iter()
            .any(|group| group == "system:unauthenticated")
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::resource::SealedSecretSpec;

    use super::*;

    /// Attack: a caller with a permission for one object sends the values of another object under the name of
    /// the first.
    #[test]
    fn unsealing_needs_a_permission_for_all_objects_that_the_values_may_belong_to() {
        for (scope, want) in [
            (Scope::Strict, ("prod", "db")),
            (Scope::NamespaceWide, ("prod", "")),
            (Scope::ClusterWide, ("", "")),
        ] {
            let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
            sealed.metadata.namespace = Some("prod".into());
            let mut annotations = BTreeMap::new();
            scope.annotate(&mut annotations);
            sealed.metadata.annotations = Some(annotations);
            let names = |verb: Verb| reviewed_names(&sealed, verb.reach(&sealed));
            assert_eq!(names(Verb::Unseal), want, "{scope}");
            assert_eq!(names(Verb::Verify), ("prod", "db"), "{scope}");
            assert_eq!(names(Verb::Rotate), ("prod", "db"), "{scope}");
        }
    }
}
