//! Parses and builds URLs as Go's net/url does.

use std::net::Ipv6Addr;

use crate::environment::Environment;
use crate::error::Fault;
use crate::functions::Outcome;
use crate::text::Text;
use crate::value::{Entries, Map, Value};

/// The part of a URL, which decides what has to be escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    UserPassword,
    Host,
    Zone,
    Query,
    Fragment,
}

fn must_escape(byte: u8, part: Part) -> bool {
    if byte.is_ascii_alphanumeric() {
        return false;
    }
    let unescaped: &[u8] = match part {
        Part::Path => b"-_.~$&+,/:;=@",
        Part::UserPassword => b"-_.~$&+,;=",
        Part::Host | Part::Zone => b"-_.~!$&'()*+,;=:[]<>\"",
        Part::Query => b"-_.~",
        Part::Fragment => b"-_.~$&+,/:;=?@!()*",
    };
    !unescaped.contains(&byte)
}

fn escape(text: &[u8], part: Part) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' ' if part == Part::Query => out.push(b'+'),
            _ if must_escape(byte, part) => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            _ => out.push(byte),
        }
    }
    out
}

/// Escapes a value in a query: all bytes except ASCII letters, digits and `-_.~`; a space becomes a plus.
pub(crate) fn query_escape(text: &[u8]) -> Vec<u8> {
    escape(text, Part::Query)
}

const BAD_USER: Fault = Fault {
    kind: crate::error::ErrorKind::Failed,
    reason: "`userinfo` is not a valid user name and password of a URL",
};

const BAD_URL: Fault = Fault {
    kind: crate::error::ErrorKind::Failed,
    reason: "the string is not a URL",
};

fn unescape(text: &[u8], part: Part) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    let mut offset = 0;
    while let Some(&byte) = text.get(offset) {
        if byte == b'%' {
            let code = escaped_byte(text.get(offset + 1..offset + 3)).ok_or(BAD_URL)?;
            let percent = code == b'%';
            let is_invalid = match part {
                Part::Host => code < 0x80 && !percent,
                Part::Zone => !percent && code != b' ' && must_escape(code, Part::Host),
                _ => false,
            };
            if is_invalid {
                return Err(BAD_URL);
            }
            out.push(code);
            offset += 3;
            continue;
        }
        if matches!(part, Part::Host | Part::Zone) && byte < 0x80 && must_escape(byte, part) {
            return Err(BAD_URL);
        }
        out.push(byte);
        offset += 1;
    }
    Ok(out)
}

fn escaped_byte(digits: Option<&[u8]>) -> Option<u8> {
    let digits = std::str::from_utf8(digits?).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

struct User {
    name: Vec<u8>,
    password: Option<Vec<u8>>,
}

impl User {
    fn to_escaped(&self) -> Vec<u8> {
        let mut text = escape(&self.name, Part::UserPassword);
        if let Some(password) = &self.password {
            text.push(b':');
            text.extend(escape(password, Part::UserPassword));
        }
        text
    }
}

#[derive(Default)]
struct Url {
    scheme: Vec<u8>,
    opaque: Vec<u8>,
    user: Option<User>,
    host: Vec<u8>,
    path: Vec<u8>,
    query: Vec<u8>,
    fragment: Vec<u8>,
}

fn cut(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(separator, text) {
        Some(position) => (&text[..position], &text[position + 1..]),
        None => (text, b""),
    }
}

fn parse(text: &[u8]) -> Result<Url, Fault> {
    let (text, fragment) = cut(text, b'#');
    let mut url = parse_without_fragment(text)?;
    url.fragment = unescape(fragment, Part::Fragment)?;
    Ok(url)
}

fn parse_without_fragment(text: &[u8]) -> Result<Url, Fault> {
    if text.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
        return Err(BAD_URL);
    }
    let mut url = Url::default();
    if text == b"*" {
        url.path = b"*".to_vec();
        return Ok(url);
    }
    let (scheme, rest) = scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (rest, query) = cut(rest, b'?');
    url.query = query.to_vec();
    if !rest.starts_with(b"/") {
        if !url.scheme.is_empty() {
            url.opaque = rest.to_vec();
            return Ok(url);
        }
        if cut(rest, b'/').0.contains(&b':') {
            return Err(BAD_URL);
        }
    }
    let mut path = rest;
    if rest.starts_with(b"//") && (!url.scheme.is_empty() || !rest.starts_with(b"///")) {
        let end = memchr::memchr(b'/', &rest[2..]).map_or(rest.len(), |at| at + 2);
        path = &rest[end..];
        (url.user, url.host) = authority(&url.scheme, &rest[2..end])?;
    }
    url.path = unescape(path, Part::Path)?;
    Ok(url)
}

fn scheme(text: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at > 0 => return Ok((&text[..at], &text[at + 1..])),
            b':' => return Err(BAD_URL),
            _ => break,
        }
    }
    Ok((b"", text))
}

fn authority(scheme: &[u8], text: &[u8]) -> Result<(Option<User>, Vec<u8>), Fault> {
    let Some(at) = memchr::memrchr(b'@', text) else {
        return Ok((None, host(scheme, text)?));
    };
    let host = host(scheme, &text[at + 1..])?;
    let info = &text[..at];
    if !info
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(byte))
    {
        return Err(BAD_URL);
    }
    let (name, password) = cut(info, b':');
    let name = unescape(name, Part::UserPassword)?;
    let password = if info.contains(&b':') {
        Some(unescape(password, Part::UserPassword)?)
    } else {
        None
    };
    Ok((Some(User { name, password }), host))
}

