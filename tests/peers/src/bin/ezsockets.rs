//! `ezsockets`: at every `heartbeat` it checks whether `timeout` has passed. So with a timeout one
//! heartbeat shorter than `death`, the verdict comes by then.

use std::time::Duration;

use async_trait::async_trait;
use ezsockets::client::ClientCloseMode;
use ezsockets::{Bytes, ClientConfig, ClientExt, CloseFrame, Error, SocketConfig, Utf8Bytes, WSError};
use heartbeat_peers::driver::{self, Course};
use tokio::time;

struct Client(Course, Option<ezsockets::Client<Client>>);

#[async_trait]
impl ClientExt for Client {
    type Call = ();

    async fn on_text(&mut self, text: Utf8Bytes) -> Result<(), Error> {
        driver::message(&text);
        Ok(())
    }

    async fn on_binary(&mut self, _: Bytes) -> Result<(), Error> {
        driver::message("");
        Ok(())
    }

    async fn on_call(&mut self, (): ()) -> Result<(), Error> {
        Ok(())
    }

    async fn on_connect(&mut self) -> Result<(), Error> {
        driver::connected();
        if let Some(handle) = self.1.take() {
            let sends = self.0.sends();
            std::thread::spawn(move || {
                for (pause, text) in sends {
                    std::thread::sleep(pause);
                    driver::sent(handle.text(text).is_ok());
                }
            });
        }
        if let Some(hold) = self.0.hold() {
            time::sleep(hold).await;
        }
        Ok(())
    }

    async fn on_connect_fail(&mut self, error: WSError) -> Result<ClientCloseMode, Error> {
        driver::say("disconnected", &error.to_string());
        Ok(ClientCloseMode::Reconnect)
    }

    async fn on_close(&mut self, _: Option<CloseFrame>) -> Result<ClientCloseMode, Error> {
        driver::say("disconnected", "close");
        Ok(ClientCloseMode::Reconnect)
    }

    async fn on_disconnect(&mut self) -> Result<ClientCloseMode, Error> {
        driver::say("disconnected", "");
        Ok(ClientCloseMode::Reconnect)
    }
}

#[tokio::main(worker_threads = 1)]
async fn main() {
    let course = Course::from_args();
    let heartbeat = Duration::from_secs(1).min(course.ping);
    let config = ClientConfig::new(course.url.as_str())
        .reconnect_interval(course.backoff)
        .socket_config(SocketConfig {
            heartbeat,
            timeout: course.death - heartbeat,
            ..SocketConfig::default()
        });
    let (_handle, future) =
        ezsockets::connect(|handle| Client(course, Some(handle)), config).await;
    let end = future.await;
    driver::say("gave_up", &format!("{end:?}"));
    std::future::pending::<()>().await;
}
