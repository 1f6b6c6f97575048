//! Reads a certificate from a file or a URL.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ureq::tls::RootCerts;
use zeroize::Zeroizing;

use crate::bounded::Kind;
use crate::files::{self, FileError};
use crate::redacted::{redacted, redacted_source};
use crate::shown::ShowPath as _;
use crate::web;

/// Why a certificate cannot be read from its source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file of a `file://` URL does not exist. The message equals upstream's, since scripts may match it.
    #[error("cannot fetch {uri:?}: 404 Not Found")]
    Missing {
        /// The URL, without credentials.
        uri: String,
        /// Why the file cannot be read.
        source: FileError,
    },
    /// The server responded with a code other than 200.
    #[error("cannot fetch {uri:?}: {status}{}", if line.is_empty() { String::new() } else { format!(", {line:?}") })]
    Status {
        /// The URL, without credentials.
        uri: String,
        /// The status code and the reason phrase.
        status: String,
        /// The first line of a text response, at most 300 characters; may be empty.
        line: String,
    },
    /// The server did not respond, or its response cannot be read to its end within the size limit.
    #[error("cannot fetch {uri:?}")]
    Fetch {
        /// The URL, without credentials.
        uri: String,
        /// The HTTP client's error.
        source: Box<ureq::Error>,
    },
    /// A redirect is not allowed, or exceeds the limit of redirects.
    #[error("cannot fetch {uri:?}: it redirects to {to:?}, {why}")]
    Redirect {
        /// The URL, without credentials.
        uri: String,
        /// The target, without credentials.
        to: String,
        /// Why the redirect is refused.
        why: &'static str,
    },
    /// A rule names a file outside its tree.
    #[error(
        "the rule names the certificate {}, which is not in {}: a rule may only name files in its own tree\n\
         hint: if you trust the certificate, pass it with --cert",
        path.shown(), tree.shown()
    )]
    OutsideTree {
        /// The certificate that the rule names.
        path: PathBuf,
        /// The root of the tree.
        tree: PathBuf,
    },
    /// A rule names a `file://` URL or, without a fingerprint, an `http://` URL of another machine.
    #[error(
        "the rule names the certificate {uri:?}: a rule may name files in its own tree, https:// URLs, and http:// \
         URLs of this machine or with a fingerprint\n\
         hint: if you trust the certificate, pass it with --cert"
    )]
    NotByRule {
        /// The URL, without credentials.
        uri: String,
    },
    /// The URL scheme is not supported.
    #[error(
        "cannot fetch {uri:?}: unsupported protocol scheme {scheme:?}\n\
         hint: pass a file, or a URL that begins with file://, http:// or https://"
    )]
    Scheme {
        /// The URL, without credentials.
        uri: String,
        /// The unsupported scheme.
        scheme: String,
    },
}

/// Reads `--cert`: a file name, or a URL with `file://`, `http://` or `https://`. HTTPS uses the
/// system's root certificates; proxies come from the environment.
///
/// # Errors
///
/// Returns a [`SourceError`] if the content cannot be read.
pub fn read(source: &OsStr) -> Result<Vec<u8>, SourceError> {
    match url(source) {
        Some((scheme, url)) => read_url(&scheme, url),
        None => match files::read_as(Path::new(source), Kind::Certificate) {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(error) => Err(error.shown_as(&redacted_source(source)).into()),
        },
    }
}

fn read_url(scheme: &str, source: &str) -> Result<Vec<u8>, SourceError> {
    match scheme {
        "file" => match files::read_as(&file_path(source), Kind::Certificate) {
            Err(error) if error.is_missing() => Err(SourceError::Missing {
                uri: redacted(source).into_owned(),
                source: error,
            }),
            read => Ok(read?.to_vec()),
        },
        "http" | "https" => fetch(source, Redirects::Anywhere),
        other => Err(SourceError::Scheme {
            uri: redacted(source).into_owned(),
            scheme: other.to_owned(),
        }),
    }
}

/// The location of a rule that names a certificate, and whether the rule pins the certificate.
#[derive(Debug, Clone, Copy)]
pub struct RuleContext<'a> {
    /// The directory of the rule's file. Relative paths start there.
    pub directory: &'a Path,
    /// The root of the tree that the rules apply to.
    pub tree: &'a Path,
    /// Whether the rule also contains the fingerprint of the certificate.
    pub is_pinned: bool,
}

