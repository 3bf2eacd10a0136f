//! What a connection brings: heartbeats for the machine, messages for the application.

use std::io::{Read, Write};

use bytes::Bytes;
use heartbeat_core::{
    Cause, Class, Clock, ConnId, Dialect as _, Event as Input, Instant, Message as Received,
};

use super::guarding::Named;
use super::joined::{Joined, ReadOn};
use super::{BURST, ConnState, Engine};
use crate::event::Event;
use crate::message::records::{Sort, WORK, is_joined, is_long};
use crate::message::{Message, MessageRef};
use crate::panics::named;
use crate::queue::Overflow;
use crate::websocket::frames::{Incoming, Place};
use crate::websocket::{Connection, Heard};

impl<S: Read + Write> Engine<S> {
    /// The next message, where it is there already and nothing else comes before it. `None` says only that
    /// it is for [`turn`](Self::turn) to go on.
    ///
    /// The short way of what a busy connection does all the time: no rule is in here that is not in `turn`,
    /// and a client is right without it.
    // Always: what is read is then made where it is wanted, not moved there.
    #[inline(always)]
    pub fn message(&mut self, clock: &impl Clock) -> Option<(ConnId, Message)> {
        let can_be_short = self.can_be_short();
        let ConnState::Open(session) = &mut self.link else {
            return None;
        };
        if !can_be_short || session.ran_dry || session.holds_reading() {
            return None;
        }
        let conn = session.conn;
        match session.read() {
            Heard::Frame(Incoming::Text(text))
                if !(self.joins && is_long(&text))
                    && matches!(self.options.dialect.classify_text(&text), Class::Data) =>
            {
                self.work = self.work.saturating_add(text.len());
                self.count_data(clock);
                Some((conn, Message::Text(text)))
            }
            Heard::Dry => {
                session.ran_dry = true;
                None
            }
            heard => {
                if let ReadOn::Message(event) = self.heard_guarded(conn, heard, clock) {
                    // Before what it has brought about, as in a turn.
                    self.events.push_front(event);
                }
                None
            }
        }
    }

