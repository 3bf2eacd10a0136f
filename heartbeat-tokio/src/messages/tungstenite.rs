//! The codec for [`tungstenite`](https://docs.rs/tungstenite) messages, and so for the sockets of `tokio_tungstenite`.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use heartbeat_tokio::messages::tungstenite::Tungstenite;
//! use heartbeat_tokio::messages::{Connecting, Counted, Event, Messages, keep_unsent_short};
//! use heartbeat_tokio::{Attempt, Config, JsonType};
//! use tokio::net::TcpStream;
//! use tokio_tungstenite::{WebSocketStream, client_async};
//!
//! let connect = |_: Attempt| -> Connecting<WebSocketStream<Counted<TcpStream>>> {
//!     Box::pin(async {
//!         let stream = TcpStream::connect("example.org:80").await?;
//!         stream.set_nodelay(true)?;
//!         keep_unsent_short(&stream);
//!         let (socket, _) = client_async("ws://example.org/feed", Counted::new(stream)).await?;
//!         Ok(socket)
//!     })
//! };
//! let client = Messages::<_, Tungstenite>::connecting(connect, Config::default(), Arc::new(JsonType));
//! let mut client = client.traffic(|socket| socket.get_ref().traffic());
//! while let Some(event) = client.next().await {
//!     if let Event::Message { message, .. } = event {
//!         println!("{}", message.to_text().unwrap_or("(binary)"));
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use heartbeat_driver::messages::Codec as _;
pub use heartbeat_driver::messages::Tungstenite;
use tungstenite::Error;

use super::Refused;

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            cause: Tungstenite::cause(&error),
            detail: Some(error.to_string().into()),
        }
    }
}
