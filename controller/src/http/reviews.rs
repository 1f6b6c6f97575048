//! Asks the API server who a caller is and what the caller may do.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use shared::resource::SealedSecret;
use tokio::sync::Semaphore;

use super::audiences::has_another_audience;

/// The audience of accepted tokens: a token for the API server must not work here, nor the other way round.
pub const AUDIENCE: &str = "sealed-secrets.bitnami.com";
/// Maximum number of concurrent requests to the API server, which bounds what callers without a valid token
/// cost it.
const QUESTIONS: usize = 8;

/// Sends reviews to the API server.
pub struct Reviews {
    client: Client,
    questions: Semaphore,
}

/// What a caller wants to do with a SealedSecret: an RBAC verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Verify,
    Rotate,
    Unseal,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Rotate => "rotate",
            Self::Unseal => "unseal",
        }
    }
}

impl Reviews {
    /// Creates reviews that use this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            questions: Semaphore::new(QUESTIONS),
        }
    }

    /// Returns the first permission for reviews that this controller lacks, or `None` if it has all.
    ///
    /// # Errors
    ///
    /// Returns the error of the API server.
    pub async fn missing_right(&self) -> Result<Option<&'static str>, kube::Error> {
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
            let question = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(attributes),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let api = Api::all(self.client.clone());
            let answer = api.create(&PostParams::default(), &question).await?;
            if !answer.status.is_some_and(|status| status.allowed) {
                return Ok(Some(resource));
            }
        }
        Ok(None)
    }

    /// Returns the user of a token that was issued for this controller alone: whoever else may receive it could use it
    /// here.
    pub(super) async fn owner(&self, token: &str) -> Result<Option<UserInfo>, kube::Error> {
        let question = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.into()]),
            },
            ..TokenReview::default()
        };
        let _turn = self.questions.acquire().await;
        let api = Api::all(self.client.clone());
        let answer: TokenReview = api.create(&PostParams::default(), &question).await?;
        let status = answer.status.unwrap_or_default();
        let for_us = status
            .audiences
            .is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE));
        let is_known = status.authenticated == Some(true)
            && for_us
            && !has_another_audience(token, AUDIENCE);
        Ok(status.user.filter(|user| is_known && !is_anonymous(user)))
    }

    /// Returns whether the user may do this with that object.
    pub(super) async fn allow(
        &self,
        user: &UserInfo,
        verb: Verb,
        sealed: &SealedSecret,
    ) -> Result<bool, kube::Error> {
        let attributes = ResourceAttributes {
            group: Some("bitnami.com".into()),
            resource: Some("sealedsecrets".into()),
            verb: Some(verb.word().into()),
            namespace: Some(sealed.namespace_or_empty().into()),
            name: Some(sealed.name_or_empty().into()),
            ..ResourceAttributes::default()
        };
        let question = SubjectAccessReview {
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
        let _turn = self.questions.acquire().await;
        let api = Api::all(self.client.clone());
        let answer: SubjectAccessReview = api.create(&PostParams::default(), &question).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// Returns whether the user is anonymous. The API server authenticates requests without a token as such a
/// user, unless that is turned off.
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
