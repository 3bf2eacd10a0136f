//! The clients, each through its public interface: connect, take `count` messages, look at each.

use std::cell::Cell;
use std::future::poll_fn;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use tungstenite::protocol::WebSocketConfig;

use crate::{Meter, Result, latency};

/// Every client's name, those that others are compared with first.
pub(crate) const ALL: &[&str] = &[
    "raw-tokio-tungstenite",
    "raw-tokio-tungstenite-4k",
    "raw-tokio-tungstenite-task",
    "raw-tungstenite",
    "raw-tungstenite-4k",
    "heartbeat-tokio-in-place",
    "heartbeat-tokio-lent",
    "heartbeat-tokio-task",
    "heartbeat-blocking-in-place",
    "heartbeat-blocking-lent",
    "heartbeat-blocking-thread",
    "heartbeat-messages",
    "tokio-websockets",
    "fastwebsockets",
    "yawc",
    "sockudo-ws",
    "ezsockets",
    "floor",
];

/// Receives `count` messages with the client of this name.
pub(crate) fn receive(name: &str, url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    match name {
        "raw-tungstenite" | "raw-tungstenite-4k" => raw_tungstenite(name, url, count, meter),
        "bare-echo-blocking" => bare_echo_blocking(url),
        "heartbeat-blocking-in-place" => blocking_in_place(url, count, meter),
        "heartbeat-blocking-lent" => blocking_lent(url, count, meter),
        "heartbeat-blocking-thread" => blocking_thread(url, count, meter),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                match name {
                    "raw-tokio-tungstenite" | "raw-tokio-tungstenite-4k" => {
                        raw_tokio(name, url, count, meter).await
                    }
                    "raw-tokio-tungstenite-task" => raw_task(name, url, count, meter).await,
                    "heartbeat-tokio-in-place" => tokio_in_place(url, count, meter).await,
                    "heartbeat-tokio-lent" => tokio_lent(url, count, meter).await,
                    "heartbeat-tokio-task" => tokio_task(url, count, meter).await,
                    "heartbeat-messages" => messages(url, count, meter).await,
                    "tokio-websockets" => tokio_websockets(url, count, meter).await,
                    "fastwebsockets" => fastwebsockets(url, count, meter).await,
                    "yawc" => yawc(url, count, meter).await,
                    "sockudo-ws" => sockudo_ws(url, count, meter).await,
                    "ezsockets" => ezsockets(url, count, meter).await,
                    "floor" => floor(url, count, meter).await,
                    "bare-echo" => bare_echo(url).await,
                    _ => Err(format!("{name:?} is none of {ALL:?}").into()),
                }
            })
        }
    }
}

/// tungstenite with its defaults, or with a buffer of the same size as ours.
pub(crate) fn tungstenite_config(name: &str) -> WebSocketConfig {
    match name.ends_with("-4k") {
        true => WebSocketConfig::default().read_buffer_size(4096),
        false => WebSocketConfig::default(),
    }
}

/// Looks at a message, which every client here does with every message. If the server writes the time into
/// its messages (`latency`), also records how old the message is.
#[inline]
fn look(message: &[u8]) {
    black_box(message.len());
    if latency::ARE_NOTED.load(Ordering::Relaxed) {
        latency::note(message);
    }
}

/// The bytes of a tungstenite message.
fn bytes(message: &tungstenite::Message) -> &[u8] {
    match message {
        tungstenite::Message::Text(text) => text.as_bytes(),
        tungstenite::Message::Binary(bytes) => bytes,
        _ => &[],
    }
}

fn raw_tungstenite(name: &str, url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let config = Some(tungstenite_config(name));
    let (mut ws, _) = tungstenite::client::connect_with_config(url, config, 0)?;
    meter.start();
    for _ in 0..count {
        look(bytes(&ws.read()?));
    }
    meter.stop();
    Ok(())
}

async fn raw_tokio(name: &str, url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let config = Some(tungstenite_config(name));
    let (mut ws, _) = tokio_tungstenite::connect_async_with_config(url, config, true).await?;
    meter.start();
    for _ in 0..count {
        look(bytes(&ws.next().await.ok_or("ended")??));
    }
    meter.stop();
    Ok(())
}

/// tokio-tungstenite in a task, with a channel to the application: the code that a user would write to get
/// what `heartbeat_tokio::Client` does.
async fn raw_task(name: &str, url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let config = Some(tungstenite_config(name));
    let (mut ws, _) = tokio_tungstenite::connect_async_with_config(url, config, true).await?;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1024);
    meter.start();
    tokio::spawn(async move {
        while let Some(Ok(message)) = ws.next().await {
            if sender.send(message).await.is_err() {
                break;
            }
        }
    });
    for _ in 0..count {
        look(bytes(&receiver.recv().await.ok_or("ended")?));
    }
    meter.stop();
    Ok(())
}

