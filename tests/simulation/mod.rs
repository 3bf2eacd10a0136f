//! A whole system in one thread and no time: client, network, server, host and application, all of it
//! decided by one seed. `tests/docs/world.md` says what is simulated and how to replay a failure.
//!
//! The client is the adapters' own code over tungstenite's bytes. The rest is this: [`plan`] says what a
//! seed stands for, [`world`] lets it happen, [`oracle`] judges what is seen from outside, and
//! [`reference`] compares each step of the machine with the model of the core's tests.

#![allow(dead_code, reason = "the campaign and the tests each use their part")]

mod dice;
mod faults;
mod figures;
mod hosts;
mod link;
mod oracle;
mod plan;
mod reference;
mod server;
#[path = "../../heartbeat-core/tests/support/mod.rs"]
mod support;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub(crate) use figures::Figures;
pub(crate) use plan::{Flaw, Host};

use heartbeat_core::Config;
use plan::Plan;
use reference::Lines;
use world::{World, lock};

/// What was wrong, and how to see it again.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The run.
    pub(crate) seed: u64,
    /// What does not hold.
    pub(crate) rule: String,
    /// When, in nanoseconds of the world.
    pub(crate) at: u64,
    /// What was run, and on what.
    pub(crate) plan: String,
    /// The machine's events, as `replay` reads them.
    pub(crate) trace: String,
    /// Lines of it that were left out, before the others.
    pub(crate) dropped: u64,
}

/// One seed, one run: a life of at most `longest`.
///
/// # Errors
/// The first rule that did not hold. The run is made again with its trace recorded.
pub(crate) fn run(seed: u64, longest: Duration) -> Result<Figures, Box<Violation>> {
    run_plan(&plan(seed, longest))
}

fn plan(seed: u64, longest: Duration) -> Plan {
    let mut plan = Plan::new(seed);
    plan.shorten(longest);
    plan
}

/// The same for a client of one's choice.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_client(
    seed: u64,
    longest: Duration,
    host: Host,
    config: Config,
) -> Result<Figures, Box<Violation>> {
    let dice = dice::Dice::new(seed);
    let mut plan = Plan::of(seed, dice, host, config, plan::nanos(longest));
    plan.shorten(longest);
    run_plan(&plan)
}

/// The same with a defect planted, on a kind of client of one's choice.
///
/// # Errors
/// As [`run`]; without one the defect was not found.
pub(crate) fn run_flawed(
    seed: u64,
    longest: Duration,
    host: Host,
    flaw: Flaw,
) -> Result<Figures, Box<Violation>> {
    let mut plan = plan(seed, longest);
    if plan.host != host {
        let life = plan.life;
        let config = plan.config.clone();
        plan = Plan::of(seed, dice::Dice::new(seed ^ 7), host, config, life);
    }
    plan.flaw = Some(flaw);
    run_plan(&plan)
}

/// The trace of a run, all of it or its last lines, and what became of it.
pub(crate) fn record(
    seed: u64,
    longest: Duration,
    whole: bool,
) -> (String, Result<Figures, Box<Violation>>) {
    once(
        &plan(seed, longest),
        if whole { Lines::All } else { Lines::Last },
    )
}

fn run_plan(plan: &Plan) -> Result<Figures, Box<Violation>> {
    let (_, result) = once(plan, Lines::None);
    result.map_err(|first| match once(plan, Lines::Last).1 {
        Err(again) if again.rule == first.rule => again,
        // Worse than any rule: the run cannot be repeated.
        other => Box::new(Violation {
            rule: format!(
                "{} (and when run again: {:?})",
                first.rule,
                other.map(|_| "nothing")
            ),
            ..*first
        }),
    })
}

fn once(plan: &Plan, lines: Lines) -> (String, Result<Figures, Box<Violation>>) {
    let world = hosts::share(World::new(plan.clone(), lines));
    let lived = catch_unwind(AssertUnwindSafe(|| hosts::live(&world)));
    let mut world = lock(&world);
    if let Err(panic) = lived {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        world.oracle.violation = Some(format!("panic: {}", words.unwrap_or("without words")));
    }
    let trace = world.reference.trace();
    let result = match world.oracle.violation.take() {
        Some(rule) => Err(Box::new(Violation {
            seed: plan.seed,
            rule,
            at: world.now,
            plan: format!("{plan:?}"),
            trace: trace.clone(),
            dropped: world.reference.dropped,
        })),
        None => {
            let mut figures = std::mem::take(&mut world.oracle.figures);
            figures.runs = 1;
            figures.hosts.insert(format!("{:?}", plan.host), 1);
            Ok(figures)
        }
    };
    (trace, result)
}
