//! Figures: what a client counts, and what it remembers for `explain`.
//!
//! In: what the engine does and what the connection moved. Out: [`ClientStats`], metrics, the trace of the last
//! events, and the outcome that `connected()` and `ready()` wait for. Read `shared.rs` first.

mod connected;
mod explain;
mod metrics;
mod shared;
mod traffic;

pub use self::connected::{NotConnected, Until, WaitEnd};
pub(crate) use self::explain::Recorder;
pub(crate) use self::metrics::Meter;
pub use self::shared::{ClientStats, SharedStats};
pub(crate) use self::traffic::Traffic;
