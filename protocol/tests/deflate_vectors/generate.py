"""Writes vectors.txt: messages as another implementation (zlib, through Python) compresses them.

A line "= name hex" is a message, the lines "how hex" after it are payloads that say it. No bytes are "-". Run in this
folder; the payloads depend on the version of zlib, the messages do not.
"""

import random
import zlib

TAIL = b"\x00\x00\xff\xff"


def messages():
    chance = random.Random(7692)
    words = ["bid", "ask", "volume", "symbol", "at", "price", "grüße", "世界", "true", "null"]
    record = "".join(
        '{"%s":%d,"%s":"%s"},' % (chance.choice(words), chance.randrange(10**6), chance.choice(words), chance.choice(words))
        for _ in range(25)
    )
    yield "empty", b""
    yield "one", b"x"
    yield "hello", b"Hello"
    yield "ping", b'{"type":6}\x1e'
    yield "run", b"a" * 1000
    yield "json", ('{"type":1,"target":"tick","arguments":[[' + record + "]]}\x1e").encode()
    yield "noise", chance.randbytes(300)
    # Matches farther back than the smallest windows reach.
    far = chance.randbytes(200)
    yield "far", far + b"-" * 900 + far
    yield "deep", far + b"".join(bytes([i & 255]) * 3 for i in range(600)) + far


def compress(message, level, bits, memory, strategy, flush):
    stream = zlib.compressobj(level, zlib.DEFLATED, -bits, memory, strategy)
    return stream.compress(message) + stream.flush(flush)


def flushed(data):
    assert data.endswith(TAIL)
    return data[: -len(TAIL)]


def payloads(message):
    for level, bits, strategy in [
        (0, 15, zlib.Z_DEFAULT_STRATEGY),
        (1, 9, zlib.Z_DEFAULT_STRATEGY),
        (6, 15, zlib.Z_DEFAULT_STRATEGY),
        (9, 10, zlib.Z_DEFAULT_STRATEGY),
        (6, 15, zlib.Z_FIXED),
        (6, 12, zlib.Z_HUFFMAN_ONLY),
        (6, 12, zlib.Z_RLE),
    ]:
        yield f"level{level}-window{bits}-strategy{strategy}", flushed(
            compress(message, level, bits, 8, strategy, zlib.Z_SYNC_FLUSH)
        )
    # Many blocks: a flush every 100 bytes; little memory, so that blocks are short.
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    parts = [
        stream.compress(message[at : at + 100]) + stream.flush(zlib.Z_FULL_FLUSH if at % 200 else zlib.Z_SYNC_FLUSH)
        for at in range(0, max(len(message), 1), 100)
    ]
    yield "flushes", flushed(b"".join(parts))
    yield "small-blocks", flushed(compress(message, 9, 15, 1, zlib.Z_DEFAULT_STRATEGY, zlib.Z_SYNC_FLUSH))
    # A final block: with the byte 0 after it (RFC 7692 7.2.3.4), without it, and two streams.
    final = compress(message, 6, 15, 8, zlib.Z_DEFAULT_STRATEGY, zlib.Z_FINISH)
    yield "final", final + b"\x00"
    yield "final-bare", final
    half = len(message) // 2
    yield "two-streams", b"".join(
        compress(part, 6, 15, 8, zlib.Z_DEFAULT_STRATEGY, zlib.Z_FINISH) for part in (message[:half], message[half:])
    ) + b"\x00"


with open("vectors.txt", "w", encoding="ascii") as out:
    for name, message in messages():
        out.write(f"= {name} {message.hex() or '-'}\n")
        for how, payload in payloads(message):
            out.write(f"{how} {payload.hex() or '-'}\n")
