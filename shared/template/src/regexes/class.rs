//! Translates character classes and escapes. The functions return `None` for expressions that Go refuses.

/// Appends a character as a literal, valid inside and outside a class.
pub(super) fn push_literal(out: &mut String, char: char) {
    if char.is_alphanumeric() && char.is_ascii() || !char.is_ascii() {
        out.push(char);
    } else {
        out.extend(["\\x{", &format!("{:x}", u32::from(char)), "}"]);
    }
}

/// Translates the class at the start of `text`; returns its length.
pub(super) fn translate(text: &str, out: &mut String) -> Option<usize> {
    let mut rest = &text[1..];
    out.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        rest = after;
        out.push('^');
    }
    let mut first = true;
    while first || !rest.starts_with(']') {
        if rest.is_empty() {
            return None;
        }
        rest = item(rest, out)?;
        first = false;
    }
    out.push(']');
    Some(text.len() - rest.len() + 1)
}

/// Translates one member of a class; returns the text after it.
fn item<'t>(text: &'t str, out: &mut String) -> Option<&'t str> {
    if text.starts_with("[:")
        && let Some(end) = memchr::memmem::find(&text.as_bytes()[2..], b":]").map(|end| end + 2)
    {
        return posix_class(text, end, out);
    }
    if text.starts_with('\\')
        && matches!(
            text[1..].chars().next()?,
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'p' | 'P'
        )
    {
        let len = escape(text, out, true)?;
        return Some(&text[len..]);
    }
    let (low, rest) = member(text)?;
    push_literal(out, low);
    if let Some(after) = rest
        .strip_prefix('-')
        .filter(|after| !after.is_empty() && !after.starts_with(']'))
    {
        let (high, rest) = member(after)?;
        if high < low {
            return None;
        }
        out.push('-');
        push_literal(out, high);
        return Some(rest);
    }
    Some(rest)
}

/// Translates a POSIX class such as `[:alpha:]` or `[:^alpha:]`. Returns the text after it.
fn posix_class<'t>(text: &'t str, end: usize, out: &mut String) -> Option<&'t str> {
    let name = text[2..end].trim_start_matches('^');
    let names = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    if !names.contains(&name) || text[2..end].len() - name.len() > 1 {
        return None;
    }
    out.push_str(&text[..end + 2]);
    Some(&text[end + 2..])
}

fn member(text: &str) -> Option<(char, &str)> {
    if text.starts_with('\\') {
        return escaped_char(text);
    }
    let char = text.chars().next()?;
    Some((char, &text[char.len_utf8()..]))
}

/// Translates the escape at the start of `text`, a class or a character; returns its length.
pub(super) fn escape(text: &str, out: &mut String, in_class: bool) -> Option<usize> {
    let perl = match text[1..].chars().next()? {
        'd' => Some(("0-9", false)),
        'D' => Some(("0-9", true)),
        's' => Some(("\\t\\n\\x{c}\\r ", false)),
        'S' => Some(("\\t\\n\\x{c}\\r ", true)),
        'w' => Some(("0-9A-Za-z_", false)),
        'W' => Some(("0-9A-Za-z_", true)),
        'p' | 'P' => return property(text, out),
        _ => None,
    };
    match perl {
        Some((members, false)) if in_class => out.push_str(members),
        Some((members, negated)) => {
            out.push_str(if negated { "[^" } else { "[" });
            out.push_str(members);
            out.push(']');
        }
        None => {
            let (char, rest) = escaped_char(text)?;
            push_literal(out, char);
            return Some(text.len() - rest.len());
        }
    }
    Some(2)
}

/// Translates a Unicode class, a general category or a script, such as `\pL`, `\p{Greek}` or `\P{^Lu}`.
fn property(text: &str, out: &mut String) -> Option<usize> {
    let mut negated = text.starts_with("\\P");
    let (name, len) = if let Some(inner) = text[2..].strip_prefix('{') {
        let end = inner.find('}')?;
        (&inner[..end], end + 4)
    } else {
        let char = text[2..].chars().next()?;
        (&text[2..2 + char.len_utf8()], 2 + char.len_utf8())
    };
    let name = match name.strip_prefix('^') {
        Some(name) => {
            negated = !negated;
            name
        }
        None => name,
    };
    let sign = if negated { 'P' } else { 'p' };
    if !name
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || "_- ".contains(char))
    {
        return None;
    }
    let candidates = [
        format!("\\{sign}{{gc={name}}}"),
        format!("\\{sign}{{sc={name}}}"),
    ];
    let valid = candidates
        .into_iter()
        .find(|candidate| regex_syntax::parse(candidate).is_ok())?;
    out.push_str(&valid);
    Some(len)
}

/// Returns the character that an escape represents, and the rest.
fn escaped_char(text: &str) -> Option<(char, &str)> {
    let body = &text[1..];
    let char = body.chars().next()?;
    let rest = &body[char.len_utf8()..];
    let simple = |char| Some((char, rest));
    match char {
        'a' => simple('\x07'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        'x' => hexadecimal_escape(rest),
        '0' => octal(body, 3),
        '1'..='7' if rest.starts_with(|next: char| ('0'..='7').contains(&next)) => octal(body, 3),
        _ if char.is_ascii() && !char.is_ascii_alphanumeric() => simple(char),
        _ => None,
    }
}

fn hexadecimal_escape(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => text.split_at_checked(2)?,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, rest))
}

fn octal(text: &str, max_digits: usize) -> Option<(char, &str)> {
    let len = text
        .bytes()
        .take(max_digits)
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .count();
    let code = u32::from_str_radix(&text[..len], 8).ok()?;
    Some((char::from_u32(code)?, &text[len..]))
}
