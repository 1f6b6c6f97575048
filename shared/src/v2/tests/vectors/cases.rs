//! The cases of the vector file.

mod two_faults;
mod two_locks;

use serde_json::json;

use super::*;
use crate::v2::data_key::DataKey;
use crate::v2::header::Header;
use crate::v2::lock::Lock;
use crate::v2::sealed_box::{ItemKey, SealedBox};
use crate::v2::stanza::Stanza;
use crate::v2::suite::SuiteCode;

/// Every reason. The vector file has a case for each.
pub(super) const REASONS: [Reason; 10] = [
    Reason::Malformed,
    Reason::UnsupportedSuite,
    Reason::FormatRefused,
    Reason::SuiteRefused,
    Reason::ScopeMismatch,
    Reason::TemplateChanged,
    Reason::RevisionInFuture,
    Reason::NotMade,
    Reason::UnknownKey,
    Reason::Tampered,
];

/// The result of a reader for a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Values(BTreeMap<String, Value>),
    Reason(Reason),
}

/// A case of the vector file.
#[derive(Clone)]
pub(super) struct Case {
    name: String,
    scope: Scope,
    namespace: String,
    object: String,
    entries: BTreeMap<String, String>,
    template: Json,
    data: Option<String>,
    policy: Json,
    makes_secret: bool,
    keys: Vec<Suite>,
    outcome: Outcome,
    seal: Json,
}

impl Case {
    pub(super) fn to_json(&self) -> Json {
        let mut case = json!({
            "name": self.name,
            "place": {"scope": self.scope.to_string(), "namespace": self.namespace, "name": self.object},
            "encryptedData": self.entries,
            "keys": self.keys.iter().map(Suite::to_string).collect::<Vec<_>>(),
        });
        let optional = [
            ("template", self.template.clone()),
            ("data", json!(self.data)),
            ("policy", self.policy.clone()),
            ("makesSecret", json!(self.makes_secret.then_some(true))),
            ("seal", self.seal.clone()),
        ];
        for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
            case[name] = value;
        }
        match &self.outcome {
            Outcome::Reason(reason) => case["reason"] = json!(reason.as_str()),
            Outcome::Values(values) => {
                let hex = |get: fn(&Value) -> &[u8]| -> Json {
                    values
                        .iter()
                        .map(|(k, v)| (k.clone(), json!(hexadecimal(get(v)))))
                        .collect()
                };
                case["values"] = hex(|value| value.plain.expose());
                case["vids"] = hex(|value| value.id.expose());
            }
        }
        case
    }

    /// Derives a case that readers refuse for this reason.
    fn refused(&self, name: &str, reason: Reason, change: impl FnOnce(&mut Self)) -> Self {
        let mut case = self.clone();
        case.name = name.to_owned();
        case.outcome = Outcome::Reason(reason);
        case.seal = Json::Null;
        change(&mut case);
        case
    }

    fn opened(&self, name: &str, change: impl FnOnce(&mut Self)) -> Self {
        let mut case = self.clone();
        case.name = name.to_owned();
        case.seal = Json::Null;
        change(&mut case);
        case
    }

    fn edit(&mut self, entry: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.entries, entry, edit);
    }

    fn header(&self) -> String {
        header_entry(&self.entries)
    }

    fn stanza(&self) -> String {
        let is_stanza = |name: &&String| name.matches('/').count() == 3;
        self.entries.keys().find(is_stanza).unwrap().clone()
    }

    fn move_entry(&mut self, from: &str, to: &str) {
        let value = self.entries.remove(from).unwrap();
        self.entries.insert(to.to_owned(), value);
    }
}

/// A random generator that records its output.
struct Recorder(StdRng, Vec<u8>);

impl TryRng for Recorder {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("the format draws bytes only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("the format draws bytes only")
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(target)?;
        self.1.extend_from_slice(target);
        Ok(())
    }
}

impl TryCryptoRng for Recorder {}

/// Seals values under a shared lock, or one value inline.
pub(super) fn write(
    spec: &LockSpec<'_>,
    values: &BTreeMap<String, Value>,
    is_inline: bool,
    rng: &mut dyn rand::CryptoRng,
) -> BTreeMap<String, String> {
    if !is_inline {
        return seal(spec, values, rng).unwrap();
    }
    let (item, value) = values.first_key_value().unwrap();
    let entry = seal_inline(spec, item, value, rng).unwrap();
    BTreeMap::from([(item.clone(), entry)])
}

/// The properties of a sealed case.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the format"
)]
#[derive(Clone, Copy)]
struct Plan<'a> {
    recipients: &'a [Suite],
    scope: Scope,
    allow_classical: bool,
    is_template_bound: bool,
    is_never_secret: bool,
    is_alone: bool,
    is_inline: bool,
    revision: u64,
}

impl<'a> Plan<'a> {
    fn new(recipients: &'a [Suite]) -> Self {
        Self {
            recipients,
            scope: Scope::Strict,
            allow_classical: false,
            is_template_bound: false,
            is_never_secret: false,
            is_alone: false,
            is_inline: false,
            revision: 1_764_409_000_000,
        }
    }

    fn to_json(self, random: &[u8]) -> Json {
        if self.recipients.contains(&Suite::Rsa) {
            return Json::Null;
        }
        json!({
            "recipients": self.recipients.iter().map(Suite::to_string).collect::<Vec<_>>(),
            "allowClassical": self.allow_classical,
            "bindTemplate": self.is_template_bound,
            "neverSecret": self.is_never_secret,
            "alone": self.is_alone,
            "inline": self.is_inline,
            "revision": self.revision,
            "random": hexadecimal(random),
        })
    }
}

