//! One row per key.

mod security;

use std::{path::Path, time::Duration};

use self::security::{SOURCE, TARGET};
use super::{Config, Secret, value};
use crate::control::wire::LeaseMode;

/// One key.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its name; quantities end in `_ms` or `_bytes`.
    pub name: &'static str,
    /// What values it takes.
    pub range: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its value must not be shown.
    pub secret: bool,
    pub(super) set: fn(&mut Config, &str) -> value::Parsed<()>,
    /// Its value now, as text; of `Config::default()`, its default.
    pub(super) default: fn(&Config) -> Option<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// `key, range text, place in Config, from text, to text, sentence`.
macro_rules! key {
    ($name:literal, $range:literal, $($place:ident).+, $parse:expr, $show:expr, $doc:literal) => {
        key!($name, $range, $($place).+, $parse, $show, $doc, false)
    };
    ($name:literal, $range:literal, $($place:ident).+, $parse:expr, $show:expr, $doc:literal, $secret:literal) => {
        Key {
            name: $name,
            range: $range,
            doc: $doc,
            secret: $secret,
            set: |config, text| {
                config.$($place).+ = $parse(text)?;
                Ok(())
            },
            default: |config| $show(&config.$($place).+),
        }
    };
}

fn some<T, P: FnOnce(&str) -> value::Parsed<T>>(
    parse: P,
) -> impl FnOnce(&str) -> value::Parsed<Option<T>> {
    |text| parse(text).map(Some)
}

fn ms(value: &Duration) -> Option<String> {
    Some(value.as_millis().to_string())
}

fn shown<T: ToString>(value: &T) -> Option<String> {
    Some(value.to_string())
}

fn text(value: &Option<String>) -> Option<String> {
    value.clone()
}

fn path(value: &Option<impl AsRef<Path>>) -> Option<String> {
    let value = value.as_ref()?;
    Some(value.as_ref().display().to_string())
}

fn lease_mode(text: &str) -> value::Parsed<LeaseMode> {
    match text {
        "continue" => Ok(LeaseMode::Continue),
        "stop" => Ok(LeaseMode::Stop),
        _ => Err("not a lease mode".into()),
    }
}

/// All keys.
pub const KEYS: &[Key] = &joined::<{ FIRST.len() + SOURCE.len() + TARGET.len() + LAST.len() }>([
    FIRST, &SOURCE, &TARGET, LAST,
]);

const fn joined<const N: usize>(parts: [&[Key]; 4]) -> [Key; N] {
    let mut all = [parts[0][0]; N];
    let (mut part, mut at, mut index) = (0, 0, 0);
    while part < parts.len() {
        while index < parts[part].len() {
            all[at] = parts[part][index];
            at += 1;
            index += 1;
        }
        part += 1;
        index = 0;
    }
    all
}

const FIRST: &[Key] = &[
    key!(
        "instance.name",
        "1 to 100 letters, digits, `.`, `_`, `-`",
        instance_name,
        some(value::instance_name),
        text,
        "Name of this instance: stable over restarts, different in every process that runs at the same time. Without one: host name and process id."
    ),
    key!(
        "control.url",
        "`http://host:port`",
        control_url,
        some(value::text),
        text,
        "The control plane; the clusters' addresses come from it, too."
    ),
    key!(
        "control.token",
        "text",
        control_token,
        some(|text: &str| value::text(text).map(Secret::new)),
        |token: &Option<Secret>| token.as_ref().map(|_| "***".to_owned()),
        "Bearer token for the control plane.",
        true
    ),
    key!(
        "control.token_file",
        "path",
        control_token_file,
        some(value::path),
        path,
        "File with the bearer token; read again for each request, so that it can be replaced."
    ),
    key!(
        "control.start_timeout_ms",
        "1 to 600000",
        session.start_timeout,
        |text| value::millis(text, 1..=600_000),
        ms,
        "How long the start, and each new producer or consumer, waits for the control plane's first answer."
    ),
    key!(
        "control.poll_wait_ms",
        "1 to 600000",
        session.poll_wait,
        |text| value::millis(text, 1..=600_000),
        ms,
        "How long one request may stay open; at most a third of the lease is used."
    ),
    key!(
        "control.backoff_min_ms",
        "1 to 600000",
        session.backoff_min,
        |text| value::millis(text, 1..=600_000),
        ms,
        "The longest pause after the first failure; it doubles with each one, and every pause is drawn from 0 to its bound."
    ),
    key!(
        "control.backoff_max_ms",
        "1 to 600000",
        session.backoff_max,
        |text| value::millis(text, 1..=600_000),
        ms,
        "The longest pause after any failure."
    ),
    key!(
        "lease.mode",
        "`continue` or `stop`",
        session.lease_mode,
        lease_mode,
        |mode: &LeaseMode| Some(
            match mode {
                LeaseMode::Continue => "continue",
                LeaseMode::Stop => "stop",
            }
            .to_owned()
        ),
        "Without contact for a lease: go on with the last plan, or refuse sends and leave the queues to the group's other consumers."
    ),
    key!(
        "plan.file",
        "path",
        plan.file,
        some(value::path),
        path,
        "A plan document on disk instead of a control plane; read again when it changes."
    ),
    key!(
        "plan.url",
        "`http://host:port/path`",
        plan.url,
        some(value::text),
        text,
        "A plan document on any web server instead of a control plane (`GET`, with `ETag`)."
    ),
    key!(
        "plan.every_ms",
        "1 to 600000",
        plan.every,
        |text| value::millis(text, 1..=600_000),
        ms,
        "How often `plan.file` or `plan.url` is looked at."
    ),
    key!(
        "plan.cache_dir",
        "path",
        plan.cache_dir,
        some(value::path),
        path,
        "Folder for the last good plans, so that a start needs no control plane. Needs `instance.name`."
    ),
    key!(
        "source.address",
        "`rocketmq://host:port;host:port` or `memory://name`",
        source_address,
        some(value::address),
        text,
        "The source cluster; without one, the address that comes with the plans. A client that has connected stays where it is until it is started again, whatever addresses come later."
    ),
    key!(
        "target.address",
        "`rocketmq://host:port;host:port` or `memory://name`",
        target_address,
        some(value::address),
        text,
        "The target cluster; without one, the address that comes with the plans. A client that has connected stays where it is until it is started again, whatever addresses come later."
    ),
];

