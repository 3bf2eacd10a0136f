//! What a socket or a dial brings: heartbeats for the machine, messages for the application.

use std::sync::Arc;
use std::task::{Context, Poll};

use heartbeat_driver::core::{
    Cause, Class, Clock as _, ConnId, Dialect as _, Event as Input, Instant, Message as Received,
};
use tracing::info;

use super::link::{Link, Open, Read};
use super::{BURST, Codec, Event, Frame, Messages, Socket};

impl<C: Codec, S: Socket<C>> Messages<S, C> {
    pub(super) fn opened(&mut self, socket: S) {
        let Some(conn) = self.machine.conn() else {
            return;
        };
        self.link = Link::Open(Box::new(Open::new(conn, socket)));
        for number in 0.. {
            let Some(mut draft) = self.dialect.greeting(number) else {
                return;
            };
            draft.id = self.machine.take_id();
            self.put(draft);
        }
    }

    /// Before the timers, for a dial that has succeeded beats its deadline.
    pub(super) fn poll_dial(&mut self, cx: &mut Context<'_>) {
        let Link::Dialing(conn, dialing) = &mut self.link else {
            return;
        };
        let conn = *conn;
        match dialing.as_mut().poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(socket)) => {
                self.step(self.clock.now(), Input::Connected(conn));
                info!(%conn, "connected");
                self.events.push_back(Event::Connected { conn });
                self.opened(socket);
            }
            Poll::Ready(Err(refused)) => self.lost(conn, refused.cause, refused.detail, cx),
        }
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>) {
        let Link::Open(open) = &mut self.link else {
            return;
        };
        let conn = open.conn;
        match open.write(cx, &mut self.queue, self.traffic) {
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
            // What the peer said before it went away is still there to be read, and says more.
            Err(error) => {
                open.fail(C::cause(&error), error.to_string().into());
            }
        }
    }

    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Option<Read<C::Message>> {
        let Link::Open(open) = &mut self.link else {
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
        let data = match C::frame(&message) {
            Some(Frame::Text(text)) => {
                if self.tracks {
                    self.dialect.track(text, &mut self.tracked);
                }
                self.text(conn, text)
            }
            Some(Frame::Binary(bytes)) => {
                let class = self.dialect.classify_binary(bytes);
                self.classified(conn, class, Received::Binary(bytes))
            }
            Some(Frame::Ping(payload)) => self.heartbeat(conn, Received::Ping(payload)),
            Some(Frame::Pong(payload)) => self.heartbeat(conn, Received::Pong(payload)),
            Some(Frame::Close(code)) => {
                self.lost(conn, Cause::Close(code.unwrap_or(1005)), None, cx);
                false
            }
            None => false,
        };
        Some(if data {
            Read::Message(conn, message)
        } else {
            Read::Again
        })
    }

    /// True if the application gets it. Where a service joins messages, each is one to the machine.
    pub(super) fn text(&mut self, conn: ConnId, text: &str) -> bool {
        let class = self.dialect.classify_text(text);
        if matches!(class, Class::Data) {
            return self.classified(conn, class, Received::Data);
        }
        let dialect = Arc::clone(&self.dialect);
        let Some(separator) = dialect.separator() else {
            return self.classified(conn, class, Received::Text(text));
        };
        let records = text.strip_suffix(separator).unwrap_or(text);
        let mut data = false;
        for record in records.split(separator).take(BURST as usize) {
            let class = dialect.classify_text(record);
            data |= self.classified(conn, class, Received::Text(record));
        }
        data && class.is_for_application()
    }

    pub(super) fn classified(
        &mut self,
        conn: ConnId,
        class: Class<'_>,
        message: Received<'_>,
    ) -> bool {
        let is_data = match class {
            Class::Data => true,
            Class::Response(id) => !self.machine.is_answer(id),
            _ => false,
        };
        if !is_data {
            self.heartbeat(conn, message);
        } else if let Link::Open(open) = &mut self.link {
            open.unreported = true;
        }
        is_data || class.is_for_application()
    }

    /// Tells the machine at once. Never the application's.
    pub(super) fn heartbeat(&mut self, conn: ConnId, message: Received<'_>) -> bool {
        if let Link::Open(open) = &mut self.link {
            // Its bytes are no data.
            open.take_progress(self.traffic);
        }
        self.step(self.clock.now(), Input::Received(conn, message));
        false
    }

    /// Nothing more is there, or enough was read: the machine is told, and its timers get their turn.
    pub(super) fn settle(&mut self) {
        let now = self.clock.now();
        self.report(now);
        if self.machine.wake().is_some_and(|wake| wake <= now) {
            self.step(now, Input::Tick);
        }
    }

    pub(super) fn report(&mut self, now: Instant) {
        if let Link::Open(open) = &mut self.link {
            let conn = open.conn;
            let progress = open.take_progress(self.traffic);
            if std::mem::take(&mut open.unreported) {
                self.step(now, Input::Received(conn, Received::Data));
            } else if progress {
                self.step(now, Input::Progress(conn));
            }
        }
    }
}
