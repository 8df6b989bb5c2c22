"""Frames, legal and forbidden, against a WebSocket echo: standard library only.

Follows the groups of the Autobahn test suite: 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragmentation,
6 UTF-8, 7 closing, 9 sizes, 10 cutting. Stricter in places: a forbidden frame must earn its own close code.

usage: python3 echo_cases.py --url ws://127.0.0.1:9000/ws-echo
"""

import argparse
import base64
import hashlib
import itertools
import os
import random
import socket
import struct
import sys
import time
import urllib.parse

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
WAIT_S = 20
PROTOCOL_ERROR, INVALID_PAYLOAD = 1002, 1007
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SEED = int(os.environ.get("ECHO_CASES_SEED", "20240611"))


class Broken(Exception):
    """The server did something RFC 6455 does not let it do, or not what the case expects."""


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, key=None, length_form=None):
    """One client frame; `length_form` (16 or 64) states the length in a wider form than it needs."""
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    mask = 0x80 if masked else 0
    if length_form == 64 or len(payload) > 0xFFFF:
        head += bytes([mask | 127]) + struct.pack(">Q", len(payload))
    elif length_form == 16 or len(payload) > 125:
        head += bytes([mask | 126]) + struct.pack(">H", len(payload))
    else:
        head.append(mask | len(payload))
    if not masked:
        return bytes(head) + payload
    key = os.urandom(4) if key is None else key
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    covered = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return bytes(head) + key + covered.to_bytes(len(payload), "big")


def close_payload(code, reason=b""):
    """The body of a Close frame."""
    return struct.pack(">H", code) + reason


class Client:
    """One WebSocket connection, read frame by frame."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16))
        self.socket.sendall(
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n\r\n".encode()
        )
        self.buffer = bytearray()
        self.between = []  # complete and not yet asked for
        while b"\r\n\r\n" not in self.buffer:
            self.receive()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        lines = head.split(b"\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        if not lines[0].startswith(b"HTTP/1.1 101 ") or fields.get(b"sec-websocket-accept") != accept:
            raise Broken(f"upgrade answered {head!r}")

    def receive(self):
        """More bytes, or Broken at the end of the connection."""
        got = self.socket.recv(1 << 18)
        if not got:
            raise Broken(f"the connection ended, {len(self.buffer)} bytes unread")
        self.buffer += got

    def take(self, count):
        """Exactly `count` bytes."""
        while len(self.buffer) < count:
            self.receive()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def send(self, data):
        """All of `data`; a server that has closed already is not an error here."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def frame(self):
        """The next frame, checked: (fin, opcode, payload)."""
        first, second = self.take(2)
        if first & 0x70 or second & 0x80:
            raise Broken(f"a server frame with reserved bits or a mask: {first:02x} {second:02x}")
        length = second & 127
        if length == 126:
            length = struct.unpack(">H", self.take(2))[0]
            if length < 126:
                raise Broken("a length not in its shortest form")
        elif length == 127:
            length = struct.unpack(">Q", self.take(8))[0]
            if length < 65536:
                raise Broken("a length not in its shortest form")
        fin, opcode = bool(first & 0x80), first & 15
        if opcode >= 8 and (length > 125 or not fin):
            raise Broken("a control frame that is long or in fragments")
        return fin, opcode, self.take(length)

    def message(self):
        """The next whole message or control frame: (opcode, payload)."""
        if self.between:
            return self.between.pop(0)
        kind, pieces = None, []
        while True:
            fin, opcode, payload = self.frame()
            if opcode >= 8:
                if kind is None or opcode == CLOSE:
                    return opcode, payload
                self.between.append((opcode, payload))
                continue
            if (opcode == 0) == (kind is None) or opcode not in (0, TEXT, BINARY):
                raise Broken(f"opcode {opcode} inside a message of kind {kind}")
            kind = opcode or kind
            pieces.append(payload)
            if fin:
                # In the order in which they were complete: what came inside the message was so before it.
                self.between.append((kind, b"".join(pieces)))
                return self.between.pop(0)

    def until_close(self):
        """What came before the Close frame, and its code (1005 for none)."""
        before = []
        while True:
            opcode, payload = self.message()
            if opcode == CLOSE:
                return before, struct.unpack(">H", payload[:2])[0] if payload else 1005
            before.append((opcode, payload))

    def ends(self):
        """Nothing more comes but the end of TCP."""
        try:
            while True:
                if self.buffer:
                    raise Broken(f"{len(self.buffer)} bytes after the Close frame")
                self.receive()
        except ConnectionResetError:
            return
        except Broken as end:
            if "ended" not in str(end):
                raise


