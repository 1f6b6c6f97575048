//! Converts objects between v1 and v2 with private keys, and re-encrypts v2 values for the recipients of their rule.

use anyhow::{Result, bail};
use kubeseal_library::rules::SealedFormat;
use kubeseal_library::walk::{self, Candidate, Kind, ManifestFile, WalkError};
use shared::convert;
use shared::key_ring::KeyRing;
use shared::meter::Unmetered;
use shared::reseal;
use shared::resource::SealedSecret;
use shared::sealed_file::{self, Found};
use shared::v2::{self, Edit, Flag, FoldSpec, Recipient as _};

use super::{NewCiphertexts, NewKeys, Rotate};
use crate::failure::Failure;
use crate::report::shown;
use crate::seal::recipients::Recipients;
use crate::seal::session::Session;
use crate::seal::settings::{Settings, unused_recipients};
use crate::seal::size;

/// Returns the format to convert an object to: the format of `--to` or, without `--to`, v2 if the object has v2 values.
/// Returns `None` for an object that is re-encrypted as v1.
pub(super) fn target(args: &Rotate, sealed: &SealedSecret) -> Option<SealedFormat> {
    let is_v2 = v2::is_v2(&sealed.spec.encrypted_data);
    args.to.or_else(|| is_v2.then_some(SealedFormat::V2))
}

/// Refuses keys of `--recipient` if the run seals no v2 value. A file that cannot be read is reported later.
pub(super) fn check_recipients(args: &Rotate, candidates: &[Candidate]) -> Result<()> {
    if args.sealing.recipient.is_empty() || args.to == Some(SealedFormat::V2) {
        return Ok(());
    }
    if args.to == Some(SealedFormat::V1) {
        bail!(unused_recipients().hint("omit --recipient, or pass --to v2"));
    }
    let mut files = candidates
        .iter()
        .map(|candidate| walk::read(candidate, Kind::SealedSecret));
    let may_have_v2 = |file: Result<Option<ManifestFile>, WalkError>| match file {
        Ok(Some(file)) => has_v2(&file),
        Ok(None) => false,
        Err(_) => true,
    };
    if files.any(may_have_v2) {
        return Ok(());
    }
    bail!(unused_recipients().hint("pass --to v2 to convert the values, or omit --recipient"))
}

fn has_v2(file: &ManifestFile) -> bool {
    let objects = sealed_file::find(&file.documents);
    let is_v2 = |found: &Found| v2::is_v2(&found.sealed.spec.encrypted_data);
    objects.is_err() || objects.is_ok_and(|objects| objects.iter().any(is_v2))
}

/// Converts one object. Returns no items if nothing changes.
pub(super) fn convert(
    session: &Session<'_>,
    ring: &KeyRing,
    settings: &Settings,
    args: &Rotate,
    (index, found): (usize, &Found),
    format: SealedFormat,
) -> Result<NewCiphertexts> {
    let (edit, keys) = match format {
        SealedFormat::V1 => to_v1(session, ring, settings, &found.sealed)?,
        SealedFormat::V2 => to_v2(session, ring, settings, args, &found.sealed)?,
    };
    let mut result = found.sealed.clone();
    edit.clone().apply(&mut result.spec.encrypted_data);
    if !edit.set.is_empty() {
        size::check(&result)?;
    }
    Ok(NewCiphertexts {
        index,
        items: edit.set,
        removed: Vec::from_iter(edit.remove),
        data: None,
        keys,
    })
}

fn to_v1(
    session: &Session<'_>,
    ring: &KeyRing,
    settings: &Settings,
    sealed: &SealedSecret,
) -> Result<(Edit, NewKeys)> {
    let certificate = session.certificate(settings)?;
    let policy = convert::policy(session.environment.now);
    let (key, random) = (certificate.public_key(), &mut shared::random::system());
    let edit = convert::to_v1(sealed, ring, key, &policy, random)?;
    let keys = NewKeys::Certificate {
        fingerprint: certificate.fingerprint().clone(),
        adds_hints: !session.args.no_hints,
    };
    Ok((edit, keys))
}

fn to_v2(
    session: &Session<'_>,
    ring: &KeyRing,
    settings: &Settings,
    args: &Rotate,
    sealed: &SealedSecret,
) -> Result<(Edit, NewKeys)> {
    let recipients = session.recipients(settings)?;
    let permission = ClassicalPermission::find(args, sealed, &recipients)?;
    let spec = FoldSpec {
        recipients: &recipients.keys(),
        allow_classical: permission.allow_classical,
        template: if args.bind_template {
            Flag::Set
        } else {
            Flag::Inherit
        },
        never_secret: Flag::Inherit,
        alone: Flag::Inherit,
        is_forced: false,
        now: session.environment.now,
    };
    let only_v2;
    let sealed = if args.to.is_some() {
        sealed
    } else {
        // v1 items stay v1 unless the user converts them.
        only_v2 = sealed.v2_part();
        &only_v2
    };
    let policy = convert::policy(session.environment.now);
    let random = &mut shared::random::system();
    let edit = reseal::convert_to_v2(sealed, ring, &spec, &policy, random, &mut Unmetered)?;
    let keys = recipients.describe() + permission.remark;
    Ok((edit, NewKeys::Recipients(keys)))
}

/// Whether values may be sealed for keys that are not post-quantum.
struct ClassicalPermission {
    allow_classical: bool,
    /// A remark for the summary on the protection that the values lose.
    remark: &'static str,
}

impl ClassicalPermission {
    /// Decides whether keys that are not post-quantum are allowed. The author of a rule alone cannot allow them for
    /// existing values that forbid them.
    fn find(args: &Rotate, sealed: &SealedSecret, recipients: &Recipients) -> Result<Self> {
        let object = v2::Object::parse(&sealed.spec.encrypted_data)?;
        let view = object.view();
        let mut items = view.iter();
        let Some((item, _)) = items.find(|(_, view)| view.is_post_quantum_only) else {
            return Ok(Self::without_loss(recipients.allow_classical));
        };
        let allowed_by_rule = recipients.allow_classical;
        if allowed_by_rule && args.allow_classical {
            return Ok(Self {
                allow_classical: true,
                remark: " (no longer for post-quantum keys only)",
            });
        }
        let mut keys = recipients.keys.iter();
        match keys.find(|key| !key.suite().is_post_quantum()) {
            Some(key) if allowed_by_rule => bail!(only_rule_allows(item, key.suite())),
            _ => Ok(Self::without_loss(false)),
        }
    }

    fn without_loss(allow_classical: bool) -> Self {
        Self {
            allow_classical,
            remark: "",
        }
    }
}

fn only_rule_allows(item: &str, suite: v2::Suite) -> Failure {
    let message = format!(
        "the item {:?} forbids keys that are not post-quantum, and only a rule allows the recipient {suite}",
        shown(item)
    );
    let hint = "if the values need no protection from quantum computers, pass --allow-classical";
    Failure::new(message).hint(hint)
}
