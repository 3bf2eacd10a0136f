//! A fleet seen before the outage: N machines of `heartbeat-core` against a modelled server farm, in
//! virtual time. The binary `fleet` runs it. `docs/fleet.md` shows the results, and its section "The model"
//! describes what is modelled and what is not.

pub mod command;
mod dice;
mod farm;
mod figures;

mod pictures;
mod scenario;
mod wheel;
mod world;

pub use figures::{Back, Counts, DELAY_CLASSES, Figures, Series};
pub use scenario::{
    BalancerIdle, Farm, Incident, Loss, QUIET_DAY, Refusal, RoundTrip, SECOND, SHIPPED, Scenario,
    ScenarioError, Time, Variant,
};
pub use world::World;
