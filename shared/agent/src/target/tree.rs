//! The directories and files of one version.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use deliver::DeliveredFile;
use rustix::fs::FileType;
use zeroize::Zeroizing;

use super::directory::{Directory, Properties};
use super::{Owner, TargetError, WantedFiles};

/// The maximum depth of directories; each level needs a file descriptor. A path of 1,024 bytes has at most 512
/// components.
const MAX_DEPTH: usize = 520;
/// The maximum number of entries that are compared. Other programs may have added entries.
const MAX_ENTRIES: usize = 4096;

/// Writes a file, and creates its parent directories.
pub(super) fn write(
    version: &Directory,
    file: &DeliveredFile,
    owner: Option<Owner>,
) -> Result<(), TargetError> {
    let mut names: Vec<&str> = file.path.components().collect();
    let name = names.pop().unwrap_or_default();
    let mut parent: Option<Directory> = None;
    for directory in names {
        let above = parent.as_ref().unwrap_or(version);
        parent = Some(above.child_or_new(directory)?);
    }
    let directory = parent.as_ref().unwrap_or(version);
    directory.write_new(name, file.value.expose(), file.mode.bits().into(), owner)?;
    directory.sync()
}

/// Removes a directory with its content. Symbolic links are removed, not followed.
pub(super) fn remove(parent: &Directory, name: &OsStr) -> Result<(), TargetError> {
    remove_below(parent, name, 0)
}

fn remove_below(parent: &Directory, name: &OsStr, depth: usize) -> Result<(), TargetError> {
    if depth > MAX_DEPTH {
        // No version is this deep, so another program created the directory. Its removal fails if it is not empty.
        return parent.remove_directory(name);
    }
    let directory = parent.child(name)?;
    for (entry, kind) in directory.entries()? {
        match kind {
            FileType::Directory => remove_below(&directory, &entry, depth + 1)?,
            _ => directory.remove(entry)?,
        }
    }
    parent.remove_directory(name)
}

/// Returns whether a version has exactly the wanted files.
pub(super) fn has_files(
    version: &Directory,
    wanted: &WantedFiles<'_>,
    owner: Option<Owner>,
) -> bool {
    let mut present = BTreeSet::new();
    list(version, "", 0, &mut present);
    present.iter().eq(wanted.keys().copied())
        && wanted
            .values()
            .all(|file| is_up_to_date(version, file, owner))
}

fn list(directory: &Directory, prefix: &str, depth: usize, paths: &mut BTreeSet<String>) {
    let entries = directory.entries().unwrap_or_default();
    for (name, kind) in entries {
        if paths.len() >= MAX_ENTRIES || depth > MAX_DEPTH {
            return;
        }
        let path = format!("{prefix}{}", name.to_string_lossy());
        let child = (kind == FileType::Directory).then(|| directory.child(&name));
        match child {
            Some(Ok(child)) => list(&child, &format!("{path}/"), depth + 1, paths),
            _ => {
                paths.insert(path);
            }
        }
    }
}

fn is_up_to_date(version: &Directory, file: &DeliveredFile, owner: Option<Owner>) -> bool {
    let value = file.value.expose();
    let Some((bytes, properties)) = read(version, file, value.len() as u64) else {
        return false;
    };
    let has_owner = owner.is_none_or(|owner| owner == properties.owner);
    *bytes == *value && properties.mode == u32::from(file.mode.bits()) && has_owner
}

fn read(
    version: &Directory,
    file: &DeliveredFile,
    limit: u64,
) -> Option<(Zeroizing<Vec<u8>>, Properties)> {
    let mut names: Vec<&str> = file.path.components().collect();
    let name = names.pop()?;
    let mut parent: Option<Directory> = None;
    for directory in names {
        parent = Some(parent.as_ref().unwrap_or(version).child(directory).ok()?);
    }
    parent.as_ref().unwrap_or(version).read(name, limit)
}
