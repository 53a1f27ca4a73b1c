//! Who is in the group, as its brokers tell together.
//!
//! A broker that was started anew lists few (`membership.rs`), others know better. So every broker is asked, and a member is one that any of them lists.
//! Java's client asks one broker, by chance (apache/rocketmq `MQClientInstance.findBrokerAddrByTopic`), and believes it.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Group,
    membership::{Listed, Members},
};
use crate::{
    client::{Client, TopicEntry},
    codes::request,
    error::{Error, ErrorKind, Result},
    fastjson,
    frame::Request,
    heartbeat,
    route::Broker,
};

/// How long the other brokers have once one has answered: one that hangs keeps nobody from the queues of the others.
const OTHERS: Duration = Duration::from_secs(1);

/// The group's members, this one among them.
///
/// # Errors
/// [`ErrorKind::Unavailable`] while no broker lists this member; that of the last broker when none answers.
pub(super) async fn members(group: &Group, entry: &TopicEntry) -> Result<Members> {
    let client = &group.client;
    let routed = entry.routed();
    let mut asking = JoinSet::new();
    for address in routed.route.brokers.iter().filter_map(Broker::answering) {
        let (client, name) = (client.clone(), Arc::clone(&group.name));
        asking.spawn(ask(client, name, Arc::clone(address)));
    }
    let mut lists = Vec::new();
    let mut failed = None;
    let mut until = None;
    loop {
        let answer = match until {
            None => asking.join_next().await,
            Some(until) => match timeout_at(until, asking.join_next()).await {
                Ok(answer) => answer,
                Err(_) => break,
            },
        };
        match answer {
            Some(Ok(Ok(listed))) => {
                lists.push(listed);
                until.get_or_insert_with(|| Instant::now() + OTHERS);
            }
            Some(Ok(Err(error))) => failed = Some(error),
            // All have answered, or the runtime ends.
            None | Some(Err(_)) => break,
        }
    }
    let own = client.client_id();
    if lists.iter().any(|list| list.ids.contains(&**own)) {
        let now = Instant::now();
        lists.iter_mut().for_each(|list| list.look_for(own, now));
        let heartbeat = client.options().heartbeat;
        return Ok(group.believe(&entry.topic, &lists, heartbeat));
    }
    // The next round may find that the brokers have heard of us.
    let _ = heartbeat::beat(client).await;
    let unlisted = || {
        let why = "no broker of the topic lists this client as a member of the group yet";
        Error::new(ErrorKind::Unavailable, why)
    };
    Err(failed.unwrap_or_else(unlisted))
}

async fn ask(client: Client, group: Arc<str>, address: Arc<str>) -> Result<Listed> {
    #[derive(Deserialize)]
    struct Ids {
        #[serde(default, rename = "consumerIdList")]
        ids: Vec<String>,
    }
    let request = Request::new(request::GET_CONSUMER_LIST_BY_GROUP).text("consumerGroup", &group);
    let answer = client
        .call(&address, "the list of members", request)
        .await?;
    let ids = fastjson::from_slice::<Ids>(&answer.body)?.ids;
    // A connection that was made anew since is younger than the one that answered.
    let since = client.connected_since(&address);
    Ok(Listed {
        since: since.unwrap_or_else(Instant::now),
        address,
        ids: ids.into_iter().collect(),
    })
}
