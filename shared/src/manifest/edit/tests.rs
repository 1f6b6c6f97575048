use super::*;

/// `|a: b|` line by line, so that white space counts. A last line without `|` at its end has no line
/// break.
fn text(fenced: &str) -> String {
    let lines = fenced.lines().map(str::trim_start);
    let lines = lines.filter_map(|line| line.strip_prefix('|'));
    lines
        .map(|line| match line.strip_suffix('|') {
            Some(line) => format!("{line}\n"),
            None => line.to_owned(),
        })
        .collect()
}

fn path(words: &str) -> Vec<Step> {
    let step = |word: &str| match (word, word.parse()) {
        ("spec", _) => Step::Field("spec"),
        ("encryptedData", _) => Step::Field("encryptedData"),
        (_, Ok(index)) => Step::Item(index),
        _ => Step::Key(word.to_owned()),
    };
    words.split('/').map(step).collect()
}

/// `+path=value` or `-path`, with `2:` before it for another document.
fn edits(words: &str) -> Vec<Edit> {
    let one = |word: &str| {
        let (document, word) = match word.split_once(':') {
            Some((number, rest)) if number.parse::<usize>().is_ok() => {
                (number.parse().unwrap(), rest)
            }
            _ => (1, word),
        };
        match (word.strip_prefix('-'), word.split_once('=')) {
            (Some(gone), _) => Edit {
                document,
                path: path(gone),
                change: Change::Remove,
            },
            (None, Some((set, value))) => Edit {
                document,
                path: path(set),
                change: Change::Set(value.to_owned()),
            },
            _ => unreachable!("{word}"),
        }
    };
    words.split(' ').map(one).collect()
}

fn edited(before: &str, words: &str) -> Result<String, String> {
    let done = apply(before.as_bytes(), &edits(words)).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(done).unwrap())
}

#[track_caller]
fn becomes(words: &str, before: &str, after: &str) {
    let (before, after) = (text(before), text(after));
    assert_eq!(edited(&before, words), Ok(after.clone()), "{words}");
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let done = edited(&crlf(&before), words);
    assert_eq!(done, Ok(crlf(&after)), "{words} with CRLF");
}

#[test]
fn replaces_a_value_and_nothing_else() {
    becomes(
        "a=AgX= b=AgX= c=AgX= d=AgX= e=AgX= f=AgX= g=AgX=",
        "
        |# head|
        |a: AgB   # plain|
        |b:   'it''s'\t# single|
        |\"c\": \"a\\\"b\" # double|
        |d: >-  # folded|
        |    AgB|
        |    AgC|
        ||
        |# about e|
        |e: |2|
        |    x|
        |  y|
        |f: first|
        |   second # two lines|
        |g:|
        |  # below|
        |  AgB # here|
        |z: [1, {y: 2}]   |
        ",
        "
        |# head|
        |a: AgX=   # plain|
        |b:   'AgX='\t# single|
        |\"c\": \"AgX=\" # double|
        |d: >-  # folded|
        |    AgX=|
        ||
        |# about e|
        |e: |2-|
        |  AgX=|
        |f: AgX= # two lines|
        |g:|
        |  # below|
        |  AgX= # here|
        |z: [1, {y: 2}]   |
        ",
    );
}

#[test]
fn finds_values_in_any_document_and_list() {
    becomes(
        "2:spec/encryptedData/a=AgX items/0/a=AgY items/1/a=AgZ",
        "
        |---|
        |items:|
        |- a: AgB|
        |  b: c|
        |-   {a: AgC, b: d}|
        |...|
        |# nothing here|
        |---|
        |---|
        |Spec: {encryptedData: { 'a' : AgD } } # case|
        ",
        "
        |---|
        |items:|
        |- a: AgY|
        |  b: c|
        |-   {a: AgZ, b: d}|
        |...|
        |# nothing here|
        |---|
        |---|
        |Spec: {encryptedData: { 'a' : AgX } } # case|
        ",
    );
}

