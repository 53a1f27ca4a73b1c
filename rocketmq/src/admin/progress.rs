//! How far a broker's own services are: everything below is delivered, resolved or put where it was sent to.

use bytes::Buf;

use super::{
    Admin, Master,
    setup::{MOST_LEVELS, boot},
};
use crate::{
    codes::{request, response},
    error::{Error, ErrorKind, Result},
    frame::Request,
};

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

impl Admin {
    /// How far the broker's services are.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the broker keeps what waits where nobody else can read it; [`ErrorKind::Protocol`] for an answer that makes no
    /// sense; as [`Client::call`](crate::Client::call).
    pub(super) async fn progress(&self, master: &Master) -> Result<Progress> {
        let table = self.runtime_info(&master.address).await?;
        let boot = boot(&table).to_owned();
        let setup = self.setup(&master.address, &boot).await?;
        setup
            .check_countable()
            .map_err(|error| error.with_address(&master.address))?;
        let mut delivered = vec![0; setup.levels()];
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

#[cfg(test)]
mod tests {
    use super::*;

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
