"""Valkey that forgets its scripts, or answers with refusals."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import valkey

from load_tests.chaos.grounds import ValkeyGround
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Bounds, scenario
from tests import servers

VALKEY = frozenset({"valkey"})
type Way = Callable[[ValkeyGround], AbstractContextManager[None]]

SPIN = "while true do end"
REFUSED = ("OOM", "READONLY", "BUSY", "LOADING", "NOREPLICAS")


@scenario(26, bites=("NOSCRIPT answers",), stores=VALKEY)
def flush_scripts(run: Run) -> None:
    """Let the server forget all scripts, again and again."""
    ground = _valkey(run)
    with ground.client() as client:
        before = _refusals(client, "NOSCRIPT")
        for _ in run.beats(0.1, 0.5):
            client.script_flush()
        run.bit("NOSCRIPT answers", _refusals(client, "NOSCRIPT") - before)
    errors = sum(event.kind == "error" for event in run.ledger.events())
    run.expect(not errors, f"{errors} enqueues failed because scripts were forgotten")


@scenario(27, bites=tuple(f"{code} answers" for code in REFUSED), bounds=Bounds(back=10.0), stores=VALKEY, seconds=20.0)
def refusing_valkey(run: Run) -> None:
    """Let the server refuse: out of memory, read-only, busy, loading, without replicas."""
    ways: list[Way] = [
        partial(_with, "maxmemory"),
        partial(_with, "min-replicas-to-write"),
        _read_only,
        _busy,
        _loading,
    ]
    for way in run.chance.sample(ways, len(ways)):
        run.pass_time(run.chance.uniform(0.5, 1.5))
        with run.outage("refusals", after=3.0, undoes=way is _loading), way(_valkey(run)):
            run.pass_time(run.chance.uniform(0.5, 1.5))
            _note(run)
        run.pass_time(1.0)
        _note(run)


def _valkey(run: Run) -> ValkeyGround:
    assert isinstance(run.ground, ValkeyGround)
    return run.ground


def _note(run: Run) -> None:
    """Count what was refused so far; a server that starts again counts from 0."""
    with contextlib.suppress(valkey.exceptions.ValkeyError), _valkey(run).client() as client:
        for code in REFUSED:
            run.bites[f"{code} answers"] = max(run.bites[f"{code} answers"], _refusals(client, code))


def _refusals(client: Any, code: str) -> int:
    stats = client.info("errorstats").get(f"errorstat_{code}", {"count": 0})
    return int(stats["count"])


@contextlib.contextmanager
def _with(setting: str, ground: ValkeyGround) -> Iterator[None]:
    """Set what is 0 to 1: the memory that it may take, or the replicas without which it writes nothing."""
    with ground.client() as client:
        client.config_set(setting, 1)
        yield
        client.config_set(setting, 0)


@contextlib.contextmanager
def _read_only(ground: ValkeyGround) -> Iterator[None]:
    """Make it a replica, of a server that is not there so that it keeps its data."""
    with ground.client() as client:
        client.replicaof("127.0.0.1", servers.free_port())
        yield
        client.replicaof("NO", "ONE")


@contextlib.contextmanager
def _busy(ground: ValkeyGround) -> Iterator[None]:
    """Let a script run that never ends, until it is killed."""
    with ground.client() as client, ground.client() as other:
        client.config_set("busy-reply-threshold", 100)
        other.connection_pool.connection_kwargs["socket_timeout"] = 0.2
        with contextlib.suppress(valkey.exceptions.TimeoutError):  # nobody waits for the end of it
            other.eval(SPIN, 0)
        yield
        client.script_kill()


@contextlib.contextmanager
def _loading(ground: ValkeyGround) -> Iterator[None]:
    """Restart the server with so much data that it answers before it has loaded them."""
    with ground.client() as client:
        client.config_set("key-load-delay", 200)
        client.eval("for n = 1, 40000 do redis.call('SET', 'ballast:' .. n, n) end", 0)
    ground.end()
    ground.server.options = (
        *ground.server.options,
        "--key-load-delay",
        "100",
        "--loading-process-events-interval-bytes",
        "1024",
    )
    assert ground.server.process is not None
    ground.server.log.unlink()
    ground.server.process = ground.server._popen(ground.server.command())  # noqa: SLF001 - start() waits until it has loaded
    yield
    deadline = time.monotonic() + 30.0
    while not ground.answers() and time.monotonic() < deadline:
        time.sleep(0.1)
    with ground.client() as client:
        client.eval("for n = 1, 40000 do redis.call('DEL', 'ballast:' .. n) end", 0)
