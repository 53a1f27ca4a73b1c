//! Deliveries on their way out, and what stands in the way of an assignment.

use super::{
    super::{start::Start, tests::stored_message},
    *,
};
use crate::{message, route::MessageQueue};

fn inbox(topic: &str) -> Inbox {
    let entry = Arc::new(TopicEntry::new(topic.into()));
    Inbox::new(entry, ConsumerOptions::default(), None, Arc::default())
}

#[tokio::test]
async fn delivery_that_is_being_acked_is_outstanding_until_its_queue_may_be_committed() {
    let inbox = Arc::new(inbox("orders"));
    let queue = MessageQueue {
        topic: "orders".into(),
        broker: "a".into(),
        queue: 0,
    };
    let stored = stored_message(0, "orders");
    let message = Arc::new(message::decode(stored, &queue).messages.remove(0));
    let start = Start {
        offset: 0,
        committed: None,
        address: None,
        locked: None,
        local: None,
    };
    let queue = Arc::new(ProcessQueue::new(queue, Arc::clone(&inbox.entry), start));
    let held = Held {
        queue: Arc::clone(&queue),
        message,
        attempt: 1,
    };
    assert_eq!(inbox.offer(held, 0), Offered::Taken);
    let token = inbox.receive(1, Instant::now()).await.unwrap()[0].token;
    // The ack comes as far as the window.
    let window = queue.window();
    let acking = std::thread::spawn({
        let inbox = Arc::clone(&inbox);
        move || inbox.ack(token)
    });
    let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
    while std::time::Instant::now() < until {
        assert!(inbox.has_outstanding(&queue));
        std::thread::yield_now();
    }
    drop(window);
    acking.join().unwrap().unwrap();
    assert!(!inbox.has_outstanding(&queue));
    assert_eq!(queue.window().committable(), 1);
    assert_eq!(inbox.ack(token).unwrap_err().kind(), ErrorKind::Stale);
}

#[test]
fn failure_of_an_assignment_is_its_topics_own_and_forgotten_with_the_next_success() {
    let (orders, refunds) = (inbox("orders"), inbox("refunds"));
    orders.set_not_assigned(&Error::new(ErrorKind::PermissionDenied, "no right"));
    let (kind, _) = orders.last_failure().unwrap();
    assert_eq!(kind, ErrorKind::PermissionDenied);
    assert_eq!(refunds.last_failure(), None);
    orders.set_assigned();
    assert_eq!(orders.last_failure(), None);
}
