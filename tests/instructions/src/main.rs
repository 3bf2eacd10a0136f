//! Counts the instructions of the hot paths, and compares them with `recorded.txt`. Needs valgrind.
//!
//! ```sh
//! cargo run --release -p heartbeat-instructions                              # a regression is an error
//! HEARTBEAT_RECORD=1 cargo run --release -p heartbeat-instructions           # records anew
//! ```
//!
//! callgrind counts the same on every run, whatever else the machine is doing. Another compiler, C library or processor
//! gives other figures. So the record names its compiler, and is not used under another one.

mod core;
mod receive;
mod stream;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The measured function: does its work this many times.
type Case = Box<dyn FnMut(u64)>;

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recorded.txt");

/// How often a case runs before counting, and in the two runs whose difference counts.
const WARM: u64 = 1_000;
const SHORT: u64 = 1_000;
const LONG: u64 = 4_000;

/// A figure above the recorded one by more than this is a regression: 3 %, and one instruction for
/// rounding.
const SLACK: f64 = 0.03;

const COUNTED: &str = "heartbeat_instructions::counted";

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        None => check(),
        Some("measure") => measure(),
        Some(other) => Err(format!("{other:?}: this takes no arguments").into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("heartbeat-instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn cases() -> Result<Vec<(String, Case)>> {
    let mut cases = core::cases()?;
    cases.extend(receive::cases()?);
    Ok(cases)
}

/// The part that runs under callgrind.
fn measure() -> Result<ExitCode> {
    for (name, mut case) in cases()? {
        case(WARM);
        counted(&mut || case(SHORT));
        counted(&mut || case(LONG));
        println!("{name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// callgrind writes its counts when this function begins and when it ends. It knows the function by its
/// name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    std::hint::black_box(work)();
    // The call is not the last act, because that would become a jump, and callgrind has to see the function
    // end.
    std::hint::black_box(());
}

fn check() -> Result<ExitCode> {
    let compiler = version("rustc")?;
    if version("valgrind").is_err() {
        println!("SKIPPED instructions: valgrind is not installed");
        return Ok(ExitCode::SUCCESS);
    }
    let seen = under_callgrind()?;
    if std::env::var_os("HEARTBEAT_RECORD").is_some() {
        let mut text = format!("{compiler}\n");
        for (name, count) in &seen {
            writeln!(text, "{count:>8.1}  {name}")?;
        }
        fs::write(RECORD, text)?;
    }
    let record = fs::read_to_string(RECORD)?;
    let (recorded_with, lines) = record.split_once('\n').unwrap_or_default();
    let comparable = recorded_with == compiler;
    if !comparable {
        println!("SKIPPED the comparison: recorded with {recorded_with}, and this is {compiler}");
    }
    println!("bytes a machine takes: {}", core::sizes());
    println!("{:>10} {:>10}   instructions", "recorded", "seen");
    let mut regressions = Vec::new();
    for (name, count) in &seen {
        let recorded = lines
            .lines()
            .filter_map(|line| line.trim().split_once("  "))
            .find(|(_, recorded)| recorded == name)
            .and_then(|(recorded, _)| recorded.parse::<f64>().ok());
        match recorded {
            Some(recorded) => println!("{recorded:>10.1} {count:>10.1}   {name}"),
            None => println!("{:>10} {count:>10.1}   {name}", "-"),
        }
        if recorded.is_none_or(|recorded| *count > recorded * (1.0 + SLACK) + 1.0) {
            let recorded = recorded.map_or("nothing".into(), |recorded| format!("{recorded:.1}"));
            regressions.push(format!("{name}: recorded {recorded}, seen {count:.1}"));
        }
    }
    if comparable && !regressions.is_empty() {
        let list = regressions.join("\n  ");
        eprintln!("more instructions than recorded (HEARTBEAT_RECORD=1 records anew):\n  {list}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn version(program: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Every case, with its instructions for one repetition.
fn under_callgrind() -> Result<Vec<(String, f64)>> {
    let dir = std::env::temp_dir().join(format!("heartbeat-instructions-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let seen = dumped(&dir);
    fs::remove_dir_all(&dir)?;
    seen
}

fn dumped(dir: &Path) -> Result<Vec<(String, f64)>> {
    let out = dir.join("out");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--dump-before={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .arg("measure")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let names = String::from_utf8(output.stdout)?;
    let total = |number: usize| -> Result<f64> {
        let text = fs::read_to_string(dir.join(format!("out.{number}")))?;
        let line = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("totals: "));
        Ok(line.ok_or("a dump without totals")?.trim().parse()?)
    };
    let mut seen = Vec::new();
    for (number, name) in names.lines().enumerate() {
        // Four dumps for each case: for each of its two runs, the part before and the run.
        let (short, long) = (total(4 * number + 2)?, total(4 * number + 4)?);
        seen.push((name.to_owned(), (long - short) / (LONG - SHORT) as f64));
    }
    Ok(seen)
}
