//! Cases with two locks, of which the second is wrong. They detect readers that check only one lock.

use super::*;

/// A fault of the second lock.
struct Fault {
    name: &'static str,
    reason: Reason,
    recipient: Suite,
    damage: fn(&mut Lock),
    object: fn(&mut Case),
}

fn faults() -> Vec<Fault> {
    let fault = |name, reason, damage: fn(&mut Lock)| Fault {
        name,
        reason,
        recipient: Suite::XWing,
        damage,
        object: |_| (),
    };
    vec![
        fault("of an unknown suite", Reason::UnsupportedSuite, |lock| {
            let stanza = unknown_stanza(0x0004);
            lock.stanzas = BTreeMap::from([(stanza.key, stanza)]);
        }),
        fault(
            "with a classical stanza under flag 2",
            Reason::SuiteRefused,
            |lock| {
                let stanza = unknown_stanza(0x8004);
                lock.stanzas.insert(stanza.key, stanza);
            },
        ),
        Fault {
            recipient: Suite::P256,
            object: |case| case.policy = json!({"requirePostQuantum": true}),
            ..fault("classical against the policy", Reason::SuiteRefused, |_| ())
        },
        fault("to stand alone", Reason::FormatRefused, |lock| {
            lock.header.fields.is_alone = true;
        }),
        fault("of another scope", Reason::ScopeMismatch, |lock| {
            lock.header.fields.scope = Scope::NamespaceWide;
        }),
        fault("of another place", Reason::ScopeMismatch, |lock| {
            lock.header.fields.place[15] ^= 1;
        }),
        fault(
            "bound to another template",
            Reason::TemplateChanged,
            |lock| {
                lock.header.fields.template = Some(TemplateDigest::from_bytes([7; 32]));
            },
        ),
        Fault {
            object: |case| case.policy = json!({"highestRevision": 1_764_409_000_000_u64}),
            ..fault("with a higher revision", Reason::RevisionInFuture, |lock| {
                lock.header.fields.revision += 1;
            })
        },
        Fault {
            object: |case| case.makes_secret = true,
            ..fault("that is never a Secret object", Reason::NotMade, |lock| {
                lock.header.fields.is_never_secret = true;
            })
        },
        Fault {
            recipient: Suite::P256,
            ..fault("for another key", Reason::UnknownKey, |_| ())
        },
        fault("with a wrong commitment", Reason::Tampered, |lock| {
            lock.header.commitment[31] ^= 1;
        }),
    ]
}

pub(super) fn all() -> Vec<Case> {
    let cases = |fault: &Fault| {
        [
            fault.case("inline", "zz", true),
            fault.case("shared", "zz", false),
            fault.case("first and shared", "aa", false),
        ]
    };
    faults().iter().flat_map(cases).collect()
}

impl Fault {
    /// Returns a case with a valid shared lock and a wrong lock for this item.
    fn case(&self, kind: &str, item: &str, is_inline: bool) -> Case {
        let name = format!("two locks, the wrong one {kind}: {}", self.name);
        xw().refused(&name, self.reason, |case| {
            case.entries.extend(self.lock(item, is_inline).entries);
            (self.object)(case);
        })
    }

    fn lock(&self, item: &str, is_inline: bool) -> Case {
        let recipients = [self.recipient];
        let plan = Plan {
            is_inline,
            ..Plan::new(&recipients)
        };
        let mut case = case("the second lock", plan, &[(item, "z")]);
        change_lock(&mut case, self.damage);
        case
    }
}
