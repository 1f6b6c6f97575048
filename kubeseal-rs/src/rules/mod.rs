//! `.seal.yaml`: rules from path to how files there are sealed. The first rule whose path fits a
//! file applies, alone.
//!
//! ```yaml
//! rules:
//! - path: prod/**
//!   certificate: certs/prod.pem # or a URL; or `context: prod` for the controller of that cluster
//!   fingerprint: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
//!   retired: []                 # fingerprints of keys that must not be used any more
//!   namespace: shop
//!   scope: strict               # the only scope; of what is new, if allowedScopes names several
//!   allowedScopes: [strict]
//!   keySize: 4096               # at least so many bits
//!   ignore: {plain-secret: keys of the tests} # what `seal lint` leaves out, and why
//! - path: "*.yaml"
//!   certificate: certs/dev.pem
//! ```
//!
//! A path is a pattern over the file's path from the folder of `.seal.yaml`: `*` and `?` stay within
//! one name, `**` spans folders, `{a,b}` is either. Without a slash it fits at any depth; with one at
//! its end, everything below.

mod file;
mod parse;

use std::ffi::OsString;

use globset::GlobMatcher;
use shared::key::{Certificate, Fingerprint};
use shared::scope::Scope;

pub use file::{FILE_NAME, RulesFile, RulesFileError};
pub use parse::{RuleProblem, RulesError, parse};

/// The rules of one file, in its order.
#[derive(Debug, Clone, Default)]
pub struct Rules(pub Vec<Rule>);

/// How files on some path are sealed.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its place among the rules, counted from one.
    pub number: usize,
    /// Line of the file where it begins.
    pub line: usize,
    /// The pattern as written.
    pub path: String,
    matcher: GlobMatcher,
    /// Where the certificate comes from.
    pub certificate: Option<Source>,
    /// The certificate must be one of these; any if empty.
    pub fingerprints: Vec<Fingerprint>,
    /// Keys that must not be used any more.
    pub retired: Vec<Fingerprint>,
    /// The only namespace.
    pub namespace: Option<String>,
    /// Scope of what is new, and the only one if no others are allowed.
    pub scope: Option<Scope>,
    /// The only scopes; if empty, [`Self::scope`], and all without one.
    pub allowed_scopes: Vec<Scope>,
    /// Fewest bits of the certificate's key.
    pub key_size: Option<usize>,
    /// Rules of `seal lint` that do not apply, each with the reason.
    pub ignore: Vec<(String, String)>,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A file, or a URL.
    At(OsString),
    /// The controller of a cluster.
    Controller {
        /// Context of the kubeconfig; the current one if none.
        context: Option<String>,
        /// Its Service, if not the usual one.
        name: Option<String>,
        /// Its namespace, if not the usual one.
        namespace: Option<String>,
    },
}

/// Something breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Another namespace.
    #[error("{rule} wants the namespace {wanted:?}, not {found:?}")]
    Namespace {
        /// The rule in words.
        rule: String,
        /// That of the rule.
        wanted: String,
        /// That of the object.
        found: String,
    },
    /// A scope that is not allowed.
    #[error("{rule} allows the scope {allowed}, not {found}")]
    Scope {
        /// The rule in words.
        rule: String,
        /// Those of the rule.
        allowed: String,
        /// That of the object.
        found: Scope,
    },
    /// A certificate that is not the pinned one.
    #[error("{rule} wants the certificate {wanted}, and this one is {found}")]
    Fingerprint {
        /// The rule in words.
        rule: String,
        /// Those of the rule.
        wanted: String,
        /// That of the certificate.
        found: Fingerprint,
    },
    /// A key that is out of use.
    #[error("{rule} calls the key {found} retired; fetch the current certificate")]
    Retired {
        /// The rule in words.
        rule: String,
        /// That of the certificate.
        found: Fingerprint,
    },
    /// A key that is too small.
    #[error("{rule} wants a key of at least {wanted} bits, and this one has {found}")]
    KeySize {
        /// The rule in words.
        rule: String,
        /// That of the rule.
        wanted: usize,
        /// That of the certificate.
        found: usize,
    },
}

impl Rules {
    /// The first rule that fits. `path` goes from the folder of the rules, with slashes.
    pub fn for_path(&self, path: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.matcher.is_match(path))
    }
}

impl Rule {
    /// The rule in words, for messages.
    pub fn in_words(&self) -> String {
        format!(
            "rule {} of {FILE_NAME} (line {}, path {})",
            self.number, self.line, self.path
        )
    }

    /// May an object live in this namespace? Objects that name none, and cluster-wide ones, may.
    ///
    /// # Errors
    ///
    /// [`Broken::Namespace`].
    pub fn check_namespace(&self, namespace: &str) -> Result<(), Broken> {
        match &self.namespace {
            Some(wanted) if !namespace.is_empty() && wanted != namespace => {
                Err(Broken::Namespace {
                    rule: self.in_words(),
                    wanted: wanted.clone(),
                    found: namespace.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// May an object have this scope?
    ///
    /// # Errors
    ///
    /// [`Broken::Scope`].
    pub fn check_scope(&self, scope: Scope) -> Result<(), Broken> {
        let allowed = match self.allowed_scopes.as_slice() {
            [] => self.scope.as_slice(),
            several => several,
        };
        if allowed.is_empty() || allowed.contains(&scope) {
            return Ok(());
        }
        let allowed: Vec<String> = allowed.iter().map(Scope::to_string).collect();
        Err(Broken::Scope {
            rule: self.in_words(),
            allowed: allowed.join(" or "),
            found: scope,
        })
    }

    /// May this certificate seal?
    ///
    /// # Errors
    ///
    /// It is not the pinned one, is retired, or is too small.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<(), Broken> {
        let (rule, found) = (self.in_words(), certificate.fingerprint().clone());
        let bits = certificate.public_key().modulus_len() * 8;
        if self.retired.contains(&found) {
            return Err(Broken::Retired { rule, found });
        }
        if !self.fingerprints.is_empty() && !self.fingerprints.contains(&found) {
            let wanted: Vec<String> = self.fingerprints.iter().map(ToString::to_string).collect();
            let wanted = wanted.join(" or ");
            return Err(Broken::Fingerprint {
                rule,
                wanted,
                found,
            });
        }
        match self.key_size {
            Some(wanted) if bits < wanted => Err(Broken::KeySize {
                rule,
                wanted,
                found: bits,
            }),
            _ => Ok(()),
        }
    }
}
