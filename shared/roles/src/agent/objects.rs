//! SealedSecrets that are named on the command line.

#[cfg(target_os = "linux")]
use std::collections::BTreeMap;
use std::str::FromStr;

#[cfg(target_os = "linux")]
use deliver::{EntryBody, Mode};

/// An object, or one item of it: `NAME` or `NAME:ITEM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChoice {
    /// The name of the SealedSecret.
    pub name: String,
    /// The item key; `None` for all items.
    pub item: Option<String>,
}

/// The string does not name an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected NAME or NAME:ITEM")]
pub struct MalformedObject;

impl FromStr for ObjectChoice {
    type Err = MalformedObject;

    fn from_str(text: &str) -> Result<Self, MalformedObject> {
        let (name, item) = match text.split_once(':') {
            Some((name, item)) => (name, Some(item.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || item.as_deref() == Some("") {
            return Err(MalformedObject);
        }
        let name = name.to_owned();
        Ok(Self { name, item })
    }
}

/// Returns one entry for each object. With `directories`, the files of each object are in a directory of the same name.
#[cfg(target_os = "linux")]
pub(super) fn entries(choices: &[ObjectChoice], mode: Mode, directories: bool) -> Vec<EntryBody> {
    let mut items: BTreeMap<&str, Option<Vec<String>>> = BTreeMap::new();
    for ObjectChoice { name, item } in choices {
        let chosen = items.entry(name).or_insert_with(|| Some(Vec::new()));
        match (item, &mut *chosen) {
            (Some(item), Some(chosen)) if !chosen.contains(item) => chosen.push(item.clone()),
            (None, _) => *chosen = None,
            _ => {}
        }
    }
    let entry = |(name, items): (&str, Option<Vec<String>>)| EntryBody {
        sealed_secret: Some(name.to_owned()),
        items,
        path: directories.then(|| format!("{name}/")),
        mode: Some(mode.to_string()),
        ..EntryBody::default()
    };
    items.into_iter().map(entry).collect()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn items(choices: &[&str]) -> Vec<(String, Option<Vec<String>>)> {
        let choices: Vec<ObjectChoice> = choices.iter().map(|text| text.parse().unwrap()).collect();
        let entries = entries(&choices, Mode::default(), false).into_iter();
        entries
            .map(|entry| (entry.sealed_secret.unwrap(), entry.items))
            .collect()
    }

    #[test]
    fn items_of_the_same_object_become_one_entry() {
        let named = |name: &str, items: &[&str]| {
            (
                name.to_owned(),
                Some(items.iter().map(|&item| item.to_owned()).collect()),
            )
        };
        assert_eq!(items(&["db:a", "db:b", "db:a"]), [named("db", &["a", "b"])]);
        assert_eq!(items(&["db:a", "db"]), [("db".to_owned(), None)]);
        assert_eq!(items(&["db", "db:a"]), [("db".to_owned(), None)]);
        assert_eq!(
            items(&["web:a", "db:a"]),
            [named("db", &["a"]), named("web", &["a"])]
        );
    }

    #[test]
    fn refuses_strings_that_name_no_object() {
        for text in ["", ":", ":a", "a:"] {
            assert_eq!(
                text.parse::<ObjectChoice>(),
                Err(MalformedObject),
                "{text:?}"
            );
        }
    }
}
