//! Signed requests, rights and TLS on real brokers of both generations; see `secured/clusters.rs`. Needs the feature `tls`.
#![allow(clippy::print_stdout)]

#[path = "secured/clusters.rs"]
mod clusters;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Consumer, ConsumerOptions, Credentials, CredentialsSource, Error,
    ErrorKind, Message, Persisted, Producer, ProducerOptions, Result, TlsOptions, Trust,
    admin::{Acl, GroupConfig, PlainAccount, TopicConfig, User},
};
use tokio::time::{Instant, sleep};

use crate::clusters::Secured;

const WAIT: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "of-the-application";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secured_clusters() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let scratch = env!("CARGO_TARGET_TMPDIR");
    let Some(secured) = Secured::up("secured_clusters", root, scratch) else {
        return;
    };
    let [source, target] = secured.addresses.clone();
    tokio::join!(
        one_side(&secured, "4.9.7", &source),
        one_side(&secured, "5.5.0", &target)
    );
}

async fn one_side(secured: &Secured, version: &'static str, address: &str) {
    let side = Side::prepare(secured, version, address).await;
    who_has_the_rights_sends_and_reads(&side).await;
    strangers_are_told_apart(&side).await;
    missing_rights_are_named(&side).await;
    a_token_is_signed_along(&side).await;
    new_credentials_are_taken_up(&side).await;
    over_tls(&side, secured).await;
    certificates_are_looked_at(&side, secured).await;
    side.clean_up().await;
    println!("{version}: signed requests, rights, rotation and TLS hold");
}

/// A cluster with a topic, a group, and a user who may use both and nothing else.
struct Side {
    version: &'static str,
    servers: String,
    admin: Admin,
    topic: String,
    forbidden: String,
    group: String,
    user: String,
}

impl Side {
    async fn prepare(secured: &Secured, version: &'static str, address: &str) -> Side {
        let servers = address.trim_start_matches("rocketmq://").to_owned();
        let file = &secured.credentials[usize::from(version.starts_with('5'))];
        let text = std::fs::read_to_string(file).unwrap();
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(" = "));
            lines.find(|(key, _)| *key == name).unwrap().1
        };
        let administrator = Credentials::new(value("access_key"), value("secret_key")).unwrap();
        let client = client(&servers, Some(administrator), None).unwrap();
        let side = Side {
            version,
            admin: Admin::new(&client),
            servers,
            topic: unique("topic"),
            forbidden: unique("forbidden"),
            group: unique("group"),
            user: unique("user"),
        };
        for topic in [&side.topic, &side.forbidden] {
            side.admin
                .create_topic(&TopicConfig::new(topic, 2))
                .await
                .unwrap();
        }
        side.admin
            .create_group(&GroupConfig::new(&side.group))
            .await
            .unwrap();
        side.let_in(SECRET).await;
        until("the user may send", async || {
            side.send(Some(side.user(SECRET)), &side.topic).await.ok()
        })
        .await;
        side
    }

    /// The user gets its rights and this secret, on whichever generation.
    async fn let_in(&self, secret: &str) {
        let (topic, group) = (&self.topic, &self.group);
        let master = self.admin.masters().await.unwrap().remove(0).address;
        if self.version.starts_with('4') {
            let mut account = PlainAccount::new(&self.user, secret);
            account.topic_perms = vec![format!("{topic}=PUB|SUB")];
            account.group_perms = vec![format!("{group}=SUB")];
            let before = self.admin.plain_acl_version(&master).await.unwrap();
            self.admin.put_plain_account(&account).await.unwrap();
            let after = self.admin.plain_acl_version(&master).await.unwrap();
            assert_ne!(before, after);
            let known = self.admin.plain_acl(&master).await.unwrap().unwrap();
            let own = known
                .accounts
                .iter()
                .find(|one| one.access_key == self.user);
            let own = own.expect("the account is listed");
            assert_eq!((&own.topic_perms, own.admin), (&account.topic_perms, false));
            let other = self.admin.users(&master).await.unwrap_err();
            assert_eq!(other.kind(), ErrorKind::Unsupported, "{other}");
            return;
        }
        let user = User::new(&self.user, secret);
        let known = self.admin.users(&master).await.unwrap();
        if known.iter().any(|known| known.username == self.user) {
            self.admin.update_user(&user).await.unwrap();
            return;
        }
        self.admin.create_user(&user).await.unwrap();
        let rules = [
            (&*format!("Topic:{topic}"), &["Pub", "Sub"][..]),
            (&*format!("Group:{group}"), &["Sub"][..]),
        ];
        let acl = Acl::allow(&self.user, &rules);
        self.admin.create_acl(&acl).await.unwrap();
        let known = self.admin.users(&master).await.unwrap();
        assert!(known.iter().any(|known| known.username == self.user));
        let known = self.admin.acls(&master).await.unwrap();
        let own = known.iter().find(|known| known.subject == acl.subject);
        let entries = &own.expect("the rules are listed").policies[0].entries;
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert_eq!(self.admin.plain_acl(&master).await.unwrap(), None);
    }

    fn user(&self, secret: &str) -> Credentials {
        Credentials::new(&self.user, secret).unwrap()
    }

    async fn send(&self, credentials: Option<Credentials>, topic: &str) -> Result<()> {
        send(&client(&self.servers, credentials, None)?, topic, b"one").await
    }

    async fn clean_up(&self) {
        if self.version.starts_with('4') {
            self.admin.delete_plain_account(&self.user).await.unwrap();
        } else {
            self.admin.delete_acl(&self.user, None).await.unwrap();
            self.admin.delete_user(&self.user).await.unwrap();
        }
        self.admin.delete_group(&self.group).await.unwrap();
        for topic in [&self.topic, &self.forbidden] {
            self.admin.delete_topic(topic).await.unwrap();
        }
    }
}

