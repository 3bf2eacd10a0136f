//! What TCP is told: the order of addresses, and the machine's deadlines as socket options.

use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::{Config, ConnId};
use socket2::{SockRef, TcpKeepalive};

/// Bytes that the kernel takes before it has sent what it has (`TCP_NOTSENT_LOWAT`). What it holds goes out before any
/// pong, and cannot be handed back; what it has sent and not had acknowledged is not limited by it, so that a fast
/// connection stays fast.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 64 * 1024;

/// As many addresses of one host are tried.
const MAX_ADDRESSES: usize = 32;

/// A byte stream that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dial {
    /// What the stream is for.
    pub conn: ConnId,
    /// Host name or address: the server's, or its proxy's.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Addresses to use instead of the host's; usually none.
    pub addresses: Vec<SocketAddr>,
    /// How the socket is to be set up.
    pub tcp: Tcp,
}

/// Socket options that follow from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tcp {
    /// `TCP_USER_TIMEOUT`: bytes that the peer's TCP has not taken for so long end the connection.
    ///
    /// `write_timeout`, for bytes that have left our hands. Never shorter than it takes the machine to
    /// notice, so that its verdict comes first and says more.
    pub user_timeout: Option<Duration>,
    /// `TCP_KEEPIDLE`: silence after which the kernel probes by itself. It matters only for a client
    /// that nobody drives, for the machine has given its verdict by then.
    pub keepalive: Duration,
}

impl Tcp {
    pub(crate) fn new(config: &Config) -> Self {
        let least = config.worst_case_detection() + config.late_grace();
        Self {
            user_timeout: config.write_timeout().map(|timeout| timeout.max(least)),
            keepalive: config.idle_timeout(),
        }
    }

    /// Sets the options as far as the operating system has them, and `TCP_NODELAY`. On Linux and Android also
    /// `TCP_NOTSENT_LOWAT`, to 64 KiB: a pong waits behind what the kernel has not sent.
    ///
    /// # Errors
    /// What the operating system says when it does not take `TCP_NODELAY`. Without the others a
    /// connection works just as well.
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
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket.set_tcp_user_timeout(self.user_timeout);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
        socket.set_tcp_nodelay(true)
    }
}

/// The order in which a host's addresses are tried (RFC 8305 §4): as the resolver has sorted them,
/// but families in turn, for often one family as a whole does not work. At most 32.
#[must_use]
pub fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.into_iter().peekable();
    let first_is_v4 = addresses.peek().is_some_and(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.is_ipv4() == first_is_v4);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [same.next(), other.next()];
        if pair == [None, None] || order.len() >= MAX_ADDRESSES {
            order.truncate(MAX_ADDRESSES);
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn families_take_turns_and_their_own_order_stays() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let resolved = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(address);
        let order = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(address);
        assert_eq!(interleave(resolved), order);
        assert_eq!(interleave([]), []);
        assert_eq!(interleave([order[1]; 99]).len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_socket_is_set_up_and_the_machines_verdict_comes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let config = Config::default();
        let tcp = Tcp::new(&config);
        tcp.apply(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), MAX_UNSENT);
        #[cfg(target_os = "linux")]
        {
            let timeout = socket.tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(Duration::from_secs(91)));
            assert!(timeout > Some(config.worst_case_detection()));
            assert_eq!(
                socket.tcp_keepalive_time().unwrap(),
                Duration::from_secs(90)
            );
        }
        let off = Config::builder().write_timeout(None).build().unwrap();
        assert_eq!(Tcp::new(&off).user_timeout, None);
    }
}
