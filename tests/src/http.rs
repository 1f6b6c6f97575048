//! Sends one request over unencrypted HTTP to a program on this machine.

use std::io;
use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Returns a port that is currently free, for programs that do not report the port that they got. Another
/// process may take it first, which is unlikely.
///
/// # Panics
/// Panics if no port is free.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    address.port()
}

/// Returns head and body of the response to a GET.
///
/// # Errors
/// Returns an error if there is no response.
pub async fn get(port: u16, path: &str) -> io::Result<String> {
    send(port, "GET", path, "", "").await
}

/// Returns head and body of the response. `headers` are complete lines.
///
/// # Errors
/// Returns an error if there is no response.
pub async fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
