//! One interface for all ways of driving a client, a server of bare sockets, and child processes.

use std::env;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use heartbeat_tokio::core::Config;
use heartbeat_tokio::{ClientStats, ConnId, Event, Failure, Message, Options, SendError, Unsent};
use socket2::SockRef;
use tokio::runtime::{Builder, Handle, Runtime};
use tungstenite::WebSocket;

pub(crate) use heartbeat_tests::frames::{BINARY, PING, TEXT, encode as frame};

/// Nothing here takes this long, even on a busy machine. A longer wait is in vain.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A case's name, and the way of driving a client that it runs for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) how: How,
    pub(crate) name: &'static str,
}

/// How a client is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    TokioTask,
    TokioInPlace,
    BlockingThread,
    BlockingInPlace,
}

/// A client, however it is driven.
pub(crate) struct Client {
    driver: Driver,
    sender: Sender,
}

/// Fields are dropped in order: the client before its runtime.
enum Driver {
    TokioTask(heartbeat_tokio::Client, Runtime),
    TokioInPlace(Box<heartbeat_tokio::InPlace>, Runtime),
    BlockingThread(heartbeat_blocking::Client),
    BlockingInPlace(Box<heartbeat_blocking::InPlace>),
}

/// The sender, which blocks the thread in both adapters.
#[derive(Clone)]
pub(crate) enum Sender {
    Tokio(heartbeat_tokio::Sender, Handle),
    Blocking(heartbeat_blocking::Sender),
}

/// The result of waiting for an event.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Event(Event),
    Nothing,
    Ended,
}

impl Case {
    pub(crate) fn start(self, options: Options) -> Client {
        let driver = match self.how {
            How::TokioTask => {
                let runtime = Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let client = {
                    let _inside = runtime.enter();
                    heartbeat_tokio::Client::spawn(options).expect("roots, if they are needed")
                };
                Driver::TokioTask(client, runtime)
            }
            How::TokioInPlace => {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let client = {
                    let _inside = runtime.enter();
                    heartbeat_tokio::InPlace::new(options).expect("roots, if they are needed")
                };
                Driver::TokioInPlace(Box::new(client), runtime)
            }
            How::BlockingThread => Driver::BlockingThread(
                heartbeat_blocking::Client::spawn(options).expect("a poll and a thread"),
            ),
            How::BlockingInPlace => Driver::BlockingInPlace(Box::new(
                heartbeat_blocking::InPlace::new(options).expect("a poll"),
            )),
        };
        Client {
            sender: driver.sender(),
            driver,
        }
    }

    /// Prints that the case is skipped if the system is not Linux, because the case needs `/proc`.
    pub(crate) fn lacks_proc(self) -> bool {
        let lacks = !cfg!(target_os = "linux");
        if lacks {
            println!("SKIPPED {}: it reads what only Linux tells", self.name);
        }
        lacks
    }

    /// A client of this server.
    pub(crate) fn connect(self, server: &Server, config: &str) -> Client {
        self.start(server.options(config))
    }

