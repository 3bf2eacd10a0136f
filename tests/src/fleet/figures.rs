//! The results, in figures.

use serde::Serialize;

use super::scenario::SECOND;

/// Upper ends of the classes of the delay distribution: 1 s wide, the last for all longer delays.
pub const DELAY_CLASSES: usize = 121;

/// One number for each second of the scenario.
pub type Series = Vec<u32>;

/// Counts while a fleet runs, by the second if that is useful.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Dials begun.
    pub dials: Series,
    /// Handshakes a second that the farm could do.
    pub capacity: Series,
    /// Connections opened.
    pub opened: Series,
    /// Connections ended, as the client sees it, or as the server sees it if the client sleeps.
    pub ended: Series,
    /// Pings sent.
    pub pings: Series,
    /// Planned delays before a dial, by whole seconds.
    pub delays: Vec<u64>,
    /// Dials that led to no connection.
    pub wasted_dials: u64,
    /// Handshakes that the farm did for clients that had given up.
    pub wasted_handshakes: u64,
    /// Live connections that a client's own verdict ended.
    pub false_deaths: u64,
    /// Connections that the load balancer ended.
    pub balancer_drops: u64,
    /// Frozen connections that were declared dead.
    pub detections: u64,
    /// The sum of the times from freeze to verdict, in nanoseconds.
    pub detection_sum: u64,
    /// The longest of them.
    pub detection_max: u64,
    /// Clients that gave up for good.
    pub gave_up: u64,
    /// Steps that machines made.
    pub steps: u64,
}

impl Counts {
    pub(crate) fn new(seconds: usize) -> Self {
        let series = || vec![0; seconds];
        Self {
            dials: series(),
            capacity: series(),
            opened: series(),
            ended: series(),
            pings: series(),
            delays: vec![0; DELAY_CLASSES],
            ..Self::default()
        }
    }
}

/// The result of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// How many clients.
    pub machines: u32,
    /// The variant of the scenario.
    pub variant: String,
    /// The simulated time in seconds. Less than the scenario's if it was interrupted.
    pub watched: f64,
    /// The farm's nominal handshakes a second.
    pub capacity: u32,
    /// The most dials in a second while the farm took any.
    pub peak_dials: u32,
    /// The same as a multiple of the nominal capacity.
    pub peak_ratio: f64,
    /// The most dials in a second at any time.
    pub peak_dials_at_all: u32,
    /// Seconds from the end of the last incident until this share of the fleet was open.
    pub back: Back,
    /// The most pings in a second.
    pub peak_pings: u32,
    /// Pings in a second, on average over the simulated time.
    pub mean_pings: f64,
    /// From freeze to verdict, in seconds.
    pub detection_mean: Option<f64>,
    /// The longest.
    pub detection_max: Option<f64>,
    /// All counts.
    pub counts: Counts,
    /// Clients with an open connection, by the second.
    pub open: Series,
}

/// Seconds until a share of the fleet was open. `None`: not within the simulated time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Back {
    /// Half of it.
    pub half: Option<f64>,
    /// 99 %.
    pub most: Option<f64>,
    /// All of it.
    pub all: Option<f64>,
}

impl Figures {
    pub(crate) fn new(run: &Run, counts: Counts) -> Self {
        let seconds = (run.watched.div_ceil(SECOND) as usize).min(counts.dials.len());
        let mut now_open = 0;
        let open: Series = (0..seconds)
            .map(|second| {
                now_open += counts.opened[second];
                now_open -= counts.ended[second];
                now_open
            })
            .collect();
        let calm = (run.calm_from / SECOND) as usize;
        let back = |percent: u64| {
            let wanted = u64::from(run.machines) * percent;
            let found = (calm..seconds).find(|second| u64::from(open[*second]) * 100 >= wanted);
            // At the end of that second.
            found.map(|second| ((second + 1) as u64 * SECOND - run.calm_from) as f64 / 1e9)
        };
        let pairs = || counts.dials.iter().zip(&counts.capacity);
        let peak_dials = pairs()
            .filter(|(_, capacity)| **capacity > 0)
            .map(|(dials, _)| *dials)
            .max()
            .unwrap_or(0);
        let detected = |nanos: f64| (counts.detections > 0).then_some(nanos / 1e9);
        let sum: u64 = counts.pings.iter().map(|pings| u64::from(*pings)).sum();
        Self {
            machines: run.machines,
            variant: run.variant.clone(),
            watched: run.watched as f64 / 1e9,
            capacity: run.capacity,
            peak_dials,
            peak_ratio: f64::from(peak_dials) / f64::from(run.capacity),
            peak_dials_at_all: counts.dials.iter().copied().max().unwrap_or(0),
            back: Back {
                half: back(50),
                most: back(99),
                all: back(100),
            },
            peak_pings: counts.pings.iter().copied().max().unwrap_or(0),
            mean_pings: sum as f64 / (run.watched as f64 / 1e9).max(1.0),
            detection_mean: detected(counts.detection_sum as f64 / counts.detections.max(1) as f64),
            detection_max: detected(counts.detection_max as f64),
            counts,
            open,
        }
    }
}

/// The explanation of the figures.
pub(crate) struct Run {
    pub(crate) machines: u32,
    pub(crate) variant: String,
    pub(crate) watched: u64,
    pub(crate) capacity: u32,
    pub(crate) calm_from: u64,
}
