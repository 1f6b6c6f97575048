//! Private keys and X.509 certificates that templates generate.

use std::net::IpAddr;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use x509_cert::der::Decode;

use crate::budget::cost;
use crate::environment::Environment;
use crate::error::Fault;
use crate::functions::{Args, Outcome};
use crate::text::Text;
use crate::value::{List, Value};

mod key;

use key::{Form, PrivateKey};

/// Steps charged for parsing a key and signing with it, which takes tens of milliseconds for the largest RSA keys.
const SIGNING_STEPS: usize = 20_000;

/// A certificate and its key, both in PEM.
#[derive(PartialEq, Eq)]
pub(crate) struct Certificate {
    cert: Text,
    key: Text,
}

impl Certificate {
    pub(crate) fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Cert" => Some(Value::Text(self.cert.clone())),
            "Key" => Some(Value::Text(self.key.clone())),
            _ => None,
        }
    }

    /// Returns the total length of both parts in bytes.
    pub(crate) fn len(&self) -> usize {
        self.cert.len() + self.key.len()
    }

    pub(crate) fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("Cert", Value::Text(self.cert.clone())),
            ("Key", Value::Text(self.key.clone())),
        ]
    }
}

/// The key that signs a certificate.
pub(crate) enum Signer {
    Itself,
    Authority(Text, Text),
}

impl Signer {
    pub(crate) fn from_value(value: &Value) -> Self {
        match value {
            Value::Certificate(certificate) => {
                Self::Authority(certificate.cert.clone(), certificate.key.clone())
            }
            _ => Self::Itself,
        }
    }
}

/// `genPrivateKey`: returns an RSA 4096, ECDSA P-256 or Ed25519 key in PEM. Fails for `dsa`; for an unknown type the
/// result is an error message.
pub(crate) fn generate_key(env: &mut Environment<'_>, kind: &[u8]) -> Outcome {
    let key = match kind {
        b"" | b"rsa" => rsa_key(env, rsa::KeySize::Rsa4096, cost::RSA_4096)?,
        b"ecdsa" => {
            env.gauge.charge_key(cost::CURVE_KEY)?;
            PrivateKey::generate_p256()?
        }
        b"ed25519" => {
            env.gauge.charge_key(cost::CURVE_KEY)?;
            let mut seed = [0; 32];
            env.rng.fill_bytes(&mut seed);
            let key = PrivateKey::ed25519(&seed);
            zeroize::Zeroize::zeroize(&mut seed);
            key?
        }
        b"dsa" => {
            return Err(Fault::failed(
                "DSA keys are not supported; use ecdsa or ed25519",
            ));
        }
        _ => return Ok([b"Unknown type ", kind].concat().into()),
    };
    Ok(key.pem().into())
}

fn rsa_key(env: &mut Environment<'_>, size: rsa::KeySize, cost: u64) -> Result<PrivateKey, Fault> {
    env.gauge.charge_key(cost)?;
    let fault = Fault::failed("the key could not be generated");
    let pair = rsa::KeyPair::generate(size).map_err(|_| fault)?;
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| fault)?;
    PrivateKey::parse_der(Form::Pkcs8, der.as_ref())
}

/// Parses a key in PEM, or generates an RSA key of 2048 bits if there is none.
fn key_or_new(env: &mut Environment<'_>, pem: Option<&[u8]>) -> Result<PrivateKey, Fault> {
    match pem {
        Some(pem) => PrivateKey::parse_pem(pem),
        None => rsa_key(env, rsa::KeySize::Rsa2048, cost::RSA_2048),
    }
}

/// `buildCustomCert`: returns a certificate and its key from base64, after checking that both can be parsed.
pub(crate) fn from_parts(env: &mut Environment<'_>, cert: &[u8], key: &[u8]) -> Outcome {
    env.gauge.charge_steps(SIGNING_STEPS)?;
    let decode = |text: &[u8]| {
        crate::functions::decode64(text)
            .map_err(|_| Fault::failed("the certificate or the key is not base64"))
    };
    let (cert, key) = (decode(cert)?, decode(key)?);
    parse_certificate(&cert)?;
    PrivateKey::check_pem(&key)?;
    Ok(value(cert, key))
}

fn value(cert: Vec<u8>, key: Vec<u8>) -> Value {
    Value::Certificate(
        Certificate {
            cert: cert.into(),
            key: key.into(),
        }
        .into(),
    )
}

