//! The options of a client.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{
    AnyDialect, Config, Contradiction, DEFAULT_SESSION_TIMEOUT, Description, Dialect, Event,
    FramesOnly, Instant, JsonType, Limiter, LimiterError, Phase, Rate, Step, Values, Variables,
};
use tracing::warn;

use crate::dial::{Attempt, DialBudget, DialLimiter, Factory, Make, Offload, Resolver, client_of};
use crate::dialect::{Compute, SharedDialect};
use crate::http::DialError;
use crate::message::{Decode, Decoders};
use crate::on_connect::OnConnect;
use crate::queue::{Limits, Overflow};
use crate::request::{Environment, Proxies, Proxy, Request, RequestError};
use crate::stream::Security;
use crate::websocket::Sizes;
#[cfg(feature = "deflate")]
use crate::websocket::frames::Deflate;

/// Endpoints of which the machine keeps a record.
const MAX_ENDPOINTS: u8 = heartbeat_core::Route::MOST;

/// Sees every step of the machine: the time, the event, the machine's answer, and its phase after the step.
pub type Observer = Box<dyn FnMut(Instant, &Event<'_>, &Step<'_>, Phase) + Send>;

/// Everything that can be chosen about a client. The defaults are good for most.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Options, core::Config}; // or heartbeat_blocking
/// # if cfg!(not(feature = "tls")) { return Ok(()) }
/// let options = Options::new("wss://example.org/feed")?.config(Config::brisk()).queue(256);
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
pub struct Options {
    /// What logs, figures and metrics call the client.
    name: Option<Arc<str>>,
    pub(crate) factory: Factory,
    /// Dialled in turn; hopeless ones are left out. Empty: the factory says where to dial.
    pub(crate) endpoints: Vec<Request>,
    /// No dial brings other credentials than the first dial.
    pub(crate) fixed_credentials: bool,
    /// The requests that are known before the first dial. Dropped once they have been checked.
    pub(crate) known: Vec<Request>,
    pub(crate) proxies: Proxies,
    pub(crate) max_redirects: u32,
    pub(crate) config: Arc<Config>,
    pub(crate) dialect: SharedDialect,
    /// The dialect is code of the application's.
    pub(crate) has_own_dialect: bool,
    /// The dialect's service gives the times and limits, too.
    heeds_service: bool,
    /// This client among those of a service whose connections are limited.
    counted: Option<Arc<()>>,
    pub(crate) seed: u64,
    pub(crate) first_id: u64,
    pub(crate) read_buffer: usize,
    pub(crate) max_message_size: usize,
    pub(crate) fragment_size: Option<usize>,
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<Deflate>,
    pub(crate) queue: usize,
    pub(crate) overflow: Overflow,
    pub(crate) heartbeat_events: bool,
    pub(crate) send_queue: Limits,
    pub(crate) send_rate: Option<(Limiter, Rate)>,
    pub(crate) decoders: Option<Decoders>,
    pub(crate) observer: Option<Observer>,
    /// Values that are made anew for each message of the dialect's, by name.
    pub(crate) computed: Vec<(Box<str>, Compute)>,
    pub(crate) on_connect: Option<Box<dyn OnConnect>>,
    pub(crate) wants_session: bool,
    /// How many events of the machine are kept to explain what it did.
    pub(crate) explain: Option<usize>,
    /// The dialect as a trace can name it.
    pub(crate) trace_dialect: AnyDialect,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: bool,
    pub(crate) dial_budget: Option<Arc<dyn DialBudget>>,
    pub(crate) resolver: Option<Resolver>,
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

    /// A client of this URL for a service of the catalogue, by the service's name or alias.
    ///
    /// The client takes the service's heartbeat messages, times, limits, and verdicts on close codes and HTTP
    /// statuses. See [`of_service`](Self::of_service).
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Options; // or heartbeat_blocking
    /// let options = Options::service("kucoin", "ws://example.org/feed")?;
    ///
    /// let error = Options::service("kukoin", "ws://example.org/feed").unwrap_err();
    /// assert_eq!(error.to_string(), "no service is called \"kukoin\"; did you mean `kucoin`?");
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    ///
    /// # Errors
    /// [`RequestError::UnknownService`] with the names that are near; otherwise as [`new`](Self::new).
    pub fn service(name: &str, url: &str) -> Result<Self, RequestError> {
        Ok(Self::new(url)?.of_service(name.parse::<AnyDialect>()?))
    }

    /// A client of this URL with these headers.
    #[must_use]
    pub fn from_request(request: Request) -> Self {
        Self {
            known: vec![request.clone()],
            fixed_credentials: true,
            ..Self::from_factory(move |_| Ok(request.clone()))
        }
    }

