//! The clients as senders. If `at_once` is 1, each message is written to the socket before the next one is
//! made, as far as the client allows it.

use std::time::Duration;

use futures_util::SinkExt;

use crate::clients::tungstenite_config;
use crate::{Meter, Result};

/// Each with the client that it is compared with.
pub(crate) const ALL: &[(&str, &str)] = &[
    ("raw-tokio-tungstenite-4k", "raw-tokio-tungstenite-4k"),
    ("heartbeat-tokio-in-place", "raw-tokio-tungstenite-4k"),
    ("heartbeat-tokio-task", "raw-tokio-tungstenite-4k"),
    ("raw-tungstenite-4k", "raw-tungstenite-4k"),
    ("heartbeat-blocking-in-place", "raw-tungstenite-4k"),
    ("heartbeat-blocking-thread", "raw-tungstenite-4k"),
];

/// Called after each message with the number of messages accepted so far.
type Each<'a> = &'a mut dyn FnMut(u64);

pub(crate) fn send(
    name: &str,
    url: &str,
    plan: &Plan,
    meter: &mut Meter,
    each: Each<'_>,
) -> Result<()> {
    match name {
        "raw-tungstenite-4k" => {
            let config = Some(tungstenite_config(name));
            let (mut ws, _) = tungstenite::client::connect_with_config(url, config, 0)?;
            let text = crate::message(plan.len);
            meter.start();
            for number in 1..=plan.count {
                ws.write(tungstenite::Message::text(text.clone()))?;
                each(number);
                if number % plan.at_once == 0 {
                    ws.flush()?;
                }
            }
            ws.flush()?;
            meter.stop();
            Ok(())
        }
        "heartbeat-blocking-in-place" => blocking_in_place(url, plan, meter, each),
        "heartbeat-blocking-thread" => blocking_thread(url, plan, meter, each),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                match name {
                    "raw-tokio-tungstenite" | "raw-tokio-tungstenite-4k" => {
                        raw_tokio(name, url, plan, meter, each).await
                    }
                    "heartbeat-tokio-in-place" => in_place(url, plan, meter, each).await,
                    "heartbeat-tokio-task" => task(url, plan, meter, each).await,
                    _ => Err(format!("{name:?} is none of {ALL:?}").into()),
                }
            })
        }
    }
}

/// The messages to send.
pub(crate) struct Plan {
    /// How many messages.
    pub(crate) count: u64,
    /// Their length in bytes.
    pub(crate) len: usize,
    /// How many of them are made before they are sent.
    pub(crate) at_once: u64,
}

async fn raw_tokio(
    name: &str,
    url: &str,
    plan: &Plan,
    meter: &mut Meter,
    each: Each<'_>,
) -> Result<()> {
    let config = Some(tungstenite_config(name));
    let (mut ws, _) = tokio_tungstenite::connect_async_with_config(url, config, true).await?;
    let text = crate::message(plan.len);
    meter.start();
    for number in 1..=plan.count {
        ws.feed(tungstenite::Message::text(text.clone())).await?;
        each(number);
        if number % plan.at_once == 0 {
            ws.flush().await?;
        }
    }
    ws.flush().await?;
    meter.stop();
    Ok(())
}

async fn in_place(url: &str, plan: &Plan, meter: &mut Meter, each: Each<'_>) -> Result<()> {
    use heartbeat_tokio::{Event, InPlace, Options, SendErrorKind};
    let mut client = InPlace::new(Options::new(url)?)?;
    while !matches!(client.next().await.ok_or("ended")?, Event::Connected { .. }) {}
    let sender = client.sender().clone();
    let text = crate::message(plan.len);
    meter.start();
    for number in 1..=plan.count {
        // One by one in place, several through the queue, as the docs advise.
        let sent = match plan.at_once {
            1 => client.try_send(text.clone()),
            _ => sender.try_send(text.clone()),
        };
        if let Err(error) = sent {
            if error.reason != SendErrorKind::Full {
                return Err(error.into());
            }
            // The client is driven until there is room.
            let mut room = std::pin::pin!(sender.send(error.message));
            loop {
                tokio::select! {
                    sent = &mut room => break sent?,
                    event = client.next() => drop(event.ok_or("ended")?),
                }
            }
        }
        each(number);
        if plan.at_once > 1 && number % plan.at_once == 0 {
            let _ = futures_util::poll!(std::pin::pin!(client.next()));
        }
    }
    while client.stats().messages_sent < plan.count {
        let _ = tokio::time::timeout(Duration::from_millis(1), client.next()).await;
    }
    meter.stop();
    Ok(())
}

async fn task(url: &str, plan: &Plan, meter: &mut Meter, each: Each<'_>) -> Result<()> {
    use heartbeat_tokio::{Client, Event, Options};
    let mut client = Client::spawn(Options::new(url)?)?;
    while !matches!(client.next().await.ok_or("ended")?, Event::Connected { .. }) {}
    let text = crate::message(plan.len);
    meter.start();
    for number in 1..=plan.count {
        client.sender().send(text.clone()).await?;
        each(number);
        if number % plan.at_once == 0 {
            tokio::task::yield_now().await;
        }
    }
    while client.stats().messages_sent < plan.count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    meter.stop();
    Ok(())
}

fn blocking_in_place(url: &str, plan: &Plan, meter: &mut Meter, each: Each<'_>) -> Result<()> {
    use heartbeat_blocking::{Event, InPlace, Message, Options, SendErrorKind};
    // One by one in place, several through the queue, as the docs advise.
    let give = |client: &mut InPlace, message: Message, at_once: u64| match at_once {
        1 => client.try_send(message),
        _ => client.sender().try_send(message),
    };
    let mut client = InPlace::new(Options::new(url)?)?;
    while !matches!(client.recv().ok_or("ended")?, Event::Connected { .. }) {}
    let text = crate::message(plan.len);
    meter.start();
    for number in 1..=plan.count {
        let mut message = text.clone().into();
        while let Err(error) = give(&mut client, message, plan.at_once) {
            if error.reason != SendErrorKind::Full {
                return Err(error.into());
            }
            message = error.message;
            drop(client.recv_timeout(Duration::from_millis(1)));
        }
        each(number);
        if plan.at_once > 1 && number % plan.at_once == 0 {
            drop(client.recv_timeout(Duration::ZERO));
        }
    }
    while client.stats().messages_sent < plan.count {
        drop(client.recv_timeout(Duration::from_millis(1)));
    }
    meter.stop();
    Ok(())
}

/// The thread takes all waiting messages whenever it runs. We cannot decide how many at once.
fn blocking_thread(url: &str, plan: &Plan, meter: &mut Meter, each: Each<'_>) -> Result<()> {
    use heartbeat_blocking::{Client, Event, Options};
    let mut client = Client::spawn(Options::new(url)?)?;
    while !matches!(client.recv().ok_or("ended")?, Event::Connected { .. }) {}
    let text = crate::message(plan.len);
    meter.start();
    for number in 1..=plan.count {
        client
            .sender()
            .send_timeout(text.clone(), Duration::from_secs(60))?;
        each(number);
    }
    while client.stats().messages_sent < plan.count {
        std::thread::sleep(Duration::from_millis(1));
    }
    meter.stop();
    Ok(())
}
