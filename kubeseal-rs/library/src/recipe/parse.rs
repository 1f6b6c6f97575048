//! Parses recipes: `KIND[:OPTION,…]`. Errors never quote the argument, since it may be a secret
//! value passed by mistake.

use std::str::FromStr;

use super::password::PasswordError;
use super::{Curve, Password, Recipe};

/// The syntax of recipes, for help and errors.
pub const SYNTAX: &str = "\
password[:LENGTH][,upper=N,lower=N,digits=N,symbols=N,without=CHARS], hex[:BYTES], base64[:BYTES], uuid, \
rsa[:BITS], ed25519, ecdsa[:p256|p384], tls:HOST[,HOST…][,days=N], htpasswd:USER, docker:SERVER,USER";

/// Why an argument is not a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The kind does not exist.
    #[error("unknown recipe\nhint: the valid recipes are {SYNTAX}")]
    Kind,
    /// A recipe of this kind does not have the option.
    #[error(
        "the recipe {0} has an unknown option, not shown since it may be a secret\nhint: the valid recipes are {SYNTAX}"
    )]
    Option(&'static str),
    /// A number is malformed or out of range.
    #[error("{name} must be a number from {from} to {to}")]
    Number {
        /// What the number specifies, such as `the length`.
        name: &'static str,
        /// The smallest allowed number.
        from: usize,
        /// The largest allowed number.
        to: usize,
    },
    /// The size of the RSA key is not supported.
    #[error("an RSA key must have 2048, 3072 or 4096 bits")]
    Bits,
    /// An option of `ecdsa`, `tls`, `htpasswd` or `docker` is missing or malformed. Contains the message.
    #[error("{0}")]
    Part(&'static str),
    /// No password meets the options of the recipe.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl FromStr for Recipe {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let (kind, options) = text.split_once(':').unwrap_or((text, ""));
        let options: Vec<&str> = options
            .split(',')
            .filter(|option| !option.is_empty())
            .collect();
        match kind {
            "password" => password(&options),
            "hex" => bytes("hex", &options).map(Self::Hex),
            "base64" => bytes("base64", &options).map(Self::Base64),
            "uuid" => refuse_options("uuid", &options).map(|()| Self::Uuid),
            "rsa" => rsa(&options),
            "ed25519" => refuse_options("ed25519", &options).map(|()| Self::Ed25519),
            "ecdsa" => ecdsa(&options),
            "tls" => tls(&options),
            "htpasswd" => htpasswd(&options),
            "docker" => docker(&options),
            _ => Err(RecipeError::Kind),
        }
    }
}

fn password(options: &[&str]) -> Result<Recipe, RecipeError> {
    let mut rules = Password::default();
    for (i, option) in options.iter().enumerate() {
        match option.split_once('=') {
            None if i == 0 => rules.length = number(option, "the length", 8, 4096)?,
            Some(("length", text)) => rules.length = number(text, "the length", 8, 4096)?,
            Some(("without", text)) => text.clone_into(&mut rules.without),
            Some((class, text)) => {
                let index = Password::CLASSES.iter().position(|name| *name == class);
                let index = index.ok_or(RecipeError::Option("password"))?;
                rules.minimums[index] = number(text, "the minimum of a character class", 0, 4096)?;
            }
            None => return Err(RecipeError::Option("password")),
        }
    }
    rules.check()?;
    Ok(Recipe::Password(rules))
}

fn bytes(kind: &'static str, options: &[&str]) -> Result<usize, RecipeError> {
    match options {
        [] => Ok(32),
        [count] => number(count, "the number of random bytes", 8, 65536),
        _ => Err(RecipeError::Option(kind)),
    }
}

fn rsa(options: &[&str]) -> Result<Recipe, RecipeError> {
    match options {
        ["2048"] => Ok(Recipe::Rsa(2048)),
        ["3072"] => Ok(Recipe::Rsa(3072)),
        [] | ["4096"] => Ok(Recipe::Rsa(4096)),
        _ => Err(RecipeError::Bits),
    }
}

fn ecdsa(options: &[&str]) -> Result<Recipe, RecipeError> {
    match options {
        [] | ["p256"] => Ok(Recipe::Ecdsa(Curve::P256)),
        ["p384"] => Ok(Recipe::Ecdsa(Curve::P384)),
        _ => Err(RecipeError::Part("the curve must be p256 or p384")),
    }
}