fn template() -> Json {
    json!({
        "type": "Opaque", "immutable": false,
        "metadata": {"labels": {"app": "shop"}, "annotations": {"b": "2", "a": "1"}, "finalizers": ["x/y", "a/b"]},
        "data": {"url": "https://{{ .user }}@db", "user": null, "\u{ff61}": "\u{e9}", "\u{10000}": ""},
    })
}

fn case(name: &str, plan: Plan<'_>, pairs: &[(&str, &str)]) -> Case {
    let values = values(pairs);
    let place = Place::of(plan.scope, "shop", "db").unwrap();
    let template = if plan.is_template_bound {
        template()
    } else {
        Json::Null
    };
    let digest = plan
        .is_template_bound
        .then(|| TemplateDigest::of(&serde_json::from_value(template.clone()).unwrap()));
    let mut rng = Recorder(StdRng::seed_from_u64(name.len() as u64), Vec::new());
    let entries = with_spec(
        plan.recipients,
        |_| (),
        |spec| {
            let spec = LockSpec {
                place: &place,
                allow_classical: plan.allow_classical,
                template: digest,
                is_never_secret: plan.is_never_secret,
                is_alone: plan.is_alone,
                revision: plan.revision,
                ..*spec
            };
            write(&spec, &values, plan.is_inline, &mut rng)
        },
    );
    Case {
        name: name.to_owned(),
        scope: plan.scope,
        namespace: "shop".into(),
        object: "db".into(),
        entries,
        template,
        data: None,
        policy: Json::Null,
        makes_secret: false,
        keys: plan.recipients[..1].to_vec(),
        outcome: Outcome::Values(values),
        seal: plan.to_json(&rng.1),
    }
}

const PAIRS: [(&str, &str); 4] = [
    ("a.b-c_d", "xxxxxxxxxxxxxxxxxxxxxxxx"),
    ("block", "yyyyyyyyyyyyyyy"),
    ("empty", ""),
    ("password", "hunter2"),
];

/// Returns all cases, in the order of the file.
pub(super) fn all() -> Vec<Case> {
    let mut cases = opening();
    cases.extend(several_recipients());
    cases.extend(accepted_edge_cases());
    cases.extend(malformed());
    cases.extend(refused_suites());
    cases.extend(refused_formats());
    cases.extend(refused_data());
    cases.extend(refused_places());
    cases.extend(incomplete_places());
    cases.extend(alone());
    cases.extend(never_secret());
    cases.extend(two_locks::all());
    cases.extend(two_faults::all());
    cases.extend(tampered());
    cases.extend(forged());
    cases
}

fn opening() -> Vec<Case> {
    let mut cases = Vec::new();
    for suite in Suite::ALL {
        let recipients = [suite];
        let plan = Plan::new(&recipients);
        for scope in Scope::ALL {
            let plan = Plan { scope, ..plan };
            cases.push(case(&format!("{suite}, {scope}"), plan, &PAIRS));
        }
        let bound = Plan {
            is_template_bound: true,
            ..plan
        };
        cases.push(case(
            &format!("{suite}, bound to the template"),
            bound,
            &PAIRS,
        ));
        let never_secret = Plan {
            is_never_secret: true,
            ..plan
        };
        cases.push(case(
            &format!("{suite}, never a Secret object"),
            never_secret,
            &PAIRS,
        ));
        let inline = Plan {
            is_inline: true,
            ..plan
        };
        cases.push(case(&format!("{suite}, inline"), inline, &[("token", "t")]));
    }
    cases
}

fn several_recipients() -> Vec<Case> {
    let plan = |recipients| Plan {
        allow_classical: true,
        ..Plan::new(recipients)
    };
    let both = [Suite::XWing, Suite::P256];
    let mut cases = vec![
        case("post-quantum and classical recipients", plan(&both), &PAIRS),
        case(
            "classical recipients allowed but absent",
            plan(&both[..1]),
            &PAIRS,
        ),
        case(
            "inline, two recipients",
            Plan {
                is_inline: true,
                ..plan(&both)
            },
            &[("token", "t")],
        ),
    ];
    let all = case("three recipients", plan(&Suite::ALL), &PAIRS);
    for suite in Suite::ALL {
        cases.push(
            all.opened(&format!("three recipients, opened by {suite}"), |case| {
                case.keys = vec![suite];
            }),
        );
    }
    cases.push(
        all.opened("three recipients, with all of their keys", |case| {
            case.keys = Suite::ALL.to_vec();
        }),
    );
    cases
}

fn xw() -> Case {
    case("xw", Plan::new(&[Suite::XWing]), &PAIRS)
}

fn p256() -> Case {
    case("p256", Plan::new(&[Suite::P256]), &PAIRS)
}

fn inline(suite: Suite) -> Case {
    let recipients = [suite];
    let plan = Plan {
        is_inline: true,
        ..Plan::new(&recipients)
    };
    case("inline", plan, &[("token", "t")])
}

/// Changes the only lock of a case, which may be shared or inline. Ignores the limits of locks.
fn change_lock(case: &mut Case, change: impl FnOnce(&mut Lock)) {
    let object = Object::parse(&case.entries).unwrap();
    let mut lock = object.locks[0].clone();
    change(&mut lock);
    case.entries.retain(|name, _| !name.starts_with("/lock/"));
    let mut items = object.items.iter().filter(|(_, item)| item.is_inline);
    match items.next() {
        Some((name, item)) => {
            let entry = seal::inline_entry(&lock, &item.sealed);
            case.entries.insert(name.clone(), entry);
        }
        None => case.entries.extend(seal::lock_entries(&lock)),
    }
}

/// Returns a stanza of an unknown suite.
fn unknown_stanza(suite: u16) -> Stanza {
    Stanza {
        suite: SuiteCode(suite),
        key: ShortKeyId([9; 16]),
        wrapped: vec![1, 2, 3],
    }
}

