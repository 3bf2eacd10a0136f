//! The test for each number of the torture course. A number without a test fails, and so does the name of a
//! test that no longer exists.

use std::path::Path;

/// The number, the file below `tests`, and the function (or, for a program, a text in it).
const TESTS: &[(u32, &str, &str)] = &[
    (
        1,
        "tests/sockets/course.rs",
        "t1_a_frozen_server_is_dead_at_the_bound_and_replaced",
    ),
    (
        2,
        "tests/sockets/pressure.rs",
        "a_frozen_server_with_a_full_send_path_is_dead_at_idle_timeout",
    ),
    (
        2,
        "tests/sockets/pressure.rs",
        "a_frozen_server_with_a_full_send_path_is_dead_at_a_shorter_write_timeout",
    ),
    (
        3,
        "tests/sockets/course.rs",
        "t3_writing_on_does_not_put_the_verdict_off",
    ),
    (
        4,
        "tests/sockets/course.rs",
        "t4_a_quiet_server_that_answers_pings_lives",
    ),
    (
        5,
        "tests/conformance.rs",
        "a_message_that_trickles_in_slower_than_every_timeout_is_life",
    ),
    (
        6,
        "tests/sockets/pressure.rs",
        "an_application_that_takes_nothing_for_three_idle_timeouts_loses_nothing",
    ),
    (
        7,
        "tests/sockets/course.rs",
        "t7_a_stopped_process_never_kills_a_peer_that_lives",
    ),
    (
        8,
        "tests/sockets/course.rs",
        "t8_a_peer_that_died_while_we_were_stopped_is_dead_one_probe_later",
    ),
    (
        9,
        "tests/sockets/dials.rs",
        "a_server_that_accepts_and_drops_is_dialled_no_faster_than_the_backoff_allows",
    ),
    (10, "tests/sockets/course.rs", "t10_close_codes_are_heeded"),
    (
        11,
        "tests/sockets/dials.rs",
        "a_dial_that_hangs_ends_at_connect_timeout_and_its_socket_is_closed",
    ),
    (
        12,
        "tests/sockets/course.rs",
        "t12_http_statuses_are_heeded",
    ),
    (
        13,
        "tests/sockets/course.rs",
        "t13_a_late_pong_does_not_answer_and_any_other_is_life",
    ),
    (
        14,
        "tests/sockets/course.rs",
        "t14_what_the_old_connection_says_late_does_nothing_to_the_new_one",
    ),
    (
        15,
        "tests/sockets/pings.rs",
        "a_flood_of_100_000_pings_is_answered_one_by_one_in_order",
    ),
    (
        16,
        "tests/sockets/garbage.rs",
        "a_broken_protocol_ends_in_one_typed_end_and_the_server_is_told",
    ),
    (
        16,
        "tests/sockets/garbage.rs",
        "half_a_frame_and_the_end_of_the_stream_is_retried",
    ),
    (
        17,
        "tests/namespaces.rs",
        "t17_a_half_open_link_is_dead_at_the_bound_and_healed_within_one_backoff",
    ),
    (
        18,
        "tests/sockets/fleet.rs",
        "two_hundred_clients_in_one_runtime_all_recover_when_their_server_restarts",
    ),
    (18, "examples/restart_storm.rs", "main"),
    (
        19,
        "tests/sockets/ends.rs",
        "stop_ends_every_phase_within_close_timeout",
    ),
    (
        19,
        "tests/sockets/ends.rs",
        "a_drop_in_any_phase_closes_the_socket_and_leaves_nothing_behind",
    ),
    (
        20,
        "tests/sockets/pressure.rs",
        "a_connection_that_dies_in_a_send_burst_accounts_for_every_message",
    ),
    (
        21,
        "tests/sockets/tls.rs",
        "a_certificate_that_is_not_to_be_trusted_is_final_and_nothing_is_said",
    ),
    (
        21,
        "tests/sockets/tls.rs",
        "plain_http_on_the_tls_port_is_final_and_nothing_is_said",
    ),
    (
        22,
        "tests/virtual_time.rs",
        "a_host_that_stalls_asks_once_more_before_it_judges",
    ),
    (
        22,
        "tests/sockets/clock_step.rs",
        "t22_a_wall_clock_that_is_set_makes_no_verdict_and_delays_none",
    ),
    (
        23,
        "tests/sockets/course.rs",
        "t23_data_that_stops_is_noticed_although_pongs_go_on",
    ),
    (24, "examples/endurance.rs", "main"),
    (
        25,
        "tests/namespaces.rs",
        "t25_a_nat_that_forgets_is_noticed_at_the_bound_and_keepalive_prevents_it",
    ),
    (26, "examples/autobahn.rs", "main"),
    (
        27,
        "tests/sockets/uploads.rs",
        "an_upload_that_moves_is_alive_arrives_whole_and_once",
    ),
    (
        27,
        "tests/sockets/uploads.rs",
        "an_upload_that_stops_moving_is_dead_and_comes_back_cut",
    ),
    (
        28,
        "tests/sockets/pressure.rs",
        "a_ping_during_an_upload_is_answered_between_its_fragments",
    ),
    (
        29,
        "tests/sockets/untaken.rs",
        "a_fin_is_noticed_at_once_while_reading_is_paused_and_what_came_before_is_told",
    ),
    (
        29,
        "tests/sockets/untaken.rs",
        "a_reset_is_noticed_at_once_while_reading_is_paused_and_what_came_before_is_told",
    ),
    (
        30,
        "tests/sockets/verdicts.rs",
        "one_bad_moment_after_a_stable_connection_is_waited_for",
    ),
    (
        30,
        "tests/sockets/verdicts.rs",
        "one_bad_moment_of_tls_after_a_stable_connection_is_waited_for",
    ),
    (
        31,
        "tests/sockets/requests.rs",
        "a_servers_own_time_is_heeded_whatever_the_status",
    ),
    (
        32,
        "tests/sockets/addresses.rs",
        "after_an_address_that_fails_behind_its_connect_the_next_one_is_dialled",
    ),
];

#[test]
fn every_number_of_the_torture_course_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for number in 1..=32 {
        let own: Vec<_> = TESTS
            .iter()
            .filter(|(other, ..)| *other == number)
            .collect();
        assert!(!own.is_empty(), "T{number} has no test");
        for (_, file, name) in own {
            let text = std::fs::read_to_string(root.join(file));
            let text = text.unwrap_or_else(|error| panic!("T{number}: {file}: {error}"));
            assert!(
                text.contains(&format!("fn {name}(")),
                "T{number}: {file} has no {name}"
            );
        }
    }
}