    /// A client of several endpoints: it uses whichever of them answers.
    ///
    /// The first dial goes to the first endpoint, each further dial to the next one, and after the last one
    /// to the first again. The backoff is that of any client: it counts the failures in a row, at whichever
    /// endpoint they happen. An endpoint is left out once it says that dialling it is hopeless (a 404, a
    /// wrong certificate) and has never had a stable connection. The client gives up when all endpoints are
    /// left out. At most 64 ([`Route::MOST`](heartbeat_core::Route::MOST)).
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Options; // or heartbeat_blocking
    /// # if cfg!(not(feature = "tls")) { return Ok(()) }
    /// let options = Options::endpoints(["wss://a.example.org/feed", "wss://b.example.org/feed"])?;
    /// assert!(Options::endpoints(["wss://a.example.org/", "b.example.org"]).is_err());
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    ///
    /// # Errors
    /// [`RequestError`] for the first invalid URL, for no URL at all, or for more than 64.
    pub fn endpoints<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, RequestError> {
        let requests: Vec<_> = urls
            .into_iter()
            .map(Request::new)
            .collect::<Result<_, _>>()?;
        if requests.is_empty() {
            return Err(RequestError::NoEndpoint);
        }
        if requests.len() > usize::from(MAX_ENDPOINTS) {
            return Err(RequestError::TooManyEndpoints(requests.len()));
        }
        Ok(Self {
            known: requests.clone(),
            endpoints: requests,
            fixed_credentials: true,
            ..Self::from_factory(|_| Err(RequestError::NoEndpoint))
        })
    }

    /// A client whose URL and headers are made anew for each dial: fresh tokens, other hosts.
    ///
    /// The factory is called where the client is driven, and must not wait for anything. See
    /// [`from_async_factory`](Self::from_async_factory) and
    /// [`from_blocking_factory`](Self::from_blocking_factory) for factories that wait. An error counts as a
    /// failed dial, by its cause ([`RequestError::failed`]).
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::{Options, Request}; // or heartbeat_blocking
    /// let mut token = 0;
    /// let options = Options::from_factory(move |attempt| {
    ///     if attempt.refresh {
    ///         token += 1; // the last one was refused
    ///     }
    ///     Request::new("wss://example.org/feed")?.header("Authorization", &format!("Bearer {token}"))
    /// });
    /// ```
    #[must_use]
    pub fn from_factory(
        mut factory: impl FnMut(Attempt) -> Result<Request, RequestError> + Send + 'static,
    ) -> Self {
        Self::make(Box::new(move |attempt| {
            Make::Now(Box::new(factory(attempt)))
        }))
    }

