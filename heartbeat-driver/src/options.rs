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

/// The number of endpoints for which the machine keeps a record.
const MAX_ENDPOINTS: u8 = heartbeat_core::Route::MOST;

/// Called after every step of the machine, with the time, the event, the machine's answer, and the phase after
/// the step.
pub type Observer = Box<dyn FnMut(Instant, &Event<'_>, &Step<'_>, Phase) + Send>;

/// The configuration of a client. Only the URL is required: the defaults suit most clients.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Options, core::Config}; // or heartbeat_blocking
/// # if cfg!(not(feature = "tls")) { return Ok(()) }
/// let options = Options::new("wss://example.org/feed")?.config(Config::brisk()).queue(256);
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
pub struct Options {
    /// The client's name in logs, figures and metrics.
    name: Option<Arc<str>>,
    pub(crate) factory: Factory,
    /// Dialled in turn, without the hopeless ones. Empty if a factory chooses the request.
    pub(crate) endpoints: Vec<Request>,
    /// No dial brings credentials other than those of the first dial.
    pub(crate) fixed_credentials: bool,
    /// Requests that are known before the first dial. Dropped once checked.
    pub(crate) known: Vec<Request>,
    pub(crate) proxies: Proxies,
    pub(crate) max_redirects: u32,
    pub(crate) config: Arc<Config>,
    pub(crate) dialect: SharedDialect,
    /// The dialect is the application's own code.
    pub(crate) has_own_dialect: bool,
    /// The service of the dialect also sets times and limits.
    heeds_service: bool,
    /// Counts this client for a service that limits its connections.
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
    /// Functions that compute template values for each message of the dialect, by name.
    pub(crate) computed: Vec<(Box<str>, Compute)>,
    pub(crate) on_connect: Option<Box<dyn OnConnect>>,
    pub(crate) wants_session: bool,
    /// How many of the machine's events are kept for `explain()`.
    pub(crate) explain: Option<usize>,
    /// The dialect in the form that a trace can name.
    pub(crate) trace_dialect: AnyDialect,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: bool,
    pub(crate) dial_budget: Option<Arc<dyn DialBudget>>,
    pub(crate) resolver: Option<Resolver>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Options {
    /// Creates options for a `ws://` or `wss://` URL.
    ///
    /// # Errors
    /// [`RequestError`] names the URL and the rule. Nothing is dialled.
    pub fn new(url: &str) -> Result<Self, RequestError> {
        Ok(Self::from_request(Request::new(url)?))
    }

    /// Creates options for this URL and a service of the catalogue, found by name or alias.
    ///
    /// The client uses the service's heartbeat messages, times and limits, and its retry policies for close
    /// codes and HTTP statuses. See [`of_service`](Self::of_service).
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
    /// [`RequestError::UnknownService`] lists similar names. Otherwise as [`new`](Self::new).
    pub fn service(name: &str, url: &str) -> Result<Self, RequestError> {
        Ok(Self::new(url)?.of_service(name.parse::<AnyDialect>()?))
    }

    /// Creates options for a request: a URL with headers.
    #[must_use]
    pub fn from_request(request: Request) -> Self {
        Self {
            known: vec![request.clone()],
            fixed_credentials: true,
            ..Self::from_factory(move |_| Ok(request.clone()))
        }
    }

    /// Creates options for several endpoints. The client uses any endpoint that answers.
    ///
    /// The first dial goes to the first endpoint, and each further dial to the next one. After the last
    /// endpoint the first follows again. The backoff counts the failures in a row at all endpoints together. An
    /// endpoint is left out if its answer says that further dials are hopeless (a 404, a wrong certificate) and
    /// it has never had a stable connection. The client gives up when all endpoints are left out. At most 64
    /// endpoints ([`Route::MOST`](heartbeat_core::Route::MOST)).
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

    /// Creates options with a factory that makes the URL and headers of each dial: fresh tokens, other hosts.
    ///
    /// The factory runs in the client's own task or thread and must not block.
    /// [`from_async_factory`](Self::from_async_factory) and
    /// [`from_blocking_factory`](Self::from_blocking_factory) take factories that wait. An error counts as a
    /// failed dial with the error's cause ([`RequestError::failed`]).
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

    /// Like [`from_factory`](Self::from_factory), but the factory is asynchronous. It can fetch a token from a
    /// server, or an address from a database.
    ///
    /// A tokio client polls the future in its own runtime. A blocking client polls it without one, so there the
    /// future must not need a runtime. The future is part of the dial: it is dropped at `connect_timeout`.
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

    /// Like [`from_factory`](Self::from_factory), but the factory may block. It runs in a thread of its own, so
    /// it delays only its own dial.
    ///
    /// A thread cannot be interrupted. If the dial is given up at `connect_timeout`, the call goes on and its
    /// result is dropped. The next dial waits until that call has returned, so there are never two calls at a
    /// time.
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
            // The standard library's hasher keys are random enough for jitter.
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

    /// Sets the client's name in logs, [figures](crate::ClientStats::name) and metrics. Default: the URL's
    /// host, the port if it is not the scheme's default, and the first part of the path
    /// (`example.org:8443/feed`). A client with several endpoints takes the name of the first. A client with a
    /// factory has no URL yet, and is called `client`.
    ///
    /// The default shows no part of a URL that may be a token. It includes the first part of the path only if
    /// that part is a short word (at most 16 lower-case letters, `-`, `_` and `.`, and up to two digits at the
    /// end).
    ///
    /// # The log
    ///
    /// Each line has the span `client` with the fields `id` (unique in the process) and `name`. Lines about a
    /// connection also have the inner span `connection` with `conn` and `host`. The parent of `client` is the
    /// span in which the client was created.
    ///
    /// | level | content |
    /// |---|---|
    /// | `ERROR` | code of the application's panicked |
    /// | `WARN` | everything an operator needs: each end of a connection or dial with its reason, the retry that follows or the end of retries, gaps, messages that were handed back, an application that takes no events |
    /// | `INFO` | new connections, and the regular check: `idle for 25.3 s`, every `check_interval` |
    /// | `DEBUG` | each ping and its answer, each wait for a turn |
    ///
    /// The check is the only recurring line at `INFO`. Its target is `heartbeat_driver::check`, so a filter can
    /// turn it off alone: `info,heartbeat_driver::check=off`.
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

    /// Returns the client's name, or the default that its first URL gives.
    pub(crate) fn take_name(&mut self) -> Option<Arc<str>> {
        let of_url = || Some(self.known.first()?.client_name().into());
        self.name.take().or_else(of_url)
    }

    /// Dials through this proxy, or directly if `None`. Default: the proxy of the environment.
    ///
    /// Clients over TCP read `https_proxy` (for `wss`), `http_proxy` (for `ws`), `all_proxy` and `no_proxy`, in
    /// lower or upper case, as most programs do. They always dial `localhost` and loopback addresses directly.
    /// If `REQUEST_METHOD` is set, they ignore all of these variables, because the program then runs under CGI
    /// and a visitor could set `HTTP_PROXY` by a header. Clients over your own dialer or reactor read the
    /// environment only after [`proxy_from_environment`](Self::proxy_from_environment). A single request can
    /// override the choice ([`Request::proxy`]).
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

    /// Uses the environment's proxies as they are at this call. See [`proxy`](Self::proxy).
    #[must_use]
    pub fn proxy_from_environment(mut self) -> Self {
        self.proxies = Proxies::Environment(Environment::read());
        self
    }

    /// Like [`proxy_from_environment`](Self::proxy_from_environment), unless a proxy was chosen. For an adapter
    /// that dials itself.
    #[must_use]
    #[doc(hidden)]
    pub fn proxy_by_default(self) -> Self {
        match self.proxies {
            Proxies::Unset => self.proxy_from_environment(),
            Proxies::None | Proxies::Fixed(_) | Proxies::Environment(_) => self,
        }
    }

    /// Sets how many redirects (301, 302, 303, 307, 308) a dial follows. Default 0: the table of causes then
    /// judges a redirect like any other status.
    ///
    /// All hops together stay within `connect_timeout`. A redirect from `wss` to `ws` is never followed. A
    /// redirect to another host or port carries only the headers `User-Agent`, `Origin` and `Accept-Language`,
    /// because any other header may hold credentials. Subprotocols may hold credentials too, so a request with
    /// subprotocols does not follow a redirect to another host. If a redirect is not followed, the dial fails
    /// with the redirect's status as its cause. After a followed redirect the messages of `on_connect` go to
    /// the new server.
    #[must_use]
    pub fn max_redirects(mut self, hops: u32) -> Self {
        self.max_redirects = hops;
        self
    }

    /// Sets the timing rules. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: impl Into<Arc<Config>>) -> Self {
        self.config = config.into();
        self
    }

