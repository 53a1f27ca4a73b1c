import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Interop SECONDS NAME,NAMESERVER,PREFIX...: on each cluster sends every type of message to the topics PREFIX-theirs and PREFIX-theirs-ordered, and handles
 * what comes in PREFIX-ours and PREFIX-ours-ordered. Prints one JSON object a line for each thing that happens ({@link Events}); the client prints lines of
 * its own, too. Ends well when standard input ends, badly when that takes longer than SECONDS or something fails.
 */
public class Interop {
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
        Thread input = new Thread(() -> awaitEnd(ended));
        input.setDaemon(true);
        input.start();

        List<Reader> readers = new ArrayList<>();
        List<Sender> senders = new ArrayList<>();
        for (int i = 1; i < args.length; i++) {
            String[] cluster = args[i].split(",");
            Events events = new Events(cluster[0]);
            readers.add(new Reader(events, cluster[1], cluster[2]));
            senders.add(new Sender(events, cluster[1], cluster[2]));
        }
        for (Sender sender : senders) {
            sender.sendAll();
        }
        if (!ended.await(Long.parseLong(args[0]), TimeUnit.SECONDS)) {
            throw new IllegalStateException("standard input has not ended within " + args[0] + " s");
        }
        for (Reader reader : readers) {
            reader.shutdown();
        }
        for (Sender sender : senders) {
            sender.shutdown();
        }
    }

    static void awaitEnd(CountDownLatch ended) {
        try {
            while (System.in.read() >= 0) {
                // What is written there means nothing.
            }
        } catch (java.io.IOException error) {
            // As good as its end.
        }
        ended.countDown();
    }
}
