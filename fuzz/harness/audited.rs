//! The machine in an engine, audited step by step: a second machine is given the same events, and the auditor of the core
//! judges what it does.

use heartbeat_driver::core::{AnyDialect, Config, Event, Heartbeat, Instant, Step, trace::Header};

#[allow(dead_code, unreachable_pub, reason = "written for another crate")]
#[path = "../../heartbeat-core/tests/support/audit.rs"]
mod audit;

/// What the auditor looks at.
pub(crate) type Machine = Heartbeat<Config, AnyDialect>;

/// A machine beside the engine's.
pub(crate) struct Audited {
    machine: Machine,
    audit: audit::Audit,
}

impl Audited {
    pub(crate) fn new(config: Config, dialect: AnyDialect, seed: u64, now: Instant) -> Self {
        let mut header = Header::default();
        header.start = now;
        Self {
            machine: Machine::new(config, dialect, seed, now),
            audit: audit::Audit::new(&header),
        }
    }

    /// One step of the engine's machine.
    ///
    /// # Panics
    /// If a machine that was told the same does something else, or the auditor objects.
    pub(crate) fn step(&mut self, now: Instant, event: &Event<'_>, step: &Step<'_>) {
        let before = self.machine.clone();
        let own = self.machine.step(now, *event);
        assert_eq!(
            own, *step,
            "the same machine does something else: {event:?}"
        );
        if let Err(rule) = self.audit.step(&before, &self.machine, now, event, step) {
            panic!("{rule}: {event:?}");
        }
    }
}
