"""signalrcore over server-sent events and long polling, JSON. Its MessagePack client for long polling cannot be made."""

import time
import urllib.request

import pytest
from signalrcore.types import HttpTransportType, HubProtocolEncoding
from test_signalrcore import STRINGS, WAIT_S, Hub

JSON = (HubProtocolEncoding.text, False)
TRANSPORTS = {
    "ServerSentEvents": ("/testhub", HttpTransportType.server_sent_events),
    # The client handles one message of each poll, and the next one when the next poll has ended: polls are short here.
    "LongPolling": ("/testhub-fast", HttpTransportType.long_polling),
}


@pytest.fixture(params=TRANSPORTS)
def name(request):
    """The transport's name on the wire."""
    return request.param


def hub_of(url, name, **options):
    """An unstarted client."""
    path, transport = TRANSPORTS[name]
    return Hub(url + path, JSON, transport=transport, **options)


def connections(url):
    """What `/stats` counts."""
    with urllib.request.urlopen(f"{url}/stats") as answer:
        return int(answer.read().split(b":")[1].rstrip(b"} \n"))


def test_values(url, name):
    with hub_of(url, name) as hub:
        assert hub.invoke("GetActiveTransportName") == name
        for string in STRINGS:
            assert hub.invoke("Echo", string) == string
        assert hub.invoke("Add", -19, 61) == 42
        many = {"a": "é", "b": 2**53 + 1, "c": 1.5, "d": True, "e": None, "f": [1, -2, 3]}
        assert hub.invoke("EchoMany", *many.values()) == many
        assert hub.invoke("GetUserName") is None
        assert hub.invoke("GetLargeString", 300_000) == "0123456789abcdef" * 18_750
        assert hub.invoke("Delay", 50) == 50


def test_send_and_receive(url, name):
    with hub_of(url, name) as hub:
        messages, objects = hub.inbox("Message"), hub.inbox("CustomObject")
        hub.invoke("InvokeWithString", "é")
        assert messages.get(timeout=WAIT_S) == ["é"]
        hub.invoke("SendCustomObject", {"Name": "n", "Value": 7})
        assert objects.get(timeout=WAIT_S) == [{"Name": "n", "Value": 7}]


def test_errors(url, name):
    with hub_of(url, name) as hub:
        with pytest.raises(RuntimeError, match=r"invoking 'ThrowHubException' on the server\. HubException: nope$"):
            hub.invoke("ThrowHubException", "nope")
        with pytest.raises(RuntimeError, match="HubException: Method does not exist"):
            hub.invoke("NoSuchMethod")
        assert hub.invoke("Echo", "alive") == "alive"


def test_addressing(url, name):
    with hub_of(url, name) as one, hub_of(url, name) as two:
        first, second = one.inbox("Broadcast"), two.inbox("Broadcast")
        sender = one.invoke("GetCallerConnectionId")
        group = f"signalrcore {name}"
        two.invoke("JoinGroup", group)
        for method, arguments, reached in (
            ("SendToOthers", [], second),
            ("SendToGroup", [group], second),
            ("SendToConnection", [sender], first),
        ):
            one.invoke(method, *arguments, method)
            assert reached.get(timeout=WAIT_S) == [sender, method]


def test_headers(url, name):
    """Server-sent events send the user's headers with the GET; long polling only with POSTs, so it has none to read."""
    with hub_of(url, name, headers={"X-Test": "value"}) as hub:
        assert hub.invoke("GetHeader", "X-Test") == ("value" if name == "ServerSentEvents" else None)


def test_authorization(url):
    """Over server-sent events; over long polling this client polls without its token."""
    hub = Hub(f"{url}/authorizedhub", JSON, user="heidi", transport=HttpTransportType.server_sent_events)
    with hub:
        assert hub.invoke("GetUserName") == "heidi"


def test_stop_ends_the_connection(own_testhub, name):
    url = own_testhub().url
    hub = hub_of(url, name).__enter__()
    assert hub.invoke("Echo", "x") == "x"
    assert connections(url) == 1
    hub.connection.stop()
    end_s = time.monotonic() + 20
    while connections(url) and time.monotonic() < end_s:
        time.sleep(0.1)
    assert connections(url) == 0


def test_close_is_told(url):
    """Over server-sent events; over long polling this client goes on polling whatever the answers are."""
    with hub_of(url, "ServerSentEvents") as hub:
        hub.connection.send("Abort", [])
        assert hub.closed.wait(WAIT_S)
