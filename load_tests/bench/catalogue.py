"""The scenarios by name."""

from functools import partial

from load_tests.bench import others
from load_tests.bench.scenarios import Drain, Scenario

MILLION = 1_000_000
STEADY = 1000
PAYLOADS = 4000
"""Of 64 KB each, so that they fit into the server's memory."""


def scenarios(backlog: int = MILLION) -> dict[str, Scenario]:
    """Return all scenarios; ``backlog`` is how long the long queue is."""
    found = (
        _drain("noop", Drain("noop")),
        _drain("noop_two", Drain("noop", processes=2)),
        _drain("noop_sync", Drain("noop_sync")),
        _drain("sleep", Drain("sleep")),
        _drain("payload", Drain("payload"), most=PAYLOADS),
        _drain("batch", Drain("batch", queue="batches", unit="members/s")),
        _drain("receivers", Drain("noop", receivers="plain")),
        _drain("receivers_async", Drain("noop", receivers="awaited")),
        Scenario("enqueue", others.enqueue),
        Scenario("storm", others.storm),
        Scenario("latency", others.latency, most=STEADY),
        Scenario("backlog", partial(others.backlog, backlog), paced=Drain(), most=100_000),
        Scenario("memory", others.memory),
        Scenario("idle", others.idle),
        Scenario("start", others.start),
        Scenario("restart", others.restart),
    )
    return {scenario.name: scenario for scenario in found}


def _drain(name: str, drain: Drain, most: int = 500_000) -> Scenario:
    return Scenario(name, drain, paced=drain, most=most)
