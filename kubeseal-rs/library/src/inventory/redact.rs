//! Pseudonyms in place of names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Row;
use super::live::LiveObject;
use crate::git::LastChange;

/// Replaces the names of namespaces, objects, items, files and authors with pseudonyms: `namespace-1`, `object-1`,
/// `item-1`, `file-1`, `author-1`. The numbers count the names in the order of the rows. They are no hashes, because a
/// name can be guessed from its hash. Equal names have equal pseudonyms. The hashes of commits are removed, because
/// anyone with the repository could look up files and authors by them.
pub fn redact(rows: &mut [Row]) {
    let mut names = Pseudonyms::default();
    for row in rows {
        names.redact_row(row);
    }
}

/// The pseudonyms of one kind of name.
struct Numbers {
    kind: &'static str,
    names: BTreeMap<String, usize>,
}

impl Numbers {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            names: BTreeMap::new(),
        }
    }

    /// Replaces a name. An empty name stays empty.
    fn replace(&mut self, name: &mut String) {
        if name.is_empty() {
            return;
        }
        let next = self.names.len() + 1;
        let number = self.names.entry(std::mem::take(name)).or_insert(next);
        *name = format!("{}-{number}", self.kind);
    }
}

struct Pseudonyms {
    namespaces: Numbers,
    objects: Numbers,
    items: Numbers,
    authors: Numbers,
    files: BTreeMap<PathBuf, usize>,
}

impl Default for Pseudonyms {
    fn default() -> Self {
        Self {
            namespaces: Numbers::new("namespace"),
            objects: Numbers::new("object"),
            items: Numbers::new("item"),
            authors: Numbers::new("author"),
            files: BTreeMap::new(),
        }
    }
}

impl Pseudonyms {
    fn redact_row(&mut self, row: &mut Row) {
        let Row {
            namespace,
            name,
            content,
            position,
            live,
            state: _,
        } = row;
        if let Some(namespace) = namespace {
            self.namespaces.replace(namespace);
        }
        self.objects.replace(name);
        let items = content.iter_mut().flat_map(|content| &mut content.items);
        items.for_each(|item| self.items.replace(item));
        if let Some(position) = position {
            let next = self.files.len() + 1;
            let number = *self.files.entry(position.path.clone()).or_insert(next);
            position.path = format!("file-{number}").into();
            if let Some(LastChange::Commit(commit)) = &mut position.change {
                commit.hash.clear();
                self.authors.replace(&mut commit.author);
            }
        }
        if let Some(live) = live {
            self.redact_live(live);
        }
    }

    fn redact_live(&mut self, live: &mut LiveObject) {
        self.namespaces.replace(&mut live.id.0);
        self.objects.replace(&mut live.id.1);
        let items = live.content.iter_mut();
        let items = items.flat_map(|content| &mut content.items);
        items.for_each(|item| self.items.replace(item));
    }
}

#[cfg(test)]
mod tests {
    use super::super::join::join;
    use super::super::join::tests::{file, live};
    use super::super::live::Live;
    use super::*;
    use crate::cluster::Newest;
    use crate::git::FileCommit;

    /// Attack: the reader of a redacted inventory searches it for the names that it must not show.
    #[test]
    fn replaces_every_name() {
        let mut files = vec![
            file("vault/path.yaml", Some("shop"), "customer"),
            file("vault/path.yaml", Some("shop"), "other"),
        ];
        for file in &mut files {
            file.content.items = vec!["token".to_owned(), "password".to_owned()];
            file.change = Some(LastChange::Commit(FileCommit {
                hash: "0123456789".to_owned(),
                author: "Alice".to_owned(),
                at: None,
            }));
        }
        let cluster = Live {
            objects: vec![
                live("customer", Newest::Recorded, "True"),
                live("only-live", Newest::Recorded, "True"),
            ],
            secrets: None,
        };
        let mut rows = join(Some(files), Some(cluster));
        redact(&mut rows);
        let text = format!("{rows:?}");
        for name in [
            "shop",
            "customer",
            "other",
            "only-live",
            "token",
            "password",
            "vault",
            "Alice",
            "0123456789",
        ] {
            assert!(!text.contains(name), "{name}: {text}");
        }
        let names: Vec<_> = rows.iter().map(|row| &*row.name).collect();
        assert_eq!(names, ["object-1", "object-2", "object-3"]);
        assert!(
            rows.iter()
                .all(|row| row.namespace.as_deref() == Some("namespace-1"))
        );
        let content = rows[0].content.as_ref().unwrap();
        assert_eq!(content.items, ["item-1", "item-2"]);
        let position = rows[2].position.as_ref().unwrap();
        assert_eq!(position.path, PathBuf::from("file-1"));
        let live = rows[1].live.as_ref().unwrap();
        assert_eq!(live.id.1, "object-2");
    }
}