#[test]
fn fills_what_is_empty() {
    becomes(
        "a=x b=x c/d=x",
        "
        |a:   # nothing|
        |b: ~|
        |c: &anchor !!map {}   # no items|
        ",
        "
        |a: x   # nothing|
        |b: x|
        |c: &anchor !!map   # no items|
        |  d: x|
        ",
    );
    becomes(
        "m/q/o=AgX m/q/p=AgY",
        "
        |m:|
        |    k: v|
        |    q:|
        |# end|
        ",
        "
        |m:|
        |    k: v|
        |    q:|
        |        o: AgX|
        |        p: AgY|
        |# end|
        ",
    );
}

#[test]
fn adds_behind_the_last_neighbour_and_in_its_manner() {
    becomes(
        "spec/encryptedData/c=AgC spec/template/x/w=1 z=yes",
        "
        |spec:|
        |   encryptedData:|
        |      a: AgA|
        |      \"b\": 'AgB' # b|
        |      # about c, which is not there|
        ||
        |   template: |
        |      type: Opaque",
        "
        |spec:|
        |   encryptedData:|
        |      a: AgA|
        |      \"b\": 'AgB' # b|
        |      \"c\": 'AgC'|
        |      # about c, which is not there|
        ||
        |   template: |
        |      type: Opaque|
        |      x:|
        |         w: \"1\"|
        |z: \"yes\"",
    );
    becomes(
        "l/0/b=AgB k/o=AgO",
        "
        |l:|
        |-   a: AgA|
        |- c|
        |k:|
        |  m: |+|
        |    kept|
        ||
        ||
        |j: {}|
        ",
        "
        |l:|
        |-   a: AgA|
        |    b: AgB|
        |- c|
        |k:|
        |  m: |+|
        |    kept|
        ||
        ||
        |  o: AgO|
        |j: {}|
        ",
    );
}

