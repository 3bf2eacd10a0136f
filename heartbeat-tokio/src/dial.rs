//! Dialers: they open the byte stream to the server.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use heartbeat_driver::Dial;
use heartbeat_driver::core::{Clock, HappyEyeballs, NextAttempt};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::clock::TokioClock;
use crate::transport::{Tcp, Transport};

/// The future of a dial.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Opens byte streams. The default is [`TcpDialer`]; implement your own for a tunnel, a Unix socket or an in-memory pair.
///
/// The client calls it for each attempt. The returned future is dropped when the machine gives the dial up
/// (`connect_timeout`), so a dialer needs no timeout of its own. The client adds TLS and the WebSocket upgrade.
pub trait Dialer: Send {
    /// Begins to dial.
    fn dial(&mut self, dial: &Dial) -> Dialing;
}

impl<F: FnMut(&Dial) -> Dialing + Send> Dialer for F {
    fn dial(&mut self, dial: &Dial) -> Dialing {
        self(dial)
    }
}

/// Opens TCP connections by "Happy Eyeballs" (RFC 8305). It tries a host's addresses with alternating families, and
/// starts the next attempt after 250 ms beside those still running. The first address to answer wins, and the other
/// attempts are closed. Addresses that answered in an earlier dial and failed afterwards are tried last.
///
/// Names are resolved by [`Options::resolver`](crate::Options::resolver). tokio's pool of blocking threads is not used,
/// because a runtime waits for that pool when it shuts down. Sets `TCP_NODELAY` and the options of [`Dial::tcp`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial(&mut self, dial: &Dial) -> Dialing {
        let dial = dial.clone();
        Box::pin(async move {
            let (address, stream) = race(dial.resolve().await?).await?;
            dial.connected(address);
            dial.tcp.apply(&stream)?;
            Ok(Box::new(Tcp::from(stream)) as Box<dyn Transport>)
        })
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<(SocketAddr, TcpStream)>> + Send>>;

/// Connects to the first address that answers. Fails with the last error if none does.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<(SocketAddr, TcpStream)> {
    let clock = TokioClock::start();
    let mut race = HappyEyeballs::new(addresses.len());
    let mut running: Vec<Connecting> = Vec::new();
    let mut failure = io::ErrorKind::NotFound.into();
    loop {
        let until = match race.next(clock.now()) {
            NextAttempt::Begin(number) => {
                let address = addresses[number];
                running.push(Box::pin(async move {
                    Ok((address, TcpStream::connect(address).await?))
                }));
                continue;
            }
            NextAttempt::Until(at) => Some(clock.to_tokio(at)),
            NextAttempt::Wait => None,
            NextAttempt::Lost => return Err(failure),
        };
        let ended = first_to_end(&mut running);
        let ended = match until {
            Some(until) => timeout_at(until, ended).await.ok(),
            None => Some(ended.await),
        };
        match ended {
            Some(Ok(first)) => return Ok(first),
            Some(Err(error)) => {
                failure = error;
                race.failed();
            }
            // Time to try the next address too.
            None => {}
        }
    }
}

/// Waits until one of the attempts ends, removes that attempt, and returns its result.
async fn first_to_end(running: &mut Vec<Connecting>) -> io::Result<(SocketAddr, TcpStream)> {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(result) = running[at].as_mut().poll(cx) {
                drop(running.swap_remove(at));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}
