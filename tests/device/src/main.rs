//! A client that is one loop over a serial line and a timer. Each line that comes in is a text message; each line that goes
//! out is one of ours. What a connection is on such a line is the device's own business: here it is open once it is dialled.
//!
//! It ends with the first verdict, and says on the line how much memory it took.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr;
use core::time::Duration;

use heartbeat_core::{
    Action, Ask, Config, ConnId, Event, Heartbeat, Instant, JsonType, Message, Ping, Reply,
};

// The vector table: the stack, and where to begin. Nothing else ever interrupts.
global_asm!(
    ".section .vectors, \"a\"",
    ".word stack_top",
    ".word {start}",
    start = sym start,
);

#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    let painted = Stack::paint();
    let mut timer = Timer::start();
    let mut line = Line { bytes: [0; 128], len: 0 };
    // A verdict within two seconds: a question after half a second of silence, an answer within one more.
    let config = Config::builder()
        .idle_timeout(Duration::from_millis(1500))
        .ping(Ping::AfterSilence(Duration::from_millis(500)))
        .pong_timeout(Duration::from_secs(1))
        .check_interval(None)
        .build();
    let Ok(config) = config else { exit(false) };
    let mut machine = Heartbeat::new(config, JsonType, 7, timer.now());
    loop {
        let now = timer.now();
        // Read, then tell the time.
        while let Some(text) = line.read() {
            if let Some(conn) = machine.conn() {
                step(&mut machine, now, Event::Received(conn, Message::Text(text)), painted);
            }
            line.len = 0;
        }
        step(&mut machine, now, Event::Tick, painted);
    }
}

fn step(
    machine: &mut Heartbeat<Config, JsonType>,
    now: Instant,
    event: Event<'_>,
    painted: Stack,
) {
    let mut dialled: Option<ConnId> = None;
    let mut out = Serial;
    for action in machine.step(now, event).actions {
        let _ = match action {
            Action::Connect { conn, .. } => {
                dialled = Some(conn);
                writeln!(out, "connected")
            }
            Action::SendPong { reply: Reply::Text(text), .. } => writeln!(out, "{text}"),
            Action::SendPing { ping: Ask::Frame(_), .. } => writeln!(out, r#"{{"type":"ping"}}"#),
            Action::Abort { reason, .. } => {
                let _ = writeln!(out, "{reason}");
                let _ = writeln!(
                    out,
                    "machine {} bytes, stack {} bytes",
                    size_of::<Heartbeat<Config, JsonType>>(),
                    painted.used()
                );
                exit(true)
            }
            _ => Ok(()),
        };
    }
    if let Some(conn) = dialled {
        step(machine, now, Event::Connected(conn), painted);
    }
}

// ---- the board (Stellaris LM3S6965 and Cortex-M3, as qemu has them) ------------------------------

/// The first serial line: data and flags of its UART (PL011).
const DATA: *mut u32 = 0x4000_C000 as *mut u32;
const FLAGS: *const u32 = 0x4000_C018 as *const u32;
const RECEIVER_EMPTY: u32 = 1 << 4;

struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the register of the serial line; qemu's never makes one wait.
            unsafe { DATA.write_volatile(u32::from(byte)) };
        }
        Ok(())
    }
}

/// What has come of a line.
struct Line {
    bytes: [u8; 128],
    len: usize,
}

impl Line {
    /// A whole line, once it is there. What does not fit is cut.
    fn read(&mut self) -> Option<&str> {
        // SAFETY: registers of the serial line.
        while unsafe { FLAGS.read_volatile() } & RECEIVER_EMPTY == 0 {
            // SAFETY: as above.
            let byte = unsafe { DATA.read_volatile() } as u8;
            if byte == b'\n' {
                return core::str::from_utf8(&self.bytes[..self.len]).ok();
            }
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
        None
    }
}

/// The processor's own timer, which counts 24 bits down: widened here, and so to be asked once a second at least.
struct Timer {
    last: u32,
    ticks: u64,
}

const CONTROL: *mut u32 = 0xE000_E010 as *mut u32;
const RELOAD: *mut u32 = 0xE000_E014 as *mut u32;
const CURRENT: *mut u32 = 0xE000_E018 as *mut u32;
const MOST: u32 = 0xFF_FFFF;

/// A tick of the board's clock after a reset: 12.5 MHz.
const NANOS: u64 = 80;

impl Timer {
    fn start() -> Self {
        // SAFETY: registers of the timer: enabled, by the processor's clock, without an interrupt.
        unsafe {
            RELOAD.write_volatile(MOST);
            CURRENT.write_volatile(0);
            CONTROL.write_volatile(0b101);
        }
        Self { last: MOST, ticks: 0 }
    }

    fn now(&mut self) -> Instant {
        // SAFETY: a register of the timer.
        let current = unsafe { CURRENT.read_volatile() };
        self.ticks += u64::from(self.last.wrapping_sub(current) & MOST);
        self.last = current;
        Instant::from_nanos(self.ticks * NANOS)
    }
}

/// How far down the stack ever went: all below it is painted at first.
#[derive(Clone, Copy)]
struct Stack {
    bottom: *mut u32,
}

unsafe extern "C" {
    static mut statics_end: u32;
    static stack_top: u32;
}

const PAINT: u32 = 0x7EA7_BEA7;

impl Stack {
    #[inline(never)]
    fn paint() -> Self {
        let bottom = &raw mut statics_end;
        let here: u32;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, sp", out(reg) here) };
        // Not the last bytes: this function is using them.
        let mut place = bottom;
        while (place as u32) < here - 64 {
            // SAFETY: RAM between the statics and the stack, which nobody uses.
            unsafe {
                place.write_volatile(PAINT);
                place = place.add(1);
            }
        }
        Self { bottom }
    }

    fn used(self) -> u32 {
        let mut place = self.bottom;
        // SAFETY: RAM, up to the first word that is in use.
        while unsafe { place.read_volatile() } == PAINT {
            // SAFETY: below the top of the stack, which was never painted.
            place = unsafe { place.add(1) };
        }
        ptr::addr_of!(stack_top) as u32 - place as u32
    }
}

/// Ends qemu (semihosting's SYS_EXIT) with status 0 or 1.
fn exit(good: bool) -> ! {
    let reason: u32 = if good { 0x2_0026 } else { 0x2_0023 };
    loop {
        // SAFETY: a request to the debugger, which does not return.
        unsafe { asm!("bkpt 0xAB", in("r0") 0x18, in("r1") reason) };
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "panicked");
    exit(false)
}
