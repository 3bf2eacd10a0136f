//! The engine: the machine's commands performed on a byte stream, whatever the runtime.
//!
//! An adapter calls [`Engine::turn`] until it says [`Turn::Idle`], then waits for whichever comes
//! first: the socket is ready, [`Engine::wake`] has come, or the outbox has something. It dials when
//! told to. Nothing here blocks, and no rule of time is decided here.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{
    AbortReason, Action, Ask, Cause, Class, Clock, Config, ConnId, Dialect as _, Draft,
    Event as Input, GiveUp, Heartbeat, Instant, Message as Received, Outgoing, Phase, Ping, Reply,
    Variables,
};
use tracing::{debug, info, warn};
use tungstenite::Message as Frame;
use tungstenite::protocol::WebSocketConfig;

use crate::message::{DisplayCause, Event, Message, Reason, Seconds};
use crate::options::{Attempt, Options, SharedDialect};
use crate::outbox::{Notify, Outbox};
use crate::request::{Request, RequestError};
use crate::session::{Heard, Session, io_cause};
use crate::upgrade::{Progress, Upgrade};

/// After this many messages in a row the machine is told, and its timers get their turn, even
/// though the socket has not run dry.
const BURST: u32 = 64;

/// Small messages are put together up to this size before they are written.
const WRITE_BUFFER: usize = 16 * 1024;

/// What an adapter has to do next.
#[derive(Debug)]
pub enum Turn {
    /// Pass this on to the application.
    Event(Event),
    /// Connect to this host and port, then say [`Engine::dialed`]. Drop a dial whose connection
    /// is no longer [`Engine::dialing`].
    Dial(Dial),
    /// Turn again, after others had theirs: a server says much that nobody needs to be told.
    Again,
    /// Wait.
    Idle,
    /// The client has ended.
    Ended,
}

/// A byte stream that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// What the stream is for.
    pub conn: ConnId,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The machine, its connection and its queues. `S` is a non-blocking byte stream: its `read` and
/// `write` return `WouldBlock` rather than wait.
pub struct Engine<S: Read + Write> {
    machine: Heartbeat<Arc<Config>, SharedDialect>,
    options: Options,
    outbox: Arc<Outbox>,
    link: Link<S>,
    /// Told, but not taken yet. A turn takes all of them before it does anything else, so that only
    /// what one step brings is ever in here.
    events: VecDeque<Event>,
    dial: Option<Dial>,
    paused: bool,
    ended: bool,
    unsent: Vec<Message>,
    /// What the dialect keeps of the messages.
    tracked: Variables,
    /// Where its own messages are written.
    buffer: String,
}

enum Link<S: Read + Write> {
    Down,
    /// The adapter dials, or has been told to.
    Dialing {
        conn: ConnId,
        since: Instant,
        request: Request,
    },
    /// TLS and the WebSocket upgrade are under way.
    Upgrading {
        conn: ConnId,
        since: Instant,
        upgrade: Upgrade<S>,
    },
    Open(Box<Session<S>>),
}

impl<S: Read + Write> Engine<S> {
    /// An engine at rest. `wake_engine` is called, from any thread, when the outbox has something for
    /// it; `on_room` when there is room in the outbox again.
    ///
    /// # Errors
    /// [`RequestError`] if TLS is needed and no trusted roots are found.
    pub fn new(
        mut options: Options,
        now: Instant,
        wake_engine: Notify,
        on_room: Notify,
    ) -> Result<Self, RequestError> {
        if options.tls_expected {
            options.prepare_tls()?;
        }
        let machine = Heartbeat::new(
            Arc::clone(&options.config),
            Arc::clone(&options.dialect),
            options.seed,
            now,
        );
        Ok(Self {
            machine,
            outbox: Arc::new(Outbox::new(options.outbox, wake_engine, on_room)),
            options,
            link: Link::Down,
            events: VecDeque::new(),
            dial: None,
            paused: false,
            ended: false,
            unsent: Vec::new(),
            tracked: Variables::new(),
            buffer: String::new(),
        })
    }

