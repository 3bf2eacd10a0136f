//! The machine's last events, kept to be replayed later.

use heartbeat_core::trace::{Header, RecordedEvent};
use heartbeat_core::{AnyDialect, Config, Event, Instant, Memory, Variables};

/// Keeps between `limit` and twice as many of the last events, in two halves, with the machine's memory before
/// each half.
#[derive(Debug)]
pub(crate) struct Recorder {
    limit: usize,
    dialect: AnyDialect,
    config: Config,
    older: Option<Half>,
    newer: Option<Half>,
}

#[derive(Debug)]
struct Half {
    before: Memory,
    events: Vec<RecordedEvent>,
}

impl Recorder {
    pub(crate) fn new(limit: usize, dialect: AnyDialect, config: Config) -> Self {
        Self {
            limit,
            dialect,
            config,
            older: None,
            newer: None,
        }
    }

    /// Records an event. `memory` is the machine's memory before the event. `tracked` holds the values that the
    /// dialect has kept from messages that are not recorded.
    pub(crate) fn record(
        &mut self,
        memory: impl FnOnce() -> Memory,
        now: Instant,
        event: &Event<'_>,
        tracked: &Variables,
    ) {
        let full = |half: &Half| half.events.len() >= self.limit;
        if self.newer.as_ref().is_none_or(full) {
            self.older = self.newer.take();
        }
        let newer = self.newer.get_or_insert_with(|| Half {
            before: memory(),
            events: Vec::new(),
        });
        let mut recorded = RecordedEvent::new(now, event);
        recorded.variables.clone_from(tracked);
        newer.events.push(recorded);
    }

    /// Returns the trace.
    pub(crate) fn explain(&self) -> String {
        let halves = || self.older.iter().chain(&self.newer);
        let mut header = Header::default();
        header.config = self.config.clone();
        header.dialect = self.dialect.clone();
        header.memory = halves().next().map(|half| half.before.clone());
        let mut trace = header.line();
        for recorded in halves().flat_map(|half| &half.events) {
            trace.push('\n');
            trace.push_str(&recorded.line());
        }
        trace.push('\n');
        trace
    }
}
