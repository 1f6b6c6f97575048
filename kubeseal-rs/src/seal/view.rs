//! `seal view`: shows the contents of sealed files; with a key or permission to read the Secret, also the values.

mod json;
mod v2;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::environment::Environment;
use kubeseal_library::format::Format;
use kubeseal_library::git::{self, SealedValue};
use kubeseal_library::walk::{self, Candidate, Kind, SkippedFiles};
use shared::base64;
use shared::is_hidden;
use shared::plain::Plain;
use zeroize::Zeroizing;

use super::in_cluster::Values;
use super::object::{Form, Item, Object};
use super::recipients::KeyComments;
use super::revealer::Revealer;
use super::session::Session;
use super::{Outcome, output, print};
use crate::failure::Failure;
use crate::report;
use crate::report::{ShowPath as _, path_text, shown};
use crate::seal_args::{Cluster, Sealing};

/// Arguments of `seal view`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --reveal only the file is needed, and no value is shown. The age of an item is that of its ciphertext in Git.

Examples:
  seal view db.sealed.yaml
  seal view -o json db.sealed.yaml
  seal view --reveal --key key.pem db.sealed.yaml")]
pub struct View {
    /// Files and directories to show; the current directory if none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print values: decrypted with --key, else read from the Secret in the cluster if you have permission
    #[arg(long)]
    pub reveal: bool,
    /// Decrypt with these private keys (PEM, key Secrets, or v2 keys, one per line); repeatable
    #[arg(long, value_name = "FILE", requires = "reveal")]
    pub key: Vec<PathBuf>,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = crate::seal_args::output_format())]
    pub output: Option<Format>,
    /// The cluster with the Secrets; by default, the cluster of `.seal.yaml` or the environment.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// An object and its file.
struct ObjectView {
    path: PathBuf,
    file: String,
    object: Object,
    /// The age of each item, in days; `None` if it is unknown, as for an item that is not committed. Empty until
    /// [`set_ages`].
    ages: Vec<Option<i64>>,
    /// Values by item key; `None` without `--reveal`.
    values: Option<Values>,
    /// The comments of the recipients in the rule, by key.
    comments: KeyComments,
}

/// Shows the contents of sealed files; with `--reveal`, also the values.
///
/// # Errors
///
/// Fails if a file cannot be read, or a value cannot be decrypted.
pub fn run(args: &View, environment: &Environment) -> Result<Outcome> {
    let sealing = Sealing {
        cluster: args.cluster.clone(),
        ..Sealing::default()
    };
    let session = Session::new(&sealing, environment);
    let revealer = args.reveal.then(|| Revealer::new(&args.key, &session));
    let revealer = revealer.transpose()?;
    let mut views = Vec::new();
    let mut unreadable_count = 0;
    report::warn_about_missing_submodules(&args.paths);
    for candidate in walk::candidates(&args.paths, &mut report::notice)? {
        match read_file(&candidate, &session, revealer.as_ref()) {
            Ok(file_views) => views.extend(file_views),
            Err(error) if candidate.named => return Err(error),
            Err(error) => {
                unreadable_count += 1;
                let problem = walk::without_path(&candidate.path, &error);
                report::info(&format!("{}: not shown: {problem}", candidate.path.shown()));
            }
        }
    }
    if views.is_empty() {
        SkippedFiles::check(unreadable_count)?;
        bail!(
            Failure::new("no SealedSecret found")
                .hint("pass sealed files, or a directory that contains them")
        );
    }
    set_ages(&mut views, environment.now);
    if matches!(revealer, Some(Revealer::Cluster(_))) {
        report::info(
            "values come from the Secrets in the cluster; a file that is not applied may contain other values",
        );
    }
    let text = if let Some(format) = args.output {
        let reports: Vec<_> = views.iter().map(json::ObjectReport::new).collect();
        output::documents(&reports, format)?
    } else {
        let texts: Vec<_> = views.iter().map(text).collect();
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        Zeroizing::new(texts.concat())
    };
    print(&text)?;
    SkippedFiles::check(unreadable_count)?;
    Ok(Outcome::Done)
}

/// Returns the SealedSecrets in a file, with their values if there is a revealer.
fn read_file(
    candidate: &Candidate,
    session: &Session<'_>,
    revealer: Option<&Revealer<'_>>,
) -> Result<Vec<ObjectView>> {
    let path = &candidate.path;
    let Some(file) = walk::read(candidate, Kind::SealedSecret)? else {
        return Ok(Vec::new());
    };
    let view_object = |node| {
        let object = Object::read(node).with_context(|| path.shown())?;
        let values = revealer.map(|revealer| revealer.values(&object.sealed, path));
        Ok(ObjectView {
            path: path.clone(),
            file: path_text(path.as_os_str()).into_owned(),
            ages: Vec::new(),
            values: values.transpose().with_context(|| path.shown())?,
            comments: v2::comments(&object, session, path),
            object,
        })
    };
    file.of_kind(Kind::SealedSecret).map(view_object).collect()
}

