//! Faults, and the application's behaviour, which goes on during them.

use heartbeat_core::Ping;
use heartbeat_driver::{Event, Message, Unsent};

use super::link::{Reception, Slow};
use super::plan::{Flaw, HOUR, S, nanos};
use super::world::{What, World};

#[derive(Clone, Copy, Debug)]
enum Fault {
    Partition,
    OneWay,
    HalfOpen,
    Reset,
    HangUp,
    Close,
    Freeze,
    NoPongs,
    OddPongs,
    CutDown,
    CutUp,
    Trickle,
    ServerDown,
    PingFlood,
    Garbage,
    NoData,
    Stall,
    Sleep,
    ClockForward,
    ClockBack,
    AppAway,
    Burst,
    Upload,
    EndpointDown,
    Kick,
}

/// A message of the application.
pub(crate) struct Offer {
    pub(crate) number: u64,
    len: usize,
    pub(crate) message: Message,
}

/// The connection whose end hands messages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    Of(u64),
    /// Several connections, and more will follow.
    OfMany,
    /// The client's.
    OfAll,
}

/// Codes that a server may close with and that a retry can overcome.
const CODES: [u16; 9] = [1000, 1001, 1003, 1011, 1012, 1013, 1014, 4000, 4321];

impl World {
    pub(crate) fn next_fault(&mut self) {
        let span = self.dice.until_next(self.plan.fault_every);
        self.after(span, What::Fault);
    }

    pub(crate) fn fault(&mut self) {
        if self.oracle.stopping || self.host_is_away() {
            return;
        }
        let own = if self.plan.host_faults { 1 } else { 0 };
        let fault = self.dice.weighted(&[
            (10, Fault::Partition),
            (5, Fault::OneWay),
            (10, Fault::HalfOpen),
            (8, Fault::Reset),
            (6, Fault::HangUp),
            (8, Fault::Close),
            (10, Fault::Freeze),
            (4, Fault::NoPongs),
            (4, Fault::OddPongs),
            (3, Fault::CutDown),
            (5, Fault::CutUp),
            (4, Fault::Trickle),
            (10, Fault::ServerDown),
            (4, Fault::PingFlood),
            (3, Fault::Garbage),
            (4, Fault::NoData),
            (8 * own, Fault::Stall),
            (4 * own, Fault::Sleep),
            (2 * own, Fault::ClockForward),
            (2 * own, Fault::ClockBack),
            (6 * own, Fault::AppAway),
            (10, Fault::Burst),
            (8, Fault::Upload),
            (
                if self.plan.endpoints.len() > 1 { 8 } else { 0 },
                Fault::EndpointDown,
            ),
            (3, Fault::Kick),
        ]);
        if let Some(name) = self.strike(fault) {
            *self.oracle.figures.faults.entry(name).or_default() += 1;
        }
    }

