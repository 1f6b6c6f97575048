//! The types of Secret that an author may create.

use std::collections::BTreeSet;

use shared::secret::Secret;

use super::Violation;
use crate::token_secrets;

/// Secret types that can grant the author of a SealedSecret access beyond the sealed values.
pub const RISKY_TYPES: [&str; 2] = [token_secrets::TYPE, "bootstrap.kubernetes.io/token"];

/// Returns the type of the Secret if it is one of the [`RISKY_TYPES`].
pub fn risky_type(secret: &Secret) -> Option<&'static str> {
    let type_ = secret.type_.as_deref();
    RISKY_TYPES.into_iter().find(|risky| Some(*risky) == type_)
}

/// The allowed Secret types: all except the [`RISKY_TYPES`] and the types that the administrator forbids. The
/// administrator can allow a risky type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeRules {
    forbidden: BTreeSet<String>,
    allowed: BTreeSet<String>,
}

/// Why a list of types is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeRulesError {
    /// The type is allowed by default, so allowing it has no effect. The administrator may have intended a list of all
    /// allowed types.
    #[error(
        "{0:?} is not one of the types that are refused by default: {risky}",
        risky = RISKY_TYPES.join(" and ")
    )]
    NotRisky(String),
    /// The type is both allowed and forbidden.
    #[error("{0:?} is also in --forbid-secret-types; remove it from one of the two lists")]
    Forbidden(String),
}

impl TypeRules {
    /// Parses two comma-separated lists of types.
    ///
    /// # Errors
    ///
    /// Returns [`TypeRulesError`] if `allowed` contains a type that is allowed by default or also forbidden.
    pub fn read(forbidden: &str, allowed: &str) -> Result<Self, TypeRulesError> {
        let parse_list = |text: &str| -> BTreeSet<String> {
            let types = text.split(',').map(str::trim);
            types
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let rules = Self {
            forbidden: parse_list(forbidden),
            allowed: parse_list(allowed),
        };
        let is_not_risky = |type_: &&String| !RISKY_TYPES.contains(&type_.as_str());
        if let Some(type_) = rules.allowed.iter().find(is_not_risky) {
            return Err(TypeRulesError::NotRisky(type_.clone()));
        }
        match rules.allowed.intersection(&rules.forbidden).next() {
            Some(type_) => Err(TypeRulesError::Forbidden(type_.clone())),
            None => Ok(rules),
        }
    }

    pub(super) fn allow(&self, secret: &Secret) -> Result<(), Violation> {
        if let Some(type_) = secret
            .type_
            .as_ref()
            .filter(|name| self.forbidden.contains(*name))
        {
            return Err(Violation::Type(type_.clone()));
        }
        match risky_type(secret) {
            Some(type_) if !self.allowed.contains(type_) => Err(Violation::RiskyType(type_)),
            _ => Ok(()),
        }
    }
}
