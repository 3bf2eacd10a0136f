//! Many connections of one kind in one process.
//!
//! It prints `ready` before the first, `open` when all are open, and then waits for a command on its input:
//! `stats` (connections lost, pongs heard, messages taken, all so far). Each connection is in a task of its
//! own, or a thread.

use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use heartbeat_tokio::{Config, Event, Options, Ping};
use tokio::net::TcpStream;

use crate::Result;
use crate::clients::{parts, tungstenite_config, upgraded};

/// All clients that can hold connections, those that ours are compared with first.
pub(crate) const ALL: &[&str] = &[
    "raw-tokio-tungstenite-4k",
    "raw-tokio-tungstenite",
    "heartbeat-tokio-in-place",
    "heartbeat-tokio-task",
    "heartbeat-blocking-thread",
    "heartbeat-messages",
    "tokio-websockets",
    "fastwebsockets",
    "ezsockets",
];

/// Connections to one address: 28 000 ports are available for each.
const PER_ADDRESS: usize = 4000;

/// The counts of this process's connections.
#[derive(Default)]
struct Tally {
    open: AtomicU64,
    lost: AtomicU64,
    pongs: AtomicU64,
    messages: AtomicU64,
}

impl Tally {
    /// Counts an event of one of our clients.
    fn event(&self, event: &Event) {
        let counter = match event {
            Event::Connected { .. } => &self.open,
            Event::Disconnected { .. } => &self.lost,
            Event::PongReceived { .. } => &self.pongs,
            Event::Message { .. } => &self.messages,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The connections to open.
struct Plan {
    name: String,
    scheme: String,
    port: u16,
    path: String,
    config: Arc<Config>,
    /// Our part of 127.0.0.0/8.
    block: usize,
}

impl Plan {
    fn url(&self, number: usize) -> String {
        let [_, b, c, d] = ((self.block * 256 + number / PER_ADDRESS + 1) as u32).to_be_bytes();
        let address = Ipv4Addr::new(127, b, c, d);
        format!("{}://{address}:{}{}", self.scheme, self.port, self.path)
    }

    fn options(&self, number: usize) -> Result<Options> {
        Ok(Options::new(&self.url(number))?.config(Arc::clone(&self.config)))
    }
}

/// `name`, scheme, port, path, how many, how many a second, first of the addresses, and the times (`-`: default).
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let [name, scheme, port, path, count, rate, block, times] = arguments else {
        return Err("many NAME SCHEME PORT PATH COUNT RATE BLOCK TIMES".into());
    };
    let plan = Arc::new(Plan {
        name: (*name).to_owned(),
        scheme: (*scheme).to_owned(),
        port: port.parse()?,
        path: (*path).to_owned(),
        config: Arc::new(config(times)?),
        block: block.parse()?,
    });
    let (count, rate): (usize, f64) = (count.parse()?, rate.parse()?);
    let tally = Arc::new(Tally::default());
    // Even the very first connection finds the allocator and the runtime in use.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tokio::task::yield_now());
    say("ready");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let theirs = Arc::clone(&tally);
    // This thread sleeps on its input, so its waits are not in a thread that is measured.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            let figures = [&theirs.open, &theirs.lost, &theirs.pongs, &theirs.messages];
            let figures = figures.map(|counter| counter.load(Ordering::Relaxed).to_string());
            say(&format!("{line} {}", figures.join(" ")));
        }
        // The process that started us is gone.
        std::process::exit(0);
    });
    if plan.name == "heartbeat-blocking-thread" {
        return threads(&plan, count, rate, &tally);
    }
    runtime.block_on(async {
        for number in 0..count {
            spawn(Arc::clone(&plan), number, Arc::clone(&tally))?;
            if (number + 1) % BATCH == 0 {
                tokio::time::sleep(Duration::from_secs_f64(BATCH as f64 / rate)).await;
            }
        }
        while (tally.open.load(Ordering::Relaxed) as usize) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        say("open");
        std::future::pending().await
    })
}

/// Started together, then a pause.
const BATCH: usize = 25;

fn say(line: &str) {
    println!("{line}");
    // The reader is gone. The next read of the input will show that.
    let _ = io::stdout().flush();
}

/// `PING/PONG/IDLE` in milliseconds, or `-`.
fn config(times: &str) -> Result<Config> {
    if times == "-" {
        return Ok(Config::default());
    }
    let times: Vec<u64> = times
        .split('/')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [ping, pong, idle] = times[..] else {
        return Err("times are PING/PONG/IDLE".into());
    };
    let config = Config::builder()
        .ping(Ping::AfterSilence(Duration::from_millis(ping)))
        .pong_timeout(Duration::from_millis(pong))
        .idle_timeout(Duration::from_millis(idle));
    Ok(config.build()?)
}