    /// A client like that of [`from_factory`](Self::from_factory), but its factory awaits: a token from a
    /// server, an address from a database.
    ///
    /// The future is polled where the client is driven; a tokio client polls it in the client's runtime. It
    /// is part of the dial: at `connect_timeout` it is dropped. In a blocking client the future must not need
    /// a runtime.
    ///
    /// ```
    /// # async fn fetch_token() -> std::io::Result<String> { Ok(String::new()) }
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::{Options, Request, RequestError, core::Cause}; // or heartbeat_blocking
    /// let options = Options::from_async_factory(|_| async {
    ///     let token = fetch_token()
    ///         .await
    ///         .map_err(|error| RequestError::failed(Cause::Io, error))?;
    ///     Request::new("wss://example.org/feed")?.header("Authorization", &format!("Bearer {token}"))
    /// });
    /// ```
    #[must_use]
    pub fn from_async_factory<F>(mut factory: impl FnMut(Attempt) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Request, RequestError>> + Send + 'static,
    {
        Self::make(Box::new(move |attempt| {
            Make::Later(Box::pin(factory(attempt)))
        }))
    }

    /// A client like that of [`from_factory`](Self::from_factory), but its factory may block. The factory is
    /// called in a thread of its own, so it delays nothing but its dial.
    ///
    /// A thread cannot be interrupted. When the dial is given up at `connect_timeout`, the call goes on and
    /// its result is thrown away. The next dial waits until that call has returned, so there are never two
    /// calls at a time.
    #[must_use]
    pub fn from_blocking_factory(
        factory: impl FnMut(Attempt) -> Result<Request, RequestError> + Send + 'static,
    ) -> Self {
        let offload = Offload::new(factory);
        Self::make(Box::new(move |attempt| offload.start(attempt)))
    }

    fn make(factory: Factory) -> Self {
        Self {
            name: None,
            factory,
            endpoints: Vec::new(),
            fixed_credentials: false,
            known: Vec::new(),
            proxies: Proxies::default(),
            max_redirects: 0,
            config: Arc::default(),
            dialect: Arc::new(JsonType),
            has_own_dialect: false,
            heeds_service: false,
            counted: None,
            // The standard library's hasher keys are random; jitter needs no more than that.
            seed: RandomState::new().build_hasher().finish(),
            // Some services (Home Assistant) refuse an id that is not above 0.
            first_id: 1,
            read_buffer: 1024,
            max_message_size: 64 << 20,
            fragment_size: Some(64 * 1024),
            #[cfg(feature = "deflate")]
            deflate: None,
            queue: 1024,
            overflow: Overflow::default(),
            heartbeat_events: true,
            send_queue: Limits {
                messages: 1024,
                bytes: 1 << 20,
                message_size: 64 << 20,
                hold: None,
            },
            send_rate: None,
            decoders: None,
            observer: None,
            computed: Vec::new(),
            on_connect: None,
            wants_session: false,
            explain: None,
            trace_dialect: AnyDialect::default(),
            #[cfg(feature = "metrics")]
            metrics: false,
            dial_budget: None,
            resolver: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// What the client is called in logs, [figures](crate::ClientStats::name) and metrics. Default: the URL's host,
    /// its port unless that is the scheme's own, and the first part of its path (`example.org:8443/feed`); of
    /// several endpoints the first one's. A client of a factory has no URL yet, and is called `client`.
    ///
    /// The default shows no part of a URL that may be a token: of the path only a first part that is a short word
    /// (at most 16 lower-case letters, `-`, `_` and `.`, and two digits at its end).
    ///
    /// # The log
    ///
    /// Each line stands in the span `client`, with the fields `id` (a number that no other client of the process
    /// has) and `name`. Lines on a connection stand in the span `connection` within it, with `conn` and `host`.
    /// The parent of `client` is the span in which the client was made.
    ///
    /// | level | what it says |
    /// |---|---|
    /// | `ERROR` | code of the application's panicked |
    /// | `WARN` | all that an operator needs: each end of a connection or dial and why, the retry or the giving up that follows, gaps, messages that were handed back, an application that takes no events |
    /// | `INFO` | how connections begin, and the check: `idle for 25.3 s`, every `check_interval` |
    /// | `DEBUG` | each ping and its answer, each wait for a turn |
    ///
    /// The check is the only line at `INFO` that repeats by itself. Its target is `heartbeat_driver::check`, so a
    /// filter can turn it off alone: `info,heartbeat_driver::check=off`.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Options; // or heartbeat_blocking
    /// let options = Options::new("ws://example.org/ws?streams=btcusdt@trade")?.name("binance trades");
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The client's name, or that which its first URL gives it.
    pub(crate) fn take_name(&mut self) -> Option<Arc<str>> {
        let of_url = || Some(self.known.first()?.client_name().into());
        self.name.take().or_else(of_url)
    }

    /// Dials through this proxy, or through none if `None`. Default: the environment's proxy.
    ///
    /// Clients over TCP heed `https_proxy` (for `wss`), `http_proxy` (for `ws`), `all_proxy` and `no_proxy`,
    /// in small letters or capitals, as most programs do. They always dial `localhost` and loopback addresses
    /// directly then. If `REQUEST_METHOD` is set, the program answers a web server's visitor, who could
    /// choose `HTTP_PROXY` by a header: none of these variables is heeded then. Clients over your own dialer
    /// or reactor heed the environment only if [`proxy_from_environment`](Self::proxy_from_environment) is
    /// called. A single request can choose otherwise ([`Request::proxy`]).
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::{Options, Proxy}; // or heartbeat_blocking
    /// let options = Options::new("ws://example.org/")?.proxy(Proxy::new("socks5://localhost")?);
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    #[must_use]
    pub fn proxy(mut self, proxy: impl Into<Option<Proxy>>) -> Self {
        self.proxies = proxy.into().map_or(Proxies::None, Proxies::Fixed);
        self
    }

    /// Heeds the environment's proxies, as they are now. See [`proxy`](Self::proxy).
    #[must_use]
    pub fn proxy_from_environment(mut self) -> Self {
        self.proxies = Proxies::Environment(Environment::read());
        self
    }

    /// Like [`proxy_from_environment`](Self::proxy_from_environment), unless a proxy was chosen: for an
    /// adapter's own dials.
    #[must_use]
    #[doc(hidden)]
    pub fn proxy_by_default(self) -> Self {
        match self.proxies {
            Proxies::Unset => self.proxy_from_environment(),
            Proxies::None | Proxies::Fixed(_) | Proxies::Environment(_) => self,
        }
    }

    /// How many redirects (301, 302, 303, 307, 308) a dial follows. Default 0: a redirect is then judged by
    /// the table of causes, as any status is.
    ///
    /// All hops together stay within `connect_timeout`. A redirect from `wss` to `ws` is never followed. Only
    /// the headers `User-Agent`, `Origin` and `Accept-Language` go to another host or port, because any other
    /// header may hold credentials. Subprotocols may hold credentials too, so a request with subprotocols is
    /// not led to another host at all. If a redirect is not followed, the dial fails with the redirect's
    /// status as its cause. After a followed redirect the messages of `on_connect` go to the new server, too.
    #[must_use]
    pub fn max_redirects(mut self, hops: u32) -> Self {
        self.max_redirects = hops;
        self
    }

    /// The timing rules. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: impl Into<Arc<Config>>) -> Self {
        self.config = config.into();
        self
    }

    /// The service's heartbeat messages: an [`AnyDialect`], a [`Description`], or a type of your own.
    /// Default: [`JsonType`].
    ///
    /// The service's times and limits come with [`of_service`](Self::of_service) alone.
    #[must_use]
    pub fn dialect(mut self, dialect: impl Dialect + Send + Sync + 'static) -> Self {
        let any: &dyn Any = &dialect;
        self.has_own_dialect = false;
        self.heeds_service = false;
        self.trace_dialect = if let Some(dialect) = any.downcast_ref::<AnyDialect>() {
            dialect.clone()
        } else if let Some(described) = any.downcast_ref::<Description>() {
            AnyDialect::Described(Box::new(described.clone()))
        } else if any.is::<FramesOnly>() {
            AnyDialect::Frames
        } else {
            self.has_own_dialect = !any.is::<JsonType>();
            AnyDialect::default()
        };
        self.dialect = Arc::new(dialect);
        self
    }

    /// Takes a whole service: an [`AnyDialect`], a [`CatalogueEntry`](heartbeat_core::CatalogueEntry), or a
    /// [`Description`] of your own.
    ///
    /// For clients of a factory or of several endpoints; the plain case is [`service`](Self::service).
    ///
    /// - The service's heartbeat messages and verdicts are the [`dialect`](Self::dialect). A dialect that is set
    ///   later replaces the service, its times and its limits.
    /// - Each of `ping`, `idle_timeout`, `pong_timeout`, `keepalive` and `lifetime` that the [configuration](Self::config)
    ///   leaves at its value in [`Config::default`] is the service's. Any other value stays
    ///   ([`AnyDialect::fit`]).
    /// - The default of [`send_rate`](Self::send_rate) is the service's limit of messages, less the heartbeats
    ///   ([`Limits::messages_beside`](heartbeat_core::Limits::messages_beside)), evenly spread.
    /// - The default of [`dial_budget`](Self::dial_budget) is the service's limit of dials. All clients of one
    ///   catalogue entry in this process share it; each client of a description of your own has one for itself.
    /// - If more clients of one catalogue entry live in this process than it allows connections
    ///   ([`Limits::connections`](heartbeat_core::Limits::connections)), one warning in the log says both numbers. No
    ///   dial is held back for it: the service counts by address or account, which a process does not know.
    ///
    /// If a value that was set contradicts the service, the client is not made: the error is
    /// [`RequestError::Contradiction`], which names both values. What the service may object to (pings that
    /// leave no margin for a lost one) is one warning in the log.
    ///
    /// A connection is renewed before it is older than the service allows, and after the service has announced its
    /// end: [`Event::Ending`](crate::Event::Ending), then a Close and a dial at once. That is a short gap; `Rotating` of
    /// heartbeat-tokio has the next connection ready before.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Options; // or heartbeat_blocking
    /// use heartbeat_tokio::core::{AnyDialect, Description};
    ///
    /// let kucoin: AnyDialect = "kucoin".parse()?;
    /// let options = Options::endpoints(["ws://a.example.org/", "ws://b.example.org/"])?.of_service(kucoin);
    ///
    /// let own = r#"{"ping": {"text": "ping", "every": "20s"}, "limits": {"messages": "10/1s"}}"#;
    /// let options = Options::new("ws://example.org/")?.of_service(Description::from_json(own)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn of_service(self, service: impl Into<AnyDialect>) -> Self {
        let options = self.dialect(service.into());
        Self {
            heeds_service: true,
            ..options
        }
    }

    /// Computes `${name}` anew for each message that the dialect sends: a signature over the time, say.
    ///
    /// `compute` gets what the message is filled in with: `unix_ms`, which is its `${now_ms}`, and the variables. What it
    /// returns is put in as it is, so a JSON string needs its quotes. It runs where the client is driven, and must not
    /// wait. A later call for the same name replaces the earlier one. A description lists such values under `computed`;
    /// if one of them is not given here, the client is not made ([`RequestError::NotComputed`]).
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Options; // or heartbeat_blocking
    /// use heartbeat_tokio::core::Description;
    /// # fn sign(unix_ms: u64) -> String { format!("{unix_ms:x}") }
    /// let service = r#"{"ping": {"text": "{\"op\":\"ping\",\"t\":${now_ms},\"sig\":${sig}}", "every": "20s"}, "computed": ["sig"]}"#;
    /// let options = Options::new("ws://example.org/")?
    ///     .of_service(Description::from_json(service)?)
    ///     .computed("sig", |values| format!("\"{}\"", sign(values.unix_ms)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn computed(
        mut self,
        name: impl Into<Box<str>>,
        compute: impl Fn(&Values<'_>) -> String + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        self.computed.retain(|(known, _)| *known != name);
        self.computed.push((name, Box::new(compute)));
        self
    }

    /// Seed of the jitter. Default: random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The first `${id}` of the dialect's own messages. Default 1.
    ///
    /// If your application's ids come from elsewhere, choose a number that they never reach. If a service
    /// wants one growing row of ids, let the application take its ids from the sender's `take_id` instead.
    #[must_use]
    pub fn first_id(mut self, id: u64) -> Self {
        self.first_id = id;
        self
    }

    /// The size of a connection's read buffer, which is also how many bytes are read at once. Default 1024;
    /// other values are cut to the range from 512 bytes to 16 MiB.
    ///
    /// If more bytes are there than fit, 64 KiB are read at once, into memory that is given back when it was
    /// not used between two heartbeats. No message keeps this memory: small messages are copied, large ones
    /// have memory of their own.
    #[must_use]
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.read_buffer = bytes.clamp(512, 16 << 20);
        self
    }

