//! Outbox and handoff under every interleaving of two or three threads, by loom:
//!
//! ```sh
//! RUSTFLAGS="--cfg heartbeat_loom" cargo test --release -p heartbeat-driver --lib --target-dir target/loom loom_tests::
//! ```
//!
//! A wake-up that is lost leaves a thread waiting for ever: loom tells that as a deadlock. Each test says which
//! mistake it was seen to catch.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{ConnId, Instant};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::{Handoff, Ids, Limits, Outbox, Overflow, Refusal};
use crate::event::Event;
use crate::message::Message;
use crate::stats::Board;

const CONN: ConnId = ConnId::new(1);
const EVER: Duration = Duration::MAX;

/// Preemptions in one run. Two find every mistake that was tried; three are for good measure.
const PREEMPTIONS: usize = 3;

fn every_interleaving(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(PREEMPTIONS));
    model.check(run);
}

/// What an adapter waits with: a poller's waker, a task's. It remembers that it was rung.
struct Bell {
    rung: Mutex<bool>,
    change: Condvar,
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rung: Mutex::new(false),
            change: Condvar::new(),
        })
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.change.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !std::mem::take(&mut *rung) {
            rung = self.change.wait(rung).unwrap();
        }
    }
}

// ---- the engine's side of an outbox, in the tests' words ---------------------------------------

/// An outbox with room for `messages`, and what it wakes its engine with.
fn closed_outbox(messages: usize, hold: Option<(usize, usize)>) -> (Arc<Outbox>, Arc<Bell>) {
    let limits = Limits {
        messages,
        bytes: 100,
        message_size: 100,
        hold,
    };
    let engine = Bell::new();
    let wake = Arc::clone(&engine);
    let wake = Box::new(move || wake.ring());
    let outbox = Outbox::new(limits, Ids::from(1), wake);
    (Arc::new(outbox), engine)
}

/// The same, open.
fn outbox(messages: usize) -> (Arc<Outbox>, Arc<Bell>) {
    let (outbox, engine) = closed_outbox(messages, None);
    outbox.open(CONN, true);
    (outbox, engine)
}

/// Takes messages until there are this many bytes, or none is left.
fn take(outbox: &Outbox, bytes: usize) -> Vec<String> {
    let taken = outbox.take_bytes(bytes).into_iter();
    taken.map(|waiting| text(waiting.message)).collect()
}

fn take_all(outbox: &Outbox) -> Vec<String> {
    take(outbox, usize::MAX)
}

fn take_one(outbox: &Outbox) -> Vec<String> {
    take(outbox, 1)
}

fn close(outbox: &Outbox) -> Vec<String> {
    let unsent = outbox.close(false, VecDeque::new(), Instant::ORIGIN);
    unsent.into_iter().map(|back| text(back.message)).collect()
}

/// Whether there was a kick and a stop.
fn commands(outbox: &Outbox) -> (bool, bool) {
    let commands = outbox.commands(Instant::ORIGIN);
    (commands.kick, commands.stop)
}

fn text(message: Message) -> String {
    message.as_text().unwrap_or_default().to_owned()
}

// ---- outbox --------------------------------------------------------------------------------------

/// Two messages come whenever they like; the engine does `idle` where nothing is pending.
fn two_messages_are_taken(idle: impl Fn(&Outbox, &Bell) + Send + Sync + 'static) {
    every_interleaving(move || {
        let (outbox, engine) = outbox(4);
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                for name in ["a", "b"] {
                    outbox.try_send(name.into()).expect("open, and room");
                }
            })
        };
        let mut taken = Vec::new();
        while taken.len() < 2 {
            if outbox.is_pending() {
                commands(&outbox);
                taken.extend(take_all(&outbox));
            } else {
                idle(&outbox, &engine);
            }
        }
        sender.join().expect("sent");
        assert_eq!(taken, ["a", "b"], "each once, in order");
    });
}

