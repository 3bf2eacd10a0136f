//! Dials: from the machine's decision to connect to an open connection.

use std::io::{Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll};

use heartbeat_core::{
    Cause, Clock, ConnId, DIAL_FLOOR, Dialect as _, Event as Input, Instant, Ping, Route,
};
use tracing::field::display;
use tracing::{debug, info};

use super::joined::ReadOn;
use super::performing::Before;
use super::{ConnState, Engine};
use crate::dial::{
    Attempt, Dial, FACTORY, FactoryWaker, Make, RequestResult, Resolver, TcpOptions,
};
use crate::event::{Event, Reason, Seconds};
use crate::http::DialError;
use crate::message::records::WORK;
use crate::message::{DECODER, Unsent};
use crate::panics::named;
use crate::request::Request;
use crate::upgrade::{Progress, Upgrade};
use crate::websocket::Connection;

/// A dial in progress, from its request to the upgrade.
#[derive(Clone, Copy)]
pub(super) struct StartedDial {
    pub(super) conn: ConnId,
    pub(super) since: Instant,
    /// Redirects followed.
    pub(super) hops: u32,
    /// When the last byte stream was requested.
    pub(super) dialed: Option<Instant>,
    /// The factory was asked again, because the nonce of its answer was stale.
    pub(super) again: bool,
}

impl<S: Read + Write> Engine<S> {
    /// Reports the result of this connection's dial: a byte stream, or an error.
    pub fn dialed(&mut self, conn: ConnId, result: std::io::Result<S>, clock: &impl Clock) {
        self.guarded(clock, |this| this.has_dialed(conn, result, clock));
    }

    fn has_dialed(&mut self, conn: ConnId, result: std::io::Result<S>, clock: &impl Clock) {
        if self.dialing() != Some(conn) {
            // The dial was abandoned meanwhile. Its stream is dropped here.
            return;
        }
        self.tell_route(conn, clock.now());
        let ConnState::Dialing { begun, route } =
            std::mem::replace(&mut self.link, ConnState::Down)
        else {
            return;
        };
        let (request, proxy) = *route;
        let started = match (result, &proxy) {
            (Ok(io), proxy) => {
                let follows = begun.hops < self.options.max_redirects;
                let terms = (begun.since, follows);
                Upgrade::start(io, request, proxy.as_ref(), terms, &mut self.options)
            }
            (Err(error), None) => Err(DialError::io(&error)),
            (Err(error), Some(proxy)) => Err(DialError::io(&error).of(&proxy.to_string())),
        };
        match started {
            Ok(upgrade) => {
                self.link = ConnState::Upgrading {
                    begun,
                    upgrade: Box::new(upgrade),
                }
            }
            Err(refusal) => self.dial_refused(conn, refusal, clock.now()),
        }
    }

    pub(super) fn begin_dial(&mut self, conn: ConnId, attempt: u32, refresh: bool, now: Instant) {
        self.span = self.shared_stats.log.connection(conn);
        info!(parent: &self.span, attempt, "connecting");
        self.events.push_back(Event::Connecting { conn, attempt });
        self.attempt = Attempt {
            conn,
            attempt,
            refresh,
            last: self.last,
            refused: self.refused.clone(),
        };
        if let Some(lost) = &mut self.lost {
            lost.attempts = lost.attempts.saturating_add(1);
        }
        let begun = StartedDial {
            conn,
            since: now,
            hops: 0,
            dialed: None,
            again: false,
        };
        self.addresses.begin();
        self.route.more_addresses = false;
        self.told = Some(conn);
        if let Some(request) = self.next_endpoint(conn, now) {
            self.trail.clear();
            return self.made(begun, Ok(request), now);
        }
        self.ask_factory(begun, now);
    }

    fn ask_factory(&mut self, begun: StartedDial, now: Instant) {
        self.trail.clear();
        match named(FACTORY, || (self.options.factory)(self.attempt.clone())) {
            Make::Now(made) => self.made(begun, *made, now),
            Make::Later(making) => {
                self.link = ConnState::Preparing {
                    begun,
                    making,
                    prod: FactoryWaker::new(&self.send_queue),
                }
            }
        }
    }

    /// Tells the machine, on a change, whether the host has addresses left to try.
    fn tell_route(&mut self, conn: ConnId, now: Instant) {
        let more_addresses = self.untried_addresses() > 0;
        if std::mem::replace(&mut self.route.more_addresses, more_addresses) != more_addresses {
            self.step(now, Input::Routed(conn, self.route));
        }
    }

