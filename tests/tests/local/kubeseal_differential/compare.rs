//! Compares two outcomes.

use super::outcome::{Change, Outcome};

/// Returns the differences, one sentence each. Ignores warnings on stderr, which differ between the programs.
pub(crate) fn disagreements(upstream: &Outcome, own: &Outcome) -> Vec<String> {
    let mut differences = Vec::new();
    if upstream.termination != own.termination {
        differences.push(format!(
            "upstream ended with {:?}, this project with {:?}",
            upstream.termination, own.termination
        ));
    }
    if upstream.kind != own.kind {
        differences.push(format!(
            "upstream's error is of kind {:?}, this project's of kind {:?}",
            upstream.kind, own.kind
        ));
    } else if upstream.kind.has_upstream_text()
        && !begins_with(own.error.as_ref(), upstream.error.as_ref())
    {
        differences.push("the error does not begin with upstream's text".to_owned());
    }
    if upstream.stdout != own.stdout {
        differences.push("standard output differs".to_owned());
    }
    let names = upstream.changed.keys().chain(
        own.changed
            .keys()
            .filter(|name| !upstream.changed.contains_key(*name)),
    );
    for name in names {
        if let Some(difference) = file_difference(upstream.changed.get(name), own.changed.get(name))
        {
            differences.push(format!("file {name}: {difference}"));
        }
    }
    differences
}

/// Returns whether this project's error begins with upstream's. It may continue with any text, such as a hint.
fn begins_with(own: Option<&String>, upstream: Option<&String>) -> bool {
    match (own, upstream) {
        (Some(own), Some(upstream)) => own.starts_with(upstream.as_str()),
        (None, None) => true,
        _ => false,
    }
}

fn file_difference(upstream: Option<&Change>, own: Option<&Change>) -> Option<&'static str> {
    match (upstream, own) {
        (Some(upstream), Some(own)) if upstream == own => None,
        (Some(Change::File { text: a, .. }), Some(Change::File { text: b, .. })) if a == b => {
            Some("the modes differ")
        }
        (Some(_), Some(_)) => Some("the contents differ"),
        (Some(_), None) => Some("only upstream changes it"),
        (None, _) => Some("only this project changes it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{kind::Kind, run::Termination};
    use super::*;

    fn failed_outcome(kind: Kind, error: &str) -> Outcome {
        Outcome {
            termination: Termination::Exit(1),
            kind,
            error: Some(error.to_owned()),
            stdout: String::new(),
            stderr: format!("error: {error}\n"),
            changed: [(
                "out".to_owned(),
                Change::File {
                    mode: 0o600,
                    text: "x".to_owned(),
                },
            )]
            .into(),
        }
    }

    #[test]
    fn compares_every_part_of_an_outcome() {
        let upstream = failed_outcome(Kind::NoName, "missing");
        let compare_changed = |change: fn(&mut Outcome)| {
            let mut own = upstream.clone();
            change(&mut own);
            disagreements(&upstream, &own)
        };
        assert_eq!(compare_changed(|_| {}), Vec::<String>::new());
        for (part, change) in [
            (
                "ended",
                (|o| o.termination = Termination::Exit(2)) as fn(&mut Outcome),
            ),
            ("kind", |o| o.kind = Kind::NoNamespace),
            ("does not begin", |o| o.error = Some("absent".to_owned())),
            ("output", |o| o.stdout = "x".to_owned()),
            ("modes", |o| {
                o.changed.insert(
                    "out".to_owned(),
                    Change::File {
                        mode: 0o644,
                        text: "x".to_owned(),
                    },
                );
            }),
            ("contents", |o| {
                o.changed.insert("out".to_owned(), Change::Removed);
            }),
            ("only upstream", |o| o.changed.clear()),
            ("only this project", |o| {
                o.changed.insert("other".to_owned(), Change::Removed);
            }),
        ] {
            let differences = compare_changed(change);
            assert!(
                differences.len() == 1 && differences[0].contains(part),
                "{part}: {differences:?}"
            );
        }
    }

    #[test]
    fn allows_hints_and_different_library_errors() {
        let hint = disagreements(
            &failed_outcome(Kind::NoName, "missing"),
            &failed_outcome(Kind::NoName, "missing; try this"),
        );
        assert_eq!(hint, Vec::<String>::new());
        let library_error = disagreements(
            &failed_outcome(Kind::Input, "yaml: x"),
            &failed_outcome(Kind::Input, "malformed YAML"),
        );
        assert_eq!(library_error, Vec::<String>::new());
    }
}
