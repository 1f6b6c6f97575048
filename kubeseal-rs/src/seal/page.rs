//! `seal page`: writes an HTML page that seals values in the browser, and verifies a published page.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::bounded::Kind;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::rules::SealedFormat;
use page::{ChangedLine, Difference, Page, Pinned};
use serde::Serialize;
use shared::key::{Certificate, Fingerprint};
use zeroize::Zeroizing;

use super::destination::{is_special_file, refuse_other_file};
use super::session::Session;
use super::{Outcome, output, print};
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, path_text, shown};
use crate::seal_args::{Cluster, Controller, OutputFormat, Sealing};

/// The version in the page; each release has its own page.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The path that selects the rule if the page has no file.
const DEFAULT_FILE: &str = "page.html";
/// The title of every version of the page, by which a file is recognized as a page before it is replaced.
const TITLE: &[u8] = b"<title>Seal a Secret</title>";

/// Arguments of `seal page`.
#[derive(Debug, Args)]
#[command(after_help = "\
The page seals in the browser, in the format v1, and sends nothing. Publish it where its users
trust its author: anyone who can change the page can read the values that are typed into it. To
check a published page, download it and pass it to --verify.

Examples:
  seal page --cert cert.pem -o page.html
  seal page --cert cert.pem --verify page.html
  seal page --without-cert > page.html")]
pub struct SealPage {
    /// File to write; stdout if not given
    #[arg(long, short, value_name = "FILE", conflicts_with = "verify")]
    pub out: Option<PathBuf>,
    /// Replace an existing file that is not such a page
    #[arg(long, requires = "out")]
    pub replace: bool,
    /// Compare a published page with the one that this command would write; `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub verify: Option<PathBuf>,
    /// Output format of --verify
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        requires = "verify"
    )]
    pub output: OutputFormat,
    /// Pin no certificate: each user pastes one, or opens its file
    #[arg(
        long,
        conflicts_with_all = [
            "cert", "cert_fingerprint", "config", "kubeconfig", "context", "controller_name", "controller_namespace",
        ]
    )]
    pub without_cert: bool,
    /// The certificate to pin.
    #[command(flatten)]
    pub certificate: PageCertificate,
}

