//! Loom tests of the send queue and the event queue: every interleaving of two or three threads.
//!
//! ```sh
//! RUSTFLAGS="--cfg heartbeat_loom" cargo test --release -p heartbeat-driver --lib --target-dir target/loom loom_tests::
//! ```
//!
//! A lost wake-up leaves a thread waiting for ever, and loom reports a deadlock. Each test names the mistakes
//! that it was seen to catch.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{ConnId, Instant};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::{EventQueue, Ids, Limits, Overflow, SendErrorKind, SendQueue};
use crate::event::Event;
use crate::message::Message;
use crate::stats::SharedStats;

const CONN: ConnId = ConnId::new(1);
const EVER: Duration = Duration::MAX;

/// Preemptions in one run. Two find every mistake that was tried; the third is a margin.
const PREEMPTIONS: usize = 3;

fn every_interleaving(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(PREEMPTIONS));
    model.check(run);
}

/// The notification of an adapter: a poller's waker, or a task's. It remembers that it was rung.
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

// ---- the engine's side of a send queue ---------------------------------------

/// Returns a closed send queue with room for `messages`, and the bell of its engine.
fn closed_outbox(messages: usize, hold: Option<(usize, usize)>) -> (Arc<SendQueue>, Arc<Bell>) {
    let limits = Limits {
        messages,
        bytes: 100,
        message_size: 100,
        hold,
    };
    let engine = Bell::new();
    let wake = Arc::clone(&engine);
    let wake = Box::new(move || wake.ring());
    let send_queue = SendQueue::new(limits, Ids::from(1), wake);
    (Arc::new(send_queue), engine)
}

/// Returns an open send queue with room for `messages`, and the bell of its engine.
fn send_queue(messages: usize) -> (Arc<SendQueue>, Arc<Bell>) {
    let (send_queue, engine) = closed_outbox(messages, None);
    send_queue.open(CONN, true);
    (send_queue, engine)
}

/// Takes messages until they have this many bytes, or none is left.
fn take(send_queue: &SendQueue, bytes: usize) -> Vec<String> {
    let taken = send_queue.take_bytes(bytes).into_iter();
    taken.map(|waiting| text(waiting.message)).collect()
}

fn take_all(send_queue: &SendQueue) -> Vec<String> {
    take(send_queue, usize::MAX)
}

fn take_one(send_queue: &SendQueue) -> Vec<String> {
    take(send_queue, 1)
}

fn close(send_queue: &SendQueue) -> Vec<String> {
    let unsent = send_queue.close(false, VecDeque::new(), Instant::ORIGIN);
    unsent.into_iter().map(|back| text(back.message)).collect()
}

/// Takes the commands, and returns whether there was a kick and a stop.
fn commands(send_queue: &SendQueue) -> (bool, bool) {
    let commands = send_queue.commands(Instant::ORIGIN);
    (commands.kick, commands.stop)
}

fn text(message: Message) -> String {
    message.as_text().unwrap_or_default().to_owned()
}

// ---- send queue --------------------------------------------------------------------------------------

/// Sends two messages at any time. The engine calls `idle` when nothing is pending.
fn two_messages_are_taken(idle: impl Fn(&SendQueue, &Bell) + Send + Sync + 'static) {
    every_interleaving(move || {
        let (send_queue, engine) = send_queue(4);
        let sender = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || {
                for name in ["a", "b"] {
                    send_queue.try_send(name.into()).expect("open, and room");
                }
            })
        };
        let mut taken = Vec::new();
        while taken.len() < 2 {
            if send_queue.is_pending() {
                commands(&send_queue);
                taken.extend(take_all(&send_queue));
            } else {
                idle(&send_queue, &engine);
            }
        }
        sender.join().expect("sent");
        assert_eq!(taken, ["a", "b"], "each once, in order");
    });
}

/// Caught: `pending` set before the message is queued; `pending` set after the engine is woken; the engine not
/// woken.
#[test]
fn no_wake_up_for_a_message_is_lost() {
    two_messages_are_taken(|_, engine| engine.wait());
}

/// As above, with an engine that is woken only while it rests.
///
/// Caught: the engine rests without looking once more; it looks before it says that it rests.
#[test]
fn no_wake_up_of_an_engine_that_rests_is_lost() {
    two_messages_are_taken(|send_queue, engine| {
        if send_queue.rest() {
            engine.wait();
        }
        send_queue.rise();
    });
}

/// Caught: `pending` cleared after the commands were taken, not before.
#[test]
fn no_command_is_lost() {
    every_interleaving(|| {
        let (send_queue, engine) = send_queue(4);
        let user = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || {
                send_queue.kick();
                send_queue.stop();
            })
        };
        let (mut kicked, mut stopped) = (0, 0);
        while kicked + stopped < 2 {
            if send_queue.is_pending() {
                let (kick, stop) = commands(&send_queue);
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
        let (send_queue, _engine) = send_queue(4);
        let sender = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || send_queue.try_send("a".into()).expect("open, and room"))
        };
        commands(&send_queue);
        let before = take_all(&send_queue);
        sender.join().expect("sent");
        assert!(
            !before.is_empty() || send_queue.is_pending(),
            "a message waits, and the engine will not look"
        );
        commands(&send_queue);
        assert_eq!([before, take_all(&send_queue)].concat(), ["a"]);
    });
}

