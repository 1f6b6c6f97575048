//! Sends one request over unencrypted HTTP to a program on this machine.

use std::io;
use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Returns a port that is currently free, for programs that do not report their port. It is below the range from which
/// Linux, by default, takes ports for connections and for port 0, so only a program that chooses its port could take it
/// first, for example another caller of this function, which is unlikely.
///
/// # Panics
/// Panics if none of a hundred random ports is free.
pub fn free_port() -> u16 {
    let mut tries = (0..100).map(|_| 10_000 + shared::random::number::<u16>() % 20_000);
    let is_free = |port: &u16| TcpListener::bind(("0.0.0.0", *port)).is_ok();
    tries.find(is_free).expect("a port is free")
}

/// Sends a GET request; returns the head and body of the response.
///
/// # Errors
/// Returns an error if there is no response.
pub async fn get(port: u16, path: &str) -> io::Result<String> {
    send(port, "GET", path, "", "").await
}

/// Sends a request; returns the head and body of the response. `headers` are complete lines.
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
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}