fn add_stanza(case: &mut Case, stanza: &Stanza) {
    let lock = Object::parse(&case.entries).unwrap().locks[0].id();
    case.entries.extend([seal::stanza_entry(lock, stanza)]);
}

fn accepted_edge_cases() -> Vec<Case> {
    let other = case(
        "other",
        Plan {
            revision: 5,
            ..Plan::new(&[Suite::P256])
        },
        &PAIRS,
    );
    vec![
        xw().opened("a lock that no item refers to", |case| {
            let (header, stanza) = (other.header(), other.stanza());
            for name in [header, stanza] {
                case.entries
                    .insert(name.clone(), other.entries[&name].clone());
            }
        }),
        xw().opened("a header without stanza that no item refers to", |case| {
            case.entries
                .insert(other.header(), other.entries[&other.header()].clone());
        }),
        xw().opened("a stanza without header that no item refers to", |case| {
            case.entries
                .insert(other.stanza(), other.entries[&other.stanza()].clone());
        }),
        xw().opened(
            "an unknown post-quantum suite next to a known suite",
            |case| {
                add_stanza(case, &unknown_stanza(0x0004));
            },
        ),
        p256().opened("an unknown classical suite next to a known suite", |case| {
            add_stanza(case, &unknown_stanza(0x8004));
        }),
        xw().opened("a v1 item next to v2 items", |case| {
            case.entries.insert("old".into(), "AgB=".into());
        }),
        inline(Suite::XWing).opened("an inline item converted to a short item", |case| {
            let lock = Object::parse(&case.entries).unwrap().locks[0].clone();
            let sealed = Object::parse(&case.entries).unwrap().items["token"]
                .sealed
                .clone();
            let header = text::encode(text::Kind::Header, &lock.header.to_bytes());
            let bytes = [&lock.id().0[..], sealed.as_bytes()].concat();
            case.entries
                .insert("token".into(), text::encode(text::Kind::Short, &bytes));
            case.entries.insert(text::header_name(lock.id()), header);
            let stanza = lock.stanzas.values().next().unwrap();
            case.entries.extend([seal::stanza_entry(lock.id(), stanza)]);
        }),
    ]
}

fn malformed() -> Vec<Case> {
    let mut cases = malformed_names();
    cases.extend(malformed_texts());
    cases.extend(malformed_headers());
    cases.extend(malformed_stanzas_and_boxes());
    cases.extend(malformed_inline());
    cases.push(too_many_recipients());
    cases.push(too_many_inline_recipients());
    cases.extend(rsa_lengths());
    cases
}

fn malformed_names() -> Vec<Case> {
    let zeros = "AAAAAAAAAAAAAAAAAAAAAA";
    let xw = xw();
    let (header, stanza) = (xw.header(), xw.stanza());
    let malformed =
        |name: &str, change: &dyn Fn(&mut Case)| xw.refused(name, Reason::Malformed, change);
    let copied = |name: &str, from: &str, to: &str| {
        malformed(name, &|case| {
            let value = case.entries[from].clone();
            case.entries.insert(to.to_owned(), value);
        })
    };
    vec![
        malformed("no header", &|case| drop(case.entries.remove(&header))),
        malformed("no stanza", &|case| drop(case.entries.remove(&stanza))),
        copied("a name that begins with a slash", "password", "/other"),
        copied("a name that is no identifier", &header, "/lock/../x"),
        copied(
            "a lock name with a third part",
            &stanza,
            &format!("{stanza}/x"),
        ),
        copied(
            "a header's name with non-zero unused bits",
            &header,
            &with_unused_bits(&header),
        ),
        copied(
            "a header's name with a line break inside",
            &header,
            &with_line_break(&header),
        ),
        copied(
            "a stanza's name with non-zero unused bits in the first part",
            &stanza,
            &stanza.replacen(&header, &with_unused_bits(&header), 1),
        ),
        copied(
            "a stanza's name with non-zero unused bits in the second part",
            &stanza,
            &with_unused_bits(&stanza),
        ),
        copied(
            "a stanza's name with a line break inside",
            &stanza,
            &with_line_break(&stanza),
        ),
        copied(
            "the header under another identifier",
            &header,
            &format!("/lock/{zeros}"),
        ),
        copied(
            "the stanza under another key",
            &stanza,
            &format!("{header}/{zeros}"),
        ),
        copied("a header in place of a stanza", &header, &stanza),
        copied("a header in place of an item", &header, "password"),
        copied("an item in place of a header", "password", &header),
        malformed("a v1 value in place of a header", &|case| {
            case.entries.insert(header.clone(), "AgB=".into());
        }),
    ]
}

/// Returns a name whose last identifier decodes to the same bytes if a decoder ignores unused bits.
fn with_unused_bits(name: &str) -> String {
    let (rest, last) = name.split_at(name.len() - 1);
    let last = match last {
        "A" => "B",
        "Q" => "R",
        "g" => "h",
        "w" => "x",
        other => panic!("the unused bits of {other} are not zero"),
    };
    format!("{rest}{last}")
}

/// Returns a name whose last identifier decodes to the same bytes if a decoder skips line breaks.
fn with_line_break(name: &str) -> String {
    let (rest, last) = name.split_at(name.len() - 4);
    format!("{rest}\n{last}")
}

