//! Forwards the bytes of two connections.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

/// Forwards bytes between two sockets in both directions until both have ended.
///
/// # Errors
/// Returns an error if no file descriptors are left.
pub(crate) fn forward(left: impl Into<OwnedFd>, right: impl Into<OwnedFd>) -> io::Result<()> {
    let (left, right) = (File::from(left.into()), File::from(right.into()));
    let (from, to) = (left.try_clone()?, right.try_clone()?);
    let there = thread::spawn(move || copy(from, to));
    copy(right, left);
    let _ = there.join();
    Ok(())
}

/// Copies bytes until `from` ends or copying fails, and then shuts down writing to `to`.
fn copy(mut from: File, mut to: File) {
    let _ = io::copy(&mut from, &mut to);
    let _ = rustix::net::shutdown(to.as_fd(), rustix::net::Shutdown::Write);
}
