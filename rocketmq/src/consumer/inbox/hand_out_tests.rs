//! What may be handed out under a lock.

use std::time::Duration;

use super::{
    super::{moment::Moment, start::Start, tests::stored_message},
    *,
};
use crate::{message, route::MessageQueue};

/// An inbox with `count` messages of a queue that is locked since now.
fn locked(count: u64) -> (Inbox, Arc<ProcessQueue>) {
    let topic = Arc::new(TopicEntry::new("t".into()));
    let queue = MessageQueue {
        topic: "t".into(),
        broker: "b".into(),
        queue: 0,
    };
    let inbox = Inbox::new(
        Arc::clone(&topic),
        ConsumerOptions::default(),
        None,
        Arc::default(),
    );
    let start = Start {
        offset: 0,
        committed: None,
        address: None,
        locked: Some(Moment::now()),
        local: None,
    };
    let locked = Arc::new(ProcessQueue::new(queue.clone(), topic, start));
    for offset in 0..count {
        let mut stored = message::decode(stored_message(offset, "t"), &queue).messages;
        let held = Held {
            queue: Arc::clone(&locked),
            message: Arc::new(stored.remove(0)),
            attempt: 1,
        };
        assert_eq!(inbox.offer(held, offset), Offered::Taken);
    }
    (inbox, locked)
}

#[tokio::test(start_paused = true)]
async fn delivery_under_a_lock_that_got_too_old_may_not_be_handed_out_and_can_be_let_go() {
    let (inbox, queue) = locked(2);
    let held = inbox.receive(2, Instant::now()).await.unwrap();
    let token = held[0].token;
    assert!(inbox.may_hand_out(token));
    assert_eq!(inbox.let_go(token).unwrap_err().kind(), ErrorKind::Stale);
    // As after a process that stood still.
    tokio::time::advance(Duration::from_secs(90)).await;
    assert!(!inbox.may_hand_out(token));
    inbox.let_go(token).unwrap();
    assert_eq!(inbox.let_go(token).unwrap_err().kind(), ErrorKind::Stale);
    assert!(!inbox.may_hand_out(token));
    // What a handler has can still be acked, and what was let go was not: the offset stays before it.
    inbox.ack(held[1].token).unwrap();
    assert_eq!(queue.window().committable(), 0);
}

#[tokio::test(start_paused = true)]
async fn delivery_of_a_queue_that_goes_to_another_member_may_not_be_handed_out() {
    let (inbox, queue) = locked(1);
    let held = inbox.receive(1, Instant::now()).await.unwrap();
    assert!(inbox.may_hand_out(held[0].token));
    queue.leave();
    assert!(!inbox.may_hand_out(held[0].token));
    inbox.let_go(held[0].token).unwrap();
}
