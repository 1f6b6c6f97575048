//! The labels and annotations that the controller and the command-line tools interpret.

/// On an existing Secret: the controller may overwrite it and take ownership.
pub const MANAGED_ANNOTATION: &str = "sealedsecrets.bitnami.com/managed";
/// On an existing Secret: the controller merges into it instead of replacing it.
pub const PATCH_ANNOTATION: &str = "sealedsecrets.bitnami.com/patch";
/// On the template: the Secret gets no owner reference.
pub const SKIP_OWNER_ANNOTATION: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";
/// On a Secret whose templates use time or randomness: the mark of these values. See [`crate::random_mark`].
pub const RANDOM_VALUES_ANNOTATION: &str = "sealedsecrets.bitnami.com/random-values";
/// On a key Secret: [`KEY_ACTIVE`] for a key that is loaded.
pub const KEY_LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";
/// On a Secret with a v2 key: [`KEY_ACTIVE`] for a key that is loaded. Bitnami's controller does not select this label.
pub const V2_KEY_LABEL: &str = "sealedsecrets.bitnami.com/v2-key";
/// The labels of Secrets with a private key of a controller.
pub const KEY_LABELS: [&str; 2] = [KEY_LABEL, V2_KEY_LABEL];
/// The Secret with this name is an RSA key even without [`KEY_LABEL`].
pub const UNLABELED_KEY_NAME: &str = "sealed-secrets-key";
/// Value of [`KEY_LABEL`] of a key in use.
pub const KEY_ACTIVE: &str = "active";
/// Value of [`KEY_LABEL`] of a retired key, which the controller does not load.
pub const KEY_RETIRED: &str = "retired";
/// Value of [`KEY_LABEL`] with which upstream marks a compromised key, which it then does not load.
pub const KEY_COMPROMISED: &str = "compromised";
/// On a key Secret: which key was backed up and when. See [`crate::key_marks`].
pub const BACKED_UP_ANNOTATION: &str = "sealedsecrets.bitnami.com/backed-up";
/// On a key Secret: the time since which the key is considered compromised. It unseals and never
/// seals again.
pub const COMPROMISED_ANNOTATION: &str = "sealedsecrets.bitnami.com/compromised";
/// On a key Secret: the key unseals and does not seal, because it was restored and not chosen as a sealing
/// key.
pub const OPENING_ONLY_ANNOTATION: &str = "sealedsecrets.bitnami.com/opening-only";
/// On the newest key Secret, with the value `true`: requests a new key.
pub const RENEW_ANNOTATION: &str = "sealedsecrets.bitnami.com/renew";
/// On a SealedSecret: which certificate sealed each item. See [`crate::hints`].
pub const KEY_HINTS_ANNOTATION: &str = "sealedsecrets.bitnami.com/key-hints";
/// Annotations with a copy of the whole Secret, which sealing must not copy.
pub const LAST_APPLIED_ANNOTATIONS: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubecfg.ksonnet.io/last-applied-configuration",
];
