//! The place that a value is sealed for.

use super::encoder::{Encoder, Purpose};
use super::id::{first_half, sha256};
use crate::names::{self, NameError};
use crate::scope::Scope;

/// The scope, namespace and name that a value is sealed for, encoded as the bytes that every lock is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    scope: Scope,
    context: Vec<u8>,
}

impl Place {
    /// Returns the place of an object to open, or `None` if the object lacks a namespace or name that the scope
    /// requires: no value can be sealed for such a place.
    pub fn of(scope: Scope, namespace: &str, name: &str) -> Option<Self> {
        let namespace = match scope {
            Scope::ClusterWide => "",
            Scope::Strict | Scope::NamespaceWide => required(namespace)?,
        };
        let name = match scope {
            Scope::Strict => required(name)?,
            Scope::NamespaceWide | Scope::ClusterWide => "",
        };
        Some(Self::with_context(scope, namespace, name))
    }

    /// Returns the cluster-wide place.
    pub(super) fn anywhere() -> Self {
        Self::with_context(Scope::ClusterWide, "", "")
    }

    pub(super) fn with_context(scope: Scope, namespace: &str, name: &str) -> Self {
        let context = Encoder::new(Purpose::Context)
            .fixed(&[scope_byte(scope)])
            .prefixed(namespace.as_bytes())
            .prefixed(name.as_bytes())
            .finish();
        Self { scope, context }
    }

    /// Returns the place to seal for.
    ///
    /// # Errors
    ///
    /// Returns [`NameError`] if the scope requires a namespace or name that the API server does not accept.
    pub fn for_sealing(scope: Scope, namespace: &str, name: &str) -> Result<Self, NameError> {
        if scope != Scope::ClusterWide {
            names::check_namespace(namespace)?;
        }
        if scope == Scope::Strict {
            names::check_object(name)?;
        }
        let missing = || NameError::Namespace(namespace.to_owned());
        Self::of(scope, namespace, name).ok_or_else(missing)
    }

    /// Returns the scope in which the values can be unsealed.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Returns the bytes that locks are bound to.
    pub(super) fn context(&self) -> &[u8] {
        &self.context
    }

    /// Returns the digest for headers, which shows without a key whether a value was sealed for another place.
    pub(super) fn digest(&self) -> [u8; 16] {
        first_half(&sha256(&self.context))
    }
}

fn required(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Returns the byte that represents a scope in headers and places.
pub(super) fn scope_byte(scope: Scope) -> u8 {
    match scope {
        Scope::Strict => 0,
        Scope::NamespaceWide => 1,
        Scope::ClusterWide => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_contains_the_namespace_and_name_that_the_scope_requires() {
        for (scope, want) in [
            (
                Scope::Strict,
                &b"seal/v2/ctx\0\0\0\0\0\x02ns\0\0\0\x01n"[..],
            ),
            (
                Scope::NamespaceWide,
                b"seal/v2/ctx\0\x01\0\0\0\x02ns\0\0\0\0",
            ),
            (Scope::ClusterWide, b"seal/v2/ctx\0\x02\0\0\0\0\0\0\0\0"),
        ] {
            assert_eq!(Place::of(scope, "ns", "n").unwrap().context(), want);
        }
    }

    #[test]
    fn refuses_a_place_without_the_namespace_or_name_that_its_scope_requires() {
        for (scope, namespace, name, want) in [
            (Scope::Strict, "", "n", false),
            (Scope::Strict, "ns", "", false),
            (Scope::NamespaceWide, "", "n", false),
            (Scope::NamespaceWide, "ns", "", true),
            (Scope::ClusterWide, "", "", true),
        ] {
            let is_place = Place::of(scope, namespace, name).is_some();
            assert_eq!(is_place, want, "{scope} {namespace:?} {name:?}");
            let can_seal = Place::for_sealing(scope, namespace, name).is_ok();
            assert_eq!(can_seal, want, "{scope} {namespace:?} {name:?}");
        }
        assert!(Place::for_sealing(Scope::Strict, "a/b", "n").is_err());
        assert!(Place::for_sealing(Scope::Strict, "ns", "N").is_err());
    }
}