def expect(client, *messages):
    """The next messages are exactly these."""
    for number, (opcode, payload) in enumerate(messages):
        got = client.message()
        if got != (opcode, payload):
            shown = (got[0], len(got[1]), got[1][:40])
            raise Broken(f"message {number}: wanted {(opcode, len(payload), payload[:40])}, got {shown}")


def closes_cleanly(client):
    """Our Close 1000 is answered with 1000, then TCP ends."""
    client.send(frame(CLOSE, close_payload(1000)))
    before, code = client.until_close()
    if before or code != 1000:
        raise Broken(f"Close 1000 answered with {code} after {len(before)} messages")
    client.ends()


def echoes(opcode, payload, pieces=None):
    """A case: this message, sent in these writes, comes back the same."""
    def case(client):
        for piece in pieces or [frame(opcode, payload)]:
            client.send(piece)
        expect(client, (opcode, payload))
        closes_cleanly(client)
    return case


def exchange(sent, *expected):
    """A case: these frames in one write give these messages."""
    def case(client):
        client.send(b"".join(sent))
        expect(client, *expected)
        closes_cleanly(client)
    return case


def refused(sent, code, *before):
    """A case: these frames earn this close code, after these messages."""
    def case(client):
        client.send(b"".join(sent))
        got, closed = client.until_close()
        if closed != code or got != list(before):
            raise Broken(f"wanted close {code} after {list(before)}, got {closed} after {got}")
        client.send(frame(CLOSE, close_payload(code)))
        client.ends()
    return case


def answered_close(payload, codes):
    """A case: a legal Close is answered with one of these codes."""
    def case(client):
        client.send(frame(CLOSE, payload))
        before, code = client.until_close()
        if before or code not in codes:
            raise Broken(f"wanted one of {codes}, got {code} after {before}")
        client.ends()
    return case


def cut(data, size):
    """`data` in pieces of `size`."""
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def fragments(opcode, payload, size):
    """One message as frames of `size` bytes."""
    pieces = cut(payload, size)
    last = len(pieces) - 1
    return [frame(0 if i else opcode, piece, fin=i == last) for i, piece in enumerate(pieces)]


def framing():
    """Group 1: every length form, every mask, cut anywhere."""
    for opcode, size in itertools.product((TEXT, BINARY), (0, 1, 125, 126, 127, 128, 2043, 2044, 2045, 4088, 65535, 65536)):
        payload = b"*" * size if opcode == TEXT else os.urandom(size)
        yield f"1 {size} bytes, opcode {opcode}", echoes(opcode, payload)
        if 0 < size <= 128:
            yield f"1 {size} bytes a byte at a time, opcode {opcode}", echoes(opcode, payload, cut(frame(opcode, payload), 1))
    for key in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0"):
        yield f"1 mask {key.hex()}", echoes(BINARY, bytes(range(256)), [frame(BINARY, bytes(range(256)), key=key)])
    for size in range(0, 40):
        yield f"1 {size} bytes behind another", exchange(
            [frame(BINARY, b"x" * (size % 7)), frame(BINARY, bytes(range(size)))], (BINARY, b"x" * (size % 7)), (BINARY, bytes(range(size)))
        )
    for form, size in ((16, 5), (16, 125), (64, 5), (64, 126), (64, 65535)):
        def wide(client, form=form, size=size):
            # RFC 6455 5.2 asks for the shortest form; taking a wider one or refusing it as 1002 are both strict readings.
            client.send(frame(BINARY, b"w" * size, length_form=form))
            opcode, payload = client.message()
            if opcode == CLOSE:
                if payload[:2] != close_payload(PROTOCOL_ERROR):
                    raise Broken(f"close {payload[:2].hex()}")
            elif (opcode, payload) != (BINARY, b"w" * size):
                raise Broken(f"opcode {opcode}, {len(payload)} bytes")
        yield f"1 a {form} bit length for {size} bytes", wide


