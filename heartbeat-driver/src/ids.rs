//! One row of ids for the client's own messages and the application's.

use std::sync::{Mutex, PoisonError};

use heartbeat_core::{Config, Event, Heartbeat, Instant, Step};

use crate::options::SharedDialect;

/// The next id, for whoever comes first: some services (Home Assistant, Mattermost, Phoenix) want one
/// row of them on a connection, whoever sends.
///
/// A lock and not an atomic: the machine takes what it needs within a step, which is one.
#[derive(Debug)]
pub(crate) struct Ids(Mutex<u64>);

impl Ids {
    pub(crate) fn from(first: u64) -> Self {
        Self(Mutex::new(first))
    }

    pub(crate) fn take(&self) -> u64 {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = *next;
        *next = id.wrapping_add(1);
        id
    }

    /// A step of the machine's, which takes its ids from here.
    pub(crate) fn step<'a, C: std::borrow::Borrow<Config>>(
        &self,
        machine: &mut Heartbeat<C, SharedDialect>,
        now: Instant,
        event: Event<'a>,
    ) -> Step<'a> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machine.set_next_id(*next);
        let step = machine.step(now, event);
        *next = machine.next_id();
        step
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

    use heartbeat_core::{Action, Ask, ConnId, Description};

    use super::*;

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
                        ping: Ask::Draft(draft),
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
