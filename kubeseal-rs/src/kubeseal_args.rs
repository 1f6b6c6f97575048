//! Parses the flags and environment variables of `kubeseal` into a [`Request`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use flags::{Flag, Flags, Kind, Program, Stop, parse_duration};
use kubeseal_library::certificate::{AcceptedFingerprint, CertificateQuery, SettingSource};
use kubeseal_library::cluster::{Access, HiddenString, Overrides, Timeout, TokenAccess};
use kubeseal_library::kubeconfig::Choice;
use shared::scope::Scope;

use crate::command::{Command, Input, Request, SealOptions};
use crate::pages;

/// The command-line definition of `kubeseal`.
pub const PROGRAM: Program = Program {
    name: "kubeseal",
    about: "Encrypts Kubernetes Secrets so that they can be kept in Git.",
    after_help: "\
Every flag except those for logging can also be set by an environment variable: SEALED_SECRETS_CERT sets --cert.
`kubeseal --completions bash` (zsh, fish, powershell) prints a completion script, `kubeseal --man` the manual page.

Example:
  kubectl create secret generic db --from-literal=password=… --dry-run=client -o yaml \\
    | kubeseal --cert cert.pem -n shop -o yaml > sealed.yaml",
    flags: FLAGS,
};

const FLAGS: &[Flag] = &[
    path(
        "cert",
        "Certificate file or URL to seal with; the controller is not contacted.",
    ),
    Flag::new(
        "cert-fingerprint",
        Kind::List,
        "",
        "Accept only a certificate with this fingerprint (SHA256:...), also with --fetch-cert; repeatable.",
    )
    .strict(),
    switch(
        "offline",
        "Seal with the cached certificate of the cluster's controller, without network access.",
    ),
    text(
        "authorized",
        "URL of the controller's TLS port (https://...), or of a port-forward to it.",
    ),
    path(
        "token-file",
        "File with a token for the controller's TLS port; by default a token is requested for --token-account.",
    ),
    text(
        "token-account",
        "Service account (NAMESPACE/NAME) to request a token for.",
    ),
    path(
        "authority",
        "CA certificate of the controller's TLS port; by default read from the ConfigMap that the controller publishes.",
    ),
    Flag::new(
        "controller-name",
        Kind::Text,
        "sealed-secrets-controller",
        "Service of the controller.",
    ),
    Flag::new(
        "controller-namespace",
        Kind::Text,
        "kube-system",
        "Namespace of the controller.",
    ),
    Flag::new("format", Kind::Text, "json", "Output format: json or yaml.").short('o'),
    path("sealed-secret-file", "Output file instead of stdout.").short('w'),
    path("secret-file", "Input file instead of stdin.").short('f'),
    Flag::new(
        "scope",
        Kind::Choice(SCOPES, "one of: strict, namespace-wide, cluster-wide"),
        "",
        "Where the result can be unsealed: strict, namespace-wide or cluster-wide. \
         Default: the scope in the annotations of the input, else strict.",
    ),
    text(
        "name",
        "Name of the Secret; required with --raw and scope strict.",
    ),
    switch("allow-empty-data", "Accept a Secret without values."),
    path(
        "merge-into",
        "Merge the items into this SealedSecret file instead of printing them.",
    ),
    switch("raw", "Encrypt one value instead of a manifest."),
    Flag::new(
        "from-file",
        Kind::Paths,
        "",
        "With --raw: file that contains the value, as [key=]path.",
    ),
    switch(
        "fetch-cert",
        "Print the controller's certificate, for later use with --cert.",
    ),
    switch(
        "validate",
        "Ask the controller whether it can decrypt the input.",
    ),
    switch(
        "re-encrypt",
        "Ask the controller to re-encrypt the input with its newest key.",
    ),
    switch("rotate", "Deprecated alias of --re-encrypt.").hidden(),
    switch(
        "recovery-unseal",
        "Decrypt the input offline with --recovery-private-key.",
    ),
    Flag::new(
        "recovery-private-key",
        Kind::Paths,
        "",
        "Files with private keys: PEM, or backups of key Secrets in JSON or YAML.",
    ),
    switch("version", "Print the version."),
    Flag::new(
        "completions",
        Kind::Choice(pages::SHELLS, "one of: bash, zsh, fish, powershell"),
        "",
        "Print completions for a shell.",
    )
    .hidden()
    .without_variable(),
    switch("man", "Print the manual page.")
        .hidden()
        .without_variable(),
    path("kubeconfig", "Kubeconfig file."),
    text("namespace", "Namespace of the Secret.").short('n'),
    text("context", "Context in the kubeconfig."),
    text("cluster", "Cluster of the kubeconfig."),
    text("user", "User of the kubeconfig."),
    text("server", "Address of the API server."),
    text("token", "Bearer token for the API server."),
    text("username", "User name for the API server."),
    text("password", "Password for the API server."),
    text("as", "User to impersonate."),
    Flag::new(
        "as-group",
        Kind::Repeated,
        "",
        "Group to impersonate; repeatable.",
    ),
    text("as-uid", "UID to impersonate."),
    path("certificate-authority", "CA file of the API server."),
    path("client-certificate", "Client certificate file."),
    path("client-key", "Client key file."),
    switch(
        "insecure-skip-tls-verify",
        "Do not verify the API server's certificate.",
    ),
    text(
        "tls-server-name",
        "Name to verify the API server's certificate against.",
    ),
    text("proxy-url", "Proxy to the API server."),
    switch("disable-compression", "Do not request compressed responses."),
    Flag::new(
        "request-timeout",
        Kind::Text,
        "0",
        "Time limit for a request; 0 for none. If the flag is not set: 1 minute, and 5 minutes while the controller is busy.",
    ),
    log_switch("add_dir_header"),
    log_switch("alsologtostderr"),
    log_value("alsologtostderrthreshold", SEVERITIES, "0"),
    log_switch("legacy_stderr_threshold_behavior"),
    log_value("log_backtrace_at", Kind::Text, ":0"),
    log_value("log_dir", Kind::Text, ""),
    log_value("log_file", Kind::Text, ""),
    log_value("log_file_max_size", Kind::Count, "1800"),
    log_switch("logtostderr"),
    log_switch("one_output"),
    log_switch("skip_headers"),
    log_switch("skip_log_headers"),
    log_value("stderrthreshold", SEVERITIES, "2"),
    log_value("v", Kind::Int, "0").short('v'),
    log_value("vmodule", Kind::Text, ""),
];

