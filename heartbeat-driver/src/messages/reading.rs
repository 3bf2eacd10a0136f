//! Reads a socket or a dial's result: heartbeats for the machine, messages for the application.

use std::sync::Arc;
use std::task::{Context, Poll};

use heartbeat_core::{
    Cause, Clock, ConnId, Dialect as _, Event as Input, Instant, Message as Received,
};
use tracing::info;

use super::conn_state::{ConnState, Open, Read};
use super::{Codec, Event, Frame, Socket, Watched};
use crate::message::records::{Record, Records, Sort, is_joined};

impl<S: Socket<C>, C: Codec, K: Clock> Watched<S, C, K> {
    pub(super) fn opened(&mut self, socket: S) {
        let Some(conn) = self.machine.conn() else {
            return;
        };
        self.link = ConnState::Open(Box::new(Open::new(conn, socket)));
        for number in 0.. {
            let Some(mut draft) = self.dialect.greeting(number) else {
                return;
            };
            draft.id = self.machine.take_id();
            self.put(draft);
        }
    }

    /// Reports the result of the dial of [`take_dial`](Self::take_dial). Call this before the next turn,
    /// because a successful dial beats its deadline. The result of an abandoned dial is ignored.
    pub fn dialed(
        &mut self,
        conn: ConnId,
        dialed: Result<S, (Cause, Option<Box<str>>)>,
        cx: &mut Context<'_>,
    ) {
        if self.dialing() != Some(conn) {
            return;
        }
        match dialed {
            Ok(socket) => {
                self.step(self.clock.now(), Input::Connected(conn));
                info!(parent: &self.span, "connected");
                self.events.push_back(Event::Connected { conn });
                self.opened(socket);
            }
            Err((cause, detail)) => self.lost(conn, cause, detail, cx),
        }
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>) {
        let ConnState::Open(open) = &mut self.link else {
            return;
        };
        let conn = open.conn;
        match open.write(cx, &mut self.queue) {
            Ok(written) => {
                self.dirty |= written.more;
                if written.moved {
                    self.step(self.clock.now(), Input::Wrote(conn));
                }
                if written.blocked {
                    self.step(self.clock.now(), Input::WriteBlocked(conn));
                }
                if written.ping_waits {
                    self.step(self.clock.now(), Input::PingWaiting(conn));
                }
                if written.ping_left {
                    self.step(self.clock.now(), Input::PingWritten(conn));
                }
            }
            // The peer's data from before the end is still readable, and says more than the error.
            Err(error) => {
                open.fail(C::cause(&error), error.to_string().into());
            }
        }
    }

    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Option<Read<C::Message>> {
        if self.joined.is_some() {
            return Some(self.read_joined(cx));
        }
        let ConnState::Open(open) = &mut self.link else {
            return None;
        };
        let conn = open.conn;
        let message = match open.poll_read(cx) {
            Poll::Pending => return None,
            Poll::Ready(Ok(message)) => message,
            Poll::Ready(Err((cause, detail))) => {
                self.lost(conn, cause, detail, cx);
                return Some(Read::Again);
            }
        };
        let frame = C::frame(&message);
        self.work += frame.map_or(0, |frame| frame.len());
        let sort = match frame {
            Some(Frame::Text(text)) => {
                if self.tracks {
                    self.dialect.track(text, &mut self.tracked);
                }
                if is_joined(&self.dialect, text) {
                    self.joined = Some((conn, message, Records::default()));
                    return Some(self.read_joined(cx));
                }
                let sort = Sort::of(&self.machine, self.dialect.classify_text(text));
                if sort != Sort::Data {
                    self.heartbeat(conn, Received::Text(text), cx);
                }
                sort
            }
            Some(Frame::Binary(bytes)) => {
                let sort = Sort::of(&self.machine, self.dialect.classify_binary(bytes));
                if sort != Sort::Data {
                    self.heartbeat(conn, Received::Binary(bytes), cx);
                }
                sort
            }
            Some(Frame::Ping(payload)) => self.heartbeat(conn, Received::Ping(payload), cx),
            Some(Frame::Pong(payload)) => self.heartbeat(conn, Received::Pong(payload), cx),
            Some(Frame::Close(code)) => {
                self.lost(conn, Cause::Close(code.unwrap_or(1005)), None, cx);
                Sort::Heartbeat
            }
            None => Sort::Heartbeat,
        };
        Some(if sort == Sort::Heartbeat {
            Read::Again
        } else {
            self.data(conn, message)
        })
    }

    fn data(&mut self, conn: ConnId, message: C::Message) -> Read<C::Message> {
        if let ConnState::Open(open) = &mut self.link {
            open.unreported = true;
        }
        Read::Message(conn, message)
    }

    /// Reports each heartbeat to the machine, up to a bound. Then the application receives the text, if it
    /// holds data.
    pub(super) fn read_joined(&mut self, cx: &mut Context<'_>) -> Read<C::Message> {
        let dialect = Arc::clone(&self.dialect);
        while let Some((conn, message, mut records)) = self.joined.take() {
            let (Some(Frame::Text(text)), Some(separator)) =
                (C::frame(&message), dialect.separator())
            else {
                break;
            };
            let machine = &self.machine;
            let sort = |record| Sort::of(machine, dialect.classify_text(record));
            match records.next(text, separator, sort, &mut self.work) {
                Record::Heartbeat(record) => {
                    self.heartbeat(conn, Received::Text(record), cx);
                    if self.link.conn() != Some(conn) {
                        break;
                    }
                }
                Record::Pause => {
                    self.joined = Some((conn, message, records));
                    break;
                }
                Record::End { has_data: true } => return self.data(conn, message),
                Record::End { has_data: false } => break,
            }
            self.joined = Some((conn, message, records));
        }
        Read::Again
    }

    /// Reports a heartbeat to the machine at once. The application never receives it.
    pub(super) fn heartbeat(
        &mut self,
        conn: ConnId,
        message: Received<'_>,
        cx: &mut Context<'_>,
    ) -> Sort {
        self.write_before_judging(cx);
        if let ConnState::Open(open) = &mut self.link {
            // Its bytes are not data.
            open.take_progress();
        }
        self.step(self.clock.now(), Input::Received(conn, message));
        Sort::Heartbeat
    }

    /// Handles a dry socket, or the end of a long read: reports to the machine, and runs due timers.
    pub fn settle(&mut self, cx: &mut Context<'_>) {
        self.write_before_judging(cx);
        let now = self.clock.now();
        self.report(now);
        if self.machine.wake().is_some_and(|wake| wake <= now) {
            self.step(now, Input::Tick);
        }
    }

    /// Writes waiting bytes before a step judges an expired deadline. After a suspend the peer may have made
    /// room long ago, and bytes that move are a sign of life.
    fn write_before_judging(&mut self, cx: &mut Context<'_>) {
        if matches!(&self.link, ConnState::Open(open) if open.is_blocked()) && self.is_due() {
            self.write(cx);
        }
    }

    pub(super) fn report(&mut self, now: Instant) {
        if let ConnState::Open(open) = &mut self.link {
            let conn = open.conn;
            let progress = open.take_progress();
            if std::mem::take(&mut open.unreported) {
                self.step(now, Input::Received(conn, Received::Data));
            } else if progress {
                self.step(now, Input::Progress(conn));
            }
        }
    }
}