/// Takes `count` messages of one of our clients and looks at each. Measured from the connection on. A
/// macro, because half of the clients are async.
macro_rules! take {
    ($count:expr, $meter:expr, $next:expr) => {
        let mut left = $count;
        while left > 0 {
            match $next.ok_or("ended")? {
                Event::Message { message, .. } => {
                    look(message.as_bytes());
                    left -= 1;
                }
                Event::Connected { .. } => $meter.start(),
                other => {
                    black_box(other);
                }
            }
        }
        $meter.stop();
    };
}

async fn tokio_lent(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    use heartbeat_tokio::{Event, InPlace, MessageRef, Options};
    let mut client = InPlace::new(Options::new(url)?)?;
    while !matches!(client.next().await.ok_or("ended")?, Event::Connected { .. }) {}
    meter.start();
    let left = Cell::new(count);
    let mut next = pin!(client.next_lent(|_, message: MessageRef<'_>| {
        look(message.as_bytes());
        left.set(left.get().saturating_sub(1));
    }));
    // `next_lent` returns only for an event, and none has to come after the last message.
    poll_fn(|cx| match next.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending if left.get() == 0 => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    })
    .await;
    meter.stop();
    match left.get() {
        0 => Ok(()),
        _ => Err("an event before the last message".into()),
    }
}

fn blocking_lent(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    use heartbeat_blocking::{Event, InPlace, Options};
    let mut client = InPlace::new(Options::new(url)?)?;
    while !matches!(client.recv().ok_or("ended")?, Event::Connected { .. }) {}
    let stopper = client.sender().clone();
    meter.start();
    let mut left = count;
    let _ = client.recv_lent(|_, message| {
        look(message.as_bytes());
        left = left.saturating_sub(1);
        if left == 0 {
            meter.stop();
            let _ = stopper.stop();
        }
    });
    match left {
        0 => Ok(()),
        _ => Err("an event before the last message".into()),
    }
}

async fn tokio_in_place(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    use heartbeat_tokio::{Event, InPlace, Options};
    let mut client = InPlace::new(Options::new(url)?)?;
    take!(count, meter, client.next().await);
    Ok(())
}

async fn tokio_task(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    use heartbeat_tokio::{Client, Event, Options};
    let mut client = Client::spawn(Options::new(url)?)?;
    take!(count, meter, client.next().await);
    Ok(())
}

fn blocking_in_place(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    use heartbeat_blocking::{Event, InPlace, Options};
    let mut client = InPlace::new(Options::new(url)?)?;
    take!(count, meter, client.next());
    Ok(())
}

fn blocking_thread(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    use heartbeat_blocking::{Client, Event, Options};
    let mut client = Client::spawn(Options::new(url)?)?;
    take!(count, meter, client.next());
    Ok(())
}

async fn tokio_websockets(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let (mut ws, _) = tokio_websockets::ClientBuilder::new()
        .uri(url)?
        .connect()
        .await?;
    meter.start();
    for _ in 0..count {
        look(ws.next().await.ok_or("ended")??.as_payload());
    }
    meter.stop();
    Ok(())
}

/// The machine over tokio-websockets.
async fn messages(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    use heartbeat_tokio::messages::tokio_websockets::TokioWebsockets;
    use heartbeat_tokio::messages::{Counted, Event, Messages};
    let stream = TcpStream::connect(parts(url)?.0).await?;
    stream.set_nodelay(true)?;
    let builder = tokio_websockets::ClientBuilder::new().uri(url)?;
    let (socket, _) = builder.connect_on(Counted::new(stream)).await?;
    let client = Messages::<_, TokioWebsockets>::accepted(
        socket,
        heartbeat_tokio::Config::default(),
        std::sync::Arc::new(heartbeat_tokio::core::JsonType),
    );
    let mut client = client.traffic(|socket| socket.get_ref().traffic());
    meter.start();
    let mut left = count;
    while left > 0 {
        if let Event::Message { message, .. } = client.next().await.ok_or("ended")? {
            look(message.as_payload());
            left -= 1;
        }
    }
    meter.stop();
    Ok(())
}

/// Address and path of a URL of the test server.
pub(crate) fn parts(url: &str) -> Result<(SocketAddr, &str)> {
    let rest = url.strip_prefix("ws://").ok_or("not ws")?;
    let slash = rest.find('/').ok_or("no path")?;
    Ok((rest[..slash].parse()?, &rest[slash..]))
}

fn request(url: &str) -> Result<(SocketAddr, String)> {
    let (address, path) = parts(url)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    Ok((address, request))
}

/// The request by hand, because fastwebsockets' own needs hyper. Returns the socket after the answer.
pub(crate) async fn upgraded(url: &str) -> Result<TcpStream> {
    let (address, request) = request(url)?;
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    Ok(socket)
}

/// Answers a ping in one read and one write: no client does less.
fn pong(ping: &[u8]) -> Option<Vec<u8>> {
    let payload = ping.strip_prefix(b"\x89\x08")?;
    let mut pong = b"\x8a\x88\x01\x02\x03\x04".to_vec();
    let mask = [1, 2, 3, 4].iter().cycle();
    pong.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    Some(pong)
}

