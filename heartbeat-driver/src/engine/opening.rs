//! Sessions: the phase between an open connection and a ready one, and the gap between two ready connections.

use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use heartbeat_core::{Cause, ConnId, Event as Input, Failure, Instant};
use tracing::{info, warn};

use super::performing::{Before, session};
use super::{ConnState, Engine};
use crate::clock;
use crate::event::{Event, Reason, Seconds};
use crate::log::some;
use crate::message::{CloseFrame, Message};
use crate::on_connect::{Opening, Progress};
use crate::panics::named;

/// The last ready connection that was lost.
pub(super) struct Lost {
    /// When its last byte was read, on both clocks.
    since: SystemTime,
    heard: Instant,
    cause: Reason,
    /// Dials since then.
    pub(super) attempts: u32,
    /// Messages handed back since then.
    unsent: usize,
    /// Messages that were written and may not have arrived.
    in_doubt: usize,
}

impl<S: Read + Write> Engine<S> {
    /// Runs the application's `on_connect`, if there is one.
    pub(super) fn open_session(&mut self, conn: ConnId, message: Option<&Message>, now: Instant) {
        let (Some(on_connect), true) = (&mut self.options.on_connect, self.opening) else {
            return;
        };
        let mut messages = Vec::new();
        let mut opening = Opening {
            attempt: self.attempt.clone(),
            messages: &mut messages,
        };
        let progress = named("on_connect", || match message {
            None => on_connect.connected(&mut opening),
            Some(message) => on_connect.message(message, &mut opening),
        });
        if let Some(session) = session(&mut self.link, conn) {
            for message in messages {
                session.give_own(message);
                if let Some(pace) = &mut self.pace {
                    pace.spend(now);
                }
            }
        }
        match progress {
            Progress::Pending => {}
            Progress::Ready => self.session_ready(conn, now),
            Progress::Failed(failure) => {
                self.session_failed(conn, failure, &CloseFrame::of(failure), now);
            }
        }
    }

    pub(super) fn session_ready(&mut self, conn: ConnId, now: Instant) {
        let is_open = matches!(&self.link, ConnState::Open(session) if session.conn == conn);
        if !is_open || self.machine.is_ready() {
            return;
        }
        self.opening = false;
        self.step(now, Input::Ready(conn));
        if self.machine.is_ready() {
            info!(parent: &self.span, "session ready");
            self.lost = None;
            self.send_queue.open(conn, true);
            self.shared_stats.connected.ready();
            self.events.push_back(Event::Ready { conn });
        }
    }

    /// Ends the connection because the application's session failed. The failure decides how the client goes
    /// on.
    pub(super) fn session_failed(
        &mut self,
        conn: ConnId,
        failure: Failure,
        goodbye: &CloseFrame,
        now: Instant,
    ) {
        if let Some(session) = session(&mut self.link, conn) {
            session.send_close(goodbye);
            self.lost(conn, Cause::Session(failure), None, now);
        }
    }

    /// Notes the end of a connection or dial for the next gap.
    ///
    /// `missing`: the number of messages handed back, and the number in doubt.
    pub(super) fn note_loss(
        &mut self,
        cause: Reason,
        before: Before,
        missing: (usize, usize),
        now: Instant,
    ) {
        let (unsent, in_doubt) = missing;
        if self.lost.is_some() {
            // The other session never became ready, so the old gap continues.
            self.note_unsent(unsent, in_doubt);
        } else if before.ready {
            let wall = clock::wall();
            self.lost = Some(Box::new(Lost {
                since: wall.checked_sub(before.idle).unwrap_or(wall),
                heard: earlier(now, before.idle),
                cause,
                attempts: 0,
                unsent,
                in_doubt,
            }));
        }
    }

    /// Counts messages that were handed back or are in doubt, if there is a gap.
    pub(super) fn note_unsent(&mut self, unsent: usize, in_doubt: usize) {
        if let Some(lost) = &mut self.lost {
            lost.unsent = lost.unsent.saturating_add(unsent);
            lost.in_doubt = lost.in_doubt.saturating_add(in_doubt);
        }
    }

    /// Reports the gap after a reconnect. The gap ends with a ready session.
    pub(super) fn tell_gap(&mut self, conn: ConnId, ready: bool, now: Instant) {
        let Some(lost) = &self.lost else { return };
        let down_for = now.saturating_duration_since(lost.heard);
        let (unsent, in_doubt) = (some(lost.unsent), some(lost.in_doubt));
        warn!(parent: &self.span, attempts = lost.attempts, unsent, in_doubt, "gap of {} after {}", Seconds(down_for), lost.cause);
        self.events.push_back(Event::Gap {
            conn,
            since: lost.since,
            down_for,
            cause: lost.cause,
            attempts: lost.attempts,
            unsent: lost.unsent,
            in_doubt: lost.in_doubt,
        });
        if ready {
            self.lost = None;
        }
    }
}

fn earlier(now: Instant, span: Duration) -> Instant {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(now.as_nanos().saturating_sub(span))
}