/// The values of `--scope`; an empty value means strict.
const SCOPES: &[&str] = &["", "strict", "namespace-wide", "cluster-wide"];

/// klog's severities, by number, or by name in upper or lower case.
const SEVERITIES: Kind = Kind::Choice(
    &[
        "0", "1", "2", "3", "INFO", "WARNING", "ERROR", "FATAL", "info", "warning", "error",
        "fatal",
    ],
    "a severity: INFO, WARNING, ERROR, FATAL, or 0 to 3",
);

const fn text(name: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Text, "", help)
}

const fn path(name: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Path, "", help)
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Switch, "false", help)
}

/// Defines a klog flag, which is accepted for compatibility and ignored.
const fn log_value(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag::new(name, kind, default, "Accepted for compatibility.")
        .hidden()
        .without_variable()
}

const fn log_switch(name: &'static str) -> Flag {
    log_value(name, Kind::Switch, "false")
}

/// Parses the command line (without the program name) and environment variables.
///
/// # Errors
///
/// Returns [`Stop`] if help is requested or the arguments are invalid.
pub fn parse<V: Into<OsString>>(
    args: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<V>,
) -> Result<Request, Stop> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    // Like upstream, `--version` takes precedence over `--help`.
    if args.iter().any(|arg| arg == "--version") {
        args.retain(|arg| arg != "--help" && arg != "-h");
    }
    let flags = PROGRAM.parse(args, variable).map_err(with_hint)?;
    if !flags.paths("from-file").is_empty() && !flags.switch("raw") && !flags.switch("version") {
        return Err(Stop::Refused("--from-file requires --raw".into()));
    }
    if flags.path_if_any("merge-into").is_some()
        && flags.path_if_any("sealed-secret-file").is_some()
    {
        return Err(Stop::Refused(
            "--merge-into cannot be combined with --sealed-secret-file: --merge-into updates its own file"
                .into(),
        ));
    }
    let mut warnings = flags.warnings().to_vec();
    warnings.extend(flag_warnings(&flags));
    Ok(Request {
        command: command(&flags, scope(&flags), fingerprints(&flags)?),
        input: match flags.path_if_any("secret-file") {
            Some(path) => Input::File(PathBuf::from(path)),
            None => Input::Stdin,
        },
        output: flags.path_if_any("sealed-secret-file").map(PathBuf::from),
        format: flags.text("format").to_owned(),
        has_format: flags.is_set("format"),
        warnings,
    })
}

