package fanfare;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.signalr.HttpHubConnectionBuilder;
import com.microsoft.signalr.HubConnection;
import com.microsoft.signalr.HubConnectionBuilder;
import com.microsoft.signalr.HubConnectionState;
import com.microsoft.signalr.HubException;
import com.microsoft.signalr.TransportEnum;
import io.reactivex.rxjava3.core.Observable;
import io.reactivex.rxjava3.core.Single;
import io.reactivex.rxjava3.disposables.Disposable;
import io.reactivex.rxjava3.subjects.ReplaySubject;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The stock Java client in each way that it connects. JSON: its MessagePack is another package. */
@Timeout(60)
class JavaClientTest {
    /** The transports of the client. */
    enum Way {
        WebSockets(TransportEnum.WEBSOCKETS, false),
        LongPolling(TransportEnum.LONG_POLLING, false),
        skipNegotiation(TransportEnum.WEBSOCKETS, true);

        final TransportEnum transport;
        final boolean skip;

        Way(TransportEnum transport, boolean skip) {
            this.transport = transport;
            this.skip = skip;
        }

        String transportName() {
            return this == LongPolling ? "LongPolling" : "WebSockets";
        }
    }

    private static final int WAIT_S = 10;
    private static final List<String> STRINGS = List.of(
            "", "plain", "quotes \" and \\", "a\u001eb\u001e", "é ß 汉字 😀", "line\r\n\u2028", "x汉".repeat(2000));
    private static Testhub testhub;

    @BeforeAll
    static void start() throws Exception {
        testhub = Testhub.running();
    }

    @AfterAll
    static void stop() throws Exception {
        testhub.close();
    }

    private static HttpHubConnectionBuilder builder(Testhub server, Way way, String path) {
        return HubConnectionBuilder.create(server.url + path).withTransport(way.transport).shouldSkipNegotiate(way.skip);
    }

    private static HubConnection started(HubConnection hub) {
        assertTrue(hub.start().blockingAwait(WAIT_S, TimeUnit.SECONDS), "started in time");
        return hub;
    }

    private static HubConnection connect(Way way) {
        return started(builder(testhub, way, "/testhub").build());
    }

    private static HubConnection connectAs(Way way, String user) {
        return started(builder(testhub, way, "/authorizedhub")
                .withAccessTokenProvider(Single.defer(() -> Single.just(Testhub.token(user))))
                .build());
    }

    private static void stopped(HubConnection... hubs) {
        for (HubConnection hub : hubs) {
            assertTrue(hub.stop().blockingAwait(WAIT_S, TimeUnit.SECONDS), "stopped in time");
        }
    }

    private static <T> T call(HubConnection hub, Class<T> type, String method, Object... arguments) {
        return hub.invoke(type, method, arguments).timeout(WAIT_S, TimeUnit.SECONDS).blockingGet();
    }

    private static void run(HubConnection hub, String method, Object... arguments) {
        hub.invoke(method, arguments).timeout(WAIT_S, TimeUnit.SECONDS).blockingAwait();
    }

    private static String failure(HubConnection hub, String method, Object... arguments) {
        return assertThrows(HubException.class, () -> call(hub, Object.class, method, arguments)).getMessage();
    }

    private static <T> T take(BlockingQueue<T> queue) throws InterruptedException {
        T taken = queue.poll(WAIT_S, TimeUnit.SECONDS);
        assertNotNull(taken, "nothing came in time");
        return taken;
    }

    private static BlockingQueue<String> inbox(HubConnection hub, String method) {
        BlockingQueue<String> calls = new LinkedBlockingQueue<>();
        hub.on(method, calls::add, String.class);
        return calls;
    }

    /** What Broadcast brings: the text alone. */
    private static BlockingQueue<String> broadcasts(HubConnection hub) {
        BlockingQueue<String> calls = new LinkedBlockingQueue<>();
        hub.on("Broadcast", (from, text) -> calls.add(text), String.class, String.class);
        return calls;
    }

    private static CompletableFuture<Optional<Exception>> closed(HubConnection hub) {
        CompletableFuture<Optional<Exception>> closed = new CompletableFuture<>();
        hub.onClosed(error -> closed.complete(Optional.ofNullable(error)));
        return closed;
    }

