//! Performs the machine's actions and reports them to the application.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{
    AbortReason, Action, Cause, ConnId, Dialect as _, Event as Input, GiveUp, Instant,
    Message as Received, Outgoing, Phase, PingMessage, Renewal, Reply, TemplateRef, Values,
};
use tracing::{debug, info, warn};

use super::{ConnState, Engine};
use crate::event::{Event, Reason, Seconds};
use crate::log::{self, End};
use crate::message::{Message, Unsent};
use crate::panics::named;
use crate::queue::SendError;
use crate::stats::WaitEnd;
use crate::websocket::Connection;

impl<S: Read + Write> Engine<S> {
    /// Accepts a message and writes it at once, as far as the stream takes it. The next turns write the rest.
    /// If other messages wait, it queues behind them.
    ///
    /// Fast path of [`SendQueue::try_send`](crate::SendQueue::try_send) for a caller who owns the engine. If
    /// nothing waits, it takes no lock and needs no turn. The driver is woken only if the stream did not take
    /// all of the message.
    ///
    /// # Errors
    /// [`SendError`] holds the message and the reason.
    pub fn try_send(&mut self, message: Message) -> Result<(), SendError> {
        let may_send = self.machine.phase() == Phase::Open
            && self.machine.is_ready()
            && self.pace.is_none()
            && message.len() <= self.options.send_queue.message_size
            && self.send_queue.is_quiet();
        match &mut self.link {
            ConnState::Open(session) if may_send && session.has_room() => {
                if !session.send(message) {
                    self.send_queue.notify_engine();
                }
                Ok(())
            }
            _ => self.send_queue.try_send(message),
        }
    }

    pub(super) fn run_commands(&mut self, now: Instant) {
        let commands = self.send_queue.commands(now);
        if let Some((conn, outcome)) = commands.session {
            match outcome {
                Ok(()) => self.session_ready(conn, now),
                Err(failed) => self.session_failed(conn, failed.failure, &failed.goodbye, now),
            }
        }
        if commands.kick && self.may_dial(now) {
            self.step(now, Input::Kick);
        } else if commands.kick {
            self.gate.hold_kick();
        }
        if commands.stop {
            self.goodbye = commands.goodbye;
            // No dial follows, so the client ends like any stopped client.
            self.renewing = None;
            self.send_queue.end();
            self.step(now, Input::Stop);
        }
        self.expire(now);
        // All other pending work is messages. They go out now, without waiting for the socket to run dry.
        self.flush_and_tick(now);
    }

