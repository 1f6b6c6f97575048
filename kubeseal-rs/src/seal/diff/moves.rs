//! Pairs objects that were removed from one file and added to another, so that a move of an object hides no change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::selection::path_from;
use super::states::Changed;
use super::{Change, ChangeKind, compare};
use crate::seal::object::Object;

/// A difference between two states of a repository.
pub(super) enum Difference {
    /// The changes to an object that both states of its file contain, or a file, directory or submodule that cannot be
    /// compared.
    InPlace(Changed),
    /// An object that only one state of the file contains.
    OneSided(Box<OneSided>),
}

/// An object that only one state of a file contains.
pub(super) struct OneSided {
    /// The absolute path of the file.
    pub(super) path: PathBuf,
    /// Namespace and name, with a number for a further object of this name in the file.
    pub(super) object_name: String,
    pub(super) object: Object,
    /// Whether the newer state contains the object.
    pub(super) is_added: bool,
    /// Whether the user selected the file. An object in any other file is only a candidate for a pair.
    pub(super) is_selected: bool,
}

impl Difference {
    pub(super) fn is_one_sided(&self) -> bool {
        matches!(self, Self::OneSided(_))
    }
}

impl OneSided {
    /// Returns the changes to an object without a counterpart.
    fn changes_alone(&self) -> Vec<Change> {
        let object = Some(&self.object);
        if self.is_added {
            compare(None, object)
        } else {
            compare(object, None)
        }
    }

    /// Returns the changes to this added object since `source`, the same object that was removed from another file. The
    /// first change is the move.
    fn changes_since(&self, source: &Self, current_dir: &Path) -> Vec<Change> {
        let kind = ChangeKind::Moved(path_from(current_dir, &source.path));
        let mut changes = vec![Change { item: None, kind }];
        changes.extend(compare(Some(&source.object), Some(&self.object)));
        changes
    }

    fn location(&self) -> (&Path, &str) {
        (&self.path, &self.object_name)
    }
}

/// Returns the changes to each object. An added object is compared with a removed object of the same namespace and
/// name, if there is one. A removed object is reported as removed only if no added object is compared with it. Objects
/// in files that the user did not select are omitted, unless they are compared with an object in a selected file.
pub(super) fn changes(differences: &[Difference], current_dir: &Path) -> Vec<Changed> {
    let removed = Removed::among(differences);
    let source = |difference| added(difference).and_then(|object| removed.source(object));
    let moved = differences.iter().filter_map(source);
    let moved: BTreeSet<(&Path, &str)> = moved.map(OneSided::location).collect();
    let changed = differences.iter().filter_map(|difference| {
        let object = match difference {
            Difference::InPlace(changed) => return Some(changed.clone()),
            Difference::OneSided(object) => object,
        };
        let source = source(difference);
        let is_selected = object.is_selected || source.is_some_and(|source| source.is_selected);
        if !is_selected || !object.is_added && moved.contains(&object.location()) {
            return None;
        }
        let changes = match source {
            Some(source) => object.changes_since(source, current_dir),
            None => object.changes_alone(),
        };
        Some((object.path.clone(), object.object_name.clone(), changes))
    });
    changed.collect()
}

fn added(difference: &Difference) -> Option<&OneSided> {
    match difference {
        Difference::OneSided(object) if object.is_added => Some(object),
        _ => None,
    }
}

fn removed(difference: &Difference) -> Option<&OneSided> {
    match difference {
        Difference::OneSided(object) if !object.is_added => Some(object),
        _ => None,
    }
}

