//! Files of other branches and of the past, as the user's `git` tells them.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use zeroize::Zeroizing;

use super::survey::{Contents, Found, Origin, rule_namespace};
use crate::git;
use crate::seal::walk::{Kind, mentions};

/// A commit that brought a version of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit {
    /// Its hash.
    pub id: String,
    /// Who made it, with the address in angle brackets.
    pub author: String,
    /// When, in RFC 3339.
    pub at: String,
    /// The file that it brought.
    pub path: String,
}

/// The repositories that these paths lie in.
///
/// # Errors
///
/// A path lies in none.
pub fn repositories(paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for path in paths {
        let path = std::path::absolute(path)?;
        let folder = if path.is_dir() {
            path.as_path()
        } else {
            path.parent().unwrap_or(Path::new("/"))
        };
        match git::work_tree(folder) {
            Some(root) => found.insert(root),
            None => bail!(
                "{} is in no Git repository, so it has no branches",
                path.display()
            ),
        };
    }
    Ok(found)
}

/// The SealedSecrets in every branch of a repository, local or remote.
///
/// # Errors
///
/// `git` cannot be asked.
pub fn in_branches(repository: &Path) -> Result<Found> {
    let mut blobs = Blobs::new(repository);
    let mut found = Found::default();
    for branch in branches(repository)? {
        let words = ["ls-tree", "-r", "-z", "--full-tree", branch.as_str()];
        let listing = git::ask(repository, &words)?;
        for entry in listing.split(|byte| *byte == 0) {
            let Some((blob, path)) = tree_entry(&String::from_utf8_lossy(entry)) else {
                continue;
            };
            let contents = blobs.read(&blob, &path)?.clone();
            let namespace = rule_namespace(&repository.join(&path))?;
            let place = format!("{}:{path}", short(&branch));
            found.add(contents, &place, namespace.as_ref(), |name| {
                Origin::Branch {
                    repository: repository.to_owned(),
                    branch: short(&branch).to_owned(),
                    path: path.clone(),
                    name,
                }
            });
        }
    }
    Ok(found)
}

/// Every commit of a repository that brought a version of a file with SealedSecrets, or with what may be
/// some and cannot be read, with them.
///
/// # Errors
///
/// `git` cannot be asked.
pub fn in_commits(repository: &Path) -> Result<Vec<(Commit, Contents)>> {
    let words = [
        "log",
        "-z",
        "--all",
        "-m",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "--format=%H%x00%an <%ae>%x00%aI",
    ];
    let log = git::ask(repository, &words)?;
    let mut blobs = Blobs::new(repository);
    let mut found = Vec::new();
    for (commit, blob) in versions(&log) {
        let contents = blobs.read(&blob, &commit.path)?;
        if !contents.sealed.is_empty() || !contents.unread.is_empty() {
            found.push((commit, contents.clone()));
        }
    }
    Ok(found)
}

/// Commits and the blobs that they brought, of files that may hold manifests. Each pair once.
///
/// Parts end with a zero byte, which neither names of files nor of people can hold: of a commit its hash,
/// author and time; of a file its facts after a colon, and its name.
fn versions(log: &[u8]) -> Vec<(Commit, String)> {
    let mut found = Vec::new();
    let mut head = <[String; 3]>::default();
    let mut parts = log.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    while let Some(part) = parts.next() {
        match part.trim_start_matches('\n') {
            "" => {}
            part if part.starts_with(':') => {
                let path = next(&mut parts);
                if let Some(blob) = brought(part).filter(|_| is_manifest(&path)) {
                    let [id, author, at] = head.clone();
                    let commit = Commit {
                        id,
                        author,
                        at,
                        path,
                    };
                    found.push((commit, blob.to_owned()));
                }
            }
            id => head = [id.to_owned(), next(&mut parts), next(&mut parts)],
        }
    }
    found.dedup();
    found
}

fn next<'a>(parts: &mut impl Iterator<Item = Cow<'a, str>>) -> String {
    parts.next().unwrap_or_default().into_owned()
}

/// `:MODE MODE HASH HASH STATUS`: the new hash, if a file has it.
fn brought(facts: &str) -> Option<&str> {
    let facts: Vec<&str> = facts.split(' ').collect();
    let [_, mode, _, blob, ..] = facts.as_slice() else {
        return None;
    };
    let is_file = *mode != SUBMODULE && blob.bytes().any(|byte| byte != b'0');
    is_file.then_some(*blob)
}

const SUBMODULE: &str = "160000";

