//! A whole system in one thread and virtual time: client, network, server, host and application, all
//! decided by one seed. `tests/docs/world.md` describes the simulation and how to replay a failure.
//!
//! The client is the adapters' own code. The other parts: [`plan`] says what a seed stands for, [`world`]
//! lets it happen, [`oracle`] judges what is seen from outside, and [`reference`] compares each step of the
//! machine with the model of the core's tests.

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

/// A failure, and how to repeat it.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The run.
    pub(crate) seed: u64,
    /// The broken rule.
    pub(crate) rule: String,
    /// The time, in nanoseconds of the world.
    pub(crate) at: u64,
    /// The client and the plan of the run.
    pub(crate) plan: String,
    /// The machine's events, as `replay` reads them.
    pub(crate) trace: String,
    /// How many lines before them were left out.
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

/// Like [`run`], for a client of your choice.
///
/// # Errors
///
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

/// The same with a planted defect, on a kind of client of your choice.
///
/// # Errors
///
/// As [`run`]. Without an error, the defect was not noticed.
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

/// The trace of a run (all of it or its last lines) and its result.
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
        // Worse than any broken rule: the run cannot be repeated.
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
