//! Parses flags and environment variables with the syntax of upstream's programs.
//!
//! Implements Go's grammar with clap: `--flag value` and `--flag=value`; switches take a value only after `=` (`1`,
//! `t`, `true`, …); short flags combine; if a flag is repeated the last one counts, except for lists, which collect all
//! values ([`Kind::List`] and [`Kind::Paths`] also accept commas). A flag may have an environment variable
//! `SEALED_SECRETS_<NAME>`. The command line overrides it; for lists, the items of the command line follow those of the
//! variable. A variable whose value cannot be parsed is ignored, as in upstream, but with a warning; if the flag is
//! [strict](Flag::strict), it is refused.
//!
//! The environment is an argument, so that parsing is a pure function.

mod duration;
mod value;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jiff::SignedDuration;

pub use duration::{DurationError, parse_duration};
pub use value::Kind;
use value::Value;

/// Prefix of every environment variable.
pub const VARIABLE_PREFIX: &str = "SEALED_SECRETS_";

/// One flag of a program.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Long name, without dashes.
    pub name: &'static str,
    /// Short name, one letter.
    pub short: Option<char>,
    /// Type of the value.
    pub kind: Kind,
    /// Default value, in the flag's own syntax; empty for an empty string or list.
    pub default: &'static str,
    /// Help text, one sentence.
    pub help: &'static str,
    /// Whether the flag is omitted from the help page.
    pub hidden: bool,
    /// Whether an environment variable can set the flag.
    pub variable: bool,
    /// Whether an empty argument or a variable that cannot be parsed is refused: see [`Flag::strict`].
    pub strict: bool,
}

impl Flag {
    /// Creates a flag with an environment variable and without a short name, shown in the help page.
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

    /// Adds a short name.
    #[must_use]
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// Omits the flag from the help page.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Removes the environment variable.
    #[must_use]
    pub const fn without_variable(mut self) -> Self {
        self.variable = false;
        self
    }

    /// Makes a flag strict, for security settings: an empty value on the command line, or an environment variable that
    /// cannot be parsed, is refused, so that the program never runs without the protection. An empty environment
    /// variable counts as not set.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Returns the name of the flag's environment variable.
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
    /// Name of the program on the command line.
    pub name: &'static str,
    /// Purpose, one sentence.
    pub about: &'static str,
    /// Text below the flags in the help page; may be empty.
    pub after_help: &'static str,
    /// The flags, in the order of the help page.
    pub flags: &'static [Flag],
}

/// Why a program ends after it has parsed its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The user requested help: print to stdout, exit 0.
    Help(String),
    /// The arguments are invalid: print to stderr, exit 2.
    Usage(String),
    /// The arguments are well-formed, but contradict each other or cannot be fulfilled, or a strict flag has no usable
    /// value: print to stderr, exit 1.
    Refused(String),
}

/// The parsed values of all flags. The methods that return a value panic if the program has no flag of that name and
/// kind.
#[derive(Debug)]
pub struct Flags {
    values: BTreeMap<&'static str, Value>,
    /// The names of the flags that the command line or a variable sets.
    names_set: Vec<&'static str>,
    warnings: Vec<String>,
}

impl Program {
    /// Parses arguments (without the program's name) and environment variables.
    ///
    /// # Errors
    ///
    /// Returns [`Stop`] if the user requested help, if an argument is unknown, malformed or positional, or if a strict
    /// flag is empty or its variable cannot be parsed.
    pub fn parse<V: Into<OsString>>(
        &self,
        args: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<V>,
    ) -> Result<Flags, Stop> {
        let variable = |name: &str| variable(name).map(Into::into);
        let matches = self
            .command()
            .try_get_matches_from(args)
            .map_err(|error| stop_from(&error))?;
        let mut flags = Flags {
            values: BTreeMap::new(),
            names_set: Vec::new(),
            warnings: Vec::new(),
        };
        for flag in self.flags {
            flags.read_flag(flag, &matches, &variable)?;
        }
        Ok(flags)
    }

    /// Returns the clap command of the program.
    pub fn command(&self) -> Command {
        Command::new(self.name)
            .about(self.about)
            .after_help(self.after_help)
            .no_binary_name(true)
            .args_override_self(true)
            .args(self.flags.iter().map(clap_argument))
    }
}

fn clap_argument(flag: &Flag) -> Arg {
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
        Kind::List | Kind::Paths | Kind::Repeated => {
            arg.action(ArgAction::Append).allow_hyphen_values(true)
        }
        _ => arg.action(ArgAction::Set).allow_hyphen_values(true),
    }
    .value_name(flag.kind.placeholder())
    .value_parser(value_parser!(OsString))
}

fn stop_from(error: &clap::Error) -> Stop {
    let text = error.render().to_string();
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp => Stop::Help(text),
        _ => Stop::Usage(text),
    }
}

