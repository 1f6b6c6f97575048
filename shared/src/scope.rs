//! The scope of a sealed value: where the value may be unsealed. In v1, the scope determines the OAEP label, and only
//! the label binds a value to a namespace and a name: v1 binds neither the item key nor the template.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::names::{self, NameError};

/// Annotation of a SealedSecret with cluster-wide scope.
pub const CLUSTER_WIDE_ANNOTATION: &str = "sealedsecrets.bitnami.com/cluster-wide";
/// Annotation of a SealedSecret with namespace-wide scope.
pub const NAMESPACE_WIDE_ANNOTATION: &str = "sealedsecrets.bitnami.com/namespace-wide";

/// Where a sealed value may be unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Only under the name and in the namespace that it was sealed for.
    #[default]
    Strict,
    /// Under any name in its namespace.
    NamespaceWide,
    /// Under any name in any namespace.
    ClusterWide,
}

/// The string is not one of the three scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: strict, namespace-wide, cluster-wide")]
pub struct UnknownScope;

impl Scope {
    /// Every scope, narrowest first.
    pub const ALL: [Self; 3] = [Self::Strict, Self::NamespaceWide, Self::ClusterWide];

    /// Returns the scope that annotations declare. The value must be exactly `true`; if both annotations are
    /// present, the wider scope wins.
    pub fn from_annotations(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let is_set = |name| {
            annotations
                .and_then(|a| a.get(name))
                .is_some_and(|value| value == "true")
        };
        if is_set(CLUSTER_WIDE_ANNOTATION) {
            Self::ClusterWide
        } else if is_set(NAMESPACE_WIDE_ANNOTATION) {
            Self::NamespaceWide
        } else {
            Self::Strict
        }
    }

    /// Sets annotations to declare this scope and no other.
    pub fn annotate(self, annotations: &mut BTreeMap<String, String>) {
        annotations.remove(CLUSTER_WIDE_ANNOTATION);
        annotations.remove(NAMESPACE_WIDE_ANNOTATION);
        if let Some(name) = self.annotation() {
            annotations.insert(name.into(), "true".into());
        }
    }

    /// Returns the annotation that declares this scope; `None` for the strict scope.
    pub fn annotation(self) -> Option<&'static str> {
        match self {
            Self::Strict => None,
            Self::NamespaceWide => Some(NAMESPACE_WIDE_ANNOTATION),
            Self::ClusterWide => Some(CLUSTER_WIDE_ANNOTATION),
        }
    }

    /// Returns the label for sealing a new value: `namespace/name`, `namespace`, or nothing.
    ///
    /// The label contains only names that [`names`] accepts. Otherwise, a namespace-wide value for a namespace
    /// with a slash would have the label of a strict value: `shop/db` is the object `db` in `shop`.
    ///
    /// # Errors
    ///
    /// Returns [`NameError`] for the part of the label that is not a valid name.
    pub fn label_for_sealing(self, namespace: &str, name: &str) -> Result<Label, NameError> {
        if self != Self::ClusterWide {
            names::check_namespace(namespace)?;
        }
        if self == Self::Strict {
            names::check_sealed_object(name)?;
        }
        Ok(self.label(namespace, name))
    }

    /// Returns the label for unsealing a value of this scope: `namespace/name`, `namespace`, or nothing. An empty
    /// namespace results in `/name`, as in upstream.
    ///
    /// For namespace-wide scope and a namespace with a slash, which the API server never has, the label unseals
    /// nothing; otherwise it would equal the label of a strict value.
    pub fn label(self, namespace: &str, name: &str) -> Label {
        Label(match self {
            Self::Strict => format!("{namespace}/{name}"),
            Self::NamespaceWide if namespace.contains('/') => format!("{namespace}\0"),
            Self::NamespaceWide => namespace.to_owned(),
            Self::ClusterWide => String::new(),
        })
    }
}

/// The OAEP label of a value: public bytes that must be equal for sealing and unsealing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label(String);

