//! Tests which servers get a token for the controller's TLS port.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::api_server::{self, Request, certificate_path, endpoint_path, not_found, service_path};
use crate::support::{NEW_CERT, OLD_CERT, combined_output, command, write_files};

const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const NAMESPACE: &str = "kube-system";
const NAME: &str = "sealed-secrets-controller";
const CONFIG_MAP: &str =
    "/api/v1/namespaces/kube-system/configmaps/sealed-secrets-controller-certificate";
const TOKEN_REQUEST: &str = "/api/v1/namespaces/shop/serviceaccounts/ci/token";
const TOKEN: &str = "header.claims.signature";
const SECRET: &str =
    "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {p: value}\n";

/// The paths or the lines of recorded requests.
type Log = Arc<Mutex<Vec<String>>>;

/// A CA, and a TLS server `localhost` with a certificate of that CA.
struct TlsServer {
    authority: String,
    port: u16,
    /// The lines of the requests.
    received: Log,
}

impl TlsServer {
    fn start() -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::<String>::new()).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_pem = authority.self_signed(&authority_key).expect("signed").pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the certificate and the key match");
        let (received, tls) = (Log::default(), Arc::new(tls));
        let listener = TcpListener::bind(("localhost", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let log = Arc::clone(&received);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client ends the connection if it does not trust the certificate.
                let _ = record_request(&tls, client, &log);
            }
        });
        Self {
            authority: authority_pem,
            port,
            received,
        }
    }
}

fn record_request(tls: &Arc<ServerConfig>, client: TcpStream, log: &Log) -> io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(connection, client);
    let mut reader = BufReader::new(&mut client);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        log.lock()
            .expect("no panic")
            .push(std::mem::take(&mut line));
    }
    client
        .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    client.flush()
}

/// Responds as an API server with a man in the middle behind its service proxy. The man in the middle has its own CA,
/// and responds to verify and rotate with 404.
fn response(request: &Request, authority: &str, published: Option<&str>) -> (u16, String) {
    let endpoint = |name: &str| endpoint_path(NAMESPACE, NAME, name);
    match request.path.as_str() {
        path if path == service_path(NAMESPACE, NAME) => {
            let ports =
                json!([{ "name": "http", "port": 8080 }, { "name": "authorized", "port": 8443 }]);
            (200, json!({ "spec": { "ports": ports } }).to_string())
        }
        path if path == certificate_path(NAMESPACE, NAME) => (200, NEW_CERT.to_owned()),
        path if path == endpoint("ca.pem") => (200, authority.to_owned()),
        path if path == endpoint("rotate") || path == endpoint("verify") => {
            (404, "404 page not found\n".to_owned())
        }
        CONFIG_MAP => published.map_or_else(not_found, |pem| {
            (
                200,
                json!({ "kind": "ConfigMap", "data": { "ca.pem": pem } }).to_string(),
            )
        }),
        TOKEN_REQUEST => (201, json!({ "status": { "token": TOKEN } }).to_string()),
        _ => not_found(),
    }
}

/// Runs a program while the API server publishes these CA certificates, or none. Also returns whether a token was
/// requested.
fn run(
    program: &str,
    args: &[&str],
    server: &TlsServer,
    published: Option<&str>,
) -> (Output, bool) {
    let directory = tempfile::tempdir().expect("a directory");
    write_files(
        directory.path(),
        &[("secret.yaml", SECRET), ("old.pem", OLD_CERT)],
    );
    let seal = ["-f", "secret.yaml", "--cert", "old.pem", "-w", "db.yaml"];
    let mut kubeseal = command(KUBESEAL, directory.path(), "/nowhere");
    let sealed = kubeseal.args(seal).current_dir(directory.path()).output();
    assert!(sealed.expect("the command starts").status.success());

    let requests = Log::default();
    let (log, authority) = (Arc::clone(&requests), server.authority.clone());
    let published = published.map(str::to_owned);
    let kubeconfig = api_server::serve_with(directory.path(), String::new(), move |request| {
        log.lock().expect("no panic").push(request.path.clone());
        response(request, &authority, published.as_deref())
    });
    let url = format!("https://localhost:{}", server.port);
    let port = ["--authorized", &url, "--token-account", "shop/ci"];
    let input = fs::File::open(directory.path().join("db.yaml")).expect("the file exists");
    let output = command(program, directory.path(), kubeconfig)
        .args(args)
        .args(port)
        .current_dir(directory.path())
        .env("NO_PROXY", "*")
        .stdin(input)
        .output()
        .expect("the command starts");
    let requests = requests.lock().expect("no panic");
    (output, requests.iter().any(|path| path == TOKEN_REQUEST))
}

const COMMANDS: [(&str, &[&str]); 4] = [
    (SEAL, &["rotate", "db.yaml"]),
    (SEAL, &["doctor", "db.yaml"]),
    (KUBESEAL, &["--re-encrypt"]),
    (KUBESEAL, &["--validate"]),
];

fn has_token(server: &TlsServer) -> bool {
    let received = server.received.lock().expect("no panic");
    received.iter().any(|line| line.contains(TOKEN))
}

/// Attack: a man in the middle between the API server and the controller serves its own CA certificate on the
/// unauthenticated port, and responds at the address of the TLS port, so that it receives a token that is valid at the
/// controller.
#[test]
fn sends_no_token_to_a_server_with_the_ca_of_the_unauthenticated_port() {
    let other = TlsServer::start();
    for published in [None, Some(other.authority.as_str())] {
        for (program, args) in COMMANDS {
            let server = TlsServer::start();
            let (output, is_requested) = run(program, args, &server, published);
            let text = combined_output(&output);
            assert!(!output.status.success(), "{args:?}: {text}");
            assert!(!has_token(&server), "{args:?}: {text}");
            if published.is_none() {
                assert!(!is_requested, "{args:?}: {text}");
                assert!(text.contains("--authority"), "{args:?}: {text}");
            }
        }
    }
}

/// The legitimate case: a server with a certificate of the CA in the `ConfigMap` gets the token.
#[test]
fn sends_the_token_to_a_server_with_a_ca_that_the_api_server_publishes() {
    let other = TlsServer::start();
    for (program, args) in COMMANDS {
        let server = TlsServer::start();
        let both = format!("{}{}", other.authority, server.authority);
        let (output, is_requested) = run(program, args, &server, Some(&both));
        let text = combined_output(&output);
        assert!(is_requested && has_token(&server), "{args:?}: {text}");
    }
}
