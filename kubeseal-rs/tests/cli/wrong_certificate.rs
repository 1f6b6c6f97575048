//! Tests certificates that must not be used for sealing, or must not replace another certificate.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{assert_contains, command};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const FIXTURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/seal/keys-compromise.fixtures"
);

/// Runs `seal` in a directory. Returns whether it succeeded, and its stderr.
fn seal(directory: &Path, args: &str) -> (bool, String) {
    let output = Command::new(SEAL)
        .args(args.split(' '))
        .current_dir(directory)
        .env("HOME", directory)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_STATE_HOME")
        .env("KUBECONFIG", "nowhere")
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), stderr)
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file");
        }
    }
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    copy_directory(Path::new(FIXTURES), directory.path());
    fs::write(directory.path().join("value.txt"), "value").expect("a file");
    directory
}

/// Attack: an attacker has the private key of a certificate, and a rule or a script still names its file.
#[test]
fn set_create_and_generate_refuse_a_compromised_key() {
    let directory = directory();
    let create = "create db --from-file a=value.txt -n shop -w db.yaml";
    let (has_succeeded, stderr) = seal(directory.path(), &format!("{create} --cert key-2025.pem"));
    assert!(has_succeeded, "{stderr}");
    let (has_succeeded, stderr) = seal(
        directory.path(),
        "keys compromise key-2025 --directory state",
    );
    assert!(
        has_succeeded && stderr.contains("`retired` in .seal.yaml"),
        "{stderr}"
    );
    fs::write(
        directory.path().join(".seal.yaml"),
        "rules: [{path: '*.yaml', certificate: key-2025.pem}]\n",
    )
    .expect("rules");
    for args in [
        "set db.yaml b --from-file value.txt --cert key-2025.pem",
        "set db.yaml b --from-file value.txt",
        "create web --from-file a=value.txt -n shop -w web.yaml",
        "generate web a=password -n shop -w web.yaml",
    ] {
        let (has_succeeded, stderr) = seal(directory.path(), args);
        assert!(
            !has_succeeded && stderr.contains("is marked as compromised"),
            "{args}: {stderr}"
        );
        assert!(stderr.contains("hint: "), "{args}: {stderr}");
    }
    let (has_succeeded, stderr) = seal(
        directory.path(),
        "set db.yaml b --from-file value.txt --cert key-2024.pem",
    );
    assert!(has_succeeded, "another certificate: {stderr}");
}

/// Fault: a user cleans the cache directory, in which earlier versions stored the marks.
#[test]
fn marks_of_compromised_keys_survive_a_cleaned_cache() {
    let directory = directory();
    let create = "create db --from-file a=value.txt -n shop -w db.yaml --cert key-2025.pem";
    let (has_succeeded, stderr) = seal(
        directory.path(),
        "keys compromise key-2025 --directory state",
    );
    assert!(has_succeeded, "{stderr}");
    let state = directory
        .path()
        .join(".local/state/sealed-secrets/compromised");
    assert!(!directory.path().join(".cache").exists());
    assert!(!seal(directory.path(), create).0);
    let cache = directory.path().join(".cache/sealed-secrets");
    fs::create_dir_all(&cache).expect("a directory");
    fs::rename(&state, cache.join("compromised")).expect("the mark is there");
    assert!(!seal(directory.path(), create).0);
    fs::remove_dir_all(&cache).expect("the directory exists");
    let (has_succeeded, stderr) = seal(directory.path(), create);
    assert!(has_succeeded, "{stderr}");
}

/// Fault: the mark cannot be written, so later commands seal for the compromised key.
#[test]
fn a_mark_that_cannot_be_recorded_is_reported() {
    for (home, state) in [("/proc", None), ("/proc", Some("relative"))] {
        let directory = directory();
        let mut seal = command(SEAL, directory.path(), "/nowhere");
        seal.current_dir(directory.path()).env("HOME", home);
        seal.env_remove("XDG_STATE_HOME");
        seal.envs(state.map(|state| ("XDG_STATE_HOME", state)));
        seal.args(["keys", "compromise", "key-2025", "--directory", "state"]);
        let output = seal.output().expect("the command starts");
        let want = "cannot record the mark locally, so `seal` refuses certificates of this key only where ";
        assert_contains(&output, want, format!("{home:?} {state:?}"));
    }
}

