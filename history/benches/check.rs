//! How fast histories are written and checked, and what a check needs: `cargo bench -p crossfade-history`. `CROSSFADE_BENCH_MESSAGES` changes
//! the number of messages from 1 000 000.
#![allow(clippy::print_stdout, reason = "what the program is for")]

use std::{
    fs::File,
    io::BufReader,
    sync::Arc,
    time::{Duration, Instant},
};

use crossfade_history::{
    Checker, CheckerOptions, DedupScope, Header, Role, Side, Stamp, What, Writer,
};

const KEYS: u64 = 1_000;

fn main() {
    let messages = std::env::var("CROSSFADE_BENCH_MESSAGES").ok();
    let messages: u64 = messages.map_or(1_000_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let stamp = Arc::new(Stamp::new(move || {
        u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }));
    let writer = |role: Role, name: &str| {
        let header = Header {
            instance: name.into(),
            incarnation: "0123456789abcdef".into(),
            role,
            topic: "orders".into(),
            clock: "one".into(),
            started_at_us: stamp.now_us(),
            started_unix_ms: 0,
        };
        let path = folder.path().join(name);
        Writer::append(path, &header, Arc::clone(&stamp)).expect("a file")
    };
    let dedup = DedupScope::Process;
    let producer = writer(Role::Producer, "producer-1");
    let group = "billing".into();
    let consumer = writer(Role::Consumer { group, dedup }, "consumer-1");

    for number in 0..messages {
        let id = producer.id(number);
        let id = || (&*id).into();
        let key = Some(format!("customer-{}", number % KEYS).into());
        let side = Side::Source;
        write(&producer, What::Call { id: id(), key });
        write(
            &producer,
            What::Acked {
                id: id(),
                side,
                revision: 7,
            },
        );
        write(
            &consumer,
            What::Enter {
                id: id(),
                side,
                attempt: 1,
            },
        );
        write(&consumer, What::Done { id: id() });
    }
    write(&producer, What::End);
    write(&consumer, What::End);
    let events = 4 * messages + 2;
    let rate = |took: Duration| events as f64 / took.as_secs_f64() / 1e6;
    println!(
        "written: {events} events, {:.2} million a second",
        rate(started.elapsed())
    );

    let before = resident_bytes("VmRSS:");
    let started = Instant::now();
    let mut checker = Checker::new(CheckerOptions::default());
    let mut bytes = 0;
    for name in ["producer-1", "consumer-1"] {
        let file = File::open(folder.path().join(name)).expect("the file");
        bytes += file.metadata().expect("its size").len();
        let file = BufReader::with_capacity(1 << 18, file);
        checker.read(file, |_| {}).expect("a history");
    }
    let read = started.elapsed();
    let report = checker.finish();
    let took = started.elapsed();
    let used = resident_bytes("VmHWM:").saturating_sub(before);
    assert!(
        report.passed() && report.acked_handled == messages,
        "{report:?}"
    );
    println!(
        "checked: {:.2} million events a second ({read:.2?} to read, {:.2?} to judge)",
        rate(took),
        took - read
    );
    println!(
        "on disk: {:.0} bytes an event; in memory at most: {:.0} bytes an event, {:.0} a message",
        bytes as f64 / events as f64,
        used as f64 / events as f64,
        used as f64 / messages as f64
    );
}

/// From `/proc/self/status`; 0 where there is none.
fn resident_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kilobytes.unwrap_or(0_u64) * 1_024
}

fn write(writer: &Writer, what: What<'_>) {
    writer.record(what).expect("written");
}
