//! Finds files whose content in Git differs from their content in the work tree because of the attribute
//! `working-tree-encoding`. `gix` reads attributes only with features that can start programs.

use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::directory::SMALL_LIMIT;
use super::{GitError, Repository};
use crate::files;

const ATTRIBUTE: &str = "working-tree-encoding=";

/// The name of the files in which a repository sets attributes.
pub const ATTRIBUTES_FILE: &str = ".gitattributes";

/// The files that Git may convert to another encoding at checkout, according to the `.gitattributes` files of the
/// index.
pub struct ConvertedFiles(Vec<(PathBuf, Gitignore)>);

impl Repository {
    /// Reads the `.gitattributes` files of the index.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn converted_files(&self) -> Result<ConvertedFiles, GitError> {
        let is_attributes = |path: &Path| path.ends_with(ATTRIBUTES_FILE);
        let files = self.indexed_files(is_attributes)?;
        let texts: Vec<_> = files
            .iter()
            .map(|(path, bytes)| (path, String::from_utf8_lossy(bytes)))
            .collect();
        let all_lines = texts.iter().flat_map(|(_, text)| text.lines());
        let macros: Vec<&str> = all_lines.filter_map(macro_name).collect();
        let patterns = texts.iter().filter_map(|(path, text)| {
            let directory = path.parent()?;
            let patterns = text.lines().filter_map(|line| pattern(line, &macros));
            Some((directory.to_owned(), matcher(directory, patterns)?))
        });
        Ok(ConvertedFiles(patterns.collect()))
    }
}

impl Repository {
    /// Returns whether a `.gitattributes` file, of the index or in the root of the work tree, sets an attribute such as
    /// `merge=seal` for any file.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn sets_attribute(&self, attribute: &str) -> Result<bool, GitError> {
        let is_attributes = |path: &Path| path.ends_with(ATTRIBUTES_FILE);
        let mut files: Vec<_> = self
            .indexed_files(is_attributes)?
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        files.extend(files::read_regular(&self.root.join(ATTRIBUTES_FILE), SMALL_LIMIT).ok());
        let sets = |line: &str| {
            let line = line.trim();
            !line.starts_with('#') && line.split_whitespace().skip(1).any(|set| set == attribute)
        };
        Ok(files
            .iter()
            .any(|bytes| String::from_utf8_lossy(bytes).lines().any(sets)))
    }
}

impl ConvertedFiles {
    /// Returns whether a line sets the attribute for this absolute path. A later line that unsets the attribute is not
    /// considered.
    pub fn contains(&self, path: &Path) -> bool {
        self.0.iter().any(|(directory, patterns)| {
            path.starts_with(directory) && patterns.matched(path, false).is_ignore()
        })
    }
}

/// Returns the name of a macro that sets the attribute: `a` for the line `[attr]a working-tree-encoding=UTF-16`.
fn macro_name(line: &str) -> Option<&str> {
    let (name, attributes) = line
        .trim()
        .strip_prefix("[attr]")?
        .split_once([' ', '\t'])?;
    sets_encoding(attributes, &[]).then_some(name)
}

/// Returns the pattern of a line that sets the attribute. A quoted pattern is not parsed: its line applies to all
/// files.
fn pattern<'a>(line: &'a str, macros: &[&str]) -> Option<&'a str> {
    let line = line.trim();
    if line.starts_with('#') || line.starts_with("[attr]") {
        return None;
    }
    let (pattern, attributes) = line.split_once([' ', '\t'])?;
    let is_quoted = pattern.starts_with('"');
    sets_encoding(attributes, macros).then_some(if is_quoted { "*" } else { pattern })
}

fn sets_encoding(attributes: &str, macros: &[&str]) -> bool {
    let is_other = |encoding: &str| !["utf-8", "utf8"].contains(&&*encoding.to_ascii_lowercase());
    attributes.split_whitespace().any(|attribute| {
        attribute.strip_prefix(ATTRIBUTE).is_some_and(is_other) || macros.contains(&attribute)
    })
}

/// Compiles the patterns as ignore patterns, which have nearly the same syntax.
fn matcher<'a>(directory: &Path, patterns: impl Iterator<Item = &'a str>) -> Option<Gitignore> {
    let mut builder = GitignoreBuilder::new(directory);
    for pattern in patterns {
        let _ = builder.add_line(None, pattern);
    }
    builder.build().ok().filter(|patterns| !patterns.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_set_the_encoding_are_found() {
        for (line, want) in [
            ("a.yaml working-tree-encoding=UTF-16LE", Some("a.yaml")),
            (
                "*.yaml text\tworking-tree-encoding=UTF-16 eol=lf",
                Some("*.yaml"),
            ),
            ("\"a b.yaml\" working-tree-encoding=UTF-16", Some("*")),
            ("*.yaml wide", Some("*.yaml")),
            ("*.yaml working-tree-encoding=utf-8", None),
            ("*.yaml -working-tree-encoding", None),
            ("# a.yaml working-tree-encoding=UTF-16", None),
            ("a.yaml", None),
        ] {
            assert_eq!(pattern(line, &["wide"]), want, "{line}");
        }
        let line = "[attr]wide working-tree-encoding=UTF-16";
        assert_eq!(macro_name(line), Some("wide"));
        assert_eq!(macro_name("[attr]narrow -text"), None);
    }
}
