//! A client over tokio-tungstenite that notices a dead connection and comes back, because the machine watches its socket.
//!
//! ```sh
//! cargo run -p heartbeat-tokio --features tungstenite --example tokio_tungstenite
//! ```
//!
//! The server sends hello and freezes. On the second connection it sends hello and closes with 4000.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::messages::tungstenite::Tungstenite;
use heartbeat_tokio::messages::{Connecting, Counted, Event, Messages, keep_unsent_short};
use heartbeat_tokio::{Attempt, CauseKind, Config, FramesOnly, Ping, RetryPolicy};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

type Socket = WebSocketStream<Counted<TcpStream>>;

fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for is_frozen in [true, false] {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            let Ok(mut socket) = tungstenite::accept(stream) else {
                return;
            };
            let _ = socket.send(Message::text("hello"));
            if is_frozen {
                // Answers nothing, not even pings, until the client has left.
                let _ = socket.get_mut().read_to_end(&mut Vec::new());
            } else {
                let close = CloseFrame {
                    code: 4000.into(),
                    reason: "enough".into(),
                };
                let _ = socket.close(Some(close));
                while socket.read().is_ok() {}
            }
        }
    });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = serve()?;
    let config = Config::builder()
        .ping(Ping::AfterSilence(Duration::from_millis(300)))
        .pong_timeout(Duration::from_millis(300))
        .backoff(Duration::from_millis(100), Duration::from_secs(1), 50)
        .on(CauseKind::Close(4000), RetryPolicy::Never)
        .build()?;
    let connect = move |_: Attempt| -> Connecting<Socket> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            keep_unsent_short(&stream);
            let (socket, _) =
                client_async(format!("ws://{address}/"), Counted::new(stream)).await?;
            Ok(socket)
        })
    };
    let client = Messages::<_, Tungstenite>::connecting(connect, config, Arc::new(FramesOnly));
    let mut client = client.traffic(|socket| socket.get_ref().traffic());
    while let Some(event) = client.next().await {
        match event {
            Event::Message { message, .. } => {
                println!("{}", message.to_text().unwrap_or("(binary)"))
            }
            Event::Disconnected { reason, .. } => println!("disconnected: {reason}"),
            Event::GaveUp { reason, .. } => println!("gave up: {reason}"),
            _ => {}
        }
    }
    Ok(())
}
