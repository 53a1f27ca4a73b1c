import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.LongStream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * JavaBench NAMESERVER: obeys lines on standard input, one JSON line each on standard output.
 *   send TOPIC BODY THREADS MILLISECONDS: synchronous sends of BODY bytes, one at a time in each thread
 *   read TOPIC GROUP COUNT: a new group reads COUNT messages; the clock runs from the first to the last
 * Made for the clients 4.9.7 and 5.5.0.
 */
public class JavaBench {
    static String nameServer;
    static DefaultMQProducer producer;
    /** ResponseCode's SYSTEM_BUSY and FLOW_CONTROL; the class has moved in 5.x. */
    static final int SYSTEM_BUSY = 2;
    static final int FLOW_CONTROL = 215;

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
        nameServer = args[0];
        producer = new DefaultMQProducer("java-bench");
        producer.setNamesrvAddr(nameServer);
        // What is refused is counted, not hidden by another try; and the other client does not compress.
        producer.setRetryTimesWhenSendFailed(0);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.start();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("send")) {
                send(words[1], Integer.parseInt(words[2]), Integer.parseInt(words[3]), Long.parseLong(words[4]));
            } else {
                read(words[1], words[2], Long.parseLong(words[3]));
            }
        }
        producer.shutdown();
    }

    static void send(String topic, int body, int threads, long milliseconds) throws Exception {
        long[][] times = new long[threads][];
        Thread[] senders = new Thread[threads];
        AtomicLong refused = new AtomicLong();
        long begun = System.nanoTime();
        long end = begun + milliseconds * 1_000_000;
        for (int t = 0; t < threads; t++) {
            int index = t;
            senders[t] = new Thread(() -> times[index] = sendUntil(topic, new byte[body], end, refused));
            senders[t].start();
        }
        for (Thread sender : senders) {
            sender.join();
        }
        double seconds = (System.nanoTime() - begun) / 1e9;
        long[] all = Arrays.stream(times).flatMapToLong(LongStream::of).sorted().toArray();
        System.out.printf("{\"messages\":%d,\"seconds\":%.6f,\"refused\":%d,\"p50_us\":%.1f,\"p99_us\":%.1f}%n",
            all.length, seconds, refused.get(), microseconds(all, all.length / 2), microseconds(all, all.length * 99 / 100));
    }

    static double microseconds(long[] times, int index) {
        return index < times.length ? times[index] / 1e3 : 0;
    }

    static long[] sendUntil(String topic, byte[] body, long end, AtomicLong refused) {
        long[] times = new long[1024];
        int count = 0;
        try {
            for (long now = System.nanoTime(); now < end; ) {
                boolean stored = send(topic, body);
                long after = System.nanoTime();
                if (!stored) {
                    refused.incrementAndGet();
                } else {
                    if (count == times.length) {
                        times = Arrays.copyOf(times, 2 * count);
                    }
                    times[count++] = after - now;
                }
                now = after;
            }
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
        return Arrays.copyOf(times, count);
    }

    /** False if the broker is busy and has refused it. */
    static boolean send(String topic, byte[] body) throws Exception {
        try {
            producer.send(new Message(topic, body));
            return true;
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (cause instanceof MQBrokerException) {
                    int code = ((MQBrokerException) cause).getResponseCode();
                    if (code == SYSTEM_BUSY || code == FLOW_CONTROL) {
                        return false;
                    }
                }
            }
            throw error;
        }
    }

    static void read(String topic, String group, long count) throws Exception {
        AtomicLong handled = new AtomicLong();
        AtomicLong first = new AtomicLong();
        AtomicLong last = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(nameServer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            long before = handled.getAndAdd(messages.size());
            if (before == 0) {
                first.set(System.nanoTime());
            }
            if (before < count && before + messages.size() >= count) {
                last.set(System.nanoTime());
                done.countDown();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        if (!done.await(60, TimeUnit.SECONDS)) {
            System.err.println("only " + handled + " of " + count + " messages came in 60 s");
            System.exit(1);
        }
        consumer.shutdown();
        System.out.printf("{\"messages\":%d,\"seconds\":%.6f}%n", count, (last.get() - first.get()) / 1e9);
    }
}
