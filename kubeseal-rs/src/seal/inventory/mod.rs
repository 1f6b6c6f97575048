//! `seal inventory`: lists everything that is sealed, in files and in a cluster.

mod columns;
mod csv;
mod html;
mod json;
mod text;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kubeseal_library::certificate;
use kubeseal_library::cluster::{Access, Clusters, Controller as Client, Objects};
use kubeseal_library::environment::Environment;
use kubeseal_library::inventory::live::{self, Live};
use kubeseal_library::inventory::tree::{self, FileObject};
use kubeseal_library::inventory::{KeyTimes, Row, State, Summary, join, redact};
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::walk::{self, SkippedFiles};
use kubeseal_library::{files, kubeconfig};
use shared::error_chain;
use shared::key::Certificate;

use super::destination::refuse_other_file;
use super::session::Session;
use super::{Outcome, keys, output, print};
use crate::failure::Failure;
use crate::report::{self, Paint, ShowPath as _};
use crate::seal_args::{Cluster, Controller, KeyLocation, Sealing};

/// Arguments of `seal inventory`.
#[derive(Debug, Args)]
#[command(
    mut_arg("kubeconfig", |arg| arg.requires("with_cluster")),
    mut_arg("context", |arg| arg.requires("with_cluster")),
    mut_arg("controller_name", |arg| arg.requires("with_cluster")),
    mut_arg("controller_namespace", |arg| arg.requires("with_cluster")),
    after_help = "\
States: ok, pending (the controller has not reported on the newest version), failed, differs (the file
and the cluster have different contents: apply the file, or list only the directory of this cluster),
not-in-cluster (only in a file), no-file (only in the cluster). Keys are those that the objects name,
without verification. The output contains no values. --cluster needs `list` on SealedSecrets; with `list` on
Secrets, it also shows which Secrets exist, and requests only their metadata.

Examples:
  seal inventory
  seal inventory prod --cert cert.pem -o csv
  seal inventory -w inventory.html --redact
  seal inventory prod --cluster --check"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
pub struct Inventory {
    /// Files and directories to list; without any, the current directory or, with --cluster, none
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// List the objects of the cluster too, and the state of each
    #[arg(long = "cluster")]
    pub with_cluster: bool,
    /// List only this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Certificate of a key, to show the age of the key; repeatable
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Vec<OsString>,
    /// Output format: text, json, csv, html; by default that of the extension of the file to write, else text
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<InventoryFormat>,
    /// File to write; stdout if not given
    #[arg(long, short, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Replace an existing file that is not such an inventory
    #[arg(long, requires = "write")]
    pub replace: bool,
    /// Replace the names of objects, namespaces, items, files and authors with pseudonyms
    #[arg(long)]
    pub redact: bool,
    /// Exit with 1 if an object is failed, differs, not-in-cluster or no-file
    #[arg(long)]
    pub check: bool,
    /// Use this rules file instead of .seal.yaml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The cluster to use.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The controller to use.
    #[command(flatten)]
    pub controller: Controller,
}

/// The output format of an inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InventoryFormat {
    /// Human-readable table
    Text,
    /// Machine-readable JSON
    Json,
    /// Comma-separated values (RFC 4180)
    Csv,
    /// A static page with charts, which loads nothing
    Html,
}

/// What an output shows.
struct Listing {
    rows: Vec<Row>,
    times: KeyTimes,
    summary: Summary,
    /// Whether files were read.
    has_files: bool,
    /// Whether a cluster was read.
    has_cluster: bool,
    now: Timestamp,
}

