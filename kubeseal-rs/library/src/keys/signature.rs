//! Signatures of archives, in the format of `ssh-keygen -Y sign` (PROTOCOL.sshsig of OpenSSH).
//!
//! `age` does not authenticate who created an archive; a signature does. The private key is an OpenSSH key without a
//! passphrase. For any other key, an agent or a hardware token, use `ssh-keygen`, which creates signatures in the same
//! format.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ssh_key::private::KeypairData;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::signers::Signers;

/// The purpose of a signature, which `ssh-keygen` calls a namespace: a signature of an e-mail or a
/// commit is not valid for a backup.
pub const NAMESPACE: &str = "sealed-secrets-backup";

/// The size limit for a file with a key or a signature, in bytes.
const MAX_LEN: usize = 64 * 1024;

/// Why signing failed, or why a signature does not show who created the archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The file is not an OpenSSH private key.
    #[error("not an OpenSSH private key\nhint: create one with `ssh-keygen -t ed25519 -f FILE`")]
    NoKey,
    /// The key has a passphrase.
    #[error(
        "the key has a passphrase, which is not supported here\nhint: sign the archive with `ssh-keygen -Y sign -n {ns} -f \
         KEY ARCHIVE`",
        ns = NAMESPACE
    )]
    Encrypted,
    /// The type of key is not supported.
    #[error("unsupported key type {0}\nhint: use Ed25519 or ECDSA on P-256")]
    Unsupported(String),
    /// Signing failed.
    #[error("cannot sign with this key")]
    NotSigned,
    /// The file is not a signature.
    #[error("not a signature of `seal keys backup --sign` or `ssh-keygen -Y sign`")]
    NoSignature,
    /// The signature has another namespace.
    #[error(
        "the signature has the namespace {0:?}, not {ns:?}\nhint: sign the archive with `ssh-keygen -Y sign -n {ns} -f \
         KEY ARCHIVE`",
        ns = NAMESPACE
    )]
    Namespace(String),
    /// The signature does not match the archive.
    #[error(
        "the signature does not match the archive: one of the two files was changed or replaced\n\
         hint: do not restore it; use another copy of the archive and its signature"
    )]
    OtherArchive,
    /// The allowed signers file does not permit the key of the signer, or only for other namespaces or times.
    #[error(
        "the signature was created with {0}, which the allowed signers file does not permit for backups\n\
         hint: if you trust the signer, add the signer's key to that file"
    )]
    UnknownSigner(String),
}

/// The signer of an archive, whose signature is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSigner {
    /// The principals in the signer's line of the allowed signers file, separated by commas.
    pub principals: String,
    /// The key's fingerprint, as `ssh-keygen -l` shows it.
    pub key: String,
}