/// Adds a hint about `--secret-file` to the error for a positional argument.
fn with_hint(stop: Stop) -> Stop {
    match stop {
        Stop::Usage(text)
            if text.contains("unexpected argument") && !text.contains("argument '-") =>
        {
            Stop::Usage(format!(
                "{text}\nhint: pass the input on stdin or with --secret-file (-f) FILE\n"
            ))
        }
        stop => stop,
    }
}

/// Returns the scope, if `--scope` is set.
fn scope(flags: &Flags) -> Option<Scope> {
    flags
        .is_set("scope")
        .then(|| flags.text("scope").parse().unwrap_or_default())
}

fn fingerprints(flags: &Flags) -> Result<Vec<AcceptedFingerprint>, Stop> {
    let read = |text: &String| {
        let fingerprint = text
            .trim()
            .parse()
            .map_err(|error| Stop::Refused(format!("--cert-fingerprint {text}: {error}")))?;
        let by = SettingSource::Flag;
        Ok(AcceptedFingerprint { fingerprint, by })
    };
    flags.list("cert-fingerprint").iter().map(read).collect()
}

fn flag_warnings(flags: &Flags) -> Vec<String> {
    let mut warnings = Vec::new();
    if flags.is_set("rotate") {
        warnings.push("--rotate has been deprecated, please use --re-encrypt instead".to_owned());
    }
    if !flags.paths("recovery-private-key").is_empty() && !flags.switch("recovery-unseal") {
        warnings.push(
            "ignoring --recovery-private-key because unseal command not chosen with --recovery-unseal".to_owned(),
        );
    }
    warnings
}

/// Returns the command. If several are requested, the first one in upstream's order wins.
fn command(flags: &Flags, scope: Option<Scope>, fingerprints: Vec<AcceptedFingerprint>) -> Command {
    if flags.switch("version") {
        return Command::Version;
    }
    if flags.switch("man") {
        return Command::Print(pages::manual(definition_with_hints()));
    }
    if let Some(shell) = flags.text_if_any("completions") {
        return Command::Print(pages::completions(shell, definition_with_hints()));
    }
    if flags.switch("recovery-unseal") {
        let key_files = flags
            .paths("recovery-private-key")
            .iter()
            .map(PathBuf::from)
            .collect();
        return Command::Recover { key_files };
    }
    if flags.switch("validate") {
        return Command::Validate {
            access: access(flags),
            namespace: flags.text_if_any("namespace").map(str::to_owned),
        };
    }
    if flags.switch("re-encrypt") || flags.switch("rotate") {
        return Command::ReEncrypt {
            access: access(flags),
            namespace: flags.text_if_any("namespace").map(str::to_owned),
        };
    }
    let access = access(flags);
    let certificate = CertificateQuery {
        source: flags.path_if_any("cert").unwrap_or_default().to_owned(),
        named_by: if access.is_unnamed {
            SettingSource::Default
        } else {
            SettingSource::Flag
        },
        access,
        fingerprints,
        offline: flags.switch("offline"),
    };
    if flags.switch("fetch-cert") {
        return Command::FetchCertificate(certificate);
    }
    let options = SealOptions {
        certificate,
        name: flags.text_if_any("name").map(str::to_owned),
        namespace: flags.text_if_any("namespace").map(str::to_owned),
        scope,
        allow_empty_data: flags.switch("allow-empty-data"),
        kubeconfig: Choice {
            file: flags.path_if_any("kubeconfig").map(PathBuf::from),
            context: flags.text_if_any("context").map(str::to_owned),
        },
    };
    match flags.path_if_any("merge-into") {
        Some(file) => Command::MergeInto {
            file: PathBuf::from(file),
            options,
        },
        None if flags.switch("raw") => Command::Raw {
            options,
            from_files: flags.paths("from-file").to_vec(),
        },
        None => Command::Seal(options),
    }
}