/// A connection in a task of its own, no larger than this kind of client makes it.
fn spawn(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    match plan.name.as_str() {
        "heartbeat-tokio-in-place" => go(in_place(plan, number, tally)),
        "heartbeat-tokio-task" => go(task(plan, number, tally)),
        "heartbeat-messages" => go(messages(plan, number, tally)),
        "raw-tokio-tungstenite" | "raw-tokio-tungstenite-4k" => go(raw(plan, number, tally)),
        "tokio-websockets" => go(tokio_websockets(plan, number, tally)),
        "fastwebsockets" => go(fastwebsockets(plan, number, tally)),
        "ezsockets" => go(ezsockets(plan, number, tally)),
        name => return Err(format!("{name:?} is none of {ALL:?}").into()),
    }
    Ok(())
}

/// A connection that ends is either never counted as open, or counted as lost.
fn go(client: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async {
        if let Err(error) = client.await {
            eprintln!("a connection has ended: {error}");
        }
    });
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn in_place(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    let mut client = heartbeat_tokio::InPlace::new(plan.options(number)?)?;
    while let Some(event) = client.next().await {
        tally.event(&event);
    }
    Ok(())
}

async fn task(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    let mut client = heartbeat_tokio::Client::spawn(plan.options(number)?)?;
    while let Some(event) = client.next().await {
        tally.event(&event);
    }
    Ok(())
}

async fn messages(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    use heartbeat_tokio::messages::tokio_websockets::TokioWebsockets;
    use heartbeat_tokio::messages::{Counted, Event, Messages};
    let socket = {
        let url = plan.url(number);
        let stream = TcpStream::connect(parts(&url)?.0).await?;
        let builder = tokio_websockets::ClientBuilder::new().uri(&url)?;
        Box::pin(builder.connect_on(Counted::new(stream))).await?.0
    };
    let dialect = Arc::new(heartbeat_tokio::core::JsonType);
    let client = Messages::<_, TokioWebsockets>::accepted(socket, (*plan.config).clone(), dialect);
    let mut client = client.traffic(|socket| socket.get_ref().traffic());
    count(&tally.open);
    while let Some(event) = client.next().await {
        if let Event::Message { .. } = event {
            count(&tally.messages);
        }
    }
    Err("ended".into())
}

/// Takes messages until there is an error. The dial leaves nothing behind in the task.
macro_rules! take {
    ($tally:expr, $client:expr) => {{
        let mut client = $client;
        count(&$tally.open);
        while let Some(message) = client.next().await {
            message?;
            count(&$tally.messages);
        }
        count(&$tally.lost);
        Err("ended".into())
    }};
}

async fn raw(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    let config = Some(tungstenite_config(&plan.name));
    let dial = tokio_tungstenite::connect_async_with_config(plan.url(number), config, true);
    take!(tally, Box::pin(dial).await?.0)
}

async fn tokio_websockets(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    let builder = tokio_websockets::ClientBuilder::new().uri(&plan.url(number))?;
    take!(tally, Box::pin(builder.connect()).await?.0)
}

async fn fastwebsockets(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    let url = plan.url(number);
    let socket = Box::pin(upgraded(&url)).await?;
    let ws = fastwebsockets::WebSocket::after_handshake(socket, fastwebsockets::Role::Client);
    let mut ws = fastwebsockets::FragmentCollector::new(ws);
    count(&tally.open);
    loop {
        if let Err(error) = ws.read_frame().await {
            count(&tally.lost);
            return Err(error.into());
        }
        count(&tally.messages);
    }
}

async fn ezsockets(plan: Arc<Plan>, number: usize, tally: Arc<Tally>) -> Result<()> {
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let config = ezsockets::ClientConfig::new(plan.url(number).as_str());
    let make = |_| crate::clients::Ez::new(sender, u64::MAX);
    let (_handle, ending) = Box::pin(ezsockets::connect(make, config)).await;
    told.recv().await.ok_or("ended")?;
    count(&tally.open);
    let ended = ending.await.map_err(|error| error.to_string());
    count(&tally.lost);
    Ok(ended?)
}

/// A thread for each connection, and this thread to take the clients' events. It does so rarely, because
/// the other threads are what is measured.
fn threads(plan: &Plan, count: usize, rate: f64, tally: &Tally) -> Result<()> {
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        clients.push(heartbeat_blocking::Client::spawn(plan.options(number)?)?);
        std::thread::sleep(Duration::from_secs_f64(1.0 / rate));
    }
    let mut said = false;
    loop {
        for client in &mut clients {
            while let Ok(event) = client.recv_timeout(Duration::ZERO) {
                tally.event(&event);
            }
        }
        if !said && tally.open.load(Ordering::Relaxed) as usize >= count {
            said = true;
            say("open");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
