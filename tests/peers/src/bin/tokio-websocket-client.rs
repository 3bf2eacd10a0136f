//! `tokio-websocket-client` over tokio-tungstenite: ping interval and retry delay are settings of the
//! connector.

use std::sync::OnceLock;
use std::time::Duration;

use heartbeat_peers::driver::{self, Course};
use tokio::net::TcpStream;
use tokio::time;
use tokio_tungstenite::tungstenite::{self, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_websocket_client::{
    Client, CloseCode, Connector, Handler, Message, RetryStrategy, StreamWrapper, connect,
};

static COURSE: OnceLock<Course> = OnceLock::new();

fn course() -> &'static Course {
    COURSE.get_or_init(Course::from_args)
}

struct Wrapped(tungstenite::Message);

impl From<tungstenite::Message> for Wrapped {
    fn from(message: tungstenite::Message) -> Self {
        Self(message)
    }
}

impl From<Wrapped> for tungstenite::Message {
    fn from(message: Wrapped) -> Self {
        message.0
    }
}

impl From<Wrapped> for Message {
    fn from(Wrapped(message): Wrapped) -> Self {
        match message {
            tungstenite::Message::Text(text) => Self::Text(text.to_string()),
            tungstenite::Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            tungstenite::Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            tungstenite::Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            tungstenite::Message::Close(frame) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                Self::Close(CloseCode::from(code), String::new())
            }
            tungstenite::Message::Frame(_) => Self::Binary(Vec::new()),
        }
    }
}

impl From<Message> for Wrapped {
    fn from(message: Message) -> Self {
        Self(match message {
            Message::Text(text) => tungstenite::Message::text(text),
            Message::Binary(bytes) => tungstenite::Message::binary(bytes),
            Message::Ping(bytes) => tungstenite::Message::Ping(bytes.into()),
            Message::Pong(bytes) => tungstenite::Message::Pong(bytes.into()),
            Message::Close(code, reason) => tungstenite::Message::Close(Some(CloseFrame {
                code: u16::from(&code).into(),
                reason: reason.into(),
            })),
        })
    }
}

struct Dialer;

impl Connector for Dialer {
    type Item = Wrapped;
    type BackendStream = WebSocketStream<MaybeTlsStream<TcpStream>>;
    type BackendMessage = tungstenite::Message;
    type Error = tungstenite::Error;

    async fn connect() -> Result<
        StreamWrapper<'static, Self::BackendStream, Self::BackendMessage, Self::Item, Self::Error>,
        Self::Error,
    > {
        let dial = tokio_tungstenite::connect_async(&course().url);
        match time::timeout(course().connect, dial).await {
            Ok(Ok((stream, _))) => Ok(StreamWrapper::from(stream)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(tungstenite::Error::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }

    async fn retry_delay(&mut self) -> Duration {
        course().backoff
    }

    fn ping_interval() -> Duration {
        course().ping
    }
}

struct Told;

impl Handler for Told {
    async fn on_text(&mut self, text: &str) {
        driver::message(text);
        if let Some(hold) = course().hold() {
            time::sleep(hold).await;
        }
    }

    async fn on_binary(&mut self, _: &[u8]) {
        driver::message("");
    }

    async fn on_close(&mut self, code: CloseCode, _: &str) -> RetryStrategy {
        driver::say("disconnected", &format!("{code:?}"));
        RetryStrategy::Retry
    }

    async fn on_connect(&mut self) {
        driver::connected();
    }

    async fn on_connect_failure(&mut self) -> RetryStrategy {
        driver::say("disconnected", "dial");
        RetryStrategy::Retry
    }

    async fn on_disconnect(&mut self) -> RetryStrategy {
        driver::say("disconnected", "");
        RetryStrategy::Retry
    }
}

async fn send_all(client: &Client) {
    for (pause, text) in course().sends() {
        time::sleep(pause).await;
        driver::sent(client.text(text).await.is_ok());
    }
}

#[tokio::main(worker_threads = 1)]
async fn main() {
    let _ = course();
    if let Some(client) = connect(Dialer, Told).await {
        send_all(&client).await;
        std::future::pending::<()>().await;
    }
    driver::say("gave_up", "");
    std::future::pending::<()>().await;
}
