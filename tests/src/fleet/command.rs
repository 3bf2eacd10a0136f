//! The program: arguments, progress, tables.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use heartbeat_core::Config;
use lexopt::prelude::*;
use serde_json::json;

use super::figures::Figures;
use super::pictures;
use super::scenario::{QUIET_DAY, SECOND, SHIPPED, Scenario, Time};
use super::world::World;

const USAGE: &str = "\
usage: fleet [SCENARIO]... [--json] [--pictures DIR] [--jitter PERCENT,...] [--seed N] [--machines N] [--hours H]
       fleet --cost

Simulates a fleet of clients, each a real machine of heartbeat-core, against a modelled server farm.
SCENARIO is a JSON file or the name of one that ships; without any, all of them but quiet-day are run:
  cold-outage  rolling-restart  restart-with-1012  flapping  nine-o-clock  balancer-idle  latency-spikes  quiet-day

  --json                 one JSON object a scenario, with every series, instead of tables
  --pictures DIR         writes DIR/SCENARIO.svg: dials against capacity, share of the fleet open, delays
  --jitter PERCENT,...   compares these jitter strategies, by how many percent a delay may be shortened. Without:
                         the scenario's own variants, or 0,50,100: none, equal (the library's default), full
  --seed N               another course of chance
  --machines N           another number of clients
  --hours H              another length, such as 0.5
  --cost                 what a step costs, for fleets of 1 000 to 1 000 000

Ctrl-C ends the run and prints what there is so far. Exit status: 0, 1 if a picture could not be written,
2 for bad usage or a bad scenario.
";

struct Arguments {
    scenarios: Vec<Scenario>,
    json: bool,
    pictures: Option<PathBuf>,
}

enum Asked {
    Run(Arguments),
    Cost,
    Help,
}

/// The binary `fleet`.
#[must_use]
pub fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = match parse(lexopt::Parser::from_env()) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("{error}\n(fleet --help lists the flags)");
            return ExitCode::from(2);
        }
    };
    let handler = Arc::clone(&stop);
    if let Err(error) = ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed)) {
        eprintln!("Ctrl-C will end the program at once: {error}");
    }
    match asked {
        Asked::Help => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Asked::Cost => {
            cost(&stop);
            ExitCode::SUCCESS
        }
        Asked::Run(arguments) => run(&arguments, &stop),
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Asked, lexopt::Error> {
    let (mut names, mut json, mut pictures) = (Vec::new(), false, None);
    let mut jitter = None;
    let (mut seed, mut machines, mut hours) = (None, None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => json = true,
            Long("pictures") => pictures = Some(parser.value()?.into()),
            Long("jitter") => jitter = Some(parser.value()?.parse_with(percents)?),
            Long("seed") => seed = Some(parser.value()?.parse()?),
            Long("machines") => machines = Some(parser.value()?.parse()?),
            Long("hours") => hours = Some(parser.value()?.parse_with(duration)?),
            Long("cost") => return Ok(Asked::Cost),
            Long("help") | Short('h') => return Ok(Asked::Help),
            Value(name) => names.push(name.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    if names.is_empty() {
        names.extend(SHIPPED.map(|(name, _)| name.to_owned()));
    }
    let mut scenarios = Vec::new();
    for name in names {
        let mut scenario = read(&name)?;
        scenario.seed = seed.unwrap_or(scenario.seed);
        scenario.machines = machines.unwrap_or(scenario.machines);
        scenario.duration = hours.unwrap_or(scenario.duration);
        if let Some(percents) = &jitter {
            scenario.compare_jitter(percents);
        }
        let checked = scenario.check();
        checked.map_err(|error| format!("{name}: {error}"))?;
        scenarios.push(scenario);
    }
    Ok(Asked::Run(Arguments {
        scenarios,
        json,
        pictures,
    }))
}

fn percents(text: &str) -> Result<Vec<u8>, String> {
    let percent = |text: &str| {
        let percent = text.trim().parse().ok().filter(|percent| *percent <= 100);
        percent.ok_or_else(|| format!("\"{text}\" is no percentage from 0 to 100"))
    };
    text.split(',').map(percent).collect()
}

fn duration(text: &str) -> Result<Time, String> {
    let hours: f64 = text
        .parse()
        .map_err(|_| format!("\"{text}\" is no number"))?;
    // 31 days, as in a scenario.
    if !(hours > 0.0 && hours <= 744.0) {
        return Err(format!("\"{text}\" hours: more than 0, at most 744"));
    }
    Ok(Time((hours * 3600.0 * SECOND as f64) as u64))
}

fn read(name: &str) -> Result<Scenario, String> {
    let shipped = SHIPPED.into_iter().chain([QUIET_DAY]);
    let text = match shipped.into_iter().find(|(shipped, _)| *shipped == name) {
        Some((_, text)) => text.to_owned(),
        None => fs::read_to_string(name).map_err(|error| {
            format!("{name} is neither a scenario that ships nor a file that can be read: {error}")
        })?,
    };
    Scenario::from_json(&text).map_err(|error| format!("{name}: {error}"))
}

fn run(arguments: &Arguments, stop: &AtomicBool) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for scenario in &arguments.scenarios {
        let mut runs = Vec::new();
        for (name, config) in scenario.variants().unwrap_or_default() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            runs.push(simulate(scenario, &name, &config, stop));
        }
        if arguments.json {
            let value = json!({"scenario": scenario.name, "about": scenario.about, "runs": runs});
            println!("{value}");
        } else {
            println!("{}", table(scenario, &runs));
        }
        if let (Some(directory), false) = (&arguments.pictures, runs.is_empty())
            && let Err(error) = draw(directory, scenario, &runs)
        {
            eprintln!("{}: {error}", directory.display());
            status = ExitCode::from(1);
        }
    }
    status
}

fn draw(directory: &Path, scenario: &Scenario, runs: &[Figures]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let svg = pictures::draw(scenario, runs).map_err(io::Error::other)?;
    fs::write(directory.join(format!("{}.svg", scenario.name)), svg)
}

/// Runs a scenario with one configuration, and reports its progress now and then.
fn simulate(scenario: &Scenario, name: &str, config: &Config, stop: &AtomicBool) -> Figures {
    let total = scenario.duration.seconds();
    let mut told = now();
    let figures = World::new(scenario, name, config).run(stop, |at, steps| {
        if told.elapsed() >= Duration::from_secs(2) {
            told = now();
            let at = at as f64 / SECOND as f64;
            eprintln!(
                "{}, {name}: {:.0} % ({:.1} h, {:.0} million steps)",
                scenario.name,
                100.0 * at / total,
                at / 3600.0,
                steps as f64 / 1e6
            );
        }
    });
    if stop.load(Ordering::Relaxed) {
        eprintln!(
            "{}, {name}: interrupted after {:.0} s of {total:.0} s",
            scenario.name, figures.watched
        );
    }
    figures
}

fn table(scenario: &Scenario, runs: &[Figures]) -> String {
    let mut text = format!(
        "{}: {}\n{} clients, {} handshakes a second\n\n",
        scenario.name, scenario.about, scenario.machines, scenario.farm.handshakes_per_second
    );
    let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let _ = write!(text, "  {name:<34}");
        for run in runs {
            let _ = write!(text, " {:>20}", cell(run));
        }
        text.push('\n');
    };
    let seconds = |seconds: Option<f64>| {
        seconds.map_or_else(
            || "not seen".to_owned(),
            |seconds| format!("{seconds:.0} s"),
        )
    };
    row("", &|run| run.variant.clone());
    row("peak dials/s while the farm is up", &|run| {
        format!("{} ({:.2}x)", run.peak_dials, run.peak_ratio)
    });
    row("peak dials/s at any time", &|run| {
        run.peak_dials_at_all.to_string()
    });
    row("50 % back after", &|run| seconds(run.back.half));
    row("99 % back after", &|run| seconds(run.back.most));
    row("100 % back after", &|run| seconds(run.back.all));
    row("wasted dials", &|run| run.counts.wasted_dials.to_string());
    row("handshakes for nobody", &|run| {
        run.counts.wasted_handshakes.to_string()
    });
    row("false deaths", &|run| run.counts.false_deaths.to_string());
    row("ended by the balancer", &|run| {
        run.counts.balancer_drops.to_string()
    });
    row("frozen, found dead after (mean)", &|run| {
        run.detection_mean
            .map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1} s"))
    });
    row("frozen, found dead after (longest)", &|run| {
        run.detection_max
            .map_or_else(|| "-".to_owned(), |max| format!("{max:.1} s"))
    });
    row("pings/s, mean (peak)", &|run| {
        format!("{:.0} ({})", run.mean_pings, run.peak_pings)
    });
    row("gave up", &|run| run.counts.gave_up.to_string());
    row("steps", &|run| run.counts.steps.to_string());
    text
}

