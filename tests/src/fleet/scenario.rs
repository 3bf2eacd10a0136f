//! The simulation's input, as JSON: a fleet, the farm it connects to, and the incidents. Durations are text
//! (`"90s"`); an unknown key is an error.

use heartbeat_core::{Config, ConfigTextError, DurationText, parse_duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

/// Nanoseconds, written as `"90s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

impl Time {
    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / SECOND as f64
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let duration = parse_duration(&text)
            .map_err(|error| D::Error::custom(format_args!("\"{text}\": {error}")))?;
        let nanos = u64::try_from(duration.as_nanos());
        nanos
            .ok()
            .filter(|nanos| *nanos <= LONGEST.0)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format_args!("\"{text}\": at most 31 days")))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = DurationText(std::time::Duration::from_nanos(self.0));
        serializer.collect_str(&text)
    }
}

/// The longest time in a scenario.
const LONGEST: Time = Time(31 * 86_400 * SECOND);

/// A fleet, its farm, and what happens to them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Names files and pictures: small letters, digits and hyphens.
    pub name: String,
    /// The subject, in a sentence.
    pub about: String,
    /// How many clients.
    pub machines: u32,
    /// How long to simulate.
    pub duration: Time,
    /// The first dials are spread evenly over this time.
    #[serde(default)]
    pub start_within: Time,
    /// Decides all random numbers.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// The clients' configuration.
    #[serde(default)]
    pub config: Config,
    /// The configurations to compare: each replaces some keys of `config`. Without any, jitter strategies are
    /// compared.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// The servers that they connect to.
    pub farm: Farm,
    /// The incidents.
    #[serde(default)]
    pub incidents: Vec<Incident>,
}

const fn default_seed() -> u64 {
    7
}

/// A configuration that is compared with others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name in tables and pictures.
    pub name: String,
    /// The keys that differ.
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// Servers behind a load balancer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Farm {
    /// Equal servers. A new connection goes to one of those that are up.
    pub nodes: u16,
    /// Handshakes a second that all of them complete together.
    pub handshakes_per_second: u32,
    /// Handshakes that may wait for their turn.
    pub queue: u32,
    /// What happens to a dial when that many wait.
    pub when_full: Refusal,
    /// Connections that may be open at once. Absent: any number.
    pub connections: Option<u32>,
    /// How long an answer takes.
    pub rtt: RoundTrip,
    /// The load balancer, which ends silent connections.
    pub balancer_idle: Option<BalancerIdle>,
}

/// A round trip: a minimum, plus an exponentially distributed time with this mean.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundTrip {
    /// The minimum.
    pub least: Time,
    /// The mean of the added time. The largest addition is nine times that.
    #[serde(default)]
    pub extra: Time,
}

/// A balancer that ends a connection on which nothing has passed for `timeout`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancerIdle {
    /// Silence in both directions.
    pub timeout: Time,
    /// What the client sees.
    pub how: Loss,
}

/// How a dial fails.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Refusal {
    /// Refused, a round trip later.
    Refuse,
    /// Swallowed: the client's `connect_timeout` ends it.
    Drop,
    /// Answered with this status.
    Http {
        /// 429, 503, …
        status: u16,
        /// Its `Retry-After`.
        retry_after: Option<Time>,
    },
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// By a reset.
    Reset,
    /// The stream ends without a Close frame.
    Eof,
    /// A Close frame with this code.
    Close(u16),
    /// Silently: TCP stays open, nothing is answered.
    Freeze,
}

/// An incident, at a time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Incident {
    /// The whole farm is down.
    Outage {
        /// From when.
        at: Time,
        /// How long.
        lasts: Time,
        /// What happens to open connections.
        connections: Loss,
        /// What happens to dials.
        dials: Refusal,
        /// The farm comes back slowly: capacity grows evenly over this time, from a tenth.
        #[serde(default)]
        recovers_over: Time,
    },
    /// One node after another is down.
    RollingRestart {
        /// When the first goes down.
        at: Time,
        /// How much later the next goes down.
        every: Time,
        /// How long each is down.
        down: Time,
        /// What happens to its connections.
        connections: Loss,
    },
    /// The farm accepts and ends each connection soon after.
    Flapping {
        /// From when.
        at: Time,
        /// How long.
        lasts: Time,
        /// How long each connection lives.
        open_for: Time,
        /// How it ends.
        how: Loss,
    },
    /// Round trips take this long instead.
    Latency {
        /// From when.
        at: Time,
        /// How long.
        lasts: Time,
        /// The round trip during this time.
        rtt: RoundTrip,
    },
    /// Clients are suspended: laptops are closed in the evening and opened at nine.
    Sleep {
        /// From when.
        at: Time,
        /// How long.
        lasts: Time,
        /// How many of the clients that are connected, in percent.
        percent: u8,
        /// They wake evenly spread over this time.
        wake_within: Time,
    },
}