/// Like [`read`], for a source that a rule names. Rules are untrusted, so a file has to be a regular file in the rule's
/// tree, and a URL whose content could be replaced in transit is refused unless the rule pins the certificate.
///
/// # Errors
///
/// Fails like [`read`], and also for a file outside the tree or not regular, `file://`, a redirect to another host, and
/// for `http://` unless the certificate is pinned or the server is this machine.
pub fn read_named_by_rule(source: &OsStr, rule: RuleContext<'_>) -> Result<Vec<u8>, SourceError> {
    let Some((scheme, source)) = url(source) else {
        return read_in_tree(source, rule);
    };
    match scheme.as_str() {
        "http" if rule.is_pinned || is_loopback_url(source) => fetch(source, Redirects::SameHost),
        "https" => fetch(source, Redirects::SameHost),
        "file" | "http" => Err(SourceError::NotByRule {
            uri: redacted(source).into_owned(),
        }),
        scheme => read_url(scheme, source),
    }
}

fn read_in_tree(source: &OsStr, rule: RuleContext<'_>) -> Result<Vec<u8>, SourceError> {
    let path = rule.directory.join(source);
    let name = redacted_source(path.as_os_str());
    // Check the target of a symbolic link.
    let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
    let tree = rule.tree.canonicalize();
    if !tree.is_ok_and(|tree| resolved.starts_with(tree)) {
        return Err(SourceError::OutsideTree {
            path: name.into_owned().into(),
            tree: rule.tree.to_owned(),
        });
    }
    match files::read_regular(&resolved, Kind::Certificate.limit()) {
        Ok(bytes) => Ok(files::text(bytes).to_vec()),
        Err(error) => Err(error.shown_as(&name).into()),
    }
}

fn is_loopback_url(url: &str) -> bool {
    let uri = url.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

/// Returns whether the string is a URL rather than a file name.
pub fn is_url(source: &OsStr) -> bool {
    url(source).is_some()
}

/// Returns the scheme of a URL and the URL as a string; `None` for a path.
fn url(source: &OsStr) -> Option<(String, &str)> {
    let text = source.to_str()?;
    Some((scheme(text)?, text))
}

/// Returns the scheme of a URL, in lower case. A single letter is a Windows drive, not a scheme.
fn scheme(source: &str) -> Option<String> {
    let (scheme, _) = source.split_once(':')?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(allowed);
    is_scheme.then(|| scheme.to_ascii_lowercase())
}

/// Returns the path of a `file://` URL. As upstream does, ignores a host.
fn file_path(uri: &str) -> PathBuf {
    let location = uri
        .split_once(':')
        .map_or(uri, |(_, location)| location)
        .trim_start_matches("//");
    let path = location.find('/').map_or(location, |at| &location[at..]);
    PathBuf::from(percent_decode(path))
}

/// Decodes percent escapes. A percent sign that begins no valid escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut remaining = text;
    while let Some(start) = remaining.find('%') {
        let escape = remaining
            .get(start + 1..start + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.extend_from_slice(&remaining.as_bytes()[..start]);
        bytes.push(escape.unwrap_or(b'%'));
        remaining = &remaining[start + if escape.is_some() { 3 } else { 1 }..];
    }
    bytes.extend_from_slice(remaining.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The redirects to follow. A redirect from https:// to http:// is never followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Redirects {
    /// Any host: the user named the URL.
    Anywhere,
    /// Only the same host, because a rule named the URL.
    SameHost,
}

/// The maximum number of redirects.
const MAX_REDIRECTS: usize = 10;

fn fetch(uri: &str, redirects: Redirects) -> Result<Vec<u8>, SourceError> {
    let mut current = uri.to_owned();
    for _ in 0..=MAX_REDIRECTS {
        let to_error = |source| SourceError::Fetch {
            uri: redacted(&current).into_owned(),
            source: Box::new(web::without_url(source)),
        };
        let request = web::agent(&current, RootCerts::PlatformVerifier).get(&current);
        let request = request.config().max_redirects(0).build();
        let response = request.call().map_err(to_error)?;
        let location = response.headers().get(http::header::LOCATION);
        let location = location.filter(|_| response.status().is_redirection());
        let Some(location) = location.and_then(|location| location.to_str().ok()) else {
            return read_content(&current, response);
        };
        let target = join_location(&current, location);
        if let Err(why) = check_redirect(&current, &target, redirects) {
            return Err(SourceError::Redirect {
                uri: redacted(&current).into_owned(),
                to: redacted(&target).into_owned(),
                why,
            });
        }
        current = target;
    }
    Err(SourceError::Redirect {
        uri: redacted(uri).into_owned(),
        to: redacted(&current).into_owned(),
        why: "which exceeds the limit of 10 redirects",
    })
}

/// Returns the target of a redirect, which may be relative.
fn join_location(from: &str, location: &str) -> String {
    let (scheme, address) = from.split_once("://").unwrap_or(("http", from));
    let (authority, path) =
        address.split_at(address.find(['/', '?', '#']).unwrap_or(address.len()));
    if is_url(location.as_ref()) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let directory = path.rfind('/').map_or("/", |end| &path[..=end]);
        format!("{scheme}://{authority}{directory}{location}")
    }
}

fn check_redirect(from: &str, to: &str, redirects: Redirects) -> Result<(), &'static str> {
    let host = |uri: &str| {
        let uri = uri.parse::<http::Uri>().ok();
        uri.and_then(|uri| uri.host().map(str::to_ascii_lowercase))
    };
    match (scheme(from).as_deref(), scheme(to).as_deref()) {
        (_, Some("https")) | (Some("http"), Some("http")) => {}
        (_, Some("http")) => {
            return Err(
                "which is unencrypted, so that the certificate could be replaced in transit",
            );
        }
        _ => return Err("which is neither an http:// nor an https:// URL"),
    }
    let is_same_host = host(from).is_some() && host(from) == host(to);
    if redirects == Redirects::SameHost && !is_same_host {
        return Err("which is not the host that the rule names");
    }
    Ok(())
}

