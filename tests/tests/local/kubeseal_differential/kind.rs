//! Classifies failures, to compare two programs whose messages differ.

use super::run::Termination;

/// The kind of a failure, regardless of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    /// The command line cannot be parsed.
    Usage,
    /// The flags can be parsed, but not combined.
    Flags,
    Format,
    /// A file cannot be opened, read or written.
    File,
    /// A URL cannot be fetched.
    Fetch,
    NoCertificate,
    BadCertificate,
    ExpiredCertificate,
    PrivateKey,
    Kubeconfig,
    /// The API server does not respond, or is not trusted.
    NoResponse,
    /// The API server cannot authenticate the caller.
    Unauthorized,
    NoSecrets,
    EmptyData,
    NoName,
    NoNamespace,
    NamespaceMismatch,
    /// The text is not a manifest, or contains a value of the wrong type.
    Input,
    /// The manifest has a different kind than required.
    OtherObject,
    Decryption,
    DeprecatedData,
    Crash,
    Hang,
    Unknown,
}

/// Fragments of both programs' messages; the first one in this list that an error message contains determines its kind.
const FRAGMENTS: &[(&str, Kind)] = &[
    ("--from-file requires --raw", Kind::Flags),
    ("must provide ", Kind::Flags),
    ("unsupported output format", Kind::Format),
    // Reaching a cluster
    ("getting credentials", Kind::Kubeconfig),
    ("exec plug-in", Kind::Kubeconfig),
    ("cannot get sealed secret service: Get ", Kind::NoResponse),
    ("cannot reach the API server", Kind::NoResponse),
    ("certificate authority", Kind::NoResponse),
    ("certificate-authority", Kind::NoResponse),
    ("Unauthorized", Kind::Unauthorized),
    ("does not exist", Kind::Kubeconfig),
    ("loading config file", Kind::Kubeconfig),
    ("error: stat ", Kind::Kubeconfig),
    ("without impersonating", Kind::Kubeconfig),
    ("to impersonate are set, but no user", Kind::Kubeconfig),
    ("no configuration has been provided", Kind::Kubeconfig),
    ("kubeconfig", Kind::Kubeconfig),
    // Certificates
    ("valid RSA or ECDSA certificates", Kind::NoCertificate),
    ("expected RSA public key", Kind::BadCertificate),
    ("expired certificate", Kind::ExpiredCertificate),
    ("x509: ", Kind::BadCertificate),
    ("the certificate is malformed", Kind::BadCertificate),
    // Manifests
    ("no secrets found", Kind::NoSecrets),
    ("secret.data is empty", Kind::EmptyData),
    ("missing metadata.name", Kind::NoName),
    ("must declare a namespace", Kind::NoNamespace),
    ("namespace mismatch", Kind::NamespaceMismatch),
    ("unknown conversion", Kind::OtherObject),
    ("no kind ", Kind::OtherObject),
    (", not bitnami.com/v1alpha1 SealedSecret", Kind::OtherObject),
    ("no key could decrypt", Kind::Decryption),
    ("deprecated 'data' field", Kind::DeprecatedData),
    ("private key", Kind::PrivateKey),
    ("'tls.data' key", Kind::PrivateKey),
    ("illegal base64", Kind::Input),
    ("cannot unmarshal", Kind::Input),
    ("parsing time", Kind::Input),
    ("json parse error", Kind::Input),
    ("error: yaml: ", Kind::Input),
    ("malformed YAML", Kind::Input),
    ("malformed JSON", Kind::Input),
    (" must be ", Kind::Input),
    ("no `spec`", Kind::Input),
    ("its metadata is invalid", Kind::Input),
    // Files and URLs
    ("Could not read file", Kind::File),
    ("cannot fetch \"file:", Kind::File),
    ("cannot fetch ", Kind::Fetch),
    ("unsupported protocol scheme", Kind::Fetch),
    ("connection refused", Kind::Fetch),
    ("invalid URL escape", Kind::Fetch),
    ("no such file or directory", Kind::File),
    ("is a directory", Kind::File),
    ("cannot read ", Kind::File),
    ("cannot write ", Kind::File),
];

/// Returns the kind of a run's failure.
pub(crate) fn classify(termination: Termination, stderr: &str) -> Kind {
    match termination {
        Termination::Exit(0) => Kind::None,
        Termination::Hang => Kind::Hang,
        Termination::Signal => Kind::Crash,
        Termination::Exit(_) if stderr.starts_with("panic: ") || stderr.contains("panicked at") => {
            Kind::Crash
        }
        Termination::Exit(2) => Kind::Usage,
        Termination::Exit(_) => FRAGMENTS
            .iter()
            .find(|(fragment, _)| stderr.contains(fragment))
            .map_or(Kind::Unknown, |(_, kind)| *kind),
    }
}

impl Kind {
    /// Returns whether this project's text must begin with upstream's. This is required if upstream itself defines the
    /// text and the text is informative. Other messages come from Go's libraries, and only the kind is compared.
    pub(crate) fn has_upstream_text(self) -> bool {
        !matches!(
            self,
            Self::Fetch
                | Self::BadCertificate
                | Self::PrivateKey
                | Self::Kubeconfig
                | Self::NoResponse
                | Self::Unauthorized
                | Self::Input
                | Self::OtherObject
        )
    }
}
