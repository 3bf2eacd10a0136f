//! Why there is no request.

use std::fmt;

use heartbeat_core::{Cause, Contradiction, UnknownService};

heartbeat_core::debug_as_display!(RequestError);

/// Why a URL, a header or a setting was refused. Nothing was dialled.
///
/// URLs are shown up to their path, without credentials.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not a URL.
    #[error("\"{url}\" is not a URL: {rule}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        rule: String,
    },
    /// Neither `ws` nor `wss`.
    #[error("the scheme of \"{url}\" must be ws or wss, as in ws://HOST:PORT/")]
    Scheme {
        /// The text.
        url: String,
    },
    /// No host, or an empty one.
    #[error("\"{url}\" names no host")]
    Host {
        /// The text.
        url: String,
    },
    /// A user or password in the URL.
    #[error("the URL for {host} holds credentials: send them in an Authorization header instead")]
    Userinfo {
        /// The host.
        host: String,
    },
    /// `wss` without the `tls` feature.
    #[error("\"{url}\" needs the feature `tls`")]
    TlsDisabled {
        /// The text.
        url: String,
    },
    /// A header name or value that HTTP does not allow, or one that the upgrade itself sets.
    #[error("the header `{name}` {rule}")]
    Header {
        /// The name, as far as it can be one.
        name: String,
        /// What is wrong with it; never shows the value.
        rule: &'static str,
    },
    /// A subprotocol that cannot be offered. Its name is not shown: some services want a token there.
    #[error("subprotocol {number} {rule}")]
    Subprotocol {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// A proxy that cannot be used.
    #[error("the proxy \"{url}\" {rule}")]
    Proxy {
        /// Its URL without user and password, or the environment variable.
        url: String,
        /// What is wrong with it.
        rule: String,
    },
    /// [`Options::endpoints`](crate::Options::endpoints) was given none.
    #[error("no endpoint is given: there must be at least one URL")]
    NoEndpoint,
    /// [`Options::endpoints`](crate::Options::endpoints) was given more than the machine keeps records of.
    #[error("{0} endpoints are given: there may be at most 64")]
    TooManyEndpoints(usize),
    /// [`Options::service`](crate::Options::service) was given a name that the catalogue does not have.
    #[error(transparent)]
    UnknownService(#[from] UnknownService),
    /// The service's messages need a value that the application computes
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
    /// No trusted root certificates were found on this machine.
    #[error("no trusted root certificates: {0}")]
    Roots(String),
    /// The dial factory could not make a request. What follows is the cause's business: the
    /// [table of causes](Cause::default_verdict) decides.
    #[error("{detail}")]
    Failed {
        /// What it counts as.
        cause: Cause,
        /// For people. Never put credentials here.
        detail: Box<str>,
    },
}

impl RequestError {
    /// A dial factory's own failure: the token server was down ([`Cause::Io`]), or refuses for good
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

    /// What it counts as when it comes from a dial factory.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Failed { cause, .. } => *cause,
            Self::Roots(_) => Cause::Tls,
            _ => Cause::Io,
        }
    }
}
