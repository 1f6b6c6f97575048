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

use super::{Curve, GeneratedItems, Password, Recipe};

/// The cost of bcrypt, as an exponent of two: a server needs tens of milliseconds to check a password.
const BCRYPT_COST: u32 = 10;

/// The source of randomness, and the time.
pub struct GenerationContext<'a, R> {
    /// The random number generator for everything but key pairs and signatures.
    pub rng: &'a mut R,
    /// The start of a certificate's validity.
    pub now: Timestamp,
}

/// Why a value cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Generating a key or certificate failed, for example because of an invalid host name.
    #[error("cannot generate the key or certificate")]
    Key(#[from] rcgen::Error),
    /// The password is empty, is longer than 71 bytes or contains a zero byte, so it cannot be hashed.
    #[error(
        "cannot hash the password: bcrypt accepts 1 to 71 bytes without zero bytes\nhint: choose another password"
    )]
    Hash,
    /// The password is not UTF-8, which Docker's JSON file requires.
    #[error("the password is not UTF-8, which config.json requires\nhint: choose another password")]
    Text,
    /// The certificate would end after the year 9999, the last year that a certificate can express.
    #[error("the certificate would end after the year 9999\nhint: choose fewer days")]
    Validity,
}

impl Recipe {
    /// Generates the items of a recipe. `item` is the item key, or its beginning, as in `ITEM.pub`. Recipes that accept
    /// a password use `password` or, if it is `None`, a random password.
    ///
    /// # Errors
    ///
    /// Returns a [`GenerateError`] if a value cannot be generated.
    pub fn generate<R: CryptoRng>(
        &self,
        item: &str,
        password: Option<&Plain>,
        context: &mut GenerationContext<'_, R>,
    ) -> Result<GeneratedItems, GenerateError> {
        let rng = &mut *context.rng;
        match self {
            Self::Password(rules) => Ok(single_item(item, rules.generate(rng))),
            Self::Hex(count) => Ok(single_item(item, hex(&bytes(*count, rng)))),
            Self::Base64(count) => Ok(single_item(
                item,
                Plain::from(base64::encode(&bytes(*count, rng))),
            )),
            Self::Uuid => Ok(single_item(item, uuid(rng))),
            Self::Rsa(bits) => Ok(key_pair_items(item, &rsa(*bits)?)),
            Self::Ed25519 => Ok(key_pair_items(
                item,
                &KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
            )),
            Self::Ecdsa(curve) => Ok(key_pair_items(
                item,
                &KeyPair::generate_for(algorithm(*curve))?,
            )),
            Self::Tls { hosts, days } => tls(item, hosts, *days, context),
            Self::Htpasswd { user } => htpasswd(item, user, password, rng),
            Self::Docker { server, user } => docker(item, server, user, password, rng),
        }
    }
}

fn single_item(item: &str, value: Plain) -> GeneratedItems {
    GeneratedItems {
        secret: vec![(item.to_owned(), value)],
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

/// Returns the private key in PKCS#8 PEM, and the public key in PEM as the public item `ITEM.pub`.
fn key_pair_items(item: &str, key: &KeyPair) -> GeneratedItems {
    GeneratedItems {
        secret: vec![(item.to_owned(), Plain::from(key.serialize_pem()))],
        public: vec![(format!("{item}.pub"), key.public_key_pem())],
    }
}

/// Generates an ECDSA P-256 key and its self-signed certificate, `ITEM.key` and `ITEM.crt`.
fn tls<R: CryptoRng>(
    item: &str,
    hosts: &[String],
    days: u32,
    context: &mut GenerationContext<'_, R>,
) -> Result<GeneratedItems, GenerateError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(host) = hosts.first() {
        params.distinguished_name.push(DnType::CommonName, host);
    }
    let span = SignedDuration::from_hours(i64::from(days) * 24);
    let end = context
        .now
        .checked_add(span)
        .map_err(|_| GenerateError::Validity)?;
    params.not_before = to_offset_time(context.now)?;
    params.not_after = to_offset_time(end)?;
    params.serial_number = Some(SerialNumber::from_slice(&bytes(16, context.rng)));
    let certificate = params.self_signed(&key)?;
    Ok(GeneratedItems {
        secret: vec![(format!("{item}.key"), Plain::from(key.serialize_pem()))],
        public: vec![(format!("{item}.crt"), certificate.pem())],
    })
}

fn to_offset_time(time: Timestamp) -> Result<OffsetDateTime, GenerateError> {
    OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| GenerateError::Validity)
}

fn password_or_random(password: Option<&Plain>, rng: &mut impl CryptoRng) -> Plain {
    password
        .cloned()
        .unwrap_or_else(|| Password::default().generate(rng))
}

/// Returns the line `USER:$2y$…`, and the password as the item `ITEM.password`, since the hash cannot be used to log
/// in.
fn htpasswd(
    item: &str,
    user: &str,
    password: Option<&Plain>,
    rng: &mut impl CryptoRng,
) -> Result<GeneratedItems, GenerateError> {
    let password = password_or_random(password, rng);
    // Many programs hash a password only up to its first zero byte.
    if password.expose().is_empty() || password.expose().contains(&0) {
        return Err(GenerateError::Hash);
    }
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    let hash = bcrypt::non_truncating_hash_with_salt(password.expose(), BCRYPT_COST, salt)
        .map_err(|_| GenerateError::Hash)?;
    let line = format!("{user}:{}\n", hash.format_for_version(Version::TwoY));
    let secret = vec![
        (item.to_owned(), Plain::from(line)),
        (format!("{item}.password"), password),
    ];
    Ok(GeneratedItems {
        secret,
        public: Vec::new(),
    })
}