async fn bare_echo(url: &str) -> Result<()> {
    let mut socket = upgraded(url).await?;
    let mut buffer = [0; 64];
    loop {
        let read = socket.read(&mut buffer).await?;
        let pong = pong(&buffer[..read]).ok_or("not a ping")?;
        socket.write_all(&pong).await?;
    }
}

fn bare_echo_blocking(url: &str) -> Result<()> {
    let (address, request) = request(url)?;
    let mut socket = std::net::TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let mut buffer = [0; 64];
    loop {
        let read = socket.read(&mut buffer)?;
        let pong = pong(&buffer[..read]).ok_or("not a ping")?;
        socket.write_all(&pong)?;
    }
}

async fn fastwebsockets(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let socket = upgraded(url).await?;
    let ws = fastwebsockets::WebSocket::after_handshake(socket, fastwebsockets::Role::Client);
    let mut ws = fastwebsockets::FragmentCollector::new(ws);
    meter.start();
    for _ in 0..count {
        look(&ws.read_frame().await?.payload);
    }
    meter.stop();
    Ok(())
}

async fn yawc(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let mut ws = yawc::WebSocket::connect(url.parse()?).await?;
    meter.start();
    for _ in 0..count {
        look(ws.next_frame().await?.payload());
    }
    meter.stop();
    Ok(())
}

async fn sockudo_ws(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let socket = upgraded(url).await?;
    let mut ws = sockudo_ws::WebSocketStream::client(socket, sockudo_ws::Config::default());
    meter.start();
    for _ in 0..count {
        match ws.next().await.ok_or("ended")?? {
            sockudo_ws::Message::Text(bytes) | sockudo_ws::Message::Binary(bytes) => look(&bytes),
            _ => return Err("not a message".into()),
        }
    }
    meter.stop();
    Ok(())
}

/// The least that a message can cost on tokio: reads into one buffer, finds the frames, checks UTF-8, hands
/// out slices. No client does so little. It shows how far a client is from the floor.
async fn floor(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let socket = upgraded(url).await?;
    meter.start();
    let (mut buffer, mut end) = (vec![0; 64 * 1024], 0);
    let mut left = count;
    while left > 0 {
        poll_fn(|cx| socket.poll_read_ready(cx)).await?;
        match socket.try_read(&mut buffer[end..]) {
            Ok(0) => return Err("ended".into()),
            Ok(read) => end += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        let mut at = 0;
        while left > 0 {
            let rest = &buffer[at..end];
            let (len, head) = match rest {
                [_, 126, high, low, ..] => (u16::from_be_bytes([*high, *low]) as usize, 4),
                [_, len @ 0..=125, ..] => (*len as usize, 2),
                _ => break,
            };
            let Some(payload) = rest.get(head..head + len) else {
                break;
            };
            look(std::str::from_utf8(payload)?.as_bytes());
            at += head + len;
            left -= 1;
        }
        buffer.copy_within(at..end, 0);
        end -= at;
    }
    meter.stop();
    Ok(())
}

/// Sends `true` when it is connected, and `false` after this many messages.
pub(crate) struct Ez {
    started: tokio::sync::mpsc::UnboundedSender<bool>,
    left: u64,
}

impl Ez {
    pub(crate) fn new(started: tokio::sync::mpsc::UnboundedSender<bool>, left: u64) -> Self {
        Self { started, left }
    }
}

#[async_trait::async_trait]
impl ezsockets::ClientExt for Ez {
    type Call = ();

    async fn on_text(
        &mut self,
        text: ezsockets::Utf8Bytes,
    ) -> std::result::Result<(), ezsockets::Error> {
        look(text.as_bytes());
        self.left -= 1;
        if self.left == 0 {
            self.started.send(false)?;
        }
        Ok(())
    }

    async fn on_binary(
        &mut self,
        _: ezsockets::Bytes,
    ) -> std::result::Result<(), ezsockets::Error> {
        Ok(())
    }

    async fn on_call(&mut self, (): ()) -> std::result::Result<(), ezsockets::Error> {
        Ok(())
    }

    async fn on_connect(&mut self) -> std::result::Result<(), ezsockets::Error> {
        self.started.send(true)?;
        Ok(())
    }
}

async fn ezsockets(url: &str, count: u64, meter: &mut Meter) -> Result<()> {
    let (started, mut told) = tokio::sync::mpsc::unbounded_channel();
    let config = ezsockets::ClientConfig::new(url);
    let (_handle, ending) = ezsockets::connect(|_| Ez::new(started, count), config).await;
    let mut ending = pin!(ending);
    loop {
        tokio::select! {
            told = told.recv() => match told {
                Some(true) => meter.start(),
                _ => {
                    meter.stop();
                    return Ok(());
                }
            },
            ended = &mut ending => return ended.map_err(|error| error.to_string().into()),
        }
    }
}
