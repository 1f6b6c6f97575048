//! Generates the values of a recipe.

use std::fmt::Write as _;

use bcrypt::Version;
use jiff::{SignedDuration, Timestamp};
use rand::CryptoRng;
use rcgen::{CertificateParams, DnType, KeyPair, RsaKeySize, SerialNumber, SignatureAlgorithm};
use shared::base64;
use shared::plain::Plain;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Curve, Made, Password, Recipe};

/// The cost of bcrypt: about 50 ms for each attempt, for the server as for an attacker.
const BCRYPT_COST: u32 = 10;

/// The source of randomness and time.
pub struct Random<'a, R> {
    /// The random number generator for everything but key pairs.
    pub rng: &'a mut R,
    /// The start of a certificate's validity.
    pub now: Timestamp,
}

/// A recipe cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Generating a key or certificate failed.
    #[error("the key could not be made")]
    Key(#[from] rcgen::Error),
    /// The password cannot be hashed: bcrypt accepts at most 72 bytes.
    #[error("the password cannot be hashed: bcrypt takes 1 to 72 bytes without zero bytes")]
    Hash,
    /// The password is not UTF-8, which Docker's JSON file requires.
    #[error("the password is not UTF-8, which config.json requires")]
    Text,
    /// The certificate would end after the year 9999, the last that certificates can express.
    #[error("the certificate would end after the year 9999; choose fewer days")]
    Validity,
}

impl Recipe {
    /// Generates the items of a recipe. `given` is the password for recipes that take one; without
    /// it a random one is generated.
    ///
    /// # Errors
    ///
    /// Returns a [`MakeError`] if a value cannot be generated.
    pub fn make<R: CryptoRng>(
        &self,
        item: &str,
        given: Option<&Plain>,
        random: &mut Random<'_, R>,
    ) -> Result<Made, MakeError> {
        let rng = &mut *random.rng;
        match self {
            Self::Password(rules) => Ok(one(item, rules.make(rng))),
            Self::Hex(count) => Ok(one(item, hex(&bytes(*count, rng)))),
            Self::Base64(count) => Ok(one(item, Plain::from(base64::encode(&bytes(*count, rng))))),
            Self::Uuid => Ok(one(item, uuid(rng))),
            Self::Rsa(bits) => Ok(pair(item, &rsa(*bits)?)),
            Self::Ed25519 => Ok(pair(item, &KeyPair::generate_for(&rcgen::PKCS_ED25519)?)),
            Self::Ecdsa(curve) => Ok(pair(item, &KeyPair::generate_for(algorithm(*curve))?)),
            Self::Tls { hosts, days } => tls(item, hosts, *days, random),
            Self::Htpasswd { user } => htpasswd(item, user, given, rng),
            Self::Docker { server, user } => docker(item, server, user, given, rng),
        }
    }
}

fn one(item: &str, value: Plain) -> Made {
    Made {
        sealed: vec![(item.to_owned(), value)],
        public: Vec::new(),
    }
}

fn bytes(count: usize, rng: &mut impl CryptoRng) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0; count]);
    rng.fill_bytes(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> Plain {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Plain::from(text)
}

fn uuid(rng: &mut impl CryptoRng) -> Plain {
    let mut bytes = bytes(16, rng);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    Plain::from(text)
}

fn rsa(bits: usize) -> Result<KeyPair, rcgen::Error> {
    let size = match bits {
        2048 => RsaKeySize::_2048,
        3072 => RsaKeySize::_3072,
        _ => RsaKeySize::_4096,
    };
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)
}

fn algorithm(curve: Curve) -> &'static SignatureAlgorithm {
    match curve {
        Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
    }
}

/// Returns the private key as PKCS#8 PEM, and the public key.
fn pair(item: &str, key: &KeyPair) -> Made {
    Made {
        sealed: vec![(item.to_owned(), Plain::from(key.serialize_pem()))],
        public: vec![(format!("{item}.pub"), key.public_key_pem())],
    }
}

/// Generates an ECDSA P-256 key and a server certificate, `ITEM.key` and `ITEM.crt`.
fn tls<R: CryptoRng>(
    item: &str,
    hosts: &[String],
    days: u32,
    random: &mut Random<'_, R>,
) -> Result<Made, MakeError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(host) = hosts.first() {
        params.distinguished_name.push(DnType::CommonName, host);
    }
    let span = SignedDuration::from_hours(i64::from(days) * 24);
    let end = random
        .now
        .checked_add(span)
        .map_err(|_| MakeError::Validity)?;
    params.not_before = instant(random.now)?;
    params.not_after = instant(end)?;
    params.serial_number = Some(SerialNumber::from_slice(&bytes(16, random.rng)));
    let certificate = params.self_signed(&key)?;
    Ok(Made {
        sealed: vec![(format!("{item}.key"), Plain::from(key.serialize_pem()))],
        public: vec![(format!("{item}.crt"), certificate.pem())],
    })
}

fn instant(at: Timestamp) -> Result<OffsetDateTime, MakeError> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| MakeError::Validity)
}

fn password(given: Option<&Plain>, rng: &mut impl CryptoRng) -> Plain {
    given
        .cloned()
        .unwrap_or_else(|| Password::default().make(rng))
}