    /// Where messages and commands go in.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// The machine, for its figures.
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        &self.machine
    }

    /// When to turn again at the latest.
    pub fn wake(&self) -> Option<Instant> {
        self.machine.wake()
    }

    /// The connection for which a byte stream is wanted.
    pub fn dialing(&self) -> Option<ConnId> {
        match &self.link {
            Link::Dialing { conn, .. } => Some(*conn),
            Link::Down | Link::Upgrading { .. } | Link::Open(_) => None,
        }
    }

    /// The byte stream in use, to wait for.
    pub fn socket(&self) -> Option<&S> {
        match &self.link {
            Link::Down | Link::Dialing { .. } => None,
            Link::Upgrading { upgrade, .. } => upgrade.socket(),
            Link::Open(session) => Some(session.socket()),
        }
    }

    /// The same, to be changed (registered with a poller, say).
    pub fn socket_mut(&mut self) -> Option<&mut S> {
        match &mut self.link {
            Link::Down | Link::Dialing { .. } => None,
            Link::Upgrading { upgrade, .. } => upgrade.socket_mut(),
            Link::Open(session) => Some(session.socket_mut()),
        }
    }

    /// True if it helps to turn when the socket becomes readable.
    pub fn wants_read(&self) -> bool {
        match &self.link {
            Link::Down | Link::Dialing { .. } => false,
            // One direction at a time: a peer that speaks before it was asked must not wake us for nothing.
            Link::Upgrading { upgrade, .. } => !upgrade.wants_write(),
            Link::Open(_) => self.reads(),
        }
    }

    /// True unless an open connection is not to be read from.
    fn reads(&self) -> bool {
        match &self.link {
            Link::Open(session) => {
                (!self.paused || self.machine.phase() == Phase::Closing) && !session.holds_reading()
            }
            Link::Down | Link::Dialing { .. } | Link::Upgrading { .. } => true,
        }
    }

    /// True if it helps to turn when the socket becomes writable.
    pub fn wants_write(&self) -> bool {
        match &self.link {
            Link::Down | Link::Dialing { .. } => false,
            Link::Upgrading { upgrade, .. } => upgrade.wants_write(),
            Link::Open(session) => session.wants_write(),
        }
    }

    // ---- from the adapter ---------------------------------------------------------------------

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

    /// The application takes no messages: stop reading.
    pub fn pause_reading(&mut self, clock: &impl Clock) {
        if !std::mem::replace(&mut self.paused, true) {
            let now = clock.now();
            self.report(now);
            if let Link::Open(session) = &self.link {
                self.step(now, Input::ReadPaused(session.conn));
            }
        }
    }

    /// The application takes messages again.
    pub fn resume_reading(&mut self, clock: &impl Clock) {
        if std::mem::replace(&mut self.paused, false)
            && let Link::Open(session) = &self.link
        {
            self.step(clock.now(), Input::ReadResumed(session.conn));
        }
    }

    /// Goes on until something is to be told, dialled or waited for.
    #[inline]
    pub fn turn(&mut self, clock: &impl Clock) -> Turn {
        let mut unheard = 0;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Turn::Event(event);
            }
            if let Some(dial) = self.dial.take() {
                return Turn::Dial(dial);
            }
            if self.ended {
                return Turn::Ended;
            }
            // At once, unless a deadline has come: then what has arrived is read first, for any step
            // judges.
            if self.outbox.is_pending() && !self.is_due(clock.now()) {
                self.obey(clock.now());
                continue;
            }
            match self.read(clock) {
                ReadOn::Message(event) => return Turn::Event(event),
                ReadOn::Again if unheard < BURST => {
                    unheard += 1;
                    continue;
                }
                ReadOn::Again => {
                    self.settle(clock.now());
                    return Turn::Again;
                }
                ReadOn::Dry => {}
            }
            let held = !self.reads();
            self.settle(clock.now());
            if self.outbox.is_pending() {
                self.obey(clock.now());
            }
            if held && self.reads() {
                // What has arrived meanwhile has been announced long ago: nobody wakes us for it.
                continue;
            }
            if self.events.is_empty() && self.dial.is_none() && !self.ended {
                return Turn::Idle;
            }
        }
    }

    // ---- reading ------------------------------------------------------------------------------

    #[inline]
    fn read(&mut self, clock: &impl Clock) -> ReadOn {
        let reads = self.reads();
        let session = match &mut self.link {
            Link::Open(session) if reads => session,
            Link::Upgrading { .. } => return self.upgrade(clock),
            Link::Open(_) | Link::Down | Link::Dialing { .. } => return ReadOn::Dry,
        };
        let conn = session.conn;
        let message = match session.read() {
            Heard::Dry => return ReadOn::Dry,
            Heard::Ended(cause, detail) => {
                self.lost(conn, cause, detail, clock.now());
                return ReadOn::Again;
            }
            Heard::Frame(Frame::Text(text)) => {
                self.options.dialect.track(&text, &mut self.tracked);
                match sort(&self.machine, self.options.dialect.classify_text(&text)) {
                    Sort::Data => Message::Text(text),
                    Sort::Heartbeat => {
                        return self.heartbeat(conn, Received::Text(&text), clock);
                    }
                    Sort::Both => {
                        self.heartbeat(conn, Received::Text(&text), clock);
                        return self.deliver(conn, Message::Text(text));
                    }
                }
            }
            Heard::Frame(Frame::Binary(bytes)) => {
                match sort(&self.machine, self.options.dialect.classify_binary(&bytes)) {
                    Sort::Data => Message::Binary(bytes),
                    Sort::Heartbeat => {
                        return self.heartbeat(conn, Received::Binary(&bytes), clock);
                    }
                    Sort::Both => {
                        self.heartbeat(conn, Received::Binary(&bytes), clock);
                        return self.deliver(conn, Message::Binary(bytes));
                    }
                }
            }
            Heard::Frame(Frame::Ping(payload)) => {
                return self.heartbeat(conn, Received::Ping(&payload), clock);
            }
            Heard::Frame(Frame::Pong(payload)) => {
                return self.heartbeat(conn, Received::Pong(&payload), clock);
            }
            Heard::Frame(Frame::Close(frame)) => {
                session.answer_close();
                let code = frame.as_ref().map_or(1005, |frame| frame.code.into());
                let detail = frame
                    .filter(|frame| !frame.reason.is_empty())
                    .map(|frame| frame.reason.as_str().into());
                self.lost(conn, Cause::Close(code), detail, clock.now());
                return ReadOn::Again;
            }
            Heard::Frame(Frame::Frame(_)) => return ReadOn::Again,
        };
        session.unreported += 1;
        if self.paused {
            // Closing: the end of what the peer says is waited for, and there is no room for the rest.
            return ReadOn::Again;
        }
        if session.unreported >= BURST {
            self.settle(clock.now());
        }
        ReadOn::Message(Event::Message { conn, message })
    }

    /// A message that the machine has taken already goes on to the application.
    fn deliver(&mut self, conn: ConnId, message: Message) -> ReadOn {
        if self.paused {
            return ReadOn::Again;
        }
        ReadOn::Message(Event::Message { conn, message })
    }

    fn heartbeat(&mut self, conn: ConnId, message: Received<'_>, clock: &impl Clock) -> ReadOn {
        if let Link::Open(session) = &mut self.link {
            session.mark_reported();
        }
        let before = self.machine.stats();
        self.step(clock.now(), Input::Received(conn, message));
        let after = self.machine.stats();
        if after.pongs_received != before.pongs_received {
            let rtt = (after.rtt.samples != before.rtt.samples).then_some(after.rtt.last);
            self.events.push_back(Event::PongReceived { conn, rtt });
        }
        ReadOn::Again
    }

    fn upgrade(&mut self, clock: &impl Clock) -> ReadOn {
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
                self.outbox.open();
                let after = now.saturating_duration_since(since);
                info!(%conn, "connected after {}", Seconds(after));
                self.tell_monitor_started(conn);
                self.events.push_back(Event::Connected { conn, after });
                self.step(now, Input::Connected(conn));
                self.greet(conn);
                if self.paused {
                    self.step(now, Input::ReadPaused(conn));
                }
            }
        }
        ReadOn::Again
    }

    fn tell_monitor_started(&self, conn: ConnId) {
        let config = self.machine.config();
        let (asks, interval) = match config.ping() {
            Ping::Never => ("never asks", Duration::ZERO),
            Ping::AfterSilence(silence) => ("asks after silence", silence),
            Ping::Every(interval) => ("asks every", interval),
        };
        let (interval, threshold) = (Seconds(interval), Seconds(config.idle_timeout()));
        info!(%conn, asks, %interval, %threshold, "monitor started");
    }

    /// The socket has run dry, or has been read for long enough: tell the machine what came, write
    /// what waits, and let due timers act.
    fn settle(&mut self, now: Instant) {
        self.report(now);
        if let Link::Open(session) = &mut self.link {
            let conn = session.conn;
            let flushed = session.flush(&self.outbox);
            if flushed.moved {
                self.step(now, Input::Wrote(conn));
            }
            if flushed.blocked {
                self.step(now, Input::WriteBlocked(conn));
            }
        }
        if self.is_due(now) {
            self.step(now, Input::Tick);
        }
    }

    /// Tells the machine what was read and not told yet.
    fn report(&mut self, now: Instant) {
        if let Link::Open(session) = &mut self.link {
            let conn = session.conn;
            match session.take_unreported() {
                Some(true) => self.step(now, Input::Received(conn, Received::Data)),
                Some(false) => self.step(now, Input::Progress(conn)),
                None => {}
            }
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.machine.wake().is_some_and(|wake| wake <= now)
    }

    // ---- what the machine is told and what it says --------------------------------------------

    fn obey(&mut self, now: Instant) {
        let (kick, stop) = self.outbox.commands();
        if kick {
            self.step(now, Input::Kick);
        }
        if stop {
            self.outbox.end();
            self.step(now, Input::Stop);
        }
        // What else was pending are messages: they go out now, not when the socket has run dry.
        self.settle(now);
    }

    fn dial_failed(&mut self, conn: ConnId, cause: Cause, detail: Option<Box<str>>, now: Instant) {
        self.tell_disconnected(
            conn,
            Reason::Cause(cause),
            detail,
            (Duration::ZERO, Duration::ZERO),
            Vec::new(),
        );
        self.step(now, Input::Closed(conn, cause));
    }

    /// The open connection has ended.
    fn lost(&mut self, conn: ConnId, cause: Cause, detail: Option<Box<str>>, now: Instant) {
        // What it said last is still life, and decides how long it had been silent.
        self.report(now);
        if self.current() != Some(conn) {
            // A verdict of our own came first.
            return;
        }
        let spans = self.spans(now);
        let unsent = self.drop_link();
        if self.machine.phase() == Phase::Closing {
            self.unsent = unsent;
        } else {
            self.tell_disconnected(conn, Reason::Cause(cause), detail, spans, unsent);
        }
        self.step(now, Input::Closed(conn, cause));
    }

    fn step(&mut self, now: Instant, event: Input<'_>) {
        let spans = self.spans(now);
        let step = self.machine.step(now, event);
        if let Some(observer) = &mut self.options.observer {
            observer(now, &event, &step, self.machine.phase());
        }
        for action in step.actions {
            self.perform(now, action, spans);
        }
        if self.machine.phase() == Phase::Stopped && !self.ended {
            self.ended = true;
            self.outbox.end();
            let mut unsent = self.drop_link();
            unsent.splice(0..0, std::mem::take(&mut self.unsent));
            info!("stopped");
            self.events.push_back(Event::Stopped { unsent });
        }
    }

    fn perform(&mut self, now: Instant, action: Action<'_>, spans: (Duration, Duration)) {
        match action {
            Action::Connect {
                conn,
                attempt,
                refresh,
            } => self.begin_dial(conn, attempt, refresh, now),
            Action::SendPong { conn, reply } => {
                if self.answer(conn, reply) {
                    debug!(%conn, "ping answered");
                    self.events.push_back(Event::PongSent { conn });
                }
            }
            Action::SendPing { conn, ping } => {
                if self.ask(conn, ping) {
                    debug!(%conn, "ping sent");
                    self.events.push_back(Event::PingSent { conn });
                }
            }
            Action::Close { conn, code } => {
                let outbox = Arc::clone(&self.outbox);
                if let Some(session) = session(&mut self.link, conn) {
                    info!(%conn, code, "closing");
                    session.close(code, &outbox);
                }
            }
            Action::Abort { conn, reason } => self.abort(conn, reason, spans),
            Action::ReconnectAt { attempt, delay, .. } => {
                info!("retry {attempt} in {}", Seconds(delay));
                self.events.push_back(Event::Reconnect { attempt, delay });
            }
            Action::Check { conn, idle } => {
                info!(%conn, "idle for {}", Seconds(idle));
                self.events.push_back(Event::Check { conn, idle });
            }
            Action::GaveUp { reason } => {
                match reason {
                    GiveUp::MaxAttempts => warn!("gave up: too many attempts"),
                    GiveUp::Credentials(cause) => {
                        warn!("gave up: credentials refused ({})", DisplayCause(cause))
                    }
                    GiveUp::Cause(cause) => warn!("gave up: {}", DisplayCause(cause)),
                    _ => warn!("gave up"),
                }
                self.events.push_back(Event::GaveUp { reason });
            }
        }
    }

    fn answer(&mut self, conn: ConnId, reply: Reply<'_>) -> bool {
        let Some(session) = session(&mut self.link, conn) else {
            return false;
        };
        let Reply::Draft(draft) = reply else {
            session.pong(reply);
            return true;
        };
        let tracked = &self.tracked;
        let written = self.outbox.with_values(tracked, |values| {
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
            warn!(%conn, "ping not answered: a variable of the reply is not set");
        }
        written
    }

    /// Sends what the dialect wants to be sent on open.
    fn greet(&mut self, conn: ConnId) {
        for number in 0.. {
            let Some(mut draft) = self.options.dialect.greeting(number) else {
                return;
            };
            draft.id = self.machine.take_id();
            let sent = self.write(conn, draft);
            debug!(%conn, sent, "greeting");
        }
    }

    /// Sends a message of the dialect's own. False if it cannot be written yet.
    fn write(&mut self, conn: ConnId, draft: Draft<'_>) -> bool {
        let Some(session) = session(&mut self.link, conn) else {
            return false;
        };
        let tracked = &self.tracked;
        self.outbox.with_values(tracked, |values| {
            let written = self
                .options
                .dialect
                .render(&draft, values, &mut self.buffer);
            written.map(|message| session.ask(message)).is_some()
        })
    }

    fn ask(&mut self, conn: ConnId, ping: Ask) -> bool {
        let Some(session) = session(&mut self.link, conn) else {
            return false;
        };
        let Ask::Draft(draft) = ping else {
            session.ping(ping);
            return true;
        };
        let written = self.write(conn, draft);
        if !written {
            warn!(%conn, "ping not sent: a variable of the message is not set");
        }
        written
    }

    fn begin_dial(&mut self, conn: ConnId, attempt: u32, refresh: bool, now: Instant) {
        info!(%conn, attempt, "connecting");
        self.events.push_back(Event::Connecting { conn, attempt });
        match (self.options.factory)(Attempt {
            conn,
            attempt,
            refresh,
        }) {
            Ok(request) => {
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

    fn abort(&mut self, conn: ConnId, reason: AbortReason, spans: (Duration, Duration)) {
        if self.current() != Some(conn) {
            return;
        }
        // Dropping the transport closes the socket at once; nothing more is read from it or sent.
        let unsent = self.drop_link();
        self.dial = None;
        match reason {
            // The user's own wish: only the end is told.
            AbortReason::Stale | AbortReason::CloseTimeout => self.unsent = unsent,
            _ => self.tell_disconnected(conn, Reason::Verdict(reason), None, spans, unsent),
        }
    }

    fn tell_disconnected(
        &mut self,
        conn: ConnId,
        reason: Reason,
        detail: Option<Box<str>>,
        (idle, open): (Duration, Duration),
        unsent: Vec<Message>,
    ) {
        let text = detail.as_deref().unwrap_or_default();
        let (idle_text, open_text) = (Seconds(idle), Seconds(open));
        warn!(%conn, unsent = unsent.len(), detail = text, "disconnected: {reason}, idle for {idle_text}, open for {open_text}");
        self.events.push_back(Event::Disconnected {
            conn,
            reason,
            detail,
            idle,
            open,
            unsent,
        });
    }

    fn current(&self) -> Option<ConnId> {
        match &self.link {
            Link::Down => None,
            Link::Dialing { conn, .. } | Link::Upgrading { conn, .. } => Some(*conn),
            Link::Open(session) => Some(session.conn),
        }
    }

    /// Closes the socket; what was not written comes back.
    fn drop_link(&mut self) -> Vec<Message> {
        let queued = self.outbox.close();
        match std::mem::replace(&mut self.link, Link::Down) {
            Link::Open(session) => session.into_unsent(queued),
            Link::Down | Link::Dialing { .. } | Link::Upgrading { .. } => queued.into(),
        }
    }

    /// How long nothing was heard, and how long the connection is open.
    fn spans(&self, now: Instant) -> (Duration, Duration) {
        let since = |anchor: Option<Instant>| {
            anchor.map_or(Duration::ZERO, |anchor| {
                now.saturating_duration_since(anchor)
            })
        };
        (
            since(self.machine.heard()),
            since(self.machine.open_since()),
        )
    }
}

fn session<S: Read + Write>(link: &mut Link<S>, conn: ConnId) -> Option<&mut Session<S>> {
    match link {
        Link::Open(session) if session.conn == conn => Some(session),
        Link::Open(_) | Link::Down | Link::Dialing { .. } | Link::Upgrading { .. } => None,
    }
}

/// Whom a message is for.
enum Sort {
    Data,
    Heartbeat,
    Both,
}

#[inline]
fn sort(machine: &Heartbeat<Arc<Config>, SharedDialect>, class: Class<'_>) -> Sort {
    match class {
        Class::Data => Sort::Data,
        Class::Response(id) if !machine.is_answer(id) => Sort::Data,
        Class::Carrier(carried) if carried.data => Sort::Both,
        _ => Sort::Heartbeat,
    }
}

enum ReadOn {
    Message(Event),
    Again,
    Dry,
}

/// tungstenite's settings: small buffers, one limit for messages and frames.
pub(crate) fn websocket_config(options: &Options) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(options.read_buffer)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(options.max_message_size))
        .max_frame_size(Some(options.max_message_size))
}

impl<S: Read + Write> Drop for Engine<S> {
    /// Who holds on to the outbox, or waits for room in it, is told that nobody will take anything.
    fn drop(&mut self) {
        self.outbox.end();
        self.outbox.close();
    }
}

impl<S: Read + Write> std::fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("phase", &self.machine.phase())
            .field("conn", &self.current())
            .finish_non_exhaustive()
    }
}