fn unique(what: &str) -> String {
    format!("secured-{what}-{:08x}", rand::random::<u32>())
}

fn client(
    servers: &str,
    credentials: Option<Credentials>,
    tls: Option<TlsOptions>,
) -> Result<Client> {
    let mut options = ClientOptions::new(servers.split(';'), unique("client"));
    options.credentials = credentials.map(Into::into);
    options.tls = tls;
    Client::new(options)
}

async fn until<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn send(client: &Client, topic: &str, body: &'static [u8]) -> Result<()> {
    let producer = Producer::new(client, topic, ProducerOptions::default()).await?;
    let message = Message::new(Bytes::from_static(body));
    producer.send(&message, 0, WAIT).await.map(drop)
}

/// Reads until nothing comes for a moment; acks everything.
async fn read_all(client: &Client, topic: &str, group: &str) -> Result<usize> {
    let consumer = Consumer::new(client, topic, group, ConsumerOptions::default()).await?;
    consumer.ready().await?;
    let mut count = 0;
    loop {
        let deliveries = consumer.receive(32, Duration::from_secs(3)).await?;
        if deliveries.is_empty() {
            break;
        }
        for delivery in deliveries {
            consumer.ack(delivery.token)?;
            count += 1;
        }
    }
    consumer.close().await?;
    Ok(count)
}