fn docker(
    item: &str,
    server: &str,
    user: &str,
    password: Option<&Plain>,
    rng: &mut impl CryptoRng,
) -> Result<GeneratedItems, GenerateError> {
    let password = password_or_random(password, rng);
    Ok(single_item(item, docker_config(server, user, &password)?))
}

/// Returns a `config.json` of Docker with one registry, as `kubectl create secret docker-registry` writes it.
///
/// # Errors
///
/// Returns [`GenerateError::Text`] if the password is not UTF-8.
pub fn docker_config(server: &str, user: &str, password: &Plain) -> Result<Plain, GenerateError> {
    let text = std::str::from_utf8(password.expose()).map_err(|_| GenerateError::Text)?;
    let credentials = Zeroizing::new(format!("{user}:{text}"));
    let auth = Zeroizing::new(base64::encode(credentials.as_bytes()));
    let to_json = |text: &str| Zeroizing::new(serde_json::Value::from(text).to_string());
    let json = format!(
        r#"{{"auths":{{{}:{{"username":{},"password":{},"auth":{}}}}}}}"#,
        *to_json(server),
        *to_json(user),
        *to_json(text),
        *to_json(&auth)
    );
    Ok(Plain::from(json))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn generate(recipe: &str, password: Option<&str>) -> GeneratedItems {
        let mut context = GenerationContext {
            rng: &mut StdRng::seed_from_u64(1),
            now: Timestamp::UNIX_EPOCH,
        };
        let password = password.map(|text| Plain::from(text.to_owned()));
        let recipe: Recipe = recipe.parse().unwrap();
        recipe
            .generate("x", password.as_ref(), &mut context)
            .unwrap()
    }

    fn secret_text(generated: &GeneratedItems, index: usize) -> &str {
        std::str::from_utf8(generated.secret[index].1.expose()).unwrap()
    }

    #[test]
    fn the_same_randomness_generates_the_same_value() {
        for recipe in [
            "password",
            "hex",
            "base64",
            "uuid",
            "htpasswd:a",
            "docker:s,u",
        ] {
            assert_eq!(
                secret_text(&generate(recipe, None), 0),
                secret_text(&generate(recipe, None), 0)
            );
        }
    }

    #[test]
    fn generates_values_in_the_format_of_the_recipe() {
        assert_eq!(secret_text(&generate("hex:8", None), 0).len(), 16);
        let uuid = generate("uuid", None);
        let uuid = secret_text(&uuid, 0);
        assert_eq!((uuid.len(), &uuid[14..15], &uuid[8..9]), (36, "4", "-"));
        assert!("89ab".contains(&uuid[19..20]));
        let bytes = base64::decode(secret_text(&generate("base64:9", None), 0).as_bytes()).unwrap();
        assert_eq!(bytes.len(), 9);
    }

    #[test]
    fn htpasswd_contains_the_bcrypt_hash_of_the_password() {
        for password in [None, Some("hunter2")] {
            let generated = generate("htpasswd:admin", password);
            let (user, hash) = secret_text(&generated, 0)
                .trim_end()
                .split_once(':')
                .unwrap();
            assert_eq!(user, "admin");
            assert!(hash.starts_with("$2y$10$"));
            assert_eq!(generated.secret[1].0, "x.password");
            assert!(bcrypt::verify(secret_text(&generated, 1), hash).unwrap());
            assert!(password.is_none_or(|password| password == secret_text(&generated, 1)));
        }
    }

    #[test]
    fn docker_escapes_json() {
        let generated = generate("docker:r.example,ci", Some("a\"b\\c"));
        let json: serde_json::Value = serde_json::from_str(secret_text(&generated, 0)).unwrap();
        let entry = &json["auths"]["r.example"];
        assert_eq!(entry["password"], "a\"b\\c");
        let auth = base64::decode(entry["auth"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(auth, b"ci:a\"b\\c");
    }

    #[test]
    fn private_and_public_keys_match() {
        for recipe in ["ed25519", "ecdsa", "ecdsa:p384", "rsa:2048"] {
            let generated = generate(recipe, None);
            let pair = KeyPair::from_pem(secret_text(&generated, 0)).unwrap();
            assert_eq!(
                generated.public,
                [("x.pub".to_owned(), pair.public_key_pem())],
                "{recipe}"
            );
        }
    }

    #[test]
    fn a_tls_certificate_has_the_hosts_and_days_of_the_recipe() {
        let generated = generate("tls:a.example,10.0.0.1,days=30", None);
        assert_eq!(
            (
                generated.secret[0].0.as_str(),
                generated.public[0].0.as_str()
            ),
            ("x.key", "x.crt")
        );
        KeyPair::from_pem(secret_text(&generated, 0)).unwrap();
        assert!(
            generated.public[0]
                .1
                .starts_with("-----BEGIN CERTIFICATE-----")
        );
    }

    #[test]
    fn refuses_a_password_that_bcrypt_would_truncate() {
        let recipe: Recipe = "htpasswd:a".parse().unwrap();
        let mut context = GenerationContext {
            rng: &mut StdRng::seed_from_u64(1),
            now: Timestamp::UNIX_EPOCH,
        };
        let most = "x".repeat(71);
        for (password, is_accepted) in [
            (most.as_str(), true),
            (format!("{most}x").as_str(), false),
            ("", false),
            ("a\0b", false),
            ("a\0", false),
        ] {
            let password = Plain::from(password.to_owned());
            let generated = recipe.generate("x", Some(&password), &mut context);
            assert_eq!(generated.is_ok(), is_accepted, "{password:?}");
        }
    }
}
