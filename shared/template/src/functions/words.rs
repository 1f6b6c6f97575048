//! Letters and words: case, initials, wrapping.

use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::Fault;
use crate::runes;
use crate::text::Text;
use crate::value::Value;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("upper", &[Type::Text], |env, args| {
        map_chars(env, &args.text(0), runes::to_upper)
    }),
    Function::new("lower", &[Type::Text], |env, args| {
        map_chars(env, &args.text(0), runes::to_lower)
    }),
    Function::new("title", &[Type::Text], |env, args| {
        let mut before = ' ';
        map_chars(env, &args.text(0), |char| {
            let result = if is_separator(before) {
                runes::to_title(char)
            } else {
                char
            };
            before = char;
            result
        })
    }),
    Function::new("untitle", &[Type::Text], |env, args| {
        let mut is_word_start = true;
        map_chars(env, &args.text(0), |char| {
            let result = if is_word_start && !runes::is_space(char) {
                runes::to_lower(char)
            } else {
                char
            };
            is_word_start = runes::is_space(char);
            result
        })
    }),
    Function::new("swapcase", &[Type::Text], swapcase),
    Function::new("initials", &[Type::Text], |env, args| {
        let mut after_space = true;
        filter_bytes(env, &args.text(0), |char| {
            let first = after_space && !runes::is_space(char);
            after_space = runes::is_space(char);
            first
        })
    }),
    Function::new("nospace", &[Type::Text], |env, args| {
        let text = args.text(0);
        if text.iter().any(|&byte| runes::is_space(char::from(byte))) {
            filter_bytes(env, &text, |char| !runes::is_space(char))
        } else {
            Ok(text.into())
        }
    }),
    Function::new("wrap", &[Type::Int, Type::Text], |env, args| {
        wrap(env, &args.text(1), args.int(0), b"\n", false)
    }),
    Function::new(
        "wrapWith",
        &[Type::Int, Type::Text, Type::Text],
        |env, args| {
            let line_break = args.text(1);
            let line_break = if line_break.is_empty() {
                b"\n"
            } else {
                &*line_break
            };
            wrap(env, &args.text(2), args.int(0), line_break, true)
        },
    ),
];

/// Maps each character. Bytes that are not UTF-8 become U+FFFD, as with Go's strings.Map.
fn map_chars(env: &mut Environment<'_>, text: &Text, mut map: impl FnMut(char) -> char) -> Outcome {
    let mut out = env.writer();
    for char in runes::chars(text) {
        out.char(map(char))?;
    }
    Ok(out.finish().into())
}

fn is_separator(char: char) -> bool {
    if char.is_ascii() {
        !char.is_ascii_alphanumeric() && char != '_'
    } else {
        !runes::is_letter(char) && !runes::is_digit(char) && runes::is_space(char)
    }
}

fn swapcase(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut after_space = true;
    map_chars(env, &args.text(0), |char| {
        if runes::is_upper(char) || runes::is_title(char) {
            after_space = false;
            runes::to_lower(char)
        } else if runes::is_lower(char) {
            let result = if after_space {
                runes::to_title(char)
            } else {
                runes::to_upper(char)
            };
            after_space = false;
            result
        } else {
            after_space = runes::is_space(char);
            char
        }
    })
}

/// Returns the bytes that satisfy `keep`, each as a Latin-1 character: the library that sprig uses garbles UTF-8 in
/// this way.
fn filter_bytes(
    env: &mut Environment<'_>,
    text: &Text,
    mut keep: impl FnMut(char) -> bool,
) -> Outcome {
    let mut out = env.writer();
    for &byte in text.iter() {
        if keep(char::from(byte)) {
            out.char(char::from(byte))?;
        }
    }
    Ok(out.finish().into())
}

/// Wraps at spaces to lines of at most `width` bytes. A longer word is broken if `break_words` is set, and otherwise
/// makes a longer line.
fn wrap(
    env: &mut Environment<'_>,
    text: &[u8],
    width: i64,
    line_break: &[u8],
    break_words: bool,
) -> Result<Value, Fault> {
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let mut out = env.writer();
    let mut rest = text;
    while rest.len() > width {
        if rest[0] == b' ' {
            rest = &rest[1..];
            continue;
        }
        let space = rest[..=width].iter().rposition(|&byte| byte == b' ');
        let (line, after) = match space {
            Some(at) => (at, at + 1),
            None if break_words => (width, width),
            None => match memchr::memchr(b' ', &rest[width..]) {
                Some(at) => (width + at, width + at + 1),
                None => break,
            },
        };
        env.gauge.charge_bytes(line)?;
        out.push(&rest[..line])?;
        out.push(line_break)?;
        rest = &rest[after..];
    }
    out.push(rest)?;
    Ok(out.finish().into())
}