    /// Sets the dialect, which defines the service's heartbeat messages: an [`AnyDialect`], a [`Description`],
    /// or a type of your own. Default: [`JsonType`].
    ///
    /// This method does not set the service's times and limits. [`of_service`](Self::of_service) does.
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

    /// Configures the client for a service: an [`AnyDialect`], a
    /// [`CatalogueEntry`](heartbeat_core::CatalogueEntry), or a [`Description`] of your own.
    ///
    /// Use this for clients with a factory or several endpoints. For a single URL, [`service`](Self::service)
    /// is shorter.
    ///
    /// - The service becomes the [`dialect`](Self::dialect), with its heartbeat messages and retry policies. A
    ///   dialect that is set later replaces the service, its times and its limits.
    /// - Each of `ping`, `idle_timeout`, `pong_timeout`, `keepalive` and `lifetime` that the [configuration](Self::config)
    ///   leaves at its value in [`Config::default`] takes the service's value. Any other value stays
    ///   ([`AnyDialect::fit`]).
    /// - The default of [`send_rate`](Self::send_rate) is the service's limit of messages, less the heartbeats
    ///   ([`Limits::messages_beside`](heartbeat_core::Limits::messages_beside)), evenly spread.
    /// - The default of [`dial_budget`](Self::dial_budget) is the service's limit of dials. All clients of one
    ///   catalogue entry in this process share the budget. Each client of a description of your own has a budget
    ///   of its own.
    /// - If more clients of one catalogue entry live in this process than it allows connections
    ///   ([`Limits::connections`](heartbeat_core::Limits::connections)), one warning in the log gives both
    ///   numbers. The client still dials: the service counts by address or account, which a process does not know.
    ///
    /// If a value that was set contradicts the service, starting the client fails with
    /// [`RequestError::Contradiction`], which names both values. A value to which the service may object (pings
    /// that leave no margin for a lost one) is logged as one warning.
    ///
    /// The client renews a connection before it is older than the service allows, and after the service has
    /// announced its end. It reports [`Event::Ending`](crate::Event::Ending), then closes the connection and
    /// dials at once. That leaves a short gap. `Rotating` of heartbeat-tokio opens the next connection first.
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

