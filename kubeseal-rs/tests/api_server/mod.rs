//! An API server with a few fixed answers.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// A function that writes the body of an answer.
pub(crate) type Body = Box<dyn Fn(&mut TcpStream) -> io::Result<()> + Send + Sync>;

/// Returns a text as a body.
pub(crate) fn text(body: impl Into<String>) -> Body {
    let body = body.into();
    Box::new(move |to| to.write_all(body.as_bytes()))
}

/// Returns a Service with one port, `http`.
pub(crate) fn service() -> Body {
    text(r#"{"spec":{"ports":[{"name":"http","port":8080}]}}"#)
}

/// Returns the path of the certificate behind a Service.
pub(crate) fn certificate_of(namespace: &str, name: &str) -> String {
    format!("{}/proxy/v1/cert.pem", proxied(namespace, name))
}

fn proxied(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/http:{name}:http")
}

/// Returns the path of a Service.
pub(crate) fn path_of(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/{name}")
}

/// Serves these answers by path until the process ends, and 404 for other paths. Returns a
/// kubeconfig for the server.
pub(crate) fn serve(folder: &Path, answers: Vec<(String, Body)>) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut caller in listener.incoming().flatten() {
            // A client may close the connection before the end.
            let _ = answer(&mut caller, &answers);
        }
    });
    let kubeconfig = folder.join("kubeconfig");
    let text = format!(
        "{{current-context: a, contexts: [{{name: a, context: {{cluster: a}}}}], \
         clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]}}"
    );
    fs::write(&kubeconfig, text).expect("the folder is ours");
    kubeconfig
}

fn answer(caller: &mut TcpStream, answers: &[(String, Body)]) -> io::Result<()> {
    let mut lines = BufReader::new(caller.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let found = answers.iter().find(|(known, _)| known == path);
    let code = if found.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    write!(caller, "HTTP/1.1 {code}\r\nConnection: close\r\n\r\n")?;
    match found {
        Some((_, body)) => body(caller),
        None => caller.write_all(br#"{"kind":"Status","message":"not found"}"#),
    }
}