fn tls(options: &[&str]) -> Result<Recipe, RecipeError> {
    let (mut hosts, mut days) = (Vec::new(), 365);
    for option in options {
        match option.split_once('=') {
            Some(("days", text)) => days = number(text, "days", 1, 36500)?,
            Some(_) => return Err(RecipeError::Option("tls")),
            None => hosts.push((*option).to_owned()),
        }
    }
    if hosts.is_empty() {
        return Err(RecipeError::Part(
            "tls requires a host, such as tls:shop.example.com",
        ));
    }
    let days = u32::try_from(days).unwrap_or(365);
    Ok(Recipe::Tls { hosts, days })
}

fn htpasswd(options: &[&str]) -> Result<Recipe, RecipeError> {
    match options {
        [user] if is_user_name(user) => Ok(Recipe::Htpasswd {
            user: (*user).to_owned(),
        }),
        _ => Err(RecipeError::Part(
            "htpasswd requires a user without a colon, such as htpasswd:admin",
        )),
    }
}

fn docker(options: &[&str]) -> Result<Recipe, RecipeError> {
    match options {
        [server, user] if is_user_name(user) => Ok(Recipe::Docker {
            server: (*server).to_owned(),
            user: (*user).to_owned(),
        }),
        _ => Err(RecipeError::Part(
            "docker requires a server and a user, such as docker:registry.example.com,ci",
        )),
    }
}

/// Returns whether a user name contains neither a colon, which separates user and password in both formats, nor a
/// control character.
pub fn is_user_name(user: &str) -> bool {
    !user.contains(':') && !user.chars().any(char::is_control)
}

fn refuse_options(kind: &'static str, options: &[&str]) -> Result<(), RecipeError> {
    if options.is_empty() {
        Ok(())
    } else {
        Err(RecipeError::Option(kind))
    }
}

fn number(text: &str, name: &'static str, from: usize, to: usize) -> Result<usize, RecipeError> {
    let number = text.parse().ok().filter(|n| (from..=to).contains(n));
    number.ok_or(RecipeError::Number { name, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_recipes() {
        let password = |length, minimums, without: &str| {
            Recipe::Password(Password {
                length,
                minimums,
                without: without.into(),
            })
        };
        for (text, want) in [
            ("password", password(32, [1, 1, 1, 0], "")),
            (
                "password:24,symbols=2,without=0O",
                password(24, [1, 1, 1, 2], "0O"),
            ),
            ("password:length=12,upper=0", password(12, [1, 0, 1, 0], "")),
            ("hex", Recipe::Hex(32)),
            ("base64:16", Recipe::Base64(16)),
            ("uuid", Recipe::Uuid),
            ("rsa:2048", Recipe::Rsa(2048)),
            ("ecdsa:p384", Recipe::Ecdsa(Curve::P384)),
            (
                "tls:a.example,10.0.0.1,days=30",
                Recipe::Tls {
                    hosts: vec!["a.example".into(), "10.0.0.1".into()],
                    days: 30,
                },
            ),
            (
                "htpasswd:admin",
                Recipe::Htpasswd {
                    user: "admin".into(),
                },
            ),
            (
                "docker:r.example:5000,ci",
                Recipe::Docker {
                    server: "r.example:5000".into(),
                    user: "ci".into(),
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_invalid_recipes_without_quoting_them() {
        for text in [
            "hunter2",
            "",
            "uuid:hunter2",
            "hex:hunter2",
            "hex:1",
            "rsa:1024",
            "ecdsa:hunter2",
            "tls:",
            "tls:a,hunter2=1",
            "htpasswd:",
            "htpasswd:a:hunter2",
            "docker:hunter2",
            "password:7",
            "password:8,hunter2",
            "password:hunter2=1",
            "password:8,lower=9",
            "password:lower=0,upper=0,digits=0",
        ] {
            let error = text.parse::<Recipe>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(password|hex|tls|docker|rsa)?[:,=a-z0-9.]{0,20}") {
            let _ = text.parse::<Recipe>();
        }
    }
}
