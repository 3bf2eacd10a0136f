//! The server: its answers, pings and data, and all of its faults.

use heartbeat_kit::peer::accept_key;

use super::link::{Asked, Reception};
use super::plan::{S, nanos};
use super::wire::{BINARY, CLOSE, PING, PONG, TEXT, Wrote, encode};
use super::world::{What, World};

impl World {
    /// Takes the arrived bytes, unless it is frozen.
    pub(crate) fn server_takes(&mut self, conn: u64) {
        let Some(link) = self.current(conn).filter(|link| !link.frozen) else {
            return;
        };
        if let Some(slow) = link.slow {
            if !link.drains && link.taken < link.arrived {
                link.drains = true;
                self.after(slow.every, What::Drains(conn));
            }
            return;
        }
        link.taken = link.arrived;
        self.server_took(conn);
    }

    /// A slow server takes its next piece.
    pub(crate) fn drains(&mut self, conn: u64) {
        let now = self.now;
        let Some(link) = self.current(conn) else {
            return;
        };
        link.drains = false;
        let Some(slow) = link.slow.filter(|_| !link.frozen && !link.dead) else {
            return;
        };
        if now < slow.stalls_until {
            link.drains = true;
            return self.at(slow.stalls_until, What::Drains(conn));
        }
        link.taken = link.arrived.min(link.taken + slow.piece);
        self.server_took(conn);
        self.server_takes(conn);
    }

    fn server_took(&mut self, conn: u64) {
        let capacity = self.plan.capacity;
        self.reveal(conn);
        let Some(link) = self.current(conn) else {
            return;
        };
        let freed = link.write_waits && link.is_writable(capacity);
        if freed {
            link.write_waits = false;
            if let Some(waker) = link.write_waker.take() {
                waker.wake();
            }
            self.stirred = true;
        }
        while let Some(link) = self.current(conn) {
            if link.frames.front().is_none_or(|(end, _)| *end > link.taken) {
                break;
            }
            if let Some((_, wrote)) = link.frames.pop_front() {
                self.server_hears(conn, wrote);
            }
        }
    }

    fn server_hears(&mut self, conn: u64, wrote: Wrote) {
        match wrote {
            Wrote::Upgrade { key } => self.welcome(conn, &key),
            Wrote::Frame(PING, payload) => self.server_answers(conn, &payload),
            Wrote::Frame(CLOSE, _) => {
                if let Some(link) = self.current(conn) {
                    link.truth.closes.push(1000);
                }
                self.say(conn, &encode(CLOSE, &1000_u16.to_be_bytes()));
                self.hang_up(conn);
            }
            Wrote::Frame(..) | Wrote::Garbage(_) => {}
        }
    }

