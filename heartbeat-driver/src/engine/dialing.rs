//! From the machine's wish for a connection to an open one.

use std::io::{Read, Write};
use std::time::Duration;

use heartbeat_core::{Cause, Clock, ConnId, Dialect as _, Event as Input, Instant, Ping};
use tracing::{debug, field, info, info_span};
use tungstenite::protocol::WebSocketConfig;

use super::performing::Before;
use super::reading::ReadOn;
use super::{Dial, Engine, Link};
use crate::message::{Event, Reason, Seconds, Unsent};
use crate::options::{Attempt, Options};
use crate::session::{Session, io_cause};
use crate::upgrade::{Progress, Upgrade};

/// Small messages are put together up to this size before they are written.
const WRITE_BUFFER: usize = 16 * 1024;

impl<S: Read + Write> Engine<S> {
    /// The dial of this connection has come to an end: a byte stream, or an error.
    pub fn dialed(&mut self, conn: ConnId, result: std::io::Result<S>, clock: &impl Clock) {
        if self.dialing() != Some(conn) {
            // Abandoned meanwhile. The stream, if there is one, is dropped here.
            return;
        }
        let Link::Dialing { since, request, .. } = std::mem::replace(&mut self.link, Link::Down)
        else {
            return;
        };
        let started = match result {
            Ok(io) => Upgrade::start(io, &request, &mut self.options),
            Err(error) => Err(io_cause(&error)),
        };
        match started {
            Ok(upgrade) => {
                self.link = Link::Upgrading {
                    conn,
                    since,
                    upgrade,
                }
            }
            Err((cause, detail)) => self.dial_failed(conn, cause, detail, clock.now()),
        }
    }

    pub(super) fn begin_dial(&mut self, conn: ConnId, attempt: u32, refresh: bool, now: Instant) {
        self.span = info_span!("connection", %conn, host = field::Empty);
        info!(parent: &self.span, %conn, attempt, "connecting");
        self.events.push_back(Event::Connecting { conn, attempt });
        self.attempt = Attempt {
            conn,
            attempt,
            refresh,
        };
        if let Some(lost) = &mut self.lost {
            lost.attempts = lost.attempts.saturating_add(1);
        }
        match (self.options.factory)(self.attempt) {
            Ok(request) => {
                self.span.record("host", request.host());
                self.dial = Some(Dial {
                    conn,
                    host: request.host().to_owned(),
                    port: request.port(),
                });
                self.link = Link::Dialing {
                    conn,
                    since: now,
                    request,
                };
            }
            Err(error) => self.dial_failed(conn, Cause::Io, Some(error.to_string().into()), now),
        }
    }

    pub(super) fn dial_failed(
        &mut self,
        conn: ConnId,
        cause: Cause,
        detail: Option<Box<str>>,
        now: Instant,
    ) {
        self.tell_disconnected(
            conn,
            Reason::Cause(cause),
            detail,
            Before::default(),
            Unsent::default(),
            now,
        );
        self.step(now, Input::Closed(conn, cause));
    }

    pub(super) fn upgrade(&mut self, clock: &impl Clock) -> ReadOn {
        let Link::Upgrading {
            conn,
            since,
            upgrade,
        } = &mut self.link
        else {
            return ReadOn::Dry;
        };
        let (conn, since) = (*conn, *since);
        match upgrade.proceed() {
            Progress::Waits => return ReadOn::Dry,
            Progress::Failed(cause, detail) => {
                self.link = Link::Down;
                self.dial_failed(conn, cause, detail, clock.now());
            }
            Progress::Done(ws) => {
                let now = clock.now();
                self.link = Link::Open(Box::new(Session::new(conn, *ws)));
                let ready = self.machine.config().session_timeout().is_none();
                self.outbox.open(conn, ready);
                let after = now.saturating_duration_since(since);
                info!(parent: &self.span, %conn, "connected after {}", Seconds(after));
                self.tell_monitor_started(conn);
                self.events.push_back(Event::Connected { conn, after });
                self.tell_gap(conn, ready, now);
                self.step(now, Input::Connected(conn));
                self.greet(conn);
                if !ready {
                    self.opening = self.options.on_connect.is_some();
                    self.open_session(conn, None, now);
                }
                if self.paused {
                    self.step(now, Input::ReadPaused(conn));
                }
            }
        }
        ReadOn::Again
    }

    /// Sends what the dialect wants to be sent on open.
    pub(super) fn greet(&mut self, conn: ConnId) {
        for number in 0.. {
            let Some(mut draft) = self.options.dialect.greeting(number) else {
                return;
            };
            draft.id = self.outbox.take_id();
            let sent = self.write(conn, draft);
            debug!(parent: &self.span, %conn, sent, "greeting");
        }
    }

    pub(super) fn tell_monitor_started(&self, conn: ConnId) {
        let config = self.machine.config();
        let (asks, interval) = match config.ping() {
            Ping::Never => ("never asks", Duration::ZERO),
            Ping::AfterSilence(silence) => ("asks after silence", silence),
            Ping::Every(interval) => ("asks every", interval),
        };
        let (interval, threshold) = (Seconds(interval), Seconds(config.idle_timeout()));
        info!(parent: &self.span, %conn, asks, %interval, %threshold, "monitor started");
    }
}

/// tungstenite's settings: small buffers, one limit for messages and frames.
pub(crate) fn websocket_config(options: &Options) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(options.read_buffer)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(options.max_message_size))
        .max_frame_size(Some(options.max_message_size))
}