fn malformed_texts() -> Vec<Case> {
    let changed = |name: &str, edit: fn(&str) -> String| {
        xw().refused(name, Reason::Malformed, |case| {
            let value = edit(&case.entries["password"]);
            assert!(text::decode(&value).is_err(), "{value}");
            case.entries.insert("password".into(), value);
        })
    };
    vec![
        changed("an unknown kind", |text| {
            text.replace("seal2.s.", "seal2.x.")
        }),
        changed("no kind", |_| "seal2.".into()),
        changed("padding", |text| format!("{text}=")),
        changed("a line break at the end", |text| format!("{text}\n")),
        changed("a line break inside", |text| {
            format!("{}\n{}", &text[..40], &text[40..])
        }),
        changed("the alphabet of base64", |_| "seal2.s.++++".into()),
        changed("non-zero unused bits", |text| {
            let last = if text.ends_with('Q') { "R" } else { "B" };
            format!("{}{last}", &text[..text.len() - 1])
        }),
    ]
}

fn malformed_headers() -> Vec<Case> {
    let changed = |name: &str, edit: fn(&mut Vec<u8>)| {
        xw().refused(name, Reason::Malformed, |case| {
            let header = case.header();
            case.edit(&header, edit);
        })
    };
    vec![
        changed("version 1", |bytes| bytes[0] = 1),
        changed("version 3", |bytes| bytes[0] = 3),
        changed("flag 16", |bytes| bytes[1] |= 16),
        changed("flag 128", |bytes| bytes[1] |= 128),
        changed("flag 1 without a digest", |bytes| bytes[1] |= 1),
        changed("a digest without flag 1", |bytes| {
            let _ = bytes.splice(27..27, [0; 32]);
        }),
        changed("scope 3", |bytes| bytes[2] = 3),
        changed("a byte after the header", |bytes| bytes.push(0)),
        changed("an empty header", Vec::clear),
    ]
}

fn malformed_stanzas_and_boxes() -> Vec<Case> {
    let xw = xw();
    let stanza = xw.stanza();
    let changed = |name: &str, entry: &str, edit: fn(&mut Vec<u8>)| {
        xw.refused(name, Reason::Malformed, |case| case.edit(entry, edit))
    };
    let shorten = |bytes: &mut Vec<u8>| {
        let _ = bytes.pop();
    };
    vec![
        changed("a byte after the stanza", &stanza, |bytes| bytes.push(0)),
        changed("a truncated stanza", &stanza, shorten),
        changed("a wrapped key of the wrong length", &stanza, |bytes| {
            bytes.pop();
            bytes[19] -= 1;
        }),
        changed("a box without blocks", "password", |bytes| {
            bytes.truncate(16 + 28);
        }),
        changed("a box without whole blocks", "password", shorten),
        changed("an identifier of 8 bytes", "password", |bytes| {
            let _ = bytes.drain(8..16);
        }),
        changed("an empty item", "password", Vec::clear),
    ]
}

/// Offset of the number of recipients in an inline item whose lock is not bound to a template.
const COUNT: usize = 59;

fn malformed_inline() -> Vec<Case> {
    let one = inline(Suite::P256);
    let plan = Plan {
        is_inline: true,
        allow_classical: true,
        ..Plan::new(&[Suite::XWing, Suite::P256])
    };
    let two = case("inline", plan, &[("token", "t")]);
    let with = |case: &Case, name: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        case.refused(name, Reason::Malformed, |case| case.edit("token", edit))
    };
    let stanza_len = 20 + 113;
    vec![
        with(&one, "inline, no recipients", &|bytes| {
            bytes[COUNT] = 0;
            bytes.drain(COUNT + 1..COUNT + 1 + stanza_len);
        }),
        with(&one, "inline, the same recipient twice", &|bytes| {
            bytes[COUNT] = 2;
            let stanza = bytes[COUNT + 1..COUNT + 1 + stanza_len].to_vec();
            let rest = bytes.split_off(COUNT + 1);
            bytes.extend(stanza);
            bytes.extend(rest);
        }),
        with(&one, "inline, more recipients than stanzas", &|bytes| {
            bytes[COUNT] = 200;
        }),
        with(
            &one,
            "inline, a wrapped key of the wrong length",
            &|bytes| bytes[COUNT + 20] += 1,
        ),
        with(&two, "inline, recipients in descending order", &|bytes| {
            let object = Object::parse(&BTreeMap::from([(
                "token".to_owned(),
                text::encode(text::Kind::Inline, bytes),
            )]));
            let lock = object.unwrap().locks[0].clone();
            let reversed: Vec<u8> = lock
                .stanzas
                .values()
                .rev()
                .flat_map(Stanza::to_bytes)
                .collect();
            bytes.splice(COUNT + 1..COUNT + 1 + reversed.len(), reversed);
        }),
    ]
}

fn too_many_recipients() -> Case {
    p256().refused(
        "33 recipients of a shared lock",
        Reason::Malformed,
        |case| {
            for number in 0..32 {
                let key = ShortKeyId([number; 16]);
                add_stanza_unchecked(
                    case,
                    &Stanza {
                        key,
                        ..unknown_stanza(0x8004)
                    },
                );
            }
        },
    )
}

fn too_many_inline_recipients() -> Case {
    let name = "33 recipients of an inline lock";
    inline(Suite::P256).refused(name, Reason::Malformed, |case| {
        change_lock(case, |lock| {
            for number in 0..32 {
                let key = ShortKeyId([number; 16]);
                let stanza = unknown_stanza(0x8004);
                lock.stanzas.insert(key, Stanza { key, ..stanza });
            }
        });
    })
}

fn rsa_lengths() -> Vec<Case> {
    let with = |len: usize| {
        let name = format!("an RSA block of {len} bytes");
        p256().refused(&name, Reason::Malformed, |case| {
            let stanza = Stanza {
                wrapped: vec![9; len],
                ..unknown_stanza(0x8003)
            };
            add_stanza_unchecked(case, &stanza);
        })
    };
    vec![with(255), with(1025)]
}

