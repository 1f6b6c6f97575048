//! The namespace and name of an object.

use std::fmt;

/// Namespace and name of a SealedSecret, and of the Secret that it produces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// `metadata.namespace` of both objects.
    pub namespace: String,
    /// `metadata.name` of both objects.
    pub name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::ObjectId;

    /// Returns the id of an object in the namespace `ns`.
    pub(crate) fn id(name: &str) -> ObjectId {
        ObjectId {
            namespace: "ns".into(),
            name: name.into(),
        }
    }
}