    /// Returns the fault's name, if the fault was possible.
    fn strike(&mut self, fault: Fault) -> Option<&'static str> {
        let detection = self.plan.detection();
        let span = self.dice.spread(S / 10, detection.saturating_mul(3));
        let open = self
            .link
            .as_ref()
            .filter(|link| link.is_good())
            .map(|link| link.conn);
        Some(match fault {
            Fault::Partition => {
                self.partition([true, true], span);
                "partition"
            }
            Fault::OneWay => {
                let up = self.dice.below(2) == 0;
                self.partition([up, !up], span);
                "one-way partition"
            }
            Fault::HalfOpen => {
                self.kill(open?, "half-open link");
                return None;
            }
            Fault::Reset => {
                self.current(open?)?.reset();
                self.stirred = true;
                "reset"
            }
            Fault::HangUp => {
                self.hang_up(open?);
                "hang-up"
            }
            Fault::Close => {
                let code = if self.plan.fatal && self.dice.below(2) == 0 {
                    self.dice.pick(&[1003, 1008, 4401, 1010])
                } else {
                    self.dice
                        .pick(&CODES.map(|code| if code == 1003 { 1005 } else { code }))
                };
                self.close(open?, if code == 1005 { 1001 } else { code });
                "close frame"
            }
            Fault::Freeze => {
                let thaws = self.dice.below(2) == 0;
                self.freeze(open?, thaws.then_some(span));
                if self.dice.below(2) == 0 {
                    self.burst = self.dice.spread(1, 300);
                    self.app_sends();
                }
                "frozen server"
            }
            Fault::NoPongs => {
                let link = self.current(open?)?;
                link.no_pongs = true;
                link.trouble_until = u64::MAX;
                "pings ignored"
            }
            Fault::OddPongs => {
                self.odd_pongs_until = self.now + span;
                "odd pongs"
            }
            Fault::CutDown => {
                let conn = open?;
                self.ask(conn, 5);
                let link = self.current(conn)?;
                let keep = link.backlog.len() / 2;
                link.backlog.truncate(keep);
                link.trickle.clear();
                self.hang_up(conn);
                "cut amid what the server says"
            }
            Fault::CutUp => {
                let conn = open?;
                let bytes = self.dice.spread(1, 5_000);
                let link = self.current(conn)?;
                link.cut_up_at = Some(link.written + bytes);
                self.burst = self.dice.spread(1, 300);
                self.app_sends();
                "cut amid what the client says"
            }
            Fault::Trickle => {
                let len = self.dice.spread(1_000, 30_000);
                let config = &self.plan.config;
                let longest = [
                    Some(detection),
                    config.pong_timeout().map(nanos),
                    config.data_timeout().map(nanos),
                ]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(detection)
                    / 3;
                let every = self
                    .dice
                    .spread(S / 100, longest.max(S / 50))
                    .min(longest.max(1));
                let pieces = (3 * detection / every).clamp(1, len);
                self.trickle(open?, len as usize, (len / pieces).max(1) as usize, every);
                "trickle"
            }
            Fault::ServerDown => {
                let reception = self.bad_reception();
                self.server_down = Some((reception, self.now + span));
                self.healthy_from = self.healthy_from.max(self.now + span);
                if let Some(conn) = open {
                    match self.dice.below(3) {
                        0 => self.hang_up(conn),
                        1 => self.close(conn, 1001),
                        _ => self.current(conn)?.reset(),
                    }
                    self.stirred = true;
                }
                match reception {
                    Reception::Refused => "server refuses",
                    Reception::Hangs => "dials hang",
                    Reception::Silent => "upgrades hang",
                    Reception::Http(..) => "upgrades refused",
                    Reception::Cut => "upgrades cut",
                    Reception::AcceptsAndDrops => "accepts and drops",
                    Reception::AcceptsAndCloses(_) => "accepts and closes",
                    Reception::Welcome | Reception::WrongAnswer => return None,
                }
            }
            Fault::PingFlood => {
                let times = self.dice.spread(10, 2_000);
                self.ask(open?, times);
                "ping flood"
            }
            Fault::Garbage => {
                let conn = open?;
                self.current(conn)?.truth.garbage = true;
                let bytes: &[u8] = self.dice.pick(&[
                    &[0xF1, 0x00][..],
                    &[0x81, 0x02, 0xC3, 0x28],
                    &[0x09, 0x01, 0x00],
                    &[0x82, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                    &[0x8A, 0x7E, 0x01, 0x00],
                    &[0x83, 0x01, 0x00],
                    &[0x81, 0x81, 0x01, 0x02, 0x03, 0x04, 0x05],
                ]);
                self.say(conn, bytes);
                self.hang_up(conn);
                "garbage"
            }
            Fault::NoData => {
                self.plan.config.data_timeout()?;
                if self.plan.config.ping() == Ping::Never {
                    return None;
                }
                self.mute_until = self.now + span;
                self.data_trouble =
                    self.mute_until + self.plan.data_every.map_or(0, |(_, high)| high);
                "no data"
            }
            Fault::Stall => {
                self.host_leaves(span, false);
                "host stalls"
            }
            Fault::Sleep => {
                // A server that talks continues, and all of its messages have to be processed.
                let talks = self.plan.data_every.is_some();
                let span = self
                    .dice
                    .spread(S, if talks { HOUR / 6 } else { 10 * HOUR });
                if self.leaps {
                    self.host_leaves(span, false);
                } else {
                    self.host_leaves(span, true);
                }
                "host sleeps"
            }
            Fault::ClockForward | Fault::ClockBack if self.leaps => return None,
            Fault::ClockForward => {
                self.clock_steps(true, span);
                "clock steps forward"
            }
            Fault::ClockBack => {
                self.clock_steps(false, span);
                "clock steps back"
            }
            Fault::AppAway => {
                if self.plan.host.has_queue() {
                    let span = if self.dice.below(4) == 0 {
                        10 * span
                    } else {
                        span
                    };
                    self.app_away_until = self.now + span;
                    self.oracle.app_was_away();
                    self.after(span, What::AppReturns);
                    // Enough to fill its queue.
                    if let Some(conn) = open {
                        self.ask(conn, 4 * self.plan.queue as u64);
                        for _ in 0..self.dice.spread(1, 2 * self.plan.queue as u64) {
                            self.say_data(conn, 10);
                        }
                    }
                } else {
                    self.host_leaves(span, false);
                }
                "application takes nothing"
            }
            Fault::Burst => {
                self.burst = self.dice.spread(1, 2_000);
                self.app_sends();
                "burst of messages"
            }
            Fault::Upload => {
                let conn = open.filter(|_| self.app_takes())?;
                self.slows(conn);
                let (messages, largest) = (self.dice.spread(1, 20), self.plan.largest);
                for _ in 0..messages {
                    let len = self.dice.spread(self.plan.capacity.min(largest), largest);
                    if !self.send(None, len as usize) {
                        break;
                    }
                }
                if self.dice.below(2) == 0 {
                    let soon = self.dice.spread(S / 100, 20 * self.plan.slowest);
                    self.after(soon, What::Stalls(conn));
                }
                "upload to a slow server"
            }
            Fault::EndpointDown => {
                let count = self.plan.endpoints.len() as u64;
                let endpoint = self.dice.below(count) as u8;
                let status = self.dice.pick(&[403, 404, 410, 503]);
                let reception = self.dice.pick(&[
                    Reception::Http(status, None),
                    Reception::Refused,
                    Reception::WrongAnswer,
                ]);
                self.endpoint_down = Some((endpoint, reception, self.now + span));
                let until = (self.now + span).max(self.healthy_from);
                // No other endpoint may be healthy.
                self.healthy_from = until;
                if let Some(conn) = open {
                    self.hang_up(conn);
                }
                "one endpoint down"
            }
            Fault::Kick => {
                self.oracle.kicks();
                self.commands.as_ref()?.kick();
                "kick"
            }
        })
    }

