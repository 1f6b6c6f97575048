use super::*;

/// Description, text, edit, and prefix of the error.
const REFUSED_EDITS: &[[&str; 4]] = &[
    [
        "an anchor with an alias",
        "a: &x AgA\nb: *x\n",
        "a=AgX",
        "cannot edit document 1 safely: b would not have the requested value",
    ],
    [
        "a directive with non-ASCII characters",
        "%ä ö\n---\na: AgA\n",
        "a=AgX",
        "line 1: the file cannot be edited: its layout is not supported",
    ],
    [
        "a mapping with an alias",
        "a: &x {k: AgA}\nb: *x\n",
        "a/k=AgX",
        "cannot edit document 1 safely: b.k would",
    ],
    [
        "an aliased mapping",
        "a: &x {k: AgA}\nb: *x\n",
        "b/k=AgX",
        "line 2: b.k cannot be edited: it is an alias",
    ],
    [
        "a key from a merge",
        "a: &x {k: AgA}\nb:\n  <<: *x\n  l: m\n",
        "-b/k",
        "line 3: b.k cannot be edited: it does not exist",
    ],
    [
        "a duplicate key",
        "a: 1\na: 2\nb: 3\n",
        "-a",
        "cannot edit document 1 safely: a would",
    ],
    [
        "blank lines that would become part of a value",
        "a:\n  b: |+\n    x\n  c: y\n\n\n",
        "-a/c",
        "cannot edit document 1 safely: a.b would",
    ],
    [
        "a value that ends with the text",
        "a:\n  b: |\n    x",
        "a/c=y",
        "line 2: a.c cannot be edited: its layout",
    ],
    [
        "a value in a list that ends with the text",
        "a:\n  - |\n    x",
        "b=y",
        "line 1: b cannot be edited: its layout",
    ],
    [
        "a value in a mapping that ends with the text",
        "a:\n  b: |\n    x",
        "c=y",
        "line 1: c cannot be edited: its layout",
    ],
    [
        "an explicit key without a value",
        "? a\n: {}\nb: 1\n",
        "a/x=V",
        "line 1: a.x cannot be edited: its layout",
    ],
    [
        "an item of a list that does not exist",
        "a: 1\n",
        "b/0=x",
        "line 1: b.0 cannot be edited: it does not exist",
    ],
    [
        "a tag that means another type",
        "a: !!binary aGk=\n",
        "a=AgX",
        "cannot edit document 1 safely: the structure would",
    ],
    [
        "a mapping",
        "a:\n  b: c\n",
        "a=AgX",
        "line 2: a cannot be edited: it is a list or a mapping",
    ],
    [
        "a path through a value",
        "a: b\n",
        "a/b=AgX",
        "line 1: a.b cannot be edited: its parent is not a mapping",
    ],
    [
        "the only key of an item",
        "- a: b\n",
        "-0/a",
        "line 1: 0.a cannot be edited: it is the only entry",
    ],
    [
        "no such document",
        "a: b\n",
        "2:a=x",
        "document 2 does not exist",
    ],
    [
        "malformed YAML",
        "a: [\n",
        "a=x",
        "document 1, line 2: malformed",
    ],
    [
        "a line that ends with CR alone",
        "a: b\rc: d\n",
        "c=AgX",
        "line 1: the file cannot be edited: its layout",
    ],
    [
        "a comment that ends with CR alone",
        "&x #y\r\rz|+\n",
        "a=AgX",
        "line 1: the file cannot be edited: its layout",
    ],
    [
        "a pair without braces",
        "a: [b: c]\n",
        "a/0/b=AgX",
        "line 1: a.0.b cannot be edited: its parent",
    ],
];

#[test]
fn refuses_edits_that_would_change_more_than_requested() {
    for [why, before, edits_text, want] in REFUSED_EDITS {
        let error = apply_edits(before, edits_text).expect_err(why);
        assert!(error.starts_with(want), "{why}: {error}");
    }
}