    /// Sets the function that computes `${name}` for each message that the dialect sends, for example a
    /// signature over the time.
    ///
    /// `compute` receives the values of the message: `unix_ms`, which is the message's `${now_ms}`, and the
    /// variables. Its result is inserted verbatim, so a JSON string needs its quotes. It runs in the client's
    /// own task or thread and must not block. A later call for the same name replaces the earlier function. A
    /// description lists such values under `computed`. If one of them has no function, starting the client
    /// fails ([`RequestError::NotComputed`]).
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

    /// Sets the seed of the jitter. Default: random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the first `${id}` of the dialect's own messages. Default 1.
    ///
    /// If your application takes its ids from elsewhere, choose a number that they never reach. If a service
    /// wants one growing sequence of ids, let the application take its ids from the sender's `take_id` instead.
    #[must_use]
    pub fn first_id(mut self, id: u64) -> Self {
        self.first_id = id;
        self
    }

    /// Sets the size of a connection's read buffer, in bytes. One read returns at most this much. Default 1024;
    /// other values are clamped to the range from 512 bytes to 16 MiB.
    ///
    /// If more bytes are available than fit, the client reads 64 KiB at once, into a buffer that is freed when
    /// it was not used between two heartbeats. No message pins these buffers: small messages are copied, large
    /// ones have memory of their own.
    #[must_use]
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.read_buffer = bytes.clamp(512, 16 << 20);
        self
    }

    /// Sets the largest message, received or sent, in bytes. Default 64 MiB. A larger received message ends the
    /// connection with code 1009. Until then a peer can make the client hold this many bytes.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self.send_queue.message_size = bytes;
        self
    }

    /// Sets the size of the fragments in which larger messages are sent, in bytes. `None` sends each message in
    /// one frame. At least 1024, default 64 KiB.
    ///
    /// Pings, pongs and Close go between fragments. With a peer that takes 1 MB a second, a pong waits 65 ms
    /// for a fragment instead of waiting for the rest of an upload. A service that accepts no fragments needs
    /// `None`.
    #[must_use]
    pub fn fragment_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.fragment_size = bytes.into().map(|bytes| bytes.max(1024));
        self
    }

    /// Offers to compress messages (permessage-deflate, RFC 7692). Default: not offered.
    /// [`max_message_size`](Self::max_message_size) limits the inflated size of a message.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Sets how many messages may wait for the application before [`overflow`](Self::overflow) applies. Default
    /// 1024, at least 1.
    ///
    /// This applies to clients with a task or thread of their own. Messages that the application has begun to
    /// take are not counted, so up to twice as many can be in memory. Beginnings and ends of connections and
    /// heartbeat events are not counted either; they have bounds of their own (256 and 64).
    #[must_use]
    pub fn queue(mut self, events: usize) -> Self {
        self.queue = events.max(1);
        self
    }

    /// Sets the policy when [`queue`](Self::queue) messages wait and the application takes none. Default:
    /// [`Overflow::Pause`], which loses nothing.
    ///
    /// With `Pause`, the client stops reading. It does not answer the server's pings meanwhile, because they
    /// stand behind messages that the application has not taken. It still notices an end that reaches this host
    /// (FIN, RST, a failed write). Messages that arrived before the end wait for the application, up to 16 MiB
    /// beyond the queue.
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

    /// Turns heartbeat events on or off: [`Event::PingSent`], [`Event::PongSent`], [`Event::PongReceived`] and
    /// [`Event::Check`]. Default: on.
    ///
    /// Heartbeat events never take the room of a message. At most 64 wait for the application. Further ones are
    /// dropped and counted in
    /// [`ClientStats::heartbeat_events_dropped`](crate::ClientStats::heartbeat_events_dropped). Logs and
    /// figures are unaffected.
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

    /// Sets how many messages and bytes may wait to be sent. Default 1024 and 1 MiB. A single larger message
    /// may still wait alone.
    #[must_use]
    pub fn send_queue(mut self, messages: usize, bytes: usize) -> Self {
        self.send_queue = Limits {
            messages: messages.max(1),
            bytes,
            ..self.send_queue
        };
        self
    }

    /// Sends at most `count` application messages in each `period`, evenly spread. Default: no limit. Use this
    /// for services that count messages and close a connection that exceeds the limit (Binance: 5 a second on a
    /// connection).
    ///
    /// The limit applies across all of the client's connections, to held messages as well as to new ones.
    /// Messages of `on_connect` go at once and count. Heartbeats and Close frames never wait and do not count:
    /// if a service counts them, leave room for them. A delayed message waits in the [send
    /// queue](Self::send_queue), counts in [`waiting`](crate::ClientStats::waiting), and expires if it was
    /// [held](Self::hold) for too long. A stop sends the messages that may go at once and hands back the rest.
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
    /// [`LimiterError`] if `count` is 0, or if the spacing of two messages is under 1 ns or over a day.
    pub fn send_rate(mut self, count: u32, period: Duration) -> Result<Self, LimiterError> {
        let rate = Rate {
            most: count,
            per: period,
        };
        self.send_rate = Some((Limiter::new(count, period, 1)?, rate));
        Ok(self)
    }

    /// Holds messages while no session is ready, and sends them once a session is. Default: such messages are
    /// refused ([`SendErrorKind::NotConnected`](crate::SendErrorKind::NotConnected)).
    ///
    /// At most `messages` messages (at least one) and `bytes` bytes are held. A single larger message may wait
    /// alone.
    ///
    /// Messages that a connection leaves unwritten are held, too. The exception is a message of which a part
    /// was handed to the operating system: it is always handed back, so nothing is sent twice. No message is
    /// given to a connection after it was held for `time_to_live`
    /// ([`ConfigBuilder::time_to_live`](heartbeat_core::ConfigBuilder::time_to_live)):
    /// [`Event::Expired`](crate::Event::Expired) hands it back. The time counts from when the message first had
    /// to wait for a connection; for a client in place, from its next poll.
    #[must_use]
    pub fn hold(mut self, messages: usize, bytes: usize) -> Self {
        self.send_queue.hold = Some((messages.max(1), bytes));
        self
    }

    /// Runs `on_connect` on each connection before other messages go out, to authenticate or subscribe.
    ///
    /// `on_connect` must finish within the configuration's `session_timeout`, by default
    /// [`DEFAULT_SESSION_TIMEOUT`](heartbeat_core::DEFAULT_SESSION_TIMEOUT). [`Event::Ready`] reports success.
    ///
    /// [`Event::Ready`]: crate::Event::Ready
    #[must_use]
    pub fn on_connect(mut self, on_connect: impl OnConnect + 'static) -> Self {
        self.on_connect = Some(Box::new(on_connect));
        self.wants_session = true;
        self
    }

    /// Lets the application make each connection ready in its own event loop.
    ///
    /// At [`Event::Connected`](crate::Event::Connected) the application sends its first messages by
    /// `send_opening`, waits for the answers, and calls `ready` or `fail` on its sender. The time limit is that
    /// of [`on_connect`](Self::on_connect).
    ///
    /// A configuration with a `session_timeout` has the same effect.
    #[must_use]
    pub fn session_by_application(mut self) -> Self {
        self.on_connect = None;
        self.wants_session = true;
        self
    }

    /// Reports figures to the recorder of the [`metrics`](https://docs.rs/metrics) facade. The label `client`
    /// is the client's [`name`](Self::name), so clients of one name overwrite each other's figures. Default:
    /// off.
    ///
    /// | name | kind | further label |
    /// |---|---|---|
    /// | `heartbeat_state` | gauge, 1 for the current state | `state`: `waiting`, `connecting`, `opening`, `ready`, `closing`, `stopped` |
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
    /// `docs/grafana.json` of `heartbeat-tokio` is a dashboard for these metrics.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Keeps the machine's last events, so that the client's `explain()` can show why the client acted as it
    /// did. Default: none are kept.
    ///
    /// Between `events` (at least one) and twice as many are kept. `explain()` returns a trace that `heartbeat
    /// explain` (heartbeat-cli) turns into sentences. 64 events cover a few minutes of a quiet connection and
    /// take about 10 KiB.
    ///
    /// The trace holds heartbeats verbatim, and no data. Ids that the application took by `take_id` are not in
    /// the trace, so the replayed messages may have other ids. A dialect written in code is replayed as if its
    /// messages were those of `json-type`.
    #[must_use]
    pub fn explain(mut self, events: usize) -> Self {
        self.explain = Some(events.max(1));
        self
    }

    /// Decodes each message before the dialect and the application see it. `make` is called once for each
    /// connection.
    ///
    /// The connection ends with code 1009 if a decoded message is larger than
    /// [`max_message_size`](Self::max_message_size), and with code 1007 if decoding fails.
    #[must_use]
    pub fn decoder<D: Decode + 'static>(
        mut self,
        mut make: impl FnMut() -> D + Send + 'static,
    ) -> Self {
        self.decoders = Some(Box::new(move || Box::new(make())));
        self
    }

    /// Calls `observer` after every step of the machine, for traces and tests.
    #[must_use]
    pub fn observer(
        mut self,
        observer: impl FnMut(Instant, &Event<'_>, &Step<'_>, Phase) + Send + 'static,
    ) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Dials only when a budget shared by many clients allows it. Default: no budget.
    ///
    /// The wait for a turn does not count towards `connect_timeout`. A kick also waits for a turn. A stop does
    /// not.
    #[must_use]
    pub fn dial_budget(mut self, budget: Arc<impl DialBudget + 'static>) -> Self {
        self.dial_budget = Some(budget);
        self
    }

    /// Resolves host names with this resolver. Default: [`Resolver::system`], the operating system's.
    ///
    /// If the proxy resolves names itself (SOCKS5 by name, HTTP), this resolver looks up only the proxy's own
    /// name.
    #[must_use]
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Sets the TLS configuration, for a provider of cryptography, roots or client certificates of your own.
    /// Default: the process's default provider (`CryptoProvider::install_default`) or that of the feature
    /// `aws-lc-rs` or `ring`; the platform's roots, or those that `SSL_CERT_FILE` names, with verification on.
    ///
    /// The default configuration is made once, before the first dial, and shared by all clients that are alive at
    /// the same time. A provider that is installed later does not change it.
    ///
    /// A client always offers `http/1.1` alone by ALPN, whatever `config` offers, because the WebSocket upgrade
    /// needs HTTP/1.1.
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

    /// Returns how many messages may wait for the application.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queue
    }
}

