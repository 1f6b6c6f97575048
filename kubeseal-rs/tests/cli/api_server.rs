//! An HTTP server that acts as an API server.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// A function that writes the body of a response.
pub(crate) type Body = Box<dyn Fn(&mut TcpStream) -> io::Result<()> + Send + Sync>;

pub(crate) fn text_body(body: impl Into<String>) -> Body {
    let body = body.into();
    Box::new(move |to| to.write_all(body.as_bytes()))
}

/// Returns a body: the JSON of a Service with one port, `http`.
pub(crate) fn service_body() -> Body {
    text_body(r#"{"spec":{"ports":[{"name":"http","port":8080}]}}"#)
}

/// Returns the URL path of the certificate behind a Service.
pub(crate) fn certificate_path(namespace: &str, name: &str) -> String {
    endpoint_path(namespace, name, "cert.pem")
}

fn service_proxy_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/http:{name}:http")
}

/// Returns the URL path of an endpoint behind a Service, such as `rotate`.
pub(crate) fn endpoint_path(namespace: &str, name: &str, endpoint: &str) -> String {
    format!(
        "{}/proxy/v1/{endpoint}",
        service_proxy_path(namespace, name)
    )
}

/// Returns the URL path of a Service.
pub(crate) fn service_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/{name}")
}

/// The first line of a request.
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path without the query.
    pub(crate) path: String,
    pub(crate) query: String,
}

/// Serves each body at its path until the process ends, and responds with 404 at other paths. Writes a kubeconfig for
/// the server to `directory`, and returns the path of the kubeconfig.
pub(crate) fn serve(directory: &Path, responses: Vec<(String, Body)>) -> PathBuf {
    listen(directory, move |request, client| {
        let response = responses.iter().find(|(path, _)| *path == request.path);
        match response {
            Some((_, body)) => {
                write_head(client, "", 200)?;
                body(client)
            }
            None => respond(client, "", &not_found()),
        }
    })
}

/// Responds to each request with the code and body that `response` returns, until the process ends. `head` contains
/// additional header lines. Writes a kubeconfig for the server to `directory`, and returns the path of the kubeconfig.
pub(crate) fn serve_with(
    directory: &Path,
    head: String,
    response: impl Fn(&Request) -> (u16, String) + Send + 'static,
) -> PathBuf {
    listen(directory, move |request, client| {
        respond(client, &head, &response(request))
    })
}

/// Returns the response for an object that does not exist.
pub(crate) fn not_found() -> (u16, String) {
    (404, r#"{"kind":"Status","message":"not found"}"#.to_owned())
}

fn listen(
    directory: &Path,
    respond: impl Fn(&Request, &mut TcpStream) -> io::Result<()> + Send + 'static,
) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // A client may close the connection before the end of the response.
            let _ = read_request(&client).and_then(|request| respond(&request, &mut client));
        }
    });
    let kubeconfig = directory.join("kubeconfig");
    let text = format!(
        "{{current-context: a, contexts: [{{name: a, context: {{cluster: a}}}}], \
         clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]}}"
    );
    fs::write(&kubeconfig, text).expect("the test directory is writable");
    kubeconfig
}

fn read_request(client: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    // Closing the connection with an unread body could lose the response.
    io::copy(&mut reader.take(length), &mut io::sink())?;
    let mut words = request.split(' ');
    let (method, uri) = (words.next(), words.next().unwrap_or_default());
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    Ok(Request {
        method: method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

fn write_head(client: &mut TcpStream, head: &str, code: u16) -> io::Result<()> {
    write!(
        client,
        "HTTP/1.1 {code} x\r\n{head}Connection: close\r\n\r\n"
    )
}

fn respond(client: &mut TcpStream, head: &str, (code, body): &(u16, String)) -> io::Result<()> {
    write_head(client, head, *code)?;
    client.write_all(body.as_bytes())
}
