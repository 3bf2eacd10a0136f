//! The end of a client after a panic in the application's code.

use std::io::{Read, Write};

use heartbeat_core::{Cause, Clock, Event as Input, Failure, GiveUp, Instant, Phase};
use tracing::error;

use super::{ConnState, Engine};
use crate::event::Reason;
use crate::panics::{Inside, Panicked, catch, named};

/// A clock whose panics are reported as the clock's.
pub(super) struct Named<'c, C>(pub(super) &'c C);

impl<C: Clock> Clock for Named<'_, C> {
    fn now(&self) -> Instant {
        named("the clock", || self.0.now())
    }
}

impl<S: Read + Write> Engine<S> {
    /// Runs `f`, which may call the application's code. Returns `None` after a panic, which ends the client.
    pub(super) fn guarded<T>(
        &mut self,
        clock: &impl Clock,
        f: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        // All other application code is named where it is called.
        let code = if self.options.has_own_dialect {
            "the dialect"
        } else {
            "the client"
        };
        let inside = Inside::enter(self.send_queue.id());
        let done = catch(code, || f(self));
        drop(inside);
        done.map_err(|panicked| self.panicked(&panicked, clock))
            .ok()
    }

    /// Resumes a panic of the byte stream that did not unwind through the libraries above the stream.
    pub(super) fn resume_panic(&mut self) {
        let stream = match &mut self.link {
            ConnState::Upgrading { upgrade, .. } => upgrade.panicked(),
            ConnState::Open(session) => session.panicked(),
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => None,
        };
        if let Some(panicked) = stream {
            panicked.resume();
        }
    }

    /// Ends the client after a panic in the application's code, as if its session had been given up. Unwritten
    /// messages are handed back. None of the application's code is called again. The machine is not consulted
    /// either, because it may be in the middle of a step.
    ///
    /// For an adapter whose user's code has panicked: see [`SendQueue::guard`](crate::SendQueue::guard).
    #[cold]
    pub fn panicked(&mut self, panicked: &Panicked, clock: &impl Clock) {
        if self.ended {
            return;
        }
        let words = panicked.to_string();
        error!(parent: &self.span, "{words}");
        (self.options.observer, self.options.on_connect, self.meter) = (None, None, None);
        // The panic may have come from the clock.
        let now = catch("the clock", || clock.now()).unwrap_or(Instant::ORIGIN);
        let before = self.before(now);
        let renewed = self.renewing.take().is_some();
        let was_closing = self.machine.phase() == Phase::Closing && !renewed;
        let unsent = catch("a destructor", || self.drop_link(now)).unwrap_or_default();
        self.dial = None;
        let cause = Cause::Session(Failure::GiveUp);
        match self.told.take() {
            Some(conn) if !was_closing => {
                let detail = Some(words.into());
                self.tell_disconnected(conn, Reason::Cause(cause), detail, before, unsent, now);
            }
            _ => self.unsent = std::mem::take(&mut self.unsent).and(unsent),
        }
        if !was_closing {
            self.give_up(GiveUp::Cause(cause));
        }
        // This path calls none of the application's code.
        let conn = self.machine.conn();
        let _ = self.machine.step(now, Input::Stop);
        if let Some(conn) = conn {
            let _ = self.machine.step(now, Input::Closed(conn, cause));
        }
        self.tell_stopped(now);
        self.publish();
    }
}
