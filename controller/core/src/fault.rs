//! The kinds of failures that metrics count.

/// A kind of failure. The names equal upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The SealedSecret or its Secret could not be read.
    Fetch,
    /// The SealedSecret is malformed or refused, cannot be unsealed or rendered, or needs more work than one attempt
    /// may take.
    Unseal,
    /// The Secret was not written: the store failed, or the controller refused the write.
    Update,
    /// The controller does not own the Secret.
    Unmanaged,
    /// The status could not be written.
    Status,
}

impl Fault {
    /// All kinds of failures.
    pub const ALL: [Self; 5] = [
        Self::Fetch,
        Self::Unseal,
        Self::Update,
        Self::Unmanaged,
        Self::Status,
    ];

    /// Returns the value of the label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Unseal => "unseal",
            Self::Update => "update",
            Self::Unmanaged => "unmanaged",
            Self::Status => "status",
        }
    }
}
