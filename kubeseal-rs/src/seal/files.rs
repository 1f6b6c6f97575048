//! `seal [FILE…]`: seals Secret manifests to SealedSecret manifests.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::environment::Environment;
use kubeseal_library::format::{Format, write};
use kubeseal_library::walk::{self, Kind, LISTS, ManifestFile, SkippedFiles};
use kubeseal_library::{files, git};
use serde_json::Value as Json;
use shared::manifest::{self, Node, Reading, Shape};
use zeroize::Zeroizing;

use super::sealing::{self, Empty, Sealed};
use super::session::Session;
use super::settings::Settings;
use super::{Outcome, print};
use crate::failure::Failure;
use crate::report;
use crate::report::{ShowPath as _, path_text};
use crate::seal_args::{Sealing, unknown_command_hint};

/// Arguments of `seal [FILE…]`.
#[derive(Debug, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a command-line switch"
)]
pub struct Files {
    /// Files with Secrets, or directories to search; without any, stdin is sealed to stdout
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Replace each plain file with its sealed manifest, instead of writing NAME.sealed.yaml next to it
    #[arg(long, short, conflicts_with_all = ["stdout", "remove_plain", "keep_plain"])]
    pub in_place: bool,
    /// Print the result instead of writing files
    #[arg(long, conflicts_with = "remove_plain")]
    pub stdout: bool,
    /// Remove each plain file after its sealed file is written
    #[arg(long, conflicts_with = "keep_plain")]
    pub remove_plain: bool,
    /// Allow plain files to stay inside a Git work tree
    #[arg(long)]
    pub keep_plain: bool,
    /// With stdin: path where the output will be saved; selects the rule in .seal.yaml
    #[arg(long = "for", value_name = "PATH", conflicts_with = "files")]
    pub for_path: Option<PathBuf>,
    /// Accept a Secret without values
    #[arg(long)]
    pub allow_empty: bool,
    /// Output format: yaml or json; that of the input if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = crate::seal_args::output_format())]
    pub output: Option<Format>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// A plain file and its result.
struct Plan {
    plain: PathBuf,
    /// The file to write; `None` for stdout.
    to: Option<PathBuf>,
    /// The content to write.
    text: Zeroizing<Vec<u8>>,
    sealed: Vec<Sealed>,
    /// Whether to remove the plain file.
    remove_plain: bool,
}

/// Seals Secret manifests. All files are sealed before the first one is written.
///
/// # Errors
///
/// Fails if a file cannot be read or sealed, or if plain values would stay in a Git work tree.
pub fn run(args: &Files, environment: &Environment) -> Result<Outcome> {
    let session = Session::new(&args.sealing, environment);
    if args.files.is_empty() {
        return seal_stdin(&session, args);
    }
    if let [arg, ..] = args.files.as_slice()
        && arg.components().count() == 1
        && arg.extension().is_none()
        && !arg.exists()
    {
        // Most likely a typo, or a command of a similar program.
        let message = format!("{:?} is neither a command nor a file", arg.shown());
        let hint = arg.to_str().and_then(unknown_command_hint);
        let hint = hint.unwrap_or_else(|| "`seal --help` lists the commands".to_owned());
        bail!(Failure::new(message).hint(hint));
    }
    let (mut plans, mut unreadable) = (Vec::new(), 0);
    for candidate in walk::candidates(&args.files, &mut report::notice)? {
        match walk::read(&candidate, Kind::Secret) {
            Ok(None) => {}
            Ok(Some(file)) => plans.push(plan(&session, args, &file)?),
            Err(error) if candidate.named => return Err(error.into()),
            Err(error) => {
                unreadable += 1;
                report::info(&format!("not sealed: {}", shared::error_chain(&error)));
            }
        }
    }
    if plans.is_empty() {
        SkippedFiles::check(unreadable)?;
        bail!(
            Failure::new("no Secret found")
                .hint("pass manifests of kind Secret, or directories that contain them")
        );
    }
    check_outputs_differ(&plans)?;
    if args.stdout {
        let texts: Vec<&[u8]> = plans.iter().map(|plan| plan.text.as_slice()).collect();
        print(&join(&texts, format_of(args, &plans[0].text)))?;
    }
    for plan in &plans {
        execute(plan)?;
    }
    SkippedFiles::check(unreadable)?;
    Ok(Outcome::Done)
}

fn seal_stdin(session: &Session<'_>, args: &Files) -> Result<Outcome> {
    if session.environment.stdin_is_terminal {
        report::info("(reading a Secret manifest from the terminal; see `seal --help` for files)");
    }
    let path = args.for_path.as_deref().unwrap_or(Path::new("stdin"));
    let file = ManifestFile::parse(Path::new("stdin"), files::read_stdin()?)?;
    check_sealable(&file)?;
    let settings = session.settings(path)?;
    let (text, _) = seal_file(session, &settings, args, &file)?;
    print(&text)
}

fn plan(session: &Session<'_>, args: &Files, file: &ManifestFile) -> Result<Plan> {
    let plain = file.path.clone();
    if args.remove_plain && plain.is_symlink() {
        let message = format!(
            "{} is a symbolic link, and --remove-plain would keep its target",
            plain.shown()
        );
        bail!(Failure::new(message).hint("pass the target instead"));
    }
    let to = match (args.in_place, args.stdout) {
        (true, _) => Some(plain.clone()),
        (_, true) => None,
        _ => Some(sealed_path(&plain, args.output)),
    };
    check_sealable(file)?;
    if !args.in_place && !args.remove_plain && !args.keep_plain {
        check_not_in_git(&plain)?;
    }
    let settings = session.settings(to.as_deref().unwrap_or(&plain))?;
    let (text, sealed) = seal_file(session, &settings, args, file)?;
    if let Some(to) = to.as_deref().filter(|to| **to != *plain && to.exists()) {
        check_replaceable(to)?;
    }
    Ok(Plan {
        plain,
        to,
        text,
        sealed,
        remove_plain: args.remove_plain,
    })
}

/// Refuses two files with the same output file, such as `db.yaml` and `db.json` with `-o json`.
fn check_outputs_differ(plans: &[Plan]) -> Result<()> {
    let mut outputs: BTreeMap<PathBuf, &Plan> = BTreeMap::new();
    for plan in plans {
        let Some(to) = &plan.to else { continue };
        if let Some(first) = outputs.insert(canonical(to), plan) {
            let message = format!(
                "{} and {} would both be written to {}",
                first.plain.shown(),
                plan.plain.shown(),
                to.shown()
            );
            bail!(Failure::new(message).hint("seal them one at a time, or rename one of them"));
        }
    }
    Ok(())
}

/// Returns one canonical path for a file, however it was named. The file need not exist.
fn canonical(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|f| !f.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).canonicalize();
    let full_path = directory.map(|directory| directory.join(path.file_name().unwrap_or_default()));
    let full_path = full_path.unwrap_or_else(|_| path.to_owned());
    full_path.canonicalize().unwrap_or(full_path)
}

