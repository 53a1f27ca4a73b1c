//! Files as processes leave them.

use std::{io::Write as _, sync::Arc};

use crossfade_history::{
    Checker, CheckerOptions, Header, ReadError, Report, Role, Side, Stamp, What, Writer,
};

fn header(incarnation: &str) -> Header {
    Header {
        instance: "p".into(),
        incarnation: incarnation.into(),
        role: Role::Producer,
        topic: "orders".into(),
        clock: String::new(),
        started_at_us: 0,
        started_unix_ms: 0,
    }
}

fn check(text: &[u8]) -> Result<Report, ReadError> {
    let mut checker = Checker::new(CheckerOptions::default());
    checker.read(text, |_| {})?;
    Ok(checker.finish())
}

fn send(writer: &Writer, number: u64) {
    let id = writer.id(number);
    writer
        .record(What::Call {
            id: (&*id).into(),
            key: None,
        })
        .unwrap();
    let side = Side::Source;
    writer
        .record(What::Acked {
            id: id.into(),
            side,
            revision: 1,
        })
        .unwrap();
}

#[test]
fn process_that_was_killed_while_it_wrote_and_its_successor_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.jsonl");
    let stamp = Arc::new(Stamp::new(|| 1));
    let writer = Writer::append(&path, &header("1"), Arc::clone(&stamp)).unwrap();
    send(&writer, 0);
    let mut file = writer.into_inner();
    file.write_all(b"{\"at_us\":9,\"eve").unwrap();
    drop(file);
    let writer = Writer::append(&path, &header("2"), stamp).unwrap();
    send(&writer, 0);

    let text = std::fs::read(&path).unwrap();
    let report = check(&text).unwrap();
    assert_eq!(
        (report.messages, report.processes, report.events),
        (2, 2, 4)
    );
    assert_eq!((report.torn_lines, report.foreign_lines), (1, 0));

    // The same once more, with the torn line at the end.
    let report = check(&text[..text.len() - 3]).unwrap();
    assert_eq!((report.torn_lines, report.events), (2, 3));
}

#[test]
fn times_of_a_stream_grow_though_the_clock_stands_still() {
    let stamp = Stamp::new(|| 5);
    assert_eq!([stamp.now_us(), stamp.now_us(), stamp.now_us()], [5, 6, 7]);
}

#[test]
fn input_that_is_no_history_is_an_error() {
    assert!(matches!(check(b""), Err(ReadError::Empty)));
    for text in ["hello\nworld\n", "{\"at_us\":1,\"event\":\"end\"}\n"] {
        assert!(
            matches!(check(text.as_bytes()), Err(ReadError::NoHeader)),
            "{text}"
        );
    }
    let newer = "\n{\"v\":2,\"instance\":\"p\"}\n";
    assert!(matches!(
        check(newer.as_bytes()),
        Err(ReadError::Version {
            version: 2,
            line: 2
        })
    ));
}

#[test]
fn line_of_any_length_is_read_past() {
    let mut text = Vec::new();
    let stamp = Arc::new(Stamp::new(|| 1));
    let writer = Writer::new(&mut text, &header("1"), stamp).unwrap();
    writer
        .record(What::Call {
            id: "p-1-0".into(),
            key: None,
        })
        .unwrap();
    drop(writer);
    text.extend(std::iter::repeat_n(b'x', 3 << 20));
    text.extend(b"\n{\"at_us\":9,\"event\":\"end\"}\n");
    let report = check(&text).unwrap();
    assert_eq!((report.foreign_lines, report.events), (1, 2));
    assert_eq!(report.unfinished_processes, 0);
}
