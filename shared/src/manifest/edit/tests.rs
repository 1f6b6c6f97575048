mod properties;
mod refusals;

use super::*;

/// Joins lines of the form `|a: b|`, whose bars make white space visible. A last line without the closing
/// `|` has no line break.
fn join_fenced_lines(fenced: &str) -> String {
    let lines = fenced.lines().map(str::trim_start);
    let lines = lines.filter_map(|line| line.strip_prefix('|'));
    lines
        .map(|line| match line.strip_suffix('|') {
            Some(line) => format!("{line}\n"),
            None => line.to_owned(),
        })
        .collect()
}

fn parse_path(text: &str) -> Vec<Step> {
    let step = |word: &str| match (word, word.parse()) {
        ("spec", _) => Step::Field("spec"),
        ("encryptedData", _) => Step::Field("encryptedData"),
        (_, Ok(index)) => Step::Item(index),
        _ => Step::Key(word.to_owned()),
    };
    text.split('/').map(step).collect()
}

/// Parses edits separated by spaces: `path=value` or `-path`, with a prefix such as `2:` for a document other than the
/// first.
fn parse_edits(edits_text: &str) -> Vec<Edit> {
    let parse_edit = |word: &str| {
        let (document, word) = match word.split_once(':') {
            Some((number, change)) if number.parse::<usize>().is_ok() => {
                (number.parse().unwrap(), change)
            }
            _ => (1, word),
        };
        match (word.strip_prefix('-'), word.split_once('=')) {
            (Some(removed_path), _) => Edit {
                document,
                path: parse_path(removed_path),
                change: Change::Remove,
            },
            (None, Some((set_path, value))) => Edit {
                document,
                path: parse_path(set_path),
                change: Change::Set(value.to_owned()),
            },
            _ => unreachable!("{word}"),
        }
    };
    edits_text.split(' ').map(parse_edit).collect()
}

