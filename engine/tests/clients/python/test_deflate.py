"""permessage-deflate with the `websockets` library, which takes over context when it may, and with its own zlib."""

import contextlib
import json
import random

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.sync.client import connect

WAIT_S = 10
SEPARATOR = "\x1e"
OFFERS = {
    "plain": {},
    "context taken over": {"client_max_window_bits": True},
    "small windows": {"server_max_window_bits": 12, "client_max_window_bits": 9},
    "no takeover": {"server_no_context_takeover": True, "client_no_context_takeover": True},
}


@pytest.fixture
def hub(url):
    """A maker of hub clients on raw WebSockets; all are gone after the test."""
    with contextlib.ExitStack() as stack:

        def start(offer, path="/testhub-deflate"):
            extensions = [ClientPerMessageDeflateFactory(**offer)] if offer is not None else []
            socket = stack.enter_context(
                connect(url.replace("http", "ws") + path, compression=None, extensions=extensions, max_size=None)
            )
            socket.send(json.dumps({"protocol": "json", "version": 1}) + SEPARATOR)
            assert socket.recv(WAIT_S) == "{}" + SEPARATOR
            return socket

        yield start


def agreed(socket):
    """Whether the connection has compression."""
    return any(isinstance(extension, PerMessageDeflate) for extension in socket.protocol.extensions)


def invoke(socket, invocation, target, *arguments):
    """Calls a hub method."""
    message = {"type": 1, "invocationId": invocation, "target": target, "arguments": arguments}
    socket.send(json.dumps(message, ensure_ascii=False) + SEPARATOR)


def messages(socket):
    """Hub messages as they come, pings left out."""
    while True:
        for text in socket.recv(WAIT_S).split(SEPARATOR)[:-1]:
            message = json.loads(text)
            if message["type"] != 6:
                yield message


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_both_directions(hub, offer):
    """Texts of any length go there and come back, as answers and as broadcasts."""
    socket, other = hub(offer), hub(offer)
    assert agreed(socket) and agreed(other)
    heard, heard_elsewhere = messages(socket), messages(other)
    chance = random.Random(7)
    for length in [0, 1, 200, 256, 2_000, 10_000]:
        text = "".join(chance.choices("abcdefgh é汉😀", k=length))
        for target in ("Echo", "BroadcastAll"):
            invoke(socket, target, target, text)
        assert next(heard)["result"] == text
        assert next(heard)["arguments"][-1] == text
        assert next(heard)["invocationId"] == "BroadcastAll"
        assert next(heard_elsewhere)["arguments"][-1] == text


def test_a_window_that_is_too_small_is_declined(hub):
    """Other clients get what this one would need another copy of; it goes on without."""
    socket = hub({"server_max_window_bits": 9})
    assert not agreed(socket)
    invoke(socket, "1", "Echo", "x" * 1_000)
    assert next(messages(socket))["result"] == "x" * 1_000


def test_nothing_is_agreed_elsewhere(hub):
    """Compression is for endpoints that have it."""
    assert not agreed(hub({}, "/testhub"))


def test_a_message_in_fragments(hub):
    """A compressed message in many frames, with a ping of the client's between them."""
    socket = hub({})
    text = json.dumps({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["part " * 2_000]}) + SEPARATOR
    socket.send(text[at : at + 100] for at in range(0, len(text), 100))
    assert socket.ping().wait(WAIT_S)
    assert next(messages(socket))["result"] == "part " * 2_000


def test_a_bomb_is_refused(hub):
    """A message that inflates to more than it may is the end, with 1009."""
    socket = hub({})
    socket.send("x" * (16 << 20))
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(WAIT_S)
    assert closed.value.rcvd.code == 1009