    /// The largest message, received or sent, in bytes. Default 64 MiB. A larger received message ends the
    /// connection with code 1009; until then a peer can make us hold this many bytes.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self.send_queue.message_size = bytes;
        self
    }

    /// The size of fragments, in bytes, in which larger messages are sent. `None`: each message goes in one
    /// frame. At least 1024, default 64 KiB.
    ///
    /// Pings, pongs and Close go between fragments. With a peer that takes 1 MB a second, a pong waits 65 ms
    /// for a fragment, and not for the rest of an upload. A service that accepts no fragments needs `None`.
    #[must_use]
    pub fn fragment_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.fragment_size = bytes.into().map(|bytes| bytes.max(1024));
        self
    }

    /// Offers to compress messages (permessage-deflate, RFC 7692). Default: not offered. The limit
    /// [`max_message_size`](Self::max_message_size) holds for a message's inflated size.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// How many messages may wait for the application before [`overflow`](Self::overflow) says what happens.
    /// Default 1024, at least 1.
    ///
    /// This holds for clients that are driven on their own. Messages that the application has begun to take
    /// are not counted, so up to twice as many can be in memory. Beginnings and ends of connections and
    /// heartbeat events are not counted either; they have bounds of their own (256 and 64).
    #[must_use]
    pub fn queue(mut self, events: usize) -> Self {
        self.queue = events.max(1);
        self
    }

    /// What happens when [`queue`](Self::queue) messages wait and the application takes none. Default:
    /// [`Overflow::Pause`], which loses nothing.
    ///
    /// With `Pause`, reading pauses. The server's pings are not answered meanwhile, because they stand behind
    /// messages that nobody takes. An end that reaches this host (FIN, RST, a write that fails) is noticed
    /// even then. Messages that had arrived before the end wait for the application, up to 16 MiB beyond the
    /// queue.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::{Options, Overflow}; // or heartbeat_blocking
    /// // A program that only sends.
    /// let options = Options::new("ws://example.org/")?.overflow(Overflow::Discard);
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Whether the client tells heartbeat events: [`Event::PingSent`], [`Event::PongSent`],
    /// [`Event::PongReceived`] and [`Event::Check`]. Default: it does.
    ///
    /// Heartbeat events never take the room of a message. At most 64 wait for the application; further ones
    /// are left out and counted in
    /// [`ClientStats::heartbeat_events_dropped`](crate::ClientStats::heartbeat_events_dropped). Logs and
    /// figures have them in any case.
    ///
    /// [`Event::PingSent`]: crate::Event::PingSent
    /// [`Event::PongSent`]: crate::Event::PongSent
    /// [`Event::PongReceived`]: crate::Event::PongReceived
    /// [`Event::Check`]: crate::Event::Check
    #[must_use]
    pub fn heartbeat_events(mut self, told: bool) -> Self {
        self.heartbeat_events = told;
        self
    }

    /// How many messages and bytes may wait to be sent. Default 1024 and 1 MiB. A single larger message may
    /// still wait alone.
    #[must_use]
    pub fn send_queue(mut self, messages: usize, bytes: usize) -> Self {
        self.send_queue = Limits {
            messages: messages.max(1),
            bytes,
            ..self.send_queue
        };
        self
    }

    /// Sends at most `count` of the application's messages in each `period`, evenly spread. Default: no
    /// limit. For services that count messages (Binance: 5 a second on a connection) and end a connection
    /// that says more.
    ///
    /// The limit holds over all of the client's connections, for held messages as well as for new ones.
    /// Messages that `on_connect` sends go at once and count. Heartbeats and Close frames never wait and do
    /// not count: if a service counts them, leave room for them. A message that waits for its turn waits in
    /// the [send queue](Self::send_queue), is in the figure [`waiting`](crate::ClientStats::waiting), and
    /// expires if it was [held](Self::hold) for too long. A stop sends the messages that may go at once and
    /// hands back the rest.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Options; // or heartbeat_blocking
    /// let options = Options::new("ws://example.org/")?.send_rate(5, Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LimiterError`] if `count` is 0, or two messages would lie less than 1 ns or more than a day apart.
    pub fn send_rate(mut self, count: u32, period: Duration) -> Result<Self, LimiterError> {
        let rate = Rate {
            most: count,
            per: period,
        };
        self.send_rate = Some((Limiter::new(count, period, 1)?, rate));
        Ok(self)
    }

    /// Holds messages while there is no ready session, and sends them when there is one. Default: messages
    /// are refused then ([`DialError::NotConnected`](crate::SendErrorKind::NotConnected)).
    ///
    /// At most `messages` messages (at least one) and `bytes` bytes are held; a single larger message may
    /// wait alone.
    ///
    /// Messages that a connection leaves unwritten are held, too, except a message of which a part had been
    /// handed to the operating system. That message is always handed back, so that we send nothing twice. No
    /// message is given to a connection after it was held for `time_to_live`
    /// ([`ConfigBuilder::time_to_live`](heartbeat_core::ConfigBuilder::time_to_live)):
    /// [`Event::Expired`](crate::Event::Expired) hands it back. The time counts from when the message first
    /// had to wait for a connection; for a client in place, from its next poll on.
    #[must_use]
    pub fn hold(mut self, messages: usize, bytes: usize) -> Self {
        self.send_queue.hold = Some((messages.max(1), bytes));
        self
    }

    /// Runs on each connection before other messages go out: authenticate, subscribe.
    ///
    /// `on_connect` must be done within the configuration's `session_timeout`, by default
    /// [`DEFAULT_SESSION_TIMEOUT`](heartbeat_core::DEFAULT_SESSION_TIMEOUT). [`Event::Ready`] tells when it
    /// is done.
    ///
    /// [`Event::Ready`]: crate::Event::Ready
    #[must_use]
    pub fn on_connect(mut self, on_connect: impl OnConnect + 'static) -> Self {
        self.on_connect = Some(Box::new(on_connect));
        self.wants_session = true;
        self
    }

    /// Lets the application make each connection ready in its own loop of events.
    ///
    /// At [`Event::Connected`](crate::Event::Connected) the application sends its first messages by
    /// `send_opening`, waits for the answers, and calls `ready` or `fail` on its sender, within the same time
    /// as [`on_connect`](Self::on_connect).
    ///
    /// A configuration with a `session_timeout` has the same effect.
    #[must_use]
    pub fn session_by_application(mut self) -> Self {
        self.on_connect = None;
        self.wants_session = true;
        self
    }

    /// Reports figures to the recorder of the [`metrics`](https://docs.rs/metrics) facade, with the client's [`name`](Self::name) as the label
    /// `client`. Clients of one name overwrite each other's figures. Default: nothing is recorded.
    ///
    /// | name | kind | further label |
    /// |---|---|---|
    /// | `heartbeat_state` | gauge, 1 for the present one | `state`: `waiting`, `connecting`, `opening`, `ready`, `closing`, `stopped` |
    /// | `heartbeat_heard_timestamp_seconds` | gauge; silence is `time()` less this | |
    /// | `heartbeat_waiting_messages` | gauge | |
    /// | `heartbeat_reading_paused_timestamp_seconds` | gauge; 0 while the client reads | |
    /// | `heartbeat_rtt_seconds` | histogram | |
    /// | `heartbeat_verdicts_total` | counter | `reason`: `idle_timeout`, `pong_timeout`, … |
    /// | `heartbeat_disconnects_total` | counter | `reason`: those, or `close`, `http`, `reset`, `eof`, … |
    /// | `heartbeat_dials_total`, `heartbeat_reconnects_total`, `heartbeat_sessions_total` | counter | |
    /// | `heartbeat_pings_sent_total`, `heartbeat_pongs_sent_total`, `heartbeat_pongs_received_total` | counter | |
    /// | `heartbeat_messages_received_total`, `heartbeat_messages_sent_total`, `heartbeat_unsent_total` | counter | |
    /// | `heartbeat_bytes_received_total`, `heartbeat_bytes_sent_total` | counter | |
    /// | `heartbeat_reading_pauses_total`, `heartbeat_messages_dropped_total`, `heartbeat_heartbeat_events_dropped_total`, `heartbeat_unsent_dropped_total` | counter | |
    ///
    /// `docs/grafana.json` of `heartbeat-tokio` is a dashboard for these.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Keeps the machine's last events, so that the client's `explain()` can tell at any time why it did what
    /// it did. Default: none is kept.
    ///
    /// `events` (at least one) are kept at the least, and twice as many at the most. `explain()` returns a
    /// trace that `heartbeat explain` (heartbeat-cli) tells in sentences. 64 events are a few minutes of a quiet
    /// connection, and about 10 KiB.
    ///
    /// The trace holds heartbeats as they came, and no data. Ids that the application took from the dialect's
    /// row are not in the trace, so the replayed messages may have other ids. If the dialect is written in
    /// code, the trace is replayed as if its messages were `json-type`'s.
    #[must_use]
    pub fn explain(mut self, events: usize) -> Self {
        self.explain = Some(events.max(1));
        self
    }

    /// Decodes each message before anything else sees it. `make` is called for each connection.
    ///
    /// The connection ends with code 1009 if a decoded message is larger than
    /// [`max_message_size`](Self::max_message_size), and with 1007 if a message cannot be decoded.
    #[must_use]
    pub fn decoder<D: Decode + 'static>(
        mut self,
        mut make: impl FnMut() -> D + Send + 'static,
    ) -> Self {
        self.decoders = Some(Box::new(move || Box::new(make())));
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

    /// Dials only when this client has its turn in a budget that many clients share. Default: no budget.
    ///
    /// The wait for a turn is no part of `connect_timeout`. A kick asks for a turn, too; a stop needs none.
    #[must_use]
    pub fn dial_budget(mut self, budget: Arc<impl DialBudget + 'static>) -> Self {
        self.dial_budget = Some(budget);
        self
    }

    /// Looks host names up with this resolver. Default: [`Resolver::system`], the operating system's.
    ///
    /// If the proxy resolves names itself (SOCKS5 by name, HTTP), this resolver looks up only the proxy's own
    /// name.
    #[must_use]
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// The TLS configuration: custom roots, client certificates and the like. Default: the platform's roots,
    /// or those that `SSL_CERT_FILE` names, with verification on.
    ///
    /// The default's roots are read once, before the first dial, and shared by all clients that live at the
    /// same time.
    ///
    /// Whatever protocols `config` offers (ALPN), a client offers `http/1.1` alone, because a WebSocket
    /// begins there.
    ///
    /// ```
    /// use std::sync::Arc;
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::{Options, rustls}; // or heartbeat_blocking
    /// # fn private() -> rustls::RootCertStore { rustls::RootCertStore::empty() }
    /// let provider = Arc::new(rustls::crypto::ring::default_provider());
    /// let config = rustls::ClientConfig::builder_with_provider(provider)
    ///     .with_safe_default_protocol_versions()?
    ///     .with_root_certificates(private())
    ///     .with_no_client_auth(); // or `with_client_auth_cert`
    /// let options = Options::new("wss://example.org/feed")?.tls(Arc::new(config));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(crate::stream::tls::offering_http_1_1(config));
        self
    }

    /// How many events may wait for the application.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queue
    }
}

