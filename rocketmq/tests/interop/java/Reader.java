import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/** Handles what comes in PREFIX-ours and PREFIX-ours-ordered. A message whose property `kind` is `retry` or `stumble` fails the first time. */
class Reader {
    private final DefaultMQPushConsumer concurrent;
    private final DefaultMQPushConsumer ordered;

    Reader(Events events, String nameServer, String prefix) throws Exception {
        concurrent = consumer(nameServer, prefix + "-theirs");
        concurrent.subscribe(prefix + "-ours", "red || \u7eff");
        concurrent.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            events.handled("concurrent", message);
            if ("retry".equals(message.getUserProperty("kind")) && message.getReconsumeTimes() == 0) {
                // One second.
                context.setDelayLevelWhenNextConsume(1);
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        concurrent.start();

        ordered = consumer(nameServer, prefix + "-theirs-ordered");
        ordered.subscribe(prefix + "-ours-ordered", "*");
        ordered.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            MessageExt message = messages.get(0);
            events.handled("ordered", message);
            if ("stumble".equals(message.getUserProperty("kind")) && message.getReconsumeTimes() == 0) {
                context.setSuspendCurrentQueueTimeMillis(100);
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        ordered.start();
    }

    static DefaultMQPushConsumer consumer(String nameServer, String group) {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(nameServer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // For brokers and name servers on a busy machine.
        consumer.setMqClientApiTimeout(20_000);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        return consumer;
    }

    void shutdown() {
        concurrent.shutdown();
        ordered.shutdown();
    }
}
