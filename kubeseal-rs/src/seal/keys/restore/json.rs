//! The JSON output of `seal keys restore`.

use kubeseal_library::keys::signature::VerifiedSigner;
use serde::Serialize;

use super::plan::{Action, Plan, SealingKey, Step};

/// The result of a restore.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RestoreReport<'a> {
    /// The namespace (`the namespace NAME`) or the directory of the keys.
    place: &'a str,
    /// Whether nothing was changed, because of `--dry-run`.
    dry_run: bool,
    /// The verified signer of the backup; null without `--verify`.
    signed_by: Option<SignerReport<'a>>,
    /// Each Secret of the backup.
    keys: Vec<RestoredKey<'a>>,
    /// The key that seals after the restore; null if none may seal.
    sealing: Option<SealingReport<'a>>,
}

/// The signer of a backup.
#[derive(Debug, Serialize)]
struct SignerReport<'a> {
    /// The names of the signer in the file of allowed signers.
    principals: &'a str,
    /// The fingerprint of the signer's SSH key.
    key: &'a str,
}

/// One Secret of the backup.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RestoredKey<'a> {
    /// The name of the Secret in the backup.
    name: &'a str,
    /// The fingerprint of the key; null if the key cannot be used.
    fingerprint: Option<String>,
    /// `restored`, `sealingAllowed`, `exists` or `broken`; in a dry run, the expected outcome.
    outcome: &'static str,
    /// The state of the key after the restore.
    state: &'static str,
    /// The name of the Secret that contains the key; null if the key cannot be used.
    stored_as: Option<&'a str>,
    /// Properties of the backup's Secret that are not restored.
    left_out: &'a [String],
    /// Why the key cannot be used; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// The key that seals after the restore.
#[derive(Debug, Serialize)]
struct SealingReport<'a> {
    /// The name of the key Secret.
    name: &'a str,
    /// The fingerprint of the key.
    fingerprint: String,
}

impl<'a> RestoreReport<'a> {
    pub(super) fn new(
        plan: &'a Plan<'_>,
        place: &'a str,
        dry_run: bool,
        signed: Option<&'a VerifiedSigner>,
    ) -> Self {
        Self {
            place,
            dry_run,
            signed_by: signed.map(|signed| SignerReport {
                principals: &signed.principals,
                key: &signed.key,
            }),
            keys: plan.steps.iter().map(RestoredKey::new).collect(),
            sealing: plan.sealing.as_ref().map(SealingReport::new),
        }
    }
}

impl<'a> RestoredKey<'a> {
    fn new(step: &'a Step<'_>) -> Self {
        let (outcome, problem) = match &step.action {
            Action::Put(_) => ("restored", None),
            Action::LetSeal(_) => ("sealingAllowed", None),
            Action::Exists(_) => ("exists", None),
            Action::Broken(problem) => ("broken", Some(problem.as_str())),
        };
        Self {
            name: &step.name,
            fingerprint: step.fingerprint.as_ref().map(ToString::to_string),
            outcome,
            state: step.state.name(),
            stored_as: step.stored_name(),
            left_out: &step.left_out,
            problem,
        }
    }
}

impl<'a> SealingReport<'a> {
    fn new(key: &'a SealingKey) -> Self {
        Self {
            name: &key.name,
            fingerprint: key.fingerprint.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use kubeseal_library::keys::folder;
    use shared::secret::Secret;

    use super::*;
    use crate::seal::output::tests::{check, check_bytes};

    fn key() -> Secret {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/key-fixtures");
        let text = std::fs::read(fixtures.join("state/keys/key-2024.yaml")).unwrap();
        folder::secrets(&text).unwrap().remove(0)
    }

    #[test]
    fn pins_the_report() {
        let mut labeled = key();
        let labels = labeled.metadata.labels.get_or_insert_default();
        labels.insert("team".to_owned(), "shop".to_owned());
        let mut broken = Secret::default();
        broken.metadata.name = Some("lost".to_owned());
        let chosen = "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo";
        let chosen = chosen.parse().unwrap();
        let backup = vec![labeled, broken];
        let plan = Plan::new(backup, &[], Some(&chosen), Timestamp::UNIX_EPOCH).unwrap();
        let signed = VerifiedSigner {
            principals: "ops@example.com".to_owned(),
            key: "SHA256:x".to_owned(),
        };
        let want = r#"{
  "place": "state/keys",
  "dryRun": true,
  "signedBy": {
    "principals": "ops@example.com",
    "key": "SHA256:x"
  },
  "keys": [
    {
      "name": "key-2024",
      "fingerprint": "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo",
      "outcome": "restored",
      "state": "sealing",
      "storedAs": "key-2024",
      "leftOut": [
        "label team"
      ]
    },
    {
      "name": "lost",
      "fingerprint": null,
      "outcome": "broken",
      "state": "broken",
      "storedAs": null,
      "leftOut": [],
      "problem": "it has no item `tls.key`"
    }
  ],
  "sealing": {
    "name": "key-2024",
    "fingerprint": "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo"
  }
}
"#;
        let report = RestoreReport::new(&plan, "state/keys", true, Some(&signed));
        check("seal keys restore", &report, want);
    }

    #[test]
    fn pins_the_smallest_report() {
        let plan = Plan::new(Vec::new(), &[], None, Timestamp::UNIX_EPOCH).unwrap();
        let want = r#"{
  "place": "state/keys",
  "dryRun": false,
  "signedBy": null,
  "keys": [],
  "sealing": null
}
"#;
        check_bytes(&RestoreReport::new(&plan, "state/keys", false, None), want);
    }
}