fn host(scheme: &[u8], text: &[u8]) -> Result<Vec<u8>, Fault> {
    match memchr::memrchr(b'[', text) {
        Some(0) => return bracketed_host(text),
        Some(_) => return Err(BAD_URL),
        None => {}
    }
    if let Some(first) = memchr::memchr(b':', text) {
        let last = memchr::memrchr(b':', text).unwrap_or(first);
        let is_strict = matches!(scheme, b"http" | b"https");
        check_port(&text[if is_strict { first } else { last }..])?;
    }
    unescape(text, Part::Host)
}

/// Parses hosts like `[::1]:80` and `[fe80::1%25eth0]`.
fn bracketed_host(text: &[u8]) -> Result<Vec<u8>, Fault> {
    let close = memchr::memrchr(b']', text).ok_or(BAD_URL)?;
    let after = &text[close + 1..];
    check_port(after)?;
    let name = &text[1..close];
    let name = match memchr::memmem::find(name, b"%25") {
        Some(zone) => [
            unescape(&name[..zone], Part::Host)?,
            unescape(&name[zone..], Part::Zone)?,
        ]
        .concat(),
        None => unescape(name, Part::Host)?,
    };
    let (address, zone) = cut(&name, b'%');
    let address = std::str::from_utf8(address).map_err(|_| BAD_URL)?;
    if address.parse::<Ipv6Addr>().is_err() || zone.is_empty() && name.contains(&b'%') {
        return Err(BAD_URL);
    }
    Ok([
        b"[".as_slice(),
        name.as_slice(),
        b"]",
        &unescape(after, Part::Host)?,
    ]
    .concat())
}

fn check_port(text: &[u8]) -> Result<(), Fault> {
    match text {
        [] => Ok(()),
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(BAD_URL),
    }
}

/// Returns the host without port and brackets.
fn hostname(host: &[u8]) -> &[u8] {
    let name = match memchr::memrchr(b':', host) {
        Some(at) if check_port(&host[at..]).is_ok() => &host[..at],
        _ => host,
    };
    match name {
        [b'[', inner @ .., b']'] => inner,
        _ => name,
    }
}

/// `urlParse`: returns the parts of a URL as a dict.
pub(crate) fn parse_to_map(env: &mut Environment<'_>, text: &[u8]) -> Outcome {
    let url = parse(text)?;
    let userinfo = url.user.as_ref().map_or_else(Vec::new, User::to_escaped);
    let hostname = hostname(&url.host).to_vec();
    let parts = [
        ("scheme", url.scheme),
        ("host", url.host),
        ("hostname", hostname),
        ("path", url.path),
        ("query", url.query),
        ("opaque", url.opaque),
        ("fragment", url.fragment),
        ("userinfo", userinfo),
    ];
    let entries: Entries = parts
        .into_iter()
        .map(|(key, value)| (Text::from(key), value.into()))
        .collect();
    Ok(env.new_map(entries)?.into())
}

/// `urlJoin`: builds a URL from its parts.
pub(crate) fn join_map(env: &mut Environment<'_>, map: &Map) -> Outcome {
    let mut part = |key: &str| match map.get(key.as_bytes()) {
        None => Ok(Vec::new()),
        Some(Value::Text(text)) => {
            env.gauge.charge_bytes(text.len())?;
            Ok(text.to_vec())
        }
        Some(_) => Err(Fault::failed("the parts of a URL must be strings")),
    };
    let mut url = Url {
        scheme: part("scheme")?,
        host: part("host")?,
        path: part("path")?,
        query: part("query")?,
        opaque: part("opaque")?,
        fragment: part("fragment")?,
        user: None,
    };
    let userinfo = part("userinfo")?;
    if !userinfo.is_empty() {
        let parsed = parse(&[b"proto://", userinfo.as_slice(), b"@host"].concat());
        url.user = parsed.map_err(|_| BAD_USER)?.user;
    }
    Ok(url.join().into())
}

impl Url {
    fn join(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.scheme.is_empty() {
            out.extend_from_slice(&self.scheme);
            out.push(b':');
        }
        if self.opaque.is_empty() {
            self.join_hierarchy(&mut out);
        } else {
            out.extend_from_slice(&self.opaque);
        }
        if !self.query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(&self.query);
        }
        if !self.fragment.is_empty() {
            out.push(b'#');
            out.extend(escape(&self.fragment, Part::Fragment));
        }
        out
    }

    fn join_hierarchy(&self, out: &mut Vec<u8>) {
        let has_authority = !self.host.is_empty() || self.user.is_some();
        if has_authority || !self.scheme.is_empty() && !self.path.is_empty() {
            out.extend_from_slice(b"//");
        }
        if let Some(user) = &self.user {
            out.extend(user.to_escaped());
            out.push(b'@');
        }
        out.extend(escape(&self.host, Part::Host));
        let path = if self.path == b"*" {
            b"*".to_vec()
        } else {
            escape(&self.path, Part::Path)
        };
        if !path.is_empty() && !path.starts_with(b"/") && !self.host.is_empty() {
            out.push(b'/');
        }
        if out.is_empty() && cut(&path, b'/').0.contains(&b':') {
            out.extend_from_slice(b"./");
        }
        out.extend(path);
    }
}
