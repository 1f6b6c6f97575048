//! The words and variables of the peer's programs.
//!
//! Go's grammar over clap: `--flag value` and `--flag=value`; switches take a value only after `=`
//! (`1`, `t`, `true`, …); short flags combine; of a repeated flag the last one counts, except for
//! lists, which take commas and repetition. Every flag may have a variable
//! `SEALED_SECRETS_<NAME>`: the command line beats it, lists are appended to it, and a value that
//! cannot be read is warned about and then ignored, as the peer ignores it, unless the flag is
//! [strict](Flag::strict).
//!
//! The environment is passed in, so that this stays a function of its arguments.

mod duration;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use jiff::SignedDuration;

pub use duration::{DurationError, parse_duration};
pub use value::Kind;
use value::Value;

/// What every variable begins with.
pub const VARIABLE_PREFIX: &str = "SEALED_SECRETS_";

/// One flag of a program.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Long name without dashes.
    pub name: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// What it takes.
    pub kind: Kind,
    /// Value when nobody gives one, in the flag's own syntax; empty for an empty text or list.
    pub default: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Left out of the help page.
    pub hidden: bool,
    /// Has a variable.
    pub variable: bool,
    /// Does not count as left out if it is empty or cannot be read.
    pub strict: bool,
}

impl Flag {
    /// A flag with a variable, without short name, shown in the help page.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            short: None,
            kind,
            default,
            help,
            hidden: false,
            variable: true,
            strict: false,
        }
    }

    /// The same with a short name.
    #[must_use]
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// The same, left out of the help page.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The same without variable.
    #[must_use]
    pub const fn without_variable(mut self) -> Self {
        self.variable = false;
        self
    }

    /// The same for what protects: empty, or in a variable that cannot be read, it is refused, so that
    /// nobody goes on without it. An empty variable is one that is not set.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Name of the flag's variable.
    pub fn variable_name(&self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.name.to_uppercase().replace('-', "_")
        )
    }
}

/// A program's name, its purpose in a sentence, and its flags.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// As it is typed.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Shown below the flags; may be empty.
    pub after_help: &'static str,
    /// The flags, in the order of the help page.
    pub flags: &'static [Flag],
}

/// There is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Help was asked for: print to stdout, exit 0.
    Help(String),
    /// The words are wrong: print to stderr, exit 2.
    Usage(String),
    /// The words are right, but do not fit together or ask for what cannot be: print to stderr,
    /// exit 1.
    Refused(String),
}

/// What was asked for.
#[derive(Debug)]
pub struct Flags {
    values: BTreeMap<&'static str, Value>,
    given: Vec<&'static str>,
    warnings: Vec<String>,
}

impl Program {
    /// Reads words (without the program's own name) and variables.
    ///
    /// # Errors
    ///
    /// [`Stop`] if help was asked for, or if words are unknown, malformed or positional.
    pub fn parse(
        &self,
        words: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Flags, Stop> {
        let matches = self
            .command()
            .try_get_matches_from(words)
            .map_err(|error| stop(&error))?;
        let mut flags = Flags {
            values: BTreeMap::new(),
            given: Vec::new(),
            warnings: Vec::new(),
        };
        for flag in self.flags {
            flags.take(flag, &matches, &variable)?;
        }
        Ok(flags)
    }

    /// The same as clap knows it, for completions and manual pages.
    pub fn command(&self) -> Command {
        Command::new(self.name)
            .about(self.about)
            .after_help(self.after_help)
            .no_binary_name(true)
            .args_override_self(true)
            .args(self.flags.iter().map(argument))
    }
}

fn argument(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help(flag.help)
        .hide(flag.hidden);
    let arg = match flag.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match flag.kind {
        Kind::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true),
        Kind::List | Kind::Repeated => arg.action(ArgAction::Append).allow_hyphen_values(true),
        _ => arg.action(ArgAction::Set).allow_hyphen_values(true),
    }
    .value_name(flag.kind.word())
}

fn stop(error: &clap::Error) -> Stop {
    let text = error.render().to_string();
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp => Stop::Help(text),
        _ => Stop::Usage(text),
    }
}

impl Flags {
    fn take(
        &mut self,
        flag: &Flag,
        matches: &ArgMatches,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), Stop> {
        let mut value = flag
            .kind
            .parse(flag.default)
            .unwrap_or_else(|_| flag.kind.zero());
        if let Some(text) = flag
            .variable
            .then(|| variable(&flag.variable_name()))
            .flatten()
            .filter(|text| !flag.strict || !text.is_empty())
        {
            match flag.kind.parse(&text) {
                Ok(from_variable) => {
                    self.given.push(flag.name);
                    value = from_variable;
                }
                Err(expected) if flag.strict => return Err(unreadable(flag, expected)),
                Err(expected) => self.warnings.push(format!(
                    "ignoring {}: its value is not {expected}",
                    flag.variable_name()
                )),
            }
        }
        if matches.value_source(flag.name) == Some(ValueSource::CommandLine) {
            let words = matches.get_many::<String>(flag.name).into_iter().flatten();
            for word in words {
                if flag.strict && word.is_empty() {
                    return Err(empty(flag));
                }
                let word = flag
                    .kind
                    .parse(word)
                    .map_err(|expected| usage(flag, word, expected))?;
                value = value.followed_by(word);
            }
            self.given.push(flag.name);
        }
        self.values.insert(flag.name, value);
        Ok(())
    }