/// Caught: whether a connection is open decided under one lock, the message queued under the next.
#[test]
fn each_message_is_taken_once_or_handed_back_whenever_the_connection_ends() {
    every_interleaving(|| {
        let (send_queue, _engine) = send_queue(1);
        let sender = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || {
                let sent = ["a", "b"].map(|name| send_queue.try_send(name.into()));
                let back = sent.into_iter().filter_map(Result::err);
                back.map(|error| text(error.message)).collect::<Vec<_>>()
            })
        };
        let mut all = take_one(&send_queue);
        all.extend(close(&send_queue));
        all.extend(sender.join().expect("sent"));
        assert_eq!(
            take_all(&send_queue),
            [] as [String; 0],
            "none is left behind"
        );
        all.sort();
        assert_eq!(all, ["a", "b"]);
    });
}

/// Caught: the connection opened without the flag that spares the engine the lock.
#[test]
fn a_message_that_is_held_goes_out_whenever_the_connection_opens() {
    every_interleaving(|| {
        let (send_queue, engine) = closed_outbox(1, Some((1, 100)));
        let sender = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || send_queue.try_send("a".into()).expect("held"))
        };
        send_queue.open(CONN, true);
        let mut taken = take_all(&send_queue);
        while taken.is_empty() {
            if send_queue.is_pending() {
                commands(&send_queue);
                taken.extend(take_all(&send_queue));
            } else {
                engine.wait();
            }
        }
        sender.join().expect("sent");
        assert_eq!(taken, ["a"]);
    });
}

/// Calls `release` while a sender waits for room. Checks the sender's result, and what is queued afterwards.
fn release(release: impl Fn(&SendQueue) + Send + Sync + 'static) {
    let release = Arc::new(release);
    every_interleaving(move || {
        let (send_queue, _engine) = send_queue(1);
        send_queue.try_send("first".into()).expect("room");
        let sender = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || send_queue.send_timeout("second".into(), EVER))
        };
        release(&send_queue);
        let told = sender.join().expect("released");
        if let Err(error) = told {
            assert_ne!(error.reason, SendErrorKind::Full, "it would have waited on");
            assert_eq!(text(error.message), "second", "handed back");
        }
    });
}

/// Caught: the waiting sender not told of the room.
#[test]
fn a_waiting_sender_is_released_by_room() {
    release(|send_queue| assert_eq!(take_one(send_queue), ["first"]));
}

/// Caught: the waiting sender not told of the close.
#[test]
fn a_waiting_sender_is_released_by_the_end_of_the_connection() {
    release(|send_queue| assert_eq!(close(send_queue), ["first"]));
}

/// Caught: the waiting sender not told of the end.
#[test]
fn a_waiting_sender_is_released_by_the_end_of_the_client() {
    release(SendQueue::end);
}

/// Caught: the waiting sender not told of the stop.
#[test]
fn a_waiting_sender_is_released_by_a_stop() {
    release(SendQueue::stop);
}

/// Caught: the second sender not called after the first has come; room that stays reserved for a sender who has
/// come.
#[test]
fn two_who_wait_for_room_both_have_their_turn() {
    every_interleaving(|| {
        let (send_queue, engine) = send_queue(1);
        send_queue.try_send("first".into()).expect("room");
        let senders = ["a", "b"].map(|name| {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || send_queue.send_timeout(name.into(), EVER))
        });
        let mut taken = Vec::new();
        while taken.len() < 3 {
            if send_queue.is_pending() {
                commands(&send_queue);
                taken.extend(take_all(&send_queue));
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

/// A called task is dropped before it comes. Another task gets its turn.
///
/// Caught: a place that is not given back.
#[test]
fn a_task_that_goes_while_it_is_called_leaves_its_turn_to_the_next() {
    every_interleaving(|| {
        let (send_queue, _engine) = send_queue(1);
        send_queue.try_send("first".into()).expect("room");
        let goes = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || {
                let mut sending = std::pin::pin!(send_queue.send("a".into()));
                let waker = std::task::Waker::noop();
                let polled = sending
                    .as_mut()
                    .poll(&mut std::task::Context::from_waker(waker));
                polled.is_ready()
            })
        };
        let stays = {
            let send_queue = Arc::clone(&send_queue);
            thread::spawn(move || send_queue.send_timeout("b".into(), EVER))
        };
        let mut taken = take_all(&send_queue);
        let sent = goes.join().expect("gone");
        taken.extend(take_all(&send_queue));
        assert_eq!(stays.join().expect("released"), Ok(()));
        taken.extend(take_all(&send_queue));
        assert_eq!(taken.contains(&"a".to_owned()), sent);
        assert!(taken.contains(&"b".to_owned()));
    });
}

// ---- event queue -------------------------------------------------------------------------------------

fn event(text: &str) -> Event {
    Event::Message {
        conn: CONN,
        message: text.into(),
    }
}

/// The driver adds two events, one at a time, and waits whenever there is no room. The application waits
/// whenever there is no event.
///
/// Caught: the application not told of an event, or of the end; the driver not told of room; the driver's wait
/// noted only after the lock was released; the driver told of room before there is room.
#[test]
fn events_arrive_in_order_and_the_end_is_told_whoever_waits() {
    every_interleaving(|| {
        let driver = Bell::new();
        let wake = Arc::clone(&driver);
        let event_queue = Arc::new(EventQueue::new(
            1,
            Overflow::Pause,
            Arc::new(SharedStats::default()),
            Box::new(move || wake.ring()),
            Box::new(|| {}),
        ));
        let pushing = {
            let event_queue = Arc::clone(&event_queue);
            thread::spawn(move || {
                for name in ["a", "b"] {
                    let mut room = event_queue.push(&mut [event(name)].into());
                    while !room.is_free() {
                        driver.wait();
                        room = event_queue.has_room();
                    }
                }
                event_queue.end();
            })
        };
        let mut all = VecDeque::new();
        while event_queue.take_until(&mut all, None) {}
        // Events that came together with the end were taken with it.
        assert_eq!(all, ["a", "b"].map(event));
        pushing.join().expect("pushed");
    });
}