/// Adds a stanza to the only shared lock. Unlike [`add_stanza`], also adds it to an object that cannot be parsed.
fn add_stanza_unchecked(case: &mut Case, stanza: &Stanza) {
    let Ok(text::Name::Header(lock)) = text::parse_name(&case.header()).map_err(|_| ()) else {
        panic!("no header");
    };
    case.entries.extend([seal::stanza_entry(lock, stanza)]);
}

fn refused_suites() -> Vec<Case> {
    let classical_under_flag_2 = |name: &str, stanza: Stanza| {
        xw().refused(name, Reason::SuiteRefused, |case| add_stanza(case, &stanza))
    };
    let only = |name: &str, suite, reason| {
        p256().refused(name, reason, |case| {
            let stanza = case.stanza();
            case.entries.remove(&stanza);
            add_stanza_unchecked(case, &unknown_stanza(suite));
        })
    };
    let require = |case: Case, name: &str| {
        case.refused(name, Reason::SuiteRefused, |case| {
            case.policy = json!({"requirePostQuantum": true});
        })
    };
    vec![
        only(
            "an unknown classical suite only",
            0x8004,
            Reason::UnsupportedSuite,
        ),
        only(
            "an unknown post-quantum suite only",
            0x0004,
            Reason::UnsupportedSuite,
        ),
        classical_under_flag_2(
            "an unknown classical suite under flag 2",
            unknown_stanza(0x8004),
        ),
        xw().refused(
            "a classical stanza under flag 2",
            Reason::SuiteRefused,
            |case| {
                let other = p256();
                let bytes = text::decode(&other.entries[&other.stanza()]).unwrap().1;
                add_stanza(case, &Stanza::parse(&bytes).unwrap());
            },
        ),
        require(p256(), "policy: post-quantum only, a classical item"),
        require(
            xw().opened("", |case| {
                drop(case.entries.insert("old".into(), "AgB=".into()));
            }),
            "policy: post-quantum only, a v1 item",
        ),
        require(
            xw().opened("", |case| {
                case.entries.clear();
                case.data = Some("AgB=".into());
            }),
            "policy: post-quantum only, spec.data",
        ),
        own_key_of_another_suite(
            "own key under another known suite",
            Suite::XWing.code(),
            1168,
        ),
        own_key_of_another_suite("own key under an unknown suite", SuiteCode(0x7fff), 3),
        xw().refused(
            "a key that is not a recipient",
            Reason::UnknownKey,
            |case| {
                case.keys = vec![Suite::P256];
            },
        ),
        xw().refused("no key", Reason::UnknownKey, |case| case.keys.clear()),
    ]
}

/// Returns a case with a stanza that has the reader's key but another suite, and a stanza for another key.
fn own_key_of_another_suite(name: &str, suite: SuiteCode, len: usize) -> Case {
    let recipients = [Suite::P256, Suite::Rsa];
    let plan = Plan {
        allow_classical: true,
        ..Plan::new(&recipients)
    };
    let base = case("two classical recipients", plan, &PAIRS);
    base.refused(name, Reason::UnknownKey, |case| {
        let key = KEYS.p256.opener().key_id().short();
        change_lock(case, |lock| {
            let stanza = lock.stanzas.get_mut(&key).unwrap();
            (stanza.suite, stanza.wrapped) = (suite, vec![9; len]);
        });
    })
}

fn refused_data() -> Vec<Case> {
    let refused = |base: &Case, name: &str, policy: Json, change: &dyn Fn(&mut Case)| {
        base.refused(name, Reason::FormatRefused, |case| {
            case.policy = policy;
            change(case);
        })
    };
    let data = |case: &mut Case| case.data = Some("AgB=".into());
    let only_data = |case: &mut Case| {
        data(case);
        case.entries.clear();
    };
    let only_v1 = |case: &mut Case| case.entries = BTreeMap::from([("old".into(), "AgB=".into())]);
    let recipients = [Suite::XWing];
    let bound = Plan {
        is_template_bound: true,
        ..Plan::new(&recipients)
    };
    let bound = case("bound", bound, &PAIRS);
    let require = || json!({"requireBound": true});
    vec![
        refused(&xw(), "spec.data next to v2 items", Json::Null, &data),
        refused(&bound, "spec.data next to a bound lock", Json::Null, &data),
        refused(
            &xw(),
            "spec.data next to a lock that no item refers to",
            Json::Null,
            &|case| {
                data(case);
                case.entries.retain(|name, _| name.starts_with("/lock/"));
            },
        ),
        refused(
            &xw(),
            "policy: v2, only spec.data",
            json!({"requireV2": true}),
            &only_data,
        ),
        refused(&xw(), "policy: bound, an unbound lock", require(), &|_| ()),
        refused(
            &xw(),
            "policy: bound, only spec.data",
            require(),
            &only_data,
        ),
        refused(&xw(), "policy: bound, a v1 item", require(), &only_v1),
        bound.opened("policy: bound, satisfied", |case| case.policy = require()),
    ]
}

fn incomplete_places() -> Vec<Case> {
    let case = |name: &str, scope: Scope, namespace: &str, object: &str| {
        let place = Place::with_context(scope, namespace, object);
        let entries = with_spec(
            &[Suite::XWing],
            |_| (),
            |spec| {
                let spec = LockSpec {
                    place: &place,
                    ..*spec
                };
                seal(&spec, &values(&PAIRS), &mut rng()).unwrap()
            },
        );
        xw().refused(name, Reason::ScopeMismatch, |case| {
            case.entries = entries;
            case.scope = scope;
            (case.namespace, case.object) = (namespace.into(), object.into());
        })
    };
    vec![
        case("sealed for no namespace, strict", Scope::Strict, "", "db"),
        case("sealed for no name, strict", Scope::Strict, "shop", ""),
        case(
            "sealed for no namespace, namespace-wide",
            Scope::NamespaceWide,
            "",
            "",
        ),
    ]
}

