//! Random strings and numbers from the caller's random source.

use go::base64;
use rand::CryptoRng;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::Fault;
use crate::runes;
use crate::value::Value;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("randAlpha", &[Type::Int], |env, args| {
        random_ascii(env, args, u8::is_ascii_alphabetic)
    })
    .non_deterministic(),
    Function::new("randAlphaNum", &[Type::Int], |env, args| {
        random_ascii(env, args, u8::is_ascii_alphanumeric)
    })
    .non_deterministic(),
    Function::new("randNumeric", &[Type::Int], |env, args| {
        random_ascii(env, args, u8::is_ascii_digit)
    })
    .non_deterministic(),
    Function::new("randAscii", &[Type::Int], |env, args| {
        random_ascii(env, args, |byte| (b' '..=b'~').contains(byte))
    })
    .non_deterministic(),
    Function::new("randBytes", &[Type::Int], |env, args| {
        let count =
            usize::try_from(args.int(0)).map_err(|_| Fault::failed("the count is negative"))?;
        env.gauge.charge_memory(count)?;
        let mut bytes = vec![0; count];
        env.rng.fill_bytes(&mut bytes);
        Ok(Value::text(base64::encode(&bytes)))
    })
    .non_deterministic(),
    Function::new("randInt", &[Type::Int, Type::Int], |env, args| {
        let (min, end) = (args.int(0), args.int(1));
        let span = end.wrapping_sub(min);
        if span <= 0 {
            return Err(Fault::failed(
                "the second number must be larger than the first, and the difference must fit into an int",
            ));
        }
        Ok(Value::int(env.rng.random_range(0..span).wrapping_add(min)))
    })
    .non_deterministic(),
    Function::new("shuffle", &[Type::Text], |env, args| {
        let mut chars: Vec<char> = runes::chars(&args.text(0)).collect();
        chars.shuffle(&mut env.rng);
        Ok(Value::text(chars.into_iter().collect::<String>()))
    })
    .non_deterministic(),
    Function::new("uuidv4", &[], |env, _| Ok(Value::text(uuid(env.rng)))).non_deterministic(),
];

/// Returns this many random ASCII bytes that satisfy `fits`; none for a negative count.
fn random_ascii(env: &mut Environment<'_>, args: &Args<'_>, fits: fn(&u8) -> bool) -> Outcome {
    let set: Vec<u8> = (0..128_u8).filter(fits).collect();
    let count = usize::try_from(args.int(0)).unwrap_or(0);
    env.gauge.charge_memory(count)?;
    let text: Vec<u8> = (0..count)
        .map(|_| set[env.rng.random_range(0..set.len())])
        .collect();
    Ok(text.into())
}

/// Returns a random UUID (RFC 9562, version 4).
fn uuid(rng: &mut dyn CryptoRng) -> String {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = super::hex(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
