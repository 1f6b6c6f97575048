//! Templates to compare, read from `corpus/*.txt`: one per line, or several lines between lines of `"""`.
//! Lines that begin with `## ` are headings.

use std::path::Path;

use super::upstream::Values;

/// Returns all templates with their file and line.
pub(crate) fn templates() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/corpus");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("the corpus exists")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<(String, String)> {
    let name = file
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let text = std::fs::read_to_string(file).expect("UTF-8");
    let mut templates = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for (at, line) in text.split('\n').enumerate() {
        match (&mut block, line) {
            (Some(lines), r#"""""#) => {
                templates.push((format!("{name}:{at}"), lines.join("\n")));
                block = None;
            }
            (Some(lines), line) => lines.push(line),
            (None, r#"""""#) => block = Some(Vec::new()),
            (None, "") => {}
            (None, line) if line.starts_with("## ") => {}
            (None, line) => templates.push((format!("{name}:{}", at + 1), line.to_owned())),
        }
    }
    assert!(block.is_none(), "{name} ends inside a block");
    templates
}

/// Returns the values for every template of the corpus.
pub(crate) fn values() -> Values {
    let values: [(&str, &[u8]); 14] = [
        ("user", b"app"),
        ("password", b"p@ss w\xc3\xb6rd/\"quoted\" & <more>"),
        ("host", b"db.example.com"),
        ("port", b"5432"),
        ("empty", b""),
        ("bytes", b"\xff\x00\xfe\x80abc\xc3"),
        ("my-key.txt", b"dashed"),
        (
            "json",
            br#"{"b": [1, 2.5, "x", null, true], "a": {"c": "d"}, "z": "<&>"}"#,
        ),
        (
            "pem",
            b"-----BEGIN KEY-----\nQUJD\nREVG\n-----END KEY-----\n",
        ),
        ("list", b"c,a,b"),
        ("text", b"The quick brown fox jumps over the lazy dog"),
        ("uni", "Ünï çödé ǆ ß İ 日本語 👍".as_bytes()),
        (
            "url",
            b"https://us%20er:p%40ss@example.com:8080/a%2Fb/c?x=1&y=2#frag",
        ),
        ("b64", b"aGVsbG8="),
    ];
    values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_vec()))
        .collect()
}
