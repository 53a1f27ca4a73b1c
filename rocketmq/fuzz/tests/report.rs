//! What a report says of executions that fail.

use crossfade_rocketmq_fuzz::run;

#[test]
fn a_panic_is_counted_and_named() {
    let report = run::of("broken", 0, 10, |execution| assert_ne!(execution, 7));
    assert_eq!((report.executions, report.panics), (10, 1));
    assert_eq!(report.failed[0].0, 7);
    assert!(!report.holds());
}
