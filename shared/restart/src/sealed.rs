//! Compact forms of SealedSecrets and Namespaces.

use serde_json::Value as Json;

use crate::annotations::{self, SecretTags};
use crate::history::History;

/// The fields of a SealedSecret that are kept. None of them is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    /// The content versions of its Secret.
    pub history: History,
    /// Reloader's annotations on its Secret.
    pub tags: SecretTags,
    /// Whether the annotation enables the refresh of Pods, or disables it (`Some(false)`); `None` if it is not set.
    pub refresh: Option<bool>,
}

impl Sealed {
    /// Reads a SealedSecret as the API server returns it.
    pub fn read(object: &Json) -> Self {
        Self {
            history: History::from_sealed_secret(object),
            tags: SecretTags::from_sealed_secret(object),
            refresh: annotations::refresh(annotations::from_object(object)),
        }
    }
}

/// The settings of a Namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    /// Whether its annotation enables the refresh of Pods.
    pub refresh: bool,
}

impl Namespace {
    /// Reads a Namespace as the API server returns it.
    pub fn read(object: &Json) -> Self {
        let refresh = annotations::refresh(annotations::from_object(object));
        Self {
            refresh: refresh.unwrap_or(false),
        }
    }
}
