//! A controller for tests: an HTTPS server that responds to each request with the next prepared response.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::authority::Authority;
use crate::client::Settings;

/// The bytes of a response, including its status line.
pub(crate) type Response = Vec<u8>;

/// A marker for a response that never ends.
const SLOW: &[u8] = b"slow";

/// A running server, and a directory with the files that its clients read.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
    /// Heads and bodies of the requests.
    pub(crate) requests: Receiver<String>,
    responses: Arc<Mutex<Vec<Response>>>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Server {
    /// Starts a server that sends these responses one after another, and then closes connections without a response.
    pub(crate) fn start(responses: Vec<Response>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = channel();
        let (ca, config) = identity();
        let server = Self {
            port,
            directory: tempfile::tempdir().unwrap(),
            requests,
            responses: Arc::new(Mutex::new(responses)),
            config: Arc::new(Mutex::new(config)),
        };
        server.write("ca.pem", &ca);
        server.write("token", "first.token");
        let (responses, config) = (Arc::clone(&server.responses), Arc::clone(&server.config));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let config = Arc::clone(&config.lock().unwrap());
                let (responses, sender) = (Arc::clone(&responses), sender.clone());
                thread::spawn(move || serve(stream, config, &responses, &sender));
            }
        });
        server
    }

    /// Adds a response.
    pub(crate) fn respond(&self, response: Response) {
        self.responses.lock().unwrap().push(response);
    }

    /// Adds a response that is sent slowly and never ends.
    pub(crate) fn respond_slowly(&self) {
        self.respond(SLOW.to_vec());
    }

    /// Replaces the CA and the certificate, as a restart of the controller does. Returns the CA certificate.
    pub(crate) fn renew(&self) -> String {
        let (ca, config) = identity();
        *self.config.lock().unwrap() = config;
        ca
    }

    /// Writes a file for the clients.
    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Returns the path of a file for the clients.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the settings of a client with the files `ca.pem` and `token`.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            server: format!("https://localhost:{}", self.port),
            authority: Authority::File(self.path("ca.pem")),
            token_file: self.path("token"),
        }
    }
}

/// Returns a response that closes the connection.
pub(crate) fn response(status: &str, body: &str) -> Response {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}")
        .into_bytes()
}

fn identity() -> (String, Arc<ServerConfig>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (ca_pem, Arc::new(config))
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    responses: &Mutex<Vec<Response>>,
    requests: &Sender<String>,
) -> Option<()> {
    let connection = ServerConnection::new(config).ok()?;
    let mut stream = StreamOwned::new(connection, stream);
    let request = read_request(&mut stream)?;
    requests.send(request).ok()?;
    let response = {
        let mut responses = responses.lock().unwrap();
        (!responses.is_empty()).then(|| responses.remove(0))
    };
    let response = response?;
    if response == SLOW {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
        // Ends when the client closes the connection.
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    }
    stream.write_all(&response).ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

/// Reads a request: its head, and the body with the length in `Content-Length`.
fn read_request(stream: &mut impl std::io::Read) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let len = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= len.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut part = [0; 4096];
        let count = stream.read(&mut part).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
    }
}
