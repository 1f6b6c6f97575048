//! Finds the rules of `.seal.yaml` that name a key as a recipient. New values would be sealed for it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use shared::error_chain;
use shared::v2::{KeyId, Recipient as _};

use super::Unread;
use crate::certificate::{self, RuleContext};
use crate::git::{Branch, Repository};
use crate::recipients::{self, RecipientSource};
use crate::rules::{self, FILE_NAME, Rule, RulesFile};
use crate::shown::ShowPath as _;
use crate::walk;

/// Where rules name a key, and what cannot be read.
#[derive(Debug, Default)]
pub struct NamedIn {
    /// The rules, with their files.
    pub places: BTreeSet<String>,
    /// Rules and recipient files that cannot be read, and may name the key.
    pub unread: BTreeSet<Unread>,
}

/// A search for rules that name a key.
pub struct RuleSearch {
    /// The key that rules may name.
    pub key: KeyId,
    /// The current time, for certificates.
    pub now: Timestamp,
    /// What was found.
    pub found: NamedIn,
}

impl RuleSearch {
    /// Searches the rules that apply to these files, and to the manifests below these directories.
    ///
    /// # Errors
    ///
    /// Fails if a directory cannot be read.
    pub fn in_files(&mut self, paths: &[PathBuf]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        for path in rule_files(paths)? {
            let place = path.shown();
            match RulesFile::read(&path) {
                Ok(file) => {
                    let read = |at: &OsStr| read_in_tree(at, &file);
                    self.add(&place, file.rules(), read);
                }
                Err(error) => self.add_unread(&place, error_chain(&error)),
            }
        }
        Ok(())
    }

    /// Searches the rules in every branch of a repository.
    ///
    /// # Errors
    ///
    /// Fails if the repository cannot be read.
    pub fn in_branches(&mut self, root: &Path) -> Result<()> {
        let repository = Repository::discover(root)?;
        for branch in repository.branches()? {
            for (path, blob) in repository.files(branch.commit)? {
                let path = PathBuf::from(path);
                if path.file_name() == Some(OsStr::new(FILE_NAME)) {
                    let text = repository.blob(blob)?;
                    self.add_of_branch(&repository, &branch, &path, &text);
                }
            }
        }
        Ok(())
    }

    fn add_of_branch(&mut self, repository: &Repository, at: &Branch, path: &Path, text: &[u8]) {
        let place = format!("{}:{}", at.name, path.shown());
        let folder = path.parent().unwrap_or(Path::new(""));
        let read = |source: &OsStr| match repository.file_at(at.commit, &folder.join(source)) {
            Ok(Some(bytes)) => Ok(bytes.to_vec()),
            Ok(None) => Err("the branch has no such file".to_owned()),
            Err(error) => Err(error_chain(&error)),
        };
        match rules::parse(text) {
            Ok(rules) => self.add(&place, &rules.0, read),
            Err(error) => self.add_unread(&place, error_chain(&error)),
        }
    }

    fn add(
        &mut self,
        place: &str,
        rules: &[Rule],
        read: impl Fn(&OsStr) -> Result<Vec<u8>, String>,
    ) {
        for rule in rules {
            let place = format!("{place}, rule {} (line {})", rule.number, rule.line);
            for source in &rule.recipients {
                match self.names(source, &read) {
                    Ok(true) => drop(self.found.places.insert(place.clone())),
                    Ok(false) => {}
                    Err(why) => self.add_unread(&place, format!("the recipient {source}: {why}")),
                }
            }
        }
    }

    /// Returns whether a recipient is the key. What only a server knows cannot be searched.
    fn names(
        &self,
        source: &RecipientSource,
        read: impl Fn(&OsStr) -> Result<Vec<u8>, String>,
    ) -> Result<bool, String> {
        match source {
            RecipientSource::Line(line) => Ok(line.key_id() == self.key),
            RecipientSource::At(at) if !certificate::is_url(at) => {
                let keys = recipients::in_text(&read(at)?, self.now);
                let (keys, _) = keys.map_err(|error| error_chain(&error))?;
                Ok(keys.iter().any(|key| key.key_id() == self.key))
            }
            RecipientSource::At(_) | RecipientSource::Cluster => Ok(false),
        }
    }

    fn add_unread(&mut self, place: &str, why: String) {
        let place = place.to_owned();
        self.found.unread.insert(Unread { place, why });
    }
}

fn read_in_tree(at: &OsStr, rules: &RulesFile) -> Result<Vec<u8>, String> {
    let context = RuleContext {
        folder: rules.folder(),
        tree: rules.tree(),
        is_pinned: false,
    };
    let bytes = certificate::read_named_by_rule(at, context);
    bytes.map_err(|error| error_chain(&error))
}

fn rule_files(paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let candidates = walk::candidates(paths, &mut |_| {})?;
    let files = candidates.iter().map(|candidate| &candidate.path);
    let folders = files.chain(paths).filter_map(|path| {
        let path = path.canonicalize().ok()?;
        let folder = if path.is_dir() {
            Some(&*path)
        } else {
            path.parent()
        };
        folder.map(Path::to_owned)
    });
    let folders: BTreeSet<PathBuf> = folders.collect();
    let mut files = BTreeSet::new();
    for folder in folders {
        files.extend(RulesFile::find(&folder)?);
    }
    Ok(files)
}
