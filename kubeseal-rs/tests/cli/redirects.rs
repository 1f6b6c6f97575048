//! Tests redirects by the server at the URL of a certificate.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const CERTIFICATE: &str = include_str!("../seal/fixtures/cert.pem");
const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";

/// A user's directory, and a TLS server `localhost` that the user trusts.
struct Fixture {
    directory: tempfile::TempDir,
    tls: Arc<ServerConfig>,
}

impl Fixture {
    fn new() -> Self {
        let certified_key =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let key = PrivateKeyDer::Pkcs8(certified_key.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified_key.cert.der().clone()], key)
            .expect("the certificate and the key match");
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("ca.pem", certified_key.cert.pem().as_str()),
            ("x.yaml", SECRET),
        ] {
            fs::write(directory.path().join(name), text).expect("the test directory is writable");
        }
        let tls = Arc::new(tls);
        Self { directory, tls }
    }

    /// Starts a server that sends this response to every request. Returns the URL of the server and a counter of the
    /// requests.
    fn serve(
        &self,
        host: &'static str,
        is_tls: bool,
        response: String,
    ) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (tls, count) = (Arc::clone(&self.tls), Arc::new(AtomicUsize::new(0)));
        let server_count = Arc::clone(&count);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                server_count.fetch_add(1, Ordering::SeqCst);
                // A client may close the connection before it has received the complete response.
                let _ = if is_tls {
                    let server = ServerConnection::new(Arc::clone(&tls))
                        .expect("the TLS configuration is valid");
                    reply(StreamOwned::new(server, client), &response)
                } else {
                    reply(client, &response)
                };
            }
        });
        let scheme = if is_tls {
            "https://localhost"
        } else {
            "http://127.0.0.1"
        };
        let scheme = if host == "127.0.0.2" {
            "http://127.0.0.2"
        } else {
            scheme
        };
        (format!("{scheme}:{port}/cert.pem"), count)
    }

    fn seal(&self, rule: &str, args: &[&str]) -> Output {
        let rules = format!("rules: [{{path: '**', {rule}}}]\n");
        fs::write(self.directory.path().join(".seal.yaml"), rules)
            .expect("the test directory is writable");
        Command::new(env!("CARGO_BIN_EXE_seal"))
            .args(args)
            .current_dir(self.directory.path())
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", "/nowhere")
            .env("SSL_CERT_FILE", self.directory.path().join("ca.pem"))
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .output()
            .expect("the command starts")
    }
}

fn reply(mut client: impl Read + Write, response: &str) -> io::Result<()> {
    let mut reader = BufReader::new(&mut client);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    client.write_all(response.as_bytes())?;
    client.flush()
}

fn certificate_response() -> String {
    let length = CERTIFICATE.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{CERTIFICATE}")
}

fn redirect_response(to: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

const SEAL_ARGS: [&str; 2] = ["--stdout", "x.yaml"];

/// Attack: an https:// server that a rule or the user names redirects to http://, where an attacker in the network can
/// replace the certificate.
#[test]
fn does_not_follow_a_redirect_from_https_to_http() {
    let fixture = Fixture::new();
    let (http_url, count) = fixture.serve("127.0.0.2", false, certificate_response());
    let (first, _) = fixture.serve("127.0.0.1", true, redirect_response(&http_url));
    let (second, _) = fixture.serve("127.0.0.1", true, redirect_response(&first));
    for server in [first, second] {
        let flag = format!("--cert={server}");
        for (rule, args) in [
            (format!("certificate: '{server}'"), SEAL_ARGS.to_vec()),
            (
                "scope: strict".to_owned(),
                [&SEAL_ARGS[..], &[&flag]].concat(),
            ),
        ] {
            let output = fixture.seal(&rule, &args);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(count.load(Ordering::SeqCst), 0, "{args:?}: {stderr}");
            assert!(!output.status.success(), "{args:?}: {stderr}");
            assert!(stderr.contains("redirects to"), "{args:?}: {stderr}");
        }
    }
}

/// Attack: a server that a rule may name redirects to a host that a rule may not name.
#[test]
fn does_not_follow_a_redirect_to_another_host_for_a_rules_url() {
    let fixture = Fixture::new();
    let (other, count) = fixture.serve("127.0.0.2", false, certificate_response());
    let (target, _) = fixture.serve("127.0.0.1", false, certificate_response());
    let (first, _) = fixture.serve("127.0.0.1", false, redirect_response(&other));
    let output = fixture.seal(&format!("certificate: '{first}'"), &SEAL_ARGS);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(count.load(Ordering::SeqCst), 0, "{stderr}");
    assert!(
        !output.status.success() && stderr.contains("not the host"),
        "{stderr}"
    );

    // Redirects to the same host are followed. If the user names the server with --cert, redirects to any host are
    // followed, except from https:// to http://.
    let (http_server, _) = fixture.serve("127.0.0.1", false, redirect_response(&target));
    let (tls_target, _) = fixture.serve("127.0.0.1", true, certificate_response());
    let (tls_server, _) = fixture.serve("127.0.0.1", true, redirect_response(&tls_target));
    for server in [http_server, tls_server] {
        let output = fixture.seal(&format!("certificate: '{server}'"), &SEAL_ARGS);
        assert!(output.status.success(), "{server}: {output:?}");
    }
    let flag = format!("--cert={first}");
    let output = fixture.seal("scope: strict", &[&SEAL_ARGS[..], &[&flag]].concat());
    assert!(output.status.success(), "{output:?}");
}