impl Label {
    /// Returns the bytes that OAEP uses.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::NamespaceWide => "namespace-wide",
            Self::ClusterWide => "cluster-wide",
        })
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    /// Parses the values of `--scope`; the empty string means strict.
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "" | "strict" => Ok(Self::Strict),
            "namespace-wide" => Ok(Self::NamespaceWide),
            "cluster-wide" => Ok(Self::ClusterWide),
            _ => Err(UnknownScope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    /// Attack: an author puts the ciphertext of the strict value `db` in `shop` into a namespace-wide object
    /// of the namespace `shop/db`, and unseals, recovers or re-encrypts it offline.
    #[test]
    fn a_namespace_with_a_slash_unseals_no_strict_value() {
        let strict = Scope::Strict.label("shop", "db");
        assert_ne!(Scope::NamespaceWide.label("shop/db", "evil"), strict);
        assert_ne!(Scope::NamespaceWide.label("shop/db", "db"), strict);
    }

    /// Attack: the author of a namespace-wide value uses the namespace `shop/db`, which results in the label of the
    /// strict value `db` in `shop`.
    #[test]
    fn no_two_targets_share_a_label_for_sealing() {
        let parts = [
            "", "a", "a/b", "/", "a/", "/b", "b", "a.b", "A", "a b", "-", "a\0b", "ä",
        ];
        let names = parts
            .iter()
            .flat_map(|namespace| parts.map(|name| (*namespace, name)));
        let mut targets: BTreeMap<Vec<u8>, (Scope, &str, &str)> = BTreeMap::new();
        for (namespace, name) in names {
            for scope in Scope::ALL {
                let Ok(label) = scope.label_for_sealing(namespace, name) else {
                    continue;
                };
                let target = match scope {
                    Scope::Strict => (scope, namespace, name),
                    Scope::NamespaceWide => (scope, namespace, ""),
                    Scope::ClusterWide => (scope, "", ""),
                };
                let other_target = targets.entry(label.as_bytes().to_vec()).or_insert(target);
                assert_eq!(*other_target, target, "{scope} {namespace:?} {name:?}");
            }
        }
        assert!(
            Scope::NamespaceWide
                .label_for_sealing("shop/db", "x")
                .is_err()
        );
        assert_eq!(
            Scope::Strict.label_for_sealing("shop", "db"),
            Ok(Scope::Strict.label("shop", "db"))
        );
        assert!(Scope::ClusterWide.label_for_sealing("", "").is_ok());
    }

    #[test]
    fn reads_annotations_exactly() {
        for (why, pairs, want) in [
            ("none", vec![], Scope::Strict),
            (
                "namespace",
                vec![(NAMESPACE_WIDE_ANNOTATION, "true")],
                Scope::NamespaceWide,
            ),
            (
                "cluster",
                vec![(CLUSTER_WIDE_ANNOTATION, "true")],
                Scope::ClusterWide,
            ),
            (
                "cluster wins over namespace",
                vec![
                    (NAMESPACE_WIDE_ANNOTATION, "true"),
                    (CLUSTER_WIDE_ANNOTATION, "true"),
                ],
                Scope::ClusterWide,
            ),
            (
                "capital letters do not count",
                vec![(CLUSTER_WIDE_ANNOTATION, "True")],
                Scope::Strict,
            ),
            (
                "the value 1 does not count",
                vec![(CLUSTER_WIDE_ANNOTATION, "1")],
                Scope::Strict,
            ),
        ] {
            assert_eq!(
                Scope::from_annotations(Some(&annotations(&pairs))),
                want,
                "{why}"
            );
        }
        assert_eq!(Scope::from_annotations(None), Scope::Strict);
    }

    #[test]
    fn annotating_declares_exactly_one_scope() {
        for scope in Scope::ALL {
            let mut a = annotations(&[
                (NAMESPACE_WIDE_ANNOTATION, "true"),
                (CLUSTER_WIDE_ANNOTATION, "true"),
                ("other", "stays"),
            ]);
            scope.annotate(&mut a);
            assert_eq!(Scope::from_annotations(Some(&a)), scope);
            assert_eq!(a.len(), 1 + usize::from(scope != Scope::Strict));
        }
    }

    #[test]
    fn labels_equal_upstreams() {
        assert_eq!(Scope::Strict.label("ns", "n").as_bytes(), b"ns/n");
        assert_eq!(Scope::Strict.label("", "n").as_bytes(), b"/n");
        assert_eq!(Scope::NamespaceWide.label("ns", "n").as_bytes(), b"ns");
        assert_eq!(Scope::ClusterWide.label("ns", "n").as_bytes(), b"");
    }

    #[test]
    fn scope_names_round_trip() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert_eq!("".parse(), Ok(Scope::Strict));
        assert_eq!("Strict".parse::<Scope>(), Err(UnknownScope));
    }
}
