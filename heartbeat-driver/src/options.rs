//! What a client is made of.

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::sync::Arc;

use heartbeat_core::{
    AnyDialect, Cause, Config, ConnId, DEFAULT_SESSION_TIMEOUT, Dialect, Event, FramesOnly,
    Instant, JsonType, Phase, Step,
};

use crate::limiter::DialBudget;
use crate::opening::OnConnect;
use crate::outbox::Limits;
use crate::request::{Request, RequestError};
use crate::stream::Stream;

/// A dialect that many clients share.
pub type SharedDialect = Arc<dyn Dialect + Send + Sync>;

/// What a dial factory is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The connection to be.
    pub conn: ConnId,
    /// Failures in a row before this dial.
    pub attempt: u32,
    /// The last end asked for fresh credentials (a 401, a 4401).
    pub refresh: bool,
}

/// Sees every step of the machine: the time, the event, what the machine answered, and its phase after.
pub type Observer = Box<dyn FnMut(Instant, &Event<'_>, &Step<'_>, Phase) + Send>;

pub(crate) type Factory = Box<dyn FnMut(Attempt) -> Result<Request, RequestError> + Send>;

/// Everything that can be chosen about a client. The defaults are good for most.
///
/// ```
/// use heartbeat_core::Config;
/// use heartbeat_driver::Options;
/// let options = Options::new("wss://example.org/feed")?.config(Config::brisk()).queue(256);
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
pub struct Options {
    pub(crate) factory: Factory,
    /// Known beforehand that TLS will be needed.
    pub(crate) tls_expected: bool,
    pub(crate) config: Arc<Config>,
    pub(crate) dialect: SharedDialect,
    pub(crate) seed: u64,
    pub(crate) first_id: u64,
    pub(crate) read_buffer: usize,
    pub(crate) max_message_size: usize,
    pub(crate) queue: usize,
    pub(crate) outbox: Limits,
    pub(crate) observer: Option<Observer>,
    pub(crate) on_connect: Option<Box<dyn OnConnect>>,
    pub(crate) wants_session: bool,
    /// How many events of the machine are kept to explain what it did.
    pub(crate) explain: Option<usize>,
    /// The dialect as a trace can name it.
    pub(crate) trace_dialect: AnyDialect,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<String>,
    pub(crate) dial_budget: Option<Arc<dyn DialBudget>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Options {
    /// A client of this `ws://` or `wss://` URL.
    ///
    /// # Errors
    /// [`RequestError`] names the URL and the rule; nothing is dialled.
    pub fn new(url: &str) -> Result<Self, RequestError> {
        Ok(Self::from_request(Request::new(url)?))
    }

    /// A client of this URL with these headers.
    #[must_use]
    pub fn from_request(request: Request) -> Self {
        let tls_expected = request.is_tls();
        Self {
            tls_expected,
            ..Self::from_factory(move |_| Ok(request.clone()))
        }
    }

    /// A client whose URL and headers are made anew for each dial: fresh tokens, other hosts.
    /// Must not block. An error counts as a failed dial.
    #[must_use]
    pub fn from_factory(
        factory: impl FnMut(Attempt) -> Result<Request, RequestError> + Send + 'static,
    ) -> Self {
        Self {
            factory: Box::new(factory),
            tls_expected: false,
            config: Arc::default(),
            dialect: Arc::new(JsonType),
            // The standard library's hasher keys are random; jitter needs no more than that.
            seed: RandomState::new().build_hasher().finish(),
            // Some services (Home Assistant) refuse an id that is not above 0.
            first_id: 1,
            read_buffer: 4096,
            max_message_size: 64 << 20,
            queue: 1024,
            outbox: Limits {
                messages: 1024,
                bytes: 1 << 20,
                message_size: 64 << 20,
                hold: None,
            },
            observer: None,
            on_connect: None,
            wants_session: false,
            explain: None,
            trace_dialect: AnyDialect::default(),
            #[cfg(feature = "metrics")]
            metrics: None,
            dial_budget: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The timing rules. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: impl Into<Arc<Config>>) -> Self {
        self.config = config.into();
        self
    }

    /// How the service says ping. Default: [`JsonType`].
    #[must_use]
    pub fn dialect(mut self, dialect: impl Dialect + Send + Sync + 'static) -> Self {
        let any: &dyn Any = &dialect;
        self.trace_dialect = match any.downcast_ref::<AnyDialect>() {
            Some(dialect) => dialect.clone(),
            None if any.is::<FramesOnly>() => AnyDialect::Frames,
            None => AnyDialect::default(),
        };
        self.dialect = Arc::new(dialect);
        self
    }

    /// Seed of the jitter. Default: random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The first `${id}` of the dialect's own messages. Default 1. For an application whose own ids come
    /// from elsewhere: begin where they never get to. Where a service wants one growing row of ids, let
    /// the application take them from the sender's `take_id` instead.
    #[must_use]
    pub fn first_id(mut self, id: u64) -> Self {
        self.first_id = id;
        self
    }

    /// Bytes read at once, and the size of a connection's read buffer. At least 512, default 4096
    /// (tungstenite's own default, 128 KiB, is made for a few very busy connections).
    #[must_use]
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.read_buffer = bytes.max(512);
        self
    }

    /// The largest message, received or sent. Default 64 MiB. A larger one that is received ends the
    /// connection with code 1009; until then a peer can make us hold this many bytes.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self.outbox.message_size = bytes;
        self
    }

