"""signalrcore over WebSocket, JSON and MessagePack, with and without negotiation."""

import logging
import queue
import threading
import time

import pytest
from conftest import token
from signalrcore.hub.errors import UnAuthorizedHubError
from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.subject import Subject
from signalrcore.types import HttpTransportType, HubProtocolEncoding

WAIT_S = 10
VARIANTS = {
    f"{name}-{'skip' if skip else 'negotiate'}": (encoding, skip)
    for name, encoding in (("json", HubProtocolEncoding.text), ("messagepack", HubProtocolEncoding.binary))
    for skip in (False, True)
}
STRINGS = ["", "plain", 'quotes " and \\', "a\x1eb\x1e", "é ß 汉字 😀", "line\r\n\u2028", "x汉" * 2000]


@pytest.fixture(params=VARIANTS)
def variant(request):
    """Both hub protocols, with and without negotiation."""
    return VARIANTS[request.param]


class Hub:
    """One client with blocking calls."""

    def __init__(self, url, variant, reconnect=None, user=None, headers=None, keep_alive_s=15,
                 transport=HttpTransportType.web_sockets):
        encoding, skip = variant
        options = {
            "transport": transport,
            "skip_negotiation": skip,
            "verify_ssl": False,
            "headers": headers or {},
        }
        if user is not None:
            options["access_token_factory"] = lambda: token(user)
        # Without negotiation the client opens the URL as it is.
        builder = HubConnectionBuilder().with_url(url.replace("http", "ws") if skip else url, options=options)
        builder.configure_logging(logging.CRITICAL).with_hub_protocol(encoding)
        if reconnect is not None:
            builder.with_automatic_reconnect(
                {"type": "interval", "keep_alive_interval": keep_alive_s, "intervals": reconnect}
            )
        self.connection = builder.build()
        self.opened, self.closed, self.reconnected = (threading.Event() for _ in range(3))
        self.waiting = {}
        self.connection.on_open(self.opened.set)
        self.connection.on_close(self.closed.set)
        self.connection.on_reconnect(self.reconnected.set)
        self.connection.on_error(lambda message: self.waiting.pop(message.invocation_id).put(message))
        self.counter = 0

    def __enter__(self):
        self.connection.start()
        assert self.opened.wait(WAIT_S), "not open in time"
        return self

    def __exit__(self, *_):
        # Whoever stops waits for the receiving thread, which notices at the server's next Ping, up to 15 s later.
        threading.Thread(target=self.connection.stop, daemon=True).start()

    def invoke(self, method, *arguments, wait_s=WAIT_S):
        """The result of a call; its error as RuntimeError."""
        done = queue.Queue()
        self.counter += 1
        call = f"call {self.counter}"
        self.waiting[call] = done
        self.connection.invoke(method, list(arguments), done.put, call)
        message = done.get(timeout=wait_s)
        self.waiting.pop(call, None)
        if message.error:
            raise RuntimeError(message.error)
        return message.result

    def inbox(self, method):
        """A queue of the argument lists of a client method."""
        calls = queue.Queue()
        self.connection.on(method, calls.put)
        return calls


def test_values(url, variant):
    """Line 157."""
    with Hub(f"{url}/testhub", variant) as hub:
        for string in STRINGS:
            assert hub.invoke("Echo", string) == string
        assert hub.invoke("Add", -19, 61) == 42
        many = {"a": "é", "b": 2**53 + 1, "c": 1.5, "d": True, "e": None, "f": [1, -2, 3]}
        assert hub.invoke("EchoMany", *many.values()) == many
        assert hub.invoke("GetActiveTransportName") == "WebSockets"
        assert hub.invoke("GetUserName") is None
        assert hub.invoke("GetLargeString", 300_000) == "0123456789abcdef" * 18_750
        assert hub.invoke("Delay", 50) == 50


def test_binary(url):
    with Hub(f"{url}/testhub", VARIANTS["messagepack-negotiate"]) as hub:
        for length in (0, 1, 255, 256, 20_000):
            sent = bytes(i & 255 for i in range(length))
            assert hub.invoke("EchoBinary", sent) == sent
            assert hub.invoke("BinaryLength", sent) == length


def test_send_and_receive(url, variant):
    with Hub(f"{url}/testhub", variant) as hub:
        messages, objects, flood = hub.inbox("Message"), hub.inbox("CustomObject"), hub.inbox("Flood")
        hub.invoke("InvokeWithString", "é")
        assert messages.get(timeout=WAIT_S) == ["é"]
        hub.invoke("SendCustomObject", {"Name": "n", "Value": 7})
        assert objects.get(timeout=WAIT_S) == [{"Name": "n", "Value": 7}]
        hub.invoke("Flood", 100, 5_000)
        assert flood.qsize() == 100


def test_headers(url, variant):
    with Hub(f"{url}/testhub", variant, headers={"X-Test": "value"}) as hub:
        assert hub.invoke("GetHeader", "X-Test") == "value"


