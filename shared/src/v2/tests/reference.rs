//! The 29 cases in `tests/vectors/v2-reference.json`, which an earlier implementation in Go wrote.

use super::*;

struct ReferenceKeys {
    xw: SecretKey,
    p256: SecretKey,
    rsa: PrivateKey,
}

impl ReferenceKeys {
    fn new(file: &Json) -> Self {
        let key = |suite, text: &Json| {
            let bytes = bytes(text).try_into().unwrap();
            SecretKey::from_bytes(suite, &bytes).unwrap()
        };
        Self {
            xw: key(Suite::XWing, &file["xw seed"]),
            p256: key(Suite::P256, &file["p256 scalar"]),
            rsa: rsa_key(&file["rsa pkcs8"]),
        }
    }

    fn opener(&self, name: &str) -> &dyn Opener {
        match name {
            "xw" => self.xw.opener(),
            "p256" => self.p256.opener(),
            _ => &self.rsa,
        }
    }
}

#[test]
fn every_reference_case_gives_its_values_or_reason() {
    let file = read_vectors("v2-reference.json");
    let keys = ReferenceKeys::new(&file);
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let names = case["keys"].as_array().unwrap().iter();
        let keys = names
            .map(|name| keys.opener(name.as_str().unwrap()))
            .collect();
        let result = open_object(&sealed_object(case), &keys);
        match (&case["reason"], &result) {
            (Json::Null, Ok(opened)) => assert_eq!(plain_of(opened), wanted(case), "{case}"),
            (reason, Err(refusal)) => {
                assert_eq!(
                    Some(refusal.reason().as_str()),
                    reason.as_str(),
                    "{}",
                    case["name"]
                );
            }
            (reason, Ok(_)) => panic!("{}: opened, but wanted {reason}", case["name"]),
        }
    }
    assert_eq!(cases.len(), 29);
}

fn sealed_object(case: &Json) -> SealedSecret {
    let place = &case["place"];
    let entries = serde_json::from_value(case["encryptedData"].clone()).unwrap();
    let mut sealed =
        SealedSecret::new(place["Name"].as_str().unwrap(), SealedSecretSpec::default());
    sealed.metadata.namespace = Some(place["Ns"].as_str().unwrap().to_owned());
    let scope = Scope::ALL[usize::try_from(place["Scope"].as_u64().unwrap()).unwrap()];
    scope.annotate(sealed.metadata.annotations.get_or_insert_default());
    sealed.spec.encrypted_data = entries;
    sealed
}

fn wanted(case: &Json) -> BTreeMap<&str, &[u8]> {
    let wanted = case["want"].as_object().unwrap().iter();
    wanted
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap().as_bytes()))
        .collect()
}
