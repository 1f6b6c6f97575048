//! `.seal.yaml`: rules that determine how the files of a path are sealed. Only the first rule whose
//! path matches a file applies.
//!
//! ```yaml
//! rules:
//! - path: prod/**
//!   certificate: certs/prod.pem # or a URL; or `context: prod` for the controller of that cluster
//!   fingerprint: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
//!   retired: []                 # fingerprints of keys that must no longer be used
//!   namespace: shop
//!   scope: strict               # the only scope; the default for new objects if allowedScopes lists several
//!   allowedScopes: [strict]
//!   keySize: 4096               # minimum number of bits
//!   format: v2                  # the format of new values; v1 if not given
//!   recipients: [cluster]       # the keys that v2 values are sealed for
//!   rotateBy: 90d               # the period after which new values are overdue
//!   ignore: {plain-secret: keys of the tests} # rules of `seal lint` to ignore, with the reason
//! - path: "*.yaml"
//!   certificate: certs/dev.pem
//! ```
//!
//! A path is a pattern for the file's path relative to the directory of `.seal.yaml`: `*` and `?`
//! match within one name, `**` spans directories, `{a,b}` matches either. A pattern without a slash
//! matches at any depth; one that ends with a slash matches everything below.

mod file;
mod format;
mod parse;
mod v2;

use std::ffi::OsString;

use globset::GlobMatcher;
use shared::key::{Certificate, Fingerprint};
use shared::rotate_by::Period;
use shared::scope::Scope;
use shared::v2::{AnyKeyId, KeyId, Recipient as _};

use crate::recipients::RecipientSource;

pub use file::{FILE_NAME, RulesFile, RulesFileError};
pub use format::{SealedFormat, UnknownFormat};
pub use parse::{RuleProblem, RulesError, parse};

/// The rules of one file, in order.
#[derive(Debug, Clone, Default)]
pub struct Rules(pub Vec<Rule>);

/// How files that match a path are sealed.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The position among the rules, counted from one.
    pub number: usize,
    /// The line where the rule begins, counted from one.
    pub line: usize,
    /// The pattern as written.
    pub path: String,
    matcher: GlobMatcher,
    /// The source of the certificate; `None` if the rule names none.
    pub certificate: Option<Source>,
    /// The fingerprints of the accepted certificates. If this list and [`Self::key_ids`] are empty, every certificate
    /// is accepted.
    pub fingerprints: Vec<Fingerprint>,
    /// The accepted keys, by their identifier in v2.
    pub key_ids: Vec<AnyKeyId>,
    /// Keys that must no longer be used.
    pub retired: Vec<Fingerprint>,
    /// Keys that must no longer be used, by their identifier in v2.
    pub retired_ids: Vec<AnyKeyId>,
    /// The only allowed namespace; `None` allows any.
    pub namespace: Option<String>,
    /// The scope of new objects, and the only allowed one if `allowed_scopes` is empty.
    pub scope: Option<Scope>,
    /// The allowed scopes. If empty, only [`Self::scope`] is allowed or, without it, any scope.
    pub allowed_scopes: Vec<Scope>,
    /// The minimum number of bits of the certificate's key; `None` allows any that can seal.
    pub key_size: Option<usize>,
    /// The format of new values; `None` is v1.
    pub format: Option<SealedFormat>,
    /// The keys that v2 values are sealed for; if empty, the key of the certificate or, without a certificate, the key
    /// that the controller prefers.
    pub recipients: Vec<RecipientSource>,
    /// Whether v2 values may have classical recipients in addition to post-quantum recipients.
    pub allow_classical: bool,
    /// Whether v2 values are bound to the template of their object.
    pub bind_template: bool,
    /// Whether the values can never become a Secret.
    pub never_secret: bool,
    /// The period after which new values are overdue; `None` if the rule sets none.
    pub rotate_by: Option<Period>,
    /// Rules of `seal lint` to ignore, each with the reason.
    pub ignore: Vec<(String, String)>,
}

