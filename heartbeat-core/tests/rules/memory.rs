//! A trace that begins in the middle: what a machine remembers is all that it needs to go on.

use heartbeat_core::trace::{Header, answer};
use heartbeat_kit::{Resolver, scripts};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_machine_that_was_written_down_and_read_back_goes_on_as_if_nothing_had_happened(
        script in scripts(80), cut in 0..80_usize
    ) {
        let mut machine = script.header.clone().heartbeat();
        let mut resolver = Resolver::new(script.header.start);
        let mut copy = None;
        for (index, op) in script.ops.iter().enumerate() {
            if index == cut {
                let mut header = Header::default();
                header.config = script.header.config.clone();
                header.memory = Some(machine.memory());
                let read = Header::read(&header.line()).expect("a line that was written");
                prop_assert_eq!(&read.memory, &header.memory);
                copy = Some(read.heartbeat());
            }
            let (now, event) = resolver.resolve(&machine, *op);
            let given = machine.step(now, event);
            if let Some(copy) = &mut copy {
                let same = copy.step(now, event);
                prop_assert_eq!(
                    answer(now, &same, copy.phase()),
                    answer(now, &given, machine.phase())
                );
                prop_assert_eq!(copy.memory(), machine.memory());
            }
        }
    }
}

#[test]
fn what_no_machine_remembers_is_refused() {
    for memory in ["7", "{}", r#"{"now": -1}"#] {
        let line = format!(r#"{{"memory": {memory}}}"#);
        let refusal = Header::read(&line).expect_err(&line).to_string();
        assert!(refusal.contains("`memory`"), "{refusal}");
    }
}

#[test]
fn the_row_of_ids_is_remembered() {
    let mut machine = Header::default().heartbeat();
    machine.set_next_id(41);
    let copy = Header::default().heartbeat().remembering(machine.memory());
    assert_eq!(copy.next_id(), 41);
}
