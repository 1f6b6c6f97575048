//! Compares usage pages only by the flags that they list, because the descriptions differ.

/// The minimum number of flag descriptions of a usage page.
const MIN_FLAGS: usize = 20;

/// Returns a usage page with each block of flag descriptions replaced by one line with the names of the
/// flags; other text is unchanged.
pub(crate) fn summarize_page(text: &str) -> String {
    if text.lines().filter_map(flag).count() < MIN_FLAGS {
        return text.to_owned();
    }
    let mut summary = String::new();
    let mut flags = Vec::new();
    for line in text.lines() {
        match flag(line) {
            Some(name) => flags.push(name),
            // The continuation of a description.
            None if !flags.is_empty() && line.starts_with("       ") => {}
            None => {
                flush_flags(&mut summary, &mut flags);
                summary.push_str(line);
                summary.push('\n');
            }
        }
    }
    flush_flags(&mut summary, &mut flags);
    summary
}

/// Returns `-o, --format` for a line such as `  -o, --format string   Output format`.
fn flag(line: &str) -> Option<String> {
    let parts: Vec<&str> = line
        .strip_prefix("  ")?
        .split_whitespace()
        .take(2)
        .collect();
    match parts[..] {
        [short, long, ..]
            if short.len() == 3 && short.starts_with('-') && long.starts_with("--") =>
        {
            Some(format!("{short} {}", name(long)))
        }
        [long, ..] if long.starts_with("--") && long.len() > 2 => Some(name(long).to_owned()),
        _ => None,
    }
}

/// Removes a note about the value, such as `[=<true|false>]`.
fn name(flag: &str) -> &str {
    flag.split(['[', '=']).next().unwrap_or(flag)
}

fn flush_flags(summary: &mut String, flags: &mut Vec<String>) {
    if !flags.is_empty() {
        flags.sort();
        summary.extend(["<page that describes ", &flags.join(" "), ">\n"]);
        flags.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_the_flags_of_a_page_and_keeps_the_text_around_them() {
        let lines = (10..30)
            .map(|i| format!("      --flag{i} string   text\n"))
            .collect::<Vec<_>>()
            .concat();
        let page = format!(
            "Usage of x:\n{lines}  -v, --verbose[=<true|false>]  text\n         goes on\nunknown flag: --y\n"
        );
        let summary = summarize_page(&page);
        assert!(
            summary.starts_with("Usage of x:\n<page that describes --flag10 --flag11 "),
            "{summary}"
        );
        assert!(
            summary.ends_with(" -v, --verbose>\nunknown flag: --y\n"),
            "{summary}"
        );
    }

    #[test]
    fn keeps_text_without_flags() {
        for text in ["", "a\n", "  --- x\n", "no line end"] {
            assert_eq!(summarize_page(text), text);
        }
    }
}
