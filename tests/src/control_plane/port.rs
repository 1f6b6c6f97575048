//! Reserved ports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// A free TCP port of 127.0.0.1, reserved for programs of this user that listen with `SO_REUSEPORT`.
///
/// The socket that reserves the port never listens. The port stays reserved while such a program is down or not
/// started yet, because the kernel does not give it to processes that request an arbitrary free port.
pub(super) struct Port {
    number: u16,
    _socket: OwnedFd,
}

impl Port {
    pub(super) fn choose() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        fcntl_setfd(&socket, FdFlags::CLOEXEC).expect("a flag can be set");
        set_socket_reuseport(&socket, true).expect("the system supports SO_REUSEPORT");
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = getsockname(&socket).expect("the socket is bound");
        let address = SocketAddrV4::try_from(address).expect("an IPv4 address");
        Self {
            number: address.port(),
            _socket: socket,
        }
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }
}
