//! Slash-separated paths (package path; on Linux package path/filepath is the same).

use super::{Function, Type};
use crate::value::Value;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("base", &[Type::Text], |_, args| {
        Ok(base(&args.text(0)).into())
    }),
    Function::new("osBase", &[Type::Text], |_, args| {
        Ok(base(&args.text(0)).into())
    }),
    Function::new(
        "dir",
        &[Type::Text],
        |_, args| Ok(dir(&args.text(0)).into()),
    ),
    Function::new("osDir", &[Type::Text], |_, args| {
        Ok(dir(&args.text(0)).into())
    }),
    Function::new("clean", &[Type::Text], |_, args| {
        Ok(clean(&args.text(0)).into())
    }),
    Function::new("osClean", &[Type::Text], |_, args| {
        Ok(clean(&args.text(0)).into())
    }),
    Function::new(
        "ext",
        &[Type::Text],
        |_, args| Ok(ext(&args.text(0)).into()),
    ),
    Function::new("osExt", &[Type::Text], |_, args| {
        Ok(ext(&args.text(0)).into())
    }),
    Function::new("isAbs", &[Type::Text], |_, args| {
        Ok(Value::Bool(args.text(0).starts_with(b"/")))
    }),
    Function::new("osIsAbs", &[Type::Text], |_, args| {
        Ok(Value::Bool(args.text(0).starts_with(b"/")))
    }),
];

fn base(path: &[u8]) -> &[u8] {
    if path.is_empty() {
        return b".";
    }
    let end = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |at| at + 1);
    let path = &path[..end];
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => &path[at + 1..],
        None if path.is_empty() => b"/",
        None => path,
    }
}

fn dir(path: &[u8]) -> Vec<u8> {
    let end = path
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |at| at + 1);
    clean(&path[..end])
}

fn ext(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.iter()
        .rposition(|&byte| byte == b'.')
        .map_or(b"", |at| &name[at..])
}

/// Removes `.`, doubled slashes, and `..` where it can be resolved.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(&last) if last != b".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/".as_slice(), &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}
