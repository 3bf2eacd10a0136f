//! A server that costs next to nothing: a byte stream in memory that answers the upgrade, and then never
//! runs out of messages.

use std::io::{self, Read, Write};
use std::task::{Context, Poll};

use heartbeat_tokio::Transport;
use tungstenite::handshake::derive_accept_key;

/// A trade in the form that exchanges send, 150 bytes. No dialect takes it for a heartbeat.
pub(crate) fn trade() -> String {
    let head = r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","p":"612.40","x":""#;
    let tail = r#"","m":true}"#;
    let fill = "0".repeat(150 - head.len() - tail.len());
    format!("{head}{fill}{tail}")
}

#[derive(Debug)]
pub(crate) struct Flood {
    /// The request so far, until it was answered.
    request: Vec<u8>,
    /// The answer, then frames without end.
    bytes: Vec<u8>,
    at: usize,
    /// After every hundred messages comes a ping.
    asks: bool,
}

impl Flood {
    pub(crate) fn new() -> Self {
        Self {
            request: Vec::new(),
            bytes: Vec::new(),
            at: 0,
            asks: false,
        }
    }

    /// With a ping after every hundred messages.
    pub(crate) fn asking() -> Self {
        Self {
            asks: true,
            ..Self::new()
        }
    }

    /// Without the upgrade.
    pub(crate) fn upgraded() -> Self {
        Self {
            bytes: frames(false),
            ..Self::new()
        }
    }
}

/// About the size of one large read of a socket.
fn frames(asks: bool) -> Vec<u8> {
    let text = trade();
    // RFC 6455 §5.2: a final text frame, two bytes of length, no mask.
    let len = u16::try_from(text.len()).unwrap_or_default().to_be_bytes();
    let frame = [&[0x81, 126], &len[..], text.as_bytes()].concat();
    if asks {
        return [frame.repeat(100), b"\x89\x00".to_vec()].concat().repeat(4);
    }
    frame.repeat(64 * 1024 / frame.len())
}

impl Read for Flood {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.bytes.len() {
            if self.bytes.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if !self.request.is_empty() {
                self.request.clear();
                self.bytes = frames(self.asks);
            }
            self.at = 0;
        }
        let count = buffer.len().min(self.bytes.len() - self.at);
        // In pieces, because callgrind counts a large copy by the byte, and a kernel's copy not at all.
        let pieces = self.bytes[self.at..self.at + count].chunks(1024);
        for (to, from) in buffer.chunks_mut(1024).zip(pieces) {
            to[..from.len()].copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

impl Write for Flood {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.request.extend_from_slice(bytes);
            if self.request.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.request);
                let key = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("sec-websocket-key")
                        .then(|| value.trim())
                });
                let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
                self.bytes = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                )
                .into();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Flood {
    fn poll_read_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_write_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
