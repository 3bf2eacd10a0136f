//! The result of each case for each client, over all repeats: read from and written to `torture.json`.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde_json::{Value, json};

use crate::cases::{Case, Outcome, Variant};
use crate::clients::Client;
use crate::trial::Cost;

/// All rows, by case and client.
pub(crate) struct Results(BTreeMap<(String, String), Row>);

/// A case and a client.
#[derive(Debug, Default)]
pub(crate) struct Row {
    case: String,
    client: String,
    /// Passed trials, and all trials.
    pub(crate) passed: u64,
    pub(crate) trials: u64,
    /// Median and longest time of death in s, if it is judged and happened.
    pub(crate) death: Option<(f64, f64)>,
    /// From the end of a connection to the next, median and longest, in s.
    pub(crate) recovery: Option<(f64, f64)>,
    pub(crate) false_deaths: u64,
    /// The most in one trial.
    pub(crate) connects: u64,
    pub(crate) lost: i64,
    pub(crate) duplicates: u64,
    pub(crate) returned: u64,
    /// Most processor time of one trial in ms.
    pub(crate) cpu_ms: u64,
    /// The machine's highest load average at the end of a trial.
    pub(crate) load: f64,
    /// A few words on failed trials, if there are any.
    pub(crate) what: String,
}

impl Row {
    pub(crate) fn of<'a>(
        case: &Case,
        client: &Client,
        trials: impl Iterator<Item = (&'a Variant, &'a Outcome, Cost)>,
    ) -> Self {
        let mut row = Self {
            case: case.id.to_owned(),
            client: client.name.to_owned(),
            ..Self::default()
        };
        let (mut deaths, mut recoveries) = (Vec::new(), Vec::new());
        let (mut good, mut bad) = (BTreeMap::new(), BTreeMap::new());
        for (variant, outcome, cost) in trials {
            row.trials += 1;
            row.passed += u64::from(outcome.pass);
            if variant.judge.bound().is_some() {
                deaths.extend(outcome.death);
                recoveries.extend(outcome.recovery);
            }
            row.false_deaths += outcome.false_deaths;
            row.connects = row.connects.max(outcome.connects);
            row.lost += outcome.lost;
            row.duplicates += outcome.duplicates;
            row.returned += outcome.returned;
            row.cpu_ms = row.cpu_ms.max(cost.cpu_ms);
            row.load = row.load.max(cost.load);
            let position = case
                .variants
                .iter()
                .position(|other| std::ptr::eq(other, variant));
            let which = variant.path.split_once('/').map_or("", |(_, which)| which);
            let words = if outcome.pass { &mut good } else { &mut bad };
            words.insert(position, (which, outcome.what.clone()));
        }
        row.death = median_and_max(deaths);
        row.recovery = median_and_max(recoveries);
        let words = if bad.is_empty() { good } else { bad };
        let words = words.values().filter(|(_, what)| !what.is_empty());
        let words: Vec<_> = words
            .map(|(which, what)| match *which {
                "" => what.clone(),
                which => format!("{which}: {what}"),
            })
            .collect();
        row.what = if row.trials == 0 {
            let excuse = case
                .variants
                .first()
                .and_then(|variant| client.excuse(variant.path));
            excuse.unwrap_or_default().to_owned()
        } else {
            words.join("; ")
        };
        row
    }

    fn to_json(&self) -> Value {
        let pair = |pair: Option<(f64, f64)>| pair.map(|(median, max)| json!([median, max]));
        json!({
            "case": self.case, "client": self.client, "passed": self.passed, "trials": self.trials,
            "death_s": pair(self.death), "recovery_s": pair(self.recovery), "false_deaths": self.false_deaths,
            "connects": self.connects, "lost": self.lost, "duplicates": self.duplicates,
            "returned": self.returned, "cpu_ms": self.cpu_ms, "load": self.load, "what": self.what,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let count = |name: &str| value[name].as_u64().unwrap_or_default();
        let pair = |name: &str| Some((value[name][0].as_f64()?, value[name][1].as_f64()?));
        Some(Self {
            case: text("case")?,
            client: text("client")?,
            passed: count("passed"),
            trials: count("trials"),
            death: pair("death_s"),
            recovery: pair("recovery_s"),
            false_deaths: count("false_deaths"),
            connects: count("connects"),
            lost: value["lost"].as_i64().unwrap_or_default(),
            duplicates: count("duplicates"),
            returned: count("returned"),
            cpu_ms: count("cpu_ms"),
            load: value["load"].as_f64().unwrap_or_default(),
            what: text("what")?,
        })
    }
}

/// In seconds, to the millisecond.
fn median_and_max(mut millis: Vec<f64>) -> Option<(f64, f64)> {
    millis.sort_by(f64::total_cmp);
    let seconds = |millis: f64| millis.round() / 1000.0;
    let last = *millis.last()?;
    Some((seconds(millis[millis.len() / 2]), seconds(last)))
}

impl Results {
    pub(crate) fn load(file: &Path) -> io::Result<Self> {
        let mut results = Self(BTreeMap::new());
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(results),
            text => text?,
        };
        for line in text.lines() {
            let row = serde_json::from_str(line)
                .ok()
                .and_then(|value| Row::from_json(&value));
            let row = row.ok_or_else(|| io::Error::other(format!("{}: {line}", file.display())))?;
            results.put(row);
        }
        Ok(results)
    }

    /// One row on each line, so that a change is a short difference.
    pub(crate) fn save(&self, file: &Path) -> io::Result<()> {
        let lines: Vec<String> = self
            .0
            .values()
            .map(|row| row.to_json().to_string())
            .collect();
        fs::write(file, lines.join("\n") + "\n")
    }

    pub(crate) fn put(&mut self, row: Row) {
        self.0.insert((row.case.clone(), row.client.clone()), row);
    }

    /// Rows of another run replace our own.
    pub(crate) fn take(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn get(&self, case: &Case, client: &Client) -> Option<&Row> {
        self.0.get(&(case.id.to_owned(), client.name.to_owned()))
    }
}
