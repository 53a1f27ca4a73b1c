//! What this client produces and consumes, and telling the brokers so (apache/rocketmq `HeartbeatData.java`).

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};

use crate::{
    client::{Client, Inner, TopicEntry},
    codes::request,
    error::{Error, Result},
    frame::Request,
    message::RETRY_PREFIX,
    route::MessageQueue,
    subscription::{Filter, SubscriptionData},
    together::together,
    transaction::{Checks, TransactionChecker},
};

/// The consumers of one group in this client, as far as brokers speak to them; the consumers know what it is.
pub(crate) trait GroupMember: Any + fmt::Debug + Send + Sync {
    /// An administrator has set the offsets of a topic's queues.
    fn reset(&self, topic: &str, offsets: BTreeMap<MessageQueue, u64>);
}

type Members = HashMap<Arc<str>, Weak<dyn GroupMember>>;

/// Producers and consumers of one client.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// What the consumers of a group share, by group.
    members: Mutex<Members>,
    /// What brokers ask about transactions.
    pub(crate) checks: Checks,
    /// A heartbeat is wanted now.
    pub(crate) wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By group and topic: how many, and the topic.
    producers: HashMap<ProducerKey, (usize, Arc<TopicEntry>)>,
    groups: HashMap<Arc<str>, Group>,
    /// Brokers that were sent heartbeats.
    told: BTreeSet<Arc<str>>,
}

type ProducerKey = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Group {
    topics: BTreeMap<Arc<str>, (Arc<TopicEntry>, SubscriptionData)>,
    /// None of a group whose members all read everything.
    retry: Option<SubscriptionData>,
    /// The group's members, or this client's connections, changed.
    changed: Arc<Notify>,
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_producer(&self, group: &Arc<str>, entry: &Arc<TopicEntry>) {
        let key = (Arc::clone(group), Arc::clone(&entry.topic));
        let mut state = self.state();
        state
            .producers
            .entry(key)
            .or_insert((0, Arc::clone(entry)))
            .0 += 1;
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn remove_producer(&self, group: &Arc<str>, topic: &Arc<str>) {
        let key = (Arc::clone(group), Arc::clone(topic));
        // Before the lock, so that it is dropped after it.
        let mut _checker = None;
        let mut state = self.state();
        if let Some((count, _)) = state.producers.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                state.producers.remove(&key);
                _checker = self.checks.remove(&key);
            }
        }
    }

    /// Who knows how the transactions of a group's messages to a topic ended, for as long as there is a producer of both.
    pub(crate) fn set_checker(
        &self,
        group: &Arc<str>,
        topic: &Arc<str>,
        checker: Arc<dyn TransactionChecker>,
    ) {
        self.checks.set(group, topic, checker);
    }

    /// Adds a topic to a group; `changed` hears of the group's members. In a `broadcast` every member reads everything, and nothing is given back.
    pub(crate) fn subscribe(
        &self,
        group: &Arc<str>,
        entry: Arc<TopicEntry>,
        data: SubscriptionData,
        broadcast: bool,
        changed: &Arc<Notify>,
    ) {
        let mut state = self.state();
        let retry: Arc<str> = format!("{RETRY_PREFIX}{group}").into();
        let retry = (!broadcast).then(|| SubscriptionData::new(&retry, &Filter::default()));
        let group = state
            .groups
            .entry(Arc::clone(group))
            .or_insert_with(|| Group {
                topics: BTreeMap::new(),
                retry: retry.clone(),
                changed: Arc::clone(changed),
            });
        if !Arc::ptr_eq(&group.changed, changed) {
            // Left over from consumers that are just being dropped.
            group.topics.clear();
            group.retry = retry;
            group.changed = Arc::clone(changed);
        }
        group.topics.insert(Arc::clone(&data.topic), (entry, data));
    }

    /// Takes a topic out of a group.
    pub(crate) fn unsubscribe(&self, group: &str, topic: &str, changed: &Arc<Notify>) {
        let mut state = self.state();
        if let Some(entry) = state.groups.get_mut(group)
            && Arc::ptr_eq(&entry.changed, changed)
        {
            entry.topics.remove(topic);
            if entry.topics.is_empty() {
                state.groups.remove(group);
            }
        }
    }

    pub(crate) fn members_changed(&self, group: &str) {
        if let Some(group) = self.state().groups.get(group) {
            group.changed.notify_one();
        }
    }

    /// The brokers that were sent heartbeats, as far as they are `connected`: others have forgotten the client, and are forgotten.
    pub(crate) fn told(&self, connected: impl Fn(&Arc<str>) -> bool) -> Vec<Arc<str>> {
        let mut state = self.state();
        state.told.retain(connected);
        state.told.iter().cloned().collect()
    }

    /// The heartbeat's body, and where to send it; nothing when there is nobody to speak for.
    fn heartbeat(&self, client_id: &str) -> Option<(String, Vec<Arc<str>>)> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Heartbeat<'a> {
            #[serde(rename = "clientID")]
            client_id: &'a str,
            producer_data_set: Vec<ProducerData<'a>>,
            consumer_data_set: Vec<ConsumerData<'a>>,
            heartbeat_fingerprint: i32,
            without_sub: bool,
        }
        #[derive(Eq, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ProducerData<'a> {
            group_name: &'a str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ConsumerData<'a> {
            group_name: &'a str,
            consume_type: &'a str,
            message_model: &'a str,
            consume_from_where: &'a str,
            subscription_data_set: Vec<&'a SubscriptionData>,
            unit_mode: bool,
        }
        let mut state = self.state();
        let mut addresses = Vec::new();
        let mut producers: Vec<_> = state
            .producers
            .iter()
            .map(|((group, _), (_, entry))| {
                addresses.extend(entry.routed().route.masters().cloned());
                ProducerData { group_name: group }
            })
            .collect();
        producers.sort_unstable();
        producers.dedup();
        let consumers: Vec<_> = state
            .groups
            .iter()
            .map(|(name, group)| {
                for (entry, _) in group.topics.values() {
                    let routed = entry.routed();
                    let brokers = routed.route.brokers.iter();
                    addresses.extend(brokers.flat_map(|b| b.addresses.values().cloned()));
                }
                ConsumerData {
                    group_name: name,
                    consume_type: "CONSUME_PASSIVELY",
                    message_model: if group.retry.is_some() {
                        "CLUSTERING"
                    } else {
                        "BROADCASTING"
                    },
                    consume_from_where: "CONSUME_FROM_FIRST_OFFSET",
                    subscription_data_set: (group.topics.values().map(|(_, data)| data))
                        .chain(&group.retry)
                        .collect(),
                    unit_mode: false,
                }
            })
            .collect();
        if producers.is_empty() && consumers.is_empty() {
            return None;
        }
        let body = serde_json::to_string(&Heartbeat {
            client_id,
            producer_data_set: producers,
            consumer_data_set: consumers,
            heartbeat_fingerprint: 0,
            without_sub: false,
        });
        addresses.sort_unstable();
        addresses.dedup();
        state.told.extend(addresses.iter().cloned());
        // Strings and numbers always serialize.
        body.ok().map(|body| (body, addresses))
    }
}

