//! Kinds of failure, so that two programs can be compared where their words differ.

use crate::run::Ending;

/// What went wrong, in the terms of the user's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    /// A command line that does not parse.
    Usage,
    /// Flags that parse but do not go together.
    Flags,
    Format,
    /// A file that cannot be opened, read or written.
    File,
    /// A URL that cannot be fetched.
    Fetch,
    NoCertificate,
    BadCertificate,
    ExpiredCertificate,
    PrivateKey,
    Kubeconfig,
    /// The API server does not answer, or is not trusted.
    NoAnswer,
    /// The API server does not know the caller.
    Stranger,
    NoSecrets,
    EmptyData,
    NoName,
    NoNamespace,
    NamespaceMismatch,
    /// Text that is no manifest, or a value of the wrong type.
    Input,
    /// A manifest of another kind than asked for.
    ForeignObject,
    Decryption,
    OldData,
    Crash,
    Hang,
    Unknown,
}

/// The first fragment that an error text contains gives its kind. Fragments of both programs stand
/// here.
const FRAGMENTS: &[(&str, Kind)] = &[
    ("--from-file requires --raw", Kind::Flags),
    ("must provide ", Kind::Flags),
    ("unsupported output format", Kind::Format),
    // On the way to a cluster
    ("getting credentials", Kind::Kubeconfig),
    ("exec plug-in", Kind::Kubeconfig),
    ("cannot get sealed secret service: Get ", Kind::NoAnswer),
    ("the API server cannot be reached", Kind::NoAnswer),
    ("certificate authority", Kind::NoAnswer),
    ("certificate-authority", Kind::NoAnswer),
    ("Unauthorized", Kind::Stranger),
    ("does not exist", Kind::Kubeconfig),
    ("loading config file", Kind::Kubeconfig),
    ("error: stat ", Kind::Kubeconfig),
    ("without impersonating", Kind::Kubeconfig),
    ("need the user to impersonate", Kind::Kubeconfig),
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
    ("unknown conversion", Kind::ForeignObject),
    ("no kind ", Kind::ForeignObject),
    (
        ", not bitnami.com/v1alpha1 SealedSecret",
        Kind::ForeignObject,
    ),
    ("no key could decrypt", Kind::Decryption),
    ("deprecated 'data' field", Kind::OldData),
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
    ("its metadata is not", Kind::Input),
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

/// The kind of a run's failure.
pub(crate) fn classify(ending: Ending, stderr: &str) -> Kind {
    match ending {
        Ending::Exit(0) => Kind::None,
        Ending::Hang => Kind::Hang,
        Ending::Signal => Kind::Crash,
        Ending::Exit(_) if stderr.starts_with("panic: ") || stderr.contains("panicked at") => {
            Kind::Crash
        }
        Ending::Exit(2) => Kind::Usage,
        Ending::Exit(_) => FRAGMENTS
            .iter()
            .find(|(fragment, _)| stderr.contains(fragment))
            .map_or(Kind::Unknown, |(_, kind)| *kind),
    }
}

impl Kind {
    /// Whether ours has to begin with the peer's words: where they are the peer's own and say
    /// enough. Elsewhere they come from Go's libraries, and only the kind counts.
    pub(crate) fn keeps_words(self) -> bool {
        !matches!(
            self,
            Self::Fetch
                | Self::BadCertificate
                | Self::PrivateKey
                | Self::Kubeconfig
                | Self::NoAnswer
                | Self::Stranger
                | Self::Input
                | Self::ForeignObject
        )
    }
}
