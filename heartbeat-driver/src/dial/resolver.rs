//! Name resolution in detached threads.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::panics::{Panicked, catch};

/// The most threads of one resolver. A resolver that hangs blocks one thread for each name. Further names wait
/// for a thread.
const MAX_THREADS: usize = 32;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves the addresses of a host. Cheap to clone. All clones share their lookups.
///
/// A lookup blocks and cannot be interrupted, so each lookup runs in its own thread. No code joins that thread:
/// the end of a client, of a runtime and of `main` does not wait for it. There is at most one lookup at a time
/// for a host, and all dials that wait for that host share its result. There are at most 32 threads, and none
/// for a host that is an address.
///
/// The default is the operating system's resolver, shared by all clients of the process.
///
/// ```
/// use std::net::SocketAddr;
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Options, Resolver}; // or heartbeat_blocking
///
/// // The ports are not used.
/// let resolver = Resolver::new(|host| match host {
///     "feed.internal" => Ok(vec![SocketAddr::from(([10, 0, 0, 7], 0))]),
///     _ => Err(std::io::Error::other("no such host here")),
/// });
/// let options = Options::new("ws://feed.internal/")?.resolver(resolver);
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    lookup: Box<Lookup>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Dials that wait for a host's lookup.
    hosts: HashMap<Box<str>, Vec<Weak<Slot>>>,
    /// Hosts that wait for a thread.
    queue: VecDeque<Box<str>>,
    threads: usize,
}

/// The place for the result of one dial.
type Slot = Mutex<(Option<Result<Found, Panicked>>, Waker)>;

/// [`io::Error`] is not `Clone`, but its kind and its text are.
type Found = Result<Arc<[SocketAddr]>, (io::ErrorKind, Arc<str>)>;

static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| {
    Resolver::new(|host| {
        (host, 0)
            .to_socket_addrs()
            .map(|addresses| addresses.collect())
    })
});

impl Resolver {
    /// Creates a resolver that calls `lookup` for the addresses of a host. `lookup` may block, because it runs
    /// in its own thread. The ports of its results are not used. A panic in `lookup` ends the clients that wait
    /// for it.
    pub fn new(
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            lookup: Box::new(lookup),
            state: Mutex::default(),
        }))
    }

    /// Returns the operating system's resolver, the default.
    #[must_use]
    pub fn system() -> Self {
        SYSTEM.clone()
    }

    /// Starts a lookup, or joins the running one.
    pub(crate) fn lookup(&self, host: &str) -> Finding {
        let slot = Arc::new(Mutex::new((None, Waker::noop().clone())));
        let mut state = self.0.lock();
        if let Some(waiting) = state.hosts.get_mut(host) {
            // Abandoned dials leave their places behind.
            waiting.retain(|slot| slot.strong_count() > 0);
            waiting.push(Arc::downgrade(&slot));
            return Finding(slot);
        }
        state.hosts.insert(host.into(), vec![Arc::downgrade(&slot)]);
        if state.threads >= MAX_THREADS {
            state.queue.push_back(host.into());
            return Finding(slot);
        }
        state.threads += 1;
        drop(state);
        let (shared, name) = (Arc::clone(&self.0), Box::from(host));
        let begun = thread::Builder::new()
            .name("heartbeat-resolver".into())
            .spawn(move || shared.work(name));
        if let Err(error) = begun {
            self.0.lock().threads -= 1;
            let words = format!("no thread to look the host up in: {error}");
            self.0.finish(host, &Ok(Err((error.kind(), words.into()))));
        }
        Finding(slot)
    }
}

impl Shared {
    /// Runs in a thread: resolves hosts until none waits.
    fn work(&self, mut host: Box<str>) {
        loop {
            let found = catch("the resolver", || (self.lookup)(&host));
            let found = found.map(|found| {
                found
                    .map(Arc::from)
                    .map_err(|error| (error.kind(), error.to_string().into()))
            });
            self.finish(&host, &found);
            let mut state = self.lock();
            match state.next() {
                Some(next) => host = next,
                None => {
                    state.threads -= 1;
                    return;
                }
            }
        }
    }

