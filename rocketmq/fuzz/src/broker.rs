//! Name server and broker on one port, for one client: as they should be, and with answers that lie until [`Broker::mend`].

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use crossfade_rocketmq::{
    Command,
    codes::{request, response},
    frame,
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
    time::sleep,
};

use crate::{frames::Frame, lies, stored};

pub(crate) const TOPIC: &str = "t";
pub(crate) const GROUP: &str = "g";
pub(crate) const RETRY_TOPIC: &str = "%RETRY%g";
pub(crate) const QUEUES: u32 = 2;
/// A pull that finds nothing is held for so long: clients ask again at once.
const HOLD: Duration = Duration::from_millis(20);

/// A broker with one topic, and one group with one member.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) address: String,
    client_id: String,
    /// How many of the answers lie, in percent.
    lying: u32,
    /// Whether it has stopped lying.
    mended: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    draws: StdRng,
    /// By topic and queue.
    queues: HashMap<(String, u32), Vec<Vec<u8>>>,
    committed: HashMap<(String, u32), i64>,
}

impl Broker {
    /// Serves until the runtime ends.
    pub(crate) async fn start(client_id: &str, mut draws: StdRng) -> io::Result<Arc<Broker>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let lying = *crate::draw::one(&mut draws, &[5, 20, 50, 90]);
        let broker = Arc::new(Broker {
            address: listener.local_addr()?.to_string(),
            client_id: client_id.to_owned(),
            lying,
            mended: watch::Sender::new(false),
            state: Mutex::new(State {
                draws,
                queues: HashMap::new(),
                committed: HashMap::new(),
            }),
        });
        for number in 0..8 {
            broker.state().store(TOPIC, number % QUEUES, 0, b"before");
        }
        let serving = Arc::clone(&broker);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        Ok(broker)
    }

    /// From now on it says nothing but the truth, and on new connections: what a lie has left half said is no answer.
    pub(crate) fn mend(&self) {
        self.mended.send_replace(true);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the client closes the connection, or a lie ends it.
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let (mut read, write) = stream.into_split();
        let write = Arc::new(tokio::sync::Mutex::new(write));
        let mut buffer = BytesMut::new();
        let mut mended = self.mended.subscribe();
        loop {
            let command = match frame::decode(&mut buffer, 64 << 20) {
                Ok(Some(command)) => command,
                Ok(None) => {
                    let more = tokio::select! {
                        biased;
                        _ = mended.changed() => false,
                        read = read.read_buf(&mut buffer) => matches!(read, Ok(1..)),
                    };
                    match more {
                        true => continue,
                        false => break,
                    }
                }
                Err(_) => break,
            };
            if command.flag & 1 == 0 {
                // A pull may be held: others are not to wait for it.
                tokio::spawn(Arc::clone(&self).reply(command, Arc::clone(&write)));
            }
        }
        // Held pulls have the other half as well.
        drop(write.lock().await.shutdown().await);
    }

    async fn reply(
        self: Arc<Self>,
        command: Command,
        write: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    ) {
        let mut answer = self.answer(&command);
        if answer.code == response::PULL_NOT_FOUND {
            sleep(HOLD).await;
            answer = self.answer(&command);
        }
        let bytes = {
            let mut state = self.state();
            let lies = !*self.mended.borrow() && state.draws.random_ratio(self.lying, 100);
            match lies {
                true => lies::tell(&mut state.draws, &command, answer),
                false => Some(answer.encode(&mut state.draws)),
            }
        };
        let mut write = write.lock().await;
        match bytes {
            Some(bytes) if command.flag & 2 == 0 => drop(write.write_all(&bytes).await),
            Some(_) => {}
            None => drop(write.shutdown().await),
        }
    }

    fn answer(&self, command: &Command) -> Frame {
        let asked = |name| command.fields.get(name).unwrap_or_default();
        let number = |name| asked(name).parse::<i64>();
        let queue = || {
            (
                asked("topic").to_owned(),
                asked("queueId").parse().unwrap_or(0),
            )
        };
        let mut answer = Frame::answer(command.opaque, Vec::new());
        let mut state = self.state();
        match command.code {
            request::GET_ROUTEINFO_BY_TOPIC => {
                let queues = match asked("topic") {
                    TOPIC => QUEUES,
                    RETRY_TOPIC => 1,
                    _ => 0,
                };
                answer.body = self.route(queues).into_bytes();
            }
            request::GET_CONSUMER_LIST_BY_GROUP => {
                answer.body = json!({"consumerIdList": [self.client_id]})
                    .to_string()
                    .into();
            }
            request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE => {
                let queue = asked("e").parse().unwrap_or(0);
                // One half of a transaction is nobody's to read yet.
                let half = number("f").is_ok_and(|flag| flag & 4 != 0);
                let offset = match half {
                    true => 0,
                    false => state.store(TOPIC, queue, 0, &command.body),
                };
                field(
                    &mut answer,
                    "msgId",
                    format!("7F00000100002A9F{:016X}", offset * 128),
                );
                field(&mut answer, "queueId", queue);
                field(&mut answer, "queueOffset", offset);
            }
            request::CONSUMER_SEND_MSG_BACK => {
                state.store(RETRY_TOPIC, 0, 1, b"again");
            }
            request::QUERY_CONSUMER_OFFSET => match state.committed.get(&queue()) {
                Some(offset) => field(&mut answer, "offset", offset),
                None => answer.code = response::QUERY_NOT_FOUND,
            },
            // Java reads longs: what is no long is an error of its own.
            request::UPDATE_CONSUMER_OFFSET => match number("commitOffset") {
                Ok(offset) => drop(state.committed.insert(queue(), offset)),
                Err(_) => answer.code = response::SYSTEM_ERROR,
            },
            request::GET_MIN_OFFSET => field(&mut answer, "offset", 0),
            request::GET_MAX_OFFSET => field(&mut answer, "offset", state.end(&queue())),
            request::PULL_MESSAGE => match number("queueOffset") {
                Ok(offset) => state.pull(&mut answer, &queue(), offset),
                Err(_) => answer.code = response::SYSTEM_ERROR,
            },
            request::LOCK_BATCH_MQ => {
                let asked: Value = serde_json::from_slice(&command.body).unwrap_or_default();
                answer.body = json!({"lockOKMQSet": asked["mqSet"]}).to_string().into();
            }
            _ => {}
        }
        answer
    }

    fn route(&self, queues: u32) -> String {
        format!(
            r#"{{"brokerDatas":[{{"brokerAddrs":{{0:"{}"}},"brokerName":"b","cluster":"c"}}],"queueDatas":[{{"brokerName":"b","perm":6,"readQueueNums":{queues},"writeQueueNums":{queues}}}]}}"#,
            self.address
        )
    }
}