/// Caught: `pending` set before the message is queued; `pending` set after the engine is woken; the engine
/// not woken.
#[test]
fn no_wake_up_for_a_message_is_lost() {
    two_messages_are_taken(|_, engine| engine.wait());
}

/// The same where the engine is woken only while it rests.
///
/// Caught: the engine rests without looking once more; it looks before it says that it rests.
#[test]
fn no_wake_up_of_an_engine_that_rests_is_lost() {
    two_messages_are_taken(|outbox, engine| {
        if outbox.rest() {
            engine.wait();
        }
        outbox.rise();
    });
}

/// Caught: `pending` cleared after the commands were taken, not before.
#[test]
fn no_command_is_lost() {
    every_interleaving(|| {
        let (outbox, engine) = outbox(4);
        let user = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                outbox.kick();
                outbox.stop();
            })
        };
        let (mut kicked, mut stopped) = (0, 0);
        while kicked + stopped < 2 {
            if outbox.is_pending() {
                let (kick, stop) = commands(&outbox);
                kicked += u32::from(kick);
                stopped += u32::from(stop);
            } else {
                engine.wait();
            }
        }
        user.join().expect("kicked and stopped");
        assert_eq!((kicked, stopped), (1, 1));
    });
}

/// Caught: `pending` set before the message is queued.
#[test]
fn what_waits_is_pending() {
    every_interleaving(|| {
        let (outbox, _engine) = outbox(4);
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || outbox.try_send("a".into()).expect("open, and room"))
        };
        commands(&outbox);
        let before = take_all(&outbox);
        sender.join().expect("sent");
        assert!(
            !before.is_empty() || outbox.is_pending(),
            "a message waits, and the engine will not look"
        );
        commands(&outbox);
        assert_eq!([before, take_all(&outbox)].concat(), ["a"]);
    });
}

/// Caught: whether a connection is open decided under one lock, the message queued under the next.
#[test]
fn each_message_is_taken_once_or_handed_back_whenever_the_connection_ends() {
    every_interleaving(|| {
        let (outbox, _engine) = outbox(1);
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                let sent = ["a", "b"].map(|name| outbox.try_send(name.into()));
                let back = sent.into_iter().filter_map(Result::err);
                back.map(|error| text(error.message)).collect::<Vec<_>>()
            })
        };
        let mut all = take_one(&outbox);
        all.extend(close(&outbox));
        all.extend(sender.join().expect("sent"));
        assert_eq!(take_all(&outbox), [] as [String; 0], "none is left behind");
        all.sort();
        assert_eq!(all, ["a", "b"]);
    });
}

/// Caught: the connection opened without the flag that spares the engine the lock.
#[test]
fn a_message_that_is_held_goes_out_whenever_the_connection_opens() {
    every_interleaving(|| {
        let (outbox, engine) = closed_outbox(1, Some((1, 100)));
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || outbox.try_send("a".into()).expect("held"))
        };
        outbox.open(CONN, true);
        let mut taken = take_all(&outbox);
        while taken.is_empty() {
            if outbox.is_pending() {
                commands(&outbox);
                taken.extend(take_all(&outbox));
            } else {
                engine.wait();
            }
        }
        sender.join().expect("sent");
        assert_eq!(taken, ["a"]);
    });
}

/// A sender waits for room while `release` happens: what the sender was told, and what is queued after.
fn release(release: impl Fn(&Outbox) + Send + Sync + 'static) {
    let release = Arc::new(release);
    every_interleaving(move || {
        let (outbox, _engine) = outbox(1);
        outbox.try_send("first".into()).expect("room");
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || outbox.send_timeout("second".into(), EVER))
        };
        release(&outbox);
        let told = sender.join().expect("released");
        if let Err(error) = told {
            assert_ne!(error.reason, Refusal::Full, "it would have waited on");
            assert_eq!(text(error.message), "second", "handed back");
        }
    });
}