impl Flags {
    fn read_flag(
        &mut self,
        flag: &Flag,
        matches: &ArgMatches,
        variable: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), Stop> {
        let mut value = flag
            .kind
            .parse(OsStr::new(flag.default))
            .unwrap_or_else(|_| flag.kind.zero());
        if let Some(text) = flag
            .variable
            .then(|| variable(&flag.variable_name()))
            .flatten()
            .filter(|text| !flag.strict || !text.is_empty())
        {
            match flag.kind.parse(&text) {
                Ok(from_variable) => {
                    self.names_set.push(flag.name);
                    value = from_variable;
                }
                Err(expected) if flag.strict => return Err(unreadable_error(flag, expected)),
                Err(expected) => self.warnings.push(format!(
                    "ignoring {}: its value is not valid; expected {expected}",
                    flag.variable_name()
                )),
            }
        }
        if matches.value_source(flag.name) == Some(ValueSource::CommandLine) {
            let args = matches
                .get_many::<OsString>(flag.name)
                .into_iter()
                .flatten();
            for arg in args {
                if flag.strict && arg.is_empty() {
                    return Err(empty_error(flag));
                }
                let arg = flag
                    .kind
                    .parse(arg)
                    .map_err(|expected| usage_error(flag, arg, expected))?;
                value = value.merge(arg);
            }
            self.names_set.push(flag.name);
        }
        self.values.insert(flag.name, value);
        Ok(())
    }

    /// Returns whether the command line or a valid environment variable sets the flag.
    pub fn is_set(&self, name: &str) -> bool {
        self.names_set.contains(&name)
    }

    /// Returns a warning for each environment variable that was ignored.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the value of a [`Kind::Switch`].
    pub fn switch(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Switch(is_on) => *is_on,
            _ => panic_on_undefined_flag(name),
        }
    }

    /// Returns the value of a [`Kind::Text`] or [`Kind::Choice`].
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            _ => panic_on_undefined_flag(name),
        }
    }

    /// Returns the value of a [`Kind::Text`] or [`Kind::Choice`], or `None` if it is empty.
    pub fn text_if_any(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Returns the value of a [`Kind::Path`], or `None` if it is empty.
    pub fn path_if_any(&self, name: &str) -> Option<&OsStr> {
        match self.value(name) {
            Value::Path(path) => Some(path.as_os_str()).filter(|path| !path.is_empty()),
            _ => panic_on_undefined_flag(name),
        }
    }

    /// Returns the value of a [`Kind::Paths`].
    pub fn paths(&self, name: &str) -> &[OsString] {
        match self.value(name) {
            Value::Paths(paths) => paths,
            _ => panic_on_undefined_flag(name),
        }
    }

    /// Returns the value of a [`Kind::List`] or [`Kind::Repeated`].
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Value::List(items) => items,
            _ => panic_on_undefined_flag(name),
        }
    }

    /// Returns the value of a [`Kind::Int`] or [`Kind::Count`].
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(number) => *number,
            _ => panic_on_undefined_flag(name),
        }
    }

    /// Returns the value of a [`Kind::Float`].
    pub fn float(&self, name: &str) -> f64 {
        match self.value(name) {
            Value::Float(number) => *number,
            _ => panic_on_undefined_flag(name),
        }
    }

    /// Returns the value of a [`Kind::Duration`].
    pub fn duration(&self, name: &str) -> SignedDuration {
        match self.value(name) {
            Value::Duration(duration) => *duration,
            _ => panic_on_undefined_flag(name),
        }
    }

    fn value(&self, name: &str) -> &Value {
        self.values
            .get(name)
            .unwrap_or_else(|| panic_on_undefined_flag(name))
    }
}

fn usage_error(flag: &Flag, arg: &OsStr, expected: &str) -> Stop {
    #[expect(
        clippy::unnecessary_debug_formatting,
        reason = "quoted and escaped, as Go does with %q"
    )]
    Stop::Usage(format!(
        "error: invalid value {arg:?} for --{}: expected {expected}\n",
        flag.name
    ))
}

fn empty_error(flag: &Flag) -> Stop {
    let name = flag.name;
    Stop::Refused(format!("--{name} is empty: set a value, or omit the flag"))
}

fn unreadable_error(flag: &Flag, expected: &str) -> Stop {
    let variable = flag.variable_name();
    Stop::Refused(format!(
        "invalid value of {variable}: expected {expected}; correct the value, or unset the variable"
    ))
}

#[expect(
    clippy::panic,
    reason = "a programming error in the flag table, which any test of the program finds"
)]
fn panic_on_undefined_flag(name: &str) -> ! {
    panic!("--{name} is not a flag of that kind in this program's table")
}

#[cfg(test)]
mod tests;
