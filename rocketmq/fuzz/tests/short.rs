//! A run that is short enough for every commit. `cargo run -p crossfade-rocketmq-fuzz -- --executions 10000000 --seed 7` makes a long one.
#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

use crossfade_rocketmq_fuzz::{clients, connection, memory::Counting, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// One test: memory is measured of the whole process, and panics are counted there.
#[test]
fn whatever_bytes_come_nothing_panics_what_is_whole_is_read_and_memory_is_bounded() {
    let reports = [
        run::decoder(1, 0, 10_000),
        connection::run(1, 0, 300),
        clients::run(1, 0, 16),
    ];
    for report in reports {
        println!("{}", report.json());
        assert!(report.holds(), "{report:#?}");
        assert!(report.peak_bytes > 1 << 20, "nothing was measured");
    }
}
