//! Performs the machine's actions and reports them to the application.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use heartbeat_core::{
    AbortReason, Action, Cause, Clock, ConnId, Dialect as _, Event as Input, Failure, GiveUp,
    Instant, Outgoing, Phase, PingMessage, Reply, TemplateRef, Values,
};
use tracing::{debug, error, info, warn};

use super::conn_state::ConnState;
use super::{Codec, Event, Frame, Socket, Watched};
use crate::clock::unix_ms;
use crate::dial::Attempt;
use crate::event::{Reason, Seconds};
use crate::log::{self, End};
use crate::panics::Panicked;

impl<S: Socket<C>, C: Codec, K: Clock> Watched<S, C, K> {
    pub(super) fn step(&mut self, now: Instant, event: Input<'_>) {
        let (idle, open) = (
            since(self.machine.heard(), now),
            since(self.machine.open_since(), now),
        );
        for action in self.machine.step(now, event).actions {
            match action {
                Action::Connect {
                    conn,
                    attempt,
                    refresh,
                } => {
                    self.span = self.log.connection(conn);
                    info!(parent: &self.span, attempt, "connecting");
                    self.dial = Some(Attempt::new(conn, attempt, refresh, self.last));
                    self.link = ConnState::Dialing(conn);
                    self.dirty = true;
                }
                Action::SendPong { reply, .. } => {
                    if self.reply(reply) {
                        debug!(parent: &self.span, "ping answered");
                    }
                }
                Action::SendPing { conn, ping } => {
                    let given = match ping {
                        PingMessage::Frame(payload) => self.own(Frame::Ping(&payload)),
                        PingMessage::Template(draft) => self.put(draft),
                        _ => false,
                    };
                    if given {
                        debug!(parent: &self.span, "ping sent");
                    } else {
                        self.step(now, Input::PingUnsent(conn));
                    }
                    if let (true, ConnState::Open(open)) = (given, &mut self.link) {
                        open.pinged();
                    }
                }
                Action::Close { code, .. } => {
                    let span = &self.span;
                    if let ConnState::Open(open) = &mut self.link {
                        info!(parent: span, code, "closing");
                        open.close(C::message(Frame::Close(Some(code))));
                        self.dirty = true;
                    }
                }
                Action::Ending { conn, why, within } => {
                    info!(parent: &self.span, "ends soon ({why}): renewed in {}", Seconds(within));
                    self.events.push_back(Event::Ending { conn, why, within });
                }
                Action::Renew { code, why, .. } => {
                    let span = &self.span;
                    if let ConnState::Open(link) = &mut self.link {
                        info!(parent: span, code, "closing, to be renewed ({why})");
                        link.close(C::message(Frame::Close(Some(code))));
                        self.dirty = true;
                        self.renewing = Some((why, now, idle, open));
                    }
                }
                Action::Abort { conn, reason } => {
                    let told = !matches!(reason, AbortReason::Stale | AbortReason::CloseTimeout);
                    if self.link.conn() == Some(conn) && self.renewing.is_some() {
                        self.renewed(conn, false, now);
                        continue;
                    }
                    if told && self.link.conn() == Some(conn) {
                        self.disconnected(conn, Reason::Aborted(reason), None, idle, open);
                    }
                    // Otherwise the application's own wish: only the end is reported.
                    self.close_timed_out |= reason == AbortReason::CloseTimeout;
                }
                Action::ReconnectAt {
                    attempt,
                    delay,
                    tolerated,
                    ..
                } => {
                    self.log.retry(attempt, delay, tolerated);
                    self.events.push_back(Event::Reconnect { attempt, delay });
                }
                Action::Check { idle, .. } => log::check(&self.span, idle),
                Action::GaveUp { reason } => self.give_up(reason),
            }
        }
        if self.machine.phase() == Phase::Stopped && !self.ended {
            self.tell_stopped();
        }
    }

    fn give_up(&mut self, reason: GiveUp) {
        self.log.gave_up(reason);
        let detail = self.detail.take();
        self.events.push_back(Event::GaveUp { reason, detail });
    }

    fn tell_stopped(&mut self) {
        self.ended = true;
        let (uncertain, in_doubt) = (self.link.uncertain(), self.link.in_doubt());
        self.link = ConnState::Down;
        let unsent: Vec<_> = self.queue.drain(..).collect();
        let close_timed_out = self.close_timed_out;
        let late = close_timed_out.then(|| self.machine.config().close_timeout());
        self.log.stopped(unsent.len(), uncertain, in_doubt, late);
        self.events.push_back(Event::Stopped {
            unsent,
            uncertain,
            in_doubt,
            close_timed_out,
        });
    }

