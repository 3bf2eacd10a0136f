//! Ids that the client's own messages and the application's share.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use heartbeat_core::{Config, Event, Heartbeat, Instant, Step};

use crate::dialect::SharedDialect;

/// The next id. Some services (Home Assistant, Mattermost, Phoenix) want one sequence of ids on a connection,
/// whoever sends the message.
///
/// A lock and not an atomic: the machine takes its ids within a step, and the step must not be interrupted. A
/// dialect in Rust that takes an id within the step gets one after the machine's ids, and the sequence
/// continues after that id.
#[derive(Debug)]
pub(crate) struct Ids(Mutex<u64>);

/// At least the number of ids that the machine takes in one step, one for each message that the step sends.
const IDS_OF_A_STEP: u64 = 16;

thread_local! {
    /// The address of the ids whose step is running in this thread, and the next id for the dialect within the
    /// step.
    static STEPPING: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// A running step. Dropping it, also after a panic in the dialect, restores the outer step (of another client).
struct Stepping((usize, u64));

impl Stepping {
    fn begin(ids: &Ids, next: u64) -> Self {
        let next = next.wrapping_add(IDS_OF_A_STEP);
        Self(STEPPING.replace((ids.address(), next)))
    }
}

impl Drop for Stepping {
    fn drop(&mut self) {
        STEPPING.set(self.0);
    }
}

impl Ids {
    pub(crate) fn from(first: u64) -> Self {
        Self(Mutex::new(first))
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn take(&self) -> u64 {
        let (stepping, id) = STEPPING.get();
        if stepping == self.address() {
            // The dialect's own code calls this, within a step that holds the lock.
            STEPPING.set((stepping, id.wrapping_add(1)));
            return id;
        }
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = *next;
        *next = id.wrapping_add(1);
        id
    }

    /// Runs a step of the machine with ids from this sequence.
    pub(crate) fn step<'a, C: std::borrow::Borrow<Config>>(
        &self,
        machine: &mut Heartbeat<C, SharedDialect>,
        now: Instant,
        event: Event<'a>,
    ) -> Step<'a> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machine.set_next_id(*next);
        let stepping = Stepping::begin(self, *next);
        let step = machine.step(now, event);
        let (_, taken) = STEPPING.get();
        let is_taken = taken != next.wrapping_add(IDS_OF_A_STEP);
        *next = if is_taken { taken } else { machine.next_id() };
        drop(stepping);
        step
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

    use heartbeat_core::{Action, Class, ConnId, Description, Dialect, Message, PingMessage};

    use super::*;

    /// A dialect that takes an id of the application's sequence for each text that it reads.
    #[derive(Debug)]
    struct Takes(Arc<(Ids, Mutex<Vec<u64>>)>);

    impl Dialect for Takes {
        fn classify_text<'a>(&self, _: &'a str) -> Class<'a> {
            let (ids, taken) = &*self.0;
            taken.lock().unwrap().push(ids.take());
            Class::Data
        }

        fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
            Class::Data
        }
    }

    #[test]
    fn a_dialect_may_take_ids_within_a_step() {
        let shared = Arc::new((Ids::from(5), Mutex::default()));
        let dialect: SharedDialect = Arc::new(Takes(Arc::clone(&shared)));
        let config = Config::builder().build().unwrap();
        let mut machine = Heartbeat::new(config, dialect, 7, Instant::ORIGIN);
        let ids = &shared.0;
        let now = Instant::ORIGIN;
        let _ = ids.step(&mut machine, now, Event::Tick);
        let conn = ConnId::new(1);
        let _ = ids.step(&mut machine, now, Event::Connected(conn));
        let mut all = vec![ids.take()];
        for _ in 0..3 {
            let _ = ids.step(&mut machine, now, Event::Received(conn, Message::Text("a")));
            all.append(&mut shared.1.lock().unwrap());
            all.push(ids.take());
        }
        assert!(all.is_sorted_by(|a, b| a < b) && all.len() == 7, "{all:?}");
    }

    #[test]
    fn no_id_is_given_twice_to_the_machine_and_to_threads() {
        let dialect = r#"{"ping": {"text": "${id}", "every": "10s"}}"#;
        let dialect: SharedDialect = Arc::new(Description::from_json(dialect).unwrap());
        let config = Config::builder().ping(heartbeat_core::Ping::Every(Duration::from_secs(10)));
        let mut machine = Heartbeat::new(config.build().unwrap(), dialect, 7, Instant::ORIGIN);
        let ids = Ids::from(5);
        let taken = std::thread::scope(|scope| {
            let take = || (0..10_000).map(|_| ids.take()).collect::<Vec<_>>();
            let threads = [scope.spawn(take), scope.spawn(take)];
            let mut taken = Vec::new();
            let mut now = Instant::ORIGIN;
            let _ = ids.step(&mut machine, now, Event::Tick);
            let _ = ids.step(&mut machine, now, Event::Connected(ConnId::new(1)));
            while taken.len() < 2_000 {
                now = machine.wake().unwrap();
                let step = ids.step(&mut machine, now, Event::Progress(ConnId::new(1)));
                taken.extend(step.actions.iter().filter_map(|action| match action {
                    Action::SendPing {
                        ping: PingMessage::Template(draft),
                        ..
                    } => Some(draft.id),
                    _ => None,
                }));
            }
            taken.extend(threads.map(|thread| thread.join().unwrap()).concat());
            taken
        });
        assert_eq!(taken.len(), 22_000);
        assert_eq!(
            taken.into_iter().collect::<HashSet<_>>(),
            (5..22_005).collect(),
            "each once, and none left out"
        );
    }
}
