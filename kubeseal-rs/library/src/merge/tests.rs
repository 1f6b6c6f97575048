use std::collections::BTreeMap;

use proptest::prelude::*;
use shared::hints::{self, Hints};
use shared::key::Fingerprint;
use shared::manifest;
use shared::manifest::edit;
use shared::rotate_by::{self, Dates};
use shared::sealed_file::{self, Changes, HintRule};

use super::*;

const HEAD: &str = "\
# The database
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  name: db
  namespace: shop
spec:
  encryptedData:
";

const TAIL: &str = "  template:\n    type: Opaque  # the default\n";

const ITEMS: &str = "    # rotated monthly\n    a: AgA   # one\n    b: 'AgB'\n    c: AgC\n";

fn file(items: &str) -> String {
    format!("{HEAD}{items}{TAIL}")
}

fn merged(base: &str, ours: &str, theirs: &str) -> Merge {
    let versions = Versions {
        base: base.as_bytes(),
        ours: ours.as_bytes(),
        theirs: theirs.as_bytes(),
    };
    merge(&versions, &Labels::default())
}

fn text(merge: &Merge) -> String {
    String::from_utf8(merge.bytes.clone()).unwrap()
}

#[track_caller]
fn assert_clean(base: &str, ours: &str, theirs: &str, want: &str) {
    for (ours, theirs) in [(ours, theirs), (theirs, ours)] {
        let merge = merged(base, ours, theirs);
        assert_eq!(merge.conflicts, [], "{}", text(&merge));
        assert_eq!(text(&merge), want);
    }
}

fn reasons(merge: &Merge) -> String {
    let reasons = merge.conflicts.iter().map(|conflict| match conflict {
        Conflict::Item {
            item, ours, theirs, ..
        } => format!("{item} {ours:?} {theirs:?}"),
        Conflict::Object { reason, .. } => format!("object: {reason}"),
        Conflict::Lines(lines) => format!("{} lines", lines.len()),
        Conflict::File { reason } => format!("file: {reason}"),
    });
    reasons.collect::<Vec<_>>().join(", ")
}

#[test]
fn merges_changes_of_different_items() {
    let base = file(ITEMS);
    let ours = base.replace("AgA ", "AgX ");
    let theirs = base.replace("AgB", "AgY").replace("    c: AgC\n", "");
    let want = ours.replace("AgB", "AgY").replace("    c: AgC\n", "");
    assert_clean(&base, &ours, &theirs, &want);
}

#[test]
fn merges_items_that_both_versions_added() {
    let base = file(ITEMS);
    let ours = base.replace("AgC\n", "AgC\n    d: AgD\n");
    let theirs = base.replace("AgC\n", "AgC\n    # for mail\n    e: AgE\n");
    let merge = merged(&base, &ours, &theirs);
    let want = base.replace("AgC\n", "AgC\n    d: AgD\n    # for mail\n    e: AgE\n");
    assert_eq!((text(&merge), merge.conflicts), (want, vec![]));
    let theirs = base.replace("    # rotated", "    e: AgE\n    # rotated");
    let want = ours.replace("    # rotated", "    e: AgE\n    # rotated");
    assert_clean(&base, &ours, &theirs, &want);
}

#[test]
fn merges_items_and_other_lines() {
    let base = file(ITEMS);
    let ours = base
        .replace("AgA ", "AgX ")
        .replace("# The database", "# The main database");
    let theirs = base.replace("type: Opaque", "immutable: true");
    let want = ours.replace("type: Opaque", "immutable: true");
    assert_clean(&base, &ours, &theirs, &want);
    // The line after the last item, which is adjacent to a changed item.
    let theirs = base.replace("  template:", "  template:  # why");
    let ours = base.replace("AgC", "AgX");
    let want = ours.replace("  template:", "  template:  # why");
    assert_clean(&base, &ours, &theirs, &want);
}