    /// Returns the next of several endpoints, skipping hopeless ones.
    fn next_endpoint(&mut self, conn: ConnId, now: Instant) -> Option<Request> {
        let count = self.options.endpoints.len() as u8;
        let turns = (self.endpoint..count).chain(0..self.endpoint);
        let endpoint = turns
            .into_iter()
            .find(|endpoint| !self.machine.is_hopeless(*endpoint))?;
        self.endpoint = (endpoint + 1) % count;
        let route = Route {
            endpoint,
            endpoints: count,
            more_addresses: false,
        };
        self.route = route;
        self.step(now, Input::Routed(conn, route));
        self.options.endpoints.get(usize::from(endpoint)).cloned()
    }

    /// Polls the factory's future, if the future was woken.
    #[inline(never)]
    pub(super) fn prepare(&mut self, clock: &impl Clock) -> ReadOn {
        let ConnState::Preparing {
            begun,
            making,
            prod,
        } = &mut self.link
        else {
            return ReadOn::Dry;
        };
        if !prod.take() {
            return ReadOn::Dry;
        }
        let (begun, waker) = (*begun, Arc::clone(prod).into());
        let mut cx = Context::from_waker(&waker);
        match named(FACTORY, || making.as_mut().poll(&mut cx)) {
            Poll::Pending => ReadOn::Dry,
            Poll::Ready(made) => {
                self.link = ConnState::Down;
                self.made(begun, made, clock.now());
                ReadOn::Again
            }
        }
    }

    /// Returns true if the future was woken since its last poll. A wake-up before the end of the turn is
    /// already consumed, so the engine must poll again without another one.
    pub(super) fn is_prodded(&self) -> bool {
        matches!(&self.link, ConnState::Preparing { prod, .. } if prod.is_woken())
    }

    /// Follows a redirect, once its time has come.
    #[inline(never)]
    pub(super) fn follow(&mut self, clock: &impl Clock) -> ReadOn {
        let now = clock.now();
        match std::mem::replace(&mut self.link, ConnState::Down) {
            ConnState::Redirected { begun, request, at } if at <= now => {
                self.made(begun, Ok(*request), now);
                ReadOn::Again
            }
            link => {
                self.link = link;
                ReadOn::Dry
            }
        }
    }

    /// Starts the dial of a finished request.
    fn made(&mut self, begun: StartedDial, made: RequestResult, now: Instant) {
        let chosen = made.and_then(|request| {
            let proxy = self.options.proxies.choose(&request)?;
            Ok((request, proxy))
        });
        let (request, proxy) = match chosen {
            Ok(chosen) => chosen,
            Err(error) => {
                let detail = Some(error.to_string().into());
                return self.dial_failed(begun.conn, error.cause(), detail, now);
            }
        };
        // A hop counts as a dial, and two dials keep at least this distance.
        let least = begun.dialed.map(|dialed| dialed.saturating_add(DIAL_FLOOR));
        if let Some(at) = least.filter(|least| *least > now) {
            let request = Box::new(request);
            self.link = ConnState::Redirected { begun, request, at };
            return;
        }
        let is_first = begun.dialed.is_none();
        let begun = StartedDial {
            dialed: Some(now),
            ..begun
        };
        let (host, port, addresses) = match &proxy {
            Some(proxy) => (proxy.host(), proxy.port(), &[][..]),
            None => (request.host(), request.port(), request.to()),
        };
        if is_first {
            self.span.record("host", request.host());
        }
        if self.options.max_redirects > 0 {
            self.trail.push(request.target());
        }
        self.dial = Some(Dial {
            conn: begun.conn,
            host: host.to_owned(),
            port,
            addresses: addresses.to_vec(),
            tcp: TcpOptions::new(self.machine.config()),
            resolver: self
                .options
                .resolver
                .get_or_insert_with(Resolver::system)
                .clone(),
            known: self.addresses.clone(),
        });
        self.addresses.begin();
        self.link = ConnState::Dialing {
            begun,
            route: Box::new((request, proxy)),
        };
    }