impl Incident {
    /// When it begins.
    #[must_use]
    pub fn begins(&self) -> u64 {
        match self {
            Self::Outage { at, .. }
            | Self::RollingRestart { at, .. }
            | Self::Flapping { at, .. }
            | Self::Latency { at, .. }
            | Self::Sleep { at, .. } => at.0,
        }
    }

    /// When it is over, for a farm of this many nodes.
    #[must_use]
    pub fn ends(&self, nodes: u16) -> u64 {
        match self {
            Self::Outage { at, lasts, .. }
            | Self::Flapping { at, lasts, .. }
            | Self::Latency { at, lasts, .. }
            | Self::Sleep { at, lasts, .. } => at.0 + lasts.0,
            Self::RollingRestart {
                at, every, down, ..
            } => at.0 + every.0 * u64::from(nodes - 1) + down.0,
        }
    }
}

/// Why a text is not a scenario.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Not JSON, or not of the right shape.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A variant's configuration is invalid.
    #[error("variant \"{name}\": {error}")]
    Variant {
        /// Its name.
        name: String,
        /// The fault in it.
        error: ConfigTextError,
    },
    /// A value that breaks a rule.
    #[error("`{key}` is {value}: {rule}")]
    Rule {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The rule.
        rule: &'static str,
    },
}

/// The scenarios that ship: file names and texts.
pub const SHIPPED: [(&str, &str); 7] = [
    ("cold-outage", include_str!("scenarios/cold-outage.json")),
    (
        "rolling-restart",
        include_str!("scenarios/rolling-restart.json"),
    ),
    (
        "restart-with-1012",
        include_str!("scenarios/restart-with-1012.json"),
    ),
    ("flapping", include_str!("scenarios/flapping.json")),
    ("nine-o-clock", include_str!("scenarios/nine-o-clock.json")),
    (
        "balancer-idle",
        include_str!("scenarios/balancer-idle.json"),
    ),
    (
        "latency-spikes",
        include_str!("scenarios/latency-spikes.json"),
    ),
];

