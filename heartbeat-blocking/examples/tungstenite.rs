//! A client over tungstenite that notices a dead connection and comes back, because the machine watches its socket.
//!
//! ```sh
//! cargo run -p heartbeat-blocking --features tungstenite --example tungstenite
//! ```
//!
//! The server sends hello and freezes. On the second connection it sends hello and closes with 4000.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heartbeat_blocking::messages::{Counted, Event, Messages, upgrade_error};
use heartbeat_blocking::{CauseKind, Config, FramesOnly, Ping, RetryPolicy};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

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

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let address = serve()?;
    let config = Config::builder()
        .ping(Ping::AfterSilence(Duration::from_millis(300)))
        .pong_timeout(Duration::from_millis(300))
        .backoff(Duration::from_millis(100), Duration::from_secs(1), 50)
        .on(CauseKind::Close(4000), RetryPolicy::Never)
        .build()?;
    let connect = move |_| {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let upgraded = tungstenite::client(format!("ws://{address}/"), Counted::new(stream));
        Ok(upgraded.map_err(upgrade_error)?.0)
    };
    let client = Messages::connecting(connect, Counted::get_ref, config, Arc::new(FramesOnly))?;
    for event in client.traffic(Counted::traffic) {
        match event {
            Event::Message { message, .. } => {
                println!("{}", message.to_text().unwrap_or("(binary)"));
            }
            Event::Disconnected { reason, .. } => println!("disconnected: {reason}"),
            Event::GaveUp { reason, .. } => println!("gave up: {reason}"),
            _ => {}
        }
    }
    Ok(())
}
