//! The trials to run, and how many at once.

use std::collections::VecDeque;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{env, fs, process, thread};

use lexopt::{Arg, Parser, ValueExt};

use crate::cases::{CASES, Case, Outcome, Variant};
use crate::clients::{CLIENTS, Client};
use crate::results::{Results, Row};
use crate::trial::{self, Cost, Server};
use crate::{picture, table};

const HELP: &str = "\
Drives clients over the torture course and writes docs/torture.json, docs/torture.md and docs/torture.svg.

USAGE: torture-course [OPTIONS]

  --clients LIST   ours (default), peers, all, names, or several of these separated by commas
  --cases LIST     T1,T9,… (default: all)
  --repeats N      instead of each case's own number
  --jobs N         trials at once (14); a third of that for those that use the processor
  --target DIR     where cargo puts programs (the directory of this one)
  --docs DIR       where results are read from and written to (docs)
  --merge DIR      takes the results of another --docs DIR over; runs nothing
  --render         only writes the table and the picture anew
  --verbose        what each client said on standard error
  --help

Results of cases and clients that do not run are kept from the last time.
";

/// From the repository's root, which is the working directory of `tests/peers/course`.
const PEERS: &str = "tests/peers";

struct Choice {
    clients: Vec<&'static Client>,
    cases: Vec<&'static Case>,
    repeats: Option<usize>,
    jobs: usize,
    target: PathBuf,
    docs: PathBuf,
    merge: Option<PathBuf>,
    render: bool,
    verbose: bool,
}

struct Trial {
    client: &'static Client,
    case: &'static Case,
    variant: &'static Variant,
    id: String,
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let Some(mut choice) = choice()? else {
        return Ok(());
    };
    fs::create_dir_all(&choice.docs)?;
    let file = choice.docs.join("torture.json");
    let mut results = Results::load(&file)?;
    if let Some(other) = &choice.merge {
        results.take(Results::load(&other.join("torture.json"))?);
        results.save(&file)?;
    } else if !choice.render {
        choice.clients.retain(|client| {
            let built = client.command(&choice.target, Path::new(PEERS)).is_some();
            if !built {
                eprintln!("SKIPPED {}: not built (tests/peers/course)", client.name);
            }
            built
        });
        choice.cases.retain(|case| {
            let runs = !case.variants.iter().any(Variant::has_addresses) || trial::has_namespaces();
            if !runs {
                eprintln!("SKIPPED {}: no mount namespace can be had", case.id);
            }
            runs
        });
        let begun = Instant::now();
        for heavy in [false, true] {
            let jobs = if heavy {
                choice.jobs.div_ceil(3)
            } else {
                choice.jobs
            };
            let trials = trials(&choice, heavy);
            if trials.is_empty() {
                continue;
            }
            let outcomes = run_all(&choice, trials, jobs)?;
            for row in rows(&choice, heavy, outcomes) {
                results.put(row);
            }
            results.save(&file)?;
        }
        eprintln!("the course took {:.0} s", begun.elapsed().as_secs_f64());
    }
    // A hand-written part follows the table, if there is one.
    let more = fs::read_to_string(choice.docs.join("torture-more.md")).unwrap_or_default();
    fs::write(
        choice.docs.join("torture.md"),
        table::render(&results) + &more,
    )?;
    fs::write(choice.docs.join("torture.svg"), picture::render(&results))?;
    Ok(())
}

fn choice() -> Result<Option<Choice>, Box<dyn Error>> {
    let own = env::current_exe()?;
    let mut choice = Choice {
        clients: CLIENTS.iter().filter(|client| client.is_ours()).collect(),
        cases: CASES.iter().collect(),
        repeats: None,
        jobs: 14,
        target: own.parent().map(Path::to_owned).unwrap_or_default(),
        docs: "docs".into(),
        merge: None,
        render: false,
        verbose: false,
    };
    let mut parser = Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("clients") => choice.clients = clients(&parser.value()?.string()?)?,
            Arg::Long("cases") => choice.cases = cases(&parser.value()?.string()?)?,
            Arg::Long("repeats") => choice.repeats = Some(parser.value()?.parse()?),
            Arg::Long("jobs") => choice.jobs = parser.value()?.parse::<usize>()?.max(1),
            Arg::Long("target") => choice.target = parser.value()?.into(),
            Arg::Long("docs") => choice.docs = parser.value()?.into(),
            Arg::Long("merge") => choice.merge = Some(parser.value()?.into()),
            Arg::Long("render") => choice.render = true,
            Arg::Long("verbose") => choice.verbose = true,
            Arg::Long("help") => {
                print!("{HELP}\nCLIENTS:");
                for client in CLIENTS {
                    print!(" {}", client.name);
                }
                println!();
                return Ok(None);
            }
            other => return Err(format!("{} (--help)", other.unexpected()).into()),
        }
    }
    Ok(Some(choice))
}

