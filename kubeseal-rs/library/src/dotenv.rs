//! Parses files of environment variables: dotenv, as the dotenv libraries read it, and the simpler
//! form that `kubectl` reads.
//!
//! dotenv: `NAME=value` with an optional `export`, comments after `#`, single quotes (taken
//! literally) and double quotes (with `\n`, `\t`, `\r`, `\"`, `\\`, `\$` and an escaped backtick). Quoted values may
//! span several lines. Nothing is expanded: `$OTHER` is kept, and [`Variable::has_dollar`] reports it.

use shared::manifest::{self, ReadProblem};
use shared::plain::Plain;
use zeroize::Zeroizing;

/// A variable of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// The variable's name.
    pub name: String,
    /// The variable's value, without quotes and with escapes resolved; as written in a file that `kubectl` reads.
    pub value: Plain,
    /// The line where the variable begins, counted from one.
    pub line: usize,
    /// Whether the value contains a dollar sign that some libraries would expand: outside single quotes, and not
    /// escaped in double quotes. `false` for a file that `kubectl` reads.
    pub has_dollar: bool,
    /// Whether a comment follows the equals sign, without a value. `false` for a file that `kubectl` reads.
    pub has_comment_as_value: bool,
}

/// A line cannot be parsed. The message never quotes the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct DotenvError {
    /// The line number, counted from one.
    pub line: usize,
    /// Why the line cannot be parsed.
    pub problem: DotenvProblem,
}

/// Why a line cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DotenvProblem {
    /// The text is neither UTF-8 nor UTF-16.
    #[error("the text is neither UTF-8 nor UTF-16\nhint: save the file as UTF-8")]
    NotUnicode,
    /// The text has an unsupported encoding.
    #[error(transparent)]
    UnsupportedEncoding(ReadProblem),
    /// The line contains a carriage return: either a line ending of another system or a part of the value.
    #[error(
        "the line contains a carriage return, which `kubectl` does not treat as a line end\n\
         hint: save the file with line feeds as line ends"
    )]
    CarriageReturn,
    /// The line has no equals sign.
    #[error("the line is neither NAME=value nor a comment")]
    NoValue,
    /// The name is empty or has invalid characters.
    #[error(
        "the name before `=` is empty or contains characters other than letters, digits, `_`, `-` and `.`"
    )]
    Name,
    /// Quotes are not closed.
    #[error("the quotes are never closed")]
    OpenQuotes,
    /// Text follows the closing quote.
    #[error("unexpected text after the closing quote")]
    AfterQuotes,
}

/// Parses a dotenv file.
///
/// # Errors
///
/// Fails at the first line that cannot be parsed.
pub fn parse(bytes: &[u8]) -> Result<Vec<Variable>, DotenvError> {
    let text = text_with_line_feeds(bytes)?;
    let mut remaining = text.as_str();
    let (mut variables, mut line) = (Vec::new(), 1);
    while !remaining.is_empty() {
        let (variable, after) =
            parse_line(remaining).map_err(|problem| DotenvError { line, problem })?;
        if let Some((name, value, has_dollar)) = variable {
            let (_, after_name) = remaining.split_once('=').unwrap_or_default();
            variables.push(Variable {
                name: name.to_owned(),
                value,
                line,
                has_dollar,
                has_comment_as_value: after_name.trim_start_matches([' ', '\t']).starts_with('#'),
            });
        }
        let consumed = &remaining[..remaining.len() - after.len()];
        line += consumed.matches('\n').count();
        remaining = after;
    }
    Ok(variables)
}

/// Parses a file for `kubectl create secret --from-env-file`: each value is the rest of its line after the first `=`,
/// as written.
///
/// # Errors
///
/// Fails at the first line that cannot be parsed. A name without `=` is an error too; `kubectl`
/// would use the environment variable of that name.
pub fn parse_kubectl(bytes: &[u8]) -> Result<Vec<Variable>, DotenvError> {
    let mut variables = Vec::new();
    for (i, text) in text(bytes)?.lines().enumerate() {
        let (line, text) = (i + 1, text.trim_start());
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let to_error = |problem| DotenvError { line, problem };
        let (name, value) = text
            .split_once('=')
            .ok_or(to_error(DotenvProblem::NoValue))?;
        check_name(name).map_err(to_error)?;
        if value.contains('\r') {
            return Err(to_error(DotenvProblem::CarriageReturn));
        }
        variables.push(Variable {
            name: name.to_owned(),
            value: Plain::from(value.to_owned()),
            line,
            has_dollar: false,
            has_comment_as_value: false,
        });
    }
    Ok(variables)
}

