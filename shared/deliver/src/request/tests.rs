use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::LayoutError;

fn read(body: &Value) -> Result<Request, RequestError> {
    Request::from_json(body.to_string().as_bytes())
}

fn with_entries(entries: &Value) -> Result<Request, RequestError> {
    read(&json!({ "objects": entries }))
}

fn problem(entry: &Value) -> EntryProblem {
    match with_entries(&json!([entry])) {
        Err(RequestError::Entry { index: 0, problem }) => problem,
        other => panic!("{entry}: {other:?}"),
    }
}

#[test]
fn reads_items_and_templates() {
    let request = read(&json!({
        "objects": [
            { "sealedSecret": "db", "items": ["password"], "path": "db/", "mode": "0440" },
            { "path": "dsn", "template": "{{ .db.user }}", "from": ["db", "api"], "mode": "0400" },
            { "sealedSecret": "tls", "items": ["key"], "path": "tls.key" },
            { "sealedSecret": "rest" },
        ],
        "have": "r", "wait": 30
    }));
    let request = request.unwrap();
    assert_eq!(request.have.as_deref(), Some("r"));
    assert_eq!(request.wait.as_secs(), 30);
    let names: Vec<_> = request.object_names().into_iter().collect();
    assert_eq!(names, ["api", "db", "rest", "tls"]);
    let [
        Entry::Object(db),
        Entry::Template(dsn),
        Entry::Object(tls),
        Entry::Object(rest),
    ] = request.entries.as_slice()
    else {
        panic!("{:?}", request.entries);
    };
    assert_eq!(
        db.destination.file("password").unwrap().as_str(),
        "db/password"
    );
    assert_eq!(db.mode.to_string(), "0440");
    assert_eq!((dsn.path.as_str(), dsn.mode.bits()), ("dsn", 0o400));
    assert_eq!(tls.destination.file("key").unwrap().as_str(), "tls.key");
    assert_eq!((&rest.items, rest.mode.bits()), (&None, 0o444));
    assert_eq!(rest.destination.file("a").unwrap().as_str(), "a");
}

#[test]
fn an_empty_revision_counts_as_no_revision() {
    let request = read(&json!({ "objects": [{ "sealedSecret": "a" }], "have": "" }));
    assert_eq!(request.unwrap().have, None);
}

/// Attack: a caller names its namespace or account in the body, to get the values of others.
#[test]
fn refuses_unknown_and_repeated_fields() {
    for body in [
        r#"{"objects": [{"sealedSecret": "a", "namespace": "other"}]}"#,
        r#"{"objects": [{"sealedSecret": "a"}], "namespace": "other"}"#,
        r#"{"objects": [{"sealedSecret": "a"}], "serviceAccount": "other"}"#,
        r#"{"objects": [{"sealedSecret": "a", "sealedSecret": "b"}]}"#,
        r#"{"objects": [{"sealedSecret": "a"}], "objects": [{"sealedSecret": "b"}]}"#,
        r#"{"objects": [{"sealedSecret": "a"}]} {}"#,
        r#"{"objects": [{"sealedSecret": "a"}], "wait": -1}"#,
        r#"{"objects": [{"sealedSecret": "a"}], "wait": 70000}"#,
        r#"{"objects": {}}"#,
        "{}",
        "[]",
        "",
    ] {
        let result = Request::from_json(body.as_bytes());
        assert!(
            matches!(result, Err(RequestError::Malformed(_))),
            "{body}: {result:?}"
        );
    }
}

#[test]
fn names_the_problem_of_an_entry() {
    use EntryProblem as P;
    let field = |field, with| P::Field { field, with };
    for (entry, want) in [
        (json!({}), P::Kind),
        (json!({ "sealedSecret": "a", "template": "" }), P::Kind),
        (
            json!({ "sealedSecret": "a", "from": ["b"] }),
            field("from", "sealedSecret"),
        ),
        (
            json!({ "template": "", "items": [] }),
            field("items", "template"),
        ),
        (json!({ "sealedSecret": "a", "items": [] }), P::NoItems),
        (
            json!({ "sealedSecret": "a", "path": "f" }),
            P::OneFile("f".into()),
        ),
        (
            json!({ "sealedSecret": "a", "path": "f", "items": ["b", "c"] }),
            P::OneFile("f".into()),
        ),
        (json!({ "template": "", "from": ["a"] }), P::NoPath),
        (json!({ "template": "", "path": "f" }), P::NoFrom),
        (
            json!({ "template": "", "path": "f", "from": [] }),
            P::NoFrom,
        ),
        (
            json!({ "template": "", "path": "", "from": ["a"] }),
            PathError::Empty.into(),
        ),
        (
            json!({ "template": "", "path": "f/", "from": ["a"] }),
            PathError::NotNormal("f/".into()).into(),
        ),
    ] {
        assert_eq!(problem(&entry), want, "{entry}");
    }
}