    private static <T> List<T> items(Observable<T> stream) {
        return stream.timeout(WAIT_S, TimeUnit.SECONDS).toList().blockingGet();
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("calls and results")
    void callsAndResults(Way way) {
        HubConnection hub = connect(way);
        for (String string : STRINGS) {
            assertEquals(string, call(hub, String.class, "Echo", string));
        }
        assertEquals(42, call(hub, Integer.class, "Add", -19, 61));
        Map<?, ?> many = call(hub, Map.class, "EchoMany", "é", 1L << 40, 1.5, true, "e", new int[] {1, -2, 3});
        assertEquals(List.of("é", 1.5, true, "e", List.of(1.0, -2.0, 3.0)),
                List.of(many.get("a"), many.get("c"), many.get("d"), many.get("e"), many.get("f")));
        assertEquals((double) (1L << 40), many.get("b"));
        assertEquals(way.transportName(), call(hub, String.class, "GetActiveTransportName"));
        assertEquals(50, call(hub, Integer.class, "Delay", 50));
        if (way.skip) {
            assertNotNull(call(hub, String.class, "GetCallerConnectionId"));
        } else {
            assertEquals(hub.getConnectionId(), call(hub, String.class, "GetCallerConnectionId"));
        }
        List<Integer> sums = Observable.range(0, 50)
                .concatMapEager(n -> hub.invoke(Integer.class, "Add", n, 1).toObservable())
                .toList().timeout(WAIT_S, TimeUnit.SECONDS).blockingGet();
        assertEquals(IntStream.rangeClosed(1, 50).boxed().collect(Collectors.toList()), sums);
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("errors of calls")
    void errorsOfCalls(Way way) {
        HubConnection hub = connect(way);
        assertTrue(failure(hub, "ThrowException", "the detail é").matches(
                "An unexpected error occurred invoking 'ThrowException' on the server\\. [A-Za-z.]+: the detail é"));
        assertEquals("An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: for all to see",
                failure(hub, "ThrowHubException", "for all to see"));
        assertEquals("Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.",
                failure(hub, "NoSuchMethod"));
        assertTrue(failure(hub, "Add", 1).contains("Invocation provides 1 argument(s) but target expects 2."));
        assertEquals("alive", call(hub, String.class, "Echo", "alive"));
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("messages from the server")
    void messagesFromTheServer(Way way) throws Exception {
        HubConnection hub = connect(way);
        BlockingQueue<String> messages = inbox(hub, "Message");
        BlockingQueue<Map<?, ?>> objects = new LinkedBlockingQueue<>();
        hub.on("CustomObject", objects::add, Map.class);
        run(hub, "InvokeWithString", "héllo\u001e");
        assertEquals("héllo\u001e", take(messages));
        hub.send("InvokeWithString", "fired");
        assertEquals("fired", take(messages));
        run(hub, "SendCustomObject", Map.of("Name", "a name", "Value", -7));
        assertEquals(Map.of("Name", "a name", "Value", -7.0), take(objects));
        hub.remove("Message");
        run(hub, "InvokeWithString", "nobody listens");
        assertEquals("alive", call(hub, String.class, "Echo", "alive"));
        assertTrue(messages.isEmpty());
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("groups, others and single connections")
    void groups(Way way) throws Exception {
        HubConnection[] hubs = {connect(way), connect(way), connect(way)};
        List<BlockingQueue<String>> inboxes = Arrays.stream(hubs).map(JavaClientTest::broadcasts).collect(Collectors.toList());
        List<String> ids = Arrays.stream(hubs).map(hub -> call(hub, String.class, "GetCallerConnectionId")).collect(Collectors.toList());
        String group = UUID.randomUUID().toString();
        run(hubs[0], "JoinGroup", group);
        run(hubs[1], "JoinGroup", group);
        run(hubs[2], "SendToGroup", group, "to two");
        assertEquals("to two", take(inboxes.get(0)));
        assertEquals("to two", take(inboxes.get(1)));
        run(hubs[2], "SendToGroupExcept", group, new String[] {ids.get(0)}, "but one");
        assertEquals("but one", take(inboxes.get(1)));
        run(hubs[1], "LeaveGroup", group);
        run(hubs[2], "SendToGroup", group, "to one");
        assertEquals("to one", take(inboxes.get(0)));
        run(hubs[0], "SendToConnection", ids.get(2), "direct");
        assertEquals("direct", take(inboxes.get(2)));
        for (BlockingQueue<String> inbox : inboxes) {
            assertTrue(inbox.isEmpty(), () -> "left over: " + inbox);
        }
        stopped(hubs);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("broadcasts")
    void broadcast(Way way) throws Exception {
        try (Testhub own = Testhub.spawn(Testhub.freePort())) {
            HubConnection[] hubs = new HubConnection[5];
            List<BlockingQueue<String>> inboxes = new ArrayList<>();
            for (int n = 0; n < hubs.length; n++) {
                hubs[n] = started(builder(own, way, "/testhub").build());
                inboxes.add(broadcasts(hubs[n]));
            }
            for (int n = 0; n < 100; n++) {
                run(hubs[0], "BroadcastAll", "message " + n);
            }
            for (BlockingQueue<String> inbox : inboxes) {
                for (int n = 0; n < 100; n++) {
                    assertEquals("message " + n, take(inbox));
                }
            }
            run(hubs[0], "SendToOthers", "others");
            for (BlockingQueue<String> inbox : inboxes.subList(1, hubs.length)) {
                assertEquals("others", take(inbox));
            }
            assertEquals("alive", call(hubs[0], String.class, "Echo", "alive"));
            assertTrue(inboxes.get(0).isEmpty());
            stopped(hubs);
        }
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("tokens and users")
    void tokensAndUsers(Way way) throws Exception {
        String user = "user " + UUID.randomUUID();
        HubConnection[] hubs = {connectAs(way, user), connectAs(way, user), connectAs(way, "another")};
        List<BlockingQueue<String>> inboxes = Arrays.stream(hubs).map(JavaClientTest::broadcasts).collect(Collectors.toList());
        assertEquals(user, call(hubs[0], String.class, "GetUserName"));
        run(hubs[2], "SendToUser", user, "to both");
        assertEquals("to both", take(inboxes.get(0)));
        assertEquals("to both", take(inboxes.get(1)));
        assertEquals("An unexpected error occurred invoking 'ThrowException' on the server.", failure(hubs[2], "ThrowException", "secret"));
        assertTrue(inboxes.get(2).isEmpty());
        stopped(hubs);

        HubConnection stranger = builder(testhub, way, "/authorizedhub").build();
        Throwable refused = stranger.start().timeout(WAIT_S, TimeUnit.SECONDS).materialize().blockingGet().getError();
        assertNotNull(refused);
        assertTrue(refused.getMessage().contains(way.skip ? "There was an error starting the WebSocket transport." : "401"),
                refused::getMessage);
        assertEquals(HubConnectionState.DISCONNECTED, stranger.getConnectionState());
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("streams from the server")
    void streamsFromTheServer(Way way) throws Exception {
        HubConnection hub = connect(way);
        assertEquals(List.of("a", "b", "c"), items(hub.stream(String.class, "Stream")));
        assertEquals(List.of(), items(hub.stream(Integer.class, "EmptyStream")));
        assertEquals(IntStream.range(0, 1_000).boxed().collect(Collectors.toList()),
                items(hub.stream(Integer.class, "Counter", 1_000, 0)));
        List<Integer> before = Collections.synchronizedList(new ArrayList<>());
        Throwable error = hub.stream(Integer.class, "FailingStream", 3, "boom")
                .doOnNext(before::add).ignoreElements().materialize()
                .timeout(WAIT_S, TimeUnit.SECONDS).blockingGet().getError();
        assertEquals(List.of(0, 1, 2), before);
        assertTrue(error.getMessage().endsWith("boom"), error::getMessage);
        CompletableFuture<Void> cancelled = new CompletableFuture<>();
        hub.on("StreamCanceled", () -> cancelled.complete(null));
        Disposable reading = hub.stream(String.class, "InfiniteStream").subscribe();
        assertEquals("meanwhile", call(hub, String.class, "Echo", "meanwhile"));
        reading.dispose();
        cancelled.get(WAIT_S, TimeUnit.SECONDS);
        stopped(hub);
    }

    /** Not over long polling: there the client posts call and items side by side, and they may overtake one another. */
    @ParameterizedTest
    @EnumSource(names = {"WebSockets", "skipNegotiation"})
    @DisplayName("streams to the server")
    void streamsToTheServer(Way way) throws Exception {
        HubConnection hub = connect(way);
        BlockingQueue<String> uploaded = inbox(hub, "Uploaded");
        assertEquals("ab汉", call(hub, String.class, "StreamingConcat", Observable.just("a", "b", "汉")));
        assertEquals(19_900, call(hub, Integer.class, "SumStream", Observable.range(0, 200)));
        assertEquals("", call(hub, String.class, "StreamingConcat", Observable.empty()));
        assertEquals("pre-ab", call(hub, String.class, "PrefixStream", "pre-", Observable.just("a", "b")));
        assertEquals("ab|cd", call(hub, String.class, "ConcatTwoStreams", Observable.just("a", "b"), "|", Observable.just("c", "d")));
        hub.send("UploadStream", Observable.just("x", "y"));
        assertEquals("xy", take(uploaded));
        assertTrue(failure(hub, "StreamingConcat",
                Observable.concat(Observable.just("a"), Observable.error(new RuntimeException("gone wrong")))).contains("gone wrong"));
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource(names = {"WebSockets", "skipNegotiation"})
    @DisplayName("streams to the server, item by item")
    void streamsItemByItem(Way way) throws Exception {
        HubConnection hub = connect(way);
        ReplaySubject<String> spoken = ReplaySubject.create();
        BlockingQueue<String> back = new LinkedBlockingQueue<>();
        CompletableFuture<Void> ended = new CompletableFuture<>();
        hub.stream(String.class, "MirrorStream", spoken).subscribe(back::add, ended::completeExceptionally, () -> ended.complete(null));
        for (int n = 0; n < 20; n++) {
            spoken.onNext("item " + n);
            assertEquals("item " + n, take(back));
        }
        spoken.onComplete();
        ended.get(WAIT_S, TimeUnit.SECONDS);
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("client results")
    void clientResults(Way way) throws Exception {
        HubConnection asker = connect(way);
        HubConnection other = connect(way);
        String id = call(other, String.class, "GetCallerConnectionId");
        assertTrue(failure(asker, "AskClient", id, 1).contains("HubException"));
        AtomicInteger asked = new AtomicInteger();
        other.onWithResult("Answer", value -> {
            asked.incrementAndGet();
            return value < 0 ? Single.error(new RuntimeException("boom")) : Single.just(value * 2);
        }, Integer.class);
        other.onWithResult("Result", () -> Single.just(7));
        for (int n = 0; n < 20; n++) {
            assertEquals(2 * n, call(asker, Integer.class, "AskClient", id, n));
        }
        assertTrue(failure(asker, "AskClient", id, -1).contains("boom"));
        assertEquals(21, asked.get());
        assertEquals("7", testhub.get("/clientresult/" + id));
        stopped(asker, other);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("large messages")
    void largeMessages(Way way) throws Exception {
        HubConnection hub = started(builder(testhub, way, "/testhub-large").build());
        BlockingQueue<String> large = inbox(hub, "Large");
        BlockingQueue<String> flood = inbox(hub, "Flood");
        assertEquals("0123456789abcdef".repeat(187_500), call(hub, String.class, "GetLargeString", 3_000_000));
        String sent = "汉".repeat(700_000);
        assertEquals(sent, call(hub, String.class, "Echo", sent));
        run(hub, "SendLargeString", 1_000_000);
        assertEquals("0123456789abcdef".repeat(62_500), take(large));
        run(hub, "Flood", 200, 10_000);
        for (int n = 0; n < 200; n++) {
            assertEquals(10_000, take(flood).length());
        }
        byte[] bytes = new byte[1_000];
        new java.util.Random(1).nextBytes(bytes);
        String text = java.util.Base64.getEncoder().encodeToString(bytes);
        assertArrayEquals(bytes, java.util.Base64.getDecoder().decode(call(hub, String.class, "EchoBinary", text)));
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("a message that is too long ends the connection with an error")
    void tooLong(Way way) throws Exception {
        HubConnection hub = connect(way);
        CompletableFuture<Optional<Exception>> closed = closed(hub);
        hub.send("Echo", "x".repeat(40_000));
        Optional<Exception> error = closed.get(WAIT_S, TimeUnit.SECONDS);
        // Over long polling this client polls again before it has handled the Close, on another thread. If the answer to that
        // poll (204: the connection is over, as from any server) is handled first, it reports an end without an error.
        boolean overtaken = way == Way.LongPolling && error.isEmpty();
        assertTrue(overtaken || error.map(Exception::getMessage).orElse("").contains("32768B"), error::toString);
        assertEquals(HubConnectionState.DISCONNECTED, hub.getConnectionState());
    }

    @ParameterizedTest
    @EnumSource(names = {"WebSockets", "LongPolling"})
    @DisplayName("redirects")
    void redirects(Way way) {
        HubConnection hub = started(builder(testhub, way, "/redirecthub").build());
        assertEquals(1, call(hub, Integer.class, "GetNumRedirects"));
        assertEquals("there", call(hub, String.class, "Echo", "there"));
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("headers and query")
    void headersAndQuery(Way way) {
        HubConnection hub = started(builder(testhub, way, "/testhub?numRedirects=3").withHeader("X-Test", "one two").build());
        assertEquals("one two", call(hub, String.class, "GetHeader", "x-test"));
        assertTrue(call(hub, String.class, "GetHeader", "User-Agent").startsWith("Microsoft SignalR/9.0"));
        assertEquals(3, call(hub, Integer.class, "GetNumRedirects"));
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("keep-alive")
    void keepAlive(Way way) throws Exception {
        HubConnection hub = builder(testhub, way, "/testhub-fast").withKeepAliveInterval(1_000).withServerTimeout(2_500).build();
        CompletableFuture<Optional<Exception>> closed = closed(hub);
        started(hub);
        assertThrows(java.util.concurrent.TimeoutException.class, () -> closed.get(6, TimeUnit.SECONDS));
        assertEquals("alive", call(hub, String.class, "Echo", "alive"));
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("stop and start again")
    void stopAndStart(Way way) throws Exception {
        HubConnection hub = builder(testhub, way, "/testhub").build();
        CompletableFuture<Optional<Exception>> closed = closed(hub);
        started(hub);
        String first = call(hub, String.class, "GetCallerConnectionId");
        stopped(hub);
        assertEquals(Optional.empty(), closed.get(WAIT_S, TimeUnit.SECONDS));
        started(hub);
        assertNotEquals(first, call(hub, String.class, "GetCallerConnectionId"));
        stopped(hub);
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("closed by the server")
    void closedByTheServer(Way way) throws Exception {
        HubConnection hub = connect(way);
        CompletableFuture<Optional<Exception>> closed = closed(hub);
        hub.send("Abort");
        Optional<Exception> end = closed.get(WAIT_S, TimeUnit.SECONDS);
        // Having read the Close, this client polls again and sends its DELETE, each on a socket of its own. If the DELETE
        // is faster, the poll is for a connection that has gone (404, as from any server), and the client reports that.
        boolean overtaken = way == Way.LongPolling
                && end.map(Exception::getMessage).equals(Optional.of("Unexpected response code 404."));
        assertTrue(end.isEmpty() || overtaken, end::toString);
        assertEquals(HubConnectionState.DISCONNECTED, hub.getConnectionState());
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("a server that restarts")
    void serverRestarts(Way way) throws Exception {
        Testhub first = Testhub.spawn(Testhub.freePort());
        HubConnection hub = started(builder(first, way, "/testhub").build());
        CompletableFuture<Optional<Exception>> closed = closed(hub);
        CompletableFuture<Throwable> failed = new CompletableFuture<>();
        Disposable slow = hub.invoke(Integer.class, "Delay", 60_000)
                .subscribe(value -> failed.completeExceptionally(new AssertionError("got " + value)), failed::complete);
        first.close();
        closed.get(WAIT_S, TimeUnit.SECONDS);
        assertNotNull(failed.get(WAIT_S, TimeUnit.SECONDS));
        assertTrue(slow.isDisposed());
        assertEquals(HubConnectionState.DISCONNECTED, hub.getConnectionState());
        try (Testhub second = Testhub.spawn(first.port())) {
            CompletableFuture<Optional<Exception>> lost = closed(hub);
            started(hub);
            assertEquals("again", call(hub, String.class, "Echo", "again"));
            second.kill();
            lost.get(WAIT_S, TimeUnit.SECONDS);
            assertEquals(HubConnectionState.DISCONNECTED, hub.getConnectionState());
        } catch (IllegalStateException error) {
            assertEquals("testhub ended during the tests: 137", error.getMessage());
        }
    }

    @ParameterizedTest
    @EnumSource
    @DisplayName("no connection is left behind")
    void nothingLeftBehind(Way way) throws Exception {
        try (Testhub own = Testhub.spawn(Testhub.freePort())) {
            HubConnection[] hubs = new HubConnection[5];
            for (int n = 0; n < hubs.length; n++) {
                hubs[n] = started(builder(own, way, "/testhub").build());
            }
            assertEquals("{\"connections\":5}", own.get("/stats").replace(" ", "").trim());
            stopped(hubs);
            long end_ms = System.currentTimeMillis() + 20_000;
            String last = "";
            while (!(last = own.get("/stats").replace(" ", "").trim()).equals("{\"connections\":0}")) {
                assertTrue(System.currentTimeMillis() < end_ms, last);
                Thread.sleep(50);
            }
        }
    }
}
