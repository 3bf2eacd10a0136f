//! Any events at any times: no panic, a wake that is always later, never more actions than stated, and
//! the same answers a second time.
#![no_main]

use heartbeat_core::{
    Actions, Cause, Config, ConnId, Event, FramesOnly, Heartbeat, Instant, Message,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let start = data.first().map_or(0, |byte| u64::from(*byte) << 56);
    let configs = [Config::default(), Config::brisk(), Config::thrifty()];
    let config = &configs[data.len() % configs.len()];
    let machine = || Heartbeat::new(config, FramesOnly, 7, Instant::from_nanos(start));
    let (mut one, mut other) = (machine(), machine());
    let mut now = start;
    for chunk in data.chunks_exact(4) {
        // Steps of 0 to 4.2 s, or back; sometimes exactly to the wake.
        now = match chunk[0] {
            0..200 => now.saturating_add(u64::from(chunk[1]) << 24),
            200..240 => one.wake().map_or(now, Instant::as_nanos),
            240..250 => now.saturating_sub(u64::from(chunk[1]) << 24),
            _ => now.saturating_add(u64::from(chunk[1]) << 40),
        };
        let conn = ConnId::new(match chunk[3] {
            0..200 => one.conn().map_or(1, ConnId::get),
            near => u64::from(near - 200),
        });
        let at = Instant::from_nanos(now);
        let event = event(chunk[2], conn);
        let step = one.step(at, event);
        assert!(step.actions.len() <= Actions::MAX);
        assert!(
            step.wake.is_none_or(|wake| wake > at),
            "{:?} at {at:?}",
            step.wake
        );
        assert_eq!(step, other.step(at, event));
        assert_eq!(one.wake(), step.wake);
    }
});

fn event(byte: u8, conn: ConnId) -> Event<'static> {
    match byte % 16 {
        0..4 => Event::Tick,
        4 | 5 => Event::Connected(conn),
        6 => Event::Received(conn, Message::Data),
        7 => Event::Received(conn, Message::Ping(b"7")),
        8 => Event::Received(conn, Message::Pong(&[0; 8])),
        9 => Event::Progress(conn),
        10 => Event::WriteBlocked(conn),
        11 => Event::Wrote(conn),
        12 => {
            if byte < 128 {
                Event::ReadPaused(conn)
            } else {
                Event::ReadResumed(conn)
            }
        }
        13 => Event::Closed(conn, Cause::Close(u16::from(byte) * 20)),
        14 => Event::Kick,
        _ => {
            if byte == 255 {
                Event::Stop
            } else {
                Event::Closed(conn, Cause::Reset)
            }
        }
    }
}
