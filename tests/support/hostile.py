"""Payloads that no PLC should send: made from a seed, so that a failure can be played again."""

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

_WORDS = (
    *("value", "id", "at", "ttl_s", "line", "line-1", "recipe", "boot", "config", "auto", "17", "bottle-500", "reload"),
    *("2026-01-01T06:00:00Z", "9999-12-31T23:59:59-23:59", "from", "to", "days", "timezone", "variant", "model", "mon"),
    *("22:00", "Europe/Berlin", "../../etc/passwd", "alpha:n@1", "alpha:zz@", "a" * 65, "\0", "\ud800", "\N{SNOWMAN}"),
)
_LEAVES: tuple[Any, ...] = (
    *(None, True, False, 0, 17, 17.0, -1, 2**63, 10**300, 1.5, float("nan"), float("inf"), -float("inf"), "", " "),
    *_WORDS,
)
_FIXED = (
    b"[" * 60_000,
    b'{"value":' * 7_000,
    b"9" * 70_000,
    b"1e999",
    b"-Infinity",
    b"NaN",
    b"null",
    bytes(100_000),
    bytes(7),
    b'"' + b"x" * 4_000,
    b'{"value": 1e400}',
    b'{"value": "\\ud800"}',
    b'{"value": 1, "id": "\\u0000"}',
    b'{"value": 1, "id": "x", "at": "0001-01-01T00:00:00+23:59", "ttl_s": 1e308}',
    b'{"value": 1, "id": "x", "at": "2026-01-01T06:00:00Z", "ttl_s": ' + b"9" * 3_000 + b"}",
    b'[{"line":"line-1"}]' * 300,
    b"\xff\xfe\x00\xd8",
    b"\xfe\xff" + b"\x00" * 40,
    bytes([254, 255]) + b"x" * 254,
    bytes([1, 1]) + b"\n",
)
_BROKEN = (
    lambda rng: rng.randbytes(rng.randrange(1, 40)) + b"\x01",
    lambda rng: b"{" + rng.randbytes(rng.randrange(0, 40)),
    lambda rng: b'{"value":' + b"[" * rng.randrange(1, 1000),
    lambda rng: b'"' + b"z" * rng.randrange(65, 3000) + b'"',
    lambda rng: bytes(rng.randrange(1, 6000)),
    lambda rng: b"x" * rng.randrange(4097, 9000),
    lambda rng: rng.choice([b"NaN", b"[]", b"{}", b"null", b"-Infinity", b'{"value":NaN}', b'{"value":null}', b"\t\n"]),
)


def documents(rng: random.Random, depth: int = 3) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return a JSON document out of words that the agent knows, where they do not belong."""
    kind = rng.randrange(4) if depth else 0
    if kind == 1:
        return [documents(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind > 1:
        return {rng.choice(_WORDS): documents(rng, depth - 1) for _ in range(rng.randrange(5))}
    return rng.choice(_LEAVES)


def payloads(seed: int, count: int) -> Iterator[bytes]:
    """Yield payloads of every bad kind, and some good ones among them."""
    rng = random.Random(seed)
    for _ in range(count):
        yield _payload(rng)


def unreadable(seed: int, count: int) -> Iterator[bytes]:
    """Yield payloads that are no value for a line, whatever one may think of them: they change nothing at all."""
    rng = random.Random(seed)
    for _ in range(count):
        yield rng.choice(_BROKEN)(rng)


def _payload(rng: random.Random) -> bytes:  # noqa: PLR0911 - one kind a line
    text = rng.choice(_WORDS).encode("utf-8", "surrogatepass")
    match rng.randrange(10):
        case 0:
            return rng.choice(_FIXED)
        case 1:
            return rng.randbytes(rng.randrange(200))
        case 2:
            return rng.choice(_BROKEN)(rng)
        case 3:
            return text.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32"]))
        case 4:
            return bytes([rng.randrange(256), rng.randrange(256)]) + text + bytes(rng.randrange(20))
        case 5:
            return struct.pack("<d", rng.uniform(-1e9, 1e9))
        case 6:
            return json.dumps(documents(rng)).encode()[: rng.randrange(1, 200)]
        case 7:
            return text + rng.choice([b"", b"\0\0", b"  ", b"\r\n", b".0", b"\x7f"])
        case _:
            return json.dumps(documents(rng)).encode()