/// Returns the path of the sealed file: `db.yaml` → `db.sealed.yaml`.
fn sealed_path(plain: &Path, format: Option<Format>) -> PathBuf {
    let ending = match format {
        Some(Format::Json) => OsStr::new("json"),
        Some(Format::Yaml) => OsStr::new("yaml"),
        None => plain.extension().unwrap_or(OsStr::new("yaml")),
    };
    let mut name = plain.file_stem().unwrap_or_default().to_owned();
    name.push(".sealed.");
    name.push(ending);
    plain.with_file_name(name)
}

/// Refuses to keep a plain file that Git could commit.
fn check_not_in_git(plain: &Path) -> Result<()> {
    if let Some(tree) = git::committing_tree(plain) {
        let message = format!(
            "{} would remain in plaintext inside the Git work tree {}",
            plain.shown(),
            tree.shown()
        );
        bail!(Failure::new(message).hint(
            "seal it in place with -i, remove it with --remove-plain, add it to .gitignore, or keep it with \
             --keep-plain"
        ));
    }
    Ok(())
}

/// Checks that a file may be replaced: it must contain SealedSecrets and nothing else.
fn check_replaceable(to: &Path) -> Result<()> {
    let is_sealed = ManifestFile::read(to).is_ok_and(|file| {
        let mut objects = file.objects().peekable();
        objects.peek().is_some() && objects.all(|node| Kind::of(node) == Some(Kind::SealedSecret))
    });
    if !is_sealed {
        let message = format!(
            "{} already exists and is not a SealedSecret manifest",
            to.shown()
        );
        bail!(Failure::new(message).hint("move or delete it"));
    }
    Ok(())
}

