import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;

/**
 * Member SECONDS NAME,NAMESERVER,PREFIX...: on each cluster is a member of the groups PREFIX-shared, PREFIX-ordered and PREFIX-broadcast, which have others, and of
 * PREFIX-sql-java; each reads the topic of its name (PREFIX-sql). Prints what it handles as {@link Interop} does, and ends as that does.
 */
public class Member {
    public static void main(String[] args) {
        try {
            run(args);
            System.exit(0);
        } catch (Exception error) {
            // The client's threads would keep the program alive.
            error.printStackTrace();
            System.exit(1);
        }
    }

    static void run(String[] args) throws Exception {
        CountDownLatch ended = new CountDownLatch(1);
        Thread input = new Thread(() -> Interop.awaitEnd(ended));
        input.setDaemon(true);
        input.start();

        List<DefaultMQPushConsumer> members = new ArrayList<>();
        for (int i = 1; i < args.length; i++) {
            String[] cluster = args[i].split(",");
            join(members, new Events(cluster[0]), cluster[1], cluster[2]);
        }
        if (!ended.await(Long.parseLong(args[0]), TimeUnit.SECONDS)) {
            throw new IllegalStateException("standard input has not ended within " + args[0] + " s");
        }
        for (DefaultMQPushConsumer member : members) {
            member.shutdown();
        }
    }

    private static void join(List<DefaultMQPushConsumer> members, Events events, String nameServer, String prefix) throws Exception {
        DefaultMQPushConsumer shared = member(members, nameServer, prefix + "-shared");
        shared.subscribe(prefix + "-shared", "*");
        shared.registerMessageListener(concurrently(events, "shared"));
        shared.start();

        DefaultMQPushConsumer ordered = member(members, nameServer, prefix + "-ordered");
        ordered.subscribe(prefix + "-ordered", "*");
        ordered.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(message -> events.handled("ordered", message));
            return ConsumeOrderlyStatus.SUCCESS;
        });
        ordered.start();

        DefaultMQPushConsumer broadcast = member(members, nameServer, prefix + "-broadcast");
        broadcast(broadcast);
        broadcast.subscribe(prefix + "-broadcast", "*");
        broadcast.registerMessageListener(concurrently(events, "broadcast"));
        broadcast.start();

        DefaultMQPushConsumer sql = member(members, nameServer, prefix + "-sql-java");
        sql.subscribe(prefix + "-sql", MessageSelector.bySql("price > 10 AND region = 'north'"));
        sql.registerMessageListener(concurrently(events, "sql"));
        sql.start();
    }

    /** `MessageModel` lies in another package in 5.x than in 4.9. */
    private static void broadcast(DefaultMQPushConsumer member) throws Exception {
        Class<?> model = member.getMessageModel().getClass();
        Object value = model.getField("BROADCASTING").get(null);
        DefaultMQPushConsumer.class.getMethod("setMessageModel", model).invoke(member, value);
    }

    private static MessageListenerConcurrently concurrently(Events events, String reader) {
        return (messages, context) -> {
            messages.forEach(message -> events.handled(reader, message));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        };
    }

    private static DefaultMQPushConsumer member(List<DefaultMQPushConsumer> members, String nameServer, String group) {
        DefaultMQPushConsumer member = Reader.consumer(nameServer, group);
        members.add(member);
        return member;
    }
}
