//! Files of other branches and of the past, as the user's `git` tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shared::resource::SealedSecret;

use super::survey::{Holder, Origin, in_bytes, rule_namespace};
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
pub fn in_branches(repository: &Path) -> Result<Vec<Holder>> {
    let mut known: BTreeMap<String, Vec<SealedSecret>> = BTreeMap::new();
    let mut found = Vec::new();
    for branch in branches(repository)? {
        let words = ["ls-tree", "-r", "-z", "--full-tree", branch.as_str()];
        let listing = git::ask(repository, &words)?;
        for entry in listing.split(|byte| *byte == 0) {
            let Some((blob, path)) = tree_entry(&String::from_utf8_lossy(entry)) else {
                continue;
            };
            if !known.contains_key(&blob) {
                let sealed = read_blob(repository, &blob, &path)?;
                known.insert(blob.clone(), sealed);
            }
            let namespace = rule_namespace(&repository.join(&path))?;
            for sealed in known.get(&blob).into_iter().flatten() {
                let origin = Origin::Branch {
                    repository: repository.to_owned(),
                    branch: short(&branch).to_owned(),
                    path: path.clone(),
                    name: sealed.name_or_empty().to_owned(),
                };
                let mut sealed = sealed.clone();
                if sealed.metadata.namespace.is_none() {
                    sealed.metadata.namespace.clone_from(&namespace);
                }
                found.push(Holder { origin, sealed });
            }
        }
    }
    Ok(found)
}

/// Every commit of a repository that brought a version of a file with SealedSecrets, with them.
///
/// # Errors
///
/// `git` cannot be asked.
pub fn in_commits(repository: &Path) -> Result<Vec<(Commit, Vec<SealedSecret>)>> {
    let words = [
        "-c",
        "core.quotePath=false",
        "log",
        "--all",
        "-m",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "--format=%x01%H%x02%an <%ae>%x02%aI",
    ];
    let log = git::ask(repository, &words)?;
    let mut known: BTreeMap<String, Vec<SealedSecret>> = BTreeMap::new();
    let mut found = Vec::new();
    for (commit, blob) in versions(&String::from_utf8_lossy(&log)) {
        if !known.contains_key(&blob) {
            let sealed = read_blob(repository, &blob, &commit.path)?;
            known.insert(blob.clone(), sealed);
        }
        let sealed = known.get(&blob).cloned().unwrap_or_default();
        if !sealed.is_empty() {
            found.push((commit, sealed));
        }
    }
    Ok(found)
}

/// Commits and the blobs that they brought, of files that may hold manifests. Each pair once.
fn versions(log: &str) -> Vec<(Commit, String)> {
    let mut found = Vec::new();
    for part in log.split('\u{1}').skip(1) {
        let mut lines = part.lines();
        let head: Vec<&str> = lines.next().unwrap_or_default().split('\u{2}').collect();
        let [id, author, at] = head.as_slice() else {
            continue;
        };
        for line in lines {
            let Some((facts, path)) = line.split_once('\t') else {
                continue;
            };
            let blob = facts.split(' ').nth(3).unwrap_or_default();
            if is_manifest(path) && blob.bytes().any(|byte| byte != b'0') {
                let commit = Commit {
                    id: (*id).to_owned(),
                    author: (*author).to_owned(),
                    at: (*at).to_owned(),
                    path: path.to_owned(),
                };
                found.push((commit, blob.to_owned()));
            }
        }
    }
    found.dedup();
    found
}

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

fn read_blob(repository: &Path, blob: &str, path: &str) -> Result<Vec<SealedSecret>> {
    let bytes = git::ask(repository, &["cat-file", "blob", blob])?;
    if !mentions(&bytes, Kind::SealedSecret) {
        return Ok(Vec::new());
    }
    Ok(in_bytes(Path::new(path), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_git_says_about_versions() {
        let zero = "0".repeat(40);
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let log = format!(
            "\u{1}c1\u{2}Ann <a@x>\u{2}2026-01-01T00:00:00Z\n\n:000000 100644 {zero} {one} A\tdb.yaml\n\
             :000000 100644 {zero} {two} A\tREADME\n\
             \u{1}c2\u{2}Bob <b@x>\u{2}2026-01-02T00:00:00Z\n\n:100644 000000 {one} {zero} D\tdb.yaml\n"
        );
        let found = versions(&log);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].0.author.as_str(), &found[0].1),
            ("Ann <a@x>", &one)
        );
        assert_eq!(
            tree_entry("100644 blob abc\tx/y.yml"),
            Some(("abc".into(), "x/y.yml".into()))
        );
        assert_eq!(tree_entry("100644 blob abc\tx/y.txt"), None);
        assert_eq!(tree_entry("160000 commit abc\tsub.json"), None);
    }
}