    /// Was the flag or its variable given?
    pub fn given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// Variables that were ignored, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Value of a [`Kind::Switch`].
    pub fn switch(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Switch(on) => *on,
            _ => misuse(name),
        }
    }

    /// Value of a [`Kind::Text`] or [`Kind::Choice`].
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            _ => misuse(name),
        }
    }

    /// Value of a [`Kind::Text`], or nothing if it is empty.
    pub fn text_if_any(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Value of a [`Kind::List`] or [`Kind::Repeated`].
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Value::List(items) => items,
            _ => misuse(name),
        }
    }

    /// Value of a [`Kind::Int`] or [`Kind::Count`].
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(number) => *number,
            _ => misuse(name),
        }
    }

    /// Value of a [`Kind::Float`].
    pub fn float(&self, name: &str) -> f64 {
        match self.value(name) {
            Value::Float(number) => *number,
            _ => misuse(name),
        }
    }

    /// Value of a [`Kind::Duration`].
    pub fn duration(&self, name: &str) -> SignedDuration {
        match self.value(name) {
            Value::Duration(duration) => *duration,
            _ => misuse(name),
        }
    }

    fn value(&self, name: &str) -> &Value {
        self.values.get(name).unwrap_or_else(|| misuse(name))
    }
}

fn usage(flag: &Flag, word: &str, expected: &str) -> Stop {
    Stop::Usage(format!(
        "error: invalid value {word:?} for --{}: expected {expected}\n",
        flag.name
    ))
}

fn empty(flag: &Flag) -> Stop {
    let name = flag.name;
    Stop::Refused(format!(
        "--{name} is empty: give it a value, or leave it out to do without"
    ))
}

fn unreadable(flag: &Flag, expected: &str) -> Stop {
    let variable = flag.variable_name();
    Stop::Refused(format!(
        "{variable} is not {expected}: mend it, or unset it to do without"
    ))
}

