//! A client of either adapter, with one interface.

use std::time::Duration;

use heartbeat_blocking::RecvTimeoutError;
use heartbeat_tokio::{ClientStats, Event, Options, SendError, StartError};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// A client in its own thread.
#[derive(Debug)]
pub(crate) enum Client {
    /// The client of heartbeat-tokio, and a runtime to wait for its events.
    Tokio(heartbeat_tokio::Client, Runtime),
    /// The client of heartbeat-blocking.
    Blocking(heartbeat_blocking::Client),
}

/// The outcome of a wait for an event.
#[derive(Debug)]
pub(crate) enum Next {
    Event(Event),
    /// No event came in time.
    Nothing,
    /// The client has ended.
    End,
}

impl Client {
    pub(crate) fn spawn(options: Options, blocking: bool) -> Result<Self, StartError> {
        if blocking {
            return heartbeat_blocking::Client::spawn(options).map(Self::Blocking);
        }
        let runtime = Builder::new_current_thread().enable_time().build()?;
        Ok(Self::Tokio(
            heartbeat_tokio::Client::spawn_thread(options)?,
            runtime,
        ))
    }

    pub(crate) fn next(&mut self, within: Duration) -> Next {
        match self {
            Self::Tokio(client, runtime) => {
                match runtime.block_on(async { timeout(within, client.next()).await }) {
                    Ok(Some(event)) => Next::Event(event),
                    Ok(None) => Next::End,
                    Err(_) => Next::Nothing,
                }
            }
            Self::Blocking(client) => match client.recv_timeout(within) {
                Ok(event) => Next::Event(event),
                Err(RecvTimeoutError::Timeout) => Next::Nothing,
                Err(_) => Next::End,
            },
        }
    }

    pub(crate) fn stats(&self) -> ClientStats {
        match self {
            Self::Tokio(client, _) => client.stats(),
            Self::Blocking(client) => client.stats(),
        }
    }

    pub(crate) fn sender(&self) -> Sender {
        match self {
            Self::Tokio(client, _) => Sender::Tokio(client.sender().clone()),
            Self::Blocking(client) => Sender::Blocking(client.sender().clone()),
        }
    }
}

/// Sends commands and messages to the client, from any thread.
#[derive(Clone, Debug)]
pub(crate) enum Sender {
    Tokio(heartbeat_tokio::Sender),
    Blocking(heartbeat_blocking::Sender),
}

impl Sender {
    pub(crate) fn try_send(&self, text: &str) -> Result<(), SendError> {
        match self {
            Self::Tokio(sender) => sender.try_send(text),
            Self::Blocking(sender) => sender.try_send(text),
        }
    }

    pub(crate) fn stop(&self) {
        match self {
            Self::Tokio(sender) => sender.stop(),
            Self::Blocking(sender) => sender.stop(),
        }
    }
}