fn execute(plan: &Plan) -> Result<()> {
    let Some(to) = &plan.to else { return Ok(()) };
    let is_tracked = plan
        .plain
        .canonicalize()
        .is_ok_and(|plain| git::work_tree(&plain).is_some() && git::is_tracked(&plain));
    files::replace(to, &plan.text)?;
    if plan.remove_plain {
        std::fs::remove_file(&plan.plain)
            .with_context(|| format!("cannot remove {}", plan.plain.shown()))?;
    }
    for sealed in &plan.sealed {
        report::info(&format!("{}: {}", to.shown(), sealed.describe()));
    }
    if is_tracked {
        report::warn(&format!(
            "Git tracks {}, so its plain values may be in the history: replace these values{}",
            plan.plain.shown(),
            stage_hint(plan, to)
        ));
    }
    Ok(())
}

/// Returns a hint to stage the changes; empty if the plain file stays. Until they are staged, Git would commit the
/// plain file that is in its index.
fn stage_hint(plan: &Plan, to: &Path) -> String {
    let mut changed = vec![path_text(to.as_os_str())];
    if plan.remove_plain {
        changed.insert(0, path_text(plan.plain.as_os_str()));
    } else if to != plan.plain {
        return String::new();
    }
    let args = shlex::try_join(changed.iter().map(|path| &**path));
    let args = args.unwrap_or_else(|_| "-u".to_owned());
    format!(", and stage the changes: git add {args}")
}

/// Checks that a file contains Secrets and no repeated keys.
fn check_sealable(file: &ManifestFile) -> Result<()> {
    let path = file.path.shown();
    if file.of_kind(Kind::Secret).next().is_none() {
        if file.of_kind(Kind::SealedSecret).next().is_none() {
            bail!("{path} contains no Secret (apiVersion v1, kind Secret)");
        }
        bail!(Failure::new(format!("{path} is already sealed")).hint(
            "change its values with `seal set` or `seal edit`, or re-encrypt them with `seal rotate`"
        ));
    }
    sealing::refuse_repeated_keys(&file.bytes, &path)
}

/// Returns the text with every Secret sealed. Other documents are kept byte for byte if input and output are YAML and
/// the input can be split, and formatted again otherwise. Comments of the Secrets are removed, since they may reveal
/// values.
fn seal_file(
    session: &Session<'_>,
    settings: &Settings,
    args: &Files,
    file: &ManifestFile,
) -> Result<(Zeroizing<Vec<u8>>, Vec<Sealed>)> {
    let format = format_of(args, &file.bytes);
    let shown = file.path.shown();
    let empty = if args.allow_empty {
        Empty::Allowed
    } else {
        Empty::NeedsFlag
    };
    let mut sealed = Vec::new();
    let mut seal = |node: &Node| -> Result<Vec<Json>> {
        let mut documents = Vec::new();
        for node in node.list_items(&LISTS) {
            let secret = sealing::read_secret(node, &shown)?;
            let sealed_secret = sealing::seal_secret(session, settings, secret, empty)
                .with_context(|| shown.clone())?;
            documents.push(sealed_secret.object.to_document());
            sealed.push(sealed_secret);
        }
        Ok(documents)
    };
    let parts = manifest_parts(file, format).with_context(|| shown.clone())?;
    let mut texts = Vec::new();
    for part in &parts {
        texts.push(match part {
            Part::Secrets(node) => write(&seal(node)?, format),
            Part::Kept(text) => Zeroizing::new(text.clone()),
        });
    }
    let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_slice()).collect();
    Ok((join(&texts, format), sealed))
}

/// The hint for Secrets among other objects.
const SEPARATE_FILE_HINT: &str = "move the Secrets to a separate file";

/// A document in a file, and how to write it.
enum Part<'a> {
    /// A Secret, or a list of Secrets.
    Secrets(&'a Node),
    /// Another document: its original text or, if that cannot be kept, a reformatted text.
    Kept(Vec<u8>),
}

