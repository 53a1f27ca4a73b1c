//! Opening, closing and sealing a topic on all brokers, those that joined since its configuration was saved among them.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
};

use super::{Admin, TopicAccess, TopicConfig, TopicConfigs, offset::address_of};
use crate::error::{Error, ErrorKind, Result};

type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;
/// Whether the next broker may still be changed.
pub type MayGoOn = dyn Fn() -> Answer + Send + Sync;

impl Admin {
    /// Opens, closes or seals a topic on every broker that has it, and reads it back from each. `saved` is its configuration from when it was open;
    /// opening puts that back, with what it has got since ([`grown`]): no queue that somebody added is taken away. A broker that is sealed and not in
    /// `saved` is opened as the first one in `saved`.
    ///
    /// One broker's failure does not keep the others from being changed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], and nothing is changed, when `saved` names no broker or was not saved while the topic was open; and for a seal when
    /// the topic has grown since: under the seal nobody could tell any more which queues it has, so take [`grown`] first. Else the first failure's kind
    /// with a message that names every broker that failed, after which the access is unknown: [`ErrorKind::Unavailable`] when one of the brokers in
    /// `saved` has no master now; as [`Self::update_topic`].
    ///
    /// # Cancellation
    /// The access may be changed on some brokers. Repeating the call is safe.
    pub async fn set_topic_access(&self, saved: &TopicConfigs, access: TopicAccess) -> Result<()> {
        let always: &MayGoOn = &|| Box::pin(ready(true));
        self.set_topic_access_while(saved, access, always).await
    }

    /// As [`Self::set_topic_access`], but asks `may_go_on` before each broker is changed; once it says no, no further broker is.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it said no; as [`Self::set_topic_access`].
    ///
    /// # Cancellation
    /// As [`Self::set_topic_access`].
    pub async fn set_topic_access_while(
        &self,
        saved: &TopicConfigs,
        access: TopicAccess,
        may_go_on: &MayGoOn,
    ) -> Result<()> {
        let template = check(saved)?;
        let topic = &template.topic_name;
        let now = self.topic_configs(topic).await?;
        let own = grown(saved, &now);
        if access == TopicAccess::Sealed && own != *saved {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "topic {topic} has more queues than were saved of it, and a seal would hide how many: it is {now:?}, saved was {saved:?}"
                ),
            ));
        }
        let masters = self.masters().await?;
        let mut done = Vec::new();
        let mut failed: Vec<(Arc<str>, Error)> = Vec::new();
        for (broker, config) in wanted(&own, template, &now, access) {
            let changed = match masters.iter().find(|master| master.broker == broker) {
                Some(_) if !may_go_on().await => Err(Error::new(
                    ErrorKind::Unavailable,
                    "not changed: whoever wanted it may not decide any more",
                )),
                Some(master) => self.update_topic(master, &config).await,
                // The error that says which.
                None => address_of(&masters, &broker).map(drop),
            };
            match changed {
                Ok(()) => done.push(broker),
                Err(error) => failed.push((broker, error)),
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        let each: Vec<String> = failed
            .iter()
            .map(|(broker, error)| format!("{broker}: {error}"))
            .collect();
        let done = match done.as_slice() {
            [] => "on no broker for certain".to_owned(),
            done => format!("on {} only", done.join(", ")),
        };
        let message = format!(
            "topic {topic} is {access:?} {done}; unknown elsewhere: {}",
            each.join("; ")
        );
        let (_, first) = failed.swap_remove(0);
        Err(Error::new(first.kind(), message).with_source(first))
    }
}

/// The first broker's configuration.
fn check(saved: &TopicConfigs) -> Result<&TopicConfig> {
    let Some(template) = saved.values().next() else {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the saved configuration names no broker",
        ));
    };
    if let Some((broker, config)) = saved.iter().find(|(_, config)| config.queues() == 0) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the saved configuration of topic {} has no queues on broker {broker}: it was saved while the topic was sealed",
                config.topic_name
            ),
        ));
    }
    Ok(template)
}

/// What every broker is to have.
fn wanted(
    own: &TopicConfigs,
    template: &TopicConfig,
    now: &TopicConfigs,
    access: TopicAccess,
) -> TopicConfigs {
    let joined_sealed = now.keys().filter(|broker| !own.contains_key(*broker));
    let joined_sealed = joined_sealed.map(|broker| (broker, template));
    own.iter()
        .chain(joined_sealed)
        .map(|(broker, config)| (Arc::clone(broker), config.with_access(access)))
        .collect()
}