fn alone() -> Vec<Case> {
    let recipients = [Suite::XWing];
    let plan = Plan {
        is_alone: true,
        ..Plan::new(&recipients)
    };
    let shared = case("alone, shared", plan, &PAIRS);
    let inline_plan = Plan {
        is_inline: true,
        ..plan
    };
    let single = case("alone, inline", inline_plan, &[("token", "t")]);
    let other = case("other", Plan::new(&[Suite::P256]), &[("zz", "z")]);
    let with_neighbor = |base: &Case, name: &str, change: &dyn Fn(&mut Case)| {
        base.refused(name, Reason::FormatRefused, change)
    };
    vec![
        with_neighbor(&shared, "alone, with a v1 item", &|case| {
            drop(case.entries.insert("old".into(), "AgB=".into()));
        }),
        with_neighbor(&shared, "alone, with an inline item", &|case| {
            case.entries.extend(inline(Suite::XWing).entries);
        }),
        with_neighbor(&shared, "alone, with another shared lock", &|case| {
            case.entries.extend(other.entries.clone());
        }),
        with_neighbor(&single, "alone and inline, with a shared lock", &|case| {
            case.entries.extend(other.entries.clone());
        }),
        with_neighbor(&single, "alone and inline, with a v1 item", &|case| {
            drop(case.entries.insert("old".into(), "AgB=".into()));
        }),
        shared.opened("alone, with a lock that no item refers to", |case| {
            case.entries.extend(other.entries.clone());
            case.entries.remove("zz");
        }),
        shared.opened("alone, an item deleted", |case| {
            case.entries.remove("block");
            let Outcome::Values(values) = &mut case.outcome else {
                panic!("opened");
            };
            values.remove("block");
        }),
        xw().refused("flag 8 added", Reason::Tampered, |case| {
            change_lock(case, |lock| lock.header.fields.is_alone = true);
        }),
        shared.refused("flag 8 removed", Reason::Tampered, |case| {
            change_lock(case, |lock| lock.header.fields.is_alone = false);
        }),
        shared,
        single,
    ]
}

fn never_secret() -> Vec<Case> {
    let recipients = [Suite::XWing];
    let plan = Plan {
        is_never_secret: true,
        ..Plan::new(&recipients)
    };
    let base = case("never", plan, &PAIRS);
    let to_secret = |case: &mut Case| case.makes_secret = true;
    vec![
        base.refused(
            "a value that must never become a Secret object, opened for one",
            Reason::NotMade,
            to_secret,
        ),
        xw().opened("opened for a Secret object", to_secret),
    ]
}

fn refused_formats() -> Vec<Case> {
    let v2 = json!({"requireV2": true});
    let recipients = [Suite::XWing];
    let bound = Plan {
        is_template_bound: true,
        ..Plan::new(&recipients)
    };
    let bound = case("bound", bound, &PAIRS);
    let add_v1 = |case: &mut Case| drop(case.entries.insert("old".into(), "AgB=".into()));
    let require = |case: &Case, name: &str, change: &dyn Fn(&mut Case)| {
        case.refused(name, Reason::FormatRefused, |case| {
            case.policy = v2.clone();
            change(case);
        })
    };
    vec![
        require(&xw(), "policy: v2, a v1 item", &add_v1),
        require(&xw(), "policy: v2, spec.data", &|case| {
            case.data = Some("AgB=".into());
        }),
        require(&xw(), "policy: v2, no item", &|case| case.entries.clear()),
        require(&bound, "policy: v2, partly bound", &|case| {
            case.entries.extend(inline(Suite::XWing).entries);
        }),
        bound.refused(
            "a v1 item next to a bound lock",
            Reason::FormatRefused,
            add_v1,
        ),
        xw().refused("more locks than allowed", Reason::FormatRefused, |case| {
            case.policy = json!({"maxLocks": 1});
            case.entries.extend(inline(Suite::XWing).entries);
        }),
        xw().opened("all policies, satisfied", |case| {
            case.policy = json!({
                "requireV2": true, "requirePostQuantum": true, "maxLocks": 1,
                "highestRevision": 1_764_409_000_000_u64,
            });
        }),
        xw().refused(
            "a revision above the limit",
            Reason::RevisionInFuture,
            |case| {
                case.policy = json!({"highestRevision": 1_764_408_999_999_u64});
            },
        ),
        bound.refused(
            "the bound template changed",
            Reason::TemplateChanged,
            |case| {
                case.template["type"] = json!("kubernetes.io/tls");
            },
        ),
        bound.refused(
            "the order of the finalizers of the bound template changed",
            Reason::TemplateChanged,
            |case| {
                case.template["metadata"]["finalizers"] = json!(["a/b", "x/y"]);
            },
        ),
        bound.refused(
            "a null of the bound template removed",
            Reason::TemplateChanged,
            |case| {
                case.template["data"]
                    .as_object_mut()
                    .unwrap()
                    .remove("user");
            },
        ),
        bound.refused(
            "a text of the bound template in another normal form",
            Reason::TemplateChanged,
            |case| {
                case.template["data"]["\u{ff61}"] = json!("e\u{301}");
            },
        ),
        bound.opened("an unbound field of a bound template changed", |case| {
            case.template["metadata"]["name"] = json!("other");
        }),
    ]
}