fn branches(repository: &Path) -> Result<Vec<String>> {
    let words = [
        "for-each-ref",
        "--format=%(refname) %(symref)",
        "refs/heads",
        "refs/remotes",
    ];
    let listed = git::ask(repository, &words)?;
    let text = String::from_utf8_lossy(&listed);
    // One that stands for another is looked at under its own name.
    let names = text.lines().filter_map(|line| line.strip_suffix(' '));
    Ok(names.map(str::to_owned).collect())
}

fn short(branch: &str) -> &str {
    let without = |prefix| branch.strip_prefix(prefix);
    without("refs/heads/")
        .or_else(|| without("refs/remotes/"))
        .unwrap_or(branch)
}

/// `MODE blob HASH\tPATH`.
fn tree_entry(entry: &str) -> Option<(String, String)> {
    let (facts, path) = entry.split_once('\t')?;
    let mut facts = facts.split(' ').skip(1);
    let is_blob = facts.next() == Some("blob");
    let blob = facts.next()?;
    (is_blob && is_manifest(path)).then(|| (blob.to_owned(), path.to_owned()))
}

fn is_manifest(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|end| path.ends_with(end))
}

/// What stands in the blobs of a repository, each read once.
struct Blobs<'a> {
    repository: &'a Path,
    known: BTreeMap<String, Contents>,
}

impl<'a> Blobs<'a> {
    fn new(repository: &'a Path) -> Self {
        let known = BTreeMap::new();
        Self { repository, known }
    }

    fn read(&mut self, blob: &str, path: &str) -> Result<&Contents> {
        match self.known.entry(blob.to_owned()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(read_blob(self.repository, blob, path)?)),
        }
    }
}

fn read_blob(repository: &Path, blob: &str, path: &str) -> Result<Contents> {
    let bytes = git::ask(repository, &["cat-file", "blob", blob])?;
    if !mentions(&bytes, Kind::SealedSecret) {
        return Ok(Contents::default());
    }
    Ok(Contents::of(Path::new(path), Zeroizing::new(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_git_says_about_versions() {
        let zero = "0".repeat(40);
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let name = "a\"\\\t\n:b.yaml";
        let log = format!(
            "c1\0Ann\u{1} <a@x>\02026-01-01T00:00:00Z\0\0:000000 100644 {zero} {one} A\0{name}\0\
             :000000 100644 {zero} {two} A\0README\0:000000 160000 {zero} {two} A\0sub.json\0\
             c2\0Bob <b@x>\02026-01-02T00:00:00Z\0\n:100644 000000 {one} {zero} D\0db.yaml\0"
        );
        let found = versions(log.as_bytes());
        assert_eq!(found.len(), 1, "{found:?}");
        let (commit, blob) = &found[0];
        assert_eq!((commit.author.as_str(), blob), ("Ann\u{1} <a@x>", &one));
        assert_eq!((commit.id.as_str(), commit.path.as_str()), ("c1", name));
        assert_eq!(
            tree_entry("100644 blob abc\tx/y.yml"),
            Some(("abc".into(), "x/y.yml".into()))
        );
        assert_eq!(tree_entry("100644 blob abc\tx/y.txt"), None);
        assert_eq!(tree_entry("160000 commit abc\tsub.json"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn finds_files_whatever_they_are_called() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let folder = tempfile::tempdir().unwrap();
        let git = |words: &[&str]| git::ask(folder.path(), words).unwrap();
        git(&["init", "-q", "-b", "main"]);
        let names: [&[u8]; 4] = [b"a\".yaml", b"b\t.yml", b"c\n.json", b"d\xff.yaml"];
        for name in names {
            let text = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: x}\nspec: {}\n";
            std::fs::write(folder.path().join(OsStr::from_bytes(name)), text).unwrap();
        }
        git(&["add", "."]);
        git(&[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@x",
            "-c",
            "commit.gpgsign=false",
            "commit",
            "-qm",
            "one",
        ]);
        let commits = in_commits(folder.path()).unwrap();
        let paths: Vec<&str> = commits
            .iter()
            .map(|(commit, _)| commit.path.as_str())
            .collect();
        assert_eq!(paths, ["a\".yaml", "b\t.yml", "c\n.json", "d\u{fffd}.yaml"]);
        assert!(
            commits
                .iter()
                .all(|(commit, found)| commit.author == "a <a@x>" && found.sealed.len() == 1)
        );
        assert_eq!(in_branches(folder.path()).unwrap().holders.len(), 4);
    }
}
