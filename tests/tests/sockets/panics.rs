//! A panic in the application's code ends the client, which still reports every event that it owes.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::core::{Class, Dialect, RetryPolicy};
use heartbeat_tokio::{
    DialBudget, Event, Grant, Message, OnConnect, Opening, Options, Progress, Request,
    RequestError, Resolver, Undecodable,
};

use crate::harness::Case;

cases! {
    everywhere: [
        each_panic_of_the_applications_ends_the_client_as_one_in_on_connect_does,
        a_panic_after_stop_ends_the_client_as_it_was_asked_to,
        a_factory_that_returns_or_panics_after_the_end_troubles_nobody,
    ]
}

/// A server that sends everybody a text that is a ping, a text that is not, and a close code of its own. It
/// runs until the process ends.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || {
                let mut ws = tungstenite::accept(socket.expect("a client")).expect("an upgrade");
                for text in [r#"{"type":"ping"}"#, "data"] {
                    let _ = ws.send(text.into());
                }
                let _ = ws.close(Some(tungstenite::protocol::CloseFrame {
                    code: 4000.into(),
                    reason: "".into(),
                }));
                while ws.read().is_ok() {}
            });
        }
    });
    address
}

const WORDS: &str = "a part of the test";

fn mishap() -> ! {
    panic!("{WORDS}")
}

/// Panics in one of its methods.
#[derive(Clone, Copy)]
enum Mistaken {
    Classify,
    Greeting,
    Verdict,
    Track,
}

impl Dialect for Mistaken {
    fn classify_text<'a>(&self, _: &'a str) -> Class<'a> {
        match self {
            Self::Classify => mishap(),
            _ => Class::Data,
        }
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Data
    }

    fn close_policy(&self, _: u16) -> Option<RetryPolicy> {
        match self {
            Self::Verdict => mishap(),
            _ => None,
        }
    }

    fn greeting(&self, _: usize) -> Option<heartbeat_tokio::core::TemplateRef<'static>> {
        match self {
            Self::Greeting => mishap(),
            _ => None,
        }
    }

    fn tracks(&self) -> bool {
        matches!(self, Self::Track)
    }

    fn track(&self, _: &str, _: &mut heartbeat_tokio::core::Variables) {
        mishap()
    }
}

struct Budget;

impl DialBudget for Budget {
    fn ask(&self) -> Grant {
        mishap()
    }
}

struct AtAMessage;

impl OnConnect for AtAMessage {
    fn connected(&mut self, _: &mut Opening<'_>) -> Progress {
        Progress::Pending
    }

    fn message(&mut self, _: &Message, _: &mut Opening<'_>) -> Progress {
        mishap()
    }
}

/// The kind that panics after the end was reported, when it is asked for what follows.
const AFTER_THE_CLOSE: usize = 13;