    /// How many events may wait for the application of a client that is driven on its own before it
    /// stops reading. Default 1024, at least 1. What the application has begun to take is not
    /// counted, so that up to twice as many can be in memory. While reading is stopped the server's
    /// pings are not answered either: they stand behind messages that nobody takes.
    #[must_use]
    pub fn queue(mut self, events: usize) -> Self {
        self.queue = events.max(1);
        self
    }

    /// How many messages and bytes may wait to be sent. Default 1024 and 1 MiB. A single message
    /// that is larger may still wait alone.
    #[must_use]
    pub fn send_queue(mut self, messages: usize, bytes: usize) -> Self {
        self.outbox = Limits {
            messages: messages.max(1),
            bytes,
            ..self.outbox
        };
        self
    }

    /// Holds messages while there is no ready session, up to so many messages and bytes (one at the
    /// least, and one that is larger may wait alone), and sends them when there is one. Default: they
    /// are refused ([`Refusal::NotConnected`](crate::Refusal::NotConnected)).
    ///
    /// What a connection leaves unwritten is held, too: all but the message of which a part had been
    /// handed to the operating system. That one is always handed back, so that we send nothing twice.
    /// No message is given to a connection after it was held for `time_to_live`
    /// ([`ConfigBuilder::time_to_live`](heartbeat_core::ConfigBuilder::time_to_live)):
    /// [`Event::Expired`](crate::Event::Expired) hands it back. The time counts from when it first had to
    /// wait for a connection, and for a client in place from its next poll on.
    #[must_use]
    pub fn hold(mut self, messages: usize, bytes: usize) -> Self {
        self.outbox.hold = Some((messages.max(1), bytes));
        self
    }

    /// Runs on each connection before other messages go out: authenticate, subscribe. It must be done
    /// within `session_timeout` of the configuration, by default
    /// [`DEFAULT_SESSION_TIMEOUT`](heartbeat_core::DEFAULT_SESSION_TIMEOUT); [`Event::Ready`] tells when it is.
    ///
    /// [`Event::Ready`]: crate::Event::Ready
    #[must_use]
    pub fn on_connect(mut self, on_connect: impl OnConnect + 'static) -> Self {
        self.on_connect = Some(Box::new(on_connect));
        self.wants_session = true;
        self
    }

    /// The application itself makes each connection ready, in its own loop of events: at
    /// [`Event::Connected`](crate::Event::Connected) it sends what it has to by `send_opening`, waits
    /// for the answers, and says `ready` or `fail` through its sender, within the same time.
    ///
    /// A configuration that has a `session_timeout` asks for the same.
    #[must_use]
    pub fn session_by_application(mut self) -> Self {
        self.on_connect = None;
        self.wants_session = true;
        self
    }

