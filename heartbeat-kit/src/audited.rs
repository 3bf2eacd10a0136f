//! A machine under the auditor's eyes.

use std::borrow::Borrow;
use std::ops::Deref;

use heartbeat_core::trace::{answer, event_line};
use heartbeat_core::{Config, Dialect, Event, Heartbeat, Instant, Step};

use crate::Auditor;

/// A machine, each step of which is judged: by its actions, and by what copies of the machine would do. It stands in a
/// test where a [`Heartbeat`] stands otherwise, and keeps the trace.
#[derive(Clone, Debug)]
pub struct Audited<C, D> {
    machine: Heartbeat<C, D>,
    auditor: Auditor,
    trace: String,
}

impl<C: Borrow<Config> + Clone, D: Dialect + Clone> Audited<C, D> {
    /// Before the first step of a machine that was made at `start`.
    #[must_use]
    pub fn new(machine: Heartbeat<C, D>, start: Instant) -> Self {
        let auditor = match machine.conn() {
            Some(_) => Auditor::accepted(),
            None => Auditor::new(),
        };
        Self {
            machine,
            auditor: auditor.since(start),
            trace: String::new(),
        }
    }

    /// The driver that calls [`step`](Self::step) is judged, too ([`Auditor::of_driver`]).
    #[must_use]
    pub fn with_driver(mut self) -> Self {
        self.auditor = self.auditor.of_driver();
        self
    }

    /// As [`Heartbeat::step`].
    ///
    /// # Panics
    /// If a rule is broken: with the rule's sentence, and the events and answers so far.
    pub fn step<'a>(&mut self, now: Instant, event: Event<'a>) -> Step<'a> {
        let before = self.machine.clone();
        let step = self.machine.step(now, event);
        self.trace.push_str(&event_line(now, &event));
        self.trace.push_str("\n  ");
        self.trace
            .push_str(&answer(now, &step, self.machine.phase()));
        self.trace.push('\n');
        let judged = self
            .auditor
            .step(now, &event, &step, self.machine.phase())
            .and_then(|()| self.auditor.machine(&before, &self.machine, &event, &step));
        if let Err(broken) = judged {
            panic!("{}\n{broken}", self.trace);
        }
        step
    }

    /// Each event so far as a line of a trace, and its answer, indented.
    #[must_use]
    pub fn trace(&self) -> &str {
        &self.trace
    }
}

/// To look at; only [`Audited::step`] changes the machine.
impl<C, D> Deref for Audited<C, D> {
    type Target = Heartbeat<C, D>;

    fn deref(&self) -> &Self::Target {
        &self.machine
    }
}
