//! One life of a connection, on nothing but the core. Exit status 0 if it went as it should.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use heartbeat_core::{
    AbortReason, Action, Config, ConnId, Event, FramesOnly, Heartbeat, Instant, Message, Reply,
};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

// The kernel jumps here with an aligned stack; a function expects to have been called.
core::arch::global_asm!(".globl _start", "_start: call {start}", start = sym start);

extern "C" fn start() -> ! {
    exit(if lives_and_dies() { 0 } else { 1 })
}

// What the compiler calls to copy, fill and compare bytes, in place of a C library's. In assembler, for
// a loop would be made into a call of itself.

#[unsafe(no_mangle)]
extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller promises `count` bytes at both; the direction flag is clear by convention.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _);
    }
    to
}

#[unsafe(no_mangle)]
extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller promises `count` bytes; the direction flag is clear by convention.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value as u8);
    }
    to
}

#[unsafe(no_mangle)]
extern "C" fn bcmp(mut left: *const u8, mut right: *const u8, count: usize) -> i32 {
    for _ in 0..count {
        // SAFETY: the caller promises `count` readable bytes at both.
        unsafe {
            if left.read_volatile() != right.read_volatile() {
                return 1;
            }
            (left, right) = (left.add(1), right.add(1));
        }
    }
    0
}

fn lives_and_dies() -> bool {
    let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
    let mut machine = Heartbeat::new(Config::default(), FramesOnly, 7, at(0));
    let conn = ConnId::new(1);

    let dialled = machine.step(at(0), Event::Tick).actions[..]
        == [Action::Connect {
            conn,
            attempt: 0,
            refresh: false,
        }];
    let opened = machine
        .step(at(1), Event::Connected(conn))
        .actions
        .is_empty();
    let answered = machine
        .step(at(2), Event::Received(conn, Message::Ping(b"7")))
        .actions[..]
        == [Action::SendPong {
            conn,
            reply: Reply::Frame(b"7"),
        }];
    let mut verdict = None;
    while let (Some(wake), None) = (machine.wake(), verdict) {
        for action in machine.step(wake, Event::Tick).actions {
            if let Action::Abort { reason, .. } = action {
                verdict = Some((wake, reason));
            }
        }
    }
    dialled && opened && answered && verdict == Some((at(92), AbortReason::IdleTimeout))
}

fn exit(status: i32) -> ! {
    // SAFETY: `exit` (60 on x86-64 Linux) takes a number and does not come back.
    unsafe { core::arch::asm!("syscall", in("rax") 60, in("rdi") status, options(noreturn)) }
}
