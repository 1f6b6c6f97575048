//! Which arguments of the functions of templates do not become part of the output: names, conditions, lengths and
//! separators. Literals in all other places may be values.

/// Functions with no argument that becomes part of the output.
const NAMING: [&str; 38] = [
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
    "semverCompare",
    "typeIs",
    "until",
    "untilStep",
];

/// The maximum number of letters and digits in a separator, which becomes part of the output.
const MAX_SEPARATOR: usize = 3;

/// Returns whether a function outputs none of its arguments.
pub(super) fn outputs_no_argument(function: &str) -> bool {
    NAMING.contains(&function)
}

/// Returns whether a function does not output the argument at this position. `count` is the number of the arguments
/// that follow the function; in a pipeline, one more follows these.
pub(super) fn is_naming(function: &str, position: usize, count: usize, is_piped: bool) -> bool {
    match function {
        "include" | "template" | "required" | "trimPrefix" | "trimSuffix" | "trimAll" | "trunc"
        | "split" | "splitList" | "splitn" | "indent" | "nindent" | "repeat" | "regexFind"
        | "regexFindAll" | "pluck" | "date" | "dateInZone" | "htpasswd" => position == 0,
        "index" | "get" | "omit" | "pick" | "slice" => position > 0,
        "set" => position == 1,
        "substr" => position < 2,
        "dict" => position.is_multiple_of(2),
        // The last two arguments are the default and the dictionary.
        "dig" => position + if is_piped { 1 } else { 2 } < count,
        _ => outputs_no_argument(function),
    }
}

/// Returns whether an argument is a separator or a pattern if it is short.
pub(super) fn is_separator(function: &str, position: usize, text: &str) -> bool {
    let is_place = match function {
        "join" => position == 0,
        "replace" => position < 2,
        _ => false,
    };
    is_place && (function == "replace" && position == 0 || letters(text) <= MAX_SEPARATOR)
}

fn letters(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}

/// Returns whether a value for this key, which a chart passes to a template of Bitnami's library chart `common`, names
/// something or is an option.
pub(super) fn is_option_of_common(template: &str, key: &str) -> bool {
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
    template.starts_with("common.") && options.contains(&key)
}