/// Attack: a caller names an object in another namespace, or with characters that have a meaning in the URL of a
/// request to the API server.
#[test]
fn refuses_invalid_object_and_item_names() {
    for name in [
        "", "..", "a/b", "../a", "A", "-a", "a-", "a..b", "a?x=y", "a b", "ä", "a\n",
    ] {
        let want = EntryProblem::Name(name.into());
        assert_eq!(problem(&json!({ "sealedSecret": name })), want);
        let template = json!({ "template": "", "path": "f", "from": [name] });
        assert_eq!(problem(&template), want);
    }
    for item in ["", ".", "..", "..data", "a/b", "../a", "a b", "ä", "a\n"] {
        let entry = json!({ "sealedSecret": "a", "items": [item] });
        assert_eq!(problem(&entry), EntryProblem::Item(item.into()));
    }
}

#[test]
fn refuses_files_whose_paths_conflict() {
    let repeated = |path: &str| RequestError::Layout(LayoutError::Repeated(path.into()));
    let file_is_directory =
        |path: &str| RequestError::Layout(LayoutError::FileIsDirectory(path.into()));
    let template = |path: &str| json!({ "template": "", "path": path, "from": ["a"] });
    let items = |path: &str| json!({ "sealedSecret": "a", "items": ["x"], "path": path });
    for (entries, want) in [
        (json!([template("f"), template("f")]), repeated("f")),
        (json!([items("d/"), template("d/x")]), repeated("d/x")),
        (json!([items("d/"), items("d/")]), repeated("d/x")),
        (json!([template("d"), items("d/")]), file_is_directory("d")),
        (
            json!([template("d"), { "sealedSecret": "b", "path": "d/" }]),
            file_is_directory("d"),
        ),
        (json!([items(""), template("x/y")]), file_is_directory("x")),
    ] {
        assert_eq!(with_entries(&entries), Err(want), "{entries}");
    }
}

/// Attack: a caller sends a request that needs much memory or CPU time.
#[test]
fn limits_every_part_of_a_request() {
    let objects = |n: usize| -> Vec<Value> {
        (0..n)
            .map(|i| json!({ "sealedSecret": format!("o{i}"), "path": format!("{i}/") }))
            .collect()
    };
    assert!(with_entries(&json!(objects(32))).is_ok());
    assert_eq!(
        with_entries(&json!(objects(33))),
        Err(RequestError::TooManyObjects)
    );
    let entries = |n: usize| vec![json!({}); n];
    let malformed = with_entries(&json!(entries(65))).unwrap_err();
    assert!(
        malformed.to_string().contains("more than 64 entries"),
        "{malformed}"
    );
    assert_eq!(with_entries(&json!([])), Err(RequestError::NoEntry));

    let items = |n: usize| {
        let items: Vec<_> = (0..n).map(|i| format!("i{i}")).collect();
        with_entries(&json!([{ "sealedSecret": "a", "items": items }]))
    };
    assert!(items(1000).is_ok());
    assert_eq!(items(1001), Err(RequestError::TooManyFiles));

    let template = |len: usize| {
        with_entries(&json!([{ "template": "x".repeat(len), "path": "f", "from": ["a"] }]))
    };
    assert!(template(65_536).is_ok());
    let problem = EntryProblem::Template;
    assert_eq!(
        template(65_537),
        Err(RequestError::Entry { index: 0, problem })
    );

    let one = json!([{ "sealedSecret": "a" }]);
    let have = |len: usize| read(&json!({ "objects": one, "have": "x".repeat(len) }));
    assert!(have(128).is_ok());
    assert_eq!(have(129), Err(RequestError::Revision));
    let wait = |wait: u16| read(&json!({ "objects": one, "wait": wait }));
    assert!(wait(300).is_ok());
    assert_eq!(wait(301), Err(RequestError::Wait));
    let long = vec![b' '; MAX_REQUEST + 1];
    assert_eq!(Request::from_json(&long), Err(RequestError::TooLong));
}

#[test]
fn every_error_has_a_hint() {
    for error in [
        RequestError::TooLong,
        RequestError::NoEntry,
        RequestError::Wait,
        RequestError::Entry {
            index: 1,
            problem: EntryProblem::Kind,
        },
    ] {
        let (text, hint) = (error.to_string(), error.hint());
        assert!(
            !text.ends_with('.') && !hint.is_empty() && !hint.ends_with('.'),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn a_body_survives_json(names in prop::collection::vec("[a-z0-9.]{1,5}", 0..4), wait in any::<Option<u16>>()) {
        let entry = |name: &String| EntryBody { sealed_secret: Some(name.clone()), ..EntryBody::default() };
        let body = RequestBody { objects: names.iter().map(entry).collect(), have: None, wait };
        let parsed: RequestBody = serde_json::from_slice(&body.to_json()).unwrap();
        prop_assert_eq!(&parsed, &body);
        prop_assert_eq!(Request::from_json(&body.to_json()), Request::try_from(body));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::from_json(&bytes);
    }
}
