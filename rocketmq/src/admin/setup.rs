//! What a broker was started with, asked once for each start.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Admin, Master};
use crate::{
    codes::request,
    error::{Error, ErrorKind, Result},
    frame::Request,
    message::DelayLevel,
};

/// `MessageStoreConfig.messageDelayLevel` has so many; further ones come from the broker's configuration.
const LEVELS: usize = 18;
/// No sane configuration has more.
pub(super) const MOST_LEVELS: usize = 256;

/// By the broker's address, with the start.
#[derive(Debug, Default)]
pub(super) struct Setups {
    by_address: Mutex<BTreeMap<Arc<str>, (String, Setup)>>,
}

/// What matters here of a broker's configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Setup {
    /// `messageDelayLevel`, where the broker tells it.
    delays: Option<Arc<str>>,
    /// What it keeps where nobody else can read it: the option that says so, and of what.
    elsewhere: Option<(&'static str, &'static str)>,
}

impl Admin {
    /// What each master is configured to take the delay levels for, the first level first; sorted by broker. Retries go by them too.
    ///
    /// It is read once for each start of a broker, by each administrator that was opened: clones share it. A broker that is told another `messageDelayLevel` while it runs goes
    /// by the old one until it is started anew (apache/rocketmq `ScheduleMessageService.java`), also where this says the new one because it was read after the change.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] for levels that cannot be read; as [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn delay_levels(&self) -> Result<Vec<(Master, Vec<Duration>)>> {
        self.ask_masters(|admin, address| async move {
            let table = admin.runtime_info(&address).await?;
            let setup = admin.setup(&address, boot(&table)).await?;
            setup.delays().map_err(|error| error.with_address(&address))
        })
        .await
    }

    pub(super) async fn setup(&self, address: &Arc<str>, boot: &str) -> Result<Setup> {
        if let Some((of, setup)) = self.setups.lock().get(address)
            && of == boot
        {
            return Ok(setup.clone());
        }
        let request = Request::new(request::GET_BROKER_CONFIG);
        let answer = self
            .client
            .call(address, "broker configuration", request)
            .await?;
        let setup = Setup::read(&String::from_utf8_lossy(&answer.body));
        let known = (boot.to_owned(), setup.clone());
        self.setups.lock().insert(Arc::clone(address), known);
        Ok(setup)
    }
}

/// Every start has its own.
pub(super) fn boot(runtime_info: &BTreeMap<String, String>) -> &str {
    runtime_info.get("bootTimestamp").map_or("", String::as_str)
}

impl Setups {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, (String, Setup)>> {
        // Whoever panicked under it left whole entries.
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Setup {
    /// From `name=value` lines.
    fn read(text: &str) -> Self {
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim())
            })
        };
        // 5.4 and later can keep timers and half messages in a database of their own instead of in queues.
        let databases = [
            ("timerRocksDBEnable", "timers"),
            ("transRocksDBEnable", "half messages"),
        ];
        Setup {
            delays: value("messageDelayLevel").map(Arc::from),
            elsewhere: databases
                .into_iter()
                .find(|(name, _)| value(name) == Some("true")),
        }
    }

    /// That all that waits can be counted.
    pub(super) fn check_countable(&self) -> Result<()> {
        let Some((name, what)) = self.elsewhere else {
            return Ok(());
        };
        let text = format!("the broker has {name}=true: its {what} cannot be counted from outside");
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// How many delay levels there are.
    pub(super) fn levels(&self) -> usize {
        self.delays.as_ref().map_or(LEVELS, |delays| {
            delays.split_whitespace().count().min(MOST_LEVELS)
        })
    }

    /// As apache/rocketmq `ScheduleMessageService.parseDelayLevel` reads them: a number and one of s, m, h, d.
    fn delays(&self) -> Result<Vec<Duration>> {
        let Some(text) = &self.delays else {
            return Ok(DelayLevel::all().map(DelayLevel::duration).collect());
        };
        let read = |word: &str| {
            let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
            let seconds = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return None,
            };
            let number: u64 = number.parse().ok()?;
            number.checked_mul(seconds).map(Duration::from_secs)
        };
        let delays = text.split_whitespace().take(MOST_LEVELS).map(read);
        delays.collect::<Option<_>>().ok_or_else(|| {
            let shown: String = text.chars().take(200).collect();
            let text = format!("the broker's `messageDelayLevel` is {shown:?}");
            Error::new(ErrorKind::Protocol, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<Vec<u64>> {
        let delays = Setup::read(text).delays()?;
        Ok(delays.iter().map(Duration::as_secs).collect())
    }

    #[test]
    fn levels_are_those_of_the_configuration() {
        assert_eq!(Setup::read("brokerName=b\n").levels(), 18);
        let text = "a=b\nmessageDelayLevel=1s 5s 2m 3h 1d\nc=d";
        assert_eq!(Setup::read(text).levels(), 5);
        assert_eq!(seconds(text).unwrap(), [1, 5, 120, 10_800, 86_400]);
        let stock = "messageDelayLevel=1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";
        assert_eq!(seconds("").unwrap(), seconds(stock).unwrap());
    }

    #[test]
    fn levels_that_make_no_sense_are_an_error_and_are_counted_all_the_same() {
        for word in ["x", "s", "5", "5w", "-1s", "1é", "99999999999999999999s"] {
            let text = format!("messageDelayLevel=1s {word}");
            assert_eq!(seconds(&text).unwrap_err().kind(), ErrorKind::Protocol);
            assert_eq!(Setup::read(&text).levels(), 2);
        }
    }

    #[test]
    fn what_lies_in_a_database_of_the_broker_cannot_be_counted() {
        for text in ["timerRocksDBEnable=true", "transRocksDBEnable=true"] {
            let error = Setup::read(text).check_countable().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        let plain = Setup::read("timerRocksDBEnable=false");
        assert!(plain.check_countable().is_ok());
    }
}
