//! Our own clients on the torture course, with the same command line as all others (`tests/peers`).
//!
//! `--client tokio-task|tokio-in-place|blocking-thread|blocking-in-place`, `--url`, and the rest of
//! `driver.rs`.

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a program for real clocks and real sockets"
)]

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::{Config, Event, Options, Ping};

#[path = "../peers/src/driver.rs"]
#[allow(
    unreachable_pub,
    missing_docs,
    reason = "a library of its own in tests/peers"
)]
mod driver;

use driver::Course;

fn options(course: &Course) -> Options {
    let ping = if course.every {
        Ping::Every(course.ping)
    } else {
        Ping::AfterSilence(course.ping)
    };
    let config = Config::builder()
        .idle_timeout(course.death)
        .ping(ping)
        .pong_timeout(course.death - course.ping)
        .connect_timeout(course.connect)
        .stable_after(course.stable)
        .data_timeout(course.data)
        .keepalive(course.keepalive)
        .backoff(course.backoff, course.backoff * 8, 50)
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    Options::new(&course.url)
        .unwrap_or_else(|error| panic!("{error}"))
        .config(config)
}

/// Reports an event. For the first connection, returns how long the application takes nothing.
fn tell(event: Event, course: &Course) -> ControlFlow<(), Option<Duration>> {
    match event {
        Event::Connected { .. } => {
            driver::connected();
            return ControlFlow::Continue(course.hold());
        }
        Event::Message { message, .. } => driver::message(message.as_text().unwrap_or_default()),
        Event::Disconnected { reason, unsent, .. } => {
            driver::returned(unsent.len());
            driver::say("disconnected", &reason.to_string());
        }
        Event::GaveUp { reason, .. } => driver::say("gave_up", &format!("{reason:?}")),
        Event::Stopped { unsent, .. } => {
            driver::returned(unsent.len());
            return ControlFlow::Break(());
        }
        _ => {}
    }
    ControlFlow::Continue(None)
}

async fn send_all(sender: heartbeat_tokio::Sender, course: Course) {
    for (pause, text) in course.sends() {
        tokio::time::sleep(pause).await;
        driver::sent(sender.send(text).await.is_ok());
    }
}

macro_rules! take_all {
    ($client:ident, $course:ident) => {{
        let mut sending = false;
        while let Some(event) = $client.next().await {
            if !sending && matches!(event, Event::Connected { .. }) {
                sending = true;
                tokio::spawn(send_all($client.sender().clone(), $course.clone()));
            }
            match tell(event, &$course) {
                ControlFlow::Continue(Some(hold)) => tokio::time::sleep(hold).await,
                ControlFlow::Continue(None) => {}
                ControlFlow::Break(()) => break,
            }
        }
    }};
}

fn on_tokio(course: Course, in_place: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        if in_place {
            let mut client = heartbeat_tokio::InPlace::new(options(&course)).expect("roots");
            take_all!(client, course);
        } else {
            let mut client = heartbeat_tokio::Client::spawn(options(&course)).expect("roots");
            take_all!(client, course);
        }
    });
}

fn on_threads(
    course: &Course,
    sender: heartbeat_blocking::Sender,
    events: impl Iterator<Item = Event>,
) {
    let mut sender = Some(sender);
    for event in events {
        if matches!(event, Event::Connected { .. })
            && let Some(sender) = sender.take()
        {
            let sends = course.sends();
            thread::spawn(move || {
                for (pause, text) in sends {
                    thread::sleep(pause);
                    driver::sent(sender.send(text).is_ok());
                }
            });
        }
        match tell(event, course) {
            ControlFlow::Continue(Some(hold)) => thread::sleep(hold),
            ControlFlow::Continue(None) => {}
            ControlFlow::Break(()) => break,
        }
    }
}

fn main() {
    let course = Course::from_args();
    match course.client.as_str() {
        "tokio-task" => on_tokio(course, false),
        "tokio-in-place" => on_tokio(course, true),
        "blocking-thread" => {
            let client = heartbeat_blocking::Client::spawn(options(&course)).expect("roots");
            on_threads(&course, client.sender().clone(), client);
        }
        "blocking-in-place" => {
            let client = heartbeat_blocking::InPlace::new(options(&course)).expect("roots");
            on_threads(&course, client.sender().clone(), client);
        }
        other => {
            eprintln!(
                "--client {other}: tokio-task, tokio-in-place, blocking-thread or blocking-in-place"
            );
            std::process::exit(2);
        }
    }
    // Ended for good. The counts are printed when the time is over, as for all clients.
    loop {
        thread::park();
    }
}