    fn finish(&self, host: &str, found: &Result<Found, Panicked>) {
        let waiting = self.lock().hosts.remove(host).unwrap_or_default();
        for slot in waiting.iter().filter_map(Weak::upgrade) {
            let waker = {
                let mut slot = lock(&slot);
                slot.0 = Some(found.clone());
                slot.1.clone()
            };
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Returns the next host for which a dial still waits.
    fn next(&mut self) -> Option<Box<str>> {
        while let Some(host) = self.queue.pop_front() {
            let waiting = self.hosts.get(&host);
            if waiting.is_some_and(|slots| slots.iter().any(|slot| slot.strong_count() > 0)) {
                return Some(host);
            }
            self.hosts.remove(&host);
        }
        None
    }
}

/// A running lookup. Dropping it does not stop the thread.
pub(crate) struct Finding(Arc<Slot>);

impl Future for Finding {
    type Output = io::Result<Arc<[SocketAddr]>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.0);
        match slot.0.take() {
            Some(Ok(found)) => {
                Poll::Ready(found.map_err(|(kind, words)| io::Error::new(kind, &*words)))
            }
            Some(Err(panicked)) => {
                drop(slot);
                panicked.resume()
            }
            None => {
                slot.1.clone_from(cx.waker());
                Poll::Pending
            }
        }
    }
}

/// The state is consistent at any time, so a poisoned lock is harmless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finding").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::Wake;

    use super::*;

    /// Wakes a thread that waits in [`wait`].
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait(finding: Finding) -> io::Result<Vec<SocketAddr>> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut finding = std::pin::pin!(finding);
        loop {
            match finding.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(found) => return found.map(|found| found.to_vec()),
                Poll::Pending => thread::park(),
            }
        }
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 0))
    }

    /// A resolver that answers on command and records its questions.
    struct Slow {
        resolver: Resolver,
        asked: mpsc::Receiver<String>,
        answer: mpsc::Sender<io::Result<Vec<SocketAddr>>>,
    }

    fn slow() -> Slow {
        let (ask, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let answers = Mutex::new(answers);
        let resolver = Resolver::new(move |host| {
            let _ = ask.send(host.to_owned());
            answers.lock().unwrap().recv().map_err(io::Error::other)?
        });
        Slow {
            resolver,
            asked,
            answer,
        }
    }

    #[test]
    fn a_host_is_looked_up_once_at_a_time_and_all_who_wait_share_the_result() {
        let slow = slow();
        let mut waiting: Vec<_> = (0..600).map(|_| slow.resolver.lookup("a.test")).collect();
        assert_eq!(slow.asked.recv().unwrap(), "a.test");
        assert_eq!(slow.resolver.0.lock().threads, 1);
        // Abandoned lookups leave nothing behind, however long the resolver is silent.
        let last = waiting.pop().unwrap();
        drop(waiting);
        let other = slow.resolver.lookup("a.test");
        assert_eq!(slow.resolver.0.lock().hosts["a.test"].len(), 2);
        slow.answer.send(Ok(vec![address(1)])).unwrap();
        assert_eq!(wait(last).unwrap(), [address(1)]);
        assert_eq!(wait(other).unwrap(), [address(1)]);
        assert!(slow.asked.try_recv().is_err(), "asked once");
        // Results are not cached: the next dial asks again.
        let again = slow.resolver.lookup("a.test");
        slow.answer
            .send(Err(io::Error::new(io::ErrorKind::NotFound, "gone")))
            .unwrap();
        let error = wait(again).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::NotFound, "gone".into())
        );
    }

    #[test]
    fn so_many_threads_and_no_more_and_hosts_that_nobody_wants_any_more_are_left_out() {
        let slow = slow();
        let hosts = (0..MAX_THREADS).map(|number| format!("{number}.test"));
        let busy: Vec<_> = hosts.map(|host| slow.resolver.lookup(&host)).collect();
        let given_up = slow.resolver.lookup("given-up.test");
        let waits = slow.resolver.lookup("waits.test");
        drop(given_up);
        for _ in 0..MAX_THREADS {
            slow.asked.recv().unwrap();
        }
        assert!(slow.asked.try_recv().is_err());
        slow.answer.send(Ok(vec![address(1)])).unwrap();
        assert_eq!(slow.asked.recv().unwrap(), "waits.test");
        for _ in 0..MAX_THREADS {
            slow.answer.send(Ok(vec![address(2)])).unwrap();
        }
        wait(waits).unwrap();
        for finding in busy {
            wait(finding).unwrap();
        }
        assert!(slow.resolver.0.lock().hosts.is_empty());
    }

    #[test]
    fn a_result_that_comes_while_nobody_looks_is_not_lost() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let resolver = Resolver::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(vec![address(1)])
        });
        for _ in 0..2_000 {
            assert_eq!(wait(resolver.lookup("a.test")).unwrap(), [address(1)]);
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2_000);
    }

    #[test]
    fn a_panic_in_a_lookup_goes_on_where_its_result_was_wanted() {
        let resolver = Resolver::new(|_| panic!("this is a part of the test"));
        let finding = resolver.lookup("a.test");
        let panicked = catch("the dial", || wait(finding)).unwrap_err();
        assert_eq!(
            panicked.to_string(),
            "the resolver panicked: this is a part of the test"
        );
        assert!(resolver.0.lock().hosts.is_empty());
    }
}
