//! How a client's dials go, for an application that waits for a connection and takes no events meanwhile.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use heartbeat_core::GiveUp;

use crate::event::Reason;
use crate::http::Response;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotConnected {
    /// Why the application waits no longer.
    pub why: WaitEnd,
    /// Why the last dial or connection ended. `None` if none has ended yet.
    pub last: Option<Reason>,
    /// The words of the last dial's error, for people.
    pub detail: Option<Box<str>>,
    /// The answer of the server or a proxy to the last dial, if it refused the dial.
    pub response: Option<Arc<Response>>,
}

/// Why a wait for a connection has ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitEnd {
    /// The client has given up: there will be no further dial.
    GaveUp(GiveUp),
    /// The client was stopped or dropped, or its runtime has ended.
    Stopped,
    /// The time has passed. The client goes on dialling.
    Timeout,
    /// Code that the client itself runs (`on_connect`, a factory, a decoder, an observer) cannot wait for the
    /// client.
    Inside,
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            WaitEnd::GaveUp(reason) => write!(f, "gave up: {reason}")?,
            WaitEnd::Stopped => f.write_str("the client has ended")?,
            WaitEnd::Timeout => f.write_str("no connection within the time")?,
            WaitEnd::Inside => f.write_str("the client's own code cannot wait for the client")?,
        }
        match (self.why, self.last) {
            // These say it.
            (WaitEnd::GaveUp(GiveUp::Cause(_) | GiveUp::MaxAttempts(_)), _) | (_, None) => {}
            (_, Some(last)) => write!(f, "; the last dial ended with {last}")?,
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotConnected {}

/// Shared by the engine, which tells, and the client, which asks.
#[derive(Debug, Default)]
pub(crate) struct Connected {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The answer to the upgrade of the connection that is open now.
    open: Option<Arc<Response>>,
    last: Option<Reason>,
    detail: Option<Box<str>>,
    refused: Option<Arc<Response>>,
    ended: Option<WaitEnd>,
    wakers: Vec<Waker>,
}

impl State {
    fn not_connected(&self, why: WaitEnd) -> NotConnected {
        NotConnected {
            why,
            last: self.last,
            detail: self.detail.clone(),
            response: self.refused.clone(),
        }
    }

    fn result(&self) -> Option<Result<Arc<Response>, NotConnected>> {
        match (&self.open, self.ended) {
            (Some(response), _) => Some(Ok(Arc::clone(response))),
            (None, Some(why)) => Some(Err(self.not_connected(why))),
            (None, None) => None,
        }
    }
}

impl Connected {
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

    pub(crate) fn opened(&self, response: Arc<Response>) {
        self.change(|state| state.open = Some(response));
    }

    pub(crate) fn lost(
        &self,
        reason: Reason,
        detail: Option<Box<str>>,
        refused: Option<Arc<Response>>,
    ) {
        let mut state = self.lock();
        state.open = None;
        (state.last, state.detail, state.refused) = (Some(reason), detail, refused);
    }

    /// The words of the last error.
    pub(crate) fn last_detail(&self) -> Option<Box<str>> {
        self.lock().detail.clone()
    }

    /// The first call counts.
    pub(crate) fn ended(&self, why: WaitEnd) {
        self.change(|state| {
            state.open = None;
            state.ended.get_or_insert(why);
        });
    }

    pub(crate) fn poll(
        &self,
        inside: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<Response>, NotConnected>> {
        let mut state = self.lock();
        if let Some(result) = state.result() {
            return Poll::Ready(result);
        }
        if inside {
            return Poll::Ready(Err(state.not_connected(WaitEnd::Inside)));
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits, for `timeout` at most.
    pub(crate) fn wait(
        &self,
        inside: bool,
        timeout: Duration,
    ) -> Result<Arc<Response>, NotConnected> {
        let timeout = if inside { Duration::ZERO } else { timeout };
        let waits = |state: &mut State| state.result().is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let why = if inside {
            WaitEnd::Inside
        } else {
            WaitEnd::Timeout
        };
        state
            .result()
            .unwrap_or_else(|| Err(state.not_connected(why)))
    }
}
