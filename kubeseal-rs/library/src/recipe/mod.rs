//! Random values by recipe: `password:24,symbols=2`, `hex:16`, `tls:shop.example.com`.
//!
//! A recipe generates one or more items. Public parts, such as a public key or a certificate, are returned separately,
//! since they need no sealing. Randomness and time are arguments, except that key generation and signing draw their
//! randomness inside aws-lc-rs.

mod generate;
mod parse;
mod password;

use shared::plain::Plain;

pub use generate::{GenerateError, GenerationContext, docker_config};
pub use parse::{RecipeError, SYNTAX, is_user_name};
pub use password::Password;

/// A kind of value to generate, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// A password of random characters, with these options.
    Password(Password),
    /// This number of random bytes, in hexadecimal.
    Hex(usize),
    /// This number of random bytes, in base64.
    Base64(usize),
    /// A UUID of version 4 (RFC 9562).
    Uuid,
    /// An RSA key pair with this many bits.
    Rsa(usize),
    /// An Ed25519 key pair.
    Ed25519,
    /// An ECDSA key pair.
    Ecdsa(Curve),
    /// An ECDSA P-256 key and its self-signed certificate.
    Tls {
        /// The DNS names and IP addresses of the certificate; the first is also its common name.
        hosts: Vec<String>,
        /// Validity in days.
        days: u32,
    },
    /// A line of an htpasswd file (bcrypt), and its password.
    Htpasswd {
        /// The user name.
        user: String,
    },
    /// A `config.json` of Docker with one registry.
    Docker {
        /// The host of the registry, possibly with a port.
        server: String,
        /// The user name.
        user: String,
    },
}

/// Curves for ECDSA keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

/// The items that a recipe generated.
#[derive(Debug, Default)]
pub struct GeneratedItems {
    /// The values to seal, each with its item key.
    pub secret: Vec<(String, Plain)>,
    /// The public values, such as a certificate, each with its item key.
    pub public: Vec<(String, String)>,
}

impl Recipe {
    /// Returns whether the recipe accepts a password instead of generating one.
    pub fn accepts_password(&self) -> bool {
        matches!(self, Self::Htpasswd { .. } | Self::Docker { .. })
    }
}
