//! The command-line flags: upstream's, with its order and defaults, and additional ones.

use flags::{Flag, Kind, Program};

/// The controller's command line.
pub const PROGRAM: Program = Program {
    name: "controller",
    about: "Turns SealedSecrets into Secrets.",
    after_help: "Every flag has a variable: --key-ttl is SEALED_SECRETS_KEY_TTL. The command line \
                 beats the variable. Durations look like 720h or 1h30m; there is no unit for days.",
    flags: FLAGS,
};

const FLAGS: &[Flag] = &[
    Flag::new(
        "directory",
        Kind::Text,
        "",
        "Works on this folder instead of a cluster: DIR/sealed, DIR/keys, DIR/secrets, DIR/status.",
    ),
    Flag::new(
        "kubeconfig",
        Kind::Text,
        "",
        "Reaches the cluster by this file instead of as a Pod does.",
    ),
    Flag::new(
        "key-prefix",
        Kind::Text,
        "sealed-secrets-key",
        "What names of new keys begin with.",
    ),
    Flag::new(
        "key-size",
        Kind::Int,
        "4096",
        "Bits of new RSA keys: 2048, 3072, 4096 or 8192.",
    ),
    Flag::new(
        "key-ttl",
        Kind::Duration,
        "87600h",
        "How long a new certificate is valid.",
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
        "Age at which the newest key is followed by another; 0 for never.",
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
        "Which key is the newest: by CertNotBefore or SecretCreationTimestamp.",
    ),
    Flag::new(
        "key-cutoff-time",
        Kind::Text,
        "",
        "A newest key from before this time is followed by another; like 'Mon, 02 Jan 2006 15:04:05 -0700'.",
    ),
    Flag::new(
        "require-backup",
        Kind::Switch,
        "false",
        "A key seals only once it is marked as backed up, see `seal keys backup`; the previous one serves until then.",
    ),
    Flag::new(
        "accept-deprecated-v1-data",
        Kind::Switch,
        "true",
        "Opens the deprecated field spec.data too.",
    ),
    Flag::new(
        "all-namespaces",
        Kind::Switch,
        "true",
        "Works in all namespaces, or only in its own.",
    ),
    Flag::new(
        "additional-namespaces",
        Kind::Text,
        "",
        "Namespaces to work in beside its own, by comma.",
    ),
    Flag::new(
        "label-selector",
        Kind::Text,
        "",
        "Works only on SealedSecrets with these labels.",
    ),
    Flag::new(
        "rate-limit",
        Kind::Int,
        "2",
        "Requests a second of one caller to verify, and as many to rotate.",
    ),
    Flag::new(
        "rate-limit-burst",
        Kind::Int,
        "2",
        "Requests at once beyond the rate.",
    ),
    Flag::new(
        "privatekey-annotations",
        Kind::Text,
        "",
        "Annotations of new key Secrets: k=v,k2=v2.",
    ),
    Flag::new(
        "privatekey-labels",
        Kind::Text,
        "",
        "Labels of new key Secrets: k=v,k2=v2.",
    ),
    Flag::new(
        "old-gc-behavior",
        Kind::Switch,
        "false",
        "Deletes Secrets itself instead of leaving it to the cluster.",
    ),
    Flag::new(
        "update-status",
        Kind::Switch,
        "true",
        "Records the outcome in the status of each SealedSecret.",
    ),
    Flag::new(
        "watch-for-secrets",
        Kind::Switch,
        "false",
        "Notices keys that others add.",
    ),
    Flag::new(
        "skip-recreate",
        Kind::Switch,
        "false",
        "Does not watch Secrets, so that deleted ones stay deleted.",
    ),
    Flag::new(
        "correct-drift",
        Kind::Switch,
        "true",
        "Puts right what others change on Secrets; an annotation opts a single SealedSecret out.",
    ),
    Flag::new(
        "log-info-stdout",
        Kind::Switch,
        "true",
        "Logs up to INFO to stdout and the rest to stderr; false sends all to stderr.",
    ),
    Flag::new(
        "log-level",
        Kind::Text,
        "INFO",
        "DEBUG, INFO, WARN or ERROR.",
    ),
    Flag::new("log-format", Kind::Text, "text", "text or json."),
    Flag::new(
        "max-unseal-retries",
        Kind::Int,
        "5",
        "Failures in a row, after the first, before an object is reported once more as one that keeps failing. It is \
         tried again forever, ever more slowly.",
    ),
    Flag::new(
        "kubeclient-qps",
        Kind::Float,
        "-1",
        "Requests per second to the API server; negative for no limit but 32 at once, and none while the API server \
         says to wait.",
    ),
    Flag::new(
        "kubeclient-burst",
        Kind::Int,
        "10",
        "Requests to the API server at once after a rest, if there is a limit per second.",
    ),
    Flag::new(
        "leader-elect",
        Kind::Switch,
        "true",
        "Lets one of several replicas write, by a Lease in its own namespace.",
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
        "So long after the last word of the leader another replica takes over.",
    ),
    Flag::new(
        "leader-elect-renew-deadline",
        Kind::Duration,
        "8s",
        "So long after its last word the leader writes nothing any more.",
    ),
    Flag::new(
        "leader-elect-retry-period",
        Kind::Duration,
        "2s",
        "Between two looks at the Lease.",
    ),
    Flag::new(
        "listen-addr",
        Kind::Text,
        ":8080",
        "Address of the HTTP server; port 0 takes a free one and logs it.",
    ),
    Flag::new(
        "listen-metrics-addr",
        Kind::Text,
        ":8081",
        "Address of the metrics server, which answers health checks too. With --directory its host is that of \
         --listen-addr by default, or 127.0.0.1 if that is not given.",
    ),
    Flag::new(
        "read-timeout",
        Kind::Duration,
        "2m",
        "Longest time for reading a request.",
    ),
    Flag::new(
        "write-timeout",
        Kind::Duration,
        "2m",
        "Longest time for writing an answer.",
    ),
    Flag::new(
        "refuse-random-templates",
        Kind::Switch,
        "false",
        "Refuses templates that use the time, random values or new keys: their results differ each time.",
    ),
    Flag::new(
        "forbid-secret-types",
        Kind::Text,
        "",
        "More types of Secret that no SealedSecret is turned into, by comma, like kubernetes.io/dockercfg.",
    ),
    Flag::new(
        "allow-secret-types",
        Kind::Text,
        "",
        "Types that are refused by default, since they give authors more than the sealed values, and are made all the \
         same: kubernetes.io/service-account-token, bootstrap.kubernetes.io/token.",
    ),
    Flag::new(
        "forbid-secret-metadata",
        Kind::Text,
        "",
        "Labels and annotations that no Secret gets, by comma: prefixes of keys, or key=value, like \
         reflector.v1.k8s.emberstack.com/,owner=helm.",
    ),
    Flag::new(
        "secret-labels",
        Kind::Text,
        "",
        "Labels that every Secret gets, by comma, like team=platform,backup.example.com/include=true. They win over \
         the SealedSecret's own.",
    ),
    Flag::new(
        "secret-annotations",
        Kind::Text,
        "",
        "Annotations that every Secret gets, in the same form.",
    ),
    Flag::new(
        "forbid-templates",
        Kind::Text,
        "",
        "Namespaces in which no template is rendered, by comma, like 'team-*': a template tells its author \
         something of the values by rendering or failing.",
    ),
    Flag::new(
        "allowed-scopes",
        Kind::Text,
        "",
        "Scopes by namespace, like 'team-*=strict,prod=strict+namespace-wide'; the first rule that fits holds, and \
         without one all are allowed.",
    ),
    Flag::new(
        "max-sealing-key-age",
        Kind::Duration,
        "0s",
        "Refuses items that were sealed for an older key; what was unsealed before stays. 0 for no limit.",
    ),
    Flag::new(
        "listen-authorized-addr",
        Kind::Text,
        "",
        "Address of the endpoints for callers with a token, over TLS: verify, rotate, unseal. None if empty.",
    ),
    Flag::new(
        "certificate-configmap",
        Kind::Text,
        "",
        "ConfigMap in the own namespace that is kept in step with the newest certificate. None if empty.",
    ),
    Flag::new(
        "plain-certificate-only",
        Kind::Switch,
        "false",
        "Leaves verify and rotate to callers with a token: the plain port serves certificates only.",
    ),
    Flag::new(
        "unsealed-events",
        Kind::Switch,
        "true",
        "Writes an event for each SealedSecret that was unsealed; false writes warnings only.",
    ),
    Flag::new(
        "metrics-max-objects",
        Kind::Int,
        "1000",
        "SealedSecrets with a series of their own in `condition_info`; of more, only those that are not synced have one.",
    ),
    Flag::new(
        "metrics-omit-secret-labels",
        Kind::Switch,
        "false",
        "Leaves names of objects and namespaces out of the metrics: no `condition_info`.",
    ),
    Flag::new("version", Kind::Switch, "false", "Prints the version.").without_variable(),
];

/// Flags that only concern a cluster. With `--directory` they have no effect and cause a warning.
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