#[test]
fn keeps_line_breaks_of_windows_and_a_missing_last_line_break() {
    let base = file(ITEMS).replace('\n', "\r\n");
    let ours = base.replace("AgC\r\n", "AgC\r\n    d: AgD\r\n");
    let theirs = base.replace("AgA ", "AgX ");
    assert_clean(&base, &ours, &theirs, &ours.replace("AgA ", "AgX "));
    let conflict = merged(
        &base,
        &base.replace("AgC", "AgX"),
        &base.replace("AgC", "AgY"),
    );
    let want = base.replace(
        "    c: AgC\r\n",
        "<<<<<<< ours\r\n    c: AgX\r\n=======\r\n    c: AgY\r\n>>>>>>> theirs\r\n",
    );
    assert_eq!(text(&conflict), want);
    let base = format!("{HEAD}    a: AgA\n    b: AgB");
    let ours = base.replace("AgA", "AgX");
    let theirs = format!("{base}\n    c: AgC");
    assert_clean(&base, &ours, &theirs, &theirs.replace("AgA", "AgX"));
}

#[test]
fn marks_only_the_item_that_both_versions_changed() {
    let base = file(ITEMS);
    let ours = base.replace("AgB", "AgX").replace("AgC", "AgZ");
    let theirs = base.replace("AgB", "AgY").replace("The database", "Data");
    let merge = merged(&base, &ours, &theirs);
    let want = "<<<<<<< ours\n    b: 'AgX'\n=======\n    b: 'AgY'\n>>>>>>> theirs\n";
    let want = base
        .replace("    b: 'AgB'\n", want)
        .replace("AgC", "AgZ")
        .replace("The database", "Data");
    assert_eq!(text(&merge), want);
    assert_eq!(reasons(&merge), "b Changed Changed");
    for (ours, theirs, want) in [
        ("    b: 'AgB'\n", "", "b Removed Changed"),
        ("AgC\n", "AgC\n    d: AgD\n", "d Added Added"),
    ] {
        let merge = merged(&base, &base.replace(ours, theirs), &{
            let changed = base.replace("'AgB'", "'AgY'");
            changed.replace("AgC\n", "AgC\n    d: AgE\n")
        });
        assert_eq!(reasons(&merge), want);
    }
}

#[test]
fn names_the_marked_lines_of_the_result() {
    let base = file(ITEMS);
    let edit = |value: &str| {
        let base = base.replace("# The database", &format!("# {value}"));
        let base = base.replace("AgC\n", "AgC\n    d: AgD\n");
        base.replace("type: Opaque", &format!("type: {value}"))
    };
    let merge = merged(&base, &edit("x"), &edit("y"));
    let text = text(&merge);
    let number_of = |mark: &str| {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| line.starts_with(mark));
        lines.map(|(index, _)| index + 1).collect::<Vec<_>>()
    };
    let marks = number_of("<<<<<<< ").into_iter().zip(number_of(">>>>>>> "));
    let want: Vec<MarkedLines> = marks
        .map(|(first, last)| MarkedLines { first, last })
        .collect();
    assert_eq!(want.len(), 2, "{text}");
    assert_eq!(merge.conflicts, [Conflict::Lines(want)], "{text}");
}

