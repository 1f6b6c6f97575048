//! Go's `text/template` with the functions of sprig v3.3, on bytes and within a budget.
//!
//! Does no I/O. Time and randomness come from the caller; only RSA and ECDSA keys take their randomness from aws-lc-rs.
//! See `README.md` for worked examples and for the differences from Go.
//!
//! ```
//! use template::{Budget, Context, Data, Template};
//!
//! let template = Template::parse("url", "postgres://{{ .user }}:{{ .password | urlquery }}@db/app")?;
//! let data = Data::new([("user", "app"), ("password", "p@ss")]);
//! let mut rng = rand::rand_core::UnwrapErr(rand::rngs::SysRng);
//! let mut context = Context { budget: Budget::default(), now: jiff::Timestamp::UNIX_EPOCH, rng: &mut rng };
//! assert_eq!(template.render(&data, &mut context)?, b"postgres://app:p%40ss@db/app");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ast;
mod budget;
mod certificate;
mod dates;
mod environment;
mod error;
mod eval;
mod fields;
mod fmt;
mod functions;
mod fuzz;
mod json;
mod lex;
mod methods;
mod number;
mod parse;
mod quote;
mod regexes;
mod runes;
mod semver;
mod template;
mod text;
mod url;
mod value;
mod work;

pub use budget::{Budget, Interrupted, Meter, ParseBudget, Unmetered, cost};
pub use environment::Context;
pub use error::{ErrorKind, Limit, ParseError, RenderError};
#[doc(hidden)]
pub use fuzz::fuzz;
pub use template::{Data, Template};

/// Returns the names of all functions, for documentation and tests.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    functions::names()
}
