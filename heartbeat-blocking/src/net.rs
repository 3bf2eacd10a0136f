//! The real world: mio's poll, TCP, and the system's resolver.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::vec;

use heartbeat_driver::Dial;
use heartbeat_driver::core::{Clock, ConnId, Instant};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock::StdClock;
use crate::reactor::Reactor;

const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);

/// TCP with `TCP_NODELAY`, trying each of the host's addresses in turn.
///
/// Names are resolved in a thread of their own, for the system's resolver cannot be interrupted: a
/// dial that is given up meanwhile leaves that thread to end by itself when the resolver does.
pub struct Net {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    clock: StdClock,
    dialing: Option<(ConnId, Stage)>,
}

enum Stage {
    Resolving(Receiver<io::Result<Vec<SocketAddr>>>),
    Connecting {
        stream: TcpStream,
        rest: vec::IntoIter<SocketAddr>,
    },
    Failed(io::Error),
}

impl Net {
    /// A reactor of its own for one client.
    ///
    /// # Errors
    /// What the operating system says when it has no room for a poll.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(8),
            waker,
            clock: StdClock::start(),
            dialing: None,
        })
    }

    fn resolve(&self, host: &str, port: u16) -> Stage {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.connect(
                vec![SocketAddr::new(address, port)].into_iter(),
                no_address(host),
            );
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let (host, waker) = (host.to_owned(), Arc::clone(&self.waker));
        let resolver = thread::Builder::new()
            .name("heartbeat-resolver".into())
            .spawn(move || {
                let addresses = (host.as_str(), port)
                    .to_socket_addrs()
                    .map(|addresses| addresses.collect());
                // Nobody listens any more if the dial was given up.
                let _ = sender.send(addresses);
                let _ = waker.wake();
            });
        match resolver {
            Ok(_) => Stage::Resolving(receiver),
            Err(error) => Stage::Failed(error),
        }
    }

    /// Begins to connect to the first address that can be begun with.
    fn connect(&self, mut addresses: vec::IntoIter<SocketAddr>, mut failure: io::Error) -> Stage {
        for address in addresses.by_ref() {
            let begun = TcpStream::connect(address).and_then(|mut stream| {
                self.poll.registry().register(
                    &mut stream,
                    SOCKET,
                    Interest::READABLE | Interest::WRITABLE,
                )?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    return Stage::Connecting {
                        stream,
                        rest: addresses,
                    };
                }
                Err(error) => failure = error,
            }
        }
        Stage::Failed(failure)
    }
}

fn no_address(host: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no address for {host}"))
}

impl Clock for Net {
    fn now(&self) -> Instant {
        self.clock.now()
    }
}

impl Reactor for Net {
    type Socket = TcpStream;

    fn dial(&mut self, dial: &Dial) {
        self.dialing = Some((dial.conn, self.resolve(&dial.host, dial.port)));
    }

    fn cancel_dial(&mut self) {
        self.dialing = None;
    }

    fn dialed(&mut self) -> Option<(ConnId, io::Result<TcpStream>)> {
        let (conn, mut stage) = self.dialing.take()?;
        loop {
            stage = match stage {
                Stage::Failed(error) => return Some((conn, Err(error))),
                Stage::Resolving(receiver) => match receiver.try_recv() {
                    Ok(Ok(addresses)) => {
                        self.connect(addresses.into_iter(), no_address("this name"))
                    }
                    Ok(Err(error)) => Stage::Failed(error),
                    Err(TryRecvError::Disconnected) => {
                        Stage::Failed(io::Error::other("the resolver has died"))
                    }
                    Err(TryRecvError::Empty) => {
                        self.dialing = Some((conn, Stage::Resolving(receiver)));
                        return None;
                    }
                },
                Stage::Connecting { stream, rest } => match connected(&stream) {
                    Ok(true) => return Some((conn, stream.set_nodelay(true).map(|()| stream))),
                    Ok(false) => {
                        self.dialing = Some((conn, Stage::Connecting { stream, rest }));
                        return None;
                    }
                    Err(error) => self.connect(rest, error),
                },
            };
        }
    }

    fn wait(&mut self, _: Option<&mut TcpStream>, until: Option<Instant>) -> io::Result<()> {
        // The socket was registered when its connect began, for both directions and for changes
        // only; a turn always reads and writes until nothing goes any more, so no change is missed.
        let timeout = until.map(|until| until.saturating_duration_since(self.clock.now()));
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || {
            // Fails only when the eventfd is gone, and with it whoever waits.
            let _ = waker.wake();
        })
    }
}

/// Whether a connect that was begun has succeeded; `Ok(false)`: not yet.
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
