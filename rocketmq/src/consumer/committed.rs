//! Asking what a group has committed.

use std::{collections::BTreeMap, sync::Arc};

use super::offset;
use crate::{
    client::{Client, TopicEntry},
    error::{Error, ErrorKind, Result},
    route::MessageQueue,
    together::together,
};

impl Client {
    /// The offsets that a group has committed in some queues, in their order, asked from the queues' masters all at once; a member's rights are enough.
    /// `None` where it never committed; 4.9 says 0 there while the queue's first messages are kept, and 5.x while they are in memory.
    ///
    /// # Errors
    /// [`ErrorKind::TopicNotFound`]; [`ErrorKind::Unavailable`] when a broker has no master now; no answer, or a refusal. The first of them.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn committed(
        &self,
        group: &str,
        queues: &[MessageQueue],
    ) -> Result<Vec<Option<u64>>> {
        let mut entries: BTreeMap<Arc<str>, Arc<TopicEntry>> = BTreeMap::new();
        let group: Arc<str> = group.into();
        let mut asking = Vec::with_capacity(queues.len());
        for queue in queues {
            let entry = match entries.get(&queue.topic) {
                Some(entry) => Arc::clone(entry),
                None => {
                    let entry = self.topic(&queue.topic).await?;
                    entries.insert(Arc::clone(&queue.topic), Arc::clone(&entry));
                    entry
                }
            };
            let routed = entry.routed();
            let master = routed.route.master(&queue.broker).cloned();
            let master = master.ok_or_else(|| {
                let why = format!("broker {} has no master now", queue.broker);
                Error::new(ErrorKind::Unavailable, why)
            })?;
            let (client, group, queue) = (self.clone(), Arc::clone(&group), queue.clone());
            asking.push(async move { offset::query(&client, &group, &queue, &master).await });
        }
        together(asking).await
    }
}
