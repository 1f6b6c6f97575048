//! Formats the result of a restore as text. Names may come from the backup, so the caller
//! escapes them.

use kubeseal_library::keys::signature::VerifiedSigner;
use shared::key_marks::KeyState;

use super::plan::{Action, Plan, Step};

/// Formats the result as text.
pub(super) fn lines(
    plan: &Plan<'_>,
    place: &str,
    dry_run: bool,
    signed: Option<&VerifiedSigner>,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(signed) = signed {
        lines.push(format!("signed by {} ({})", signed.principals, signed.key));
    }
    for step in plan
        .steps
        .iter()
        .filter(|step| !matches!(step.action, Action::Broken(_)))
    {
        lines.push(line(step, dry_run));
        if !step.left_out.is_empty() {
            lines.push(format!("  not restored: {}", step.left_out.join(", ")));
        }
    }
    let restored = if dry_run {
        "would be restored"
    } else {
        "restored"
    };
    let (stored, total) = (plan.stored_count(), plan.steps.len());
    lines.push(format!("{stored} of {total} keys {restored} in {place}"));
    lines.extend(sealing(plan));
    lines
}

fn line(step: &Step<'_>, dry_run: bool) -> String {
    let fingerprint = step
        .fingerprint
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let restored = if dry_run {
        "would be restored"
    } else {
        "restored"
    };
    let outcome = match &step.action {
        Action::Put(_) => format!("{restored}{}, {}", as_name(step), state_text(step.state)),
        Action::LetSeal(_) if dry_run => {
            "already exists, and would become the sealing key".to_owned()
        }
        Action::LetSeal(_) => "already exists, and is now the sealing key".to_owned(),
        Action::Exists(_) => format!("already exists{} ({})", as_name(step), step.state.name()),
        Action::Broken(problem) => format!("cannot be used: {problem}"),
    };
    format!("{} {fingerprint}: {outcome}", step.name)
}

/// Returns ` as NAME` if the key is stored under another name.
fn as_name(step: &Step<'_>) -> String {
    let other = step.stored_name().filter(|name| *name != step.name);
    other.map(|name| format!(" as {name}")).unwrap_or_default()
}

fn state_text(state: KeyState) -> &'static str {
    match state {
        KeyState::Sealing => "as the sealing key",
        KeyState::Opening => "as opening-only",
        KeyState::Waiting => "to seal once it is backed up",
        KeyState::Compromised => "marked as compromised: it can unseal, but never seals",
        KeyState::Retired => "retired, as in the backup",
        KeyState::Broken => "but unusable",
    }
}

/// Describes which key seals after the restore, and how to choose another.
fn sealing(plan: &Plan<'_>) -> Vec<String> {
    let current = match &plan.sealing {
        Some(sealing) => format!("sealing key: {} {}", sealing.name, sealing.fingerprint),
        None => "sealing key: none; a controller generates one when it starts".to_owned(),
    };
    let mut lines = vec![current];
    if plan.restores_opening_only() && plan.sealing.is_none() {
        lines.extend([
            "restored keys can unseal but do not seal, because decrypting a backup does not prove who created it"
                .to_owned(),
            "hint: to seal with one of them, compare its fingerprint with a certificate that you trust, and run this \
             command again with --seal-with FINGERPRINT"
                .to_owned(),
        ]);
    }
    lines
}

/// Returns warnings, which are printed in either format.
pub(super) fn warnings(plan: &Plan<'_>) -> Vec<String> {
    let broken = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Broken(problem) => Some(format!("{} is not restored: {problem}", step.name)),
        _ => None,
    });
    let newer = plan.newer.iter().map(|key| {
        format!(
            "{key} is newer than the sealing key; check its origin: this project's controller does not seal with it, \
             but Bitnami's would"
        )
    });
    broken.chain(newer).collect()
}
