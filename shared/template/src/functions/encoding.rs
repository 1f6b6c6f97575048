//! Base64, base32, JSON, URLs, versions.

use go::base64;

use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::Fault;
use crate::json;
use crate::semver;
use crate::text::Text;
use crate::url;
use crate::value::{Pointer, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("b64enc", &[Type::Text], |_, args| {
        Ok(base64::encode(&args.text(0)).into_bytes().into())
    }),
    Function::new("b64dec", &[Type::Text], |_, args| {
        Ok(bytes_or_message(decode64(&args.text(0)), "base64"))
    }),
    Function::new("b32enc", &[Type::Text], |_, args| {
        Ok(encode_base32(&args.text(0)).into())
    }),
    Function::new("b32dec", &[Type::Text], |_, args| {
        Ok(bytes_or_message(decode_base32(&args.text(0)), "base32"))
    }),
    Function::new("toJson", &[Type::Any], |env, args| {
        empty_on_failure(env, args, |env, value| json::compact(env, value, true))
    }),
    Function::new("mustToJson", &[Type::Any], |env, args| {
        Ok(json::compact(env, &args.value(0), true)?.into())
    }),
    Function::new("toRawJson", &[Type::Any], |env, args| {
        Ok(json::compact(env, &args.value(0), false)?.into())
    }),
    Function::new("mustToRawJson", &[Type::Any], |env, args| {
        Ok(json::compact(env, &args.value(0), false)?.into())
    }),
    Function::new("toPrettyJson", &[Type::Any], |env, args| {
        empty_on_failure(env, args, json::pretty)
    }),
    Function::new("mustToPrettyJson", &[Type::Any], |env, args| {
        Ok(json::pretty(env, &args.value(0))?.into())
    }),
    Function::new("fromJson", &[Type::Text], |env, args| {
        Ok(json::parse(env, &args.text(0))?.value)
    }),
    Function::new("mustFromJson", &[Type::Text], |env, args| {
        let parsed = json::parse(env, &args.text(0))?;
        if parsed.is_complete {
            Ok(parsed.value)
        } else {
            Err(Fault::failed(
                "the string is not valid JSON, or a number in it is too large",
            ))
        }
    }),
    Function::new("urlParse", &[Type::Text], |env, args| {
        url::parse_to_map(env, &args.text(0))
    }),
    Function::new("urlJoin", &[Type::Dict], |env, args| {
        url::join_map(env, &args.map(0))
    }),
    Function::new("semver", &[Type::Text], |env, args| {
        let version = version(env, &args.text(0))?;
        Ok(Value::Version(version.into(), Pointer::Yes))
    }),
    Function::new("semverCompare", &[Type::Text, Type::Text], |env, args| {
        charge_constraint(env, &args.text(0))?;
        let constraint = semver::Constraint::parse(&args.text(0))
            .ok_or(Fault::failed("not a version constraint"))?;
        let version = version(env, &args.text(1))?;
        Ok(Value::Bool(constraint.is_met_by(&version)))
    }),
];

const INVALID_VERSION: Fault = Fault {
    kind: crate::error::ErrorKind::Failed,
    reason: "not a semantic version",
};

fn version(env: &mut Environment<'_>, text: &[u8]) -> Result<semver::Version, Fault> {
    env.gauge.charge_steps(text.len() / 4)?; // a regular expression with groups scans the string
    semver::Version::parse(text).ok_or(INVALID_VERSION)
}

/// Charges for parsing a constraint: each version range is rewritten in a copy of the whole string.
fn charge_constraint(env: &mut Environment<'_>, text: &[u8]) -> Result<(), Fault> {
    let len = text.len();
    env.gauge
        .charge_steps(len.saturating_add(len.saturating_mul(len) / 1024))
}

/// Turns an encoding failure into an empty string; an exceeded limit stays an error.
fn empty_on_failure(
    env: &mut Environment<'_>,
    args: &Args<'_>,
    encode: fn(&mut Environment<'_>, &Value) -> Result<Text, Fault>,
) -> Outcome {
    match encode(env, &args.value(0)) {
        Err(fault) if !matches!(fault.kind, crate::error::ErrorKind::Limit(_)) => {
            Ok(Value::text(""))
        }
        outcome => Ok(outcome?.into()),
    }
}

/// Returns the decoded bytes, or Go's error message in their place: sprig returns the error as the result.
fn bytes_or_message(result: Result<Vec<u8>, usize>, name: &str) -> Value {
    match result {
        Ok(bytes) => bytes.into(),
        Err(at) => Value::text(format!("illegal {name} data at input byte {at}")),
    }
}

/// Decodes base64; an error is the offset at which Go's decoder fails.
pub(crate) fn decode64(text: &[u8]) -> Result<Vec<u8>, usize> {
    base64::decode(text).map_err(|error| error.position)
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

const ALPHABET32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Encodes base32 with padding (RFC 4648).
fn encode_base32(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() / 5 * 8 + 8);
    for group in bytes.chunks(5) {
        let bits = (0..5).fold(0_u64, |all, at| {
            all << 8 | u64::from(group.get(at).copied().unwrap_or(0))
        });
        let digit_count = (group.len() * 8).div_ceil(5);
        for at in 0..8 {
            let code = usize::from((bits >> (35 - 5 * at)).to_le_bytes()[0] & 31);
            text.push(if at < digit_count {
                ALPHABET32[code]
            } else {
                b'='
            });
        }
    }
    text
}

/// Decodes base32. Skips line breaks, and is as lenient as Go about text after the padding. An error is the offset at
/// which Go's decoder fails.
fn decode_base32(text: &[u8]) -> Result<Vec<u8>, usize> {
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|&byte| !is_line_break(byte))
        .collect();
    let mut bytes = Vec::with_capacity(text.len() / 8 * 5);
    let mut offset = 0;
    while offset < text.len() {
        let (mut bits, mut digit_count) = (0_u64, 0);
        let start = offset;
        while digit_count < 8 {
            let byte = *text.get(offset).ok_or(start)?;
            offset += 1;
            if byte == b'=' && digit_count >= 2 && text.len() - offset < 8 {
                padding32(&text, offset, digit_count)?;
                break;
            }
            let code = ALPHABET32
                .iter()
                .position(|&digit| digit == byte)
                .ok_or(offset - 1)?;
            bits = bits << 5 | code as u64;
            digit_count += 1;
        }
        let byte_count = digit_count * 5 / 8;
        bytes
            .extend_from_slice(&(bits << (5 * (8 - digit_count))).to_be_bytes()[3..3 + byte_count]);
        if digit_count < 8 {
            break;
        }
    }
    Ok(bytes)
}

/// Checks that the padding, which begins one byte before `at`, fills the group, and that a group of `digit_count`
/// digits encodes whole bytes.
fn padding32(text: &[u8], at: usize, digit_count: usize) -> Result<(), usize> {
    if text.len() - at + digit_count < 7 {
        return Err(text.len());
    }
    for more in 0..7 - digit_count {
        if text.get(at + more).is_some_and(|&byte| byte != b'=') {
            return Err((at + more) - 1);
        }
    }
    if matches!(digit_count, 1 | 3 | 6) {
        Err(at - 1)
    } else {
        Ok(())
    }
}
