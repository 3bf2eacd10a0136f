//! How and when a service is asked for a sign of life.

use super::template_ref::TemplateRef;

/// How a service is asked for a sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingSpec {
    /// By the message that this draft becomes; `None`: by a WebSocket ping frame.
    pub message: Option<TemplateRef<'static>>,
    /// Whether that message is answered. One that is not is a beat of ours: where an answer is
    /// needed, a ping frame is sent.
    pub is_answered: bool,
    /// When a connection's first question comes, if questions come at an interval.
    pub first: First,
    /// By how much of the interval, in percent (0–100, default 0), each question comes earlier at most, drawn evenly
    /// anew each time, so that a fleet does not ping in step.
    pub jitter_percent: u8,
}

/// When a connection's first periodic ping comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// After one interval.
    #[default]
    After,
    /// As soon as the connection is open.
    AtOnce,
    /// After an even draw between nothing and one interval, so that a fleet that reconnects at once
    /// does not ping at once.
    Jittered,
}
