//! The path of a delivered file, relative to the target directory of the receiver.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::text;

/// Maximum size of a component of a path in bytes.
const MAX_COMPONENT: usize = 255;
/// Maximum size of a path in bytes.
const MAX_PATH: usize = 1024;

/// A relative path that stays below the directory to which it is joined.
///
/// No component is empty, `.`, or begins with `..`. Names that begin with `..` are reserved for the receiver, which
/// uses them for the directories and links that replace all files atomically.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FilePath(String);

/// Why a string is not a valid path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is empty.
    #[error("the path of a file is empty")]
    Empty,
    /// The path or a component of it is too long.
    #[error(
        "the path {0:?} is too long: the limits are {MAX_COMPONENT} bytes for a component and {MAX_PATH} bytes in total"
    )]
    TooLong(String),
    /// The path is not relative and normalized, or has a reserved component.
    #[error(
        "the path {0:?} is not relative and normalized: no component may be empty, `.` or begin with `..`"
    )]
    NotNormal(String),
    /// The path contains a control character.
    #[error("the path {0:?} contains a control character")]
    Control(String),
}

impl FilePath {
    /// Returns the path, with `/` between its components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components of the path.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FilePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let path = || text.chars().take(MAX_PATH).collect();
        if text.is_empty() {
            Err(PathError::Empty)
        } else if text.len() > MAX_PATH || text.split('/').any(|part| part.len() > MAX_COMPONENT) {
            Err(PathError::TooLong(path()))
        } else if text.chars().any(char::is_control) {
            Err(PathError::Control(path()))
        } else if text.split('/').any(is_special) {
            Err(PathError::NotNormal(path()))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// Returns whether a component is empty, `.`, or reserved.
fn is_special(component: &str) -> bool {
    component.is_empty() || component == "." || component.starts_with("..")
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    /// Attack: a response or a `SecretProviderClass` names a path outside the target directory, or a name that is
    /// reserved for the receiver.
    #[test]
    fn refuses_paths_that_leave_the_directory() {
        for text in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/..",
            "a/../b",
            "a/./b",
            ".",
            "a//b",
            "a/",
            "./a",
            "..data",
            "..data/x",
            "a/..b",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}b",
        ] {
            assert!(text.parse::<FilePath>().is_err(), "{text:?}");
        }
        for text in [
            "a", ".a", "a..", "a/.b/c", "a b", "ä/ö", "-", "~", "a\\b", "...a",
        ] {
            let is_reserved = text.starts_with("..");
            assert_eq!(text.parse::<FilePath>().is_err(), is_reserved, "{text:?}");
        }
    }

    #[test]
    fn limits_the_length_of_components_and_paths() {
        let component = |len: usize| "a".repeat(len);
        let path = |components: usize| vec![component(255); components].join("/");
        for (text, is_accepted) in [
            (component(255), true),
            (component(256), false),
            (format!("x/{}", component(256)), false),
            (path(4), true),
            (format!("{}/b", path(4)), false),
        ] {
            assert_eq!(
                text.parse::<FilePath>().is_ok(),
                is_accepted,
                "{}",
                text.len()
            );
        }
    }

    proptest! {
        /// Attack: a response names a path that leaves the target directory under the rules of the operating system.
        #[test]
        fn every_accepted_path_has_only_normal_components(text in r"[./a\\\x00]{0,12}|\PC{0,12}") {
            if let Ok(path) = text.parse::<FilePath>() {
                let components: Vec<_> = Path::new(path.as_str()).components().collect();
                prop_assert!(components.iter().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(components.len(), path.components().count());
                let joined: Vec<_> = components.iter().map(|part| part.as_os_str().to_str().unwrap()).collect();
                prop_assert_eq!(joined.join("/"), text);
            }
        }
    }
}
