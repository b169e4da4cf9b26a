"""The Lua scripts, and how to call them."""

import hashlib
from collections.abc import Sequence
from functools import cache, partial
from importlib import resources
from typing import NamedTuple

from libvalkey import pack_command

from django_vtasks.brokers.valkey.request import Argument, Request

# A worker must go on when memory is full: it is what makes room; so must an operator.
_FLAGS = {"push": "", "tick": ""}
_FLAGS_OF_WORKERS = " flags=allow-oom"
_ALSO = {"push": ["pushing"], "tick": ["pushing"], "retry": ["pushing"]}


class Script(NamedTuple):
    """A script by the digest under which a server that has seen it knows it."""

    name: str
    source: str
    digest: str

    def call(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Request:
        """Return the request that runs the script."""
        packed = pack_command(("EVALSHA", self.digest, len(keys), *keys, *arguments))
        return Request(packed, in_full=partial(self.call_in_full, keys, arguments))

    def call_in_full(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Request:
        """Return the request that runs the script and makes the server know it."""
        return Request(pack_command(("EVAL", self.source, len(keys), *keys, *arguments)))


@cache
def script(name: str) -> Script:
    """Return one of the scripts in ``lua/``, which says what it takes and returns."""
    shared = "".join(_read(part) for part in ("prelude", *_ALSO.get(name, ())))
    source = f"#!lua{_FLAGS.get(name, _FLAGS_OF_WORKERS)}\n{shared}{_read(name)}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")
