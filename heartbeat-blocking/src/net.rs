//! The default reactor: mio's poll, TCP and a resolver.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Wake};

use heartbeat_driver::core::{Clock, ConnId, HappyEyeballs, Instant, NextAttempt};
use heartbeat_driver::{Dial, HostClock, Resolving, is_writable};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::reactor::Reactor;

const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);

/// The default reactor. Opens TCP connections by "Happy Eyeballs" (RFC 8305). It tries a host's addresses with
/// alternating families, and starts the next attempt after 250 ms beside those still running. The first address to
/// answer wins, and the other attempts are closed. Addresses that answered in an earlier dial and failed afterwards are
/// tried last. Sets `TCP_NODELAY` and the options of [`Dial::tcp`].
///
/// Names are resolved by [`Options::resolver`](crate::Options::resolver), in threads that are never joined.
pub struct Net {
    poll: Poll,
    events: Events,
    waker: Arc<Wakes>,
    /// Counts the time for which the host is suspended. A wait of the operating system does not count it.
    clock: HostClock,
    dialing: Option<Dialing>,
    /// The current socket's end was reported. It is reported once, because the registration reports only changes.
    hung_up: bool,
}

/// The TCP socket of [`Net`].
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    /// The last write would have blocked. The next one waits until the operating system reports the socket as writable:
    /// the kernel accepts some bytes earlier, even if the peer is dead.
    is_full: bool,
}

impl Read for Tcp {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_full && !is_writable(&self.stream) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = self.stream.write(bytes);
        self.is_full = matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A waker that ends a wait of the poll, from any thread.
struct Wakes(Waker);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        // Fails only if the poll was dropped, and then nothing waits.
        let _ = self.0.wake();
    }
}

struct Dialing {
    dial: Dial,
    stage: Stage,
    /// When to try the next address beside those already tried.
    wake: Option<Instant>,
}

enum Stage {
    Resolving(Resolving),
    Racing(Racing),
}

struct Racing {
    race: HappyEyeballs,
    addresses: Vec<SocketAddr>,
    running: Vec<(SocketAddr, TcpStream)>,
    failure: io::Error,
}

impl Racing {
    fn begin(addresses: Vec<SocketAddr>) -> Self {
        Self {
            race: HappyEyeballs::new(addresses.len()),
            addresses,
            running: Vec::new(),
            failure: io::ErrorKind::NotFound.into(),
        }
    }

    fn failed(&mut self, error: io::Error) {
        self.failure = error;
        self.race.failed();
    }

    /// Returns the first connected stream, if any. Closes attempts that have failed.
    fn winner(&mut self) -> Option<(SocketAddr, TcpStream)> {
        let mut at = 0;
        while let Some((_, stream)) = self.running.get(at) {
            match connected(stream) {
                Ok(true) => return Some(self.running.swap_remove(at)),
                Ok(false) => at += 1,
                Err(error) => {
                    drop(self.running.swap_remove(at));
                    self.failed(error);
                }
            }
        }
        None
    }
}

impl Net {
    /// Creates a reactor for one client.
    ///
    /// # Errors
    /// The operating system's error if it refuses a poll instance.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Wakes(Waker::new(poll.registry(), WAKER)?));
        Ok(Self {
            poll,
            events: Events::with_capacity(8),
            waker,
            clock: HostClock::start(),
            dialing: None,
            hung_up: false,
        })
    }

    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, SOCKET, both)?;
        Ok(stream)
    }

    /// Advances a dial. Returns the stream once an address has answered, or the error. Returns `None` if the dial must
    /// wait, at most until `wake`.
    fn proceed(
        &self,
        stage: &mut Stage,
        wake: &mut Option<Instant>,
    ) -> Option<io::Result<(SocketAddr, TcpStream)>> {
        *wake = None;
        if let Stage::Resolving(resolving) = stage {
            let waker = task::Waker::from(Arc::clone(&self.waker));
            match Pin::new(resolving).poll(&mut Context::from_waker(&waker)) {
                task::Poll::Ready(Ok(addresses)) => {
                    *stage = Stage::Racing(Racing::begin(addresses))
                }
                task::Poll::Ready(Err(error)) => return Some(Err(error)),
                task::Poll::Pending => return None,
            }
        }
        let Stage::Racing(racing) = stage else {
            return None;
        };
        if let Some(winner) = racing.winner() {
            return Some(Ok(winner));
        }
        loop {
            match racing.race.next(self.clock.now()) {
                NextAttempt::Begin(number) => {
                    let address = racing.addresses[number];
                    match self.connect(address) {
                        Ok(stream) => racing.running.push((address, stream)),
                        Err(error) => racing.failed(error),
                    }
                }
                NextAttempt::Until(at) => {
                    *wake = Some(at);
                    return None;
                }
                NextAttempt::Wait => return None,
                NextAttempt::Lost => {
                    let failure = io::ErrorKind::Other.into();
                    return Some(Err(std::mem::replace(&mut racing.failure, failure)));
                }
            }
        }
    }
}

impl Clock for Net {
    fn now(&self) -> Instant {
        self.clock.now()
    }
}

impl Reactor for Net {
    type Socket = Tcp;

    fn dial(&mut self, dial: &Dial) {
        self.dialing = Some(Dialing {
            dial: dial.clone(),
            stage: Stage::Resolving(dial.resolve()),
            wake: None,
        });
    }

    fn cancel_dial(&mut self) {
        self.dialing = None;
    }

    fn dialed(&mut self) -> Option<(ConnId, io::Result<Tcp>)> {
        let mut dialing = self.dialing.take()?;
        match self.proceed(&mut dialing.stage, &mut dialing.wake) {
            Some(result) => {
                // Ends reported so far were of sockets that lost the race. An end of this socket is read during
                // the upgrade.
                self.hung_up = false;
                let dial = dialing.dial;
                let set_up = |(address, stream)| {
                    dial.connected(address);
                    dial.tcp.apply(&stream).map(|()| Tcp {
                        stream,
                        is_full: false,
                    })
                };
                Some((dial.conn, result.and_then(set_up)))
            }
            None => {
                self.dialing = Some(dialing);
                None
            }
        }
    }

    fn wait(&mut self, _: Option<&mut Tcp>, until: Option<Instant>) -> io::Result<()> {
        // The socket was registered when its connect began, edge-triggered for both directions. A turn always reads
        // and writes until the socket would block, so no edge is missed.
        let next = self.dialing.as_ref().and_then(|dialing| dialing.wake);
        let until = until.into_iter().chain(next).min();
        let timeout = until.map(|until| until.saturating_duration_since(self.clock.now()));
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let is_end = |event: &Event| event.is_read_closed() || event.is_error();
        let mut of_socket = self.events.iter().filter(|event| event.token() == SOCKET);
        self.hung_up |= of_socket.any(is_end);
        Ok(())
    }

    fn hung_up(&self) -> bool {
        self.hung_up
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || waker.wake_by_ref())
    }
}

/// Returns true if the connect has succeeded, and false if it is still pending.
fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}
