//! The labels and annotations that the controller and the command-line tools interpret.

/// On an existing Secret: the controller may overwrite it and take ownership.
pub const MANAGED_ANNOTATION: &str = "sealedsecrets.bitnami.com/managed";
/// On an existing Secret: the controller merges into it instead of replacing it.
pub const PATCH_ANNOTATION: &str = "sealedsecrets.bitnami.com/patch";
/// On the template: the Secret gets no owner reference.
pub const SKIP_OWNER_ANNOTATION: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";
/// On a Secret whose templates use time or randomness: the mark of these values. See [`crate::random_mark`].
pub const RANDOM_VALUES_ANNOTATION: &str = "sealedsecrets.bitnami.com/random-values";
/// On a SealedSecret: the items of the Secret, separated by commas, whose former values stay in the Secret for a while
/// after a change, each under the name of the item with `.previous`.
pub const KEEP_PREVIOUS_ANNOTATION: &str = "sealedsecrets.bitnami.com/keep-previous";
/// On a SealedSecret: the maximum time for which former values are kept, as a duration like `30m`.
pub const KEEP_PREVIOUS_FOR_ANNOTATION: &str = "sealedsecrets.bitnami.com/keep-previous-for";
/// On a SealedSecret: `time` keeps former values for the whole time, even when every Pod has the current values; `pods`
/// or no value does not.
pub const KEEP_PREVIOUS_UNTIL_ANNOTATION: &str = "sealedsecrets.bitnami.com/keep-previous-until";
/// On a Secret that keeps former values: the version of each value, and until when the former values are kept.
pub const PREVIOUS_VALUES_ANNOTATION: &str = "sealedsecrets.bitnami.com/previous-values";
/// On a SealedSecret: with the value `false`, edits of its Secret by other clients are not corrected.
pub const CORRECT_DRIFT_ANNOTATION: &str = "sealedsecrets.bitnami.com/correct-drift";
/// On a key Secret: [`KEY_ACTIVE`] for a key that is loaded.
pub const KEY_LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";
/// On a Secret with a v2 key: [`KEY_ACTIVE`] for a key that is loaded. Bitnami's controller does not select this label.
pub const V2_KEY_LABEL: &str = "sealedsecrets.bitnami.com/v2-key";
/// Returns the name of the Secret that stores the content-version key. The name begins with the prefix of key Secrets.
pub fn version_key_name(prefix: &str) -> String {
    format!("{prefix}-content-versions")
}

/// The labels of Secrets with a private key of a controller.
pub const KEY_LABELS: [&str; 2] = [KEY_LABEL, V2_KEY_LABEL];
/// The Secret with this name is an RSA key even without [`KEY_LABEL`].
pub const UNLABELED_KEY_NAME: &str = "sealed-secrets-key";
/// Value of [`KEY_LABEL`] for an active key.
pub const KEY_ACTIVE: &str = "active";
/// Value of [`KEY_LABEL`] for a retired key, which the controller does not load.
pub const KEY_RETIRED: &str = "retired";
/// Value of [`KEY_LABEL`] for a compromised key, as in upstream. The controller does not load the key.
pub const KEY_COMPROMISED: &str = "compromised";
/// On a key Secret: which key was backed up and when. See [`crate::key_marks`].
pub const BACKED_UP_ANNOTATION: &str = "sealedsecrets.bitnami.com/backed-up";
/// On a key Secret: the time since which the key is considered compromised. The key unseals and never seals again.
pub const COMPROMISED_ANNOTATION: &str = "sealedsecrets.bitnami.com/compromised";
/// On a key Secret: the key unseals and does not seal, because it was restored and not chosen as a sealing
/// key.
pub const OPENING_ONLY_ANNOTATION: &str = "sealedsecrets.bitnami.com/opening-only";
/// On the newest key Secret, with the value `true`: requests a new key.
pub const RENEW_ANNOTATION: &str = "sealedsecrets.bitnami.com/renew";
/// On a SealedSecret: which certificate sealed each item. See [`crate::hints`].
pub const KEY_HINTS_ANNOTATION: &str = "sealedsecrets.bitnami.com/key-hints";
/// On a SealedSecret: the date from which the value of each item is overdue for a change. See [`crate::rotate_by`].
pub const ROTATE_BY_ANNOTATION: &str = "sealedsecrets.bitnami.com/rotate-by";
/// On a workload, with the value `auto`: `seal restart` restarts it after a change to a Secret that it consumes.
pub const RESTART_ANNOTATION: &str = "sealedsecrets.bitnami.com/restart";
/// On a workload: how long its Secrets must be unchanged before `seal restart` restarts it.
pub const RESTART_WINDOW_ANNOTATION: &str = "sealedsecrets.bitnami.com/restart-window";
/// On a Pod template: identifies the content of its Secrets for which `seal restart` restarted the workload.
pub const RESTARTED_FOR_ANNOTATION: &str = "sealedsecrets.bitnami.com/restarted-for";
/// On a SealedSecret or a Namespace: with the value `true`, `seal restart` makes the kubelet refresh mounted values at
/// once. With `false` on a SealedSecret or a Pod, `seal restart` does not.
pub const REFRESH_ANNOTATION: &str = "sealedsecrets.bitnami.com/refresh";
/// On a Pod: the content versions, separated by commas, for which `seal restart` last made the kubelet refresh its
/// volumes.
pub const REFRESHED_FOR_ANNOTATION: &str = "sealedsecrets.bitnami.com/refreshed-for";
/// Annotations with a copy of the whole Secret, which sealing must not copy.
pub const LAST_APPLIED_ANNOTATIONS: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubecfg.ksonnet.io/last-applied-configuration",
];