// ---- what a step costs ---------------------------------------------------------------------------

/// The same number of steps for every size of fleet: about 50 million.
fn cost(stop: &AtomicBool) {
    println!(
        "bytes for each client: {}\n\n{:>10} {:>12} {:>14} {:>14} {:>12}",
        World::bytes_per_client(),
        "clients",
        "steps",
        "CPU ns/step",
        "wall ns/step",
        "peak MB"
    );
    for machines in [1_000, 10_000, 100_000, 1_000_000] {
        let mut scenario = read(QUIET_DAY.0).expect("it ships");
        scenario.machines = machines;
        scenario.start_within = Time(60 * SECOND);
        scenario.farm.handshakes_per_second = 1_000_000;
        // A ping and a pong every 30 s.
        let seconds = 50_000_000 / u64::from(machines) * 15;
        scenario.duration = Time((60 + seconds) * SECOND);
        let (wall, cpu) = (now(), cpu_time());
        let figures = simulate(&scenario, "default", &scenario.config, stop);
        let steps = figures.counts.steps;
        let per_step = |time: Duration| time.as_nanos() as f64 / steps as f64;
        let cpu = cpu_time().zip(cpu).map(|(end, start)| end - start);
        println!(
            "{machines:>10} {steps:>12} {:>14} {:>14.1} {:>12}",
            cpu.map_or_else(|| "?".to_owned(), |cpu| format!("{:.1}", per_step(cpu))),
            per_step(wall.elapsed()),
            peak_memory().map_or_else(|| "?".to_owned(), |megabytes| megabytes.to_string()),
        );
    }
}

fn now() -> Instant {
    Instant::now()
}

/// CPU time of this thread, if the system reports it (Linux). On a busy machine the wall clock says little.
fn cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// The highest memory use of this process so far, in MB, if the system reports it (Linux).
fn peak_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1000)
}
