//! Runs machine, model and audit side by side and tells the first difference.

use std::fmt::Write as _;

use heartbeat_core::trace::{Header, answer, event_line};
use heartbeat_core::{Config, Event, Instant};
use heartbeat_kit::Auditor;

use super::model::{Answer, Counts, Model};
use super::{Machine, did};

/// A machine, its model and its audit, and the trace so far.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) machine: Machine,
    model: Model,
    auditor: Auditor,
}

impl Pair {
    pub(crate) fn new(header: Header) -> Self {
        Self {
            model: if header.accepted {
                Model::accepted(header.config.clone(), header.start.as_nanos())
            } else {
                Model::new(header.config.clone(), header.start.as_nanos())
            },
            auditor: if header.accepted {
                Auditor::accepted()
            } else {
                Auditor::new()
            }
            .since(header.start),
            machine: header.heartbeat(),
        }
    }

    /// One step of all three. An error says what differs or which rule is broken.
    pub(crate) fn step(&mut self, now: Instant, event: Event<'_>) -> Result<(), String> {
        let before = self.machine.clone();
        let step = self.machine.step(now, event);
        let given = Answer {
            dids: did(&step),
            wake: step.wake.map(Instant::as_nanos),
            stale: step.stale,
            phase: self.machine.phase(),
            renewal: self.machine.renewal().map(|(_, at)| at.as_nanos()),
        };
        let expected = self.model.step(now.as_nanos(), event, &given)?;
        let same = expected.dids == given.dids
            && expected.wake == given.wake
            && expected.stale == given.stale
            && expected.phase == given.phase;
        if !same {
            return Err(format!(
                "the model says   {}\nthe machine says {}",
                tell(&expected),
                tell(&given)
            ));
        }
        let (expected, given) = (self.model.counts(), counts(&self.machine));
        if expected != given {
            return Err(format!(
                "the model counts   {expected:?}\nthe machine counts {given:?}"
            ));
        }
        let own = self.machine.heard().zip(self.machine.open_since());
        let own = own.map(|(heard, opened)| (heard.as_nanos(), opened.as_nanos()));
        if own != self.model.heard_and_opened() {
            return Err(format!(
                "the model has heard and opened   {:?}\nthe machine has heard and opened {own:?}",
                self.model.heard_and_opened()
            ));
        }
        self.auditor
            .step(now, &event, &step, self.machine.phase())
            .and_then(|()| self.auditor.machine(&before, &self.machine, &event, &step))
            .map_err(|rule| format!("{rule}\nthe machine says {}", tell_step(now, &step, self)))
    }
}

fn counts(machine: &Machine) -> Counts {
    let stats = machine.stats();
    let verdicts = stats.aborts;
    Counts {
        dials: stats.dials,
        reconnects: stats.reconnects,
        connects: stats.connects,
        sessions: stats.sessions,
        losses: stats.losses,
        renewals: stats.renewals,
        tolerated: stats.tolerated,
        pings_sent: stats.pings_sent,
        probes_sent: stats.probes_sent,
        pongs_sent: stats.pongs_sent,
        pongs_received: stats.pongs_received,
        verdicts: [
            verdicts.connect_timeout,
            verdicts.idle_timeout,
            verdicts.pong_timeout,
            verdicts.data_timeout,
            verdicts.write_timeout,
            verdicts.session_timeout,
            verdicts.close_timeout,
            verdicts.stale,
        ],
        rtt_samples: stats.rtt.samples,
        rtt_last: stats.rtt.last,
        time_open: stats.time_open,
    }
}

fn tell(answer: &Answer) -> String {
    let Answer {
        dids,
        wake,
        stale,
        phase,
        renewal: _,
    } = answer;
    format!("{dids:?}, wake {wake:?}, stale {stale}, {phase:?}")
}

fn tell_step(now: Instant, step: &heartbeat_core::Step<'_>, pair: &Pair) -> String {
    answer(now, step, pair.machine.phase())
}

/// A header from its parts.
pub(crate) fn header(config: Config, seed: u64, start: u64) -> Header {
    let mut header = Header::default();
    header.config = config;
    header.seed = seed;
    header.start = Instant::from_nanos(start);
    header
}

/// Runs a trace whose events may depend on the machine; `next` gives the next one, `None` ends it.
/// On a difference: what differs, and the trace in the form that `replay` reads.
pub(crate) fn compare(
    header: &Header,
    mut next: impl FnMut(&Machine) -> Option<(Instant, Event<'static>)>,
) -> Result<(), String> {
    let mut pair = Pair::new(header.clone());
    let mut trace = header.line() + "\n";
    while let Some((now, event)) = next(&pair.machine) {
        trace.push_str(&event_line(now, &event));
        trace.push('\n');
        if let Err(difference) = pair.step(now, event) {
            return Err(report(&difference, &trace));
        }
    }
    Ok(())
}

/// What a failing test prints: the difference, the trace, the command that replays it.
pub(crate) fn report(difference: &str, trace: &str) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "after the last line of this trace\n\n{trace}\n{difference}\n\n\
         To see the machine's answers, put the trace into FILE and run\n    \
         cargo run -p heartbeat-core --example replay < FILE\n\
         To compare with the model again:\n    \
         TRACE=FILE cargo test -p heartbeat-core --test reference the_model_agrees_with_a_given_trace\n"
    );
    text
}
