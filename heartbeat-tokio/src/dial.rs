//! How a byte stream to the server is made.

use std::future::Future;
use std::io;
use std::pin::Pin;

use heartbeat_driver::Dial;
use tokio::net::{TcpStream, lookup_host};

use crate::transport::{Tcp, Transport};

/// A dial under way.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Makes byte streams: TCP by default; a tunnel, a Unix socket or an in-memory pair by your own.
///
/// It is called for each attempt. What it returns is dropped when the machine gives the dial up
/// (`connect_timeout`), so that it needs no timeout of its own. TLS and the WebSocket upgrade are
/// done on top.
pub trait Dialer: Send {
    /// Begins to dial.
    fn dial(&mut self, dial: &Dial) -> Dialing;
}

impl<F: FnMut(&Dial) -> Dialing + Send> Dialer for F {
    fn dial(&mut self, dial: &Dial) -> Dialing {
        self(dial)
    }
}

/// TCP with `TCP_NODELAY`, trying each of the host's addresses in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial(&mut self, dial: &Dial) -> Dialing {
        let (host, port) = (dial.host.clone(), dial.port);
        Box::pin(async move {
            let mut failure =
                io::Error::new(io::ErrorKind::NotFound, format!("no address for {host}"));
            for address in lookup_host((host.as_str(), port)).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(Tcp::from(stream)) as Box<dyn Transport>);
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        })
    }
}
