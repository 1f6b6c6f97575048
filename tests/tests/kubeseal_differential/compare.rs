//! Compares two outcomes.

use crate::outcome::{Left, Outcome};

/// Returns the differences, one sentence each. Ignores warnings on stderr, which differ between the programs.
pub(crate) fn disagreements(upstream: &Outcome, ours: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    if upstream.ending != ours.ending {
        wrong.push(format!(
            "upstream ended with {:?}, ours with {:?}",
            upstream.ending, ours.ending
        ));
    }
    if upstream.kind != ours.kind {
        wrong.push(format!(
            "upstream's error is of kind {:?}, ours of kind {:?}",
            upstream.kind, ours.kind
        ));
    } else if upstream.kind.keeps_text()
        && !begins_like(ours.error.as_ref(), upstream.error.as_ref())
    {
        wrong.push("our error does not begin with upstream's text".to_owned());
    }
    if upstream.stdout != ours.stdout {
        wrong.push("standard output differs".to_owned());
    }
    let names = upstream.changed.keys().chain(
        ours.changed
            .keys()
            .filter(|name| !upstream.changed.contains_key(*name)),
    );
    for name in names {
        if let Some(difference) =
            file_difference(upstream.changed.get(name), ours.changed.get(name))
        {
            wrong.push(format!("file {name}: {difference}"));
        }
    }
    wrong
}

/// Returns whether our text begins with upstream's; ours may continue with a hint.
fn begins_like(ours: Option<&String>, upstream: Option<&String>) -> bool {
    match (ours, upstream) {
        (Some(ours), Some(upstream)) => ours.starts_with(upstream.as_str()),
        (None, None) => true,
        _ => false,
    }
}

fn file_difference(upstream: Option<&Left>, ours: Option<&Left>) -> Option<&'static str> {
    match (upstream, ours) {
        (Some(upstream), Some(ours)) if upstream == ours => None,
        (Some(Left::File { text: a, .. }), Some(Left::File { text: b, .. })) if a == b => {
            Some("the modes differ")
        }
        (Some(_), Some(_)) => Some("the contents differ"),
        (Some(_), None) => Some("only upstream changes it"),
        (None, _) => Some("only ours changes it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kind::Kind, run::Ending};

    fn failed(kind: Kind, error: &str) -> Outcome {
        Outcome {
            ending: Ending::Exit(1),
            kind,
            error: Some(error.to_owned()),
            stdout: String::new(),
            stderr: format!("error: {error}\n"),
            changed: [(
                "out".to_owned(),
                Left::File {
                    mode: 0o600,
                    text: "x".to_owned(),
                },
            )]
            .into(),
        }
    }

    #[test]
    fn compares_every_part_of_an_outcome() {
        let upstream = failed(Kind::NoName, "missing");
        let with = |change: fn(&mut Outcome)| {
            let mut ours = upstream.clone();
            change(&mut ours);
            disagreements(&upstream, &ours)
        };
        assert_eq!(with(|_| {}), Vec::<String>::new());
        for (what, change) in [
            (
                "ended",
                (|o| o.ending = Ending::Exit(2)) as fn(&mut Outcome),
            ),
            ("kind", |o| o.kind = Kind::NoNamespace),
            ("does not begin", |o| o.error = Some("absent".to_owned())),
            ("output", |o| o.stdout = "x".to_owned()),
            ("modes", |o| {
                o.changed.insert(
                    "out".to_owned(),
                    Left::File {
                        mode: 0o644,
                        text: "x".to_owned(),
                    },
                );
            }),
            ("contents", |o| {
                o.changed.insert("out".to_owned(), Left::Gone);
            }),
            ("only upstream", |o| o.changed.clear()),
            ("only ours", |o| {
                o.changed.insert("other".to_owned(), Left::Gone);
            }),
        ] {
            let found = with(change);
            assert!(
                found.len() == 1 && found[0].contains(what),
                "{what}: {found:?}"
            );
        }
    }

    #[test]
    fn allows_hints_and_different_library_errors() {
        let hint = disagreements(
            &failed(Kind::NoName, "missing"),
            &failed(Kind::NoName, "missing; try this"),
        );
        assert_eq!(hint, Vec::<String>::new());
        let args = disagreements(
            &failed(Kind::Input, "yaml: x"),
            &failed(Kind::Input, "malformed YAML"),
        );
        assert_eq!(args, Vec::<String>::new());
    }
}
