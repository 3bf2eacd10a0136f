//! TCP: the order of addresses, and the machine's deadlines as socket options.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heartbeat_core::{Config, ConnId};
use socket2::{SockRef, TcpKeepalive};

use super::addresses::Addresses;
use super::resolver::{Finding, Resolver};

/// Bytes that the kernel accepts without having sent them (`TCP_NOTSENT_LOWAT`). Bytes in the kernel go out
/// before any pong, and cannot be handed back. Bytes that were sent but not acknowledged do not count, so a
/// fast connection stays fast.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 64 * 1024;

/// A request for a byte stream, which the adapter must open.
#[derive(Clone)]
#[non_exhaustive]
pub struct Dial {
    /// The connection that needs the stream.
    pub conn: ConnId,
    /// Host name or address of the server, or of its proxy.
    pub host: String,
    /// The port of the server, or of its proxy.
    pub port: u16,
    /// Addresses to use instead of resolving the host. Usually empty.
    pub addresses: Vec<SocketAddr>,
    /// The options for the socket.
    pub tcp: TcpOptions,
    pub(crate) resolver: Resolver,
    pub(crate) known: Addresses,
}

impl Dial {
    /// Returns the addresses to connect to, in the order in which to try them: alternating families, and those
    /// that failed in earlier dials of this client last. At most 32.
    ///
    /// A host name is resolved by [`Options::resolver`](crate::Options::resolver). An address needs no lookup.
    /// The future needs no runtime, and is woken from another thread. Dropping the future abandons the lookup.
    ///
    /// ```no_run
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Dial; // or heartbeat_blocking
    /// # async fn connect(_: std::net::SocketAddr) -> std::io::Result<()> { Ok(()) }
    /// async fn dial(dial: Dial) -> std::io::Result<()> {
    ///     let addresses = dial.resolve().await?;
    ///     let stream = connect(addresses[0]).await?;
    ///     dial.connected(addresses[0]);
    ///     Ok(stream)
    /// }
    /// ```
    pub fn resolve(&self) -> Resolving {
        let port = self.port;
        let found = match literal(&self.host, port) {
            _ if !self.addresses.is_empty() => Lookup::Known(self.addresses.clone()),
            Some(address) => Lookup::Known(vec![address]),
            None => Lookup::Finding(self.resolver.lookup(&self.host)),
        };
        Resolving {
            conn: self.conn,
            port,
            known: self.known.clone(),
            lookup: found,
        }
    }

    /// Reports that TCP has connected to this address. If the dial fails later, or the connection ends before
    /// it is stable, the next dial tries the host's other addresses first.
    pub fn connected(&self, address: SocketAddr) {
        self.known.connected(self.conn, address);
    }
}

/// Parses a host that is an address, possibly with a numeric scope (`fe80::1%2`).
fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let address = host.parse::<IpAddr>();
    let scoped = || format!("[{host}]:{port}").parse::<SocketAddrV6>();
    match address {
        Ok(address) => Some(SocketAddr::new(address, port)),
        Err(_) => scoped().ok().map(SocketAddr::V6),
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("conn", &self.conn)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("addresses", &self.addresses)
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

/// The future of [`Dial::resolve`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Resolving {
    conn: ConnId,
    port: u16,
    known: Addresses,
    lookup: Lookup,
}

#[derive(Debug)]
enum Lookup {
    Known(Vec<SocketAddr>),
    Finding(Finding),
}

impl Future for Resolving {
    /// At least one address, or the resolver's error.
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let found = match &mut this.lookup {
            Lookup::Known(addresses) => std::mem::take(addresses),
            Lookup::Finding(finding) => {
                let found = ready!(Pin::new(finding).poll(cx))?;
                let at_port = |mut address: SocketAddr| {
                    address.set_port(this.port);
                    address
                };
                found.iter().copied().map(at_port).collect()
            }
        };
        let order = this.known.order(this.conn, found);
        Poll::Ready(if order.is_empty() {
            let none = "no address for this name";
            Err(io::Error::new(io::ErrorKind::NotFound, none))
        } else {
            Ok(order)
        })
    }
}

/// Socket options that follow from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOptions {
    /// `TCP_KEEPIDLE`: the silence after which the kernel probes. It matters only for a client that is not
    /// being driven, because otherwise the machine reaches its verdict first.
    pub keepalive: Duration,
}

impl TcpOptions {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            keepalive: config.idle_timeout(),
        }
    }

    /// Sets the options that the operating system supports, and `TCP_NODELAY`. On Linux and Android also sets
    /// `TCP_NOTSENT_LOWAT` to 64 KiB, because a pong waits behind data that the kernel has not sent.
    ///
    /// # Errors
    /// The operating system's error if it rejects `TCP_NODELAY`. Errors of the other options are ignored,
    /// because a connection works without them.
    pub fn apply<'s>(&self, socket: impl Into<SockRef<'s>>) -> std::io::Result<()> {
        let socket = socket.into();
        // The operating system counts whole seconds here.
        let seconds = |span: Duration| span.max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(seconds(self.keepalive));
        #[cfg(any(
            target_os = "linux",
            target_os = "android",
            target_os = "macos",
            windows
        ))]
        let keepalive = keepalive.with_interval(seconds(self.keepalive / 3));
        let _ = socket.set_tcp_keepalive(&keepalive);
        keep_unsent_short(&*socket);
        socket.set_tcp_nodelay(true)
    }
}

/// Sets `TCP_NOTSENT_LOWAT` to 64 KiB on Linux and Android, because a pong waits behind data that the kernel
/// has not sent. The kernel then reports room as soon as 32 KiB of the 64 are free. Has no effect on other
/// systems.
pub fn keep_unsent_short<'s>(socket: impl Into<SockRef<'s>>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.into().set_tcp_notsent_lowat(MAX_UNSENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
}

/// Returns true if the operating system reports this socket as writable: a good part of its buffer is free, or
/// a write would fail at once. The kernel accepts bytes even earlier, and for a dead peer too, so check a
/// socket that was full before writing.
///
/// Always true on systems other than Unix, where only a write can tell.
#[must_use]
pub fn is_writable<'s>(socket: impl Into<SockRef<'s>>) -> bool {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let socket = socket.into();
        let mut asked = [PollFd::new(&*socket, PollFlags::OUT)];
        // If the system gives no answer, a write will.
        !matches!(poll(&mut asked, Some(&Timespec::default())), Ok(0))
    }
    #[cfg(not(unix))]
    {
        let _ = socket;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_address_is_known_without_a_resolver_its_scope_too() {
        let address = |host| literal(host, 80).map(|address| address.to_string());
        assert_eq!(address("10.0.0.7").as_deref(), Some("10.0.0.7:80"));
        assert_eq!(address("::1").as_deref(), Some("[::1]:80"));
        assert_eq!(address("fe80::1%2").as_deref(), Some("[fe80::1%2]:80"));
        for name in ["localhost", "fe80::1%lo", "1.2.3", "a.test", ""] {
            assert_eq!(address(name), None, "{name}");
        }
    }

    #[test]
    fn a_socket_is_set_up_and_no_timeout_of_the_kernels_comes_before_the_machines() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let config = Config::default();
        let tcp = TcpOptions::new(&config);
        tcp.apply(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), MAX_UNSENT);
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
            assert_eq!(
                socket.tcp_keepalive_time().unwrap(),
                Duration::from_secs(90)
            );
        }
    }
}
