import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** What happens on one cluster, as JSON lines on standard output. */
class Events {
    private final String cluster;

    Events(String cluster) {
        this.cluster = cluster;
    }

    /** A message is stored; of a batch the answer has no queue and place of each. */
    void sent(Message message, SendResult result) {
        print("sent", message, Map.of(
            "message_id", result.getMsgId(),
            "queue", result.getMessageQueue().getQueueId(),
            "offset", result.getQueueOffset()));
    }

    /** A reader's listener has a message; `reader` is `concurrent` or `ordered`. */
    void handled(String reader, MessageExt message) {
        print("handled", message, Map.of(
            "reader", reader,
            "message_id", message.getMsgId(),
            "attempt", message.getReconsumeTimes() + 1,
            "queue", message.getQueueId(),
            "offset", message.getQueueOffset()));
    }

    /** The broker asked for the end of a transaction. */
    void checked(MessageExt message) {
        print("checked", message, Map.of("message_id", message.getMsgId()));
    }

    private void print(String event, Message message, Map<String, Object> more) {
        CRC32 crc = new CRC32();
        crc.update(message.getBody());
        TreeMap<String, Object> all = new TreeMap<>(more);
        all.put("cluster", cluster);
        all.put("event", event);
        all.put("topic", message.getTopic());
        all.put("body_bytes", message.getBody().length);
        all.put("body_crc32", crc.getValue());
        all.put("at_ms", System.currentTimeMillis());
        all.put("properties", new TreeMap<>(message.getProperties()));
        StringBuilder line = new StringBuilder();
        json(line, all);
        synchronized (Events.class) {
            System.out.println(line);
        }
    }

    private static void json(StringBuilder out, Object value) {
        if (value instanceof Map) {
            String separator = "{";
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                out.append(separator);
                separator = ",";
                json(out, entry.getKey());
                out.append(':');
                json(out, entry.getValue());
            }
            out.append(separator.equals("{") ? "{}" : "}");
        } else if (value instanceof Number) {
            out.append(value);
        } else {
            out.append('"');
            for (char c : String.valueOf(value).toCharArray()) {
                // ASCII alone: the console's encoding is not known.
                if (c < ' ' || c > '~' || c == '"' || c == '\\') {
                    out.append(String.format("\\u%04x", (int) c));
                } else {
                    out.append(c);
                }
            }
            out.append('"');
        }
    }
}