/// How a heartbeat went, by broker.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Beaten {
    answers: Vec<(Arc<str>, Result<()>)>,
    /// Nothing is known of any broker.
    ended: Option<Error>,
}

impl Beaten {
    /// # Errors
    /// The last failure, when no broker took it.
    pub(crate) fn any(self) -> Result<()> {
        if self.answers.iter().any(|(_, answer)| answer.is_ok()) {
            return Ok(());
        }
        let failures = self.answers.into_iter().map(|(_, answer)| answer);
        failures.chain(self.ended.map(Err)).last().unwrap_or(Ok(()))
    }
}

/// Which brokers were warned of, when, and whether they are still to be told to be back.
#[derive(Debug, Default)]
struct Troubles(HashMap<Arc<str>, (Instant, bool)>);

/// What there is to say of a broker after a heartbeat.
#[derive(Debug, Eq, PartialEq)]
enum News {
    Failing,
    Back,
}

impl Troubles {
    /// A broker that is down is tried twice a second, and not worth a line each time.
    const AGAIN: Duration = Duration::from_secs(60);

    fn note(&mut self, address: &Arc<str>, taken: bool, now: Instant) -> Option<News> {
        let warned = self.0.get_mut(address);
        if taken {
            return std::mem::take(&mut warned?.1).then_some(News::Back);
        }
        if warned.is_some_and(|(at, _)| now.saturating_duration_since(*at) < Self::AGAIN) {
            return None;
        }
        self.0.insert(Arc::clone(address), (now, true));
        Some(News::Failing)
    }

    /// Says what is new; whether every broker took the heartbeat.
    fn tell(&mut self, beaten: &Beaten) -> bool {
        let now = Instant::now();
        let mut all = true;
        // Brokers that are in no route any more.
        if beaten.ended.is_none() {
            self.0
                .retain(|address, _| beaten.answers.iter().any(|(other, _)| other == address));
        }
        for (address, answer) in &beaten.answers {
            all &= answer.is_ok();
            match (self.note(address, answer.is_ok(), now), answer) {
                (Some(News::Failing), Err(error)) => {
                    tracing::warn!(%error, "a broker does not take the heartbeat; it is tried again, and warned of once a minute");
                }
                (Some(News::Back), _) => {
                    tracing::info!(%address, "the broker takes heartbeats again");
                }
                _ => {}
            }
        }
        if let Some(error) = &beaten.ended {
            all = false;
            tracing::warn!(%error, "no heartbeat was sent");
        }
        all
    }
}

