//! Checks that the templates of a SealedSecret render with its values.

use kubeseal_library::environment::Environment;
use shared::key_ring::KeyRing;
use shared::resource::SealedSecret;
use shared::unseal::{Randomness, Rules, UnsealError, unseal};

use super::findings::Finding;

/// Renders the templates with the local keys, and reports the exact position of a failure. The status of the object
/// does not contain the position, because the position can depend on the values. Returns `None` if there are no
/// templates or the object cannot be unsealed.
pub(super) fn check(
    sealed: &SealedSecret,
    keys: &KeyRing,
    environment: &Environment,
) -> Option<Finding> {
    sealed.spec.template.data.as_ref()?;
    let rules = Rules {
        accept_legacy: true,
        refuse_random: false,
    };
    let mut randomness = Randomness {
        now: environment.now,
        rng: &mut shared::random::system(),
    };
    match unseal(sealed, keys, rules, &mut randomness) {
        Ok(_) => Some(Finding::good("its templates render")),
        Err(error @ (UnsealError::Render(_) | UnsealError::Template(_))) => Some(Finding::bad(
            error.exact_message(),
            "correct the template, or seal a value that fits it",
        )),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use shared::base64;
    use shared::envelope;
    use shared::resource::SealedSecretSpec;
    use shared::scope::Scope;

    use super::*;
    use kubeseal_library::keys::{KeyRecord, directory, record};

    const OWN: &str = include_str!("../../../tests/seal/key-fixtures/state/keys/key-2024.yaml");
    const OTHER: &str = include_str!("../../../tests/seal/key-fixtures/state/keys/key-2025.yaml");

    fn check_template(
        template: Option<&str>,
        keys: &KeyRing,
        sealed_for: &KeyRing,
    ) -> Option<String> {
        let key = sealed_for.keys()[0].certificate().unwrap().public_key();
        let label = Scope::Strict.label("ns", "n");
        let rng = &mut shared::random::system();
        let value = envelope::seal(key, &label, b"hunter2", rng).unwrap();
        let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
        sealed.metadata.namespace = Some("ns".into());
        let items = &mut sealed.spec.encrypted_data;
        items.insert("password".into(), base64::encode(&value));
        let text = template.map(|text| [("t".to_owned(), Some(text.to_owned()))].into());
        sealed.spec.template.data = text;
        let finding = check(&sealed, keys, &Environment::of_this_process())?;
        Some(format!("{finding:?}"))
    }

    fn ring(manifest: &str) -> KeyRing {
        let secrets = directory::secrets(manifest.as_bytes()).unwrap();
        let records: Vec<KeyRecord> = secrets
            .into_iter()
            .map(|secret| KeyRecord::new(secret, None))
            .collect();
        record::ring(&records)
    }

    #[test]
    fn shows_the_position_of_a_template_error_but_no_value() {
        let (own, other) = (ring(OWN), ring(OTHER));
        let fails = "\n{{ if eq .password \"hunter2\" }}{{ fail .password }}{{ end }}";
        let finding = check_template(Some(fails), &own, &own).unwrap();
        assert!(
            finding.contains("line 2") && finding.contains("fail"),
            "{finding}"
        );
        assert!(!finding.contains("hunter2"), "{finding}");
        let finding = check_template(Some("{{ .password }}"), &own, &own).unwrap();
        assert!(finding.contains("its templates render"), "{finding}");
        assert_eq!(check_template(None, &own, &own), None);
        assert_eq!(check_template(Some(fails), &other, &own), None);
    }
}