fn denied(error: &Error, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{text}");
    assert_eq!(error.persisted(), Persisted::No, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    println!("{text}");
}

async fn who_has_the_rights_sends_and_reads(side: &Side) {
    let client = client(&side.servers, Some(side.user(SECRET)), None).unwrap();
    send(&client, &side.topic, b"two").await.unwrap();
    let read = read_all(&client, &side.topic, &side.group).await.unwrap();
    assert!(read >= 2, "{read}");
}

async fn strangers_are_told_apart(side: &Side) {
    let error = side.send(None, &side.topic).await.unwrap_err();
    denied(&error, &["signed requests", "no access key is set"]);
    let unknown = Credentials::new("secured-nobody", SECRET).unwrap();
    for wrong in [side.user("something-else"), unknown] {
        let error = side.send(Some(wrong), &side.topic).await.unwrap_err();
        denied(&error, &["wrong access key or secret key"]);
    }
}

async fn missing_rights_are_named(side: &Side) {
    let user = || Some(side.user(SECRET));
    let error = side.send(user(), &side.forbidden).await.unwrap_err();
    denied(
        &error,
        &["lacks a right", &side.forbidden, "PUB on the topic"],
    );
    let client = client(&side.servers, user(), None).unwrap();
    let group = unique("other");
    let error = read_all(&client, &side.topic, &group).await.unwrap_err();
    denied(
        &error,
        &["lacks a right", &group, "SUB on the topic and on the group"],
    );
    let admin = Admin::new(&client);
    let config = TopicConfig::new(&unique("new"), 1);
    let error = admin.create_topic(&config).await.unwrap_err();
    denied(&error, &["lacks a right"]);
}

async fn a_token_is_signed_along(side: &Side) {
    let token = side.user(SECRET).with_security_token("a token").unwrap();
    side.send(Some(token), &side.topic).await.unwrap();
}

/// Whatever stands in it now.
#[derive(Clone, Debug)]
struct Shelf(Arc<Mutex<Credentials>>);

impl CredentialsSource for Shelf {
    fn read(&self) -> Result<Credentials> {
        Ok(self.0.lock().unwrap().clone())
    }
}

async fn new_credentials_are_taken_up(side: &Side) {
    let shelf = Shelf(Arc::new(Mutex::new(side.user(SECRET))));
    let mut options = ClientOptions::new([&*side.servers], unique("client"));
    options.credentials = Some(Arc::new(shelf.clone()));
    let rotating = Client::new(options).unwrap();
    let producer = Producer::new(&rotating, &side.topic, ProducerOptions::default())
        .await
        .unwrap();
    let message = Message::new(Bytes::from_static(b"three"));
    producer.send(&message, 0, WAIT).await.unwrap();
    side.let_in("the-next-secret").await;
    // The broker may go by the old secret for a moment.
    until("the old secret is refused", async || {
        side.send(Some(side.user(SECRET)), &side.topic).await.err()
    })
    .await;
    let error = producer.send(&message, 0, WAIT).await.unwrap_err();
    denied(&error, &["wrong access key or secret key"]);
    *shelf.0.lock().unwrap() = side.user("the-next-secret");
    // Read at most once a second.
    until("the new secret is used", async || {
        producer.send(&message, 0, WAIT).await.ok()
    })
    .await;
    side.let_in(SECRET).await;
    until("the first secret is back", async || {
        side.send(Some(side.user(SECRET)), &side.topic).await.ok()
    })
    .await;
}

async fn over_tls(side: &Side, secured: &Secured) {
    static LARGE: [u8; 1 << 20] = [7; 1 << 20];
    let tls = TlsOptions {
        trust: Trust::File(secured.certificate("ca.pem")),
        identity: Some((
            secured.certificate("client.pem"),
            secured.certificate("client.key"),
        )),
        server_name: None,
    };
    let client = client(&side.servers, Some(side.user(SECRET)), Some(tls)).unwrap();
    send(&client, &side.topic, &LARGE).await.unwrap();
    let read = read_all(&client, &side.topic, &side.group).await.unwrap();
    assert!(read > 0);
}

async fn certificates_are_looked_at(side: &Side, secured: &Secured) {
    let ask = async |trust: Trust, name: Option<&str>| {
        let tls = TlsOptions {
            trust,
            server_name: name.map(str::to_owned),
            ..TlsOptions::default()
        };
        let client = client(&side.servers, Some(side.user(SECRET)), Some(tls))?;
        client.route(&side.topic).await.map(drop)
    };
    let ca = || Trust::File(secured.certificate("ca.pem"));
    ask(ca(), Some("broker.crossfade.test")).await.unwrap();
    ask(Trust::Anybody, Some("elsewhere.test")).await.unwrap();
    for (trust, name) in [
        (ca(), Some("elsewhere.test")),
        (Trust::File(secured.certificate("other-ca.pem")), None),
    ] {
        let error = ask(trust, name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("is not trusted"), "{error}");
        println!("{error}");
    }
}
