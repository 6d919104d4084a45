import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import org.h2.mvstore.MVStore;

/**
 * mongo-java-server as the tests need it: {@code java Server PORT FILE}.
 *
 * <p>A write is answered after it is in the file. So it survives a SIGKILL, like a write in mongod's journal. The
 * command configureFailPoint with failCommand works like MongoDB's, as far as the tests use it. The server reports
 * MongoDB 4.4 as its version, because pymongo supports no older one.
 */
public final class Server extends H2Backend {
    private static final Set<String> WRITES = Set.of("insert", "update", "delete", "createIndexes", "drop");

    private volatile Document failure = new Document();

    private Server(MVStore store) {
        super(store);
        version(new FourFour());
    }

    public static void main(String[] arguments) {
        MVStore store = new MVStore.Builder().fileName(arguments[1]).autoCommitDisabled().open();
        new MongoServer(new Server(store)).bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }

    @Override
    public Document handleMessage(MongoMessage message) {
        Document query = message.getDocument();
        String command = query.keySet().iterator().next();
        if (command.equals("configureFailPoint")) {
            failure = "off".equals(query.get("mode")) ? new Document() : (Document) query.get("data");
            return new Document("ok", 1.0);
        }
        if (((Collection<?>) failure.getOrDefault("failCommands", List.of())).contains(command)) {
            throw new MongoServerError((Integer) failure.get("errorCode"), "told to fail");
        }
        Document answer = super.handleMessage(message);
        if (WRITES.contains(command)) {
            synchronized (this) {
                commit();
            }
        }
        return answer;
    }

    private static final class FourFour implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }
}
