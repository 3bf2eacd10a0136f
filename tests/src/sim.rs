//! A world without sockets and without waiting: in-memory byte streams, and servers that follow a
//! script in whatever time they are given.

mod peer;
mod pipe;

pub use peer::{Act, Peer, Reception, Visit};
pub use pipe::{End, pipe};
