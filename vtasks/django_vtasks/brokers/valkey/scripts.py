"""The Lua scripts, and how to call them."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

# A worker must go on when memory is full: it is what makes room.
_FLAGS = {"push": "", "push_any": "", "tick": ""}
_FLAGS_OF_WORKERS = " flags=allow-oom"
_ALSO = {"push_any": ["pushing"], "tick": ["pushing"]}

type Argument = str | bytes | int
type Command = tuple[Argument, ...]


class Script(NamedTuple):
    """A script by the digest under which a server that has seen it knows it."""

    name: str
    source: str
    digest: str

    def by_digest(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Command:
        """Return the command that runs the script; NOSCRIPT is the answer of a server that has not seen it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def by_source(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Command:
        """Return the command that runs the script and makes the server know it."""
        return ("EVAL", self.source, len(keys), *keys, *arguments)


@cache
def script(name: str) -> Script:
    """Return one of the scripts in ``lua/``, which says what it takes and returns."""
    shared = "".join(_read(part) for part in ("prelude", *_ALSO.get(name, ())))
    source = f"#!lua{_FLAGS.get(name, _FLAGS_OF_WORKERS)}\n{shared}{_read(name)}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")
