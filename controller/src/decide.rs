//! What shall be + what is → what to do. Plain data in, plain data out.

use std::collections::BTreeMap;

use shared::plain::Plain;
use shared::secret::Secret;
use shared::unseal::UnsealError;

use crate::store::ObjectId;

/// What shall be.
#[derive(Debug)]
pub enum Desired {
    /// This Secret.
    Secret(Box<Secret>),
    /// Nothing: the SealedSecret is gone.
    Nothing,
    /// Unknown: the SealedSecret cannot be read or opened.
    Unknown(Refusal),
}

/// The Secret that is there.
#[derive(Debug)]
pub enum Existing {
    /// None.
    Absent,
    /// Made by us, with these values. Values that cannot be reached are left out.
    Ours(BTreeMap<String, Plain>),
    /// Made by somebody else.
    Foreign,
}

/// What to do. Nothing is left to choose for whoever does it.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// Make the Secret.
    Create(Box<Secret>),
    /// Give the Secret these values and no others.
    Replace(Box<Secret>),
    /// Remove the Secret.
    Remove,
    /// Change no value.
    Leave,
    /// Change no value and say why.
    Refuse(Refusal),
}

/// Why the Secret is not what the SealedSecret says.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The SealedSecret cannot be used.
    #[error("{0}")]
    Malformed(String),
    /// It does not open.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// Another one's Secret has the name. The peer's words.
    #[error("failed update: Resource {:?} already exists and is not managed by SealedSecret", .0.name)]
    NotManaged(ObjectId),
}

/// Decides for one object.
///
/// What is another one's is neither overwritten nor removed, and while it is unknown what shall be,
/// the last good values stay.
pub fn decide(id: &ObjectId, desired: Desired, existing: &Existing) -> Plan {
    match (desired, existing) {
        (Desired::Unknown(why), _) => Plan::Refuse(why),
        (Desired::Nothing, Existing::Ours(_)) => Plan::Remove,
        (Desired::Nothing, Existing::Absent | Existing::Foreign) => Plan::Leave,
        (Desired::Secret(secret), Existing::Absent) => Plan::Create(secret),
        (Desired::Secret(secret), Existing::Ours(values)) if secret.data == *values => Plan::Leave,
        (Desired::Secret(secret), Existing::Ours(_)) => Plan::Replace(secret),
        (Desired::Secret(_), Existing::Foreign) => Plan::Refuse(Refusal::NotManaged(id.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Plain> {
        let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), Plain::from((*v).to_owned()));
        pairs.iter().map(pair).collect()
    }

    fn secret(pairs: &[(&str, &str)]) -> Box<Secret> {
        Box::new(Secret {
            data: values(pairs),
            ..Secret::default()
        })
    }

    #[test]
    fn decides() {
        use Desired::{Nothing, Unknown};
        use Existing::{Absent, Foreign, Ours};
        use Plan::{Create, Leave, Refuse, Remove, Replace};
        let id = ObjectId {
            namespace: "ns".into(),
            name: "n".into(),
        };
        let want = || Desired::Secret(secret(&[("a", "1")]));
        let broken = || Refusal::Malformed("broken".into());
        let foreign = Refusal::NotManaged(id.clone());
        for (why, desired, existing, plan) in [
            ("new", want(), Absent, Create(secret(&[("a", "1")]))),
            ("as it shall be", want(), Ours(values(&[("a", "1")])), Leave),
            (
                "another value",
                want(),
                Ours(values(&[("a", "2")])),
                Replace(secret(&[("a", "1")])),
            ),
            (
                "an item too many",
                want(),
                Ours(values(&[("a", "1"), ("b", "")])),
                Replace(secret(&[("a", "1")])),
            ),
            (
                "an item missing",
                want(),
                Ours(values(&[])),
                Replace(secret(&[("a", "1")])),
            ),
            ("another one's", want(), Foreign, Refuse(foreign)),
            ("gone", Nothing, Ours(values(&[("a", "1")])), Remove),
            ("gone, and removed", Nothing, Absent, Leave),
            ("gone, and another one's is there", Nothing, Foreign, Leave),
            (
                "broken and never good",
                Unknown(broken()),
                Absent,
                Refuse(broken()),
            ),
            (
                "broken and once good",
                Unknown(broken()),
                Ours(values(&[])),
                Refuse(broken()),
            ),
            (
                "broken beside another one's",
                Unknown(broken()),
                Foreign,
                Refuse(broken()),
            ),
        ] {
            assert_eq!(decide(&id, desired, &existing), plan, "{why}");
        }
    }

    #[test]
    fn refuses_in_the_peers_words() {
        let id = ObjectId {
            namespace: "ns".into(),
            name: "n".into(),
        };
        assert_eq!(
            Refusal::NotManaged(id).to_string(),
            "failed update: Resource \"n\" already exists and is not managed by SealedSecret"
        );
    }
}
