//! Decides which arguments of template functions do not become part of the output: names, conditions, lengths and
//! separators. All other literals may be values.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Functions with no argument that becomes part of the output.
const FUNCTIONS_WITHOUT_OUTPUT: [&str; 39] = [
    "$.Files.Get",
    "$.Files.Glob",
    ".Files.Get",
    ".Files.Glob",
    "contains",
    "empty",
    "env",
    "eq",
    "expandenv",
    "fail",
    "ge",
    "genCA",
    "genCAWithKey",
    "genPrivateKey",
    "genSelfSignedCert",
    "genSignedCert",
    "gt",
    "has",
    "hasKey",
    "hasPrefix",
    "hasSuffix",
    "kindIs",
    "le",
    "lookup",
    "lt",
    "ne",
    "not",
    "query",
    "randAlpha",
    "randAlphaNum",
    "randAscii",
    "randBytes",
    "randNumeric",
    "regexMatch",
    "requiredEnv",
    "semverCompare",
    "typeIs",
    "until",
    "untilStep",
];

/// Matches a layout of Go, which is a fixed reference date and time. Other letters become part of the output.
static LAYOUT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = "Jan(uary)?|Mon(day)?|MST|2006|15|0?[1-6]|2|002|-?0700|Z?07:?00|[.,]0+|[.,]9+|[Pp][Mm]|T|Z|at";
    Regex::new(&format!("^({words}|[^[:alnum:]])*$")).ok()
});

/// Matches a time zone.
static ZONE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^(UTC|GMT|Local|[A-Z][A-Za-z]+/[A-Z][A-Za-z_/]+)$").ok());

/// The maximum number of letters and digits in a separator, which becomes part of the output.
const MAX_SEPARATOR: usize = 3;

/// Returns whether a function outputs none of its arguments.
pub(super) fn outputs_no_argument(function: &str) -> bool {
    FUNCTIONS_WITHOUT_OUTPUT.contains(&function)
}

/// Returns whether a function does not output the argument at this position. `count` is the number of arguments that
/// follow the function; in a pipeline, the piped value is an additional last argument.
pub(super) fn drops_argument(
    function: &str,
    position: usize,
    count: usize,
    is_piped: bool,
) -> bool {
    match &*without_must(function) {
        "include"
        | "template"
        | "required"
        | "trimPrefix"
        | "trimSuffix"
        | "trimAll"
        | "trunc"
        | "split"
        | "splitList"
        | "splitn"
        | "indent"
        | "nindent"
        | "repeat"
        | "regexFind"
        | "regexFindAll"
        | "regexReplaceAll"
        | "regexReplaceAllLiteral"
        | "pluck"
        | "htpasswd" => position == 0,
        "index" | "get" | "omit" | "pick" | "slice" => position > 0,
        "set" => position == 1,
        "substr" => position < 2,
        // Only the third argument, the main password, is a secret; the result contains none of the arguments.
        "derivePassword" => position != 2,
        "dict" => position.is_multiple_of(2),
        // The last two arguments are the default and the dictionary.
        "dig" => position + if is_piped { 1 } else { 2 } < count,
        function => outputs_no_argument(function),
    }
}

/// Returns the name of a function without the prefix `must`, which only changes how errors are handled: `regexFind` for
/// `mustRegexFind`.
fn without_must(function: &str) -> Cow<'_, str> {
    let rest = function.strip_prefix("must").map(str::chars);
    match rest.and_then(|mut rest| Some((rest.next()?, rest))) {
        Some((first, rest)) => format!("{}{}", first.to_ascii_lowercase(), rest.as_str()).into(),
        None => function.into(),
    }
}

/// Returns whether an argument is a separator or a replacement of at most [`MAX_SEPARATOR`] letters and digits, or the
/// string that `replace` searches for.
pub(super) fn is_separator(function: &str, position: usize, text: &str) -> bool {
    let function = &*without_must(function);
    let is_separator_position = match function {
        "join" => position == 0,
        "replace" => position < 2,
        "regexReplaceAll" | "regexReplaceAllLiteral" => position == 2,
        _ => false,
    };
    is_separator_position
        && (function == "replace" && position == 0 || letter_and_digit_count(text) <= MAX_SEPARATOR)
}

/// Returns whether an argument is the layout or the time zone of a date.
pub(super) fn is_date_format(function: &str, position: usize, text: &str) -> bool {
    match (function, position) {
        ("date" | "dateInZone" | "date_in_zone", 0) => is_match(&LAYOUT, text),
        ("dateInZone" | "date_in_zone", 2) => is_match(&ZONE, text),
        _ => false,
    }
}

fn is_match(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    let pattern = pattern.as_ref();
    pattern.is_some_and(|pattern| pattern.is_match(text))
}

fn letter_and_digit_count(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}

/// Returns whether the value for `key` is a name or an option, in a dictionary that a chart passes to a template of
/// Bitnami's library chart `common`.
pub(super) fn is_common_chart_option(template: &str, key: &str) -> bool {
    let options = [
        "chartName",
        "component",
        "context",
        "customLabels",
        "failOnNew",
        "honorProvidedValues",
        "key",
        "kind",
        "length",
        "providedValues",
        "skipB64enc",
        "skipQuote",
        "strong",
        "subchart",
    ];
    let names_secret = template.starts_with("common.secrets.") && key == "secret";
    names_secret || template.starts_with("common.") && options.contains(&key)
}
