//! Defines the command-line flags: upstream's, and additional flags.

use flags::{Flag, Kind, Program};

/// The controller's command line.
pub const PROGRAM: Program = Program {
    name: "controller",
    about: "Turns SealedSecrets into Secrets.",
    after_help: "Every flag except --version has an environment variable: --key-ttl is SEALED_SECRETS_KEY_TTL. The \
                 command line takes precedence. Durations look like 720h or 1h30m; there is no unit for days.",
    flags: FLAGS,
};

const FLAGS: &[Flag] = &[
    Flag::new(
        "directory",
        Kind::Text,
        "",
        "Use this directory instead of a cluster: DIR/sealed, DIR/keys, DIR/secrets, DIR/status.",
    ),
    Flag::new(
        "kubeconfig",
        Kind::Text,
        "",
        "Kubeconfig file; the Pod's service account is used by default.",
    ),
    Flag::new(
        "key-prefix",
        Kind::Text,
        "sealed-secrets-key",
        "Name prefix of new keys.",
    ),
    Flag::new(
        "key-size",
        Kind::Int,
        "4096",
        "Size of new RSA keys in bits: 2048, 3072, 4096 or 8192.",
    ),
    Flag::new(
        "key-ttl",
        Kind::Duration,
        "87600h",
        "Validity period of new certificates.",
    ),
    Flag::new(
        "my-cn",
        Kind::Text,
        "",
        "Common name of new certificates; empty for none.",
    ),
    Flag::new(
        "key-renew-period",
        Kind::Duration,
        "720h",
        "Age of the newest key at which a new key is generated; 0 disables renewal.",
    ),
    Flag::new(
        "rotate-period",
        Kind::Duration,
        "720h",
        "Deprecated name of --key-renew-period.",
    )
    .hidden(),
    Flag::new(
        "key-order-priority",
        Kind::Text,
        "CertNotBefore",
        "Timestamp that decides which key is the newest: CertNotBefore or SecretCreationTimestamp.",
    ),
    Flag::new(
        "key-cutoff-time",
        Kind::Text,
        "",
        "Generate a new key if the newest one is older than this time, such as 'Mon, 02 Jan 2006 15:04:05 -0700'.",
    ),
    Flag::new(
        "require-backup",
        Kind::Switch,
        "false",
        "Seal with a new key only after it is marked as backed up (see `seal keys backup`); the previous key is used until then.",
    ),
    Flag::new(
        "sealing-suite",
        Kind::Text,
        "rsa",
        "Suite for sealing in the v2 format: rsa, xw (experimental; post-quantum) or p256. The controller generates keys of \
         this suite in addition to RSA keys, which v1 needs; existing keys of every suite unseal.",
    ),
    Flag::new(
        "additional-recipients",
        Kind::Text,
        "",
        "Additional public keys for which rotate seals v2 values, separated by commas, such as an escrow key: \
         'seal2-recipient …' or 'age1pq1…'.",
    ),
    Flag::new(
        "accept-deprecated-v1-data",
        Kind::Switch,
        "true",
        "Also unseal the deprecated field spec.data.",
    ),
    Flag::new(
        "all-namespaces",
        Kind::Switch,
        "true",
        "Watch all namespaces instead of only the controller's own, unless --additional-namespaces names some.",
    ),
    Flag::new(
        "additional-namespaces",
        Kind::Text,
        "",
        "Namespaces to watch besides the controller's own, separated by commas; all others are then not watched.",
    ),
    Flag::new(
        "label-selector",
        Kind::Text,
        "",
        "Label selector of the SealedSecrets to process.",
    ),
    Flag::new(
        "rate-limit",
        Kind::Int,
        "2",
        "Maximum number of requests per second from each caller: separately for verify and rotate, and in total on the TLS port.",
    ),
    Flag::new(
        "rate-limit-burst",
        Kind::Int,
        "2",
        "Maximum number of requests in a burst above --rate-limit.",
    ),
    Flag::new(
        "privatekey-annotations",
        Kind::Text,
        "",
        "Annotations of new key Secrets: key=value,key2=value2.",
    ),
    Flag::new(
        "privatekey-labels",
        Kind::Text,
        "",
        "Labels of new key Secrets: key=value,key2=value2.",
    ),
    Flag::new(
        "old-gc-behavior",
        Kind::Switch,
        "false",
        "Delete Secrets directly instead of relying on the garbage collector.",
    ),
    Flag::new(
        "update-status",
        Kind::Switch,
        "true",
        "Write the result to the status of each SealedSecret.",
    ),
    Flag::new(
        "watch-for-secrets",
        Kind::Switch,
        "false",
        "Accepted for compatibility, without effect: key Secrets that other clients add are always loaded.",
    ),
    Flag::new(
        "skip-recreate",
        Kind::Switch,
        "false",
        "Do not watch Secrets: edited and deleted Secrets are not restored.",
    ),
    Flag::new(
        "correct-drift",
        Kind::Switch,
        "true",
        "Revert changes that other clients make to Secrets. The annotation sealedsecrets.bitnami.com/correct-drift=false \
         excludes a single SealedSecret.",
    ),
    Flag::new(
        "log-info-stdout",
        Kind::Switch,
        "true",
        "Log DEBUG and INFO to stdout and the rest to stderr; false logs everything to stderr.",
    ),
    Flag::new(
        "log-level",
        Kind::Text,
        "INFO",
        "Log level: DEBUG, INFO, WARN or ERROR.",
    ),
    Flag::new(
        "log-format",
        Kind::Text,
        "text",
        "Log format: text or json.",
    ),
    Flag::new(
        "max-unseal-retries",
        Kind::Int,
        "5",
        "Number of failed retries after which an object is logged as still failing. Failures that a retry can resolve \
         are still retried, with backoff.",
    ),
    Flag::new(
        "kubeclient-qps",
        Kind::Float,
        "-1",
        "Maximum number of requests per second to the API server. A negative value disables this limit; at \
         most 32 requests are in flight in any case.",
    ),
    Flag::new(
        "kubeclient-burst",
        Kind::Int,
        "10",
        "Maximum number of requests in a burst above --kubeclient-qps.",
    ),
    Flag::new(
        "leader-elect",
        Kind::Switch,
        "true",
        "Elect one of several replicas to write, with a Lease in the controller's namespace.",
    ),
    Flag::new(
        "leader-elect-lease-name",
        Kind::Text,
        "sealed-secrets-controller",
        "Name of the Lease.",
    ),
    Flag::new(
        "leader-elect-lease-duration",
        Kind::Duration,
        "12s",
        "Time after the leader's last renewal at which another replica may acquire the Lease.",
    ),
    Flag::new(
        "leader-elect-renew-deadline",
        Kind::Duration,
        "8s",
        "Time after its last renewal at which the leader stops writing.",
    ),
    Flag::new(
        "leader-elect-retry-period",
        Kind::Duration,
        "2s",
        "Interval between attempts to acquire or renew the Lease.",
    ),
    Flag::new(
        "listen-addr",
        Kind::Text,
        ":8080",
        "Address of the HTTP server; port 0 selects a free port, which is logged.",
    ),
    Flag::new(
        "listen-metrics-addr",
        Kind::Text,
        ":8081",
        "Address of the metrics server, which also serves health checks. With --directory, its host defaults to the host \
         of --listen-addr, or to 127.0.0.1 if neither address is set.",
    ),
    Flag::new(
        "read-timeout",
        Kind::Duration,
        "2m",
        "Timeout for reading a request.",
    ),
    Flag::new(
        "write-timeout",
        Kind::Duration,
        "2m",
        "Timeout for writing a response.",
    ),
    Flag::new(
        "refuse-random-templates",
        Kind::Switch,
        "false",
        "Refuse templates that use the time, random values or generated keys, since their results differ between renderings.",
    ),
    Flag::new(
        "forbid-secret-types",
        Kind::Text,
        "",
        "Additional Secret types to refuse, separated by commas, such as kubernetes.io/dockercfg.",
    ),
    Flag::new(
        "allow-secret-types",
        Kind::Text,
        "",
        "Secret types to allow although they are refused by default, since they grant authors access beyond the sealed values: \
         kubernetes.io/service-account-token, bootstrap.kubernetes.io/token.",
    ),
    Flag::new(
        "forbid-secret-metadata",
        Kind::Text,
        "",
        "Labels and annotations to refuse on Secrets, separated by commas: prefixes of keys, or key=value, such as \
         reflector.v1.k8s.emberstack.com/,owner=helm.",
    ),
    Flag::new(
        "secret-labels",
        Kind::Text,
        "",
        "Labels to add to every Secret, separated by commas, such as team=platform,backup.example.com/include=true. They \
         override those of the SealedSecret.",
    ),
    Flag::new(
        "secret-annotations",
        Kind::Text,
        "",
        "Annotations to add to every Secret, separated by commas. They override those of the SealedSecret.",
    ),
    Flag::new(
        "forbid-templates",
        Kind::Text,
        "",
        "Namespaces in which templates are refused, separated by commas, such as 'team-*': whether a template renders \
         can reveal something about the values.",
    ),
    Flag::new(
        "allowed-scopes",
        Kind::Text,
        "",
        "Allowed scopes by namespace, such as 'team-*=strict,prod=strict+namespace-wide'; the first matching rule applies. \
         Without a matching rule, all scopes are allowed.",
    ),
    Flag::new(
        "require-v2",
        Kind::Text,
        "",
        "Namespaces in which every value must be sealed as v2, separated by commas, such as 'team-*'. spec.data is refused too.",
    ),
    Flag::new(
        "require-bound",
        Kind::Text,
        "",
        "Namespaces in which every value must be sealed as v2 and bound to the template, separated by commas, such as 'team-*'.",
    ),
    Flag::new(
        "minimum-suite",
        Kind::Text,
        "",
        "Weakest suites of v2 recipients by namespace, 'any' or 'post-quantum', such as 'prod=post-quantum'; the first \
         matching rule applies. post-quantum also refuses v1 values, which are sealed for RSA keys.",
    ),
    Flag::new(
        "max-locks",
        Kind::Int,
        "256",
        "Maximum number of v2 locks of a SealedSecret, each of which costs one private-key operation.",
    ),
    Flag::new(
        "max-sealing-key-age",
        Kind::Duration,
        "0s",
        "Maximum age of the key that an item was sealed for. Items sealed for older keys are refused; Secrets that already exist \
         are kept. 0 means no limit.",
    ),
    Flag::new(
        "listen-authorized-addr",
        Kind::Text,
        "",
        "Address of the TLS endpoints for authenticated callers: verify, rotate, unseal, deliver. Disabled if empty.",
    ),
    Flag::new(
        "certificate-configmap",
        Kind::Text,
        "",
        "ConfigMap in the controller's namespace in which to publish the current certificate. Disabled if empty.",
    ),
    Flag::new(
        "plain-certificate-only",
        Kind::Switch,
        "false",
        "Serve verify and rotate only to authenticated callers; the unauthenticated port then serves neither.",
    ),
    Flag::new(
        "unsealed-events",
        Kind::Switch,
        "true",
        "Emit an event when a SealedSecret is unsealed successfully; false emits only Warning events.",
    ),
    Flag::new(
        "metrics-max-objects",
        Kind::Int,
        "1000",
        "Maximum number of SealedSecrets with their own series in `condition_info`, and in \
         `rotate_by_timestamp_seconds`. Above this number, only SealedSecrets that are not synced, and those with the \
         earliest dates, have a series.",
    ),
    Flag::new(
        "metrics-omit-secret-labels",
        Kind::Switch,
        "false",
        "Omit names of objects and namespaces, and the metrics `condition_info` and `rotate_by_timestamp_seconds`, from \
         the metrics.",
    ),
    Flag::new("version", Kind::Switch, "false", "Print the version.").without_variable(),
];

/// Flags that apply only to a cluster. With `--directory` they have no effect and cause a warning.
pub(super) const CLUSTER_ONLY: &[&str] = &[
    "all-namespaces",
    "additional-namespaces",
    "label-selector",
    "secret-labels",
    "secret-annotations",
    "old-gc-behavior",
    "watch-for-secrets",
    "skip-recreate",
    "unsealed-events",
    "listen-authorized-addr",
    "certificate-configmap",
    "kubeclient-qps",
    "kubeclient-burst",
    "leader-elect",
    "leader-elect-lease-name",
    "leader-elect-lease-duration",
    "leader-elect-renew-deadline",
    "leader-elect-retry-period",
];