fn access(flags: &Flags) -> Access {
    let text = |name| flags.text_if_any(name).map(str::to_owned);
    let hidden = |name| text(name).map(HiddenString);
    let file = |name| flags.path_if_any(name).map(PathBuf::from);
    Access {
        kubeconfig: file("kubeconfig"),
        overrides: Overrides {
            context: text("context"),
            cluster: text("cluster"),
            user: text("user"),
            server: text("server"),
            certificate_authority: file("certificate-authority"),
            insecure: flags.switch("insecure-skip-tls-verify"),
            tls_server_name: text("tls-server-name"),
            proxy_url: text("proxy-url"),
            disable_compression: flags.switch("disable-compression"),
            token: hidden("token"),
            username: text("username"),
            password: hidden("password"),
            client_certificate: file("client-certificate"),
            client_key: file("client-key"),
            impersonate: text("as"),
            impersonate_uid: text("as-uid"),
            impersonate_groups: flags.list("as-group").to_vec(),
        },
        name: flags.text("controller-name").to_owned(),
        namespace: flags.text("controller-namespace").to_owned(),
        is_unnamed: !flags.is_set("controller-name") && !flags.is_set("controller-namespace"),
        timeout: match flags.text_if_any("request-timeout") {
            Some(text) if flags.is_set("request-timeout") => Timeout::from_flag(timeout(text)),
            _ => Timeout::default(),
        },
        by_token: TokenAccess {
            url: text("authorized"),
            token_file: file("token-file"),
            authority: file("authority"),
            account: text("token-account"),
            is_by_rule: false,
        },
    }
}

/// Returns the command-line definition for shell completion and the manual page, with the values of `--format` and
/// `--scope`, and hints for files.
pub(crate) fn definition_with_hints() -> clap::Command {
    const FILES: &[&str] = &[
        "cert",
        "sealed-secret-file",
        "secret-file",
        "merge-into",
        "from-file",
        "recovery-private-key",
        "kubeconfig",
        "certificate-authority",
        "client-certificate",
        "client-key",
        "token-file",
        "authority",
    ];
    let one_of = |values: &'static [&'static str]| {
        move |arg: clap::Arg| arg.value_parser(clap::builder::PossibleValuesParser::new(values))
    };
    let command = PROGRAM
        .command()
        .mut_arg("format", one_of(&["json", "yaml"]))
        .mut_arg(
            "scope",
            one_of(&["strict", "namespace-wide", "cluster-wide"]),
        );
    FILES.iter().fold(command, |command, name| {
        command.mut_arg(name, |arg| arg.value_hint(clap::ValueHint::FilePath))
    })
}

/// Parses a timeout: a number of seconds, or a Go duration. Returns `None`, which means no timeout, if it is 0,
/// negative or invalid.
fn timeout(text: &str) -> Option<Duration> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    let duration = || Duration::try_from(parse_duration(text).ok()?).ok();
    seconds
        .or_else(duration)
        .filter(|timeout| !timeout.is_zero())
}

#[cfg(test)]
mod tests;