/// Decodes the text, and converts CRLF to line feeds, also inside quotes, like the dotenv libraries.
fn text(bytes: &[u8]) -> Result<Zeroizing<String>, DotenvError> {
    let bytes = manifest::as_utf8(bytes);
    if let Some(problem) = manifest::wrong_encoding(&bytes) {
        let problem = DotenvProblem::UnsupportedEncoding(problem);
        return Err(DotenvError { line: 1, problem });
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| DotenvError {
        line: memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count() + 1,
        problem: DotenvProblem::NotUnicode,
    })?;
    Ok(Zeroizing::new(text.replace("\r\n", "\n")))
}

/// Like [`text()`], but a carriage return alone also ends a line, as in the dotenv libraries.
fn text_with_line_feeds(bytes: &[u8]) -> Result<Zeroizing<String>, DotenvError> {
    Ok(Zeroizing::new(text(bytes)?.replace('\r', "\n")))
}

type ParsedLine<'a> = Option<(&'a str, Plain, bool)>;

/// Parses the first variable, or an empty or comment line. Returns the variable, or `None`, and the remaining text.
fn parse_line(text: &str) -> Result<(ParsedLine<'_>, &str), DotenvProblem> {
    let line_end = text.find('\n').map_or(text.len(), |at| at + 1);
    let line = text[..line_end].trim_ascii();
    if line.is_empty() || line.starts_with('#') {
        return Ok((None, &text[line_end..]));
    }
    let equals = text[..line_end].find('=').ok_or(DotenvProblem::NoValue)?;
    let name = text[..equals].trim_ascii();
    let name = match name.strip_prefix("export") {
        Some(remaining) if remaining.starts_with([' ', '\t']) => remaining.trim_start(),
        _ => name,
    };
    check_name(name)?;
    let value = text[equals + 1..].trim_start_matches([' ', '\t']);
    let (value, has_dollar, remaining) = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => parse_quoted(&value[1..], quote)?,
        _ => parse_unquoted(value),
    };
    Ok((Some((name, value, has_dollar)), remaining))
}

fn check_name(name: &str) -> Result<(), DotenvProblem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !name.is_empty() && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(DotenvProblem::Name)
    }
}

/// Parses an unquoted value, which ends at the end of the line or at a `#` that begins the value or follows a space or
/// tab. Returns the value, whether it contains a dollar sign, and the text after the line.
fn parse_unquoted(value: &str) -> (Plain, bool, &str) {
    let end = value.find('\n').unwrap_or(value.len());
    let remaining = value.get(end + 1..).unwrap_or_default();
    let line = &value[..end];
    let comment = line
        .char_indices()
        .find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
    let text = line[..comment.map_or(end, |(at, _)| at)].trim_ascii_end();
    (Plain::from(text.to_owned()), text.contains('$'), remaining)
}

