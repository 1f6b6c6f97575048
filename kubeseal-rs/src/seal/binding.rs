//! Decides whether new v2 values are bound to the template of their object. A user who can change the file must not be
//! able to free the next value from its binding, or to choose the template that it is bound to.

use std::path::Path;

use anyhow::{Result, bail};
use gix::ObjectId;
use kubeseal_library::files;
use kubeseal_library::git::{GitError, Repository};
use kubeseal_library::rules::Rule;
use kubeseal_library::walk::{self, ManifestFile};
use shared::error_chain;
use shared::resource::SealedSecret;
use shared::sealed_file::{self, Found};
use shared::v2::{self, Object, TemplateDigest};
use zeroize::Zeroizing;

use super::target::is_same_object;
use super::v2_items::Change;
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, shown};

/// Returns whether to bind the new values of an object to its template: if a value in the file is bound, or if the rule
/// requires it.
///
/// # Errors
///
/// Fails in each of these cases:
///
/// - The template was changed after a value was bound to it.
/// - The last commit has bound values and the file has none. A file without items is accepted if its template is
///   unchanged.
/// - The object would have both a v1 item and a bound value.
pub(super) fn decide(
    sealed: &SealedSecret,
    object: &Object,
    committed: Option<&SealedSecret>,
    change: Change<'_>,
    rule_binds: bool,
) -> Result<bool> {
    let object_name = sealed.qualified_name();
    let object_name = shown(&object_name);
    let template = TemplateDigest::of(&sealed.spec.template);
    if !object.fits_template(&template) {
        bail!(template_changed(&object_name));
    }
    let is_bound = has_bound_values(object);
    if !is_bound && committed.is_some_and(|before| has_lost_binding(before, sealed, object)) {
        bail!(binding_lost(&object_name));
    }
    if !is_bound && !rule_binds {
        return Ok(false);
    }
    let mut v1_items = object.v1_items().iter();
    if let Some(item) = v1_items.find(|item| change.keeps(item)) {
        bail!(v1_with_bound(&object_name, item));
    }
    warn_about_unbound(&object_name, object, change);
    Ok(true)
}

/// Allows new v1 values although the rule requires v2, and warns the user. `item` is a v1 item that stays in the
/// object: controllers refuse an object with a v1 item and a value that is bound to the template.
///
/// # Errors
///
/// Fails if the last commit has v2 values: a user who can change the file must not be able to weaken the next value.
pub(super) fn keep_v1(
    sealed: &SealedSecret,
    committed: Option<&SealedSecret>,
    item: &str,
    rule: &Rule,
) -> Result<()> {
    let object_name = sealed.qualified_name();
    let object_name = shown(&object_name);
    if committed.is_some_and(|before| v2::is_v2(&before.spec.encrypted_data)) {
        bail!(format_lost(&object_name));
    }
    let (item, rule) = (shown(item), rule.describe());
    report::warn(&format!(
        "{object_name}: the new value is sealed as v1 like the item {item:?}, although {} requires v2; \
         `seal rotate --to v2 --bind-template --key FILE` converts all values",
        shown(&rule)
    ));
    Ok(())
}

fn format_lost(object_name: &str) -> Failure {
    Failure::new(format!(
        "the values of {object_name} are v2 in the last commit, and v1 in the file"
    ))
    .hint("review the file with `seal diff`; restore it from the last commit, or commit it if this is intended")
}

fn has_bound_values(object: &Object) -> bool {
    object.view().values().any(|item| item.is_template_bound)
}

/// Returns whether the committed object has bound values. Called only for a file without bound values. Returns `false`
/// for a file without items if its template is unchanged.
fn has_lost_binding(committed: &SealedSecret, sealed: &SealedSecret, object: &Object) -> bool {
    let before = Object::parse(&committed.spec.encrypted_data);
    let is_empty = !object.has_items() && object.v1_items().is_empty();
    let digest = |sealed: &SealedSecret| TemplateDigest::of(&sealed.spec.template);
    before.is_ok_and(|before| has_bound_values(&before))
        && !(is_empty && digest(committed) == digest(sealed))
}