fn manifest_parts(file: &ManifestFile, format: Format) -> Result<Vec<Part<'_>>> {
    let is_same_format = format == detect_format(&file.bytes);
    let texts = (is_same_format && format == Format::Yaml)
        .then(|| split(&file.bytes))
        .flatten();
    let texts = texts.filter(|texts| texts.len() == file.documents.len());
    let mut parts = Vec::new();
    for (i, document) in file.documents.iter().enumerate() {
        let objects = document.root.list_items(&LISTS);
        let secrets = objects
            .iter()
            .filter(|node| Kind::of(node) == Some(Kind::Secret));
        let part = match (secrets.count(), &texts) {
            (count, _) if count > 0 && count == objects.len() => Part::Secrets(&document.root),
            (0, Some(texts)) => Part::Kept(texts[i].as_bytes().to_vec()),
            (0, None) => Part::Kept(reformat(&document.root, format)?),
            _ => bail!(
                Failure::new("cannot seal a list that contains Secrets and other objects")
                    .hint(SEPARATE_FILE_HINT)
            ),
        };
        parts.push(part);
    }
    Ok(parts)
}

/// Formats a document again, if its original text cannot be kept.
fn reformat(root: &Node, format: Format) -> Result<Vec<u8>> {
    let json = Reading::default().json(root, Shape::Any).map_err(|_| {
        Failure::new("the file contains other objects, which cannot be kept unchanged")
            .hint(SEPARATE_FILE_HINT)
    })?;
    Ok(write(&[json], format).to_vec())
}

/// Splits YAML into its non-empty documents, without separators. A `---` line ends a document even inside a block
/// scalar. Returns `None` if the documents cannot be separated at such lines alone.
fn split(bytes: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut texts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let after_dashes = line.strip_prefix("---").map(str::trim_end);
        match (after_dashes, texts.last_mut()) {
            (Some(""), _) => texts.push(String::new()),
            (Some(rest), _) if rest.starts_with([' ', '\t']) => return None,
            (_, Some(last)) => last.push_str(line),
            _ => return None,
        }
    }
    let mut documents = Vec::new();
    for text in texts {
        match manifest::read(text.as_bytes()).ok()?.len() {
            0 => {}
            1 => documents.push(text),
            _ => return None,
        }
    }
    Some(documents)
}

fn join(texts: &[&[u8]], format: Format) -> Zeroizing<Vec<u8>> {
    let mut joined = Zeroizing::new(Vec::new());
    for text in texts {
        if format == Format::Yaml && !joined.is_empty() {
            if !joined.ends_with(b"\n") {
                joined.push(b'\n');
            }
            joined.extend_from_slice(b"---\n");
        }
        joined.extend_from_slice(text);
    }
    joined
}

fn format_of(args: &Files, bytes: &[u8]) -> Format {
    args.output.unwrap_or_else(|| detect_format(bytes))
}

fn detect_format(bytes: &[u8]) -> Format {
    if manifest::begins_like_json(bytes) {
        Format::Json
    } else {
        Format::Yaml
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_sealed_file_next_to_the_plain_file() {
        for (plain, format, want) in [
            ("a/db.yaml", None, "a/db.sealed.yaml"),
            ("db.yml", None, "db.sealed.yml"),
            ("db", None, "db.sealed.yaml"),
            ("db.json", Some(Format::Yaml), "db.sealed.yaml"),
        ] {
            assert_eq!(sealed_path(Path::new(plain), format), Path::new(want));
        }
    }

    #[test]
    fn splits_documents_where_yaml_does() {
        for (text, want) in [
            ("a: 1\n", Some(vec!["a: 1\n"])),
            ("---\na: 1\n---\nb: 2\n", Some(vec!["a: 1\n", "b: 2\n"])),
            ("# c\n---\na: |\n  x\n---\n", Some(vec!["a: |\n  x\n"])),
            ("a: 1\n--- {b: 2}\n", None),
            ("a: 1\n...\nb: 2\n", None),
            ("a: ---b\n", Some(vec!["a: ---b\n"])),
        ] {
            let texts = split(text.as_bytes());
            let want = want.map(|texts| texts.into_iter().map(str::to_owned).collect());
            assert_eq!(texts, want, "{text:?}");
        }
    }
}
