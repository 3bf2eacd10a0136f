//! The simulated world, for as long as you let it run. `--help` lists the options; `tests/docs/world.md`
//! describes the world.

#![allow(
    clippy::disallowed_methods,
    reason = "a campaign is measured on the real clock"
)]

#[path = "../simulation/mod.rs"]
mod simulation;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lexopt::ValueExt as _;
use simulation::{Figures, Violation};

/// The longest life in the tests.
const SHORT: Duration = Duration::from_secs(1800);

const HELP: &str = "\
Runs whole clients in a simulated world, one seed after another, and stops at the first broken rule.

usage: cargo run --release -p heartbeat-tests --example world -- [OPTIONS]

    --seconds N    begin no run after N seconds (default 60; a run can take a minute)
    --hours N      or when N virtual connection-hours are reached
    --seed S       the first seed (default 0); the end names the next one, to go on with
    --threads N    seeds side by side (default 1)
    --short        lives of half an hour at the most, as in the tests
    --replay S     this seed alone
    --trace FILE   with --replay: write its whole trace, as `replay` reads it

Ctrl-C and SIGTERM end it at once, with the figures so far and the seed to go on with.
";

struct Arguments {
    seconds: u64,
    hours: Option<f64>,
    seed: u64,
    threads: usize,
    longest: Duration,
    replay: Option<u64>,
    trace: Option<std::path::PathBuf>,
}

fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::Arg::Long;
    let mut given = Arguments {
        seconds: 60,
        hours: None,
        seed: 0,
        threads: 1,
        longest: Duration::MAX,
        replay: None,
        trace: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seconds") => given.seconds = parser.value()?.parse()?,
            Long("hours") => given.hours = Some(parser.value()?.parse()?),
            Long("seed") => given.seed = parser.value()?.parse()?,
            Long("threads") => given.threads = parser.value()?.parse()?,
            Long("short") => given.longest = SHORT,
            Long("replay") => given.replay = Some(parser.value()?.parse()?),
            Long("trace") => given.trace = Some(parser.value()?.into()),
            Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(given))
}

fn main() -> ExitCode {
    match arguments() {
        Ok(Some(given)) => match given.replay {
            Some(seed) => replay(seed, given.longest, given.trace.as_deref()),
            None => campaign(&given),
        },
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn replay(seed: u64, longest: Duration, file: Option<&std::path::Path>) -> ExitCode {
    let (trace, result) = simulation::record(seed, longest, file.is_some());
    if let Some(file) = file {
        if let Err(error) = std::fs::write(file, trace) {
            eprintln!("{}: {error}", file.display());
            return ExitCode::from(2);
        }
        println!("the trace is in {}", file.display());
    }
    match result {
        Ok(figures) => {
            println!("seed {seed}: no rule was broken\n{figures}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            tell(&violation, longest);
            ExitCode::FAILURE
        }
    }
}

/// The state shared by all threads of a campaign.
struct Campaign {
    started: Instant,
    first: u64,
    next: AtomicU64,
    /// The seeds whose runs have not ended.
    under_way: Mutex<BTreeSet<u64>>,
    total: Mutex<Figures>,
    found: Mutex<Option<Box<Violation>>>,
    over: AtomicBool,
}

impl Campaign {
    fn new(first: u64) -> Self {
        Self {
            started: Instant::now(),
            first,
            next: AtomicU64::new(first),
            under_way: Mutex::default(),
            total: Mutex::default(),
            found: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    fn live(&self, given: &Arguments) {
        let mut tell_at = Duration::from_secs(10);
        while !self.over.load(Ordering::Relaxed) && self.started.elapsed().as_secs() < given.seconds
        {
            let seed = {
                let mut under_way = lock(&self.under_way);
                let seed = self.next.fetch_add(1, Ordering::Relaxed);
                under_way.insert(seed);
                seed
            };
            let lived = simulation::run(seed, given.longest);
            let mut total = lock(&self.total);
            lock(&self.under_way).remove(&seed);
            match lived {
                Ok(figures) => {
                    total.add(&figures);
                    if self.started.elapsed() >= tell_at {
                        tell_at = self.started.elapsed() + Duration::from_secs(10);
                        self.progress(&total);
                    }
                    if given.hours.is_some_and(|hours| total.hours() >= hours) {
                        self.over.store(true, Ordering::Relaxed);
                    }
                }
                Err(violation) => {
                    self.over.store(true, Ordering::Relaxed);
                    let mut found = lock(&self.found);
                    if found
                        .as_ref()
                        .is_none_or(|known| violation.seed < known.seed)
                    {
                        *found = Some(violation);
                    }
                }
            }
        }
    }

    /// The first seed that was not run to its end.
    fn next(&self) -> u64 {
        let next = self.next.load(Ordering::Relaxed);
        lock(&self.under_way).first().map_or(next, |seed| *seed)
    }

    fn progress(&self, figures: &Figures) {
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "{seconds:6.0} s  {:10.0} virtual connection-hours, {:.0} a second; next seed {}",
            figures.hours(),
            figures.hours() / seconds,
            self.next()
        );
    }

    fn conclude(&self, longest: Duration, figures: &Figures) -> ExitCode {
        let next = self.next();
        println!("\nseeds {}..{next}", self.first);
        println!("{figures}");
        self.progress(figures);
        match &*lock(&self.found) {
            None => {
                println!("no rule was broken; to go on: --seed {next}");
                ExitCode::SUCCESS
            }
            Some(violation) => {
                tell(violation, longest);
                ExitCode::FAILURE
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn campaign(given: &Arguments) -> ExitCode {
    let campaign = Arc::new(Campaign::new(given.seed));
    let (interrupted, longest) = (Arc::clone(&campaign), given.longest);
    // A life can take a minute. It is abandoned, and is the first to run next time.
    let handler = ctrlc::set_handler(move || {
        let figures = lock(&interrupted.total);
        let broken = interrupted.conclude(longest, &figures) != ExitCode::SUCCESS;
        std::process::exit(i32::from(broken));
    });
    if let Err(error) = handler {
        eprintln!("Ctrl-C will end this at once: {error}");
    }
    println!("from seed {}, {} thread(s)", given.seed, given.threads);
    std::thread::scope(|scope| {
        for _ in 0..given.threads.max(1) {
            scope.spawn(|| campaign.live(given));
        }
    });
    campaign.conclude(given.longest, &lock(&campaign.total))
}

fn tell(violation: &Violation, longest: Duration) {
    let Violation {
        seed,
        rule,
        at,
        plan,
        trace,
        dropped,
    } = violation;
    println!("\n{plan}\n");
    if *dropped > 0 {
        println!("(the last lines of the trace, after {dropped} others)");
    }
    println!("{trace}");
    println!(
        "BROKEN with seed {seed}, {:.9} s after the beginning: {rule}\n",
        *at as f64 / 1e9
    );
    let short = if longest == SHORT { " --short" } else { "" };
    println!(
        "To see it again, with the whole trace in FILE for `cargo run -p heartbeat-core --example replay < FILE`:"
    );
    println!(
        "    cargo run --release -p heartbeat-tests --example world -- --replay {seed}{short} --trace FILE"
    );
}
