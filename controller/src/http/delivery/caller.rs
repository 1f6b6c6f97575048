//! The Pod that requests values.

use k8s_openapi::api::authentication::v1::UserInfo;

use super::memory::Owner;
use super::refused::DeliveryRefusal;

/// The prefix of the user names of service accounts.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A Pod with its service account, as the API server authenticated it. No field of a request influences these values.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The user, for each `SubjectAccessReview`.
    pub(super) user: UserInfo,
    /// The user name of the service account.
    pub(super) account: String,
    /// The namespace of the Pod.
    pub(super) namespace: String,
    /// The name of the Pod.
    pub(super) pod: String,
    /// The `uid` of the Pod.
    pub(super) uid: String,
}

impl Caller {
    /// Returns the owner of the memory that the Pod's requests use.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            namespace: self.namespace.clone(),
            pod: self.uid.clone(),
        }
    }
}

impl TryFrom<UserInfo> for Caller {
    type Error = DeliveryRefusal;

    fn try_from(user: UserInfo) -> Result<Self, DeliveryRefusal> {
        let account = user.username.clone().ok_or(DeliveryRefusal::NotBound)?;
        let names = account.strip_prefix(SERVICE_ACCOUNT);
        let (namespace, _) = names
            .and_then(|names| names.split_once(':'))
            .ok_or(DeliveryRefusal::NotBound)?;
        let (pod, uid) = extra(&user, POD_NAME)
            .zip(extra(&user, POD_UID))
            .ok_or(DeliveryRefusal::NotBound)?;
        Ok(Self {
            namespace: namespace.to_owned(),
            account,
            pod,
            uid,
            user,
        })
    }
}

/// Returns the only value of an extra attribute; `None` if the attribute is missing, empty or has several values.
fn extra(user: &UserInfo, key: &str) -> Option<String> {
    match user.extra.as_ref()?.get(key)?.as_slice() {
        [value] if !value.is_empty() => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, extra: &[(&str, &[&str])]) -> UserInfo {
        let extra = extra.iter().map(|(key, values)| {
            let values = values.iter().map(|value| (*value).to_owned());
            ((*key).to_owned(), values.collect())
        });
        UserInfo {
            username: Some(name.into()),
            extra: Some(extra.collect()),
            ..UserInfo::default()
        }
    }

    #[test]
    fn the_namespace_comes_from_the_user_name_of_the_account() {
        let extra: [(&str, &[&str]); 2] = [(POD_NAME, &["web-1"]), (POD_UID, &["u"])];
        let caller = Caller::try_from(user("system:serviceaccount:shop:web", &extra)).unwrap();
        assert_eq!((&*caller.namespace, &*caller.pod), ("shop", "web-1"));
        assert_eq!(&*caller.uid, "u");
    }

    /// Attack: a user requests values with a token that is not bound to a Pod, or does not belong to a service account.
    #[test]
    fn a_token_that_is_not_bound_to_a_pod_is_refused() {
        let bound: [(&str, &[&str]); 2] = [(POD_NAME, &["web-1"]), (POD_UID, &["u"])];
        let account = "system:serviceaccount:shop:web";
        for (name, extra) in [
            (account, &[][..]),
            (account, &bound[..1]),
            (account, &bound[1..]),
            (account, &[(POD_NAME, &["a", "b"][..]), (POD_UID, &["u"])]),
            (account, &[(POD_NAME, &[""][..]), (POD_UID, &["u"])]),
            (account, &[(POD_NAME, &[][..]), (POD_UID, &["u"])]),
            ("system:serviceaccount:shop", &bound),
            ("system:node:n", &bound),
            ("alice", &bound),
        ] {
            let result = Caller::try_from(user(name, extra));
            assert_eq!(
                result.err(),
                Some(DeliveryRefusal::NotBound),
                "{name} {extra:?}"
            );
        }
    }
}
