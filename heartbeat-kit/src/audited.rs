//! A machine that the auditor judges at each step.

use std::borrow::Borrow;
use std::ops::Deref;

use heartbeat_core::trace::{answer, event_line};
use heartbeat_core::{Config, Dialect, Event, Heartbeat, Instant, Step};

use crate::Auditor;

/// A machine whose steps are judged, both by their actions and by what copies of the machine would do. Use it in a test in
/// place of a [`Heartbeat`]. It also records the trace.
#[derive(Clone, Debug)]
pub struct Audited<C, D> {
    machine: Heartbeat<C, D>,
    auditor: Auditor,
    trace: String,
}

impl<C: Borrow<Config> + Clone, D: Dialect + Clone> Audited<C, D> {
    /// Wraps a machine that was created at `start` and has not made a step.
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

    /// Also judges the driver that calls [`step`](Self::step). See [`Auditor::of_driver`].
    #[must_use]
    pub fn with_driver(mut self) -> Self {
        self.auditor = self.auditor.of_driver();
        self
    }

    /// Calls [`Heartbeat::step`] and judges the step.
    ///
    /// # Panics
    /// If a rule is broken. The message has the rule, and the events and answers so far.
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

    /// Returns the trace so far: a line for each event, then an indented line for the machine's answer.
    #[must_use]
    pub fn trace(&self) -> &str {
        &self.trace
    }
}

/// Gives read access to the machine. Only [`Audited::step`] changes it.
impl<C, D> Deref for Audited<C, D> {
    type Target = Heartbeat<C, D>;

    fn deref(&self) -> &Self::Target {
        &self.machine
    }
}
