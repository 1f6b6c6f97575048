//! Checksums, encryption, keys and certificates.

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::digest;
use go::base64;

use super::encoding::decode64;
use super::{Args, Function, Outcome, Type};
use crate::budget::cost;
use crate::certificate::{self, Signer};
use crate::environment::Environment;
use crate::error::Fault;
use crate::value::Value;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("sha1sum", &[Type::Text], |_, args| {
        Ok(sum(&digest::SHA1_FOR_LEGACY_USE_ONLY, args))
    }),
    Function::new("sha256sum", &[Type::Text], |_, args| {
        Ok(sum(&digest::SHA256, args))
    }),
    Function::new("sha512sum", &[Type::Text], |_, args| {
        Ok(sum(&digest::SHA512, args))
    }),
    Function::new("adler32sum", &[Type::Text], |_, args| {
        Ok(Value::text(adler32(&args.text(0)).to_string()))
    }),
    Function::new("encryptAES", &[Type::Text, Type::Text], encrypt).non_deterministic(),
    Function::new("decryptAES", &[Type::Text, Type::Text], decrypt),
    Function::new("genPrivateKey", &[Type::Text], |env, args| {
        certificate::generate_key(env, &args.text(0))
    })
    .non_deterministic()
    .slow(cost::RSA_4096),
    Function::new("buildCustomCert", &[Type::Text, Type::Text], |env, args| {
        certificate::from_parts(env, &args.text(0), &args.text(1))
    }),
    Function::new("genCA", &[Type::Text, Type::Int], |env, args| {
        certificate::authority(env, &args.text(0), args.int(1), None)
    })
    .non_deterministic()
    .slow(cost::RSA_2048),
    Function::new(
        "genCAWithKey",
        &[Type::Text, Type::Int, Type::Text],
        |env, args| certificate::authority(env, &args.text(0), args.int(1), Some(&args.text(2))),
    )
    .non_deterministic(),
    Function::new(
        "genSelfSignedCert",
        &[Type::Text, Type::Items, Type::Items, Type::Int],
        |env, args| certificate::leaf(env, args, &Signer::Itself, None),
    )
    .non_deterministic()
    .slow(cost::RSA_2048),
    Function::new(
        "genSelfSignedCertWithKey",
        &[Type::Text, Type::Items, Type::Items, Type::Int, Type::Text],
        |env, args| certificate::leaf(env, args, &Signer::Itself, Some(&args.text(4))),
    )
    .non_deterministic(),
    Function::new(
        "genSignedCert",
        &[
            Type::Text,
            Type::Items,
            Type::Items,
            Type::Int,
            Type::Certificate,
        ],
        |env, args| certificate::leaf(env, args, &Signer::from_value(&args.value(4)), None),
    )
    .non_deterministic()
    .slow(cost::RSA_2048),
    Function::new(
        "genSignedCertWithKey",
        &[
            Type::Text,
            Type::Items,
            Type::Items,
            Type::Int,
            Type::Certificate,
            Type::Text,
        ],
        |env, args| {
            certificate::leaf(
                env,
                args,
                &Signer::from_value(&args.value(4)),
                Some(&args.text(5)),
            )
        },
    )
    .non_deterministic(),
];

fn sum(algorithm: &'static digest::Algorithm, args: &Args<'_>) -> Value {
    let sum = digest::digest(algorithm, &args.text(0));
    Value::text(super::hex(sum.as_ref()))
}

/// Returns the Adler-32 checksum (RFC 1950).
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

const BLOCK_LEN: usize = 16;
const AES_FAILED: Fault = Fault {
    kind: crate::error::ErrorKind::Failed,
    reason: "AES encryption or decryption failed",
};

/// Returns an AES-256 key: the password, truncated or padded with zeros to 32 bytes.
fn aes_key(password: &[u8]) -> Result<UnboundCipherKey, Fault> {
    let mut key = [0; 32];
    let len = password.len().min(32);
    key[..len].copy_from_slice(&password[..len]);
    let cipher_key = UnboundCipherKey::new(&AES_256, &key).map_err(|_| AES_FAILED);
    zeroize::Zeroize::zeroize(&mut key);
    cipher_key
}

fn xor(block: &mut [u8], with: &[u8]) {
    block
        .iter_mut()
        .zip(with)
        .for_each(|(byte, other)| *byte ^= other);
}

/// `encryptAES`: encrypts with AES-256-CBC and PKCS #7 padding. The result is base64 and begins with the initialization
/// vector. An empty string stays empty.
fn encrypt(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let plain = args.text(1);
    if plain.is_empty() {
        return Ok(Value::text(""));
    }
    let key = EncryptingKey::ecb(aes_key(&args.text(0))?).map_err(|_| AES_FAILED)?;
    let missing = BLOCK_LEN - plain.len() % BLOCK_LEN;
    let mut out = vec![0; BLOCK_LEN];
    env.rng.fill_bytes(&mut out);
    out.extend_from_slice(&plain);
    out.resize(out.len() + missing, missing.to_le_bytes()[0]);
    for at in (BLOCK_LEN..out.len()).step_by(BLOCK_LEN) {
        let (previous, block) = out.split_at_mut(at);
        let block = &mut block[..BLOCK_LEN];
        xor(block, &previous[at - BLOCK_LEN..]);
        key.encrypt(block).map_err(|_| AES_FAILED)?;
    }
    Ok(Value::text(base64::encode(&out)))
}

/// Decrypts the output of `encrypt`. Like sprig, takes the padding length from the last byte, and does not check the
/// other bytes of the padding.
fn decrypt(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let text = args.text(1);
    if text.is_empty() {
        return Ok(Value::text(""));
    }
    let encrypted =
        decode64(&text).map_err(|_| Fault::failed("the encrypted text is not base64"))?;
    if encrypted.len() < 2 * BLOCK_LEN || encrypted.len() % BLOCK_LEN != 0 {
        return Err(Fault::failed(
            "the encrypted text is too short, or its length is not a multiple of the block size",
        ));
    }
    let key = DecryptingKey::ecb(aes_key(&args.text(0))?).map_err(|_| AES_FAILED)?;
    let mut plain = encrypted[BLOCK_LEN..].to_vec();
    key.decrypt(&mut plain, DecryptionContext::None)
        .map_err(|_| AES_FAILED)?;
    xor(&mut plain, &encrypted);
    let padding = plain.last().map_or(0, |&last| usize::from(last));
    let len = plain
        .len()
        .checked_sub(padding)
        .ok_or(Fault::failed("invalid padding; check the password"))?;
    plain.truncate(len);
    Ok(plain.into())
}
