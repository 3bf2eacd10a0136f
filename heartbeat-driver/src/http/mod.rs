//! One HTTP exchange over a non-blocking stream: sends a request and reads the head of the answer.
//!
//! In: the bytes of a request. Out: a [`Response`], or the [`DialError`] that ends the dial. Proxies and the
//! upgrade itself both use it. Read `exchange.rs` first.

mod body;
mod error;
mod exchange;
mod response;

pub(crate) use self::body::Body;
pub(crate) use self::error::{DialError, Lost};
pub(crate) use self::exchange::Exchange;
pub use self::response::Response;