/// The certificate that a page seals for.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Certificate (defaults: .seal.yaml, then SEALED_SECRETS_*, then the cluster)"
)]
pub struct PageCertificate {
    /// Certificate that the page seals for
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Option<OsString>,
    /// Fail unless the certificate has this fingerprint
    #[arg(long, value_name = "SHA256:…")]
    pub cert_fingerprint: Option<Fingerprint>,
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

impl PageCertificate {
    fn sealing(&self) -> Sealing {
        Sealing {
            cert: self.cert.clone(),
            cert_fingerprint: self.cert_fingerprint.clone(),
            config: self.config.clone(),
            cluster: self.cluster.clone(),
            controller: self.controller.clone(),
            ..Sealing::default()
        }
    }
}

/// Writes or verifies a page. Returns [`Outcome::Findings`] if a published page differs.
///
/// # Errors
///
/// Fails if there is no certificate, the certificate cannot be used, or a file cannot be read or written.
pub fn run(args: &SealPage, environment: &Environment) -> Result<Outcome> {
    // Read the page before the certificate is fetched, so that a wrong path is reported first.
    let published = args.verify.as_deref().map(Published::read).transpose()?;
    let certificate = if args.without_cert {
        None
    } else {
        Some(certificate(args, environment)?)
    };
    let pem = certificate.as_ref().map(|certificate| certificate.to_pem());
    let page = Page {
        version: VERSION,
        certificate: pem.as_deref(),
    };
    match (published, &args.out) {
        (Some(published), _) => verify(&published, &page, args.output),
        (None, Some(out)) => write(args, out, &page, certificate.as_deref()),
        (None, None) => print(page.to_html().as_bytes()),
    }
}

/// Returns the certificate that applies to the file of the page.
fn certificate(args: &SealPage, environment: &Environment) -> Result<Arc<Certificate>> {
    let sealing = args.certificate.sealing();
    let session = Session::new(&sealing, environment);
    let settings = session.settings(path_of_rule(args))?;
    if settings.format.value == SealedFormat::V2 {
        let message = "a rule requires the format v2 here, but the page seals v1 only";
        bail!(Failure::new(message).hint(
            "write the page to a directory without such a rule; `seal config explain` shows which rule applies"
        ));
    }
    session.certificate(&settings)
}

/// Returns the path that selects the rule: the file of the page, or [`DEFAULT_FILE`] for stdin, stdout, devices, pipes
/// and sockets. Rules do not apply to files in `/dev`, so such a path would evade the pins and formats of the current
/// directory.
fn path_of_rule(args: &SealPage) -> &Path {
    let file = args.out.as_deref().or(args.verify.as_deref());
    let file = file.filter(|file| {
        *file != Path::new("-") && !file.starts_with("/dev") && !is_special_file(file)
    });
    file.unwrap_or(Path::new(DEFAULT_FILE))
}

fn write(
    args: &SealPage,
    out: &Path,
    page: &Page<'_>,
    certificate: Option<&Certificate>,
) -> Result<Outcome> {
    let inputs = args.certificate.cert.iter().map(Path::new);
    files::refuse_input_as_output(out, inputs)?;
    if !args.replace {
        let is_page = |bytes: &[u8]| bytes.windows(TITLE.len()).any(|part| part == TITLE);
        refuse_other_file(out, "a page of this command", is_page)?;
    }
    files::replace(out, page.to_html().as_bytes())?;
    let pinned = certificate.map_or_else(
        || "without a certificate".to_owned(),
        |certificate| {
            let until = date(certificate.not_after());
            format!("for {}, until {until}", certificate.fingerprint())
        },
    );
    report::info(&format!("{} written: {pinned}", out.shown()));
    Ok(Outcome::Done)
}

fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// A published page.
struct Published<'a> {
    path: &'a Path,
    bytes: Zeroizing<Vec<u8>>,
}

impl<'a> Published<'a> {
    /// Reads the page from a file, or from stdin if the path is `-`.
    fn read(path: &'a Path) -> Result<Self> {
        let bytes = if path == Path::new("-") {
            files::read_stdin_as(Kind::Page)?
        } else {
            files::read_as(path, Kind::Page)?
        };
        Ok(Self { path, bytes })
    }
}

fn verify(published: &Published<'_>, page: &Page<'_>, output: OutputFormat) -> Result<Outcome> {
    let difference = page::compare(&published.bytes, page);
    let report = PageReport::new(published.path, page, difference.as_ref());
    match output {
        OutputFormat::Text => report::info_lines(&report.text()),
        OutputFormat::Json => {
            print(&output::json(&report)?)?;
        }
    }
    Ok(match difference {
        None => Outcome::Done,
        Some(_) => Outcome::Findings,
    })
}

/// The output of `seal page --verify`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PageReport {
    /// The path of the published page.
    file: String,
    /// Whether the page is identical to the expected page, byte by byte.
    is_equal: bool,
    /// The version of this program.
    version: &'static str,
    /// The version that the page names; absent if it is the version of this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    published_version: Option<String>,
    /// The fingerprint of the expected certificate; null with `--without-cert`.
    fingerprint: Option<String>,
    /// The fingerprint of the certificate in the page, `none` or `unreadable`; absent if it is the expected
    /// certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    published_certificate: Option<String>,
    /// The first line that differs by more than version and certificate; absent if there is none, or if the page names
    /// another version.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_line: Option<LineReport>,
}

/// A line that differs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LineReport {
    /// The number of the line.
    number: usize,
    /// The beginning of the expected line; null if the published page is longer.
    expected: Option<String>,
    /// The beginning of the published line; null if the published page is shorter.
    published: Option<String>,
}