/// The source of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The path of a file, or a URL. In a rule, the path is relative to the directory of `.seal.yaml`.
    At(OsString),
    /// The controller of a cluster.
    Controller {
        /// The context in the kubeconfig; `None` for the current one.
        context: Option<String>,
        /// The name of the controller's Service, if not the default.
        name: Option<String>,
        /// The namespace of the controller's Service, if not the default.
        namespace: Option<String>,
    },
}

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The namespace of the object is not the one that the rule requires.
    #[error(
        "{rule} requires the namespace {required:?}, but the object is in {found:?}\n\
         hint: pass --namespace {required}, or change the rule"
    )]
    Namespace {
        /// The description of the rule, from [`Rule::describe`].
        rule: String,
        /// The namespace of the rule.
        required: String,
        /// The namespace of the object.
        found: String,
    },
    /// The scope is not allowed.
    #[error(
        "{rule} allows only the scope {allowed}, but the object has the scope {found}\n\
         hint: seal with an allowed --scope, or add {found} to `allowedScopes` of the rule"
    )]
    Scope {
        /// The description of the rule, from [`Rule::describe`].
        rule: String,
        /// The allowed scopes, joined by `or`.
        allowed: String,
        /// The scope of the object.
        found: Scope,
    },
    /// The rule does not accept the certificate.
    #[error(
        "{rule} requires a certificate with the {required}, but this certificate has the fingerprint {found}\n\
         hint: use --cert to pass the certificate with the required fingerprint; change the rule only if you trust \
         this certificate"
    )]
    Fingerprint {
        /// The description of the rule, from [`Rule::describe`].
        rule: String,
        /// A noun, and the accepted fingerprints and key identifiers, joined by `or`: `fingerprint SHA256:…`.
        required: String,
        /// The fingerprint of the certificate.
        found: Fingerprint,
    },
    /// The certificate's key is retired.
    #[error(
        "{rule} lists the key {found} as retired\nhint: fetch the current certificate with `seal cert fetch -o FILE --replace`"
    )]
    Retired {
        /// The description of the rule, from [`Rule::describe`].
        rule: String,
        /// The fingerprint of the certificate.
        found: Fingerprint,
    },
    /// The rule does not accept the key of a recipient.
    #[error(
        "{rule} requires one of the keys {required}, but this key is {found}\n\
         hint: add the identifier to `fingerprint` of the rule only if you trust this key"
    )]
    KeyId {
        /// The description of the rule, from [`Rule::describe`].
        rule: String,
        /// The accepted fingerprints and key identifiers, joined by `or`.
        required: String,
        /// The identifier of the key.
        found: KeyId,
    },
    /// The key of a recipient is retired.
    #[error(
        "{rule} lists the key {found} as retired\nhint: replace the recipient, or remove the key from `retired` of the rule"
    )]
    RetiredKey {
        /// The description of the rule, from [`Rule::describe`].
        rule: String,
        /// The identifier of the key.
        found: KeyId,
    },
    /// The certificate's key is too small.
    #[error(
        "{rule} requires a key of at least {required} bits, but this key has {found}\n\
         hint: pass the certificate of a larger key with --cert, or lower `keySize` in the rule"
    )]
    KeySize {
        /// The description of the rule, from [`Rule::describe`].
        rule: String,
        /// The minimum that the rule sets.
        required: usize,
        /// The number of bits of the certificate's key.
        found: usize,
    },
}

impl Rules {
    /// Returns the first rule that matches. `path` is relative to the directory of the rules, with
    /// slashes.
    pub fn for_path(&self, path: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.matcher.is_match(path))
    }
}

/// Returns whether one of the short or full identifiers belongs to the key.
fn contains_key(ids: &[AnyKeyId], key: &KeyId) -> bool {
    ids.iter().any(|id| id.is_of(key))
}

impl Rule {
    /// Describes the rule, for messages.
    pub fn describe(&self) -> String {
        format!(
            "rule {} of {FILE_NAME} (line {}, path {})",
            self.number, self.line, self.path
        )
    }

    /// Checks that the rule allows the namespace of an object. An empty namespace passes.
    ///
    /// # Errors
    ///
    /// Returns [`Violation::Namespace`] if the rule requires another namespace.
    pub fn check_namespace(&self, namespace: &str) -> Result<(), Violation> {
        match &self.namespace {
            Some(required) if !namespace.is_empty() && required != namespace => {
                Err(Violation::Namespace {
                    rule: self.describe(),
                    required: required.clone(),
                    found: namespace.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the rule allows the scope.
    ///
    /// # Errors
    ///
    /// Returns [`Violation::Scope`] if the rule does not allow the scope.
    pub fn check_scope(&self, scope: Scope) -> Result<(), Violation> {
        let allowed = match self.allowed_scopes.as_slice() {
            [] => self.scope.as_slice(),
            several => several,
        };
        if allowed.is_empty() || allowed.contains(&scope) {
            return Ok(());
        }
        let allowed: Vec<String> = allowed.iter().map(Scope::to_string).collect();
        Err(Violation::Scope {
            rule: self.describe(),
            allowed: allowed.join(" or "),
            found: scope,
        })
    }

    /// Checks whether a certificate may be used for sealing.
    ///
    /// # Errors
    ///
    /// Fails if the rule does not accept the certificate, or if the key of the certificate is retired or too small.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<(), Violation> {
        self.check_certificate_unpinned(certificate)?;
        let found = certificate.fingerprint().clone();
        let id = certificate.public_key().key_id();
        let is_accepted = self.fingerprints.contains(&found) || contains_key(&self.key_ids, &id);
        let pins = self.pin_texts();
        if pins.is_empty() || is_accepted {
            return Ok(());
        }
        let noun = if self.key_ids.is_empty() {
            "fingerprint"
        } else {
            "fingerprint or key identifier"
        };
        Err(Violation::Fingerprint {
            rule: self.describe(),
            required: format!("{noun} {}", pins.join(" or ")),
            found,
        })
    }

    /// Like [`Self::check_certificate`], without checking that the fingerprint or the identifier is accepted: the
    /// caller accepts the certificate by other means.
    fn check_certificate_unpinned(&self, certificate: &Certificate) -> Result<(), Violation> {
        let (rule, found) = (self.describe(), certificate.fingerprint().clone());
        let key = certificate.public_key();
        if self.retired.contains(&found) || contains_key(&self.retired_ids, &key.key_id()) {
            return Err(Violation::Retired { rule, found });
        }
        let found = key.modulus_len() * 8;
        match self.key_size {
            Some(required) if found < required => Err(Violation::KeySize {
                rule,
                required,
                found,
            }),
            _ => Ok(()),
        }
    }
}