fn apply_edits(before: &str, edits_text: &str) -> Result<String, String> {
    let bytes = apply(before.as_bytes(), &parse_edits(edits_text)).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[track_caller]
fn assert_edit(edits_text: &str, before: &str, after: &str) {
    let (before, after) = (join_fenced_lines(before), join_fenced_lines(after));
    assert_eq!(
        apply_edits(&before, edits_text),
        Ok(after.clone()),
        "{edits_text}"
    );
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let crlf_result = apply_edits(&crlf(&before), edits_text);
    assert_eq!(crlf_result, Ok(crlf(&after)), "{edits_text} with CRLF");
}

#[test]
fn replaces_a_value_and_nothing_else() {
    assert_edit(
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
    assert_edit(
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
fn fills_empty_mappings() {
    assert_edit(
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
    assert_edit(
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
fn adds_after_the_last_neighbor_in_its_style() {
    assert_edit(
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
    assert_edit(
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
    assert_edit(
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
    assert_edit(
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
    assert_edit("-b", "|a: 1|\n|b: 2", "|a: 1");
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
    assert_edit(
        "spec/encryptedData/a=AgX spec/encryptedData/d=AgD -spec/encryptedData/b \
         metadata/annotations/h=SHA256:x spec/template/x=<\"ü> -2:spec/encryptedData/c"
            .replace("-2:", "2:-")
            .as_str(),
        before,
        after,
    );
}

#[test]
fn a_json_list_is_also_json() {
    let before = r#"{"items": [[1, []], {"a": "A"}]}"#;
    let after = r#"{"items": [[1, []], {"a": "A", "b": "B"}]}"#;
    assert_eq!(
        apply_edits(before, "items/1/b=B").as_deref(),
        Ok(after),
        "with quotes"
    );
}

#[test]
fn adds_a_mapping_once_when_two_edits_miss_it() {
    assert_edit(
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
fn quotes_a_colon_that_old_parsers_treat_as_syntax() {
    for (before, after) in [
        ("a: SHA256:x\n", "a: SHA256:y\n"),
        ("a: x\n", "a: \"SHA256:y\"\n"),
        ("{a: x}\n", "{a: \"SHA256:y\"}\n"),
        (r#"{"a": 1}"#, r#"{"a": "SHA256:y"}"#),
    ] {
        assert_eq!(apply_edits(before, "a=SHA256:y").as_deref(), Ok(after));
    }
}

#[test]
fn refuses_values_that_a_block_scalar_cannot_represent() {
    let set = |before: &str, value: &str| {
        let edit = Edit {
            document: 1,
            path: parse_path("a"),
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

fn set_lines(before: &str, value: &str) -> Result<String, String> {
    let edit = Edit {
        document: 1,
        path: parse_path("m/l"),
        change: Change::Set(value.to_owned()),
    };
    let bytes = apply(before.as_bytes(), &[edit]).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[test]
fn writes_lines_as_a_literal_block() {
    for (before, after) in [
        (
            "m:\n    a: b # c\nz: 1\n",
            "m:\n    a: b # c\n    l: |\n        x 1\n        # y\nz: 1\n",
        ),
        ("m: {}\n", "m:\n  l: |\n    x 1\n    # y\n"),
        ("m:\n  a: b", "m:\n  a: b\n  l: |\n    x 1\n    # y\n"),
        ("z: 1\n", "z: 1\nm:\n  l: |\n    x 1\n    # y\n"),
        (
            "m:\n  l: |\n     x 1\n     z\n\n  # c\n  a: b\n",
            "m:\n  l: |\n     x 1\n     # y\n\n  # c\n  a: b\n",
        ),
        (
            "m:\n  l: >2-  # c\n    x\n  a: b\n",
            "m:\n  l: |2  # c\n    x 1\n    # y\n  a: b\n",
        ),
        ("m:\n  l: |-\n    x", "m:\n  l: |\n    x 1\n    # y\n"),
        ("m:\n  l: 'x'\n", "m:\n  l: \"x 1\\n# y\\n\"\n"),
        ("m: {a: b}\n", "m: {a: b, l: \"x 1\\n# y\\n\"}\n"),
        (
            "{\"m\": {\"a\": \"b\"}}\n",
            "{\"m\": {\"a\": \"b\", \"l\": \"x 1\\n# y\\n\"}}\n",
        ),
    ] {
        let value = "x 1\n# y\n";
        assert_eq!(set_lines(before, value).as_deref(), Ok(after), "{before:?}");
        let crlf = |text: &str| text.replace('\n', "\r\n");
        let result = set_lines(&crlf(before), value);
        assert_eq!(result, Ok(crlf(after)), "{before:?} with CRLF");
    }
}

#[test]
fn adds_values_to_braces_in_the_style_of_the_file() {
    for (before, edits_text, after) in [
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
        assert_eq!(apply_edits(before, edits_text).as_deref(), Ok(after));
    }
}

#[test]
fn removing_a_key_from_braces_keeps_the_comment() {
    for (before, edits_text, after) in [
        ("{ a: 1 }\n", "-a", "{}\n"),
        ("{ # note\n a: 1 }\n", "-a", "{ # note\n  }\n"),
        ("{ a: 1 # note\n }\n", "-a", "{  # note\n }\n"),
        ("{a: 1, # note\n b: 2}\n", "-b", "{a: 1, # note\n }\n"),
        ("{a: 1 , b: 2}\n", "-b", "{a: 1}\n"),
        ("{? a : b, c: d}\n", "-a", "{c: d}\n"),
    ] {
        assert_eq!(apply_edits(before, edits_text).as_deref(), Ok(after));
    }
}

#[test]
fn removing_the_only_key_of_a_mapping_in_a_list_leaves_braces() {
    assert_edit(
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
fn a_block_may_begin_with_a_line_that_looks_like_a_comment() {
    let before = "l:\n- |-\n  # x\n- b # c\n";
    let after = "l:\n- |-\n  # x\n- z # c\n";
    assert_eq!(apply_edits(before, "l/1=z").as_deref(), Ok(after));
}

#[test]
fn values_may_be_empty_and_have_anchors_or_tags() {
    for (before, edits_text, after) in [
        ("a: &x\nb: c\n", "a=V", "a: &x V\nb: c\n"),
        ("a: !!str\nb: c\n", "a=V", "a: !!str V\nb: c\n"),
        ("a: &x !!str\nb: c\n", "a=V", "a: &x !!str V\nb: c\n"),
        ("a:\nb: c\n", "a=V", "a: V\nb: c\n"),
        ("a: |-", "b=V", "a: |-\nb: V"),
    ] {
        assert_eq!(
            apply_edits(before, edits_text).as_deref(),
            Ok(after),
            "{before:?}"
        );
    }
}

#[test]
fn keys_may_be_empty_anchored_tagged_quoted_or_aliases() {
    for (before, edits_text, after) in [
        ("!!str :\nb: c\n", "/k=V", "!!str :\n  k: V\nb: c\n"),
        ("&x a:\nb: c\n", "a/k=V", "&x a:\n  k: V\nb: c\n"),
        ("a: &x k\n*x : v\nb: c\n", "b=V", "a: &x k\n*x : v\nb: V\n"),
        ("{'a' : 1}\n", "b=V", "{'a' : 1, 'b' : V}\n"),
        ("{&x 'a' : 1}\n", "b=V", "{&x 'a' : 1, b : V}\n"),
    ] {
        assert_eq!(
            apply_edits(before, edits_text).as_deref(),
            Ok(after),
            "{before:?}"
        );
    }
}

#[test]
fn keeps_an_anchor_and_replaces_an_alias_with_the_value() {
    assert_edit(
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
    assert_edit(
        "b/k=AgX",
        "|a: &x {k: AgA}|\n|b:|\n|  <<: *x|",
        "|a: &x {k: AgA}|\n|b:|\n|  <<: *x|\n|  k: AgX|",
    );
}

#[test]
fn keeps_byte_order_marks_and_encodings() {
    let before = "\u{feff}ü: AgA\n---\n\u{feff}b: AgB\n---\n\u{feff}c: ü\nd: AgD\n";
    let after = "\u{feff}ü: AgX\n---\n\u{feff}b: AgY\n---\n\u{feff}c: ü\nd: AgZ\n";
    assert_eq!(
        apply_edits(before, "ü=AgX 2:b=AgY 3:d=AgZ").as_deref(),
        Ok(after)
    );
    let utf16 = |text: &str| -> Vec<u8> {
        let text = text.replace("\n\u{feff}", "\n");
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    };
    let result = apply(&utf16(before), &parse_edits("ü=AgX 2:b=AgY 3:d=AgZ"));
    assert_eq!(result, Ok(utf16(after)));
}

/// Edits concatenated files, next to the byte order mark at the start of a later file.
#[test]
fn keeps_an_inner_byte_order_mark_next_to_an_edit() {
    let mark = '\u{feff}';
    for (why, before, edits_text, after) in [
        (
            "after one of several marks",
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
            "between two marks",
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
        assert_eq!(apply_edits(&before, edits_text), Ok(after), "{why}");
    }
}

#[test]
fn keeps_values_of_any_type_next_to_an_edit() {
    for neighbor in [
        "null",
        "~",
        "true",
        "7",
        "1.5",
        ".nan",
        "-.inf",
        "text",
        "\"text\"",
        "[null, 0.1]",
        "[]",
        "{}",
    ] {
        let file = |value: &str| format!("a: {value}\nb: {neighbor}\n");
        assert_eq!(apply_edits(&file("A"), "a=B"), Ok(file("B")), "{neighbor}");
    }
}

#[test]
fn null_documents_are_not_numbered_and_empty_mappings_are() {
    for (before, edits_text, after) in [
        ("~\n---\na: A\n", "a=B", "~\n---\na: B\n"),
        ("null\n---\na: A\n", "a=B", "null\n---\na: B\n"),
        ("{}\n---\na: A\n", "2:a=B", "{}\n---\na: B\n"),
        ("# c\n---\na: A\n", "a=B", "# c\n---\na: B\n"),
    ] {
        assert_eq!(apply_edits(before, edits_text).as_deref(), Ok(after));
    }
}

#[test]
fn unquoted_braces_are_edited_as_yaml() {
    assert_eq!(
        apply_edits("{a: A}\n", "a=B c=D").as_deref(),
        Ok("{a: B, c: D}\n")
    );
    let json = r#"{"a": "A"}"#;
    assert_eq!(apply_edits(json, "a=B").as_deref(), Ok(r#"{"a": "B"}"#));
}