/// Returns the default path of an archive's signature, as `ssh-keygen` uses it.
pub fn default_path(archive: &Path) -> PathBuf {
    let mut path = archive.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// Parses a private key to sign with.
///
/// # Errors
///
/// Fails if the file is not an OpenSSH private key, has a passphrase, or is of an unsupported type.
pub fn signing_key(file: &[u8]) -> Result<PrivateKey, SignatureError> {
    let file = Some(file).filter(|file| file.len() <= MAX_LEN);
    let key = file.and_then(|file| PrivateKey::from_openssh(file).ok());
    let key = key.ok_or(SignatureError::NoKey)?;
    match key.key_data() {
        KeypairData::Encrypted(_) => Err(SignatureError::Encrypted),
        KeypairData::Ed25519(_) => Ok(key),
        _ if key.algorithm() == P256 => Ok(key),
        _ => Err(SignatureError::Unsupported(key.algorithm().to_string())),
    }
}

const P256: Algorithm = Algorithm::Ecdsa {
    curve: EcdsaCurve::NistP256,
};

/// Signs an archive.
///
/// # Errors
///
/// Fails if the key cannot sign.
pub fn sign(archive: &[u8], key: &PrivateKey) -> Result<String, SignatureError> {
    let signature = key.sign(NAMESPACE, HashAlg::Sha512, archive);
    let text = signature.and_then(|signature| signature.to_pem(LineEnding::LF));
    text.map_err(|_| SignatureError::NotSigned)
}

/// Verifies a signature and returns the signer, who must be one of `signers`.
///
/// # Errors
///
/// Returns a [`SignatureError`] if the signature is not valid for this archive, or not from an
/// allowed signer.
pub fn verify(
    archive: &[u8],
    signature: &[u8],
    signers: &Signers,
    now: Timestamp,
) -> Result<VerifiedSigner, SignatureError> {
    let signature = Some(signature).filter(|signature| signature.len() <= MAX_LEN);
    let signature = signature.and_then(|pem| SshSig::from_pem(pem).ok());
    // The version is not covered by the signature, and the crate accepts older versions, which do
    // not exist.
    let signature = signature.filter(|signature| signature.version() == SshSig::VERSION);
    let signature = signature.ok_or(SignatureError::NoSignature)?;
    if signature.namespace() != NAMESPACE {
        return Err(SignatureError::Namespace(signature.namespace().to_owned()));
    }
    let key = signature.public_key();
    if !is_supported(key) {
        return Err(SignatureError::Unsupported(key.algorithm().to_string()));
    }
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let public_key = PublicKey::from(key.clone());
    let result = public_key.verify(NAMESPACE, archive, &signature);
    result.map_err(|_| SignatureError::OtherArchive)?;
    match signers.principals(key, NAMESPACE, now) {
        Some(principals) => Ok(VerifiedSigner {
            principals: principals.to_owned(),
            key: fingerprint,
        }),
        None => Err(SignatureError::UnknownSigner(fingerprint)),
    }
}

fn is_supported(key: &KeyData) -> bool {
    matches!(
        key.algorithm(),
        Algorithm::Ed25519 | P256 | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = include_bytes!("../../../tests/seal/key-fixtures/id_ed25519");
    const SIGNERS: &[u8] = include_bytes!("../../../tests/seal/key-fixtures/allowed_signers");

    fn sign_archive(archive: &[u8]) -> String {
        sign(archive, &signing_key(KEY).unwrap()).unwrap()
    }

    fn verify_archive(archive: &[u8], signature: &[u8]) -> Result<VerifiedSigner, SignatureError> {
        let signers = Signers::parse(SIGNERS).unwrap();
        verify(archive, signature, &signers, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn returns_the_signer_of_an_archive() {
        let signature = sign_archive(b"archive");
        let signer = verify_archive(b"archive", signature.as_bytes()).unwrap();
        assert_eq!(signer.principals, "jane@example.com");
        assert!(signer.key.starts_with("SHA256:"), "{}", signer.key);
        assert_eq!(
            default_path(Path::new("a/keys.age")),
            Path::new("a/keys.age.sig")
        );
    }

    #[test]
    fn errors_name_why_a_signature_is_invalid() {
        let key = signing_key(KEY).unwrap();
        let git_signature = key.sign("git", HashAlg::Sha512, b"archive").unwrap();
        let git_signature = git_signature.to_pem(LineEnding::LF).unwrap();
        let valid = sign_archive(b"archive");
        let long = format!("{valid}{}", "x".repeat(MAX_LEN));
        for (archive, signature, want) in [
            ("archive", "", "not a signature"),
            ("archive", long.as_str(), "not a signature"),
            (
                "archive",
                git_signature.as_str(),
                "the signature has the namespace \"git\"",
            ),
            (
                "Archive",
                valid.as_str(),
                "the signature does not match the archive",
            ),
        ] {
            let error = verify_archive(archive.as_bytes(), signature.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with(want), "{error}");
        }
        let other_signers =
            "jane ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let other_signers = Signers::parse(other_signers.as_bytes()).unwrap();
        let error = verify(
            b"archive",
            valid.as_bytes(),
            &other_signers,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap_err();
        assert!(matches!(error, SignatureError::UnknownSigner(_)), "{error}");
    }

    #[test]
    fn errors_name_why_a_key_cannot_sign() {
        assert_eq!(signing_key(b"no key").unwrap_err(), SignatureError::NoKey);
        let long = [KEY, &vec![b'\n'; MAX_LEN]].concat();
        assert_eq!(signing_key(&long).unwrap_err(), SignatureError::NoKey);
    }

    proptest::proptest! {
        /// Attack: an attacker changes a bit of a signature, so that it is accepted with another content.
        #[test]
        fn a_signature_with_a_changed_bit_is_refused_or_decodes_to_the_same_signature(index in 0_usize..300, bit in 0_u8..8) {
            let mut signature = sign_archive(b"archive").into_bytes();
            let index = index % signature.len();
            signature[index] ^= 1 << bit;
            // A change to the armor's line breaks alone leaves the same signature.
            if let Ok(signer) = verify_archive(b"archive", &signature) {
                proptest::prop_assert_eq!(signer.principals, "jane@example.com");
                let (expected, actual) = (SshSig::from_pem(self::sign_archive(b"archive")), SshSig::from_pem(&signature));
                proptest::prop_assert_eq!(expected.unwrap(), actual.unwrap());
            }
        }

        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            let _ = signing_key(&bytes);
            let _ = verify_archive(b"archive", &bytes);
        }
    }
}
