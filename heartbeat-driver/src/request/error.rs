//! Errors of URLs, headers and settings.

use std::fmt;

use heartbeat_core::{Cause, Contradiction, UnknownService};

heartbeat_core::debug_as_display!(RequestError);

/// Why a URL, a header or a setting was rejected. Nothing was dialled.
///
/// Errors show a URL only up to its path, and without credentials.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The text is not a URL.
    #[error("\"{url}\" is not a URL: {rule}")]
    Url {
        /// The text.
        url: String,
        /// The defect.
        rule: String,
    },
    /// The scheme is neither `ws` nor `wss`.
    #[error("the scheme of \"{url}\" must be ws or wss, as in ws://HOST:PORT/")]
    Scheme {
        /// The text.
        url: String,
    },
    /// The URL has no host, or an empty one.
    #[error("\"{url}\" names no host")]
    Host {
        /// The text.
        url: String,
    },
    /// The URL contains a user or password.
    #[error("the URL for {host} holds credentials: send them in an Authorization header instead")]
    Userinfo {
        /// The host.
        host: String,
    },
    /// The URL has the scheme `wss`, but the feature `tls` is off.
    #[error("\"{url}\" needs the feature `tls`")]
    TlsDisabled {
        /// The text.
        url: String,
    },
    /// HTTP does not allow this header name or value, or the upgrade sets this header itself.
    #[error("the header `{name}` {rule}")]
    Header {
        /// The name. Characters that may be part of a value are left out.
        name: String,
        /// The defect. Never shows the value.
        rule: &'static str,
    },
    /// This subprotocol cannot be offered. The error does not show its name, because some services expect a
    /// token there.
    #[error("subprotocol {number} {rule}")]
    Subprotocol {
        /// The position of the subprotocol, from 1.
        number: usize,
        /// The defect.
        rule: &'static str,
    },
    /// This proxy cannot be used.
    #[error("the proxy \"{url}\" {rule}")]
    Proxy {
        /// The URL without user and password, or the environment variable.
        url: String,
        /// The defect.
        rule: String,
    },
    /// [`Options::endpoints`](crate::Options::endpoints) was called without a URL.
    #[error("no endpoint is given: there must be at least one URL")]
    NoEndpoint,
    /// [`Options::endpoints`](crate::Options::endpoints) was called with more endpoints than the machine keeps
    /// records of.
    #[error("{0} endpoints are given: there may be at most 64")]
    TooManyEndpoints(usize),
    /// [`Options::service`](crate::Options::service) was called with a name that the catalogue does not have.
    #[error(transparent)]
    UnknownService(#[from] UnknownService),
    /// The service's messages need a value that the application must compute
    /// ([`Options::computed`](crate::Options::computed)).
    #[error(
        "{service} wants a value `{name}` that is computed for each message: give it by `Options::computed`"
    )]
    NotComputed {
        /// The service.
        service: String,
        /// The value's name.
        name: String,
    },
    /// The configuration contradicts the service.
    #[error(transparent)]
    Contradiction(Box<Contradiction>),
    /// No trusted root certificates were found on this machine. On Android and iOS that is so unless the feature
    /// `platform-verifier` or `webpki-roots` is on.
    #[error(
        "no trusted root certificates: {0}; the feature `webpki-roots` compiles some in, `platform-verifier` asks the system, or give a configuration by `Options::tls`"
    )]
    Roots(String),
    /// TLS has no cryptography: the features `ring` and `aws-lc-rs` are off, and the process has no default
    /// provider. Or the default provider has no cipher suite for a version of TLS that rustls speaks.
    #[error(
        "TLS has no usable provider: {0}; turn on the feature `ring` or `aws-lc-rs`, call `CryptoProvider::install_default` before the client starts, or give a configuration by `Options::tls`"
    )]
    Provider(String),
    /// The dial factory could not make a request. The [table of causes](Cause::default_verdict) decides from
    /// `cause` how the client goes on.
    #[error("{detail}")]
    Failed {
        /// The cause that the failure counts as.
        cause: Cause,
        /// The message, for people. Never put credentials here.
        detail: Box<str>,
    },
}

impl RequestError {
    /// Creates an error for a dial factory: its token server is down ([`Cause::Io`]), or refuses for good
    /// (`Cause::Http` with status 403).
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::{RequestError, core::Cause}; // or heartbeat_blocking
    /// let error = RequestError::failed(Cause::Io, "the token server does not answer");
    /// assert_eq!(error.to_string(), "the token server does not answer");
    /// ```
    pub fn failed(cause: Cause, detail: impl fmt::Display) -> Self {
        Self::Failed {
            cause,
            detail: detail.to_string().into(),
        }
    }

    /// Returns the cause that this error counts as if a dial factory returns it.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Failed { cause, .. } => *cause,
            Self::Roots(_) | Self::Provider(_) => Cause::Tls,
            _ => Cause::Io,
        }
    }
}