    fn dial_refused(&mut self, conn: ConnId, refusal: DialError, now: Instant) {
        if refusal.response.is_some() {
            self.refused.clone_from(&refusal.response);
        }
        self.response = refusal.response;
        self.dial_failed(conn, refusal.cause, refusal.detail, now);
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

    #[inline(never)]
    pub(super) fn upgrade(&mut self, clock: &impl Clock) -> ReadOn {
        let ConnState::Upgrading { begun, upgrade } = &mut self.link else {
            return ReadOn::Dry;
        };
        let (begun, conn) = (*begun, begun.conn);
        match upgrade.proceed(&self.options, clock.now()) {
            Progress::Waits if upgrade.was_cut_short() => {
                self.work = self.work.max(WORK);
                return ReadOn::Again;
            }
            Progress::Waits => return ReadOn::Dry,
            Progress::Failed(refusal) => {
                self.link = ConnState::Down;
                self.dial_refused(conn, refusal, clock.now());
            }
            Progress::Redirect(location, refusal) => {
                let target = upgrade.request().redirected(&location);
                self.link = ConnState::Down;
                self.redirect(begun, target, refusal, clock.now());
            }
            Progress::Stale(refusal) if begun.again || self.options.fixed_credentials => {
                self.link = ConnState::Down;
                self.dial_refused(conn, refusal, clock.now());
            }
            Progress::Stale(refusal) => {
                self.link = ConnState::Down;
                debug!(parent: &self.span, "{}: a new nonce", refusal.cause);
                self.refused = refusal.response;
                self.attempt.refused.clone_from(&self.refused);
                self.attempt.refresh = true;
                let again = true;
                self.ask_factory(StartedDial { again, ..begun }, clock.now());
            }
            Progress::Done(opened, response) => {
                let now = clock.now();
                (self.refused, self.trail) = (None, Vec::new());
                let decoders = self.options.decoders.as_mut();
                let decoder = decoders.map(|make| named(DECODER, make));
                let session = Connection::new(conn, *opened, decoder);
                self.link = ConnState::Open(Box::new(session));
                let ready = self.machine.config().session_timeout().is_none();
                self.send_queue.open(conn, ready);
                let after = now.saturating_duration_since(begun.since);
                info!(parent: &self.span, "connected after {}", Seconds(after));
                self.tell_monitor_started();
                self.shared_stats
                    .connected
                    .opened(Arc::clone(&response), ready);
                self.events.push_back(Event::Connected {
                    conn,
                    after,
                    response,
                });
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

    /// Plans to follow a redirect, or logs why not. The redirect is followed no sooner than the server's
    /// `Retry-After` allows.
    fn redirect(
        &mut self,
        begun: StartedDial,
        target: Result<Request, &'static str>,
        mut refusal: DialError,
        now: Instant,
    ) {
        let conn = begun.conn;
        let at = now.saturating_add(refusal.cause.retry_after().unwrap_or_default());
        let timeout = begun
            .since
            .saturating_add(self.machine.config().connect_timeout());
        let target = target.and_then(|request| match request.target() {
            // A repeated request would get the same answer.
            target if self.trail.contains(&target) => Err("it leads to where this dial has been"),
            _ if at >= timeout => Err("it is to be followed after `connect_timeout`"),
            _ => Ok(request),
        });
        match target {
            Ok(request) => {
                info!(parent: &self.span, "redirected to {request}");
                self.link = ConnState::Redirected {
                    begun: StartedDial {
                        hops: begun.hops + 1,
                        ..begun
                    },
                    request: Box::new(request),
                    at,
                };
            }
            Err(rule) => {
                refusal.detail = Some(format!("redirect not followed: {rule}").into());
                self.dial_refused(conn, refusal, now);
            }
        }
    }

    /// Sends the dialect's messages for a new connection.
    pub(super) fn greet(&mut self, conn: ConnId) {
        for number in 0.. {
            let Some(mut draft) = self.options.dialect.greeting(number) else {
                return;
            };
            draft.id = self.send_queue.take_id();
            let sent = self.write(conn, draft);
            debug!(parent: &self.span, sent, "greeting");
        }
    }

    pub(super) fn tell_monitor_started(&self) {
        let config = self.machine.config();
        let seconds = |time| Some(display(Seconds(time)));
        let (ping_after, ping_every) = match config.ping() {
            Ping::Never => (None, None),
            Ping::AfterSilence(silence) => (seconds(silence), None),
            Ping::Every(interval) => (None, seconds(interval)),
        };
        let idle_timeout = Seconds(config.idle_timeout());
        info!(parent: &self.span, ping_after, ping_every, %idle_timeout, "monitor started");
    }
}
