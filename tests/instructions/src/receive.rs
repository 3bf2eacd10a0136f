//! The receive path: the cost of a message of 150 bytes, from the byte stream to the application.

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use heartbeat_blocking::Reactor;
use heartbeat_core::{Clock, ConnId, Instant};
use heartbeat_tokio::{Dial, Dialing, Event, Options, Transport};
use tungstenite::WebSocket;
use tungstenite::protocol::{Role, WebSocketConfig};

use crate::stream::Flood;
use crate::{Case, Result};

pub(crate) fn cases() -> Result<Vec<(String, Case)>> {
    Ok(vec![
        ("receive: tungstenite alone".into(), raw()),
        ("receive: blocking, in place".into(), blocking_in_place()?),
        ("receive: blocking, lent".into(), blocking_lent()?),
        ("receive: tokio, in place".into(), tokio_in_place()?),
        ("receive: tokio, lent".into(), tokio_lent()?),
        ("receive: tokio, task".into(), tokio_task()?),
    ])
}

fn options() -> Result<Options> {
    Ok(Options::new("ws://127.0.0.1/")?)
}

/// What every case does with `count` messages: look at each.
fn take(mut count: u64, mut next: impl FnMut() -> Option<Event>) {
    while count > 0 {
        match next() {
            Some(Event::Message { message, .. }) => {
                black_box(message.len());
                count -= 1;
            }
            Some(other) => drop(black_box(other)),
            None => return,
        }
    }
}

fn raw() -> Case {
    let config = WebSocketConfig::default().read_buffer_size(128 * 1024);
    let mut ws = WebSocket::from_raw_socket(Flood::upgraded(), Role::Client, Some(config));
    Box::new(move |count| {
        for _ in 0..count {
            match ws.read() {
                Ok(message) => black_box(message.len()),
                Err(_) => return,
            };
        }
    })
}

/// A world in which no time passes and nothing waits.
struct Still {
    dialing: Option<ConnId>,
    flood: fn() -> Flood,
}

impl Still {
    fn new() -> Self {
        Self {
            dialing: None,
            flood: Flood::new,
        }
    }

    fn asking() -> Self {
        Self {
            flood: Flood::asking,
            ..Self::new()
        }
    }
}

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ORIGIN
    }
}

impl Reactor for Still {
    type Socket = Flood;

    fn dial(&mut self, dial: &heartbeat_blocking::Dial) {
        self.dialing = Some(dial.conn);
    }

    fn cancel_dial(&mut self) {
        self.dialing = None;
    }

    fn dialed(&mut self) -> Option<(ConnId, io::Result<Flood>)> {
        self.dialing.take().map(|conn| (conn, Ok((self.flood)())))
    }

    fn wait(&mut self, _: Option<&mut Flood>, _: Option<Instant>) -> io::Result<()> {
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::new(|| {})
    }
}

fn blocking_in_place() -> Result<Case> {
    let mut client = heartbeat_blocking::InPlace::with_reactor(options()?, Still::new())?;
    Ok(Box::new(move |count| take(count, || client.recv())))
}

/// An event ends the lending: here a ping after every hundred messages.
fn blocking_lent() -> Result<Case> {
    let mut client = heartbeat_blocking::InPlace::with_reactor(options()?, Still::asking())?;
    Ok(Box::new(move |count| {
        let mut seen = 0;
        while seen < count {
            let event = client.recv_lent(|_, message| {
                black_box(message.len());
                seen += 1;
            });
            black_box(event);
        }
    }))
}

fn tokio_lent() -> Result<Case> {
    let runtime = runtime()?;
    let dial = |_: &Dial| -> Dialing {
        Box::pin(async { Ok(Box::new(Flood::asking()) as Box<dyn Transport>) })
    };
    let mut client = {
        let _entered = runtime.enter();
        heartbeat_tokio::InPlace::with_dialer(options()?, dial)?
    };
    Ok(Box::new(move |count| {
        runtime.block_on(async {
            let mut seen = 0;
            while seen < count {
                let look = |_, message: heartbeat_tokio::MessageRef<'_>| {
                    black_box(message.len());
                    seen += 1;
                };
                black_box(client.next_lent(look).await);
            }
        });
    }))
}

fn dial(_: &Dial) -> Dialing {
    Box::pin(async { Ok(Box::new(Flood::new()) as Box<dyn Transport>) })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?)
}

/// The same as [`take`], awaited.
macro_rules! take_async {
    ($count:expr, $client:expr) => {
        let mut count = $count;
        while count > 0 {
            match $client.next().await {
                Some(Event::Message { message, .. }) => {
                    black_box(message.len());
                    count -= 1;
                }
                Some(other) => drop(black_box(other)),
                None => return,
            }
        }
    };
}

fn tokio_in_place() -> Result<Case> {
    let runtime = runtime()?;
    let mut client = {
        let _entered = runtime.enter();
        heartbeat_tokio::InPlace::with_dialer(options()?, dial)?
    };
    Ok(Box::new(move |count| {
        runtime.block_on(async {
            take_async!(count, client);
        });
    }))
}

fn tokio_task() -> Result<Case> {
    let runtime = runtime()?;
    let mut client = {
        let _entered = runtime.enter();
        let options = options()?;
        let capacity = options.queue_len();
        let driver = heartbeat_tokio::InPlace::with_dialer(options, dial)?;
        heartbeat_tokio::Client::drive(driver, capacity)
    };
    Ok(Box::new(move |count| {
        runtime.block_on(async {
            take_async!(count, client);
        });
    }))
}
