//! Messages of gRPC in HTTP/2 streams.

use bytes::Buf;
use h2::RecvStream;
use zeroize::Zeroizing;

use crate::failure::{Failure, FinalCode};
use crate::protobuf::Writer;

/// The maximum size of a request in bytes: JSON with `objects`, which have at most 256 KiB before they are escaped, and
/// tokens.
const MAX_REQUEST: usize = 576 << 10;

/// The maximum size of a response in bytes, the driver's default. The driver would reject a larger response with a code
/// after which the kubelet keeps the directory of the volume.
pub(crate) const MAX_RESPONSE: usize = 4 << 20;

/// The size of a message's prefix: a compression flag and the length of the message.
const PREFIX: usize = 5;

/// A message with its prefix. Its memory is wiped on drop.
pub(crate) struct Message {
    bytes: Zeroizing<Vec<u8>>,
    position: usize,
}

impl Message {
    /// Writes a message of exactly `len` bytes.
    pub(crate) fn write(len: usize, write: impl FnOnce(&mut Writer)) -> Self {
        let mut prefix = [0; PREFIX];
        let prefix_len = u32::try_from(len).unwrap_or(u32::MAX);
        prefix[1..].copy_from_slice(&prefix_len.to_be_bytes());
        let mut writer = Writer::new(&prefix, len);
        write(&mut writer);
        let bytes = writer.finish();
        debug_assert_eq!(bytes.len(), PREFIX + len);
        Self { bytes, position: 0 }
    }
}

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    fn advance(&mut self, count: usize) {
        self.position = (self.position + count).min(self.bytes.len());
    }
}

/// Reads the only message of a request.
pub(crate) async fn read(body: &mut RecvStream) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|_| incomplete_message())?;
        let _ = body.flow_control().release_capacity(chunk.len());
        if bytes.len() + chunk.len() > PREFIX + MAX_REQUEST {
            return Err(Failure::invalid(
                "the attributes of the volume have more than 576 KiB",
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
    message(&bytes).map(|message| Zeroizing::new(message.to_vec()))
}

fn message(bytes: &[u8]) -> Result<&[u8], Failure> {
    let (prefix, message) = bytes
        .split_first_chunk::<PREFIX>()
        .ok_or_else(incomplete_message)?;
    let [is_compressed, len @ ..] = *prefix;
    if is_compressed != 0 {
        let text = "the request is compressed, which this provider does not support";
        return Err(Failure::new(FinalCode::Unimplemented, text));
    }
    if usize::try_from(u32::from_be_bytes(len)) != Ok(message.len()) {
        return Err(incomplete_message());
    }
    Ok(message)
}

fn incomplete_message() -> Failure {
    Failure::new(
        FinalCode::Internal,
        "the request of the driver is incomplete",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_its_length() {
        let mut written = Message::write(3, |writer| writer.bytes(1, b"x"));
        assert_eq!(written.chunk(), b"\0\0\0\0\x03\x0a\x01x");
        written.advance(6);
        assert_eq!((written.chunk(), written.remaining()), (&b"\x01x"[..], 2));
        written.advance(2);
        assert!(!written.has_remaining());
        assert_eq!(Message::write(0, |_| {}).chunk(), [0; PREFIX]);
    }

    #[test]
    fn refuses_compressed_and_incomplete_messages() {
        assert_eq!(message(b"\0\0\0\0\x01x"), Ok(&b"x"[..]));
        let code = |bytes| message(bytes).unwrap_err().code;
        assert_eq!(code(b"\x01\0\0\0\x01x"), FinalCode::Unimplemented);
        for bytes in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02x", b"\0\0\0\0\0x"] {
            assert_eq!(code(bytes), FinalCode::Internal, "{bytes:?}");
        }
    }
}
