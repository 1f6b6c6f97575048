//! The API server's requirements for the built-in types of Secret.
//!
//! Item names are public, except in the deprecated `spec.data`, so missing items may be reported to all users. Whether
//! a value has the required form is not public, so names and values are checked separately.

use std::fmt;

use crate::secret::Secret;

/// Maximum size of all values in one Secret that the API server accepts, in bytes.
pub const MAX_SECRET_LEN: usize = 1 << 20;

/// The requirements of one type.
struct Rule {
    type_: &'static str,
    /// Groups of items; at least one item of each group is required.
    items: &'static [&'static [&'static str]],
    form: Form,
}

/// The form required of the values of required items.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Any,
    JsonObject,
    NotEmpty,
}

/// The rules of `ValidateSecret` in Kubernetes. The type of service account tokens requires an annotation and
/// no item; any other type may contain anything.
const RULES: [Rule; 5] = [
    Rule {
        type_: "kubernetes.io/tls",
        items: &[&["tls.crt"], &["tls.key"]],
        form: Form::Any,
    },
    Rule {
        type_: "kubernetes.io/dockerconfigjson",
        items: &[&[".dockerconfigjson"]],
        form: Form::JsonObject,
    },
    Rule {
        type_: "kubernetes.io/dockercfg",
        items: &[&[".dockercfg"]],
        form: Form::JsonObject,
    },
    Rule {
        type_: "kubernetes.io/basic-auth",
        items: &[&["username", "password"]],
        form: Form::Any,
    },
    Rule {
        type_: "kubernetes.io/ssh-auth",
        items: &[&["ssh-privatekey"]],
        form: Form::NotEmpty,
    },
];

/// Items that the type requires are missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Missing {
    type_: &'static str,
    items: Vec<&'static [&'static str]>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a Secret of type {} requires ", self.type_)?;
        for (i, names) in self.items.iter().enumerate() {
            let separator = if i > 0 { " and " } else { "" };
            write!(f, "{separator}the item {}", names.join(" or "))?;
        }
        Ok(())
    }
}

/// A value does not have the form that the type requires. Does not quote the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a Secret of type {type_} requires that the item {item} {}", self.requirement())]
pub struct InvalidValue {
    type_: &'static str,
    item: &'static str,
    must_be_json_object: bool,
}

impl InvalidValue {
    fn requirement(&self) -> &'static str {
        if self.must_be_json_object {
            "is a JSON object"
        } else {
            "is not empty"
        }
    }
}

/// Checks that every item that the type requires exists. `has` returns whether the Secret has an item.
///
/// # Errors
///
/// Returns [`Missing`] if required items are missing.
pub fn check_names(type_: Option<&str>, has: impl Fn(&str) -> bool) -> Result<(), Missing> {
    let Some(rule) = rule(type_) else {
        return Ok(());
    };
    let items = rule.items.iter().copied();
    let items: Vec<_> = items
        .filter(|names| !names.iter().any(|name| has(name)))
        .collect();
    if items.is_empty() {
        return Ok(());
    }
    Err(Missing {
        type_: rule.type_,
        items,
    })
}

/// Checks that the values of required items have the form that the type requires. The result depends on the values, so
/// it is only for users who may read them.
///
/// # Errors
///
/// Returns [`InvalidValue`] for the first value that does not have the required form.
pub fn check_values(secret: &Secret) -> Result<(), InvalidValue> {
    let Some(rule) = rule(secret.type_.as_deref()) else {
        return Ok(());
    };
    let items = rule.items.iter().copied().flatten();
    let invalid_item = items.copied().find(|item| {
        let value = secret.data.get(*item);
        value.is_some_and(|value| !rule.form.is_met_by(value.expose()))
    });
    invalid_item.map_or(Ok(()), |item| {
        Err(InvalidValue {
            type_: rule.type_,
            item,
            must_be_json_object: rule.form == Form::JsonObject,
        })
    })
}

/// Returns the total size of all values in bytes.
pub fn values_len(secret: &Secret) -> usize {
    let values = secret.data.values();
    values.map(|value| value.expose().len()).sum()
}

fn rule(type_: Option<&str>) -> Option<&'static Rule> {
    RULES.iter().find(|rule| Some(rule.type_) == type_)
}

impl Form {
    fn is_met_by(self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::NotEmpty => !value.is_empty(),
            // As in Go, `null` counts as an empty map.
            Self::JsonObject => {
                let text = value.trim_ascii();
                let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok();
                is_json && (text.starts_with(b"{") || text == b"null")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::Plain;

    fn secret(type_: &str, items: &[(&str, &str)]) -> Secret {
        let mut secret = Secret {
            type_: Some(type_.to_owned()),
            ..Secret::default()
        };
        for (item, value) in items {
            let value = Plain::from((*value).to_owned());
            secret.data.insert((*item).to_owned(), value);
        }
        secret
    }

    #[test]
    fn reports_the_items_that_a_type_requires() {
        for (type_, items, want) in [
            ("Opaque", &[][..], None),
            ("example.com/own", &[], None),
            ("kubernetes.io/service-account-token", &[], None),
            ("kubernetes.io/tls", &["tls.crt", "tls.key", "ca.crt"], None),
            ("kubernetes.io/tls", &["tls.crt"], Some("the item tls.key")),
            (
                "kubernetes.io/tls",
                &["a"],
                Some("the item tls.crt and the item tls.key"),
            ),
            (
                "kubernetes.io/dockerconfigjson",
                &[".dockercfg"],
                Some("the item .dockerconfigjson"),
            ),
            (
                "kubernetes.io/dockercfg",
                &[".dockerconfigjson"],
                Some("the item .dockercfg"),
            ),
            ("kubernetes.io/basic-auth", &["password"], None),
            (
                "kubernetes.io/basic-auth",
                &["user"],
                Some("the item username or password"),
            ),
            (
                "kubernetes.io/ssh-auth",
                &["id_rsa"],
                Some("the item ssh-privatekey"),
            ),
        ] {
            let error = check_names(Some(type_), |name| items.contains(&name)).err();
            let want = want.map(|want| format!("a Secret of type {type_} requires {want}"));
            assert_eq!(
                error.map(|error| error.to_string()),
                want,
                "{type_} {items:?}"
            );
        }
        assert_eq!(check_names(None, |_| false), Ok(()));
    }

    #[test]
    fn checks_values_like_the_api_server() {
        let docker = "kubernetes.io/dockerconfigjson";
        for (type_, item, value, is_valid) in [
            (docker, ".dockerconfigjson", "{\"auths\":{}}", true),
            (docker, ".dockerconfigjson", " {} \n", true),
            (docker, ".dockerconfigjson", "null", true),
            (docker, ".dockerconfigjson", "", false),
            (docker, ".dockerconfigjson", "[]", false),
            (docker, ".dockerconfigjson", "{\"auths\":", false),
            (docker, ".dockerconfigjson", "{} {}", false),
            (docker, "other", "hunter2", true),
            ("kubernetes.io/dockercfg", ".dockercfg", "hunter2", false),
            ("kubernetes.io/ssh-auth", "ssh-privatekey", "", false),
            ("kubernetes.io/ssh-auth", "ssh-privatekey", "x", true),
            ("kubernetes.io/tls", "tls.key", "", true),
            ("Opaque", ".dockerconfigjson", "", true),
        ] {
            let result = check_values(&secret(type_, &[(item, value)]));
            assert_eq!(result.is_ok(), is_valid, "{type_} {item} {value:?}");
            let error = result.err().map(|invalid_item| invalid_item.to_string());
            assert!(!error.unwrap_or_default().contains("hunter2"));
        }
    }
}