/// One more, which measures the simulation's own speed.
pub const QUIET_DAY: (&str, &str) = ("quiet-day", include_str!("scenarios/quiet-day.json"));

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] names the place, the value and the rule.
    pub fn from_json(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self = serde_json::from_str(text)?;
        scenario.check()?;
        if scenario.variants.is_empty() {
            scenario.compare_jitter(&[0, 50, 100]);
        }
        Ok(scenario)
    }

    /// The configurations to compare, with their names.
    ///
    /// # Errors
    ///
    /// The first invalid one.
    pub fn variants(&self) -> Result<Vec<(String, Config)>, ScenarioError> {
        let with = |variant: &Variant| {
            let mut value = self.config.to_value();
            if let Some(object) = value.as_object_mut() {
                object.extend(variant.config.clone());
            }
            match Config::from_value(&value) {
                Ok(config) => Ok((variant.name.clone(), config)),
                Err(error) => Err(ScenarioError::Variant {
                    name: variant.name.clone(),
                    error,
                }),
            }
        };
        self.variants.iter().map(with).collect()
    }

    /// Compares jitter strategies, by how many percent a delay may be shortened: 0 is none, 50 is
    /// called equal, 100 full.
    pub fn compare_jitter(&mut self, percents: &[u8]) {
        let (base, cap, _) = self.config.backoff();
        let (base, cap) = (DurationText(base), DurationText(cap));
        let variant = |percent: &u8| {
            let name = match percent {
                0 => "no jitter".to_owned(),
                50 => "equal (default)".to_owned(),
                100 => "full jitter".to_owned(),
                percent => format!("jitter {percent} %"),
            };
            let backoff = json!({"base": base.to_string(), "cap": cap.to_string(), "jitter_percent": percent});
            Variant {
                name,
                config: [("backoff".to_owned(), backoff)].into_iter().collect(),
            }
        };
        self.variants = percents.iter().map(variant).collect();
    }

    /// When the last incident is over; the start, if there is none.
    #[must_use]
    pub fn calm_from(&self) -> u64 {
        let ends = |incident: &Incident| incident.ends(self.farm.nodes);
        self.incidents.iter().map(ends).max().unwrap_or(0)
    }

    /// Checks the whole scenario, also after a value was replaced.
    ///
    /// # Errors
    ///
    /// The first broken rule.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let rule = |holds: bool, key, value: String, rule| {
            if holds {
                Ok(())
            } else {
                Err(ScenarioError::Rule { key, value, rule })
            }
        };
        let time = |time: Time| DurationText(std::time::Duration::from_nanos(time.0)).to_string();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        rule(
            !self.name.is_empty() && self.name.len() <= 40 && self.name.chars().all(plain),
            "name",
            format!("{:?}", self.name),
            "1 to 40 small letters, digits and hyphens, for it names files",
        )?;
        rule(
            (1..=10_000_000).contains(&self.machines),
            "machines",
            self.machines.to_string(),
            "it must lie between 1 and 10000000",
        )?;
        rule(
            self.duration.0 >= SECOND,
            "duration",
            time(self.duration),
            "it must be at least 1s",
        )?;
        rule(
            self.start_within <= self.duration,
            "start_within",
            time(self.start_within),
            "it must not be longer than `duration`",
        )?;
        rule(
            (1..=1000).contains(&self.farm.nodes),
            "farm.nodes",
            self.farm.nodes.to_string(),
            "it must lie between 1 and 1000",
        )?;
        rule(
            (1..=10_000_000).contains(&self.farm.handshakes_per_second),
            "farm.handshakes_per_second",
            self.farm.handshakes_per_second.to_string(),
            "it must lie between 1 and 10000000",
        )?;
        rule(
            self.farm.queue >= 1,
            "farm.queue",
            self.farm.queue.to_string(),
            "it must be at least 1",
        )?;
        self.variants()?;
        self.farm.rtt.check("farm.rtt.least")?;
        if let Some(idle) = self.farm.balancer_idle {
            rule(
                idle.timeout.0 >= SECOND,
                "farm.balancer_idle.timeout",
                time(idle.timeout),
                "it must be at least 1s",
            )?;
        }
        for (index, incident) in self.incidents.iter().enumerate() {
            let ends = incident.ends(self.farm.nodes);
            rule(
                ends <= self.duration.0,
                "incidents",
                format!("over at {} (incidents[{index}])", time(Time(ends))),
                "an incident must be over within `duration`",
            )?;
            match incident {
                Incident::Outage { lasts, .. }
                | Incident::Flapping { lasts, .. }
                | Incident::Latency { lasts, .. }
                | Incident::Sleep { lasts, .. } => rule(
                    lasts.0 > 0,
                    "incidents.lasts",
                    time(*lasts),
                    "it must be positive",
                )?,
                Incident::RollingRestart { down, .. } => rule(
                    down.0 > 0,
                    "incidents.down",
                    time(*down),
                    "it must be positive",
                )?,
            }
            match incident {
                Incident::Latency { rtt, .. } => rtt.check("incidents.rtt.least")?,
                Incident::Sleep { percent, .. } => rule(
                    (1..=100).contains(percent),
                    "incidents.percent",
                    percent.to_string(),
                    "it must lie between 1 and 100",
                )?,
                Incident::Flapping { open_for, .. } => rule(
                    open_for.0 > 0,
                    "incidents.open_for",
                    time(*open_for),
                    "it must be positive",
                )?,
                Incident::Outage { .. } | Incident::RollingRestart { .. } => {}
            }
        }
        Ok(())
    }
}

impl RoundTrip {
    fn check(&self, key: &'static str) -> Result<(), ScenarioError> {
        // No round trip may be zero, because the order of events would be lost.
        if self.least.0 >= 1000 {
            return Ok(());
        }
        Err(ScenarioError::Rule {
            key,
            value: format!("{}ns", self.least.0),
            rule: "it must be at least 1us",
        })
    }
}