/// Returns the line `USER:$2y$…`, and the password as an item of its own: the hash alone would not
/// let anyone log in.
fn htpasswd(
    item: &str,
    user: &str,
    given: Option<&Plain>,
    rng: &mut impl CryptoRng,
) -> Result<Made, MakeError> {
    let password = password(given, rng);
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    let hash = bcrypt::non_truncating_hash_with_salt(password.expose(), BCRYPT_COST, salt)
        .map_err(|_| MakeError::Hash)?;
    let line = format!("{user}:{}\n", hash.format_for_version(Version::TwoY));
    let sealed = vec![
        (item.to_owned(), Plain::from(line)),
        (format!("{item}.password"), password),
    ];
    Ok(Made {
        sealed,
        public: Vec::new(),
    })
}

fn docker(
    item: &str,
    server: &str,
    user: &str,
    given: Option<&Plain>,
    rng: &mut impl CryptoRng,
) -> Result<Made, MakeError> {
    let password = password(given, rng);
    let text = std::str::from_utf8(password.expose()).map_err(|_| MakeError::Text)?;
    let both = Zeroizing::new(format!("{user}:{text}"));
    let auth = Zeroizing::new(base64::encode(both.as_bytes()));
    let quoted = |text: &str| Zeroizing::new(serde_json::Value::from(text).to_string());
    let json = format!(
        r#"{{"auths":{{{}:{{"username":{},"password":{},"auth":{}}}}}}}"#,
        *quoted(server),
        *quoted(user),
        *quoted(text),
        *quoted(&auth)
    );
    Ok(one(item, Plain::from(json)))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn made(recipe: &str, given: Option<&str>) -> Made {
        let mut random = Random {
            rng: &mut StdRng::seed_from_u64(1),
            now: Timestamp::UNIX_EPOCH,
        };
        let given = given.map(|text| Plain::from(text.to_owned()));
        let recipe: Recipe = recipe.parse().unwrap();
        recipe.make("x", given.as_ref(), &mut random).unwrap()
    }

    fn text(made: &Made, at: usize) -> &str {
        std::str::from_utf8(made.sealed[at].1.expose()).unwrap()
    }

    #[test]
    fn the_same_randomness_makes_the_same_value() {
        for recipe in [
            "password",
            "hex",
            "base64",
            "uuid",
            "htpasswd:a",
            "docker:s,u",
        ] {
            assert_eq!(text(&made(recipe, None), 0), text(&made(recipe, None), 0));
        }
    }

    #[test]
    fn values_have_their_form() {
        assert_eq!(text(&made("hex:8", None), 0).len(), 16);
        let uuid = made("uuid", None);
        let uuid = text(&uuid, 0);
        assert_eq!((uuid.len(), &uuid[14..15], &uuid[8..9]), (36, "4", "-"));
        assert!("89ab".contains(&uuid[19..20]));
        let bytes = base64::decode(text(&made("base64:9", None), 0).as_bytes()).unwrap();
        assert_eq!(bytes.len(), 9);
    }

    #[test]
    fn htpasswd_is_bcrypt_of_its_password() {
        for given in [None, Some("hunter2")] {
            let made = made("htpasswd:admin", given);
            let (user, hash) = text(&made, 0).trim_end().split_once(':').unwrap();
            assert_eq!(user, "admin");
            assert!(hash.starts_with("$2y$10$"));
            assert_eq!(made.sealed[1].0, "x.password");
            assert!(bcrypt::verify(text(&made, 1), hash).unwrap());
            assert!(given.is_none_or(|given| given == text(&made, 1)));
        }
    }

    #[test]
    fn docker_quotes_what_json_must() {
        let made = made("docker:r.example,ci", Some("a\"b\\c"));
        let json: serde_json::Value = serde_json::from_str(text(&made, 0)).unwrap();
        let entry = &json["auths"]["r.example"];
        assert_eq!(entry["password"], "a\"b\\c");
        let auth = base64::decode(entry["auth"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(auth, b"ci:a\"b\\c");
    }

    #[test]
    fn key_pairs_belong_together() {
        for recipe in ["ed25519", "ecdsa", "ecdsa:p384", "rsa:2048"] {
            let made = made(recipe, None);
            let pair = KeyPair::from_pem(text(&made, 0)).unwrap();
            assert_eq!(
                made.public,
                [("x.pub".to_owned(), pair.public_key_pem())],
                "{recipe}"
            );
        }
    }

    #[test]
    fn tls_is_for_its_hosts_and_days() {
        let made = made("tls:a.example,10.0.0.1,days=30", None);
        assert_eq!(
            (made.sealed[0].0.as_str(), made.public[0].0.as_str()),
            ("x.key", "x.crt")
        );
        KeyPair::from_pem(text(&made, 0)).unwrap();
        assert!(made.public[0].1.starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn bcrypt_refuses_what_it_would_cut() {
        let recipe: Recipe = "htpasswd:a".parse().unwrap();
        let mut random = Random {
            rng: &mut StdRng::seed_from_u64(1),
            now: Timestamp::UNIX_EPOCH,
        };
        let long = Plain::from("x".repeat(73));
        assert!(recipe.make("x", Some(&long), &mut random).is_err());
    }
}
