//! A fake controller with prepared responses, for failures that are hard to provoke in a real controller.

use std::io::{self, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Returns the head and body of the response to a request with this body; `None` to send no response and wait until the
/// client closes the connection.
type Responses = dyn Fn(&str) -> Option<String> + Send;

/// A server on 127.0.0.1 that runs until the test program ends.
pub struct FakeController {
    port: u16,
    authority: String,
    responses: Arc<Mutex<Box<Responses>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeController {
    /// Starts a server with these responses.
    ///
    /// # Panics
    /// Panics if no port is free.
    pub fn start(responses: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let (authority, config) = identity();
        let controller = Self {
            port: listener.local_addr().expect("it listens").port(),
            authority,
            responses: Arc::new(Mutex::new(Box::new(responses))),
            requests: Arc::default(),
        };
        let (responses, requests) = (
            Arc::clone(&controller.responses),
            Arc::clone(&controller.requests),
        );
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (responses, requests) = (Arc::clone(&responses), Arc::clone(&requests));
                let config = Arc::clone(&config);
                thread::spawn(move || serve(stream, config, &responses, &requests));
            }
        });
        controller
    }

    /// Replaces the responses.
    ///
    /// # Panics
    /// Panics if the closure for a response has panicked.
    pub fn set_responses(&self, responses: impl Fn(&str) -> Option<String> + Send + 'static) {
        *self.responses.lock().unwrap() = Box::new(responses);
    }

    /// Returns the bodies of the requests so far, without empty ones.
    ///
    /// # Panics
    /// Panics if another thread has panicked.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the CA certificate of the server, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns a response with a status and a body.
    pub fn response(status: &str, body: &str) -> Option<String> {
        let len = body.len();
        Some(format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
        ))
    }

    /// Returns a response with one file.
    pub fn file(path: &str, value: &str) -> Option<String> {
        let response = deliver::Response {
            revision: "revision".into(),
            files: vec![deliver::DeliveredFile {
                path: path.parse().expect("a path"),
                mode: deliver::Mode::default(),
                version: "version".into(),
                value: value.as_bytes().to_vec().into(),
            }],
            objects: vec![deliver::DeliveredObject {
                name: "db".into(),
                generation: 1,
                version: "version".into(),
            }],
        };
        Self::response(
            "200 OK",
            std::str::from_utf8(&response.to_json()).expect("JSON"),
        )
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    responses: &Mutex<Box<Responses>>,
    requests: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let body = read_body(&mut stream)?;
    let response = if body.is_empty() {
        // An empty request comes from the provider, which checks that the controller can be reached.
        FakeController::response("401 Unauthorized", "")
    } else {
        requests.lock().unwrap().push(body.clone());
        responses.lock().unwrap()(&body)
    };
    let Some(response) = response else {
        return io::copy(&mut stream, &mut io::sink()).map(drop);
    };
    stream.write_all(response.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Reads a request; returns its body, whose length is in the `Content-Length` header.
fn read_body(stream: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let len = head.split("content-length: ").nth(1);
            let len = len.and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= len.unwrap_or(0) {
                return Ok(body.to_owned());
            }
        }
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// Returns a new CA certificate, and the settings of a server with a certificate that it issued.
fn identity() -> (String, Arc<ServerConfig>) {
    let ca_key = KeyPair::generate().expect("randomness");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("valid").pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("randomness");
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a valid name");
    let leaf = leaf.signed_by(&key, &issuer).expect("valid");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a private key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a certificate for the key");
    (ca_pem, Arc::new(config))
}