fn read_content(
    uri: &str,
    mut response: http::Response<ureq::Body>,
) -> Result<Vec<u8>, SourceError> {
    let to_error = |source| SourceError::Fetch {
        uri: redacted(uri).into_owned(),
        source: Box::new(web::without_url(source)),
    };
    if response.status() != 200 {
        return Err(SourceError::Status {
            uri: redacted(uri).into_owned(),
            status: response.status().to_string(),
            line: first_line(response.body_mut()),
        });
    }
    let body = response.body_mut().with_config();
    let bytes = body.limit(Kind::Certificate.limit()).read_to_vec();
    Ok(files::text(Zeroizing::new(bytes.map_err(to_error)?)).to_vec())
}

/// Returns the first line of a text body, truncated to 300 characters; empty for HTML, XML, and a body that cannot be
/// read within 64 KiB.
fn first_line(body: &mut ureq::Body) -> String {
    let text = body.with_config().limit(64 * 1024).read_to_string();
    let text = text.unwrap_or_default();
    let line = text.trim().lines().next().unwrap_or_default();
    let line = if line.starts_with('<') { "" } else { line };
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_files_from_urls() {
        for (source, want) in [
            ("cert.pem", None),
            ("/etc/cert.pem", None),
            ("C:\\cert.pem", None),
            ("", None),
            ("1:cert.pem", None),
            ("file:///cert.pem", Some("file")),
            ("https://host/cert.pem", Some("https")),
            ("ftp://host/cert.pem", Some("ftp")),
            ("FILE:///cert.pem", Some("file")),
        ] {
            assert_eq!(scheme(source).as_deref(), want, "{source}");
        }
    }

    /// Attack: a committer writes a rule whose certificate is a file outside the tree (by a path, a link or a `file:`
    /// URL) or a URL whose content an attacker in the network could replace.
    #[test]
    fn refuses_a_certificate_outside_the_tree_of_its_rule() {
        let outside = tempfile::tempdir().unwrap();
        let tree = tempfile::tempdir().unwrap();
        let directory = tree.path().join("apps");
        std::fs::create_dir(&directory).unwrap();
        let outside_cert = outside.path().join("cert.pem");
        for path in [
            &outside_cert,
            &tree.path().join("cert.pem"),
            &directory.join("own.pem"),
        ] {
            std::fs::write(path, "x").unwrap();
        }
        #[cfg(unix)]
        for (link, to) in [
            ("link.pem", outside_cert.as_path()),
            ("way", outside.path()),
        ] {
            std::os::unix::fs::symlink(to, directory.join(link)).unwrap();
        }
        let outside_cert = outside_cert.display().to_string();
        let relative = format!(
            "../../{}/cert.pem",
            outside.path().file_name().unwrap().display()
        );
        let url = format!("file://{outside_cert}");
        for is_pinned in [false, true] {
            let rule = RuleContext {
                directory: &directory,
                tree: tree.path(),
                is_pinned,
            };
            for source in [
                outside_cert.as_str(),
                &relative,
                "link.pem",
                "way/cert.pem",
                &url,
                "FILE:cert.pem",
            ] {
                let error = read_named_by_rule(source.as_ref(), rule).unwrap_err();
                assert!(error.to_string().contains("--cert"), "{source}: {error}");
            }
            for source in ["own.pem", "../cert.pem", "./own.pem"] {
                assert_eq!(
                    read_named_by_rule(source.as_ref(), rule).unwrap(),
                    b"x",
                    "{source}"
                );
            }
            // No server listens at these addresses.
            for (source, may_fetch) in [
                ("http://127.0.0.1:1/cert.pem", true),
                ("http://[::1]:1/cert.pem", true),
                ("http://localhost:1/cert.pem", true),
                ("http://localhost.invalid/cert.pem", is_pinned),
                ("HTTP://127.0.0.1.invalid/cert.pem", is_pinned),
                ("http://localhost@sealer.invalid/cert.pem", is_pinned),
            ] {
                let error = read_named_by_rule(source.as_ref(), rule).unwrap_err();
                let is_fetched = matches!(error, SourceError::Fetch { .. });
                assert_eq!(is_fetched, may_fetch, "{source}: {error}");
            }
        }
    }

    /// Serves the same response to every request, and returns the server's address.
    fn serve(host: &str, response: String) -> String {
        use std::io::{BufRead as _, BufReader, Write as _};
        let listener = std::net::TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let head = BufReader::new(stream.try_clone().unwrap()).lines();
                head.map_while(Result::ok).find(String::is_empty);
                let _ = stream.write_all(response.as_bytes());
            }
        });
        address
    }

    fn redirect(to: &str) -> String {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }

    /// Attack: a committer writes a rule that names a permitted server, which redirects to another host.
    #[cfg(target_os = "linux")]
    #[test]
    fn refuses_a_redirect_of_a_rules_url_to_another_host() {
        let body = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
        let other_host = format!("http://{}/cert.pem", serve("127.0.0.2", body.into()));
        let same_host = format!("http://{}/cert.pem", serve("127.0.0.1", body.into()));
        let directory = tempfile::tempdir().unwrap();
        for is_pinned in [false, true] {
            let rule = RuleContext {
                directory: directory.path(),
                tree: directory.path(),
                is_pinned,
            };
            for (target, is_followed) in [(&other_host, false), (&same_host, true)] {
                let direct = serve("127.0.0.1", redirect(target));
                let indirect = serve("127.0.0.1", redirect(&format!("http://{direct}/")));
                for server in [direct, indirect] {
                    let source = format!("http://{server}/cert.pem");
                    let read_by_rule = read_named_by_rule(source.as_ref(), rule);
                    assert_eq!(
                        read_by_rule.is_ok(),
                        is_followed,
                        "{source} to {target}: {read_by_rule:?}"
                    );
                    assert_eq!(read(source.as_ref()).unwrap(), b"x", "the user may name it");
                }
            }
        }
    }

    /// Attack: an HTTPS server redirects to http://, where an attacker in the network can replace the certificate.
    #[test]
    fn refuses_redirects_to_http_and_those_of_a_rule_to_another_host() {
        for (from, location, for_user, for_rule) in [
            ("https://a/x", "http://a/x", false, false),
            ("https://a/x", "HTTP://a/x", false, false),
            ("HTTPS://a/x", "http://a/x", false, false),
            ("https://a/x", "http://127.0.0.1/x", false, false),
            ("https://a/x", "file:///etc/x", false, false),
            ("https://a/x", "ftp://a/x", false, false),
            ("https://a/x", "https://b/x", true, false),
            ("https://a/x", "//b/x", true, false),
            ("https://a/x", "https://a@b/x", true, false),
            ("https://a/x", "https://a.b/x", true, false),
            ("https://a/x", "https://A/y", true, true),
            ("https://a/x", "https://a:444/y", true, true),
            ("https://a/x", "/y", true, true),
            ("https://a/x", "y", true, true),
            ("http://a/x", "http://a/y", true, true),
            ("http://a/x", "https://a/y", true, true),
            ("http://a/x", "http://b/y", true, false),
            ("http://a/x", "https://b/y", true, false),
        ] {
            let to = join_location(from, location);
            for (redirects, want) in [
                (Redirects::Anywhere, for_user),
                (Redirects::SameHost, for_rule),
            ] {
                let is_followed = check_redirect(from, &to, redirects).is_ok();
                assert_eq!(is_followed, want, "{from} to {location} ({redirects:?})");
            }
        }
    }

    #[test]
    fn joins_the_target_of_a_redirect() {
        for (from, location, want) in [
            ("https://a/b/c?d", "/e", "https://a/e"),
            ("https://a/b/c?d=/e", "f", "https://a/b/f"),
            ("https://a", "b", "https://a/b"),
            ("https://a:1/b", "//c/d", "https://c/d"),
            ("https://a/b", "https://c/d", "https://c/d"),
        ] {
            assert_eq!(join_location(from, location), want, "{from} {location}");
        }
    }

    #[test]
    fn finds_the_path_of_a_file_url() {
        for (uri, want) in [
            ("file:///a/b.pem", "/a/b.pem"),
            ("file://localhost/a/b.pem", "/a/b.pem"),
            ("FILE:///a/b.pem", "/a/b.pem"),
            ("file:///a%20b%.pem", "/a b%.pem"),
        ] {
            assert_eq!(file_path(uri), Path::new(want), "{uri}");
        }
    }
}
