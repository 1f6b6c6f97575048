//! Random values by recipe: `password:24,symbols=2`, `hex:16`, `tls:shop.example.com`.
//!
//! A recipe makes one or more items. What is public about them (a public key, a certificate) is told
//! apart, since it may stand in clear. Randomness and time are arguments, except that keys draw
//! theirs inside aws-lc-rs.

mod make;
mod parse;
mod password;

use shared::plain::Plain;

pub use make::{MakeError, Random};
pub use parse::{KINDS, RecipeError};
pub use password::Password;

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// Characters by rules.
    Password(Password),
    /// So many random bytes, in hexadecimal.
    Hex(usize),
    /// So many random bytes, in base64.
    Base64(usize),
    /// A UUID of version 4 (RFC 9562).
    Uuid,
    /// An RSA key pair of so many bits.
    Rsa(usize),
    /// An Ed25519 key pair.
    Ed25519,
    /// An ECDSA key pair.
    Ecdsa(Curve),
    /// A key and its self-signed certificate.
    Tls {
        /// DNS names and IP addresses.
        hosts: Vec<String>,
        /// Days of validity.
        days: u32,
    },
    /// A line of an htpasswd file (bcrypt), and its password.
    Htpasswd {
        /// The user.
        user: String,
    },
    /// A `config.json` of Docker with one registry.
    Docker {
        /// Host of the registry.
        server: String,
        /// The user.
        user: String,
    },
}

/// Curves of ECDSA keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

/// What a recipe made for an item.
#[derive(Debug, Default)]
pub struct Made {
    /// Values by item key.
    pub sealed: Vec<(String, Plain)>,
    /// What anybody may read, by item key.
    pub public: Vec<(String, String)>,
}

impl Recipe {
    /// Does it take a password that is given, instead of a random one?
    pub fn takes_password(&self) -> bool {
        matches!(self, Self::Htpasswd { .. } | Self::Docker { .. })
    }
}