    /// Runs `body` in a process of its own, so that only its threads, descriptors and processor time count.
    pub(crate) fn alone(self, body: impl FnOnce()) {
        const ALONE: &str = "HEARTBEAT_ALONE";
        let name = self
            .name
            .split_once("::")
            .map_or(self.name, |(_, name)| name);
        if env::var(ALONE).is_ok_and(|alone| alone == name) {
            return body();
        }
        let output = Command::new(env::current_exe().expect("a test is a program"))
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, name)
            .output()
            .expect("it starts a second time");
        assert!(
            output.status.success(),
            "in its own process:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Driver {
    fn sender(&self) -> Sender {
        match self {
            Self::TokioTask(client, runtime) => {
                Sender::Tokio(client.sender().clone(), runtime.handle().clone())
            }
            Self::TokioInPlace(client, runtime) => {
                Sender::Tokio(client.sender().clone(), runtime.handle().clone())
            }
            Self::BlockingThread(client) => Sender::Blocking(client.sender().clone()),
            Self::BlockingInPlace(client) => Sender::Blocking(client.sender().clone()),
        }
    }
}

impl Client {
    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The next event, if it comes within this time.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Next {
        let tokio = |event: Result<Option<Event>, _>| match event {
            Ok(Some(event)) => Next::Event(event),
            Ok(None) => Next::Ended,
            Err(tokio::time::error::Elapsed { .. }) => Next::Nothing,
        };
        let blocking = |event| match event {
            Ok(event) => Next::Event(event),
            Err(heartbeat_blocking::RecvTimeoutError::Ended) => Next::Ended,
            Err(_) => Next::Nothing,
        };
        match &mut self.driver {
            Driver::TokioTask(client, runtime) => tokio(
                runtime.block_on(async { tokio::time::timeout(patience, client.next()).await }),
            ),
            Driver::TokioInPlace(client, runtime) => tokio(
                runtime.block_on(async { tokio::time::timeout(patience, client.next()).await }),
            ),
            Driver::BlockingThread(client) => blocking(client.recv_timeout(patience)),
            Driver::BlockingInPlace(client) => blocking(client.recv_timeout(patience)),
        }
    }

    /// The next event; `None` at the end.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Event> {
        match self.next_within(PATIENCE) {
            Next::Event(event) => Some(event),
            Next::Ended => None,
            Next::Nothing => panic!("no event within {PATIENCE:?}"),
        }
    }

    /// Takes events until one is picked.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        while let Some(event) = self.next() {
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
        panic!("the client has ended before");
    }

    #[track_caller]
    pub(crate) fn until_connected(&mut self) {
        self.until(|event| matches!(event, Event::Connected { .. }).then_some(()));
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Message {
        self.until(|event| match event {
            Event::Message { message, .. } => Some(message),
            Event::Disconnected { reason, detail, .. } => {
                panic!("disconnected: {reason}, {detail:?}")
            }
            _ => None,
        })
    }

    /// How the next connection ends.
    #[track_caller]
    pub(crate) fn until_disconnected(&mut self) -> End {
        self.until(|event| match event {
            Event::Disconnected {
                reason,
                detail,
                unsent,
                ..
            } => Some(End {
                reason: reason.to_string(),
                detail: detail.unwrap_or_default().into(),
                unsent,
            }),
            _ => None,
        })
    }

    pub(crate) fn stats(&self) -> ClientStats {
        match &self.driver {
            Driver::TokioTask(client, _) => client.stats(),
            Driver::TokioInPlace(client, _) => client.stats(),
            Driver::BlockingThread(client) => client.stats(),
            Driver::BlockingInPlace(client) => client.stats(),
        }
    }

    /// Waits for the end that was asked for.
    pub(crate) fn stop(self) -> Unsent {
        match self.driver {
            Driver::TokioTask(client, runtime) => runtime.block_on(client.stop()),
            Driver::TokioInPlace(client, runtime) => runtime.block_on(client.stop()),
            Driver::BlockingThread(client) => client.stop(),
            Driver::BlockingInPlace(client) => client.stop(),
        }
    }

    /// Its `Debug` output.
    pub(crate) fn shown(&self) -> String {
        let (client, sender): (&dyn Debug, &dyn Debug) = (
            match &self.driver {
                Driver::TokioTask(client, _) => client,
                Driver::TokioInPlace(client, _) => client,
                Driver::BlockingThread(client) => client,
                Driver::BlockingInPlace(client) => client,
            },
            match &self.sender {
                Sender::Tokio(sender, _) => sender,
                Sender::Blocking(sender) => sender,
            },
        );
        format!("{client:?} {sender:?}")
    }

    /// Drives the client for this long, and discards its events.
    pub(crate) fn drive_for(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while let left @ 1.. = end.saturating_duration_since(Instant::now()).as_nanos() {
            let left = Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
            if self.next_within(left) == Next::Ended {
                return;
            }
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct End {
    /// In the words of `Reason`'s `Display`.
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) unsent: Unsent,
}

impl Sender {
    pub(crate) fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        match self {
            Self::Tokio(sender, _) => sender.try_send(message),
            Self::Blocking(sender) => sender.try_send(message),
        }
    }

    pub(crate) fn set_variable(&self, name: &str, value: &str) {
        match self {
            Self::Tokio(sender, _) => sender.set_variable(name, value),
            Self::Blocking(sender) => sender.set_variable(name, value),
        }
    }

    /// Waits for room.
    pub(crate) fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        match self {
            Self::Tokio(sender, handle) => handle.block_on(sender.send(message)),
            Self::Blocking(sender) => sender.send(message),
        }
    }

    pub(crate) fn send_opening(
        &self,
        conn: ConnId,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        match self {
            Self::Tokio(sender, _) => sender.send_opening(conn, message),
            Self::Blocking(sender) => sender.send_opening(conn, message),
        }
    }

    pub(crate) fn ready(&self, conn: ConnId) {
        match self {
            Self::Tokio(sender, _) => sender.ready(conn),
            Self::Blocking(sender) => sender.ready(conn),
        }
    }

    pub(crate) fn fail(&self, conn: ConnId, failure: Failure) {
        match self {
            Self::Tokio(sender, _) => sender.fail(conn, failure),
            Self::Blocking(sender) => sender.fail(conn, failure),
        }
    }

    pub(crate) fn kick(&self) {
        match self {
            Self::Tokio(sender, _) => sender.kick(),
            Self::Blocking(sender) => sender.kick(),
        }
    }

    pub(crate) fn stop(&self) {
        match self {
            Self::Tokio(sender, _) => sender.stop(),
            Self::Blocking(sender) => sender.stop(),
        }
    }
}

