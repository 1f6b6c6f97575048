//! The JSON output of `seal keys restore`.

use serde::Serialize;

use super::outcome::Row;
use super::plan::SealingKey;
use super::{Plans, SignedBy};

/// The result of a restore.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RestoreReport<'a> {
    /// The namespace (`the namespace NAME`) or the directory of the keys.
    #[serde(rename = "place")]
    location: &'a str,
    /// Whether nothing was changed, because of `--dry-run`.
    dry_run: bool,
    /// The verified signer of the backup; null without `--verify`.
    signed_by: Option<SignerReport<'a>>,
    /// Each Secret of the backup.
    keys: Vec<RestoredKey<'a>>,
    /// The RSA key that seals after the restore; null if none may seal.
    sealing: Option<SealingReport<'a>>,
}

/// The signer of a backup.
#[derive(Debug, Serialize)]
struct SignerReport<'a> {
    /// The names of the signer in the allowed signers file.
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
    /// The fingerprint of the key; null if the key cannot be used, or is only for v2.
    fingerprint: Option<String>,
    /// `xw` or `p256`; absent for an RSA key or an unusable key.
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    /// The identifier of a key that is only for v2; absent for an RSA key or an unusable key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
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

/// The RSA key that seals after the restore.
#[derive(Debug, Serialize)]
struct SealingReport<'a> {
    /// The name of the key Secret.
    name: &'a str,
    /// The fingerprint of the key.
    fingerprint: String,
}

impl<'a> RestoreReport<'a> {
    pub(super) fn new(
        plans: &'a Plans<'_>,
        location: &'a str,
        dry_run: bool,
        signed: SignedBy<'a>,
    ) -> Self {
        Self {
            location,
            dry_run,
            signed_by: signed.map(|signed| SignerReport {
                principals: &signed.principals,
                key: &signed.key,
            }),
            keys: plans.rows().map(RestoredKey::new).collect(),
            sealing: plans.rsa.sealing.as_ref().map(SealingReport::new),
        }
    }
}

impl<'a> RestoredKey<'a> {
    fn new(row: Row<'a>) -> Self {
        Self {
            name: row.name,
            fingerprint: row.fingerprint.map(ToString::to_string),
            suite: row.v2.map(|(suite, _)| suite.to_string()),
            key_id: row.v2.map(|(_, id)| id.to_string()),
            outcome: row.outcome.name(),
            state: row.state.name(),
            stored_as: row.stored_as,
            left_out: row.left_out,
            problem: row.outcome.problem(),
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
    use kubeseal_library::keys::directory;
    use kubeseal_library::keys::signature::VerifiedSigner;
    use shared::secret::Secret;
    use shared::v2::key_secret::{self, StoredKey};
    use shared::v2::{Recipient as _, SecretKey, Suite};

    use super::super::{plan, v2};
    use super::*;
    use crate::seal::output::tests::{check, check_bytes};

    fn key() -> Secret {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/key-fixtures");
        let text = std::fs::read(fixtures.join("state/keys/key-2024.yaml")).unwrap();
        directory::secrets(&text).unwrap().remove(0)
    }

    fn v2_key() -> Secret {
        let stored = StoredKey {
            key: SecretKey::from_bytes(Suite::P256, &[1; 32]).unwrap(),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::MAX,
        };
        key_secret::build("key-v2", "ops", &stored, [].into(), [].into())
    }

    #[test]
    fn the_report_has_the_documented_form() {
        let mut labeled = key();
        let labels = labeled.metadata.labels.get_or_insert_default();
        labels.insert("team".to_owned(), "shop".to_owned());
        let mut broken = Secret::default();
        broken.metadata.name = Some("lost".to_owned());
        let chosen = "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo";
        let chosen = chosen.parse().unwrap();
        let backup = vec![labeled, broken];
        let now = Timestamp::UNIX_EPOCH;
        let plans = Plans {
            rsa: plan::Plan::new(backup, &[], Some(&chosen), now).unwrap(),
            v2: v2::Plan::new(vec![v2_key()], &[], &[], &[], now).unwrap(),
        };
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
    },
    {
      "name": "key-v2",
      "fingerprint": null,
      "suite": "p256",
      "keyId": "KEY_ID",
      "outcome": "restored",
      "state": "opening",
      "storedAs": "key-v2",
      "leftOut": []
    }
  ],
  "sealing": {
    "name": "key-2024",
    "fingerprint": "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo"
  }
}
"#;
        let id = SecretKey::from_bytes(Suite::P256, &[1; 32]).unwrap();
        let want = want.replace("KEY_ID", &id.recipient().key_id().to_string());
        let report = RestoreReport::new(&plans, "state/keys", true, Some(&signed));
        check("seal keys restore", &report, &want);
    }

    #[test]
    fn the_smallest_report_has_the_documented_form() {
        let now = Timestamp::UNIX_EPOCH;
        let plans = Plans {
            rsa: plan::Plan::new(Vec::new(), &[], None, now).unwrap(),
            v2: v2::Plan::new(Vec::new(), &[], &[], &[], now).unwrap(),
        };
        let want = r#"{
  "place": "state/keys",
  "dryRun": false,
  "signedBy": null,
  "keys": [],
  "sealing": null
}
"#;
        check_bytes(&RestoreReport::new(&plans, "state/keys", false, None), want);
    }
}
