//! The network in which the API server reaches Pods: every address in it is routed to 127.0.0.1 of this
//! machine.
//!
//! The API server refuses loopback addresses as endpoints, so a Pod that represents a process of this machine
//! needs another address. Adding one to the machine needs privileges and differs between systems. Instead,
//! the API server reaches Pods through a proxy, as in clusters whose Pods are in another network
//! (`EgressSelectorConfiguration`, `HTTPConnect` over a Unix socket). This module is that proxy. It keeps the port
//! and ignores the address, and so never sends anything to another machine.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// The address of Pods, from a block that is reserved for documentation (RFC 5737) and therefore unused.
pub(super) const POD_ADDRESS: &str = "198.51.100.1";

/// Serves the proxy on a Unix socket until this process ends.
pub(super) fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap_or_else(|error| {
        panic!(
            "cannot create a socket at {}: {error}; if TMPDIR is longer than 60 characters, shorten it",
            socket.display()
        )
    });
    thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            thread::spawn(move || tunnel(caller));
        }
    });
}

/// Serves one connection: reads a request of the form `CONNECT address:port`, responds, and forwards bytes in both
/// directions.
fn tunnel(mut caller: UnixStream) -> io::Result<()> {
    let target = requested_port(&caller)?
        .and_then(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    let Some(mut target) = target else {
        return caller.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
    };
    caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_caller, mut to_target) = (caller.try_clone()?, target.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_caller, &mut to_target);
        let _ = to_target.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut target, &mut caller);
    caller.shutdown(Shutdown::Write)
}

/// Reads the request up to its empty line; the API server sends nothing more before the response.
fn requested_port(caller: &UnixStream) -> io::Result<Option<u16>> {
    let mut lines = BufReader::new(caller).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let target = request
        .split(' ')
        .nth(1)
        .and_then(|target| target.rsplit_once(':'));
    Ok(target.and_then(|(_, port)| port.parse().ok()))
}
