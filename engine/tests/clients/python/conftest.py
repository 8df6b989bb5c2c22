"""The server under test: TESTHUB_BIN is started once for all files, or TESTHUB_URL points at one that runs."""

import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

START_S_MAX = 20
STOP_S_MAX = 10
SIGNING_KEY = b"testhub-signing-key-for-tests-only-0123456789"


def free_port():
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Testhub:
    """One running testhub."""

    __test__ = False

    def __init__(self, port=None):
        program = os.environ.get("TESTHUB_BIN")
        if not program:
            pytest.fail("set TESTHUB_BIN to the testhub program, or TESTHUB_URL to a running server")
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [program, "--listen", f"127.0.0.1:{self.port}"], stdout=subprocess.PIPE, text=True
        )
        late = threading.Timer(START_S_MAX, self.process.kill)
        late.start()
        first = self.process.stdout.readline()
        late.cancel()
        if "listening" not in first:
            self.process.kill()
            pytest.fail(f"testhub said {first!r} and not that it is listening")

    def stop(self):
        """SIGTERM; answers the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def url():
    """Where the server under test is; it must still live when the tests end."""
    running = os.environ.get("TESTHUB_URL")
    if running:
        yield running.rstrip("/")
        return
    testhub = Testhub()
    yield testhub.url
    assert testhub.process.poll() is None, f"testhub ended during the tests: {testhub.process.returncode}"
    assert testhub.stop() == 0


@pytest.fixture
def own_testhub():
    """A maker of servers that one test may stop; all are gone after it."""
    started = []

    def start(port=None):
        started.append(Testhub(port))
        return started[-1]

    yield start
    for testhub in started:
        if testhub.process.poll() is None:
            testhub.stop()


@pytest.fixture
def redirecting(url):
    """The URL of another server, whose negotiate sends everybody to `/authorizedhub` with the token of one user."""
    body = json.dumps({"url": f"{url}/authorizedhub", "accessToken": token("redirected")}).encode()

    class Redirect(BaseHTTPRequestHandler):
        """Answers negotiate."""

        def do_POST(self):  # noqa: N802: the name that http.server asks for
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def token(user):
    """A bearer token of `/authorizedhub`."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"iss": "testhub", "aud": "testhub-clients", "sub": user, "exp": int(time.time()) + 600}
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    signature = base64.urlsafe_b64encode(hmac.new(SIGNING_KEY, signed, hashlib.sha256).digest()).rstrip(b"=")
    return (signed + b"." + signature).decode()
