//! Every label and annotation that the controller and the programs give a meaning to.

/// On an existing Secret: the controller may overwrite it and take ownership.
pub const MANAGED_ANNOTATION: &str = "sealedsecrets.bitnami.com/managed";
/// On an existing Secret: merge into it instead of replacing it.
pub const PATCH_ANNOTATION: &str = "sealedsecrets.bitnami.com/patch";
/// On the template: the Secret gets no owner.
pub const SKIP_OWNER_ANNOTATION: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";
/// On a key Secret; the value is [`KEY_ACTIVE`] for a key that is loaded.
pub const KEY_LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";
/// Value of [`KEY_LABEL`] of a key in use.
pub const KEY_ACTIVE: &str = "active";
/// Value of [`KEY_LABEL`] of a key that was taken out because nothing needs it any more.
pub const KEY_RETIRED: &str = "retired";
/// Value of [`KEY_LABEL`] of a key that was taken out because others may know it. The peer's word.
pub const KEY_COMPROMISED: &str = "compromised";
/// On a key Secret: which key was backed up and when. See [`crate::key_marks`].
pub const BACKED_UP_ANNOTATION: &str = "sealedsecrets.bitnami.com/backed-up";
/// On a key Secret: since when others may know the key. It opens and never seals again.
pub const COMPROMISED_ANNOTATION: &str = "sealedsecrets.bitnami.com/compromised";
/// On a key Secret: the key opens and never seals, because a restore brought it and nobody chose it to seal.
pub const OPENING_ONLY_ANNOTATION: &str = "sealedsecrets.bitnami.com/opening-only";
/// On the newest key Secret, with the value `true`: a key is made to follow it.
pub const RENEW_ANNOTATION: &str = "sealedsecrets.bitnami.com/renew";
/// On a SealedSecret: which certificate each item was sealed with. See [`crate::hints`].
pub const KEY_HINTS_ANNOTATION: &str = "sealedsecrets.bitnami.com/key-hints";
/// Annotations with a copy of the whole Secret, which sealing must not carry along.
pub const LAST_APPLIED_ANNOTATIONS: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubecfg.ksonnet.io/last-applied-configuration",
];
