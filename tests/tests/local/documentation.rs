//! Checks the pages of the repository: links have a target, the flaws that tests cite are explained and their
//! tests exist, and no text, name or comment uses a banned word.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the files in the repository whose names end with `suffix`, without build output and hidden directories.
fn files(suffix: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    collect_files(root(), suffix, &mut paths);
    paths
}

fn collect_files(directory: &Path, suffix: &str, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            collect_files(&path, suffix, paths);
        } else if name.ends_with(suffix) {
            paths.push(path);
        }
    }
}

/// Returns the targets of Markdown links outside indented code blocks, except URLs.
fn links(text: &str) -> Vec<&str> {
    let prose = text
        .lines()
        .filter(|line| !line.starts_with("    "))
        .flat_map(|line| line.split("](").skip(1));
    prose
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://") && !target.contains(' '))
        .collect()
}

/// Returns the anchor of a heading, as GitHub generates it.
fn anchor(heading: &str) -> String {
    let characters = heading.chars().filter_map(|char| match char {
        ' ' => Some('-'),
        '-' | '_' => Some(char),
        _ if char.is_alphanumeric() => Some(char.to_ascii_lowercase()),
        _ => None,
    });
    characters.collect()
}

fn has_anchor(page: &Path, expected: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .any(|found| found == expected)
}

#[test]
fn every_link_between_pages_has_a_target() {
    let mut broken = Vec::new();
    let mut count = 0;
    for page in &files(".md") {
        let text = fs::read_to_string(page).unwrap();
        for target in links(&text) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let is_page = file.extension().is_some_and(|end| end == "md");
            if !file.exists() || is_page && !heading.is_empty() && !has_anchor(&file, heading) {
                broken.push(format!("{}: {target}", page.display()));
            }
            count += 1;
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(count > 100, "only {count} links were found");
}

/// Returns the flaw numbers in a test name, such as `C1` and `C11` in
/// `c1_c11_a_key_added_later_unseals_failed_objects`.
fn flaw_numbers(name: &str) -> Vec<String> {
    let is_number = |part: &&str| {
        part.strip_prefix(['c', 'h', 'k', 'r', 's'])
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let parts = name.split('_').take_while(is_number);
    parts.map(str::to_uppercase).collect()
}

/// Returns the names of functions, and of tests that a macro creates.
fn function_names(source: &str) -> Vec<&str> {
    let lines = source.lines().map(str::trim);
    let names = lines.filter_map(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        match line.strip_prefix("fn ") {
            Some(rest) => rest.split_once('(').map(|(name, _)| name),
            None => line.split_once(": \"").map(|(name, _)| name),
        }
    });
    names.filter(|name| !name.contains(' ')).collect()
}

#[test]
fn every_flaw_that_a_test_or_table_cites_is_explained_and_its_tests_exist() {
    let page = fs::read_to_string(root().join("tests/FLAWS.md")).unwrap();
    let mut unexplained = Vec::new();
    let mut check = |number: &str, source: &str| {
        if !page.contains(&format!("\n| {number} | ")) {
            unexplained.push(format!("{number}: {source}"));
        }
    };
    for file in files(".rs") {
        let source = fs::read_to_string(&file).unwrap();
        for name in function_names(&source) {
            for number in flaw_numbers(name) {
                check(&number, name);
            }
        }
    }
    let table = fs::read_to_string(root().join("tests/differential/DIFFERENCES.toml")).unwrap();
    let citations = table
        .lines()
        .filter_map(|line| line.strip_prefix("flaw = \""));
    for flaw in citations.map(|rest| rest.trim_end_matches('"')) {
        // Other entries, such as N1 and `help`, are explained in the table itself.
        for number in flaw_numbers(&flaw.to_lowercase()) {
            check(&number, "DIFFERENCES.toml");
        }
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    for link in page.split("[`").skip(1) {
        let (name, rest) = link.split_once("`](").unwrap();
        let file = root().join("tests").join(rest.split_once(')').unwrap().0);
        let source = fs::read_to_string(&file).unwrap();
        assert!(function_names(&source).contains(&name), "no test {name}");
    }
}

/// The banned words with their alternatives, and the exceptions, in `words.toml`.
#[derive(serde::Deserialize)]
struct BannedWords {
    words: BTreeMap<String, String>,
    exceptions: Vec<Exception>,
}

#[derive(serde::Deserialize)]
struct Exception {
    path: String,
    words: Vec<String>,
    reason: String,
}

impl BannedWords {
    fn read() -> Self {
        let text = fs::read_to_string(root().join("tests/words.toml")).unwrap();
        toml::from_str(&text).unwrap()
    }

    fn allows(&self, path: &str, word: &str) -> bool {
        self.exceptions.iter().any(|exception| {
            let is_below = exception.path.ends_with('/') && path.starts_with(&exception.path);
            let is_listed = exception.words.iter().any(|other| other == word);
            is_listed && (is_below || path == exception.path)
        })
    }
}

/// Returns the words of a line in lower case, separated and surrounded by one space. Parts of identifiers count as
/// words.
fn words_of(line: &str) -> String {
    let mut words = String::from(" ");
    let mut previous = ' ';
    for char in line.chars() {
        if char.is_alphabetic() {
            if char.is_uppercase() && previous.is_lowercase() {
                words.push(' ');
            }
            words.extend(char.to_lowercase());
        } else {
            words.push(' ');
        }
        previous = char;
    }
    words.push(' ');
    words
        .split(' ')
        .filter(|word| !word.is_empty())
        .fold(String::from(" "), |line, word| line + word + " ")
}

#[test]
fn names_are_split_into_words() {
    assert_eq!(
        words_of("  fn is_known(&PeerError) "),
        " fn is known peer error "
    );
    assert_eq!(words_of("lint-Rules: again."), " lint rules again ");
    assert_eq!(words_of(""), " ");
}

#[test]
fn no_name_comment_message_or_page_uses_a_banned_word() {
    let banned = BannedWords::read();
    assert!(banned.exceptions.iter().all(|one| !one.reason.is_empty()));
    let mut violations = Vec::new();
    for end in [
        ".rs", ".md", ".yaml", ".yml", ".toml", ".trycmd", ".tpl", ".txt", ".sh", ".json",
    ] {
        for path in files(end) {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            for (i, line) in text.lines().enumerate() {
                let line = words_of(line);
                for (word, alternative) in &banned.words {
                    if line.contains(&format!(" {word} ")) && !banned.allows(name, word) {
                        violations.push(format!("{name}:{}: {word:?}; say {alternative}", i + 1));
                    }
                }
            }
        }
    }
    let shown_count = violations.len().min(40);
    assert!(
        violations.is_empty(),
        "{} violations\n{}",
        violations.len(),
        violations[..shown_count].join("\n")
    );
}
