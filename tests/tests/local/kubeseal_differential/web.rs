//! A web server on the loopback address that serves four paths.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::Result;

/// The address of a server that runs until the process ends.
pub(crate) struct WebServer(SocketAddr);

impl WebServer {
    pub(crate) fn serve(certificate: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Ignore the error: a client that disconnects early has received the response or does not need it.
                let _ = respond(client, &certificate);
            }
        });
        Ok(Self(address))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0)
    }
}

fn respond(mut client: TcpStream, certificate: &[u8]) -> Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for header in lines {
        if header?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, headers, body): (&str, &str, &[u8]) = match path {
        "/cert.pem" => ("200 OK", "", certificate),
        "/moved" => ("302 Found", "Location: /cert.pem\r\n", b""),
        "/broken" => ("500 Internal Server Error", "", b"no certificate today\n"),
        "/text" => ("200 OK", "", b"this is no certificate\n"),
        _ => ("404 Not Found", "", b"404 page not found\n"),
    };
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    client.write_all(body)?;
    Ok(())
}
