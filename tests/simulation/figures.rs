//! Counts of everything that happened, because a world in which nothing happens proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Sums over runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Runs: seeds.
    pub(crate) runs: u64,
    /// Time in which a connection was open, in nanoseconds.
    pub(crate) open_nanos: u128,
    /// Time in which a client lived, connected or not.
    pub(crate) life_nanos: u128,
    /// Steps of the machine, each compared with the reference model.
    pub(crate) steps: u64,
    /// Dials.
    pub(crate) dials: u64,
    /// Connections that were opened.
    pub(crate) connects: u64,
    /// Deaths by silence whose time is exact.
    pub(crate) deaths: u64,
    /// Those of them that were on the bound itself, to the nanosecond.
    pub(crate) at_the_bound: u64,
    /// Verdicts on silence or a stuck write while or after bytes had to wait.
    pub(crate) deaths_amid_uploads: u64,
    /// Messages of the server that were dropped, by the events for the application.
    pub(crate) lagged: u64,
    /// Series of ends that one event reported.
    pub(crate) skipped: u64,
    /// Clients that gave up.
    pub(crate) gave_up: u64,
    /// Pings of the client.
    pub(crate) pings: u64,
    /// Answers of the client.
    pub(crate) pongs: u64,
    /// Messages that the client accepted from its application.
    pub(crate) accepted: u64,
    /// Of these, written.
    pub(crate) written: u64,
    /// Of these, handed back.
    pub(crate) handed_back: u64,
    /// Messages of the server that the application took.
    pub(crate) received: u64,
    /// The client's own verdicts.
    pub(crate) verdicts: BTreeMap<&'static str, u64>,
    /// Ends that others caused.
    pub(crate) causes: BTreeMap<String, u64>,
    /// The faults that were injected.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Runs of each kind of client.
    pub(crate) hosts: BTreeMap<String, u64>,
}

impl Figures {
    /// Adds another run's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.open_nanos += other.open_nanos;
        self.life_nanos += other.life_nanos;
        self.steps += other.steps;
        self.dials += other.dials;
        self.connects += other.connects;
        self.deaths += other.deaths;
        self.at_the_bound += other.at_the_bound;
        self.deaths_amid_uploads += other.deaths_amid_uploads;
        self.lagged += other.lagged;
        self.skipped += other.skipped;
        self.gave_up += other.gave_up;
        self.pings += other.pings;
        self.pongs += other.pongs;
        self.accepted += other.accepted;
        self.written += other.written;
        self.handed_back += other.handed_back;
        self.received += other.received;
        merge(&mut self.verdicts, &other.verdicts);
        merge(&mut self.causes, &other.causes);
        merge(&mut self.faults, &other.faults);
        merge(&mut self.hosts, &other.hosts);
    }

    /// Hours in which a connection was open.
    #[must_use]
    pub(crate) fn hours(&self) -> f64 {
        self.open_nanos as f64 / 3.6e12
    }
}

fn merge<K: Clone + Ord>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key.clone()).or_default() += count;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {:.0} virtual connection-hours ({:.0} hours of clients' lives)",
            self.runs,
            self.hours(),
            self.life_nanos as f64 / 3.6e12
        )?;
        writeln!(f, "clients   {}", list(&self.hosts))?;
        writeln!(
            f,
            "machine   {} steps, each compared with the reference model",
            self.steps
        )?;
        writeln!(
            f,
            "dials     {}, of which {} opened; {} clients gave up",
            self.dials, self.connects, self.gave_up
        )?;
        writeln!(f, "verdicts  {}", list(&self.verdicts))?;
        writeln!(
            f,
            "deaths    {} by silence that nothing excused, {} of them at the bound to the nanosecond; {} amid uploads",
            self.deaths, self.at_the_bound, self.deaths_amid_uploads
        )?;
        writeln!(f, "ends      {}", list(&self.causes))?;
        writeln!(f, "pings     {} sent, {} answered", self.pings, self.pongs)?;
        writeln!(
            f,
            "messages  {} accepted: {} written, {} handed back; {} received, {} dropped; {} rows of ends in one",
            self.accepted, self.written, self.handed_back, self.received, self.lagged, self.skipped
        )?;
        write!(f, "faults    {}", list(&self.faults))
    }
}

fn list<K: fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    let words: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    words.join(", ")
}