#[expect(
    clippy::panic,
    reason = "a mistake in the program's own table, which its first test meets"
)]
fn misuse(name: &str) -> ! {
    panic!("--{name} is not a flag of that kind in this program's table")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        name: "p",
        about: "Tests flags.",
        after_help: "",
        flags: &[
            Flag::new("raw", Kind::Switch, "false", "A switch."),
            Flag::new("update", Kind::Switch, "true", "Another."),
            Flag::new("format", Kind::Text, "json", "A text.").short('o'),
            Flag::new("from-file", Kind::List, "", "A list."),
            Flag::new("size", Kind::Int, "4096", "A number.").short('s'),
            Flag::new(
                "scope",
                Kind::Choice(&["strict", "wider"], "one of: strict, wider"),
                "",
                "A word.",
            ),
            Flag::new("count", Kind::Count, "0", "A number."),
            Flag::new("rate", Kind::Float, "5", "A fraction."),
            Flag::new("period", Kind::Duration, "720h", "A duration."),
            Flag::new("group", Kind::Repeated, "", "A text, or several."),
            Flag::new("pin", Kind::List, "", "What protects.").strict(),
            Flag::new("v", Kind::Text, "", "Hidden.")
                .short('v')
                .hidden()
                .without_variable(),
        ],
    };

    fn parse(words: &[&str], variables: &[(&str, &str)]) -> Result<Flags, Stop> {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        };
        PROGRAM.parse(words.iter().map(OsString::from), variable)
    }

    #[test]
    fn reads_gos_grammar() {
        for (why, words, format, raw) in [
            ("nothing", vec![], "json", false),
            ("separate", vec!["--format", "yaml"], "yaml", false),
            ("with equals", vec!["--format=yaml", "--raw"], "yaml", true),
            ("short", vec!["-oyaml"], "yaml", false),
            ("short with equals", vec!["-o=yaml"], "yaml", false),
            (
                "the last one counts",
                vec!["-o", "x", "--format=y"],
                "y",
                false,
            ),
            (
                "a value that looks like a flag",
                vec!["-o", "--raw"],
                "--raw",
                false,
            ),
            ("an empty value", vec!["--format="], "", false),
            ("a switch with a value", vec!["--raw=T"], "json", true),
            (
                "a switch turned off again",
                vec!["--raw", "--raw=0"],
                "json",
                false,
            ),
        ] {
            let flags = parse(&words, &[]).unwrap();
            assert_eq!(
                (flags.text("format"), flags.switch("raw")),
                (format, raw),
                "{why}"
            );
        }
    }

    #[test]
    fn reads_every_kind() {
        let words = [
            "--from-file",
            "a,b",
            "--from-file",
            "\"c,d\"",
            "-s",
            "-1",
            "--rate=-0.5",
            "--period",
            "1h30m",
            "--update=false",
        ];
        let flags = parse(&words, &[]).unwrap();
        assert_eq!(flags.list("from-file"), ["a", "b", "c,d"]);
        assert_eq!(flags.int("size"), -1);
        assert!((flags.float("rate") + 0.5).abs() < f64::EPSILON);
        assert_eq!(flags.duration("period"), SignedDuration::from_mins(90));
        assert!(!flags.switch("update"));
        assert!(flags.given("size") && !flags.given("raw"));
    }

    #[test]
    fn the_command_line_beats_variables_and_appends_to_lists() {
        let variables = [
            ("SEALED_SECRETS_FORMAT", "yaml"),
            ("SEALED_SECRETS_SIZE", "2048"),
            ("SEALED_SECRETS_FROM_FILE", "x"),
            ("SEALED_SECRETS_V", "9"),
        ];
        let flags = parse(&["--format", "json", "--from-file", "y"], &variables).unwrap();
        assert_eq!(flags.text("format"), "json");
        assert_eq!(flags.int("size"), 2048);
        assert_eq!(flags.list("from-file"), ["x", "y"]);
        assert_eq!(flags.text("v"), "");
        assert!(flags.given("size"));
    }

    #[test]
    fn what_is_only_repeated_keeps_its_commas() {
        let variables = [("SEALED_SECRETS_GROUP", "cn=a,ou=b")];
        let flags = parse(&["--group", "c,\"d", "--group="], &variables).unwrap();
        assert_eq!(flags.list("group"), ["cn=a,ou=b", "c,\"d"]);
        assert!(
            parse(&[], &[("SEALED_SECRETS_GROUP", "")])
                .unwrap()
                .list("group")
                .is_empty()
        );
    }

    #[test]
    fn a_strict_flag_is_not_lost_when_it_is_empty_or_cannot_be_read() {
        let variable = |value| [("SEALED_SECRETS_PIN", value)];
        for (words, variables, want) in [
            (vec!["--pin="], vec![], "--pin is empty"),
            (vec!["--pin", "a", "--pin", ""], vec![], "--pin is empty"),
            (vec!["--pin", ""], variable("a").to_vec(), "--pin is empty"),
            (
                vec![],
                variable("\"a").to_vec(),
                "SEALED_SECRETS_PIN is not a list",
            ),
            (
                vec!["--pin=a"],
                variable("\"a").to_vec(),
                "SEALED_SECRETS_PIN is not a list",
            ),
        ] {
            let Err(Stop::Refused(text)) = parse(&words, &variables) else {
                unreachable!("{words:?}")
            };
            assert!(text.starts_with(want), "{text}");
        }
        let unset = parse(&[], &variable("")).unwrap();
        assert!(unset.list("pin").is_empty() && !unset.given("pin") && unset.warnings().is_empty());
        assert_eq!(
            parse(&["--pin=b"], &variable("a")).unwrap().list("pin"),
            ["a", "b"]
        );
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_warned_about_and_the_default_holds() {
        let flags = parse(&[], &[("SEALED_SECRETS_PERIOD", "30d")]).unwrap();
        assert_eq!(flags.duration("period"), SignedDuration::from_hours(720));
        let [warning] = flags.warnings() else {
            unreachable!("one warning")
        };
        assert_eq!(
            warning,
            "ignoring SEALED_SECRETS_PERIOD: its value is not a duration like 720h or 1h30m"
        );
    }

    #[test]
    fn says_what_is_wrong_with_the_words() {
        for (words, want) in [
            (vec!["--nope"], "unexpected argument '--nope'"),
            (vec!["secret.yaml"], "unexpected argument 'secret.yaml'"),
            (
                vec!["--raw=maybe"],
                "invalid value \"maybe\" for --raw: expected true or false",
            ),
            (
                vec!["--scope", "wide"],
                "invalid value \"wide\" for --scope: expected one of: strict, wider",
            ),
            (
                vec!["--count=-1"],
                "invalid value \"-1\" for --count: expected a whole number that is not negative",
            ),
            (
                vec!["--size", "big"],
                "invalid value \"big\" for --size: expected a whole number",
            ),
            (vec!["--format"], "a value is required for '--format"),
        ] {
            let Err(Stop::Usage(text)) = parse(&words, &[]) else {
                unreachable!("{words:?}")
            };
            assert!(text.contains(want), "{text}");
        }
    }

    #[test]
    fn help_shows_what_is_not_hidden() {
        for word in ["--help", "-h"] {
            let Err(Stop::Help(text)) = parse(&[word], &[]) else {
                unreachable!("{word}")
            };
            assert!(
                text.contains("--period") && !text.contains("Hidden"),
                "{text}"
            );
        }
    }
}
