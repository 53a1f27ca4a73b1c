//! Who is in the group, as its brokers tell together.
//!
//! A broker that was started anew lists only those members whose heartbeats it has had since. Whoever divides the queues by such a list takes those of others, who
//! read on: all of it is handled twice until they look again. So every broker is asked, and a member is one that any of them lists. Java's client asks one broker, by
//! chance (apache/rocketmq `MQClientInstance.findBrokerAddrByTopic`).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::Group;
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

/// The group's members, sorted, this one among them.
///
/// # Errors
/// [`ErrorKind::Unavailable`] while no broker lists this member; that of the last broker when none answers.
pub(super) async fn members(group: &Group, entry: &TopicEntry) -> Result<Vec<String>> {
    let client = &group.client;
    let routed = entry.routed();
    let mut asking = JoinSet::new();
    for address in routed.route.brokers.iter().filter_map(Broker::answering) {
        let (client, name) = (client.clone(), Arc::clone(&group.name));
        asking.spawn(ask(client, name, Arc::clone(address)));
    }
    let mut ids = BTreeSet::new();
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
                ids.extend(listed);
                until.get_or_insert_with(|| Instant::now() + OTHERS);
            }
            Some(Ok(Err(error))) => failed = Some(error),
            // All have answered, or the runtime ends.
            None | Some(Err(_)) => break,
        }
    }
    if ids.contains(&**client.client_id()) {
        return Ok(ids.into_iter().collect());
    }
    // The next round may find that the brokers have heard of us.
    let _ = heartbeat::beat(client).await;
    let unlisted = || {
        let why = "no broker of the topic lists this client as a member of the group yet";
        Error::new(ErrorKind::Unavailable, why)
    };
    Err(failed.unwrap_or_else(unlisted))
}

async fn ask(client: Client, group: Arc<str>, address: Arc<str>) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default, rename = "consumerIdList")]
        ids: Vec<String>,
    }
    let request = Request::new(request::GET_CONSUMER_LIST_BY_GROUP).text("consumerGroup", &group);
    let answer = client
        .call(&address, "the list of members", request)
        .await?;
    Ok(fastjson::from_slice::<Members>(&answer.body)?.ids)
}