def pings():
    """Group 2."""
    for size in (0, 1, 124, 125):
        payload = os.urandom(size)
        yield f"2 a Ping of {size} bytes", exchange([frame(PING, payload)], (PONG, payload))
        yield f"2 a Ping of {size} bytes a byte at a time", echoes_ping(payload)
    yield "2 a Ping of 126 bytes", refused([frame(PING, b"x" * 126)], PROTOCOL_ERROR)
    yield "2 an unasked Pong", exchange([frame(PONG, b"unasked"), frame(PING, b"now")], (PONG, b"now"))
    numbered = [b"payload-%d" % i for i in range(10)]
    yield "2 ten Pings", exchange([frame(PING, p) for p in numbered], *[(PONG, p) for p in numbered])
    yield "2 Pings between messages", exchange(
        [frame(TEXT, b"a"), frame(PING, b"1"), frame(TEXT, b"b"), frame(PING, b"2")],
        (TEXT, b"a"), (PONG, b"1"), (TEXT, b"b"), (PONG, b"2"),
    )


def echoes_ping(payload):
    """A Ping in single bytes is answered."""
    def case(client):
        for piece in cut(frame(PING, payload), 1):
            client.send(piece)
        expect(client, (PONG, payload))
        closes_cleanly(client)
    return case


def reserved():
    """Groups 3 and 4: bits and opcodes nobody gave a meaning."""
    for rsv, opcode in itertools.product(range(1, 8), (TEXT, BINARY, PING, PONG, CLOSE)):
        yield f"3 rsv {rsv} on opcode {opcode}", refused([frame(opcode, b"", rsv=rsv)], PROTOCOL_ERROR)
    yield "3 rsv after a good message", refused([frame(TEXT, b"ok"), frame(TEXT, b"x", rsv=4)], PROTOCOL_ERROR, (TEXT, b"ok"))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"reserved"):
            yield f"4 opcode {opcode} with {len(payload)} bytes", refused([frame(opcode, payload)], PROTOCOL_ERROR)
        yield f"4 opcode {opcode} after a good message", refused(
            [frame(TEXT, b"ok"), frame(opcode, b"x"), frame(PING)], PROTOCOL_ERROR, (TEXT, b"ok")
        )
    for opcode in (TEXT, BINARY, PING, CLOSE):
        yield f"4 opcode {opcode} without a mask", refused([frame(opcode, b"", masked=False)], PROTOCOL_ERROR)