/// Lists everything that is sealed. With `--check`, returns [`Outcome::Findings`] if an object failed, differs, or is
/// only in a file or only in the cluster.
///
/// # Errors
///
/// Fails if the cluster cannot be read, or a file or certificate cannot be read or written. For a file below a
/// directory, the other files are shown first.
pub fn run(args: &Inventory, environment: &Environment) -> Result<Outcome> {
    if args.check && !args.with_cluster {
        bail!(Failure::new("--check compares with the cluster").hint("add --cluster"));
    }
    check_destination(args)?;
    let sealing = Sealing {
        config: args.config.clone(),
        cluster: args.cluster.clone(),
        ..Sealing::default()
    };
    let session = Session::new(&sealing, environment);
    let mut times = certificate_times(&args.cert)?;
    let has_files = !args.with_cluster || !args.paths.is_empty();
    let (files, unreadable_count) = if has_files {
        let (files, unreadable_count) = read_files(args, &session)?;
        add_certificates_of_rules(&session, &files, &mut times);
        (Some(files), unreadable_count)
    } else {
        (None, 0)
    };
    let live = args
        .with_cluster
        .then(|| read_cluster(args, &session.clusters, &mut times));
    let rows = rows(args, files, live.transpose()?);
    let is_finding = rows
        .iter()
        .any(|row| row.state.is_some_and(State::is_finding));
    let listing = Listing {
        summary: Summary::new(&rows, &times, environment.now),
        rows,
        times,
        has_files,
        has_cluster: args.with_cluster,
        now: environment.now,
    };
    show(args, &listing, environment)?;
    SkippedFiles::check(unreadable_count)?;
    Ok(if args.check && is_finding {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

/// Checks that the file may be written, before anything is read.
fn check_destination(args: &Inventory) -> Result<()> {
    let Some(out) = &args.write else {
        return Ok(());
    };
    files::refuse_input_as_output(out, args.cert.iter().map(Path::new))?;
    if !args.replace {
        let is_own = |bytes: &[u8]| args.format().is_of_form(bytes);
        refuse_other_file(out, "an inventory in this format", is_own)?;
    }
    Ok(())
}

impl Inventory {
    /// Returns the format of `-o`; otherwise that of the extension of the file to write, else text.
    fn format(&self) -> InventoryFormat {
        let extension = self.write.as_ref().and_then(|path| path.extension());
        let by_extension = match extension.and_then(OsStr::to_str) {
            Some("json") => InventoryFormat::Json,
            Some("csv") => InventoryFormat::Csv,
            Some("html") => InventoryFormat::Html,
            _ => InventoryFormat::Text,
        };
        self.output.unwrap_or(by_extension)
    }
}

impl InventoryFormat {
    /// Returns whether the content of a file is an inventory in this format. A table cannot be recognized.
    fn is_of_form(self, bytes: &[u8]) -> bool {
        match self {
            Self::Text => false,
            Self::Json => bytes.starts_with(json::START),
            Self::Csv => bytes.starts_with(csv::START),
            Self::Html => bytes
                .windows(html::TITLE.len())
                .any(|part| part == html::TITLE),
        }
    }
}

/// Returns the times of the keys of certificates, which may have expired.
fn certificate_times(sources: &[OsString]) -> Result<KeyTimes> {
    let mut times = KeyTimes::default();
    for source in sources {
        let cannot_use = || format!("cannot use the certificate {}", redacted_source(source));
        let pem = certificate::read(source).with_context(cannot_use)?;
        let certificate = Certificate::from_pem(&pem).with_context(cannot_use)?;
        times.add_certificate(&certificate);
    }
    Ok(times)
}

/// Returns the SealedSecrets in files, and the number of files that cannot be read, after reporting them.
fn read_files(args: &Inventory, session: &Session<'_>) -> Result<(Vec<FileObject>, usize)> {
    report::warn_about_missing_submodules(&args.paths);
    let candidates = walk::candidates(&args.paths, &mut report::notice)?;
    let default = default_namespace(args, session.environment)?;
    let namespace = |path: &Path| {
        let settings = session.settings(path)?;
        let namespace = settings.namespace.map(|namespace| namespace.value);
        Ok(namespace.or_else(|| default.clone()))
    };
    let (mut objects, mut unreadable_count) = (Vec::new(), 0);
    let results = tree::read(&candidates, namespace);
    for (candidate, result) in candidates.iter().zip(results) {
        match result {
            Ok(found) => objects.extend(found),
            Err(error) if candidate.named => return Err(error),
            Err(error) => {
                unreadable_count += 1;
                let problem = walk::without_path(&candidate.path, &error);
                report::info(&format!("{}: not shown: {problem}", candidate.path.shown()));
            }
        }
    }
    tree::set_changes(&mut objects);
    Ok((objects, unreadable_count))
}

/// Adds the times of the certificates that rules name as local files. The others remain unknown.
fn add_certificates_of_rules(session: &Session<'_>, files: &[FileObject], times: &mut KeyTimes) {
    let paths = files.iter().map(|file| file.path.as_path());
    for certificate in session.local_certificates_of_rules(paths) {
        times.add_certificate(&certificate);
    }
}

/// Returns the namespace in which the objects of files without a namespace are created: that of the context. `None`
/// without a cluster.
fn default_namespace(args: &Inventory, environment: &Environment) -> Result<Option<String>> {
    if !args.with_cluster {
        return Ok(None);
    }
    let choice = kubeconfig::Choice {
        file: args.cluster.kubeconfig.clone(),
        context: args.cluster.context.clone(),
    };
    let namespace = kubeconfig::namespace(&choice, environment)?;
    Ok(Some(namespace.unwrap_or_else(|| "default".to_owned())))
}

/// Reads the objects of the cluster, and adds the times of the keys that the controller serves.
fn read_cluster(args: &Inventory, clusters: &Clusters<'_>, times: &mut KeyTimes) -> Result<Live> {
    let location = KeyLocation {
        directory: None,
        cluster: args.cluster.clone(),
        controller: args.controller.clone(),
    };
    let access = keys::access(&location, clusters.environment);
    let objects = Objects::connect(&access, clusters)?;
    let live = live::read(&objects, args.namespace.as_deref())?;
    if live.secrets.is_none() {
        report::warn("no permission to list Secrets, so it is unknown which of them exist");
    }
    add_served_keys(&access, clusters, times);
    Ok(live)
}

/// Adds the times of the keys that the controller serves. Its response is not authenticated, and only informs.
fn add_served_keys(access: &Access, clusters: &Clusters<'_>, times: &mut KeyTimes) {
    let served = Client::find(access, clusters).and_then(|controller| {
        // Bitnami's controller serves only a certificate.
        if let Ok(list) = controller.recipients() {
            times.add_list(&list);
        }
        controller.certificate()
    });
    match served {
        Ok(pem) => {
            if let Ok(certificate) = Certificate::from_pem(&pem) {
                times.add_certificate(&certificate);
            }
        }
        Err(error) => {
            let why = error_chain(&error);
            report::warn(&format!(
                "cannot fetch the controller's certificate, so the ages of keys may be unknown: {why}"
            ));
        }
    }
}

/// Returns the rows to show.
fn rows(args: &Inventory, files: Option<Vec<FileObject>>, live: Option<Live>) -> Vec<Row> {
    let mut rows = join(files, live);
    if let Some(namespace) = &args.namespace {
        rows.retain(|row| row.namespace.as_ref() == Some(namespace));
    }
    if args.redact {
        redact(&mut rows);
    }
    rows
}

fn show(args: &Inventory, listing: &Listing, environment: &Environment) -> Result<()> {
    let paint = Paint::for_stdout(environment);
    let paint = args.write.is_none().then_some(paint);
    let bytes = match args.format() {
        InventoryFormat::Text => text::text(listing, paint).into_bytes(),
        InventoryFormat::Json => output::json(&json::InventoryReport::new(listing))?,
        InventoryFormat::Csv => csv::csv(listing).into_bytes(),
        InventoryFormat::Html => html::html(listing)?.into_bytes(),
    };
    let Some(out) = &args.write else {
        print(&bytes)?;
        return Ok(());
    };
    files::replace(out, &bytes)?;
    let summary = text::summary(listing);
    report::info(&format!("{} written: {summary}", out.shown()));
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use kubeseal_library::cluster::Newest;
    use kubeseal_library::git::{FileCommit, LastChange};
    use kubeseal_library::inventory::live::{Condition, LiveObject};
    use kubeseal_library::inventory::{Content, Delivery};
    use shared::scope::Scope;

    use super::*;

    pub(super) const FINGERPRINT: &str = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";

    pub(super) fn content() -> Content {
        Content {
            items: vec!["password".to_owned()],
            scope: Scope::Strict,
            formats: ["v1 2048".to_owned()].into(),
            keys: [FINGERPRINT.to_owned()].into(),
            delivery: Delivery::Secret,
            rotate_by: None,
            digest: [0; 32],
        }
    }

    /// Returns a listing of one object in a file and in the cluster, and of a malformed object that is only in the
    /// cluster. The author of the file and the name of the object in it are `text`.
    pub(super) fn listing(text: &str) -> Listing {
        let live = |name: &str, content| LiveObject {
            id: ("shop".to_owned(), name.to_owned()),
            content,
            newest: Newest::Failed,
            condition: Some(Condition {
                kind: "Synced",
                status: "False".to_owned(),
                reason: "UnsealFailed".to_owned(),
            }),
            generation: Some(3),
            unsealed_generation: Some(2),
            has_secret: Some(true),
        };
        let file = FileObject {
            path: "db.yaml".into(),
            line: 4,
            namespace: Some("shop".to_owned()),
            name: text.to_owned(),
            content: content(),
            change: Some(LastChange::Commit(FileCommit {
                hash: "0123456789".to_owned(),
                author: text.to_owned(),
                at: Some(Timestamp::UNIX_EPOCH),
            })),
        };
        let cluster = Live {
            objects: vec![live(text, Some(content())), live("zzz", None)],
            secrets: None,
        };
        let rows = join(Some(vec![file]), Some(cluster));
        let (times, now) = (KeyTimes::default(), Timestamp::UNIX_EPOCH);
        Listing {
            summary: Summary::new(&rows, &times, now),
            rows,
            times,
            has_files: true,
            has_cluster: true,
            now,
        }
    }

    #[test]
    fn recognizes_its_own_files() {
        let listing = listing("db");
        let json = output::json(&json::InventoryReport::new(&listing)).unwrap();
        let csv = csv::csv(&listing).into_bytes();
        let html = html::html(&listing).unwrap().into_bytes();
        let files = [
            (InventoryFormat::Json, json),
            (InventoryFormat::Csv, csv),
            (InventoryFormat::Html, html),
        ];
        for (format, _) in &files {
            for (other, bytes) in &files {
                assert_eq!(format.is_of_form(bytes), format == other, "{format:?}");
            }
            assert!(!format.is_of_form(b"a: b\n"), "{format:?}");
        }
    }
}
