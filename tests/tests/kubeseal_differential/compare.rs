//! Agreement of two outcomes.

use crate::outcome::{Left, Outcome};

/// What is not alike, one sentence each; warnings on standard error are each program's own.
pub(crate) fn disagreements(peer: &Outcome, ours: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    if peer.ending != ours.ending {
        wrong.push(format!(
            "the peer ended with {:?}, ours with {:?}",
            peer.ending, ours.ending
        ));
    }
    if peer.kind != ours.kind {
        wrong.push(format!(
            "the peer's error is of kind {:?}, ours of kind {:?}",
            peer.kind, ours.kind
        ));
    } else if peer.kind.keeps_words() && !begins(ours.error.as_ref(), peer.error.as_ref()) {
        wrong.push("our error does not begin with the peer's words".to_owned());
    }
    if peer.stdout != ours.stdout {
        wrong.push("standard output differs".to_owned());
    }
    let names = peer.changed.keys().chain(
        ours.changed
            .keys()
            .filter(|name| !peer.changed.contains_key(*name)),
    );
    for name in names {
        if let Some(difference) = file_difference(peer.changed.get(name), ours.changed.get(name)) {
            wrong.push(format!("file {name}: {difference}"));
        }
    }
    wrong
}

/// Ours may go on with a hint.
fn begins(ours: Option<&String>, peer: Option<&String>) -> bool {
    match (ours, peer) {
        (Some(ours), Some(peer)) => ours.starts_with(peer.as_str()),
        (None, None) => true,
        _ => false,
    }
}

fn file_difference(peer: Option<&Left>, ours: Option<&Left>) -> Option<&'static str> {
    match (peer, ours) {
        (Some(peer), Some(ours)) if peer == ours => None,
        (Some(Left::File { text: a, .. }), Some(Left::File { text: b, .. })) if a == b => {
            Some("the modes differ")
        }
        (Some(_), Some(_)) => Some("the contents differ"),
        (Some(_), None) => Some("only the peer changes it"),
        (None, _) => Some("only ours changes it"),
    }
}