/// Caught: nobody told of the room.
#[test]
fn a_waiting_sender_is_released_by_room() {
    release(|outbox| assert_eq!(take_one(outbox), ["first"]));
}

/// Caught: nobody told of the close.
#[test]
fn a_waiting_sender_is_released_by_the_end_of_the_connection() {
    release(|outbox| assert_eq!(close(outbox), ["first"]));
}

/// Caught: nobody told of the end.
#[test]
fn a_waiting_sender_is_released_by_the_end_of_the_client() {
    release(Outbox::end);
}

/// Caught: nobody told of the stop.
#[test]
fn a_waiting_sender_is_released_by_a_stop() {
    release(Outbox::stop);
}

/// Caught: the second not called when the first has come; room that is kept for one who has come already.
#[test]
fn two_who_wait_for_room_both_have_their_turn() {
    every_interleaving(|| {
        let (outbox, engine) = outbox(1);
        outbox.try_send("first".into()).expect("room");
        let senders = ["a", "b"].map(|name| {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || outbox.send_timeout(name.into(), EVER))
        });
        let mut taken = Vec::new();
        while taken.len() < 3 {
            if outbox.is_pending() {
                commands(&outbox);
                taken.extend(take_all(&outbox));
            } else {
                engine.wait();
            }
        }
        for sender in senders {
            assert_eq!(sender.join().expect("released"), Ok(()));
        }
        taken.sort();
        assert_eq!(taken, ["a", "b", "first"]);
    });
}

/// A task's turn comes, and it has gone: another one has it.
///
/// Caught: a place that is not given back.
#[test]
fn a_task_that_goes_while_it_is_called_leaves_its_turn_to_the_next() {
    every_interleaving(|| {
        let (outbox, _engine) = outbox(1);
        outbox.try_send("first".into()).expect("room");
        let goes = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                let mut sending = std::pin::pin!(outbox.send("a".into()));
                let waker = std::task::Waker::noop();
                let polled = sending
                    .as_mut()
                    .poll(&mut std::task::Context::from_waker(waker));
                polled.is_ready()
            })
        };
        let stays = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || outbox.send_timeout("b".into(), EVER))
        };
        let mut taken = take_all(&outbox);
        let sent = goes.join().expect("gone");
        taken.extend(take_all(&outbox));
        assert_eq!(stays.join().expect("released"), Ok(()));
        taken.extend(take_all(&outbox));
        assert_eq!(taken.contains(&"a".to_owned()), sent);
        assert!(taken.contains(&"b".to_owned()));
    });
}

// ---- handoff -------------------------------------------------------------------------------------

fn event(text: &str) -> Event {
    Event::Message {
        conn: CONN,
        message: text.into(),
    }
}

/// The driver passes two events on, one at a time, and waits whenever there is no room; the application waits
/// whenever there is nothing.
///
/// Caught: the application not told of an event, nor of the end; the driver not told of room; that the driver
/// starves noted after the lock is given back; the driver told of room before it is there.
#[test]
fn events_arrive_in_order_and_the_end_is_told_whoever_waits() {
    every_interleaving(|| {
        let driver = Bell::new();
        let wake = Arc::clone(&driver);
        let handoff = Arc::new(Handoff::new(
            1,
            Overflow::Pause,
            Arc::new(Board::default()),
            Box::new(move || wake.ring()),
            Box::new(|| {}),
        ));
        let pushing = {
            let handoff = Arc::clone(&handoff);
            thread::spawn(move || {
                for name in ["a", "b"] {
                    let mut room = handoff.push(&mut [event(name)].into());
                    while !room.is_free() {
                        driver.wait();
                        room = handoff.has_room();
                    }
                }
                handoff.end();
            })
        };
        let mut all = VecDeque::new();
        while handoff.take_until(&mut all, None) {}
        // What came together with the end was taken with it.
        assert_eq!(all, ["a", "b"].map(event));
        pushing.join().expect("pushed");
    });
}
