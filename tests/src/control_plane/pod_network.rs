//! The network in which the API server reaches nodes and Pods.
//!
//! The API server refuses loopback addresses as endpoints, so a Pod that represents a process of this machine
//! needs another address. Adding an address to the machine needs privileges and differs between systems. Instead,
//! the API server reaches Pods through a proxy, as in clusters whose Pods are in another network
//! (`EgressSelectorConfiguration`, `HTTPConnect` over a Unix socket). This module is that proxy. It connects to the
//! addresses of a node and its Pods in the node's network namespace, and routes every other address to 127.0.0.1 of
//! this machine: it keeps the port and ignores the address. It never connects to another machine.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::network_namespace::NetworkNamespace;
use crate::tunnel;

/// The address of Pods that represent a process of this machine, from a block that is reserved for documentation (RFC
/// 5737) and therefore unused.
pub(super) const POD_ADDRESS: &str = "198.51.100.1";

/// The first two bytes of all addresses of nodes and their Pods. The third is the number of the node.
const NODE_PREFIX: [u8; 2] = [10, 88];

/// A proxy that runs until this process ends.
#[derive(Clone, Default)]
pub(crate) struct PodNetwork {
    nodes: Arc<Mutex<HashMap<u8, Arc<NetworkNamespace>>>>,
    last_number: Arc<AtomicU8>,
}

impl PodNetwork {
    /// Serves the proxy on a Unix socket.
    pub(super) fn serve(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap_or_else(|error| {
            panic!(
                "cannot create a socket at {}: {error}; if TMPDIR is longer than 60 characters, shorten it",
                socket.display()
            )
        });
        let network = Self::default();
        let server = network.clone();
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || server.tunnel(caller));
            }
        });
        network
    }

    /// Returns the number of the next node; the first is 1.
    pub(crate) fn next_number(&self) -> u8 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Routes the addresses of a node and its Pods to the node's namespace.
    pub(crate) fn add_node(&self, number: u8, namespace: NetworkNamespace) {
        let namespace = Arc::new(namespace);
        self.nodes.lock().unwrap().insert(number, namespace);
    }

    /// Makes the addresses of a node unreachable.
    pub(crate) fn remove_node(&self, number: u8) {
        self.nodes.lock().unwrap().remove(&number);
    }

    /// Serves one connection: reads a request of the form `CONNECT host:port`, responds, and forwards bytes in both
    /// directions.
    fn tunnel(&self, mut caller: UnixStream) -> io::Result<()> {
        let target = requested_target(&caller)?;
        let Some(target) = target.and_then(|(host, port)| self.connect(&host, port).ok()) else {
            return caller.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
        };
        caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        tunnel::forward(caller, target)
    }

    fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let Some((number, address)) = in_node(host) else {
            return TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        };
        let node = self.nodes.lock().unwrap().get(&number).cloned();
        let node = node.ok_or(io::ErrorKind::HostUnreachable)?;
        node.connect((address, port).into())
    }
}

/// Returns the number of the node to which an address belongs, and the address; `None` for other addresses.
fn in_node(host: &str) -> Option<(u8, Ipv4Addr)> {
    let address: Ipv4Addr = host.parse().ok()?;
    let bytes = address.octets();
    (bytes[..2] == NODE_PREFIX).then_some((bytes[2], address))
}

/// Reads the request up to its empty line; the API server sends nothing more before the response.
fn requested_target(caller: &UnixStream) -> io::Result<Option<(String, u16)>> {
    let mut lines = BufReader::new(caller).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let target = request.split(' ').nth(1);
    let target = target.and_then(|target| target.rsplit_once(':'));
    Ok(target.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))))
}