    /// Tells the recorder of the [`metrics`] facade, under the label `client`. Clients of the same name
    /// overwrite each other's figures. Default: nothing is recorded.
    ///
    /// | name | kind | further label |
    /// |---|---|---|
    /// | `heartbeat_state` | gauge, 1 for the present one | `state`: `waiting`, `connecting`, `opening`, `ready`, `closing`, `stopped` |
    /// | `heartbeat_heard_timestamp_seconds` | gauge; silence is `time()` less this | |
    /// | `heartbeat_waiting_messages` | gauge | |
    /// | `heartbeat_rtt_seconds` | histogram | |
    /// | `heartbeat_verdicts_total` | counter | `reason`: `idle_timeout`, `pong_timeout`, … |
    /// | `heartbeat_disconnects_total` | counter | `reason`: those, or `close`, `http`, `reset`, `eof`, … |
    /// | `heartbeat_dials_total`, `heartbeat_reconnects_total`, `heartbeat_sessions_total` | counter | |
    /// | `heartbeat_pings_sent_total`, `heartbeat_pongs_sent_total`, `heartbeat_pongs_received_total` | counter | |
    /// | `heartbeat_messages_received_total`, `heartbeat_messages_sent_total`, `heartbeat_unsent_total` | counter | |
    /// | `heartbeat_bytes_received_total`, `heartbeat_bytes_sent_total` | counter | |
    ///
    /// `docs/grafana.json` of `heartbeat-tokio` is a dashboard for these.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self, client: impl Into<String>) -> Self {
        self.metrics = Some(client.into());
        self
    }

    /// Keeps the last events of the machine, `events` at the least (one) and twice as many at the most,
    /// so that `explain()` of the client can tell at any time why it did what it did: a trace that the
    /// example `replay` of heartbeat-core answers line by line. 64 events are a few minutes of a quiet
    /// connection, and about 10 KiB. Default: none is kept.
    ///
    /// The trace holds heartbeats as they came, and no data. Ids that the application took from the
    /// dialect's row are not in it, so that those of the replayed messages may be others. Of a dialect that is written in code it is
    /// replayed as if its messages were `json-type`'s.
    #[must_use]
    pub fn explain(mut self, events: usize) -> Self {
        self.explain = Some(events.max(1));
        self
    }

    /// Lets `observer` see every step of the machine, for traces and tests.
    #[must_use]
    pub fn observer(
        mut self,
        observer: impl FnMut(Instant, &Event<'_>, &Step<'_>, Phase) + Send + 'static,
    ) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Dials only when it is this client's turn in a budget that many clients share. Default: no budget.
    ///
    /// The wait is no part of `connect_timeout`. A kick asks for a turn, too; a stop needs none.
    #[must_use]
    pub fn dial_budget(mut self, budget: Arc<impl DialBudget + 'static>) -> Self {
        self.dial_budget = Some(budget);
        self
    }

    /// Custom roots, client certificates and the like. Default: the platform's roots, verification on.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// How many events may wait for the application.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queue
    }
}

impl Options {
    /// Gives a session that is wanted its time.
    pub(crate) fn prepare_session(&mut self) {
        if self.wants_session && self.config.session_timeout().is_none() {
            let builder = self.config.to_builder();
            // A configuration that was consistent stays so.
            if let Ok(config) = builder.session_timeout(DEFAULT_SESSION_TIMEOUT).build() {
                self.config = Arc::new(config);
            }
        }
    }

    /// Finds the roots now, so that a machine without any is told before the first dial.
    pub(crate) fn prepare_tls(&mut self) -> Result<(), RequestError> {
        #[cfg(feature = "tls")]
        if self.tls.is_none() {
            self.tls = Some(crate::tls::default_config()?);
        }
        Ok(())
    }

    /// The byte stream, under TLS if the request says so.
    pub(crate) fn stream<S: Read + Write>(
        &mut self,
        io: S,
        request: &Request,
    ) -> Result<Stream<S>, (Cause, Option<Box<str>>)> {
        #[cfg(feature = "tls")]
        if request.is_tls() {
            self.prepare_tls()
                .map_err(|error| (Cause::Tls, Some(error.to_string().into())))?;
            if let Some(config) = &self.tls {
                let session = crate::tls::session(config, request.host());
                let session =
                    session.map_err(|error| (Cause::Tls, Some(error.to_string().into())))?;
                return Ok(Stream::tls(io, session));
            }
        }
        let _ = request;
        Ok(Stream::plain(io))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
