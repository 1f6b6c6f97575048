//! Password hashes that are slow on purpose. The budget limits their number.

use aws_lc_rs::hmac;

use super::{Args, Function, Outcome, Type};
use crate::budget::cost;
use crate::environment::Environment;
use crate::error::Fault;
use crate::value::Value;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("bcrypt", &[Type::Text], |env, args| {
        Ok(Value::text(bcrypt(env, &args.text(0))?))
    })
    .non_deterministic()
    .slow(cost::BCRYPT),
    Function::new("htpasswd", &[Type::Text, Type::Text], htpasswd)
        .non_deterministic()
        .slow(cost::BCRYPT),
    Function::new(
        "derivePassword",
        &[Type::Uint32, Type::Text, Type::Text, Type::Text, Type::Text],
        derive_password,
    )
    .slow(cost::SCRYPT),
];

/// The cost of bcrypt; Go's default.
const COST: u32 = 10;

/// Hashes a password. For a password that is too long for bcrypt, the result is Go's error message, as in sprig.
fn bcrypt(env: &mut Environment<'_>, password: &[u8]) -> Result<String, Fault> {
    if password.len() > 72 {
        return Ok(
            "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes"
                .to_owned(),
        );
    }
    env.gauge.charge_hash(cost::BCRYPT)?;
    let mut salt = [0; 16];
    env.rng.fill_bytes(&mut salt);
    let hash =
        bcrypt::hash_with_salt(password, COST, salt).map_err(|_| Fault::failed("bcrypt failed"))?;
    Ok(hash.format_for_version(bcrypt::Version::TwoA))
}

/// Returns one line of a password file. For a user name with a colon, the result is sprig's error message.
fn htpasswd(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let (user, password) = (args.text(0), args.text(1));
    if user.contains(&b':') {
        return Ok([b"invalid username: ", &*user].concat().into());
    }
    let hash = bcrypt(env, &password)?;
    Ok([&*user, b":", hash.as_bytes()].concat().into())
}

/// Returns the character patterns of a password type in the Master Password algorithm.
fn patterns(kind: &[u8]) -> Option<&'static [&'static str]> {
    Some(match kind {
        b"maximum" => &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"],
        b"long" => &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
        b"medium" => &["CvcnoCvc", "CvcCvcno"],
        b"short" => &["Cvcn"],
        b"basic" => &["aaanaaan", "aannaaan", "aaannaaa"],
        b"pin" => &["nnnn"],
        _ => return None,
    })
}

fn characters(class: char) -> &'static str {
    match class {
        'V' => "AEIOU",
        'C' => "BCDFGHJKLMNPQRSTVWXYZ",
        'v' => "aeiou",
        'c' => "bcdfghjklmnpqrstvwxyz",
        'a' => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        'n' => "0123456789",
        'o' => "@&%?,=[]_:-+*$#!'^~;()/.",
        _ => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

const SEED: &[u8] = b"com.lyndir.masterpassword";

/// `derivePassword`: derives a password with the Master Password algorithm: scrypt of the password with the user as
/// salt, HMAC over the site, then characters of a pattern. For an unknown password type, the result is sprig's error
/// message.
fn derive_password(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let (kind, password, user, site) = (args.text(1), args.text(2), args.text(3), args.text(4));
    let Some(patterns) = patterns(&kind) else {
        return Ok([b"cannot find password template ", &*kind].concat().into());
    };
    env.gauge.charge_hash(cost::SCRYPT)?;
    env.gauge.charge_bytes(64 * user.len())?; // scrypt first hashes the salt for each of its 64 blocks
    let salt = [SEED, &encoded_len(&user), &*user].concat();
    let mut key = [0; 64];
    let params = scrypt::Params::new(15, 8, 2, 64).map_err(|_| Fault::failed("scrypt failed"))?;
    scrypt::scrypt(&password, &salt, &params, &mut key)
        .map_err(|_| Fault::failed("scrypt failed"))?;
    let counter = args.int(0).to_be_bytes();
    let message = [SEED, &encoded_len(&site), &*site, &counter[4..]].concat();
    let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
    zeroize::Zeroize::zeroize(&mut key);
    let seed = seed.as_ref();
    let pattern = patterns[usize::from(seed[0]) % patterns.len()];
    let bytes = pattern.chars().zip(&seed[1..]).map(|(class, &byte)| {
        let characters = characters(class).as_bytes();
        characters[usize::from(byte) % characters.len()]
    });
    Ok(bytes.collect::<Vec<u8>>().into())
}

fn encoded_len(text: &[u8]) -> [u8; 4] {
    u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()
}