/// A listening socket. Each case decides what happens to its connections.
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback interface");
        // A wait for a client that never comes must end.
        SockRef::from(&listener)
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        Self { listener }
    }

    /// A server whose connections hold few bytes, so that a path is soon full.
    pub(crate) fn narrow() -> Self {
        let server = Self::start();
        server.narrow_to(16 << 10);
        server
    }

    /// How many bytes each side holds, on connections accepted from now on.
    pub(crate) fn narrow_to(&self, bytes: usize) {
        let socket = SockRef::from(&self.listener);
        socket.set_recv_buffer_size(bytes).expect("a size");
        socket.set_send_buffer_size(bytes).expect("a size");
    }

    /// Leaves hardly any room for clients that are not accepted.
    pub(crate) fn shorten_the_queue(&self) {
        SockRef::from(&self.listener)
            .listen(0)
            .expect("listening already");
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().expect("it is bound").port()
    }

    pub(crate) fn options(&self, config: &str) -> Options {
        Options::new(&format!("ws://127.0.0.1:{}/", self.port()))
            .expect("a URL")
            .config(Config::from_json(config).expect("a configuration"))
    }

    pub(crate) fn accept(&self) -> TcpStream {
        let (socket, _) = self.listener.accept().expect("a client");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("an option");
        socket
    }

    pub(crate) fn upgrade(&self) -> WebSocket<TcpStream> {
        tungstenite::accept(self.accept()).expect("an upgrade")
    }
}

/// Reads until the client's socket is gone, by FIN or RST.
pub(crate) fn read_to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut bytes = vec![0; 64 << 10];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("the client's socket is still open: {error}"),
        }
    }
}

/// Writes as much as possible within the socket's timeout, and returns how much that was.
pub(crate) fn write_until_full(socket: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(count) => written += count,
            // Full, or gone.
            Err(_) => break,
        }
    }
    written
}

pub(crate) fn hang_up(socket: &TcpStream) {
    // The socket may be gone already.
    let _ = socket.shutdown(Shutdown::Both);
}

/// Closes so that the client gets an RST instead of a FIN.
pub(crate) fn reset(socket: TcpStream) {
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .expect("an option");
}