def fragmentation():
    """Group 5."""
    for opcode in (PING, PONG, CLOSE):
        yield f"5 opcode {opcode} in fragments", refused([frame(opcode, b"", fin=False), frame(0, b"")], PROTOCOL_ERROR)
    for size in (1, 2, 3, 7):
        payload = "fragmentation é汉😀".encode()
        yield f"5 text in pieces of {size}", echoes(TEXT, payload, fragments(TEXT, payload, size))
        yield f"5 text in pieces of {size}, one write", echoes(TEXT, payload, [b"".join(fragments(TEXT, payload, size))])
    with_pings = [frame(TEXT, b"one", fin=False), frame(PING, b"1"), frame(0, b"two", fin=False), frame(PING, b"2"), frame(0, b"three")]
    yield "5 Pings between fragments", exchange(with_pings, (PONG, b"1"), (PONG, b"2"), (TEXT, b"onetwothree"))
    empties = [frame(BINARY, b"", fin=False), frame(0, b"", fin=False), frame(0, b"x", fin=False), frame(0, b"")]
    yield "5 empty fragments", exchange(empties, (BINARY, b"x"))
    yield "5 only empty fragments", exchange([frame(TEXT, b"", fin=False), frame(0, b"")], (TEXT, b""))
    for fin in (True, False):
        yield f"5 a continuation of nothing, fin {fin}", refused([frame(0, b"x", fin=fin), frame(TEXT, b"y")], PROTOCOL_ERROR)
        yield f"5 a message inside a message, fin {fin}", refused([frame(TEXT, b"x", fin=False), frame(TEXT, b"y", fin=fin)], PROTOCOL_ERROR)
    yield "5 a continuation after the end", refused(
        [frame(TEXT, b"x", fin=False), frame(0, b"y"), frame(0, b"z")], PROTOCOL_ERROR, (TEXT, b"xy")
    )


GOOD_UTF8 = [
    "κόσμε".encode(), b"\0", "\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff".encode(), "\ud7ff\ue000\ufffd".encode(),
    "\ufdd0\ufffe\uffff\U0001fffe\U0001ffff".encode(), "😀".encode() * 50,
]
BAD_UTF8 = [
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff",
    b"\xc3\x28", b"\xe2\x28\xa1", b"\xe2\x82\x28", b"\xf0\x28\x8c\xbc", b"\xf0\x90\x28\xbc", b"\xf0\x28\x8c\x28",
]


def utf8():
    """Group 6: good text in any cut, bad text refused, the first impossible byte at once."""
    for number, good in enumerate(GOOD_UTF8):
        yield f"6 good text {number}", echoes(TEXT, good)
        yield f"6 good text {number} in fragments of a byte", echoes(TEXT, good, [b"".join(fragments(TEXT, good, 1))])
        yield f"6 good text {number} in writes of a byte", echoes(TEXT, good, cut(frame(TEXT, good), 1))
    for bad in BAD_UTF8:
        around = b"before " + bad + b" after"
        yield f"6 bad text {bad.hex()}", refused([frame(TEXT, around)], INVALID_PAYLOAD)
        yield f"6 bad text {bad.hex()} in fragments of a byte", refused(fragments(TEXT, around, 1), INVALID_PAYLOAD)
        yield f"6 bad text {bad.hex()} is good binary", echoes(BINARY, around)
    for good in ("é", "汉", "😀"):
        for size in range(1, len(good.encode())):
            stump = good.encode()[:size]
            yield f"6 {good} cut to {size} at the end", refused([frame(TEXT, b"x" + stump)], INVALID_PAYLOAD)
            yield f"6 {good} cut to {size} before an empty end", refused([frame(TEXT, stump, fin=False), frame(0)], INVALID_PAYLOAD)

    def at_once(client):
        # The message is not over, nor is the frame: the server need not wait for either.
        client.send(frame(TEXT, "κόσμε".encode() + b"\xf4", fin=False))
        client.send(frame(0, b"\x90", fin=False))
        before, code = client.until_close()
        if before or code != INVALID_PAYLOAD:
            raise Broken(f"close {code} after {before}")
    yield "6 the first impossible byte is enough", at_once


