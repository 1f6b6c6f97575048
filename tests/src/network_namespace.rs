//! Sockets in another network namespace.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The time limit for a connection to a process of this machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A network namespace. It exists at least as long as this value.
pub(crate) struct NetworkNamespace(File);

impl NetworkNamespace {
    /// Returns the network namespace of a process.
    ///
    /// # Errors
    /// Returns an error if the process has ended.
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        File::open(format!("/proc/{process}/ns/net")).map(Self)
    }

    /// Connects to an address in the namespace.
    ///
    /// # Errors
    /// Returns an error if this process may not enter the namespace, or nothing listens at the address.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&address, CONNECT_LIMIT))
    }

    /// Listens at an address in the namespace.
    ///
    /// # Errors
    /// Returns an error if this process may not enter the namespace, or the namespace does not have the address.
    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.enter(|| TcpListener::bind(address))
    }

    /// Creates a socket on a thread that enters the namespace and then ends. A socket stays in the namespace in which
    /// it was created.
    fn enter<T: Send>(&self, create: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let enter_and_create = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
            create()
        };
        thread::scope(|scope| scope.spawn(enter_and_create).join()).expect("no step panics")
    }
}
