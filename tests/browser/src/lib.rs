//! The machine for a page: the page reports what happened and the time of `performance.now()`, the module calls back what is
//! to be done, and `wake` tells when to tick. Text goes through one buffer of this module's memory.
//!
//! A page is one thread, and none of the callbacks comes back into the module.
#![no_std]

use core::cell::UnsafeCell;
#[cfg(target_arch = "wasm32")]
use core::panic::PanicInfo;
use core::time::Duration;

#[cfg(not(feature = "json"))]
use heartbeat_core::FramesOnly as Dialect;
#[cfg(feature = "json")]
use heartbeat_core::JsonType as Dialect;
use heartbeat_core::{
    Action, Cause, Config, ConnId, Event, Heartbeat, Instant, Message, Ping, PingMessage, Reply,
};

#[link(wasm_import_module = "page")]
unsafe extern "C" {
    fn connect(conn: u32);
    fn send(conn: u32, text: *const u8, len: usize);
    /// The closing handshake.
    fn close(conn: u32, code: u32);
    /// The connection is dead, and why: a word.
    fn abort(conn: u32, reason: *const u8, len: usize);
    fn gave_up();
}

/// A page cannot send ping frames. It asks by this message.
const QUESTION: &str = r#"{"type":"ping"}"#;

struct Page<T>(UnsafeCell<T>);

// SAFETY: a page is one thread.
unsafe impl<T> Sync for Page<T> {}

static MACHINE: Page<Option<Heartbeat<Config, Dialect>>> = Page(UnsafeCell::new(None));

const CAPACITY: usize = 1024;
static TEXT: Page<[u8; CAPACITY]> = Page(UnsafeCell::new([0; CAPACITY]));

/// Where the page writes a message's text, before it reports it.
#[unsafe(no_mangle)]
extern "C" fn buffer() -> *mut u8 {
    TEXT.0.get().cast()
}

/// How much of it there is. A longer message is no ping: the page reports it as data.
#[unsafe(no_mangle)]
extern "C" fn capacity() -> usize {
    CAPACITY
}

/// Makes the machine, with times in milliseconds. Whether the configuration is good.
#[unsafe(no_mangle)]
extern "C" fn start(now: f64, seed: u32, idle: u32, silence: u32, pong: u32) -> bool {
    let milliseconds = |n: u32| Duration::from_millis(n.into());
    let config = Config::builder()
        .idle_timeout(milliseconds(idle))
        .ping(Ping::AfterSilence(milliseconds(silence)))
        .pong_timeout(milliseconds(pong))
        .check_interval(None)
        .build();
    let Ok(config) = config else { return false };
    let machine = Heartbeat::new(config, Dialect, seed.into(), instant(now));
    // SAFETY: nobody else holds the machine (above).
    unsafe { *MACHINE.0.get() = Some(machine) };
    true
}

#[unsafe(no_mangle)]
extern "C" fn tick(now: f64) {
    step(now, Event::Tick);
}

#[unsafe(no_mangle)]
extern "C" fn connected(now: f64, conn: u32) {
    step(now, Event::Connected(id(conn)));
}

/// A text message, the first `len` bytes of the buffer.
#[unsafe(no_mangle)]
extern "C" fn text(now: f64, conn: u32, len: usize) {
    // SAFETY: the page writes to the buffer before this call, and not during it.
    let buffer = unsafe { &*TEXT.0.get() };
    let message = match buffer.get(..len).map(core::str::from_utf8) {
        Some(Ok(text)) => Message::Text(text),
        _ => Message::Data,
    };
    step(now, Event::Received(id(conn), message));
}

#[unsafe(no_mangle)]
extern "C" fn data(now: f64, conn: u32) {
    step(now, Event::Received(id(conn), Message::Data));
}

/// The end of a dial or of a connection: the code of the page's `CloseEvent`, where 1006 stands for no Close frame.
#[unsafe(no_mangle)]
extern "C" fn closed(now: f64, conn: u32, code: u32) {
    let cause = match u16::try_from(code) {
        Ok(1006) | Err(_) => Cause::Eof,
        Ok(code) => Cause::Close(code),
    };
    step(now, Event::Closed(id(conn), cause));
}

#[unsafe(no_mangle)]
extern "C" fn kick(now: f64) {
    step(now, Event::Kick);
}

/// When to tick, in milliseconds of `performance.now()`; infinity for never.
#[unsafe(no_mangle)]
extern "C" fn wake() -> f64 {
    // SAFETY: as in `step`.
    let machine = unsafe { &*MACHINE.0.get() };
    match machine.as_ref().and_then(Heartbeat::wake) {
        Some(wake) => wake.as_nanos() as f64 / 1e6,
        None => f64::INFINITY,
    }
}

fn step(now: f64, event: Event<'_>) {
    // SAFETY: one thread, and no callback calls this module.
    let Some(machine) = (unsafe { &mut *MACHINE.0.get() }) else {
        return;
    };
    for action in machine.step(instant(now), event).actions {
        // SAFETY: the page's functions; it reads the texts before it returns.
        unsafe {
            match action {
                Action::Connect { conn, .. } => connect(number(conn)),
                Action::SendPong {
                    conn,
                    reply: Reply::Text(text),
                } => {
                    send(number(conn), text.as_ptr(), text.len());
                }
                Action::SendPing {
                    conn,
                    ping: PingMessage::Frame(_),
                } => {
                    send(number(conn), QUESTION.as_ptr(), QUESTION.len());
                }
                Action::Close { conn, code } | Action::Renew { conn, code, .. } => {
                    close(number(conn), code.into());
                }
                Action::Abort { conn, reason } => {
                    let reason = reason.as_str();
                    abort(number(conn), reason.as_ptr(), reason.len());
                }
                Action::GaveUp { .. } => gave_up(),
                _ => {}
            }
        }
    }
}

fn instant(milliseconds: f64) -> Instant {
    Instant::from_nanos((milliseconds * 1e6) as u64)
}

fn id(conn: u32) -> ConnId {
    ConnId::new(conn.into())
}

/// A page makes fewer connections than 2^32.
fn number(conn: ConnId) -> u32 {
    conn.get() as u32
}

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
