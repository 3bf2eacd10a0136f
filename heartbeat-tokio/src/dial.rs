//! How a byte stream to the server is made.

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

/// TCP, trying a host's addresses as RFC 8305 ("Happy Eyeballs") has it: families in turn, the next
/// one beside the last after 250 ms, the first to answer wins and the others are closed. Addresses that failed
/// after they had answered are tried last.
///
/// Names are resolved by [`Options::resolver`](crate::Options::resolver), and not in tokio's pool of blocking threads,
/// for which the end of a runtime waits. Sets `TCP_NODELAY`, and the options of [`Dial::tcp`].
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

/// The first of these addresses to answer, or the last failure.
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
            // Time for the next one.
            None => {}
        }
    }
}

/// How the first of them to end has ended; it is taken out.
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
