//! The machine in an engine, audited step by step: a second machine is given the same events, and the auditor of the core
//! judges what it does.

use heartbeat_driver::core::{AnyDialect, Config, Event, Heartbeat, Instant, Step};
use heartbeat_kit::Audited as Judged;

/// What the auditor looks at.
pub(crate) type Machine = Heartbeat<Config, AnyDialect>;

/// A machine beside the engine's.
pub(crate) struct Audited(Judged<Config, AnyDialect>);

impl Audited {
    pub(crate) fn new(config: Config, dialect: AnyDialect, seed: u64, now: Instant) -> Self {
        let machine = Machine::new(config, dialect, seed, now);
        Self(Judged::new(machine, now).with_driver())
    }

    /// One step of the engine's machine.
    ///
    /// # Panics
    /// If a machine that was told the same does something else, or the auditor objects.
    pub(crate) fn step(&mut self, now: Instant, event: &Event<'_>, step: &Step<'_>) {
        let own = self.0.step(now, *event);
        assert_eq!(
            own, *step,
            "the same machine does something else: {event:?}"
        );
    }
}
