//! Reads a connection: heartbeats for the machine, messages for the application.

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
    /// Returns the next message, if it has already arrived and nothing must be done before it. After `None`,
    /// call [`turn`](Self::turn).
    ///
    /// Fast path of a busy connection. It contains no rule that `turn` does not have, and a client that never
    /// calls it is still correct.
    // Always inlined: the message is then built in its final place, and not moved there.
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
                    // The message goes ahead of the events that it has caused, as in a turn.
                    self.events.push_front(event);
                }
                None
            }
        }
    }

    /// Like [`message`](Self::message), but lends messages to `look` in place, without allocating: `most` of them, or
    /// fewer. Returns how many it has lent. After 0, call `turn`.
    #[inline(always)]
    pub fn lend(
        &mut self,
        clock: &impl Clock,
        most: u32,
        look: &mut impl FnMut(ConnId, MessageRef<'_>),
    ) -> u32 {
        let can_be_short = self.can_be_short();
        let ConnState::Open(session) = &mut self.link else {
            return 0;
        };
        if !can_be_short || session.ran_dry || session.holds_reading() {
            return 0;
        }
        let conn = session.conn;
        let dialect = &self.options.dialect;
        let mut lent = 0;
        let heard = loop {
            match session.next_place() {
                Place::Text(at) => match simdutf8::basic::from_utf8(session.bytes(at)) {
                    Ok(text)
                        if !(self.joins && is_long(text))
                            && matches!(dialect.classify_text(text), Class::Data) =>
                    {
                        look(conn, MessageRef::Text(text));
                        self.work = self.work.saturating_add(text.len());
                    }
                    Ok(text) => break Heard::Frame(Incoming::Text(text.into())),
                    Err(_) => break session.not_utf8(),
                },
                Place::Binary(at) => {
                    let bytes = session.bytes(at);
                    if !matches!(dialect.classify_binary(bytes), Class::Data) {
                        break Heard::Frame(Incoming::Binary(Bytes::copy_from_slice(bytes)));
                    }
                    look(conn, MessageRef::Binary(bytes));
                    self.work = self.work.saturating_add(bytes.len());
                }
                Place::Other(Heard::Dry) => {
                    session.ran_dry = true;
                    return lent;
                }
                Place::Other(heard) => break heard,
            }
            lent += 1;
            session.unreported += 1;
            if session.unreported >= BURST {
                self.flush_and_tick_guarded(clock);
                return lent;
            }
            // `look` may have sent a message, or stopped the client.
            if lent >= most || self.work >= WORK || self.send_queue.is_pending() {
                return lent;
            }
        };
        match self.heard_guarded(conn, heard, clock) {
            // Events that the message has caused come after it, as in a turn.
            ReadOn::Message(Event::Message { conn, message }) => {
                look(conn, message.lend());
                lent + 1
            }
            ReadOn::Message(event) => {
                self.events.push_front(event);
                lent
            }
            ReadOn::Again | ReadOn::Dry => lent,
        }
    }

    /// Returns true if nothing comes before the next message, and the message needs no handling except
    /// delivery.
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
                // There was no end after all.
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

    /// Counts a data message. Many are reported to the machine at once.
    #[inline(always)]
    pub(super) fn count_data(&mut self, clock: &impl Clock) {
        if let ConnState::Open(session) = &mut self.link {
            session.unreported += 1;
            if session.unreported >= BURST {
                self.flush_and_tick_guarded(clock);
            }
        }
    }

    /// Single messages are not guarded against panics, but this call is.
    #[inline(never)]
    fn flush_and_tick_guarded(&mut self, clock: &impl Clock) {
        let clock = &Named(clock);
        self.guarded(clock, |this| this.flush_and_tick(clock.now()));
    }

    /// Handles control frames and ends.
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
            // The data counts as life, even if it ends the session.
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

    /// Handles a dry socket, or the end of a long read: reports to the machine, writes waiting bytes, and runs
    /// due timers.
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
            // If the socket took no part of a new ping, the wait counts from now, not from the next turn.
            if matches!(&self.link, ConnState::Open(session) if session.wants_write()) {
                self.flush(now);
            }
        }
    }

    /// Writes waiting bytes before a step judges an expired deadline. After a suspend the peer may have made
    /// room long ago, and bytes that move are a sign of life.
    pub(super) fn write_before_judging(&mut self, now: Instant) {
        if matches!(&self.link, ConnState::Open(session) if session.is_blocked())
            && self.is_due(now)
        {
            self.flush(now);
        }
    }

    /// Writes waiting bytes, and reports the result to the machine.
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
                // Reading gets a turn before the next look at the send queue.
                self.reads_first = BURST;
                self.send_queue.poke();
            }
            self.shared_stats.traffic(session.traffic());
            // Writing is over. Read the peer's last data, then report the end.
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

    /// Reports data that was read to the machine, once.
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