#[test]
fn merges_json_and_mappings_with_braces() {
    let json = |items: &str| {
        format!(
            "{{\n  \"kind\": \"SealedSecret\",\n  \"apiVersion\": \"bitnami.com/v1alpha1\",\n  \"metadata\": \
             {{\"name\": \"db\"}},\n  \"spec\": {{\n    \"encryptedData\": {{\n{items}\n    }}\n  }}\n}}\n"
        )
    };
    let (base, ours) = (
        json("      \"a\": \"AgA\""),
        json("      \"a\": \"AgA\",\n      \"b\": \"AgB\""),
    );
    let theirs = json("      \"a\": \"AgA\",\n      \"c\": \"AgC\"");
    let merge = merged(&base, &ours, &theirs);
    let want = json("      \"a\": \"AgA\",\n      \"b\": \"AgB\",\n      \"c\": \"AgC\"");
    assert_eq!((text(&merge), merge.conflicts), (want, vec![]));
    let merge = merged(
        &base,
        &base.replace("AgA", "AgX"),
        &theirs.replace("AgA", "AgY"),
    );
    let want = json(
        "<<<<<<< ours\n      \"a\": \"AgX\",\n=======\n      \"a\": \"AgY\",\n>>>>>>> theirs\n      \"c\": \"AgC\"",
    );
    assert_eq!(text(&merge), want);
    assert_eq!(reasons(&merge), "a Changed Changed");

    let yaml =
        |items: &str| HEAD.replace("encryptedData:\n", &format!("encryptedData: {{{items}}}\n"));
    let base = yaml("a: AgA, b: AgB");
    let (ours, theirs) = (yaml("a: AgX, b: AgB"), yaml("a: AgA, b: AgB, c: AgC"));
    assert_clean(&base, &ours, &theirs, &yaml("a: AgX, b: AgB, c: AgC"));
    let merge = merged(&base, &ours, &yaml("a: AgY, b: AgB"));
    assert_eq!(reasons(&merge), "1 lines");
}

#[test]
fn merges_each_document_and_list_item_separately() {
    let other = "---\nkind: ConfigMap\ndata:\n  x: 1\n  y: 2\n  z: 3\n";
    let second = file("    a: AgS\n").replace("name: db", "name: web");
    let base = format!("{}{other}---\n{second}", file(ITEMS));
    let ours = base.replace("AgA ", "AgX ").replace("x: 1", "x: 9");
    let theirs = base
        .replace("AgS\n", "AgS\n    z: AgZ\n")
        .replace("z: 3", "z: 9");
    let want = ours
        .replace("AgS\n", "AgS\n    z: AgZ\n")
        .replace("z: 3", "z: 9");
    assert_clean(&base, &ours, &theirs, &want);
    // A document is added in one version.
    let ours = base.replace("AgA ", "AgX ");
    let theirs = format!("{base}---\nkind: Namespace\n");
    assert_clean(&base, &ours, &theirs, &theirs.replace("AgA ", "AgX "));
    // A document is deleted in one version, and its item changed in the other.
    let ours = format!("{}{other}", file(ITEMS));
    let merge = merged(&base, &ours, &base.replace("AgS", "AgT"));
    assert_eq!(reasons(&merge), "1 lines");
    assert!(text(&merge).contains("AgT"), "{}", text(&merge));
    // The same object is unchanged in the other.
    assert_clean(
        &base,
        &ours,
        &base.replace("AgA ", "AgX "),
        &ours.replace("AgA ", "AgX "),
    );
}

#[test]
fn merges_an_object_that_both_versions_added() {
    let (ours, theirs) = (file("    a: AgA\n"), file("    b: AgB\n"));
    let merge = merged("", &ours, &theirs);
    assert_eq!(
        (text(&merge), merge.conflicts),
        (file("    a: AgA\n    b: AgB\n"), vec![])
    );
    let merge = merged("", &ours, &file("    a: AgX\n"));
    assert_eq!(reasons(&merge), "a Added Added");
}

const FINGERPRINTS: [&str; 2] = [
    "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk",
    "SHA256:WtQrwMYugrp4AksXg0fb8oUR1AzUyaAUQYpNhx4Uv8A",
];

fn hints_of(merge: &Merge) -> Vec<String> {
    let documents = manifest::read(&merge.bytes).unwrap();
    let found = sealed_file::find(&documents).unwrap();
    hints::read(found[0].sealed.metadata.annotations.as_ref())
        .into_keys()
        .collect()
}