impl Options {
    /// How a connection reads and writes.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            read_buffer: self.read_buffer,
            max_message: self.max_message_size,
            fragment: self.fragment_size,
            #[cfg(feature = "deflate")]
            deflate: None,
        }
    }

    /// Takes from the service each time and limit that was not set.
    pub(crate) fn heed_service(&mut self) -> Result<(), RequestError> {
        if !self.heeds_service {
            return Ok(());
        }
        let service = self.trace_dialect.service_name();
        let refuse = |error| RequestError::Contradiction(Box::new(error));
        let (config, doubt) = self.trace_dialect.fit(&self.config).map_err(refuse)?;
        if let Some(doubt) = doubt {
            warn!("the configuration does not suit {service}: {doubt}");
        }
        let limits = self.trace_dialect.described().map(Description::limits);
        let limits = limits.unwrap_or_default();
        match (&self.send_rate, limits.messages) {
            (Some((_, rate)), Some(limit)) if rate.exceeds(&limit) => {
                return Err(refuse(Contradiction::SendRate {
                    service: service.to_owned(),
                    rate: *rate,
                    limit,
                }));
            }
            (None, Some(_)) => {
                self.send_rate = limits.messages_beside(&config).and_then(|rate| {
                    // A description's rates are at most a day long, so this is never refused.
                    let limiter = Limiter::new(rate.most, rate.per, 1).ok()?;
                    Some((limiter, rate))
                });
            }
            (Some(_) | None, _) => {}
        }
        if let (None, Some(rate)) = (&self.dial_budget, limits.dials) {
            let budget = match &self.trace_dialect {
                AnyDialect::Named(entry) => DialLimiter::of_service(&entry.name, rate),
                _ => DialLimiter::within(rate).map(Arc::new),
            };
            if let Ok(budget) = budget {
                self.dial_budget = Some(budget);
            }
        }
        if let (AnyDialect::Named(entry), Some(most)) = (&self.trace_dialect, limits.connections) {
            let (client, count) = client_of(&entry.name);
            self.counted = Some(client);
            if usize::try_from(most).is_ok_and(|most| count > most) {
                warn!(
                    "{service} allows {most} connections at once, and this is its client number {count} in this process"
                );
            }
        }
        self.config = Arc::new(config);
        Ok(())
    }

    /// A variable that the service's messages need and the application has not set.
    pub(crate) fn unset(&self, variables: &Variables) -> Option<&str> {
        let described = self.trace_dialect.described()?;
        described
            .variables()
            .find(|name| !variables.contains_key(*name))
    }

    /// Completes the configuration. A session that is wanted gets its time. Credentials are fixed if neither
    /// a factory nor a session could bring others.
    pub(crate) fn complete_config(&mut self) {
        if self.fixed_credentials && !self.wants_session && !self.config.fixed_credentials() {
            let builder = self.config.to_builder().fixed_credentials(true);
            if let Ok(config) = builder.build() {
                self.config = Arc::new(config);
            }
        }
        if self.wants_session && self.config.session_timeout().is_none() {
            let builder = self.config.to_builder();
            // A configuration that was consistent stays so.
            if let Ok(config) = builder.session_timeout(DEFAULT_SESSION_TIMEOUT).build() {
                self.config = Arc::new(config);
            }
        }
    }

    /// Refuses requests that are known to be wrong before the first dial, and a dialect that lacks a value.
    pub(crate) fn check(&mut self) -> Result<(), RequestError> {
        if let Some(described) = self.trace_dialect.described()
            && let Some(name) = described.computed().find(|name| {
                let mut computed = self.computed.iter();
                computed.all(|(known, _)| **known != **name)
            })
        {
            return Err(RequestError::NotComputed {
                service: self.trace_dialect.service_name().to_owned(),
                name: name.to_owned(),
            });
        }
        let known = std::mem::take(&mut self.known);
        for request in &known {
            self.proxies.choose(request)?;
        }
        if !known.iter().any(Request::is_tls) {
            return Ok(());
        }
        match self.prepare_tls() {
            // An error that may pass is a failed dial, if it lasts until then.
            Err(RequestError::Failed { .. }) => Ok(()),
            made => made,
        }
    }

    /// Finds the roots, once.
    fn prepare_tls(&mut self) -> Result<(), RequestError> {
        #[cfg(feature = "tls")]
        if self.tls.is_none() {
            self.tls = Some(crate::stream::tls::default_config()?);
        }
        Ok(())
    }

    /// The keys of a TLS session, if the request wants one.
    pub(crate) fn security(&mut self, request: &Request) -> Result<Security, DialError> {
        if !request.is_tls() {
            return Ok(None);
        }
        self.prepare_tls()
            .map_err(|error| DialError::new(error.cause(), error))?;
        #[cfg(feature = "tls")]
        if let Some(config) = &self.tls {
            let session = crate::stream::tls::session(config, request.name());
            return session
                .map(|session| Some(Box::new(session)))
                .map_err(|error| DialError::new(heartbeat_core::Cause::Tls, error));
        }
        Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_buffer_of_any_size_is_cut_to_its_range() {
        for (bytes, expected) in [
            (0, 512),
            (512, 512),
            (16 << 20, 16 << 20),
            (usize::MAX, 16 << 20),
        ] {
            let options = Options::new("ws://example.org/")
                .unwrap()
                .read_buffer(bytes);
            assert_eq!(options.read_buffer, expected);
        }
    }
}