fn parse_certificate(pem: &[u8]) -> Result<(Vec<u8>, x509_cert::Certificate), Fault> {
    let block = go::pem::blocks(pem)
        .next()
        .ok_or(Fault::failed("the certificate is not PEM"))?;
    let parsed = x509_cert::Certificate::from_der(&block.der)
        .map_err(|_| Fault::failed("the certificate is not an X.509 certificate"))?;
    Ok((block.der.to_vec(), parsed))
}

/// `genCA` and `genCAWithKey`: returns a CA certificate and its key.
pub(crate) fn authority(
    env: &mut Environment<'_>,
    name: &[u8],
    days: i64,
    key: Option<&[u8]>,
) -> Outcome {
    env.gauge.charge_steps(SIGNING_STEPS)?;
    let key = key_or_new(env, key)?;
    let mut params = params(env, name, days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    issue(&params, &key, &Signer::Itself)
}

/// `genSelfSignedCert`, `genSignedCert` and their `…WithKey` variants: returns a certificate and its key. Arguments:
/// name, IP addresses, DNS names, days.
pub(crate) fn leaf(
    env: &mut Environment<'_>,
    args: &Args<'_>,
    signer: &Signer,
    key: Option<&[u8]>,
) -> Outcome {
    env.gauge.charge_steps(SIGNING_STEPS)?;
    let key = key_or_new(env, key)?;
    let mut params = params(env, &args.text(0), args.int(3))?;
    params.is_ca = IsCa::ExplicitNoCa;
    for address in texts(env, &args.list(1))? {
        let address: IpAddr = address
            .parse()
            .map_err(|_| Fault::failed("an IP address is malformed"))?;
        params
            .subject_alt_names
            .push(SanType::IpAddress(address.to_canonical()));
    }
    for name in texts(env, &args.list(2))? {
        let name =
            Ia5String::try_from(name).map_err(|_| Fault::failed("a DNS name must be ASCII"))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    issue(&params, &key, signer)
}

fn texts(env: &mut Environment<'_>, list: &List) -> Result<Vec<String>, Fault> {
    let not_text = Fault::failed("IP addresses and DNS names must be UTF-8 strings");
    let text = |value: &Value| match value {
        Value::Text(text) => {
            env.gauge.charge_memory(text.len())?;
            String::from_utf8(text.to_vec()).map_err(|_| not_text)
        }
        _ => Err(not_text),
    };
    list.view().iter().map(text).collect()
}

/// Returns the parameters that all certificates share.
fn params(env: &mut Environment<'_>, name: &[u8], days: i64) -> Result<CertificateParams, Fault> {
    let mut params = CertificateParams::default();
    let name =
        std::str::from_utf8(name).map_err(|_| Fault::failed("a common name must be UTF-8"))?;
    params.distinguished_name = DistinguishedName::new();
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let out_of_range = Fault::failed("the certificate would expire outside the supported years");
    let now = env.now.as_second();
    let end = days
        .checked_mul(86_400)
        .and_then(|validity| now.checked_add(validity))
        .ok_or(out_of_range)?;
    params.not_before = time::OffsetDateTime::from_unix_timestamp(now).map_err(|_| out_of_range)?;
    params.not_after = time::OffsetDateTime::from_unix_timestamp(end).map_err(|_| out_of_range)?;
    let mut serial = [0; 16];
    env.rng.fill_bytes(&mut serial);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

fn issue(params: &CertificateParams, key: &PrivateKey, signer: &Signer) -> Outcome {
    let pair = key.pair()?;
    let fault = Fault::failed("the certificate could not be signed");
    let certificate = match signer {
        Signer::Itself => params.self_signed(&pair).map_err(|_| fault)?,
        Signer::Authority(cert, key) => {
            let mut params = params.clone();
            params.use_authority_key_identifier_extension = true;
            let issuer = issuer(cert, key)?;
            params.signed_by(&pair, &issuer).map_err(|_| fault)?
        }
    };
    Ok(value(
        go::pem::encode("CERTIFICATE", certificate.der()).into_bytes(),
        key.pem(),
    ))
}

/// Returns the issuing CA after checking that its key matches its certificate.
fn issuer(cert: &[u8], key: &[u8]) -> Result<Issuer<'static, KeyPair>, Fault> {
    let (der, parsed) = parse_certificate(cert)?;
    let pair = PrivateKey::parse_pem(key)?.pair()?;
    let certified_key = parsed
        .tbs_certificate()
        .subject_public_key_info()
        .subject_public_key
        .raw_bytes();
    if certified_key != rcgen::PublicKeyData::der_bytes(&pair) {
        return Err(Fault::failed(
            "the key of the CA does not match its certificate",
        ));
    }
    Issuer::from_ca_cert_der(&der.into(), pair)
        .map_err(|_| Fault::failed("the certificate cannot be used as a CA"))
}