/// Applies changes as `seal set` and `seal unset` do.
fn edited(text: &str, set: &[(&str, &str)], removed: &[&str], fingerprint: usize) -> String {
    let key: Fingerprint = FINGERPRINTS[fingerprint].parse().unwrap();
    let found = sealed_file::find(&manifest::read(text.as_bytes()).unwrap()).unwrap();
    let dates = set.iter().map(|(key, text)| {
        // A date for each value, so that a merge can lose it.
        let due = rotate_by::parse(&format!("x 2027-01-{:02} 30d", 1 + text.len() % 28)).dates["x"];
        ((*key).to_owned(), Some(due))
    });
    let dates = dates.collect();
    let changes = Changes {
        texts: set
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect(),
        removed: removed.iter().map(|key| (*key).to_owned()).collect(),
        data: None,
        hints: HintRule::Write(&key),
        dates,
    };
    let bytes = edit::apply(text.as_bytes(), &found[0].edits(&changes)).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn merges_hints_with_their_items() {
    let base = file(ITEMS);
    // Both versions write the first hint.
    let (ours, theirs) = (
        edited(&base, &[("a", "AgX")], &[], 0),
        edited(&base, &[("b", "AgY")], &[], 1),
    );
    let merge = merged(&base, &ours, &theirs);
    assert_eq!(
        (hints_of(&merge), &merge.conflicts),
        (vec!["a".into(), "b".into()], &vec![])
    );
    // One version removes the only hint, the other adds one.
    let base = edited(&base, &[("a", "AgX")], &[], 0);
    let (ours, theirs) = (
        edited(&base, &[], &["a"], 0),
        edited(&base, &[("c", "AgZ")], &[], 1),
    );
    for (ours, theirs) in [(&ours, &theirs), (&theirs, &ours)] {
        let merge = merged(&base, ours, theirs);
        assert_eq!(
            (hints_of(&merge), &merge.conflicts),
            (vec!["c".into()], &vec![])
        );
    }
    // A wrong hint is worse than none: the hint of an item in conflict is removed.
    let base = edited(&base, &[("b", "AgB2")], &[], 0);
    let (ours, theirs) = (
        edited(&base, &[("a", "Ag1")], &[], 0),
        edited(&base, &[("a", "Ag2")], &[], 1),
    );
    let merge = merged(&base, &ours, &theirs);
    assert_eq!(reasons(&merge), "a Changed Changed");
    assert!(text(&merge).contains(&format!("key-hints: '{{\"b\":\"{}\"}}'", FINGERPRINTS[0])));
}

#[test]
fn merges_dates_with_their_items() {
    let dates_of = |merge: &Merge| -> Vec<String> {
        let (.., dates) = content(&text(merge));
        let dates = dates.into_iter();
        dates
            .map(|(item, due)| format!("{item} {}", due.date))
            .collect()
    };
    // Both versions write the first date, or one more.
    let base = file(ITEMS);
    let with_date = edited(&base, &[("b", "AgB")], &[], 0);
    for (base, want) in [
        (&base, &["a 2027-01-04", "c 2027-01-05"][..]),
        (
            &with_date,
            &["a 2027-01-04", "b 2027-01-04", "c 2027-01-05"],
        ),
    ] {
        let (ours, theirs) = (
            edited(base, &[("a", "AgX")], &[], 0),
            edited(base, &[("c", "AgYY")], &[], 1),
        );
        let merge = merged(base, &ours, &theirs);
        assert_eq!(dates_of(&merge), want);
        assert_eq!(merge.conflicts, []);
    }
    // One version removes the only date, the other adds one.
    let (ours, theirs) = (
        edited(&with_date, &[], &["b"], 0),
        edited(&with_date, &[("c", "AgYY")], &[], 1),
    );
    for (ours, theirs) in [(&ours, &theirs), (&theirs, &ours)] {
        let merge = merged(&with_date, ours, theirs);
        assert_eq!(
            (dates_of(&merge), &merge.conflicts),
            (vec!["c 2027-01-05".into()], &vec![])
        );
    }
    // Both versions change the date of a value that neither changes: the earlier date counts.
    let (ours, theirs) = (
        with_date.replace("b 2027-01-04", "b 2027-09-01"),
        with_date.replace("b 2027-01-04", "b 2027-08-01"),
    );
    let merge = merged(&with_date, &ours, &theirs);
    assert_eq!(
        (dates_of(&merge), &merge.conflicts),
        (vec!["b 2027-08-01".into()], &vec![])
    );
}

#[test]
fn a_merge_of_dates_keeps_malformed_lines() {
    let base = edited(&file(ITEMS), &[("b", "AgB")], &[], 0);
    let base = base.replace("b 2027-01-04", "a soon\n      b 2027-01-04");
    let theirs = edited(&base, &[("c", "AgYY")], &[], 1);
    let ours = base.replace("# The database", "# The DB");
    let merge = merged(&base, &ours, &theirs);
    assert_eq!(merge.conflicts, []);
    assert!(text(&merge).contains("a soon"), "{}", text(&merge));
}

/// Fault: one branch renames an object and seals its items again, another adds an item under the former name. The item
/// could not be unsealed.
#[test]
fn refuses_items_that_were_sealed_for_another_place() {
    let base = file(ITEMS);
    let theirs = base.replace("    # rotated", "    e: AgE\n    # rotated");
    for (from, to) in [
        ("name: db", "name: data"),
        ("namespace: shop", "namespace: web"),
        (
            "name: db",
            "name: db\n  annotations: {sealedsecrets.bitnami.com/cluster-wide: \"true\"}",
        ),
    ] {
        let moved = base.replace(from, to);
        for (ours, theirs) in [(&moved, &theirs), (&theirs, &moved)] {
            let merge = merged(&base, ours, theirs);
            let reasons = reasons(&merge);
            assert!(
                reasons.contains("sealed for the former place"),
                "{to}: {reasons}"
            );
        }
    }
}

/// Attack: a committer writes one version such that the merge fails to parse, or is ambiguous.
#[test]
fn falls_back_to_lines_without_trusting_the_result() {
    let base = file(ITEMS);
    let broken = base.replace("  template:", "  template: [");
    let merge = merged(&base, &broken, &base.replace("# The", "# A"));
    assert_eq!(reasons(&merge), "");
    assert_eq!(text(&merge), broken.replace("# The", "# A"));
    // Both versions add the same key at different places.
    let base = file(ITEMS)
        .replace("    c: AgC\n", "    c: *x\n")
        .replace("'AgB'", "&x AgB");
    let ours = base.replace("    # rot", "    d: AgD\n    # rot");
    let theirs = base.replace("*x\n", "*x\n    d: AgE\n");
    let merge = merged(&base, &ours, &theirs);
    assert!(!merge.conflicts.is_empty(), "{}", text(&merge));
    let binary = Versions {
        base: b"a\0",
        ours: b"b\0",
        theirs: b"c",
    };
    let merge = merge_default(&binary);
    assert_eq!(
        (merge.bytes.as_slice(), reasons(&merge).as_str()),
        (&b"b\0"[..], "file: it is not a text file")
    );
}

fn merge_default(versions: &Versions<'_>) -> Merge {
    merge(versions, &Labels::default())
}

/// Attack: a committer writes the text of a token, to have it replaced by items.
#[test]
fn does_not_replace_text_that_looks_like_a_token() {
    let base = file(ITEMS).replace("# The", "# \\0 0 \u{2400}0\u{2400} The");
    let ours = base.replace("AgA ", "AgX ");
    let theirs = base.replace("AgB", "AgY");
    assert_clean(&base, &ours, &theirs, &ours.replace("AgB", "AgY"));
}

/// Fault: the values of both versions differ from the base, but the text of an alias is unchanged in one of them.
#[test]
fn an_item_that_is_an_alias_is_a_conflict_and_not_lost() {
    let base = file("    a: &x AgA\n    b: *x\n");
    let anchor_changed = file("    a: &x AgB\n    b: *x\n");
    let alias_replaced = file("    a: &x AgA\n    b: AgC\n");
    for (ours, theirs) in [
        (&anchor_changed, &alias_replaced),
        (&alias_replaced, &anchor_changed),
    ] {
        let merge = merged(&base, ours, theirs);
        assert!(!merge.conflicts.is_empty(), "{}", text(&merge));
        assert!(text(&merge).contains("b: AgC"), "{}", text(&merge));
        assert!(text(&merge).contains("b: *x"), "{}", text(&merge));
    }
}

/// Attack: a committer writes a SealedSecret with many items, so that a merge takes minutes.
#[test]
fn merges_many_items_in_linear_time() {
    let items = |mark: &str| -> String {
        let lines = (0..20_000).map(|i| format!("    k{i}{mark}: AgA\n"));
        lines.collect::<Vec<_>>().concat()
    };
    let base = file("    a: AgA\n");
    let (ours, theirs) = (file(&items("x")), file(&items("y")));
    let merge = merged(&base, &ours, &theirs);
    assert_eq!(reasons(&merge), "");
    assert_eq!(
        text(&merge).lines().count(),
        40_000 + file("").lines().count()
    );
}

/// What one side does with each of six items: 0 nothing, 1 sets it, 2 removes it. Only one side changes each item.
type Edits = Vec<(u8, bool)>;

fn apply(text: &str, edits: &Edits, is_ours: Option<bool>) -> String {
    let chosen = edits.iter().enumerate();
    let chosen = chosen.filter(|(_, (_, ours))| is_ours.is_none_or(|is_ours| *ours == is_ours));
    let (mut set, mut removed) = (BTreeMap::new(), Vec::new());
    for (i, (kind, _)) in chosen {
        let (key, exists) = (format!("k{i}"), i < 3);
        match kind {
            1 => drop(set.insert(key, format!("AgN{i}"))),
            2 if exists => removed.push(key),
            _ => {}
        }
    }
    let set: Vec<_> = set
        .iter()
        .map(|(key, text)| (key.as_str(), text.as_str()))
        .collect();
    let removed: Vec<_> = removed.iter().map(String::as_str).collect();
    edited(text, &set, &removed, 0)
}

fn content(text: &str) -> (BTreeMap<String, String>, Hints, Dates) {
    let found = sealed_file::find(&manifest::read(text.as_bytes()).unwrap()).unwrap();
    let sealed = &found[0].sealed;
    (
        sealed.spec.encrypted_data.clone(),
        hints::read(sealed.metadata.annotations.as_ref()),
        rotate_by::read(sealed.metadata.annotations.as_ref()).dates,
    )
}

proptest! {
    #[test]
    fn a_merge_of_disjoint_edits_equals_applying_both(
        edits in prop::collection::vec((0..3u8, any::<bool>()), 6),
        style in 0..4usize,
    ) {
        let items = ["    k0: AgA  # one\n    k1: AgB\n    # two\n    k2: AgC\n    x: AgX\n", "    {k0: AgA, k1: AgB, k2: AgC, x: AgX}\n"];
        let base = file(items[style % 2]);
        let base = if style >= 2 { base.replace('\n', "\r\n") } else { base };
        let (ours, theirs) = (apply(&base, &edits, Some(true)), apply(&base, &edits, Some(false)));
        let want = content(&apply(&base, &edits, None));
        for (ours, theirs) in [(&ours, &theirs), (&theirs, &ours)] {
            let merge = merged(&base, ours, theirs);
            prop_assert_eq!(&merge.conflicts, &vec![], "{}", text(&merge));
            let text = text(&merge);
            prop_assert_eq!(&content(&text), &want);
            for comment in ["# The database", "# two", "# the default"] {
                prop_assert_eq!(text.contains(comment), base.contains(comment));
            }
        }
    }

    /// Attack: a committer writes arbitrary text, to crash the merge driver or lose lines of the other version.
    #[test]
    fn never_panics_and_keeps_an_only_change(a in "[ \\nab:#{}'\"&*|>-]{0,40}", b in "[ \\nab:#{}'\"&*|>-]{0,40}") {
        let (base, changed) = (format!("{HEAD}{a}"), format!("{HEAD}{b}"));
        let _ = merged(&file(ITEMS), &base, &changed);
        let only = merged(&base, &base, &changed);
        if only.conflicts.is_empty() {
            prop_assert_eq!(text(&only), changed);
        }
    }
}
