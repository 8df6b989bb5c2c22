"""pysignalr over WebSocket, JSON and MessagePack. It always negotiates, in version 0."""

import asyncio
import logging

import pytest
from conftest import token
from pysignalr.client import SignalRClient
from pysignalr.exceptions import AuthorizationError
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol

WAIT_S = 10
PROTOCOLS = {"json": JSONProtocol, "messagepack": MessagepackProtocol}
STRINGS = ["", "plain", 'quotes " and \\', "a\x1eb\x1e", "é ß 汉字 😀", "line\r\n\u2028", "x汉" * 2000]

logging.getLogger("pysignalr").setLevel(logging.CRITICAL)


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    """Both hub protocols."""
    return PROTOCOLS[request.param]


class Hub:
    """One client with awaitable calls."""

    def __init__(self, url, protocol, **options):
        self.client = SignalRClient(url, protocol=protocol(), max_size=None, **options)
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self.errors = []
        self.client.on_open(self._set(self.opened))
        self.client.on_close(self._set(self.closed))
        self.client.on_error(self._keep)
        self.running = None

    @staticmethod
    def _set(event):
        async def callback():
            event.set()

        return callback

    async def _keep(self, message):
        self.errors.append(message.error)

    async def start(self):
        """Runs the client until it is open; what `run` raises before that is raised here."""
        self.running = asyncio.create_task(self.client.run())
        opened = asyncio.create_task(self.opened.wait())
        await asyncio.wait({self.running, opened}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self.running.done():
            await self.running
        assert self.opened.is_set(), "not open in time"

    async def stop(self):
        """Ends the client."""
        if self.running is not None:
            self.running.cancel()
            # What ended the client before has been raised where it was waited for.
            await asyncio.wait({self.running}, timeout=WAIT_S)

    async def invoke(self, method, *arguments):
        """The result of a call; its error as RuntimeError."""
        done = asyncio.get_running_loop().create_future()

        async def complete(message):
            done.set_result(message)

        await self.client.send(method, list(arguments), complete)
        await asyncio.wait({done, self.running}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise TimeoutError(f"{method} is not answered; the client's end: {self.running}")
        message = done.result()
        if message.error:
            raise RuntimeError(message.error)
        return message.result

    def inbox(self, method):
        """A queue of the argument lists of a client method."""
        calls = asyncio.Queue()

        async def callback(arguments):
            calls.put_nowait(arguments)

        self.client.on(method, callback)
        return calls


class hubs:  # noqa: N801: reads as the call it is
    """Started clients, stopped whatever happens. A class, as contextlib cannot pass on pysignalr's frozen errors."""

    def __init__(self, url, protocol, count=1, **options):
        self.made = [Hub(url, protocol, **options) for _ in range(count)]

    async def __aenter__(self):
        try:
            for hub in self.made:
                await hub.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self.made

    async def __aexit__(self, *_):
        for hub in self.made:
            await hub.stop()


async def take(calls):
    """The next call."""
    return await asyncio.wait_for(calls.get(), WAIT_S)


def test_values(url, protocol):
    """Line 157."""
    async def run():
        async with hubs(f"{url}/testhub", protocol) as [hub]:
            for string in STRINGS:
                assert await hub.invoke("Echo", string) == string
            assert await hub.invoke("Add", -19, 61) == 42
            many = {"a": "é", "b": 2**53 + 1, "c": 1.5, "d": True, "e": None, "f": [1, -2, 3]}
            assert await hub.invoke("EchoMany", *many.values()) == many
            assert await hub.invoke("GetActiveTransportName") == "WebSockets"
            assert await hub.invoke("GetUserName") is None
            assert await hub.invoke("GetLargeString", 3_000_000) == "0123456789abcdef" * 187_500
            assert await hub.invoke("Delay", 50) == 50

    asyncio.run(run())


def test_binary(url):
    async def run():
        async with hubs(f"{url}/testhub", MessagepackProtocol) as [hub]:
            for length in (0, 1, 255, 256, 20_000):
                sent = bytes(i & 255 for i in range(length))
                assert await hub.invoke("EchoBinary", sent) == sent
                assert await hub.invoke("BinaryLength", sent) == length
            assert await hub.invoke("GetLargeBinary", 1000) == bytes(i & 255 for i in range(1000))

    asyncio.run(run())


def test_send_and_receive(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub", protocol) as [hub]:
            messages, objects, flood = hub.inbox("Message"), hub.inbox("CustomObject"), hub.inbox("Flood")
            await hub.client.send("InvokeWithString", ["fire and forget é"])
            assert await take(messages) == ["fire and forget é"]
            await hub.invoke("InvokeWithString", "with an answer")
            assert await take(messages) == ["with an answer"]
            await hub.invoke("SendCustomObject", {"Name": "n", "Value": 7})
            assert await take(objects) == [{"Name": "n", "Value": 7}]
            await hub.invoke("Flood", 200, 5_000)
            assert flood.qsize() == 200

    asyncio.run(run())


def test_cookie_and_headers(url, protocol):
    async def run():
        # aiohttp keeps no cookies of hosts that are addresses.
        named = url.replace("127.0.0.1", "localhost")
        async with hubs(f"{named}/testhub", protocol, headers={"X-Test": "value"}) as [hub]:
            assert await hub.invoke("GetHeader", "X-Test") == "value"
            assert await hub.invoke("GetCookie", "testCookie") == "testValue"

    asyncio.run(run())


def test_errors(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub", protocol) as [hub]:
            with pytest.raises(RuntimeError, match=r"invoking 'ThrowException' on the server\. \S+: boom$"):
                await hub.invoke("ThrowException", "boom")
            with pytest.raises(RuntimeError, match=r"invoking 'ThrowHubException' on the server\. HubException: nope$"):
                await hub.invoke("ThrowHubException", "nope")
            with pytest.raises(RuntimeError, match="HubException: Method does not exist"):
                await hub.invoke("NoSuchMethod")
            with pytest.raises(RuntimeError, match="provides 1 argument"):
                await hub.invoke("Add", 1)
            assert len(hub.errors) == 4
            assert await hub.invoke("Echo", "alive") == "alive"

    asyncio.run(run())


def test_addressing(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub", protocol, count=3) as [one, two, three]:
            inboxes = [hub.inbox("Broadcast") for hub in (one, two, three)]
            ids = [await hub.invoke("GetCallerConnectionId") for hub in (one, two, three)]
            group = f"python {protocol.__name__}"
            await two.invoke("JoinGroup", group)
            await three.invoke("JoinGroup", group)
            for method, arguments, reached in (
                ("BroadcastAll", [], (0, 1, 2)),
                ("SendToOthers", [], (1, 2)),
                ("SendToGroup", [group], (1, 2)),
                ("SendToGroupExcept", [group, [ids[2]]], (1,)),
                ("SendToConnection", [ids[2]], (2,)),
                ("SendToConnection", ["unknown"], ()),
            ):
                await one.invoke(method, *arguments, method)
                for i in reached:
                    assert await take(inboxes[i]) == [ids[0], method]
            await three.invoke("LeaveGroup", group)
            await one.invoke("SendToGroup", group, "left")
            assert await take(inboxes[1]) == [ids[0], "left"]
            await asyncio.sleep(0.2)
            assert [inbox.qsize() for inbox in inboxes] == [0, 0, 0]

    asyncio.run(run())


def test_order(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub", protocol, count=2) as [sender, receiver]:
            calls = receiver.inbox("Broadcast")
            target = await receiver.invoke("GetCallerConnectionId")
            for i in range(1000):
                await sender.client.send("SendToConnection", [target, str(i)])
            assert [(await take(calls))[1] for _ in range(1000)] == [str(i) for i in range(1000)]

    asyncio.run(run())


def test_authorization(url, protocol):
    async def run():
        headers = {"Authorization": f"Bearer {token('frank é')}"}
        async with hubs(f"{url}/authorizedhub", protocol, headers=headers) as [hub]:
            assert await hub.invoke("GetUserName") == "frank é"
        with pytest.raises(AuthorizationError):
            async with hubs(f"{url}/authorizedhub", protocol):
                pass

    asyncio.run(run())


def test_a_redirect_opens_a_websocket_without_an_id(redirecting, protocol):
    """Line 18: the client does not negotiate again, and its token is the redirect's."""
    async def run():
        async with hubs(f"{redirecting}/hub", protocol) as [hub]:
            assert await hub.invoke("GetUserName") == "redirected"

    asyncio.run(run())


def test_an_ended_connection_is_not_resumed(url, protocol):
    """pysignalr goes back with the id of the connection that ended: that is 404, and it negotiates anew."""
    async def run():
        async with hubs(f"{url}/testhub", protocol) as [hub]:
            first = await hub.invoke("GetCallerConnectionId")
            hub.opened.clear()
            await hub.client.send("Abort", [])
            await asyncio.wait_for(hub.opened.wait(), WAIT_S)
            assert hub.closed.is_set()
            assert await hub.invoke("GetCallerConnectionId") != first

    asyncio.run(run())


def test_keep_alive(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub-fast", protocol, ping_interval=1, signalr_ping_interval=1) as [hub]:
            await asyncio.sleep(7)
            assert not hub.closed.is_set()
            assert await hub.invoke("Echo", "alive") == "alive"

    asyncio.run(run())


async def collect(hub, method, *arguments):
    """All items of a stream; its error as RuntimeError."""
    items, ended = [], asyncio.get_running_loop().create_future()

    async def take_item(item):
        items.append(item)

    async def end(message):
        ended.set_result(message.error)

    await hub.client.stream(method, list(arguments), take_item, end, end)
    error = await asyncio.wait_for(ended, WAIT_S)
    if error:
        raise RuntimeError(error)
    return items


def test_streams(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub", protocol) as [hub]:
            assert await collect(hub, "Stream") == ["a", "b", "c"]
            assert await collect(hub, "EmptyStream") == []
            assert await collect(hub, "Counter", 500, 0) == list(range(500))
            with pytest.raises(RuntimeError, match=r"while streaming results\. \S+: boom$"):
                await collect(hub, "FailingStream", 2, "boom")
            assert await hub.invoke("Echo", "alive") == "alive"

    asyncio.run(run())


def test_upload_streams(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub", protocol) as [hub]:
            uploaded = hub.inbox("Uploaded")
            async with hub.client.client_stream("UploadStream") as stream:
                for item in ("a", "é", "汉"):
                    await stream.send(item)
            assert await take(uploaded) == ["aé汉"]

    asyncio.run(run())


def test_client_results(url, protocol):
    async def run():
        async with hubs(f"{url}/testhub", protocol, count=2) as [asker, other]:
            other_id = await other.invoke("GetCallerConnectionId")
            with pytest.raises(RuntimeError, match="HubException: "):
                await asker.invoke("AskClient", other_id, 1)

            async def answer(arguments):
                return arguments[0] * 2

            other.client.on("Answer", answer)
            assert await asker.invoke("AskClient", other_id, 21) == 42

    asyncio.run(run())