def closing():
    """Group 7."""
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"7 Close {code}", answered_close(close_payload(code), (code, 1000))
        yield f"7 Close {code} with a reason", answered_close(close_payload(code, "é".encode() * 61), (code, 1000))
    yield "7 Close without a code", answered_close(b"", (1000, 1005))
    yield "7 Close with 123 bytes of reason", answered_close(close_payload(1000, b"x" * 123), (1000,))
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"7 Close {code}", refused([frame(CLOSE, close_payload(code))], PROTOCOL_ERROR)
    yield "7 Close of one byte", refused([frame(CLOSE, b"x")], PROTOCOL_ERROR)
    yield "7 Close of 126 bytes", refused([frame(CLOSE, close_payload(1000, b"x" * 124))], PROTOCOL_ERROR)
    yield "7 Close with a reason that is no text", refused([frame(CLOSE, close_payload(1000, b"\xce\xba\xff"))], INVALID_PAYLOAD)
    after = [frame(TEXT, b"before"), frame(CLOSE, close_payload(1000)), frame(TEXT, b"after"), frame(PING, b"after")]

    def nothing_after(client):
        client.send(b"".join(after))
        got, code = client.until_close()
        if got != [(TEXT, b"before")] or code != 1000:
            raise Broken(f"close {code} after {got}")
        client.ends()
    yield "7 nothing after a Close is answered", nothing_after
    yield "7 a Close inside a message", exchange_close([frame(TEXT, b"half", fin=False), frame(CLOSE, close_payload(1000))])
    yield "7 two Closes", exchange_close([frame(CLOSE, close_payload(1000)), frame(CLOSE, close_payload(1000))])


def exchange_close(sent):
    """These frames are answered by Close 1000 alone."""
    def case(client):
        client.send(b"".join(sent))
        got, code = client.until_close()
        if got or code != 1000:
            raise Broken(f"close {code} after {got}")
        client.ends()
    return case


def sizes():
    """Groups 9 and 10: large messages, whole and cut."""
    for opcode, size in itertools.product((TEXT, BINARY), (1 << 16, 1 << 18, 1 << 20, 4 << 20, 16 << 20)):
        payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
        yield f"9 {size} bytes, opcode {opcode}", echoes(opcode, payload)
    for size in (64, 256, 1 << 10, 1 << 14, 1 << 18):
        payload = os.urandom(1 << 20)
        yield f"9 1 MiB in fragments of {size}", echoes(BINARY, payload, fragments(BINARY, payload, size))
        if size >= 256:
            yield f"10 1 MiB in writes of {size}", echoes(BINARY, payload, cut(frame(BINARY, payload), size))


def chaos():
    """Random legal traffic, cut at random; SEED replays it."""
    for number in range(60):
        def case(client, number=number):
            dice = random.Random(SEED + number)
            stream, expected = [], []
            for _ in range(dice.randint(1, 30)):
                size = dice.choice((0, 1, 10, 125, 126, 127, 2044, 2045, 70_000))
                opcode = dice.choice((TEXT, BINARY))
                payload = ("é汉😀x" * (size // 10 + 1)).encode()[:size] if opcode == TEXT else dice.randbytes(size)
                payload = payload.decode(errors="ignore").encode() if opcode == TEXT else payload
                frames = fragments(opcode, payload, dice.choice((1 + size // 3, size + 1, size + 1)))
                for part in frames:
                    stream.append(part)
                    if dice.random() < 0.2:
                        note = dice.randbytes(dice.randint(0, 125))
                        stream.append(frame(PING, note))
                        expected.append((PONG, note))
                if stream[-1][0] & 15 == PING:
                    # The Ping behind the last fragment is answered after the message.
                    expected.insert(len(expected) - 1, (opcode, payload))
                else:
                    expected.append((opcode, payload))
            data = b"".join(stream)
            while data:
                size = dice.choice((1, 2, 7, 100, 3_000, 100_000))
                client.send(data[:size])
                data = data[size:]
            expect(client, *expected)
            closes_cleanly(client)
        yield f"chaos, seed {SEED + number}", case


def main():
    """Runs every case on a connection of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    passed, failed = 0, 0
    start = time.monotonic()
    for name, case in itertools.chain(
        framing(), pings(), reserved(), fragmentation(), utf8(), closing(), sizes(), chaos()
    ):
        if options.only not in name:
            continue
        try:
            client = Client(options.url)
            try:
                case(client)
            finally:
                client.socket.close()
            passed += 1
        except (Broken, OSError) as error:
            failed += 1
            print(f"case {name}: {error}")
    print(f"echo cases took {time.monotonic() - start:.1f} s (seed {SEED})")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
