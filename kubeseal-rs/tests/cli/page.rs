//! Tests `seal page`: which certificate a page pins, which files it replaces, and what `--verify` reports.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{
    NEW_CERT, OTHER_CERT, assert_code, assert_contains, combined_output, command, write_files,
};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");

fn seal(directory: &Path, args: &str) -> Output {
    let mut seal = command(SEAL, directory, "/nowhere");
    seal.args(args.split(' ')).current_dir(directory);
    seal.output().expect("the command starts")
}

/// Returns a directory with two certificates, and a page for the first.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    write_files(
        directory.path(),
        &[("cert.pem", NEW_CERT), ("other.pem", OTHER_CERT)],
    );
    let output = seal(directory.path(), "page --cert cert.pem -o page.html");
    assert_code(&output, 0, "the page is written");
    directory
}

fn read(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).expect("the file is text")
}

#[test]
fn equal_versions_and_certificates_give_equal_pages() {
    let directory = directory();
    let page = read(directory.path(), "page.html");
    let printed = seal(directory.path(), "page --cert cert.pem");
    assert_eq!(String::from_utf8_lossy(&printed.stdout), page);
    // Text around the certificate and the kind of line breaks have no effect.
    let noted = format!("# production\n{}\n", NEW_CERT.replace('\n', "\r\n"));
    fs::write(directory.path().join("noted.pem"), noted).expect("a file");
    let printed = seal(directory.path(), "page --cert noted.pem");
    assert_eq!(String::from_utf8_lossy(&printed.stdout), page);
    let output = seal(directory.path(), "page --cert cert.pem --verify page.html");
    assert_code(&output, 0, "an unchanged page");
    assert_contains(
        &output,
        "page.html is the page of version",
        "an unchanged page",
    );
}

/// Attack: the host of a published page, or a man in the middle, adds a script, weakens the policy, or removes a check.
#[test]
fn verify_reports_a_tampered_page() {
    let directory = directory();
    let page = read(directory.path(), "page.html");
    for (from, to) in [
        ("</body>", "<script src=//x.example></script></body>"),
        ("default-src 'none'", "default-src *"),
        ("Date.now() > notAfter", "false && Date.now() > notAfter"),
        ("new Uint8Array(12)", "new Uint8Array(13)"),
        ("</html>\n", "</html>\n\n"),
        ("\n", "\r\n"),
    ] {
        let changed = page.replacen(from, to, 1);
        fs::write(directory.path().join("published.html"), &changed).expect("a file");
        let output = seal(
            directory.path(),
            "page --cert cert.pem --verify published.html",
        );
        assert_ne!(changed, page, "the page contains {from:?}");
        assert_code(&output, 1, from);
        assert_contains(&output, "its content was changed: line ", from);
        assert_contains(&output, "hint: do not use this page", from);
    }
}

/// Attack: an attacker publishes a page that seals for the attacker's key, or for any certificate that a user pastes.
#[test]
fn verify_names_another_certificate() {
    let directory = directory();
    let other = "SHA256:dZRDdO3/SYi1MQLIlbT4Zztv75Xbt+KCysH30zdze7Y";
    for (args, want, value) in [
        ("page --cert other.pem -o published.html", other, other),
        (
            "page --without-cert -o published.html",
            "no certificate",
            "none",
        ),
    ] {
        assert_code(&seal(directory.path(), args), 0, args);
        let output = seal(
            directory.path(),
            "page --cert cert.pem --verify published.html --output json",
        );
        assert_code(&output, 1, args);
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("the report is JSON");
        assert_eq!(report["isEqual"], false, "{args}");
        assert_eq!(report["publishedCertificate"], value, "{args}");
        assert_eq!(report["changedLine"], serde_json::Value::Null, "{args}");
        let output = seal(
            directory.path(),
            "page --cert cert.pem --verify published.html",
        );
        assert_contains(&output, want, args);
        assert!(!combined_output(&output).contains("its content"), "{args}");
    }
}