/// Sends one heartbeat to every broker concerned, side by side: those that do not answer must not cost the others their 120 s.
pub(crate) async fn beat(client: &Client) -> Beaten {
    let mut beaten = Beaten::default();
    // Forgets those that are gone.
    client.told();
    let Some((body, addresses)) = client.registry().heartbeat(client.client_id()) else {
        return beaten;
    };
    let body: Bytes = body.into();
    let calls = addresses.into_iter().map(|address| {
        let (client, body) = (client.clone(), body.clone());
        async move {
            let request = Request::new(request::HEART_BEAT).body(body);
            let answer = client.call(&address, "heartbeat", request).await;
            if let Err(error) = &answer {
                tracing::debug!(%error, "heartbeat failed");
            }
            Ok((address, answer.map(drop)))
        }
    });
    match together(calls.collect()).await {
        Ok(answers) => beaten.answers = answers,
        Err(error) => beaten.ended = Some(error),
    }
    beaten
}

/// Beats every so often, and at once when woken, but not more than ten times a second.
pub(crate) async fn run(inner: Weak<Inner>, registry: Arc<Registry>, every: Duration) {
    const SHORTEST: Duration = Duration::from_millis(100);
    let mut troubles = Troubles::default();
    loop {
        let begun = Instant::now();
        let woken = tokio::time::timeout(every, registry.wake.notified())
            .await
            .is_ok();
        if woken {
            tokio::time::sleep(SHORTEST.saturating_sub(begun.elapsed())).await;
        }
        let Some(client) = Client::upgrade(&inner) else {
            return;
        };
        let beaten = beat(&client).await;
        if woken {
            // A connection came or went: the members as the broker sees them may have changed.
            let groups: Vec<_> = {
                let state = registry.state();
                state
                    .groups
                    .values()
                    .map(|group| Arc::clone(&group.changed))
                    .collect()
            };
            for changed in groups {
                changed.notify_one();
            }
        }
        if !troubles.tell(&beaten) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            registry.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{client::ClientOptions, test_peer};

    #[test]
    fn broker_that_is_down_is_warned_of_once_a_minute_and_told_when_it_is_back() {
        let mut troubles = Troubles::default();
        let (one, two): (Arc<str>, Arc<str>) = ("one:1".into(), "two:1".into());
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        for (seconds, address, taken, news) in [
            (0, &one, true, None),
            (1, &one, false, Some(News::Failing)),
            (2, &one, false, None),
            (3, &two, false, Some(News::Failing)),
            (60, &one, false, None),
            (61, &one, false, Some(News::Failing)),
            (62, &one, false, None),
            (63, &two, true, Some(News::Back)),
            (64, &two, true, None),
            (65, &one, true, Some(News::Back)),
            // One that comes and goes is no louder.
            (66, &one, false, None),
            (67, &one, true, None),
            (121, &one, false, Some(News::Failing)),
        ] {
            let told = troubles.note(address, taken, after(seconds));
            assert_eq!(told, news, "{address} after {seconds} s");
        }
    }

    #[tokio::test]
    async fn brokers_that_do_not_answer_delay_no_heartbeat() {
        const SILENT: usize = 20;
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let living = test_peer::serve(move |command| {
            count.fetch_add(1, Ordering::Relaxed);
            test_peer::success(command, "")
        })
        .await;
        let mut brokers = Vec::new();
        for number in 0..SILENT {
            let silent = test_peer::serve(|_| Vec::new()).await;
            brokers.push((format!("a{number:02}"), silent));
        }
        brokers.push(("z".to_owned(), living));
        let datas: Vec<_> = brokers
            .iter()
            .map(|(name, address)| {
                format!(
                    r#"{{"cluster":"c","brokerName":"{name}","brokerAddrs":{{"0":"{address}"}}}}"#
                )
            })
            .collect();
        let queues: Vec<_> = brokers
            .iter()
            .map(|(name, _)| {
                format!(
                    r#"{{"brokerName":"{name}","perm":6,"readQueueNums":1,"writeQueueNums":1}}"#
                )
            })
            .collect();
        let route = format!(
            r#"{{"brokerDatas":[{}],"queueDatas":[{}]}}"#,
            datas.join(","),
            queues.join(",")
        );
        let names = test_peer::serve(move |command| test_peer::success(command, &route)).await;
        let mut options = ClientOptions::new([&*names], "c");
        options.request_timeout = Duration::from_millis(500);
        let client = Client::new(options).unwrap();
        let entry = client.topic("t").await.unwrap();
        client.registry().add_producer(&"g".into(), &entry);
        let begun = Instant::now();
        let beaten = beat(&client).await;
        assert!(begun.elapsed() < Duration::from_millis(500) * (SILENT as u32) / 2);
        let (taken_by, failed): (Vec<_>, Vec<_>) =
            (beaten.answers.iter()).partition(|(_, answer)| answer.is_ok());
        assert_eq!((taken_by.len(), failed.len()), (1, SILENT));
        assert!(beaten.any().is_ok());
        assert!(taken.load(Ordering::Relaxed) >= 1);
    }
}
