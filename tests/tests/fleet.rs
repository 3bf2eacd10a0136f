//! The simulation of fleets keeps its own rules. The fleets are small, because the rules hold for any size.
#![allow(missing_docs)]

use std::sync::atomic::AtomicBool;

use heartbeat_tests::fleet::{Figures, QUIET_DAY, SHIPPED, Scenario, World};

/// A shipped scenario, with a fleet and a farm of a fiftieth of the size.
fn small(name: &str) -> Scenario {
    let shipped = SHIPPED.into_iter().chain([QUIET_DAY]);
    let (_, text) = shipped
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("it ships");
    let mut scenario = Scenario::from_json(text).expect("a scenario");
    scenario.machines /= 50;
    scenario.farm.handshakes_per_second /= 50;
    scenario.farm.queue /= 50;
    scenario
}

fn run(scenario: &Scenario, variant: &str) -> Figures {
    let variants = scenario.variants().expect("configurations");
    let (name, config) = variants
        .iter()
        .find(|(name, _)| name == variant)
        .expect("a variant");
    World::new(scenario, name, config).run(&AtomicBool::new(false), |_, _| ())
}

const DEFAULT: &str = "equal (default)";

#[test]
fn every_shipped_scenario_runs_and_repeats_exactly() {
    for (name, _) in SHIPPED {
        let mut scenario = small(name);
        scenario.machines = 300;
        let (variant, _) = scenario.variants().expect("configurations").remove(0);
        let (once, again) = (run(&scenario, &variant), run(&scenario, &variant));
        let text = |figures: &Figures| serde_json::to_string(figures).expect("JSON");
        assert_eq!(text(&once), text(&again), "{name}");
        scenario.seed += 1;
        assert_ne!(text(&once), text(&run(&scenario, &variant)), "{name}");
    }
}

/// Jitter keeps a fleet from coming back as waves of all clients at once.
#[test]
fn without_jitter_a_fleet_returns_in_waves_and_with_it_below_capacity() {
    let scenario = small("cold-outage");
    let waves = run(&scenario, "no jitter");
    assert!(waves.peak_ratio > 15.0, "{}", waves.peak_ratio);
    for variant in [DEFAULT, "full jitter"] {
        let smooth = run(&scenario, variant);
        assert!(smooth.peak_ratio < 1.5, "{variant}: {}", smooth.peak_ratio);
        let all = smooth.back.all.expect("all are back");
        assert!(all <= 65.0, "{variant}: {all}");
        assert!(all < waves.back.all.expect("all are back"));
    }
}

/// The documentation's advice for operators who know the size of their fleet.
#[test]
fn a_prepared_base_keeps_the_peak_below_one_and_a_half_times_the_capacity() {
    for (name, variant) in [
        ("rolling-restart", "equal, base 10s"),
        ("flapping", "equal, base 30s"),
        ("nine-o-clock", "equal, base 75s"),
        ("latency-spikes", "20 s, base 30 s"),
        ("restart-with-1012", DEFAULT),
        ("cold-outage", DEFAULT),
        ("balancer-idle", DEFAULT),
    ] {
        let figures = run(&small(name), variant);
        assert!(figures.peak_ratio <= 1.5, "{name}: {}", figures.peak_ratio);
    }
}

#[test]
fn the_farm_never_does_more_handshakes_than_it_can() {
    for name in ["cold-outage", "flapping", "nine-o-clock"] {
        let scenario = small(name);
        let figures = run(&scenario, DEFAULT);
        let most = scenario.farm.handshakes_per_second;
        let awake = figures.counts.opened.iter().zip(0u64..);
        for (opened, second) in awake {
            // A client that wakes up counts as open again for a moment, without a handshake.
            let waking = name == "nine-o-clock" && (900..921).contains(&second);
            // The answers travel for 20 to 200 ms, so some arrive together with those of the next second.
            assert!(
                waking || *opened <= most + most / 5,
                "{name}: {opened} in second {second}"
            );
        }
    }
}

