//! The reference model of the core's tests checks the machine's own record, step by step.

use std::collections::VecDeque;

use heartbeat_core::trace::{Header, answer, event_line};
use heartbeat_core::{Event, Instant, Phase, Step};

use super::hosts::believed;
use super::plan::Plan;
use super::support::did;
use super::support::model::{Answer, Model};

/// How many lines of a trace are shown; `--trace` writes all.
const LAST: usize = 200;

/// How much of the trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    None,
    Last,
    All,
}

pub(crate) struct Reference {
    model: Model,
    header: String,
    keeps: Lines,
    pub(crate) lines: VecDeque<String>,
    pub(crate) dropped: u64,
}

impl Reference {
    pub(crate) fn new(plan: &Plan, keeps: Lines) -> Self {
        let mut header = Header::default();
        header.config = believed(plan);
        header.seed = plan.seed;
        Self {
            // The model has the configuration that the user believes. A planted defect may give the machine another
            // one.
            model: Model::new(believed(plan), 0),
            header: header.line(),
            keeps,
            lines: VecDeque::new(),
            dropped: 0,
        }
    }

    /// The trace in the form that `replay` reads.
    pub(crate) fn trace(&self) -> String {
        let mut text = self.header.clone() + "\n";
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    pub(crate) fn step(
        &mut self,
        at: Instant,
        event: &Event<'_>,
        step: &Step<'_>,
        phase: Phase,
        lies: bool,
    ) -> Result<(), String> {
        if self.keeps != Lines::None {
            self.lines.push_back(event_line(at, event));
            if self.lines.len() > LAST && self.keeps == Lines::Last {
                self.lines.pop_front();
                self.dropped += 1;
            }
        }
        let given = Answer {
            dids: did(step),
            wake: step.wake.map(|wake| wake.as_nanos() + u64::from(lies)),
            stale: step.stale,
            phase,
            renewal: None,
        };
        let expected = self.model.step(at.as_nanos(), *event, &given)?;
        self.model.forget();
        if expected.dids == given.dids
            && expected.wake == given.wake
            && expected.stale == given.stale
            && expected.phase == given.phase
        {
            return Ok(());
        }
        Err(format!(
            "the reference model says {:?}, wake {:?}, {:?}; the machine says {}",
            expected.dids,
            expected.wake,
            expected.phase,
            answer(at, step, phase)
        ))
    }
}