/// The removed objects, as candidates for a comparison with an added object. Several files may contain objects of the
/// same namespace and name, for example for several clusters.
#[derive(Default)]
struct Removed<'a> {
    /// By namespace and name, and the values.
    values: BTreeMap<(String, &'a BTreeMap<String, String>), &'a OneSided>,
    /// By namespace and name, and the name of the file.
    file_names: BTreeMap<(String, Option<&'a OsStr>), &'a OneSided>,
    /// By namespace and name.
    names: BTreeMap<String, &'a OneSided>,
}

impl<'a> Removed<'a> {
    fn among(differences: &'a [Difference]) -> Self {
        let mut all = Self::default();
        for object in differences.iter().filter_map(removed) {
            let name = object.object.sealed.qualified_name();
            let with_values = (name.clone(), object.object.texts());
            let file_name = (name.clone(), object.path.file_name());
            all.values.entry(with_values).or_insert(object);
            all.file_names.entry(file_name).or_insert(object);
            all.names.entry(name).or_insert(object);
        }
        all
    }

    /// Returns the removed object of the same namespace and name to compare an added object with: one with the same
    /// values, or else one from a file of the same name, or else the first one.
    fn source(&self, added: &'a OneSided) -> Option<&'a OneSided> {
        let name = added.object.sealed.qualified_name();
        let same_values = self.values.get(&(name.clone(), added.object.texts()));
        let same_file_name = || {
            let file_name = added.path.file_name();
            self.file_names.get(&(name.clone(), file_name))
        };
        let source = same_values.or_else(same_file_name);
        source.or_else(|| self.names.get(&name)).copied()
    }
}

#[cfg(test)]
mod tests {
    use shared::manifest;

    use super::*;

    fn one_sided(path: &str, is_added: bool, is_selected: bool, value: &str) -> Difference {
        let yaml = format!(
            "metadata: {{name: db, namespace: shop}}\nspec: {{encryptedData: {{a: {value}}}}}\n"
        );
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        Difference::OneSided(Box::new(OneSided {
            path: Path::new("/r").join(path),
            object_name: "shop/db".to_owned(),
            object: Object::read(&documents[0].root).unwrap(),
            is_added,
            is_selected,
        }))
    }

    fn added(path: &str, value: &str) -> Difference {
        one_sided(path, true, true, value)
    }

    fn removed(path: &str, value: &str) -> Difference {
        one_sided(path, false, true, value)
    }

    fn summary(differences: &[Difference]) -> Vec<String> {
        let lines =
            changes(differences, Path::new("/r"))
                .into_iter()
                .flat_map(|(path, _, changes)| {
                    let file = path_from(Path::new("/r"), &path);
                    changes.into_iter().map(move |change| match change.kind {
                        ChangeKind::Moved(from) => format!("{file} from {from}"),
                        kind => format!("{file} {}", kind.name()),
                    })
                });
        lines.collect()
    }

    #[test]
    fn a_pure_move_is_the_only_change() {
        let differences = [added("new.yaml", "x"), removed("old.yaml", "x")];
        assert_eq!(summary(&differences), ["new.yaml from old.yaml"]);
    }

    #[test]
    fn compares_a_moved_object() {
        let differences = [removed("a.yaml", "x"), added("b.yaml", "w")];
        assert_eq!(
            summary(&differences),
            ["b.yaml from a.yaml", "b.yaml changed"]
        );
    }

    /// Attack: a committer removes another object of the same name, so that a moved object is compared with that one,
    /// and not with its own older state.
    #[test]
    fn prefers_the_same_values_and_then_the_same_file_name() {
        let differences = [
            removed("a/db.yaml", "x"),
            removed("b/db.yaml", "w"),
            removed("c/other.yaml", "z"),
            added("d/db.yaml", "w"),
            added("e/other.yaml", "v"),
        ];
        assert_eq!(
            summary(&differences),
            [
                "a/db.yaml removed",
                "d/db.yaml from b/db.yaml",
                "e/other.yaml from c/other.yaml",
                "e/other.yaml changed",
            ]
        );
    }

    /// Attack: a committer adds a decoy with the old values, so that another object of the same name seems to be new.
    #[test]
    fn compares_each_of_several_added_objects() {
        let differences = [
            removed("a.yaml", "x"),
            added("b.yaml", "x"),
            added("c.yaml", "w"),
        ];
        assert_eq!(
            summary(&differences),
            ["b.yaml from a.yaml", "c.yaml from a.yaml", "c.yaml changed"]
        );
    }

    #[test]
    fn shows_a_move_if_one_of_both_files_is_selected() {
        for (from_selected, to_selected) in [(true, false), (false, true)] {
            let differences = [
                one_sided("a.yaml", false, from_selected, "x"),
                one_sided("b.yaml", true, to_selected, "x"),
            ];
            assert_eq!(summary(&differences), ["b.yaml from a.yaml"]);
        }
        let unselected = [one_sided("a.yaml", false, false, "x")];
        assert!(summary(&unselected).is_empty());
    }
}