    /// Ends the client after a panic in the application's code. None of that code is called again, and the
    /// machine is not consulted.
    #[cold]
    pub fn panicked(&mut self, panicked: &Panicked) {
        if self.ended {
            return;
        }
        let words = panicked.to_string();
        error!(parent: &self.span, "{words}");
        let now = self.clock.now();
        let renewed = self.renewing.take().is_some();
        let was_closing = self.machine.phase() == Phase::Closing && !renewed;
        let cause = Cause::Session(Failure::GiveUp);
        let conn = self.link.conn();
        if let (Some(conn), false) = (conn, was_closing) {
            let idle = since(self.machine.heard(), now);
            let open = since(self.machine.open_since(), now);
            let reason = Reason::Cause(cause);
            self.disconnected(conn, reason, Some(words.into()), idle, open);
        }
        if !was_closing && std::mem::take(&mut self.dials) {
            self.give_up(GiveUp::Cause(cause));
        }
        // This path calls none of the application's code.
        let conn = self.machine.conn();
        let _ = self.machine.step(now, Input::Stop);
        if let Some(conn) = conn {
            let _ = self.machine.step(now, Input::Closed(conn, cause));
        }
        self.tell_stopped();
    }

    pub(super) fn lost(
        &mut self,
        conn: ConnId,
        cause: Cause,
        detail: Option<Box<str>>,
        cx: &mut Context<'_>,
    ) {
        let now = self.clock.now();
        // The peer's last data still counts as life.
        self.report(now);
        if self.link.conn() != Some(conn) {
            // The machine's own verdict came first.
            return;
        }
        if let ConnState::Open(open) = &mut self.link {
            open.last_words(cx);
        }
        if self.renewing.is_some() {
            self.renewed(conn, matches!(cause, Cause::Close(_)), now);
        } else if self.machine.phase() != Phase::Closing {
            let idle = since(self.machine.heard(), now);
            let open = since(self.machine.open_since(), now);
            self.disconnected(conn, Reason::Cause(cause), detail, idle, open);
        }
        self.step(now, Input::Closed(conn, cause));
    }

    /// Handles the end of a connection that was closed for a renewal. `is_closed`: the peer's Close has just
    /// arrived.
    fn renewed(&mut self, conn: ConnId, is_closed: bool, now: Instant) {
        let Some((why, since, idle, open)) = self.renewing.take() else {
            return;
        };
        let closing = now.saturating_duration_since(since);
        let idle = match is_closed {
            true => Duration::ZERO,
            false => idle.saturating_add(closing),
        };
        let open = open.saturating_add(closing);
        self.disconnected(conn, Reason::Renewal(why), None, idle, open);
    }

    pub(super) fn disconnected(
        &mut self,
        conn: ConnId,
        reason: Reason,
        detail: Option<Box<str>>,
        idle: Duration,
        open: Duration,
    ) {
        let (uncertain, in_doubt) = (self.link.uncertain(), self.link.in_doubt());
        let was_open = matches!(self.link, ConnState::Open(_));
        // Closes the socket at once.
        self.link = ConnState::Down;
        self.joined = None;
        self.last = Some(reason);
        self.detail.clone_from(&detail);
        let unsent: Vec<_> = self.queue.drain(..).collect();
        let end = End {
            reason,
            detail: detail.as_deref(),
            idle,
            open,
            was_open,
            unsent: unsent.len(),
            uncertain,
            in_doubt,
        };
        end.tell(&self.span);
        self.events.push_back(Event::Disconnected {
            conn,
            reason,
            detail,
            idle,
            open,
            unsent,
            uncertain,
            in_doubt,
        });
    }

    pub(super) fn reply(&mut self, reply: Reply<'_>) -> bool {
        let message = match reply {
            Reply::Frame(payload) if C::ANSWERS_PINGS => {
                if let ConnState::Open(open) = &mut self.link {
                    open.answered(payload.len());
                    self.dirty = true;
                }
                return true;
            }
            Reply::Frame(payload) => Frame::Pong(payload),
            Reply::Text(text) => Frame::Text(text),
            Reply::Binary(bytes) => Frame::Binary(bytes),
            Reply::Template(draft) => return self.put(draft),
            _ => return false,
        };
        self.own(message)
    }

    /// Queues the message that the dialect makes of a template. Returns false if a variable is missing.
    pub(super) fn put(&mut self, draft: TemplateRef<'_>) -> bool {
        let values = Values {
            unix_ms: unix_ms(),
            variables: &self.tracked,
        };
        // Taken out, so that its contents can be given to the socket.
        let mut buffer = std::mem::take(&mut self.buffer);
        let dialect = Arc::clone(&self.dialect);
        let given = match dialect.render(&draft, &values, &mut buffer) {
            Some(Outgoing::Text(text)) => self.own(Frame::Text(text)),
            Some(Outgoing::Binary(bytes)) => self.own(Frame::Binary(bytes)),
            None => {
                warn!(parent: &self.span, "not sent: a variable of the message is not set");
                false
            }
        };
        self.buffer = buffer;
        given
    }

    pub(super) fn own(&mut self, frame: Frame<'_>) -> bool {
        let ConnState::Open(open) = &mut self.link else {
            return false;
        };
        open.give_own(C::message(frame), frame.len());
        self.dirty = true;
        true
    }
}

fn since(anchor: Option<Instant>, now: Instant) -> Duration {
    anchor.map_or(Duration::ZERO, |anchor| {
        now.saturating_duration_since(anchor)
    })
}
