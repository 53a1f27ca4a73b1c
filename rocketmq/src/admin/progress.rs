//! How far a broker's own services are: everything below is delivered, resolved or put where it was sent to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Buf;

use super::{Admin, Master};
use crate::{
    codes::{request, response},
    error::{Error, ErrorKind, Result},
    frame::Request,
};

/// `MessageStoreConfig.messageDelayLevel` has so many; further ones come from the broker's configuration.
const LEVELS: usize = 18;
/// No sane configuration has more.
const MOST_LEVELS: usize = 256;
/// `TransactionalMessageUtil.buildHalfTopic`.
pub(super) const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// `TransactionalMessageUtil.buildConsumerGroup`: its offset passes a half message once it is resolved, discarded, or appended again.
const HALF_GROUP: &str = "CID_RMQ_SYS_TRANS";

/// One broker's services.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Progress {
    pub(super) master: Master,
    /// When the broker was started: every start has its own.
    pub(super) boot: String,
    /// By level, from the first: what is below was delivered.
    pub(super) delivered: Vec<u64>,
    /// Half messages below have an end.
    pub(super) resolved: u64,
    /// `None` where the broker knows no timers.
    pub(super) timers: Option<TimerProgress>,
}

/// How far 5.x timers are (apache/rocketmq `TimerMessageStore.java`, `TimerCheckpoint.java`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct TimerProgress {
    /// `lastReadTimeMs`: those due before were put where they were sent to. It moves on after the last of a moment was put.
    pub(super) delivered_before_ms: u64,
    /// `lastTimerQueueOffset`: those below are in the wheel, or were put because they were due already.
    pub(super) enqueued: u64,
}

/// What a broker was started with, by the start.
#[derive(Debug, Default)]
pub(super) struct Setups {
    by_broker: Mutex<BTreeMap<Arc<str>, (String, Setup)>>,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    levels: usize,
}

impl Admin {
    /// How far the broker's services are.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the broker keeps what waits where nobody else can read it; [`ErrorKind::Protocol`] for an answer that makes no
    /// sense; as [`Client::call`](crate::Client::call).
    pub(super) async fn progress(&self, master: &Master) -> Result<Progress> {
        let table = self.runtime_info(&master.address).await?;
        let boot = table.get("bootTimestamp").cloned().unwrap_or_default();
        let setup = self.setup(master, &boot).await?;
        let mut delivered = vec![0; setup.levels];
        for (name, value) in &table {
            let level = name.strip_prefix("scheduleMessageOffset_");
            let Some(level) = level.and_then(|level| level.parse::<usize>().ok()) else {
                continue;
            };
            let offset = value
                .split_once(',')
                .and_then(|(delivered, _)| delivered.trim().parse().ok());
            let Some(offset) = offset else {
                let text = format!("the broker's `{name}` is {value:?}");
                return Err(Error::new(ErrorKind::Protocol, text).with_address(&master.address));
            };
            if !(1..=MOST_LEVELS).contains(&level) {
                continue;
            }
            if delivered.len() < level {
                delivered.resize(level, 0);
            }
            delivered[level - 1] = offset;
        }
        let resolved = self
            .committed_offset(&master.address, HALF_GROUP, HALF_TOPIC, 0)
            .await?;
        Ok(Progress {
            master: master.clone(),
            boot,
            delivered,
            resolved: resolved.unwrap_or(0),
            timers: self.timer_progress(master).await?,
        })
    }

    async fn setup(&self, master: &Master, boot: &str) -> Result<Setup> {
        let known = |setups: &Setups| {
            let all = setups
                .by_broker
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (of, setup) = all.get(&master.broker)?;
            (of == boot).then_some(*setup)
        };
        if let Some(setup) = known(&self.setups) {
            return Ok(setup);
        }
        let request = Request::new(request::GET_BROKER_CONFIG);
        let answer = self
            .client
            .call(&master.address, "broker configuration", request)
            .await?;
        let text = String::from_utf8_lossy(&answer.body);
        let setup = Setup::read(&text).map_err(|error| error.with_address(&master.address))?;
        let mut all = self
            .setups
            .by_broker
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(Arc::clone(&master.broker), (boot.to_owned(), setup));
        Ok(setup)
    }

    /// `None` for brokers without timers.
    async fn timer_progress(&self, master: &Master) -> Result<Option<TimerProgress>> {
        let request = Request::new(request::GET_TIMER_CHECK_POINT);
        let answer = self
            .client
            .call(&master.address, "timer checkpoint", request)
            .await;
        match answer {
            Ok(answer) => TimerProgress::read(&answer.body).map(Some).ok_or_else(|| {
                let text = "the timer checkpoint is too short";
                Error::new(ErrorKind::Protocol, text).with_address(&master.address)
            }),
            // 4.9, and 5.x with `timerWheelEnable=false`, which takes no timers.
            Err(error)
                if error.kind() == ErrorKind::Unsupported
                    || error.code() == Some(response::SYSTEM_ERROR) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl TimerProgress {
    /// Seven 64-bit numbers: lastReadTimeMs, lastTimerLogFlushPos, lastTimerQueueOffset, masterTimerQueueOffset and others.
    fn read(mut body: &[u8]) -> Option<Self> {
        let read = body.try_get_i64().ok()?;
        let _flushed = body.try_get_i64().ok()?;
        let enqueued = body.try_get_i64().ok()?;
        Some(TimerProgress {
            delivered_before_ms: u64::try_from(read).unwrap_or(0),
            enqueued: u64::try_from(enqueued).unwrap_or(0),
        })
    }
}

impl Setup {
    /// From `name=value` lines.
    fn read(text: &str) -> Result<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim())
            })
        };
        // 5.4 and later can keep timers and half messages in a database of their own instead of in queues.
        for (name, what) in [
            ("timerRocksDBEnable", "timers"),
            ("transRocksDBEnable", "half messages"),
        ] {
            if value(name) == Some("true") {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "the broker has {name}=true: its {what} cannot be counted from outside"
                    ),
                ));
            }
        }
        let levels = value("messageDelayLevel").map_or(LEVELS, |levels| {
            levels.split_whitespace().count().min(MOST_LEVELS)
        });
        Ok(Setup { levels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_configuration() {
        let levels = |text| Setup::read(text).unwrap().levels;
        assert_eq!(levels("brokerName=b\n"), 18);
        assert_eq!(levels("a=b\nmessageDelayLevel=1s 5s 10s\nc=d"), 3);
    }

    #[test]
    fn what_lies_in_a_database_of_the_broker_cannot_be_counted() {
        for text in ["timerRocksDBEnable=true", "transRocksDBEnable=true"] {
            assert_eq!(
                Setup::read(text).unwrap_err().kind(),
                ErrorKind::Unsupported
            );
        }
        assert!(Setup::read("timerRocksDBEnable=false").is_ok());
    }

    #[test]
    fn a_checkpoint_is_read_by_its_place() {
        let mut body = Vec::new();
        for number in [1_700_000_000_000_i64, 7, 42, 43, 0, 0, 0] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        let read = TimerProgress::read(&body).unwrap();
        assert_eq!(read.delivered_before_ms, 1_700_000_000_000);
        assert_eq!(read.enqueued, 42);
        assert_eq!(TimerProgress::read(&body[..20]), None);
    }
}