fn refused_places() -> Vec<Case> {
    let scoped = |scope| {
        case(
            "scoped",
            Plan {
                scope,
                ..Plan::new(&[Suite::XWing])
            },
            &PAIRS,
        )
    };
    let moved = |case: Case, name: &str, change: &dyn Fn(&mut Case)| {
        case.refused(name, Reason::ScopeMismatch, change)
    };
    let namespace_wide = || scoped(Scope::NamespaceWide);
    vec![
        moved(xw(), "strict, another name", &|case| {
            case.object = "db2".into();
        }),
        moved(xw(), "strict, another namespace", &|case| {
            case.namespace = "shop2".into();
        }),
        moved(xw(), "strict, declared namespace-wide", &|case| {
            case.scope = Scope::NamespaceWide;
        }),
        moved(xw(), "strict, declared cluster-wide", &|case| {
            case.scope = Scope::ClusterWide;
        }),
        moved(xw(), "the scope in the header changed", &|case| {
            let header = case.header();
            case.edit(&header, |bytes| bytes[2] = 1);
        }),
        moved(xw(), "the place in the header changed", &|case| {
            let header = case.header();
            case.edit(&header, |bytes| bytes[11] ^= 1);
        }),
        moved(xw(), "strict, without a namespace", &|case| {
            case.namespace.clear();
        }),
        moved(
            namespace_wide(),
            "namespace-wide, another namespace",
            &|case| {
                case.namespace = "shop2".into();
            },
        ),
        moved(
            namespace_wide(),
            "namespace-wide, declared strict",
            &|case| case.scope = Scope::Strict,
        ),
        moved(
            namespace_wide(),
            "namespace-wide, without a namespace",
            &|case| case.namespace.clear(),
        ),
        moved(
            scoped(Scope::ClusterWide),
            "cluster-wide, declared strict",
            &|case| {
                case.scope = Scope::Strict;
            },
        ),
        namespace_wide().opened("namespace-wide, another name", |case| {
            case.object = "db2".into();
        }),
        scoped(Scope::ClusterWide).opened("cluster-wide, another place", |case| {
            case.namespace = "shop2".into();
            case.object = "db2".into();
        }),
    ]
}

fn tampered() -> Vec<Case> {
    let mut cases = Vec::new();
    for suite in Suite::ALL {
        let recipients = [suite];
        let base = case("base", Plan::new(&recipients), &PAIRS);
        let inline = inline(suite);
        let (header, stanza) = (base.header(), base.stanza());
        let tampered = |case: &Case, name: &str, change: &dyn Fn(&mut Case)| {
            case.refused(&format!("{suite}, {name}"), Reason::Tampered, change)
        };
        let with = |name: &str, entry: &str, edit: fn(&mut Vec<u8>)| {
            tampered(&base, name, &|case| case.edit(entry, edit))
        };
        cases.extend([
            tampered(&base, "two items swapped", &|case| {
                let (one, other) = (
                    case.entries["block"].clone(),
                    case.entries["password"].clone(),
                );
                case.entries
                    .extend([("block".into(), other), ("password".into(), one)]);
            }),
            tampered(&base, "an item renamed", &|case| {
                case.move_entry("password", "other");
            }),
            tampered(&inline, "an inline item renamed", &|case| {
                case.move_entry("token", "other");
            }),
            with("the revision changed", &header, |bytes| bytes[10] ^= 1),
            with("the flag for Secret objects changed", &header, |bytes| {
                bytes[1] ^= 4;
            }),
            with("the end of the commitment changed", &header, |bytes| {
                bytes[58] ^= 1;
            }),
            with("the encapsulation changed", &stanza, |bytes| bytes[30] ^= 1),
            with("the wrapped key changed", &stanza, |bytes| {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }),
            with("the nonce changed", "password", |bytes| bytes[16] ^= 1),
            with("the box changed", "password", |bytes| bytes[30] ^= 1),
            with("the tag changed", "password", |bytes| {
                *bytes.last_mut().unwrap() ^= 1;
            }),
            with("a block of the box removed", "a.b-c_d", |bytes| {
                let _ = bytes.drain(30..62);
            }),
        ]);
    }
    cases.push(
        xw().refused("xw, flag 2 removed", Reason::Tampered, |case| {
            let header = case.header();
            case.edit(&header, |bytes| bytes[1] ^= 2);
        }),
    );
    cases.push(
        xw().refused("xw, the X25519 share changed", Reason::Tampered, |case| {
            let stanza = case.stanza();
            case.edit(&stanza, |bytes| bytes[20 + 1088] ^= 1);
        }),
    );
    cases
}

/// A lock with a chosen data key.
struct Forge {
    key: DataKey,
    header: Header,
}

impl Forge {
    fn new() -> Self {
        let key = DataKey::from_slice(&[3; 32]).unwrap();
        let lock = &Object::parse(&p256().entries).unwrap().locks[0];
        let header = key.commit(lock.header.fields.clone(), &place()).unwrap();
        Self { key, header }
    }

    fn stanza(&self, key: &DataKey, suite: Suite) -> Stanza {
        let recipient = KEYS.recipient(suite);
        Lock::new_stanza(&self.header, key, &place(), &*recipient, &mut rng()).unwrap()
    }