/// Attack: a server presents another certificate in the controller's place, so that `seal cert fetch` replaces the
/// certificate that the users of a repository seal for.
#[test]
fn fetch_replaces_another_certificate_only_on_request() {
    let directory = directory();
    let path_to = |name: &str| directory.path().join(name);
    let read = |name: &str| fs::read(path_to(name)).expect("a file");
    fs::copy(path_to("key-2024.pem"), path_to("cert.pem")).expect("a copy");
    let (has_succeeded, stderr) = seal(directory.path(), "cert fetch key-2024.pem -o cert.pem");
    assert!(has_succeeded && stderr.contains("unchanged"), "{stderr}");
    for out in ["cert.pem", "value.txt"] {
        let before = read(out);
        let (has_succeeded, stderr) = seal(
            directory.path(),
            &format!("cert fetch key-2025.pem -o {out}"),
        );
        assert!(
            !has_succeeded && stderr.contains("--replace"),
            "{out}: {stderr}"
        );
        assert_eq!(read(out), before, "{out}");
    }
    let (_, stderr) = seal(directory.path(), "cert fetch key-2025.pem -o cert.pem");
    assert_eq!(
        stderr.matches("SHA256:").count(),
        4,
        "old and new: {stderr}"
    );
    let (has_succeeded, stderr) = seal(
        directory.path(),
        "cert fetch key-2025.pem -o cert.pem --replace",
    );
    assert!(
        has_succeeded && read("cert.pem") == read("key-2025.pem"),
        "{stderr}"
    );
    let (_, stderr) = seal(directory.path(), "cert fetch key-2024.pem -o new.pem");
    let pin = stderr
        .split_whitespace()
        .last()
        .unwrap_or_default()
        .to_owned();
    let pinned_fetch = format!("cert fetch key-2024.pem -o cert.pem --fingerprint {pin}");
    let (has_succeeded, stderr) = seal(directory.path(), &pinned_fetch);
    assert!(
        has_succeeded && read("cert.pem") == read("key-2024.pem"),
        "{stderr}"
    );
}

/// Runs `seal create` and `kubeseal` with a certificate. Returns whether they succeeded, and their stderr.
fn seal_with(directory: &Path, certificate: &str) -> [(bool, String); 2] {
    let args = format!("create db --from-file a=value.txt -n shop --cert {certificate}");
    let secret =
        "kind: Secret\napiVersion: v1\nmetadata: {name: db, namespace: shop}\ndata: {a: aGk=}\n";
    fs::write(directory.join("secret.yaml"), secret).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_kubeseal"))
        .args(["-f", "secret.yaml", "--cert", certificate])
        .current_dir(directory)
        .env("HOME", directory)
        .env("KUBECONFIG", "nowhere")
        .output()
        .expect("the command starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    [seal(directory, &args), (output.status.success(), stderr)]
}

#[test]
fn reports_the_missing_part_of_a_truncated_certificate() {
    let directory = directory();
    let pem = fs::read_to_string(directory.path().join("key-2024.pem")).expect("a file");
    let end = "-----END CERTIFICATE-----\n";
    let first_half = &pem[..pem.len() / 2];
    let utf32 = |mark: &str| -> Vec<u8> {
        let text = [mark, &pem].concat();
        text.chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect()
    };
    for (bytes, want) in [
        (first_half.into(), "has no END line, so it was truncated"),
        (
            first_half.replace('\n', "\r\n").into(),
            "has no END line, so it was truncated",
        ),
        (
            format!("\u{feff}{first_half}").into(),
            "has no END line, so it was truncated",
        ),
        (
            format!("{}*\n{end}", first_half.trim_end()).into(),
            "truncated or changed",
        ),
        (
            pem[200..].into(),
            "BEGIN line of the certificate is incomplete, indented or missing",
        ),
        (utf32(""), "UTF-32"),
        (utf32("\u{feff}"), "UTF-32"),
    ] {
        let bytes: Vec<u8> = bytes;
        fs::write(directory.path().join("cut.pem"), bytes).expect("a file");
        for (has_succeeded, stderr) in seal_with(directory.path(), "cut.pem") {
            assert!(!has_succeeded && stderr.contains(want), "{want}: {stderr}");
            assert!(
                stderr.contains("data does not contain any valid RSA or ECDSA certificates"),
                "{want}: {stderr}"
            );
        }
    }
}

#[test]
fn warns_about_a_private_key_in_the_file_of_the_certificate() {
    let directory = directory();
    let pem = fs::read_to_string(directory.path().join("key-2024.pem")).expect("a file");
    let key = |label: &str| format!("-----BEGIN {label}-----\naGk=\n-----END {label}-----\n");
    let warning = "warning: the certificate file also contains a private key";
    for text in [
        key("PRIVATE KEY") + &pem,
        pem.clone() + &key("PRIVATE KEY"),
        pem.clone() + &key("RSA PRIVATE KEY"),
        pem.clone() + &pem + &key("EC PRIVATE KEY"),
    ] {
        fs::write(directory.path().join("both.pem"), text).expect("a file");
        for (has_succeeded, stderr) in seal_with(directory.path(), "both.pem") {
            assert!(has_succeeded && stderr.contains(warning), "{stderr}");
            assert!(!stderr.contains("aGk="), "{stderr}");
        }
    }
    for (has_succeeded, stderr) in seal_with(directory.path(), "key-2024.pem") {
        assert!(has_succeeded && !stderr.contains(warning), "{stderr}");
    }
}
