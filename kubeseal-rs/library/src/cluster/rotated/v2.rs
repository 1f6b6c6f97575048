//! Checks the v2 values of a response. Only the holder of a key can check their content.

use std::collections::BTreeMap;

use shared::resource::SealedSecret;
use shared::v2::{self, Checked, ItemView, Object, Policy, Target};

use super::RotationError;

/// Checks that each v2 item that was sent is still a v2 item, of the same length and with at least the same protection,
/// that no other item is v2, and that the response passes the checks of a controller that need no private key.
pub(super) fn check(sent: &SealedSecret, response: &SealedSecret) -> Result<(), RotationError> {
    if !v2::is_v2(&sent.spec.encrypted_data) {
        let is_v2 = v2::is_v2(&response.spec.encrypted_data);
        return if is_v2 { Err(FORMAT) } else { Ok(()) };
    }
    let (old, new) = (views(sent)?, views(response)?);
    if old.keys().ne(new.keys()) {
        return Err(FORMAT);
    }
    check_each(&old, &new)?;
    check_public(response)
}

/// Checks that every item is v2, with at least the protection that it had, and that the response passes the checks of a
/// controller that need no private key.
pub(super) fn check_converted(
    sent: &SealedSecret,
    response: &SealedSecret,
) -> Result<(), RotationError> {
    let (old, new) = (views(sent)?, views(response)?);
    if v2::items(&response.spec.encrypted_data).any(|(item, _)| !new.contains_key(item)) {
        return Err(FORMAT);
    }
    check_each(&old, &new)?;
    check_public(response)
}

const FORMAT: RotationError = RotationError::Other("the format of a value");

type Views = BTreeMap<String, ItemView>;

fn views(sealed: &SealedSecret) -> Result<Views, RotationError> {
    let object = Object::parse(&sealed.spec.encrypted_data);
    let object = object.map_err(|_| RotationError::Other("a v2 value to a malformed one"))?;
    let views = object.view().into_iter();
    Ok(views.map(|(item, view)| (item.to_owned(), view)).collect())
}

fn check_each(old: &Views, new: &Views) -> Result<(), RotationError> {
    for (item, old) in old {
        let problem = new.get(item).and_then(|new| lost_protection(old, new));
        if let Some(problem) = problem {
            let item = item.clone();
            return Err(RotationError::Item { item, problem });
        }
    }
    Ok(())
}

fn lost_protection(old: &ItemView, new: &ItemView) -> Option<&'static str> {
    [
        (
            old.is_template_bound && !new.is_template_bound,
            "is no longer bound to the template",
        ),
        (
            old.is_never_secret && !new.is_never_secret,
            "may become a Secret object",
        ),
        (
            old.is_alone && !new.is_alone,
            "no longer excludes other values",
        ),
        (
            old.is_post_quantum_only && !new.is_post_quantum_only,
            "may be sealed for keys that are not post-quantum",
        ),
        (
            old.max_len != new.max_len,
            "does not have the length of the value that was sent",
        ),
    ]
    .into_iter()
    .find_map(|(is_lost, problem)| is_lost.then_some(problem))
}

fn check_public(response: &SealedSecret) -> Result<(), RotationError> {
    let checked = Checked::new(response, &Policy::default(), Target::Other);
    checked
        .map(drop)
        .map_err(|_| RotationError::Other("a v2 value to one that a controller refuses"))
}

#[cfg(test)]
mod tests {
    use shared::plain::Plain;
    use shared::scope::Scope;
    use shared::v2::{LockSpec, Place, Recipient, SecretKey, Suite, TemplateDigest, Value};

    use super::*;

    /// Returns an object named `n`, with a v2 item that is sealed for an object named `name`.
    fn sealed_object(name: &str, value: &str, bound: bool) -> SealedSecret {
        let rng = &mut shared::random::system();
        let key = SecretKey::from_bytes(Suite::P256, &[1; 32])
            .unwrap()
            .recipient();
        let place = Place::for_sealing(Scope::Strict, "ns", name).unwrap();
        let mut sealed = SealedSecret::new("n", shared::resource::SealedSecretSpec::default());
        sealed.metadata.namespace = Some("ns".to_owned());
        let spec = LockSpec {
            place: &place,
            recipients: &[&key as &dyn Recipient],
            allow_classical: false,
            template: bound.then(|| TemplateDigest::of(&sealed.spec.template)),
            is_never_secret: false,
            is_alone: false,
            revision: 1,
        };
        let value = Value::new(Plain::from(value.to_owned()), rng);
        let values = [("a".to_owned(), value)].into();
        sealed.spec.encrypted_data = v2::seal(&spec, &values, rng).unwrap();
        sealed
    }

    /// Attack: a server that impersonates the controller returns values that it sealed itself, with less protection or
    /// for another object, or v1 values in place of v2 values.
    #[test]
    fn refuses_values_with_less_protection() {
        let sent = sealed_object("n", "value", true);
        assert_eq!(check(&sent, &sealed_object("n", "VALUE", true)), Ok(()));
        assert_eq!(
            check_converted(&sent, &sealed_object("n", "VALUE", true)),
            Ok(())
        );
        let mut v1 = sent.clone();
        v1.spec.encrypted_data = [("a".to_owned(), "AgA=".to_owned())].into();
        for (why, response, want) in [
            (
                "unbound",
                sealed_object("n", "value", false),
                "no longer bound",
            ),
            (
                "longer",
                sealed_object("n", &"v".repeat(40), true),
                "length",
            ),
            (
                "for another object",
                sealed_object("m", "value", true),
                "refuses",
            ),
            ("as v1", v1.clone(), "format"),
        ] {
            for error in [check(&sent, &response), check_converted(&sent, &response)] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(want), "{why}: {error}");
            }
        }
        assert_eq!(check(&v1, &sent), Err(FORMAT));
        assert_eq!(check_converted(&v1, &sent), Ok(()));
        assert_eq!(check(&v1, &v1), Ok(()));
    }
}
