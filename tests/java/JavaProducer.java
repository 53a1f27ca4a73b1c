import java.nio.charset.StandardCharsets;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * JavaProducer NAMESERVER TOPIC COUNT PREFIX: sends COUNT messages, body and key PREFIX-0, PREFIX-1, ..., tag "java", and prints "sent TAB body"
 * once it is stored. (The client prints lines of its own, too.)
 */
public class JavaProducer {
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
        DefaultMQProducer producer = new DefaultMQProducer("java-producer");
        producer.setNamesrvAddr(args[0]);
        producer.start();
        for (int i = 0; i < Integer.parseInt(args[2]); i++) {
            String id = args[3] + "-" + i;
            Message message = new Message(args[1], "java", id, id.getBytes(StandardCharsets.UTF_8));
            message.putUserProperty("origin", "java " + i);
            SendResult result = producer.send(message, 10_000);
            if (result.getSendStatus() != SendStatus.SEND_OK) {
                throw new IllegalStateException(result.toString());
            }
            System.out.println("sent\t" + id);
        }
        producer.shutdown();
    }
}
