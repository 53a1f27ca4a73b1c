//! Brokers of the tests' own, with a name server, for consumers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::super::{Consumer, ConsumerOptions, Delivery};
use crate::{
    client::{Client, ClientOptions},
    codes::{request, response},
    frame::Command,
    message::RETRY_PREFIX,
    test_peer,
};

pub(super) const GROUP: &str = "billing";
pub(super) const RETRY: &str = "%RETRY%billing";
/// Only a failing test waits for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a test takes that does not wait for it.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Topic, broker and number.
pub(super) type Place = (String, String, u32);

pub(super) struct State {
    /// Messages in the brokers' format, from offset 0 on; a pull behind them is held for ever.
    pub(super) stored: BTreeMap<Place, Vec<Bytes>>,
    pub(super) committed: BTreeMap<Place, u64>,
    /// Requests that a broker does not answer.
    pub(super) stuck: BTreeSet<(&'static str, i32)>,
    /// Requests that a broker refuses.
    pub(super) refuses: BTreeSet<(&'static str, i32)>,
    /// The brokers of a topic, where those are not all.
    pub(super) brokers_of: BTreeMap<&'static str, Vec<&'static str>>,
    /// Replicas, each with its master's name.
    pub(super) replicas: BTreeMap<&'static str, &'static str>,
    /// Masters that are down: the route does not name their addresses.
    pub(super) gone: BTreeSet<&'static str>,
    /// Broker, code, and the body or offset or topic, in the order in which they came.
    pub(super) heard: Vec<(&'static str, i32, String)>,
    /// What `nextBeginOffset` says instead of the truth.
    pub(super) next_begin: Option<u64>,
    /// The group.
    pub(super) members: Vec<&'static str>,
    /// Those that a broker knows, where that is not the whole group.
    pub(super) listed_at: BTreeMap<&'static str, Vec<&'static str>>,
    /// The next pull of a queue of this topic is told that its offset is none, and which is; from then on the group has other members.
    pub(super) moves: Option<(&'static str, u64, Vec<&'static str>)>,
}

impl Default for State {
    fn default() -> Self {
        State {
            stored: BTreeMap::new(),
            committed: BTreeMap::new(),
            stuck: BTreeSet::new(),
            refuses: BTreeSet::new(),
            brokers_of: BTreeMap::new(),
            replicas: BTreeMap::new(),
            gone: BTreeSet::new(),
            heard: Vec::new(),
            next_begin: None,
            members: vec!["one"],
            listed_at: BTreeMap::new(),
            moves: None,
        }
    }
}

pub(super) struct Cluster {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
    names: Arc<str>,
    cuts: watch::Sender<()>,
}

impl Cluster {
    /// A topic has `queues` queues on each broker; the retry topic has one.
    pub(super) async fn start(brokers: &[&'static str], queues: u32) -> Cluster {
        let state: Arc<Mutex<State>> = Arc::default();
        let news: Arc<Notify> = Arc::default();
        let cuts = watch::Sender::new(());
        let mut addresses = BTreeMap::new();
        for &broker in brokers {
            let (state, news) = (Arc::clone(&state), Arc::clone(&news));
            let address = test_peer::serve_with_cuts(cuts.clone(), move |command| {
                let answer = state.lock().unwrap().answer(broker, command);
                news.notify_waiters();
                answer
            });
            addresses.insert(broker, address.await);
        }
        let routes = Arc::clone(&state);
        let names = test_peer::serve(move |command| {
            let topic = command.fields.get("topic").unwrap_or_default();
            let queues = match topic.starts_with(RETRY_PREFIX) {
                true => 1,
                false => queues,
            };
            let state = routes.lock().unwrap();
            let all = addresses.iter().filter(|(name, _)| {
                let only = state.brokers_of.get(topic);
                !state.replicas.contains_key(*name) && only.is_none_or(|only| only.contains(name))
            });
            let all = all.map(|(name, address)| {
                let replicas = state.replicas.iter().filter(|(_, master)| *master == name);
                let mut ids: BTreeMap<_, _> = (1..)
                    .zip(replicas.map(|(replica, _)| &addresses[replica]))
                    .collect();
                if !state.gone.contains(name) {
                    ids.insert(0, address);
                }
                (name, serde_json::json!(ids))
            });
            let (datas, counts): (Vec<_>, Vec<_>) = all
                .map(|(name, ids)| {
                    (
                        format!(r#"{{"cluster":"c","brokerName":"{name}","brokerAddrs":{ids}}}"#),
                        format!(r#"{{"brokerName":"{name}","perm":6,"readQueueNums":{queues},"writeQueueNums":{queues}}}"#),
                    )
                })
                .unzip();
            let route = format!(
                r#"{{"brokerDatas":[{}],"queueDatas":[{}]}}"#,
                datas.join(","),
                counts.join(",")
            );
            test_peer::success(command, &route)
        });
        Cluster {
            state,
            news,
            names: names.await,
            cuts,
        }
    }

    /// The brokers are started anew, and have forgotten all members but these.
    pub(super) fn restart(&self, members: &[&'static str]) {
        self.state().members = members.to_vec();
        self.cuts.send_replace(());
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Messages of a topic, or retries of messages to it, at the end of a queue of broker a.
    pub(super) fn store(&self, queue: &str, topic: &str, count: usize) {
        let mut state = self.state();
        let place = (queue.to_owned(), "a".to_owned(), 0);
        let stored = state.stored.entry(place).or_default();
        for _ in 0..count {
            let message = stored_message(stored.len() as u64, topic);
            stored.push(message);
        }
    }

    pub(super) fn client(&self) -> Client {
        let mut options = ClientOptions::new([&*self.names], "one");
        options.request_timeout = REQUEST_TIMEOUT;
        Client::new(options).unwrap()
    }

    /// A consumer that has its queues.
    pub(super) async fn consumer(
        &self,
        client: &Client,
        topic: &str,
        options: ConsumerOptions,
    ) -> Consumer {
        let consumer = Consumer::new(client, topic, GROUP, options).await.unwrap();
        consumer.ready().await.unwrap();
        consumer
    }

    /// Waits until what the brokers know is as it should be.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let waited = timeout(PATIENCE, async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if holds(&self.state()) {
                    return;
                }
                news.await;
            }
        });
        assert!(waited.await.is_ok(), "never: {what}");
    }
}

/// Exactly `count`.
pub(super) async fn take(consumer: &Consumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = consumer.receive(count - all.len(), PATIENCE).await.unwrap();
        assert!(!more.is_empty(), "{} of {count}", all.len());
        all.extend(more);
    }
    all
}

pub(super) fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|one| one.message.offset).collect()
}

