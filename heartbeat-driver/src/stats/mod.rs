//! Figures of a client, and its last events for `explain`.
//!
//! In: the engine's reports and the connection's traffic. Out: [`ClientStats`], metrics, the trace of the last
//! events, and the outcome for `connected()` and `ready()`. Read `shared.rs` first.

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