impl Options {
    /// Returns the sizes that govern how a connection reads and writes.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            read_buffer: self.read_buffer,
            max_message: self.max_message_size,
            fragment: self.fragment_size,
            #[cfg(feature = "deflate")]
            deflate: None,
        }
    }

    /// Fills in each unset time and limit from the service.
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
            (Some((_, rate)), Some(limits)) => {
                if let Some(limit) = limits.exceeded_by(rate) {
                    return Err(refuse(Contradiction::SendRate {
                        service: service.to_owned(),
                        rate: *rate,
                        limit,
                    }));
                }
            }
            (None, Some(_)) => {
                self.send_rate = limits.messages_beside(&config).and_then(|rate| {
                    // A description's rates are at most a day long, so the limiter never refuses them.
                    let limiter = Limiter::new(rate.most, rate.per, 1).ok()?;
                    Some((limiter, rate))
                });
            }
            (_, None) => {}
        }
        if let (None, Some(rates)) = (&self.dial_budget, limits.dials) {
            let budget = match &self.trace_dialect {
                AnyDialect::Named(entry) => DialLimiter::of_service(&entry.name, rates),
                _ => DialLimiter::within(rates).map(Arc::new),
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

    /// Returns a variable that the service's messages need and the application has not set.
    pub(crate) fn unset(&self, variables: &Variables) -> Option<&str> {
        let described = self.trace_dialect.described()?;
        described
            .variables()
            .find(|name| !variables.contains_key(*name))
    }

    /// Completes the configuration. A configured session gets its default time. Credentials are fixed if
    /// neither a factory nor a session could bring others.
    pub(crate) fn complete_config(&mut self) {
        if self.fixed_credentials && !self.wants_session && !self.config.fixed_credentials() {
            let builder = self.config.to_builder().fixed_credentials(true);
            if let Ok(config) = builder.build() {
                self.config = Arc::new(config);
            }
        }
        if self.wants_session && self.config.session_timeout().is_none() {
            let builder = self.config.to_builder();
            // A consistent configuration stays consistent.
            if let Ok(config) = builder.session_timeout(DEFAULT_SESSION_TIMEOUT).build() {
                self.config = Arc::new(config);
            }
        }
    }

    /// Refuses requests that are known to be invalid before the first dial, and a dialect that lacks a value.
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
            // An error that may pass is ignored here. If it persists, the dial fails.
            Err(RequestError::Failed { .. }) => Ok(()),
            made => made,
        }
    }

    /// Loads the trusted roots, once.
    fn prepare_tls(&mut self) -> Result<(), RequestError> {
        #[cfg(feature = "tls")]
        if self.tls.is_none() {
            self.tls = Some(crate::stream::tls::default_config()?);
        }
        Ok(())
    }

    /// Creates the TLS session, if the request needs one.
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
