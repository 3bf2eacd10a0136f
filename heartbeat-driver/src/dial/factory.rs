//! Dial factories: immediate, asynchronous, or blocking in a thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use heartbeat_core::{Cause, ConnId};

use crate::event::Reason;
use crate::http::Response;
use crate::panics::{Panicked, catch};
use crate::queue::SendQueue;
use crate::request::{Request, RequestError};

/// The facts about a dial, for the dial factory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The connection that this dial will open.
    pub conn: ConnId,
    /// Failures in a row before this dial.
    pub attempt: u32,
    /// The last end asked for fresh credentials (a 401, a 4401).
    pub refresh: bool,
    /// How the connection or dial before this one ended; `None` for the first.
    pub last: Option<Reason>,
    /// The last answer that refused a dial, from the server or from a proxy ([`Response::is_from_proxy`]).
    /// Cleared when a dial is accepted. A factory that implements Digest answers the `WWW-Authenticate` or
    /// `Proxy-Authenticate` header of this response.
    pub refused: Option<Arc<Response>>,
}

impl Attempt {
    /// Creates the facts for a driver of another kind.
    #[must_use]
    pub const fn new(conn: ConnId, attempt: u32, refresh: bool, last: Option<Reason>) -> Self {
        Self {
            conn,
            attempt,
            refresh,
            last,
            refused: None,
        }
    }
}

/// The name of the factory in the report of its panic.
pub(crate) const FACTORY: &str = "the dial factory";

/// The result of a factory.
pub(crate) type RequestResult = Result<Request, RequestError>;

/// The future of a request.
pub(crate) type PendingRequest = Pin<Box<dyn Future<Output = RequestResult> + Send>>;

pub(crate) enum Make {
    Now(Box<RequestResult>),
    Later(PendingRequest),
}

pub(crate) type Factory = Box<dyn FnMut(Attempt) -> Make + Send>;

/// Wakes the engine for the factory's future.
pub(crate) struct FactoryWaker {
    send_queue: Arc<SendQueue>,
    woken: AtomicBool,
}

impl FactoryWaker {
    /// Starts as woken, because a future must be polled once before it can wake.
    pub(crate) fn new(send_queue: &Arc<SendQueue>) -> Arc<Self> {
        Arc::new(Self {
            send_queue: Arc::clone(send_queue),
            woken: AtomicBool::new(true),
        })
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Returns true once for any number of wake-ups.
    pub(crate) fn take(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for FactoryWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.send_queue.notify_engine();
    }
}

/// A blocking factory, called in its own thread. At most one call runs at a time, however often a dial is given
/// up meanwhile.
pub(crate) struct Offload<F>(Arc<Mutex<State<F>>>);

enum State<F> {
    Idle(F),
    /// The factory is running, for the latest dial or for an abandoned one. In the second case the latest dial
    /// waits here.
    Busy(Option<(Attempt, Slot)>),
    Panicked(Panicked),
}

/// The place for the result of one call.
type Slot = Arc<Mutex<(Option<Result<RequestResult, Panicked>>, Waker)>>;

struct Waits(Slot);

impl Future for Waits {
    type Output = RequestResult;

    /// A panic of the factory is resumed here, in the caller's thread, as for any other factory.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RequestResult> {
        let made = {
            let mut slot = lock(&self.0);
            slot.1.clone_from(cx.waker());
            slot.0.take()
        };
        match made {
            Some(made) => Poll::Ready(made.unwrap_or_else(|panicked| panicked.resume())),
            None => Poll::Pending,
        }
    }
}

impl<F: FnMut(Attempt) -> RequestResult + Send + 'static> Offload<F> {
    pub(crate) fn new(factory: F) -> Self {
        Self(Arc::new(Mutex::new(State::Idle(factory))))
    }

    /// Starts making a request.
    pub(crate) fn start(&self, attempt: Attempt) -> Make {
        let slot: Slot = Arc::new(Mutex::new((None, Waker::noop().clone())));
        let mut state = lock(&self.0);
        let factory = match std::mem::replace(&mut *state, State::Busy(None)) {
            State::Idle(factory) => factory,
            State::Busy(_) => {
                *state = State::Busy(Some((attempt, Arc::clone(&slot))));
                return Make::Later(Box::pin(Waits(slot)));
            }
            State::Panicked(panicked) => {
                *state = State::Panicked(panicked.clone());
                drop(state);
                panicked.resume()
            }
        };
        drop(state);
        let mut worker = Worker {
            shared: Arc::clone(&self.0),
            factory: Some(factory),
            job: Some((attempt, Arc::clone(&slot))),
        };
        // If no thread can be started, the worker is dropped and gives its factory back.
        let begun = thread::Builder::new()
            .name("heartbeat-factory".into())
            .spawn(move || worker.run());
        match begun {
            Ok(_) => Make::Later(Box::pin(Waits(slot))),
            Err(error) => {
                let words = format!("no thread to make the request in: {error}");
                Make::Now(Box::new(Err(RequestError::failed(Cause::Io, words))))
            }
        }
    }
}

struct Worker<F> {
    shared: Arc<Mutex<State<F>>>,
    factory: Option<F>,
    job: Option<(Attempt, Slot)>,
}

impl<F: FnMut(Attempt) -> RequestResult> Worker<F> {
    fn run(&mut self) {
        while let (Some(factory), Some((attempt, slot))) = (&mut self.factory, self.job.take()) {
            let made = catch(FACTORY, || factory(attempt));
            let panicked = made.as_ref().err().cloned();
            answer(&slot, made);
            let mut state = lock(&self.shared);
            let next = match &mut *state {
                State::Busy(next) => next.take(),
                State::Idle(_) | State::Panicked(_) => None,
            };
            match (panicked, next) {
                (Some(panicked), next) => {
                    *state = State::Panicked(panicked.clone());
                    drop(state);
                    if let Some((_, slot)) = next {
                        answer(&slot, Err(panicked));
                    }
                    return;
                }
                (None, Some(job)) => self.job = Some(job),
                (None, None) => {
                    if let Some(factory) = self.factory.take() {
                        *state = State::Idle(factory);
                    }
                    return;
                }
            }
        }
    }
}

impl<F> Drop for Worker<F> {
    /// A worker that never ran gives the factory back.
    fn drop(&mut self) {
        if let (Some(factory), Some(_)) = (self.factory.take(), &self.job) {
            *lock(&self.shared) = State::Idle(factory);
        }
    }
}

fn answer(slot: &Slot, made: Result<RequestResult, Panicked>) {
    let mut slot = lock(slot);
    slot.0 = Some(made);
    let waker = slot.1.clone();
    drop(slot);
    waker.wake();
}

/// The state is consistent at any time, so a poisoned lock is harmless.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
