//! The form and the times of a dialect's pings.

use super::template_ref::TemplateRef;

/// Describes how to ping a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingSpec {
    /// The template of the ping message; `None`: a WebSocket ping frame.
    pub message: Option<TemplateRef<'static>>,
    /// True if the service answers the message. If not, the message is a one-way ping, and the machine sends a ping
    /// frame where it needs an answer.
    pub is_answered: bool,
    /// The time of a connection's first periodic ping.
    pub first: First,
    /// The largest part of the interval, in percent (0–100, default 0), by which a periodic ping comes early. Each
    /// ping draws a random part of this anew, so that a fleet does not ping in step.
    pub jitter_percent: u8,
}

/// The time of a connection's first periodic ping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// After one interval.
    #[default]
    After,
    /// As soon as the connection is open.
    AtOnce,
    /// After a random part of one interval. A fleet that reconnects at once then does not ping at once.
    Jittered,
}