    /// As [`message`](Self::message), but lends the message to `look`, where it lies as it was received: no memory is
    /// made for it. False says only that it is for `turn` to go on.
    #[inline(always)]
    pub fn lend(
        &mut self,
        clock: &impl Clock,
        look: &mut impl FnMut(ConnId, MessageRef<'_>),
    ) -> bool {
        let can_be_short = self.can_be_short();
        let ConnState::Open(session) = &mut self.link else {
            return false;
        };
        if !can_be_short || session.ran_dry || session.holds_reading() {
            return false;
        }
        let conn = session.conn;
        let dialect = &self.options.dialect;
        let heard = match session.next_place() {
            Place::Text(at) => match std::str::from_utf8(session.bytes(at)) {
                Ok(text)
                    if !(self.joins && is_long(text))
                        && matches!(dialect.classify_text(text), Class::Data) =>
                {
                    look(conn, MessageRef::Text(text));
                    self.work = self.work.saturating_add(text.len());
                    self.count_data(clock);
                    return true;
                }
                Ok(text) => Heard::Frame(Incoming::Text(text.into())),
                Err(_) => session.not_utf8(),
            },
            Place::Binary(at) => {
                let bytes = session.bytes(at);
                if matches!(dialect.classify_binary(bytes), Class::Data) {
                    look(conn, MessageRef::Binary(bytes));
                    self.work = self.work.saturating_add(bytes.len());
                    self.count_data(clock);
                    return true;
                }
                Heard::Frame(Incoming::Binary(Bytes::copy_from_slice(bytes)))
            }
            Place::Other(Heard::Dry) => {
                session.ran_dry = true;
                return false;
            }
            Place::Other(heard) => heard,
        };
        match self.heard_guarded(conn, heard, clock) {
            // What it has brought about comes after it, as in a turn.
            ReadOn::Message(Event::Message { conn, message }) => {
                look(conn, message.lend());
                true
            }
            ReadOn::Message(event) => {
                self.events.push_front(event);
                false
            }
            ReadOn::Again | ReadOn::Dry => false,
        }
    }

    /// Nothing comes before the next message, and nothing is to be done with it but to hand it out.
    #[inline(always)]
    fn can_be_short(&self) -> bool {
        let is_busy =
            !self.events.is_empty() || self.dial.is_some() || self.send_queue.is_pending();
        let has_more_to_do = self.paused | self.opening | self.guards_messages | self.ended;
        !(is_busy || has_more_to_do || self.joined.is_some() || self.discards())
    }

    pub(super) fn read(&mut self, clock: &impl Clock) -> ReadOn {
        if self.joined.is_some() {
            return self.read_joined(clock);
        }
        let reads = self.reads();
        let session = match &mut self.link {
            ConnState::Open(session) if reads => session,
            ConnState::Upgrading { .. } => return self.upgrade(clock),
            ConnState::Preparing { .. } => return self.prepare(clock),
            ConnState::Redirected { .. } => return self.follow(clock),
            ConnState::Open(_) | ConnState::Down | ConnState::Dialing { .. } => return ReadOn::Dry,
        };
        let conn = session.conn;
        let heard = session.read();
        self.heard(conn, heard, clock)
    }

    #[inline(never)]
    fn heard_guarded(&mut self, conn: ConnId, heard: Heard, clock: &impl Clock) -> ReadOn {
        let clock = &Named(clock);
        let read_on = self.guarded(clock, |this| this.heard(conn, heard, clock));
        read_on.unwrap_or(ReadOn::Again)
    }

    #[inline(never)]
    fn heard(&mut self, conn: ConnId, heard: Heard, clock: &impl Clock) -> ReadOn {
        let message = match heard {
            Heard::Frame(Incoming::Text(text)) => {
                self.work = self.work.saturating_add(text.len());
                if self.tracks {
                    self.options.dialect.track(&text, &mut self.tracked);
                }
                if self.joins && is_joined(&self.options.dialect, &text) {
                    self.joined = Some(Box::new(Joined::new(conn, text)));
                    return self.read_joined(clock);
                }
                match Sort::of(&self.machine, self.options.dialect.classify_text(&text)) {
                    Sort::Data => Message::Text(text),
                    Sort::Heartbeat => {
                        return self.heartbeat(conn, Received::Text(&text), clock);
                    }
                    Sort::Both => {
                        self.heartbeat(conn, Received::Text(&text), clock);
                        Message::Text(text)
                    }
                }
            }
            Heard::Frame(Incoming::Binary(bytes)) => {
                self.work = self.work.saturating_add(bytes.len());
                match Sort::of(&self.machine, self.options.dialect.classify_binary(&bytes)) {
                    Sort::Data => Message::Binary(bytes),
                    Sort::Heartbeat => {
                        return self.heartbeat(conn, Received::Binary(&bytes), clock);
                    }
                    Sort::Both => {
                        self.heartbeat(conn, Received::Binary(&bytes), clock);
                        Message::Binary(bytes)
                    }
                }
            }
            Heard::Dry => {
                // No end after all.
                self.ending = false;
                return ReadOn::Dry;
            }
            Heard::Busy => {
                self.work = self.work.max(WORK);
                return ReadOn::Again;
            }
            rare => return self.rare(conn, rare, clock),
        };
        self.count_data(clock);
        self.deliver(conn, message, clock)
    }

    /// One more message of data: the machine is told of many at once.
    #[inline(always)]
    pub(super) fn count_data(&mut self, clock: &impl Clock) {
        if let ConnState::Open(session) = &mut self.link {
            session.unreported += 1;
            if session.unreported >= BURST {
                self.flush_and_tick_guarded(clock);
            }
        }
    }

    /// Not every message is guarded against panics, but this is.
    #[inline(never)]
    fn flush_and_tick_guarded(&mut self, clock: &impl Clock) {
        let clock = &Named(clock);
        self.guarded(clock, |this| this.flush_and_tick(clock.now()));
    }

    /// Control frames and ends.
    fn rare(&mut self, conn: ConnId, heard: Heard, clock: &impl Clock) -> ReadOn {
        match heard {
            Heard::Ended(cause, detail) => self.lost(conn, cause, detail, clock.now()),
            Heard::Frame(Incoming::Ping(payload)) => {
                return self.heartbeat(conn, Received::Ping(&payload), clock);
            }
            Heard::Frame(Incoming::Pong(payload)) => {
                return self.heartbeat(conn, Received::Pong(&payload), clock);
            }
            Heard::Frame(Incoming::Close(close)) => {
                if let ConnState::Open(session) = &mut self.link {
                    session.answer_close(&close);
                }
                self.lost(conn, Cause::Close(close.code), close.reason, clock.now());
            }
            Heard::Frame(_) | Heard::Busy | Heard::Dry => {}
        }
        ReadOn::Again
    }

    pub(super) fn deliver(&mut self, conn: ConnId, message: Message, clock: &impl Clock) -> ReadOn {
        if self.opening {
            let now = clock.now();
            self.write_before_judging(now);
            // What has come is life, also if the session is given up because of it.
            self.report(now);
            self.open_session(conn, Some(&message), now);
        }
        if self.discards() {
            return ReadOn::Again;
        }
        ReadOn::Message(Event::Message { conn, message })
    }

    fn discards(&self) -> bool {
        self.options.overflow == Overflow::Discard
    }

    pub(super) fn heartbeat(
        &mut self,
        conn: ConnId,
        message: Received<'_>,
        clock: &impl Clock,
    ) -> ReadOn {
        if let ConnState::Open(session) = &mut self.link {
            session.mark_reported();
        }
        let before = self.machine.stats();
        let now = clock.now();
        self.write_before_judging(now);
        self.step(now, Input::Received(conn, message));
        let after = self.machine.stats();
        if after.pongs_received != before.pongs_received {
            let rtt = (after.rtt.samples != before.rtt.samples).then_some(after.rtt.last);
            if let (Some(meter), Some(rtt)) = (&self.meter, rtt) {
                named("the metrics recorder", || meter.rtt(rtt));
            }
            self.note(Event::PongReceived { conn, rtt });
        }
        ReadOn::Again
    }

    /// The socket has run dry, or has been read for long enough: tell the machine what came, write
    /// what waits, and let due timers act.
    pub(super) fn flush_and_tick(&mut self, now: Instant) {
        self.write_before_judging(now);
        self.report(now);
        if self.expires <= now {
            self.expire(now);
        }
        self.flush(now);
        if self.is_due(now) && self.may_dial(now) {
            if let ConnState::Open(session) = &mut self.link {
                session.relax();
            }
            let kicked = self.gate.take_kick();
            self.step(now, if kicked { Input::Kick } else { Input::Tick });
            // A ping that was the first thing to find no room waits from now on, not from the next turn.
            if matches!(&self.link, ConnState::Open(session) if session.wants_write()) {
                self.flush(now);
            }
        }
    }

    /// Where a deadline has come while bytes wait, these are tried once more before any step judges: after a
    /// suspend the peer may long have made room for them, and bytes that move are a sign of its life.
    pub(super) fn write_before_judging(&mut self, now: Instant) {
        if matches!(&self.link, ConnState::Open(session) if session.is_blocked())
            && self.is_due(now)
        {
            self.flush(now);
        }
    }

    /// Writes what waits, and tells the machine what has become of it.
    fn flush(&mut self, now: Instant) {
        if let ConnState::Open(session) = &mut self.link {
            let conn = session.conn;
            let flushed = session.flush(&self.send_queue, self.pace.as_mut(), now);
            if let Some(pace) = &self.pace {
                self.paced_until = pace.wake(now);
            }
            let work = usize::try_from(flushed.work).unwrap_or(WORK);
            self.work = self.work.saturating_add(work);
            if flushed.more {
                // Reading has its turn; then the send queue is looked at again.
                self.reads_first = BURST;
                self.send_queue.poke();
            }
            self.shared_stats.traffic(session.traffic());
            // Nothing can be written any more: what the peer said last is read, and its end told.
            self.ending |= session.has_failed();
            if flushed.moved {
                self.step(now, Input::Wrote(conn));
            }
            if flushed.blocked {
                self.step(now, Input::WriteBlocked(conn));
            }
            if super::performing::session(&mut self.link, conn)
                .is_some_and(Connection::ping_has_left)
            {
                self.step(now, Input::PingWritten(conn));
            }
        }
    }

    /// Tells the machine what was read and not told yet.
    pub(super) fn report(&mut self, now: Instant) {
        if let ConnState::Open(session) = &mut self.link {
            let conn = session.conn;
            match session.take_unreported() {
                Some(true) => self.step(now, Input::Received(conn, Received::Data)),
                Some(false) => self.step(now, Input::Progress(conn)),
                None => {}
            }
        }
    }
}
