import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.hook.SendMessageContext;
import org.apache.rocketmq.client.hook.SendMessageHook;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Sends every type of message to PREFIX-theirs and PREFIX-theirs-ordered. */
class Sender {
    private static final String GREEN = "\u7eff";

    private final Events events;
    private final String topic;
    private final List<DefaultMQProducer> producers = new ArrayList<>();
    private final DefaultMQProducer plain;
    private final DefaultMQProducer lz4;
    private final DefaultMQProducer zstd;
    private final TransactionMQProducer transactions;

    Sender(Events events, String nameServer, String prefix) throws Exception {
        this.events = events;
        topic = prefix + "-theirs";
        // A producer asks for the method of compression when it is made.
        lz4 = start(new DefaultMQProducer(group(prefix, "LZ4")), nameServer);
        zstd = start(new DefaultMQProducer(group(prefix, "ZSTD")), nameServer);
        plain = start(new DefaultMQProducer(group(prefix, "ZLIB")), nameServer);
        transactions = new TransactionMQProducer(prefix + "-transactions");
        transactions.setTransactionListener(new Listener());
        start(transactions, nameServer);
    }

    private static String group(String prefix, String compression) {
        System.setProperty("rocketmq.message.compressType", compression);
        return prefix + "-" + compression;
    }

    private <P extends DefaultMQProducer> P start(P producer, String nameServer) throws Exception {
        producer.setNamesrvAddr(nameServer);
        producer.setSendMsgTimeout(10_000);
        producer.setMqClientApiTimeout(20_000);
        producer.start();
        producers.add(producer);
        return producer;
    }

    void sendAll() throws Exception {
        // First what takes longest: brokers ask for the end of a transaction after a minute. They ask in the order of the half messages.
        for (String id : List.of("commit", "rollback", "check-rollback", "check-commit")) {
            Message message = message("transaction", "transaction-" + id);
            stored(message, insist(() -> transactions.sendMessageInTransaction(message, null)));
        }
        Message retried = message("retry", "retry-0");
        stored(retried, insist(() -> plain.send(retried)));
        Message delayed = message("delayed", "delayed-0");
        delayed.setDelayTimeLevel(1);
        stored(delayed, insist(() -> plain.send(delayed)));
        for (int i = 0; i < 4; i++) {
            Message message = message("normal", "normal-" + i);
            message.setTags(i % 2 == 0 ? "red" : GREEN);
            stored(message, insist(() -> plain.send(message)));
        }
        Message unwanted = message("normal", "unwanted-0");
        unwanted.setTags("blue");
        stored(unwanted, insist(() -> plain.send(unwanted)));
        large("zlib", plain);
        large("lz4", lz4);
        large("zstd", zstd);
        List<Message> batch = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            batch.add(message("batch", "batch-" + i));
        }
        SendResult result = insist(() -> plain.send(batch));
        for (Message message : batch) {
            stored(message, result);
        }
        ordered();
    }

    /** Four keys in turn, each in the queue that its hash picks. */
    private void ordered() throws Exception {
        for (int i = 0; i < 24; i++) {
            String key = "key-" + i % 4;
            Message message = message(i == 9 ? "stumble" : "ordered", "ordered-" + i);
            message.setTopic(topic + "-ordered");
            message.putUserProperty("ordering", key);
            message.putUserProperty("number", String.valueOf(i));
            stored(message, insist(() -> plain.send(message, (queues, m, hash) -> queues.get(Math.floorMod((Integer) hash, queues.size())), key.hashCode())));
        }
    }

    private void large(String method, DefaultMQProducer producer) throws Exception {
        Message message = message("large", "large-" + method);
        message.setBody(("large-" + method + " " + "lorem ipsum \u4e2d\u6587 ".repeat(1000)).getBytes(StandardCharsets.UTF_8));
        message.putUserProperty("method", method);
        Wire wire = new Wire();
        producer.getDefaultMQProducerImpl().registerSendMessageHook(wire);
        SendResult result = insist(() -> producer.send(message));
        // What the broker has been given: a failure to compress would be silent.
        message.putUserProperty("wire", wire.start);
        stored(message, result);
    }

    /** Sees a message after it was compressed. */
    private static class Wire implements SendMessageHook {
        String start = "";

        @Override
        public String hookName() {
            return "wire";
        }

        @Override
        public void sendMessageBefore(SendMessageContext context) {
            byte[] body = context.getMessage().getBody();
            start = String.format("%02x%02x%02x%02x", body[0], body[1], body[2], body[3]);
        }

        @Override
        public void sendMessageAfter(SendMessageContext context) {
            // Nothing more to see.
        }
    }

    private Message message(String kind, String id) {
        Message message = new Message(topic, "red", id + " key-two", (id + " Gr\u00fc\u00dfe \u4e2d\u6587 \ud83d\ude00").getBytes(StandardCharsets.UTF_8));
        message.putUserProperty("kind", kind);
        message.putUserProperty("id", id);
        message.putUserProperty("text", "a \"=\\ b \u4e2d\u6587 \ud83d\ude00 \u00fc");
        message.putUserProperty("\u043a\u043b\u044e\u0447", "1");
        return message;
    }

    private interface Send {
        SendResult run() throws Exception;
    }

    /** A broker on a busy machine turns requests away. */
    private static SendResult insist(Send send) throws Exception {
        for (int tries = 1; ; tries++) {
            try {
                return send.run();
            } catch (Exception error) {
                if (tries == 50 || !busy(error)) {
                    throw error;
                }
                Thread.sleep(100);
            }
        }
    }

    private static boolean busy(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            // RemotingSysResponseCode.SYSTEM_BUSY
            if (cause instanceof MQBrokerException && ((MQBrokerException) cause).getResponseCode() == 2) {
                return true;
            }
        }
        return false;
    }

    private void stored(Message message, SendResult result) {
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            throw new IllegalStateException(message + ": " + result);
        }
        events.sent(message, result);
    }

    void shutdown() {
        producers.forEach(DefaultMQProducer::shutdown);
    }

    /** What a transaction's id ends with is its end; with "check" in it only the broker's question is answered. */
    private class Listener implements TransactionListener {
        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
            String id = message.getUserProperty("id");
            return id.contains("check") ? LocalTransactionState.UNKNOW : end(id);
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt message) {
            events.checked(message);
            return end(message.getUserProperty("id"));
        }

        private LocalTransactionState end(String id) {
            return id.endsWith("commit") ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
        }
    }
}