    fn with_wrapped(&self, suite: Suite, wrap: impl FnOnce(&Binding<'_>) -> Vec<u8>) -> Stanza {
        let (header, place) = (self.header.to_bytes(), place());
        let wrapped = wrap(&Binding {
            header: &header,
            context: place.context(),
        });
        Stanza {
            wrapped,
            ..self.stanza(&self.key, suite)
        }
    }

    fn zero_share(&self) -> Stanza {
        let public = XWingPublicKey::from_bytes(&KEYS.xw.recipient().to_bytes()).unwrap();
        self.with_wrapped(Suite::XWing, |binding| {
            public.wrap_with_zero_share(&self.key, binding, &mut rng())
        })
    }

    fn hybrid_share(&self) -> Stanza {
        let public = P256PublicKey::from_bytes(&KEYS.p256.recipient().to_bytes()).unwrap();
        self.with_wrapped(Suite::P256, |binding| {
            public.wrap_with_hybrid_share(&self.key, binding)
        })
    }

    fn sealed(&self, padded: &[u8]) -> SealedBox {
        let item = ItemKey::derive(&self.key, &self.header.commitment, "a").unwrap();
        SealedBox::encrypt(&item, padded.to_vec().into(), &mut rng()).unwrap()
    }

    fn case(&self, name: &str, stanza: &Stanza, padded: &[u8]) -> Case {
        let lock = Lock::new(
            self.header.clone(),
            BTreeMap::from([(stanza.key, stanza.clone())]),
        );
        let entry = seal::inline_entry(&lock.unwrap(), &self.sealed(padded));
        p256().refused(name, Reason::Tampered, |case| {
            case.entries = BTreeMap::from([("a".to_owned(), entry)]);
            case.keys = vec![stanza.suite().unwrap()];
        })
    }

    /// Returns a case of the suite `p256` whose box has this padded plaintext.
    fn padded(&self, name: &str, padded: &[u8]) -> Case {
        self.case(name, &self.stanza(&self.key, Suite::P256), padded)
    }
}

/// Returns the value `b`, padded to `len` bytes, with an identifier of zeros.
fn padded(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[16..18].copy_from_slice(&[b'b', 0x80]);
    bytes
}

fn forged() -> Vec<Case> {
    let mut cases = forged_boxes();
    cases.extend(forged_stanzas());
    cases.extend(substitute_key_locks());
    cases.extend(forged_rsa_blocks());
    cases.extend(forged_commitments());
    cases
}

/// Returns cases in which the stanza and the box were created for a header with a wrong commitment.
fn forged_commitments() -> Vec<Case> {
    let case = |at: usize| {
        let mut forge = Forge::new();
        forge.header.commitment[at] ^= 1;
        forge.padded(&format!("a commitment with a wrong byte {at}"), &padded(32))
    };
    vec![case(0), case(15), case(16), case(31)]
}

fn forged_boxes() -> Vec<Case> {
    let forge = Forge::new();
    let block = |at: usize, byte: u8| {
        let mut bytes = vec![0; 32];
        bytes[at] = byte;
        bytes
    };
    let mut valid = forge.padded("a box made by hand", &padded(32));
    valid.outcome = Outcome::Values(values(&[("a", "b")]));
    vec![
        valid,
        forge.padded("a block of padding too many", &padded(64)),
        forge.padded("no marker", &block(20, 1)),
        forge.padded("zeros only", &block(0, 0)),
        forge.padded("the marker inside the identifier", &block(15, 0x80)),
    ]
}

fn forged_stanzas() -> Vec<Case> {
    let forge = Forge::new();
    let case = |name: &str, stanza: &Stanza| forge.case(name, stanza, &padded(32));
    let altered = |change: fn(&mut Vec<u8>)| {
        let mut stanza = forge.stanza(&forge.key, Suite::P256);
        change(&mut stanza.wrapped);
        stanza
    };
    let other_key = DataKey::from_slice(&[4; 32]).unwrap();
    let other_key = forge.stanza(&other_key, Suite::P256);
    vec![
        case("another data key for this header", &other_key),
        case("a hybrid point", &forge.hybrid_share()),
        case(
            "a point off the curve",
            &altered(|wrapped| wrapped[64] ^= 1),
        ),
        case("no point", &altered(|wrapped| wrapped[..65].fill(0))),
        case("an all-zero X25519 share", &forge.zero_share()),
    ]
}

/// Returns cases with a lock under a key that a reader might use as substitute for a data key that cannot be unwrapped.
fn substitute_key_locks() -> Vec<Case> {
    let key = DataKey::from_slice(&[0; 32]).unwrap();
    let fields = Forge::new().header.fields;
    let header = key.commit(fields, &place()).unwrap();
    let forge = Forge { key, header };
    let case = |suite: Suite, len| {
        let stanza = Stanza {
            wrapped: vec![9; len],
            ..forge.stanza(&forge.key, suite)
        };
        forge.case(
            &format!("{suite}, the substitute key"),
            &stanza,
            &padded(32),
        )
    };
    vec![
        case(Suite::XWing, 1168),
        case(Suite::P256, 113),
        case(Suite::Rsa, 256),
    ]
}

fn forged_rsa_blocks() -> Vec<Case> {
    let forge = Forge::new();
    let (empty, v1) = (
        Scope::ClusterWide.label("", ""),
        Scope::Strict.label("shop", "db"),
    );
    let message = |magic: &[u8]| [magic, forge.key.expose()].concat();
    let case = |name: &str, label, message: &[u8]| {
        let stanza = Stanza {
            wrapped: KEYS.rsa.public_key().encrypt(label, message).unwrap(),
            ..forge.stanza(&forge.key, Suite::Rsa)
        };
        forge.case(&format!("rsa, {name}"), &stanza, &padded(32))
    };
    let mut valid = case("a block made by hand", &empty, &message(b"seal-v2\0"));
    valid.outcome = Outcome::Values(values(&[("a", "b")]));
    let longer = Stanza {
        wrapped: vec![9; 257],
        ..forge.stanza(&forge.key, Suite::Rsa)
    };
    vec![
        valid,
        case("without the magic string", &empty, forge.key.expose()),
        case("another magic string", &empty, &message(b"seal-v3\0")),
        case("a longer message", &empty, &message(b"seal-v2\0\0")),
        case("the label of v1", &v1, &message(b"seal-v2\0")),
        case(
            "a session key of v1 with its label",
            &v1,
            forge.key.expose(),
        ),
        forge.case("rsa, a block of another length", &longer, &padded(32)),
    ]
}