impl State {
    /// Answers with its offset.
    fn store(&mut self, topic: &str, queue: u32, retries: u32, body: &[u8]) -> u64 {
        let messages = self.queues.entry((topic.to_owned(), queue)).or_default();
        let offset = messages.len() as u64;
        messages.push(stored::plain(topic, queue, offset, retries, body));
        offset
    }

    fn end(&self, queue: &(String, u32)) -> usize {
        self.queues.get(queue).map_or(0, Vec::len)
    }

    /// As `DefaultMessageStore.getMessage` answers.
    fn pull(&self, answer: &mut Frame, queue: &(String, u32), offset: i64) {
        let end = self.end(queue);
        let from = usize::try_from(offset).unwrap_or(0);
        let mut next = end;
        if offset < 0 || from > end {
            answer.code = response::PULL_OFFSET_MOVED;
        } else if from == end {
            answer.code = response::PULL_NOT_FOUND;
        } else {
            next = end.min(from + 8);
            answer.body = self.queues[queue][from..next].concat();
        }
        field(answer, "nextBeginOffset", next);
        field(answer, "minOffset", 0);
        field(answer, "maxOffset", end);
        field(answer, "suggestWhichBrokerId", 0);
    }
}

fn field(answer: &mut Frame, name: &str, value: impl ToString) {
    answer.fields.push((name.to_owned(), value.to_string()));
}

/// Draws of their own for a broker.
pub(crate) fn draws(from: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(from.next_u64())
}