/// Attack: a tampered page names another version, so that its changes look like differences between versions; or it has
/// terminal control characters in its version or in a line.
#[test]
fn verify_never_accepts_another_version_and_escapes_what_it_shows() {
    let directory = directory();
    let page = read(directory.path(), "page.html");
    let version = format!("<span id=\"version\">{}<", env!("CARGO_PKG_VERSION"));
    let claims = page.replace(&version, "<span id=\"version\">9.9\u{1b}[2J\u{202e}<");
    assert_ne!(claims, page);
    let tampered = claims.replace("</body>", "<script>1</script></body>");
    let line = page.replace("<h1>", "<h1>\u{1b}[2J\u{9b}\u{202e}");
    for (text, want) in [
        (claims, "its content was not checked"),
        (tampered, "its content was not checked"),
        (line, "its content was changed"),
    ] {
        fs::write(directory.path().join("published.html"), text).expect("a file");
        for output in ["text", "json"] {
            let args = format!("page --cert cert.pem --verify published.html --output {output}");
            let output = seal(directory.path(), &args);
            assert_code(&output, 1, want);
            let printed = combined_output(&output);
            for hidden in ['\u{1b}', '\u{9b}', '\u{202e}'] {
                assert!(!printed.contains(hidden), "{printed:?}");
            }
        }
        let output = seal(
            directory.path(),
            "page --cert cert.pem --verify published.html",
        );
        assert_contains(&output, want, "text");
    }
}

/// Attack: an attacker replaces the certificate file before the page is written. A pin and a rule refuse the
/// certificate.
#[test]
fn pins_and_rules_apply_to_the_page() {
    let directory = directory();
    let pin = "page --cert other.pem --cert-fingerprint SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
    let output = seal(directory.path(), &format!("{pin} -o new.html"));
    assert_code(&output, 2, "a pin");
    assert!(!directory.path().join("new.html").exists());

    let rule = "rules: [{path: '*.html', certificate: cert.pem, \
                fingerprint: 'SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk'}]\n";
    write_files(directory.path(), &[(".seal.yaml", rule)]);
    for args in [
        "page --cert other.pem",
        "page --cert other.pem -o /dev/stdout",
        "page --cert other.pem --verify /dev/stdin",
    ] {
        let output = seal(directory.path(), args);
        assert_code(&output, 2, args);
        assert_contains(&output, "requires a certificate with the fingerprint", args);
        assert!(output.stdout.is_empty());
    }
    let output = seal(directory.path(), "page --verify page.html");
    assert_code(&output, 0, "the certificate of the rule");

    write_files(
        directory.path(),
        &[(".seal.yaml", "rules: [{path: '**', format: v2}]\n")],
    );
    let output = seal(directory.path(), "page --cert cert.pem");
    assert_code(&output, 2, "v2");
    assert_contains(&output, "the page seals v1 only", "v2");
}

#[test]
fn replaces_pages_but_no_other_file() {
    let directory = directory();
    let output = seal(directory.path(), "page --cert other.pem -o page.html");
    assert_code(&output, 0, "another page");
    write_files(
        directory.path(),
        &[("index.html", "<h1>mine</h1>\n"), ("empty.html", "")],
    );
    let output = seal(directory.path(), "page --cert cert.pem -o index.html");
    assert_code(&output, 2, "another file");
    assert_contains(
        &output,
        "hint: choose another name, or pass --replace",
        "another file",
    );
    assert_eq!(read(directory.path(), "index.html"), "<h1>mine</h1>\n");
    let output = seal(
        directory.path(),
        "page --cert cert.pem -o cert.pem --replace",
    );
    assert_code(&output, 2, "the certificate");
    assert_eq!(read(directory.path(), "cert.pem"), NEW_CERT);
    for args in [
        "page --cert cert.pem -o empty.html",
        "page --cert cert.pem -o index.html --replace",
    ] {
        assert_code(&seal(directory.path(), args), 0, args);
    }
    let output = seal(
        directory.path(),
        "page --cert cert.pem -o missing/page.html",
    );
    assert_code(&output, 2, "a missing directory");
}

#[test]
fn verify_reads_stdin() {
    let directory = directory();
    for (page, code) in [
        (read(directory.path(), "page.html"), 0),
        ("x".to_owned(), 1),
    ] {
        let mut seal = command(SEAL, directory.path(), "/nowhere");
        seal.args(["page", "--cert", "cert.pem", "--verify", "-"]);
        seal.current_dir(directory.path()).stdin(Stdio::piped());
        seal.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = seal.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(page.as_bytes()).expect("seal reads stdin");
        drop(stdin);
        let output = child.wait_with_output().expect("the command ends");
        assert_code(&output, code, "stdin");
    }
}

/// Attack: a published page is endless, or larger than the memory.
#[cfg(unix)]
#[test]
fn verify_reads_at_most_16_mebibytes() {
    let directory = directory();
    let output = seal(directory.path(), "page --cert cert.pem --verify /dev/zero");
    assert_code(&output, 2, "/dev/zero");
    assert_contains(
        &output,
        "larger than 16 MiB, the limit for a page",
        "/dev/zero",
    );
}
