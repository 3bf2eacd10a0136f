//! A world without sockets and without waiting: in-memory byte streams, and servers that follow a
//! script in whatever time they are given.

mod peer;
mod pipe;

pub use peer::{Act, Peer, Reception, Visit};
pub use pipe::{End, pipe};

/// The `Sec-WebSocket-Accept` that answers this key (RFC 6455 §4.2.2), for a server that is written by
/// hand.
#[must_use]
pub fn accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}