    /// Hands back messages that were held for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.options.send_queue.hold.is_none() {
            return;
        }
        let withheld = self.withholds_expiry();
        let config = self.machine.config();
        let (unsent, oldest) = self
            .send_queue
            .expire(|held| !withheld && config.expiry(held) <= now);
        self.expires = oldest.map_or(Instant::NEVER, |held| config.expiry(held));
        if !unsent.is_empty() {
            let age = Seconds(self.machine.config().time_to_live());
            let expired = unsent.len();
            warn!(parent: &self.shared_stats.log.span, expired, "handed back: held for longer than {age}");
            self.shared_stats.handed_back(unsent.len());
            self.note_unsent(unsent.len(), 0);
            self.events.push_back(Event::Expired { unsent });
        }
    }

    pub(super) fn step(&mut self, now: Instant, event: Input<'_>) {
        let before = self.before(now);
        if self.options.explain.is_some()
            && let Some(mut recorder) = self.shared_stats.recorder()
        {
            recorder.record(|| self.machine.memory(), now, &event, &self.tracked);
        }
        let step = self.send_queue.ids.step(&mut self.machine, now, event);
        if let Some(observer) = &mut self.options.observer {
            let phase = self.machine.phase();
            named("the observer", || observer(now, &event, &step, phase));
        }
        self.news |= !step.actions.is_empty()
            || !matches!(
                event,
                Input::Received(_, Received::Data)
                    | Input::Progress(_)
                    | Input::Wrote(_)
                    | Input::WriteBlocked(_)
            );
        for action in step.actions {
            self.perform(now, action, before);
        }
        if self.machine.phase() == Phase::Stopped && !self.ended {
            self.tell_stopped(now);
        }
    }

    pub(super) fn tell_stopped(&mut self, now: Instant) {
        self.ended = true;
        self.send_queue.end();
        let last = self.drop_link(now);
        let unsent = std::mem::take(&mut self.unsent).and(last);
        self.expires = Instant::NEVER;
        self.shared_stats.handed_back(unsent.len());
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let close_timed_out = self.close_timed_out;
        let late = close_timed_out.then(|| self.machine.config().close_timeout());
        self.shared_stats
            .log
            .stopped(unsent.len(), 0, in_doubt, late);
        self.shared_stats.connected.ended(WaitEnd::Stopped);
        // Publish first, so that the reader of the last event sees the final figures.
        self.publish();
        self.events.push_back(Event::Stopped {
            unsent,
            in_doubt,
            close_timed_out,
        });
    }

    pub(super) fn perform(&mut self, now: Instant, action: Action<'_>, before: Before) {
        match action {
            Action::Connect {
                conn,
                attempt,
                refresh,
            } => {
                self.gate.used();
                self.begin_dial(conn, attempt, refresh, now);
            }
            Action::SendPong { conn, reply } => {
                if self.answer(conn, reply) {
                    debug!(parent: &self.span, "ping answered");
                    self.note(Event::PongSent { conn });
                }
            }
            Action::SendPing { conn, ping } => {
                if self.ask(conn, ping) {
                    debug!(parent: &self.span, "ping sent");
                    self.note(Event::PingSent { conn });
                    if session(&mut self.link, conn).is_some_and(Connection::ping_waits) {
                        self.step(now, Input::PingWaiting(conn));
                    }
                } else {
                    self.step(now, Input::PingUnsent(conn));
                }
            }
            Action::Close { conn, code } => {
                self.shared_stats.connected.closing();
                let (send_queue, span) = (Arc::clone(&self.send_queue), &self.span);
                if let Some(session) = session(&mut self.link, conn) {
                    let goodbye = self.goodbye.take().unwrap_or_else(|| code.into());
                    info!(parent: span, code = goodbye.code, "closing");
                    session.close(goodbye, &send_queue, self.pace.as_mut(), now);
                }
            }
            Action::Ending { conn, why, within } => {
                info!(parent: &self.span, "ends soon ({why}): renewed in {}", Seconds(within));
                self.events.push_back(Event::Ending { conn, why, within });
            }
            Action::Renew { conn, code, why } => self.renew(conn, code, why, before, now),
            Action::Abort { conn, reason } => self.abort(conn, reason, before, now),
            Action::ReconnectAt {
                attempt,
                delay,
                tolerated,
                ..
            } => {
                self.shared_stats.log.retry(attempt, delay, tolerated);
                self.events.push_back(Event::Reconnect { attempt, delay });
            }
            Action::Check { conn, idle } => {
                log::check(&self.span, idle);
                self.note(Event::Check { conn, idle });
            }
            Action::GaveUp { reason } => self.give_up(reason),
        }
    }

    pub(super) fn give_up(&mut self, reason: GiveUp) {
        self.shared_stats.log.gave_up(reason);
        self.shared_stats.connected.ended(WaitEnd::GaveUp(reason));
        let detail = self.shared_stats.connected.last_detail();
        self.events.push_back(Event::GaveUp { reason, detail });
    }

    /// Reports a heartbeat event, if the options want heartbeat events.
    pub(super) fn note(&mut self, event: Event) {
        if self.options.heartbeat_events {
            self.events.push_back(event);
        }
    }

    pub(super) fn answer(&mut self, conn: ConnId, reply: Reply<'_>) -> bool {
        let Some(session) = session(&mut self.link, conn) else {
            return false;
        };
        if self.ending && session.holds_reading() {
            // The connection is read only to find its end. The peer does not wait for this answer.
            return false;
        }
        let Reply::Template(draft) = reply else {
            session.pong(reply);
            return true;
        };
        let tracked = &self.tracked;
        let computed = &self.options.computed;
        let written = self.send_queue.with_values(tracked, computed, |values| {
            match self
                .options
                .dialect
                .render(&draft, values, &mut self.buffer)
            {
                Some(Outgoing::Text(text)) => session.pong(Reply::Text(text)),
                Some(Outgoing::Binary(bytes)) => session.pong(Reply::Binary(bytes)),
                None => return false,
            }
            true
        });
        if !written {
            warn!(parent: &self.span, "ping not answered: a variable of the reply is not set");
        }
        written
    }

    /// Sends a message of the dialect. Returns false if the message cannot be rendered yet.
    pub(super) fn write(&mut self, conn: ConnId, draft: TemplateRef<'_>) -> bool {
        let Some(session) = session(&mut self.link, conn) else {
            return false;
        };
        let tracked = &self.tracked;
        let computed = &self.options.computed;
        self.send_queue.with_values(tracked, computed, |values| {
            let written = self
                .options
                .dialect
                .render(&draft, values, &mut self.buffer);
            written.map(|message| session.ask(message)).is_some()
        })
    }

    pub(super) fn ask(&mut self, conn: ConnId, ping: PingMessage) -> bool {
        let Some(session) = session(&mut self.link, conn) else {
            return false;
        };
        let PingMessage::Template(draft) = ping else {
            session.ping(ping);
            return true;
        };
        let written = self.write(conn, draft);
        if !written {
            let options = &self.options;
            let unset = |values: &Values<'_>| options.unset(values.variables).map(str::to_owned);
            let name = self.send_queue.with_values(&self.tracked, &[], unset);
            let name = name.map_or("a variable".into(), |name| format!("the variable `{name}`"));
            warn!(parent: &self.span, "ping not sent: {name} of the message is not set");
        }
        written
    }

    /// Handles the end of the open connection.
    pub(super) fn lost(
        &mut self,
        conn: ConnId,
        cause: Cause,
        detail: Option<Box<str>>,
        now: Instant,
    ) {
        // The peer's last bytes still count as life, and set how long it was silent.
        self.report(now);
        if self.current() != Some(conn) {
            // The machine's own verdict came first.
            return;
        }
        let renewing = self.renewing.take();
        let before = self.before(now);
        let unsent = self.drop_link(now);
        if let Some(renewing) = renewing {
            let is_closed = matches!(cause, Cause::Close(_));
            self.tell_renewed(conn, renewing, is_closed, unsent, now);
        } else if self.machine.phase() == Phase::Closing {
            self.unsent = unsent;
        } else {
            self.tell_disconnected(conn, Reason::Cause(cause), detail, before, unsent, now);
        }
        self.step(now, Input::Closed(conn, cause));
    }

    fn abort(&mut self, conn: ConnId, reason: AbortReason, before: Before, now: Instant) {
        if self.current() != Some(conn) {
            return;
        }
        let hidden = session(&mut self.link, conn).and_then(Connection::write_error);
        // Dropping the transport closes the socket at once. Nothing more is read or sent.
        let unsent = self.drop_link(now);
        self.dial = None;
        if let Some(renewing) = self.renewing.take() {
            return self.tell_renewed(conn, renewing, false, unsent, now);
        }
        match reason {
            // The application's own wish: only the end is reported.
            AbortReason::Stale | AbortReason::CloseTimeout => {
                self.unsent = unsent;
                self.close_timed_out = reason == AbortReason::CloseTimeout;
            }
            _ => self.tell_disconnected(conn, Reason::Aborted(reason), hidden, before, unsent, now),
        }
    }

    /// Writes all accepted messages, then Close. Later messages wait for the next connection.
    fn renew(&mut self, conn: ConnId, code: u16, why: Renewal, before: Before, now: Instant) {
        let (send_queue, span) = (Arc::clone(&self.send_queue), &self.span);
        self.opening = false;
        self.shared_stats.connected.closing();
        if let Some(session) = session(&mut self.link, conn) {
            info!(parent: span, code, "closing, to be renewed ({why})");
            session.close(code.into(), &send_queue, self.pace.as_mut(), now);
            send_queue.shut(now);
            self.expire(now);
            let since = now;
            self.renewing = Some(Renewing { why, before, since });
        }
    }

    /// Reports the end of a renewed connection. `is_closed`: the peer's Close has just arrived.
    fn tell_renewed(
        &mut self,
        conn: ConnId,
        renewing: Renewing,
        is_closed: bool,
        unsent: Unsent,
        now: Instant,
    ) {
        let Renewing { why, before, since } = renewing;
        let closing = now.saturating_duration_since(since);
        let before = Before {
            idle: match is_closed {
                true => Duration::ZERO,
                false => before.idle.saturating_add(closing),
            },
            open: before.open.saturating_add(closing),
            ..before
        };
        self.tell_disconnected(conn, Reason::Renewal(why), None, before, unsent, now);
    }

    pub(super) fn tell_disconnected(
        &mut self,
        conn: ConnId,
        reason: Reason,
        detail: Option<Box<str>>,
        before: Before,
        unsent: Unsent,
        now: Instant,
    ) {
        let Before {
            idle,
            open,
            was_open,
            ..
        } = before;
        // Before the machine is told, because its decision may depend on whether other addresses are left.
        self.addresses.ended(before.stable);
        self.told = None;
        self.last = Some(reason);
        let response = self.response.take();
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let end = End {
            reason,
            detail: detail.as_deref(),
            idle,
            open,
            was_open,
            unsent: unsent.len(),
            uncertain: 0,
            in_doubt,
        };
        end.tell(&self.span);
        self.shared_stats.handed_back(unsent.len());
        if let Some(meter) = &self.meter {
            named("the metrics recorder", || meter.ended(reason));
        }
        self.shared_stats
            .connected
            .lost(reason, detail.clone(), response.clone());
        self.note_loss(reason, before, (unsent.len(), in_doubt), now);
        self.events.push_back(Event::Disconnected {
            conn,
            reason,
            detail,
            response,
            idle,
            open,
            unsent,
            in_doubt,
        });
    }

    /// Closes the socket. Unwritten messages are returned, or held.
    pub(super) fn drop_link(&mut self, now: Instant) -> Unsent {
        self.opening = false;
        (self.ending, self.hung_up) = (false, false);
        self.paced_until = Instant::NEVER;
        self.pauses.connection_ended(now, &self.span);
        self.joined = None;
        if let ConnState::Open(session) = &mut self.link {
            session.settle();
            self.shared_stats.traffic(session.traffic());
        }
        self.shared_stats.connection_ended();
        let (cut, in_flight) = match std::mem::replace(&mut self.link, ConnState::Down) {
            ConnState::Open(session) => {
                self.in_doubt = usize::try_from(session.in_doubt()).unwrap_or(usize::MAX);
                session.into_unsent()
            }
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. }
            | ConnState::Upgrading { .. } => Default::default(),
        };
        let unsent = self.send_queue.close(cut, in_flight, now);
        self.expire(now);
        unsent
    }

    /// Returns the connection's state before a step that may end it.
    pub(super) fn before(&self, now: Instant) -> Before {
        let since = |anchor: Option<Instant>| {
            anchor.map_or(Duration::ZERO, |anchor| {
                now.saturating_duration_since(anchor)
            })
        };
        Before {
            idle: since(self.machine.heard()),
            open: since(self.machine.open_since()),
            was_open: self.machine.open_since().is_some(),
            ready: self.machine.is_ready(),
            stable: self.machine.is_stable(now),
        }
    }
}

/// A connection that is being closed for a renewal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewing {
    why: Renewal,
    /// Its state when the Close was sent.
    before: Before,
    since: Instant,
}

/// The state of a connection before its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// Time since the last byte was read.
    pub(super) idle: Duration,
    /// How long the connection was open.
    pub(super) open: Duration,
    /// The connection was open. False for a failed dial.
    pub(super) was_open: bool,
    /// The session was ready.
    pub(super) ready: bool,
    /// The session had been ready for `stable_after`.
    pub(super) stable: bool,
}

pub(super) fn session<S: Read + Write>(
    link: &mut ConnState<S>,
    conn: ConnId,
) -> Option<&mut Connection<S>> {
    match link {
        ConnState::Open(session) if session.conn == conn => Some(session),
        ConnState::Open(_)
        | ConnState::Down
        | ConnState::Preparing { .. }
        | ConnState::Redirected { .. }
        | ConnState::Dialing { .. }
        | ConnState::Upgrading { .. } => None,
    }
}