fn clients(list: &str) -> Result<Vec<&'static Client>, String> {
    let mut chosen = Vec::new();
    for name in list.split(',') {
        let before = chosen.len();
        chosen.extend(CLIENTS.iter().filter(|client| match name {
            "all" => true,
            "ours" => client.is_ours(),
            "peers" => !client.is_ours(),
            name => client.name == name,
        }));
        if chosen.len() == before {
            return Err(format!("--clients: {name} is none of them (--help)"));
        }
    }
    Ok(chosen)
}

fn cases(list: &str) -> Result<Vec<&'static Case>, String> {
    let find = |id| CASES.iter().find(|case| case.id == id).ok_or(id);
    let found: Result<_, &str> = list.split(',').map(find).collect();
    found.map_err(|id| format!("--cases: {id} is none that is run here"))
}

fn repeats(choice: &Choice, case: &Case) -> usize {
    choice.repeats.unwrap_or(case.repeats)
}

/// The longest first, so that none is left over at the end. Clients run side by side, so that none meets a
/// busier machine than the others.
fn trials(choice: &Choice, heavy: bool) -> VecDeque<Trial> {
    let mut trials = Vec::new();
    for case in choice.cases.iter().filter(|case| case.heavy == heavy) {
        for repeat in 0..repeats(choice, case) {
            for (number, variant) in case.variants.iter().enumerate() {
                for client in &choice.clients {
                    if client.excuse(variant.path).is_none() {
                        let id = format!("{}-{}-{number}-{repeat}", client.name, case.id);
                        trials.push(Trial {
                            client,
                            case,
                            variant,
                            id,
                        });
                    }
                }
            }
        }
    }
    trials.sort_by_key(|trial| std::cmp::Reverse(trial.variant.span));
    trials.into()
}

type Outcomes = Vec<(Trial, Outcome, Cost)>;

fn run_all(
    choice: &Choice,
    trials: VecDeque<Trial>,
    jobs: usize,
) -> Result<Outcomes, Box<dyn Error>> {
    let program = choice.target.join("torture-server");
    let server = Server::start(&program, &[])?;
    let total = trials.len();
    let queue = Mutex::new(trials);
    let outcomes = Mutex::new(Outcomes::new());
    thread::scope(|scope| {
        for _ in 0..jobs.min(total) {
            scope.spawn(|| {
                loop {
                    let next = lock(&queue).pop_front();
                    let Some(trial) = next else { break };
                    match attempt(choice, &server, &program, &trial) {
                        Ok((outcome, cost)) => {
                            let mut outcomes = lock(&outcomes);
                            outcomes.push((trial, outcome, cost));
                            if outcomes.len().is_multiple_of(50) {
                                eprintln!("{} of {total} trials", outcomes.len());
                            }
                        }
                        Err(error) => {
                            eprintln!("{}: {error}", trial.id);
                            process::exit(1);
                        }
                    }
                }
            });
        }
    });
    Ok(outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attempt(
    choice: &Choice,
    server: &Server,
    program: &Path,
    trial: &Trial,
) -> Result<(Outcome, Cost), Box<dyn Error>> {
    let command = trial.client.command(&choice.target, Path::new(PEERS));
    let command = command.ok_or_else(|| {
        format!(
            "{} is not built: tests/peers/course builds it",
            trial.client.name
        )
    })?;
    // Behind TLS a client has no name, so each has a server of its own.
    let own = match trial.variant.path {
        "tls/stall" => Some(Server::start(program, &["--tls", "stall"])?),
        "tls/plain" => Some(Server::start(program, &["--tls", "plain"])?),
        // Several addresses of this machine.
        _ if trial.variant.has_addresses() => Some(Server::start(program, &["--all"])?),
        _ => None,
    };
    let seen = trial::run(
        command,
        own.as_ref().unwrap_or(server),
        &trial.id,
        trial.variant,
    )?;
    let outcome = trial.variant.judge.judge(&seen);
    if choice.verbose {
        eprintln!(
            "{} {} {outcome:?}\n{}",
            trial.id, trial.variant.path, seen.stderr
        );
    }
    Ok((outcome, seen.cost))
}

/// A row for each case and client, also for those that are excused.
fn rows(choice: &Choice, heavy: bool, outcomes: Outcomes) -> Vec<Row> {
    let mut rows = Vec::new();
    for case in choice.cases.iter().filter(|case| case.heavy == heavy) {
        for client in &choice.clients {
            let own = outcomes.iter().filter(|(trial, ..)| {
                std::ptr::eq(trial.case, *case) && std::ptr::eq(trial.client, *client)
            });
            rows.push(Row::of(
                case,
                client,
                own.map(|(trial, outcome, cost)| (trial.variant, outcome, *cost)),
            ));
        }
    }
    rows
}