    fn partition(&mut self, directions: [bool; 2], span: u64) {
        let until = self.now + span;
        for (lost_until, lost) in self.partition.iter_mut().zip(directions) {
            if lost {
                *lost_until = (*lost_until).max(until);
            }
        }
        let over = until + self.plan.loss_delay + 4 * self.plan.longest_way();
        self.healthy_from = self.healthy_from.max(over);
        if let Some(link) = self.link.as_mut() {
            link.trouble_until = link.trouble_until.max(over);
        }
    }

    /// From here on the server takes bytes piece by piece, and is healthy nevertheless.
    fn slows(&mut self, conn: u64) {
        let capacity = self.plan.capacity;
        let (least, most) = (
            self.plan.longest_way().min(self.plan.slowest),
            self.plan.slowest,
        );
        let drain = self.dice.spread(least, most);
        let pieces = self.dice.spread(4, 32).min(capacity);
        if let Some(link) = self.current(conn) {
            link.slow.get_or_insert(Slow {
                piece: capacity.div_ceil(pieces),
                every: (drain / pieces).max(1),
                stalls_until: 0,
            });
        }
    }

    fn bad_reception(&mut self) -> Reception {
        let status = if self.plan.fatal && self.dice.below(2) == 0 {
            self.dice.pick(&[400, 401, 403, 404, 301])
        } else {
            self.dice.pick(&[408, 425, 429, 500, 502, 503, 504])
        };
        let retry_after = (self.dice.below(2) == 0).then(|| self.dice.spread(1, 300));
        let code = self
            .dice
            .pick(&CODES.map(|code| if code == 1003 { 1001 } else { code }));
        self.dice.pick(&[
            Reception::Refused,
            Reception::Refused,
            Reception::Hangs,
            Reception::Silent,
            Reception::Http(status, retry_after),
            Reception::Http(status, retry_after),
            Reception::Cut,
            Reception::AcceptsAndDrops,
            Reception::AcceptsAndDrops,
            Reception::AcceptsAndCloses(code),
        ])
    }

    // ---- the application ------------------------------------------------------------------------------------

    pub(crate) fn next_send(&mut self) {
        if let Some((low, high)) = self.plan.send_every {
            let span = self.dice.between(low, high);
            self.after(span, What::AppSends);
        }
    }

    pub(crate) fn app_sends(&mut self) {
        if self.host_is_away() {
            // The application lives in the same process.
            return self.at(self.host_away_until, What::AppSends);
        }
        let burst = std::mem::take(&mut self.burst);
        for _ in 0..burst.max(1) {
            let len = if self.dice.below(20) == 0 {
                self.dice.spread(1_000, 60_000)
            } else {
                self.dice.spread(1, 500)
            };
            if !self.send(None, len as usize) {
                break;
            }
        }
        if burst == 0 {
            self.next_send();
        }
    }

    fn send(&mut self, echo: Option<u64>, len: usize) -> bool {
        if self.commands.is_none() {
            return false;
        }
        let offer = self.offer(echo, len);
        let sent = self
            .commands
            .as_ref()
            .is_some_and(|commands| commands.send(offer.message).is_ok());
        if sent {
            self.accepts(offer.number, offer.len);
        }
        sent
    }

