"""Bytes that are no task, by what is wrong with them."""

import random
import sys

import msgspec

from django_vtasks import wire
from tests.contract.given import a_task

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_TASK = msgspec.to_builtins(a_task("an argument"))


def _json(**fields: object) -> bytes:
    return msgspec.json.encode(_TASK | fields)


def bomb(megabytes: int) -> bytes:
    """Return a task with an argument of so many megabytes, made in pieces; nothing in it tells how large it is."""
    compressor, megabyte = zstd.ZstdCompressor(), b"x" * 1_000_000
    head, _, tail = _json(args=["?"]).partition(b"?")
    pieces = (head, *(megabyte for _ in range(megabytes)), tail)
    return b"".join([*map(compressor.compress, pieces), compressor.flush()])


UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "random bytes": random.Random(1).randbytes(500),
    "not UTF-8": _json(args=["?"]).replace(b"?", b"\xff"),
    "other JSON": b"[1, 2, 3]",
    "a field of the wrong type": _json(args="none"),
    "a missing field": msgspec.json.encode({name: value for name, value in _TASK.items() if name != "task"}),
    "nested without end": _json(args=["?"]).replace(b'"?"', b"[" * 100_000),
    "truncated JSON": _json()[:-20],
    "another version": _json(v=2),
    "truncated zstd": zstd.compress(_json(headers={"pad": "x" * 5000}))[:-5],
    "random bytes after zstd's magic number": b"\x28\xb5\x2f\xfd" + random.Random(2).randbytes(500),
    "a bomb": zstd.compress(_json(args=["x" * (4 * wire.MAX_BYTES)])),
}
