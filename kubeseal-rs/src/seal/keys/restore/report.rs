//! Formats the result of a restore as text. Names may come from the backup, so the caller
//! escapes them.

use shared::key_marks::KeyState;

use super::outcome::{Outcome, Row};
use super::{Plans, SignedBy};

/// Formats the result as text.
pub(super) fn lines(
    plans: &Plans<'_>,
    location: &str,
    dry_run: bool,
    signed: SignedBy<'_>,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(signed) = signed {
        lines.push(format!("signed by {} ({})", signed.principals, signed.key));
    }
    for row in plans.rows().filter(|row| !row.is_broken()) {
        lines.push(line(&row, dry_run));
        if !row.left_out.is_empty() {
            lines.push(format!("  not restored: {}", row.left_out.join(", ")));
        }
    }
    let restored = if dry_run {
        "would be restored"
    } else {
        "restored"
    };
    let stored = plans.rows().filter(|row| row.outcome == Outcome::Restored);
    let (stored, total) = (stored.count(), plans.rows().count());
    lines.push(format!("{stored} of {total} keys {restored} in {location}"));
    lines.extend(sealing(plans));
    lines
}

fn line(row: &Row<'_>, dry_run: bool) -> String {
    let restored = if dry_run {
        "would be restored"
    } else {
        "restored"
    };
    let outcome = match row.outcome {
        Outcome::Restored => format!("{restored}{}, {}", as_name(row), state_text(row.state)),
        Outcome::SealingAllowed if dry_run => {
            "already exists, and would become the sealing key".to_owned()
        }
        Outcome::SealingAllowed => "already exists, and is now the sealing key".to_owned(),
        Outcome::Exists => format!("already exists{} ({})", as_name(row), row.state.name()),
        Outcome::Broken(problem) => format!("cannot be used: {problem}"),
    };
    format!("{} {}: {outcome}", row.name, row.id())
}

/// Returns ` as NAME` if the key is stored under another name.
fn as_name(row: &Row<'_>) -> String {
    let other = row.stored_as.filter(|name| *name != row.name);
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

/// Describes which keys seal after the restore and, if keys were restored without a sealing key, how to choose one.
fn sealing(plans: &Plans<'_>) -> Vec<String> {
    let v2 = plans.v2.sealing().filter_map(|key| {
        let (suite, id) = (key.suite()?, key.key_id()?);
        Some(format!("sealing key: {} {suite} {id}", key.name()))
    });
    let v2: Vec<String> = v2.collect();
    let current = match &plans.rsa.sealing {
        Some(sealing) => format!("sealing key: {} {}", sealing.name, sealing.fingerprint),
        None if v2.is_empty() => {
            "sealing key: none; a controller generates one when it starts".to_owned()
        }
        None => "RSA sealing key: none; a controller generates one when it starts".to_owned(),
    };
    let mut lines = vec![current];
    lines.extend(v2);
    let is_rsa = plans.rsa.restores_opening_only() && plans.rsa.sealing.is_none();
    if is_rsa || plans.v2.needs_sealing_key() {
        lines.extend([
            "restored keys can unseal but do not seal, because decrypting a backup does not prove who created it"
                .to_owned(),
            "hint: to seal with one of them, compare its fingerprint with a certificate that you trust, and run this \
             command again with --seal-with FINGERPRINT"
                .to_owned(),
        ]);
    }
    if plans.v2.needs_sealing_key() {
        lines.push(
            "hint: for a v2 key, compare its identifier with a line of `seal keys export` that you trust, and pass the identifier"
                .to_owned(),
        );
    }
    lines
}

/// Returns warnings, which are printed in either format.
pub(super) fn warnings(plans: &Plans<'_>) -> Vec<String> {
    let broken = plans.rows().filter_map(|row| {
        let problem = row.outcome.problem()?;
        Some(format!("{} is not restored: {problem}", row.name))
    });
    let newer = plans.rsa.newer.iter().map(|key| {
        format!(
            "{key} is newer than the sealing key; check its origin: this project's controller does not seal with it, \
             but Bitnami's controller would"
        )
    });
    broken.chain(newer).collect()
}
