//! The state of a client's dials, for an application that waits for a connection without taking events.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use heartbeat_core::GiveUp;

use crate::event::Reason;
use crate::http::Response;

heartbeat_core::debug_as_display!(NotConnected);

/// Why there is no connection, or no ready session.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotConnected {
    /// The client's name ([`Options::name`](crate::Options::name)). The default contains the host, the port
    /// and the first part of the path.
    pub name: Arc<str>,
    /// Why the wait has ended.
    pub why: WaitEnd,
    /// A connection is open, but its session is not ready.
    pub open: bool,
    /// Why the last dial or connection ended. `None` if none has ended yet.
    pub last: Option<Reason>,
    /// The text of the last dial's error, for people.
    pub detail: Option<Box<str>>,
    /// The answer of the server or a proxy to the last dial, if it refused the dial.
    pub response: Option<Arc<Response>>,
}

/// Why a wait for a connection ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitEnd {
    /// The client has given up and will not dial again.
    GaveUp(GiveUp),
    /// The client was stopped or dropped, or its runtime has ended.
    Stopped,
    /// The timeout has passed. The client goes on dialling.
    Timeout,
    /// The call came from code that the client runs (`on_connect`, a factory, a decoder, an observer). That
    /// code cannot wait for the client.
    Inside,
}

/// For example: `example.org:8443/feed: gave up: max_attempts reached, the last attempt ended with refused
/// (Connection refused)`.
impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.why {
            WaitEnd::GaveUp(reason) => write!(f, "gave up: {reason}")?,
            WaitEnd::Stopped => f.write_str("the client has ended")?,
            WaitEnd::Timeout if self.open => {
                f.write_str("connected, but not ready within the time")?
            }
            WaitEnd::Timeout => f.write_str("no connection within the time")?,
            WaitEnd::Inside => f.write_str("the client's own code cannot wait for the client")?,
        }
        match (self.why, self.last) {
            // These variants include the last reason in their own text.
            (WaitEnd::GaveUp(GiveUp::Cause(_) | GiveUp::MaxAttempts(_)), _) | (_, None) => {}
            (_, Some(last)) => write!(f, "; the last attempt ended with {last}")?,
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotConnected {}

/// The condition that an application waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The upgrade is done.
    Open,
    /// The session is ready too, and messages are accepted.
    Ready,
}

/// Shared by the engine, which reports, and the client, which waits.
#[derive(Debug, Default)]
pub(crate) struct Connected {
    /// The client's name.
    name: Arc<str>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The answer to the upgrade of the connection that is open now.
    open: Option<Arc<Response>>,
    /// The open connection accepts messages.
    ready: bool,
    last: Option<Reason>,
    detail: Option<Box<str>>,
    refused: Option<Arc<Response>>,
    ended: Option<WaitEnd>,
    wakers: Vec<Waker>,
}

impl State {
    fn not_connected(&self, name: &Arc<str>, why: WaitEnd) -> NotConnected {
        NotConnected {
            name: Arc::clone(name),
            why,
            open: self.open.is_some(),
            last: self.last,
            detail: self.detail.clone(),
            response: self.refused.clone(),
        }
    }

    fn result(&self, until: Until, name: &Arc<str>) -> Option<Result<Arc<Response>, NotConnected>> {
        match (&self.open, self.ended) {
            (Some(response), _) if self.ready || until == Until::Open => {
                Some(Ok(Arc::clone(response)))
            }
            (_, Some(why)) => Some(Err(self.not_connected(name, why))),
            (_, None) => None,
        }
    }
}

impl Connected {
    pub(crate) fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Reports an open connection. Without a configured session it is ready at once.
    pub(crate) fn opened(&self, response: Arc<Response>, ready: bool) {
        self.change(|state| (state.open, state.ready) = (Some(response), ready));
    }

    /// Reports that the session of the open connection is ready.
    pub(crate) fn ready(&self) {
        self.change(|state| state.ready = true);
    }

    /// Reports that the open connection is being closed, and accepts no more messages.
    pub(crate) fn closing(&self) {
        self.lock().ready = false;
    }

    pub(crate) fn lost(
        &self,
        reason: Reason,
        detail: Option<Box<str>>,
        refused: Option<Arc<Response>>,
    ) {
        let mut state = self.lock();
        (state.open, state.ready) = (None, false);
        (state.last, state.detail, state.refused) = (Some(reason), detail, refused);
    }

    /// Returns the text of the last error.
    pub(crate) fn last_detail(&self) -> Option<Box<str>> {
        self.lock().detail.clone()
    }

    /// Ends all waits. The first call counts.
    pub(crate) fn ended(&self, why: WaitEnd) {
        self.change(|state| {
            (state.open, state.ready) = (None, false);
            state.ended.get_or_insert(why);
        });
    }

    pub(crate) fn poll(
        &self,
        until: Until,
        inside: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<Response>, NotConnected>> {
        let mut state = self.lock();
        if let Some(result) = state.result(until, &self.name) {
            return Poll::Ready(result);
        }
        if inside {
            return Poll::Ready(Err(state.not_connected(&self.name, WaitEnd::Inside)));
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Blocks until the condition holds, up to `timeout`.
    pub(crate) fn wait(
        &self,
        until: Until,
        inside: bool,
        timeout: Duration,
    ) -> Result<Arc<Response>, NotConnected> {
        let timeout = if inside { Duration::ZERO } else { timeout };
        let waits = |state: &mut State| state.result(until, &self.name).is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let why = if inside {
            WaitEnd::Inside
        } else {
            WaitEnd::Timeout
        };
        state
            .result(until, &self.name)
            .unwrap_or_else(|| Err(state.not_connected(&self.name, why)))
    }
}
