//! The simulated world, for as long as you let it. `--help` says how; `tests/docs/world.md` what it is.

#![allow(
    clippy::disallowed_methods,
    reason = "a campaign is measured on the real clock"
)]

#[path = "../simulation/mod.rs"]
mod simulation;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lexopt::ValueExt as _;
use simulation::{Figures, Violation};

/// The longest life in the tests.
const SHORT: Duration = Duration::from_secs(1800);

const HELP: &str = "\
Runs whole clients in a simulated world, one seed after another, and stops at the first broken rule.

usage: cargo run --release -p heartbeat-tests --example world -- [OPTIONS]

    --seconds N    stop after N seconds (default 60)
    --hours N      or when N virtual connection-hours are reached
    --seed S       the first seed (default 0); the end names the next one, to go on with
    --threads N    seeds side by side (default 1)
    --short        lives of half an hour at the most, as in the tests
    --replay S     this seed alone
    --trace FILE   with --replay: write its whole trace, as `replay` reads it
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

fn campaign(given: &Arguments) -> ExitCode {
    let started = Instant::now();
    let next = AtomicU64::new(given.seed);
    let over = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::clone(&over);
    if let Err(error) = ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed)) {
        eprintln!("Ctrl-C will end this at once: {error}");
    }
    let total = Mutex::new((Figures::default(), Duration::from_secs(10)));
    let found = Mutex::new(None::<Box<Violation>>);
    let locked = || total.lock().unwrap_or_else(PoisonError::into_inner);
    println!("from seed {}, {} thread(s)", given.seed, given.threads);
    std::thread::scope(|scope| {
        for _ in 0..given.threads.max(1) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && started.elapsed().as_secs() < given.seconds {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    match simulation::run(seed, given.longest) {
                        Ok(figures) => {
                            let mut total = locked();
                            total.0.add(&figures);
                            if started.elapsed() >= total.1 {
                                total.1 = started.elapsed() + Duration::from_secs(10);
                                progress(&total.0, started, next.load(Ordering::Relaxed));
                            }
                            if given.hours.is_some_and(|hours| total.0.hours() >= hours) {
                                over.store(true, Ordering::Relaxed);
                            }
                        }
                        Err(violation) => {
                            over.store(true, Ordering::Relaxed);
                            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                            if found
                                .as_ref()
                                .is_none_or(|known| violation.seed < known.seed)
                            {
                                *found = Some(violation);
                            }
                        }
                    }
                }
            });
        }
    });
    let figures = &locked().0;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let next = next.into_inner();
    println!("\nseeds {}..{next}", given.seed);
    println!("{figures}");
    progress(figures, started, next);
    match found {
        None => {
            println!("no rule was broken; to go on: --seed {next}");
            ExitCode::SUCCESS
        }
        Some(violation) => {
            tell(&violation, given.longest);
            ExitCode::FAILURE
        }
    }
}

fn progress(figures: &Figures, started: Instant, next: u64) {
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{seconds:6.0} s  {:10.0} virtual connection-hours, {:.0} a second; next seed {next}",
        figures.hours(),
        figures.hours() / seconds
    );
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