    fn offer(&mut self, echo: Option<u64>, len: usize) -> Offer {
        let number = self.accepted + 1;
        let echo = echo.map_or("-".to_owned(), |number| number.to_string());
        let text = format!("m:{number}:{echo}:{}", "y".repeat(len));
        let len = text.len();
        let message = if number.is_multiple_of(3) {
            Message::from(text.into_bytes())
        } else {
            Message::from(text)
        };
        Offer {
            number,
            len,
            message,
        }
    }

    /// Recorded before the message is offered for the client: once offered, it may be on its way before anybody
    /// can tell.
    fn accepts(&mut self, number: u64, len: usize) {
        self.accepted = number;
        self.oracle.accepts(number, len);
    }

    /// The message was not accepted after all.
    pub(crate) fn refused(&mut self, number: u64) {
        self.accepted = number - 1;
        self.oracle.refused();
    }

    pub(crate) fn app_ends(&mut self) {
        if self.host_is_away() {
            return self.at(self.host_away_until, What::Ends);
        }
        self.app_away_until = 0;
        if self.plan.drops && self.plan.flaw != Some(Flaw::IgnoresStop) {
            self.over = true;
            return;
        }
        self.oracle.stops();
        if let Some(commands) = &self.commands
            && self.plan.flaw != Some(Flaw::IgnoresStop)
        {
            commands.stop();
        }
        let longest = nanos(self.plan.config.close_timeout()) * 2 + self.plan.detection() * 4;
        self.after(longest, What::TooLate);
        self.stirred = true;
    }

    /// Reports an event to the application. Returns what it sends at once, for the client. That counts as
    /// accepted until it is [`refused`](Self::refused).
    pub(crate) fn app_hears(&mut self, event: Event) -> Option<Offer> {
        match event {
            Event::Connected { .. } => self.oracle.is_told_open(),
            Event::Lagged { dropped } if self.plan.flaw != Some(Flaw::ForgetsWhatWasDropped) => {
                self.oracle.lags(dropped);
            }
            Event::Skipped { unsent, .. } => {
                self.oracle.skips();
                self.hand_back(Back::OfMany, unsent);
            }
            Event::PingSent { .. }
            | Event::PongSent { .. }
            | Event::PongReceived { .. }
            | Event::Check { .. }
                if !self.plan.heartbeat_events =>
            {
                self.oracle.fail("a note on heartbeats that nobody wanted");
            }
            Event::Message { message, .. } => {
                let text = match &message {
                    Message::Text(text) => text.as_str(),
                    Message::Binary(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
                };
                let mut parts = text.split(':').skip(1).map(|part| part.parse::<u64>().ok());
                let (Some(Some(index)), Some(Some(number))) = (parts.next(), parts.next()) else {
                    self.oracle
                        .fail(format!("a message that the server did not send: {text}"));
                    return None;
                };
                if self.plan.flaw == Some(Flaw::LosesAnEvent)
                    && !std::mem::replace(&mut self.flaw_done, true)
                {
                    return None;
                }
                self.oracle.takes(index, number);
                if self.plan.echoes && !self.plan.host.has_queue() && number.is_multiple_of(2) {
                    let offer = self.offer(Some(number), 4);
                    self.accepts(offer.number, offer.len);
                    return Some(offer);
                }
                if self.plan.echoes {
                    self.send(Some(number), 4);
                }
            }
            Event::Disconnected {
                conn,
                unsent,
                detail,
                ..
            } => {
                let secret = detail
                    .as_deref()
                    .is_some_and(|detail| detail.contains("s3cr3t"));
                if secret {
                    self.oracle
                        .fail(format!("a credential in an error: {detail:?}"));
                }
                self.hand_back(Back::Of(conn.get()), unsent);
            }
            Event::Stopped { unsent, .. } => {
                self.hand_back(Back::OfAll, unsent);
                self.oracle.stopped = true;
                if !self.oracle.stopping && !self.oracle.gave_up {
                    self.oracle.fail("stopped, but nobody asked for it");
                }
            }
            _ => {}
        }
        None
    }

    fn hand_back(&mut self, of: Back, unsent: Unsent) {
        let mut unsent: Vec<Message> = unsent.into_iter().map(|back| back.message).collect();
        if self.plan.flaw == Some(Flaw::ForgetsUnsent) {
            unsent.pop();
        }
        let unsent = unsent.into_iter().map(|message| {
            let len = message.len();
            let text = match &message {
                Message::Text(text) => text.as_str(),
                Message::Binary(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            };
            let number = text.split(':').nth(1).and_then(|part| part.parse().ok());
            (number.unwrap_or(0), len)
        });
        self.oracle.hands_back(of, unsent);
    }
}
