"""What is left when all workers have ended: processes, locks, leases, connections, and what stands in the store."""

import asyncio
from collections.abc import Collection, Iterator
from typing import Any

import psutil
from django.db import connections

from load_tests.chaos.grounds import ValkeyGround
from load_tests.chaos.run import Run

PATIENCE = 5.0
"""Seconds for processes to be gone, and for a server to notice the ends of connections."""
STAYING_KEYS = frozenset({"queues", "receipts", "failed", "evicted", "schedule", "slots", "leader", "bell"})
"""The first parts of keys that may outlive all workers, behind the prefix."""
OF_NODES = frozenset({"nodes", "reports", "holding", "holders"})
"""What a worker that was killed leaves to others, which may have had no time."""
STAYING_TABLES = frozenset({"vtasks_failed", "vtasks_leader", "vtasks_slot", "vtasks_counter"})
TABLE_OF_NODES = frozenset({"vtasks_node"})


def look(run: Run) -> None:
    """Note as problems what a run has taken and not given back; close the connections of this process."""
    look_for_processes(run)
    run.expect(not (locks := run.store.locks()), f"{locks} locks are left")
    run.expect(not (nodes := leases(run, run.broker.nodes())), f"leases are left: {nodes}")
    run.expect(not (found := sorted(places(run))), f"something is left in {', '.join(found)}")
    close(run)
    run.until(lambda: not run.ground.connections(), "the server has no connection left", PATIENCE)


def look_for_processes(run: Run, patience: float = PATIENCE) -> None:
    """Note which processes of workers are left, and which of anybody here are zombies."""
    left = [process for worker in run.workers for process in worker.processes()]
    _, alive = psutil.wait_procs(left, timeout=patience)
    run.expect(not alive, f"processes are left: {alive}")
    zombies = [child for child in psutil.Process().children(recursive=True) if child.status() == psutil.STATUS_ZOMBIE]
    run.expect(not zombies, f"zombies: {zombies}")


def leases(run: Run, nodes: Collection[str]) -> list[str]:
    """Return those of the nodes with a lease that were not killed: they should have ended it."""
    return [node for node in nodes if not any(_is_of(node, worker) for worker in run.killed)]


def close(run: Run) -> None:
    """Close what this process has open to the store, and the line."""
    asyncio.run(run.broker.aclose())
    connections.close_all()
    if run.line is not None:
        run.line.close()
        run.line = None


def _is_of(node: str, worker: Any) -> bool:
    return str(worker.process.pid) in node.split("-")


def places(run: Run) -> Iterator[str]:
    """Yield the keys, or tables with rows, in which nothing should be left."""
    if isinstance(run.ground, ValkeyGround):
        from django_vtasks import conf

        prefix = f"{conf.current().valkey_prefix}:"
        may_stay = STAYING_KEYS | (OF_NODES if run.killed else frozenset())
        with run.ground.client() as client:
            keys = [key.decode() for key in client.scan_iter()]
        yield from (key for key in keys if key.removeprefix(prefix).split(":")[0] not in may_stay)
        return
    from django.apps import apps
    from django.db import models

    may_stay = STAYING_TABLES | (TABLE_OF_NODES if run.killed else frozenset())
    for model in apps.get_app_config("vtasks").get_models():
        table = model._meta.db_table  # noqa: SLF001 - its public name
        if table not in may_stay and models.QuerySet(model).exists():
            yield table
