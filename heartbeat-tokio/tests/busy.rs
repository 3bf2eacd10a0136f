//! An application keeps the thread busy past a deadline, or between two polls. The client must then ask the operating
//! system what happened to the socket meanwhile, because tokio does not know yet.

use std::future::poll_fn;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::{Config, Event, InPlace, Message, Options};
use tokio::time::timeout;
use tungstenite::protocol::WebSocketConfig;

const MS: Duration = Duration::from_millis(1);

/// A length that a socket does not accept at once, in bytes.
const LARGE: usize = 16 << 20;

fn serve(serve: impl FnOnce(TcpStream) + Send + 'static) -> Options {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || serve(listener.accept().expect("a client").0));
    Options::new(&format!("ws://{address}/")).expect("a URL")
}

fn client(options: Options, config: &str) -> InPlace {
    let config = Config::from_json(config).expect("consistent");
    InPlace::new(options.config(config)).expect("a client")
}

async fn connected(client: &mut InPlace) {
    while !matches!(client.next().await, Some(Event::Connected { .. })) {}
}

#[tokio::test]
async fn what_the_peer_took_while_the_thread_was_kept_busy_is_progress() {
    let (go, gone) = mpsc::channel();
    let options = serve(move |stream| {
        let ws = tungstenite::accept(stream).expect("an upgrade");
        gone.recv().expect("the test's signal");
        let _ = std::io::copy(&mut ws.get_ref(), &mut std::io::sink());
    });
    let config =
        r#"{"write_timeout": "1s", "ping": "never", "pong_timeout": null, "check_interval": null}"#;
    let mut client = client(options, config);
    connected(&mut client).await;
    client.try_send(vec![0; LARGE]).expect("room");
    let nothing = timeout(300 * MS, client.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    go.send(()).expect("the server waits");
    thread::sleep(1100 * MS);
    let nothing = timeout(1500 * MS, client.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(client.stats().messages_sent, 1);
}

#[tokio::test]
async fn an_upgrade_that_was_answered_while_the_thread_was_kept_busy_is_in_time() {
    let options = serve(|stream| {
        thread::sleep(400 * MS);
        let mut ws = tungstenite::accept(stream).expect("an upgrade");
        while ws.read().is_ok() {}
    });
    let mut client = client(options, r#"{"connect_timeout": "800ms"}"#);
    let dial = async { while client.next().await.is_some() {} };
    assert!(timeout(200 * MS, dial).await.is_err(), "not answered yet");
    thread::sleep(800 * MS);
    let event = client.next().await;
    assert!(matches!(event, Some(Event::Connected { .. })), "{event:?}");
}

/// Sends a message from inside a poll, after the client's own poll was pending. The message must arrive, although only a
/// wake-up can make the client run again.
async fn arrives(send: fn(&mut InPlace, Message)) {
    let (done, mut arrived) = tokio::sync::oneshot::channel();
    let options = serve(move |stream| {
        let config = WebSocketConfig::default()
            .max_frame_size(None)
            .max_message_size(None);
        let mut ws = tungstenite::accept_with_config(stream, Some(config)).expect("an upgrade");
        while ws.read().expect("a message").len() < LARGE {}
        done.send(()).expect("the client waits");
        let _ = ws.get_mut().read(&mut [0]);
    });
    let mut client = client(options, "{}");
    connected(&mut client).await;
    let mut message = Some(Message::from(vec![0; LARGE]));
    let all = poll_fn(|cx| {
        while let Poll::Ready(event) = client.poll_event(cx) {
            assert!(event.is_some(), "no end");
        }
        if let Some(message) = message.take() {
            send(&mut client, message);
        }
        Pin::new(&mut arrived).poll(cx)
    });
    // Must be less than 30 s, when the next check would wake the client anyway.
    let all = timeout(Duration::from_secs(20), all).await;
    all.expect("in time").expect("the whole message");
}

#[tokio::test]
async fn what_is_sent_in_place_after_a_poll_goes_on_by_itself() {
    arrives(|client, message| client.try_send(message).expect("room")).await;
}

#[tokio::test]
async fn what_is_queued_after_a_poll_goes_on_by_itself() {
    arrives(|client, message| client.sender().try_send(message).expect("room")).await;
}
