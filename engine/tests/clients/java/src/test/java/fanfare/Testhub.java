package fanfare;

import java.io.IOException;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** The server under test: TESTHUB_BIN is started, or TESTHUB_URL points at one that runs. */
final class Testhub implements AutoCloseable {
    private static final int START_S_MAX = 20;
    private static final int STOP_S_MAX = 10;
    private static final byte[] SIGNING_KEY =
            "testhub-signing-key-for-tests-only-0123456789".getBytes(StandardCharsets.UTF_8);

    final String url;
    private final Process process;

    private Testhub(String url, Process process) {
        this.url = url;
        this.process = process;
    }

    /** The one for tests that leave it running. */
    static Testhub running() throws Exception {
        String elsewhere = System.getenv("TESTHUB_URL");
        return elsewhere == null ? spawn(freePort()) : new Testhub(elsewhere.replaceAll("/$", ""), null);
    }

    static Testhub spawn(int port) throws Exception {
        String program = System.getenv("TESTHUB_BIN");
        if (program == null) {
            throw new IllegalStateException("set TESTHUB_BIN to the testhub program, or TESTHUB_URL to a running server");
        }
        Process process = new ProcessBuilder(program, "--listen", "127.0.0.1:" + port)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        try {
            String first = CompletableFuture.supplyAsync(() -> {
                try {
                    return process.inputReader().readLine();
                } catch (IOException error) {
                    return error.toString();
                }
            }).get(START_S_MAX, TimeUnit.SECONDS);
            if (first == null || !first.contains("listening")) {
                throw new IllegalStateException("testhub said '" + first + "' and not that it is listening");
            }
        } catch (Exception error) {
            process.destroyForcibly();
            throw error;
        }
        return new Testhub("http://127.0.0.1:" + port, process);
    }

    /** A loopback port that was free a moment ago. */
    static int freePort() throws IOException {
        try (ServerSocket probe = new ServerSocket(0)) {
            return probe.getLocalPort();
        }
    }

    int port() {
        return URI.create(url).getPort();
    }

    /** The body of a GET. */
    String get(String path) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + path)).build();
        HttpResponse<String> response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) {
            throw new IllegalStateException(path + " answered " + response.statusCode());
        }
        return response.body();
    }

    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    /** SIGTERM. A server that has ended before, or ends badly, is an error. */
    @Override
    public void close() throws Exception {
        if (process == null) {
            return;
        }
        if (!process.isAlive()) {
            throw new IllegalStateException("testhub ended during the tests: " + process.exitValue());
        }
        process.destroy();
        if (!process.waitFor(STOP_S_MAX, TimeUnit.SECONDS)) {
            process.destroyForcibly();
            throw new IllegalStateException("testhub does not end");
        }
        if (process.exitValue() != 0) {
            throw new IllegalStateException("testhub ended badly: " + process.exitValue());
        }
    }

    /** A bearer token of `/authorizedhub`. */
    static String token(String user) {
        String claims = "{\"iss\":\"testhub\",\"aud\":\"testhub-clients\",\"sub\":\"" + user + "\",\"exp\":"
                + (Instant.now().getEpochSecond() + 600) + "}";
        String signed = part("{\"alg\":\"HS256\",\"typ\":\"JWT\"}".getBytes(StandardCharsets.UTF_8)) + "."
                + part(claims.getBytes(StandardCharsets.UTF_8));
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(SIGNING_KEY, "HmacSHA256"));
            return signed + "." + part(mac.doFinal(signed.getBytes(StandardCharsets.UTF_8)));
        } catch (java.security.GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
    }

    private static String part(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }
}
