//! The private key of an SSH client.

use super::{is_encrypted, parse_key, private_key};

/// Why a file cannot be used as an SSH private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshKeyError {
    /// The file contains no private key in a known format.
    #[error(
        "it contains no private key in OpenSSH or PEM format\nhint: create one with `ssh-keygen -t ed25519 -f FILE`"
    )]
    Missing,
    /// The file is a public key.
    #[error(
        "it is a public key\nhint: pass the private key, whose file name does not end with .pub"
    )]
    PublicKey,
    /// The file is a private key in the format of `PuTTY`.
    #[error(
        "it is a key in the format of PuTTY\nhint: convert it with `puttygen FILE -O private-openssh -o id_key`"
    )]
    Putty,
    /// The key cannot be parsed, or its kind is not supported.
    #[error(
        "the private key is malformed, or of a kind that is not supported\n\
         hint: to seal it without this check, pass --type kubernetes.io/ssh-auth and --from-file ssh-privatekey=FILE"
    )]
    Unsupported,
}

/// Checks that a file contains an SSH private key, in OpenSSH or PEM format, and returns warnings about it. What a
/// passphrase protects is not checked.
///
/// # Errors
///
/// Returns an [`SshKeyError`] if the file contains no usable private key.
pub fn check(file: &[u8]) -> Result<Vec<&'static str>, SshKeyError> {
    let block = private_key(file).ok_or_else(|| explain_missing(file))?;
    let is_openssh = block.label == "OPENSSH PRIVATE KEY";
    let is_protected = if is_openssh {
        let key = ssh_key::PrivateKey::from_bytes(&block.der);
        key.map_err(|_| SshKeyError::Unsupported)?.is_encrypted()
    } else if is_encrypted(&block) {
        true
    } else {
        parse_key(&block).ok_or(SshKeyError::Unsupported)?;
        false
    };
    let mut warnings = Vec::new();
    if is_protected {
        warnings.push(
            "the private key is protected by a passphrase, which programs in a Pod cannot enter",
        );
    }
    // OpenSSH compares the lines with the markers including their line feeds.
    if is_openssh && (file.contains(&b'\r') || !file.ends_with(b"\n")) {
        warnings.push("`ssh` rejects the private key unless each line, also the last one, ends with a line feed alone");
    }
    Ok(warnings)
}

/// Returns the most specific error for a file without a private key.
fn explain_missing(file: &[u8]) -> SshKeyError {
    let begins_with = |prefixes: &[&str]| prefixes.iter().any(|p| file.starts_with(p.as_bytes()));
    if begins_with(&["PuTTY-User-Key-File-"]) {
        SshKeyError::Putty
    } else if begins_with(&[
        "ssh-",
        "ecdsa-",
        "sk-",
        "---- BEGIN SSH2 PUBLIC",
        "-----BEGIN PUBLIC",
    ]) {
        SshKeyError::PublicKey
    } else {
        SshKeyError::Missing
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    const ED25519: &str = include_str!("../../../tests/seal/key-fixtures/id_ed25519");
    const RSA: &str = include_str!("test-keys/rsa");
    const P521: &str = include_str!("test-keys/p521");
    const ENCRYPTED: &str = include_str!("test-keys/encrypted");

    #[test]
    fn accepts_keys_in_both_formats() {
        let pem = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        for text in [ED25519, RSA, P521, &pem.serialize_pem()] {
            assert_eq!(check(text.as_bytes()), Ok(vec![]));
        }
    }

    /// OpenSSH accepts lines of any length.
    #[test]
    fn accepts_a_key_with_other_line_lengths() {
        let lines: Vec<&str> = ED25519.lines().collect();
        let body = lines[1..lines.len() - 1].concat();
        let text = format!("{}\n{body}\n{}\n", lines[0], lines[lines.len() - 1]);
        assert_eq!(check(text.as_bytes()), Ok(vec![]));
    }

    #[test]
    fn warns_about_a_passphrase() {
        let pkcs8 =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                     -----END RSA PRIVATE KEY-----\n";
        for text in [ENCRYPTED, pkcs8, pkcs1] {
            let warnings = check(text.as_bytes()).unwrap();
            assert_eq!(warnings.len(), 1, "{text}");
            assert!(warnings[0].contains("passphrase"), "{warnings:?}");
        }
    }

    #[test]
    fn warns_about_line_endings_that_openssh_rejects() {
        let crlf = ED25519.replace('\n', "\r\n");
        for text in [ED25519.trim_end(), &crlf] {
            let warnings = check(text.as_bytes()).unwrap();
            assert_eq!(warnings.len(), 1, "{text}");
            assert!(warnings[0].contains("line feed"), "{warnings:?}");
        }
    }

    #[test]
    fn reports_what_a_file_without_a_usable_key_is() {
        let truncated: String = ED25519.lines().take(3).collect::<Vec<_>>().join("\n");
        let damaged = ED25519.replacen("b3BlbnNzaC1rZXk", "b3BlbnNzaC1rZXl", 1);
        for (text, want) in [
            ("hunter2", SshKeyError::Missing),
            ("", SshKeyError::Missing),
            (&truncated, SshKeyError::Missing),
            (&damaged, SshKeyError::Unsupported),
            ("ssh-ed25519 AAAA a@b\n", SshKeyError::PublicKey),
            ("ecdsa-sha2-nistp256 AAAA\n", SshKeyError::PublicKey),
            ("PuTTY-User-Key-File-3: ssh-ed25519\n", SshKeyError::Putty),
        ] {
            let error = check(text.as_bytes()).unwrap_err();
            assert_eq!(error, want, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
