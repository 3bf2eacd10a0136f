//! The clients as senders: `count` messages of 150 bytes, `at_once` of them before each is on its way.
//!
//! With `at_once` 1 each message is written to the socket before the next one is made, as far as the
//! client lets one have that.

use std::time::Duration;

use futures_util::SinkExt;

use crate::clients::tungstenite_config;
use crate::{Meter, Result};

/// Each with what it is measured against.
pub(crate) const ALL: &[(&str, &str)] = &[
    ("raw-tokio-tungstenite-4k", "raw-tokio-tungstenite-4k"),
    ("heartbeat-tokio-in-place", "raw-tokio-tungstenite-4k"),
    ("heartbeat-tokio-task", "raw-tokio-tungstenite-4k"),
    ("raw-tungstenite-4k", "raw-tungstenite-4k"),
    ("heartbeat-blocking-in-place", "raw-tungstenite-4k"),
    ("heartbeat-blocking-thread", "raw-tungstenite-4k"),
];

/// Called after each message with the number of those accepted so far.
type Each<'a> = &'a mut dyn FnMut(u64);

pub(crate) fn send(
    name: &str,
    url: &str,
    count: u64,
    at_once: u64,
    meter: &mut Meter,
    each: Each<'_>,
) -> Result<()> {
    match name {
        "raw-tungstenite-4k" => {
            let config = Some(tungstenite_config(name));
            let (mut ws, _) = tungstenite::client::connect_with_config(url, config, 0)?;
            let text = crate::message(LEN);
            meter.start();
            for number in 1..=count {
                ws.write(tungstenite::Message::text(text.clone()))?;
                each(number);
                if number % at_once == 0 {
                    ws.flush()?;
                }
            }
            ws.flush()?;
            meter.stop();
            Ok(())
        }
        "heartbeat-blocking-in-place" => blocking_in_place(url, count, at_once, meter, each),
        "heartbeat-blocking-thread" => blocking_thread(url, count, meter, each),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                match name {
                    "raw-tokio-tungstenite-4k" => raw_tokio(url, count, at_once, meter, each).await,
                    "heartbeat-tokio-in-place" => in_place(url, count, at_once, meter, each).await,
                    "heartbeat-tokio-task" => task(url, count, at_once, meter, each).await,
                    _ => Err(format!("{name:?} is none of {ALL:?}").into()),
                }
            })
        }
    }
}

const LEN: usize = 150;

async fn raw_tokio(
    url: &str,
    count: u64,
    at_once: u64,
    meter: &mut Meter,
    each: Each<'_>,
) -> Result<()> {
    let config = Some(tungstenite_config("raw-tokio-tungstenite-4k"));
    let (mut ws, _) = tokio_tungstenite::connect_async_with_config(url, config, true).await?;
    let text = crate::message(LEN);
    meter.start();
    for number in 1..=count {
        ws.feed(tungstenite::Message::text(text.clone())).await?;
        each(number);
        if number % at_once == 0 {
            ws.flush().await?;
        }
    }
    ws.flush().await?;
    meter.stop();
    Ok(())
}

async fn in_place(
    url: &str,
    count: u64,
    at_once: u64,
    meter: &mut Meter,
    each: Each<'_>,
) -> Result<()> {
    use heartbeat_tokio::{Event, InPlace, Message, Options, Refusal};
    // One by one in its place, several by way of the queue, as the docs advise.
    let give = |client: &mut InPlace, message: Message, at_once: u64| match at_once {
        1 => client.try_send(message),
        _ => client.sender().try_send(message),
    };
    let mut client = InPlace::new(Options::new(url)?)?;
    while !matches!(client.next().await.ok_or("ended")?, Event::Connected { .. }) {}
    let text = crate::message(LEN);
    meter.start();
    for number in 1..=count {
        let mut message = text.clone().into();
        while let Err(error) = give(&mut client, message, at_once) {
            if error.reason != Refusal::Full {
                return Err(error.into());
            }
            message = error.message;
            let _ = tokio::time::timeout(Duration::from_millis(1), client.next()).await;
        }
        each(number);
        if at_once > 1 && number % at_once == 0 {
            let _ = futures_util::poll!(std::pin::pin!(client.next()));
        }
    }
    while client.stats().messages_sent < count {
        let _ = tokio::time::timeout(Duration::from_millis(1), client.next()).await;
    }
    meter.stop();
    Ok(())
}

async fn task(
    url: &str,
    count: u64,
    at_once: u64,
    meter: &mut Meter,
    each: Each<'_>,
) -> Result<()> {
    use heartbeat_tokio::{Client, Event, Options};
    let mut client = Client::spawn(Options::new(url)?)?;
    while !matches!(client.next().await.ok_or("ended")?, Event::Connected { .. }) {}
    let text = crate::message(LEN);
    meter.start();
    for number in 1..=count {
        client.sender().send(text.clone()).await?;
        each(number);
        if number % at_once == 0 {
            tokio::task::yield_now().await;
        }
    }
    while client.stats().messages_sent < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    meter.stop();
    Ok(())
}

fn blocking_in_place(
    url: &str,
    count: u64,
    at_once: u64,
    meter: &mut Meter,
    each: Each<'_>,
) -> Result<()> {
    use heartbeat_blocking::{Event, InPlace, Message, Options, Refusal};
    // One by one in its place, several by way of the queue, as the docs advise.
    let give = |client: &mut InPlace, message: Message, at_once: u64| match at_once {
        1 => client.try_send(message),
        _ => client.sender().try_send(message),
    };
    let mut client = InPlace::new(Options::new(url)?)?;
    while !matches!(client.recv().ok_or("ended")?, Event::Connected { .. }) {}
    let text = crate::message(LEN);
    meter.start();
    for number in 1..=count {
        let mut message = text.clone().into();
        while let Err(error) = give(&mut client, message, at_once) {
            if error.reason != Refusal::Full {
                return Err(error.into());
            }
            message = error.message;
            drop(client.recv_timeout(Duration::from_millis(1)));
        }
        each(number);
        if at_once > 1 && number % at_once == 0 {
            drop(client.recv_timeout(Duration::ZERO));
        }
    }
    while client.stats().messages_sent < count {
        drop(client.recv_timeout(Duration::from_millis(1)));
    }
    meter.stop();
    Ok(())
}

/// The thread takes what there is whenever it runs: how many at once is not ours to say.
fn blocking_thread(url: &str, count: u64, meter: &mut Meter, each: Each<'_>) -> Result<()> {
    use heartbeat_blocking::{Client, Event, Options};
    let mut client = Client::spawn(Options::new(url)?)?;
    while !matches!(client.recv().ok_or("ended")?, Event::Connected { .. }) {}
    let text = crate::message(LEN);
    meter.start();
    for number in 1..=count {
        client
            .sender()
            .send_timeout(text.clone(), Duration::from_secs(60))?;
        each(number);
    }
    while client.stats().messages_sent < count {
        std::thread::sleep(Duration::from_millis(1));
    }
    meter.stop();
    Ok(())
}
