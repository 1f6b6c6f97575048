//! Checks of values in Secrets of built-in types: whether the programs that read them can use them. The API server
//! checks only that the items exist. Errors and warnings never quote a value.

use std::sync::Arc;

use go::pem::{self, Block};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::sign::SigningKey;

pub mod ssh;
pub mod tls;

/// Returns the first block with a private key, as Go's `tls.X509KeyPair` finds it.
fn private_key(text: &[u8]) -> Option<Block> {
    let is_key = |block: &Block| block.label.ends_with("PRIVATE KEY");
    pem::blocks(text).find(is_key)
}

/// Returns whether a passphrase protects the private key. A block with headers counts as protected.
fn is_encrypted(block: &Block) -> bool {
    block.has_headers || block.label == "ENCRYPTED PRIVATE KEY"
}

/// Parses a private key: RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519. Returns `None` for any
/// other key.
fn parse_key(block: &Block) -> Option<Arc<dyn SigningKey>> {
    let der = block.der.as_slice();
    let der = match block.label.as_str() {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
        _ => return None,
    };
    any_supported_type(&der).ok()
}