/// Sets the ages of all items, in one pass over Git's history.
fn set_ages(views: &mut [ObjectView], now: Timestamp) {
    let items = views.iter().flat_map(|view| {
        let texts = view.object.texts();
        let dated = move |item: &Item| SealedValue {
            file: &view.path,
            text: texts.get(&item.key).map_or("", String::as_str),
        };
        view.object.items.iter().map(dated)
    });
    let mut times = git::commit_times(&items.collect::<Vec<_>>()).into_iter();
    for view in views {
        let times = times.by_ref().take(view.object.items.len());
        view.ages = times.map(|time| Some(days(time?, now))).collect();
    }
}

fn days(committed: Timestamp, now: Timestamp) -> i64 {
    (now.as_second() - committed.as_second()) / (24 * 60 * 60)
}

fn text(view: &ObjectView) -> Zeroizing<String> {
    let object = &view.object;
    let type_ = object
        .sealed
        .spec
        .template
        .type_
        .as_deref()
        .unwrap_or("Opaque");
    let mut text = Zeroizing::new(format!(
        "{}:{}: {} ({}, {})\n",
        shown(&view.file),
        object.line,
        shown(&object.sealed.qualified_name()),
        object.scope,
        shown(type_)
    ));
    let width = object
        .items
        .iter()
        .map(|item| shown(&item.key).chars().count())
        .max()
        .unwrap_or(0);
    for (i, item) in object.items.iter().enumerate() {
        let details = [
            Some(form(&item.form)),
            item.hint.as_ref().map(|hint| format!("sealed for {hint}")),
            object
                .rotate_by
                .dates
                .get(&item.key)
                .map(|due| format!("rotate by {}", due.date)),
            view.ages.get(i).copied().flatten().map(age_text),
        ];
        let details: Vec<String> = details.into_iter().flatten().collect();
        text.extend([format!(
            "  {:<width$}  {}\n",
            shown(&item.key),
            details.join(", ")
        )]);
        if let Some(values) = &view.values {
            reveal(&mut text, values.get(&item.key).and_then(Option::as_ref));
        }
    }
    for key in object.templates() {
        text.extend([format!("  {:<width$}  template\n", shown(key))]);
    }
    text.extend(v2::lines(view));
    text
}

fn reveal(text: &mut Zeroizing<String>, value: Option<&Plain>) {
    let unknown = || Zeroizing::new("(not in the Secret)".to_owned());
    for line in value.map_or_else(unknown, value_text).lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
}

fn form(form: &Form) -> String {
    match form {
        Form::Bits(bits) => format!("{bits} bits"),
        Form::V2(view) => v2::text(view),
        Form::MalformedV2 => "malformed: v2".into(),
        Form::NotString => "malformed: not a string".into(),
        Form::NotSealed(why) => why.to_string(),
    }
}

fn age_text(days: i64) -> String {
    match days {
        0 => "committed today".into(),
        1 => "committed yesterday".into(),
        _ => format!("committed {days} days ago"),
    }
}

/// Formats a value. Text whose only hidden characters are line breaks and tabs stays unchanged; other values are
/// encoded as base64, such as those with control characters, invisible characters or characters that change the
/// direction of text.
fn value_text(value: &Plain) -> Zeroizing<String> {
    let is_text = |text: &&str| !text.chars().any(|c| is_hidden(c) && c != '\n' && c != '\t');
    match std::str::from_utf8(value.expose()).ok().filter(is_text) {
        Some(text) => Zeroizing::new(text.to_owned()),
        None => Zeroizing::new(format!("base64:{}", base64::encode(value.expose()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: an author seals a value with characters that control the terminal, are invisible or change the direction
    /// of text, so that a person who reads it sees another value.
    #[test]
    fn shows_values_with_hidden_characters_as_base64() {
        for (value, is_text) in [
            ("a b\tc\nd", true),
            ("größe \u{65e5}\u{1f600}", true),
            ("a\u{1b}[2J", false),
            ("a\u{9b}b", false),
            ("a\u{202e}b", false),
            ("a\u{2066}b", false),
            ("a\u{200b}b", false),
            ("a\u{2028}b", false),
            ("a\u{feff}", false),
            ("a\u{ad}b", false),
            ("\u{e0041}", false),
        ] {
            let text = value_text(&Plain::from(value.to_owned()));
            assert_eq!(*text == value, is_text, "{value:?}");
            assert_eq!(text.starts_with("base64:"), !is_text, "{value:?}");
        }
    }
}