/// A topic's own configuration, with what it has got since it was saved: queues that were added, and brokers that joined with it. What was taken away
/// since is still there. `now` may be closed; of brokers on which it is sealed nothing can be told.
#[must_use]
pub fn grown(saved: &TopicConfigs, now: &TopicConfigs) -> TopicConfigs {
    let mut own = saved.clone();
    for (broker, config) in now.iter().filter(|(_, config)| config.queues() > 0) {
        let known = own.entry(Arc::clone(broker)).or_insert_with(|| {
            let mut config = config.clone();
            if let (TopicAccess::Closed, Some(first)) = (config.access(), saved.values().next()) {
                config.permission = first.permission;
            }
            config
        });
        known.read_queues = known.read_queues.max(config.read_queues);
        known.write_queues = known.write_queues.max(config.write_queues);
    }
    own
}

/// The queues in which a topic may have messages: those of its saved configuration, and those that it has now beyond it, on brokers that joined or
/// where somebody added queues. Only the numbers of queues mean anything in the answer.
#[must_use]
pub fn widened(saved: &TopicConfigs, now: &TopicConfigs) -> TopicConfigs {
    let mut wide = saved.clone();
    let most = saved.values().map(TopicConfig::queues).max().unwrap_or(0);
    for (broker, config) in now {
        let here = wide
            .entry(Arc::clone(broker))
            .or_insert_with(|| TopicConfig {
                // Sealed already: it was given these, or fewer.
                read_queues: most,
                ..config.clone()
            });
        here.read_queues = here.read_queues.max(config.queues());
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(brokers: &[(&str, u32)]) -> TopicConfigs {
        brokers
            .iter()
            .map(|(broker, queues)| ((*broker).into(), TopicConfig::new("t", *queues)))
            .collect()
    }

    #[test]
    fn what_a_topic_has_got_since_it_was_saved_is_kept() {
        let saved = on(&[("a", 4), ("b", 8)]);
        let mut now = on(&[("a", 6), ("b", 2), ("c", 2), ("d", 0)]);
        let own = grown(&saved, &now);
        assert_eq!(own, on(&[("a", 6), ("b", 8), ("c", 2)]));
        // Closed: the permission is not its own, the queues are.
        for config in now.values_mut() {
            *config = config.with_access(TopicAccess::Closed);
        }
        assert_eq!(grown(&saved, &now), own);
        // Sealed: nothing can be told.
        for config in now.values_mut() {
            *config = config.with_access(TopicAccess::Sealed);
        }
        assert_eq!(grown(&saved, &now), saved);
    }

    #[test]
    fn a_broker_that_joined_sealed_is_opened_as_the_first() {
        let saved = on(&[("a", 4), ("b", 8)]);
        let mut now = on(&[("a", 4), ("b", 8), ("c", 2)]);
        let template = check(&saved).unwrap();
        let own = grown(&saved, &now);
        let open = wanted(&own, template, &now, TopicAccess::Open);
        assert_eq!(open, now);
        let sealed = wanted(&own, template, &now, TopicAccess::Sealed);
        assert_eq!(sealed.len(), 3);
        assert!(
            sealed
                .values()
                .all(|config| config.access() == TopicAccess::Sealed)
        );
        now.extend(sealed);
        let open = wanted(&grown(&saved, &now), template, &now, TopicAccess::Open);
        assert_eq!(open, on(&[("a", 4), ("b", 8), ("c", 4)]));
    }

    #[test]
    fn messages_are_looked_for_in_every_queue_that_there_was_or_is() {
        let saved = on(&[("a", 4), ("b", 8)]);
        let mut now = on(&[("a", 6), ("b", 2), ("c", 10), ("d", 0)]);
        let counts = |configs: &TopicConfigs| -> Vec<u32> {
            configs.values().map(TopicConfig::queues).collect()
        };
        assert_eq!(counts(&widened(&saved, &now)), [6, 8, 10, 8]);
        now.clear();
        assert_eq!(counts(&widened(&saved, &now)), [4, 8]);
    }
}