pub(super) fn place(topic: &str, broker: &str, queue: u32) -> Place {
    (topic.to_owned(), broker.to_owned(), queue)
}

impl State {
    pub(super) fn heard(&self, broker: &str, code: i32) -> usize {
        let same = |one: &&(&str, i32, String)| one.0 == broker && one.1 == code;
        self.heard.iter().filter(same).count()
    }

    fn answer(&mut self, broker: &'static str, command: &Command) -> Vec<u8> {
        let code = command.code;
        let field = |name| command.fields.get(name).unwrap_or_default();
        let note = match code {
            request::UPDATE_CONSUMER_OFFSET => field("commitOffset"),
            request::PULL_MESSAGE => field("maxMsgNums"),
            request::CONSUMER_SEND_MSG_BACK => field("originTopic"),
            _ => std::str::from_utf8(&command.body).unwrap_or_default(),
        };
        self.heard.push((broker, code, note.to_owned()));
        if self.stuck.contains(&(broker, code)) {
            return Vec::new();
        }
        if self.refuses.contains(&(broker, code)) {
            return answer(command, response::SYSTEM_ERROR, "", b"");
        }
        let place = (
            field("topic").to_owned(),
            broker.to_owned(),
            command.fields.number("queueId").unwrap_or(0),
        );
        match code {
            request::PULL_MESSAGE
                if self
                    .moves
                    .as_ref()
                    .is_some_and(|(topic, ..)| *topic == place.0) =>
            {
                let (_, to, members) = self.moves.take().unwrap_or_default();
                self.members = members;
                self.heard.clear();
                let fields = format!(r#""nextBeginOffset":"{to}""#);
                answer(command, response::PULL_OFFSET_MOVED, &fields, b"")
            }
            request::PULL_MESSAGE => {
                let from: usize = command.fields.number("queueOffset").unwrap();
                let most: usize = command.fields.number("maxMsgNums").unwrap();
                let found = self.stored.get(&place).and_then(|all| all.get(from..));
                let found = found.filter(|found| !found.is_empty());
                let Some(found) = found else {
                    return Vec::new();
                };
                let found = &found[..found.len().min(most)];
                let next = self.next_begin.unwrap_or((from + found.len()) as u64);
                let fields = format!(r#""nextBeginOffset":"{next}""#);
                answer(command, response::SUCCESS, &fields, &found.concat())
            }
            request::GET_CONSUMER_LIST_BY_GROUP => {
                let listed = self.listed_at.get(broker).unwrap_or(&self.members);
                let members = serde_json::json!({ "consumerIdList": listed });
                test_peer::success(command, &members.to_string())
            }
            request::GET_MIN_OFFSET => answer(command, response::SUCCESS, r#""offset":"0""#, b""),
            request::QUERY_CONSUMER_OFFSET => match self.committed.get(&place) {
                None => answer(command, response::QUERY_NOT_FOUND, "", b""),
                Some(offset) => {
                    let fields = format!(r#""offset":"{offset}""#);
                    answer(command, response::SUCCESS, &fields, b"")
                }
            },
            request::UPDATE_CONSUMER_OFFSET => {
                let offset = command.fields.number("commitOffset").unwrap();
                self.committed.insert(place, offset);
                test_peer::success(command, "")
            }
            request::LOCK_BATCH_MQ => {
                let asked: serde_json::Value = serde_json::from_slice(&command.body).unwrap();
                test_peer::success(command, &format!(r#"{{"lockOKMQSet":{}}}"#, asked["mqSet"]))
            }
            _ => test_peer::success(command, ""),
        }
    }
}

fn answer(command: &Command, code: i32, fields: &str, body: &[u8]) -> Vec<u8> {
    let header = format!(
        r#"{{"code":{code},"flag":1,"language":"JAVA","opaque":{},"version":399,"extFields":{{{fields}}}}}"#,
        command.opaque
    );
    let mut bytes = Vec::new();
    bytes.put_u32((4 + header.len() + body.len()) as u32);
    bytes.put_u32(header.len() as u32);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A message to a topic, as a broker stores it; in a queue of another topic it is a retry of that.
pub(in crate::consumer) fn stored_message(offset: u64, topic: &str) -> Bytes {
    let properties = format!("RETRY_TOPIC\u{1}{topic}\u{2}");
    let mut message = BytesMut::new();
    message.put_i32(-626_843_481);
    message.put_u32(crc32fast::hash(b"x") & 0x7fff_ffff);
    message.put_bytes(0, 8);
    message.put_u64(offset);
    message.put_u64(offset.wrapping_mul(100));
    message.put_i32(0);
    message.put_bytes(0, 32);
    message.put_i32(0);
    message.put_i64(0);
    message.put_u32(1);
    message.put_slice(b"x");
    message.put_u8(1);
    message.put_slice(b"t");
    message.put_u16(properties.len() as u16);
    message.put_slice(properties.as_bytes());
    let mut whole = BytesMut::new();
    whole.put_u32(4 + message.len() as u32);
    whole.put_slice(&message);
    whole.freeze()
}
