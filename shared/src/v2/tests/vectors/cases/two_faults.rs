//! Cases with two faults, which two consecutive checks detect. The expected reason is the reason of the first check.

use super::*;

/// The expected reason, and the change that causes it.
type Fault = (Reason, fn(&mut Case));

/// Faults in the order of the checks.
fn faults() -> Vec<Fault> {
    vec![
        (Reason::Malformed, |case| {
            case.entries.insert("/other".into(), String::new());
        }),
        (Reason::UnsupportedSuite, |case| {
            change_lock(case, |lock| {
                let stanza = unknown_stanza(0x8004);
                lock.stanzas = BTreeMap::from([(stanza.key, stanza)]);
            });
        }),
        (Reason::SuiteRefused, |case| {
            case.policy["requirePostQuantum"] = json!(true);
        }),
        (Reason::FormatRefused, |case| {
            case.policy["maxLocks"] = json!(0);
        }),
        (Reason::ScopeMismatch, |case| case.object = "db2".into()),
        (Reason::TemplateChanged, |case| {
            case.template["type"] = json!("kubernetes.io/tls");
        }),
        (Reason::RevisionInFuture, |case| {
            case.policy["highestRevision"] = json!(0);
        }),
        (Reason::NotMade, |case| {
            case.makes_secret = true;
            change_lock(case, |lock| lock.header.fields.is_never_secret = true);
        }),
        (Reason::UnknownKey, |case| case.keys.clear()),
        (Reason::Tampered, |case| {
            change_lock(case, |lock| lock.header.commitment[31] ^= 1);
        }),
    ]
}

pub(super) fn all() -> Vec<Case> {
    let recipients = [Suite::P256];
    let plan = Plan {
        is_template_bound: true,
        ..Plan::new(&recipients)
    };
    let base = case("bound", plan, &PAIRS);
    let pairs = faults();
    let pairs = pairs.windows(2);
    pairs.map(|pair| both(&base, pair[0], pair[1])).collect()
}

/// Returns a case with both faults. Applies the second fault first, because the first can make the object unreadable.
fn both(base: &Case, first: Fault, second: Fault) -> Case {
    let name = format!("two faults: {} before {}", first.0, second.0);
    base.refused(&name, first.0, |case| {
        (second.1)(case);
        (first.1)(case);
    })
}