fn template_changed(object_name: &str) -> Failure {
    Failure::new(format!(
        "the template of {object_name} was changed after its values were bound to it; a new value would be used in the \
         changed template"
    ))
    .hint(
        "revert the change to the template, which `seal diff` shows; if this is intended, seal all values again into a new file",
    )
}

fn binding_lost(object_name: &str) -> Failure {
    Failure::new(format!(
        "in the last commit, the values of {object_name} are bound to the template; in the file, they no longer are"
    ))
    .hint("review the file with `seal diff`; restore it from the last commit, or commit it if this is intended")
}

fn v1_with_bound(object_name: &str, item: &str) -> Failure {
    let item = shown(item);
    Failure::new(format!(
        "a new value of {object_name} is bound to the template, but the item {item:?} is sealed as v1, and controllers \
         refuse an object with both"
    ))
    .hint(
        "remove the item with `seal unset`, or convert it with `seal rotate --to v2 --bind-template --key FILE`",
    )
}

fn warn_about_unbound(object_name: &str, object: &Object, change: Change<'_>) {
    let items = object.view();
    let mut kept = items.iter().filter(|(item, _)| change.keeps(item));
    if let Some((item, _)) = kept.find(|(_, view)| !view.is_template_bound) {
        let item = shown(item);
        report::warn(&format!(
            "{object_name}: unlike the new value, the item {item:?} is not bound to the template, so controllers with \
             --require-v2 refuse the object; bind all values with `seal rotate --to v2 --bind-template --key FILE`"
        ));
    }
}

/// Returns the committed version of an object. Searches HEAD at the same path or, if HEAD has no file there, all
/// manifests that the work tree no longer contains. Returns `None` if HEAD does not contain the object, or if the file
/// is not in a repository. If the file, its committed version or the repository cannot be read, prints a warning and
/// returns `None`.
pub(super) fn committed(path: &Path, now: &Found) -> Option<SealedSecret> {
    let committed = read_committed(path, now).unwrap_or_else(|error| {
        report::warn(&format!(
            "{}: the last commit cannot be read, so it is unknown whether it binds the values to the template: {}",
            path.shown(),
            error_chain(error.as_ref())
        ));
        None
    });
    committed.map(|found| found.sealed)
}

fn read_committed(path: &Path, now: &Found) -> Result<Option<Found>> {
    let path = path.canonicalize()?;
    let repository = match Repository::discover(path.parent().unwrap_or(&path)) {
        Err(GitError::NoRepository(_)) => return Ok(None),
        repository => repository?,
    };
    let (Some(head), Some(path_in_tree)) = (
        repository.commit("HEAD"),
        repository.path_in_work_tree(&path),
    ) else {
        return Ok(None);
    };
    match repository.file_at(head, &path_in_tree)? {
        Some(bytes) => find(&path, bytes, now),
        None => committed_elsewhere(&repository, head, now),
    }
}

/// Returns the committed version of `now` in the content of a file; see [`is_same_object`].
fn find(path: &Path, bytes: Zeroizing<Vec<u8>>, now: &Found) -> Result<Option<Found>> {
    // Accept repeated keys: otherwise, a commit with a repeated key would free new values from the template.
    let file = ManifestFile::parse_repeated(path, bytes)?;
    let objects = sealed_file::find(&file.documents)?;
    let is_same = |before: &Found| is_same_object(before, now);
    Ok(objects.into_iter().find(is_same))
}

/// Returns the committed version of `now` in a manifest that the work tree no longer contains, as after a move. Ignores
/// malformed files.
fn committed_elsewhere(
    repository: &Repository,
    commit: ObjectId,
    now: &Found,
) -> Result<Option<Found>> {
    for (file, id) in repository.files(commit)? {
        let path = repository.root().join(&file);
        if !walk::is_manifest_name(&path) || !files::is_absent(&path).unwrap_or(false) {
            continue;
        }
        if let Ok(Some(found)) = find(&path, repository.blob(id)?, now) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
