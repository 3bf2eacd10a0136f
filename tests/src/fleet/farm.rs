//! The servers: their capacity, and their state at a moment. Between two [changes](Farm::changes) nothing
//! about them depends on the time, except the capacity after an outage.

use heartbeat_core::Cause;

use super::dice::Dice;
use super::scenario::{BalancerIdle, Incident, Loss, Refusal, RoundTrip, Scenario};

/// The farm between two changes.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Dials fail in this way, whatever the queue.
    pub(crate) down: Option<Refusal>,
    /// The nodes that are up.
    pub(crate) up: Vec<u16>,
    /// How much later connections end that open now.
    pub(crate) flapping: Option<(u64, Loss)>,
    pub(crate) rtt: RoundTrip,
    /// Since when capacity grows, and over what time.
    recovery: Option<(u64, u64)>,
}

/// The result of a dial.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// The handshake is done at this time, if the client still waits for it.
    Accepted(u64),
    /// The client learns of the failure at this time.
    Refused(u64, Refusal),
    /// Nothing is ever heard.
    Swallowed,
}

#[derive(Debug)]
pub(crate) struct Farm {
    incidents: Vec<Incident>,
    nodes: u16,
    rate: f64,
    queue: u32,
    when_full: Refusal,
    connections: u32,
    calm_rtt: RoundTrip,
    pub(crate) balancer_idle: Option<BalancerIdle>,
    pub(crate) weather: Weather,
    /// When the last handshake in the queue will be done.
    free_at: f64,
}