impl PageReport {
    fn new(published: &Path, page: &Page<'_>, difference: Option<&Difference>) -> Self {
        let pinned = difference.and_then(|difference| difference.pinned.as_ref());
        let line = difference.and_then(|difference| difference.line.clone());
        Self {
            file: path_text(published.as_os_str()).into_owned(),
            is_equal: difference.is_none(),
            version: VERSION,
            published_version: difference.and_then(|difference| difference.version.clone()),
            fingerprint: page.certificate.and_then(fingerprint),
            published_certificate: pinned.map(describe),
            changed_line: line.map(LineReport::from),
        }
    }

    fn text(&self) -> String {
        let file = shown(&self.file);
        if self.is_equal {
            let pinned = self.fingerprint.as_deref().map_or_else(
                || "without a certificate".to_owned(),
                |fingerprint| format!("for {fingerprint}"),
            );
            return format!("{file} is the page of version {VERSION}, {pinned}");
        }
        let lines = [
            self.version_text(),
            self.certificate_text(),
            self.line_text(),
        ];
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        format!("{file} differs: {}", lines.join("\n"))
    }

    fn version_text(&self) -> Option<String> {
        let published = shown(self.published_version.as_deref()?).into_owned();
        Some(format!(
            "it names the version {published:?}, but this is {VERSION}; its content was not checked\n\
             hint: verify it with `seal` of the version that wrote it, or publish the page again"
        ))
    }

    fn certificate_text(&self) -> Option<String> {
        let published = match self.published_certificate.as_deref()? {
            "none" => "no certificate".to_owned(),
            "unreadable" => "something that is not a certificate".to_owned(),
            fingerprint => format!("the certificate {fingerprint}"),
        };
        let expected = self.fingerprint.as_deref().unwrap_or("no certificate");
        Some(format!(
            "it has {published} instead of {expected}\n\
             hint: if the key was renewed, publish the page again; otherwise its users seal for another key"
        ))
    }

    fn line_text(&self) -> Option<String> {
        let LineReport {
            number,
            expected,
            published,
        } = self.changed_line.as_ref()?;
        let text = |line: Option<&str>| match line {
            Some(line) => format!("{:?}", shown(line)),
            None => "nothing".to_owned(),
        };
        Some(format!(
            "its content was changed: line {number} is {} instead of {}\n\
             hint: do not use this page; anyone who changed it can read the values that are typed into it",
            text(published.as_deref()),
            text(expected.as_deref())
        ))
    }
}

impl From<ChangedLine> for LineReport {
    fn from(line: ChangedLine) -> Self {
        let ChangedLine {
            number,
            expected,
            published,
        } = line;
        Self {
            number,
            expected,
            published,
        }
    }
}

fn describe(pinned: &Pinned) -> String {
    match pinned {
        Pinned::None => "none".to_owned(),
        Pinned::Text(pem) => fingerprint(pem).unwrap_or_else(|| "unreadable".to_owned()),
    }
}

fn fingerprint(pem: &str) -> Option<String> {
    let certificate = Certificate::from_pem(pem.as_bytes()).ok()?;
    Some(certificate.fingerprint().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::output::tests::check;

    #[test]
    fn the_report_has_the_documented_form() {
        let report = PageReport {
            file: "page.html".to_owned(),
            is_equal: false,
            version: "1.0.0",
            published_version: Some("2.0.0".to_owned()),
            fingerprint: Some("SHA256:x".to_owned()),
            published_certificate: Some("none".to_owned()),
            changed_line: Some(LineReport {
                number: 7,
                expected: Some("a".to_owned()),
                published: None,
            }),
        };
        let want = r#"{
  "file": "page.html",
  "isEqual": false,
  "version": "1.0.0",
  "publishedVersion": "2.0.0",
  "fingerprint": "SHA256:x",
  "publishedCertificate": "none",
  "changedLine": {
    "number": 7,
    "expected": "a",
    "published": null
  }
}
"#;
        check("seal page --verify", &report, want);
    }
}