/// Parses a quoted value up to the closing quote, which only a comment may follow. Returns the same as
/// [`parse_unquoted`].
fn parse_quoted(text: &str, quote: char) -> Result<(Plain, bool, &str), DotenvProblem> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut has_dollar = false;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            _ if c == quote => {
                let remaining = after_quotes(&text[at + 1..])?;
                return Ok((
                    Plain::from(value.as_bytes().to_vec()),
                    has_dollar,
                    remaining,
                ));
            }
            '\\' if quote == '"' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$' | '`'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => return Err(DotenvProblem::OpenQuotes),
            },
            _ => {
                has_dollar |= c == '$' && quote == '"';
                value.push(c);
            }
        }
    }
    Err(DotenvProblem::OpenQuotes)
}

fn after_quotes(text: &str) -> Result<&str, DotenvProblem> {
    let end = text.find('\n').unwrap_or(text.len());
    let line = text[..end].trim_ascii();
    if line.is_empty() || line.starts_with('#') {
        Ok(text.get(end + 1..).unwrap_or_default())
    } else {
        Err(DotenvProblem::AfterQuotes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(variables: &[Variable]) -> Vec<(&str, &str, usize)> {
        fn pair(v: &Variable) -> (&str, &str, usize) {
            let text = std::str::from_utf8(v.value.expose()).unwrap();
            (&v.name, text, v.line)
        }
        variables.iter().map(pair).collect()
    }

    #[test]
    fn parses_dotenv_like_its_libraries() {
        for (text, want) in [
            ("", vec![]),
            ("# c\n\nA=1\n", vec![("A", "1", 3)]),
            (
                "export A = b c  # d\r\nB=x#y\r\n",
                vec![("A", "b c", 1), ("B", "x#y", 2)],
            ),
            ("A='a\nb' # c\nB=2", vec![("A", "a\nb", 1), ("B", "2", 3)]),
            ("A=\"a\\nb\\\"\\$\\q\"", vec![("A", "a\nb\"$\\q", 1)]),
            ("A=\nB=''\n", vec![("A", "", 1), ("B", "", 2)]),
            ("A=a=b\nexport=1", vec![("A", "a=b", 1), ("export", "1", 2)]),
            (
                "A=\"a\r\nb\r\n\"\r\nB='x\r\ny'\r\nC=\"\\r\\n\"\r\n",
                vec![("A", "a\nb\n", 1), ("B", "x\ny", 4), ("C", "\r\n", 6)],
            ),
            (
                "A=1\rB=2\r# c\rC='x\ry'\r",
                vec![("A", "1", 1), ("B", "2", 2), ("C", "x\ny", 4)],
            ),
            (
                "A=1\r\nB=2\rC=3\n",
                vec![("A", "1", 1), ("B", "2", 2), ("C", "3", 3)],
            ),
            (
                "A=x\u{a0}\nB=\u{a0}y\u{2003} \t\nC=\u{85}\n",
                vec![
                    ("A", "x\u{a0}", 1),
                    ("B", "\u{a0}y\u{2003}", 2),
                    ("C", "\u{85}", 3),
                ],
            ),
        ] {
            assert_eq!(pairs(&parse(text.as_bytes()).unwrap()), want, "{text:?}");
            for unit in [u16::to_le_bytes, u16::to_be_bytes] {
                let units = std::iter::once(0xfeff).chain(text.encode_utf16());
                let bytes: Vec<u8> = units.flat_map(unit).collect();
                assert_eq!(pairs(&parse(&bytes).unwrap()), want, "UTF-16: {text:?}");
            }
        }
    }

    #[test]
    fn keeps_and_reports_dollar_signs() {
        let variables = parse(b"A=$B\nC='$B'\nD=\"x$B\"\nE=\"\\$B\"").unwrap();
        let reported: Vec<bool> = variables.iter().map(|v| v.has_dollar).collect();
        assert_eq!(reported, [true, false, true, false]);
        assert_eq!(variables[0].value.expose(), b"$B");
    }

    #[test]
    fn errors_name_the_line_and_never_quote_the_value() {
        for (text, line, problem) in [
            ("A=1\nhunter2\n", 2, DotenvProblem::NoValue),
            ("hun ter2=x", 1, DotenvProblem::Name),
            ("A\u{a0}=x", 1, DotenvProblem::Name),
            ("A='x'\u{a0}", 1, DotenvProblem::AfterQuotes),
            ("A='x\ny'\nB=\"hunter2", 3, DotenvProblem::OpenQuotes),
            ("A='x' hunter2", 1, DotenvProblem::AfterQuotes),
            ("A=\"\\", 1, DotenvProblem::OpenQuotes),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!((error.line, error.problem), (line, problem), "{text:?}");
        }
        assert_eq!(parse(b"A=1\nB=\xff").unwrap_err().line, 2);
    }

    #[test]
    fn kubectls_form_takes_values_literally() {
        let variables = parse_kubectl(b"# c\n  A='x' # y \nB=\n\n").unwrap();
        assert_eq!(pairs(&variables), [("A", "'x' # y ", 2), ("B", "", 3)]);
        assert_eq!(
            parse_kubectl(b"A").unwrap_err().problem,
            DotenvProblem::NoValue
        );
        assert_eq!(
            parse_kubectl(b"A=1\rB=2\r").unwrap_err().problem,
            DotenvProblem::CarriageReturn
        );
    }

    #[test]
    fn names_an_unsupported_encoding() {
        let utf16_le =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let mut truncated = utf16_le("A=1\n");
        truncated.pop();
        let mut truncated_with_mark = utf16_le("\u{feff}A=1\n");
        truncated_with_mark.pop();
        let utf32 = |text: &str, unit: fn(u32) -> [u8; 4]| -> Vec<u8> {
            text.chars().flat_map(|c| unit(u32::from(c))).collect()
        };
        for (bytes, want) in [
            (truncated, "UTF-16"),
            (truncated_with_mark, "UTF-16"),
            (utf32("A=1\n", u32::to_le_bytes), "UTF-32"),
            (utf32("\u{feff}A=1\n", u32::to_le_bytes), "UTF-32"),
            (utf32("\u{feff}A=1\n", u32::to_be_bytes), "UTF-32"),
            (utf32("\u{feff}A=\u{fc}\n", u32::to_le_bytes), "UTF-32"),
        ] {
            for read in [parse, parse_kubectl] {
                let error = read(&bytes).unwrap_err().to_string();
                assert!(error.contains(want), "{error}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = (parse(&bytes), parse_kubectl(&bytes));
        }

        #[test]
        fn never_panics_on_text_like_dotenv(text in "([A-Z]{1,2}=?[\"'\\\\$#a \\n]{0,6}\\n?){0,6}") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        // With zero bytes, a short text looks like UTF-16.
        fn quoted_values_round_trip(value in "[^'\\x00]{0,30}") {
            let variables = parse(format!("A='{value}'\n").as_bytes()).unwrap();
            let want = value.replace("\r\n", "\n").replace('\r', "\n");
            proptest::prop_assert_eq!(variables[0].value.expose(), want.as_bytes());
        }
    }
}