    fn welcome(&mut self, conn: u64, key: &str) {
        let Some(link) = self.current(conn) else {
            return;
        };
        match link.reception {
            Reception::Refused | Reception::Hangs | Reception::Silent => {}
            Reception::Http(status, retry_after) => {
                link.truth.http = Some(status);
                let retry =
                    retry_after.map_or(String::new(), |after| format!("Retry-After: {after}\r\n"));
                let head = format!("HTTP/1.1 {status} No\r\n{retry}Content-Length: 0\r\n\r\n");
                self.say(conn, head.as_bytes());
                self.hang_up(conn);
            }
            Reception::Cut => {
                self.say(conn, b"HTTP/1.1 101 Switch");
                self.hang_up(conn);
            }
            Reception::WrongAnswer => {
                link.truth.closes.push(1002);
                let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
                self.say(conn, head.as_bytes());
            }
            Reception::Welcome | Reception::AcceptsAndDrops | Reception::AcceptsAndCloses(_) => {
                let reception = link.reception;
                link.upgraded = true;
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {}\r\n\r\n",
                    accept_key(key)
                );
                self.say(conn, head.as_bytes());
                match reception {
                    Reception::AcceptsAndDrops => self.hang_up(conn),
                    Reception::AcceptsAndCloses(code) => self.close(conn, code),
                    _ => self.begin_to_talk(conn),
                }
            }
        }
    }

    fn begin_to_talk(&mut self, conn: u64) {
        if let Some((low, high)) = self.plan.data_every {
            let span = self.dice.between(low, high);
            self.after(span, What::Says(conn));
        }
        if let Some((low, high)) = self.plan.ask_every {
            let span = self.dice.between(low, high);
            self.after(span, What::Asks(conn));
        }
        if let Some(idle) = self.plan.nat_idle {
            self.after(idle, What::Forgets(conn));
        }
    }

    fn server_answers(&mut self, conn: u64, payload: &[u8]) {
        if self.current(conn).is_none_or(|link| link.no_pongs) {
            return;
        }
        if self.now < self.odd_pongs_until {
            // A pong with other bytes, a second one, or an unasked one: a sign of life all the same.
            match self.dice.below(3) {
                0 => self.say(conn, &encode(PONG, b"other")),
                1 => {
                    self.say(conn, &encode(PONG, payload));
                    self.say(conn, &encode(PONG, payload));
                }
                _ => {
                    self.say(conn, &encode(PONG, b""));
                    self.say(conn, &encode(PONG, payload));
                }
            }
        } else {
            self.say(conn, &encode(PONG, payload));
        }
    }

    pub(crate) fn server_says(&mut self, conn: u64) {
        let Some((low, high)) = self.plan.data_every else {
            return;
        };
        if self.current(conn).is_none() {
            return;
        }
        if self.now >= self.mute_until {
            let len = self.dice.spread(1, 2_000) as usize;
            self.say_data(conn, len);
        }
        let span = self.dice.between(low, high);
        self.after(span, What::Says(conn));
    }

    pub(crate) fn server_asks(&mut self, conn: u64) {
        let Some((low, high)) = self.plan.ask_every else {
            return;
        };
        if self.current(conn).is_none() {
            return;
        }
        let times = self.dice.pick(&[1, 1, 1, 2, 10]);
        self.ask(conn, times);
        let span = self.dice.between(low, high);
        self.after(span, What::Asks(conn));
    }

    /// Sends this many pings in a row, of both kinds, with data between them.
    pub(crate) fn ask(&mut self, conn: u64, times: u64) {
        for _ in 0..times {
            self.said += 1;
            let number = self.said;
            let is_frame = self.dice.below(2) == 0;
            let payload = number.to_be_bytes().to_vec();
            let bytes = if is_frame {
                encode(PING, &payload)
            } else {
                encode(TEXT, br#"{"type":"ping"}"#)
            };
            if !self.speaks(conn) {
                return;
            }
            self.say(conn, &bytes);
            if let Some(link) = self.current(conn) {
                let end = link.said;
                let payload = is_frame.then_some(payload);
                link.asked.push_back(Asked {
                    end,
                    number,
                    payload,
                });
            }
            if self.dice.below(8) == 0 {
                self.say_data(conn, 10);
            }
        }
    }

    fn speaks(&mut self, conn: u64) -> bool {
        // The server does not queue data for a client that does not read.
        self.current(conn).is_some_and(|link| {
            link.upgraded
                && !link.frozen
                && !link.hangs_up
                && link.truth.closes.is_empty()
                && !link.truth.garbage
                && !link.truth.eof
                && link.backlog.len() < 1 << 20
        })
    }

    pub(crate) fn say_data(&mut self, conn: u64, len: usize) {
        if !self.speaks(conn) {
            return;
        }
        self.said += 1;
        let number = self.said;
        let Some(link) = self.current(conn) else {
            return;
        };
        let index = link.data_said;
        link.data_said += 1;
        let text = format!("d:{index}:{number}:{:x<len$}", "");
        let bytes = encode(
            if number.is_multiple_of(2) {
                TEXT
            } else {
                BINARY
            },
            text.as_bytes(),
        );
        self.say(conn, &bytes);
        if let Some(link) = self.current(conn) {
            let end = link.said;
            link.data_ends.push_back(end);
        }
    }

    /// Puts bytes into the stream, behind everything else.
    pub(crate) fn say(&mut self, conn: u64, bytes: &[u8]) {
        let Some(link) = self
            .current(conn)
            .filter(|link| !link.frozen && !link.truth.eof)
        else {
            return;
        };
        link.said += bytes.len() as u64;
        if link.trickle.is_empty() {
            link.backlog.extend(bytes);
            self.pump(conn);
        } else {
            link.trickle.extend(bytes);
        }
    }

    /// A large message, a few bytes at a time.
    pub(crate) fn trickle(&mut self, conn: u64, len: usize, piece: usize, every: u64) {
        if !self.speaks(conn) {
            return;
        }
        let Some(link) = self.current(conn).filter(|link| link.trickle.is_empty()) else {
            return;
        };
        // So that the next bytes come in the middle of the trickle.
        link.trickle.push_back(0);
        link.trickle_piece = piece;
        link.trickle_every = every;
        self.say_data(conn, len);
        if let Some(link) = self.current(conn) {
            link.trickle.pop_front();
        }
        self.trickles(conn);
    }

    pub(crate) fn trickles(&mut self, conn: u64) {
        let Some(link) = self.current(conn) else {
            return;
        };
        let count = link.trickle_piece.min(link.trickle.len());
        let every = link.trickle_every;
        if !link.frozen {
            let bytes: Vec<u8> = link.trickle.drain(..count).collect();
            link.backlog.extend(bytes);
        }
        let more = !link.trickle.is_empty();
        self.pump(conn);
        if more {
            self.after(every, What::Trickles(conn));
        }
    }

    pub(crate) fn close(&mut self, conn: u64, code: u16) {
        if let Some(link) = self.current(conn) {
            link.truth.closes.push(code);
            self.say(conn, &encode(CLOSE, &code.to_be_bytes()));
            self.hang_up(conn);
        }
    }

    pub(crate) fn hang_up(&mut self, conn: u64) {
        if let Some(link) = self.current(conn) {
            link.hangs_up = true;
            link.truth.eof = true;
            self.pump(conn);
        }
    }

    pub(crate) fn freeze(&mut self, conn: u64, span: Option<u64>) {
        if let Some(link) = self.current(conn) {
            link.frozen = true;
            if let Some(span) = span {
                self.after(span, What::Thaws(conn));
            }
        }
    }

    pub(crate) fn thaws(&mut self, conn: u64) {
        let now = self.now;
        if let Some(link) = self.current(conn).filter(|link| link.frozen && !link.dead) {
            link.frozen = false;
            link.trouble_until = link.trouble_until.max(now);
            self.server_takes(conn);
        }
    }

    /// A slow server takes nothing for a while, or never again.
    pub(crate) fn stalls(&mut self, conn: u64) {
        let (now, idle) = (self.now, nanos(self.plan.config.idle_timeout()));
        let (span, drain) = (self.dice.spread(S / 10, 2 * idle), 2 * self.plan.slowest);
        let for_good = self.dice.below(4) == 0;
        let Some(link) = self.current(conn).filter(|link| !link.frozen) else {
            return;
        };
        if for_good {
            *self
                .oracle
                .figures
                .faults
                .entry("stalls for good")
                .or_default() += 1;
            return self.freeze(conn, None);
        }
        if let Some(slow) = &mut link.slow {
            slow.stalls_until = now + span;
            link.trouble_until = link.trouble_until.max(now + span + drain);
            *self.oracle.figures.faults.entry("stalls").or_default() += 1;
        }
    }

    /// A middlebox drops a quiet connection.
    pub(crate) fn box_forgets(&mut self, conn: u64) {
        let now = self.now;
        let Some(idle) = self.plan.nat_idle else {
            return;
        };
        let Some(link) = self.current(conn).filter(|link| !link.dead) else {
            return;
        };
        let quiet = now - link.last_packet;
        if quiet >= idle {
            self.kill(conn, "nat forgets");
        } else {
            self.after((idle - quiet).max(S / 1000), What::Forgets(conn));
        }
    }

    /// From now on packets of this connection vanish without a notice.
    pub(crate) fn kill(&mut self, conn: u64, name: &'static str) {
        if let Some(link) = self.current(conn) {
            link.dead = true;
            link.trouble_until = u64::MAX;
            link.up.clear();
            link.down.clear();
            *self.oracle.figures.faults.entry(name).or_default() += 1;
        }
    }
}
