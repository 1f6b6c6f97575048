//! Finds the rules of `.seal.yaml` that name a key, as a recipient or by its certificate. New values would be sealed
//! for such a key.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use shared::error_chain;
use shared::key::Certificate;
use shared::v2::{KeyId, Recipient as _};

use super::Unreadable;
use crate::certificate::{self, RuleContext};
use crate::git::{Branch, CommitTree, Repository};
use crate::recipients::{self, RecipientSource};
use crate::rules::{self, FILE_NAME, Rule, RulesFile, Source};
use crate::shown::ShowPath as _;
use crate::walk;

/// The rules that name a key, and the files that cannot be read.
#[derive(Debug, Default)]
pub struct RulesForKey {
    /// The rules that definitely name the key.
    pub rules: BTreeSet<RuleForKey>,
    /// Rules, recipient files and certificates that cannot be read, and may name the key.
    pub unreadable: BTreeSet<Unreadable>,
}

/// A rule that names a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleForKey {
    /// The file and the rule, such as `.seal.yaml, rule 1 (line 2)`, for messages.
    pub rule: String,
    /// The field that names the key: `recipients` or `certificate`.
    pub field: &'static str,
}

impl fmt::Display for RuleForKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, field } = self;
        match *field {
            "certificate" => write!(f, "{rule}: names the certificate of the key"),
            _ => write!(f, "{rule}: names the key as a recipient"),
        }
    }
}

/// A search for rules that name a key.
pub struct RuleSearch {
    /// The key to search for.
    pub key: KeyId,
    /// Whether the key is an RSA key. If so, the search includes certificates.
    pub is_rsa: bool,
    /// The current time, for certificates.
    pub now: Timestamp,
    /// The result so far.
    pub result: RulesForKey,
}

impl RuleSearch {
    /// Searches the rules that apply to these files, and to the manifests below these directories.
    ///
    /// # Errors
    ///
    /// Fails if a directory cannot be read, or a rules file cannot be trusted.
    pub fn in_files(&mut self, paths: &[PathBuf]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        for path in rule_files(paths)? {
            let location = path.shown();
            match RulesFile::read(&path) {
                Ok(file) => {
                    let read = |at: &OsStr| read_in_tree(at, &file);
                    self.add(&location, file.rules(), read);
                }
                Err(error) => self.add_unreadable(&location, error_chain(&error)),
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
            let tree = repository.tree(branch.commit)?;
            let files = tree.files.iter().map(|(path, _)| PathBuf::from(path));
            let paths = files.chain(tree.links.keys().cloned());
            for path in paths.filter(|path| path.file_name() == Some(OsStr::new(FILE_NAME))) {
                self.add_from_branch(&repository, (&branch, &tree), &path);
            }
        }
        Ok(())
    }

    /// Adds the rules in a file of a branch. As in the work tree, the file and the files that its rules name may be
    /// symbolic links.
    fn add_from_branch(
        &mut self,
        repository: &Repository,
        (branch, tree): (&Branch, &CommitTree),
        path: &Path,
    ) {
        let location = format!("{}:{}", branch.name, path.shown());
        let read = |path: &Path| match repository.file_through_links(tree, path) {
            Ok(Some(bytes)) => Ok(bytes.to_vec()),
            Ok(None) => Err("the branch has no such file".to_owned()),
            Err(error) => Err(error_chain(&error)),
        };
        let rules = read(path).and_then(|text| {
            let rules = rules::parse(&text);
            rules.map_err(|error| error_chain(&error))
        });
        let directory = path.parent().unwrap_or(Path::new(""));
        match rules {
            Ok(rules) => self.add(&location, &rules.0, |source| read(&directory.join(source))),
            Err(why) => self.add_unreadable(&location, why),
        }
    }

    fn add(
        &mut self,
        location: &str,
        rules: &[Rule],
        read: impl Fn(&OsStr) -> Result<Vec<u8>, String>,
    ) {
        for rule in rules {
            let location = format!("{location}, rule {} (line {})", rule.number, rule.line);
            for source in &rule.recipients {
                match self.names(source, &read) {
                    Ok(is_named) => self.add_named(&location, "recipients", is_named),
                    Err(why) => {
                        self.add_unreadable(&location, format!("the recipient {source}: {why}"));
                    }
                }
            }
            match self.has_certificate(rule, &read) {
                Ok(is_named) => self.add_named(&location, "certificate", is_named),
                Err(why) => self.add_unreadable(&location, format!("the certificate: {why}")),
            }
        }
    }

    fn add_named(&mut self, rule: &str, field: &'static str, is_named: bool) {
        if is_named {
            let rule = rule.to_owned();
            self.result.rules.insert(RuleForKey { rule, field });
        }
    }

    /// Returns whether the certificate of a rule, even an expired one, has the key; `false` if the key is not an RSA
    /// key, or the rule names a URL or a controller. Without recipients, v2 values are also sealed for that
    /// certificate.
    fn has_certificate(
        &self,
        rule: &Rule,
        read: impl Fn(&OsStr) -> Result<Vec<u8>, String>,
    ) -> Result<bool, String> {
        match &rule.certificate {
            Some(Source::At(at)) if self.is_rsa && !certificate::is_url(at) => {
                let certificate = Certificate::from_pem(&read(at)?);
                let certificate = certificate.map_err(|error| error_chain(&error))?;
                Ok(certificate.public_key().key_id() == self.key)
            }
            _ => Ok(false),
        }
    }

    /// Returns whether a recipient is the key. Recipients that are named by a URL, or by the controller of a cluster,
    /// are not compared.
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

    fn add_unreadable(&mut self, location: &str, why: String) {
        let location = location.to_owned();
        self.result.unreadable.insert(Unreadable { location, why });
    }
}

fn read_in_tree(at: &OsStr, rules: &RulesFile) -> Result<Vec<u8>, String> {
    let context = RuleContext {
        directory: rules.directory(),
        tree: rules.tree(),
        is_pinned: false,
    };
    let bytes = certificate::read_named_by_rule(at, context);
    bytes.map_err(|error| error_chain(&error))
}

fn rule_files(paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let candidates = walk::candidates(paths, &mut |_| {})?;
    let files = candidates.iter().map(|candidate| &candidate.path);
    let directories = files.chain(paths).filter_map(|path| {
        let path = path.canonicalize().ok()?;
        let directory = if path.is_dir() {
            Some(&*path)
        } else {
            path.parent()
        };
        directory.map(Path::to_owned)
    });
    let directories: BTreeSet<PathBuf> = directories.collect();
    let mut files = BTreeSet::new();
    for directory in directories {
        files.extend(RulesFile::find(&directory)?);
    }
    Ok(files)
}