const LAST: &[Key] = &[
    key!(
        "producer.send_timeout_ms",
        "1 to 3600000",
        producer.send_timeout,
        |text| value::millis(text, 1..=3_600_000),
        ms,
        "From the call of a send to its end, all tries together."
    ),
    key!(
        "producer.try_timeout_ms",
        "1 to 3600000",
        producer.try_timeout,
        |text| value::millis(text, 1..=3_600_000),
        ms,
        "One try of a send; with `lease.mode` `stop` never longer than what is left of the lease."
    ),
    key!(
        "producer.attempts",
        "1 to 100",
        producer.max_tries,
        |text| value::number(text, 1..=100),
        shown,
        "Most tries of one send. Those that a broker's flow control turns away do not count: they go on, half a second apart at most, until the send's time is over."
    ),
    key!(
        "producer.fail_over",
        "`true` or `false`",
        producer.fail_over,
        value::boolean,
        shown,
        "Whether the other side may take a send that failed for certain, in `dual_write` and without an ordering key."
    ),
    key!(
        "producer.max_body_bytes",
        "1 to 16777216",
        producer.max_body_bytes,
        |text| value::number(text, 1..=16_777_216),
        shown,
        "The largest body that is sent; raise it where the brokers' own limit (`maxMessageSize`) is above 4 MiB. That holds besides."
    ),
    key!(
        "producer.transaction_group",
        "1 to 255 letters, digits, `%`, `|`, `_`, `-`",
        transaction_group,
        some(value::producer_group),
        text,
        "RocketMQ's producer group of transactional producers. A broker asks any client of the group how a transaction ended: all instances of an application have the same one and make transactional producers of the same topics, and no other application has it."
    ),
    key!(
        "consumer.max_outstanding",
        "1 to 1000000",
        consumer.max_outstanding,
        |text| value::number(text, 1..=1_000_000),
        shown,
        "Most messages a side fetches ahead and has not acked; the fetch pauses above it. A queue has its share of them, 32 at least; in an ordered topic only the shares count. What a group gave back may be as many again. A subscription may say another number."
    ),
    key!(
        "consumer.ready",
        "1 to 1000000",
        consumer.options.ready,
        |text| value::number(text, 1..=1_000_000),
        shown,
        "Most messages of a side that are claimed and wait for `receive`."
    ),
    key!(
        "consumer.set_aside",
        "1 to 1000000",
        consumer.options.set_aside,
        |text| value::number(text, 1..=1_000_000),
        shown,
        "Most messages of a side that wait because their key is being handled elsewhere; the fetch pauses above it."
    ),
    key!(
        "consumer.stop_timeout_ms",
        "1 to 3600000",
        consumer.options.stop_timeout,
        |text| value::millis(text, 1..=3_600_000),
        ms,
        "How long a consumer that is closed waits for what was handed out. A side that the plan removes waits without a bound: the stage does not move on before its handlers have ended."
    ),
    key!(
        "dedup.window_ms",
        "1000 to 2592000000",
        dedup.window,
        |text| value::millis(text, 1_000..=2_592_000_000),
        ms,
        "How long a handled key is remembered."
    ),
    key!(
        "dedup.max_keys",
        "1 to 1000000000",
        dedup.max_keys,
        |text| value::number(text, 1..=1_000_000_000),
        shown,
        "Most keys remembered, all topics and groups of the client together; 40 to 80 bytes each, taken as they come. A full store forgets nothing early: it pushes back, and its consumers stand still until keys are older than the window. Size it as messages a second x groups x window: 10 000 000 keys in 24 h are 115 a second."
    ),
    key!(
        "random.seed",
        "0 to 18446744073709551615",
        random_seed,
        some(|text: &str| value::number(text, 0..=u64::MAX)),
        |seed: &Option<u64>| seed.map(|seed| seed.to_string()),
        "Makes the draws between the sides and the pauses repeatable, for tests."
    ),
];