#[test]
fn adds_between_braces() {
    becomes(
        "a/w=AgY b/w=AgY c/w=AgY d/w=AgY e/w=a:b",
        "
        |a: {x: AgX} # one|
        |b: { x: 'AgX', }|
        |c: {|
        |  x: AgX # last|
        |}|
        |d: {|
        |  \"x\": \"AgX\",   # comma|
        |  }|
        |e: {x: AgX}|
        ",
        "
        |a: {x: AgX, w: AgY} # one|
        |b: { x: 'AgX', w: 'AgY', }|
        |c: {|
        |  x: AgX, # last|
        |  w: AgY|
        |}|
        |d: {|
        |  \"x\": \"AgX\",   # comma|
        |  \"w\": \"AgY\",|
        |  }|
        |e: {x: AgX, w: \"a:b\"}|
        ",
    );
}

#[test]
fn removes_a_key_with_its_lines() {
    becomes(
        "-a -m/b -l/0/c -f/g -f/i -x/w -z/q",
        "
        |a: >-|
        |  AgA|
        |  AgB|
        |# about m|
        |m:|
        |  # about b|
        |  b: AgB # b|
        |  # about k|
        |  k: v|
        |l:|
        |- c: d|
        |  e: f|
        |f: {g: 1, h: 2, i: 3}|
        |x: # only w|
        |  w: z|
        |z: {|
        |  q: 1, # q|
        |  r: 2|
        |}",
        "
        |# about m|
        |m:|
        |  # about b|
        |  # about k|
        |  k: v|
        |l:|
        |- e: f|
        |f: {h: 2}|
        |x: {} # only w|
        |z: {|
        |   # q|
        |  r: 2|
        |}",
    );
    becomes("-b", "|a: 1|\n|b: 2", "|a: 1");
}

#[test]
fn keeps_the_layout_of_json() {
    let before = r#"
        |{|
        |    "kind": "SealedSecret",|
        |    "metadata": {"name":"n"},|
        |    "spec": {|
        |        "encryptedData": {|
        |            "a": "AgA\u00fc",|
        |            "b" : "AgB"|
        |        },|
        |        "template": {}|
        |    }|
        |}|
        |{"spec":{"encryptedData":{"c":"AgC"}}}|
        "#;
    let after = r#"
        |{|
        |    "kind": "SealedSecret",|
        |    "metadata": {"name":"n","annotations":{"h": "SHA256:x"}},|
        |    "spec": {|
        |        "encryptedData": {|
        |            "a": "AgX",|
        |            "d" : "AgD"|
        |        },|
        |        "template": {|
        |            "x": "<\"ü>"|
        |        }|
        |    }|
        |}|
        |{"spec":{"encryptedData":{}}}|
        "#;
    becomes(
        "spec/encryptedData/a=AgX spec/encryptedData/d=AgD -spec/encryptedData/b \
         metadata/annotations/h=SHA256:x spec/template/x=<\"ü> -2:spec/encryptedData/c"
            .replace("-2:", "2:-")
            .as_str(),
        before,
        after,
    );
}

#[test]
fn a_json_list_is_json_too() {
    let before = r#"{"items": [[1, []], {"a": "A"}]}"#;
    let after = r#"{"items": [[1, []], {"a": "A", "b": "B"}]}"#;
    assert_eq!(
        edited(before, "items/1/b=B").as_deref(),
        Ok(after),
        "with quotes"
    );
}

#[test]
fn what_is_missing_twice_is_added_once() {
    becomes(
        "x/p=P x/q=Q",
        "|a: 1|",
        "
        |a: 1|
        |x:|
        |  p: P|
        |  q: Q|
        ",
    );
}

#[test]
fn a_colon_needs_quotes_where_old_readers_take_it_for_syntax() {
    for (before, after) in [
        ("a: SHA256:x\n", "a: SHA256:y\n"),
        ("a: x\n", "a: \"SHA256:y\"\n"),
        ("{a: x}\n", "{a: \"SHA256:y\"}\n"),
        (r#"{"a": 1}"#, r#"{"a": "SHA256:y"}"#),
    ] {
        assert_eq!(edited(before, "a=SHA256:y").as_deref(), Ok(after));
    }
}

#[test]
fn what_a_block_cannot_hold_is_refused() {
    let set = |before: &str, value: &str| {
        let edit = Edit {
            document: 1,
            path: path("a"),
            change: Change::Set(value.to_owned()),
        };
        apply(before.as_bytes(), &[edit]).map_err(|e| e.to_string())
    };
    let block = "a: |-\n  x\nb: c\n";
    assert_eq!(set(block, "y"), Ok(b"a: |-\n  y\nb: c\n".to_vec()));
    for (before, value) in [
        (block, ""),
        (block, " y"),
        (block, "\ty"),
        (block, "y\nz"),
        (block, "y\u{7}"),
        ("a: |-\nb: c\n", "y"),
    ] {
        let error = set(before, value).unwrap_err();
        let want = "line 1: a cannot be edited: its layout";
        assert!(error.starts_with(want), "{before:?}, {value:?}: {error}");
    }
}

#[test]
fn braces_are_filled_in_their_manner() {
    for (before, words, after) in [
        ("{a:, b: 1}\n", "a/x=V", "{a: {x: V}, b: 1}\n"),
        ("{a: {}, b: 1}\n", "a/x=V", "{a: {x: V}, b: 1}\n"),
        (r#"{"a":{}}"#, "a/x=V", r#"{"a":{"x": "V"}}"#),
        (
            "{\n    \"a\": {}\n}\n",
            "a/b/c=V",
            "{\n    \"a\": {\n        \"b\": {\n            \"c\": \"V\"\n        }\n    }\n}\n",
        ),
        (
            "{a: 1, m: {\n b: {}}}\n",
            "m/b/x=V",
            "{a: 1, m: {\n b: {\n  x: V\n }}}\n",
        ),
        ("{\n  a: 1}\n", "b=B", "{\n  a: 1,\n  b: B}\n"),
        ("{b: 2, \"a\":1}\n", "c=V", "{b: 2, \"a\":1, \"c\": V}\n"),
    ] {
        assert_eq!(edited(before, words).as_deref(), Ok(after));
    }
}

#[test]
fn what_leaves_braces_takes_no_comment_along() {
    for (before, words, after) in [
        ("{ a: 1 }\n", "-a", "{}\n"),
        ("{ # note\n a: 1 }\n", "-a", "{ # note\n  }\n"),
        ("{ a: 1 # note\n }\n", "-a", "{  # note\n }\n"),
        ("{a: 1, # note\n b: 2}\n", "-b", "{a: 1, # note\n }\n"),
        ("{a: 1 , b: 2}\n", "-b", "{a: 1}\n"),
        ("{? a : b, c: d}\n", "-a", "{c: d}\n"),
    ] {
        assert_eq!(edited(before, words).as_deref(), Ok(after));
    }
}

#[test]
fn the_last_key_of_a_mapping_in_a_list_leaves_braces() {
    becomes(
        "-l/0/m/a",
        "
        |l:|
        |  - m:|
        |      a: b|
        |    n: c|
        ",
        "
        |l:|
        |  - m: {}|
        |    n: c|
        ",
    );
}

#[test]
fn a_block_may_begin_with_what_looks_like_a_comment() {
    let before = "l:\n- |-\n  # x\n- b # c\n";
    let after = "l:\n- |-\n  # x\n- z # c\n";
    assert_eq!(edited(before, "l/1=z").as_deref(), Ok(after));
}

#[test]
fn values_may_be_empty_and_marked() {
    for (before, words, after) in [
        ("a: &x\nb: c\n", "a=V", "a: &x V\nb: c\n"),
        ("a: !!str\nb: c\n", "a=V", "a: !!str V\nb: c\n"),
        ("a: &x !!str\nb: c\n", "a=V", "a: &x !!str V\nb: c\n"),
        ("a:\nb: c\n", "a=V", "a: V\nb: c\n"),
        ("a: |-", "b=V", "a: |-\nb: V"),
    ] {
        assert_eq!(edited(before, words).as_deref(), Ok(after), "{before:?}");
    }
}

#[test]
fn keys_may_be_empty_marked_quoted_or_aliases() {
    for (before, words, after) in [
        ("!!str :\nb: c\n", "/k=V", "!!str :\n  k: V\nb: c\n"),
        ("&x a:\nb: c\n", "a/k=V", "&x a:\n  k: V\nb: c\n"),
        ("a: &x k\n*x : v\nb: c\n", "b=V", "a: &x k\n*x : v\nb: V\n"),
        ("{'a' : 1}\n", "b=V", "{'a' : 1, 'b' : V}\n"),
        ("{&x 'a' : 1}\n", "b=V", "{&x 'a' : 1, b : V}\n"),
    ] {
        assert_eq!(edited(before, words).as_deref(), Ok(after), "{before:?}");
    }
}

#[test]
fn an_anchor_of_its_own_stays_and_an_alias_becomes_a_value() {
    becomes(
        "a=AgX b=AgY",
        "
        |a: &x !!str AgA # a|
        |b: *x|
        |# end|
        ",
        "
        |a: &x !!str AgX # a|
        |b: AgY|
        |# end|
        ",
    );
}

#[test]
fn a_merge_is_overridden_and_not_touched() {
    becomes(
        "b/k=AgX",
        "|a: &x {k: AgA}|\n|b:|\n|  <<: *x|",
        "|a: &x {k: AgA}|\n|b:|\n|  <<: *x|\n|  k: AgX|",
    );
}

#[test]
fn keeps_marks_and_other_encodings() {
    let before = "\u{feff}ü: AgA\n---\n\u{feff}b: AgB\n---\n\u{feff}c: ü\nd: AgD\n";
    let after = "\u{feff}ü: AgX\n---\n\u{feff}b: AgY\n---\n\u{feff}c: ü\nd: AgZ\n";
    assert_eq!(
        edited(before, "ü=AgX 2:b=AgY 3:d=AgZ").as_deref(),
        Ok(after)
    );
    let utf16 = |text: &str| -> Vec<u8> {
        let text = text.replace("\n\u{feff}", "\n");
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    };
    let done = apply(&utf16(before), &edits("ü=AgX 2:b=AgY 3:d=AgZ"));
    assert_eq!(done, Ok(utf16(after)));
}

/// A file that several were joined into, whatever stands where one of them begins.
#[test]
fn an_edit_beside_an_inner_mark_leaves_the_mark() {
    let mark = '\u{feff}';
    for (why, before, words, after) in [
        (
            "behind one of many",
            format!("k: A\n---\n{mark}k: A\n---\n{mark}k: A\n---\n{mark}k: A\n"),
            "k=B 2:k=B 3:k=B 4:k=B",
            format!("k: B\n---\n{mark}k: B\n---\n{mark}k: B\n---\n{mark}k: B\n"),
        ),
        (
            "at the end of the line before",
            format!("m:\n  a: A\n{mark}n: N\n"),
            "m/a=B m/b=C",
            format!("m:\n  a: B\n  b: C\n{mark}n: N\n"),
        ),
        (
            "between two",
            format!("l: L\n{mark}m: M\n{mark}n: N\n"),
            "m=X",
            format!("l: L\n{mark}m: X\n{mark}n: N\n"),
        ),
        (
            "the whole line before",
            format!("l: L\nm: M\n{mark}n: N\n"),
            "-m",
            format!("l: L\n{mark}n: N\n"),
        ),
        (
            "the line that it begins",
            format!("l: L\n{mark}m: M\nn: N\n"),
            "m=X",
            format!("l: L\n{mark}m: X\nn: N\n"),
        ),
    ] {
        assert_eq!(edited(&before, words), Ok(after), "{why}");
    }
}

#[test]
fn what_stands_beside_an_edit_is_the_same_whatever_its_type() {
    for beside in [
        "null",
        "~",
        "true",
        "7",
        "1.5",
        ".nan",
        "-.inf",
        "[null, 0.1]",
        "[]",
        "{}",
    ] {
        let file = |value: &str| format!("a: {value}\nb: {beside}\n");
        assert_eq!(edited(&file("A"), "a=B"), Ok(file("B")), "{beside}");
    }
}

#[test]
fn a_document_that_is_null_has_no_number_and_an_empty_mapping_has_one() {
    for (before, words, after) in [
        ("~\n---\na: A\n", "a=B", "~\n---\na: B\n"),
        ("null\n---\na: A\n", "a=B", "null\n---\na: B\n"),
        ("{}\n---\na: A\n", "2:a=B", "{}\n---\na: B\n"),
        ("# c\n---\na: A\n", "a=B", "# c\n---\na: B\n"),
    ] {
        assert_eq!(edited(before, words).as_deref(), Ok(after));
    }
}

#[test]
fn a_value_between_braces_alone_is_not_json() {
    assert_eq!(
        edited("{a: A}\n", "a=B c=D").as_deref(),
        Ok("{a: B, c: D}\n")
    );
    let json = r#"{"a": "A"}"#;
    assert_eq!(edited(json, "a=B").as_deref(), Ok(r#"{"a": "B"}"#));
}

/// Why, a text, an edit of it, and how the error begins.
const REFUSED: &[[&str; 4]] = &[
    [
        "an anchor that others share",
        "a: &x AgA\nb: *x\n",
        "a=AgX",
        "the edit is refused, since b of document 1 would not read as it should",
    ],
    [
        "a mapping that others share",
        "a: &x {k: AgA}\nb: *x\n",
        "a/k=AgX",
        "the edit is refused, since b.k of document 1",
    ],
    [
        "a mapping from elsewhere",
        "a: &x {k: AgA}\nb: *x\n",
        "b/k=AgX",
        "line 2: b.k cannot be edited: it is an alias",
    ],
    [
        "a key that a merge brings",
        "a: &x {k: AgA}\nb:\n  <<: *x\n  l: m\n",
        "-b/k",
        "line 3: b.k cannot be edited: it is not there",
    ],
    [
        "a key that is there twice",
        "a: 1\na: 2\nb: 3\n",
        "-a",
        "the edit is refused, since a of document 1",
    ],
    [
        "blank lines that would become a value's",
        "a:\n  b: |+\n    x\n  c: y\n\n\n",
        "-a/c",
        "the edit is refused, since a.b of document 1",
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
        "an item of nothing",
        "a: 1\n",
        "b/0=x",
        "line 1: b.0 cannot be edited: it is not there",
    ],
    [
        "a tag that means another type",
        "a: !!binary aGk=\n",
        "a=AgX",
        "the edit is refused, since the structure of document 1",
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
        "line 1: a.b cannot be edited: what should hold it is not a mapping",
    ],
    [
        "the only key of an item",
        "- a: b\n",
        "-0/a",
        "line 1: 0.a cannot be edited: it is the only one",
    ],
    [
        "no such document",
        "a: b\n",
        "2:a=x",
        "there is no document 2",
    ],
    ["no YAML", "a: [\n", "a=x", "document 1, line 2: malformed"],
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
        "line 1: a.0.b cannot be edited: what should hold it",
    ],
];

#[test]
fn refuses_what_would_change_more_than_was_asked_for() {
    for [why, before, words, want] in REFUSED {
        let error = edited(before, words).expect_err(why);
        assert!(error.starts_with(want), "{why}: {error}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Pieces that make most layouts, and most mistakes.
    fn line() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec!["a", "b", "'c'", "\"d\"", "ü", "? e", "<<", "n"]);
        let value = prop::sample::select(vec![
            "AgA",
            "'AgB'",
            "\"AgC\"",
            "",
            "~",
            "{}",
            "{a: x, b: y}",
            "{ a: x, }",
            "[a, {b: c}]",
            "|\n      x",
            ">-\n      x\n      y\n",
            "|+\n      x\n\n",
            "&x AgA",
            "*x",
            "&y {a: b}",
            "*y",
            "!!str 1",
            "x\n      y",
            "[b: c]",
            "\n      a: x\n      # c\n      b: y",
            "\n      - a: x\n        b: y",
            "\n    # c\n      AgA",
            "&z\n      a: b",
        ]);
        let end = prop::sample::select(vec!["", " # c", "  ", "\n# c", "\n\n"]);
        (key, value, end).prop_map(|(key, value, end)| {
            let colon = if key.starts_with('?') { "\n  :" } else { ":" };
            format!("  {key}{colon} {value}{end}\n")
        })
    }

    fn document() -> impl Strategy<Value = String> {
        let begin = prop::sample::select(vec!["", "---\n", "# c\n---\n", "\u{feff}"]);
        (begin, prop::collection::vec(line(), 0..6), any::<bool>()).prop_map(
            |(begin, lines, crlf)| {
                let text = format!("{begin}m:\n{}z: 1\n", lines.concat());
                if crlf {
                    text.replace('\n', "\r\n")
                } else {
                    text
                }
            },
        )
    }

    /// All lines that hold a comment and nothing else.
    fn comments(text: &str) -> usize {
        text.lines()
            .filter(|line| line.trim_start().starts_with('#'))
            .count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// The guard of the code under test is not asked: what must be the same is looked up anew.
        #[test]
        fn sets_or_refuses(text in document(), key in "[abn]|ü|e|new") {
            let words = format!("m/{key}=AgX=");
            if let Ok(after) = edited(&text, &words) {
                let read = crate::manifest::read(after.as_bytes()).unwrap();
                let map = read[0].root.field("m").unwrap();
                let crate::manifest::Value::Map(entries) = &map.value else { panic!("{after}") };
                let found = entries.iter().rev().find(|(known, _)| *known == key).unwrap();
                let crate::manifest::Value::Text(value) = &found.1.value else { panic!("{after}") };
                prop_assert_eq!(value.as_str(), "AgX=");
                prop_assert_eq!(comments(&after), comments(&text), "{}", after);
                // A second time changes nothing.
                prop_assert_eq!(edited(&after, &words), Ok(after));
            }
        }

        #[test]
        fn what_was_added_can_be_removed_without_a_trace(text in document()) {
            // What held nothing holds `{}` afterwards.
            let is_hollow = text.contains("m:\nz") || text.contains("m:\r\nz");
            if !is_hollow
                && let Ok(with) = edited(&text, "m/new=AgX=")
                && let Ok(without) = edited(&with, "-m/new") {
                prop_assert_eq!(without, text);
            }
        }

        #[test]
        fn any_text_can_be_a_value(value in "\\PC*|[ \\t\\n\\r'\":#{}&*!|>%@`,\\[\\]-]{0,12}", flow in any::<bool>()) {
            let text = if flow { "m: {a: b}\n" } else { "m:\n  a: b # c\n" };
            let edit = Edit { document: 1, path: path("m/a"), change: Change::Set(value.clone()) };
            let after = apply(text.as_bytes(), &[edit]).unwrap();
            let read = crate::manifest::read(&after).unwrap();
            prop_assert_eq!(read[0].root.field("m").unwrap().text("a"), Some(value.as_str()));
        }
    }
}