/// A quiet client pings every 30 s plus a round trip, and nothing else happens.
#[test]
fn a_quiet_fleet_pings_and_loses_nobody() {
    let mut scenario = small(QUIET_DAY.0);
    scenario.machines = 500;
    scenario.duration = scenario.start_within;
    scenario.start_within = Default::default();
    scenario.farm.handshakes_per_second = 100_000;
    // The farm sorts dials by their beginning, not by their arrival. Answers that travel longer look like a
    // queue of up to 0.1 s.
    scenario.farm.queue = 100_000;
    let figures = run(&scenario, DEFAULT);
    let pings: u64 = figures
        .counts
        .pings
        .iter()
        .map(|pings| u64::from(*pings))
        .sum();
    // 600 s: at 30 s, and then every 30.04 s on average.
    assert_eq!(pings, 500 * 19);
    assert_eq!(figures.counts.false_deaths + figures.counts.wasted_dials, 0);
    assert_eq!(figures.open.last(), Some(&500));
}

/// If the ping is shorter than the balancer's patience, no connection is lost.
#[test]
fn a_balancer_ends_what_asks_too_late() {
    let mut scenario = small("balancer-idle");
    let late = run(&scenario, DEFAULT);
    assert!(
        late.counts.balancer_drops > 20_000,
        "{}",
        late.counts.balancer_drops
    );
    assert_eq!(late.back.most, None);
    scenario.config = heartbeat_core::Config::from_json(r#"{"ping": {"after_silence": "15s"}}"#)
        .expect("a configuration");
    scenario.compare_jitter(&[50]);
    let early = run(&scenario, DEFAULT);
    assert_eq!(early.counts.balancer_drops, 0);
    assert!(early.back.all.is_some());
}

/// A tight timeout notices dead connections sooner and kills slow ones. A patient one does neither.
#[test]
fn tight_pong_timeouts_trade_false_deaths_for_detection() {
    let scenario = small("latency-spikes");
    let (tight, patient) = (run(&scenario, "fixed 5 s"), run(&scenario, "fixed 60 s"));
    assert!(tight.counts.false_deaths > 1_000);
    assert_eq!(patient.counts.false_deaths, 0);
    let (tight, patient) = (tight.detection_max, patient.detection_max);
    // The ping after 10 s, then the timeout.
    assert!(
        tight.is_some_and(|max| (14.0..=15.0).contains(&max)),
        "{tight:?}"
    );
    assert!(
        patient.is_some_and(|max| (69.0..=70.0).contains(&max)),
        "{patient:?}"
    );
}

#[test]
fn an_interrupted_run_tells_what_there_is_so_far() {
    let scenario = small("cold-outage");
    let (name, config) = scenario.variants().expect("configurations").remove(1);
    let stop = AtomicBool::new(false);
    let figures = World::new(&scenario, &name, &config).run(&stop, |_, _| {
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(figures.watched, 300.0);
    assert_eq!(figures.open.len(), 300);
    assert_eq!(figures.open.last(), Some(&scenario.machines));
}

#[test]
fn a_refusal_names_the_value_and_the_rule() {
    let (_, good) = SHIPPED[0];
    for (old, new, words) in [
        (
            r#""machines": 100000"#,
            r#""machines": 0"#,
            "`machines` is 0: it must lie between",
        ),
        (r#""nodes": 10"#, r#""nodes": 0"#, "`farm.nodes` is 0"),
        (
            r#""duration": "25m""#,
            r#""duration": "10m""#,
            "(incidents[0]): an incident must be over within `duration`",
        ),
        (
            r#""duration": "25m""#,
            r#""duration": "40d""#,
            "\"40d\": at most 31 days",
        ),
        (
            r#""duration": "25m""#,
            r#""duration": "25""#,
            "a duration is a number and a unit",
        ),
        (
            r#""least": "20ms""#,
            r#""least": "20ns""#,
            "it must be at least 1us",
        ),
        (
            r#""queue": 10000"#,
            r#""que": 10000"#,
            "unknown field `que`",
        ),
        (
            r#""name": "cold-outage""#,
            r#""name": "Cold/Outage""#,
            "`name` is \"Cold/Outage\"",
        ),
        (
            r#""start_within": "2m","#,
            r#""variants": [{"name": "odd", "config": {"ping": "often"}}],"#,
            "variant \"odd\": `ping` is \"often\"",
        ),
    ] {
        let text = good.replace(old, new);
        assert_ne!(text, good, "{old}");
        let refusal = Scenario::from_json(&text).expect_err(new).to_string();
        assert!(refusal.contains(words), "{new}: {refusal}");
    }
}