def test_errors(url, variant):
    with Hub(f"{url}/testhub", variant) as hub:
        with pytest.raises(RuntimeError, match=r"invoking 'ThrowException' on the server\. \S+: boom$"):
            hub.invoke("ThrowException", "boom")
        with pytest.raises(RuntimeError, match=r"invoking 'ThrowHubException' on the server\. HubException: nope$"):
            hub.invoke("ThrowHubException", "nope")
        with pytest.raises(RuntimeError, match="HubException: Method does not exist"):
            hub.invoke("NoSuchMethod")
        with pytest.raises(RuntimeError, match="provides 1 argument"):
            hub.invoke("Add", 1)
        assert hub.invoke("Echo", "alive") == "alive"


def test_addressing(url, variant):
    with Hub(f"{url}/testhub", variant) as one, Hub(f"{url}/testhub", variant) as two:
        first, second = one.inbox("Broadcast"), two.inbox("Broadcast")
        sender = one.invoke("GetCallerConnectionId")
        group = f"signalrcore {variant}"
        two.invoke("JoinGroup", group)
        for method, arguments, reached in (
            ("BroadcastAll", [], (first, second)),
            ("SendToOthers", [], (second,)),
            ("SendToGroup", [group], (second,)),
            ("SendToGroupExcept", [group, ["unknown"]], (second,)),
            ("SendToConnection", [sender], (first,)),
        ):
            one.invoke(method, *arguments, method)
            for inbox in reached:
                assert inbox.get(timeout=WAIT_S) == [sender, method]
        two.invoke("LeaveGroup", group)
        one.invoke("SendToGroup", group, "left")
        time.sleep(0.2)
        assert (first.qsize(), second.qsize()) == (0, 0)


def test_order(url, variant):
    with Hub(f"{url}/testhub", variant) as sender, Hub(f"{url}/testhub", variant) as receiver:
        calls = receiver.inbox("Broadcast")
        target = receiver.invoke("GetCallerConnectionId")
        for i in range(1000):
            sender.connection.send("SendToConnection", [target, str(i)])
        assert [calls.get(timeout=WAIT_S)[1] for _ in range(1000)] == [str(i) for i in range(1000)]


def test_authorization(url, variant):
    with Hub(f"{url}/authorizedhub", variant, user="grace") as hub:
        assert hub.invoke("GetUserName") == "grace"


@pytest.mark.parametrize("name", ["json-negotiate", "messagepack-negotiate"])
def test_a_redirect_opens_a_websocket_without_an_id(redirecting, name):
    """Line 18: the client does not negotiate again, and its token is the redirect's."""
    with Hub(f"{redirecting}/hub", VARIANTS[name]) as hub:
        assert hub.invoke("GetUserName") == "redirected"


def test_no_token_is_unauthorized(url):
    with pytest.raises((UnAuthorizedHubError, OSError, ValueError)), Hub(
        f"{url}/authorizedhub", VARIANTS["json-negotiate"]
    ):
        pass


def test_reconnects_to_a_restarted_server(own_testhub, variant):
    first = own_testhub()
    with Hub(f"{first.url}/testhub", variant, reconnect=[1] * 15, keep_alive_s=1) as hub:
        before = hub.invoke("GetCallerConnectionId")
        first.process.kill()
        first.process.wait()
        own_testhub(first.port)
        assert hub.reconnected.wait(20), "not reconnected"
        assert hub.invoke("GetCallerConnectionId") != before


def test_close_is_told(url, variant):
    with Hub(f"{url}/testhub", variant) as hub:
        hub.connection.send("Abort", [])
        assert hub.closed.wait(WAIT_S)


def test_stop_and_start(url, variant):
    hub = Hub(f"{url}/testhub-fast", variant)
    for _ in range(2):
        hub.opened.clear()
        hub.__enter__()
        assert hub.invoke("Echo", "x") == "x"
        hub.connection.stop()


def test_keep_alive(url, variant):
    with Hub(f"{url}/testhub-fast", variant, reconnect=[1], keep_alive_s=1) as hub:
        time.sleep(7)
        assert not hub.closed.is_set()
        assert hub.invoke("Echo", "alive") == "alive"


def collect(hub, method, *arguments):
    """All items of a stream."""
    items, ended = [], threading.Event()
    # The client sends before anybody can subscribe: the call waits here until somebody has.
    transport, held = hub.connection.transport, []
    send, transport.send = transport.send, held.append
    stream = hub.connection.stream(method, list(arguments))
    transport.send = send
    stream.subscribe({"next": items.append, "complete": lambda _: ended.set(), "error": lambda _: ended.set()})
    send(held.pop())
    assert ended.wait(WAIT_S), f"{method} does not end"
    return items


def test_streams(url, variant):
    with Hub(f"{url}/testhub", variant) as hub:
        assert collect(hub, "Stream") == ["a", "b", "c"]
        assert collect(hub, "EmptyStream") == []
        assert collect(hub, "Counter", 200, 0) == list(range(200))
        assert hub.invoke("Echo", "alive") == "alive"


@pytest.mark.parametrize("name", ["json-negotiate", "json-skip"])
def test_upload_streams(url, name):
    # In MessagePack this client leaves the invocation id out of the array, which no server can read.
    with Hub(f"{url}/testhub", VARIANTS[name]) as hub:
        uploaded = hub.inbox("Uploaded")
        subject = Subject()
        hub.connection.send("UploadStream", subject)
        for item in ("a", "é", "汉"):
            subject.next(item)
        subject.complete()
        assert uploaded.get(timeout=WAIT_S) == ["aé汉"]