/// The code that panics, by name, and the options that install it.
fn kinds(address: SocketAddr) -> Vec<(&'static str, Options)> {
    let url = format!("ws://{address}/");
    let well = || Options::new(&url).expect("a URL");
    let later = |_| async { mishap() };
    let poll = |_| std::future::poll_fn(|_| -> Poll<Result<Request, RequestError>> { mishap() });
    let decode = |_, _| -> Result<Message, Undecodable> { mishap() };
    vec![
        ("the dial factory", Options::from_factory(|_| mishap())),
        ("the dial factory", Options::from_async_factory(later)),
        ("the dial factory", Options::from_async_factory(poll)),
        (
            "the dial factory",
            Options::from_blocking_factory(|_| mishap()),
        ),
        (
            "the resolver",
            Options::new("ws://name.test/")
                .expect("a URL")
                .resolver(Resolver::new(|_| mishap())),
        ),
        ("the dial budget", well().dial_budget(Arc::new(Budget))),
        ("the observer", well().observer(|_, _, _, _| mishap())),
        (
            "on_connect",
            well().on_connect(|_: &mut Opening<'_>| -> Progress { mishap() }),
        ),
        ("on_connect", well().on_connect(AtAMessage)),
        (
            "the decoder",
            well().decoder(|| -> fn(Message, usize) -> Result<Message, Undecodable> { mishap() }),
        ),
        ("the decoder", well().decoder(move || decode)),
        ("the dialect", well().dialect(Mistaken::Classify)),
        ("the dialect", well().dialect(Mistaken::Greeting)),
        ("the dialect", well().dialect(Mistaken::Verdict)),
        ("the dialect", well().dialect(Mistaken::Track)),
    ]
}

fn each_panic_of_the_applications_ends_the_client_as_one_in_on_connect_does(case: Case) {
    for (number, (code, options)) in kinds(server()).into_iter().enumerate() {
        let what = format!("{number}: {code}");
        let mut client = case.start(options.hold(10, 1000));
        // The message was held, or written, or refused because it was too late.
        let accepted = client.sender().try_send("held").is_ok();
        let mut told = Vec::new();
        let mut unsent = 0;
        let mut begun = false;
        loop {
            let Some(event) = client.next() else { break };
            match &event {
                Event::Connecting { .. } => begun = true,
                Event::Disconnected { reason, detail, .. } => {
                    told.push(format!("{reason}: {}", detail.as_deref().unwrap_or("")));
                }
                Event::GaveUp { reason, .. } => told.push(format!("gave up: {reason}")),
                Event::Stopped { .. } => told.push("stopped".into()),
                _ => {}
            }
            unsent += event.into_unsent().len();
        }
        let disconnected = if number == AFTER_THE_CLOSE {
            "close 4000: ".into()
        } else {
            format!("session refused: {code} panicked: {WORDS}")
        };
        let end = ["gave up: session refused", "stopped"].map(String::from);
        if begun {
            assert_eq!(told, [&[disconnected], &end[..]].concat(), "{what}");
        } else {
            assert_eq!(told, end, "{what}");
        }
        assert!(unsent <= usize::from(accepted), "{what}");
        assert_eq!(
            client.stats().phase.as_str(),
            "stopped",
            "{what}: the figures say so, too"
        );
        let refused = client.sender().try_send("late").expect_err("it has ended");
        assert_eq!(
            refused.reason,
            heartbeat_tokio::SendErrorKind::Ended,
            "{what}"
        );
    }
}

fn a_panic_after_stop_ends_the_client_as_it_was_asked_to(case: Case) {
    let address = server();
    let mut seen = false;
    let options = Options::new(&format!("ws://{address}/"))
        .expect("a URL")
        .observer(move |_, event, _, phase| {
            seen |= matches!(event, heartbeat_tokio::core::Event::Stop);
            if seen && phase == heartbeat_tokio::core::Phase::Closing {
                mishap();
            }
        });
    let mut client = case.start(options);
    client.until_connected();
    client.sender().stop();
    client.until(|event| match event {
        Event::GaveUp { reason, .. } => panic!("{reason}"),
        Event::Stopped { .. } => Some(()),
        _ => None,
    });
    assert_eq!(client.next(), None);
}

fn a_factory_that_returns_or_panics_after_the_end_troubles_nobody(case: Case) {
    for panics in [false, true] {
        let (goes_on, waits) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let mut waits = Some(waits);
        let options = Options::from_blocking_factory(move |_| {
            let ended = Ended(tell.clone());
            let _ = waits.take().expect("called once").recv();
            if panics {
                mishap();
            }
            drop(ended);
            Request::new("ws://127.0.0.1:1/")
        });
        let mut client = case.start(options);
        client.until(|event| matches!(event, Event::Connecting { .. }).then_some(()));
        client.drive_for(Duration::from_millis(20));
        assert!(client.stop().is_empty());
        drop(goes_on);
        told.recv().expect("it has ended");
    }
}

/// Reports when it is dropped, also by a panic.
struct Ended(std::sync::mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}
