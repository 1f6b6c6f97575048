//! Private keys in the formats that Go's crypto/x509 reads and sprig writes.

use pkcs8::der::asn1::{BitStringRef, ContextSpecificRef, OctetStringRef};
use pkcs8::der::{Decode, Encode, TagMode, TagNumber};
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::error::Fault;
use go::pem;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The encoding of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Pkcs1,
    Sec1,
    Pkcs8,
}

/// A private key: in a format that can sign (`der`), and in the format that sprig writes (`output`).
pub(super) struct PrivateKey {
    form: Form,
    der: Zeroizing<Vec<u8>>,
    label: &'static str,
    output: Zeroizing<Vec<u8>>,
}

const BAD_KEY: Fault = Fault {
    kind: crate::error::ErrorKind::Failed,
    reason: "not a supported private key",
};

impl PrivateKey {
    pub(super) fn parse_pem(text: &[u8]) -> Result<Self, Fault> {
        let block = pem::blocks(text)
            .next()
            .ok_or(Fault::failed("the private key is not PEM"))?;
        let form = match &*block.label {
            "PRIVATE KEY" => Form::Pkcs8,
            "RSA PRIVATE KEY" => Form::Pkcs1,
            "EC PRIVATE KEY" => Form::Sec1,
            _ => return Err(BAD_KEY),
        };
        Self::parse_der(form, &block.der)
    }

    /// Checks that the string is a supported private key. Also accepts DSA keys, which are only stored, not used.
    pub(super) fn check_pem(text: &[u8]) -> Result<(), Fault> {
        let block = pem::blocks(text)
            .next()
            .ok_or(Fault::failed("the private key is not PEM"))?;
        if block.label == "DSA PRIVATE KEY" {
            return pkcs8::der::asn1::AnyRef::from_der(&block.der)
                .map(|_| ())
                .map_err(|_| BAD_KEY);
        }
        Self::parse_pem(text)?.pair().map(|_| ())
    }

    pub(super) fn parse_der(form: Form, der: &[u8]) -> Result<Self, Fault> {
        let der = Zeroizing::new(der.to_vec());
        match form {
            Form::Pkcs1 => Ok(Self {
                form,
                output: der.clone(),
                der,
                label: "RSA PRIVATE KEY",
            }),
            Form::Sec1 => Ok(Self {
                form,
                output: der.clone(),
                der,
                label: "EC PRIVATE KEY",
            }),
            Form::Pkcs8 => Self::parse_pkcs8(der),
        }
    }

    fn parse_pkcs8(der: Zeroizing<Vec<u8>>) -> Result<Self, Fault> {
        let info = PrivateKeyInfoRef::from_der(&der).map_err(|_| BAD_KEY)?;
        let inner = info.private_key.as_bytes();
        let (label, output) = match info.algorithm.oid {
            RSA => ("RSA PRIVATE KEY", Zeroizing::new(inner.to_vec())),
            EC => {
                let curve = info.algorithm.parameters_oid().map_err(|_| BAD_KEY)?;
                (
                    "EC PRIVATE KEY",
                    sec1(inner, curve, &pair(Form::Pkcs8, &der)?)?,
                )
            }
            ED25519 => ("PRIVATE KEY", der.clone()),
            _ => return Err(BAD_KEY),
        };
        Ok(Self {
            form: Form::Pkcs8,
            der,
            label,
            output,
        })
    }

    pub(super) fn generate_p256() -> Result<Self, Fault> {
        let fault = Fault::failed("the key could not be generated");
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| fault)?;
        Self::parse_der(Form::Pkcs8, pair.serialized_der())
    }

    /// Creates the Ed25519 key with this seed, as RFC 8410 encodes it.
    pub(super) fn ed25519(seed: &[u8; 32]) -> Result<Self, Fault> {
        let head = [
            0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
        ];
        Self::parse_der(Form::Pkcs8, &[&head[..], seed].concat())
    }

    pub(super) fn pem(&self) -> Vec<u8> {
        pem::encode(self.label, &self.output).into_bytes()
    }

    pub(super) fn pair(&self) -> Result<KeyPair, Fault> {
        pair(self.form, &self.der)
    }
}

fn pair(form: Form, der: &[u8]) -> Result<KeyPair, Fault> {
    let der = match form {
        Form::Pkcs1 => PrivateKeyDer::Pkcs1(der.to_vec().into()),
        Form::Sec1 => PrivateKeyDer::Sec1(der.to_vec().into()),
        Form::Pkcs8 => PrivateKeyDer::Pkcs8(der.to_vec().into()),
    };
    KeyPair::try_from(&der).map_err(|_| BAD_KEY)
}

/// Encodes an `ECPrivateKey` (RFC 5915) with curve and public key, as Go does. In PKCS #8, the curve is outside of
/// `inner`.
fn sec1(
    inner: &[u8],
    curve: ObjectIdentifier,
    pair: &KeyPair,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let secret = secret_bytes(inner).ok_or(BAD_KEY)?;
    let encode = || {
        let public = BitStringRef::from_bytes(rcgen::PublicKeyData::der_bytes(pair))?;
        let parts = [
            1_u8.to_der()?,
            OctetStringRef::new(secret)?.to_der()?,
            explicit_tag(0, &curve)?,
            explicit_tag(1, &public)?,
        ];
        sequence(&parts.concat())
    };
    encode()
        .map(Zeroizing::new)
        .map_err(|_: pkcs8::der::Error| BAD_KEY)
}

fn explicit_tag<T: Encode + pkcs8::der::EncodeValue + pkcs8::der::Tagged>(
    number: u32,
    value: &T,
) -> Result<Vec<u8>, pkcs8::der::Error> {
    ContextSpecificRef {
        tag_number: TagNumber(number),
        tag_mode: TagMode::Explicit,
        value,
    }
    .to_der()
}

fn sequence(body: &[u8]) -> Result<Vec<u8>, pkcs8::der::Error> {
    pkcs8::der::asn1::AnyRef::new(pkcs8::der::Tag::Sequence, body)?.to_der()
}

/// Returns the private key in an `ECPrivateKey` of version 1; `None` for anything else.
fn secret_bytes(inner: &[u8]) -> Option<&[u8]> {
    let sequence = pkcs8::der::asn1::AnyRef::from_der(inner).ok()?;
    let (version, rest) = sequence.value().split_at_checked(3)?;
    if version != [2, 1, 1] || rest.first() != Some(&4) {
        return None;
    }
    let len = usize::from(*rest.get(1)?);
    rest.get(2..2 + len)
}