impl Farm {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let farm = &scenario.farm;
        let mut this = Self {
            incidents: scenario.incidents.clone(),
            nodes: farm.nodes,
            rate: f64::from(farm.handshakes_per_second),
            queue: farm.queue,
            when_full: farm.when_full,
            connections: farm.connections.unwrap_or(u32::MAX),
            calm_rtt: farm.rtt,
            balancer_idle: farm.balancer_idle,
            weather: Weather {
                down: None,
                up: Vec::new(),
                flapping: None,
                rtt: farm.rtt,
                recovery: None,
            },
            free_at: 0.0,
        };
        this.weather = this.weather_at(0);
        this
    }

    /// Every time at which something changes, in order.
    pub(crate) fn changes(&self) -> Vec<u64> {
        let mut times = Vec::new();
        for incident in &self.incidents {
            times.extend([incident.begins(), incident.ends(self.nodes)]);
            if let Incident::RollingRestart {
                at, every, down, ..
            } = incident
            {
                for node in 0..u64::from(self.nodes) {
                    let from = at.0 + every.0 * node;
                    times.extend([from, from + down.0]);
                }
            }
        }
        times.sort_unstable();
        times.dedup();
        times
    }

    /// The conditions change: an outage empties the queue.
    pub(crate) fn change(&mut self, now: u64) {
        self.weather = self.weather_at(now);
        if self.weather.down.is_some() {
            self.free_at = now as f64;
        }
    }

    fn weather_at(&self, now: u64) -> Weather {
        let mut weather = Weather {
            down: None,
            up: Vec::new(),
            flapping: None,
            rtt: self.calm_rtt,
            recovery: None,
        };
        let mut away = vec![false; usize::from(self.nodes)];
        for incident in &self.incidents {
            let is_on = (incident.begins()..incident.ends(self.nodes)).contains(&now);
            match *incident {
                Incident::Outage { dials, .. } if is_on => weather.down = Some(dials),
                Incident::Outage { recovers_over, .. } if recovers_over.0 > 0 => {
                    let end = incident.ends(self.nodes);
                    if now >= end {
                        weather.recovery = Some((end, recovers_over.0));
                    }
                }
                Incident::Flapping { open_for, how, .. } if is_on => {
                    weather.flapping = Some((open_for.0, how));
                }
                Incident::Latency { rtt, .. } if is_on => weather.rtt = rtt,
                Incident::RollingRestart {
                    at, every, down, ..
                } => {
                    for (node, away) in away.iter_mut().enumerate() {
                        let from = at.0 + every.0 * node as u64;
                        *away |= (from..from + down.0).contains(&now);
                    }
                }
                Incident::Outage { .. }
                | Incident::Flapping { .. }
                | Incident::Latency { .. }
                | Incident::Sleep { .. } => {}
            }
        }
        weather.up = (0..self.nodes)
            .filter(|node| !away[usize::from(*node)])
            .collect();
        if weather.up.is_empty() {
            weather.down.get_or_insert(Refusal::Refuse);
        }
        weather
    }

    /// The incident that begins at exactly this time and ends connections.
    pub(crate) fn begins(&self, now: u64) -> impl Iterator<Item = (Loss, Option<u16>)> + '_ {
        self.incidents.iter().flat_map(move |incident| {
            let nodes = match incident {
                Incident::RollingRestart { .. } => self.nodes,
                _ => 1,
            };
            (0..nodes).filter_map(move |node| match *incident {
                Incident::Outage { connections, .. } if incident.begins() == now => {
                    Some((connections, None))
                }
                Incident::RollingRestart {
                    at,
                    every,
                    connections,
                    ..
                } if at.0 + every.0 * u64::from(node) == now => Some((connections, Some(node))),
                _ => None,
            })
        })
    }

    /// The clients that fall asleep at exactly this time: how many percent, until when, woken over what time.
    pub(crate) fn sleepers(&self, now: u64) -> Option<(u8, u64, u64)> {
        self.incidents.iter().find_map(|incident| match *incident {
            Incident::Sleep {
                at,
                lasts,
                percent,
                wake_within,
            } if at.0 == now => Some((percent, at.0 + lasts.0, wake_within.0)),
            _ => None,
        })
    }

    /// Handshakes a second at this time.
    pub(crate) fn rate_at(&self, now: u64) -> f64 {
        if self.weather.down.is_some() {
            return 0.0;
        }
        let up = self.weather.up.len() as f64 / f64::from(self.nodes);
        let grown = self.weather.recovery.map_or(1.0, |(from, over)| {
            (0.1 + 0.9 * now.saturating_sub(from) as f64 / over as f64).min(1.0)
        });
        self.rate * up * grown
    }

    pub(crate) fn is_up(&self) -> bool {
        self.weather.down.is_none()
    }

    /// A dial at `now`, while `open` connections are open.
    pub(crate) fn dial(&mut self, now: u64, open: u32, dice: &mut Dice) -> Outcome {
        let rtt = self.round_trip(dice);
        let refused = |refusal| match refusal {
            Refusal::Drop => Outcome::Swallowed,
            Refusal::Refuse | Refusal::Http { .. } => Outcome::Refused(now + rtt, refusal),
        };
        if let Some(refusal) = self.weather.down {
            return refused(refusal);
        }
        let arrives = (now + rtt / 2) as f64;
        let begins = self.free_at.max(arrives);
        let rate = self.rate_at(begins as u64);
        let waiting = (begins - arrives) / 1e9 * rate;
        if waiting >= f64::from(self.queue) || f64::from(open) + waiting >= self.connections.into()
        {
            return refused(self.when_full);
        }
        // Done even if the client no longer waits: a server does not know that it is gone.
        self.free_at = begins + 1e9 / rate;
        Outcome::Accepted(self.free_at as u64 + rtt / 2)
    }

    pub(crate) fn node(&self, dice: &mut Dice) -> u16 {
        let up = &self.weather.up;
        let index = dice.below(up.len() as u64) as usize;
        up.get(index).copied().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn round_trip(&self, dice: &mut Dice) -> u64 {
        let rtt = self.weather.rtt;
        rtt.least.0 + dice.exponential(rtt.extra.0)
    }
}

impl Loss {
    /// What the client sees. `None`: nothing.
    pub(crate) fn cause(self) -> Option<Cause> {
        match self {
            Self::Reset => Some(Cause::Reset),
            Self::Eof => Some(Cause::Eof),
            Self::Close(code) => Some(Cause::Close(code)),
            Self::Freeze => None,
        }
    }
}

impl Refusal {
    pub(crate) fn cause(self) -> Cause {
        match self {
            // A swallowed dial brings no answer; `Outcome::Swallowed` stands for it.
            Self::Refuse | Self::Drop => Cause::Refused,
            Self::Http {
                status,
                retry_after,
            } => Cause::Http {
                status,
                retry_after: retry_after.map(|after| std::time::Duration::from_nanos(after.0)),
            },
        }
    }
}
