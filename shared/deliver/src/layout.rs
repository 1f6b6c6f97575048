//! Detects conflicts between the paths of files and directories.

use crate::path::FilePath;

/// The paths of files, and of directories that will contain files. [`Layout::check`] fails if two files have one path,
/// or a file has the path of a directory.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    paths: Vec<(Vec<String>, Kind)>,
}

/// Files sort before directories of the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    File,
    Directory,
}

/// A conflict between two paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Two files have the same path.
    #[error("two files have the path {0:?}")]
    Repeated(String),
    /// The path of a file is also the directory of other files.
    #[error("{0:?} is the path of a file and the directory of other files")]
    FileIsDirectory(String),
}

impl Layout {
    /// Adds a file.
    pub fn add_file(&mut self, path: &FilePath) {
        self.add(path, Kind::File);
    }

    /// Adds a directory, which can contain any number of files.
    pub fn add_directory(&mut self, path: &FilePath) {
        self.add(path, Kind::Directory);
    }

    fn add(&mut self, path: &FilePath, kind: Kind) {
        let components = path.components().map(str::to_owned);
        self.paths.push((components.collect(), kind));
    }

    /// Checks that all paths can exist together.
    ///
    /// # Errors
    ///
    /// Returns the first conflict.
    pub fn check(mut self) -> Result<(), LayoutError> {
        self.paths.sort();
        // In this order, paths below a file directly follow the file.
        let mut pairs = self.paths.windows(2).filter_map(|pair| match pair {
            [(file, Kind::File), (next, kind)] => conflict(file, next, *kind),
            _ => None,
        });
        pairs.next().map_or(Ok(()), Err)
    }
}

fn conflict(file: &[String], next: &[String], kind: Kind) -> Option<LayoutError> {
    let path = || file.join("/");
    if file == next && kind == Kind::File {
        Some(LayoutError::Repeated(path()))
    } else if next.starts_with(file) {
        Some(LayoutError::FileIsDirectory(path()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn check(files: &[&str], directories: &[&str]) -> Result<(), LayoutError> {
        let mut layout = Layout::default();
        for path in files {
            layout.add_file(&path.parse().unwrap());
        }
        for path in directories {
            layout.add_directory(&path.parse().unwrap());
        }
        layout.check()
    }

    #[test]
    fn refuses_a_path_that_is_used_twice_and_a_file_that_is_a_directory() {
        let file_is_directory = |path: &str| Err(LayoutError::FileIsDirectory(path.into()));
        for (files, directories, want) in [
            (&["a", "b/c", "b/d"][..], &["b", "e"][..], Ok(())),
            (&["a-b", "a/b", "a.b"], &["a", "a"], Ok(())),
            (&["a", "a"], &[], Err(LayoutError::Repeated("a".into()))),
            (&["a", "a/b"], &[], file_is_directory("a")),
            (&["a/b", "a-c", "a", "a.d"], &[], file_is_directory("a")),
            (&["x/a"], &["x/a"], file_is_directory("x/a")),
            (&["x/a"], &["x/a/b"], file_is_directory("x/a")),
        ] {
            assert_eq!(check(files, directories), want, "{files:?} {directories:?}");
        }
    }

    proptest! {
        #[test]
        fn finds_a_conflict_exactly_if_there_is_one(files in prop::collection::vec("[ab.-](/[ab]){0,2}", 0..5)) {
            prop_assume!(files.iter().all(|path| path.parse::<FilePath>().is_ok()));
            let mut layout = Layout::default();
            for path in &files {
                layout.add_file(&path.parse().unwrap());
            }
            let distinct: BTreeSet<_> = files.iter().collect();
            let is_directory = |path: &String| files.iter().any(|other| other.starts_with(&format!("{path}/")));
            let has_conflict = distinct.len() < files.len() || files.iter().any(is_directory);
            prop_assert_eq!(layout.check().is_err(), has_conflict);
        }
    }
}
